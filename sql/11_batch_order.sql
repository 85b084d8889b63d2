-- The order of rows in a batch: rows whose prompts begin alike are computed together and their common beginning once, whatever the order in
-- which they are read.  The order of the results and the answers are those of plain evaluation.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;

SELECT (slm_load_model('tiny', :'tiny_file')).name;
SET slm.generate_model = 'tiny';
SET slm.classify_model = 'tiny';

-- 4 documents x 6 questions: no two neighbours have the same document
CREATE TABLE pair AS
    SELECT row_number() OVER (ORDER BY q, d) AS id, 'Document ' || d || ': ' || repeat(chr(96 + d), 20 * d) || repeat(' and so on', 8) AS document,
           (ARRAY['Who?', 'Where?', 'What is it about?', 'When was that?', 'Why?', 'How much is it?'])[q] AS question
    FROM generate_series(1, 4) d, generate_series(1, 6) q ORDER BY id;
ANALYZE pair;

-- Rows and counters of a query; what the counters say is the business of EXPLAIN.
CREATE FUNCTION answers(query text, batch text) RETURNS TABLE (n bigint, digest text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('slm.enable_batch', batch, true);
    RETURN QUERY EXECUTE format('SELECT count(*), md5(string_agg(id || %L || answer, %L)) FROM (%s) q', ':', E'\n', query);
END $$;
CREATE FUNCTION counters(query text) RETURNS TABLE (computed bigint, reused bigint) LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
    RETURN QUERY SELECT (plan->0->'Plan'->>'Prompt Tokens Computed')::bigint, (plan->0->'Plan'->>'Prompt Tokens Reused')::bigint;
END $$;

-- In this session: in the engine process the first may be computed before the others come.
SET slm.engine = 'local';
-- document and question in one prompt: of its tokens those of the documents are computed about once (the window begins with one row, which
-- knows of no other), those of the question and of the chat format's end for each row
SELECT sum(slm_count_tokens(document || E'\n' || question)) AS of_the_texts, sum(slm_count_tokens(question)) AS of_the_questions FROM pair;
SELECT * FROM counters($$SELECT id, slm_generate(document || E'\n' || question, max_tokens => 1) AS answer FROM pair$$);
-- again: the documents are in the prefix cache now
SELECT * FROM counters($$SELECT id, slm_generate(document || E'\n' || question, max_tokens => 1) AS answer FROM pair$$);
-- a column as instruction, labels, and prompts that are equal but for the seed
SELECT * FROM counters($$SELECT id, slm_generate(question, system => 'Policy: ' || document, max_tokens => 1) AS answer FROM pair$$);
SELECT * FROM counters($$SELECT id, slm_classify('About ' || document || question, ARRAY['yes', 'no', 'yonder'], method => 'direct') AS answer FROM pair$$);
SELECT * FROM counters($$SELECT id, slm_generate('Seeds. ' || document, seed => id, temperature => 1, max_tokens => 2) AS answer FROM pair$$);
-- one row at a time nothing is known of the others
SET slm.batch_size = 1;
SELECT * FROM counters($$SELECT id, slm_generate('Alone. ' || document || E'\n' || question, max_tokens => 1) AS answer FROM pair$$);
RESET slm.batch_size;
-- a window that holds little more than one row of each document
SET slm.batch_size = 5;
SELECT * FROM counters($$SELECT id, slm_generate('Five. ' || document || E'\n' || question, max_tokens => 4) AS answer FROM pair$$);
RESET slm.batch_size;

-- the same rows in the same order as one by one, wherever they are computed
RESET slm.engine;
CREATE TABLE query AS SELECT * FROM (VALUES
    (1, $$SELECT id, slm_generate('Read: ' || document || E'\n' || question, max_tokens => 4) AS answer FROM pair$$),
    (2, $$SELECT id, slm_generate(question, system => 'Read this. ' || document, max_tokens => 5) AS answer FROM pair ORDER BY id DESC$$),
    (3, $$SELECT id, slm_classify(document || question, ARRAY['yes', 'no', 'yonder'], method => 'direct') AS answer FROM pair$$),
    (4, $$SELECT id, slm_classify(question, ARRAY['yes', 'no'], instruction => document || ' {labels}', method => 'direct') AS answer FROM pair$$),
    (5, $$SELECT id, slm_generate('Read: ' || document, seed => id, temperature => 1, max_tokens => 3) AS answer FROM pair$$),
    (6, $$SELECT id, slm_generate(document || question, max_tokens => 2) || slm_generate(document || '!' || id, max_tokens => 2) AS answer
          FROM pair WHERE slm_classify(document || id, ARRAY['a', 'b'], method => 'direct') IS NOT NULL$$),
    (7, $$SELECT id, slm_generate(document || E'\n' || question, max_tokens => 2) AS answer FROM pair LIMIT 7$$)) q (i, query);
SELECT i, o.n, o.digest = b.digest AS same FROM query, answers(query, 'off') o, answers(query, 'on') b ORDER BY i;
SET slm.batch_size = 7;
SELECT i, o.n, o.digest = b.digest AS same FROM query, answers(query, 'off') o, answers(query, 'on') b ORDER BY i;
RESET slm.batch_size;

DROP TABLE pair, query;
DROP FUNCTION answers(text, text), counters(text);
SELECT slm_drop_model('tiny');
