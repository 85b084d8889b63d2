/*
 * one_expression.c: a user's expression inside a statement of the extension; see one_expression.h.
 *
 * The server asks a hook about every column reference before it looks at the tables.  Ours answers for `slm_expression` (and
 * `slm_condition`) only, with the user's expression transformed at this place, so that it sees the tables, CTEs and outer columns that
 * a written expression would see.  While it is transformed the hook is silent: a user's own `slm_expression` is a column as any other,
 * and his $1 is an error.
 *
 * Positions in errors are those in the user's text: it is shown as the query that failed, as for a statement inside PL/pgSQL.
 */
#include "pg/base/one_expression.h"

#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "parser/parse_coerce.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"

#include "pg/base/compat.h"

struct SlmExpression {
    const char *sql;
    Node *tree;               /* as the grammar made it */
    SlmExpression *condition; /* NULL: none */
    bool transforming;        /* the hook is at work on it or its condition */
    int n_types;              /* parameters of the statement around it */
    Oid *types;
    const char *column; /* for which its value is; NULL: of its own type */
    Oid type;
    int32 typmod;
    bool loose;
    bool parallel;               /* the statement around it may have a parallel plan */
    bool preparing;              /* by us, not anew by the server: */
    ErrorContextCallback *outer; /* then, who says more about errors; the statement around the expression tells the user nothing */
};

/* ---------------------------------------------------------------- errors */

/* Turns a position in the expression into one of an internal query; arg is the expression's text. */
static void expression_position(void *arg)
{
    int position = geterrposition();

    if (position > 0) {
        errposition(0);
        internalerrposition(position);
        internalerrquery(arg);
    }
    if (geterrcode() == ERRCODE_SYNTAX_ERROR)
        errhint("Give one SQL expression over the columns of the row, such as slm_summarize(body).");
}

pg_noreturn static void refuse(int code, const char *what)
{
    ereport(ERROR, (errcode(code), errmsg("%s", what),
                    errhint("Give one SQL expression over the columns of the row, such as slm_summarize(body).")));
}

/* ---------------------------------------------------------------- parsing */

static bool has_parameter(Node *node, void *context)
{
    if (node == NULL)
        return false;
    return IsA(node, ParamRef) || raw_expression_tree_walker(node, has_parameter, context);
}

/* "*", "t.*" or "(f(x)).*". */
static bool is_star(const Node *node)
{
    const List *parts = IsA(node, ColumnRef) ? ((const ColumnRef *) node)->fields
                        : IsA(node, A_Indirection) ? ((const A_Indirection *) node)->indirection : NIL;

    return parts != NIL && IsA(llast(parts), A_Star);
}

/* The grammar for expressions of PL/pgSQL: what may follow SELECT, without INTO, set operations and semicolons. */
static Node *parse(const char *sql)
{
    ErrorContextCallback callback = {error_context_stack, expression_position, unconstify(char *, sql)};
    const SelectStmt *select;
    const ResTarget *target;
    List *statements;

    error_context_stack = &callback;
    statements = raw_parser(sql, RAW_PARSE_PLPGSQL_EXPR);
    error_context_stack = callback.previous;
    if (list_length(statements) != 1 || !IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt))
        refuse(ERRCODE_SYNTAX_ERROR, "the expression is not one SQL expression");
    select = (const SelectStmt *) linitial_node(RawStmt, statements)->stmt;
    if (list_length(select->targetList) != 1)
        refuse(ERRCODE_SYNTAX_ERROR, select->targetList == NIL ? "the expression is empty" : "the expression has more than one value");
    if (select->distinctClause != NIL || select->intoClause != NULL || select->fromClause != NIL || select->whereClause != NULL ||
        select->groupClause != NIL || select->havingClause != NULL || select->windowClause != NIL || select->valuesLists != NIL ||
        select->sortClause != NIL || select->limitOffset != NULL || select->limitCount != NULL || select->lockingClause != NIL ||
        select->withClause != NULL || select->op != SETOP_NONE)
        refuse(ERRCODE_SYNTAX_ERROR, "the expression is followed by a clause of a query");
    target = linitial_node(ResTarget, select->targetList);
    if (target->name != NULL)
        refuse(ERRCODE_SYNTAX_ERROR, "the expression has an alias");
    if (is_star(target->val))
        refuse(ERRCODE_SYNTAX_ERROR, "the expression is a list of columns");
    if (has_parameter(target->val, NULL))
        refuse(ERRCODE_UNDEFINED_PARAMETER, "the expression has a parameter");
    return target->val;
}

SlmExpression *slm_pg_parse_expression(const char *sql)
{
    SlmExpression *expression = palloc0(sizeof *expression);

    expression->sql = pstrdup(sql);
    expression->tree = parse(expression->sql);
    return expression;
}

void slm_pg_expression_as(SlmExpression *expression, const char *column, Oid type, int32 typmod, bool loose)
{
    expression->column = MemoryContextStrdup(GetMemoryChunkContext(expression), column);
    expression->type = type;
    expression->typmod = typmod;
    expression->loose = loose;
}

/* ---------------------------------------------------------------- analysis */

static Node *assigned(ParseState *state, const SlmExpression *expression, Node *value)
{
    Oid type = exprType(value);
    Node *result = coerce_to_target_type(state, value, type, expression->type, expression->typmod,
                                         expression->loose ? COERCION_PLPGSQL : COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);

    if (result == NULL)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("column \"%s\" is of type %s but the expression is of type %s", expression->column,
                               format_type_be(expression->type), format_type_be(type)),
                        errhint("Cast the expression: (...)::%s.", format_type_with_typemod(expression->type, expression->typmod))));
    return result;
}

void slm_pg_expression_where(SlmExpression *expression, SlmExpression *condition)
{
    expression->condition = condition;
}

/* Transforms `part`, which is the expression or its condition. */
static Node *transform(ParseState *state, SlmExpression *expression, const SlmExpression *part)
{
    ErrorContextCallback *context = error_context_stack;
    ErrorContextCallback callback = {expression->preparing ? expression->outer : context, expression_position,
                                     unconstify(char *, part->sql)};
    const char *source = state->p_sourcetext;
    bool aggregates = state->p_hasAggs, windows = state->p_hasWindowFuncs, sets = state->p_hasTargetSRFs;
    Node *result;

    state->p_hasAggs = state->p_hasWindowFuncs = state->p_hasTargetSRFs = false;
    state->p_sourcetext = part->sql;
    expression->transforming = true;
    error_context_stack = &callback;
    result = transformExpr(state, copyObject(part->tree), state->p_expr_kind);
    if (part->column != NULL)
        result = assigned(state, part, result);
    if (part == expression->condition)
        result = coerce_to_boolean(state, result, "WHERE");
    if (state->p_hasAggs || state->p_hasWindowFuncs)
        refuse(state->p_hasAggs ? ERRCODE_GROUPING_ERROR : ERRCODE_WINDOWING_ERROR,
               state->p_hasAggs ? "the expression is an aggregate over rows" : "the expression is a window function over rows");
    if (state->p_hasTargetSRFs)
        refuse(ERRCODE_FEATURE_NOT_SUPPORTED, "the expression returns a set of rows");
    error_context_stack = context;
    expression->transforming = false;
    state->p_sourcetext = source;
    state->p_hasAggs = aggregates;
    state->p_hasWindowFuncs = windows;
    state->p_hasTargetSRFs = sets;
    return result;
}

static Node *column_hook(ParseState *state, ColumnRef *column)
{
    SlmExpression *expression = state->p_ref_hook_state;
    const Node *name = linitial(column->fields);

    if (expression->transforming || list_length(column->fields) != 1 || !IsA(name, String))
        return NULL;
    if (strcmp(strVal(name), "slm_expression") == 0)
        return transform(state, expression, expression);
    if (strcmp(strVal(name), "slm_condition") == 0 && expression->condition != NULL)
        return transform(state, expression, expression->condition);
    return NULL;
}

static Node *parameter_hook(ParseState *state, ParamRef *reference)
{
    const SlmExpression *expression = state->p_ref_hook_state;
    Param *parameter;

    if (expression->transforming || reference->number < 1 || reference->number > expression->n_types)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_PARAMETER), errmsg("there is no parameter $%d", reference->number)));
    parameter = makeNode(Param);
    parameter->paramkind = PARAM_EXTERN;
    parameter->paramid = reference->number;
    parameter->paramtype = expression->types[reference->number - 1];
    parameter->paramtypmod = -1;
    parameter->paramcollid = get_typcollation(parameter->paramtype);
    parameter->location = reference->location;
    return (Node *) parameter;
}

/* Called before each analysis; an error may have left the expression in the middle of one. */
static void set_hooks(ParseState *state, void *arg)
{
    ((SlmExpression *) arg)->transforming = false;
    state->p_ref_hook_state = arg;
    state->p_pre_columnref_hook = column_hook;
    state->p_paramref_hook = parameter_hook;
}

/* ---------------------------------------------------------------- plans */

void slm_pg_expression_parallel(SlmExpression *expression)
{
    expression->parallel = true;
}

SPIPlanPtr slm_pg_prepare_with(const char *statement, SlmExpression *expression, int n_types, const Oid *types)
{
    SPIPrepareOptions options = {.parserSetup = set_hooks, .parserSetupArg = expression, .parseMode = RAW_PARSE_DEFAULT};
    MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(expression));
    SPIPlanPtr plan;

    options.cursorOptions = expression->parallel ? CURSOR_OPT_PARALLEL_OK : 0;
    expression->n_types = n_types;
    expression->types = palloc(sizeof(Oid) * Max(n_types, 1));
    for (int i = 0; i < n_types; i++)
        expression->types[i] = types[i];
    expression->outer = error_context_stack;
    expression->preparing = true;
    plan = SPI_prepare_extended(statement, &options);
    expression->preparing = false;
    MemoryContextSwitchTo(old); /* SPI has left its own */
    if (plan == NULL)
        elog(ERROR, "could not prepare \"%s\": %s", statement, SPI_result_code_string(SPI_result));
    return plan;
}

int slm_pg_execute_with(SPIPlanPtr plan, const SlmExpression *expression, const Datum *values, const char *nulls, bool read_only,
                        long count)
{
    ParamListInfo parameters = makeParamList(expression->n_types);

    for (int i = 0; i < expression->n_types; i++)
        parameters->params[i] = (ParamExternData){values[i], nulls != NULL && nulls[i] == 'n', PARAM_FLAG_CONST, expression->types[i]};
    return SPI_execute_plan_with_paramlist(plan, parameters, read_only, count);
}

const Query *slm_pg_analysed(SPIPlanPtr plan)
{
    const List *sources = SPI_plan_get_plan_sources(plan);

    if (list_length(sources) != 1 || list_length(((CachedPlanSource *) linitial(sources))->query_list) != 1)
        elog(ERROR, "a statement with an expression is not one statement");
    return linitial_node(Query, ((CachedPlanSource *) linitial(sources))->query_list);
}

bool slm_pg_writes(SPIPlanPtr plan)
{
    const Query *query = slm_pg_analysed(plan);

    return query->commandType != CMD_SELECT || query->hasModifyingCTE;
}
