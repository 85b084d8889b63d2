-- Texts that are longer than a model reads: read in windows by encoders, summarized in parts, cut where that is asked for, refused where it is not wanted.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT name, context_length FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
SET slm.generate_model = 'smollm2';
-- a message in the middle of much that has nothing to do with it; the second is short
CREATE FUNCTION letter(message text, before int, after int) RETURNS text LANGUAGE sql AS $$
SELECT repeat('Yesterday we walked along the river and watched the boats. ', before) || message || repeat(' My neighbour has planted roses in front of the house.', after) $$;
CREATE TABLE letters AS SELECT id, m AS message, letter(m, 15 * (id % 3)::int, 30 - 15 * (id % 3)::int) AS body
  FROM unnest(ARRAY['Somebody has stolen my credit card.', 'I want my money back, please refund me.', 'The parcel has not arrived yet, where is my delivery?']) WITH ORDINALITY x(m, id);
INSERT INTO letters VALUES (4, 'My card was stolen', 'My card was stolen'), (5, NULL, NULL);
ANALYZE letters;
SELECT id, slm_count_tokens(body, 'minilm') AS tokens, slm_count_tokens(body, embed => true) AS embedded FROM letters ORDER BY id;

-- labels: the message is found wherever it stands; cut, it is not; an error where it is asked for
SELECT id, slm_classify(body, ARRAY['lost or stolen card', 'refund', 'delivery', 'weather']) FROM letters ORDER BY id;
SELECT id, slm_classify(body, ARRAY['lost or stolen card', 'refund', 'delivery', 'weather'], truncate => true) FROM letters ORDER BY id;
SELECT slm_classify(body, ARRAY['refund', 'delivery'], truncate => false) FROM letters;
SELECT id, slm_classify_multi(body, ARRAY['stolen card', 'refund', 'parcel'], threshold => 0.45) FROM letters WHERE id < 4 ORDER BY id;
SELECT id, round((slm_classify_details(body, ARRAY['stolen card', 'refund', 'delivery'])).probability::numeric, 3) AS probability FROM letters WHERE id < 5 ORDER BY id;
SELECT id, label, round(probability::numeric, 3) AS probability FROM letters, slm_classify_scores(body, ARRAY['stolen card', 'refund', 'delivery']) WHERE id = 2;
SELECT slm_sentiment(letter('I am furious, this is a disgrace and I will never buy here again!', 20, 20)), slm_sentiment(letter('Thank you so much, you are wonderful!', 20, 20));

-- a vector: the mean of what the model reads at a time, each part as heavy as it is long; the same as by hand
CREATE TABLE vectors AS SELECT id, slm_embed(body) AS e FROM letters WHERE body IS NOT NULL;
SELECT id, round(slm_similarity(v.e, (SELECT array_agg(s ORDER BY i) FROM (SELECT i, sum(octet_length(content) * x::float8) AS s
    FROM slm_chunk(l.body) c, LATERAL unnest(slm_embed(c.content)) WITH ORDINALITY u(x, i) GROUP BY i) w))::numeric, 9) AS cosine,
  round(sqrt((SELECT sum(x::float8 * x) FROM unnest(v.e) x))::numeric, 6) AS length
FROM vectors v JOIN letters l USING (id) ORDER BY id;
SELECT slm_embed(body, truncate => true) = slm_embed(left(body, 1800), truncate => true) AS cut, slm_embed(body, truncate => true) = e AS whole FROM letters JOIN vectors USING (id) WHERE id = 1;
-- similarity: a short text with the sentence of a long one that comes nearest, whichever comes first; two long ones by their vectors
SELECT l.id, round(slm_similarity(l.message, l.body)::numeric, 3) AS found, slm_similarity(l.message, l.body) = slm_similarity(l.body, l.message) AS either_way,
  round(slm_similarity('The boats on the river', l.body)::numeric, 3) AS padding, round(slm_similarity(slm_embed(l.message), v.e)::numeric, 3) AS of_the_vector
FROM letters l JOIN vectors v USING (id) WHERE l.id < 4 ORDER BY id;
SELECT slm_similarity(a.body, b.body) = slm_similarity(v.e, w.e) AS of_the_vectors FROM letters a JOIN vectors v USING (id), letters b JOIN vectors w USING (id) WHERE a.id = 1 AND b.id = 2;
SELECT document_no, round(score::numeric, 3) FROM slm_rerank('my card was stolen', (SELECT array_agg(body ORDER BY id) FROM letters));
SELECT count(*) AS rows, count(e) AS vectors FROM slm_embed_many((SELECT array_agg(body ORDER BY id) FROM letters)) e;
SELECT bool_and(m.e = v.e) AS same FROM slm_embed_many((SELECT array_agg(body ORDER BY id) FROM letters WHERE id < 5)) WITH ORDINALITY m(e, id) JOIN vectors v USING (id);

-- a classifier that was trained on short texts, and one on long ones; both read both
SET client_min_messages = warning;
SELECT version FROM slm_train_classifier('short', $$SELECT m || ' ' || i, l FROM generate_series(1, 8) i, (VALUES ('my card was stolen', 'card'), ('give my money back', 'refund'), ('where is my parcel', 'parcel')) v(m, l)$$);
RESET client_min_messages;
SELECT version, training_rows FROM slm_train_classifier('long', $$SELECT letter(m || ' ' || i, i, 26 - i), l FROM generate_series(1, 8) i, (VALUES ('my card was stolen', 'card'), ('give my money back', 'refund'), ('where is my parcel', 'parcel')) v(m, l)$$);
SELECT id, slm_classify(body, classifier => 'short') AS short, slm_classify(body, classifier => 'long') AS long FROM letters ORDER BY id;
SELECT id, round(sum(probability)::numeric, 5) AS sum FROM letters, slm_classify_scores(body, classifier => 'short') GROUP BY id ORDER BY id;
SELECT slm_classify(body, classifier => 'short', truncate => false) FROM letters WHERE id = 1;

-- by batches and one by one: the same, bit for bit
CREATE VIEW answers AS SELECT id, slm_embed(body) AS e, slm_classify(body, ARRAY['card', 'refund', 'parcel']) AS c, slm_classify_scores_json(body, ARRAY['card', 'refund', 'parcel']) AS s,
  slm_classify(body, classifier => 'short') AS t, slm_similarity(body, 'my money') AS n, slm_similarity('my money', body || body) AS n2, slm_embed_query(body) AS q, slm_embed(body, truncate => true) AS u FROM letters;
SET client_min_messages = warning;
CREATE TABLE batched AS SELECT * FROM answers;
SET slm.enable_batch = off;
SET slm.threads = 1;
SELECT count(*) FROM (SELECT * FROM answers EXCEPT SELECT * FROM batched) x;
RESET slm.enable_batch;
RESET slm.threads;
RESET client_min_messages;
CREATE FUNCTION figures(statement text) RETURNS TABLE ("QUERY PLAN" text) LANGUAGE plpgsql AS $$
BEGIN
    FOR "QUERY PLAN" IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || statement LOOP
        "QUERY PLAN" := regexp_replace("QUERY PLAN", '(rows=\d+)\.00', '\1'); -- 18 shows parts of rows
        RETURN NEXT;
    END LOOP;
END $$;
SELECT * FROM figures('SELECT slm_embed(body) FROM letters WHERE id < 5');
DROP FUNCTION figures;

-- pieces fit what embeds them
SELECT count(slm_embed(content)) AS embedded, max(slm_count_tokens(content, embed => true)) AS most FROM slm_chunk(repeat('The quick brown fox. ', 400));
SELECT count(slm_embed(content, truncate => false)) AS embedded, max(slm_count_tokens(content, 'minilm')) AS most FROM slm_chunk(repeat('word ', 400), 256, 0, 'minilm');
SELECT count(*) AS pieces, max(slm_count_tokens(content)) AS most FROM slm_chunk(repeat('word ', 400), model => 'smollm2');
SELECT slm_chunk('a few words', 2);
RESET slm.embed_model;
SELECT count(*) AS by_the_generating_model FROM slm_chunk(repeat('word ', 400));
SET slm.embed_model = 'minilm';

-- summaries: of a text that does not fit, in parts and of those; short ones as ever
CREATE TABLE essays AS SELECT id, repeat('The harbour was quiet in the morning. ', 4 * id) || 'Then the boat number ' || id || ' came in with fish. ' || repeat('The people went to the market. ', 3 * id) AS body
  FROM generate_series(1, 9, 4) id;
SELECT id, slm_summarize(body, max_words => 10, method => 'abstract') FROM essays ORDER BY id;
SET slm.kv_cache_memory = '6MB';
SELECT id, slm_count_tokens(body, 'smollm2') AS tokens, slm_summarize(body, max_words => 10, method => 'abstract') FROM essays ORDER BY id;
SELECT count(*) FROM (SELECT slm_summarize(body, max_words => 10, method => 'abstract') AS s, id FROM essays) a JOIN (SELECT id, slm_summarize(body || '', max_words => 10, method => 'abstract') AS s FROM essays OFFSET 0) b USING (id, s);
SET slm.enable_batch = off;
SELECT md5(string_agg(slm_summarize(body, max_words => 10, method => 'abstract'), '|' ORDER BY id)) AS one_by_one FROM essays;
SET slm.enable_batch = on;
SELECT md5(string_agg(slm_summarize(body, max_words => 10, method => 'abstract'), '|' ORDER BY id)) AS batched FROM essays;
SELECT slm_summarize(body, max_words => 10, truncate => false) FROM essays WHERE id = 9;
RESET slm.kv_cache_memory;

-- generative models classify the beginning, and it is said
SELECT (slm_load_model('long_tiny', :'tiny_file')).name;
SELECT m, slm_classify(repeat('abc ', 5000), ARRAY['a', 'b'], 'long_tiny', m) IS NOT NULL AS labelled,
  slm_classify(repeat('abc ', 5000), ARRAY['a', 'b'], 'long_tiny', m) = slm_classify(repeat('abc ', 5000), ARRAY['a', 'b'], 'long_tiny', m, truncate => true) AS as_cut
FROM unnest(ARRAY['channel']) m;
SELECT slm_classify(repeat('abc ', 5000), ARRAY['a', 'b'], 'long_tiny', 'channel', truncate => false);
SELECT slm_generate(repeat('abc ', 5000), 'long_tiny', max_tokens => 1);
SELECT slm_chat(jsonb_build_array(jsonb_build_object('role', 'user', 'content', repeat('abc ', 5000))), 'long_tiny', max_tokens => 1);
SELECT slm_drop_model('long_tiny');

-- an answer that ends inside a character ends before it, in a stream too
SELECT n, slm_generate(repeat('👨‍👩‍👧', 12), chat => false, max_tokens => n) ~ U&'\FFFD' AS replaced FROM generate_series(1, 6) n;
SELECT n, (SELECT coalesce(string_agg(p, ''), '') FROM slm_generate_stream(repeat('👨‍👩‍👧', 12), chat => false, max_tokens => n) p) = slm_generate(repeat('👨‍👩‍👧', 12), chat => false, max_tokens => n) AS same FROM generate_series(1, 6) n;

DROP VIEW answers;
DROP TABLE letters, vectors, batched, essays;
DROP FUNCTION letter;
SELECT slm_drop_classifier('short'), slm_drop_classifier('long');
RESET slm.embed_model;
SELECT slm_drop_model('minilm');
