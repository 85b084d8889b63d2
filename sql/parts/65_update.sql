-- ---------------------------------------------------------------- a column computed once (src/pg/jobs/update.c)

CREATE TABLE slm.update_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner regrole NOT NULL,
    source regclass NOT NULL,
    target_column name NOT NULL,
    expression text NOT NULL,
    condition text,
    search_path text NOT NULL,
    key text,
    last_key text[],
    rows_seen bigint NOT NULL DEFAULT 0,
    rows_written bigint NOT NULL DEFAULT 0,
    rows_kept bigint NOT NULL DEFAULT 0,
    rows_failed bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX update_run_arguments ON slm.update_run
    (owner, source, target_column, pg_catalog.hashtextextended(expression, 0), pg_catalog.hashtextextended(coalesce(condition, ''::pg_catalog.text), 0));
COMMENT ON TABLE slm.update_run IS 'How far each slm_update has come: last_key is the primary key of the last row that is done, so that the same CALL goes on there. Not dumped.';

CREATE TABLE slm.update_failure (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run bigint NOT NULL REFERENCES slm.update_run ON DELETE CASCADE,
    key jsonb NOT NULL,
    error text NOT NULL
);
CREATE INDEX update_failure_run ON slm.update_failure (run);
COMMENT ON TABLE slm.update_failure IS 'Rows that an slm_update could not compute or write, by their primary key.';

CREATE VIEW slm.updates WITH (security_barrier) AS
    SELECT r.id, r.owner, r.source, r.target_column, r.expression, r.condition, CASE WHEN r.finished_at IS NULL THEN 'unfinished' ELSE 'finished' END AS state,
           r.rows_seen, r.rows_written, r.rows_kept, r.rows_failed, r.started_at, r.updated_at, r.finished_at
    FROM slm.update_run r WHERE pg_catalog.pg_has_role(r.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
COMMENT ON VIEW slm.updates IS
'What CALL slm_update has done for the roles that you belong to: rows looked at, written, kept (a trigger or policy refused) and failed. The same CALL goes on with an unfinished one; slm.progress shows those that run now.';

CREATE VIEW slm.update_failures WITH (security_barrier) AS
    SELECT r.owner, r.source, r.target_column, r.expression, f.key, f.error
    FROM slm.update_failure f JOIN slm.update_run r ON r.id OPERATOR(pg_catalog.=) f.run
    WHERE pg_catalog.pg_has_role(r.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
COMMENT ON VIEW slm.update_failures IS 'Rows that the last slm_update of a column could not compute, by their primary key, with the error. They are as they were.';
GRANT SELECT ON slm.updates, slm.update_failures TO PUBLIC;

CREATE PROCEDURE slm_update(source regclass, target_column name, expression text, "where" text DEFAULT NULL, on_error text DEFAULT NULL, restart boolean DEFAULT false)
AS 'MODULE_PATHNAME', 'slm_pg_update' LANGUAGE C;
COMMENT ON PROCEDURE slm_update(regclass, name, text, text, text, boolean) IS
'Computes a column of existing rows once, in batches: CALL slm_update(''tickets'', ''label'', $$slm_classify(body, ARRAY[''billing'', ''delivery''])$$, ''label IS NULL'').
Says beforehand how long it will take, commits as it goes, and goes on where it was when it is called again after a cancel or crash (restart: from the beginning). Rows that fail stay as they were and
are listed in slm.update_failures; with on_error => ''null'' texts that a function cannot take give NULL instead. Runs as the table''s owner, whom the caller must be or be allowed to SET ROLE to. slm_create_job keeps a column computed.';
