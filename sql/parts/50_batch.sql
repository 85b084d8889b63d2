-- ---------------------------------------------------------------- batches (src/pg/batch)

CREATE FUNCTION slm_support(internal) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_support' LANGUAGE C STRICT;
COMMENT ON FUNCTION slm_support(internal) IS 'Planner support: the cost of a call from the width of its text, the length of its answer and the size of the model';

-- Every function that runs a model on a text gets its cost from there.
DO $$
DECLARE
    f pg_catalog.regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
        WHERE p.pronamespace OPERATOR(pg_catalog.=) '@extschema@'::pg_catalog.regnamespace::pg_catalog.oid AND l.lanname OPERATOR(pg_catalog.=) 'c'::pg_catalog.name AND p.prosrc OPERATOR(pg_catalog.=) ANY (ARRAY['slm_pg_generate', 'slm_pg_generate_details', 'slm_pg_summarize', 'slm_pg_summarize_details',
            'slm_pg_classify', 'slm_pg_classify_details', 'slm_pg_classify_scores_json', 'slm_pg_classify_multi', 'slm_pg_embed', 'slm_pg_embed_details',
            'slm_pg_embed_query', 'slm_pg_similarity', 'slm_pg_perplexity'])
            AND p.probin OPERATOR(pg_catalog.=) 'MODULE_PATHNAME'::pg_catalog.text LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s SUPPORT @extschema@.slm_support', f);
    END LOOP;
END $$;

CREATE FUNCTION slm.running_batches(OUT pid integer, OUT database_id oid, OUT role_id oid, OUT started timestamptz, OUT rows_done bigint, OUT rows_total bigint,
    OUT total_is_exact boolean, OUT percent double precision, OUT tokens bigint, OUT rows_per_second double precision, OUT tokens_per_second double precision,
    OUT seconds_left double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_progress' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION slm.running_batches() IS 'What slm.progress is made of: every process with slm_* calls; figures of those whose statistics the caller may see, as in pg_stat_activity';

CREATE VIEW slm.progress WITH (security_barrier) AS
    SELECT r.pid, d.datname AS database, r.role_id::pg_catalog.regrole AS role, r.started, r.rows_done, r.rows_total, r.total_is_exact, r.percent, r.tokens, r.rows_per_second,
           r.tokens_per_second, pg_catalog.make_interval(secs => r.seconds_left) AS eta, CASE WHEN r.started IS NOT NULL THEN a.query END AS query
    FROM slm.running_batches() r LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) r.database_id
        LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) r.pid
    WHERE a.state IS NULL OR a.state OPERATOR(pg_catalog.<>) ALL (ARRAY['idle', 'idle in transaction', 'idle in transaction (aborted)']);
GRANT SELECT ON slm.progress TO PUBLIC;
COMMENT ON VIEW slm.progress IS
'Statements that compute slm_* calls now, in batches or singly: rows done and how many there will be, tokens so far, rates, and the time left. Other roles'' statements show their process, database and role alone. Needs slm_pg in shared_preload_libraries.';
COMMENT ON COLUMN slm.progress.rows_done IS 'Rows that have been through the batch nodes of the statement, or calls outside of them';
COMMENT ON COLUMN slm.progress.rows_total IS 'How many there will be; NULL where nobody can say';
COMMENT ON COLUMN slm.progress.total_is_exact IS 'Whether rows_total is known; else it is the planner''s estimate, corrected by what a scan of a table has met so far';
COMMENT ON COLUMN slm.progress.percent IS 'rows_done of rows_total';
COMMENT ON COLUMN slm.progress.tokens IS 'Tokens computed and written so far, those of rows under way included';
