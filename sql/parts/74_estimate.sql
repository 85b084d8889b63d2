-- ---------------------------------------------------------------- before it runs (src/pg/batch/estimate.c)

CREATE FUNCTION slm_estimate(query text,
    api text DEFAULT 'gpt-4o-mini',
    sample integer DEFAULT 100,
    seconds double precision DEFAULT 20,
    OUT figure text,
    OUT estimate double precision,
    OUT low double precision,
    OUT high double precision,
    OUT unit text,
    OUT note text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_estimate' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 11;
COMMENT ON FUNCTION slm_estimate(text, text, integer, double precision) IS
    'What a statement will take, before it runs: rows, calls, distinct calls, tokens in, out and computed, minutes, hours of a core, and what '
    'it costs here (by slm.machine_cost_per_hour), at a hosted model of slm.prices and at the cheapest of them, each with a 95 % interval. '
    'The rows that its calls read are counted, for a third of the time at most; a sample of their different inputs is computed, in about so '
    'many seconds. The statement is a SELECT, or an INSERT, UPDATE, DELETE or MERGE, whose reading part runs and which writes nothing: '
    'read-only, with your privileges, rolled back';
