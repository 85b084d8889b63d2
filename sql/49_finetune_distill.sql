-- Distillation (slm_distill): a tiny model learns what an expression says, text, fields and labels; bad input. Figures differ by instruction set.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;
SELECT name FROM slm_load_model('small', :'tiny_file');
CREATE TABLE faq AS SELECT 'ab ' || i AS q, chr(97 + i % 3) AS label FROM generate_series(1, 60) i;

SELECT version, training_rows + held_out_rows AS rows, held_out_rows > 0 AS holds, exact_after >= exact_before AS not_worse, agreement BETWEEN 0 AND 1 AS agrees,
  teacher_rows_per_second > 0 AS teacher, student_rows_per_second > 0 AS student, teacher_bytes, student_bytes > 0 AS bytes, seconds > 0 AS seconds, active
  FROM slm_distill('texts', 'small', 'SELECT q FROM faq', '''cd''::text', options => '{"epochs": 4, "rate": 0.02, "validation": 0.2}');
-- at most so many different texts; a model as the teacher; its memory is named
SELECT training_rows + held_out_rows AS rows, teacher_bytes = (SELECT image_bytes FROM slm.models WHERE name = 'small') AS memory
  FROM slm_distill('model', 'small', 'SELECT q FROM faq UNION ALL SELECT q FROM faq', 'slm_generate(input, ''small'', max_tokens => 2) || ''.''', 20, '{"epochs": 1}');
-- fields and labels; what is looked up
SELECT version, active FROM slm_distill('fields', 'small', 'SELECT q FROM faq', 'jsonb_build_object(''n'', length(input))', options => '{"epochs": 1, "show_schema": false}');
SELECT version, agreement BETWEEN 0 AND 1 AS agrees FROM slm_distill('labels', 'small', 'SELECT q FROM faq', '(SELECT f.label FROM faq f WHERE f.q = input)', options => '{"epochs": 1, "labels": ["a", "b", "c"]}');

SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'NULL::text')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', NULL)$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'nothing(input)')$$);
SELECT state, message FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'input) FROM faq; DELETE FROM faq; --')$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small', 'SELECT q FROM faq', 'upper(input)', 1)$$);
SELECT * FROM try($$SELECT slm_distill('x', 'small+texts', 'SELECT q FROM faq', 'upper(input)')$$);
SELECT count(*) FROM faq;
