/*
 * From tokens to words to entities (tags.h).
 *
 * Labels are B-KIND and I-KIND, with L- or E- for the last and U- or S- for the only word where a model has them; a label without such a
 * prefix is a kind itself; O is none.  A word goes on with the entity before it when it is of its kind, that entity is not at its end,
 * and the word's label is not one that begins: as the transformers library joins words.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "engine/base/utf8.h"
#include "engine/text/steps.h"
#include "engine/text/tags.h"

/* A token's place; alone: nothing but punctuation; continues: the word, or the stretch without white space, of the token before it. */
typedef struct place {
    size_t begin, end;
    bool alone, continues;
} place;

static bool is_empty(const place *p)
{
    return p->end <= p->begin;
}

static bool is_punctuation_only(const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        int length;
        uint32_t c = slm_utf8_decode(text + at, &length);
        utf8proc_category_t category = utf8proc_category((utf8proc_int32_t) c);
        if (category < UTF8PROC_CATEGORY_PC || category > UTF8PROC_CATEGORY_SO)
            return false;
        at += (size_t) length;
    }
    return n > 0;
}

static bool is_mark(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t) c);
    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

/* A token whose bytes are [begin, end) of the text, as whole characters: what stands behind the last white space before its text, with the
 * marks that follow and that a tokenizer may have dropped. */
static place place_of(const char *text, size_t length, size_t begin, size_t end)
{
    size_t last = begin, from;
    int n;
    while (begin > 0 && begin < length && !slm_utf8_is_start(text[begin]))
        begin--;
    while (end < length && !slm_utf8_is_start(text[end]))
        end++;
    for (size_t at = last = from = begin; at < end; at += (size_t) n) {
        uint32_t c = slm_utf8_decode(text + at, &n);
        if (slm_text_is_space(c))
            continue;
        from = last < at ? at : from;
        last = at + (size_t) n;
    }
    begin = last > begin ? from : end; /* nothing but white space: a place without text behind it */
    end = last > begin ? last : begin;
    while (end > begin && end < length && is_mark(slm_utf8_decode(text + end, &n)))
        end += (size_t) n;
    return (place){.begin = begin, .end = end, .alone = is_punctuation_only(text + begin, end - begin)};
}

/* Of several tokens of a character the first has it, the others no text; so has a mark that stands for a space. */
static void find_places(const slm_tokenizer *tok, const char *text, size_t length, const slm_ids *ids, const size_t *ends, place *places)
{
    bool wordpiece = tok->h->kind == SLM_TOK_WORDPIECE;
    size_t before = 0; /* where the last token ended */
    for (size_t i = 0; i < ids->n; i++) {
        size_t from = i > 0 ? ends[i - 1] : 0, to = ends[i] < length ? ends[i] : length;
        place *p = &places[i];
        *p = to > from ? place_of(text, length, from, to) : (place){.begin = before, .end = before};
        p->begin = p->begin < before ? before : p->begin;
        p->end = p->end < p->begin ? p->begin : p->end;
        p->continues = wordpiece ? (tok->types[ids->ids[i]] & SLM_TOK_CONTINUED) != 0 : i > 0 && p->begin == before;
        before = p->end;
    }
}

/* The label with the largest output, the first of equals, and its share of the softmax. */
static void best_label(const float *outputs, uint32_t n, slm_tagged *word)
{
    double sum = 0;
    word->label = 0;
    for (uint32_t i = 1; i < n; i++)
        if (outputs[i] > outputs[word->label])
            word->label = i;
    for (uint32_t i = 0; i < n; i++)
        sum += slm_exp((double) (outputs[i] - outputs[word->label]));
    word->score = (float) (1 / sum);
}

/* Words of the tokens [begin, end), which stand together: marks at both ends are words, what is between them is one. */
static void cut_stretch(const place *p, size_t begin, size_t end, const float *outputs, uint32_t n_labels, slm_tagged *words, size_t *n)
{
    size_t middle_end = end, i = begin;
    while (middle_end > begin && (p[middle_end - 1].alone || is_empty(&p[middle_end - 1])))
        middle_end--;
    while (i < end) {
        size_t first = i, next;
        while (i + 1 < end && is_empty(&p[i])) /* a mark without text stands for what follows it */
            i++;
        next = p[i].alone || i >= middle_end ? i + 1 : middle_end;
        while (next < end && is_empty(&p[next]))
            next++;
        slm_tagged word = {.begin = p[i].begin, .end = p[i].end};
        for (size_t k = i; k < next; k++)
            word.end = p[k].end > word.end ? p[k].end : word.end;
        best_label(outputs + first * n_labels, n_labels, &word);
        if (word.end > word.begin)
            words[(*n)++] = word;
        i = next;
    }
}

static void cut_words(const slm_tokenizer *tok, const place *p, size_t n_tokens, const float *outputs, uint32_t n_labels, slm_tagged *words,
                      size_t *n)
{
    for (size_t begin = 0, end; begin < n_tokens; begin = end) {
        for (end = begin + 1; end < n_tokens && p[end].continues;)
            end++;
        if (tok->h->kind != SLM_TOK_WORDPIECE) {
            cut_stretch(p, begin, end, outputs, n_labels, words, n);
            continue;
        }
        slm_tagged word = {.begin = p[begin].begin, .end = p[end - 1].end};
        best_label(outputs + begin * n_labels, n_labels, &word);
        if (word.end > word.begin)
            words[(*n)++] = word;
    }
}

slm_status slm_tags_read(slm_tokenizer *tok, const char *text, size_t length, uint32_t n_labels, const float *outputs, size_t n_outputs,
                         const volatile int *stop, slm_tagged **words, size_t *n_words, slm_error *err)
{
    slm_ids ids = {0};
    *n_words = 0;
    tok->want_ends = true;
    slm_status status = slm_tokenizer_encode(tok, text, length, false, true, stop, &ids, err);
    tok->want_ends = false;
    size_t *ends = tok->ends, n_ends = tok->ends_n;
    tok->ends = NULL;
    tok->ends_n = tok->ends_capacity = 0;
    place *places = calloc(ids.n + 1, sizeof *places);
    slm_tagged *found = calloc(ids.n + 1, sizeof *found);
    if (status == SLM_OK && (places == NULL || found == NULL))
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    if (status == SLM_OK && (n_labels == 0 || n_outputs % n_labels != 0 || n_outputs / n_labels > ids.n || n_ends != ids.n))
        status = slm_fail(err, SLM_INVALID, "%zu outputs of %u labels are not those of %zu tokens", n_outputs, n_labels, ids.n);
    if (status == SLM_OK) {
        ids.n = n_outputs / n_labels; /* of a text that was cut there are fewer */
        find_places(tok, text, length, &ids, ends, places);
        cut_words(tok, places, ids.n, outputs, n_labels, found, n_words);
    }
    free(ids.ids);
    free(ends);
    free(places);
    if (status == SLM_OK)
        *words = found;
    else
        free(found);
    return status;
}

/* ---- entities */

typedef struct label_part {
    const char *kind;  /* NULL: none */
    bool begins, ends; /* its word is the first, the last of its entity */
} label_part;

static label_part part_of(const char *labels, size_t bytes, uint32_t n_labels, uint32_t label)
{
    const char *at = labels, *end = labels + bytes;
    for (uint32_t i = 0; i < label && i < n_labels && at < end; i++)
        at += strnlen(at, (size_t) (end - at)) + 1;
    if (label >= n_labels || at >= end || memchr(at, 0, (size_t) (end - at)) == NULL || strcmp(at, "O") == 0 || *at == '\0')
        return (label_part){NULL, false, false};
    bool prefixed = strchr("BILEUS", at[0]) != NULL && (at[1] == '-' || at[1] == '_') && at[2] != '\0', only = at[0] == 'U' || at[0] == 'S';
    if (!prefixed)
        return (label_part){at, false, false};
    return (label_part){at + 2, at[0] == 'B' || only, at[0] == 'L' || at[0] == 'E' || only};
}

size_t slm_tags_join(const char *labels, size_t labels_bytes, uint32_t n_labels, const slm_tagged *words, size_t n, slm_entity *out)
{
    size_t count = 0;
    uint32_t in = 0; /* words of the entity that is open */
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        label_part part = part_of(labels, labels_bytes, n_labels, words[i].label);
        slm_entity *open = in > 0 ? &out[count - 1] : NULL;
        if (part.kind == NULL) {
            in = 0;
            continue;
        }
        if (open == NULL || part.begins || strcmp(open->kind, part.kind) != 0) {
            open = &out[count++];
            *open = (slm_entity){.begin = words[i].begin, .kind = part.kind};
            in = 0;
            sum = 0;
        }
        sum += (double) words[i].score;
        open->end = words[i].end;
        open->score = (float) (sum / ++in);
        in = part.ends ? 0 : in;
    }
    return count;
}
