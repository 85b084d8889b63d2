-- A model that reads labels beside a text (GLiClass): one whose rows say what their words are about, written here as the library saves it.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set files :srcdir '/sql/include/files.sql'
\i :files

-- One layer of width 32 that leaves each row as it is. Refunds are the first dimension, deliveries the second, logins the third. The text's
-- row is the mean of its words, a label's that of its own; what both have in common is their score, less 1.5 for every label.
CREATE TABLE word AS SELECT ordinality - 1 AS id, split_part(w, '=', 1) AS word, split_part(w, '=', 2)::int AS axis
  FROM unnest('{[PAD]=8,[UNK]=8,[CLS]=8,[SEP]=8,[MASK]=8,refund=0,money=0,charged=0,back=0,parcel=1,delivery=1,arrived=1,late=1,login=2,password=2,locked=2,the=3,my=4,is=5,where=6,i=7,want=7,about=11,:=12,<<LABEL>>=9,<<SEP>>=10}'::text[])
  WITH ORDINALITY AS x(w, ordinality);
CREATE TABLE tensor AS SELECT ordinality AS n, 'model.' || replace(v[1], '@', 'encoder_model.encoder.layer.0.') AS name, v[2]::int AS rows, v[3]::int AS cols, v[4] AS fill
  FROM unnest(string_to_array('encoder_model.embeddings.word_embeddings.weight 26 32 words|encoder_model.embeddings.position_embeddings.weight 48 32 0|encoder_model.embeddings.token_type_embeddings.weight 2 32 0|'
    'encoder_model.embeddings.LayerNorm.weight 32 0 1|encoder_model.embeddings.LayerNorm.bias 32 0 0|@attention.self.query.weight 32 32 0|@attention.self.query.bias 32 0 0|@attention.self.key.weight 32 32 0|'
    '@attention.self.key.bias 32 0 0|@attention.self.value.weight 32 32 0|@attention.self.value.bias 32 0 0|@attention.output.dense.weight 32 32 0|@attention.output.dense.bias 32 0 0|@attention.output.LayerNorm.weight 32 0 1|'
    '@attention.output.LayerNorm.bias 32 0 0|@intermediate.dense.weight 32 32 0|@intermediate.dense.bias 32 0 0|@output.dense.weight 32 32 0|@output.dense.bias 32 0 0|@output.LayerNorm.weight 32 0 1|@output.LayerNorm.bias 32 0 0|'
    'text_projector.linear_1.weight 32 32 same|text_projector.linear_1.bias 32 0 0|text_projector.linear_2.weight 32 32 same|text_projector.linear_2.bias 32 0 last|classes_projector.linear_1.weight 32 32 same|'
    'classes_projector.linear_1.bias 32 0 0|classes_projector.linear_2.weight 32 32 same|classes_projector.linear_2.bias 32 0 less|logit_scale 1 0 1', '|'))
  WITH ORDINALITY x(t, ordinality), string_to_array(t, ' ') v;
CREATE FUNCTION four(x text) RETURNS bytea LANGUAGE sql IMMUTABLE AS
  $$ SELECT CASE x WHEN '1' THEN '\x0000803f'::bytea WHEN '-1.5' THEN '\x0000c0bf' ELSE '\x00000000' END $$;
CREATE TABLE data AS SELECT n, (SELECT string_agg(four(CASE fill WHEN 'words' THEN (c = (SELECT axis FROM word WHERE id = r))::int::text WHEN 'same' THEN (r = c)::int::text
    WHEN 'last' THEN (r = 31)::int::text WHEN 'less' THEN CASE r WHEN 31 THEN '-1.5' ELSE '0' END ELSE fill END), '' ORDER BY r, c)
  FROM generate_series(0, rows - 1) r, generate_series(0, greatest(cols - 1, 0)) c) AS bytes FROM tensor;
COPY (SELECT) TO PROGRAM 'mkdir -p joint; cat >/dev/null';
WITH placed AS (SELECT *, coalesce(sum(octet_length(bytes)) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS at FROM tensor JOIN data USING (n)),
     header AS (SELECT convert_to(json_object_agg(name, json_build_object('dtype', 'F32', 'shape', CASE WHEN name ~ 'scale' THEN '[]'::json
                  WHEN cols = 0 THEN json_build_array(rows) ELSE json_build_array(rows, cols) END, 'data_offsets', json_build_array(at, at + octet_length(bytes))))::text, 'UTF8') AS h FROM placed)
SELECT file('joint/model.safetensors', little(octet_length(h), 8) || h || (SELECT string_agg(bytes, '' ORDER BY n) FROM data)) IS NOT NULL AS weights,
  file('joint/tokenizer.json', json_build_object('added_tokens', (SELECT json_agg(json_build_object('id', id, 'content', word, 'single_word', false, 'lstrip', false,
      'rstrip', false, 'normalized', false, 'special', true) ORDER BY id) FROM word WHERE word ~ '^(<<|\[)'), 'normalizer', json_build_object('type', 'BertNormalizer', 'clean_text', true,
    'handle_chinese_chars', true, 'strip_accents', null, 'lowercase', true), 'pre_tokenizer', json_build_object('type', 'BertPreTokenizer'),
    'post_processor', json_build_object('type', 'BertProcessing', 'sep', json_build_array('[SEP]', 3), 'cls', json_build_array('[CLS]', 2)),
    'model', json_build_object('type', 'WordPiece', 'unk_token', '[UNK]', 'continuing_subword_prefix', '##', 'max_input_chars_per_word', 100,
      'vocab', (SELECT json_object_agg(word, id) FROM word WHERE word !~ '^<<')))::text) IS NOT NULL AS tokenizer FROM header;
CREATE FUNCTION config(more jsonb) RETURNS text LANGUAGE sql AS $$
  SELECT file('joint/config.json', ('{"model_type": "GLiClass", "architectures": ["GLiClassModel"], "architecture_type": "uni-encoder", "class_token_index": 24, "text_token_index": 25,
    "vocab_size": 26, "hidden_size": 32, "prompt_first": true, "pooling_strategy": "avg", "class_token_pooling": "average", "extract_text_features": true, "scorer_type": "simple",
    "projector_hidden_act": "relu", "max_num_classes": 25, "encoder_config": {"model_type": "bert", "hidden_act": "gelu", "hidden_size": 32, "intermediate_size": 32,
    "layer_norm_eps": 1e-12, "max_position_embeddings": 48, "num_attention_heads": 2, "num_hidden_layers": 1, "type_vocab_size": 2, "vocab_size": 24}}'::jsonb || more)::text) $$;
SELECT config('{}') IS NOT NULL AS config;
SELECT name, family, quantization, context_length, pooling, can_embed, can_generate, can_rerank, labels, recognized FROM slm_load_model('joint', 'joint', '{"quantization": "F32"}');
SET slm.classify_model = 'joint';

-- one of the labels, any of them, conditions and questions; descriptions and an instruction are read too
SELECT body, slm_classify(body, '{refund,delivery,login}') AS label, slm_classify_multi(body, '{refund,delivery,login}') AS labels,
  round(d.probability::numeric, 3) AS probability, d.runner_up, d.error
  FROM (VALUES ('i want my money back'), ('where is the parcel'), ('my login is locked'), ('my parcel arrived late i want the money back'), ('the'), ('')) v(body),
  slm_classify_details(body, '{refund,delivery,login}') d;
SELECT label, round(probability::numeric, 3) AS probability FROM slm_classify_scores('i want my money back', '{refund,delivery,login}');
SELECT label, round(probability::numeric, 3) AS probability FROM slm_classify_scores('i want my money back', '{refund,delivery,login}', method => 'joint');
SELECT slm_classify('i want my money back', '{a,b}', descriptions => '{"a": "the delivery", "b": "the refund"}') AS described,
  slm_classify('where is the', '{refund,delivery,login}', instruction => 'my parcel ') AS instructed,
  slm_classify('i want my money back', '{refund,delivery,login}', threshold => 0.99) AS unsure;
SELECT round(d.probability::numeric, 3) AS filter, slm_filter('login', 'i want my money back') AS no,
  round(slm_score('i want my money back', 'refund', low => 0, high => 1)::numeric, 3) AS score FROM slm_filter_details('refund', 'i want my money back') d;
CREATE TYPE subject AS ENUM ('login', 'delivery', 'refund');
SELECT slm_classify_enum('i want my money back', NULL::subject);
SELECT slm_decide('i want my money back', '{"about": {"type": "choice", "criteria": ["refund", "delivery"]}, "angry": {"type": "yes_no", "criteria": {"true": "refund"}}}') -> 'about' -> 'probabilities' AS about;

-- rows of a table together give what each gives alone; marks in a text or label are text; long texts are read in windows
CREATE TABLE message AS SELECT i, string_agg(word, ' ' ORDER BY md5(i || word)) AS body FROM generate_series(1, 12) i, word WHERE id > 4 AND (id * i) % 5 = 0 GROUP BY i;
SELECT count(*), count(DISTINCT label) > 1 AS labelled, bool_and(label = slm_classify(body, '{refund,delivery,login}')) AS same
  FROM (SELECT body, slm_classify(body, '{refund,delivery,login}') AS label FROM message OFFSET 0) x;
EXPLAIN (costs off) SELECT slm_classify(body, '{refund,delivery,login}') FROM message;
SELECT slm_classify('<<LABEL>> parcel <<SEP>> money [SEP]', '{<<SEP>>,<<LABEL>> refund}') AS hostile;
SELECT slm_classify(repeat('the ', 60) || 'where is my parcel' || repeat(' the', 60), '{refund,delivery,login}') AS windows,
  slm_classify(repeat('the ', 60) || 'where is my parcel', '{refund,delivery,login}', truncate => true) AS cut;
\x on
SELECT * FROM try($$SELECT slm_classify(repeat('the ', 60), '{refund,delivery}', truncate => false)$$);
SELECT * FROM try($$SELECT slm_classify('the', (SELECT array_agg('l' || i) FROM generate_series(1, 30) i))$$);
SELECT * FROM try($$SELECT slm_classify('the', (SELECT array_agg('l' || i) FROM generate_series(1, 2000) i))$$);
SELECT * FROM try($$SELECT slm_classify('the')$$);
SELECT * FROM try($$SELECT slm_classify('the', '{a,b}', method => 'embedding')$$);
SELECT * FROM try($$SELECT slm_classify('the', '{a,b}', method => 'entailment')$$);
SELECT * FROM try($$SELECT slm_classify('the', '{a,b}', method => 'together')$$);
SELECT * FROM try($$SELECT slm_classify('the', '{a,b}', instruction => 'It is about {label}.')$$);
SELECT * FROM try($$SELECT slm_classify('the', '{a,b}', examples => '[{"text": "y", "label": "a"}]')$$);
SELECT * FROM try($$SELECT slm_classify('the', '{a,b}', embedding => '{1,2}')$$);
SELECT * FROM try($$SELECT slm_filter('a', 'b', method => 'direct')$$);
SELECT * FROM try($$SELECT slm_embed('the', model => 'joint')$$);
SELECT * FROM try($$SELECT slm_rerank('the', '{a,b}', model => 'joint')$$);
SELECT * FROM try($$SELECT slm_generate('the', model => 'joint')$$);
SELECT * FROM try($$SELECT slm_entities('the', model => 'joint')$$);

-- what the library reads and this does not is refused by name
CREATE FUNCTION with_config(more jsonb) RETURNS TABLE (state text, message text, detail text, hint text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM config(more);
  RETURN QUERY SELECT * FROM try('SELECT slm_load_model(''bad'', ''joint'')');
END $$;
SELECT * FROM with_config('{"architecture_type": "bi-encoder"}');
SELECT * FROM with_config('{"scorer_type": "cross-attn"}');
SELECT * FROM with_config('{"use_lstm": true}');
SELECT * FROM with_config('{"class_token_index": 25}');
SELECT * FROM with_config('{"layers_between": 2}');
\x off
-- as many labels as the file allows
SELECT config('{"max_labels_alloc": "fixed", "max_num_classes": 2}') IS NOT NULL AS config;
SELECT name FROM slm_load_model('two', 'joint', '{"quantization": "F32"}');
SELECT slm_classify('i want my money back', '{delivery,refund}', model => 'two') AS label;
\x on
SELECT * FROM try($$SELECT slm_classify('the', '{refund,delivery,login}', model => 'two')$$);
\x off
DROP FUNCTION with_config;
SELECT slm_drop_model('two'), slm_drop_model('joint');
DROP TYPE subject;
COPY (SELECT) TO PROGRAM 'rm -r joint';
