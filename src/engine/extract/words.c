/*
 * words.c: a text as words with places, and the groups of words that name things (words.h).
 *
 * The place of a word is that of the one before plus one, plus what stands between them:
 *
 *   , ; ( )            1      a pause
 *   line break         3      ten where a line is empty
 *   . ! ? and space   12      the end of a sentence, unless the word before is known to be shortened: no. Nr. Dr. J.
 *
 * so that "near" (within some ten places) means: in the same sentence, or just beside it on the next line.
 */
#include "engine/extract/words.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"

#define END_OF_SENTENCE 12
#define END_OF_LINE 3
#define EMPTY_LINE 10

static const struct {
    const char *stems;
    slm_extract_kind kind;
} groups[] = {
#define GROUP(id, kind, stems) {stems, SLM_EXTRACT_##kind},
    SLM_GROUPS(GROUP)
#undef GROUP
};

/* Words of grammar in English, German, French, Spanish, Italian, Portuguese, Dutch; sorted by nothing, looked up in a small hash. */
static const char function_words[] =
    " i you he she it we they me him us them this these those is are was were be been am do does did have has had having in "
    "on at of for to from with and or but not please what which who whom whose where how there here as by about since than "
    "so very would could will should can may might must within also if then because while after before during under over "
    "into onto out up down off again once just only yet still even both each few more most other some such any all no nor "
    "too s t don now get got want wanted need like much many ich du er sie es wir ihr mich dich uns euch ihnen ist sind war "
    "waren bin bist sein hat haben hatte hatten wird werden wurde wurden kann können konnte muss müssen soll sollte will "
    "wollen möchte nicht und oder aber auch doch nur noch schon sehr so wie was wer wo wann warum in im an am auf aus bei "
    "beim mit nach seit von vom zu zum zur für über unter vor hinter um durch gegen ohne bis als wenn dass weil bitte hier "
    "da dort man je tu il elle nous vous ils elles on me te se est sont était étaient suis être ai as avons avez ont avait "
    "ne pas et ou mais aussi très que qui quoi où quand comment dans en sur sous avec sans pour par de du à au aux chez vers "
    "depuis y si plus moins yo él ella nosotros ellos es son era eran estoy está están ser he ha han había no y o pero "
    "también muy que quien donde cuando cómo en con sin por para de del a al desde hasta sobre si más menos lo le les se io "
    "lui lei noi voi loro è sono era erano essere ho hai abbiamo avete hanno aveva non e ed o ma anche molto che chi dove "
    "quando come in con su per tra fra di del della dei delle da dal dalla a ad al alla nel nella sul sulla si più meno eu "
    "ele ela nós eles são estava estou ter tenho tem não mas também muito que quem onde quando como em com sem por para do "
    "da dos das no na nos nas ao à até se mais menos ik jij hij zij wij jullie ben bent zijn was heeft heb hebben niet maar "
    "ook zeer wat wie waar wanneer hoe op aan met van voor naar bij uit door over om te ";

static const char articles[] =
    " the a an my your his her its our their new der die das den dem des ein eine einen einem einer eines mein meine meinen "
    "meinem meiner ihr ihre ihren ihrem ihrer euer eure unser unsere dieser diese dieses diesen diesem neue neuen neues le "
    "la les l un une mon ma mes ton ta tes son sa ses notre nos votre vos leur leurs ce cet cette ces el los las unos unas "
    "mi mis tu tus su sus nuestro nuestra vuestro este esta estos estas il lo gli i uno una mio mia miei mie suo sua suoi "
    "sue nostro nostra questo questa o os as um uma meu minha meus minhas seu sua seus suas este essa de het een mijn jouw "
    "uw zijn haar ons onze ";

/* Shortened words, behind which a full stop ends no sentence. */
static const char shortened[] =
    " no nr nº num ref tel art inv st mr mrs ms dr prof bzw ca approx incl inkl exkl excl evtl ggf usw jan feb mar apr jun "
    "jul aug sep sept oct okt nov dec dez bestellnr rechnungsnr auftragsnr kundennr vol p pp n° m mme etc vs ";

static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; n > 0 && (p = strstr(p, word)) != NULL; p++)
        if (p[-1] == ' ' && p[n] == ' ')
            return true;
    return false;
}

bool slm_word_is_function(const char *lower)
{
    return listed(function_words, lower) || listed(articles, lower);
}

bool slm_word_is_article(const char *lower)
{
    return listed(articles, lower);
}

slm_extract_kind slm_group_kind(slm_group group)
{
    return groups[group].kind;
}

static bool of_stems(const char *stems, const char *word)
{
    size_t length = strlen(word);
    for (const char *p = stems; *p != '\0';) {
        size_t n = strcspn(p, " ");
        bool whole = n > 1 && p[n - 1] == '!';
        size_t bytes = whole ? n - 1 : n;
        if ((whole ? length == bytes : length >= bytes) && memcmp(p, word, bytes) == 0)
            return true;
        p += n;
        while (*p == ' ')
            p++;
    }
    return false;
}

slm_groups slm_groups_of(const char *lower)
{
    slm_groups found = 0;
    size_t length = strlen(lower);
    static const char *const ends[] = {"nummer", "number", "datum", "betrag", "nr"};

    for (int g = 0; g < SLM_N_GROUPS; g++)
        if (of_stems(groups[g].stems, lower))
            found |= (slm_groups) 1 << g;
    /* compounds of Germanic languages say what they are at their end */
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t n = strlen(ends[i]);
        if (length > n + 2 && strcmp(lower + length - n, ends[i]) == 0)
            found |= i == 2 ? SLM_GROUP_BIT(DATE) : i == 3 ? SLM_GROUP_BIT(AMOUNT) : SLM_GROUP_BIT(NUMBER);
    }
    return found;
}

/* ---- words */

size_t slm_word_char(const char *text, size_t length, size_t i)
{
    unsigned char c = i < length ? (unsigned char) text[i] : 0;
    unsigned char d = i + 1 < length ? (unsigned char) text[i + 1] : 0;
    int n;
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    /* U+0080 to U+00BF but for ª º µ, punctuation, signs of currency and such (U+2000 to U+2BFF), and U+3000 to U+303F */
    if (c == 0xC2)
        return d == 0xAA || d == 0xB5 || d == 0xBA ? 2 : 0;
    if ((c == 0xE2 && d < 0xB0) || (c == 0xE3 && d == 0x80))
        return 0;
    n = slm_utf8_char_length(text + i, length - i);
    return n > 0 ? (size_t) n : 1;
}

/* One character in lower case, to out; bytes written: as many as it has. */
static size_t put_lower(const char *s, size_t n, char *out)
{
    memcpy(out, s, n);
    if (n == 1 && s[0] >= 'A' && s[0] <= 'Z')
        out[0] = (char) (s[0] | 0x20);
    else if (n == 2 && (unsigned char) s[0] == 0xC3 && (unsigned char) s[1] < 0x9F && (unsigned char) s[1] != 0x97)
        out[1] = (char) (s[1] + 0x20); /* Latin-1 */
    else if (n == 2 && (unsigned char) s[0] == 0xD0 && (unsigned char) s[1] >= 0x90 && (unsigned char) s[1] <= 0x9F)
        out[1] = (char) (s[1] + 0x20); /* Cyrillic */
    else if (n == 2 && (unsigned char) s[0] == 0xD0 && (unsigned char) s[1] >= 0xA0 && (unsigned char) s[1] <= 0xAF)
        out[0] = (char) 0xD1, out[1] = (char) (s[1] - 0x20);
    return n;
}

/* Does the full stop before byte i end a sentence?  Behind it is a space, or what closes a quotation; not in 9.90, no. 7, e.g., J. Smith */
static bool closes(const char *text, size_t i, size_t to, const slm_word *before)
{
    bool initial = before->lower[0] >= 'a' && before->lower[0] <= 'z' && before->lower[1] == '\0';
    if (i >= to || initial || listed(shortened, before->lower))
        return false;
    return strchr(" \n\r\t)]\"'", text[i]) != NULL || (unsigned char) text[i] == 0xC2 || (unsigned char) text[i] == 0xE2; /* » ” */
}

static uint64_t gap_between(const char *text, size_t from, size_t to, const slm_word *before)
{
    uint64_t gap = 1, lines = 0;
    for (size_t i = from; i < to; i++) {
        char c = text[i];
        if (c == '!' || c == '?' || (c == '.' && closes(text, i + 1, to, before)))
            gap += END_OF_SENTENCE;
        else if (c == ',' || c == ';' || c == '(' || c == ')')
            gap += 1;
        else if ((unsigned char) c == 0xE3 && i + 2 < to && (unsigned char) text[i + 1] == 0x80 && (unsigned char) text[i + 2] == 0x82)
            gap += END_OF_SENTENCE; /* U+3002 */
        lines += c == '\n';
    }
    return gap + (lines > 1 ? EMPTY_LINE : lines * END_OF_LINE);
}

static void fill(const char *text, slm_word *w)
{
    size_t used = 0;
    unsigned char c = (unsigned char) text[w->begin], d = w->begin + 1 < w->end ? (unsigned char) text[w->begin + 1] : 0;
    w->digits = false;
    for (size_t i = w->begin; i < w->end;) {
        size_t n = slm_word_char(text, w->end, i);
        w->digits |= text[i] >= '0' && text[i] <= '9';
        if (used + n < SLM_WORD_BYTES)
            used += put_lower(text + i, n, w->lower + used);
        i += n;
    }
    w->lower[used] = '\0';
    w->capital = (c >= 'A' && c <= 'Z') || (w->end > w->begin + 1 && ((c == 0xC3 && d < 0x9F) || (c == 0xD0 && d >= 0x90 && d <= 0xAF)));
    w->function = slm_word_is_function(w->lower);
}

slm_status slm_words_find(const char *text, size_t length, const volatile int *stop, slm_words *out, slm_error *err)
{
    slm_words words = {NULL, 0};
    size_t room = 0, i = 0;
    while (i < length) {
        slm_word w = {0};
        size_t n = slm_word_char(text, length, i);
        if (n == 0) {
            i += slm_other_char(text, length, i);
            continue;
        }
        w.begin = i;
        for (bool dense = slm_word_is_dense(text, length, i); n > 0 && slm_word_is_dense(text, length, i) == dense;
             n = slm_word_char(text, length, i))
            i += n;
        w.end = i;
        if (words.n == room) {
            slm_word *grown = realloc(words.list, (room = room == 0 ? 64 : room * 2) * sizeof *grown);
            if (grown == NULL) {
                slm_words_free(&words);
                return slm_fail(err, SLM_NOMEM, "out of memory");
            }
            words.list = grown;
        }
        fill(text, &w);
        w.place = words.n == 0
                      ? 0
                      : words.list[words.n - 1].place + gap_between(text, words.list[words.n - 1].end, w.begin, &words.list[words.n - 1]);
        words.list[words.n++] = w;
        if ((words.n & 1023) == 0 && stop != NULL && *stop != 0) {
            slm_words_free(&words);
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        }
    }
    *out = words;
    return SLM_OK;
}

void slm_words_free(slm_words *words)
{
    free(words->list);
    *words = (slm_words){NULL, 0};
}

size_t slm_words_at(const slm_words *words, size_t at)
{
    size_t low = 0, high = words->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (words->list[middle].end > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}
