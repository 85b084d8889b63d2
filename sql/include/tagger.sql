\set ECHO none
-- A tiny tagger, written here as a directory: its answer depends on the word alone. Loaded as tagger; needs files.sql.
SET client_min_messages = warning;
CREATE TABLE label AS SELECT ordinality::int - 1 AS id, name FROM unnest('{O,B-PER,I-PER,B-LOC,I-LOC}'::text[]) WITH ORDINALITY AS x(name);
CREATE TABLE vocabulary AS SELECT ordinality::int - 1 AS id, split_part(entry, '=', 1) AS word, coalesce(nullif(split_part(entry, '=', 2), ''), 'O') AS label
  FROM unnest('{[PAD],[UNK],[CLS],[SEP],[MASK],Anna=B-PER,Karl=B-PER,Schmidt=I-PER,##chen=I-LOC,Ber=B-LOC,##lin=B-PER,Mün=B-LOC,New=B-LOC,York=I-LOC,lives,in,and,met,moved,to,from,.,",",(,),!,a,b,c,d,e,f}'::text[]) WITH ORDINALITY AS x(entry);
-- width 32 and 32 tokens: the embedding of a token is a one at its place, no layer adds anything, the head knows each token's label
CREATE TABLE tensor (n int GENERATED ALWAYS AS IDENTITY, name text, rows int, cols int, bytes bytea);
CREATE FUNCTION f16(ones boolean[]) RETURNS bytea LANGUAGE sql AS $$ SELECT decode(string_agg(CASE WHEN one THEN '003c' ELSE '0000' END, '' ORDER BY n), 'hex') FROM unnest(ones) WITH ORDINALITY u(one, n) $$;
INSERT INTO tensor (name, rows, cols, bytes) SELECT 'bert.embeddings.word_embeddings.weight', 32, 32, f16(array_agg(i = j ORDER BY i, j)) FROM generate_series(1, 32) i, generate_series(1, 32) j;
INSERT INTO tensor (name, rows, cols, bytes) SELECT 'classifier.weight', 5, 32, f16(array_agg(l.name = v.label ORDER BY l.id, v.id)) FROM label l, vocabulary v;
INSERT INTO tensor (name, rows, cols, bytes) SELECT name || '.weight', rows, 32, decode(repeat('0000', rows * 32), 'hex')
  FROM (VALUES ('bert.embeddings.position_embeddings', 16), ('bert.embeddings.token_type_embeddings', 2), ('bert.encoder.layer.0.attention.self.query', 32),
    ('bert.encoder.layer.0.attention.self.key', 32), ('bert.encoder.layer.0.attention.self.value', 32), ('bert.encoder.layer.0.attention.output.dense', 32),
    ('bert.encoder.layer.0.intermediate.dense', 32), ('bert.encoder.layer.0.output.dense', 32)) v(name, rows);
INSERT INTO tensor (name, rows, bytes) SELECT name || '.bias', rows, decode(repeat('0000', rows), 'hex') FROM (SELECT replace(name, '.weight', '') AS name, rows FROM tensor WHERE name !~ 'embeddings') x;
INSERT INTO tensor (name, rows, bytes) SELECT name || e, 32, decode(repeat(CASE e WHEN '.weight' THEN '003c' ELSE '0000' END, 32), 'hex')
  FROM unnest('{bert.embeddings.LayerNorm,bert.encoder.layer.0.attention.output.LayerNorm,bert.encoder.layer.0.output.LayerNorm}'::text[]) name, unnest('{.weight,.bias}'::text[]) e;
COPY (SELECT) TO PROGRAM 'mkdir -p tagger; cat >/dev/null';
WITH placed AS (SELECT *, coalesce(sum(octet_length(bytes)) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS at FROM tensor),
  header AS (SELECT convert_to(json_object_agg(name, json_build_object('dtype', 'F16', 'shape', CASE WHEN cols IS NULL THEN json_build_array(rows) ELSE json_build_array(rows, cols) END,
    'data_offsets', json_build_array(at, at + octet_length(bytes))))::text, 'UTF8') AS h FROM placed)
SELECT file('tagger/model.safetensors', (SELECT decode(string_agg(lpad(to_hex(octet_length(h)::bigint >> 8 * i & 255), 2, '0'), '' ORDER BY i), 'hex') FROM generate_series(0, 7) i)
  || h || (SELECT string_agg(bytes, '' ORDER BY n) FROM tensor)) IS NOT NULL AS weights FROM header \gset
SELECT file('tagger/config.json', json_build_object('architectures', ARRAY['BertForTokenClassification'], 'model_type', 'bert', 'hidden_act', 'gelu', 'hidden_size', 32,
  'intermediate_size', 32, 'layer_norm_eps', 1e-12, 'max_position_embeddings', 16, 'num_attention_heads', 2, 'num_hidden_layers', 1, 'type_vocab_size', 2, 'vocab_size', 32,
  'id2label', (SELECT json_object_agg(id, name) FROM label))::text) IS NOT NULL AS config,
  file('tagger/tokenizer_config.json', '{"do_lower_case": false}') IS NOT NULL AS tokenizer, file('tagger/vocab.txt', (SELECT string_agg(word, E'\n' ORDER BY id) FROM vocabulary)) IS NOT NULL AS vocab \gset
SELECT name, family, can_generate, can_embed, can_rerank FROM slm_load_model('tagger', 'tagger');
RESET client_min_messages;
\set ECHO all
