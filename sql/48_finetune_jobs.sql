-- Fine-tuning in the background: what is refused when it is created, what is shown, who may change it.  The work itself: test/tap/067_finetune_jobs.pl.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;
SELECT name FROM slm_load_model('small', :'tiny_file');
SELECT name FROM slm_load_model('minilm', :'minilm');
CREATE TABLE faq AS SELECT 'ab ' || i AS q, 'cd ' || chr(97 + i % 3) AS a, chr(97 + i % 3) AS label FROM generate_series(1, 60) i;

SELECT slm_create_finetune('later', 'small', 'SELECT q, a FROM faq', '{"paused": true, "epochs": 2, "retrain_rows": 10, "check_every": "1 hour", "checkpoint_seconds": 20, "system": "Be brief."}');
SELECT slm_create_finetune('vectors', 'minilm', 'SELECT q, label FROM faq', '{"paused": true}');
SELECT name, owner = current_user::regrole AS mine, base, query, options, state, step, version, retrain_rows, new_rows, runs, error FROM slm.finetune_jobs ORDER BY name;

-- bad input: refused before anything is kept
SELECT * FROM try($$SELECT slm_create_finetune('later', 'small', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_create_finetune(NULL, 'small', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'nothing', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_create_finetune('small', 'small', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small+later', 'SELECT q, a FROM faq')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT 1')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'DELETE FROM faq RETURNING q, a')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM nowhere')$$);
SELECT state, message FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"validation_query": "SELECT q, a FROM nowhere"}')$$);
SELECT state, message FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"retrain": 5}')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"retrain_rows": 0}')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"retrain_rows": 1.5}')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"checkpoint_seconds": 61}')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"check_every": "1 ms"}')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"check_every": 5}')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"paused": "yes"}')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '[]')$$);
SELECT * FROM try($$SELECT slm_pause_finetune('nothing')$$);
SELECT * FROM try($$SELECT slm_resume_finetune(NULL)$$);

-- others neither see nor change it, and may not create one
CREATE ROLE regress_stranger;
SET ROLE regress_stranger;
SELECT count(*) FROM slm.finetune_jobs;
SELECT * FROM try($$SELECT slm_drop_finetune('later')$$);
SELECT * FROM try($$SELECT slm_pause_finetune('later')$$);
SELECT state, message FROM try($$SELECT slm_create_finetune('theirs', 'small', 'SELECT q, a FROM faq')$$);
RESET ROLE;
DROP ROLE regress_stranger;

BEGIN;
SELECT slm_pause_finetune('later');
SELECT slm_drop_finetune('later');
SELECT count(*) FROM slm.finetune_jobs;
ROLLBACK;
SELECT slm_drop_finetune('later');
SELECT slm_drop_finetune('vectors');
SELECT count(*) FROM slm.finetune_jobs;
