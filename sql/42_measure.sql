-- How good answers are, which candidate to take, what it costs.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('measure_minilm', :'minilm')).name;
SET slm.embed_model = 'measure_minilm';
CREATE SCHEMA ms;
SET search_path = ms, public;
CREATE TABLE mail (id int PRIMARY KEY, body text, label text, other text, sure float8);
INSERT INTO mail VALUES
    (1, 'I was charged twice', 'billing', 'billing', 0.9), (2, 'Where is my parcel?', 'delivery', 'delivery', 0.8),
    (3, 'The parcel is late', 'delivery', 'billing', 0.6), (4, 'The amount on my invoice is wrong', 'billing', 'billing', 0.95),
    (5, 'I want my money back', 'billing', NULL, NULL), (6, 'The courier has lost it', 'delivery', 'delivery', 0.55),
    (7, 'hello', NULL, 'billing', 0.1), (8, 'I cannot log in', 'login', 'delivery', 0.5);

-- ---- another system's answers: every figure can be reckoned by hand
SELECT rows, answered, accuracy, round(accuracy_low::numeric, 4) AS low, round(accuracy_high::numeric, 4) AS high, round(macro_f1::numeric, 4) AS macro_f1,
    round(weighted_f1::numeric, 4) AS weighted_f1, kappa, ece, exact_match, cost_per_million_rows, seconds > 0 AND cpu_seconds >= 0 AND rows_per_second > 0 AS timed
    FROM slm_evaluate('SELECT body, label, other FROM mail ORDER BY id');
SELECT jsonb_pretty(labels) AS labels, confusions, calibration, coverage FROM slm_evaluate('SELECT body, label, other FROM mail ORDER BY id');
SELECT round(ece::numeric, 4) AS ece, jsonb_pretty(calibration) AS calibration FROM slm_evaluate('SELECT body, label, other, sure FROM mail');
SELECT c.threshold, c.rows, c.answered, c.accuracy FROM slm_evaluate('SELECT body, label, other, sure FROM mail') e,
    jsonb_to_recordset(e.coverage) c (threshold float8, rows bigint, answered float8, accuracy float8);
-- ---- expressions, over the query's columns and input and expected; a classifier; calls run in batches
SELECT rows, accuracy, ece IS NULL AS no_confidence FROM slm_evaluate('SELECT body, label FROM mail WHERE id < 7', 'slm_classify(input, ARRAY[''billing'', ''delivery''])');
SELECT rows, accuracy, ece < 0.3 AS calibrated, jsonb_array_length(coverage) AS thresholds
    FROM slm_evaluate('SELECT body, label FROM mail WHERE id < 7;', 'slm_classify_details(body, ARRAY[''billing'', ''delivery''])');
SELECT accuracy FROM slm_evaluate('SELECT body AS "In put", label AS "Label" FROM mail -- all of them', 'coalesce(upper(lower("Label")), expected)');
SELECT accuracy FROM slm_evaluate('SELECT 1, 2', 'input + 1');
SELECT accuracy FROM slm_evaluate('SELECT true, id < 4 FROM mail', 'id < 3');
SELECT accuracy FROM slm_evaluate('SELECT id, id < 4 FROM mail', 'id < 3');
SELECT version, active FROM slm_train_classifier('measure_topic', 'SELECT body, label FROM mail, generate_series(1, 3) WHERE id < 7');
SELECT rows, accuracy, ece IS NOT NULL AS calibrated FROM slm_evaluate('SELECT body, label FROM mail WHERE id < 7', classifier => 'measure_topic');
-- two rows that it has not seen, one of them NULL; who was granted it is not told what is among its rows
SELECT rows FROM slm_evaluate($$SELECT CASE id WHEN 2 THEN 'Where is it?' WHEN 3 THEN NULL ELSE body END, label FROM mail WHERE id < 7$$, classifier => 'measure_topic');
SELECT rows FROM slm_evaluate($$SELECT 'Where is it?', 'delivery'$$, classifier => 'measure_topic');
CREATE ROLE regress_measure_other;
SELECT slm_grant_classifier('measure_topic', 'regress_measure_other'), slm_grant_model('measure_minilm', 'regress_measure_other');
SET ROLE regress_measure_other;
SELECT rows, accuracy FROM slm_evaluate($$SELECT 'I was charged twice', 'billing'$$, classifier => 'measure_topic');
RESET ROLE;
SELECT slm_revoke_classifier('measure_topic', 'regress_measure_other'), slm_revoke_model('measure_minilm', 'regress_measure_other');
DROP ROLE regress_measure_other;
-- ---- texts
SELECT rows, answered, accuracy, round(exact_match::numeric, 4) AS exact, round(token_f1::numeric, 4) AS token_f1, round(rouge_1::numeric, 4) AS rouge_1,
    round(rouge_2::numeric, 4) AS rouge_2, round(rouge_l::numeric, 4) AS rouge_l
    FROM slm_evaluate($$SELECT NULL, * FROM (VALUES ('The cat sat on the mat.', 'The cat is on the mat.'), ('Paris', 'paris!'), ('x', NULL)) t$$, kind => 'text');
SELECT kind, round(rouge_1::numeric, 4) AS rouge_1, round(rouge_l::numeric, 4) AS rouge_l
    FROM unnest(ARRAY['text', 'stems']) kind, slm_evaluate($$SELECT NULL, 'the parcels were delivered', 'a parcel was delivering'$$, kind => kind);
-- ---- which is better, and is it chance
CREATE TABLE many AS SELECT i AS id, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END AS label, CASE WHEN i % 10 < 8 THEN i % 2 ELSE 1 - i % 2 END AS good,
    CASE WHEN i % 10 < 7 THEN i % 2 ELSE 1 - i % 2 END AS nearly FROM generate_series(1, 100) i;
SELECT candidate, rows, accuracy, round(macro_f1::numeric, 4) AS macro_f1, round(p_value::numeric, 8) AS p_value, within_noise, cost_per_million_rows
    FROM slm_compare('SELECT id, label, good, nearly FROM many ORDER BY id', '{"good": "CASE good WHEN 0 THEN ''a'' ELSE ''b'' END", "nearly": "CASE nearly WHEN 0 THEN ''a'' ELSE ''b'' END",
        "a": {"expression": "''a''"}, "oracle": {"column": "label"}, "good again": "CASE WHEN good = 0 AND id > 2 THEN ''a'' ELSE ''b'' END"}');
SELECT candidate, accuracy, p_value FROM slm_compare('SELECT id, label, good FROM many ORDER BY id', '{"good": "CASE good WHEN 0 THEN ''a'' ELSE ''b'' END", "a": "''a''"}', min_accuracy => 0.6);
SELECT candidate, accuracy FROM slm_compare('SELECT body, label, other FROM mail WHERE id < 7 ORDER BY id', '{"trained": {"classifier": "measure_topic"}, "old": {"column": "other"}}') ORDER BY 1;
-- ---- what it costs
SET slm.machine_cost_per_hour = 0.2;
SELECT cost_per_million_rows > 0 AS has_cost FROM slm_evaluate('SELECT body, label FROM mail WHERE id < 7', 'slm_classify(input, ARRAY[''billing'', ''delivery''])');
SELECT count(*) FROM slm_compare('SELECT body, label, other FROM mail', '{"names": "slm_classify(body, ARRAY[''billing'', ''delivery''])", "old": {"column": "other"}}', max_cost => 1e9);
-- a support desk of a million queries a month: $30,000 at $0.03 for a thousand tokens, $500 on own machines, $5,000 of development
SELECT * FROM slm_roi(1000000, 1000, 0, cost_per_month => 500, development_cost => 5000, api => 'gpt-4');
-- the number of machines from what a request was measured to take: 10 million x 0.5 s x 3 / (8 CPUs x 30 days)
SELECT * FROM slm_roi(10000000, 2000, 100, cpu_seconds_per_request => 0.5, development_cost => 5000, api => 'gpt-4o');
SELECT * FROM slm_roi(1000, 100, 10, cpu_seconds_per_request => 0.5);
SELECT * FROM slm_roi(1000, 100, 10, api => 'nobody');
RESET slm.machine_cost_per_hour;
SELECT own_cost_per_month, saving_per_month FROM slm_roi(1000, 100, 10, cpu_seconds_per_request => 0.5);
SELECT count(*) > 5 AS seeded, bool_and(as_of > '2020-01-01' AND source <> '' AND currency = 'USD') AS dated FROM slm.prices;
SELECT slm_set_price('Acme', 'acme-1', 1, 2, 'offer of May');
SELECT slm_set_price('Acme', 'acme-1', 1.5, 2, 'offer of June', '2026-06-01', 'EUR');
SELECT * FROM slm.prices WHERE provider = 'Acme';
SELECT slm_set_price('Acme', 'acme-1', -1, 2, 'offer');
DELETE FROM slm.price WHERE provider = 'Acme';
-- a price that the extension brought, changed: one row is seen, and what is dumped meets none of its key where it is restored
SELECT slm_set_price('OpenAI', 'gpt-4o-mini', 9, 9, 'offer');
SELECT input_per_million, source FROM slm.prices WHERE model = 'gpt-4o-mini';
CREATE TEMP TABLE dumped AS SELECT * FROM slm.price WHERE NOT seeded;
DROP EXTENSION slm_pg CASCADE;
CREATE EXTENSION slm_pg SCHEMA public;
INSERT INTO slm.price TABLE dumped;
SELECT input_per_million, source FROM slm.prices WHERE model = 'gpt-4o-mini';
DELETE FROM slm.price WHERE NOT seeded;
SELECT (slm_load_model('measure_minilm', :'minilm')).name;
SELECT version FROM slm_train_classifier('measure_topic', 'SELECT body, label FROM mail, generate_series(1, 3) WHERE id < 7');
-- ---- what is refused
SELECT * FROM slm_evaluate(NULL);
SELECT * FROM slm_evaluate('SELECT 1');
SELECT * FROM slm_evaluate('SELECT 1, 2; DROP TABLE mail');
SELECT * FROM slm_evaluate('SELECT 1, 2) q (a, b), mail --');
SELECT * FROM slm_evaluate('DELETE FROM mail RETURNING body, label');
SELECT * FROM slm_evaluate('WITH d AS (DELETE FROM mail RETURNING body, label) SELECT * FROM d');
-- nor may what it calls write; the statement's own transaction may go on writing
CREATE FUNCTION noted(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO mail (id, body) SELECT max(id) + 1, 'noted' FROM mail; RETURN $1; END $$;
SELECT * FROM slm_evaluate('SELECT noted(body), label, other FROM mail');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail', 'noted(label)');
SELECT * FROM slm_train_classifier('noting', 'SELECT noted(body), label FROM mail WHERE label IS NOT NULL');
SELECT * FROM slm_try('SELECT noted(body) FROM mail', ARRAY['billing', 'delivery']);
SELECT slm_plot('SELECT noted(label) AS given, label AS expected FROM mail', 'confusion');
BEGIN;
SAVEPOINT before;
SELECT * FROM slm_evaluate('SELECT noted(body), label, other FROM mail');
ROLLBACK TO before;
SELECT rows, noted('written') FROM slm_evaluate('SELECT body, label, other FROM mail');
ROLLBACK;
SELECT count(*) AS noted FROM mail WHERE body = 'noted';
SELECT * FROM slm_evaluate('SELECT body, label FROM mail', 'label) FROM mail --');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail', 'count(*)');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail', 'nothing_there');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail', 'ROW(1, 2)');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail WHERE false', '1');
SELECT * FROM slm_evaluate('SELECT body, label, other, 7 FROM mail');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail', 'label', kind => 'json');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail', 'label', 'measure_topic');
SELECT * FROM slm_evaluate('SELECT body, label FROM mail', classifier => 'x'', input) FROM mail --');
SELECT * FROM slm_evaluate('SELECT id, id FROM generate_series(1, 10001) id', 'id');
SELECT * FROM slm_compare('SELECT body, label FROM mail', NULL);
SELECT * FROM slm_compare('SELECT body, label FROM mail', '["label"]');
SELECT * FROM slm_compare('SELECT body, label FROM mail', '{}');
SELECT * FROM slm_compare('SELECT body, label FROM mail', '{"a": 1}');
SELECT * FROM slm_compare('SELECT body, label FROM mail', '{"a": {"expression": "label", "column": "other"}}');
SELECT * FROM slm_compare('SELECT body, label FROM mail', '{"a": {"column": "nowhere"}}');
SELECT * FROM slm_compare('SELECT body, label FROM mail', '{"a": "label"}', max_cost => 1);
SELECT * FROM slm_compare('SELECT body, label FROM mail', '{"a": "label"}', min_accuracy => 2);
SELECT slm_drop_classifier('measure_topic');
DROP SCHEMA ms CASCADE;
SELECT slm_drop_model('measure_minilm');
