/*
 * What transformers makes of a SentencePiece model, which depends on the class that reads it.
 *
 *   class               model                               before it
 *   LlamaTokenizer      BPE, merges by id of what they give  a mark in front of the first text (legacy: of every one)
 *   GemmaTokenizer      the same                             none in front
 *   TokenizersBackend   BPE, merges by score                 as the file says
 *   XLM-R, CamemBERT    Unigram, pieces moved                the file's map; words between white space
 *   ALBERT              Unigram                              accents, case, the map; the same
 *   DeBERTa v2          Unigram                              white space, NFC; no map
 */
#include <stdlib.h>
#include <string.h>

#include "engine/base/base64.h"
#include "engine/import/hf/json.h"
#include "engine/import/hf/spm.h"
#include "engine/import/hf/vocab_made.h"
#include "engine/import/hf/vocab_ranks.h"

#define MARK "\xE2\x96\x81" /* U+2581 */

static bool is(const slm_hf_made *m, const char *class)
{
    return strcmp(slm_hf_made_class(m), class) == 0;
}

static slm_status flag(const slm_hf_made *m, const char *key, bool *value, slm_error *err)
{
    return slm_hf_bool((slm_hf_json){m->config, "tokenizer_config.json"}, key, value, err);
}

/* ---- parts ---- */

static slm_status add_replace(json_t *list, const char *kind, const char *from, const char *to, slm_error *err)
{
    return slm_hf_append(list, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", kind, from, "content", to), err);
}

static slm_status add_map(json_t *list, const slm_spm *s, slm_error *err)
{
    if (s->map == NULL)
        return SLM_OK;
    char *text = slm_base64_encode(s->map, s->map_bytes);
    json_t *part = text != NULL ? json_pack("{s:s, s:s}", "type", "Precompiled", "precompiled_charsmap", text) : NULL;
    free(text);
    return slm_hf_append(list, part, err);
}

/* The list of a "Sequence" that is put into the document, borrowed. */
static slm_status put_list(slm_hf_made *m, const char *key, const char *list_key, json_t **list, slm_error *err)
{
    *list = json_array();
    return slm_hf_put(m->tokenizer, key, json_pack("{s:s, s:o}", "type", "Sequence", list_key, *list), err);
}

static json_t *metaspace(const char *scheme, bool split)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", MARK, "prepend_scheme", scheme, "split", split);
}

/* ---- BPE ---- */

typedef struct ranked {
    const char *text;
    float score;
    size_t id;
} ranked;

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Merges of the pieces that take part: all of them by id, or those of the kind "normal" by score. */
static slm_status put_merges(slm_hf_made *m, const slm_spm *s, json_t *vocab, bool scored, json_t *merges, slm_error *err)
{
    size_t n = 0, id;
    const char *text;
    json_t *value, *normal = scored ? json_object() : json_incref(vocab);
    ranked *order = malloc(s->n * sizeof *order);
    const char **tokens = malloc(s->n * sizeof *tokens);
    slm_status status = normal != NULL && order != NULL && tokens != NULL ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
    json_object_foreach(vocab, text, value)
    {
        id = (size_t) json_integer_value(value);
        if (status != SLM_OK || (scored && s->pieces[id].type != SLM_SPM_NORMAL))
            continue;
        order[n++] = (ranked){text, scored ? s->pieces[id].score : 0, id};
        status = scored ? slm_hf_put(normal, text, json_incref(value), err) : SLM_OK;
    }
    if (status == SLM_OK) {
        qsort(order, n, sizeof *order, by_score);
        for (size_t i = 0; i < n; i++)
            tokens[i] = order[i].text;
        status = slm_hf_merges_of(tokens, n, normal, false, m->stop, merges, err);
    }
    json_decref(normal);
    free(order);
    free(tokens);
    return status;
}

static slm_status put_bpe(slm_hf_made *m, const slm_spm *s, json_t *vocab, bool scored, const char *unknown, bool fallback, slm_error *err)
{
    if (!fallback && json_object_get(vocab, unknown) == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" has neither bytes nor the unknown piece \"%.60s\"", m->file, unknown);
    json_t *merges = json_array();
    json_t *model = json_pack("{s:s, s:O, s:O, s:s?, s:b, s:b}", "type", "BPE", "vocab", vocab, "merges", merges, "unk_token", unknown,
                              "fuse_unk", 1, "byte_fallback", fallback);
    slm_status status = slm_hf_put(m->tokenizer, "model", model, err);
    if (status == SLM_OK)
        status = put_merges(m, s, vocab, scored, merges, err);
    json_decref(merges);
    return status;
}

static slm_status read_llama(slm_hf_made *m, const slm_spm *s, slm_error *err)
{
    bool prefix = true, legacy = false;
    SLM_TRY(flag(m, "add_prefix_space", &prefix, err));
    SLM_TRY(flag(m, "legacy", &legacy, err));
    SLM_TRY(put_bpe(m, s, s->index, false, NULL, true, err));
    return slm_hf_put(m->tokenizer, "pre_tokenizer", metaspace(!prefix ? "never" : legacy ? "always" : "first", false), err);
}

static slm_status read_gemma(slm_hf_made *m, const slm_spm *s, slm_error *err)
{
    json_t *list;
    SLM_TRY(put_bpe(m, s, s->index, false, slm_hf_made_text(m, "unk_token"), true, err));
    SLM_TRY(put_list(m, "normalizer", "normalizers", &list, err));
    return add_replace(list, "String", " ", MARK, err);
}

/* Pieces under the names that added_tokens_decoder gives their ids, unless another piece has that name and keeps it. */
static slm_status rename_pieces(slm_hf_made *m, const slm_spm *s, json_t *vocab, slm_error *err)
{
    json_t *decoder = json_object_get(m->config, "added_tokens_decoder"), *token;
    char id[24];
    for (size_t i = 0; i < s->n; i++) {
        const char *text = slm_spm_text(s, i), *name = NULL;
        snprintf(id, sizeof id, "%zu", i);
        token = json_object_get(decoder, id);
        name = token != NULL ? json_string_value(json_object_get(token, "content")) : NULL;
        json_t *other = name != NULL ? json_object_get(s->index, name) : NULL;
        if (other != NULL) {
            snprintf(id, sizeof id, "%lld", (long long) json_integer_value(other));
            name = json_object_get(decoder, id) == NULL ? NULL : name;
        }
        if (name != NULL && json_object_get(vocab, name) != NULL)
            return slm_fail(err, SLM_UNSUPPORTED, "\"added_tokens_decoder\" in \"tokenizer_config.json\" gives two pieces of \"%s\" the "
                                                  "name \"%.60s\"", m->file, name);
        SLM_TRY(slm_hf_put(vocab, name != NULL ? name : text, json_integer((json_int_t) i), err));
    }
    return SLM_OK;
}

static slm_status check_plain(const slm_hf_made *m, const slm_spm *s, slm_error *err)
{
    if (s->model_type != SLM_SPM_BPE)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" is no BPE model (model_type %lld): tokenizers of the class %s are not read from it",
                        m->file, (long long) s->model_type, slm_hf_made_class(m));
    if (!s->escape)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" with \"escape_whitespaces\": false is not supported", m->file);
    for (size_t i = 0; i < s->n; i++)
        if (s->pieces[i].type == SLM_SPM_USER_DEFINED)
            return slm_fail(err, SLM_UNSUPPORTED, "the user-defined piece \"%.60s\" of \"%s\" is not supported with tokenizers of the "
                                                  "class %s", slm_spm_text(s, i), m->file, slm_hf_made_class(m));
    return SLM_OK;
}

/* As the file itself says. */
static slm_status read_plain(slm_hf_made *m, const slm_spm *s, slm_error *err)
{
    bool legacy = json_object_get(m->config, "legacy") == NULL; /* null is false */
    json_t *list, *vocab;
    SLM_TRY(check_plain(m, s, err));
    SLM_TRY(flag(m, "legacy", &legacy, err));
    if (!legacy && s->dummy_prefix && (s->remove_extra || s->map != NULL)) /* no mark in front where the beginning was taken away */
        return slm_fail(err, SLM_UNSUPPORTED, "\"legacy\": false in \"tokenizer_config.json\" is not supported where \"%s\" changes "
                                              "texts before it cuts them", m->file);
    vocab = json_object();
    slm_status status = vocab != NULL ? rename_pieces(m, s, vocab, err) : slm_fail(err, SLM_NOMEM, "out of memory");
    if (status == SLM_OK)
        status = put_bpe(m, s, vocab, true, s->unk, s->byte_fallback, err);
    json_decref(vocab);
    SLM_TRY(status);
    m->raw = s->dummy_prefix;
    if (s->bos_id >= 0)
        SLM_TRY(slm_hf_made_name(m, "bos_token", s->bos, err));
    if (s->eos_id >= 0)
        SLM_TRY(slm_hf_made_name(m, "eos_token", s->eos, err));
    if (s->unk_id >= 0)
        SLM_TRY(slm_hf_made_name(m, "unk_token", s->unk, err));
    SLM_TRY(put_list(m, "normalizer", "normalizers", &list, err));
    SLM_TRY(add_map(list, s, err));
    if (s->remove_extra) {
        SLM_TRY(add_replace(list, "Regex", "\\A +| +\\z", "", err));
        SLM_TRY(add_replace(list, "Regex", " {2,}", " ", err));
    }
    if (s->dummy_prefix && !legacy)
        return slm_hf_put(m->tokenizer, "pre_tokenizer", metaspace("first", false), err);
    if (s->dummy_prefix) /* also of a text that begins with a space */
        SLM_TRY(slm_hf_append(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", MARK), err));
    return add_replace(list, "String", " ", MARK, err);
}

/* ---- Unigram ---- */

static slm_status add_piece(json_t *list, const char *text, double score, slm_error *err)
{
    return slm_hf_append(list, json_pack("[s, f]", text, score), err);
}

static slm_status add_pieces(json_t *list, const slm_spm *s, size_t first, slm_error *err)
{
    for (size_t i = first; i < s->n; i++)
        SLM_TRY(add_piece(list, slm_spm_text(s, i), (double) s->pieces[i].score, err));
    return SLM_OK;
}

static slm_status add_names(const slm_hf_made *m, json_t *list, const char *const *keys, slm_error *err)
{
    for (size_t i = 0; keys[i] != NULL; i++) {
        const char *text = strstr(keys[i], "_token") != NULL ? slm_hf_made_text(m, keys[i]) : keys[i];
        if (text == NULL)
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"tokenizer_config.json\" names none, which is not supported without "
                                                  "tokenizer.json", keys[i]);
        SLM_TRY(add_piece(list, text, strcmp(text, "<unk>NOTUSED") == 0 ? -100.0 : 0.0, err));
    }
    return SLM_OK;
}

/* The pieces at the places that the class moves them to. */
static slm_status move_pieces(const slm_hf_made *m, const slm_spm *s, json_t *list, slm_error *err)
{
    static const char *const fairseq[] = {"bos_token", "pad_token", "eos_token", "unk_token", NULL}, *const last[] = {"mask_token", NULL};
    static const char *const camembert[] = {"<s>NOTUSED", "pad_token", "</s>NOTUSED", "unk_token", "<unk>NOTUSED", NULL};
    bool xlmr = is(m, "XLMRobertaTokenizer");
    if (!xlmr && !is(m, "CamembertTokenizer"))
        return add_pieces(list, s, 0, err);
    SLM_TRY(add_names(m, list, xlmr ? fairseq : camembert, err));
    SLM_TRY(add_pieces(list, s, xlmr ? 3 : 1, err));
    return add_names(m, list, last, err);
}

/* The id of the unknown token: fixed, but for DeBERTa. */
static json_int_t unknown_of(const slm_hf_made *m, const slm_spm *s)
{
    const char *text = slm_hf_made_text(m, "unk_token");
    json_t *place = text != NULL ? json_object_get(s->index, text) : NULL;
    if (is(m, "AlbertTokenizer"))
        return 1;
    if (!is(m, "DebertaV2Tokenizer"))
        return 3;
    return place != NULL && s->pieces[json_integer_value(place)].score == 0 ? json_integer_value(place) : s->unk_id;
}

static slm_status no_piece_twice(const slm_hf_made *m, json_t *list, slm_error *err)
{
    json_t *seen = json_object(), *piece;
    slm_status status = seen != NULL ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
    size_t i;
    json_array_foreach(list, i, piece)
    {
        const char *text = json_string_value(json_array_get(piece, 0));
        if (status == SLM_OK && json_object_get(seen, text) != NULL)
            status = slm_fail(err, SLM_FORMAT, "\"%s\" has the piece \"%.60s\" beside the special token", m->file, text);
        if (status == SLM_OK)
            status = slm_hf_put(seen, text, json_true(), err);
    }
    json_decref(seen);
    return status;
}

/* What the class cannot do without. */
static slm_status check_unigram(const slm_hf_made *m, const slm_spm *s, slm_error *err)
{
    static const char *const frame[] = {"cls_token", "sep_token"};
    if (is(m, "CamembertTokenizer") && s->model_type != SLM_SPM_UNIGRAM)
        return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" is no Unigram model (model_type %lld)", m->file, (long long) s->model_type);
    for (size_t i = 0; is(m, "AlbertTokenizer") && i < 2; i++) {
        const char *text = slm_hf_made_text(m, frame[i]);
        if (text == NULL || json_object_get(s->index, text) == NULL)
            return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" has no piece for the %s that is put around texts", m->file, frame[i]);
    }
    return SLM_OK;
}

/* What ALBERT and DeBERTa do to a text. */
static slm_status add_steps(const slm_hf_made *m, const slm_spm *s, json_t *list, slm_error *err)
{
    bool albert = is(m, "AlbertTokenizer"), deberta = is(m, "DebertaV2Tokenizer"), lower = albert, accents = false;
    SLM_TRY(flag(m, "do_lower_case", &lower, err));
    SLM_TRY(flag(m, "keep_accents", &accents, err));
    if (albert) {
        SLM_TRY(add_replace(list, "String", "``", "\"", err));
        SLM_TRY(add_replace(list, "String", "''", "\"", err));
        if (!accents) {
            SLM_TRY(slm_hf_append(list, slm_hf_part("NFKD"), err));
            SLM_TRY(slm_hf_append(list, slm_hf_part("StripAccents"), err));
        }
    }
    if (lower && (albert || deberta))
        SLM_TRY(slm_hf_append(list, slm_hf_part("Lowercase"), err));
    if (!deberta)
        return add_map(list, s, err);
    SLM_TRY(add_replace(list, "Regex", "\\s{2,}|[\\n\\r\\t]", " ", err));
    SLM_TRY(slm_hf_append(list, slm_hf_part("NFC"), err));
    return slm_hf_append(list, json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left", 0, "strip_right", 1), err);
}

static slm_status read_unigram(slm_hf_made *m, const slm_spm *s, slm_error *err)
{
    bool prefix = json_object_get(m->config, "add_prefix_space") == NULL, deberta = is(m, "DebertaV2Tokenizer"); /* null is false */
    json_t *list, *vocab;
    SLM_TRY(check_unigram(m, s, err));
    SLM_TRY(flag(m, "add_prefix_space", &prefix, err));
    vocab = json_array();
    SLM_TRY(slm_hf_put(m->tokenizer, "model", json_pack("{s:s, s:o, s:I, s:b}", "type", "Unigram", "vocab", vocab, "unk_id",
                                                        unknown_of(m, s), "byte_fallback", 0), err));
    SLM_TRY(move_pieces(m, s, vocab, err));
    SLM_TRY(no_piece_twice(m, vocab, err));
    SLM_TRY(put_list(m, "normalizer", "normalizers", &list, err));
    SLM_TRY(add_steps(m, s, list, err));
    SLM_TRY(put_list(m, "pre_tokenizer", "pretokenizers", &list, err));
    if (!deberta)
        SLM_TRY(slm_hf_append(list, slm_hf_part("WhitespaceSplit"), err));
    return slm_hf_append(list, metaspace(prefix ? "always" : deberta ? "first" : "never", true), err);
}

/* ---- all of it ---- */

static slm_status read_file(slm_hf_made *m, slm_spm *s, slm_error *err)
{
    SLM_TRY(slm_spm_load(m->dir, m->file, s, err));
    m->yields = true;
    for (size_t i = 0; i < s->n; i++)
        if (s->pieces[i].type == SLM_SPM_CONTROL || s->pieces[i].type == SLM_SPM_USER_DEFINED)
            SLM_TRY(slm_hf_made_add(m, slm_spm_text(s, i), s->pieces[i].type == SLM_SPM_CONTROL, err));
    if (is(m, "TokenizersBackend"))
        return read_plain(m, s, err);
    return is(m, "LlamaTokenizer") ? read_llama(m, s, err) : is(m, "GemmaTokenizer") ? read_gemma(m, s, err) : read_unigram(m, s, err);
}

slm_status slm_hf_read_spm(slm_hf_made *m, slm_error *err)
{
    slm_spm s = {0};
    slm_status status = read_file(m, &s, err);
    slm_spm_free(&s);
    return status;
}
