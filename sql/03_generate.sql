-- Generation: answers are the same bytes on every machine, so they are shown.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SET slm.generate_model = 'smollm2';
SELECT slm_generate('What is gravity?', max_tokens => 24);
SELECT slm_generate('The capital of France is', chat => false, max_tokens => 12);
SELECT slm_generate('Say hello.', system => 'You are a pirate.', max_tokens => 24);
SELECT text, finish_reason, prompt_tokens, output_tokens, ms > 0 AS timed FROM slm_generate_details('Count from one to ten.', max_tokens => 10);
SELECT finish_reason, output_tokens FROM slm_generate_details('What is the capital of France? Answer with one word.', max_tokens => 60);
-- the instruction is computed once
SELECT reused_tokens > 0 AS reused FROM slm_generate_details('Say bye.', system => 'You are a pirate.', max_tokens => 1);
-- NULL
SELECT slm_generate(NULL) IS NULL AS null_prompt, slm_generate('Say yes.', model => NULL, max_tokens => 4, stop => NULL, seed => NULL) IS NOT NULL AS null_options;
SELECT * FROM slm_generate_details(NULL);
SELECT count(*) FROM slm_generate_stream(NULL);
-- an empty prompt is a prompt
SELECT slm_generate('', max_tokens => 4) IS NOT NULL AS answered;
-- stop strings
SELECT slm_generate('Count: one, two, three,', chat => false, max_tokens => 30, stop => ARRAY[' six']);
-- sampling is a function of the seed
SELECT slm_generate('Tell me a story.', temperature => 0.8, seed => 1, max_tokens => 12) = slm_generate('Tell me a story.', temperature => 0.8, seed => 1, max_tokens => 12) AS same,
  slm_generate('Tell me a story.', temperature => 1.5, seed => 1, max_tokens => 12) = slm_generate('Tell me a story.', temperature => 1.5, seed => 2, max_tokens => 12) AS other;
SELECT slm_generate('Tell me a story.', temperature => 0.7, top_k => 40, top_p => 0.9, min_p => 0.05, repeat_penalty => 1.1, seed => 7, max_tokens => 16);
SELECT slm_generate('Tell me a story.', temperature => 1, top_k => 1, max_tokens => 10) = slm_generate('Tell me a story.', max_tokens => 10) AS greedy;
-- a stream is the same text in pieces
SELECT string_agg(piece, '') = slm_generate('Name three colours.', max_tokens => 30) AS same, count(*) > 5 AS in_pieces
  FROM slm_generate_stream('Name three colours.', max_tokens => 30) piece;
-- two streams and a call share a session; what was made in between comes in pieces of any size
CREATE FUNCTION rest_of(pieces refcursor) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  piece text;
  whole text := '';
BEGIN
  LOOP
    FETCH pieces INTO piece;
    EXIT WHEN NOT FOUND;
    whole := whole || piece;
  END LOOP;
  RETURN whole;
END $$;
BEGIN;
DECLARE a CURSOR FOR SELECT slm_generate_stream('Name three colours.', max_tokens => 8);
DECLARE b CURSOR FOR SELECT slm_generate_stream('What is the capital of France?', max_tokens => 8);
FETCH 2 FROM a;
FETCH 2 FROM b;
SELECT slm_generate('What is the capital of France?', max_tokens => 8);
SAVEPOINT s;
SELECT slm_generate('x', max_tokens => 0);
ROLLBACK TO s;
SELECT rest_of('a');
SELECT rest_of('b');
COMMIT;
SELECT slm_generate_stream('What is the capital of France?', max_tokens => 8) LIMIT 1;
-- conversations
SELECT slm_chat('[{"role": "system", "content": "You are brief."}, {"role": "user", "content": "What is the capital of France?"}]', max_tokens => 16);
SELECT slm_chat('[{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello Ada!"}, {"role": "user", "content": "What is my name?"}]', max_tokens => 16);
SELECT slm_chat(NULL) IS NULL AS null_messages;
-- control tokens written in a prompt stay text
SELECT a.prompt_tokens < b.prompt_tokens AS not_parsed FROM slm_generate_details('x', max_tokens => 1) a, slm_generate_details('x<|im_end|>', max_tokens => 1) b WHERE b.prompt_tokens > a.prompt_tokens + 3;
-- in FROM by itself too, where the executor would collect the rows of another function; beside something else it is computed once
EXPLAIN (COSTS OFF) SELECT piece FROM slm_generate_stream('x') piece WHERE piece <> '' LIMIT 1;
EXPLAIN (COSTS OFF) SELECT piece FROM slm_generate_stream('x') WITH ORDINALITY piece;
SELECT count(*) FROM generate_series(1, 2) n, LATERAL (SELECT * FROM slm_generate_stream('Name ' || n, max_tokens => 3)) s;
-- multi-byte characters come whole, also in a stream
SELECT octet_length(t) > 0 AS valid FROM slm_generate('Repeat: 日本語 😀 é', max_tokens => 12) t;
SELECT slm_detokenize(slm_tokenize('日本語 😀 é'));
-- summaries never have more words than asked for
SELECT summary, array_length(regexp_split_to_array(trim(summary), '\s+'), 1) <= 20 AS bounded
  FROM slm_summarize('The parcel was ordered on Monday and should have arrived on Wednesday. It did not arrive until Friday, the box was open, '
    'and one of the two cups was broken. The customer asks for a new cup or for the money back, and has sent two photographs.', max_words => 20, method => 'abstract') summary;
SELECT slm_summarize(NULL) IS NULL AS null_input, slm_summarize(' ') AS of_nothing;
-- many rows
SELECT i, slm_generate(q, max_tokens => 6) FROM (VALUES (1, 'What is 2 + 2?'), (2, NULL), (3, 'What colour is the sky?'), (4, 'What is 2 + 2?')) v(i, q) ORDER BY i;

-- what is out of range
\x on
SELECT * FROM try($$SELECT slm_generate('x', max_tokens => 0)$$);
SELECT * FROM try($$SELECT slm_generate('x', max_tokens => -1)$$);
SELECT * FROM try($$SELECT slm_generate('x', max_tokens => 2000000000)$$);
SELECT * FROM try($$SELECT slm_generate('x', temperature => -0.1)$$);
SELECT * FROM try($$SELECT slm_generate('x', temperature => 'NaN')$$);
SELECT * FROM try($$SELECT slm_generate('x', temperature => 'Infinity')$$);
SELECT * FROM try($$SELECT slm_generate('x', top_k => -1)$$);
SELECT * FROM try($$SELECT slm_generate('x', top_p => 0)$$);
SELECT * FROM try($$SELECT slm_generate('x', min_p => 1)$$);
SELECT * FROM try($$SELECT slm_generate('x', repeat_penalty => 0)$$);
SELECT * FROM try($$SELECT slm_generate('x', stop => ARRAY['a', NULL])$$);
SELECT * FROM try($$SELECT slm_generate('x', stop => ARRAY[''])$$);
SELECT * FROM try($$SELECT slm_generate('x', stop => ARRAY[['a'], ['b']])$$);
SELECT * FROM try($$SELECT slm_generate('x', system => 'y', chat => false)$$);
SELECT * FROM try($$SELECT slm_generate('x', model => 'unknown')$$);
SELECT * FROM try($$SET LOCAL slm.generate_model = ''; SELECT slm_generate('x')$$);
SELECT * FROM try($$SELECT slm_generate(repeat('long ', 20000))$$);
SELECT * FROM try($$SELECT slm_generate_stream(repeat('long ', 20000))$$);
SELECT * FROM try($$SELECT slm_summarize(repeat('long ', 20000), truncate => false)$$);
SELECT * FROM try($$SELECT slm_summarize('x', max_words => 0)$$);
SELECT * FROM try($$SELECT slm_chat('{}')$$);
SELECT * FROM try($$SELECT slm_chat('[]')$$);
SELECT * FROM try($$SELECT slm_chat('[1]')$$);
SELECT * FROM try($$SELECT slm_chat('[{"role": "user"}]')$$);
SELECT * FROM try($$SELECT slm_chat('[{"role": "boss", "content": "x"}]')$$);
SELECT * FROM try($$SELECT slm_chat('[{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]')$$);
SELECT * FROM try($$SELECT slm_chat('[{"role": "system", "content": "x"}]')$$);
SELECT * FROM try($$SET LOCAL slm.kv_cache_memory = '1MB'; SELECT slm_generate(repeat('long ', 2000))$$);
\x off
SELECT slm_generate('What is the capital of France?', max_tokens => 8);
