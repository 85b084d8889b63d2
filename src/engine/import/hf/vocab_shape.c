/*
 * Normalizers to steps, pre-tokenizers to rules: the tokenizers library's parts, one by one.
 */
#include "engine/import/hf/vocab_shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/base64.h"

#define MAX_PARTS 24
#define MARK "\xE2\x96\x81" /* U+2581 */

typedef struct parts {
    json_t *part[MAX_PARTS];
    size_t n;
} parts;

static const char *type_of(json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type != NULL ? type : "";
}

static bool is(json_t *part, const char *type)
{
    return strcmp(type_of(part), type) == 0;
}

slm_status slm_hf_only(json_t *part, const char *what, const char *const *keys, slm_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(part, key, value)
    {
        bool known = strcmp(key, "type") == 0;
        for (size_t i = 0; keys[i] != NULL; i++)
            known = known || strcmp(key, keys[i]) == 0;
        if (!known)
            return slm_fail(err, SLM_UNSUPPORTED, "the %s \"%.40s\" in \"tokenizer.json\" has the setting \"%.60s\", which is not known",
                            what,
                            type_of(part), key);
    }
    return SLM_OK;
}

static slm_status refuse(json_t *part, const char *what, slm_error *err)
{
    return slm_fail(err, SLM_UNSUPPORTED, "the %s \"%.40s\" in \"tokenizer.json\" is not supported at its place", what, type_of(part));
}

/* A boolean setting that must have this value. */
static slm_status demand(json_t *part, const char *what, const char *key, bool def, bool want, slm_error *err)
{
    json_t *v = json_object_get(part, key);
    bool value = v == NULL || json_is_null(v) ? def : json_is_true(v);
    if (v != NULL && !json_is_null(v) && !json_is_boolean(v))
        return slm_fail(err, SLM_FORMAT, "\"%s\" of the %s \"%.40s\" in \"tokenizer.json\" is no boolean", key, what, type_of(part));
    if (value == want)
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "the %s \"%.40s\" in \"tokenizer.json\" with \"%s\": %s is not supported", what, type_of(part),
                    key,
                    value ? "true" : "false");
}

/* Sequences are laid flat. */
static slm_status flatten(json_t *node, const char *what, const char *list_key, int depth, parts *out, slm_error *err)
{
    if (node == NULL || json_is_null(node))
        return SLM_OK;
    if (!json_is_object(node) || depth > 4)
        return slm_fail(err, SLM_FORMAT, "the %s in \"tokenizer.json\" is no object", what);
    if (is(node, "Sequence")) {
        const char *const keys[] = {list_key, NULL};
        json_t *list = json_object_get(node, list_key);
        SLM_TRY(slm_hf_only(node, what, keys, err));
        for (size_t i = 0; i < json_array_size(list); i++)
            SLM_TRY(flatten(json_array_get(list, i), what, list_key, depth + 1, out, err));
        return SLM_OK;
    }
    if (out->n == MAX_PARTS)
        return slm_fail(err, SLM_UNSUPPORTED, "the %s in \"tokenizer.json\" has more than %d parts", what, MAX_PARTS);
    out->part[out->n++] = node;
    return SLM_OK;
}

/* ------------------------------------------------------------------ normalizers */

static slm_status add(slm_hf_shape *s, slm_text_op op, slm_bytes from, slm_bytes to, slm_error *err)
{
    if (s->n_steps == SLM_VOCAB_MAX_STEPS)
        return slm_fail(err, SLM_UNSUPPORTED, "the normalizer in \"tokenizer.json\" has more than %d steps", SLM_VOCAB_MAX_STEPS);
    s->steps[s->n_steps++] = (slm_text_step){op, from, to};
    return SLM_OK;
}

static slm_bytes text_of(json_t *v)
{
    return (slm_bytes){json_string_value(v), json_string_length(v)};
}

static slm_status add_map(slm_hf_shape *s, json_t *part, slm_error *err)
{
    static const char *const keys[] = {"precompiled_charsmap", NULL};
    json_t *map = json_object_get(part, "precompiled_charsmap");
    size_t length = 0;
    SLM_TRY(slm_hf_only(part, "normalizer", keys, err));
    char *bytes = NULL;
    slm_status status = json_is_string(map) ? slm_base64_decode(json_string_value(map), json_string_length(map), &bytes, &length, err)
                                            : SLM_FORMAT;
    if (status != SLM_OK)
        return status == SLM_NOMEM ? status : slm_fail(err, SLM_FORMAT, "the normalizer \"Precompiled\" in \"tokenizer.json\" holds no "
                                                                        "map of characters");
    s->owned[s->n_owned++] = bytes;
    return add(s, SLM_TEXT_CHARSMAP, (slm_bytes){bytes, length}, (slm_bytes){"", 0}, err);
}

static slm_status add_replace(slm_hf_shape *s, json_t *part, slm_error *err)
{
    static const char *const keys[] = {"pattern", "content", NULL};
    json_t *pattern = json_object_get(part, "pattern"), *content = json_object_get(part, "content");
    json_t *literal = json_object_get(pattern, "String");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    SLM_TRY(slm_hf_only(part, "normalizer", keys, err));
    if (!json_is_string(content) || json_object_size(pattern) != 1)
        return slm_fail(err, SLM_FORMAT, "the normalizer \"Replace\" in \"tokenizer.json\" has no pattern or no content");
    if (json_is_string(literal))
        return add(s, SLM_TEXT_REPLACE, text_of(literal), text_of(content), err);
    if (regex != NULL && strcmp(regex, " {2,}") == 0)
        return add(s, SLM_TEXT_SQUEEZE, (slm_bytes){"", 0}, text_of(content), err);
    if (regex != NULL && strcmp(regex, "\\s{2,}|[\\n\\r\\t]") == 0)
        return add(s, SLM_TEXT_BLANKS, (slm_bytes){"", 0}, text_of(content), err);
    if (regex != NULL && strcmp(regex, "\\A +| +\\z") == 0 && json_string_length(content) == 0)
        return add(s, SLM_TEXT_TRIM, (slm_bytes){"", 0}, text_of(content), err);
    slm_fail(err, SLM_UNSUPPORTED, "the normalizer \"Replace\" in \"tokenizer.json\" replaces a pattern that is not known here");
    return slm_hint(err, "Its pattern is: %.200s", regex != NULL ? regex : "(none)");
}

static slm_status add_strip(slm_hf_shape *s, json_t *part, slm_error *err)
{
    static const char *const keys[] = {"strip_left", "strip_right", NULL};
    slm_bytes none = {"", 0};
    SLM_TRY(slm_hf_only(part, "normalizer", keys, err));
    if (json_is_true(json_object_get(part, "strip_left")))
        SLM_TRY(add(s, SLM_TEXT_STRIP_LEFT, none, none, err));
    return json_is_true(json_object_get(part, "strip_right")) ? add(s, SLM_TEXT_STRIP_RIGHT, none, none, err) : SLM_OK;
}

static slm_status take_bert(slm_hf_shape *s, json_t *part, slm_error *err)
{
    static const char *const keys[] = {"clean_text", "handle_chinese_chars", "strip_accents", "lowercase", NULL};
    json_t *strip = json_object_get(part, "strip_accents");
    SLM_TRY(slm_hf_only(part, "normalizer", keys, err));
    SLM_TRY(demand(part, "normalizer", "clean_text", true, true, err));
    s->bert = true;
    s->keep_cjk = json_is_false(json_object_get(part, "handle_chinese_chars"));
    s->lowercase = !json_is_false(json_object_get(part, "lowercase"));
    s->strip_accents = json_is_boolean(strip) ? json_is_true(strip) : s->lowercase; /* null: where text is lowercased */
    return SLM_OK;
}

static slm_status add_normalizer(slm_hf_shape *s, json_t *part, slm_tok_kind kind, slm_error *err)
{
    static const struct {
        const char *type;
        slm_text_op op;
    } plain[] = {{"NFC", SLM_TEXT_NFC}, {"NFD", SLM_TEXT_NFD}, {"NFKC", SLM_TEXT_NFKC}, {"NFKD", SLM_TEXT_NFKD},
                 {"Lowercase", SLM_TEXT_LOWER}, {"StripAccents", SLM_TEXT_STRIP_ACCENTS}};
    static const char *const none[] = {NULL}, *const prepend[] = {"prepend", NULL};
    if (s->bert)
        return refuse(part, "normalizer", err); /* nothing may come behind BertNormalizer */
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (is(part, plain[i].type)) {
            SLM_TRY(slm_hf_only(part, "normalizer", none, err));
            return add(s, plain[i].op, (slm_bytes){"", 0}, (slm_bytes){"", 0}, err);
        }
    if (is(part, "Replace"))
        return add_replace(s, part, err);
    if (is(part, "Strip"))
        return add_strip(s, part, err);
    if (is(part, "Precompiled"))
        return add_map(s, part, err);
    if (is(part, "BertNormalizer") && kind == SLM_TOK_WORDPIECE)
        return take_bert(s, part, err);
    if (is(part, "Prepend") && json_string_length(json_object_get(part, "prepend")) > 0) {
        SLM_TRY(slm_hf_only(part, "normalizer", prepend, err));
        return add(s, SLM_TEXT_PREPEND, (slm_bytes){"", 0}, text_of(json_object_get(part, "prepend")), err);
    }
    return refuse(part, "normalizer", err);
}

static slm_status read_normalizer(json_t *tokenizer, slm_tok_kind kind, slm_hf_shape *s, slm_error *err)
{
    parts list = {.n = 0};
    SLM_TRY(flatten(json_object_get(tokenizer, "normalizer"), "normalizer", "normalizers", 0, &list, err));
    for (size_t i = 0; i < list.n; i++)
        SLM_TRY(add_normalizer(s, list.part[i], kind, err));
    return SLM_OK;
}

/* ------------------------------------------------------------------ pre-tokenizers */

/* Split patterns by the pre-tokenizer's name in GGUF. */
static const char *const split_patterns[][2] = {
    {"llama-bpe",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen2",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen35",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
     "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|"
     "\\s+"},
    {"gpt-4o",
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
     "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"tekken",
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
     "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"gpt-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
};

static slm_status take_split(slm_hf_shape *s, json_t *split, slm_error *err)
{
    static const char *const keys[] = {"pattern", "behavior", "invert", NULL};
    const char *regex = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    SLM_TRY(slm_hf_only(split, "pre-tokenizer", keys, err));
    SLM_TRY(demand(split, "pre-tokenizer", "invert", false, false, err));
    if (behavior == NULL || strcmp(behavior, "Isolated") != 0)
        return slm_fail(err, SLM_UNSUPPORTED,
                        "the pre-tokenizer \"Split\" in \"tokenizer.json\" with the behavior \"%.40s\" is not supported",
                        behavior != NULL ? behavior : "(none)");
    for (size_t i = 0; regex != NULL && i < sizeof split_patterns / sizeof split_patterns[0]; i++)
        if (strcmp(regex, split_patterns[i][1]) == 0) {
            snprintf(s->pre, sizeof s->pre, "%s", split_patterns[i][0]);
            return SLM_OK;
        }
    slm_fail(err, SLM_UNSUPPORTED, "the pre-tokenizer \"Split\" in \"tokenizer.json\" has a pattern that is not known here");
    return slm_hint(err, "Its pattern is: %.200s", regex != NULL ? regex : "(none)");
}

/* [Digits or Split,] ByteLevel: the last one with its own pattern exactly where none comes before it that stands for it. */
static slm_status read_byte_level(const parts *list, slm_hf_shape *s, slm_error *err)
{
    static const char *const keys[] = {"add_prefix_space", "trim_offsets", "use_regex", NULL}, *const digits[] = {"individual_digits",
                                                                                                                  NULL};
    json_t *last = list->n > 0 ? list->part[list->n - 1] : NULL, *first = list->n > 1 ? list->part[0] : NULL;
    if (last == NULL || !is(last, "ByteLevel"))
        return last == NULL ? slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" has no pre-tokenizer, and its model has no byte fallback")
                            : slm_fail(err, SLM_UNSUPPORTED,
                                       "the pre-tokenizer \"%.40s\" in \"tokenizer.json\" is not supported: it is not byte-level",
                                           type_of(last));
    SLM_TRY(slm_hf_only(last, "pre-tokenizer", keys, err));
    if (!json_is_boolean(json_object_get(last, "add_prefix_space")))
        return slm_fail(err, SLM_FORMAT, "the pre-tokenizer \"ByteLevel\" in \"tokenizer.json\" does not say \"add_prefix_space\"");
    if (list->n > 2)
        return refuse(list->part[1], "pre-tokenizer", err);
    if (first == NULL) {
        SLM_TRY(demand(last, "pre-tokenizer", "use_regex", true, true, err));
        snprintf(s->pre, sizeof s->pre, "gpt-2");
        bool space = json_is_true(json_object_get(last, "add_prefix_space"));
        return space ? add(s, SLM_TEXT_PREFIX_SPACE, (slm_bytes){"", 0}, (slm_bytes){"", 0}, err) : SLM_OK;
    }
    SLM_TRY(demand(last, "pre-tokenizer", "add_prefix_space", true, false, err)); /* of each word */
    if (is(first, "Digits")) {
        SLM_TRY(slm_hf_only(first, "pre-tokenizer", digits, err));
        SLM_TRY(demand(first, "pre-tokenizer", "individual_digits", false, true, err));
        SLM_TRY(demand(last, "pre-tokenizer", "use_regex", true, true, err));
        snprintf(s->pre, sizeof s->pre, "smollm");
        return SLM_OK;
    }
    if (!is(first, "Split"))
        return refuse(first, "pre-tokenizer", err);
    SLM_TRY(demand(last, "pre-tokenizer", "use_regex", true, false, err));
    return take_split(s, first, err);
}

/* Metaspace: spaces become marks, with one in front; words begin at marks where they are split. */
static slm_status take_metaspace(slm_hf_shape *s, json_t *part, slm_error *err)
{
    static const char *const keys[] = {"replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep", NULL};
    const char *replacement = json_string_value(json_object_get(part, "replacement"));
    const char *scheme = json_string_value(json_object_get(part, "prepend_scheme"));
    SLM_TRY(slm_hf_only(part, "pre-tokenizer", keys, err));
    if (replacement == NULL || strcmp(replacement, MARK) != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "the pre-tokenizer \"Metaspace\" in \"tokenizer.json\" has a replacement that is not U+2581");
    if (scheme == NULL)
        scheme = "always";
    if (json_is_false(json_object_get(part, "add_prefix_space")) && strcmp(scheme, "never") != 0)
        return slm_fail(err, SLM_FORMAT, "the pre-tokenizer \"Metaspace\" in \"tokenizer.json\" has the prepend_scheme \"%.40s\", but no "
                                         "add_prefix_space", scheme);
    if (strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "the pre-tokenizer \"Metaspace\" in \"tokenizer.json\" has the prepend_scheme \"%.40s\"",
                        scheme);
    s->space_prefix = strcmp(scheme, "never") != 0;
    s->prefix_first = strcmp(scheme, "first") == 0;
    s->split_marks = !json_is_false(json_object_get(part, "split"));
    return SLM_OK;
}

static slm_status read_unigram(const parts *list, slm_hf_shape *s, slm_error *err)
{
    static const char *const none[] = {NULL};
    json_t *last = list->n > 0 ? list->part[list->n - 1] : NULL;
    if (last == NULL || !is(last, "Metaspace"))
        return last != NULL ? refuse(last, "pre-tokenizer", err)
                            : slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" has a Unigram model, but no pre-tokenizer");
    SLM_TRY(take_metaspace(s, last, err));
    if (!s->split_marks)
        return demand(last, "pre-tokenizer", "split", true, true, err);
    if (list->n == 1)
        return SLM_OK;
    if (list->n > 2 || !is(list->part[0], "WhitespaceSplit"))
        return refuse(list->part[0], "pre-tokenizer", err);
    SLM_TRY(slm_hf_only(list->part[0], "pre-tokenizer", none, err));
    s->split_white = true;
    return s->prefix_first ? refuse(last, "pre-tokenizer", err) : SLM_OK;
}

static bool step_is(const slm_text_step *s, slm_text_op op, const char *from, const char *to)
{
    return s->op == op && s->from.length == strlen(from) && memcmp(s->from.data, from, s->from.length) == 0 && s->to.length == strlen(to) &&
           memcmp(s->to.data, to, s->to.length) == 0;
}

/* SentencePiece's BPE: [Prepend U+2581,] Replace " " by U+2581 at the end of the normalizer, or Metaspace without a split. */
static slm_status read_sentencepiece(const parts *list, slm_hf_shape *s, slm_error *err)
{
    static const char *const split_keys[] = {"pattern", "behavior", "invert", NULL};
    bool replaced = s->n_steps > 0 && step_is(&s->steps[s->n_steps - 1], SLM_TEXT_REPLACE, " ", MARK);
    if (replaced) {
        s->n_steps--;
        s->space_prefix = s->n_steps > 0 && step_is(&s->steps[s->n_steps - 1], SLM_TEXT_PREPEND, "", MARK);
        s->prepends = s->space_prefix;
        s->n_steps -= s->prepends;
    }
    json_t *only = list->n > 0 ? list->part[0] : NULL;
    if (list->n > 1)
        return refuse(list->part[1], "pre-tokenizer", err);
    if (only == NULL && replaced)
        return SLM_OK;
    if (only == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" has neither a normalizer nor a pre-tokenizer that makes spaces U+2581");
    if (is(only, "Metaspace") && !replaced) {
        SLM_TRY(take_metaspace(s, only, err));
        return demand(only, "pre-tokenizer", "split", true, false, err);
    }
    /* Gemma splits at spaces of which the normalizer has left none */
    const char *text = json_string_value(json_object_get(json_object_get(only, "pattern"), "String"));
    if (!is(only, "Split") || !replaced || text == NULL || strcmp(text, " ") != 0)
        return refuse(only, "pre-tokenizer", err);
    return slm_hf_only(only, "pre-tokenizer", split_keys, err);
}

static slm_status read_bert(const parts *list, slm_hf_shape *s, slm_error *err)
{
    static const char *const none[] = {NULL};
    if (!s->bert || list->n != 1 || !is(list->part[0], "BertPreTokenizer"))
        return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" has a WordPiece model without BertNormalizer and BertPreTokenizer");
    return slm_hf_only(list->part[0], "pre-tokenizer", none, err);
}

slm_status slm_hf_shape_read(json_t *tokenizer, slm_tok_kind kind, slm_hf_shape *out, slm_error *err)
{
    parts list = {.n = 0};
    SLM_TRY(read_normalizer(tokenizer, kind, out, err));
    SLM_TRY(flatten(json_object_get(tokenizer, "pre_tokenizer"), "pre-tokenizer", "pretokenizers", 0, &list, err));
    switch (kind) {
    case SLM_TOK_BPE: return read_byte_level(&list, out, err);
    case SLM_TOK_SPM: return read_sentencepiece(&list, out, err);
    case SLM_TOK_UNIGRAM: return read_unigram(&list, out, err);
    default: return read_bert(&list, out, err);
    }
}

void slm_hf_shape_free(slm_hf_shape *shape)
{
    for (size_t i = 0; i < shape->n_owned; i++)
        free(shape->owned[i]);
    shape->n_owned = 0;
}
