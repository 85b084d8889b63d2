-- Fine-tuning (slm_finetune): what is asked for, versions, bad input; on a tiny model with random weights. Figures differ by instruction set, so
-- only what holds everywhere is shown. Gradients and losses are compared with torch and peft by test/golden/test_learn.c.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;
SELECT name FROM slm_load_model('small', :'tiny_file');
\set lora_file :srcdir '/test/data/tiny_lora.gguf'
SELECT name FROM slm_load_adapter('loaded', 'small', :'lora_file');
CREATE TABLE faq AS SELECT 'ab ' || i AS q, 'cd ' || chr(97 + i % 3) AS a, chr(97 + i % 3) AS label FROM generate_series(1, 60) i;

-- four kinds of rows; each version tells what it learned from
SELECT version, training_rows + held_out_rows AS rows, held_out_rows > 0 AS holds, steps > 0 AS steps, loss_after < loss_before AS better, active
  FROM slm_finetune('pairs', 'small', 'SELECT q, a FROM faq', '{"epochs": 6, "rate": 0.02, "seed": 1}');
SELECT version, training_rows, loss_after < loss_before AS better FROM slm_finetune('labels', 'small', 'SELECT q, label FROM faq', '{"epochs": 4, "rate": 0.02, "validation": 0.2}');
SELECT version, loss_after < loss_before AS better FROM slm_finetune('fields', 'small', $$SELECT q, jsonb_build_object('n', 1, 'letter', label) FROM faq$$, '{"epochs": 2, "rate": 0.02, "show_schema": false}');
SELECT version, loss_after < loss_before AS better FROM slm_finetune('chats', 'small', $$SELECT jsonb_build_array(jsonb_build_object('role', 'user', 'content', q), jsonb_build_object('role', 'assistant', 'content', a)) FROM faq$$, '{"epochs": 2, "rate": 0.02}');
SELECT name, version, active, base, owner = current_user::regrole AS mine, ended, steps = (curve -> -1 ->> 'step')::int AS whole, curve -> -1 ? 'held_out_loss' AS judged, options, query,
  length(data_sha256) AS digest, seconds > 0 AS seconds, cpu_seconds > 0 AS cpu, memory_bytes > 0 AS memory, bytes > 1000 AS bytes FROM slm.finetunes ORDER BY name COLLATE "C";
-- it is an adapter as any other
SELECT name, base, rank, matrices FROM slm.adapters ORDER BY name COLLATE "C";
SELECT slm_perplexity('ab 7 cd b', 'small+pairs') <> slm_perplexity('ab 7 cd b', 'small') AS differs;
SELECT slm_classify('ab 4', ARRAY['a', 'b', 'c'], 'small+labels', 'direct') IN ('a', 'b', 'c') AS label;

-- the same rows, options and seed: the same bits, for any number of threads; another seed: others
SET slm.threads = 1;
SELECT version, active FROM slm_finetune('pairs', 'small', 'SELECT q, a FROM faq', '{"epochs": 6, "rate": 0.02, "seed": 1, "activate": "never"}');
SET slm.threads = 2;
SELECT version, active FROM slm_finetune('pairs', 'small', 'SELECT q, a FROM faq', '{"epochs": 6, "rate": 0.02, "seed": 1, "activate": "never"}');
SELECT version, active FROM slm_finetune('pairs', 'small', 'SELECT q, a FROM faq', '{"epochs": 1, "rate": 0.0001, "rank": 4, "targets": ["q", "v"], "seed": 2}');
RESET slm.threads;
SELECT sha256 = first_value(sha256) OVER (ORDER BY version) AS same, data_sha256 = first_value(data_sha256) OVER (ORDER BY version) AS same_rows, active FROM slm.finetunes WHERE name = 'pairs' ORDER BY version;
-- dropout: other bits than without, the same for any number of threads; the last layer only; rows of its own to be judged by, without those that
-- are learned from
SET slm.threads = 1;
SELECT version, training_rows, held_out_rows, loss_after < loss_before AS better FROM slm_finetune('drops', 'small', 'SELECT q, a FROM faq', '{"epochs": 6, "rate": 0.02, "seed": 1, "dropout": 0.1}');
SET slm.threads = 2;
SELECT version FROM slm_finetune('drops', 'small', 'SELECT q, a FROM faq', '{"epochs": 6, "rate": 0.02, "seed": 1, "dropout": 0.1, "activate": "never"}');
RESET slm.threads;
SELECT count(DISTINCT sha256) AS drops, count(*) FILTER (WHERE sha256 IN (SELECT sha256 FROM slm.finetunes WHERE name = 'pairs')) AS as_without FROM slm.finetunes WHERE name = 'drops';
SELECT version, loss_after < loss_before AS better FROM slm_finetune('last', 'small', 'SELECT q, a FROM faq', '{"epochs": 6, "rate": 0.02, "layers": 1}');
SELECT name, rank, matrices FROM slm.adapters WHERE name IN ('drops', 'last') ORDER BY name;
SELECT version, training_rows, held_out_rows, loss_after < loss_before AS better FROM slm_finetune('own', 'small', 'SELECT q, a FROM faq',
  $${"epochs": 4, "rate": 0.02, "validation_query": "SELECT q || ' b', a FROM faq WHERE q < 'ab 2' UNION ALL (SELECT q, a FROM faq LIMIT 4)"}$$);
-- a worse version is not activated, a better one is; going back
SELECT version, active FROM slm_finetune('pairs', 'small', 'SELECT q, a FROM faq', '{"epochs": 1, "rate": 0.0001, "seed": 1}');
SELECT version, active FROM slm_finetune('pairs', 'small', 'SELECT q, a FROM faq', '{"epochs": 12, "rate": 0.02, "seed": 1}');
CREATE TABLE now AS SELECT slm_perplexity('ab 7 cd b', 'small+pairs') AS p;
SELECT slm_restore_finetune('pairs', 1);
SELECT version FROM slm.finetunes WHERE name = 'pairs' AND active;
SELECT slm_perplexity('ab 7 cd b', 'small+pairs') <> p AS other FROM now;
SELECT slm_restore_finetune('pairs', 6);
SELECT slm_perplexity('ab 7 cd b', 'small+pairs') = p AS back FROM now;
-- less memory, the same rows: it works in smaller pieces, or says what it needs
SET slm.train_memory = '4MB';
SELECT version, active FROM slm_finetune('less', 'small', 'SELECT q, a FROM faq', '{"epochs": 1}');
SET slm.train_memory = '1MB';
SELECT state, regexp_replace(message, '\d+ MB', 'N MB') AS message, hint FROM try($$SELECT slm_finetune('x', 'small', 'SELECT repeat(q || '' '', 12), a FROM faq', '{"rank": 32}')$$);
RESET slm.train_memory;

-- renamed and dropped as any adapter, with its versions
SELECT slm_rename_model('less', 'fewer');
SELECT name, version FROM slm.finetunes WHERE name IN ('less', 'fewer');
SELECT slm_drop_adapter('fewer');
SELECT count(*) FROM slm.finetunes WHERE name = 'fewer';

-- bad input
SET client_min_messages = notice;
\x on
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq WHERE false')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'DELETE FROM faq RETURNING q, a')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'WITH d AS (DELETE FROM faq RETURNING q, a) SELECT * FROM d')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT 1')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT 1, 2, 3')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, 1.5 AS label FROM faq')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, label FROM faq', '{"labels": ["a", "b"]}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, to_jsonb(1) FROM faq')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT ''[]''::jsonb')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT ''[{"role": "user", "content": "a"}]''::jsonb')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"max_tokens": 5}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"max_tokens": 5, "too_long": "skip"}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"rat": 1}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"rate": "fast"}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"rate": 7}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"epochs": 1.5}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"targets": ["head"]}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"labels": []}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"dropout": 1}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"layers": 0}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"kept": 0.5}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"validation": 0.2, "validation_query": "SELECT q, a FROM faq"}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"validation_query": "DELETE FROM faq RETURNING q, a"}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"validation_query": "SELECT q, label FROM faq"}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"validation_query": "SELECT q, a FROM faq WHERE false"}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"activate": "maybe"}')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '[]')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'small+pairs', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'pairs', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_finetune('x', 'nothing', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_finetune('loaded', 'small', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_finetune('small', 'small', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_finetune('a b', 'small', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_finetune(NULL, 'small', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_restore_finetune('pairs', 99)$$);
SELECT * FROM try($$SELECT slm_restore_finetune('nothing', 1)$$);
SELECT * FROM try($$SELECT slm_restore_finetune('loaded', 1)$$);
\x off
SELECT count(*) FROM slm.adapters WHERE name = 'x';
-- rows without an answer, rows that are there twice, rows that contradict each other; a rate that is far too high
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT version FROM slm_finetune('odd', 'small', $$SELECT q, CASE WHEN q < 'ab 3' THEN a END FROM faq UNION ALL SELECT 'ab 1', 'zz' UNION ALL SELECT 'ab 1', 'cd b'$$, '{"epochs": 1}');
SET client_min_messages = error;
SELECT version, active FROM slm_finetune('wild', 'small', 'SELECT q, a FROM faq', '{"epochs": 40, "rate": 1, "warmup": 0, "clip": 0, "patience": 3}');
SELECT ended <> 'done' AS stopped, loss_after <= loss_before AS no_worse FROM slm.finetunes WHERE name = 'wild';
\set VERBOSITY default
SET client_min_messages = warning;

-- out to a directory of the server and back from there
SELECT slm_export_adapter('pairs', current_setting('data_directory') || '/exported') LIKE '%/exported' AS exported;
SELECT name, rank, matrices, parameters = (SELECT parameters FROM slm.adapters WHERE name = 'pairs') AS all_of_it FROM slm_load_adapter('again', 'small', 'exported');
SELECT slm_perplexity('ab 7 cd b', 'small+again') = slm_perplexity('ab 7 cd b', 'small+pairs') AS same;
\x on
SELECT * FROM try($$SELECT slm_export_adapter('pairs', 'exported')$$);
SELECT * FROM try($$SELECT slm_export_adapter('small', 'other')$$);
\x off

-- privileges
CREATE ROLE slm_finetune_user;
SET ROLE slm_finetune_user;
SELECT state, message FROM try($$SELECT slm_finetune('mine', 'small', 'SELECT 1, 2')$$);
SELECT state, message FROM try($$SELECT slm_restore_finetune('pairs', 1)$$);
SELECT state, message FROM try($$SELECT slm_export_adapter('pairs', '/tmp/x')$$);
SELECT count(*) FROM slm.finetunes;
RESET ROLE;
GRANT EXECUTE ON FUNCTION slm_finetune TO slm_finetune_user;
SET ROLE slm_finetune_user;
SELECT state, message FROM try($$SELECT slm_finetune('mine', 'small', 'SELECT 1, 2')$$);
RESET ROLE;
SELECT slm_grant_model('small', 'slm_finetune_user');
SET ROLE slm_finetune_user;
SELECT state, message FROM try($$SELECT slm_finetune('mine', 'small', 'SELECT q, a FROM faq')$$);
SELECT version, active FROM slm_finetune('mine', 'small', $$SELECT 'ab ' || i, 'cd' FROM generate_series(1, 5) i$$, '{"epochs": 1}');
SELECT state, message FROM try($$SELECT slm_finetune('pairs', 'small', $q$SELECT 'ab ' || i, 'cd' FROM generate_series(1, 5) i$q$)$$);
RESET ROLE;
SELECT owner, active FROM slm.finetunes WHERE name = 'mine';
SELECT slm_drop_model('small', cascade => true);
SELECT count(*) FROM slm.finetunes;
DROP OWNED BY slm_finetune_user;
DROP ROLE slm_finetune_user;
