/*
 * topk.c: slm_topk and slm_search: the rows of a table that come nearest to a vector, or to a question in words and in meaning.
 *
 *   question ──► embedding ──► the POOL nearest rows ───┐
 *            ──► tsquery ────► the POOL best rows ──────┴──► score = sum of 1 / (60 + place)
 *                                                            (reciprocal rank fusion: Cormack, Clarke, Buettcher, 2009)
 *
 * Any word of the question may stand in a row that is found by words; ts_rank puts those with more of them first.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "parser/parse_coerce.h"
#include "tsearch/ts_cache.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/functions/kinds.h"
#include "pg/run/use.h"
#include "pg/search/rows.h"
#include "pg/search/source.h"

PG_FUNCTION_INFO_V1(slm_pg_topk);
PG_FUNCTION_INFO_V1(slm_pg_search);

#define MOST 10000
#define POOL 5 /* times as many rows as are wanted, by words and by meaning */
#define LEAST_POOL 50

static const char *name_arg(FunctionCallInfo fcinfo, int i)
{
    return PG_ARGISNULL(i) ? NULL : NameStr(*PG_GETARG_NAME(i));
}

/* The rows that SPI holds, with as many columns as the function has. */
static void put_rows(FunctionCallInfo fcinfo, MemoryContext keep)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    int columns = SPI_tuptable->tupdesc->natts;
    MemoryContext old = MemoryContextSwitchTo(keep);

    for (uint64 row = 0; row < SPI_processed; row++) {
        Datum values[8];
        bool nulls[8];

        for (int c = 0; c < columns; c++) {
            bool is_text = TupleDescAttr(result->setDesc, c)->atttypid == TEXTOID;
            char *shown = is_text ? SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, c + 1) : NULL;

            values[c] = is_text ? (Datum) 0 : SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, c + 1, &nulls[c]);
            if (!is_text)
                continue;
            nulls[c] = shown == NULL;
            if (shown != NULL)
                values[c] = CStringGetTextDatum(shown);
        }
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    MemoryContextSwitchTo(old);
}

/* ---- slm_topk(query, source, vector_column, k, key_column, condition) */

Datum slm_pg_topk(PG_FUNCTION_ARGS)
{
    int k = slm_pg_int_arg(fcinfo, 3, "k", 10, 1, MOST);
    SlmSearched s = {0};
    SlmNearness near;
    const char *statement;
    MemoryContext keep = CurrentMemoryContext;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("query and vector_column must not be null"),
                        errhint("For example: SELECT * FROM slm_topk(slm_embed_query('late parcels'), 'tickets', 'embedding')")));
    InitMaterializedSRF(fcinfo, 0);
    SPI_connect();
    slm_pg_searched_begin(&s, fcinfo, 1, 4, 5);
    near = slm_pg_searched_nearness(&s, name_arg(fcinfo, 2));
    statement = psprintf("SELECT pg_catalog.concat(c.key), c.similarity "
                         "FROM (SELECT %s AS key, %s AS similarity FROM %s AS t WHERE %s IS NOT NULL AND slm_expression "
                         "ORDER BY %s LIMIT %d) AS c",
                         s.key, near.similarity, s.name, slm_pg_searched_column(&s, name_arg(fcinfo, 2), NULL), near.order, k);
    slm_pg_searched_run(&s, statement, PG_GETARG_DATUM(0));
    slm_pg_searched_end(&s);
    put_rows(fcinfo, keep);
    SPI_finish();
    return (Datum) 0;
}

/* ---- slm_search(question, source, text_column, vector_column, k, key_column, condition, config, model) */

enum { S_QUESTION, S_SOURCE, S_TEXT, S_VECTOR, S_K, S_KEY, S_CONDITION, S_CONFIG, S_MODEL };

static Datum real_array(const float *x, int n)
{
    Datum *elements = palloc(sizeof(Datum) * (Size) n);

    for (int i = 0; i < n; i++)
        elements[i] = Float4GetDatum(x[i]);
    return PointerGetDatum(construct_array(elements, n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

/* The words of the question, any of which may be there, as a literal; '' where it has none. */
static const char *any_word(const char *question, const char *config)
{
    const char *statement = psprintf("SELECT pg_catalog.replace(pg_catalog.plainto_tsquery(%s::pg_catalog.regconfig, %s)::pg_catalog.text, "
                                     "' & ', ' | ')",
                                     quote_literal_cstr(config), quote_literal_cstr(question));

    if (SPI_execute(statement, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "could not read the words of a question");
    return quote_literal_cstr(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
}

/* A part of the statement: the best rows of one kind, with their places. */
static char *places(const SlmSearched *s, const char *content, const char *condition, const char *order, int pool)
{
    return psprintf("SELECT pg_catalog.concat(p.key) AS key, p.content, p.place, "
                    "1::pg_catalog.float8 OPERATOR(pg_catalog./) (60 OPERATOR(pg_catalog.+) p.place)::pg_catalog.float8 AS score "
                    "FROM (SELECT c.key, c.content, pg_catalog.row_number() OVER () AS place "
                    "FROM (SELECT %s AS key, %s AS content FROM %s AS t WHERE %s AND slm_expression ORDER BY %s LIMIT %d) AS c) AS p",
                    s->key, content, s->name, condition, order, pool);
}

static const char *by_words(const SlmSearched *s, const char *content, const char *words, const char *config, int pool)
{
    const char *vector = psprintf("pg_catalog.to_tsvector(%s::pg_catalog.regconfig, %s)", quote_literal_cstr(config), content);
    const char *query = psprintf("%s::pg_catalog.tsquery", words);

    return places(s, content, psprintf("%s OPERATOR(pg_catalog.@@) %s", vector, query),
                  psprintf("pg_catalog.ts_rank(%s, %s, 1) DESC, pg_catalog.concat(%s)", vector, query, s->key), pool);
}

/* Both kinds of places as one, best first. */
static const char *fused(const char *words, const char *meaning, int k)
{
    return psprintf("WITH by_words AS MATERIALIZED (%s), by_meaning AS MATERIALIZED (%s) "
                    "SELECT coalesce(w.key, m.key), coalesce(w.content, m.content), "
                    "coalesce(w.score, 0::pg_catalog.float8) OPERATOR(pg_catalog.+) coalesce(m.score, 0::pg_catalog.float8), "
                    "w.place::pg_catalog.int4, m.place::pg_catalog.int4 "
                    "FROM by_words w FULL JOIN by_meaning m ON w.key OPERATOR(pg_catalog.=) m.key ORDER BY 3 DESC, 5, 4 LIMIT %d",
                    words, meaning, k);
}

static const char *statement_of(const SlmSearched *s, FunctionCallInfo fcinfo, const char *words, const char *config)
{
    Oid type;
    int k = slm_pg_int_arg(fcinfo, S_K, "k", 10, 1, MOST), pool = Max(LEAST_POOL, POOL * k);
    const char *content = slm_pg_searched_column(s, name_arg(fcinfo, S_TEXT), &type), *vector = name_arg(fcinfo, S_VECTOR);
    const char *none = psprintf("SELECT pg_catalog.concat(%s) AS key, %s AS content, "
                                "0::pg_catalog.int8 AS place, 0::pg_catalog.float8 AS score "
                                "FROM %s AS t WHERE false",
                                s->key, content, s->name);
    const char *meaning = none;

    if (!IsBinaryCoercible(type, TEXTOID))
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("column \"%s\" of %s has type %s, not text", name_arg(fcinfo, S_TEXT), s->name, format_type_be(type))));
    if (vector != NULL)
        meaning = places(s, content, psprintf("%s IS NOT NULL", slm_pg_searched_column(s, vector, NULL)),
                         slm_pg_searched_nearness(s, vector).order, pool);
    return fused(strcmp(words, "''") == 0 ? none : by_words(s, content, words, config, pool), meaning, k);
}

Datum slm_pg_search(PG_FUNCTION_ARGS)
{
    MemoryContext keep = CurrentMemoryContext;
    SlmSearched s = {0};
    const char *words, *config, *statement;
    Datum vector;

    if (PG_ARGISNULL(S_QUESTION) || PG_ARGISNULL(S_TEXT))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("question and text_column must not be null"),
                        errhint("For example: SELECT * FROM slm_search('late parcels', 'tickets', 'body', 'embedding')")));
    InitMaterializedSRF(fcinfo, 0);
    vector = PointerGetDatum(construct_empty_array(FLOAT4OID));
    if (!PG_ARGISNULL(S_VECTOR)) {
        SlmOpenModel *entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, S_MODEL), SLM_TASK_EMBED);

        vector = real_array(slm_pg_search_question(&slm_pg_search_kind, entry, PG_GETARG_TEXT_PP(S_QUESTION)),
                            (int) slm_pg_info(entry)->n_embd);
    }
    SPI_connect();
    config = DatumGetCString(DirectFunctionCall1(
        regconfigout, ObjectIdGetDatum(PG_ARGISNULL(S_CONFIG) ? getTSCurrentConfig(true) : PG_GETARG_OID(S_CONFIG))));
    words = any_word(text_to_cstring(PG_GETARG_TEXT_PP(S_QUESTION)), config);
    slm_pg_searched_begin(&s, fcinfo, S_SOURCE, S_KEY, S_CONDITION);
    statement = statement_of(&s, fcinfo, words, config);
    slm_pg_searched_run(&s, statement, vector);
    slm_pg_searched_end(&s);
    put_rows(fcinfo, keep);
    SPI_finish();
    return (Datum) 0;
}
