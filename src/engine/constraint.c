/*
 * slm_constraint_compile: a grammar for the tokens of a model, which stays open with it.
 */
#include "engine/decode/grammar.h"
#include "engine/model/model.h"
#include "engine/slm.h"

static void close_model(void *model)
{
    slm_model_close(model);
}

slm_status slm_constraint_compile(slm_model *model, slm_constraint_kind kind, const char *text, size_t length, slm_constraint **out,
                                  slm_error *err)
{
    static const slm_grammar_kind kinds[] = {
        [SLM_CONSTRAINT_JSON_SCHEMA] = SLM_GRAMMAR_JSON_ANSWER,
        [SLM_CONSTRAINT_REGEX] = SLM_GRAMMAR_REGEX,
        [SLM_CONSTRAINT_GBNF] = SLM_GRAMMAR_GBNF,
    };

    if ((unsigned) kind >= sizeof kinds / sizeof *kinds)
        return slm_fail(err, SLM_INVALID, "unknown kind %d of constraint", (int) kind);
    if (model->tokenizer == NULL || !slm_model_get_info(model)->can_generate)
        return slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" cannot generate text", slm_model_get_info(model)->name);
    SLM_TRY(slm_grammar_constraint(model->tokenizer, model->hp.n_vocab, kinds[kind], text, length, out, err));
    model->references++;
    (*out)->owner = model;
    (*out)->release = close_model;
    return SLM_OK;
}
