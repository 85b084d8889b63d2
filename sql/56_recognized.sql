-- How a model was recognized, what it can read, and what a caller says in place of its source.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\x on
SELECT name FROM slm_load_model('minilm', :'minilm');
SELECT languages, scripts, pooling, labels, recognized, warnings, embedding_dimension FROM slm.models WHERE name = 'minilm';
SELECT name FROM slm_load_model('short', :'minilm', '{"pooling": "cls", "dimensions": 128}');
SELECT pooling, recognized, embedding_dimension, options FROM slm.models WHERE name = 'short';
SELECT slm_similarity(v, v) AS length_one, cardinality(v) AS dimensions FROM slm_embed('where is my parcel', 'short') v;
SELECT name FROM slm_load_model('tiny', :'tiny_file', '{"rope": "linear:4", "eos": "<|im_end|>"}');
SELECT pooling, recognized, warnings FROM slm.models WHERE name = 'tiny';
-- another model than without
SELECT name FROM slm_load_model('plain', :'tiny_file');
SELECT count(DISTINCT slm_model_digest(m)) AS models FROM unnest('{tiny,plain}'::text[]) m;
\x off
-- one notice a statement, however many texts; none for what the model can read, nor for a few letters
SELECT count(slm_embed(t, 'minilm')) FROM (VALUES ('Где моя посылка?'), ('荷物はどこですか'), ('where is my parcel?')) v (t);
SELECT count(slm_embed(t, 'minilm')) FROM (VALUES ('where is my parcel, Мария?'), ('¿Dónde está mi paquete?'), ('12 34'), ('')) v (t);
-- what does not fit
SELECT t.message, t.hint FROM unnest(ARRAY['{"rope": "yarn"}', '{"rope": "linear:0"}', '{"pooling": "mean"}', '{"dimensions": 8}', '{"eos": "no such token"}', '{"rope": 4}']) o,
  try(format('SELECT slm_load_model(%L, %L, %L)', 'bad', :'tiny_file', o)) t;
SELECT t.message, t.hint FROM unnest(ARRAY['{"pooling": "middle"}', '{"dimensions": 400}', '{"dimensions": 0.5}', '{"dimensions": "8"}', '{"rope": "none"}']) o,
  try(format('SELECT slm_load_model(%L, %L, %L)', 'bad', :'minilm', o)) t;
SELECT name FROM slm.models ORDER BY name;
