-- Adapters (model => 'base+adapter') and models quantized from loaded ones, on a tiny model with random weights.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
\set lora_file :srcdir '/test/data/tiny_lora.gguf'
\set peft_dir :srcdir '/test/data/tiny_peft'
SELECT name FROM slm_load_model('small', :'tiny_file');

-- quantizing: sizes, perplexities that agree with slm_perplexity, and where the model came from
SELECT name, quantization, target_bytes > source_bytes AS larger, target_perplexity FROM slm_quantize_model('small', 'small-f16', 'F16');
SELECT name, quantization, target_bytes < source_bytes AS smaller, abs(target_perplexity / source_perplexity - 1) < 0.05 AS close,
  source_perplexity = slm_perplexity('The quick brown fox', 'small-f16') AS same_source,
  target_perplexity = slm_perplexity('The quick brown fox', 'small-q8') AS same_target
  FROM slm_quantize_model('small-f16', 'small-q8', 'q8_0', 'The quick brown fox');
SELECT name, quantization, source, parameters = (SELECT parameters FROM slm.models WHERE name = 'small') AS all_parameters FROM slm.models
  WHERE name LIKE 'small-%' ORDER BY name;
\x on
SELECT * FROM try($$SELECT slm_quantize_model('small', 'x', 'Q9_9')$$);
SELECT * FROM try($$SELECT slm_quantize_model('small', 'x', 'IQ4_XS')$$);
SELECT * FROM try($$SELECT slm_quantize_model('small', 'small-q8', 'Q4_0')$$);
SELECT * FROM try($$SELECT slm_quantize_model('none', 'x', 'Q8_0')$$);
SELECT * FROM try($$SELECT slm_quantize_model('small', 'a b', 'Q8_0')$$);
SELECT * FROM try($$SELECT slm_quantize_model('small', 'x', NULL)$$);
\x off
SELECT slm_drop_model('small-q8'), slm_drop_model('small-f16');

-- adapters: a GGUF file and a PEFT directory
SELECT name, base, rank, matrices, parameters, owner = current_user::regrole AS mine, roles, title FROM slm_load_adapter('polite', 'small', :'lora_file');
SELECT name, base, rank, matrices, parameters FROM slm_load_adapter('terse', 'small', :'peft_dir');
SELECT name FROM slm.models WHERE name IN ('small', 'polite', 'terse');
SELECT name, base FROM slm.adapters ORDER BY name;
SELECT name FROM slm.model_status WHERE name IN ('small', 'polite', 'terse');
-- each changes the answers, in every kind of call, and the base is what it was
CREATE TABLE plain AS SELECT slm_perplexity('abc abc', 'small') AS p, slm_generate('abc', 'small', chat => false, max_tokens => 6) AS t;
SELECT m, slm_perplexity('abc abc', m) <> p AS differs, slm_generate('abc', m, chat => false, max_tokens => 6) IS NOT NULL AS answers,
  slm_count_tokens('abc', m) = slm_count_tokens('abc', 'small') AS same_tokens,
  (SELECT sum(probability)::numeric(4, 3) FROM slm_classify_scores('abc', ARRAY['a', 'b'], m, method => 'direct')) AS sum
  FROM unnest(ARRAY['small+polite', 'small+terse']) m, plain;
SELECT slm_perplexity('abc abc', 'small') = p AS same_p, slm_generate('abc', 'small', chat => false, max_tokens => 6) = t AS same_t FROM plain;
-- rows with different adapters in one batch say what they say alone
CREATE TABLE asked AS SELECT i, 'text ' || i AS input, (ARRAY['small', 'small+polite', 'small+terse'])[i % 3 + 1] AS model FROM generate_series(1, 12) i;
SET slm.enable_batch = off;
CREATE TABLE alone AS SELECT i, slm_generate(input, model, max_tokens => 8) AS answer, slm_perplexity(input, model) AS p FROM asked;
SET slm.enable_batch = on;
CREATE TABLE batched AS SELECT i, slm_generate(input, model, max_tokens => 8) AS answer, slm_perplexity(input, model) AS p FROM asked;
RESET slm.enable_batch;
SELECT count(*), count(*) FILTER (WHERE a.answer = b.answer AND a.p = b.p) AS same, count(DISTINCT a.p) AS different_rows FROM alone a JOIN batched b USING (i);
-- a default model may have an adapter
SET slm.generate_model = 'small+polite';
SELECT slm_perplexity('abc abc') = slm_perplexity('abc abc', 'small+polite') AS same;
RESET slm.generate_model;

\x on
SELECT * FROM try($$SELECT slm_generate('a', 'small+none')$$);
SELECT * FROM try($$SELECT slm_generate('a', 'none+polite')$$);
SELECT * FROM try($$SELECT slm_generate('a', 'small+')$$);
SELECT * FROM try($$SELECT slm_generate('a', 'small+polite+terse')$$);
SELECT * FROM try($$SELECT slm_generate('a', 'polite')$$);
SELECT * FROM try($$SELECT slm_generate('a', 'small+small')$$);
SELECT * FROM try(format('SELECT slm_load_adapter(%L, %L, %L)', 'polite', 'small', :'lora_file'));
SELECT * FROM try(format('SELECT slm_load_adapter(%L, %L, %L)', 'x', 'none', :'lora_file'));
SELECT * FROM try(format('SELECT slm_load_adapter(%L, %L, %L)', 'x', 'polite', :'lora_file'));
SELECT * FROM try(format('SELECT slm_load_adapter(%L, %L, %L)', 'x', 'small', :'tiny_file'));
SELECT * FROM try(format('SELECT slm_load_adapter(%L, %L, %L)', 'x', 'smollm2', :'lora_file'));
SELECT * FROM try(format('SELECT slm_load_model(%L, %L)', 'x', :'lora_file'));
SELECT * FROM try($$SELECT slm_load_adapter('x', 'small', '/no/such/file')$$);
SELECT * FROM try($$SELECT slm_load_adapter('x', 'small', NULL)$$);
SELECT * FROM try($$SELECT slm_drop_model('small')$$);
SELECT * FROM try($$SELECT slm_drop_model('polite')$$);
SELECT * FROM try($$SELECT slm_drop_adapter('small')$$);
\x off

-- privileges are those of models, of both
CREATE ROLE slm_adapter_user;
SELECT slm_grant_model('small', 'slm_adapter_user');
SET ROLE slm_adapter_user;
SELECT slm_perplexity('abc', 'small') > 0 AS base;
SELECT slm_perplexity('abc', 'small+polite');
SELECT slm_load_adapter('x', 'small', '/no/such/file');
SELECT slm_quantize_model('small', 'x', 'Q8_0');
SELECT slm_drop_adapter('polite');
RESET ROLE;
SELECT slm_grant_model('polite', 'slm_adapter_user');
SET ROLE slm_adapter_user;
SELECT slm_perplexity('abc', 'small+polite') > 0 AS adapted;
RESET ROLE;
SELECT slm_revoke_model('polite', 'slm_adapter_user'), slm_revoke_model('small', 'slm_adapter_user');
DROP ROLE slm_adapter_user;

-- renaming either side; dropping; nothing stays
SELECT slm_rename_model('small', 'little'), slm_rename_model('polite', 'kind');
SELECT name, base FROM slm.adapters ORDER BY name;
SELECT slm_perplexity('abc', 'little+kind') > 0 AS renamed;
BEGIN;
SELECT slm_drop_adapter('kind');
ROLLBACK;
SELECT slm_perplexity('abc', 'little+kind') > 0 AS still_there;
-- with a model go its adapters and their grants
BEGIN;
SELECT slm_grant_model('kind', 'public');
SELECT slm_drop_model('little', cascade => true);
SELECT count(*) FROM slm.adapters;
SELECT count(*) FROM slm.model_grant WHERE name IN ('little', 'kind', 'terse');
ROLLBACK;
SELECT slm_perplexity('abc', 'little+kind') > 0 AS still_there;
SELECT slm_drop_adapter('kind'), slm_drop_adapter('terse');
SELECT slm_perplexity('abc', 'little+kind');
SELECT slm_drop_model('little');
SELECT count(*) FROM slm.adapters;
DROP TABLE plain, asked, alone, batched;
