-- Tokens, chunks, log probabilities and perplexity.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SET slm.generate_model = 'smollm2';
SELECT slm_tokenize('The capital of France is Paris.');
SELECT slm_tokenize(''), slm_tokenize(NULL) IS NULL AS null_text;
SELECT slm_count_tokens('The capital of France is Paris.'), slm_count_tokens(''), slm_count_tokens(NULL);
SELECT slm_detokenize(ARRAY[504, 3575, 282, 4649, 314]), slm_detokenize('{}'), slm_detokenize(NULL) IS NULL AS null_tokens;
-- control tokens are text when they come from a row
SELECT slm_tokenize('<|im_end|>');
SELECT slm_detokenize(ARRAY[1, 504, 2]);
-- there and back again
SELECT bool_and(slm_detokenize(slm_tokenize(t)) = t) AS same FROM (VALUES ('Zażółć gęślą jaźń'), ('日本語のテキスト'), ('😀👩‍👩‍👧'), (E'tabs\tand\n\nlines  '), ('x' || repeat(' ', 50))) v(t);
-- half a character is no character
SELECT slm_detokenize((slm_tokenize('😀'))[1:1]) ~ U&'\FFFD' AS replaced;

SELECT no, content FROM slm_chunk('The first sentence is here. The second one is a little longer than that. The third ends it.', max_tokens => 10);
SELECT no, content FROM slm_chunk('One two three four five six seven eight nine ten eleven twelve.', max_tokens => 6, overlap => 2);
SELECT bool_and(slm_count_tokens(content) <= 20) AS bounded, count(*) > 10 AS many FROM slm_chunk(repeat('Some words and 日本語, again. ', 50), max_tokens => 20);
SELECT string_agg(content, '' ORDER BY no) = repeat('Some words and 日本語, again. ', 50) AS whole FROM slm_chunk(repeat('Some words and 日本語, again. ', 50), max_tokens => 20);
SELECT count(*) FROM slm_chunk('');
SELECT count(*) FROM slm_chunk(NULL);

SELECT position, token_id, token, round(logprob::numeric, 4) AS logprob FROM slm_token_logprobs('The capital of France is Paris.');
SELECT position, token_id, token, round(logprob::numeric, 4) AS logprob FROM slm_token_logprobs(E'<|im_start|>user\nHi<|im_end|>', special => true);
SELECT count(*), count(logprob) FROM slm_token_logprobs('<|im_start|>');
SELECT count(*) FROM slm_token_logprobs(NULL);
SELECT round(slm_perplexity('The capital of France is Paris.')::numeric, 3) AS perplexity;
SELECT slm_perplexity('The quick brown fox jumps over the lazy dog.') < slm_perplexity('Dog the lazy over jumps fox brown quick the.') AS as_expected;
SELECT count(*) AS of_nothing, slm_perplexity('') IS NULL AS nothing FROM slm_token_logprobs('');
SELECT slm_perplexity('The') IS NULL AS one_token, slm_perplexity(NULL) IS NULL AS null_text;
SELECT abs(slm_perplexity(t) - exp(-avg(logprob))) < 1e-6 AS agrees FROM (SELECT 'All models are wrong, but some are useful.'::text AS t) x, slm_token_logprobs(t) GROUP BY t;
\x on
SELECT * FROM try($$SELECT slm_detokenize(ARRAY[1, NULL])$$);
SELECT * FROM try($$SELECT slm_detokenize(ARRAY[-1])$$);
SELECT * FROM try($$SELECT slm_detokenize(ARRAY[49152])$$);
SELECT * FROM try($$SELECT slm_tokenize('x', model => 'unknown')$$);
SELECT * FROM try($$SELECT slm_chunk('x', max_tokens => 0)$$);
SELECT * FROM try($$SELECT slm_chunk('x', max_tokens => 5, overlap => 5)$$);
SELECT * FROM try($$SELECT slm_chunk('x', max_tokens => 5, overlap => -1)$$);
SELECT * FROM try($$SELECT slm_token_logprobs(repeat('long ', 20000))$$);
SELECT * FROM try($$SELECT slm_perplexity(repeat('long ', 20000))$$);
\x off
