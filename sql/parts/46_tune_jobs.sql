-- ---------------------------------------------------------------- fine-tuning in the background (src/pg/jobs/tune.c)

CREATE TABLE slm.tune_job (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE, -- of the adapter
    owner regrole NOT NULL,
    base text NOT NULL,
    query text NOT NULL,
    options jsonb NOT NULL, -- of the fine-tuning
    search_path text NOT NULL,
    memory_kb int NOT NULL,
    retrain_rows bigint CHECK (retrain_rows OPERATOR(pg_catalog.>) 0::bigint), -- NULL: it is done once
    check_every interval NOT NULL DEFAULT '10 min' CHECK (check_every OPERATOR(pg_catalog.>=) '1 s'::interval),
    checkpoint_seconds int NOT NULL DEFAULT 30 CHECK (checkpoint_seconds OPERATOR(pg_catalog.>=) 1 AND checkpoint_seconds OPERATOR(pg_catalog.<=) 60),
    paused bool NOT NULL DEFAULT false,
    stage text NOT NULL DEFAULT 'waiting' CHECK (stage OPERATOR(pg_catalog.=) ANY ('{waiting,training,trained}'::pg_catalog.text[])),
    runs int NOT NULL DEFAULT 0,  -- trainings begun
    rows bytea,                   -- what the running training learns from
    known bytea,                  -- hashes of the rows of the last training
    new_rows bigint,              -- when the query was last looked at
    progress jsonb NOT NULL DEFAULT '{}',
    version int,                  -- what the last training became
    activated bool,
    seconds double precision NOT NULL DEFAULT 0,
    cpu_seconds double precision NOT NULL DEFAULT 0,
    tries int NOT NULL DEFAULT 0,    -- turns begun and not ended: more than a few mean that it ends the server
    failures int NOT NULL DEFAULT 0, -- in a row
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now() CHECK (pg_catalog.isfinite(created_at)),
    last_run timestamptz NOT NULL DEFAULT '-infinity',
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    error text
);
ALTER TABLE slm.tune_job ALTER COLUMN rows SET STORAGE EXTENDED;
REVOKE ALL ON slm.tune_job FROM PUBLIC;
COMMENT ON TABLE slm.tune_job IS 'Fine-tunings in the background as they were created; slm.finetune_jobs shows them to users. The owner is 0 (-) after his role was dropped';
SELECT pg_catalog.pg_extension_config_dump('slm.tune_job',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) owner::pg_catalog.oid)');
SELECT pg_catalog.pg_extension_config_dump('slm.tune_job_id_seq', '');

CREATE VIEW slm.finetune_jobs WITH (security_barrier) AS
SELECT j.name, j.owner, j.base, j.query, j.options,
       CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) j.owner::pg_catalog.oid) THEN 'error'
            WHEN j.paused THEN 'paused'
            WHEN j.error IS NOT NULL THEN 'error'
            ELSE j.stage END AS state,
       (j.progress OPERATOR(pg_catalog.->>) 'step'::pg_catalog.text)::int AS step,
       (j.progress OPERATOR(pg_catalog.->>) 'steps'::pg_catalog.text)::int AS steps,
       (j.progress OPERATOR(pg_catalog.->>) 'loss'::pg_catalog.text)::double precision AS loss,
       (j.progress OPERATOR(pg_catalog.->>) 'held_out_loss'::pg_catalog.text)::double precision AS held_out_loss,
       j.version, j.activated, j.retrain_rows, j.new_rows,
       CASE WHEN j.stage OPERATOR(pg_catalog.=) 'trained'::pg_catalog.text AND j.retrain_rows IS NOT NULL THEN j.not_before END AS next_look,
       j.runs, j.seconds, j.cpu_seconds, j.created_at, NULLIF(j.last_run, '-infinity'::timestamptz) AS last_run,
       CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) j.owner::pg_catalog.oid) THEN 'its owner was dropped'
            ELSE j.error END AS error
FROM slm.tune_job j WHERE pg_catalog.pg_has_role(j.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
GRANT SELECT ON slm.finetune_jobs TO PUBLIC;
COMMENT ON VIEW slm.finetune_jobs IS 'Fine-tunings in the background of the roles that you belong to, and how far they are';
COMMENT ON COLUMN slm.finetune_jobs.name IS 'The adapter that it makes';
COMMENT ON COLUMN slm.finetune_jobs.base IS 'The model that learns';
COMMENT ON COLUMN slm.finetune_jobs.state IS 'waiting (to begin), training, trained, paused or error (it will be tried again)';
COMMENT ON COLUMN slm.finetune_jobs.step IS 'Step of the training, as of its last checkpoint';
COMMENT ON COLUMN slm.finetune_jobs.steps IS 'Steps of all its epochs';
COMMENT ON COLUMN slm.finetune_jobs.loss IS 'Of the last step';
COMMENT ON COLUMN slm.finetune_jobs.held_out_loss IS 'The best so far on the held-out rows';
COMMENT ON COLUMN slm.finetune_jobs.version IS 'The version that the last training became (slm.finetunes)';
COMMENT ON COLUMN slm.finetune_jobs.activated IS 'Did it become the active one?';
COMMENT ON COLUMN slm.finetune_jobs.retrain_rows IS 'So many new rows begin another training; NULL: it is done once';
COMMENT ON COLUMN slm.finetune_jobs.new_rows IS 'New rows when the query was last looked at';
COMMENT ON COLUMN slm.finetune_jobs.next_look IS 'When it is looked at again';
COMMENT ON COLUMN slm.finetune_jobs.runs IS 'Trainings begun';
COMMENT ON COLUMN slm.finetune_jobs.seconds IS 'That the last training has taken, waiting left out';
COMMENT ON COLUMN slm.finetune_jobs.cpu_seconds IS 'CPU time of it';
COMMENT ON COLUMN slm.finetune_jobs.last_run IS 'When a worker was last at it';
COMMENT ON COLUMN slm.finetune_jobs.error IS 'Why the last turn ended without a result';

CREATE FUNCTION slm_create_finetune(name text, base_model text, query text, options jsonb DEFAULT '{}')
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_create_finetune' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_create_finetune(text, text, text, jsonb) IS
    'slm_finetune in the background: a worker of jobs trains at the hours of slm.job_window and below slm.job_max_load, keeps a checkpoint every half minute, and after a '
    'crash goes on from it to the same bits. The query runs once a training, read-only, as you. Besides the options of slm_finetune: retrain_rows (as many new rows '
    'begin another training, whose version becomes active only if it answers held-out rows better), check_every (how often the query is looked at, 10 min), checkpoint_seconds '
    '(1 to 60), paused. Returns the name. slm.finetune_jobs shows how far it is. Needs superuser, or a GRANT of EXECUTE on this function to the role itself or to one of its roles other '
    'than PUBLIC';

CREATE FUNCTION slm_pause_finetune(name text) RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_pause_finetune' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_pause_finetune(text) IS 'Stops a fine-tuning in the background; it goes on from its last checkpoint after slm_resume_finetune. Owner or superuser';

CREATE FUNCTION slm_resume_finetune(name text) RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_resume_finetune' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_resume_finetune(text) IS 'Lets a paused fine-tuning go on, one that has met an error try again at once, and one that waits for new rows look for them now. Owner or superuser';

CREATE FUNCTION slm_drop_finetune(name text) RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_finetune' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_finetune(text) IS 'Ends a fine-tuning in the background, at once; the versions that it has made stay (slm_drop_adapter drops them). Owner or superuser';
