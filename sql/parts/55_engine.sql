-- ---------------------------------------------------------------- the engine process (src/pg/run/engine.c)

CREATE FUNCTION slm.engine_state(OUT state text,
    OUT pid integer,
    OUT started timestamptz,
    OUT restarts bigint,
    OUT blamed bigint,
    OUT hangs bigint,
    OUT last_end text,
    OUT connections bigint,
    OUT queued text,
    OUT running text,
    OUT requests bigint,
    OUT refused bigint,
    OUT prompt_tokens bigint,
    OUT output_tokens bigint,
    OUT reused_tokens bigint,
    OUT tokens_per_second double precision,
    OUT busy_seconds double precision,
    OUT models integer,
    OUT image_bytes bigint,
    OUT kv_bytes bigint,
    OUT scratch_bytes bigint,
    OUT prefixes bigint)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_engine_status' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION slm.engine_state() IS 'What slm.engine_status is made of: the figures for pg_read_all_stats, the state for everybody';

CREATE VIEW slm.engine_status WITH (security_barrier) AS
SELECT e.state, e.pid, e.started, e.restarts, e.blamed, e.hangs, e.last_end, e.connections, e.queued, e.running, e.requests, e.refused,
       e.prompt_tokens, e.output_tokens, e.reused_tokens, e.tokens_per_second, e.busy_seconds, e.models, e.image_bytes, e.kv_bytes,
       e.scratch_bytes, e.prefixes
FROM slm.engine_state() e;
GRANT SELECT ON slm.engine_status TO PUBLIC;
COMMENT ON VIEW slm.engine_status IS
    'The engine process of this server, where slm_pg is in shared_preload_libraries: one row, whose state and restarts everybody sees, and whose figures, of all roles together, those with pg_read_all_stats';
COMMENT ON COLUMN slm.engine_status.state IS 'not started (nobody has asked for it), starting, running, restarting, failing (it dies as soon as it is started, and is tried less and less often) or not supervised (max_worker_processes is too small)';
COMMENT ON COLUMN slm.engine_status.pid IS 'Process, which is none of pg_stat_activity';
COMMENT ON COLUMN slm.engine_status.started IS 'When this process was started';
COMMENT ON COLUMN slm.engine_status.restarts IS 'Processes that have ended since the server was started';
COMMENT ON COLUMN slm.engine_status.blamed IS 'Of them, those that died of what they computed: a fault of the program, want of memory, a hang';
COMMENT ON COLUMN slm.engine_status.hangs IS 'Of them, those that stood still and were killed';
COMMENT ON COLUMN slm.engine_status.last_end IS 'How the last one ended';
COMMENT ON COLUMN slm.engine_status.connections IS 'Sessions that are connected to it';
COMMENT ON COLUMN slm.engine_status.queued IS 'Requests that wait for their turn, by class';
COMMENT ON COLUMN slm.engine_status.running IS 'Requests that are computed, by class';
COMMENT ON COLUMN slm.engine_status.requests IS 'Requests that this process has answered';
COMMENT ON COLUMN slm.engine_status.refused IS 'Requests that it has refused because earlier processes have died of them twice';
COMMENT ON COLUMN slm.engine_status.prompt_tokens IS 'Tokens of the prompts of these requests';
COMMENT ON COLUMN slm.engine_status.output_tokens IS 'Tokens of their answers';
COMMENT ON COLUMN slm.engine_status.reused_tokens IS 'Of the prompts'' tokens, those that had been computed before: for an earlier request of the same role, or of public words';
COMMENT ON COLUMN slm.engine_status.tokens_per_second IS 'Tokens computed or written, in the last second or so';
COMMENT ON COLUMN slm.engine_status.busy_seconds IS 'Time in which it was computing';
COMMENT ON COLUMN slm.engine_status.models IS 'Models that it has mapped';
COMMENT ON COLUMN slm.engine_status.image_bytes IS 'Their images, in the page cache';
COMMENT ON COLUMN slm.engine_status.kv_bytes IS 'Memory of keys and values: of running requests, and of prefixes that are kept to be used again';
COMMENT ON COLUMN slm.engine_status.scratch_bytes IS 'Memory of activations and logits';
COMMENT ON COLUMN slm.engine_status.prefixes IS 'Beginnings of prompts that are kept';
