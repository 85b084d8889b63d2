/*
 * tokenizer.json to slm_vocab: the model's pieces and merges here, what a text goes through in vocab_shape.h.
 *
 * WordPiece pieces are handed on as GGUF files hold them: a piece that begins a word gets U+2581 in front, "##" is taken off the
 * others, control tokens stay as they are.  Formats: the tokenizers library's serialization; special tokens' roles from
 * tokenizer_config.json.
 * Invariant: every id is below n_vocab and given once; strings are borrowed from the JSON documents or from `owned`, which live until
 * the blob is built.
 */
#include "engine/import/hf/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/import/hf/json.h"
#include "engine/import/hf/keys.h"
#include "engine/import/hf/vocab_made.h"
#include "engine/import/hf/vocab_shape.h"
#include "engine/text/tokenizer.h"

#define MAX_TOKEN_BYTES (1u << 16)
#define MAX_MERGES (1u << 21)

typedef struct builder {
    int dir;
    uint32_t n_vocab, n_token_types;
    bool framed;             /* the model reads whole texts */
    slm_hf_reading reading;
    const char *chat_format; /* forced by name, or NULL */
    json_t *model;       /* config.json, borrowed */
    json_t *tokenizer, *config, *generation; /* tokenizer.json, tokenizer_config.json, generation_config.json */
    int32_t ends[SLM_VOCAB_MAX_ENDS];
    const char *made_of; /* the file that `tokenizer` was made of; NULL: it is tokenizer.json */
    char *vocab_txt, *template_text;
    slm_bytes *tokens;   /* [n_vocab], data NULL = not given yet */
    int32_t *types;      /* [n_vocab] */
    uint8_t *added;      /* [n_vocab] SLM_ADDED_* */
    float *scores;       /* [n_vocab], Unigram only */
    slm_hf_shape shape;
    slm_bytes *merges;
    size_t n_merges;
    char *owned;         /* bytes of made-up tokens and joined merges */
    size_t owned_used, owned_size;
    slm_vocab vocab;
} builder;

static void free_builder(builder *b)
{
    json_decref(b->tokenizer);
    json_decref(b->config);
    json_decref(b->generation);
    free(b->vocab_txt);
    free(b->template_text);
    free(b->tokens);
    free(b->types);
    free(b->added);
    slm_hf_shape_free(&b->shape);
    free(b->scores);
    free(b->merges);
    free(b->owned);
}

/* Room for the strings that are made here, reserved once so that pointers into it stay valid. */
static slm_status reserve(builder *b, size_t bytes, slm_error *err)
{
    b->owned = malloc(bytes + 1);
    b->owned_size = bytes;
    return b->owned != NULL ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
}

/* a and b joined with `between` (may be empty); cut to nothing when the room was wrongly reckoned, which the caller's sums exclude. */
static slm_bytes join(builder *b, const char *a, size_t n_a, const char *between, const char *c, size_t n_c)
{
    size_t n_between = strlen(between), total = n_a + n_between + n_c;
    char *at = b->owned + b->owned_used;
    if (total > b->owned_size - b->owned_used)
        return (slm_bytes){at, 0};
    memcpy(at, a, n_a);
    memcpy(at + n_a, between, n_between);
    memcpy(at + n_a + n_between, c, n_c);
    b->owned_used += total;
    return (slm_bytes){at, total};
}

static slm_status set_token(builder *b, json_int_t id, const char *text, size_t length, const char *file, slm_error *err)
{
    if (id < 0 || id >= (json_int_t) b->n_vocab)
        return slm_fail(err, SLM_FORMAT, "\"%s\" gives the token id %lld, but the model has %u embeddings", file, (long long) id,
                        b->n_vocab);
    if (length > MAX_TOKEN_BYTES)
        return slm_fail(err, SLM_FORMAT, "\"%s\" holds a token of %zu bytes", file, length);
    if (b->tokens[id].data != NULL &&
        (b->tokens[id].length != length || memcmp(b->tokens[id].data, text, length) != 0))
        return slm_fail(err, SLM_FORMAT, "\"%s\" gives the token id %lld twice", file, (long long) id);
    b->tokens[id] = (slm_bytes){text, length};
    return SLM_OK;
}

/* {"token": id, ...} */
static slm_status take_vocab(builder *b, json_t *vocab, slm_error *err)
{
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return slm_fail(err, SLM_FORMAT, "\"tokenizer.json\" has no vocabulary");
    for (void *it = json_object_iter(vocab); it != NULL; it = json_object_iter_next(vocab, it)) {
        json_t *id = json_object_iter_value(it);
        const char *text = json_object_iter_key(it);
        if (!json_is_integer(id))
            return slm_fail(err, SLM_FORMAT, "\"tokenizer.json\" gives a token an id that is no integer");
        SLM_TRY(set_token(b, json_integer_value(id), text, strlen(text), "tokenizer.json", err));
    }
    return SLM_OK;
}

/* The id of a token by its text; -1 = none. Linear: asked for a handful of tokens. */
static int32_t id_of(const builder *b, const char *text)
{
    size_t n = text == NULL ? 0 : strlen(text);
    for (uint32_t i = 0; n > 0 && i < b->n_vocab; i++)
        if (b->tokens[i].data != NULL && b->tokens[i].length == n && memcmp(b->tokens[i].data, text, n) == 0)
            return (int32_t) i;
    return -1;
}

static const struct {
    const char *key;
    uint8_t flag;
} flags_of_added[] = {{"lstrip", SLM_ADDED_LSTRIP}, {"rstrip", SLM_ADDED_RSTRIP}, {"single_word", SLM_ADDED_SINGLE_WORD},
                      {"normalized", SLM_ADDED_NORMALIZED}};

/* Flags of an added token.  Those of control tokens say nothing here: they are never looked for in a row's text. */
static slm_status added_flags(json_t *entry, uint8_t *flags, slm_error *err)
{
    static const char *const keys[] = {"id", "content", "special", "lstrip", "rstrip", "single_word", "normalized", NULL};
    *flags = 0;
    SLM_TRY(slm_hf_only(entry, "added token", keys, err));
    for (size_t i = 0; i < sizeof flags_of_added / sizeof flags_of_added[0]; i++)
        if (json_is_true(json_object_get(entry, flags_of_added[i].key)))
            *flags |= flags_of_added[i].flag;
    return SLM_OK;
}

/* The library goes by the flags that tokenizer_config.json gives an added token again: they are those of tokenizer.json. */
static slm_status check_again(const builder *b, json_t *entry, slm_error *err)
{
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long) json_integer_value(json_object_get(entry, "id")));
    json_t *again = b->made_of == NULL ? json_object_get(json_object_get(b->config, "added_tokens_decoder"), id) : NULL;
    for (size_t i = 0; i < sizeof flags_of_added / sizeof flags_of_added[0]; i++) {
        const char *key = flags_of_added[i].key;
        json_t *flag = json_object_get(again, key);
        if (json_is_boolean(flag) && json_is_true(flag) != json_is_true(json_object_get(entry, key)))
            return slm_fail(err, SLM_UNSUPPORTED,
                            "the added token \"%.60s\" has \"%s\": %s in \"tokenizer_config.json\", which is not what "
                            "\"tokenizer.json\" says",
                            json_string_value(json_object_get(entry, "content")), key, json_is_true(flag) ? "true" : "false");
    }
    return SLM_OK;
}

/* The library gives an added token the id that its text has in the vocabulary, whatever its entry says. */
static slm_status check_known(const builder *b, const char *content, json_int_t id, slm_error *err)
{
    json_t *vocab = json_object_get(json_object_get(b->tokenizer, "model"), "vocab"), *known = json_object_get(vocab, content);
    json_int_t other = known != NULL ? json_integer_value(known) : json_is_array(vocab) ? id_of(b, content) : -1;
    if (other < 0 || other == id)
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "the added token \"%.60s\" in \"tokenizer.json\" has the id %lld, and %lld in the vocabulary",
                    content, (long long) id, (long long) other);
}

static slm_status take_added(builder *b, slm_error *err)
{
    json_t *added = json_object_get(b->tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *entry = json_array_get(added, i), *id = json_object_get(entry, "id"), *content = json_object_get(entry, "content");
        uint8_t flags;
        if (!json_is_integer(id) || !json_is_string(content))
            return slm_fail(err, SLM_FORMAT, "\"tokenizer.json\" has an added token without id or content");
        SLM_TRY(check_known(b, json_string_value(content), json_integer_value(id), err));
        SLM_TRY(set_token(b, json_integer_value(id), json_string_value(content), json_string_length(content), "tokenizer.json", err));
        SLM_TRY(added_flags(entry, &flags, err));
        bool special = json_is_true(json_object_get(entry, "special"));
        SLM_TRY(special ? SLM_OK : check_again(b, entry, err));
        b->types[json_integer_value(id)] = special ? SLM_TOKEN_CONTROL : SLM_TOKEN_USER_DEFINED;
        b->added[json_integer_value(id)] = special ? 0 : flags;
    }
    return SLM_OK;
}

/* Tokens that are looked for in the normalized text are written there as they are, or the model is refused: the library would look for
 * their
 * normalized form. */
static slm_status check_added(const builder *b, slm_error *err)
{
    const slm_hf_shape *s = &b->shape;
    for (uint32_t i = 0; i < b->n_vocab; i++) {
        bool plain = !s->prepends && !s->lowercase && !s->strip_accents;
        if (b->types[i] != SLM_TOKEN_USER_DEFINED || (b->added[i] & SLM_ADDED_NORMALIZED) == 0)
            continue;
        for (size_t k = 0; k < b->tokens[i].length; k++)
            plain = plain && (unsigned char) b->tokens[i].data[k] < 0x80 && (b->tokens[i].data[k] != ' ' || s->n_steps == 0);
        for (size_t k = 0; k < s->n_steps; k++)
            plain = plain && s->steps[k].op <= SLM_TEXT_NFKD;
        if (!plain && (s->bert || s->prepends || s->n_steps > 0))
            return slm_fail(err, SLM_UNSUPPORTED,
                            "the added token \"%.60s\" in \"tokenizer.json\" has \"normalized\": true beside a normalizer "
                            "that may change it, which is not supported", b->tokens[i].data);
        if (s->n_steps == 0)
            b->added[i] &= (uint8_t) ~SLM_ADDED_NORMALIZED;
    }
    return SLM_OK;
}

/* ---- merges ---- */

/* "a b" or ["a", "b"], as older and newer versions of the library write them. */
static slm_status one_merge(json_t *m, slm_bytes *left, slm_bytes *right, slm_error *err)
{
    if (json_is_string(m)) {
        const char *text = json_string_value(m);
        const char *space = strchr(text, ' ');
        if (space != NULL && space > text && space[1] != '\0' && strchr(space + 1, ' ') == NULL) {
            *left = (slm_bytes){text, (size_t) (space - text)};
            *right = (slm_bytes){space + 1, strlen(space + 1)};
            return SLM_OK;
        }
    } else if (json_array_size(m) == 2 && json_is_string(json_array_get(m, 0)) && json_is_string(json_array_get(m, 1))) {
        *left = (slm_bytes){json_string_value(json_array_get(m, 0)), json_string_length(json_array_get(m, 0))};
        *right = (slm_bytes){json_string_value(json_array_get(m, 1)), json_string_length(json_array_get(m, 1))};
        if (left->length > 0 && right->length > 0 && left->length < MAX_TOKEN_BYTES && right->length < MAX_TOKEN_BYTES)
            return SLM_OK;
    }
    return slm_fail(err, SLM_FORMAT, "\"tokenizer.json\" holds a merge that is not a pair of tokens");
}

static slm_status take_merges(builder *b, json_t *merges, slm_error *err)
{
    size_t n = json_array_size(merges), bytes = 0;
    slm_bytes left, right;
    if (n > MAX_MERGES)
        return slm_fail(err, SLM_FORMAT, "\"tokenizer.json\" has more than %u merges", MAX_MERGES);
    for (size_t i = 0; i < n; i++) {
        SLM_TRY(one_merge(json_array_get(merges, i), &left, &right, err));
        bytes += left.length + right.length + 1;
    }
    SLM_TRY(reserve(b, bytes + 24 * (size_t) b->n_vocab, err));
    b->merges = calloc(n + 1, sizeof *b->merges);
    if (b->merges == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        SLM_TRY(one_merge(json_array_get(merges, i), &left, &right, err));
        b->merges[i] = join(b, left.data, left.length, " ", right.data, right.length);
    }
    b->n_merges = n;
    return SLM_OK;
}

/* ---- the kinds ---- */

/* A setting that must be missing, null, false, empty or 0. */
static slm_status demand_none(json_t *model, const char *key, slm_error *err)
{
    json_t *v = json_object_get(model, key);
    bool none = v == NULL || json_is_null(v) || json_is_false(v) || (json_is_string(v) && json_string_length(v) == 0) ||
                (json_is_number(v) && json_number_value(v) == 0);
    return none ? SLM_OK : slm_fail(err, SLM_UNSUPPORTED, "the model in \"tokenizer.json\" has \"%s\", which is not supported", key);
}

static void mark_bytes(builder *b, bool seen[256])
{
    for (uint32_t i = 0; i < b->n_vocab; i++) {
        slm_bytes t = b->tokens[i];
        unsigned value = 256;
        char digits[3] = {0};
        if (b->types[i] != SLM_TOKEN_NORMAL || t.length != 6 || memcmp(t.data, "<0x", 3) != 0 || t.data[5] != '>')
            continue;
        memcpy(digits, t.data + 3, 2);
        char *end;
        value = (unsigned) strtoul(digits, &end, 16);
        if (*end != '\0' || digits[0] == '+' || digits[0] == '-' || digits[0] == ' ')
            continue;
        b->types[i] = SLM_TOKEN_BYTE;
        seen[value & 255] = true;
    }
}

/* The switches of a model are booleans. */
static slm_status check_switches(json_t *model, slm_error *err)
{
    static const char *const switches[] = {"byte_fallback", "fuse_unk", "ignore_merges"};
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        json_t *v = json_object_get(model, switches[i]);
        if (v != NULL && !json_is_boolean(v))
            return slm_fail(err, SLM_FORMAT, "\"%s\" of the model in \"tokenizer.json\" is no boolean", switches[i]);
    }
    return SLM_OK;
}

static slm_status make_sentencepiece(builder *b, json_t *model, slm_error *err)
{
    bool fallback = json_is_true(json_object_get(model, "byte_fallback")), seen[256] = {false};
    SLM_TRY(demand_none(model, "ignore_merges", err));
    b->vocab.fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    if (fallback)
        mark_bytes(b, seen);
    for (int i = 0; fallback && i < 256; i++)
        if (!seen[i])
            return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" has a byte fallback but no token for the byte 0x%02X", i);
    if (!fallback && id_of(b, json_string_value(json_object_get(model, "unk_token"))) < 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" has a BPE model with neither bytes nor an unknown token");
    if (b->n_merges == 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" has a BPE model without merges, which is not supported");
    return SLM_OK;
}

static slm_status make_bpe(builder *b, json_t *model, slm_error *err)
{
    static const char *const keys[] = {"vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                                       "fuse_unk", "byte_fallback", "ignore_merges", NULL};
    json_t *pre = json_object_get(b->tokenizer, "pre_tokenizer");
    const char *type = json_string_value(json_object_get(pre, "type"));
    bool marks = json_is_true(json_object_get(model, "byte_fallback")) || type == NULL || strcmp(type, "Metaspace") == 0;
    SLM_TRY(slm_hf_only(model, "model", keys, err));
    SLM_TRY(demand_none(model, "dropout", err));
    SLM_TRY(demand_none(model, "continuing_subword_prefix", err));
    SLM_TRY(demand_none(model, "end_of_word_suffix", err));
    SLM_TRY(take_merges(b, json_object_get(model, "merges"), err));
    b->vocab.kind = marks ? SLM_TOK_SPM : SLM_TOK_BPE;
    b->vocab.whole_words = json_is_true(json_object_get(model, "ignore_merges")) ? 1 : -1;
    return marks ? make_sentencepiece(b, model, err) : SLM_OK;
}

static slm_status make_wordpiece_model(builder *b, json_t *model, slm_error *err)
{
    static const char *const keys[] = {"vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", NULL};
    const char *prefix = json_string_value(json_object_get(model, "continuing_subword_prefix"));
    json_t *longest = json_object_get(model, "max_input_chars_per_word");
    SLM_TRY(slm_hf_only(model, "model", keys, err));
    if ((prefix != NULL && strcmp(prefix, "##") != 0) || (json_is_integer(longest) && json_integer_value(longest) != 100))
        return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" changes settings of WordPiece that are fixed here");
    b->vocab.kind = SLM_TOK_WORDPIECE;
    return SLM_OK;
}

/* "vocab": [["piece", score], ...], the place is the id. */
static slm_status make_unigram(builder *b, json_t *model, slm_error *err)
{
    static const char *const keys[] = {"vocab", "unk_id", "byte_fallback", NULL};
    json_t *vocab = json_object_get(model, "vocab"), *unknown = json_object_get(model, "unk_id");
    bool seen[256] = {false};
    SLM_TRY(slm_hf_only(model, "model", keys, err));
    b->scores = calloc(b->n_vocab, sizeof *b->scores);
    if (b->scores == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    if (json_array_size(vocab) == 0)
        return slm_fail(err, SLM_FORMAT, "\"tokenizer.json\" has no vocabulary");
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        json_t *text = json_array_get(json_array_get(vocab, i), 0), *score = json_array_get(json_array_get(vocab, i), 1);
        if (!json_is_string(text) || !json_is_number(score))
            return slm_fail(err, SLM_FORMAT, "\"tokenizer.json\" holds a piece that is not a pair of text and score");
        SLM_TRY(set_token(b, (json_int_t) i, json_string_value(text), json_string_length(text), "tokenizer.json", err));
        b->scores[i] = (float) json_number_value(score);
    }
    if (!json_is_integer(unknown) || json_integer_value(unknown) < 0 || (size_t) json_integer_value(unknown) >= json_array_size(vocab))
        return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" has a Unigram model without an unknown token");
    b->vocab.unk = (int32_t) json_integer_value(unknown);
    b->vocab.byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    b->vocab.kind = SLM_TOK_UNIGRAM;
    if (b->vocab.byte_fallback)
        mark_bytes(b, seen);
    /* rows of the model beyond the vocabulary do not lower the score of unknown characters */
    float lowest = b->scores[0];
    for (size_t i = 1; i < json_array_size(vocab); i++)
        lowest = b->scores[i] < lowest ? b->scores[i] : lowest;
    for (size_t i = json_array_size(vocab); i < b->n_vocab; i++)
        b->scores[i] = lowest;
    return SLM_OK;
}

/* The classes of BERT's kin, and AutoTokenizer for their models where no class is named, go by these settings and not by tokenizer.json. */
static slm_status take_bert_settings(builder *b, slm_error *err)
{
    slm_hf_json config = {b->config, "tokenizer_config.json"};
    const char *class = slm_hf_string(config, "tokenizer_class");
    slm_hf_shape *s = &b->shape;
    bool chinese = !s->keep_cjk, lower = s->lowercase, strip = s->strip_accents;
    if (b->vocab.kind != SLM_TOK_WORDPIECE || (class != NULL && strstr(class, "Bert") == NULL && strstr(class, "MPNet") == NULL &&
                                               strstr(class, "Electra") == NULL))
        return SLM_OK;
    SLM_TRY(slm_hf_bool(config, "do_lower_case", &lower, err));
    SLM_TRY(slm_hf_bool(config, "tokenize_chinese_chars", &chinese, err));
    strip = slm_hf_has(config, "do_lower_case") ? lower : strip;
    SLM_TRY(slm_hf_bool(config, "strip_accents", &strip, err));
    s->lowercase = lower;
    s->strip_accents = strip;
    s->keep_cjk = !chinese;
    return SLM_OK;
}

static bool has_step(const slm_hf_shape *s, slm_text_op op)
{
    for (size_t i = 0; i < s->n_steps; i++)
        if (s->steps[i].op == op)
            return true;
    return false;
}

/* Classes that build these parts anew go by their settings in tokenizer_config.json: those that it has are what tokenizer.json says. */
static slm_status check_settings(const builder *b, slm_error *err)
{
    const slm_hf_shape *s = &b->shape;
    bool space = b->vocab.kind == SLM_TOK_BPE ? has_step(s, SLM_TEXT_PREFIX_SPACE) : s->space_prefix;
    bool lower = has_step(s, SLM_TEXT_LOWER), accents = !has_step(s, SLM_TEXT_STRIP_ACCENTS);
    const struct {
        const char *class, *key;
        bool here;
    } rows[] = {{"Roberta", "add_prefix_space", space},    {"GPT2", "add_prefix_space", space},    {"GPTNeoX", "add_prefix_space", space},
                {"Qwen2", "add_prefix_space", space},      {"XLMRoberta", "add_prefix_space", space}, {"Albert", "add_prefix_space", space},
                {"Albert", "do_lower_case", lower},        {"Albert", "keep_accents", accents},    {"DebertaV2", "do_lower_case", lower}};
    slm_hf_json config = {b->config, "tokenizer_config.json"};
    const char *class = slm_hf_string(config, "tokenizer_class");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool value = rows[i].here;
        if (class == NULL || strncmp(class, rows[i].class, strlen(rows[i].class)) != 0)
            continue;
        SLM_TRY(slm_hf_bool(config, rows[i].key, &value, err));
        if (value != rows[i].here)
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\": %s in \"tokenizer_config.json\" is not what \"tokenizer.json\" says",
                            rows[i].key, value ? "true" : "false");
    }
    return SLM_OK;
}

/* Turns the pieces into GGUF's form: what begins a word gets U+2581, "##" goes. */
static slm_status make_wordpiece(builder *b, slm_error *err)
{
    size_t bytes = 0;
    b->vocab.kind = SLM_TOK_WORDPIECE;
    for (uint32_t i = 0; i < b->n_vocab; i++)
        bytes += b->tokens[i].length + 3;
    SLM_TRY(reserve(b, bytes + 24 * (size_t) b->n_vocab, err));
    for (uint32_t i = 0; i < b->n_vocab; i++) {
        slm_bytes t = b->tokens[i];
        if (t.data == NULL || b->types[i] == SLM_TOKEN_CONTROL)
            continue;
        if (t.length > 2 && memcmp(t.data, "##", 2) == 0)
            b->tokens[i] = (slm_bytes){t.data + 2, t.length - 2};
        else
            b->tokens[i] = join(b, "\xE2\x96\x81", 3, "", t.data, t.length);
    }
    return SLM_OK;
}

static slm_status take_vocab_txt(builder *b, slm_error *err)
{
    slm_hf_json config = {b->config, "tokenizer_config.json"};
    static const char *const controls[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    char *line = b->vocab_txt;
    json_int_t id = 0;
    while (*line != '\0') {
        char *end = strchr(line, '\n');
        size_t n = end != NULL ? (size_t) (end - line) : strlen(line);
        size_t kept = n > 0 && line[n - 1] == '\r' ? n - 1 : n;
        SLM_TRY(set_token(b, id, line, kept, "vocab.txt", err));
        for (size_t c = 0; c < sizeof controls / sizeof controls[0]; c++)
            if (kept == strlen(controls[c]) && memcmp(line, controls[c], kept) == 0)
                b->types[id] = SLM_TOKEN_CONTROL;
        id++;
        line += n + (end != NULL);
    }
    b->vocab.lowercase = true;
    SLM_TRY(slm_hf_bool(config, "do_lower_case", &b->vocab.lowercase, err));
    b->vocab.strip_accents = b->vocab.lowercase;
    return slm_hf_bool(config, "strip_accents", &b->vocab.strip_accents, err);
}

/* ---- special tokens and the template ---- */

/* "<s>" or {"content": "<s>", ...} */
static const char *content_of(json_t *token)
{
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

/* "bos_token": ... */
static const char *special_name(const builder *b, const char *key)
{
    json_t *v = json_object_get(b->config, key);
    return content_of(v);
}

static int32_t special_id(const builder *b, const char *key, const char *fallback)
{
    int32_t id = id_of(b, special_name(b, key));
    return id >= 0 ? id : id_of(b, fallback);
}

/* A token that other files name as special is looked for in a text by the library, which is never done here: it must be one that no text
 * means otherwise, "<s>" or "[CLS]". */
static slm_status check_special(const builder *b, const char *name, const char *file, slm_error *err)
{
    if (name == NULL || strchr("<[", name[0]) != NULL) /* or empty */
        return SLM_OK;
    int32_t id = id_of(b, name);
    if (id >= 0 && (b->types[id] == SLM_TOKEN_CONTROL || b->types[id] == SLM_TOKEN_USER_DEFINED))
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" makes the word \"%.60s\" a special token, which is not supported", file, name);
}

/* The special tokens of a file: "..._token" and lists of more. */
static slm_status check_specials_of(const builder *b, json_t *root, const char *file, slm_error *err)
{
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"};
    static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    const char *key;
    json_t *value;
    size_t i;
    for (size_t r = 0; r < sizeof roles / sizeof roles[0]; r++)
        SLM_TRY(check_special(b, content_of(json_object_get(root, roles[r])), file, err));
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++) {
        json_t *list = json_object_get(root, lists[l]);
        json_array_foreach(list, i, value)
            SLM_TRY(check_special(b, content_of(value), file, err));
        json_object_foreach(list, key, value)
            SLM_TRY(check_special(b, content_of(value), file, err));
    }
    return SLM_OK;
}

static slm_status check_all_specials(const builder *b, slm_error *err)
{
    static const char *const map_file = "special_tokens_map.json", *const added_file = "added_tokens.json";
    const char *name;
    json_t *map = NULL, *added = NULL, *id, *unknown = json_object_get(json_object_get(b->tokenizer, "model"), "unk_token");
    SLM_TRY(check_special(b, json_string_value(unknown), "tokenizer.json", err));
    if (b->vocab.kind == SLM_TOK_UNIGRAM)
        SLM_TRY(check_special(b, b->tokens[b->vocab.unk].data, "tokenizer.json", err));
    SLM_TRY(check_specials_of(b, b->config, "tokenizer_config.json", err));
    SLM_TRY(slm_hf_load(b->dir, map_file, 1u << 20, true, &map, err));
    slm_status status = check_specials_of(b, map, map_file, err);
    json_decref(map);
    SLM_TRY(status);
    SLM_TRY(slm_hf_load(b->dir, added_file, 1u << 20, true, &added, err));
    json_object_foreach(added, name, id)
        status = status == SLM_OK ? check_special(b, name, added_file, err) : status;
    json_decref(added);
    return status;
}

/* What encoders read is cut at its end where it is too long. */
static slm_status check_side(const builder *b, slm_error *err)
{
    const char *side = json_string_value(json_object_get(b->config, "truncation_side"));
    const char *direction = json_string_value(json_object_get(json_object_get(b->tokenizer, "truncation"), "direction"));
    bool left = side != NULL ? strcmp(side, "right") != 0 : direction != NULL && strcmp(direction, "Right") != 0;
    if (!b->framed || !left)
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "the tokenizer cuts long texts at their beginning, which is not supported");
}

/* The frame of one text of a decoder: BOS or nothing before it, EOS or nothing behind it. */
static slm_status take_bos(builder *b, slm_error *err)
{
    const slm_tok_frame *f = &b->shape.frame;
    slm_vocab *v = &b->vocab;
    if (f->n_before > 1 || (f->n_before == 1 && f->before[0] != v->bos) || f->n_after > 1 || (f->n_after == 1 && f->after[0] != v->eos))
        return slm_fail(err, SLM_UNSUPPORTED,
                        "the post-processor in \"tokenizer.json\" puts other tokens around a text than bos_token and eos_token of "
                        "\"tokenizer_config.json\"");
    v->add_bos = f->n_before == 1;
    v->add_eos = f->n_after == 1;
    return SLM_OK;
}

/* Are token types among what the tokenizer hands to the model?  Where it does not say so: yes before version 5, whose files have the key
 * "backend"; since then with some classes only. */
static bool gives_types(const builder *b)
{
    json_t *names = json_object_get(b->config, "model_input_names");
    const char *class = json_string_value(json_object_get(b->config, "tokenizer_class"));
    if (json_array_size(names) == 0 && json_object_get(b->config, "backend") != NULL)
        return class != NULL && (strncmp(class, "BertTokenizer", 13) == 0 || strncmp(class, "DebertaV2Tokenizer", 18) == 0);
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name != NULL && strcmp(name, "token_type_ids") == 0)
            return true;
    }
    return json_array_size(names) == 0;
}

/* Where positions are counted without the padding token's, it must be one that no text has: the tokenizer's own. */
static slm_status check_padding(const builder *b, slm_error *err)
{
    const char *type = json_string_value(json_object_get(b->model, "model_type"));
    const slm_hf_kind *kind = type != NULL ? slm_hf_kind_find(type) : NULL;
    json_t *pad = json_object_get(b->model, "pad_token_id");
    json_int_t id = json_is_integer(pad) ? json_integer_value(pad) : 1;
    if (kind == NULL || !kind->pad_offset || (id != b->vocab.unk && (b->vocab.pad < 0 || id == b->vocab.pad)))
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "\"pad_token_id\" in \"config.json\" is %lld, which is not the tokenizer's pad_token",
                    (long long) id);
}

/* What the model that reads whole texts gets around them. */
static slm_status take_frame(builder *b, slm_error *err)
{
    slm_tok_frame *f = &b->shape.frame;
    for (uint32_t i = 0; i < SLM_VOCAB_MAX_FRAME; i++)
        if ((i < f->n_before && f->before[i] >= (int32_t) b->n_vocab) || (i < f->n_middle && f->middle[i] >= (int32_t) b->n_vocab) ||
            (i < f->n_after && f->after[i] >= (int32_t) b->n_vocab))
            return slm_fail(err, SLM_FORMAT, "the post-processor in \"tokenizer.json\" names a token id that the model does not have");
    f->second_type = b->shape.second_type;
    if (b->n_token_types < 2 || !gives_types(b))
        f->second_type = 0;
    if (f->second_type > 1)
        return slm_fail(err, SLM_UNSUPPORTED, "the post-processor in \"tokenizer.json\" gives token types that are not supported");
    b->vocab.framed = true;
    b->vocab.frame = *f;
    return SLM_OK;
}

/* Ids that end an answer: "eos_token_id" of generation_config.json, a number or a list, or else of config.json, as generate() of the
 * transformers library looks for them.  They stand beside the tokenizer's own eos_token. */
static slm_status take_ends(builder *b, slm_error *err)
{
    bool generation = slm_hf_has((slm_hf_json){b->generation, ""}, "eos_token_id");
    const char *file = generation ? "generation_config.json" : "config.json";
    json_t *eos = json_object_get(generation ? b->generation : b->model, "eos_token_id");
    size_t n = json_is_array(eos) ? json_array_size(eos) : eos != NULL && !json_is_null(eos);
    for (size_t i = 0; i < n; i++) {
        json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (!json_is_integer(id))
            return slm_fail(err, SLM_FORMAT, "\"eos_token_id\" in \"%s\" is no token id or list of them", file);
        if (json_integer_value(id) < 0 || json_integer_value(id) >= (json_int_t) b->n_vocab)
            continue; /* -1 says none; configurations that were copied name ids of larger vocabularies, which never come */
        if (b->vocab.n_ends == SLM_VOCAB_MAX_ENDS)
            return slm_fail(err, SLM_UNSUPPORTED, "\"eos_token_id\" in \"%s\" lists more than %d tokens", file, SLM_VOCAB_MAX_ENDS);
        b->ends[b->vocab.n_ends++] = (int32_t) json_integer_value(id);
    }
    b->vocab.ends = b->ends;
    return SLM_OK;
}

/* Do add_bos_token and add_eos_token go before the post-processor?  With the classes that had them before version 5 alone. */
static bool goes_by_flags(const builder *b)
{
    const char *class = json_string_value(json_object_get(b->config, "tokenizer_class"));
    if (b->tokenizer == NULL || class == NULL)
        return true;
    return json_object_get(b->config, "backend") == NULL && (strstr(class, "Llama") != NULL || strncmp(class, "Gemma", 5) == 0);
}

static slm_status take_specials(builder *b, slm_error *err)
{
    slm_hf_json config = {b->config, "tokenizer_config.json"};
    const char *unknown = json_string_value(json_object_get(json_object_get(b->tokenizer, "model"), "unk_token"));
    slm_vocab *v = &b->vocab;
    bool wordpiece = v->kind == SLM_TOK_WORDPIECE;
    v->bos = special_id(b, "bos_token", wordpiece ? NULL : "<s>");
    v->eos = special_id(b, "eos_token", wordpiece ? NULL : "</s>");
    if (v->kind != SLM_TOK_UNIGRAM)
        v->unk = unknown != NULL ? id_of(b, unknown) : special_id(b, "unk_token", wordpiece ? "[UNK]" : NULL);
    v->pad = special_id(b, "pad_token", wordpiece ? "[PAD]" : NULL);
    v->sep = special_id(b, "sep_token", wordpiece ? "[SEP]" : NULL);
    v->cls = special_id(b, "cls_token", wordpiece ? "[CLS]" : NULL);
    v->mask = special_id(b, "mask_token", wordpiece ? "[MASK]" : NULL);
    v->eot = -1;
    SLM_TRY(take_ends(b, err));
    SLM_TRY(b->framed ? check_padding(b, err) : SLM_OK);
    if (b->framed && b->tokenizer != NULL)
        SLM_TRY(take_frame(b, err));
    else if (!b->framed)
        SLM_TRY(take_bos(b, err));
    if (goes_by_flags(b)) {
        SLM_TRY(slm_hf_bool(config, "add_bos_token", &v->add_bos, err));
        SLM_TRY(slm_hf_bool(config, "add_eos_token", &v->add_eos, err));
    }
    v->add_bos = v->add_bos && v->bos >= 0;
    v->add_eos = v->add_eos && v->eos >= 0;
    if (wordpiece && (v->unk < 0 || (b->tokenizer == NULL && (v->cls < 0 || v->sep < 0))))
        return slm_fail(err, SLM_FORMAT, "the vocabulary lacks [CLS], [SEP] or [UNK]");
    if (v->unk >= 0 && b->types[v->unk] == SLM_TOKEN_NORMAL)
        b->types[v->unk] = SLM_TOKEN_UNKNOWN;
    return SLM_OK;
}

/* The template that is meant where none is named, out of an object by names or a list of {name, template}; NULL: there is none. */
static slm_status default_template(json_t *t, const char **out, slm_error *err)
{
    *out = json_string_value(json_is_object(t) ? json_object_get(t, "default") : t);
    for (size_t i = 0; i < json_array_size(t); i++) {
        json_t *entry = json_array_get(t, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        const char *text = json_string_value(json_object_get(entry, "template"));
        if (name == NULL || text == NULL)
            return slm_fail(err, SLM_FORMAT, "\"chat_template\" in \"tokenizer_config.json\" has an entry without name or template");
        if (strcmp(name, "default") == 0)
            *out = text;
    }
    return SLM_OK;
}

/* The file chat_template.jinja; where it or one for tools is there, chat_template of tokenizer_config.json is not looked at. */
static slm_status take_template(builder *b, slm_error *err)
{
    static const char *const others[] = {"additional_chat_templates/tool_use.jinja", "additional_chat_templates/rag.jinja"};
    size_t length;
    bool files = false;
    SLM_TRY(slm_hf_read_text(b->dir, "chat_template.jinja", 1u << 20, true, &b->template_text, &length, err));
    b->vocab.chat_template = b->template_text;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        int fd;
        uint64_t bytes;
        SLM_TRY(slm_hf_open_file(b->dir, others[i], true, &fd, &bytes, err));
        files = files || fd >= 0;
        if (fd >= 0)
            close(fd);
    }
    return files || b->template_text != NULL ? SLM_OK
                                             : default_template(json_object_get(b->config, "chat_template"), &b->vocab.chat_template, err);
}

/* Embedding rows beyond the tokenizer's ids: names that no text contains. */
static void fill_holes(builder *b)
{
    char name[24];
    for (uint32_t i = 0; i < b->n_vocab; i++)
        if (b->tokens[i].data == NULL) {
            int n = snprintf(name, sizeof name, "<|hole_%u|>", i);
            b->tokens[i] = join(b, name, (size_t) n, "", "", 0);
            b->types[i] = SLM_TOKEN_UNUSED;
        }
}

static slm_status take_shape(builder *b, slm_error *err)
{
    const slm_hf_shape *s = &b->shape;
    slm_vocab *v = &b->vocab;
    memcpy(v->pre, s->pre, sizeof v->pre);
    v->steps = s->steps;
    v->n_steps = s->n_steps;
    v->lowercase = s->lowercase;
    v->strip_accents = s->strip_accents;
    v->keep_cjk = s->keep_cjk;
    v->add_space_prefix = s->space_prefix;
    v->prefix_first = s->prefix_first;
    v->prefix_once = s->space_prefix && !s->prepends;
    v->split_white = s->split_white;
    if (b->reading.lowers && !s->lowercase && !has_step(s, SLM_TEXT_LOWER))
        return slm_fail(err, SLM_UNSUPPORTED,
                        "\"do_lower_case\" of sentence-transformers with a tokenizer that does not lowercase is not supported");
    return check_added(b, err);
}

static slm_status take_model(builder *b, slm_error *err)
{
    json_t *model = json_object_get(b->tokenizer, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type == NULL)
        type = json_object_get(model, "merges") != NULL ? "BPE" : "unknown";
    bool bpe = strcmp(type, "BPE") == 0, unigram = strcmp(type, "Unigram") == 0;
    if (!bpe && !unigram && strcmp(type, "WordPiece") != 0) {
        slm_fail(err, SLM_UNSUPPORTED, "tokenizers of the type \"%.40s\" in \"tokenizer.json\" are not supported", type);
        return slm_hint(err, "Supported: BPE, Unigram and WordPiece.");
    }
    SLM_TRY(check_switches(model, err));
    if (!unigram)
        SLM_TRY(take_vocab(b, json_object_get(model, "vocab"), err));
    SLM_TRY(unigram ? make_unigram(b, model, err) : SLM_OK);
    SLM_TRY(take_added(b, err));
    SLM_TRY(bpe ? make_bpe(b, model, err) : unigram ? SLM_OK : make_wordpiece_model(b, model, err));
    SLM_TRY(slm_hf_shape_read(b->tokenizer, b->vocab.kind, &b->shape, err));
    if (!b->reading.bare) {
        SLM_TRY(slm_hf_shape_frame(b->tokenizer, &b->shape, err));
        SLM_TRY(take_bert_settings(b, err));
        SLM_TRY(check_settings(b, err));
    }
    return take_shape(b, err);
}

slm_status slm_hf_tokenizer_load(int dir, const char *folder, bool optional, json_t **out, slm_error *err)
{
    char name[300];
    snprintf(name, sizeof name, "%stokenizer.json", folder);
    return slm_hf_load(dir, name, SLM_HF_MAX_VOCAB_BYTES, optional, out, err);
}

/* Rules for which tokens may come are no wishes of whoever asks, as temperature and its kin are: none is kept here. */
static slm_status check_generation(const json_t *generation, const char *file, slm_error *err)
{
    static const char *const rules[] = {"suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
                                        "forced_decoder_ids", "bad_words_ids", "force_words_ids", "constraints", "sequence_bias",
                                        "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens",
                                        "exponential_decay_length_penalty", "stop_strings", "watermarking_config"};
    static const char *const factors[] = {"encoder_repetition_penalty", "guidance_scale"};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const json_t *v = json_object_get(generation, rules[i]);
        bool none = v == NULL || json_is_null(v) || json_is_false(v) || (json_is_array(v) && json_array_size(v) == 0) ||
                    (json_is_object(v) && json_object_size(v) == 0);
        bool zero = json_is_integer(v) && json_integer_value(v) == 0 && strstr(rules[i], "token_id") == NULL;
        if (!none && !zero)
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is a rule for answers, which is not supported", rules[i], file);
    }
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        const json_t *v = json_object_get(generation, factors[i]);
        if (v != NULL && !json_is_null(v) && !(json_is_number(v) && json_number_value(v) == 1))
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is a rule for answers, which is not supported", factors[i], file);
    }
    return SLM_OK;
}

static slm_status load_files(builder *b, slm_error *err)
{
    SLM_TRY(slm_hf_tokenizer_load(b->dir, b->reading.folder, !b->reading.bare, &b->tokenizer, err));
    if (b->reading.bare)
        return SLM_OK;
    SLM_TRY(slm_hf_load(b->dir, "tokenizer_config.json", 16u << 20, true, &b->config, err));
    SLM_TRY(slm_hf_load(b->dir, "generation_config.json", 1u << 20, true, &b->generation, err));
    if (!b->framed)
        SLM_TRY(check_generation(b->generation != NULL ? b->generation : b->model,
                                 b->generation != NULL ? "generation_config.json" : "config.json", err));
    if (b->tokenizer != NULL)
        return SLM_OK;
    return slm_hf_vocab_make(b->dir, b->model, &b->config, b->vocab.stop, &b->tokenizer, &b->made_of, err);
}

/* A document that was made here is called by the file that it was made of. */
static void name_file(const builder *b, slm_error *err)
{
    static const char quoted[] = "\"tokenizer.json\"";
    slm_error said;
    char *at = b->made_of != NULL && err != NULL ? strstr(err->message, quoted) : NULL;
    if (at == NULL)
        return;
    said = *err;
    snprintf(at, sizeof err->message - (size_t) (at - err->message), "\"%s\"%s", b->made_of,
             said.message + (at - err->message) + sizeof quoted - 1);
}

static slm_status build(builder *b, void **blob, size_t *bytes, slm_error *err)
{
    size_t length;
    SLM_TRY(load_files(b, err));
    b->tokens = calloc(b->n_vocab, sizeof *b->tokens);
    b->types = malloc(b->n_vocab * sizeof *b->types);
    b->added = calloc(b->n_vocab, 1);
    if (b->tokens == NULL || b->types == NULL || b->added == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0; i < b->n_vocab; i++)
        b->types[i] = SLM_TOKEN_NORMAL;
    if (b->tokenizer != NULL) {
        SLM_TRY(take_model(b, err));
    } else {
        SLM_TRY(slm_hf_read_text(b->dir, "vocab.txt", 16u << 20, true, &b->vocab_txt, &length, err));
        if (b->vocab_txt == NULL) {
            slm_fail(err, SLM_FORMAT, "the model directory holds neither tokenizer.json nor vocab.txt, nor another vocabulary");
            return slm_hint(err, "Save the tokenizer beside the model with tokenizer.save_pretrained(directory).");
        }
        SLM_TRY(take_vocab_txt(b, err));
        b->vocab.kind = SLM_TOK_WORDPIECE;
    }
    SLM_TRY(check_side(b, err));
    SLM_TRY(b->tokenizer != NULL ? check_all_specials(b, err) : SLM_OK);
    SLM_TRY(take_specials(b, err));
    SLM_TRY(take_template(b, err));
    if (b->vocab.kind == SLM_TOK_WORDPIECE)
        SLM_TRY(make_wordpiece(b, err));
    if (b->vocab.kind == SLM_TOK_UNIGRAM)
        SLM_TRY(reserve(b, 24 * (size_t) b->n_vocab, err));
    fill_holes(b);
    b->vocab.tokens = b->tokens;
    b->vocab.types = b->types;
    b->vocab.scores = b->scores;
    b->vocab.n_tokens = b->n_vocab;
    b->vocab.added = b->added;
    b->vocab.merges = b->merges;
    b->vocab.n_merges = b->n_merges;
    return slm_tokenizer_build(&b->vocab, b->chat_format, blob, bytes, err);
}

slm_status slm_hf_vocab_build(int dir, json_t *model, const slm_hparams *hp, slm_hf_reading reading, const slm_import_options *options,
                              const volatile int *stop, void **blob, size_t *bytes, slm_error *err)
{
    builder b = {.dir = dir, .model = model, .n_vocab = hp->n_vocab, .n_token_types = hp->n_token_types, .framed = !hp->causal,
                 .reading = reading, .chat_format = options != NULL ? options->chat_format : NULL,
                 .vocab = {.stop = stop, .unk = -1, .whole_words = -1, .end_text = options != NULL ? options->eos : NULL},
                 .shape = {.second_type = 1}};
    slm_status status = build(&b, blob, bytes, err);
    if (status != SLM_OK)
        name_file(&b, err);
    free_builder(&b);
    return status;
}
