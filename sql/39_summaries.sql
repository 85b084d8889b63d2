-- Summaries: sentences of the text itself, or written by a model and never ending inside a sentence; of all rows of a group.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
CREATE TABLE reports (id int, body text);
INSERT INTO reports VALUES
  (1, 'Hello,' || E'\n' || 'The parcel was ordered on Monday and should have arrived on Wednesday. It did not arrive until Friday, the box was open, and one of the two cups was broken. '
    'I like the colour of the cups. The customer asks for a new cup or for the money back, and has sent two photographs.' || E'\n' || 'Kind regards,' || E'\n' || 'Anna Berg'),
  (2, 'Short.'), (3, NULL), (4, ' '), (5, 'one two three four five six seven eight nine ten eleven');
-- without a model: by the words of the sentences
SELECT id, slm_summarize(body, max_words => 20) FROM reports ORDER BY id;
SELECT slm_summarize(body, max_words => 20, focus => 'photographs') AS focus, slm_summarize(body, 3) AS cut, slm_summarize(body, max_words => 1000) = body AS whole FROM reports WHERE id = 1;
SELECT (slm_summarize_details(body, max_words => 5)).* FROM reports ORDER BY id;
SELECT slm_summarize(repeat('The cat sat on a mat. A dog barked loudly at it! ', 5000), 12);
SELECT * FROM try($$SELECT slm_summarize('x', method => 'magic')$$);
SELECT * FROM try($$SELECT slm_summarize(repeat('many words ', 50), method => 'abstract')$$);
-- whatever is chosen stands in the text
SELECT bool_and(position(s IN body) > 0) AS verbatim FROM reports, generate_series(8, 60, 4) w, LATERAL regexp_split_to_table(slm_summarize(body, w), '(?<=[.]) ') s WHERE id = 1;
-- by an encoder, in batches
SELECT name FROM slm_load_model('minilm', :'minilm');
SELECT name FROM slm_load_model('smollm2', :'model');
SET slm.embed_model = 'minilm';
SET slm.generate_model = 'smollm2';
EXPLAIN (COSTS OFF) SELECT slm_summarize(body, 20) FROM reports;
SELECT id, slm_summarize(body, 20) FROM reports ORDER BY id;
SET slm.enable_batch = off;
SELECT id, slm_summarize(body, 20) FROM reports ORDER BY id;
RESET slm.enable_batch;
-- a model writes: its text ends with a sentence, whatever the bound
SELECT w, (d).made_by, (d).value ~ '[.!?…]$' AS ends, array_length(regexp_split_to_array((d).value, '\s+'), 1) <= w AS bounded
  FROM (SELECT w, slm_summarize_details(body, w, method => 'abstract') AS d FROM reports, unnest(ARRAY[4, 12, 20, 40]) w WHERE id = 1 OFFSET 0) s ORDER BY w;
-- of all rows of a group: the same in any order and any plan
CREATE TABLE letters AS SELECT i AS id, i % 3 AS part, 'The machine number ' || i % 40 || ' stopped after ' || i % 7 || ' days. ' || CASE i % 4 WHEN 0 THEN 'The delivery came too late and nobody called back.' WHEN 1 THEN
  'Nobody answers the telephone in the evening.' ELSE 'The delivery was late again this week.' END AS body FROM generate_series(1, 3000) i;
SELECT part, slm_summarize_agg(body, 18) FROM letters GROUP BY part ORDER BY part;
SELECT slm_summarize_agg(body) AS all_of_it FROM letters \gset
SELECT :'all_of_it';
SELECT slm_summarize_agg(body ORDER BY id DESC) = :'all_of_it' AS backwards FROM letters;
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT slm_summarize_agg(body) FROM letters;
SELECT slm_summarize_agg(body) = :'all_of_it' AS parallel FROM letters;
RESET max_parallel_workers_per_gather;
SELECT slm_summarize_agg(body) IS NULL AS nothing, slm_summarize_agg(NULL) IS NULL AS nulls FROM letters WHERE id < 0;
SELECT slm_summarize_agg('Broken cup.') AS short, slm_summarize_agg(repeat('x', 100000), 5) IS NOT NULL AS long;
SELECT * FROM try($$SELECT slm_summarize_agg('x', 0)$$);
SELECT * FROM try($$SELECT slm.summary_add(NULL, 'x')$$);
-- said in another way: complete, or an error
SELECT id, slm_translate(body, 'German', max_tokens => 200, on_error => 'null') IS NULL AS no_text, slm_fix_grammar(body) AS corrected FROM (VALUES (1, NULL), (2, ' '), (3, 'He go to school every days.')) v(id, body) ORDER BY id;
SELECT * FROM try($$SELECT slm_translate('Hello', ' ')$$);
SELECT * FROM try($$SELECT slm_fix_grammar('He go to school every days.', max_tokens => 2)$$);
SELECT slm_fix_grammar('He go to school every days.', max_tokens => 2, on_error => 'null') IS NULL AS null;
SELECT slm_drop_model('smollm2');
SELECT slm_drop_model('minilm');
DROP TABLE reports, letters;
