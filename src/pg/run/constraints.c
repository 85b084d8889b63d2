/*
 * constraints.c: compiled constraints, the most recently used first.
 *
 * A statement uses one for all its rows, so few are kept.  They are found by model, kind, role and text: what a role has written, and how
 * long its compiling took, is nobody else's business (DESIGN D16).  A constraint keeps its model open, so those of a model that is closed
 * go first.
 */
#include "pg/run/constraints.h"

#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "pg/base/errors.h"

#define KEPT 8

typedef struct Kept {
    dlist_node node;
    const slm_model *model;
    slm_constraint_kind kind;
    Oid role;
    slm_constraint *constraint;
    char text[FLEXIBLE_ARRAY_MEMBER];
} Kept;

static dlist_head kept = DLIST_STATIC_INIT(kept);
static int n_kept;

static void forget(Kept *k)
{
    dlist_delete(&k->node);
    n_kept--;
    slm_constraint_free(k->constraint);
    pfree(k);
}

void slm_pg_forget_constraints(const slm_model *model)
{
    dlist_mutable_iter it;

    dlist_foreach_modify(it, &kept) {
        Kept *k = dlist_container(Kept, node, it.cur);

        if (model == NULL || k->model == model)
            forget(k);
    }
}

static Kept *find(const slm_model *model, slm_constraint_kind kind, const char *text)
{
    dlist_iter it;

    dlist_foreach(it, &kept) {
        Kept *k = dlist_container(Kept, node, it.cur);

        if (k->model == model && k->kind == kind && k->role == GetUserId() && strcmp(k->text, text) == 0)
            return k;
    }
    return NULL;
}

/* A constraint that is refused has a hint: what to write instead, as a form that is taken. */
static void hint_of(slm_constraint_kind kind, slm_error *err)
{
    static const char *const examples[] = {
        [SLM_CONSTRAINT_JSON_SCHEMA] = "{\"type\": \"object\", \"properties\": {\"order\": {\"type\": \"string\"}}, "
                                       "\"required\": [\"order\"]}",
        [SLM_CONSTRAINT_REGEX] = "[A-Z]{2}[0-9]{4}",
        [SLM_CONSTRAINT_GBNF] = "root ::= \"yes\" | \"no\"",
    };
    const char *advice = err->status == SLM_UNSUPPORTED ? "Leave it out, and say in the prompt what it means. "
                         : err->status == SLM_LIMIT     ? "Ask for less: fewer choices, shorter repetitions. "
                                                        : "";

    if (err->hint[0] == '\0' && (err->status == SLM_UNSUPPORTED || err->status == SLM_LIMIT || err->status == SLM_INVALID))
        snprintf(err->hint, sizeof err->hint, "%sFor example: %s", advice, examples[kind]);
}

slm_constraint *slm_pg_constraint(SlmOpenModel *opened, slm_constraint_kind kind, const char *text)
{
    slm_model *model = slm_pg_opened_model(opened);
    Kept *k = find(model, kind, text);
    size_t length = strlen(text);
    slm_error err = {0};

    if (k != NULL) {
        dlist_move_head(&kept, &k->node);
        return k->constraint;
    }
    k = MemoryContextAlloc(TopMemoryContext, offsetof(Kept, text) + length + 1);
    if (slm_constraint_compile(model, kind, text, length, &k->constraint, &err) != SLM_OK) {
        pfree(k);
        hint_of(kind, &err);
        slm_pg_error(&err, NULL);
    }
    k->model = model;
    k->kind = kind;
    k->role = GetUserId();
    memcpy(k->text, text, length + 1);
    if (n_kept == KEPT)
        forget(dlist_container(Kept, node, dlist_tail_node(&kept)));
    dlist_push_head(&kept, &k->node);
    n_kept++;
    return k->constraint;
}

char *slm_pg_constraint_words(const slm_constraint *constraint)
{
    dlist_iter it;

    dlist_foreach(it, &kept) {
        const Kept *k = dlist_container(Kept, node, it.cur);

        if (k->constraint == constraint)
            return psprintf("%d:%s", (int) k->kind, k->text);
    }
    elog(ERROR, "a request has a constraint that nobody keeps");
}
