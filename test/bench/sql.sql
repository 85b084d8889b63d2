-- SQL-level timings for run_bench.sh: prints CSV lines "metric,type,threads,value,unit".  psql variables: type, threads, and a
-- model loaded under the name bench.  The texts are the demo's tickets, taken by id so that every run does the same work.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ','
SET slm.threads = :threads;
SET slm.generate_model = 'bench';
SET slm.classify_model = 'bench';

-- the prefix cache and the mapped image are warm for all that follows
SELECT slm_generate('Hello', max_tokens => 1) AS warm \gset

SELECT clock_timestamp() AS t0 \gset
SELECT count(slm_classify(body, ARRAY['billing', 'delivery', 'account access', 'technical problem', 'cancellation', 'praise'],
                          method => 'direct')) AS n FROM tickets \gset
SELECT 'slm_classify direct, 6 labels', :'type', :threads,
       round((:n / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 2), 'rows/s';

SELECT clock_timestamp() AS t0 \gset
SELECT count(slm_classify(body, ARRAY['billing', 'delivery', 'account access', 'technical problem', 'cancellation', 'praise'],
                          method => 'channel')) AS n FROM tickets \gset
SELECT 'slm_classify channel, 6 labels', :'type', :threads,
       round((:n / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 2), 'rows/s';

SELECT clock_timestamp() AS t0 \gset
SELECT count(slm_summarize(body, method => 'abstract', max_words => 15)) AS n FROM tickets WHERE id <= 12 \gset
SELECT 'slm_summarize, 15 words', :'type', :threads,
       round((:n / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 2), 'rows/s';

SELECT clock_timestamp() AS t0 \gset
SELECT output_tokens AS n FROM slm_generate_details('Write a long story about a dragon.', max_tokens => 200) \gset
SELECT 'slm_generate, one row', :'type', :threads,
       round((:n / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 1), 'tokens/s';

SELECT clock_timestamp() AS t0 \gset
SELECT sum(slm_count_tokens(slm_generate('Write a long story about dragon number ' || i || '.', max_tokens => 100))) AS n
FROM generate_series(1, 16) AS i \gset
SELECT 'slm_generate, 16 rows', :'type', :threads,
       round((:n / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 1), 'tokens/s';

SELECT clock_timestamp() AS t0 \gset
SELECT count(slm_perplexity(body)) AS n, sum(slm_count_tokens(body)) AS tokens FROM tickets \gset
SELECT 'slm_perplexity (prompt tokens)', :'type', :threads,
       round((:tokens / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 1), 'tokens/s';
