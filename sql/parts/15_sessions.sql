-- ---------------------------------------------------------------- sessions (src/pg/run/backends.c)

CREATE FUNCTION slm.backend_sessions(OUT pid integer,
    OUT database_id oid,
    OUT role_id oid,
    OUT model text,
    OUT kv_bytes bigint,
    OUT scratch_bytes bigint,
    OUT prefixes integer,
    OUT requests_running integer,
    OUT requests_total bigint,
    OUT last_use timestamptz)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_backend_sessions' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 50;
COMMENT ON FUNCTION slm.backend_sessions() IS 'What slm.sessions is made of: the sessions whose statistics the caller may see, as in pg_stat_activity';

CREATE VIEW slm.sessions WITH (security_barrier) AS
SELECT s.pid, d.datname AS database, s.role_id::pg_catalog.regrole AS role, s.model, s.kv_bytes, s.scratch_bytes, s.prefixes, s.requests_running, s.requests_total, s.last_use
FROM slm.backend_sessions() s LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.database_id;
GRANT SELECT ON slm.sessions TO PUBLIC;
COMMENT ON VIEW slm.sessions IS
    'Memory and requests of every process that has a model mapped, one row a model: of one''s own sessions, of those of roles whose rights one has, and of all for pg_read_all_stats. '
    'Without slm_pg in shared_preload_libraries only the own session is shown';
COMMENT ON COLUMN slm.sessions.pid IS 'Process, as in pg_stat_activity';
COMMENT ON COLUMN slm.sessions.role IS 'Role that has logged in';
COMMENT ON COLUMN slm.sessions.model IS 'Name of the model when it was mapped; requests with adapters count here';
COMMENT ON COLUMN slm.sessions.kv_bytes IS 'Memory of keys and values: of running requests, and of prefixes that are kept to be used again';
COMMENT ON COLUMN slm.sessions.scratch_bytes IS 'Memory of activations and logits';
COMMENT ON COLUMN slm.sessions.prefixes IS 'Beginnings of prompts that are kept';
COMMENT ON COLUMN slm.sessions.requests_running IS 'Requests that are computed or wait to be';
COMMENT ON COLUMN slm.sessions.requests_total IS 'Requests since the model was mapped';
COMMENT ON COLUMN slm.sessions.last_use IS 'Start of the last statement that used the model';
