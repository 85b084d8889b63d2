CREATE EXTENSION slm_pg;

-- a GGUF file and a Hugging Face directory become part of the database, once for all sessions
SELECT name, family, parameters, quantization, pg_size_pretty(image_bytes) AS image FROM slm_load_model('smollm2', :'model');
SELECT name, family, parameters, quantization, pg_size_pretty(image_bytes) AS image FROM slm_load_model('minilm', :'encoder');
SET slm.generate_model = 'smollm2';
SET slm.embed_model = 'minilm';
SET slm.classify_model = 'minilm';

SELECT slm_generate('What is the capital of France?', system => 'Answer in one short sentence.');

SELECT id, slm_classify(body, ARRAY['billing', 'delivery', 'account access', 'praise']) AS label, left(body, 60) AS body
FROM tickets WHERE id IN (7, 8, 9, 12) ORDER BY id;

-- only the label that is asked for can be answered, with the probability of the whole label
SELECT label, round(probability::numeric, 3) AS probability
FROM slm_classify_scores('I cannot log in any more.', ARRAY['billing', 'delivery', 'account access', 'praise']);

-- search by meaning
SELECT id, round(slm_similarity(body, 'the money has not come back')::numeric, 2) AS similarity, left(body, 60) AS body
FROM tickets ORDER BY 2 DESC LIMIT 3;

SELECT id, slm_summarize(body, max_words => 12) AS summary FROM tickets WHERE id IN (2, 4, 6) ORDER BY id;

-- rows are computed together: plain SQL gets a batch node
EXPLAIN (COSTS OFF) SELECT slm_summarize(body, max_words => 12) FROM tickets;
