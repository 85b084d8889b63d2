-- ---------------------------------------------------------------- fine-tuned adapters (src/pg/functions/finetune.c)

-- All versions of a fine-tuned adapter; the active one is what slm.model_registry has under its name, and goes and is renamed with it.
CREATE TABLE slm.finetune_registry (
    name text COLLATE "C" NOT NULL REFERENCES slm.model_registry (name) ON UPDATE CASCADE ON DELETE CASCADE,
    version integer NOT NULL,
    active boolean NOT NULL,
    training_rows bigint NOT NULL,
    held_out_rows bigint NOT NULL,
    training_tokens bigint NOT NULL,
    steps integer NOT NULL,
    best_step integer NOT NULL,
    ended text NOT NULL,
    loss_before double precision,
    loss_after double precision,
    exact_before double precision,
    exact_after double precision,
    curve jsonb NOT NULL,
    options jsonb NOT NULL,
    query text NOT NULL,
    data_sha256 text NOT NULL,
    seconds double precision NOT NULL,
    cpu_seconds double precision NOT NULL,
    memory_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    trained_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    blob bytea NOT NULL, -- the adapter's image
    PRIMARY KEY (name, version)
);
CREATE UNIQUE INDEX finetune_active ON slm.finetune_registry (name) WHERE active;
ALTER TABLE slm.finetune_registry ALTER COLUMN blob SET STORAGE EXTERNAL;
REVOKE ALL ON slm.finetune_registry FROM PUBLIC;
COMMENT ON TABLE slm.finetune_registry IS 'Versions of fine-tuned adapters; change it with the functions only, read it through slm.finetunes';
SELECT pg_catalog.pg_extension_config_dump('slm.finetune_registry',
    'WHERE name OPERATOR(pg_catalog.=) ANY (SELECT m.name FROM slm.model_registry m WHERE m.owner::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR m.owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a))');

CREATE VIEW slm.finetunes WITH (security_barrier) AS
SELECT f.name, f.version, f.active, m.base, m.owner, f.training_rows, f.held_out_rows, f.training_tokens, f.steps, f.best_step, f.ended,
       f.loss_before, f.loss_after, f.exact_before, f.exact_after, f.curve, f.options, f.query, f.data_sha256, f.seconds, f.cpu_seconds,
       f.memory_bytes, f.sha256, f.trained_at, pg_catalog.octet_length(f.blob) AS bytes
FROM slm.finetune_registry f JOIN slm.model_registry m ON m.name OPERATOR(pg_catalog.=) f.name
WHERE pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
GRANT SELECT ON slm.finetunes TO PUBLIC;
COMMENT ON VIEW slm.finetunes IS 'Fine-tunings of adapters that you own (a superuser sees all), and their versions: what they learned from, and how well they answer held-out rows';
COMMENT ON COLUMN slm.finetunes.active IS 'Is it the version that model => ''base+name'' uses?';
COMMENT ON COLUMN slm.finetunes.ended IS 'done, early (the held-out rows were answered no better any more) or diverged (the loss was not finite, or rose)';
COMMENT ON COLUMN slm.finetunes.loss_before IS 'Mean loss of a token of the held-out answers, by the base alone; NULL where no row was held out';
COMMENT ON COLUMN slm.finetunes.loss_after IS 'The same by this version';
COMMENT ON COLUMN slm.finetunes.exact_before IS 'Share of the held-out rows that the base alone answers exactly so, word by word, 0 to 1';
COMMENT ON COLUMN slm.finetunes.exact_after IS 'The same by this version';
COMMENT ON COLUMN slm.finetunes.curve IS 'Steps on the way: step, rate, loss, and where they were measured held_out_loss and held_out_exact';

CREATE FUNCTION slm_finetune(name text, base_model text, query text, options jsonb DEFAULT '{}',
    OUT version integer,
    OUT training_rows bigint,
    OUT held_out_rows bigint,
    OUT steps integer,
    OUT loss_before double precision,
    OUT loss_after double precision,
    OUT exact_before double precision,
    OUT exact_after double precision,
    OUT seconds double precision,
    OUT active boolean)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_finetune' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_finetune(text, text, text, jsonb) IS
    'Teaches a loaded model from rows of a query, and keeps what it learned as an adapter: a generative model from (prompt, completion), (messages jsonb), '
    '(input, label) or (input, fields jsonb), an embedding model from (text, label), (query, document), (query, document, document) or (text, text, number): model => ''base+name''. The model''s weights stay as they are. Needs superuser, or a GRANT of EXECUTE on this '
    'function to the role itself or to one of its roles other than PUBLIC';

CREATE FUNCTION slm_restore_finetune(name text, version integer)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_restore_finetune' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_restore_finetune(text, integer) IS
    'Makes another version of a fine-tuned adapter the one that model => ''base+name'' uses. Owner or superuser';

CREATE FUNCTION slm_export_adapter(name text, path text)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_export_adapter' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_export_adapter(text, text) IS
    'Writes an adapter of your own to a directory of the server, which must not exist, as PEFT keeps it (adapter_config.json, adapter_model.safetensors); returns its path. '
    'Superusers and members of pg_write_server_files';
