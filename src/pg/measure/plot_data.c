/*
 * plot_data.c: the rows of a query as the columns that a picture needs (plot.h).
 *
 *   query ──► SELECT m.accuracy::float8, m.series::text, ... FROM (query) AS m (its columns)            columns by their names
 *   query of one jsonb ──► SELECT ... FROM (query) AS q, jsonb_to_recordset(q) AS m (accuracy float8, ...)  as slm_evaluate gives lists
 *
 * The query is prepared alone first, so that what stands between the parentheses is one SELECT that writes nothing (answers.h).
 */
#include "pg/measure/plot.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "pg/base/compat.h"
#include "pg/base/encoding.h"
#include "pg/base/one_expression.h"
#include "pg/base/user_query.h"
#include "pg/measure/answers.h"

#define MOST_ROWS 20000
#define FETCH_ROWS 1000
#define TEXT_BYTES 400 /* of a label that are kept */

static pg_noreturn void refuse(const SlmPlotKind *kind, const char *what);

static void refuse(const SlmPlotKind *kind, const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                    errmsg("a picture of kind \"%s\" cannot be made of this query: %s", kind->name, what),
                    errhint("For example: SELECT slm_plot(%s, '%s');", quote_literal_cstr(kind->example), kind->name)));
    pg_unreachable();
}

static bool is_day(Oid type)
{
    return type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID;
}

static bool is_number(Oid type)
{
    Oid target = FLOAT8OID;

    return TypeCategory(type) == TYPCATEGORY_NUMERIC && can_coerce_type(1, &type, &target, COERCION_EXPLICIT);
}

/* The query's column of a picture's, -1: none. */
static int column_of(const SlmPlotColumn *column, TupleDesc desc, const char **name)
{
    for (int k = 0; k < SLM_PLOT_NAMES && column->names[k] != NULL; k++)
        for (int i = 0; i < desc->natts; i++)
            if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), column->names[k]) == 0) {
                *name = column->names[k];
                return i;
            }
    return -1;
}

static const char *joined_names(const SlmPlotColumn *column)
{
    return column->names[1] == NULL   ? column->names[0]
           : column->names[2] == NULL ? psprintf("%s or %s", column->names[0], column->names[1])
                                      : psprintf("%s, %s or %s", column->names[0], column->names[1], column->names[2]);
}

/* A column of the query, cast to what the picture takes. */
static const char *cast_column(SlmPlot *plot, int c, TupleDesc desc, const char *const *names)
{
    const SlmPlotColumn *column = &plot->kind->columns[c];
    int i = column_of(column, desc, &plot->found[c]);
    bool day;
    Oid type;

    if (i < 0 && column->needed)
        refuse(plot->kind, psprintf("it has no column %s", joined_names(column)));
    if (i < 0)
        return column->type == SLM_PLOT_TEXT ? "NULL::pg_catalog.text" : "NULL::pg_catalog.float8";
    type = TupleDescAttr(desc, i)->atttypid;
    if (column->type == SLM_PLOT_TEXT)
        return psprintf("m.%s::pg_catalog.text", names[i]);
    day = column->type != SLM_PLOT_NUMBER && is_day(type);
    if (!day && (column->type == SLM_PLOT_DAY || !is_number(type)))
        refuse(plot->kind, psprintf("column %s is of type %s, not %s", plot->found[c], format_type_be(type),
                                    column->type == SLM_PLOT_DAY ? "a date or timestamp" : "a number"));
    plot->days[c] = day;
    if (!day)
        return psprintf("m.%s::pg_catalog.float8", names[i]);
    return psprintf("pg_catalog.date_part('epoch', m.%s::pg_catalog.timestamp)", names[i]);
}

/* The elements of a list of objects have the first name of each column. */
static const char *statement_of_list(SlmPlot *plot, const char *query)
{
    StringInfoData columns, definitions;

    initStringInfo(&columns);
    initStringInfo(&definitions);
    for (int c = 0; c < SLM_PLOT_COLUMNS && plot->kind->columns[c].names[0] != NULL; c++) {
        const SlmPlotColumn *column = &plot->kind->columns[c];

        if (column->type == SLM_PLOT_DAY)
            refuse(plot->kind, "it gives one jsonb");
        plot->found[c] = column->names[0];
        appendStringInfo(&columns, "%sm.%s", c > 0 ? ", " : "", quote_identifier(column->names[0]));
        appendStringInfo(&definitions, "%s%s pg_catalog.%s", c > 0 ? ", " : "", quote_identifier(column->names[0]),
                         column->type == SLM_PLOT_TEXT ? "text" : "float8");
    }
    return psprintf("SELECT %s FROM (%s\n) AS q (list), pg_catalog.jsonb_to_recordset(q.list) AS m (%s)", columns.data, query,
                    definitions.data);
}

static TupleDesc look_at(const SlmPlotKind *kind, const char *query)
{
    const char *example = psprintf("SELECT slm_plot(%s, '%s');", quote_literal_cstr(kind->example), kind->name);
    SPIPlanPtr plan;

    slm_pg_refuse_name(query, example);
    plan = SPI_prepare(query, 0, NULL);
    if (plan == NULL || !SPI_is_cursor_plan(plan) || slm_pg_writes(plan))
        ereport(ERROR, (errcode(ERRCODE_INVALID_CURSOR_DEFINITION), errmsg("the query of slm_plot must be one SELECT that writes nothing"),
                        errhint("For example: %s", example)));
    return slm_pg_look_at_query(query, 1);
}

static const char *statement_of(SlmPlot *plot, const char *query)
{
    TupleDesc desc = look_at(plot->kind, query);
    const char **names = slm_pg_query_columns(desc);
    StringInfoData columns;

    if (desc->natts == 1 && TupleDescAttr(desc, 0)->atttypid == JSONBOID)
        return statement_of_list(plot, query);
    initStringInfo(&columns);
    for (int c = 0; c < SLM_PLOT_COLUMNS && plot->kind->columns[c].names[0] != NULL; c++)
        appendStringInfo(&columns, "%s%s", c > 0 ? ", " : "", cast_column(plot, c, desc, names));
    return psprintf("SELECT %s FROM (%s\n) AS m (%s)", columns.data, query, slm_pg_joined(names, desc->natts));
}

/* ---- rows */

static const char *short_utf8(const char *s)
{
    size_t length = strlen(s);

    if (length > TEXT_BYTES)
        length = (size_t) pg_mbcliplen(s, (int) Min(length, INT_MAX), TEXT_BYTES);
    return slm_pg_utf8_from_cstring(pnstrdup(s, length));
}

/* A row, in the context that keeps it; false: something that is needed is missing. */
static bool keep_row(SlmPlot *plot, HeapTuple row, TupleDesc desc)
{
    for (int c = 0; c < desc->natts; c++) {
        const SlmPlotColumn *column = &plot->kind->columns[c];
        bool isnull, there;

        if (column->type == SLM_PLOT_TEXT) {
            char *value = SPI_getvalue(row, desc, c + 1);

            plot->texts[c][plot->n] = value == NULL ? NULL : short_utf8(value);
            there = value != NULL;
        } else {
            Datum value = SPI_getbinval(row, desc, c + 1, &isnull);
            double number = isnull ? NAN : DatumGetFloat8(value);

            there = isfinite(number) && fabs(number) < 1e100;
            plot->numbers[c][plot->n] = there ? number : NAN;
        }
        if (!there && column->needed)
            return false;
    }
    return true;
}

static void make_columns(SlmPlot *plot)
{
    for (int c = 0; c < SLM_PLOT_COLUMNS && plot->kind->columns[c].names[0] != NULL; c++) {
        if (plot->kind->columns[c].type == SLM_PLOT_TEXT)
            plot->texts[c] = palloc(sizeof(char *) * MOST_ROWS);
        else
            plot->numbers[c] = palloc(sizeof(double) * MOST_ROWS);
    }
}

void slm_pg_plot_read(SlmPlot *plot, const char *query)
{
    MemoryContext keep = CurrentMemoryContext, old;
    Portal portal;
    SPIPlanPtr plan;

    make_columns(plot);
    SPI_connect();
    plan = SPI_prepare(statement_of(plot, slm_pg_trimmed(query)), 0, NULL);
    if (plan == NULL)
        elog(ERROR, "could not prepare the query of a picture");
    portal = slm_pg_open_query_plan(plan);
    for (;;) {
        slm_pg_fetch_query(portal, FETCH_ROWS);
        if (SPI_processed == 0)
            break;
        old = MemoryContextSwitchTo(keep);
        for (uint64 i = 0; i < SPI_processed; i++) {
            if (plot->n == MOST_ROWS)
                ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the query gives more than %d rows to draw", MOST_ROWS),
                                errhint("Sum them up with GROUP BY, or draw a part of them.")));
            plot->n += keep_row(plot, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
        }
        MemoryContextSwitchTo(old);
        SPI_freetuptable(SPI_tuptable);
        CHECK_FOR_INTERRUPTS();
    }
    SPI_cursor_close(portal);
    SPI_finish();
    if (plot->n == 0)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the query gives no row that can be drawn"),
                        errdetail("A row needs values that are not null and finite in the columns of kind \"%s\".", plot->kind->name),
                        errhint("For example: SELECT slm_plot(%s, '%s');", quote_literal_cstr(plot->kind->example), plot->kind->name)));
}
