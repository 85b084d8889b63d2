-- Fine-tuning of embedding models (slm_finetune on an encoder): texts with labels, pairs, scores; used wherever a model is named. Figures differ
-- by instruction set, so only what holds everywhere is shown. Gradients are compared with torch by test/golden/test_learn_encoder.c.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;
SELECT name FROM slm_load_model('minilm', :'minilm', '{"quantization": "Q8_0"}');
CREATE TABLE words AS SELECT w || ' ' || i AS t, l AS label FROM generate_series(1, 4) i,
  (VALUES ('red', 'even'), ('green', 'odd'), ('blue', 'even'), ('yellow', 'odd'), ('white', 'even'), ('black', 'odd')) v(w, l);

-- texts of a label come near each other
SELECT version, training_rows + held_out_rows AS rows, held_out_rows > 0 AS holds, loss_after < loss_before AS better, active
  FROM slm_finetune('near', 'minilm', 'SELECT t, label FROM words', '{"epochs": 6, "rate": 0.003, "seed": 1, "validation": 0.3}');
CREATE VIEW apart AS SELECT avg(slm_similarity(slm_embed(a.t, 'minilm'), slm_embed(b.t, 'minilm'))) FILTER (WHERE a.label = b.label) - avg(slm_similarity(slm_embed(a.t, 'minilm'), slm_embed(b.t, 'minilm'))) FILTER (WHERE a.label <> b.label) AS before,
  avg(slm_similarity(slm_embed(a.t, 'minilm+near'), slm_embed(b.t, 'minilm+near'))) FILTER (WHERE a.label = b.label) - avg(slm_similarity(slm_embed(a.t, 'minilm+near'), slm_embed(b.t, 'minilm+near'))) FILTER (WHERE a.label <> b.label) AS after
  FROM words a, words b WHERE a.t LIKE '% 1' AND b.t LIKE '% 2';
SELECT after > before + 0.1 AS apart FROM apart;
-- a text has the same bits beside texts without the adapter, and the model alone those that it always had
SELECT slm_embed('red 1', 'minilm+near') = (SELECT e FROM (SELECT slm_embed(t, CASE WHEN label = 'even' THEN 'minilm+near' ELSE 'minilm' END) AS e, t FROM words) x WHERE t = 'red 1') AS same;
SELECT name, base, ended, exact_after IS NOT NULL AS judged FROM slm.finetunes ORDER BY name COLLATE "C";

-- a classifier on it; what it stands on cannot be dropped, and another version is another model
SELECT version, n_labels FROM slm_train_classifier('parity', 'SELECT t, label FROM words', 'minilm+near');
SELECT avg((slm_classify(t, classifier => 'parity') = label)::int) > 0.9 AS right FROM words;
SELECT name, model FROM slm.classifiers;
\x on
SELECT state, message FROM try($$SELECT slm_drop_adapter('near')$$);
SELECT state, message FROM try($$SELECT slm_drop_model('minilm')$$);
\x off
SELECT version, active FROM slm_finetune('near', 'minilm', 'SELECT t, label FROM words', '{"epochs": 1, "validation": 0, "activate": "always"}');
\x on
SELECT * FROM try($$SELECT slm_classify('red 1', classifier => 'parity')$$);
\x off
SELECT slm_restore_finetune('near', 1);
SELECT slm_classify('red 1', classifier => 'parity') IS NOT NULL AS again;

-- a share of the change: between the model and what it was tuned to
SELECT version FROM slm_finetune('all', 'minilm', 'SELECT t, label FROM words', '{"epochs": 3, "rate": 0.003, "seed": 1, "validation": 0}');
SELECT version FROM slm_finetune('half', 'minilm', 'SELECT t, label FROM words', '{"epochs": 3, "rate": 0.003, "seed": 1, "validation": 0, "kept": 0.5}');
SELECT slm_similarity(slm_embed('red 1', 'minilm'), slm_embed('red 1', 'minilm+half')) > slm_similarity(slm_embed('red 1', 'minilm'), slm_embed('red 1', 'minilm+all')) AS between;
-- judged by rows of its own
SELECT version, training_rows, held_out_rows FROM slm_finetune('own', 'minilm', 'SELECT t, label FROM words', $${"epochs": 1, "validation_query": "SELECT 'pink ' || i, CASE i WHEN 1 THEN 'even' ELSE 'odd' END AS label FROM generate_series(1, 5) i"}$$);

-- the same bits for any number of threads
SET slm.threads = 1;
SELECT version FROM slm_finetune('bits', 'minilm', 'SELECT t, label FROM words', '{"epochs": 2, "seed": 3, "validation": 0, "activate": "never"}');
SET slm.threads = 2;
SELECT version FROM slm_finetune('bits', 'minilm', 'SELECT t, label FROM words', '{"epochs": 2, "seed": 3, "validation": 0, "activate": "never"}');
RESET slm.threads;
SELECT count(DISTINCT sha256) AS versions FROM slm.finetunes WHERE name = 'bits';

-- queries and documents, with one that is none, texts with a score
SELECT version, loss_after < loss_before AS better FROM slm_finetune('found', 'minilm', $$SELECT 'what is number ' || t, t FROM words$$, '{"epochs": 3, "validation": 0.3}');
SELECT version FROM slm_finetune('three', 'minilm', $$SELECT 'what is number ' || t, t, 'none' FROM words$$, '{"epochs": 1}');
SELECT version, loss_after < loss_before AS better, exact_after FROM slm_finetune('scored', 'minilm', $$SELECT a.t, b.t, (a.label = b.label)::int FROM words a, words b WHERE a.t < b.t$$, '{"epochs": 1, "rate": 0.003, "validation": 0.3}');

-- out to a directory of the server and back from there
SELECT slm_export_adapter('near', current_setting('data_directory') || '/exported_texts') LIKE '%/exported_texts' AS exported;
SELECT name, rank FROM slm_load_adapter('again', 'minilm', 'exported_texts');
SELECT slm_embed('red 1', 'minilm+again') = slm_embed('red 1', 'minilm+near') AS same;

-- bad input
SET client_min_messages = notice;
\x on
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT 1')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, to_jsonb(label) FROM words')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, ''one'' AS label FROM words')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, t, 5 FROM words')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, t, ''NaN''::float8 FROM words')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, label FROM words', '{"validation_query": "SELECT ''pink'', ''neither'' AS label"}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, label FROM words LIMIT 1')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, label FROM words', '{"step_texts": 5}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, t FROM words WHERE false')$$);
SET slm.train_memory = '1MB';
SELECT state, regexp_replace(message, '\d+ (tokens|MB)', 'N \1', 'g') AS message, hint FROM try($$SELECT slm_finetune('x', 'minilm', 'SELECT t, label FROM words')$$);
RESET slm.train_memory;
\x off
SET client_min_messages = warning;
DROP VIEW apart;
SELECT slm_drop_model('minilm', cascade => true);
