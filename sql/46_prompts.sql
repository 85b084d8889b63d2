-- what functions say to models: slm.prompts, slm_set_prompt, slm_generate(prompt_name => ...), prefill, suffix
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SET slm.generate_model = 'smollm2';
SELECT slm_grant_model('smollm2', 'PUBLIC');

-- ---- the built-in words
SELECT name, version, family, language, owner, public, active, placeholders, text FROM slm.prompts ORDER BY name COLLATE "C";

-- ---- an administrator's words, for all; the built-in ones come back
CREATE FUNCTION scores() RETURNS jsonb LANGUAGE sql AS $$SELECT slm_classify_scores_json('My parcel has not arrived.', ARRAY['billing', 'delivery'], method => 'direct')$$;
CREATE FUNCTION p() RETURNS float8 LANGUAGE sql AS $$SELECT probability FROM slm_filter_details('is about money', 'My card was charged twice.')$$;
CREATE TABLE before AS SELECT scores() AS scores, p() AS fits;
SELECT slm_set_prompt('slm_decide.describe', 'Say in a few words what the text is about.');
SELECT slm_set_prompt('slm_fix_grammar', E'Answer with one word: home.\n\nText: ');
SELECT slm_set_prompt('slm_classify.direct', 'Which of {labels} is it?');
SELECT p() = fits AS same_decision, scores() = scores AS same_scores, slm_fix_grammar('He go home.', max_tokens => 32) FROM before;
-- in a batch, by the same words
CREATE TABLE t AS SELECT 'My card was charged ' || i || ' times.' AS body FROM generate_series(1, 4) i;
SELECT count(*), count(*) FILTER (WHERE slm_filter_details('is about money', body)::text = one) AS equal
FROM (SELECT body, (SELECT d::text FROM slm_filter_details('is about money', body) d) AS one FROM t OFFSET 0) s;
SELECT name, version, family, language, owner = current_user::regrole AS mine, public, active FROM slm.prompts WHERE name IN ('slm_fix_grammar', 'slm_classify.direct') ORDER BY name, version;
SELECT slm_set_prompt('slm_fix_grammar', E'Say goodbye.\n\nText: ');
SELECT slm_restore_prompt('slm_fix_grammar', 1);
SELECT version, text, active FROM slm.prompts WHERE name = 'slm_fix_grammar' ORDER BY version;
SELECT slm_drop_prompt('slm_fix_grammar'), slm_drop_prompt('slm_decide.describe'), slm_drop_prompt('slm_classify.direct');
SELECT p() = fits AS same_decision, scores() = scores AS same_scores FROM before;
-- the last 20 versions are kept
SELECT max(slm_set_prompt('slm_sentiment', 'Version ' || i || ': {label}')) FROM generate_series(1, 25) i;
SELECT count(*), min(version), max(version) FROM slm.prompts WHERE name = 'slm_sentiment' AND version > 0;
SELECT slm_drop_prompt('slm_sentiment');

-- ---- by language and family
SELECT slm_set_prompt('slm_decide.text', 'Texto: ', language => 'es'), slm_set_prompt('slm_decide.text', 'Llama: ', family => 'llama', language => 'es'),
       slm_set_prompt('slm_decide.text', 'Other: ', family => 'qwen2', language => 'es');
SELECT p() = fits AS english FROM before;
SET slm.prompt_language = 'es';
SELECT p() = fits AS llama_in_spanish FROM before;
CREATE TEMP TABLE llama AS SELECT p() AS p;
SELECT slm_drop_prompt('slm_decide.text', 'llama', 'es');
SELECT p() = fits AS english, p() = llama.p AS llama FROM before, llama;
SET slm.prompt_language = 'xx';
SELECT p() = fits AS english FROM before;
RESET slm.prompt_language;
SELECT slm_drop_prompt('slm_decide.text', language => 'es'), slm_drop_prompt('slm_decide.text', 'qwen2', 'es');

-- ---- a statement keeps its words; a subtransaction that is rolled back leaves none
BEGIN;
SELECT slm_set_prompt('slm_decide.describe', 'What is it?');
SELECT p() = fits AS same FROM before;
ROLLBACK;
SELECT p() = fits AS same FROM before;

-- ---- what is refused
SELECT * FROM try($$SELECT slm_set_prompt('slm_translate', 'Translate: ')$$);
SELECT * FROM try($$SELECT slm_set_prompt('slm_translate', 'Translate {word} into {target}: ')$$);
SELECT * FROM try($$SELECT slm_set_prompt('slm_nothing', 'x')$$);
SELECT * FROM try($$SELECT slm_set_prompt('', 'x')$$);
SELECT * FROM try($$SELECT slm_set_prompt('mine', ' ')$$);
SELECT * FROM try($$SELECT slm_set_prompt('mine', repeat('x', 65537))$$);
SELECT * FROM try($$SELECT slm_set_prompt('mine', 'x', language => '')$$);
SELECT * FROM try($$SELECT slm_set_prompt(repeat('x', 100), 'x')$$);
SELECT * FROM try($$SELECT slm_set_prompt('slm_fix_grammar', 'x', public => false)$$);
SELECT * FROM try($$SELECT slm_drop_prompt('slm_fix_grammar')$$);
SELECT * FROM try($$SELECT slm_restore_prompt('slm_fix_grammar', 7, language => 'de')$$);
BEGIN READ ONLY;
SELECT slm_set_prompt('mine', 'x');
ROLLBACK;

-- ---- prompts of one's own
SELECT slm_set_prompt('capital', E'Answer in one short sentence.\n\nWhat is the capital of {country}?');
SELECT slm_generate(prompt_name => 'capital', variables => '{"country": "France"}', max_tokens => 12);
SELECT slm_generate(prompt_name => 'capital', variables => jsonb_build_object('country', c), max_tokens => 12) FROM unnest(ARRAY['France', 'Italy', NULL]) c;
SELECT slm_set_prompt('echo', 'Say: {prompt} and {n}');
SELECT text IS NOT NULL AS answered, prompt_tokens FROM slm_generate_details('{n}', prompt_name => 'echo', variables => '{"n": 12}', max_tokens => 1);
SELECT prompt_tokens FROM slm_generate_details('Say: {n} and 12', max_tokens => 1);
SELECT string_agg(s, '') = slm_generate(prompt_name => 'capital', variables => '{"country": "Spain"}', max_tokens => 9) AS streams_the_same
FROM slm_generate_stream(prompt_name => 'capital', variables => '{"country": "Spain"}', max_tokens => 9) s;
SELECT slm_generate(prompt_name => 'echo', variables => '{"n": 1}') IS NULL AS null_prompt, slm_generate() IS NULL AS nothing;
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'capital')$$);
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'capital', variables => '{"country": "x", "city": 1}')$$);
SELECT * FROM try($$SELECT slm_generate('x', prompt_name => 'capital', variables => '{"country": "x"}')$$);
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'capital', variables => '["France"]')$$);
SELECT * FROM try($$SELECT slm_generate('x', variables => '{}')$$);
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'nothing')$$);
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'slm_fix_grammar')$$);

-- ---- who may do what
CREATE ROLE prompt_a;
CREATE ROLE prompt_b;
SET ROLE prompt_a;
SELECT * FROM try($$SELECT slm_set_prompt('slm_fix_grammar', 'x')$$);
SELECT * FROM try($$SELECT slm_set_prompt('capital', 'x')$$);
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'capital', variables => '{"country": "France"}')$$);
SELECT slm_set_prompt('of_a', 'Say hello.');
SELECT count(*) FROM slm.prompts WHERE version > 0;
SELECT slm_generate(prompt_name => 'of_a', max_tokens => 3);
SET ROLE prompt_b;
SELECT count(*) FROM slm.prompts WHERE version > 0;
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'of_a')$$);
SET ROLE prompt_a;
SELECT slm_set_prompt('of_a', 'Say hello.', public => true);
SET ROLE prompt_b;
SELECT slm_generate(prompt_name => 'of_a', max_tokens => 3);
SELECT * FROM try($$SELECT slm_drop_prompt('of_a')$$);
RESET ROLE;
-- a superuser's statement is not steered by it
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'of_a')$$);
SELECT slm_set_prompt('capital', 'What is the capital of {country}?', public => true);
SET ROLE prompt_b;
SELECT slm_generate(prompt_name => 'capital', variables => '{"country": "France"}', max_tokens => 12);
RESET ROLE;
-- nor is anybody's by the words of somebody who is no superuser (any more)
CREATE ROLE prompt_boss SUPERUSER;
SET ROLE prompt_boss;
SELECT slm_set_prompt('slm_decide.describe', 'What is it?');
RESET ROLE;
SELECT p() = fits AS same FROM before;
ALTER ROLE prompt_boss NOSUPERUSER;
SELECT p() = fits AS same FROM before;
SELECT version, active FROM slm.prompts WHERE name = 'slm_decide.describe' ORDER BY version;
DROP ROLE prompt_boss;
SELECT slm_drop_prompt('slm_decide.describe');
-- a dropped owner's names are the superusers'
DROP ROLE prompt_a;
SET ROLE prompt_b;
SELECT * FROM try($$SELECT slm_set_prompt('of_a', 'x')$$);
SELECT * FROM try($$SELECT slm_generate(prompt_name => 'of_a')$$);
RESET ROLE;
SELECT slm_drop_prompt('of_a');

-- ---- prefill, suffix
SELECT slm_generate('What is the capital of Italy?', prefill => 'The capital of Italy is', max_tokens => 4);
SELECT string_agg(s, '|') FROM slm_generate_stream('What is the capital of Italy?', prefill => 'The capital of Italy is', max_tokens => 4) s;
SELECT text, output_tokens FROM slm_generate_details('What is the capital of Italy?', prefill => 'The capital of Italy is', max_tokens => 4);
SELECT slm_generate('What is the capital of Italy?', prefill => '', max_tokens => 8) = slm_generate('What is the capital of Italy?', max_tokens => 8) AS empty_is_none;
SELECT slm_generate(body, prefill => 'Dear customer,', suffix => E'\n\nAnswer politely.', max_tokens => 6) = a AS batch_is_single
FROM (SELECT body, (SELECT string_agg(s, '') FROM slm_generate_stream(body, prefill => 'Dear customer,', suffix => E'\n\nAnswer politely.', max_tokens => 6) s) AS a FROM t OFFSET 0) u;
SELECT slm_generate('One, two,', chat => false, prefill => ' three,', max_tokens => 3);
-- what is cut is the prompt, never the suffix
SELECT name, context_length FROM slm_load_model('tiny', :'tiny_file');
SELECT text, prompt_tokens, error FROM slm_generate_details(repeat('word ', 900), model => 'tiny', suffix => 'Say hello.', prefill => 'Well', max_tokens => 2);
SELECT text LIKE 'Well%' AS begins, prompt_tokens FROM slm_generate_details(repeat('word ', 900), model => 'tiny', suffix => 'Say hello.', prefill => 'Well', truncate => true, max_tokens => 2);
SELECT * FROM try($$SELECT slm_generate('word', model => 'tiny', suffix => repeat('hello ', 900), truncate => true, max_tokens => 2)$$);
DROP ROLE prompt_b;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
