-- Embeddings, similarity, rerank, and classification with an embedding model imported from a Hugging Face directory.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT name, family, quantization, embedding_dimension, context_length, tokenizer, can_generate, can_embed FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
RESET slm.classify_model;

SELECT array_length(e, 1) AS dims, round(sum(x::float8 ^ 2)::numeric, 4) AS length FROM (SELECT slm_embed('Where is my parcel?') AS e) s, unnest(e) x GROUP BY 1;
SELECT slm_embed(NULL::text) IS NULL AS null_text, slm_embed('') IS NOT NULL AS empty_text;
-- the same bits alone, in an array, by batches and in any company
CREATE TABLE texts AS SELECT i, repeat('word ', i % 40) || 'number ' || i AS body FROM generate_series(1, 150) i;
SET slm.enable_batch = off;
CREATE TABLE alone AS SELECT i, slm_embed(body) AS e FROM texts;
SET slm.enable_batch = on;
SELECT count(*) FROM alone a JOIN (SELECT i, slm_embed(body) AS e FROM texts) b USING (i, e);
SELECT count(*) FROM alone a JOIN (SELECT n AS i, e FROM slm_embed_many((SELECT array_agg(body ORDER BY i) FROM texts)) WITH ORDINALITY AS x(e, n)) b USING (i, e);
SET slm.threads = 1;
SELECT count(*) FROM alone a JOIN (SELECT i, slm_embed(body) AS e FROM texts ORDER BY i DESC) b USING (i, e);
RESET slm.threads;
SELECT n, e IS NULL AS missing FROM slm_embed_many(ARRAY['a', NULL, 'b']) WITH ORDINALITY AS x(e, n);
SELECT round(slm_similarity('A cat sat on the mat', 'A kitten was sitting there')::numeric, 3) AS near,
  round(slm_similarity('A cat sat on the mat', 'Stock prices fell sharply')::numeric, 3) AS far, slm_similarity('x', NULL) IS NULL AS none;
SELECT document_no, round(score::numeric, 3) FROM slm_rerank('I want my money back', ARRAY['How long is delivery?', NULL, 'How do I get a refund?', 'My card was stolen']);

-- classification: names, descriptions, examples, enum, several, sentiment
SELECT slm_classify('I want my money back', ARRAY['refund', 'delivery', 'lost card']);
SELECT label, round(probability::numeric, 4) FROM slm_classify_scores('I want my money back',
  descriptions => '[{"label": "refund", "description": "getting money back"}, "delivery", {"label": "lost card"}]');
SELECT s.label, round(s.probability::numeric, 4) AS probability, d.label, round(d.probability::numeric, 4) AS probability, d.runner_up, round(d.margin::numeric, 4) AS margin, d.error
  FROM slm_classify_scores('I want my money back', ARRAY['delivery', 'refund', 'lost card'], descriptions => '{"refund": "getting money back", "delivery": null}', threshold => 0.2) s,
  slm_classify_details('I want my money back', ARRAY['delivery', 'refund', 'lost card'], descriptions => '{"refund": "getting money back"}') d;
SELECT jsonb_object_agg(key, round(value::numeric, 4)) FROM jsonb_each(slm_classify_scores_json('I want my money back', descriptions => '{"refund": "getting money back", "delivery": null, "lost card": null}'));
SELECT slm_classify_details('x', ARRAY['only'], threshold => 1), slm_classify_details(NULL, ARRAY['a']) IS NULL AS null_text, slm_classify_scores_json('x', ARRAY['a', 'b'], threshold => 1);
SELECT slm_classify('zzz qqq', ARRAY['refund', 'delivery'], threshold => 0.999) IS NULL AS unsure;
SELECT slm_classify('The blue one flickers', ARRAY['a', 'b'], examples => '[{"text": "my lamp flickers", "label": "b"}, {"text": "invoice is wrong", "label": "a"}]');
CREATE TYPE topic AS ENUM ('refund', 'delivery', 'lost card');
SELECT slm_classify_enum('Someone has stolen my card', NULL::topic), pg_typeof(slm_classify_enum('x', NULL::topic));
-- the spellings of labels: constants, and parameters without a type
SELECT slm_classify('I want my money back', '{refund,delivery,"lost card"}') AS literal, slm_classify('I want my money back', '{"refund", "delivery"}') AS quoted,
  slm_classify('I want my money back', string_to_array('refund,delivery', ',')) AS list, slm_classify('I want my money back', enum_range(NULL::topic)::text[]) AS enum,
  slm_classify('I want my money back', descriptions => (SELECT jsonb_object_agg(name, description) FROM (VALUES ('refund', 'money'), ('delivery', NULL)) c(name, description))) AS categories;
PREPARE two AS SELECT slm_classify($1, $2);
EXECUTE two ('I want my money back', '{refund,delivery}');
PREPARE rows AS SELECT i, slm_classify(body, $1, $2) IS NOT NULL AS labelled FROM texts ORDER BY i LIMIT 2;
EXECUTE rows ('{refund,delivery}', 'minilm');
PREPARE named AS SELECT slm_classify($1, descriptions => $2, model => $3);
EXECUTE named ('I want my money back', '{"refund": "money", "delivery": null}', 'minilm');
PREPARE vectors AS SELECT count(*) FROM slm_embed_many($1);
EXECUTE vectors ('{a,b,c}');
SELECT name, statement, parameter_types FROM pg_prepared_statements WHERE name IN ('two', 'rows', 'named', 'vectors') ORDER BY name;
DEALLOCATE ALL;
-- what is no list of labels, and what is no text
\x on
SELECT state, message FROM try($$SELECT slm_classify('x', 'a,b')$$);
SELECT state, message FROM try($$SELECT slm_classify('x', '["a","b"]')$$);
SELECT state, message FROM try($$SELECT slm_classify('x', '{"billing": "invoices"}')$$);
SELECT state, message FROM try($$SELECT slm_classify('x', '{"billing": "invoices"}'::jsonb)$$);
SELECT state, message FROM try($$SELECT slm_classify('x', 'a,b'::text)$$);
SELECT state, message FROM try($$SELECT slm_classify('{"subject": "x"}'::jsonb, ARRAY['a', 'b'])$$);
\x off
SELECT slm_embed('{"a","b"}');
SELECT slm_embed('{"a, \"b"}');
SELECT slm_embed_query('{a,b,c}');
SELECT slm_similarity('{0.1,-2e-3}', '{0.1,-2e-3}');
SELECT t, slm_embed(t) IS NOT NULL AS a_text FROM unnest(ARRAY['{"a","b"}', '{a,b}']) t; -- of a row
SELECT slm_embed('{name}') IS NOT NULL, slm_embed('{"a": 1}') IS NOT NULL, slm_embed('{a,b} ') IS NOT NULL, slm_embed('{{a,b}}') IS NOT NULL, slm_embed('{,}') IS NOT NULL AS texts;
SELECT slm_classify_multi('Refund me, the parcel was never delivered', ARRAY['refund', 'delivery', 'lost card']),
  slm_classify_multi('Refund me, the parcel was never delivered', descriptions => '{"refund": "getting money back", "delivery": "parcels", "lost card": null}') AS described,
  slm_classify_multi('x', ARRAY['refund'], threshold => 1), slm_classify_multi(NULL, ARRAY['refund']) IS NULL AS none;
SELECT slm_sentiment('This is wonderful, thank you so much!'), slm_sentiment('I am furious, this is a disgrace.');
EXPLAIN (COSTS OFF) SELECT i, slm_embed(body) FROM texts WHERE slm_similarity(body, 'x') > 0.5;

\x on
SELECT * FROM try($$SELECT slm_embed(repeat('long ', 5000), truncate => false)$$);
SELECT * FROM try($$SELECT slm_embed(repeat('long ', 5000), truncate => true) IS NOT NULL$$);
SELECT * FROM try($$SELECT slm_embed('x', model => 'smollm2')$$);
SELECT * FROM try($$SELECT slm_generate('x', model => 'minilm')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], method => 'direct')$$);
SELECT * FROM try($$SELECT slm_classify('x', descriptions => '{"a": 1}')$$);
SELECT * FROM try($$SELECT slm_classify('x', descriptions => '{}')$$);
SELECT * FROM try($$SELECT slm_classify('x', descriptions => '"a"')$$);
SELECT * FROM try($$SELECT slm_classify('x', descriptions => '{"": "nothing"}')$$);
SELECT * FROM try($$SELECT slm_classify('x', descriptions => '["a", "a"]')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], descriptions => '{"c": "not there"}')$$);
SELECT * FROM try($$SELECT slm_classify('x')$$);
SELECT * FROM try($$SELECT slm_classify_multi('x')$$);
SELECT * FROM try($$SELECT slm_classify_enum('x', NULL::topic, descriptions => '{"lost": "not a value"}')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], on_error => 'nothing')$$);
SELECT * FROM try($$SELECT slm_classify('x', descriptions => '[{"description": "no label"}]')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], examples => '[{"text": "t", "label": "c"}]')$$);
SELECT * FROM try($$SELECT slm_classify_multi('x', ARRAY['a', 'a'])$$);
\x off
DROP TABLE texts, alone;
DROP TYPE topic;
