/*
 * ModelProto: 1 pieces {1 piece, 2 score, 3 type} · 2 trainer_spec {3 model_type, 35 byte_fallback, 40 unk_id, 41 bos_id, 42 eos_id,
 * 45 unk_piece, 46 bos_piece, 47 eos_piece} · 3 normalizer_spec {2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces,
 * 5 escape_whitespaces}.
 */
#include "engine/import/hf/spm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/import/hf/json.h"
#include "engine/import/hf/protobuf.h"
#include "engine/import/hf/vocab_made.h"

#define MAX_PIECES (1u << 21)

static slm_status grow(slm_spm *s, size_t *capacity, slm_error *err)
{
    size_t more = *capacity == 0 ? 1024 : 2 * *capacity;
    if (s->n < *capacity)
        return SLM_OK;
    slm_spm_piece *grown = realloc(s->pieces, more * sizeof *grown);
    if (grown == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    s->pieces = grown;
    *capacity = more;
    return SLM_OK;
}

static slm_status take_piece(slm_spm *s, slm_proto p, size_t *capacity, slm_error *err)
{
    slm_proto_field f;
    const char *text = "";
    size_t n = 0;
    int64_t type = SLM_SPM_NORMAL;
    float score = 0;
    do {
        SLM_TRY(slm_proto_next(&p, &f, err));
        if (f.number == 1)
            SLM_TRY(slm_proto_span(&p, &f, &text, &n, err));
        else if (f.number == 2)
            SLM_TRY(slm_proto_float(&p, &f, &score, err));
        else if (f.number == 3)
            SLM_TRY(slm_proto_int(&p, &f, &type, err));
    } while (f.number != 0);
    if (n == 0 || memchr(text, 0, n) != NULL || !isfinite(score) || type < SLM_SPM_NORMAL || type > SLM_SPM_BYTE)
        return slm_fail(err, SLM_FORMAT, "piece %zu of \"%s\" has no text, no finite score or no type that is known", s->n, p.file);
    if (s->n == MAX_PIECES)
        return slm_fail(err, SLM_LIMIT, "\"%s\" has more than %u pieces", p.file, MAX_PIECES);
    if (slm_utf8_valid_prefix(text, n) < n)
        return slm_fail(err, SLM_FORMAT, "piece %zu of \"%s\" is not valid UTF-8", s->n, p.file);
    json_t *string = json_stringn(text, n);
    SLM_TRY(slm_hf_append(s->texts, string, err));
    if (json_object_get(s->index, json_string_value(string)) != NULL)
        return slm_fail(err, SLM_FORMAT, "\"%s\" has the piece \"%.60s\" twice", p.file, json_string_value(string));
    SLM_TRY(slm_hf_put(s->index, json_string_value(string), json_integer((json_int_t) s->n), err));
    SLM_TRY(grow(s, capacity, err));
    s->pieces[s->n++] = (slm_spm_piece){score, (int32_t) type};
    return SLM_OK;
}

static slm_status take_text(const slm_proto *p, const slm_proto_field *f, char *out, size_t size, slm_error *err)
{
    const char *text;
    size_t n;
    SLM_TRY(slm_proto_span(p, f, &text, &n, err));
    if (n == 0 || n >= size || memchr(text, 0, n) != NULL || slm_utf8_valid_prefix(text, n) < n)
        return slm_fail(err, SLM_FORMAT, "\"%s\" gives a special piece a text of %zu bytes that is none", p->file, n);
    memcpy(out, text, n);
    out[n] = '\0';
    return SLM_OK;
}

static slm_status take_bool(const slm_proto *p, const slm_proto_field *f, bool *out, slm_error *err)
{
    int64_t value;
    SLM_TRY(slm_proto_int(p, f, &value, err));
    *out = value != 0;
    return SLM_OK;
}

static slm_status take_trainer(slm_spm *s, slm_proto p, slm_error *err)
{
    slm_proto_field f;
    do {
        slm_status status = SLM_OK;
        SLM_TRY(slm_proto_next(&p, &f, err));
        switch (f.number) {
        case 3: status = slm_proto_int(&p, &f, &s->model_type, err); break;
        case 35: status = take_bool(&p, &f, &s->byte_fallback, err); break;
        case 40: status = slm_proto_int(&p, &f, &s->unk_id, err); break;
        case 41: status = slm_proto_int(&p, &f, &s->bos_id, err); break;
        case 42: status = slm_proto_int(&p, &f, &s->eos_id, err); break;
        case 45: status = take_text(&p, &f, s->unk, sizeof s->unk, err); break;
        case 46: status = take_text(&p, &f, s->bos, sizeof s->bos, err); break;
        case 47: status = take_text(&p, &f, s->eos, sizeof s->eos, err); break;
        default: break;
        }
        SLM_TRY(status);
    } while (f.number != 0);
    return SLM_OK;
}

static slm_status take_map(slm_spm *s, const slm_proto *p, const slm_proto_field *f, slm_error *err)
{
    const char *bytes;
    SLM_TRY(slm_proto_span(p, f, &bytes, &s->map_bytes, err));
    free(s->map);
    s->map = NULL;
    if (s->map_bytes == 0)
        return SLM_OK;
    s->map = malloc(s->map_bytes);
    if (s->map == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    memcpy(s->map, bytes, s->map_bytes);
    return SLM_OK;
}

static slm_status take_normalizer(slm_spm *s, slm_proto p, slm_error *err)
{
    slm_proto_field f;
    do {
        slm_status status = SLM_OK;
        SLM_TRY(slm_proto_next(&p, &f, err));
        switch (f.number) {
        case 2: status = take_map(s, &p, &f, err); break;
        case 3: status = take_bool(&p, &f, &s->dummy_prefix, err); break;
        case 4: status = take_bool(&p, &f, &s->remove_extra, err); break;
        case 5: status = take_bool(&p, &f, &s->escape, err); break;
        default: break;
        }
        SLM_TRY(status);
    } while (f.number != 0);
    return SLM_OK;
}

static slm_status take_model(slm_spm *s, slm_proto p, slm_error *err)
{
    slm_proto_field f;
    size_t capacity = 0;
    do {
        SLM_TRY(slm_proto_next(&p, &f, err));
        if (f.number >= 1 && f.number <= 3 && f.wire != 2)
            return slm_fail(err, SLM_FORMAT, "\"%s\" is no SentencePiece model", p.file);
        if (f.number == 1)
            SLM_TRY(take_piece(s, f.inside, &capacity, err));
        else if (f.number == 2)
            SLM_TRY(take_trainer(s, f.inside, err));
        else if (f.number == 3)
            SLM_TRY(take_normalizer(s, f.inside, err));
    } while (f.number != 0);
    if (s->n == 0)
        return slm_fail(err, SLM_FORMAT, "\"%s\" is no SentencePiece model: it has no pieces", p.file);
    return SLM_OK;
}

slm_status slm_spm_load(int dir, const char *file, slm_spm *out, slm_error *err)
{
    char *bytes = NULL;
    size_t n;
    *out = (slm_spm){.texts = json_array(), .index = json_object(), .model_type = SLM_SPM_UNIGRAM, .bos_id = 1, .eos_id = 2, .unk = "<unk>",
                     .bos = "<s>", .eos = "</s>", .dummy_prefix = true, .remove_extra = true, .escape = true};
    if (out->texts == NULL || out->index == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    SLM_TRY(slm_hf_read_text(dir, file, SLM_HF_MAX_VOCAB_BYTES, false, &bytes, &n, err));
    slm_status status = take_model(out, (slm_proto){bytes, bytes + n, file}, err);
    free(bytes);
    return status;
}

void slm_spm_free(slm_spm *spm)
{
    json_decref(spm->texts);
    json_decref(spm->index);
    free(spm->pieces);
    free(spm->map);
}

const char *slm_spm_text(const slm_spm *spm, size_t i)
{
    return json_string_value(json_array_get(spm->texts, i));
}
