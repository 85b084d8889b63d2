-- Errors of the input: raised, or NULL and one WARNING at the end of the statement; the _details forms; what is no error of the input.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
\set SHOW_CONTEXT never
SELECT name FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
SET slm.generate_model = 'smollm2';
-- of 100 texts 9 are longer than the encoder reads, 1 is empty, 5 are NULL
CREATE TABLE mail AS SELECT i AS id, CASE WHEN i % 11 = 0 THEN 'Mail ' || i || repeat(' very long', 300) WHEN i % 100 = 7 THEN E' \n'
  WHEN i % 20 <> 5 THEN 'Mail ' || i || ' says that the parcel is late' END AS body FROM generate_series(1, 100) i;
ANALYZE mail;

-- the first of them ends the statement
SELECT count(slm_embed(body, truncate => false)) FROM mail;
-- an argument, or the setting; one WARNING a statement
SELECT count(*), count(slm_embed(body, truncate => false, on_error => 'null')) FROM mail;
SET slm.on_error = 'null';
SHOW slm.on_error;
SELECT count(slm_classify(body, ARRAY['late', 'lost'], truncate => false)) FROM mail;
SELECT count(*) FROM mail WHERE slm_classify(body, ARRAY['late', 'lost'], truncate => false) IS NULL;
SELECT id FROM mail WHERE slm_embed(body, truncate => false) IS NULL AND body IS NOT NULL ORDER BY id LIMIT 2;
SELECT count(slm_embed(body, truncate => false)) + count(slm_similarity('parcel', body, truncate => false)) AS both FROM mail;
SELECT count(slm_embed(body, truncate => false, on_error => 'error')) FROM mail;
SELECT count(slm_embed(body, truncate => true)) FROM mail;
-- the batch node says the same as one row at a time
SET slm.enable_batch = off;
SELECT count(slm_classify(body, ARRAY['late', 'lost'], truncate => false)) FROM mail;
SELECT count(*) FROM mail WHERE slm_classify(body, ARRAY['late', 'lost'], truncate => false) IS NULL;
SELECT id FROM mail WHERE slm_embed(body, truncate => false) IS NULL AND body IS NOT NULL ORDER BY id LIMIT 2;
SELECT count(slm_embed(body, truncate => false)) + count(slm_similarity('parcel', body, truncate => false)) AS both FROM mail;
RESET slm.enable_batch;

-- every kind of statement says it once
\set VERBOSITY terse
CREATE TABLE copy AS SELECT id, slm_embed(body, truncate => false) AS e FROM mail;
UPDATE copy SET e = slm_embed(m.body, truncate => false) FROM mail m WHERE m.id = copy.id;
INSERT INTO copy SELECT id, slm_embed(body, truncate => false) FROM mail WHERE id < 12 RETURNING id, e IS NULL AS n;
COPY (SELECT slm_embed(body, truncate => false) IS NULL FROM mail WHERE id IN (10, 11)) TO STDOUT;
EXPLAIN ANALYZE SELECT slm_embed(body, truncate => false) FROM mail WHERE id < 30 \g /dev/null
BEGIN;
DECLARE c CURSOR FOR SELECT id, slm_embed(body, truncate => false) IS NULL AS n FROM mail ORDER BY id;
MOVE 20 IN c;
FETCH 2 FROM c;
MOVE ALL IN c;
COMMIT;
DO $$
DECLARE r record; n int := 0;
BEGIN
  FOR r IN SELECT body FROM mail LOOP
    n := n + (slm_embed(r.body, truncate => false) IS NULL)::int;
  END LOOP;
  RAISE NOTICE '%', n;
END $$;
CREATE FUNCTION nulls() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT count(*) FROM mail WHERE slm_embed(body, truncate => false) IS NULL $$;
SELECT nulls(), (SELECT count(*) FROM mail WHERE slm_embed(body, truncate => false) IS NULL);
CREATE PROCEDURE in_parts() LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 0..3 LOOP
    UPDATE copy SET e = slm_embed(m.body, truncate => false) FROM mail m WHERE m.id = copy.id AND m.id BETWEEN 25 * i + 1 AND 25 * i + 25;
    IF i = 2 THEN ROLLBACK; ELSE COMMIT; END IF;
  END LOOP;
END $$;
DELETE FROM copy;
INSERT INTO copy SELECT id FROM mail;
CALL in_parts(); -- 75 rows: those of the part that was rolled back are not counted
-- the first statement of a session, which may load the library in its middle
\c -
\set VERBOSITY terse
SET slm.embed_model = 'minilm';
SET slm.on_error = 'null';
DO $$
BEGIN
  FOR i IN 0..9 LOOP
    PERFORM count(slm_embed(body, truncate => false)) FROM mail WHERE id BETWEEN 10 * i + 1 AND 10 * i + 10;
  END LOOP;
END $$;
SELECT count(slm_embed(body, truncate => false)) FROM mail WHERE id < 12;
SELECT count(slm_detokenize(ARRAY[CASE WHEN i % 1000 = 0 THEN -1 ELSE 65 END], 'smollm2')) FROM generate_series(1, 12345) i;
SET slm.generate_model = 'smollm2';
-- rows of a block that failed are not counted
DO $$
DECLARE n bigint;
BEGIN
  SELECT count(slm_embed(body, truncate => false)) INTO n FROM mail WHERE id <= 50;
  BEGIN
    SELECT count(slm_embed(body, truncate => false)) / 0 INTO n FROM mail;
  EXCEPTION WHEN division_by_zero THEN
    NULL;
  END;
  BEGIN
    SELECT count(slm_embed(body, truncate => false)) INTO n FROM mail WHERE id <= 25;
  EXCEPTION WHEN division_by_zero THEN
    NULL;
  END;
END $$;
-- a statement that fails says nothing, and leaves nothing for the next
SELECT count(slm_embed(body, truncate => false)) / 0 FROM mail;
SELECT count(slm_embed(body, truncate => false)) FROM mail WHERE id < 3;
CREATE TRIGGER t BEFORE INSERT ON copy FOR EACH ROW EXECUTE FUNCTION slm_trigger('e', 'slm_embed(''late mail '' || repeat(''word '', id), truncate => false)');
INSERT INTO copy VALUES (1), (400), (2), (500);
SELECT id FROM copy WHERE e IS NULL AND id > 200 ORDER BY id;
\set VERBOSITY default

-- with details the error is in a column, unless that is not wanted
SELECT count((d).label) AS labels, count((d).probability) AS probabilities, (d).error FROM (SELECT slm_classify_details(body, ARRAY['late', 'lost'], truncate => false) AS d FROM mail OFFSET 0) s
  GROUP BY (d).error ORDER BY (d).error;
SELECT count((d).value) AS vectors, (d).error FROM (SELECT slm_embed_details(body, truncate => false) AS d FROM mail WHERE id < 30 OFFSET 0) s GROUP BY (d).error ORDER BY (d).error;
SELECT (slm_summarize_details(repeat('word ', 9000), truncate => false)).*;
SELECT (slm_generate_details(repeat('word ', 9000))).error;
SELECT (slm_generate_details('Say yes', max_tokens => 2)).error IS NULL AS fine;
SELECT slm_embed_details(repeat('word ', 9000), truncate => false, on_error => 'error');

-- functions one by one: NULL or no rows, and their kinds
\set VERBOSITY terse
SELECT slm_generate(repeat('word ', 9000));
SELECT * FROM slm_generate_stream(repeat('word ', 9000));
SELECT slm_generate('', chat => false), slm_summarize(repeat('word ', 9000), truncate => false), slm_perplexity(repeat('word ', 9000));
SELECT slm_chat('{"no": "array"}'), slm_chat(jsonb_build_array(jsonb_build_object('role', 'user', 'content', repeat('word ', 9000))));
SELECT slm_embed_query(repeat('word ', 300), truncate => false), slm_similarity('a', repeat('word ', 300), truncate => false), slm_similarity(repeat('word ', 300), 'a', truncate => false);
SELECT n, e IS NULL AS missing FROM slm_embed_many(ARRAY['a', repeat('word ', 300), NULL, 'b'], truncate => false) WITH ORDINALITY AS m(e, n);
SELECT document_no FROM slm_rerank('a', ARRAY['a', repeat('word ', 300), NULL], truncate => false);
SELECT document_no FROM slm_rerank(repeat('word ', 300), ARRAY['a', 'b'], truncate => false);
SELECT slm_classify(repeat('word ', 300), ARRAY['a', 'b'], truncate => false), slm_classify_multi(repeat('word ', 300), ARRAY['a', 'b'], truncate => false), slm_classify_scores_json(repeat('word ', 300), ARRAY['a', 'b'], truncate => false),
  slm_sentiment(repeat('word ', 300), truncate => false);
SELECT slm_classify(repeat('word ', 9000), ARRAY['a', 'b'], 'smollm2', method, truncate => false), slm_classify_multi(repeat('word ', 9000), ARRAY['a'], model => 'smollm2', truncate => false) FROM unnest(ARRAY['direct', 'channel']) method;
SELECT * FROM slm_classify_scores(repeat('word ', 300), ARRAY['a', 'b'], truncate => false);
SELECT * FROM slm_token_logprobs(repeat('word ', 9000));
SELECT slm_detokenize(ARRAY[1, 2000000]), slm_detokenize(ARRAY[1, NULL]);
SELECT * FROM slm_chunk('🙂', 1, model => 'smollm2');
SELECT version FROM slm_train_classifier('late', 'SELECT ''the parcel is '' || w || '' '' || i, w FROM generate_series(1, 8) i, unnest(ARRAY[''late'', ''lost'']) w');
SELECT slm_classify(body, classifier => 'late', truncate => false) AS label, count(*) FROM mail GROUP BY 1 ORDER BY 1;
SELECT slm_classify_embedding(e, 'late') IS NULL AS missing FROM (VALUES (slm_embed('late')), (ARRAY[1, 2]), (array_fill('NaN'::real, ARRAY[384])), (NULL)) v(e);
SELECT count(*) FROM slm_classify_embedding_scores(ARRAY[1, 2], 'late');

-- a budget that is too small for the text is the text's fault, one that is too small for what all rows share is not
SET slm.kv_cache_memory = '4MB';
SELECT slm_generate(repeat('word ', 500), max_tokens => 2);
SELECT slm_generate('word', system => repeat('word ', 500), max_tokens => 2);
RESET slm.kv_cache_memory;
-- what is no error of the input is raised all the same
SELECT slm_generate('x', system => repeat('word ', 9000));
SELECT slm_classify('x', (SELECT array_agg('label ' || i) FROM generate_series(1, 5000) i), 'smollm2', 'direct');
SELECT slm_embed('x', 'nothing');
SELECT slm_embed('x', 'smollm2');
SELECT slm_generate('x', max_tokens => 0);
SELECT slm_classify('x', ARRAY['a', NULL]);
SELECT slm_classify('x', ARRAY['a', 'a']);
SELECT slm_classify('x', classifier => 'nothing');
SELECT slm_classify('x', ARRAY['a'], classifier => 'late');
SELECT slm_classify('x', classifier => 'late', method => 'direct');
SELECT slm_embed('x', on_error => 'ignore');
CREATE ROLE mail_reader;
GRANT SELECT ON mail TO mail_reader;
SET ROLE mail_reader;
SELECT slm_embed('x');
RESET ROLE;
\set VERBOSITY default
-- texts are named to who computed them, and not through the eyes of another role
SELECT slm_grant_model('minilm', 'mail_reader');
CREATE VIEW letters AS SELECT id, length(body) AS n, slm_embed(body, truncate => false) IS NULL AS missing FROM mail;
CREATE FUNCTION missing() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM mail WHERE slm_embed(body, truncate => false) IS NULL $$;
REVOKE SELECT ON mail FROM mail_reader;
GRANT SELECT ON letters TO mail_reader;
CREATE TABLE mail_own AS SELECT * FROM mail WHERE id = 22;
GRANT SELECT ON mail_own TO mail_reader;
SET ROLE mail_reader;
SELECT count(*) FROM letters WHERE missing;
SELECT missing();
SELECT slm_embed(body, truncate => false) FROM mail_own;
RESET ROLE;
RESET slm.on_error;
SELECT slm_drop_classifier('late');
DROP TABLE copy;
DROP TABLE mail CASCADE;
DROP TABLE mail_own;
DROP FUNCTION nulls, missing;
DROP PROCEDURE in_parts;
SELECT slm_drop_model('minilm');
DROP ROLE mail_reader;
