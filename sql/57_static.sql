-- A table of vectors as a model (Model2Vec): one whose vectors say what their words are about, written here.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set files :srcdir '/sql/include/files.sql'
\i :files

-- 32 dimensions: refunds are the first, deliveries the second, logins the third; small words point elsewhere and count a quarter
CREATE TABLE word AS SELECT ordinality - 1 AS id, split_part(w, '=', 1) AS word, split_part(w, '=', 2)::int AS axis
  FROM unnest('{[UNK]=8,refund=0,money=0,charged=0,parcel=1,delivery=1,arrived=1,login=2,password=2,the=3,my=4,is=5,where=6,i=7,want=7,back=0}'::text[])
  WITH ORDINALITY AS x(w, ordinality);
CREATE FUNCTION floats(VARIADIC x int[]) RETURNS bytea LANGUAGE sql AS
  $$ SELECT string_agg(CASE v WHEN 0 THEN '\x00000000'::bytea WHEN 1 THEN '\x0000803f' ELSE '\x0000803e' END, '' ORDER BY i) FROM unnest(x) WITH ORDINALITY AS y(v, i) $$;
COPY (SELECT) TO PROGRAM 'mkdir -p static; cat >/dev/null';
WITH data AS (SELECT string_agg(floats(VARIADIC (SELECT array_agg((d = axis)::int ORDER BY d) FROM generate_series(0, 31) d)), '' ORDER BY id) AS vectors,
                     string_agg(floats(CASE WHEN axis > 2 THEN 2 ELSE 1 END), '' ORDER BY id) AS weights FROM word),
     header AS (SELECT convert_to(json_build_object('embeddings', json_build_object('dtype', 'F32', 'shape', '[16, 32]'::json, 'data_offsets', '[0, 2048]'::json),
                       'weights', json_build_object('dtype', 'F32', 'shape', '[16]'::json, 'data_offsets', '[2048, 2112]'::json))::text, 'UTF8') AS h)
SELECT file('static/model.safetensors', little(octet_length(h), 8) || h || vectors || weights) IS NOT NULL AS weights,
  file('static/config.json', '{"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": true, "max_length": 12}') IS NOT NULL AS config,
  file('static/tokenizer.json', json_build_object('added_tokens', '[]'::json, 'normalizer', json_build_object('type', 'BertNormalizer', 'clean_text', true,
    'handle_chinese_chars', true, 'strip_accents', null, 'lowercase', true), 'pre_tokenizer', json_build_object('type', 'BertPreTokenizer'),
    'model', json_build_object('type', 'WordPiece', 'unk_token', '[UNK]', 'continuing_subword_prefix', '##', 'max_input_chars_per_word', 100,
      'vocab', (SELECT json_object_agg(word, id) FROM word)))::text) IS NOT NULL AS tokenizer FROM data, header;
SELECT name, family, quantization, embedding_dimension, context_length, pooling, can_embed, can_generate, kv_bytes_per_token
  FROM slm_load_model('static', 'static', '{"quantization": "F32"}');
SET slm.embed_model = 'static';

-- the mean of the words that count, of length 1; what no word of the table is says nothing; without any word, zeros
SELECT body, (SELECT array_agg(round(x::numeric, 3)) FROM unnest((slm_embed(body))[:9]) x) AS vector
  FROM (VALUES ('refund'), ('my refund'), ('my xyz refund'), ('refund parcel'), ('xyz'), ('')) v(body);
SELECT round(slm_similarity('where is my parcel', 'delivery')::numeric, 3) AS near, round(slm_similarity('where is my parcel', 'password')::numeric, 3) AS far;
CREATE TABLE message (id int PRIMARY KEY, body text, label text, vector real[]);
INSERT INTO message SELECT i AS id, b AS body, l AS label FROM generate_series(1, 20) n, LATERAL (SELECT (ARRAY['my', 'is', 'i', 'the'])[n % 4 + 1] AS w) x,
  LATERAL (VALUES (3 * n, 'I want money back ' || w, 'refund'), (3 * n + 1, 'where is parcel ' || w, 'delivery'), (3 * n + 2, 'the password ' || w, 'login')) v(i, b, l);
EXPLAIN (COSTS OFF) SELECT slm_classify(body, '{refund,delivery,login}') FROM message;
SELECT label = slm_classify(body, '{refund,delivery,login}') AS right, count(*) FROM message GROUP BY 1;
SELECT n_labels, accuracy FROM slm_train_classifier('topics', 'SELECT body, label FROM message');
SELECT body, slm_classify(body, classifier => 'topics') FROM (VALUES ('charged'), ('arrived'), ('login')) v(body);
-- by a job, and the nearest
SET client_min_messages = warning;
SELECT slm_create_job('vectors', 'message', 'vector', 'slm_embed(body)');
CALL slm_run_job('vectors');
SELECT count(*) FILTER (WHERE vector = slm_embed(body)) AS right, count(*) FROM message;
SELECT m.label, count(*) FROM slm_topk(slm_embed('delivery'), 'message', 'vector', 20) t JOIN message m ON m.id = t.key::int GROUP BY 1;
RESET client_min_messages;

-- what a table cannot be asked for
SELECT message, hint FROM try($$SELECT slm_load_model('s', 'static', '{"pooling": "max"}')$$);
SELECT message, hint FROM try($$SELECT slm_generate('hello', 'static')$$);
SELECT message, hint FROM try($$SELECT slm_finetune('near', 'static', 'SELECT body, label FROM message')$$);
SELECT message FROM try(format('SELECT slm_embed(%L, truncate => false)', repeat('my ', 13)));
SELECT array_length(slm_embed(repeat('my parcel ', 50)), 1) AS windows;
SELECT name, quantization FROM slm_quantize_model('static', 'static_q8', 'Q8_0');
SELECT round(slm_similarity('where is my parcel', 'delivery', 'static_q8')::numeric, 3) AS near;
