-- ---------------------------------------------------------------- triggers and jobs (src/pg/jobs)

CREATE FUNCTION slm_trigger() RETURNS trigger AS 'MODULE_PATHNAME', 'slm_pg_trigger' LANGUAGE C;
COMMENT ON FUNCTION slm_trigger() IS
'Row trigger that keeps a column computed: CREATE TRIGGER ... BEFORE INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION slm_trigger(''summary'', ''slm_summarize(body)'').
Arguments: the target column, an SQL expression over the row''s columns and, optionally, the search_path under which its names are looked up (default: pg_catalog, the table''s schema, the extension''s schema; never the writer''s) and slm.on_error.
On UPDATE it computes only when a column that the expression reads has changed. The statement waits for the model; slm_create_job does not.';

CREATE FUNCTION slm_create_trigger(source regclass, target_column name, expression text, name text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_create_trigger' LANGUAGE C;
COMMENT ON FUNCTION slm_create_trigger(regclass, name, text, text, text) IS
'Makes a trigger of slm_trigger after checking what CREATE TRIGGER cannot: that the column is there and can be filled, that the expression is right, that its type can be assigned, that its models may be used.
The trigger keeps the search_path of now and, where it is given, on_error (null: a text that a function cannot take gives NULL, the row is written). Returns its name, slm_<column> unless
name gives another; DROP TRIGGER ends it.';

CREATE TABLE slm.job_definition (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name OPERATOR(pg_catalog.~) '^[A-Za-z_][A-Za-z0-9_]{0,49}$'::pg_catalog.text),
    owner regrole NOT NULL,
    source regclass NOT NULL,
    target regclass NOT NULL,
    target_column name NOT NULL,
    key_columns name[] NOT NULL,
    input_columns name[] NOT NULL,
    whole_row bool NOT NULL DEFAULT false, -- the expression reads the row as a whole: its inputs are all columns but those that jobs fill
    expression text NOT NULL,
    search_path text NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    version int NOT NULL DEFAULT 1,
    paused bool NOT NULL DEFAULT false,
    overwrite bool NOT NULL DEFAULT false,
    batch_size int NOT NULL DEFAULT 128 CHECK (batch_size OPERATOR(pg_catalog.>=) 1 AND batch_size OPERATOR(pg_catalog.<=) 10000),
    max_attempts int NOT NULL DEFAULT 5 CHECK (max_attempts OPERATOR(pg_catalog.>=) 1 AND max_attempts OPERATOR(pg_catalog.<=) 100),
    retry_delay interval NOT NULL DEFAULT '10 s' CHECK (retry_delay OPERATOR(pg_catalog.>=) '0'::interval),
    backfill text NOT NULL DEFAULT 'oldest' CHECK (backfill OPERATOR(pg_catalog.=) ANY ('{oldest,newest,none}'::pg_catalog.text[])),
    backfill_done bool NOT NULL DEFAULT false,
    backfill_position jsonb,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now() CHECK (pg_catalog.isfinite(created_at)),
    last_run timestamptz NOT NULL DEFAULT '-infinity', -- when a worker last began a batch
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    usage jsonb NOT NULL DEFAULT '{}', -- what it has taken, a number for each figure
    error text,
    UNIQUE (target, target_column)
);
COMMENT ON TABLE slm.job_definition IS 'Background jobs as they were created; slm.jobs shows them to users. The owner is 0 (-) after his role was dropped.';

-- Append-only, so that a writer never waits for the row that a worker is computing; the worker drops duplicates.
CREATE TABLE slm.job_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id int NOT NULL,
    key jsonb NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT pg_catalog.now() CHECK (pg_catalog.isfinite(enqueued_at)),
    attempts int NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    failed bool NOT NULL DEFAULT false,
    error text,
    tries int NOT NULL DEFAULT 0,  -- begun and not ended: more than a few mean that the row ends the server
    waits int NOT NULL DEFAULT 0,  -- for rows that others held locked
    worker int,                    -- process that tried it last
    claimed_at timestamptz,        -- when: until the worker has locked it, for a moment, no other takes it
    origin int[] NOT NULL DEFAULT '{}' -- the jobs whose writes led to it, one after the other; none: a write of a user
);
CREATE INDEX job_queue_next ON slm.job_queue (job_id, not_before, id) WHERE NOT failed;
CREATE INDEX job_queue_key ON slm.job_queue (job_id, pg_catalog.jsonb_hash_extended(key, 0::bigint));
CREATE INDEX job_queue_failed ON slm.job_queue (job_id) WHERE failed;
COMMENT ON TABLE slm.job_queue IS 'Primary keys of rows whose job column is to be computed: written by the jobs'' triggers, emptied by the workers.';

CREATE TABLE slm.job_done (
    job_id int NOT NULL,
    key jsonb NOT NULL,
    version int NOT NULL,
    input_hash text NOT NULL,
    value_hash text,
    models text[] NOT NULL DEFAULT '{}',
    kept bool NOT NULL DEFAULT false, -- the row has a value of a user, which stays; value_hash is of what the job wrote before, if it did
    done_at timestamptz NOT NULL DEFAULT pg_catalog.now() CHECK (pg_catalog.isfinite(done_at)),
    PRIMARY KEY (job_id, key)
);
COMMENT ON TABLE slm.job_done IS 'What jobs have computed: per row the hash of its inputs and of the value written, so that unchanged rows are skipped and values of users are kept; models are the SHA-256 digests of the models that its batch ran, and name@version of the trained classifiers.';

-- Nobody but the extension reads or writes these tables. A dump keeps what can be restored: a role or a table that was dropped would
-- be a number there, and that of another role or table elsewhere.
SELECT pg_catalog.pg_extension_config_dump('slm.job_definition', $$WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) owner::pg_catalog.oid)
    AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) source::pg_catalog.oid)
    AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) target::pg_catalog.oid)$$);
SELECT pg_catalog.pg_extension_config_dump('slm.job_definition_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('slm.job_queue', $$WHERE job_id OPERATOR(pg_catalog.=) ANY (SELECT d.id FROM slm.job_definition d
    WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) d.owner::pg_catalog.oid)
    AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) d.source::pg_catalog.oid)
    AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) d.target::pg_catalog.oid))$$);
SELECT pg_catalog.pg_extension_config_dump('slm.job_done', $$WHERE job_id OPERATOR(pg_catalog.=) ANY (SELECT d.id FROM slm.job_definition d
    WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) d.owner::pg_catalog.oid)
    AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) d.source::pg_catalog.oid)
    AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) d.target::pg_catalog.oid))$$);
SELECT pg_catalog.pg_extension_config_dump('slm.job_queue_id_seq', '');

CREATE FUNCTION slm.job_enqueue() RETURNS trigger AS 'MODULE_PATHNAME', 'slm_pg_job_enqueue' LANGUAGE C;
COMMENT ON FUNCTION slm.job_enqueue() IS 'Trigger of jobs: puts the primary keys of new and changed rows into slm.job_queue. Made by slm_create_job; any other trigger that calls it is passed over.';

CREATE FUNCTION slm.job_defined() RETURNS trigger AS 'MODULE_PATHNAME', 'slm_pg_job_defined' LANGUAGE C;
COMMENT ON FUNCTION slm.job_defined() IS 'Trigger of slm.job_definition: tells all sessions of changed jobs and wakes the workers, also when a dump is restored.';
REVOKE ALL ON FUNCTION slm.job_defined() FROM PUBLIC;
CREATE TRIGGER job_defined AFTER INSERT OR DELETE OR UPDATE OF owner, source, target, target_column, key_columns, input_columns, version, paused
    ON slm.job_definition FOR EACH STATEMENT EXECUTE FUNCTION slm.job_defined();

CREATE FUNCTION slm_create_job(name text, source regclass, target_column name, expression text, options jsonb DEFAULT '{}')
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_create_job' LANGUAGE C;
COMMENT ON FUNCTION slm_create_job(text, regclass, name, text, jsonb) IS
'Keeps a column computed in the background: expression is any SQL expression over the columns of source, such as slm_summarize(body, max_words => 30). New and changed rows are
computed by a worker after commit; existing rows are filled in (option backfill: oldest, newest, none). Other options: target (a separate table keyed by the same primary key),
overwrite (also replace values that users wrote), batch_size, max_attempts, retry_delay, paused. Returns the name. The current role becomes the job''s owner; it must be able to SET ROLE to
the owners of the tables, as whom the expression is computed (the source''s) and the values are written (the target''s).';

CREATE FUNCTION slm_alter_job(name text, expression text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS int AS 'MODULE_PATHNAME', 'slm_pg_alter_job' LANGUAGE C;
COMMENT ON FUNCTION slm_alter_job(text, text, jsonb) IS
'Changes a job in place and raises its version, which it returns. Rows computed with an older version count as stale and are computed again (with a new model under the same name, call it without an expression).
Options: overwrite, batch_size, max_attempts, retry_delay, backfill (none: only rows that change from now on), owner (a role to which you can SET ROLE).';

CREATE FUNCTION slm_drop_job(name text, drop_values bool DEFAULT false) RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_job' LANGUAGE C;
COMMENT ON FUNCTION slm_drop_job(text, bool) IS
'Ends a job, at once: a batch under way is cancelled. drop_values: also removes, as the target''s owner, the values that it wrote (those that a user has changed since stay).';

CREATE FUNCTION slm_pause_job(name text) RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_pause_job' LANGUAGE C;
COMMENT ON FUNCTION slm_pause_job(text) IS 'Stops the work of a job, a batch under way included; rows go on being noted and are computed after slm_resume_job.';

CREATE FUNCTION slm_resume_job(name text) RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_resume_job' LANGUAGE C;
COMMENT ON FUNCTION slm_resume_job(text) IS 'Lets a paused job go on, and one that has met an error try again at once.';

CREATE FUNCTION slm_retry_failed(name text) RETURNS bigint AS 'MODULE_PATHNAME', 'slm_pg_retry_failed' LANGUAGE C;
COMMENT ON FUNCTION slm_retry_failed(text) IS 'Gives the rows in slm.job_failures another try, and lets those that wait for theirs have it at once; returns how many had failed.';

CREATE PROCEDURE slm_run_job(name text) AS 'MODULE_PATHNAME', 'slm_pg_run_job' LANGUAGE C;
COMMENT ON PROCEDURE slm_run_job(text) IS 'Does all work of a job that is due, in this session, committing after each batch. Needs no background worker.';

-- Versions that are not the active one, as slm.job_done.models has them.
CREATE VIEW slm.replaced_classifiers WITH (security_barrier) AS
    SELECT r.name, pg_catalog.array_agg(r.name OPERATOR(pg_catalog.||) '@'::pg_catalog.text OPERATOR(pg_catalog.||) r.version::pg_catalog.text) AS versions
    FROM slm.classifier_registry r WHERE NOT r.active GROUP BY r.name;
REVOKE ALL ON slm.replaced_classifiers FROM PUBLIC;
COMMENT ON VIEW slm.replaced_classifiers IS 'Versions of classifiers by which rows of jobs are stale; for slm.jobs and slm.job_status';

CREATE VIEW slm.jobs WITH (security_barrier) AS
    SELECT d.name, d.owner, d.source, d.target, d.target_column, d.expression, d.version, d.paused, d.backfill, d.backfill_done, d.overwrite, d.batch_size,
           d.max_attempts, d.retry_delay, d.input_columns, d.key_columns, d.created_at,
           COALESCE((d.usage OPERATOR(pg_catalog.->>) 'prompt_tokens'::pg_catalog.text)::bigint, 0::bigint) AS prompt_tokens,
           COALESCE((d.usage OPERATOR(pg_catalog.->>) 'output_tokens'::pg_catalog.text)::bigint, 0::bigint) AS output_tokens,
           d.id AS job_id, d.whole_row,
           CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) d.source::pg_catalog.oid)
                  OR NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) d.target::pg_catalog.oid) THEN 'its table was dropped'
                WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) d.owner::pg_catalog.oid) THEN 'its owner was dropped'
                ELSE d.error END AS error,
           (SELECT pg_catalog.format('rows were computed with another version of classifier "%s"; to compute them again: SELECT slm_alter_job(%L);', o.name, d.name)
            FROM slm.job_done s, slm.replaced_classifiers o
            WHERE s.job_id OPERATOR(pg_catalog.=) d.id AND s.models OPERATOR(pg_catalog.&&) o.versions LIMIT 1) AS notice,
           d.usage
    FROM slm.job_definition d WHERE pg_catalog.pg_has_role(d.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
COMMENT ON VIEW slm.jobs IS 'Background jobs of the roles that you belong to; error is why the last batch failed as a whole, notice what should be known beside it, tokens and usage are what the job has taken so far.';

CREATE VIEW slm.job_status WITH (security_barrier) AS
    SELECT d.name,
           CASE WHEN d.paused THEN 'paused'
                WHEN d.error IS NOT NULL OR r.oid IS NULL OR d.owner::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'error'
                WHEN q.pending OPERATOR(pg_catalog.>) 0::bigint OR NOT d.backfill_done THEN 'working' ELSE 'idle' END AS state,
           q.pending OPERATOR(pg_catalog.-) q.running OPERATOR(pg_catalog.+) x.unqueued AS pending, q.running, c.done, c.stale, q.failed,
           pg_catalog.round(x.speed::numeric, 2) AS rows_per_second,
           CASE WHEN x.speed OPERATOR(pg_catalog.>) 0::float8
                THEN pg_catalog.make_interval(secs => (q.due OPERATOR(pg_catalog.+) x.unqueued)::float8 OPERATOR(pg_catalog./) x.speed) END AS eta,
           pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.oldest AS lag, c.kept, q.retrying, COALESCE(d.error, q.last_error) AS last_error
    FROM slm.job_definition d
    LEFT JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) d.source::pg_catalog.oid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) FILTER (WHERE NOT s.failed) AS pending, pg_catalog.count(*) FILTER (WHERE s.failed) AS failed,
               pg_catalog.count(*) FILTER (WHERE NOT s.failed AND s.not_before OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()) AS due,
               pg_catalog.count(*) FILTER (WHERE NOT s.failed AND (s.attempts OPERATOR(pg_catalog.>) 0 OR s.waits OPERATOR(pg_catalog.>) 0)) AS retrying,
               (pg_catalog.array_agg(s.error ORDER BY s.claimed_at DESC NULLS LAST, s.id DESC) FILTER (WHERE s.error IS NOT NULL))[1] AS last_error,
               pg_catalog.min(s.enqueued_at) FILTER (WHERE NOT s.failed AND pg_catalog.isfinite(s.enqueued_at)) AS oldest,
               pg_catalog.count(*) FILTER (WHERE NOT s.failed AND s.tries OPERATOR(pg_catalog.>) 0 AND EXISTS (
                   SELECT FROM pg_catalog.pg_locks l
                   WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'::pg_catalog.text
                     AND l.database OPERATOR(pg_catalog.=) (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
                     AND l.classid OPERATOR(pg_catalog.=) d.id::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) s.worker::pg_catalog.oid
                     AND l.objsubid OPERATOR(pg_catalog.=) 2::smallint AND l.pid OPERATOR(pg_catalog.=) s.worker)) AS running
        FROM slm.job_queue s WHERE s.job_id OPERATOR(pg_catalog.=) d.id) q
    CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) FILTER (WHERE NOT s.kept AND s.version OPERATOR(pg_catalog.=) d.version) AS current,
               pg_catalog.count(*) FILTER (WHERE NOT s.kept AND s.version OPERATOR(pg_catalog.=) d.version AND NOT s.models OPERATOR(pg_catalog.&&) v.replaced) AS done,
               pg_catalog.count(*) FILTER (WHERE NOT s.kept AND (s.version OPERATOR(pg_catalog.<) d.version OR s.models OPERATOR(pg_catalog.&&) v.replaced)) AS stale,
               pg_catalog.count(*) FILTER (WHERE s.kept) AS kept,
               pg_catalog.count(*) FILTER (WHERE s.done_at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '60 s'::interval)) AS recent,
               pg_catalog.min(s.done_at) FILTER (WHERE s.done_at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '60 s'::interval)
                   AND pg_catalog.isfinite(s.done_at)) AS since
        FROM slm.job_done s, (SELECT ARRAY(SELECT pg_catalog.unnest(o.versions) FROM slm.replaced_classifiers o) AS replaced) v
        WHERE s.job_id OPERATOR(pg_catalog.=) d.id) c
    CROSS JOIN LATERAL (
        SELECT CASE WHEN d.backfill_done THEN 0::bigint
                    ELSE GREATEST(0::bigint, r.reltuples::bigint OPERATOR(pg_catalog.-) c.current OPERATOR(pg_catalog.-) c.kept OPERATOR(pg_catalog.-) q.pending OPERATOR(pg_catalog.-) q.failed) END AS unqueued,
               c.recent::float8 OPERATOR(pg_catalog./)
                   GREATEST(1::float8, pg_catalog.date_part('epoch'::pg_catalog.text, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) c.since)) AS speed) x
    WHERE pg_catalog.pg_has_role(d.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
COMMENT ON VIEW slm.job_status IS
'How far jobs are: pending rows (the part that a backfill has not reached by the planner''s estimate), rows being computed now, done and stale rows (computed with an older version of the job, or of a classifier),
failures, rows per second in the last minute, estimated time left (rows that wait for another try left out), age of the oldest row that waits, rows kept because a user wrote their value, rows
that are tried again, the last error: of the job as a whole, or of a row.';

CREATE VIEW slm.job_failures WITH (security_barrier) AS
    SELECT d.name, q.key, q.error, q.attempts, q.enqueued_at
    FROM slm.job_queue q JOIN slm.job_definition d ON d.id OPERATOR(pg_catalog.=) q.job_id
    WHERE q.failed AND pg_catalog.pg_has_role(d.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
COMMENT ON VIEW slm.job_failures IS
'Rows that a job gave up, with the last error: at once where the row''s data are at fault (they would fail again), else after max_attempts. slm_retry_failed tries them again.';
GRANT SELECT ON slm.jobs, slm.job_status, slm.job_failures TO PUBLIC;
