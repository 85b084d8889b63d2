-- slm.optimize = calls: of texts that are near each other some are asked, and vote for the others.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('smollm2', :'model')).name, (slm_load_model('minilm', :'minilm')).name;
SET slm.generate_model = 'smollm2';
SET slm.classify_model = 'smollm2';
SHOW slm.optimize;
SHOW slm.optimize_agreement;
CREATE TABLE note (id serial, body text);
INSERT INTO note (body) SELECT format(pattern, word) FROM unnest(ARRAY['The %s is broken', 'My %s does not work', 'A %s that fell apart', 'The %s stopped working',
    'Thank you for the %s', 'We love our %s', 'What a lovely %s', 'I am so happy with the %s', 'When will the %s arrive?', 'Where is my %s?']) pattern,
    unnest(ARRAY['lamp', 'kettle', 'phone', 'chair', 'radio', 'bicycle', 'table', 'clock', 'oven', 'bed', 'mixer', 'printer', 'camera', 'heater', 'drill', 'fridge', 'shelf', 'bag', 'coat', 'pan', 'mirror']) word;
INSERT INTO note (body) VALUES (NULL), (' '), ('The lamp is broken'), ('The lamp is broken');
CREATE FUNCTION explained(statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE plan jsonb;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || statement INTO plan;
    RETURN jsonb_path_query_first(plan, '$.**?(@."Custom Plan Provider" == "SLM Batch")');
END $$;

-- ---- what the model says, and what is said with fewer calls
CREATE TABLE asked AS SELECT id, slm_filter('something is broken', body, threshold => 0.5) AS fits FROM note;
SET slm.optimize = 'calls';
SET slm.optimize_agreement = 0.75;
-- without an encoder there is nothing to tell what is near
EXPLAIN (COSTS OFF) SELECT slm_filter('something is broken', body) FROM note;
SET slm.embed_model = 'minilm';
EXPLAIN (COSTS OFF) SELECT slm_filter('something is broken', body) FROM note;
CREATE TABLE saved AS SELECT explained('SELECT id, slm_filter(''something is broken'', body, threshold => 0.5) FROM note') AS plan;
SELECT plan->'Rows Read' AS rows, plan->'Calls Wanted' AS wanted, (plan->>'Calls Distinct')::int < 160 AS fewer, (plan->>'Calls Distinct')::int + (plan->>'Calls Voted')::int - 212 AS sum, (plan->>'Clusters That Voted')::int > 2 AS clusters,
    (plan->>'Agreement')::float8 >= 0.75 AS agreement, (plan->>'Agreement at Least')::float8 <= (plan->>'Agreement')::float8 AS bound, (plan->>'Calls Audited')::int >= 40 AS audited FROM saved;
SELECT slm_reset_usage() > 0 AS reset;
CREATE TABLE voted AS SELECT id, slm_filter('something is broken', body, threshold => 0.5) AS fits FROM note;
SELECT count(*), count(*) FILTER (WHERE a.fits IS NOT DISTINCT FROM v.fits) >= 0.75 * count(*) AS agrees, count(*) FILTER (WHERE v.fits IS NULL) AS nulls, count(*) FILTER (WHERE v.fits) > 40 AS some FROM asked a JOIN voted v USING (id);
-- every row's call is counted, and what was computed for it
SELECT function, sum(calls) AS calls, sum(distinct_calls) < 215 AS fewer FROM slm.usage WHERE application_name = current_setting('application_name') AND function IN ('slm_filter', 'slm_embed') GROUP BY 1 ORDER BY 1;
-- always the same; conditions, aggregates
SELECT count(*) = (SELECT count(*) FROM voted WHERE fits) AS same FROM note WHERE slm_filter('something is broken', body, threshold => 0.5);
SET slm.optimize_agreement = 0.6;
SELECT count(*) FILTER (WHERE label = 'thanks') > 20 AS thanks, count(label) AS labelled FROM (SELECT slm_classify(body, ARRAY['complaint', 'thanks', 'delivery']) AS label FROM note) l;
-- where it does not fit, every call is made
EXPLAIN (COSTS OFF) SELECT slm_filter('something is broken', body) FROM note LIMIT 3;
EXPLAIN (COSTS OFF) SELECT slm_filter(body, body) FROM note;
EXPLAIN (COSTS OFF) SELECT CASE WHEN id > 3 THEN slm_filter('something is broken', body) END FROM note;
EXPLAIN (COSTS OFF) SELECT slm_generate(body) FROM note;
EXPLAIN (COSTS OFF) SELECT slm_classify(body, classifier => 'some') FROM note;
SELECT explained('SELECT slm_filter(''something is broken'', body, model => ''minilm'') FROM note')->'Not Optimized' AS encoder, explained('SELECT slm_filter(''something is broken'', body) FROM note WHERE id <= 20')->'Not Optimized' AS few;
SET slm.optimize = 'half';
SET slm.optimize_agreement = 1;
SELECT slm_drop_model('minilm'), slm_drop_model('smollm2');
