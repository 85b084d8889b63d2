-- The pictures of docs/pictures, as slm_plot draws them (scripts/pictures.sh).  psql variables: cache (folder of the models), data (folder of
-- banking77_train.csv, banking77_test.csv and banking8.csv), out (where the pictures go).
\set ON_ERROR_STOP on
\set QUIET on
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
CREATE EXTENSION slm_pg;
\o /dev/null
SELECT slm_load_model('minilm', :'cache' || '/all-MiniLM-L6-v2'), slm_load_model('smollm2', :'cache' || '/SmolLM2-135M-Instruct.Q4_1.gguf');
SET slm.embed_model = 'minilm';
SET slm.classify_model = 'minilm';
SET slm.machine_cost_per_hour = 0.20;
CREATE TABLE train (id serial PRIMARY KEY, body text, label text);
CREATE TABLE test (id serial PRIMARY KEY, body text, label text);
CREATE TABLE eight (id serial PRIMARY KEY, body text, label text);
\set file :data '/banking77_train.csv'
COPY train (body, label) FROM :'file' (FORMAT csv, HEADER);
\set file :data '/banking77_test.csv'
COPY test (body, label) FROM :'file' (FORMAT csv, HEADER);
\set file :data '/banking8.csv'
COPY eight (body, label) FROM :'file' (FORMAT csv, HEADER);
UPDATE train SET label = replace(label, '_', ' ');
UPDATE test SET label = replace(label, '_', ' ');
CREATE TABLE names AS SELECT array_agg(DISTINCT label ORDER BY label) AS l FROM train;
-- 20 rows a label to learn from, 1,000 others to measure on
CREATE VIEW learned AS SELECT body, label FROM (SELECT *, row_number() OVER (PARTITION BY label ORDER BY md5(id::text)) AS n FROM train) t WHERE n <= 20;
CREATE TABLE measured AS SELECT body, label FROM test ORDER BY md5(id::text) LIMIT 1000;
SELECT slm_train_classifier('topics', 'SELECT body, label FROM learned');
CREATE TABLE scored (body text, label text, series text, given text, probability float8);
INSERT INTO scored SELECT body, label, 'by the names of the labels', (d).label, (d).probability
FROM (SELECT body, label, slm_classify_details(body, (SELECT l FROM names)) AS d FROM measured OFFSET 0) m;
INSERT INTO scored SELECT body, label, 'trained on 20 rows a label', (d).label, (d).probability
FROM (SELECT body, label, slm_classify_details(body, classifier => 'topics') AS d FROM measured OFFSET 0) m;
SELECT slm_calibrate('minilm', 'SELECT body, label FROM train ORDER BY md5(id::text) LIMIT 1000', labels => (SELECT l FROM names));
INSERT INTO scored SELECT body, label, 'by the names, calibrated', (d).label, (d).probability
FROM (SELECT body, label, slm_classify_details(body, (SELECT l FROM names)) AS d FROM measured OFFSET 0) m;

\echo 'coverage'
\set file :out '/coverage.svg'
\o :file
SELECT slm_plot($$SELECT s.series, c.* FROM (VALUES ('by the names of the labels'), ('trained on 20 rows a label')) s(series),
    slm_evaluate(format('SELECT body, label, given, probability FROM scored WHERE series = %L', s.series)) e,
    jsonb_to_recordset(e.coverage) c (answered float8, accuracy float8, low float8, high float8)$$, 'coverage',
    title => 'What can be left to the machine: 1,000 messages to a bank, 77 labels');
\echo 'calibration'
\set file :out '/calibration.svg'
\o :file
SELECT slm_plot($$SELECT s.series, c.* FROM (VALUES ('by the names of the labels'), ('by the names, calibrated')) s(series),
    slm_evaluate(format('SELECT body, label, given, probability FROM scored WHERE series = %L', s.series)) e,
    jsonb_to_recordset(e.calibration) c (confidence float8, accuracy float8, rows bigint)$$, 'calibration',
    title => 'Before and after slm_calibrate: 1,000 messages to a bank, 77 labels');
\echo 'confusion'
\set file :out '/confusion.svg'
\o :file
SELECT slm_plot($$SELECT label AS expected, slm_classify(body, ARRAY(SELECT DISTINCT label FROM eight ORDER BY 1)) AS given, count(*) AS rows FROM eight GROUP BY 1, 2$$,
    'confusion', title => 'Which labels are taken for one another: 200 messages, by the names of the labels');
\echo 'cost'
\set file :out '/cost.svg'
\o /dev/null
SELECT slm_train_classifier('eight', 'SELECT body, label FROM eight WHERE id % 2 = 1');
SELECT slm_train_classifier('eight_ngrams', 'SELECT body, label FROM eight WHERE id % 2 = 1', options => '{"ngrams": true}');
\o :file
SELECT slm_plot($$SELECT * FROM slm_compare('SELECT body, label FROM eight WHERE id % 2 = 0 ORDER BY id', '{
    "MiniLM, trained on 100 rows": {"classifier": "eight"},
    "MiniLM, trained, with n-grams": {"classifier": "eight_ngrams"},
    "MiniLM, names of the labels": "slm_classify(body, ARRAY(SELECT DISTINCT label FROM eight ORDER BY 1))",
    "SmolLM2, which label explains the text": "slm_classify(body, ARRAY(SELECT DISTINCT label FROM eight ORDER BY 1), model => ''smollm2'', method => ''channel'')",
    "SmolLM2, asked for the label": "slm_classify(body, ARRAY(SELECT DISTINCT label FROM eight ORDER BY 1), model => ''smollm2'', method => ''direct'')"}')$$,
    'cost', title => 'Accuracy over cost: 100 messages to a bank, 8 labels', x_label => 'cost of a million rows (USD, of a machine for 0.20 an hour)');
\echo 'usage'
\set file :out '/usage.svg'
\o :file
-- figures of four weeks, made up: a fresh server has used nothing yet
SELECT slm_plot($$SELECT date '2026-11-01' + d AS day, f.function, (f.tokens * (1 + 0.3 * sin(d * f.phase)) * CASE WHEN extract(isodow FROM date '2026-11-01' + d) > 5 THEN 0.25 ELSE 1 END)::bigint AS tokens
    FROM generate_series(0, 27) d, (VALUES ('slm_embed', 6000000, 1.7), ('slm_classify', 4200000, 2.3), ('slm_summarize', 1500000, 0.9)) f(function, tokens, phase)$$,
    'usage', title => 'Usage over days (made-up figures)');
\o
