-- ---------------------------------------------------------------- batches (src/pg/batch)

CREATE FUNCTION slm_support(internal) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_support' LANGUAGE C STRICT;
COMMENT ON FUNCTION slm_support(internal) IS 'Planner support: the cost of a call from the width of its text, the length of its answer and the size of the model';

-- Every function that runs a model on a text gets its cost from there.
DO $$
DECLARE
    f pg_catalog.regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = '@extschema@'::pg_catalog.regnamespace AND l.lanname = 'c' AND p.prosrc = ANY (ARRAY['slm_pg_generate', 'slm_pg_generate_details', 'slm_pg_summarize',
            'slm_pg_classify', 'slm_pg_classify_multi', 'slm_pg_classify_trained', 'slm_pg_embed', 'slm_pg_embed_query', 'slm_pg_similarity', 'slm_pg_perplexity'])
            AND p.probin = 'MODULE_PATHNAME' LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s SUPPORT @extschema@.slm_support', f);
    END LOOP;
END $$;

CREATE FUNCTION slm.running_batches(OUT pid integer, OUT database_id oid, OUT user_id oid, OUT started timestamptz, OUT rows_done bigint, OUT tokens bigint,
    OUT rows_per_second double precision, OUT tokens_per_second double precision, OUT seconds_left double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_progress' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION slm.running_batches() IS 'What slm.progress is made of';

CREATE VIEW slm.progress AS
    SELECT r.pid, d.datname AS database, r.user_id::regrole AS role, r.started, r.rows_done, r.tokens, r.rows_per_second, r.tokens_per_second,
           pg_catalog.make_interval(secs => r.seconds_left) AS eta,
           CASE WHEN pg_catalog.pg_has_role(r.user_id, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') THEN a.query END AS query
    FROM slm.running_batches() r LEFT JOIN pg_catalog.pg_database d ON d.oid = r.database_id LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = r.pid;
GRANT SELECT ON slm.progress TO PUBLIC;
COMMENT ON VIEW slm.progress IS
'Statements that compute slm_* calls in batches now: rows done, rows and tokens per second, and the time left by the planner''s estimate of rows. Needs slm_pg in shared_preload_libraries.';
