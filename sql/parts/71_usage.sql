-- ---------------------------------------------------------------- usage (src/pg/run/ledger.c)

CREATE FUNCTION slm.ledger(OUT day date,
    OUT role_id oid,
    OUT database_id oid,
    OUT application_name text,
    OUT function text,
    OUT model text,
    OUT calls bigint,
    OUT distinct_calls bigint,
    OUT requests bigint,
    OUT prompt_tokens bigint,
    OUT reused_tokens bigint,
    OUT output_tokens bigint,
    OUT label_tokens bigint,
    OUT scored_tokens bigint,
    OUT steps bigint,
    OUT prefill_ns bigint,
    OUT decode_ns bigint,
    OUT cpu_ns bigint)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_usage_rows' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 100;
COMMENT ON FUNCTION slm.ledger() IS 'What slm.usage is made of: the rows of roles whose rights the caller has, all for pg_read_all_stats';

CREATE VIEW slm.usage WITH (security_barrier) AS
SELECT u.day, r.rolname AS role, d.datname AS database, u.application_name, u.function, u.model, u.calls, u.distinct_calls, u.requests,
       u.prompt_tokens, u.reused_tokens, u.output_tokens, u.label_tokens,
       u.prompt_tokens OPERATOR(pg_catalog.-) u.reused_tokens OPERATOR(pg_catalog.+) u.output_tokens OPERATOR(pg_catalog.+) u.label_tokens AS tokens,
       u.cpu_ns::pg_catalog.float8 OPERATOR(pg_catalog./) 1e9::pg_catalog.float8 AS cpu_seconds,
       (u.prefill_ns OPERATOR(pg_catalog.+) u.decode_ns)::pg_catalog.float8 OPERATOR(pg_catalog./) 1e9::pg_catalog.float8 AS wall_seconds
FROM slm.ledger() u
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) u.role_id
LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) u.database_id;
GRANT SELECT ON slm.usage TO PUBLIC;
COMMENT ON VIEW slm.usage IS
    'What was computed, by day, role, database, application, function and model: rolled back, cancelled and failed statements too, as they have computed. Own rows, those of roles whose rights one has, '
    'all with pg_read_all_stats. Kept over restarts where slm_pg is in shared_preload_libraries; else it shows the own session alone';
COMMENT ON COLUMN slm.usage.day IS 'Day in UTC';
COMMENT ON COLUMN slm.usage.role IS 'Who pays: the role that the session was set to (SET ROLE), whatever rights a function lent it; of a job its owner; NULL: several, or one that was dropped';
COMMENT ON COLUMN slm.usage.database IS 'Database; NULL: several, or one that was dropped';
COMMENT ON COLUMN slm.usage.application_name IS 'application_name of the session';
COMMENT ON COLUMN slm.usage.function IS 'Function that was called; (other): rows that were folded as there was no more room (slm.usage_rows)';
COMMENT ON COLUMN slm.usage.model IS 'Name of the model when it was mapped; name+adapter where one was used';
COMMENT ON COLUMN slm.usage.calls IS 'Calls of the function for a row';
COMMENT ON COLUMN slm.usage.distinct_calls IS 'Of them, those that were computed: equal calls of a statement are computed once';
COMMENT ON COLUMN slm.usage.requests IS 'Requests to the model: more than calls where a long text is read in windows';
COMMENT ON COLUMN slm.usage.prompt_tokens IS 'Tokens of prompts';
COMMENT ON COLUMN slm.usage.reused_tokens IS 'Of them, those whose keys and values were there already';
COMMENT ON COLUMN slm.usage.output_tokens IS 'Tokens of answers';
COMMENT ON COLUMN slm.usage.label_tokens IS 'Tokens of labels that went through the model';
COMMENT ON COLUMN slm.usage.tokens IS 'Tokens that were computed: prompts without what was reused, answers, labels';
COMMENT ON COLUMN slm.usage.cpu_seconds IS 'CPU time of the model, all threads, in seconds';
COMMENT ON COLUMN slm.usage.wall_seconds IS 'Time of the model, in seconds';

CREATE VIEW slm.usage_totals WITH (security_barrier) AS
SELECT u.role, u.database, u.function, u.model, pg_catalog.sum(u.calls) AS calls_total, pg_catalog.sum(u.distinct_calls) AS distinct_calls_total,
       pg_catalog.sum(u.prompt_tokens) AS prompt_tokens_total, pg_catalog.sum(u.reused_tokens) AS reused_tokens_total,
       pg_catalog.sum(u.output_tokens) AS output_tokens_total, pg_catalog.sum(u.label_tokens) AS label_tokens_total,
       pg_catalog.sum(u.tokens) AS tokens_total, pg_catalog.sum(u.cpu_seconds) AS cpu_seconds_total, pg_catalog.sum(u.wall_seconds) AS wall_seconds_total
FROM slm.usage u GROUP BY u.role, u.database, u.function, u.model;
GRANT SELECT ON slm.usage_totals TO PUBLIC;
COMMENT ON VIEW slm.usage_totals IS
    'slm.usage summed up over days and applications, as counters for a monitoring system: labels first, then *_total, which grow until slm_reset_usage, or until days grow older than slm.usage_days';

CREATE FUNCTION slm_reset_usage(role pg_catalog.regrole DEFAULT NULL)
RETURNS integer AS 'MODULE_PATHNAME', 'slm_pg_reset_usage' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION slm_reset_usage(pg_catalog.regrole) FROM PUBLIC;
COMMENT ON FUNCTION slm_reset_usage(pg_catalog.regrole) IS
    'Forgets the rows of slm.usage, of all databases: those of a role, or all (NULL). Returns how many there were. Superusers';
