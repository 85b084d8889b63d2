-- What was computed, by whom, with what.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('usage_minilm', :'minilm')).name;
SET slm.embed_model = 'usage_minilm';
SET application_name = 'usage test';
CREATE VIEW usage AS SELECT function, model, calls, distinct_calls, requests, prompt_tokens, reused_tokens, output_tokens, label_tokens, tokens
    FROM slm.usage WHERE application_name = 'usage test';

-- ---- equal calls of a statement are computed once, and counted as often as they were asked for
SELECT count(slm_embed('text ' || i % 10)) FROM generate_series(1, 100) i;
SELECT slm_count_tokens('four words of text', 'usage_minilm');
SELECT * FROM usage ORDER BY function;
-- ---- what is rolled back has been computed; so has what failed
BEGIN;
SELECT slm_embed('text 3') IS NOT NULL AS done;
ROLLBACK;
SELECT slm_embed('text 4') IS NOT NULL, 1 / (length(slm_embed('text 5')::text) - length(slm_embed('text 5')::text));
SELECT slm_embed(NULL) IS NULL AS nothing_is_asked;
SELECT slm_embed('text', model => 'nobody');
SELECT * FROM usage WHERE function = 'slm_embed';
-- ---- sets, texts in windows, functions that use others
SELECT count(*) FROM slm_embed_many(ARRAY['one', 'two', 'three']);
SELECT count(*) FROM slm_rerank('red', ARRAY['blue', 'crimson']);
SELECT slm_classify(repeat('Where is my parcel? ', 200), ARRAY['billing', 'delivery']);
SELECT slm_sentiment('I love it');
SELECT * FROM usage ORDER BY function;
-- ---- sums are those of the rows; times are there
SELECT bool_and(cpu_seconds > 0 AND wall_seconds > 0) AS timed FROM slm.usage WHERE application_name = 'usage test' AND tokens > 0;
SELECT t.function, t.calls_total >= u.calls AS whole FROM slm.usage_totals t JOIN usage u USING (function, model) WHERE t.role = current_user AND t.database = current_database() ORDER BY 1;
SELECT DISTINCT day = (now() AT TIME ZONE 'UTC')::date AS today, role = current_user AS mine, database = current_database() AS here FROM slm.usage WHERE application_name = 'usage test';
-- ---- who pays is whoever the session was set to, not whose rights a function lends
CREATE ROLE regress_slm_payer;
CREATE ROLE regress_slm_other;
SELECT slm_grant_model('usage_minilm', 'public');
CREATE FUNCTION lent(text) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT slm_embed($1) IS NOT NULL';
SET ROLE regress_slm_payer;
SELECT lent('text 1');
SELECT role, function, calls, tokens FROM slm.usage WHERE application_name = 'usage test';
SELECT slm_reset_usage();
SET ROLE regress_slm_other;
SELECT count(*) AS of_others FROM slm.usage WHERE application_name = 'usage test';
RESET ROLE;
GRANT pg_monitor TO regress_slm_other;
SET ROLE regress_slm_other;
SELECT count(DISTINCT role) > 1 AS of_all FROM slm.usage WHERE application_name = 'usage test';
RESET ROLE;
SELECT slm_reset_usage('regress_slm_payer');
SELECT count(*) AS forgotten FROM slm.usage WHERE role = 'regress_slm_payer';
DROP VIEW usage;
DROP FUNCTION lent;
SELECT slm_drop_model('usage_minilm');
DROP ROLE regress_slm_payer, regress_slm_other;
