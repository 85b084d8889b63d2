/*
 * Scripts by ranges of code points, without the letters that few texts have.
 */
#include "engine/text/script.h"

#include <string.h>

#include "engine/base/utf8.h"

enum { LATIN = 0, HANGUL = 24, HAN = 26 };

static const char *const names[SLM_SCRIPTS] = {"Latin", "Greek", "Cyrillic", "Armenian", "Hebrew", "Arabic", "Devanagari", "Bengali",
                                               "Gurmukhi", "Gujarati", "Odia", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala",
                                               "Thai", "Lao", "Tibetan", "Burmese", "Georgian", "Ethiopic", "Khmer", "Mongolian",
                                               "Hangul", "Kana", "Han"};

/* In ascending order. */
static const struct {
    uint32_t first, last;
    int script;
} ranges[] = {{0x41, 0x5A, LATIN},    {0x61, 0x7A, LATIN},     {0xC0, 0x24F, LATIN},   {0x370, 0x3FF, 1},      {0x400, 0x52F, 2},
              {0x531, 0x587, 3},      {0x5D0, 0x5F2, 4},       {0x620, 0x6D3, 5},      {0x750, 0x77F, 5},      {0x904, 0x97F, 6},
              {0x985, 0x9E3, 7},      {0xA05, 0xA74, 8},       {0xA85, 0xAE3, 9},      {0xB05, 0xB63, 10},     {0xB83, 0xBCD, 11},
              {0xC05, 0xC63, 12},     {0xC85, 0xCE3, 13},      {0xD05, 0xD7F, 14},     {0xD85, 0xDF3, 15},     {0xE01, 0xE4E, 16},
              {0xE81, 0xEDF, 17},     {0xF40, 0xFBC, 18},      {0x1000, 0x109F, 19},   {0x10A0, 0x10FF, 20},  
              {0x1200, 0x135A, 21},   {0x1780, 0x17D3, 22},    {0x1820, 0x18AA, 23},   {0x1E00, 0x1EFF, LATIN}, {0x1F00, 0x1FFF, 1},
              {0x3041, 0x30FF, 25},   {0x3131, 0x318E, HANGUL}, {0x3400, 0x4DBF, HAN}, {0x4E00, 0x9FFF, HAN},  {0xAC00, 0xD7A3, HANGUL},
              {0xF900, 0xFAFF, HAN},  {0xFB1D, 0xFB4F, 4},     {0xFB50, 0xFDFB, 5},    {0xFE70, 0xFEFC, 5},    {0xFF66, 0xFF9D, 25},
              {0x20000, 0x323AF, HAN}};

int slm_script_of(uint32_t code)
{
    size_t low = 0, high = sizeof ranges / sizeof ranges[0];
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == sizeof ranges / sizeof ranges[0] || code < ranges[low].first || code == 0xD7 || code == 0xF7)
        return -1;
    return ranges[low].script;
}

void slm_script_count(const char *text, size_t length, uint32_t *counts)
{
    memset(counts, 0, SLM_SCRIPTS * sizeof *counts);
    for (size_t at = 0; at < length;) {
        int n = slm_utf8_char_length(text + at, length - at);
        int script = n > 0 ? slm_script_of(slm_utf8_decode(text + at, &n)) : -1;
        if (script >= 0)
            counts[script]++;
        at += n > 0 ? (size_t) n : 1;
    }
}

uint64_t slm_script_known(slm_tokenizer *tok)
{
    size_t tokens = slm_tokenizer_size(tok), words[SLM_SCRIPTS] = {0}, signs = 0;
    uint32_t counts[SLM_SCRIPTS];
    uint64_t known = 0;
    for (size_t id = 0; id < tokens; id++) {
        slm_bytes piece = slm_tokenizer_piece(tok, (int32_t) id, false);
        slm_script_count(piece.data, piece.length, counts);
        for (int s = 0; s < SLM_SCRIPTS; s++)
            words[s] += counts[s] >= 2;
        signs += counts[HAN] == 1;
        words[HANGUL] += counts[HANGUL] == 1; /* a syllable is letters */
    }
    words[HAN] += signs / 8;
    for (int s = 0; s < SLM_SCRIPTS; s++)
        if (words[s] >= 2 && words[s] * 500 >= tokens)
            known |= (uint64_t) 1 << s;
    return known;
}

const char *slm_script_name(int script)
{
    return script >= 0 && script < SLM_SCRIPTS ? names[script] : NULL;
}

#define LOOKED_AT 4096 /* bytes: the beginning of a text says what it is written in */

const char *slm_text_foreign(const slm_model_info *info, const char *text, size_t length)
{
    uint32_t counts[SLM_SCRIPTS], letters = 0, foreign = 0;
    int most = -1;
    if (info->scripts == 0)
        return NULL;
    slm_script_count(text, length < LOOKED_AT ? length : LOOKED_AT, counts);
    for (int s = 0; s < SLM_SCRIPTS; s++) {
        letters += counts[s];
        if ((info->scripts >> s & 1) != 0)
            continue;
        foreign += counts[s];
        if (counts[s] > 0 && (most < 0 || counts[s] > counts[most]))
            most = s;
    }
    return most >= 0 && foreign * 2 > letters && foreign >= 4 ? names[most] : NULL;
}
