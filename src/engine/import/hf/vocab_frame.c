/*
 * Post-processors: the control tokens around a text, and around and between two.
 *
 * TemplateProcessing says both; BertProcessing and RobertaProcessing stand for [CLS] A [SEP] B [SEP] and <s> A </s></s> B </s>.  ByteLevel
 * moves offsets only.  A sequence may hold one that frames.
 */
#include <string.h>

#include "engine/import/hf/vocab_shape.h"

typedef struct template {
    json_t *specials;   /* of the post-processor */
    slm_tok_frame frame;
    uint32_t first_types, second_types; /* bits: token types seen before the second text, and from there on */
    bool first, second; /* texts seen */
} template;

static slm_status broken(slm_error *err)
{
    return slm_fail(err, SLM_FORMAT, "the post-processor in \"tokenizer.json\" is damaged");
}

static slm_status put(template *t, json_int_t id, uint32_t type, slm_error *err)
{
    slm_tok_frame *f = &t->frame;
    uint32_t *n = !t->first ? &f->n_before : t->second ? &f->n_after : &f->n_middle;
    int32_t *ids = !t->first ? f->before : t->second ? f->after : f->middle;
    if (id < 0 || id > INT32_MAX)
        return broken(err);
    if (*n == SLM_VOCAB_MAX_FRAME)
        return slm_fail(err, SLM_UNSUPPORTED, "the post-processor in \"tokenizer.json\" puts more than %d tokens at a place",
                        SLM_VOCAB_MAX_FRAME);
    ids[(*n)++] = (int32_t) id;
    *(t->second ? &t->second_types : &t->first_types) |= type;
    return SLM_OK;
}

/* {"SpecialToken": {"id": "[CLS]", "type_id": 0}} or {"Sequence": {"id": "A", "type_id": 0}} */
static slm_status take_item(template *t, json_t *item, slm_error *err)
{
    json_t *special = json_object_get(item, "SpecialToken"), *text = json_object_get(item, "Sequence");
    json_t *body = special != NULL ? special : text;
    json_int_t type = json_integer_value(json_object_get(body, "type_id"));
    const char *id = json_string_value(json_object_get(body, "id"));
    if (id == NULL || json_object_size(item) != 1 || type < 0 || type > 1)
        return broken(err);
    if (special != NULL) {
        json_t *ids = json_object_get(json_object_get(t->specials, id), "ids");
        if (json_array_size(ids) == 0)
            return broken(err);
        for (size_t i = 0; i < json_array_size(ids); i++)
            SLM_TRY(put(t, json_integer_value(json_array_get(ids, i)), 1u << type, err));
        return SLM_OK;
    }
    bool a = strcmp(id, "A") == 0;
    if ((a && t->first) || (!a && (!t->first || t->second)))
        return slm_fail(err, SLM_UNSUPPORTED,
                        "the post-processor in \"tokenizer.json\" does not put the texts A and B once, in this order");
    t->first = true;
    t->second = !a;
    *(a ? &t->first_types : &t->second_types) |= 1u << type;
    return SLM_OK;
}

static slm_status take_list(template *t, json_t *list, bool pair, slm_error *err)
{
    if (!json_is_array(list))
        return broken(err);
    for (size_t i = 0; i < json_array_size(list); i++)
        SLM_TRY(take_item(t, json_array_get(list, i), err));
    if (!t->first || t->second != pair)
        return broken(err);
    return SLM_OK;
}

static bool same(const int32_t *a, uint32_t n, const int32_t *b, uint32_t m)
{
    return n == m && memcmp(a, b, n * sizeof *a) == 0;
}

static slm_status take_template(json_t *post, slm_hf_shape *s, slm_error *err)
{
    static const char *const keys[] = {"single", "pair", "special_tokens", NULL};
    template one = {.specials = json_object_get(post, "special_tokens")}, two = one;
    SLM_TRY(slm_hf_only(post, "post-processor", keys, err));
    SLM_TRY(take_list(&one, json_object_get(post, "single"), false, err));
    SLM_TRY(take_list(&two, json_object_get(post, "pair"), true, err));
    /* of one text, what stands behind it was taken for what stands between two */
    if (!same(one.frame.before, one.frame.n_before, two.frame.before, two.frame.n_before) ||
        !same(one.frame.middle, one.frame.n_middle, two.frame.after, two.frame.n_after) || one.first_types != 1)
        return slm_fail(err, SLM_UNSUPPORTED,
                        "the post-processor in \"tokenizer.json\" puts other tokens around a pair than around one text");
    s->frame = two.frame;
    s->second_type = two.first_types != 1 ? UINT32_MAX : two.second_types == 1 ? 0 : two.second_types == 2 ? 1 : UINT32_MAX;
    return SLM_OK;
}

static slm_status take_pair(json_t *post, bool roberta, slm_hf_shape *s, slm_error *err)
{
    static const char *const keys[] = {"sep", "cls", "trim_offsets", "add_prefix_space", NULL};
    json_t *cls = json_array_get(json_object_get(post, "cls"), 1), *sep = json_array_get(json_object_get(post, "sep"), 1);
    SLM_TRY(slm_hf_only(post, "post-processor", keys, err));
    if (!json_is_integer(cls) || !json_is_integer(sep) || json_integer_value(cls) < 0 || json_integer_value(sep) < 0 ||
        json_integer_value(cls) > INT32_MAX || json_integer_value(sep) > INT32_MAX)
        return broken(err);
    int32_t first = (int32_t) json_integer_value(cls), last = (int32_t) json_integer_value(sep);
    s->frame = (slm_tok_frame){1, roberta ? 2 : 1, 1, 0, {first}, {last, last}, {last}};
    s->second_type = roberta ? 0 : 1;
    return SLM_OK;
}

static slm_status take_post(json_t *post, int depth, bool *framed, slm_hf_shape *s, slm_error *err)
{
    static const char *const sequence[] = {"processors", NULL};
    static const char *const byte_level[] = {"add_prefix_space", "trim_offsets", "use_regex", NULL};
    const char *type = json_string_value(json_object_get(post, "type"));
    if (post == NULL || json_is_null(post))
        return SLM_OK;
    if (type == NULL || depth > 4)
        return broken(err);
    if (strcmp(type, "Sequence") == 0) {
        json_t *list = json_object_get(post, "processors");
        SLM_TRY(slm_hf_only(post, "post-processor", sequence, err));
        for (size_t i = 0; i < json_array_size(list); i++)
            SLM_TRY(take_post(json_array_get(list, i), depth + 1, framed, s, err));
        return SLM_OK;
    }
    if (strcmp(type, "ByteLevel") == 0)
        return slm_hf_only(post, "post-processor", byte_level, err);
    bool roberta = strcmp(type, "RobertaProcessing") == 0, bert = strcmp(type, "BertProcessing") == 0;
    if (*framed || (!roberta && !bert && strcmp(type, "TemplateProcessing") != 0))
        return slm_fail(err, SLM_UNSUPPORTED, "the post-processor \"%.40s\" in \"tokenizer.json\" is not supported%s", type,
                        *framed ? " behind another one" : "");
    *framed = true;
    return roberta || bert ? take_pair(post, roberta, s, err) : take_template(post, s, err);
}

slm_status slm_hf_shape_frame(json_t *tokenizer, slm_hf_shape *out, slm_error *err)
{
    bool framed = false;
    return take_post(json_object_get(tokenizer, "post_processor"), 0, &framed, out, err);
}
