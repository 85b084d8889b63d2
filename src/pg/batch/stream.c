/*
 * stream.c: slm_generate_stream in FROM, row by row.
 *
 *   SELECT ... FROM slm_generate_stream(...) s   ──►   SELECT ... FROM (SELECT slm_generate_stream(...)) s
 *
 * The executor collects what a function in FROM gives before it hands on the first row; one in a select list is asked for a row at a time.
 * So a statement that reads from a stream and nothing else is planned as its other form.  Beside other relations it is left as it is:
 * there the rows may be read more than once, and are to be computed once.
 */
#include "postgres.h"

#include "access/transam.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "rewrite/rewriteManip.h"

#include "pg/batch/batch.h"
#include "pg/functions/kinds.h"
#include "pg/run/work.h"

/* The call, where the relation is a stream and nothing else. */
static FuncExpr *stream_of(const RangeTblEntry *rte)
{
    const RangeTblFunction *function;

    if (rte->rtekind != RTE_FUNCTION || rte->funcordinality || list_length(rte->functions) != 1)
        return NULL;
    function = linitial_node(RangeTblFunction, rte->functions);
    if (!IsA(function->funcexpr, FuncExpr) || function->funccolnames != NIL ||
        ((FuncExpr *) function->funcexpr)->funcid < FirstNormalObjectId ||
        slm_pg_work_kind(((FuncExpr *) function->funcexpr)->funcid) != &slm_pg_generate_stream_kind)
        return NULL;
    return (FuncExpr *) function->funcexpr;
}

void slm_pg_batch_stream(Query *query)
{
    RangeTblEntry *rte;
    FuncExpr *call;
    Query *subquery;
    int place;

    if (query->commandType != CMD_SELECT || query->jointree == NULL || list_length(query->jointree->fromlist) != 1 ||
        !IsA(linitial(query->jointree->fromlist), RangeTblRef))
        return;
    place = linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex;
    rte = list_nth_node(RangeTblEntry, query->rtable, place - 1);
    call = stream_of(rte);
    if (call == NULL)
        return;
    IncrementVarSublevelsUp((Node *) call, 1, 0);
    subquery = makeNode(Query);
    subquery->commandType = CMD_SELECT;
    subquery->querySource = QSRC_ORIGINAL;
    subquery->canSetTag = true;
    subquery->hasTargetSRFs = true;
    subquery->hasSubLinks = query->hasSubLinks; /* its arguments may be some */
    subquery->jointree = makeFromExpr(NIL, NULL);
    subquery->targetList = list_make1(makeTargetEntry((Expr *) call, 1, pstrdup("slm_generate_stream"), false));
    rte->rtekind = RTE_SUBQUERY;
    rte->subquery = subquery;
    rte->functions = NIL;
}
