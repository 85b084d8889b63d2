/*
 * tokenizer.json to slm_vocab.
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

#include "engine/import/hf/json.h"
#include "engine/text/tokenizer.h"

#define MAX_TOKENIZER_BYTES (128u << 20)
#define MAX_TOKEN_BYTES (1u << 16)
#define MAX_MERGES (1u << 21)

typedef struct builder {
    int dir;
    uint32_t n_vocab;
    const char *chat_format; /* forced by name, or NULL */
    json_t *model;       /* config.json, borrowed */
    json_t *tokenizer, *config, *generation; /* tokenizer.json, tokenizer_config.json, generation_config.json */
    int32_t ends[SLM_VOCAB_MAX_ENDS];
    char *vocab_txt, *template_text;
    slm_bytes *tokens;   /* [n_vocab], data NULL = not given yet */
    int32_t *types;      /* [n_vocab] */
    float *scores;       /* [n_vocab], SentencePiece only */
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

static slm_status take_added(builder *b, slm_error *err)
{
    json_t *added = json_object_get(b->tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *entry = json_array_get(added, i), *id = json_object_get(entry, "id"), *content = json_object_get(entry, "content");
        if (!json_is_integer(id) || !json_is_string(content))
            return slm_fail(err, SLM_FORMAT, "\"tokenizer.json\" has an added token without id or content");
        SLM_TRY(set_token(b, json_integer_value(id), json_string_value(content), json_string_length(content), "tokenizer.json", err));
        b->types[json_integer_value(id)] = json_is_true(json_object_get(entry, "special")) ? SLM_TOKEN_CONTROL : SLM_TOKEN_USER_DEFINED;
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

typedef struct sorted_token {
    slm_bytes text;
    uint32_t id;
} sorted_token;

static int compare_bytes(slm_bytes a, slm_bytes b)
{
    int c = memcmp(a.data, b.data, a.length < b.length ? a.length : b.length);
    return c != 0 ? c : a.length < b.length ? -1 : a.length > b.length;
}

static int by_text(const void *a, const void *b)
{
    return compare_bytes(((const sorted_token *) a)->text, ((const sorted_token *) b)->text);
}

/* SentencePiece merges any neighbours whose union is a piece, best score first: minus the rank of the first merge that makes it. */
static slm_status scores_of_merges(builder *b, slm_error *err)
{
    char joined[2048];
    size_t n_sorted = 0;
    sorted_token *sorted = malloc((b->n_vocab + 1) * sizeof *sorted);
    b->scores = malloc(b->n_vocab * sizeof *b->scores);
    if (sorted == NULL || b->scores == NULL) {
        free(sorted);
        return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < b->n_vocab; i++) {
        if (b->tokens[i].data != NULL)
            sorted[n_sorted++] = (sorted_token){b->tokens[i], i};
        b->scores[i] = -1e7f; /* not made by any merge */
    }
    qsort(sorted, n_sorted, sizeof *sorted, by_text);
    for (size_t r = b->n_merges; r-- > 0;) {
        const char *space = memchr(b->merges[r].data, ' ', b->merges[r].length);
        size_t n_left = space != NULL ? (size_t) (space - b->merges[r].data) : 0, n = b->merges[r].length - 1;
        if (space == NULL || n > sizeof joined)
            continue;
        memcpy(joined, b->merges[r].data, n_left);
        memcpy(joined + n_left, space + 1, n - n_left);
        sorted_token key = {{joined, n}, 0};
        sorted_token *found = bsearch(&key, sorted, n_sorted, sizeof *sorted, by_text);
        if (found != NULL)
            b->scores[found->id] = -(float) r;
    }
    free(sorted);
    return SLM_OK;
}

/* ---- pre-tokenizers ---- */

/* Does any member of a pre-tokenizer (or normalizer), nested sequences included, have this type? */
static json_t *find_type(json_t *node, const char *type, int depth)
{
    const char *own = json_string_value(json_object_get(node, "type"));
    json_t *list = json_object_get(node, "pretokenizers");
    if (own != NULL && strcmp(own, type) == 0)
        return node;
    if (list == NULL)
        list = json_object_get(node, "normalizers");
    for (size_t i = 0; depth < 4 && i < json_array_size(list); i++) {
        json_t *found = find_type(json_array_get(list, i), type, depth + 1);
        if (found != NULL)
            return found;
    }
    return NULL;
}

/* Split patterns by the pre-tokenizer's name in GGUF. */
static const char *const split_patterns[][2] = {
    {"llama-bpe",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen2",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"gpt-4o",
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
     "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
};

static slm_status recognize_pre(builder *b, slm_error *err)
{
    json_t *pre = json_object_get(b->tokenizer, "pre_tokenizer");
    json_t *byte_level = find_type(pre, "ByteLevel", 0), *split = find_type(pre, "Split", 0), *digits = find_type(pre, "Digits", 0);
    const char *regex = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex")), *name = NULL;
    if (byte_level == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "the pre-tokenizer in \"tokenizer.json\" is not supported: it is not byte-level");
    if (json_is_true(json_object_get(byte_level, "add_prefix_space")))
        return slm_fail(err, SLM_UNSUPPORTED, "the pre-tokenizer in \"tokenizer.json\" adds a space in front, which is not supported");
    for (size_t i = 0; regex != NULL && i < sizeof split_patterns / sizeof split_patterns[0]; i++)
        if (strcmp(regex, split_patterns[i][1]) == 0)
            name = split_patterns[i][0];
    if (split == NULL && digits != NULL && json_is_true(json_object_get(digits, "individual_digits")))
        name = "smollm";
    else if (split == NULL && digits == NULL && !json_is_false(json_object_get(byte_level, "use_regex")))
        name = "gpt-2";
    if (name == NULL) {
        slm_fail(err, SLM_UNSUPPORTED, "the pre-tokenizer in \"tokenizer.json\" is not known here");
        return slm_hint(err, "Its pattern is: %.200s", regex != NULL ? regex : "(none)");
    }
    snprintf(b->vocab.pre, sizeof b->vocab.pre, "%s", name);
    return SLM_OK;
}

/* ---- the three kinds ---- */

static slm_status make_spm(builder *b, slm_error *err)
{
    json_t *normalizer = json_object_get(b->tokenizer, "normalizer"), *pre = json_object_get(b->tokenizer, "pre_tokenizer");
    json_t *metaspace = find_type(pre, "Metaspace", 0);
    const char *scheme = json_string_value(json_object_get(metaspace, "prepend_scheme"));
    b->vocab.kind = SLM_TOK_SPM;
    b->vocab.add_space_prefix = find_type(normalizer, "Prepend", 0) != NULL || (scheme != NULL && strcmp(scheme, "never") != 0) ||
                                (scheme == NULL && json_is_true(json_object_get(metaspace, "add_prefix_space")));
    for (uint32_t i = 0; i < b->n_vocab; i++)
        if (b->types[i] == SLM_TOKEN_NORMAL && b->tokens[i].length == 6 && memcmp(b->tokens[i].data, "<0x", 3) == 0 &&
            b->tokens[i].data[5] == '>')
            b->types[i] = SLM_TOKEN_BYTE;
    return scores_of_merges(b, err);
}

static slm_status make_bpe(builder *b, json_t *model, slm_error *err)
{
    json_t *normalizer = json_object_get(b->tokenizer, "normalizer");
    SLM_TRY(take_merges(b, json_object_get(model, "merges"), err));
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return make_spm(b, err);
    b->vocab.kind = SLM_TOK_BPE;
    if (normalizer != NULL && !json_is_null(normalizer) && find_type(normalizer, "NFC", 0) == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "the normalizer in \"tokenizer.json\" is not supported for byte-level BPE");
    return recognize_pre(b, err);
}

static slm_status check_bert_steps(builder *b, json_t *model, slm_error *err)
{
    json_t *normalizer = json_object_get(b->tokenizer, "normalizer"), *pre = json_object_get(b->tokenizer, "pre_tokenizer");
    const char *prefix = json_string_value(json_object_get(model, "continuing_subword_prefix"));
    json_t *longest = json_object_get(model, "max_input_chars_per_word"), *strip = json_object_get(normalizer, "strip_accents");
    if (normalizer == NULL || pre == NULL || find_type(normalizer, "BertNormalizer", 0) != normalizer ||
        find_type(pre, "BertPreTokenizer", 0) != pre)
        return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" does not use BERT's normalizer and pre-tokenizer");
    if (json_is_false(json_object_get(normalizer, "handle_chinese_chars")) || json_is_false(json_object_get(normalizer, "clean_text")) ||
        (prefix != NULL && strcmp(prefix, "##") != 0) || (json_is_integer(longest) && json_integer_value(longest) != 100))
        return slm_fail(err, SLM_UNSUPPORTED, "\"tokenizer.json\" changes settings of WordPiece that are fixed here");
    b->vocab.lowercase = json_is_true(json_object_get(normalizer, "lowercase"));
    /* null: accents are stripped when text is lowercased */
    b->vocab.strip_accents = json_is_boolean(strip) ? json_is_true(strip) : b->vocab.lowercase;
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

/* "bos_token": "<s>" or {"content": "<s>", ...} */
static const char *special_name(const builder *b, const char *key)
{
    json_t *v = json_object_get(b->config, key);
    return json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
}

static int32_t special_id(const builder *b, const char *key, const char *fallback)
{
    int32_t id = id_of(b, special_name(b, key));
    return id >= 0 ? id : id_of(b, fallback);
}

/* Does the post-processor put this token first (begin) or last? It may be one of a sequence. */
static bool post_processor_adds(json_t *post, const char *token, bool begin, int depth)
{
    json_t *single = json_object_get(post, "single"), *list = json_object_get(post, "processors");
    for (size_t i = 0; depth < 4 && i < json_array_size(list); i++)
        if (post_processor_adds(json_array_get(list, i), token, begin, depth + 1))
            return true;
    if (token == NULL || json_array_size(single) == 0)
        return false;
    json_t *item = json_object_get(json_array_get(single, begin ? 0 : json_array_size(single) - 1), "SpecialToken");
    const char *id = json_string_value(json_object_get(item, "id"));
    return id != NULL && strcmp(id, token) == 0;
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

static slm_status take_specials(builder *b, slm_error *err)
{
    slm_hf_json config = {b->config, "tokenizer_config.json"};
    json_t *post = json_object_get(b->tokenizer, "post_processor");
    slm_vocab *v = &b->vocab;
    bool wordpiece = v->kind == SLM_TOK_WORDPIECE;
    v->bos = special_id(b, "bos_token", wordpiece ? NULL : "<s>");
    v->eos = special_id(b, "eos_token", wordpiece ? NULL : "</s>");
    v->unk = special_id(b, "unk_token", wordpiece ? "[UNK]" : NULL);
    v->pad = special_id(b, "pad_token", wordpiece ? "[PAD]" : NULL);
    v->sep = special_id(b, "sep_token", wordpiece ? "[SEP]" : NULL);
    v->cls = special_id(b, "cls_token", wordpiece ? "[CLS]" : NULL);
    v->mask = special_id(b, "mask_token", wordpiece ? "[MASK]" : NULL);
    v->eot = -1;
    SLM_TRY(take_ends(b, err));
    v->add_bos = post_processor_adds(post, special_name(b, "bos_token"), true, 0);
    v->add_eos = post_processor_adds(post, special_name(b, "eos_token"), false, 0);
    SLM_TRY(slm_hf_bool(config, "add_bos_token", &v->add_bos, err));
    SLM_TRY(slm_hf_bool(config, "add_eos_token", &v->add_eos, err));
    v->add_bos = v->add_bos && v->bos >= 0;
    v->add_eos = v->add_eos && v->eos >= 0;
    if (wordpiece && (v->cls < 0 || v->sep < 0 || v->unk < 0))
        return slm_fail(err, SLM_FORMAT, "the vocabulary lacks [CLS], [SEP] or [UNK]");
    if (v->unk >= 0 && b->types[v->unk] == SLM_TOKEN_NORMAL)
        b->types[v->unk] = SLM_TOKEN_UNKNOWN;
    return SLM_OK;
}

/* chat_template of tokenizer_config.json (a string, or a list with one named "default"), or the file chat_template.jinja. */
static slm_status take_template(builder *b, slm_error *err)
{
    json_t *t = json_object_get(b->config, "chat_template");
    size_t length;
    for (size_t i = 0; i < json_array_size(t); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(t, i), "name"));
        if (name != NULL && strcmp(name, "default") == 0) {
            b->vocab.chat_template = json_string_value(json_object_get(json_array_get(t, i), "template"));
            return SLM_OK;
        }
    }
    b->vocab.chat_template = json_string_value(t);
    if (b->vocab.chat_template != NULL)
        return SLM_OK;
    SLM_TRY(slm_hf_read_text(b->dir, "chat_template.jinja", 1u << 20, true, &b->template_text, &length, err));
    b->vocab.chat_template = b->template_text;
    return SLM_OK;
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

static slm_status take_model(builder *b, slm_error *err)
{
    json_t *model = json_object_get(b->tokenizer, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type == NULL)
        type = json_object_get(model, "merges") != NULL ? "BPE" : "unknown";
    if (strcmp(type, "BPE") != 0 && strcmp(type, "WordPiece") != 0) {
        slm_fail(err, SLM_UNSUPPORTED, "tokenizers of the type \"%.40s\" in \"tokenizer.json\" are not supported", type);
        return slm_hint(err, "Supported: BPE and WordPiece.");
    }
    SLM_TRY(take_vocab(b, json_object_get(model, "vocab"), err));
    SLM_TRY(take_added(b, err));
    if (strcmp(type, "BPE") == 0)
        return make_bpe(b, model, err);
    SLM_TRY(check_bert_steps(b, model, err));
    b->vocab.kind = SLM_TOK_WORDPIECE;
    return SLM_OK;
}

static slm_status build(builder *b, void **blob, size_t *bytes, slm_error *err)
{
    size_t length;
    SLM_TRY(slm_hf_load(b->dir, "tokenizer.json", MAX_TOKENIZER_BYTES, true, &b->tokenizer, err));
    SLM_TRY(slm_hf_load(b->dir, "tokenizer_config.json", 16u << 20, true, &b->config, err));
    SLM_TRY(slm_hf_load(b->dir, "generation_config.json", 1u << 20, true, &b->generation, err));
    b->tokens = calloc(b->n_vocab, sizeof *b->tokens);
    b->types = malloc(b->n_vocab * sizeof *b->types);
    if (b->tokens == NULL || b->types == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0; i < b->n_vocab; i++)
        b->types[i] = SLM_TOKEN_NORMAL;
    if (b->tokenizer != NULL) {
        SLM_TRY(take_model(b, err));
    } else {
        SLM_TRY(slm_hf_read_text(b->dir, "vocab.txt", 16u << 20, true, &b->vocab_txt, &length, err));
        if (b->vocab_txt == NULL) {
            slm_fail(err, SLM_FORMAT, "the model directory holds neither tokenizer.json nor vocab.txt");
            return slm_hint(err, "Save the tokenizer beside the model with tokenizer.save_pretrained(directory).");
        }
        SLM_TRY(take_vocab_txt(b, err));
        b->vocab.kind = SLM_TOK_WORDPIECE;
    }
    SLM_TRY(take_specials(b, err));
    SLM_TRY(take_template(b, err));
    if (b->vocab.kind == SLM_TOK_WORDPIECE)
        SLM_TRY(make_wordpiece(b, err));
    fill_holes(b);
    b->vocab.tokens = b->tokens;
    b->vocab.types = b->types;
    b->vocab.scores = b->scores;
    b->vocab.n_tokens = b->n_vocab;
    b->vocab.merges = b->vocab.kind == SLM_TOK_BPE ? b->merges : NULL;
    b->vocab.n_merges = b->vocab.kind == SLM_TOK_BPE ? b->n_merges : 0;
    return slm_tokenizer_build(&b->vocab, b->chat_format, blob, bytes, err);
}

slm_status slm_hf_vocab_build(int dir, json_t *model, uint32_t n_vocab, const char *chat_format, const volatile int *stop, void **blob,
                              size_t *bytes, slm_error *err)
{
    builder b = {.dir = dir, .model = model, .n_vocab = n_vocab, .chat_format = chat_format, .vocab.stop = stop};
    slm_status status = build(&b, blob, bytes, err);
    free_builder(&b);
    return status;
}
