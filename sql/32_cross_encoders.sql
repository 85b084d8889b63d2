-- Cross-encoders: a tiny one, written here as a directory and as a GGUF file with the same weights, loads, is probed and reranks;
-- and the files around a model in the forms in which current libraries write them.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set files :srcdir '/sql/include/files.sql'
\i :files

-- One layer of width 32, 2 heads, 32 tokens, 16 positions. Matrices are F16 of about 0.06 to 0.12 in size, norms 1, biases 0.
CREATE TABLE tensor (n int GENERATED ALWAYS AS IDENTITY, hf text, gguf text, rows int, cols int, fill text);
INSERT INTO tensor (hf, gguf, rows, cols) VALUES
  ('bert.embeddings.word_embeddings.weight', 'token_embd.weight', 32, 32),
  ('bert.embeddings.position_embeddings.weight', 'position_embd.weight', 16, 32),
  ('bert.embeddings.token_type_embeddings.weight', 'token_types.weight', 2, 32),
  ('bert.encoder.layer.0.attention.self.query.weight', 'blk.0.attn_q.weight', 32, 32),
  ('bert.encoder.layer.0.attention.self.key.weight', 'blk.0.attn_k.weight', 32, 32),
  ('bert.encoder.layer.0.attention.self.value.weight', 'blk.0.attn_v.weight', 32, 32),
  ('bert.encoder.layer.0.attention.output.dense.weight', 'blk.0.attn_output.weight', 32, 32),
  ('bert.encoder.layer.0.intermediate.dense.weight', 'blk.0.ffn_up.weight', 32, 32),
  ('bert.encoder.layer.0.output.dense.weight', 'blk.0.ffn_down.weight', 32, 32),
  ('bert.pooler.dense.weight', 'cls.weight', 32, 32),
  ('classifier.weight', 'cls.output.weight', 1, 32);
INSERT INTO tensor (hf, gguf, rows, fill)
  SELECT replace(hf, '.weight', '.bias'), replace(gguf, '.weight', '.bias'), rows, '00000000' FROM tensor WHERE hf !~ 'embeddings' ORDER BY n;
INSERT INTO tensor (hf, gguf, rows, fill)
  SELECT hf || '.' || end_, gguf || '.' || end_, 32, CASE end_ WHEN 'weight' THEN '0000803f' ELSE '00000000' END
  FROM (VALUES ('bert.embeddings.LayerNorm', 'token_embd_norm'), ('bert.encoder.layer.0.attention.output.LayerNorm', 'blk.0.attn_output_norm'),
               ('bert.encoder.layer.0.output.LayerNorm', 'blk.0.layer_output_norm')) v(hf, gguf), unnest(ARRAY['weight', 'bias']) end_;
CREATE TABLE data AS
  SELECT n, CASE WHEN fill IS NOT NULL THEN decode(repeat(fill, rows), 'hex')
                 ELSE (SELECT decode(string_agg(substr(h, 1, 2) || CASE WHEN substr(h, 3, 1) < '8' THEN '2c' ELSE 'ac' END, '' ORDER BY i), 'hex')
                       FROM generate_series(1, rows * cols) i, md5(n || ' ' || i) h) END AS bytes
  FROM tensor;
CREATE TABLE vocabulary AS SELECT ordinality - 1 AS id, word
  FROM unnest('{[PAD],[UNK],[CLS],[SEP],[MASK],where,is,my,parcel,the,cat,sleeps,money,back,i,want,##s,refund,a,b,c,d,e,f,g,h,.,?,!,on,sofa,card}'::text[])
  WITH ORDINALITY AS x(word);

-- as the transformers library saves it
CREATE FUNCTION cross_encoder(labels int) RETURNS text LANGUAGE sql AS $$
  WITH placed AS (SELECT *, coalesce(sum(octet_length(bytes)) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS at
                  FROM tensor JOIN data USING (n)),
       header AS (SELECT convert_to(json_object_agg(hf, json_build_object('dtype', CASE WHEN cols IS NULL THEN 'F32' ELSE 'F16' END,
                    'shape', CASE WHEN cols IS NULL THEN json_build_array(rows) ELSE json_build_array(rows, cols) END,
                    'data_offsets', json_build_array(at, at + octet_length(bytes))))::text, 'UTF8') AS h FROM placed)
  SELECT file('cross_encoder/model.safetensors', little(octet_length(h), 8) || h || (SELECT string_agg(bytes, '' ORDER BY n) FROM data)) FROM header $$;
COPY (SELECT) TO PROGRAM 'mkdir -p cross_encoder/1_Pooling; cat >/dev/null';
SELECT cross_encoder(1) IS NOT NULL AS weights;
SELECT file('cross_encoder/config.json', '{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 32,
  "intermediate_size": 32, "layer_norm_eps": 1e-12, "max_position_embeddings": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
  "id2label": {"0": "LABEL_0"}, "type_vocab_size": 2, "vocab_size": 32}') IS NOT NULL AS config,
  file('cross_encoder/tokenizer_config.json', '{"model_max_length": 1000000000000000019884624838656, "do_lower_case": true}') IS NOT NULL AS tokenizer,
  file('cross_encoder/vocab.txt', (SELECT string_agg(word, E'\n' ORDER BY id) FROM vocabulary)) IS NOT NULL AS words;
SELECT name, family, quantization, context_length, can_generate, can_embed, can_rerank FROM slm_load_model('pairs', 'cross_encoder', '{"quantization": "F16"}');
SELECT name, can_embed, can_rerank FROM slm_load_model('pairs_q8', 'cross_encoder');

-- as a GGUF file
CREATE FUNCTION gguf_string(s text) RETURNS bytea LANGUAGE sql AS $$ SELECT little(octet_length(s), 8) || convert_to(s, 'UTF8') $$;
CREATE FUNCTION gguf_key(key text, type int, value bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT gguf_string(key) || little(type, 4) || value $$;
CREATE FUNCTION gguf_cross_encoder() RETURNS bytea LANGUAGE sql AS $$
  WITH key(k) AS (
    SELECT gguf_key('general.architecture', 8, gguf_string('bert'))
    UNION ALL SELECT gguf_key('general.name', 8, gguf_string('tiny reranker'))
    UNION ALL SELECT gguf_key('tokenizer.ggml.model', 8, gguf_string('bert'))
    UNION ALL SELECT gguf_key('bert.attention.layer_norm_epsilon', 6, '\xccbc8c2b')
    UNION ALL SELECT gguf_key('bert.' || k, 4, little(v, 4)) FROM (VALUES ('block_count', 1), ('context_length', 16), ('embedding_length', 32),
      ('feed_forward_length', 32), ('attention.head_count', 2), ('pooling_type', 4)) x(k, v)
    UNION ALL SELECT gguf_key('tokenizer.ggml.' || k || '_token_id', 4, little(v, 4)) FROM (VALUES ('padding', 0), ('unknown', 1), ('cls', 2),
      ('bos', 2), ('seperator', 3), ('eos', 3), ('mask', 4)) x(k, v)
    UNION ALL SELECT gguf_key('tokenizer.ggml.token_type_count', 4, little(2, 4))
    UNION ALL SELECT gguf_key('tokenizer.ggml.tokens', 9, little(8, 4) || little(32, 8) || string_agg(gguf_string(
      CASE WHEN word ~ '^\[' THEN word WHEN word ~ '^##' THEN substr(word, 3) ELSE E'\u2581' || word END), '' ORDER BY id)) FROM vocabulary
    UNION ALL SELECT gguf_key('tokenizer.ggml.token_type', 9, little(5, 4) || little(32, 8) ||
      string_agg(little(CASE WHEN word ~ '^\[' THEN 3 ELSE 1 END, 4), '' ORDER BY id)) FROM vocabulary),
  placed AS (SELECT *, coalesce(sum(octet_length(bytes) + 31 & ~31) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS at
             FROM tensor JOIN data USING (n)),
  header AS (SELECT '\x4747554603000000'::bytea || little((SELECT count(*) FROM tensor), 8) || little((SELECT count(*) FROM key), 8)
      || (SELECT string_agg(k, '') FROM key)
      || string_agg(gguf_string(gguf) || CASE WHEN cols IS NULL THEN little(1, 4) || little(rows, 8) || little(0, 4)
                                              ELSE little(2, 4) || little(cols, 8) || little(rows, 8) || little(1, 4) END || little(at::bigint, 8),
                    '' ORDER BY n) AS h FROM placed)
  SELECT h || decode(repeat('00', -octet_length(h) & 31), 'hex')
      || (SELECT string_agg(bytes || decode(repeat('00', -octet_length(bytes) & 31), 'hex'), '' ORDER BY n) FROM data) FROM header $$;
SELECT name, title, quantization, context_length, can_embed, can_rerank FROM slm_load_model('pairs_gguf', file('pairs.gguf', gguf_cross_encoder()));

-- one text is no pair, a pair is
SELECT document_no, round(score::numeric, 4) AS score
  FROM slm_rerank('where is my parcel', ARRAY['the cat sleeps', NULL, 'i want my money back', 'a refund'], model => 'pairs');
SELECT count(*) FROM slm_rerank('where is my parcel', ARRAY['the cat sleeps', 'i want my money back', 'a refund'], model => 'pairs') a
  JOIN slm_rerank('where is my parcel', ARRAY['the cat sleeps', 'i want my money back', 'a refund'], model => 'pairs_gguf') b USING (document_no, score);
SELECT count(DISTINCT round(score::numeric, 6)) FROM slm_rerank('my parcel', ARRAY['the cat', 'money', 'card'], model => 'pairs_q8');
\x on
SELECT * FROM try($$SELECT slm_embed('x', model => 'pairs')$$);
SELECT * FROM try($$SELECT slm_generate('x', model => 'pairs')$$);
-- a head of two labels, which the configuration must name
UPDATE data d SET bytes = d.bytes || CASE octet_length(d.bytes) WHEN 64 THEN decode(repeat('002e', 32), 'hex') ELSE '\x00000000' END
  FROM tensor t WHERE t.n = d.n AND t.hf LIKE 'classifier%';
UPDATE tensor SET rows = 2 WHERE hf LIKE 'classifier%';
SELECT cross_encoder(2) IS NOT NULL AS weights;
SELECT * FROM try($$SELECT slm_load_model('bad', 'cross_encoder')$$);
\x off
CREATE FUNCTION with_head(labels text, problem text) RETURNS text LANGUAGE sql AS $$
  SELECT file('cross_encoder/config.json', (convert_from(pg_read_binary_file('cross_encoder/config.json'), 'UTF8')::jsonb
    || jsonb_build_object('id2label', labels::jsonb, 'problem_type', problem))::text) $$;
SELECT with_head('{"0": "calm", "1": "angry"}', NULL) IS NOT NULL AS config;
SELECT name, can_generate, can_embed, can_rerank FROM slm_load_model('mood', 'cross_encoder', '{"quantization": "F16"}');
SELECT with_head('{"0": "calm", "1": "angry"}', 'multi_label_classification') IS NOT NULL AS config;
SELECT name FROM slm_load_model('moods', 'cross_encoder', '{"quantization": "F16"}');
SELECT with_head('{"0": "calm", "1": "angry"}', 'regression') IS NOT NULL AS config;
SELECT name FROM slm_load_model('numbers', 'cross_encoder', '{"quantization": "F16"}');
SELECT slm_classify('i want my money back', model => 'mood'), slm_classify('i want my money back', model => 'mood', threshold => 0.99);
SELECT label, round(probability::numeric, 4) AS probability FROM slm_classify_scores('i want my money back', model => 'mood');
SELECT d.label, round(d.probability::numeric, 4) AS probability, d.runner_up, round(d.margin::numeric, 4) AS margin, d.error
  FROM slm_classify_details('i want my money back', model => 'mood') d;
SELECT label, round(probability::numeric, 4) AS probability FROM slm_classify_scores('i want my money back', model => 'moods');
SELECT slm_classify_multi('i want my money back', model => 'moods', threshold => 0.4), slm_classify_multi('i want my money back', model => 'mood'),
  slm_classify_multi('i want my money back', model => 'moods', threshold => 1);
CREATE TYPE temper AS ENUM ('angry', 'calm');
SELECT slm_classify_enum('i want my money back', NULL::temper, model => 'mood');
-- natural language inference: the head's first row is that of the reranker, so entailment has its scores
SELECT with_head('{"0": "ENTAILMENT", "1": "not_entailment"}', NULL) IS NOT NULL AS config;
SELECT name FROM slm_load_model('nli', 'cross_encoder', '{"quantization": "F16"}');
WITH pairs AS (SELECT (ARRAY['a refund', 'the cat sleeps'])[document_no] AS label, score
                 FROM slm_rerank('i want my money back', ARRAY['a refund', 'the cat sleeps'], model => 'pairs'))
SELECT label, round(probability::numeric, 4) AS probability, abs(probability - exp(score) / (SELECT sum(exp(score)) FROM pairs)) < 1e-6 AS as_pairs
  FROM slm_classify_scores('i want my money back', ARRAY['a refund', 'the cat sleeps'], model => 'nli', instruction => '{label}') JOIN pairs USING (label);
SELECT slm_classify('i want my money back', ARRAY['refund', 'cat'], model => 'nli') IN ('refund', 'cat') AS labelled,
  slm_classify_multi('i want my money back', ARRAY['refund', 'cat'], model => 'nli', threshold => 0) AS all_fit,
  (SELECT round(d.probability::numeric, 4) FROM slm_filter_details('the cat sleeps', 'i want my money back', model => 'nli') d) AS sleeps,
  (SELECT round(d.probability::numeric, 4) FROM slm_filter_details('the cat sleeps', 'i want my money back', model => 'nli', method => 'entailment') d) AS again,
  slm_score('i want my money back', 'the cat sleeps', model => 'nli', low => 0, high => 1)::numeric(6, 4) AS score;
-- of many labels those that an encoder leaves over (59_shortlist.sql)
SELECT name FROM slm_load_model('minilm', :'minilm');
\set three 'ARRAY[''a refund'', ''the cat sleeps'', ''a card'']'
WITH first AS (SELECT * FROM slm_classify_scores('i want my money back', :three, model => 'minilm')), listed AS (SELECT * FROM first ORDER BY probability DESC LIMIT 2),
  weight AS (SELECT label, l.probability * n.probability AS w FROM listed l JOIN slm_classify_scores('i want my money back', ARRAY(SELECT label FROM listed), model => 'nli') n USING (label))
SELECT count(w) AS listed, bool_and(abs(s.probability - coalesce(w / (SELECT sum(w) FROM weight) * (SELECT sum(probability) FROM listed), f.probability)) < 1e-6) AS both_count
  FROM slm_classify_scores('i want my money back', :three, model => 'nli', shortlist => 2, shortlist_model => 'minilm') s JOIN first f USING (label) LEFT JOIN weight USING (label);
SELECT slm_classify_multi('i want my money back', :three, model => 'nli', threshold => 0, shortlist => 2, shortlist_model => 'minilm') AS listed_fit;
SELECT state, message, hint FROM try($$SELECT slm_classify('x', model => 'mood', shortlist => 2)$$);
SELECT state, message, hint FROM try($$SELECT slm_classify_multi('x', model => 'mood', shortlist => 2)$$);
SELECT slm_drop_model('minilm');
SELECT round(slm_similarity('where is my parcel', 'a refund', model => 'pairs')::numeric, 4) AS cross,
  abs(slm_similarity('where is my parcel', 'a refund', model => 'pairs', method => 'cross') - 1 / (1 + exp(-(SELECT score FROM slm_rerank('where is my parcel', ARRAY['a refund'], model => 'pairs'))))) < 1e-12 AS logistic;
\x on
SELECT * FROM try($$SELECT slm_classify('x', model => 'nli')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], model => 'nli', method => 'embedding')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], model => 'mood', method => 'entailment')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], model => 'nli', instruction => 'No place for it.')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], model => 'nli', examples => '[{"text": "y", "label": "a"}]')$$);
SELECT * FROM try($$SELECT slm_filter('c', 'x', model => 'mood', method => 'entailment')$$);
SELECT * FROM try($$SELECT slm_similarity('x', 'y', model => 'pairs', method => 'embedding')$$);
SELECT * FROM try($$SELECT slm_similarity('x', 'y', model => 'pairs', method => 'soft')$$);
\x off
-- rows of a table together give what each gives alone; long texts are read in windows
CREATE TABLE complaint AS SELECT i, string_agg(word, ' ' ORDER BY md5(i || word)) AS body
  FROM generate_series(1, 12) i, vocabulary WHERE id > 4 AND (id * i) % 5 = 0 GROUP BY i;
SELECT count(*), count(DISTINCT label) > 0 AS labelled, bool_and(label = slm_classify(body, model => 'mood')) AS same
  FROM (SELECT body, slm_classify(body, model => 'mood') AS label FROM complaint OFFSET 0) x;
EXPLAIN (costs off) SELECT slm_classify(body, model => 'mood') FROM complaint;
SELECT count(*), bool_and(label = slm_classify(body, ARRAY['refund', 'cat', 'parcel'], model => 'nli', instruction => '{label}')) AS same
  FROM (SELECT body, slm_classify(body, ARRAY['refund', 'cat', 'parcel'], model => 'nli', instruction => '{label}') AS label FROM complaint OFFSET 0) x;
SELECT count(*), bool_and(abs(score - slm_similarity('refund', body, model => 'pairs')) < 1e-12) AS same
  FROM (SELECT body, slm_similarity('refund', body, model => 'pairs') AS score FROM complaint OFFSET 0) x;
\x on
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], model => 'mood')$$);
SELECT * FROM try($$SELECT slm_classify_multi('x', ARRAY['a', 'b'], model => 'mood')$$);
SELECT * FROM try($$SELECT slm_classify('x', model => 'mood', instruction => 'Say {label}')$$);
SELECT * FROM try($$SELECT slm_classify('x', model => 'mood', method => 'direct')$$);
SELECT * FROM try($$SELECT slm_classify('x', model => 'numbers')$$);
SELECT * FROM try($$SELECT slm_embed('x', model => 'mood')$$);
SELECT * FROM try($$SELECT * FROM slm_rerank('x', ARRAY['a', 'b'], model => 'mood')$$);
SELECT with_head('{"0": "calm", "2": "angry"}', NULL) IS NOT NULL AS config;
SELECT * FROM try($$SELECT slm_load_model('bad', 'cross_encoder')$$);
SELECT with_head('{"0": "calm", "1": "angry"}', 'ranking') IS NOT NULL AS config;
SELECT * FROM try($$SELECT slm_load_model('bad', 'cross_encoder')$$);
SELECT with_head('{"0": "calm", "1": "angry"}', NULL) IS NOT NULL AS config;

-- what lies around the weights
CREATE FUNCTION with_file(name text, content text) RETURNS TABLE (state text, message text, detail text, hint text) LANGUAGE plpgsql AS $$
DECLARE old bytea := pg_read_binary_file('cross_encoder/' || name, 0, 100000, true);
BEGIN
  PERFORM file('cross_encoder/' || name, content);
  RETURN QUERY SELECT * FROM try('SELECT slm_load_model(''bad'', ''cross_encoder'')');
  PERFORM file('cross_encoder/' || name, coalesce(old, '{}'));
END $$;
SELECT * FROM with_file('config.json', E'{"model_type": "bert",\n "hidden_size": NaN}');
SELECT * FROM with_file('tokenizer_config.json', '{"model_max_length": 512, "model_max_length": 512}');
SELECT * FROM with_file('tokenizer_config.json', '{"model_max_length": "many"}');
SELECT * FROM with_file('config.json', E'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 612\n');
SELECT * FROM with_file('model.safetensors', E'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n');
SELECT * FROM try($$SELECT slm_load_model('bad', 'cross_encoder/model.safetensors')$$);
SELECT * FROM try(format($$SELECT slm_load_model('bad', %L)$$, file('model.onnx', 'not read')));
SELECT * FROM try(format($$SELECT slm_load_model('bad', %L)$$, file('pytorch_model.bin', 'not read')));
SELECT * FROM try(format($$SELECT slm_load_model('bad', %L)$$, file('page.gguf', '<!doctype html><title>model</title>')));
SELECT file('cross_encoder/1_Pooling/tiny.gguf', 'GGUF') IS NOT NULL AS written;
SELECT * FROM try($$SELECT slm_load_model('bad', 'cross_encoder/1_Pooling')$$);
\x off
SELECT name FROM slm.models WHERE name = 'bad';

SELECT slm_drop_model('pairs'), slm_drop_model('pairs_q8'), slm_drop_model('pairs_gguf');
SELECT slm_drop_model('mood'), slm_drop_model('moods'), slm_drop_model('numbers');
DROP TYPE temper;
COPY (SELECT) TO PROGRAM 'rm -r cross_encoder pairs.gguf model.onnx pytorch_model.bin page.gguf';
DROP TABLE tensor, data, vocabulary, complaint;
DROP FUNCTION file(text, bytea), file(text, text), little, cross_encoder, gguf_string, gguf_key, gguf_cross_encoder, with_file, with_head;
