/*
 * Which class reads a directory without tokenizer.json, what it assumes, and what it adds: control tokens and a frame.
 *
 * Order of added tokens (it decides the ids of those that the vocabulary lacks): those of the vocabulary's file; added_tokens_decoder by
 * id; the named ones, bos_token to mask_token and then others; lists of more.  Without added_tokens_decoder, added_tokens.json and
 * special_tokens_map.json count in its place.  As in transformers 5 (tokenization_auto.py, tokenization_utils_tokenizers.py).
 */
#include "engine/import/hf/vocab_made.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/import/hf/json.h"

enum { BOS, EOS, UNK, SEP, PAD, CLS, MASK, N_NAMES };
static const char *const name_keys[N_NAMES] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

/* Frames: A and B are the texts, other words special tokens; ":1" is the token type. */
typedef struct frame {
    const char *single, *pair;
    bool always; /* add_bos_token and add_eos_token change nothing */
} frame;

static const frame by_flags = {NULL, NULL, false}, roberta_frame = {"cls A sep", "cls A sep sep B sep", true},
                   xlmr_frame = {"bos A eos", "bos A eos eos B eos", true}, bert_frame = {"cls A sep", "cls A sep B:1 sep:1", true},
                   albert_frame = {"cls A sep", "cls A sep B:1 sep:1", false};

struct slm_hf_class {
    const char *name;
    const char *file; /* where none is there that every class takes; NULL: none */
    slm_status (*read)(slm_hf_made *m, slm_error *err); /* of that file */
    bool spm, tiktoken, tekken; /* of those that every class takes: what it makes a vocabulary of */
    const frame *frame;
    const char *names[N_NAMES]; /* assumed */
};

#define EOT "<|endoftext|>"
static const slm_hf_class classes[] = {
    {"TokenizersBackend", NULL, NULL, true, true, true, &by_flags, {NULL}},
    {"LlamaTokenizer", NULL, NULL, true, true, false, &by_flags, {"<s>", "</s>", "<unk>"}},
    {"GemmaTokenizer", NULL, NULL, true, false, false, &by_flags, {"<bos>", "<eos>", "<unk>", NULL, "<pad>", NULL, "<mask>"}},
    {"XLMRobertaTokenizer", "sentencepiece.bpe.model", slm_hf_read_spm, true, false, false, &xlmr_frame,
     {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}},
    {"CamembertTokenizer", "sentencepiece.bpe.model", slm_hf_read_spm, true, false, false, &xlmr_frame,
     {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}},
    {"AlbertTokenizer", "spiece.model", slm_hf_read_spm, true, false, false, &albert_frame,
     {"[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"}},
    {"DebertaV2Tokenizer", "spm.model", slm_hf_read_spm, true, false, false, &bert_frame,
     {"[CLS]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"}},
    {"RobertaTokenizer", "vocab.json", slm_hf_read_merges, false, false, false, &roberta_frame,
     {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}},
    {"GPT2Tokenizer", "vocab.json", slm_hf_read_merges, false, false, false, &by_flags, {EOT, EOT, EOT}},
    {"GPTNeoXTokenizer", "vocab.json", slm_hf_read_merges, false, false, false, &by_flags, {EOT, EOT, EOT, NULL, "<|padding|>"}},
    {"Qwen2Tokenizer", "vocab.json", slm_hf_read_merges, false, false, false, &by_flags, {NULL, EOT, EOT, NULL, EOT}},
};

/* The class of a model type, where transformers has one.  firm: whatever the files say. */
static const struct {
    const char *model_type, *class;
    bool firm;
} registered[] = {
    {"albert", "AlbertTokenizer", false}, {"bert", "BertTokenizer", false}, {"camembert", "CamembertTokenizer", false},
    {"deberta-v2", "DebertaV2Tokenizer", false}, {"distilbert", "BertTokenizer", false}, {"electra", "BertTokenizer", false},
    {"gemma", "GemmaTokenizer", false}, {"gemma2", "GemmaTokenizer", false}, {"gemma3", "GemmaTokenizer", false},
    {"gemma3_text", "GemmaTokenizer", false}, {"gemma3n", "GemmaTokenizer", false}, {"gemma3n_text", "GemmaTokenizer", false},
    {"gpt2", "GPT2Tokenizer", false}, {"gpt_neox", "GPTNeoXTokenizer", false}, {"granite", "TokenizersBackend", false},
    {"granitemoe", "TokenizersBackend", false}, {"granitemoehybrid", "TokenizersBackend", false}, {"gte", "XLMRobertaTokenizer", false},
    {"ministral", "TokenizersBackend", false}, {"ministral3", "TokenizersBackend", false}, {"mistral", "TokenizersBackend", false},
    {"mistral3", "TokenizersBackend", false}, {"modernbert", "TokenizersBackend", true}, {"mpnet", "MPNetTokenizer", false},
    {"nomic_bert", "BertTokenizer", false}, {"olmo2", "TokenizersBackend", false}, {"olmo3", "TokenizersBackend", false},
    {"olmoe", "GPTNeoXTokenizer", false}, {"phi", "GPT2Tokenizer", false}, {"phi3", "TokenizersBackend", true},
    {"qwen2", "Qwen2Tokenizer", true}, {"qwen3", "Qwen2Tokenizer", false}, {"qwen3_moe", "Qwen2Tokenizer", false},
    {"qwen3_5", "Qwen3_5Tokenizer", true}, {"qwen3_5_text", "Qwen3_5Tokenizer", false}, {"roberta", "RobertaTokenizer", false},
    {"stablelm", "TokenizersBackend", false}, {"xlm-roberta", "XLMRobertaTokenizer", false}};

/* ---- small helpers ---- */

slm_status slm_hf_put(json_t *object, const char *key, json_t *value, slm_error *err)
{
    return json_object_set_new(object, key, value) == 0 ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
}

slm_status slm_hf_append(json_t *list, json_t *value, slm_error *err)
{
    return json_array_append_new(list, value) == 0 ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
}

json_t *slm_hf_part(const char *type)
{
    return json_pack("{s:s}", "type", type);
}

const char *slm_hf_made_class(const slm_hf_made *m)
{
    return m->class->name;
}

/* "<s>" or {"content": "<s>", ...} */
static const char *text_of(json_t *token)
{
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

const char *slm_hf_made_text(const slm_hf_made *m, const char *key)
{
    return text_of(json_object_get(m->config, key));
}

slm_status slm_hf_made_name(slm_hf_made *m, const char *key, const char *text, slm_error *err)
{
    return json_object_get(m->config, key) != NULL ? SLM_OK : slm_hf_put(m->config, key, json_string(text), err);
}

slm_status slm_hf_made_add(slm_hf_made *m, const char *content, bool special, slm_error *err)
{
    return slm_hf_append(m->added, json_pack("{s:s, s:b, s:b}", "content", content, "special", special, "normalized", 0), err);
}

slm_status slm_hf_byte_level(slm_hf_made *m, bool nfc, const char *pattern, bool prefix_space, slm_error *err)
{
    json_t *level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix_space, "trim_offsets", 1,
                              "use_regex", pattern == NULL);
    if (pattern != NULL)
        level = json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Split", "pattern",
                          "Regex", pattern, "behavior", "Isolated", "invert", 0, level);
    if (nfc)
        SLM_TRY(slm_hf_put(m->tokenizer, "normalizer", slm_hf_part("NFC"), err));
    return slm_hf_put(m->tokenizer, "pre_tokenizer", level, err);
}

/* ---- the class, and its file ---- */

static bool is_plain(const char *class)
{
    return strcmp(class, "TokenizersBackend") == 0 || strcmp(class, "PreTrainedTokenizer") == 0;
}

/* The name of the class that reads the directory, without "Fast", in out[64]. */
static void choose_class(json_t *model, json_t *config, char *out)
{
    const char *type = json_string_value(json_object_get(model, "model_type")), *own = NULL;
    const char *said = json_string_value(json_object_get(config, "tokenizer_class"));
    bool firm = false;
    if (said == NULL || said[0] == '\0')
        said = json_string_value(json_object_get(model, "tokenizer_class"));
    for (size_t i = 0; type != NULL && i < sizeof registered / sizeof registered[0]; i++)
        if (strcmp(type, registered[i].model_type) == 0) {
            own = registered[i].class;
            firm = registered[i].firm;
        }
    snprintf(out, 64, "%.63s", said != NULL && !firm && (own == NULL || !is_plain(own)) ? said : own != NULL ? own : "TokenizersBackend");
    size_t n = strlen(out);
    if (n > 4 && strcmp(out + n - 4, "Fast") == 0)
        out[n - 4] = '\0';
    if (is_plain(out))
        strcpy(out, "TokenizersBackend");
}

static slm_status is_there(int dir, const char *name, bool *there, slm_error *err)
{
    int fd;
    uint64_t bytes;
    SLM_TRY(slm_hf_open_file(dir, name, true, &fd, &bytes, err));
    *there = fd >= 0;
    if (fd >= 0)
        close(fd);
    return SLM_OK;
}

/* tiktoken's format is text, a letter of base 64 first; SentencePiece's begins with a tag. */
static slm_status is_text(int dir, const char *name, bool *text, slm_error *err)
{
    int fd;
    uint64_t bytes;
    char first = 0;
    SLM_TRY(slm_hf_open_file(dir, name, false, &fd, &bytes, err));
    slm_status status = bytes > 0 ? slm_hf_pread(fd, name, 0, &first, 1, err) : SLM_OK;
    close(fd);
    *text = first >= '+' && first <= 'z';
    return status;
}

static slm_status wrong_file(const char *class, const char *file, slm_error *err)
{
    slm_fail(err, SLM_UNSUPPORTED, "the model directory has no tokenizer.json, and tokenizers of the class %s do not read \"%s\"", class,
             file);
    return slm_hint(err, "Load the tokenizer with transformers where it can be loaded, and save it beside the model with "
                         "tokenizer.save_pretrained(directory).");
}

/* A vocabulary that the class does not read is named where there is no other. */
static slm_status name_others(int dir, const char *class, slm_error *err)
{
    static const char *const files[] = {"vocab.txt", "vocab.json", "tekken.json", "tokenizer.model", "tiktoken.model", "qwen.tiktoken",
                                        "spiece.model", "sentencepiece.bpe.model", "spm.model", "source.spm"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        bool there;
        SLM_TRY(is_there(dir, files[i], &there, err));
        if (there)
            return i == 0 ? SLM_OK : wrong_file(class, files[i], err);
    }
    return SLM_OK;
}

/* The reader of the file that every class takes where it is there, whatever its own is called. */
static slm_status choose_common(slm_hf_made *m, slm_status (**read)(slm_hf_made *m, slm_error *err), slm_error *err)
{
    static const char *const common[] = {"tekken.json", "tokenizer.model", "tiktoken.model"};
    const slm_hf_class *c = m->class;
    bool there, text = true, good;
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++) {
        SLM_TRY(is_there(m->dir, common[i], &there, err));
        if (there && m->file != NULL)
            return slm_fail(err, SLM_UNSUPPORTED, "the model directory has no tokenizer.json, but both \"%s\" and \"%s\": which of them "
                                                  "counts is not said", m->file, common[i]);
        m->file = there ? common[i] : m->file;
    }
    if (m->file == NULL)
        return SLM_OK;
    if (m->file == common[1])
        SLM_TRY(is_text(m->dir, m->file, &text, err));
    good = m->file == common[0] ? c->tekken : text ? c->tiktoken : c->spm;
    *read = m->file == common[0] ? slm_hf_read_tekken : text ? slm_hf_read_tiktoken : slm_hf_read_spm;
    return good ? SLM_OK : wrong_file(c->name, m->file, err);
}

/* Settings that would have the class do something else, or take code that is not there. */
static slm_status check_config(json_t *config, slm_error *err)
{
    static const char *const keys[] = {"auto_map", "fast_tokenizer_files", "init_inputs", "split_special_tokens", "fix_mistral_regex",
        "vocab", "merges", "tokenizer_object", "post_processor", "tokenizer_truncation", "tokenizer_padding", "gguf_file", "split_by_punct",
        "unk_id", "_spm_precompiled_charsmap"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *v = json_object_get(config, keys[i]);
        bool empty = v == NULL || json_is_null(v) || json_is_false(v) || (json_is_array(v) && json_array_size(v) == 0);
        if (!empty)
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"tokenizer_config.json\" is not supported without tokenizer.json", keys[i]);
    }
    return SLM_OK;
}

/* ---- what other files say of special tokens ---- */

/* Lists of special tokens as the library renames them: "additional_special_tokens" is "extra_special_tokens" where that is empty. */
static slm_status rename_extras(json_t *config, slm_error *err)
{
    json_t *extra = json_object_get(config, "extra_special_tokens"), *more = json_object_get(config, "additional_special_tokens");
    if (more == NULL || json_array_size(extra) > 0 || json_object_size(extra) > 0)
        return SLM_OK;
    SLM_TRY(slm_hf_put(config, "extra_special_tokens", json_incref(more), err));
    json_object_del(config, "additional_special_tokens");
    return SLM_OK;
}

static slm_status take_map(slm_hf_made *m, json_t *map, slm_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        json_t *extra = json_object_get(m->config, key);
        if (strcmp(key, "extra_special_tokens") != 0 || !json_is_array(value) || !json_is_array(extra))
            SLM_TRY(slm_hf_put(m->config, key, json_incref(value), err));
        else if (json_array_extend(extra, value) != 0)
            return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    return SLM_OK;
}

/* added_tokens.json in the form of added_tokens_decoder. */
static slm_status take_added_file(slm_hf_made *m, json_t *file, json_t *decoder, slm_error *err)
{
    const char *text;
    char id[24];
    json_t *value, *extra = json_object_get(m->config, "extra_special_tokens"), *entry;
    size_t i;
    json_object_foreach(file, text, value)
    {
        bool special = false;
        for (size_t k = 0; k < N_NAMES; k++) {
            const char *name = slm_hf_made_text(m, name_keys[k]);
            special = special || (name != NULL && strcmp(name, text) == 0);
        }
        json_array_foreach(extra, i, entry)
            special = special || (text_of(entry) != NULL && strcmp(text_of(entry), text) == 0);
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return slm_fail(err, SLM_FORMAT, "\"added_tokens.json\" gives a token an id that is none");
        snprintf(id, sizeof id, "%lld", (long long) json_integer_value(value));
        SLM_TRY(slm_hf_put(decoder, id, json_pack("{s:s, s:b, s:b}", "content", text, "special", special, "normalized", !special), err));
    }
    return SLM_OK;
}

/* The older files where tokenizer_config.json does not list added tokens. */
static slm_status take_older_files(slm_hf_made *m, slm_error *err)
{
    json_t *map = NULL, *added = NULL, *decoder = json_object_get(m->config, "added_tokens_decoder");
    if (json_is_object(decoder))
        return SLM_OK;
    if (decoder != NULL && !json_is_null(decoder))
        return slm_fail(err, SLM_FORMAT, "\"added_tokens_decoder\" in \"tokenizer_config.json\" is no object");
    SLM_TRY(slm_hf_load(m->dir, "special_tokens_map.json", 1u << 20, true, &map, err));
    slm_status status = take_map(m, map, err);
    json_decref(map);
    SLM_TRY(status);
    SLM_TRY(slm_hf_load(m->dir, "added_tokens.json", 1u << 20, true, &added, err));
    if (added == NULL)
        return SLM_OK;
    status = slm_hf_put(m->config, "added_tokens_decoder", json_object(), err);
    if (status == SLM_OK)
        status = take_added_file(m, added, json_object_get(m->config, "added_tokens_decoder"), err);
    json_decref(added);
    return status;
}

/* ---- added tokens ---- */

typedef struct adding {
    slm_hf_made *m;
    json_t *index;     /* text -> id of the model's tokens; owned */
    json_t *list;      /* "added_tokens" of the document */
    json_t *seen;      /* text -> entry of the list; owned */
    json_int_t size, last; /* tokens of the model; the largest id of an added one, -1 = none yet */
} adding;

static json_int_t id_of(const adding *a, const char *text)
{
    json_t *entry = json_object_get(a->seen, text), *id = json_object_get(a->index, text);
    return entry != NULL ? json_integer_value(json_object_get(entry, "id")) : id != NULL ? json_integer_value(id) : -1;
}

static bool is_named(const slm_hf_made *m, const char *text)
{
    const char *key;
    json_t *value;
    json_object_foreach(m->config, key, value)
    {
        size_t n = strlen(key);
        const char *name = n > 6 && strcmp(key + n - 6, "_token") == 0 ? text_of(value) : NULL;
        if (name != NULL && strcmp(name, text) == 0)
            return true;
    }
    return false;
}

/* One more token: by its id in the vocabulary, else the next one.  What has been added stays as it is, but for `again`.  flags: an
 * AddedToken, or NULL. */
static slm_status add_token(adding *a, const char *text, json_t *flags, bool special, bool again, slm_error *err)
{
    static const char *const more[] = {"lstrip", "rstrip", "single_word"};
    if (text == NULL)
        return slm_fail(err, SLM_FORMAT, "a special token in \"tokenizer_config.json\" or the files beside it has no text");
    json_t *normalized = json_object_get(flags, "normalized"), *entry = json_object_get(a->seen, text);
    if (text[0] == '\0' || (entry != NULL && !again))
        return SLM_OK;
    special = special || json_is_true(json_object_get(flags, "special")) || is_named(a->m, text);
    if (special && strchr("<[", text[0]) == NULL) /* the library would look for the word in texts, which is never done here */
        return slm_fail(err, SLM_UNSUPPORTED, "the files beside \"%s\" make the word \"%.60s\" a special token, which is not supported",
                        a->m->file, text);
    bool plain = json_is_boolean(normalized) ? json_is_true(normalized) : !special;
    if (entry == NULL) {
        json_int_t id = id_of(a, text);
        if (id < 0)
            id = a->last >= a->size ? a->last + 1 : a->size;
        a->last = id > a->last ? id : a->last;
        entry = json_pack("{s:I, s:s}", "id", id, "content", text);
        SLM_TRY(slm_hf_append(a->list, entry, err));
        SLM_TRY(slm_hf_put(a->seen, text, json_incref(entry), err));
    }
    SLM_TRY(slm_hf_put(entry, "special", json_boolean(special), err));
    SLM_TRY(slm_hf_put(entry, "normalized", json_boolean(plain && !a->m->raw), err));
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        SLM_TRY(slm_hf_put(entry, more[i], json_boolean(json_is_true(json_object_get(flags, more[i]))), err));
    return SLM_OK;
}

static slm_status add_listed(adding *a, json_t *list, bool special, slm_error *err)
{
    size_t i;
    json_t *token;
    json_array_foreach(list, i, token)
        SLM_TRY(add_token(a, text_of(token), json_is_object(token) ? token : NULL, special && json_is_string(token), false, err));
    return SLM_OK;
}

typedef struct numbered {
    json_int_t id;
    json_t *token;
} numbered;

static int by_id(const void *a, const void *b)
{
    const numbered *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static slm_status add_decoder(adding *a, json_t *decoder, slm_error *err)
{
    size_t n = 0;
    const char *key;
    json_t *token;
    numbered *tokens = malloc((json_object_size(decoder) + 1) * sizeof *tokens);
    slm_status status = tokens != NULL ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
    json_object_foreach(decoder, key, token)
    {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (status == SLM_OK && (key[0] < '0' || key[0] > '9' || *end != '\0' || !json_is_object(token)))
            status = slm_fail(err, SLM_FORMAT, "\"added_tokens_decoder\" in \"tokenizer_config.json\" is damaged");
        if (status == SLM_OK)
            tokens[n++] = (numbered){id, token};
    }
    if (status == SLM_OK)
        qsort(tokens, n, sizeof *tokens, by_id);
    for (size_t i = 0; status == SLM_OK && i < n; i++)
        status = add_token(a, text_of(tokens[i].token), tokens[i].token, false, true, err);
    free(tokens);
    return status;
}

/* bos_token to mask_token, then other keys "..._token", then an object of more. */
static slm_status add_named(adding *a, slm_error *err)
{
    json_t *config = a->m->config, *value, *more = json_object_get(config, "extra_special_tokens");
    const char *key;
    for (size_t i = 0; i < N_NAMES; i++) {
        value = json_object_get(config, name_keys[i]);
        if (value != NULL && !json_is_null(value))
            SLM_TRY(add_token(a, text_of(value), NULL, true, false, err));
    }
    if (more != NULL && !json_is_null(more) && !json_is_array(more) && !json_is_object(more))
        return slm_fail(err, SLM_FORMAT, "\"extra_special_tokens\" in \"tokenizer_config.json\" is no list");
    json_object_foreach(config, key, value)
    {
        size_t n = strlen(key);
        if (n > 6 && strcmp(key + n - 6, "_token") == 0 && text_of(value) != NULL)
            SLM_TRY(add_token(a, text_of(value), NULL, true, false, err));
    }
    json_object_foreach(more, key, value)
        SLM_TRY(add_token(a, text_of(value), NULL, true, false, err));
    return SLM_OK;
}

/* Text -> id of the model's tokens. */
static slm_status index_model(adding *a, slm_error *err)
{
    json_t *vocab = json_object_get(json_object_get(a->m->tokenizer, "model"), "vocab"), *piece;
    size_t i;
    if (json_is_object(vocab)) {
        a->index = json_incref(vocab);
        a->size = (json_int_t) json_object_size(vocab);
        return SLM_OK;
    }
    a->index = json_object();
    a->size = (json_int_t) json_array_size(vocab);
    json_array_foreach(vocab, i, piece)
        SLM_TRY(slm_hf_put(a->index, json_string_value(json_array_get(piece, 0)), json_integer((json_int_t) i), err));
    return SLM_OK;
}

static slm_status add_all(adding *a, slm_error *err)
{
    slm_hf_made *m = a->m;
    json_t *extra = json_object_get(m->config, "extra_special_tokens"), *more = json_object_get(m->config, "additional_special_tokens");
    SLM_TRY(index_model(a, err));
    if (!m->yields)
        SLM_TRY(add_listed(a, m->added, false, err));
    SLM_TRY(add_decoder(a, json_object_get(m->config, "added_tokens_decoder"), err));
    SLM_TRY(add_named(a, err));
    if (extra != NULL && !json_is_object(extra))
        return add_listed(a, extra, true, err);
    return m->yields ? add_listed(a, m->added, false, err) : add_listed(a, more, true, err);
}

/* ---- the frame ---- */

/* Adds a word of a frame to a list of the post-processor, and a special token to its table. */
static slm_status frame_word(adding *a, const char *word, size_t n, json_t *list, json_t *table, slm_error *err)
{
    bool second = n > 2 && memcmp(word + n - 2, ":1", 2) == 0;
    n -= second ? 2 : 0;
    if (n == 1)
        return slm_hf_append(list, json_pack("{s:{s:s%, s:i}}", "Sequence", "id", word, n, "type_id", (int) second), err);
    char key[16];
    snprintf(key, sizeof key, "%.*s_token", (int) (n < 8 ? n : 8), word);
    const char *text = slm_hf_made_text(a->m, key);
    json_int_t id = text != NULL ? id_of(a, text) : -1;
    if (id < 0)
        return slm_fail(err, SLM_UNSUPPORTED, "the tokenizer puts a %s around texts, and its files name none", key);
    SLM_TRY(slm_hf_put(table, text, json_pack("{s:s, s:[I], s:[s]}", "id", text, "ids", id, "tokens", text), err));
    return slm_hf_append(list, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", text, "type_id", (int) second), err);
}

static slm_status frame_list(adding *a, const char *words, json_t *post, const char *key, slm_error *err)
{
    json_t *table = json_object_get(post, "special_tokens"), *list = json_array();
    SLM_TRY(slm_hf_put(post, key, list, err));
    while (*words != '\0') {
        size_t n = strcspn(words, " ");
        SLM_TRY(frame_word(a, words, n, list, table, err));
        words += n + (words[n] == ' ');
    }
    return SLM_OK;
}

static slm_status put_frame(adding *a, const char *single, const char *pair, slm_error *err)
{
    json_t *post = json_pack("{s:s, s:{}}", "type", "TemplateProcessing", "special_tokens");
    SLM_TRY(slm_hf_put(a->m->tokenizer, "post_processor", post, err));
    SLM_TRY(frame_list(a, single, post, "single", err));
    return frame_list(a, pair, post, "pair", err);
}

static slm_status take_frame(adding *a, slm_error *err)
{
    slm_hf_made *m = a->m;
    slm_hf_json config = {m->config, "tokenizer_config.json"};
    const frame *f = m->class->frame;
    bool said = json_object_get(m->config, "add_bos_token") != NULL || json_object_get(m->config, "add_eos_token") != NULL;
    bool bos = false, eos = false;
    char single[32], pair[64];
    if (f->single != NULL && (f->always || !said))
        return put_frame(a, f->single, f->pair, err);
    if (!said && json_object_get(m->tokenizer, "post_processor") != NULL)
        return SLM_OK;
    SLM_TRY(slm_hf_bool(config, "add_bos_token", &bos, err));
    SLM_TRY(slm_hf_bool(config, "add_eos_token", &eos, err));
    bos = bos && slm_hf_made_text(m, "bos_token") != NULL;
    eos = eos && slm_hf_made_text(m, "eos_token") != NULL;
    snprintf(single, sizeof single, "%sA%s", bos ? "bos " : "", eos ? " eos" : "");
    snprintf(pair, sizeof pair, "%s%s B:1%s", single, bos ? " bos:1" : "", eos ? " eos:1" : "");
    return put_frame(a, single, pair, err);
}

/* ---- all of it ---- */

static slm_status finish(slm_hf_made *m, slm_error *err)
{
    adding a = {.m = m, .list = json_array(), .seen = json_object(), .last = -1};
    slm_status status = slm_hf_put(m->tokenizer, "added_tokens", a.list, err);
    if (status == SLM_OK)
        status = add_all(&a, err);
    if (status == SLM_OK)
        status = take_frame(&a, err);
    json_decref(a.index);
    json_decref(a.seen);
    return status;
}

/* What the class assumes is put into the configuration, as if it had been said. */
static slm_status assume(slm_hf_made *m, slm_error *err)
{
    SLM_TRY(rename_extras(m->config, err));
    SLM_TRY(take_older_files(m, err));
    for (size_t i = 0; i < N_NAMES; i++)
        if (m->class->names[i] != NULL)
            SLM_TRY(slm_hf_made_name(m, name_keys[i], m->class->names[i], err));
    SLM_TRY(slm_hf_put(m->config, "backend", json_string("tokenizers"), err));
    return slm_hf_put(m->config, "tokenizer_class", json_string(m->class->name), err);
}

static slm_status make(slm_hf_made *m, slm_error *err)
{
    slm_status (*read)(slm_hf_made *made, slm_error *err) = m->class->read;
    bool there = false;
    SLM_TRY(choose_common(m, &read, err));
    if (m->file == NULL && m->class->file != NULL)
        SLM_TRY(is_there(m->dir, m->class->file, &there, err));
    m->file = there ? m->class->file : m->file;
    if (m->file == NULL)
        return SLM_OK;
    SLM_TRY(check_config(m->config, err));
    m->tokenizer = json_object();
    m->added = json_array();
    if (m->tokenizer == NULL || m->added == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    SLM_TRY(assume(m, err));
    SLM_TRY(read(m, err));
    return finish(m, err);
}

slm_status slm_hf_vocab_make(int dir, json_t *model, json_t **config, const volatile int *stop, json_t **tokenizer, const char **file,
                             slm_error *err)
{
    char name[64];
    slm_hf_made m = {.dir = dir, .stop = stop};
    choose_class(model, *config, name);
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (strcmp(name, classes[i].name) == 0)
            m.class = &classes[i];
    if (*config == NULL && (*config = json_object()) == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    m.config = *config;
    slm_status status = m.class != NULL ? make(&m, err) : SLM_OK;
    json_decref(m.added);
    if (status == SLM_OK && m.file == NULL)
        return name_others(dir, name, err);
    if (status != SLM_OK) {
        json_decref(m.tokenizer);
        return status;
    }
    *tokenizer = m.tokenizer;
    *file = m.file;
    return SLM_OK;
}
