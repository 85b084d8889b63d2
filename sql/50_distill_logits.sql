-- Learning from a larger model's logits ({"logits": 8, "logits_of": "large"}): a tiny model from itself with an adapter; bad input. Losses and
-- gradients are compared with torch by test/golden/test_learn.c. Figures differ by instruction set.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;
SELECT name FROM slm_load_model('small', :'tiny_file');
CREATE TABLE faq AS SELECT 'ab ' || i AS q, 'cd ' || chr(97 + i % 3) AS a FROM generate_series(1, 60) i;
SELECT version FROM slm_finetune('large', 'small', 'SELECT q, a FROM faq', '{"epochs": 8, "rate": 0.02}');

-- its logits alone teach (mix 0), of texts that were looked up; its memory is named, though no text was asked of it
RESET client_min_messages;
SELECT version, training_rows + held_out_rows AS rows, exact_after >= exact_before AS not_worse, teacher_bytes = (SELECT image_bytes FROM slm.models WHERE name = 'small') AS memory, active
  FROM slm_distill('looked_up', 'small', 'SELECT q FROM faq', '(SELECT a FROM faq f WHERE f.q = input)', options => '{"epochs": 4, "rate": 0.02, "logits": 8, "logits_of": "small+large", "mix": 0}');
SET client_min_messages = warning;
-- its texts and its logits, of another quantization
SELECT name FROM slm_quantize_model('small', 'small-f16', 'F16');
SELECT version, agreement BETWEEN 0 AND 1 AS agrees
  FROM slm_distill('asked', 'small', 'SELECT q FROM faq', 'slm_generate(input, ''small-f16'', max_tokens => 4) || ''.''', options => '{"epochs": 2, "rate": 0.02, "logits": 2, "logits_of": "small-f16"}');
SELECT f.name, loss_after < loss_before AS better, options ->> 'logits_of' AS teacher FROM slm.finetunes f WHERE name IN ('looked_up', 'asked') ORDER BY name;
-- the student's probabilities come nearer to the teacher's
CREATE TABLE logprob AS SELECT q, m, avg(t.logprob) AS mean FROM faq, unnest(ARRAY['small', 'small+large', 'small+looked_up']) m, slm_token_logprobs(q || ' ' || a, m) t GROUP BY q, m;
SELECT avg(abs(s.mean - l.mean)) < avg(abs(b.mean - l.mean)) AS nearer FROM logprob b JOIN logprob l USING (q) JOIN logprob s USING (q) WHERE b.m = 'small' AND l.m = 'small+large' AND s.m = 'small+looked_up';
-- slm_finetune takes them too; the same bits for any number of threads; each option changes what is learned
SET slm.threads = 1;
SELECT version FROM slm_finetune('bits', 'small', 'SELECT q, a FROM faq', '{"epochs": 1, "rate": 0.02, "logits": 8, "logits_of": "small+large"}');
SET slm.threads = 2;
SELECT version FROM slm_finetune('bits', 'small', 'SELECT q, a FROM faq', '{"epochs": 1, "rate": 0.02, "logits": 8, "logits_of": "small+large", "temperature": 2, "mix": 0.5, "renormalize": false}');
RESET slm.threads;
SELECT o, f.version FROM unnest(ARRAY['{"logits": 9}', '{"temperature": 1}', '{"mix": 0}', '{"renormalize": true}', '{"logits_of": "small"}']::jsonb[]) o,
  LATERAL slm_finetune('bits', 'small', 'SELECT q, a FROM faq', '{"epochs": 1, "rate": 0.02, "logits": 8, "logits_of": "small+large"}' || o) f;
SELECT count(*) AS versions, count(DISTINCT sha256) AS different, count(DISTINCT sha256) FILTER (WHERE version <= 2) AS by_threads FROM slm.finetunes WHERE name = 'bits';

\x on
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', options => '{"logits": 0, "logits_of": "small"}')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', options => '{"logits": 257, "logits_of": "small"}')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', options => '{"logits": 8}')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', options => '{"mix": 0.5}')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', options => '{"logits": 8, "logits_of": "small", "temperature": 0}')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', options => '{"logits": 8, "logits_of": "nobody"}')$$);
SELECT * FROM try($$SELECT slm_create_finetune('x', 'small', 'SELECT q, a FROM faq', '{"logits": 8, "logits_of": "small"}')$$);
SET slm.train_memory = '1MB';
SELECT * FROM try($$SELECT slm_finetune('x', 'small', $q$SELECT q, repeat(a || ' ', 8) FROM faq$q$, '{"logits": 256, "logits_of": "small"}')$$);
RESET slm.train_memory;
-- another vocabulary; a teacher, and a student, without logits
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT name FROM slm_load_model('minilm', :'minilm');
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', options => '{"logits": 8, "logits_of": "smollm2"}')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', options => '{"logits": 8, "logits_of": "minilm"}')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'minilm', 'SELECT q FROM faq', 'upper(input)', options => '{"logits": 8, "logits_of": "small"}')$$);
-- who may use the student alone may not learn from the teacher
CREATE ROLE slm_logits_user;
GRANT SELECT ON faq TO slm_logits_user;
GRANT EXECUTE ON FUNCTION slm_finetune TO slm_logits_user;
SELECT slm_grant_model('small', 'slm_logits_user');
SET ROLE slm_logits_user;
SELECT * FROM try($$SELECT slm_finetune('x', 'small', 'SELECT q, a FROM faq', '{"logits": 8, "logits_of": "small+large"}')$$);
RESET ROLE;
\x off
DROP OWNED BY slm_logits_user;
DROP ROLE slm_logits_user;
SELECT count(*) FROM slm.finetunes WHERE name = 'x';
