-- ---------------------------------------------------------------- what 0.1.0 had, in its new place (see before.sql)

SET LOCAL search_path = pg_catalog, pg_temp;

-- ---- models: grants have a table of their own; the number of a role that was dropped may become another's

INSERT INTO slm.model_grant (name, role)
SELECT DISTINCT m.name, r.role
FROM slm.model_registry m, unnest(m.roles) AS r(role)
WHERE r.role::oid = 0::oid OR EXISTS (SELECT FROM pg_roles a WHERE a.oid = r.role::oid);
UPDATE slm.model_registry SET owner = 0::oid::regrole
WHERE NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = owner::oid);
ALTER TABLE slm.model_registry DROP COLUMN roles;

-- Who may import is asked by the functions themselves now, to which everybody may speak.  The catalog is written here as it is after a fresh
-- install: a GRANT would make the administrator's own grants part of the extension, and they would be missing in the next dump.
WITH importers AS (
    SELECT f.oid FROM pg_proc f
    WHERE f.oid = ANY (ARRAY['@extschema@.slm_load_model(text, text, jsonb)', '@extschema@.slm_load_adapter(text, text, text)',
                             '@extschema@.slm_quantize_model(text, text, text, text)']::regprocedure[]::oid[])
), forgotten AS (
    DELETE FROM pg_init_privs i USING importers f WHERE i.classoid = 'pg_proc'::regclass AND i.objoid = f.oid
)
UPDATE pg_proc p SET proacl = p.proacl || makeaclitem(0, p.proowner, 'EXECUTE', false)
FROM importers f WHERE p.oid = f.oid AND p.proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0::oid);

-- ---- classifiers: everybody could use each, and may still

INSERT INTO slm.classifier_grant (name, role)
SELECT DISTINCT r.name, 0::oid::regrole FROM slm.classifier_registry r WHERE r.owner::oid <> 0::oid;

-- ---- jobs

DO $$
DECLARE
    job record;
    trigger record;
    names text;
BEGIN
    FOR job IN SELECT j.id, j.name, j.owner, j.source, j.refused FROM slm.earlier_job j WHERE j.refused IS NOT NULL ORDER BY j.id LOOP
        RAISE WARNING 'job "%" of role % was removed: %', job.name, job.owner, job.refused
            USING HINT = 'Values that it has written stay. slm_create_job makes another.';
        FOR trigger IN
            SELECT t.tgname, c.oid, n.nspname, c.relname
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE t.tgrelid = job.source::oid AND t.tgfoid = 'slm.job_enqueue()'::regprocedure AND NOT t.tgisinternal AND t.tgparentid = 0::oid
              AND t.tgname = ANY (ARRAY['slm_job_' || job.id || '_insert', 'slm_job_' || job.id || '_update', 'slm_job_' || job.id || '_delete',
                                        'slm_job_' || job.id || '_truncate', 'slm_job_' || job.id || '_row'])
        LOOP
            EXECUTE format('DROP TRIGGER %I ON %I.%I', trigger.tgname, trigger.nspname, trigger.relname);
        END LOOP;
    END LOOP;
    SELECT string_agg(c.name, ', ' ORDER BY c.name) INTO names FROM (SELECT DISTINCT g.name FROM slm.classifier_grant g) c;
    IF names IS NOT NULL THEN
        RAISE WARNING 'every role may use the classifiers of 0.1.0, as before: %', names
            USING HINT = 'To take that back: SELECT slm_revoke_classifier(name, ''PUBLIC'');';
    END IF;
END $$;

INSERT INTO slm.job_definition (id, name, owner, source, target, target_column, key_columns, input_columns, whole_row, expression, search_path, settings,
    version, paused, overwrite, batch_size, max_attempts, retry_delay, backfill, backfill_done, backfill_position, created_at, usage, error)
OVERRIDING SYSTEM VALUE
SELECT j.id, j.name, CASE WHEN j.has_owner THEN j.owner ELSE 0::oid::regrole END, j.source, j.target, j.target_column, j.present_key,
       i.columns, cardinality(i.columns) = 0, j.expression, j.search_path,
       CASE WHEN jsonb_typeof(j.settings) = 'object' THEN j.settings ELSE '{}' END, j.version, j.paused, j.overwrite, j.batch_size, j.max_attempts,
       j.retry_delay, j.backfill, j.backfill_done,
       CASE WHEN slm.earlier_key_fits(j.backfill_position, cardinality(j.present_key)) THEN j.backfill_position END,
       CASE WHEN isfinite(j.created_at) THEN j.created_at ELSE now() END,
       jsonb_build_object('prompt_tokens', greatest(j.prompt_tokens, 0), 'output_tokens', greatest(j.output_tokens, 0)),
       CASE WHEN j.has_owner THEN NULL ELSE 'its owner was dropped' END
FROM slm.earlier_job j, LATERAL (SELECT ARRAY(SELECT c FROM unnest(j.input_columns) c WHERE c IS NOT NULL)) AS i(columns)
WHERE j.refused IS NULL ORDER BY j.id;
SELECT setval('slm.job_definition_id_seq', greatest(max(j.last_id), 1)) FROM slm.earlier_job j HAVING count(*) > 0;

INSERT INTO slm.job_queue (job_id, key, enqueued_at, attempts, failed, error)
SELECT q.job_id, q.key, q.enqueued_at, greatest(q.attempts, 0), q.failed, q.error FROM slm.earlier_queue q ORDER BY q.id;
INSERT INTO slm.job_done (job_id, key, version, input_hash, value_hash, models, done_at)
SELECT s.job_id, s.key, s.version, s.input_hash, s.value_hash, ARRAY(SELECT m FROM unnest(s.models) m WHERE m IS NOT NULL), s.done_at FROM slm.earlier_done s;

DROP TABLE slm.earlier_job, slm.earlier_queue, slm.earlier_done;
DROP FUNCTION slm.earlier_key_fits(jsonb, int);
