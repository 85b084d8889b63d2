/*
 * Finds the tensors of a model by name and checks them: what hparams and family demand against what the source has.
 *
 * The result lists each role of each layer once, in the order in which a forward pass uses them (embedding, layers, head), so
 * that the image is read front to back.  A tensor that the family demands and the source lacks, or whose shape or type is
 * wrong, is a FORMAT error that names it; optional roles are there in all layers or in none.
 */
#include "engine/arch/family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void slm_family_tensor_name(const slm_family *family, slm_tensor_role role, bool hf, uint32_t layer, char *out, size_t size)
{
    const slm_role_info *info = slm_role_get(role);
    const char *pattern = hf ? info->hf : info->gguf;
    for (const slm_role_name *n = hf ? family->hf_names : family->gguf_names; n != NULL && n->role != SLM_TENSOR_ROLES; n++)
        if (n->role == role)
            pattern = n->name;
    const char *mark = strstr(pattern, "%u");
    if (mark == NULL)
        snprintf(out, size, "%s", pattern);
    else
        snprintf(out, size, "%.*s%u%s", (int) (mark - pattern), pattern, layer, mark + 2);
}

bool slm_family_unread(const slm_hparams *hp, bool hf, const char *name)
{
    static const slm_tensor_role roles[] = {SLM_TENSOR_ATTN_K, SLM_TENSOR_ATTN_V, SLM_TENSOR_ATTN_K_NORM};
    const char *begin = hf ? "layers." : "blk.", *at = strstr(name, begin);
    for (uint32_t layer = slm_layers_with_keys(hp); at != NULL && layer < hp->n_layers; layer++)
        for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
            char full[128];
            slm_family_tensor_name(slm_family_by_name(hp->family), roles[i], hf, layer, full, sizeof full);
            if (strcmp(strstr(full, begin), at) == 0)
                return true;
        }
    return false;
}

typedef struct binding {
    const slm_hparams *hp;
    const slm_family *family;
    bool hf;
    slm_find_fn find;
    void *arg;
    slm_source_tensor *tensors;
    size_t n, capacity;
} binding;

static slm_status check_found(const slm_found *found, const char *name, uint32_t rows, uint32_t cols, slm_error *err)
{
    const slm_type_info *type = slm_type_get(found->type);
    if (type == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "tensor %s has a type that is not supported (%d)", name, (int) found->type);
    if (found->rows != rows || found->cols != cols) {
        slm_fail(err, SLM_FORMAT, "tensor %s has the shape %llu x %llu, the model demands %u x %u", name, (unsigned long long) found->rows,
                 (unsigned long long) found->cols, rows, cols);
        return SLM_FORMAT;
    }
    if (cols == 0 && !type->is_float)
        return slm_fail(err, SLM_UNSUPPORTED, "tensor %s is a vector of type %s, which is not supported", name, type->name);
    if ((cols == 0 ? rows : cols) % type->block_weights != 0)
        return slm_fail(err, SLM_FORMAT, "tensor %s: rows of %u weights do not divide into blocks of %u (%s)", name, cols,
                        type->block_weights, type->name);
    return SLM_OK;
}

/* Adds one tensor; *present tells whether the source has it. */
static slm_status bind_one(binding *b, slm_tensor_role role, uint32_t layer, bool required, bool *present, slm_error *err)
{
    char name[128];
    slm_found found;
    uint32_t rows, cols;
    slm_family_tensor_name(b->family, role, b->hf, slm_family_name_layer(b->family, role, layer), name, sizeof name);
    if (b->hf && b->hp->tags && (role == SLM_TENSOR_CLS_OUT || role == SLM_TENSOR_CLS_OUT_BIAS))
        snprintf(name, sizeof name, "classifier.%s", role == SLM_TENSOR_CLS_OUT ? "weight" : "bias"); /* in every family */
    slm_role_shape(b->hp, role, layer, &rows, &cols);
    *present = b->find(b->arg, role, name, &found);
    if (!*present)
        return required ? slm_fail(err, SLM_FORMAT, "the model lacks the tensor %s", name) : SLM_OK;
    SLM_TRY(check_found(&found, name, rows, cols, err));
    if (b->n == b->capacity) {
        size_t capacity = b->capacity ? 2 * b->capacity : 64;
        slm_source_tensor *grown = realloc(b->tensors, capacity * sizeof *grown);
        if (grown == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
        b->tensors = grown;
        b->capacity = capacity;
    }
    b->tensors[b->n++] = (slm_source_tensor){.role = role, .layer = layer, .rows = rows, .cols = cols, .type = found.type,
                                             .offset = found.offset, .file = found.file};
    return SLM_OK;
}

/* Models with a decision head have matrices in one in some layers and apart in the others: the head's query, key and value are one, and
 * where the text's layers have gate and up in one, the head's have up alone. */
static bool in_other_form(const binding *b, slm_tensor_role role, uint32_t layer)
{
    bool head = slm_layer_decides(b->hp, layer), apart = slm_family_need(b->family, SLM_TENSOR_ATTN_Q, false) == SLM_NEED_ALWAYS;
    if (role == SLM_TENSOR_ATTN_QKV)
        return apart && !head;
    if (role == SLM_TENSOR_ATTN_Q || role == SLM_TENSOR_ATTN_K || role == SLM_TENSOR_ATTN_V)
        return head;
    return role == SLM_TENSOR_FFN_UP && !head && slm_family_need(b->family, SLM_TENSOR_FFN_GATE_UP, false) == SLM_NEED_ALWAYS;
}

/* A role of layer `layer`, or of the whole model; optional ones must be everywhere or nowhere (layer 0 decides). */
static slm_status bind_role(binding *b, slm_tensor_role role, uint32_t layer, slm_error *err)
{
    slm_need need = slm_family_need(b->family, role, false);
    bool head = (role >= SLM_TENSOR_CLS_DENSE && role <= SLM_TENSOR_CLS_OUT_BIAS) || role == SLM_TENSOR_CLS_NORM ||
        role == SLM_TENSOR_CLS_NORM_BIAS;
    if (slm_role_of_joint(role))
        need = SLM_NEED_ALWAYS;
    if (head && (b->hp->pooling != SLM_POOL_RANK || b->hp->joint == SLM_JOINT_GLICLASS))
        return SLM_OK;
    if (head && b->hp->tags && !b->family->tag_dense && role != SLM_TENSOR_CLS_OUT && role != SLM_TENSOR_CLS_OUT_BIAS)
        return SLM_OK; /* a pooler that nothing reads */
    if (role == SLM_TENSOR_CLS_OUT && need != SLM_NEED_NEVER)
        need = SLM_NEED_ALWAYS; /* what a model with a head answers with */
    if (role >= SLM_TENSOR_DENSE_0 && role <= SLM_TENSOR_DENSE_2_BIAS) {
        uint32_t module = (uint32_t) (role - SLM_TENSOR_DENSE_0) / 2;
        need = module >= b->hp->n_dense ? SLM_NEED_NEVER : (role - SLM_TENSOR_DENSE_0) % 2 == 0 ? SLM_NEED_ALWAYS : SLM_NEED_OPTIONAL;
    }
    if (slm_role_of_spans(role))
        need = SLM_NEED_ALWAYS; /* those that its kind of head has */
    if (role == SLM_TENSOR_AFTER_NORM || role == SLM_TENSOR_AFTER_NORM_BIAS)
        need = b->hp->after_norm_dim > 0 ? SLM_NEED_ALWAYS : SLM_NEED_NEVER;
    if (b->family->decides != NULL && in_other_form(b, role, layer))
        need = SLM_NEED_NEVER;
    bool present, first;
    char name[128];
    slm_found found;
    if (need == SLM_NEED_NEVER)
        return SLM_OK;
    if (need == SLM_NEED_ALWAYS)
        return bind_one(b, role, layer, true, &present, err);
    SLM_TRY(bind_one(b, role, layer, false, &present, err));
    if (layer == 0)
        return SLM_OK;
    slm_family_tensor_name(b->family, role, b->hf, 0, name, sizeof name);
    first = b->find(b->arg, role, name, &found);
    if (first != present)
        return slm_fail(err, SLM_FORMAT, "%s is in some layers only", slm_role_get(role)->name);
    return SLM_OK;
}

static slm_status bind_all(binding *b, slm_error *err)
{
    bool present;
    for (unsigned role = 0; role < SLM_TENSOR_ROLES; role++)
        if (!slm_role_get(role)->per_layer && role != SLM_TENSOR_OUTPUT && role != SLM_TENSOR_OUTPUT_NORM &&
            slm_role_in_layer(b->hp, role, 0))
            SLM_TRY(bind_role(b, role, 0, err));
    for (uint32_t layer = 0; layer < b->hp->n_layers; layer++)
        for (unsigned role = 0; role < SLM_TENSOR_ROLES; role++)
            if (slm_role_get(role)->per_layer && slm_role_in_layer(b->hp, role, layer))
                SLM_TRY(bind_role(b, role, layer, err));
    SLM_TRY(bind_role(b, SLM_TENSOR_OUTPUT_NORM, 0, err));
    if (b->hp->causal && !b->hp->tied_head)
        SLM_TRY(bind_one(b, SLM_TENSOR_OUTPUT, 0, true, &present, err));
    return SLM_OK;
}

slm_status slm_family_bind(const slm_hparams *hp, bool hf, slm_find_fn find, void *arg, slm_source_tensor **tensors, size_t *n_tensors,
                           slm_error *err)
{
    binding b = {.hp = hp, .family = slm_family_by_name(hp->family), .hf = hf, .find = find, .arg = arg};
    if (b.family == NULL)
        return slm_fail(err, SLM_INTERNAL, "unknown family");
    slm_status status = bind_all(&b, err);
    if (status != SLM_OK) {
        free(b.tensors);
        return status;
    }
    *tensors = b.tensors;
    *n_tensors = b.n;
    return SLM_OK;
}
