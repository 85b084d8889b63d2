-- slm_pg: 0.1.0 to the version in work.  This is the first of three parts: what 0.1.0 has is put aside or taken away (before.sql), sql/parts is
-- run with CREATE OR REPLACE (scripts/upgrade.awk), what was put aside goes into the new tables (after.sql).
--
-- 0.1.0 let every role write into slm.classifier_registry and the tables of jobs, as long as the row's owner was a role whose rights the
-- writer had.  So every row is checked, and nothing that a row says is executed.  Each of the hand-written parts runs under the search_path
-- pg_catalog, pg_temp: no function or operator of a user can stand before the server's.
--
-- Shape and privileges of these are not made anew:
-- stays: slm.model_registry slm.classifier_registry slm.models slm.model_status slm.adapters
\echo Use "ALTER EXTENSION slm_pg UPDATE" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;
LOCK TABLE slm.model_registry, slm.classifier_registry, slm.job_definition, slm.job_queue, slm.job_done IN ACCESS EXCLUSIVE MODE;

ALTER TABLE slm.model_registry ADD COLUMN languages text[], ADD COLUMN scripts text[], ADD COLUMN pooling text, ADD COLUMN labels text[],
    ADD COLUMN recognized text, ADD COLUMN warnings text[];

-- ---- functions and views of another form

DROP VIEW slm.progress, slm.classifiers, slm.jobs, slm.job_status, slm.job_failures;
DROP FUNCTION slm.running_batches();
DROP FUNCTION slm.classifier_owned(text);
DROP FUNCTION slm.classifier_store(text, text, text[], bigint, float8, float8, float8, float8, float8, float8, int[], jsonb, text, bytea, float8, bool);
DROP FUNCTION slm.classifiers_touch();
DROP FUNCTION slm.job_check(regclass, regclass, name, text, name[]);
DROP FUNCTION slm.job_check_models(regclass, text);
DROP FUNCTION slm.job_check_table(regclass);
DROP FUNCTION slm.job_claim(int);
DROP FUNCTION slm.job_inputs(regclass, text, name);
DROP FUNCTION slm.job_key(regclass);
DROP FUNCTION slm.job_key_expression(int, text);
DROP FUNCTION slm.job_make_triggers(int, regclass);
DROP FUNCTION slm.job_of(text);
DROP FUNCTION slm.job_run_batch(int, bigint[]);
DROP FUNCTION slm.job_settings();
DROP FUNCTION slm.job_wake();
DROP FUNCTION @extschema@.slm_chat(jsonb, text, int, float8, int, float8, float8, float8, bigint, text[]);
DROP FUNCTION @extschema@.slm_chunk(text, int, int, text);
DROP FUNCTION @extschema@.slm_sentiment(text, text);
DROP FUNCTION @extschema@.slm_classify(real[], text, float8);
DROP FUNCTION @extschema@.slm_classify(text, anyenum, text, text, text, float8, jsonb);
DROP FUNCTION @extschema@.slm_classify(text, jsonb, text, text, text, float8, jsonb);
DROP FUNCTION @extschema@.slm_classify(text, text, float8);
DROP FUNCTION @extschema@.slm_classify(text, text[], text, text, text, float8, jsonb);
DROP FUNCTION @extschema@.slm_classify_multi(text, text[], float8, text, text);
DROP FUNCTION @extschema@.slm_classify_scores(real[], text);
DROP FUNCTION @extschema@.slm_classify_scores(text, jsonb, text, text, text, jsonb);
DROP FUNCTION @extschema@.slm_classify_scores(text, text);
DROP FUNCTION @extschema@.slm_classify_scores(text, text[], text, text, text, jsonb);
DROP FUNCTION @extschema@.slm_count_tokens(text, text);
DROP FUNCTION @extschema@.slm_detokenize(int[], text);
DROP FUNCTION @extschema@.slm_drop_adapter(text);
DROP FUNCTION @extschema@.slm_drop_classifier(text);
DROP FUNCTION @extschema@.slm_drop_model(text);
DROP FUNCTION @extschema@.slm_embed(text, text, bool);
DROP FUNCTION @extschema@.slm_embed(text[], text, bool);
DROP FUNCTION @extschema@.slm_embed_query(text, text, bool);
DROP FUNCTION @extschema@.slm_generate(text, text, text, int, float8, int, float8, float8, float8, bigint, text[], bool, bool);
DROP FUNCTION @extschema@.slm_generate_details(text, text, text, int, float8, int, float8, float8, float8, bigint, text[], bool, bool);
DROP FUNCTION @extschema@.slm_generate_stream(text, text, text, int, float8, int, float8, float8, float8, bigint, text[], bool, bool);
DROP FUNCTION @extschema@.slm_perplexity(text, text);
DROP FUNCTION @extschema@.slm_rename_model(text, text);
DROP FUNCTION @extschema@.slm_rerank(text, text[], text, bool);
DROP FUNCTION @extschema@.slm_similarity(text, text, text);
DROP FUNCTION @extschema@.slm_summarize(text, int, text, text);
DROP FUNCTION @extschema@.slm_token_logprobs(text, text, bool);
DROP FUNCTION @extschema@.slm_tokenize(text, text);
DROP FUNCTION @extschema@.slm_train_classifier(text, text, text, text[], jsonb);

-- ---- classifiers: a name belongs to the owner of its active version

DO $$
DECLARE
    lost record;
BEGIN
    FOR lost IN
        DELETE FROM slm.classifier_registry r
        USING (SELECT name, coalesce(min(owner::oid) FILTER (WHERE active), min(owner::oid)) AS owner,
                      bool_or(active) OR count(DISTINCT owner::oid) = 1 AS known
               FROM slm.classifier_registry GROUP BY name) n
        WHERE n.name = r.name
          AND (NOT n.known OR r.owner::oid <> n.owner OR r.version < 1
               OR coalesce(array_ndims(r.labels), 0) <> 1 OR EXISTS (SELECT FROM unnest(r.labels) l WHERE l IS NULL))
        RETURNING r.name, r.version, r.owner
    LOOP
        RAISE WARNING 'version % of classifier "%", written by role %, was removed', lost.version, lost.name, lost.owner
            USING DETAIL = 'Another role owns the classifier, or the row was not written by slm_train_classifier.';
    END LOOP;
END $$;
UPDATE slm.classifier_registry SET owner = 0::oid::regrole
WHERE NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = owner::oid);

DROP POLICY use ON slm.classifier_registry;
DROP POLICY make ON slm.classifier_registry;
DROP POLICY change ON slm.classifier_registry;
DROP POLICY remove ON slm.classifier_registry;
ALTER TABLE slm.classifier_registry DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON slm.classifier_registry FROM PUBLIC;
ALTER TABLE slm.classifier_registry ALTER COLUMN name TYPE text COLLATE "C", ALTER COLUMN image TYPE text COLLATE "C",
    ADD COLUMN trials bytea[], ADD COLUMN trial_rows bytea, ADD COLUMN plain_accuracy double precision,
    ADD COLUMN tuned_accuracy double precision;
ALTER TABLE slm.classifier_registry ALTER COLUMN trials SET STORAGE EXTERNAL, ALTER COLUMN trial_rows SET STORAGE EXTERNAL;

-- ---- jobs: each with the reason why it is not kept, if there is one

CREATE TABLE slm.earlier_job AS
WITH known AS (
    SELECT d.*, source.relowner AS source_owner, target.relowner AS target_owner,
           source.relkind IN ('r', 'p') AND source.relpersistence <> 't' AND source.relnamespace <> 'slm'::regnamespace
               AND target.relkind IN ('r', 'p') AND target.relpersistence <> 't' AND target.relnamespace <> 'slm'::regnamespace AS on_tables,
           -- the primary key of today, whatever the columns were called; those of then where it was dropped
           coalesce((SELECT array_agg(a.attname ORDER BY k.n)
                     FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n), pg_attribute a
                     WHERE i.indrelid = d.source::oid AND i.indisprimary AND k.n <= i.indnkeyatts AND a.attrelid = d.source::oid AND a.attnum = k.attnum),
                    (SELECT array_agg(a.attname ORDER BY k.n)
                     FROM unnest(d.key_columns) WITH ORDINALITY k(name, n), pg_attribute a
                     WHERE a.attrelid = d.source::oid AND a.attname = k.name AND a.attnum > 0 AND NOT a.attisdropped
                     HAVING count(*) = cardinality(d.key_columns))) AS present_key,
           EXISTS (SELECT FROM pg_roles r WHERE r.oid = d.owner::oid) AS has_owner,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = d.target::oid AND a.attname = d.target_column
                   AND a.attnum > 0 AND NOT a.attisdropped) AS has_column,
           CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END AS becoming,
           s.last_value AS last_id
    FROM slm.job_definition d
    CROSS JOIN slm.job_definition_id_seq s
    LEFT JOIN pg_class source ON source.oid = d.source::oid
    LEFT JOIN pg_class target ON target.oid = d.target::oid
), judged AS (
    SELECT k.*,
           CASE WHEN k.id < 1 OR k.id > k.last_id THEN 'it was not made by slm_create_job'
                WHEN k.source_owner IS NULL OR k.target_owner IS NULL THEN 'its table was dropped'
                WHEN NOT k.on_tables OR k.present_key IS NULL OR NOT k.has_column OR k.target_column = ANY (k.present_key)
                    THEN 'it could not be made for these tables'
                WHEN k.has_owner AND NOT (pg_has_role(k.owner::oid, k.source_owner, k.becoming) AND pg_has_role(k.owner::oid, k.target_owner, k.becoming))
                    THEN 'jobs work on a table as the table''s owner, and its owner cannot become that role' END AS refused
    FROM known k
)
SELECT j.*, row_number() OVER (PARTITION BY j.target, j.target_column, j.refused IS NULL ORDER BY j.has_owner DESC, j.id) AS place
FROM judged j;
UPDATE slm.earlier_job SET refused = 'another job fills the same column' WHERE refused IS NULL AND place > 1;

-- Is this a key of n columns?
CREATE FUNCTION slm.earlier_key_fits(key jsonb, n int) RETURNS bool LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(key) = 'array'
                THEN jsonb_array_length(key) = n AND NOT EXISTS (SELECT FROM jsonb_array_elements(key) e WHERE jsonb_typeof(e) IN ('array', 'object', 'null'))
                ELSE false END
$$;
CREATE TABLE slm.earlier_queue AS
SELECT q.* FROM slm.job_queue q JOIN slm.earlier_job j ON j.id = q.job_id AND j.refused IS NULL
WHERE isfinite(q.enqueued_at) AND slm.earlier_key_fits(q.key, cardinality(j.present_key));
CREATE TABLE slm.earlier_done AS
SELECT s.* FROM slm.job_done s JOIN slm.earlier_job j ON j.id = s.job_id AND j.refused IS NULL
WHERE isfinite(s.done_at) AND slm.earlier_key_fits(s.key, cardinality(j.present_key));

ALTER EXTENSION slm_pg DROP SEQUENCE slm.job_definition_id_seq;
ALTER EXTENSION slm_pg DROP SEQUENCE slm.job_queue_id_seq;
ALTER EXTENSION slm_pg DROP TABLE slm.job_definition;
ALTER EXTENSION slm_pg DROP TABLE slm.job_queue;
ALTER EXTENSION slm_pg DROP TABLE slm.job_done;
DROP TABLE slm.job_definition, slm.job_queue, slm.job_done;

SET LOCAL search_path = @extschema@, pg_temp;
