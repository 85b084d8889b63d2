/*
 * Stems of English words: Porter's algorithm (M. F. Porter, "An algorithm for suffix stripping", Program 14, 1980) with the changes that
 * NLTK makes to it, which is what rouge-score counts by.
 *
 * A word is a..z and 0..9.  With C a run of consonants and V one of vowels it is [C](VC)^m[V]; most rules ask for m of what stays when a
 * suffix is taken away.  The word is changed in place and never grows.
 */
#include "engine/metrics/stem.h"

#include <stdbool.h>
#include <string.h>

typedef struct rule {
    const char *suffix, *with;
} rule;

/* Is a letter a consonant?  before: the one before it is; false where there is none. */
static bool consonant_after(bool before, char letter)
{
    switch (letter) {
        case 'a': case 'e': case 'i': case 'o': case 'u':
            return false;
        case 'y': /* behind a consonant it is a vowel */
            return !before;
        default:
            return true;
    }
}

static bool is_consonant(const char *w, size_t i)
{
    size_t at = i;
    bool consonant;

    while (at > 0 && w[at] == 'y')
        at--;
    consonant = consonant_after(false, w[at]);
    while (at < i)
        consonant = consonant_after(consonant, w[++at]);
    return consonant;
}

/* Letter by letter: is_consonant goes back over what may be all of a word. */
static size_t measure(const char *w, size_t n)
{
    size_t m = 0;
    bool before = true;

    for (size_t i = 0; i < n; i++) {
        bool consonant = consonant_after(before && i > 0, w[i]);

        m += consonant && !before;
        before = consonant;
    }
    return m;
}

static bool has_vowel(const char *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_consonant(w, i))
            return true;
    return false;
}

static bool ends_double(const char *w, size_t n)
{
    return n >= 2 && w[n - 1] == w[n - 2] && is_consonant(w, n - 1);
}

static bool ends_cvc(const char *w, size_t n)
{
    if (n == 2)
        return !is_consonant(w, 0) && is_consonant(w, 1);
    return n >= 3 && is_consonant(w, n - 3) && !is_consonant(w, n - 2) && is_consonant(w, n - 1) && strchr("wxy", w[n - 1]) == NULL;
}

static bool ends(const char *w, size_t n, const char *suffix)
{
    size_t length = strlen(suffix);

    return n >= length && memcmp(w + n - length, suffix, length) == 0;
}

/* The first rule whose suffix is there: it is replaced where more than `least` is measured before it. */
static size_t apply(char *w, size_t n, const rule *rules, size_t n_rules, size_t least)
{
    for (size_t i = 0; i < n_rules; i++) {
        size_t stem = n - strlen(rules[i].suffix);

        if (!ends(w, n, rules[i].suffix))
            continue;
        if (strcmp(rules[i].suffix, "ion") == 0 && (stem == 0 || strchr("st", w[stem - 1]) == NULL))
            return n;
        if (measure(w, strcmp(rules[i].suffix, "logi") == 0 ? stem + 1 : stem) <= least)
            return n;
        memcpy(w + stem, rules[i].with, strlen(rules[i].with));
        return stem + strlen(rules[i].with);
    }
    return n;
}

static size_t plural(const char *w, size_t n)
{
    if (ends(w, n, "ies"))
        return n == 4 ? 3 : n - 2;
    if (ends(w, n, "sses"))
        return n - 2;
    return ends(w, n, "s") && !ends(w, n, "ss") ? n - 1 : n;
}

static size_t past(char *w, size_t n)
{
    size_t stem;

    if (ends(w, n, "ied"))
        return n == 4 ? 3 : n - 2;
    if (ends(w, n, "eed"))
        return measure(w, n - 3) > 0 ? n - 1 : n;
    stem = ends(w, n, "ed") ? n - 2 : n;
    if (stem == n || !has_vowel(w, stem))
        stem = ends(w, n, "ing") ? n - 3 : n;
    if (stem == n || !has_vowel(w, stem))
        return n;
    if (ends(w, stem, "at") || ends(w, stem, "bl") || ends(w, stem, "iz")) {
        w[stem] = 'e';
        return stem + 1;
    }
    if (ends_double(w, stem))
        return strchr("lsz", w[stem - 1]) == NULL ? stem - 1 : stem;
    if (measure(w, stem) == 1 && ends_cvc(w, stem)) {
        w[stem] = 'e';
        return stem + 1;
    }
    return stem;
}

static size_t suffixes(char *w, size_t n)
{
    static const rule first[] = {
        {"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"}, {"bli", "ble"}, {"alli", "al"},
        {"entli", "ent"}, {"eli", "e"}, {"ousli", "ous"}, {"ization", "ize"}, {"ation", "ate"}, {"ator", "ate"}, {"alism", "al"},
        {"iveness", "ive"}, {"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"}, {"iviti", "ive"}, {"biliti", "ble"}, {"fulli", "ful"},
        {"logi", "log"}};
    static const rule second[] = {{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"}, {"ical", "ic"}, {"ful", ""},
        {"ness", ""}};
    static const rule third[] = {{"al", ""}, {"ance", ""}, {"ence", ""}, {"er", ""}, {"ic", ""}, {"able", ""}, {"ible", ""}, {"ant", ""},
        {"ement", ""}, {"ment", ""}, {"ent", ""}, {"ion", ""}, {"ou", ""}, {"ism", ""}, {"ate", ""}, {"iti", ""}, {"ous", ""}, {"ive", ""},
        {"ize", ""}};

    while (ends(w, n, "alli") && measure(w, n - 4) > 0)
        n -= 2;
    n = apply(w, n, first, sizeof first / sizeof *first, 0);
    n = apply(w, n, second, sizeof second / sizeof *second, 0);
    return apply(w, n, third, sizeof third / sizeof *third, 1);
}

/* Words that no rule stems right. */
static bool irregular(char *w, size_t *n)
{
    static const rule words[] = {{"skies", "sky"}, {"sky", "sky"}, {"dying", "die"}, {"lying", "lie"}, {"tying", "tie"}, {"news", "news"},
        {"innings", "inning"}, {"inning", "inning"}, {"outings", "outing"}, {"outing", "outing"}, {"cannings", "canning"},
        {"canning", "canning"}, {"howe", "howe"}, {"proceed", "proceed"}, {"exceed", "exceed"}, {"succeed", "succeed"}};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].suffix) == *n && memcmp(w, words[i].suffix, *n) == 0) {
            *n = strlen(words[i].with);
            memcpy(w, words[i].with, *n);
            return true;
        }
    return false;
}

size_t slm_stem(char *w, size_t n)
{
    if (n <= 2 || irregular(w, &n))
        return n;
    n = past(w, plural(w, n));
    if (ends(w, n, "y") && n > 2 && is_consonant(w, n - 2))
        w[n - 1] = 'i';
    n = suffixes(w, n);
    if (ends(w, n, "e") && (measure(w, n - 1) > 1 || (measure(w, n - 1) == 1 && !ends_cvc(w, n - 1))))
        n--;
    if (ends(w, n, "ll") && measure(w, n - 1) > 1)
        n--;
    return n;
}
