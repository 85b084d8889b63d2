-- A model with adapters for tasks in its own directory (jina-embeddings-v3, tiny, random weights): each is loaded by its name behind the
-- path, and gives the reference's vectors with the words that it expects before a text.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set packed :srcdir '/test/golden/encoders/jina-v3.tar.xz'
SELECT format('COPY (SELECT) TO PROGRAM %L', format('cat >/dev/null; rm -rf jina-v3; tar -xJf %L', :'packed')) AS unpack \gset
:unpack;
SELECT name, family, embedding_dimension, pooling, context_length, can_embed FROM slm_load_model('jina', 'jina-v3', '{"quantization": "F32"}');
SELECT name, base, rank, matrices, title FROM slm_load_adapter('query', 'jina', 'jina-v3/retrieval.query');
SELECT name, source ~ '/jina-v3/retrieval.passage$' AS by_task FROM slm_load_adapter('passage', 'jina', 'jina-v3/retrieval.passage');
SELECT name FROM slm_load_adapter('alike', 'jina', 'jina-v3/text-matching');
-- one source, an image for each
SELECT count(DISTINCT sha256) AS sources, count(DISTINCT image_bytes) AS sizes, count(*) FROM slm.adapters;
SELECT name FROM slm_load_adapter('query_gguf', 'jina', 'jina-v3/lora-retrieval.query-model.gguf');

CREATE TABLE golden AS
  SELECT name, t, e::text::real[] AS e
  FROM (SELECT pg_read_file('jina-v3/golden.json')::jsonb AS g) f,
  LATERAL (SELECT 'jina' AS name, g -> 'cases' AS cases
           UNION ALL SELECT a, g -> 'tasks' -> task -> 'cases' FROM (VALUES ('jina+query', 'retrieval.query'),
             ('jina+query_gguf', 'retrieval.query'), ('jina+passage', 'retrieval.passage'), ('jina+alike', 'text-matching')) v(a, task)) c,
  LATERAL jsonb_array_elements(cases) WITH ORDINALITY x(c, i), LATERAL (SELECT c ->> 'text' AS t, translate(c ->> 'embedding', '[]', '{}') AS e) y
  WHERE i <= 12;
CREATE FUNCTION cosine(a real[], b real[]) RETURNS double precision LANGUAGE sql AS
  $$ SELECT sum(x * y) / sqrt(sum(x * x) * sum(y * y)) FROM unnest(a::float8[], b::float8[]) u(x, y) $$;
SELECT name, count(*), min(cosine(slm_embed(t, name), e)) > 0.99999 AS as_reference, bool_and(slm_embed(t, name) = slm_embed_query(t, name)) AS same_words
  FROM golden GROUP BY name ORDER BY name;
-- one statement, rows of different tasks
SELECT bool_and(v = w) AS same FROM (SELECT slm_embed(t, name) AS v, (SELECT slm_embed_many(ARRAY[t], name)) AS w FROM golden) x;
SELECT bool_and(slm_embed(t, 'jina+query') = slm_embed(t, 'jina+query_gguf')) AS same_adapter, bool_or(slm_embed(t, 'jina+query') = slm_embed(t, 'jina')) AS no_change
  FROM golden WHERE name = 'jina';

\x on
SELECT * FROM try($$SELECT slm_load_adapter('x', 'jina', 'jina-v3/summaries')$$);
SELECT * FROM try($$SELECT slm_load_adapter('x', 'jina', 'jina-v3')$$);
SELECT * FROM try($$SELECT slm_load_adapter('x', 'jina', 'jina-v4/separation')$$);
SELECT * FROM try($$SELECT slm_export_adapter('query', '/tmp/slm_exported_task')$$);
\x off
SELECT slm_drop_model('jina', true);
COPY (SELECT) TO PROGRAM 'cat >/dev/null; rm -r jina-v3';
