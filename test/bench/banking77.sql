-- SQL-level figures on Banking77 (real messages to a bank) for run_bench.sh: prints CSV lines "metric,type,threads,value,unit".
-- psql variables: train_file, test_file, eight_file (banking77_train.csv, banking77_test.csv, banking8.csv); models loaded as bench (generates),
-- minilm (embeds) and shape_1b (the shape of Llama 3.2 1B with random weights: speed only).  The better of two runs counts with the node on.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ','
\set QUIET on
SET client_min_messages = error;
SET slm.threads = 2;
SET slm.generate_model = 'bench';
SET slm.embed_model = 'minilm';
SET slm.classify_model = 'minilm';

CREATE TEMP TABLE train (id serial, text text, category text);
CREATE TEMP TABLE test (id serial, text text, category text);
CREATE TEMP TABLE eight (id serial, text text, label text);
COPY train (text, category) FROM :'train_file' (FORMAT csv, HEADER);
COPY test (text, category) FROM :'test_file' (FORMAT csv, HEADER);
COPY eight (text, label) FROM :'eight_file' (FORMAT csv, HEADER);
CREATE TEMP TABLE document AS SELECT d AS id, string_agg(text, ' ' ORDER BY id) AS body FROM (SELECT id, text, (id - 1) / 12 AS d FROM test WHERE id <= 576) t GROUP BY d;
ANALYZE;

-- seconds of a query, after one run to warm up; the second number is its result
CREATE FUNCTION pg_temp.seconds(query text, runs int DEFAULT 2) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE t timestamptz; best double precision := 1e9;
BEGIN
    FOR i IN 1..runs LOOP
        t := clock_timestamp();
        EXECUTE query;
        best := least(best, extract(epoch FROM clock_timestamp() - t));
    END LOOP;
    RETURN best;
END $$;
CREATE FUNCTION pg_temp.on_off(metric text, query text, n int, type text DEFAULT 'Q4_1') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE batched double precision; single double precision;
BEGIN
    SET slm.enable_batch = on;
    batched := pg_temp.seconds(query);
    SET slm.enable_batch = off;
    single := pg_temp.seconds(query, 1);
    SET slm.enable_batch = on;
    RETURN NEXT format('"%s, batch node on",%s,2,%s,rows/s', metric, type, round((n / batched)::numeric, 1));
    RETURN NEXT format('"%s, batch node off",%s,2,%s,rows/s', metric, type, round((n / single)::numeric, 1));
    RETURN NEXT format('"%s, on : off",%s,2,%s,ratio', metric, type, round((single / batched)::numeric, 2));
END $$;
-- one of the counters of a query's batch node, a row
CREATE FUNCTION pg_temp.counter(query text, name text, n int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE plan jsonb;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
    RETURN round((jsonb_path_query_first(plan, '$.** ? (@."Custom Plan Provider" == "SLM Batch")') ->> name)::numeric / n, 1);
END $$;

-- batches (issue D)
SELECT * FROM pg_temp.on_off('classify direct 8 labels over 240 texts',
    $$SELECT count(slm_classify(text, ARRAY['card delivery', 'exchange rate', 'lost or stolen card', 'top-up problem', 'refund request', 'identity verification', 'PIN code',
      'cash withdrawal'], model => 'bench', method => 'direct')) FROM test WHERE id <= 240$$, 240);
SELECT * FROM pg_temp.on_off('48 tokens of summary of 48 documents', $$SELECT count(slm_generate(body, system => 'Summarize the text in one or two sentences.', max_tokens => 48)) FROM document$$, 48);
SELECT * FROM pg_temp.on_off('slm_summarize of 48 documents (49 tokens at most)', $$SELECT count(slm_summarize(body, method => 'abstract', max_words => 11)) FROM document$$, 48);
SELECT format('"slm_summarize of 48 documents, written",Q4_1,2,%s,tokens/row', pg_temp.counter('SELECT slm_summarize(body, method => ''abstract'', max_words => 11) FROM document', 'Output Tokens', 48));
SELECT format('documents of,,,%s,tokens on average', round(avg(slm_count_tokens(body)))) FROM document;
SELECT * FROM pg_temp.on_off('16 tokens of answer to 24 texts, 1B shape', $$SELECT count(slm_generate(text, model => 'shape_1b', max_tokens => 16)) FROM test WHERE id <= 24$$, 24, 'Q4_0');
SELECT pg_temp.seconds($$SELECT count(slm_classify(text, ARRAY['card', 'money', 'other'], model => 'bench', method => 'direct')) FROM test WHERE id <= 2400$$, 1) AS distinct_s \gset
SELECT format('"classify over 2,400 texts of which nine in ten are duplicates : none",Q4_1,2,%s,ratio of speed', round((:distinct_s / pg_temp.seconds(
    $$SELECT count(slm_classify(text, ARRAY['card', 'money', 'other'], model => 'bench', method => 'direct')) FROM test, generate_series(1, 10) WHERE id <= 240$$))::numeric, 2));
-- label scoring: every label (a threshold needs them all) and until the winner is known
SELECT format('"classify direct, %s labels: label tokens computed, %s",Q4_1,2,%s,tokens/row', cardinality(labels), how, pg_temp.counter(
        format('SELECT slm_classify(text, %L::text[], method => ''direct'', model => ''bench'', threshold => %s) FROM test WHERE id <= 200', labels, threshold), 'Label Tokens Computed', 200))
    FROM (SELECT array_agg(DISTINCT label) AS labels FROM eight UNION ALL SELECT array_agg(DISTINCT replace(category, '_', ' ')) FROM train) l,
        (VALUES (1, 'all labels', 1e-9), (2, 'early stop', 0)) h(no, how, threshold) ORDER BY cardinality(labels), no;
SELECT format('"classify direct, 77 labels: prompt tokens computed, the instruction included",Q4_1,2,%s,tokens/row', pg_temp.counter(
        format('SELECT slm_classify(text, %L::text[], method => ''direct'', model => ''bench'', instruction => ''Choose one of {labels} for the text.'') FROM test WHERE id <= 200',
            array_agg(DISTINCT replace(category, '_', ' '))), 'Prompt Tokens Computed', 200)) FROM train;
SELECT format('texts of,,,%s,tokens on average', round(avg(slm_count_tokens(text, model => 'bench')), 1)) FROM test WHERE id <= 200;
SELECT format('"classify over 2,400 texts of which 240 are distinct : over 240",Q4_1,2,%s,times as long', round((pg_temp.seconds(
    $$SELECT count(slm_classify(text, ARRAY['card', 'money', 'other'], model => 'bench', method => 'direct')) FROM test, generate_series(1, 10) WHERE id <= 240$$) / pg_temp.seconds(
    $$SELECT count(slm_classify(text, ARRAY['card', 'money', 'other'], model => 'bench', method => 'direct')) FROM test WHERE id <= 240$$))::numeric, 2));
SELECT format('"512-token shared instruction : 64-token, 200 rows",Q4_1,2,%s,times as long', round((pg_temp.seconds(
    format($$SELECT count(slm_classify(text, ARRAY['card', 'money', 'other'], model => 'bench', method => 'direct', instruction => %L)) FROM test WHERE id <= 200$$,
        'Choose among {labels}. ' || repeat('The bank sells cards and accounts. ', 70))) / pg_temp.seconds(
    format($$SELECT count(slm_classify(text, ARRAY['card', 'money', 'other'], model => 'bench', method => 'direct', instruction => %L)) FROM test WHERE id <= 200$$,
        'Choose among {labels}. ' || repeat('The bank sells cards and accounts. ', 4))))::numeric, 2));
-- 8 documents of about 200 tokens, 12 questions about each, in an order in which no two neighbours share a document.  Every query has words of its
-- own at the beginning of its prompts: nothing is in the prefix cache.
CREATE TEMP TABLE page AS SELECT d.id + 8 * q.id AS id, d.body, q.text AS question
    FROM (SELECT id / 18 AS id, string_agg(text, ' ' ORDER BY id) AS body FROM test WHERE id < 144 GROUP BY 1) d, test q WHERE q.id BETWEEN 1 AND 12 ORDER BY 1;
SELECT format('pages of,,,%s,tokens on average', round(avg(slm_count_tokens(body)))) FROM page;
CREATE FUNCTION pg_temp.pages(metric text, query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE batched double precision; single double precision; plan json;
BEGIN
    SET slm.enable_batch = off;
    single := pg_temp.seconds(format(query, 'Off'), 1);
    SET slm.enable_batch = on;
    batched := pg_temp.seconds(format(query, 'On'), 1);
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || format(query, 'Counted') INTO plan;
    plan := COALESCE(plan->0->'Plan'->'Plans'->0, plan->0->'Plan');
    RETURN NEXT format('"%s, batch node on : off",Q4_1,2,%s,ratio', metric, round((single / batched)::numeric, 2));
    RETURN NEXT format('"%s, batch node on",Q4_1,2,%s,s', metric, round(batched::numeric, 2));
    RETURN NEXT format('"%s, prompt tokens computed",Q4_1,2,%s,', metric, plan->>'Prompt Tokens Computed');
    RETURN NEXT format('"%s, prompt tokens reused",Q4_1,2,%s,', metric, plan->>'Prompt Tokens Reused');
END $$;
SELECT * FROM pg_temp.pages('12 questions about each of 8 documents, classify direct',
    $$SELECT count(slm_classify('%s: ' || body || E'\nQuestion: ' || question, ARRAY['yes', 'no', 'unknown'], model => 'bench', method => 'direct')) FROM page$$);
SELECT * FROM pg_temp.pages('12 questions about each of 8 documents, 16 tokens of answer',
    $$SELECT count(slm_generate('%s: ' || body || E'\nQuestion: ' || question, max_tokens => 16)) FROM page$$);
-- Single calls that copy sentences of the row: of 12 texts those that this model does copy when it is asked to.
SET slm.batch_size = 1;
CREATE TEMP TABLE copied AS SELECT prompt FROM (SELECT body, 'Text: "' || body || E'"\nThe same text, copied word for word: "' AS prompt
    FROM (SELECT string_agg(text, ' ' ORDER BY id) AS body FROM test WHERE id < 48 GROUP BY id / 4) b) p
    WHERE position(trim(slm_generate(prompt, chat => false, max_tokens => 48, stop => ARRAY['"'])) IN body) > 0;
SELECT format('texts copied,,,%s,of 12', count(*)) FROM copied;
SET slm.speculate = off;
SELECT pg_temp.seconds($$SELECT count(slm_generate(prompt, chat => false, max_tokens => 48, stop => ARRAY['"'])) FROM copied$$, 3) AS plain \gset
SELECT pg_temp.seconds($$SELECT slm_generate('Tell me a story about a king.', max_tokens => 120)$$, 3) AS plain_free \gset
RESET slm.batch_size;
SELECT pg_temp.seconds($$SELECT count(slm_generate(body, system => 'Summarize the text in one or two sentences.', max_tokens => 48)) FROM document$$) AS plain_batch \gset
SET slm.speculate = on;
SELECT format('"full batches (48 tokens of summary of 48 documents), speculation on : off",Q4_1,2,%s,ratio of speed', round((:plain_batch / pg_temp.seconds(
    $$SELECT count(slm_generate(body, system => 'Summarize the text in one or two sentences.', max_tokens => 48)) FROM document$$))::numeric, 2));
SET slm.batch_size = 1;
SELECT format('"single calls that copy sentences of the row, speculation on : off",Q4_1,2,%s,ratio of speed', round((:plain / pg_temp.seconds(
    $$SELECT count(slm_generate(prompt, chat => false, max_tokens => 48, stop => ARRAY['"'])) FROM copied$$, 3))::numeric, 2));
RESET slm.batch_size;
SELECT format('"one call of free text, speculation on : off",Q4_1,2,%s,ratio of speed', round((:plain_free / pg_temp.seconds(
    $$SELECT slm_generate('Tell me a story about a king.', max_tokens => 120)$$, 3))::numeric, 2));

-- embeddings and classifiers (issue B)
SELECT format('"slm_embed(text) over 3,080 texts",Q8_0,2,%s,rows/s', round((3080 / pg_temp.seconds('SELECT count(slm_embed(text)) FROM test'))::numeric));
SELECT format('"slm_embed_many over 3,080 texts",Q8_0,2,%s,rows/s', round((3080 / pg_temp.seconds('SELECT count(*) FROM slm_embed_many((SELECT array_agg(text) FROM test))'))::numeric));
SELECT format('"slm_embed of one short text, warm",Q8_0,2,%s,ms', round((pg_temp.seconds($$SELECT slm_embed('How do I locate my card?')$$, 20) * 1000)::numeric, 2));
CREATE TEMP TABLE stored AS SELECT id, slm_embed(text) AS e, category FROM train;
SELECT format('"training on 10,003 stored embeddings",,2,%s,s', round(seconds::numeric, 2)) FROM slm_train_classifier('bench', 'SELECT e, category FROM stored ORDER BY id');
CREATE TEMP TABLE tested AS SELECT id, slm_embed(text) AS e, category FROM test;
SET slm.threads = 1;
SELECT format('"classifier on stored embeddings",,1,%s,rows/s', round((30800 / pg_temp.seconds('SELECT count(slm_classify_embedding(e, classifier => ''bench'')) FROM tested, generate_series(1, 10)'))::numeric));
SET slm.threads = 2;
CREATE FUNCTION pg_temp.accuracy(metric text, classifier text) RETURNS text LANGUAGE sql AS $$
    WITH p AS (SELECT category, slm_classify(text, classifier => $2) AS label FROM test),
    f AS (SELECT 2.0 * count(*) FILTER (WHERE label = c AND category = c) / nullif(count(*) FILTER (WHERE label = c) + count(*) FILTER (WHERE category = c), 0) AS f1
          FROM p, (SELECT DISTINCT category AS c FROM p) x GROUP BY c)
    SELECT format('"%s: accuracy / macro F1",,2,%s / %s,percent', $1, round(100.0 * (SELECT avg((label = category)::int) FROM p), 2), round(100 * (SELECT avg(coalesce(f1, 0)) FROM f)::numeric, 2)) $$;
SELECT pg_temp.accuracy('Banking77, embeddings', 'bench');
SELECT format('"training on 10,003 texts, embedding included",,2,%s,s', round(seconds::numeric, 2)) FROM slm_train_classifier('bench_texts', 'SELECT text, category FROM train ORDER BY id');
SELECT seconds FROM slm_train_classifier('bench_ngrams', 'SELECT text, category FROM train ORDER BY id', options => '{"ngrams": true}') \gset
SELECT pg_temp.accuracy('Banking77, with n-grams', 'bench_ngrams');
SELECT seconds FROM slm_train_classifier('bench_few', 'SELECT text, category FROM (SELECT *, row_number() OVER (PARTITION BY category ORDER BY id) AS n FROM train) t WHERE n <= 10 ORDER BY id') \gset
SELECT pg_temp.accuracy('Banking77, 10 rows a label', 'bench_few');
SELECT format($$SELECT format('"training on label names and 10,003 texts",,2,%%s,s', round(seconds::numeric, 2)) FROM slm_train_classifier('bench_names', 'SELECT text FROM train ORDER BY id', labels => %L)$$, array_agg(replace(category, '_', ' ') ORDER BY category)) FROM (SELECT DISTINCT category FROM train) c \gexec
WITH p AS (SELECT replace(category, '_', ' ') AS category, slm_classify(text, classifier => 'bench_names') AS label FROM test)
SELECT format('"Banking77, label names and unlabelled texts: accuracy",,2,%s,percent', round(100.0 * avg((label = category)::int), 2)) FROM p;
WITH l AS (SELECT array_agg(DISTINCT replace(category, '_', ' ')) AS labels FROM train), p AS (SELECT replace(category, '_', ' ') AS category, slm_classify(text, (SELECT labels FROM l)) AS label FROM test)
SELECT format('"Banking77, zero-shot by label names: accuracy",,2,%s,percent', round(100.0 * avg((label = category)::int), 2)) FROM p;
SELECT format('"banking8, %s: accuracy",,2,%s,percent', m.method || ' (' || m.model || ')', round(100.0 * avg((slm_classify(text, (SELECT array_agg(DISTINCT label) FROM eight), model => m.model, method => m.method) = label)::int), 1))
FROM eight, (VALUES (1, 'embedding', 'minilm'), (2, 'channel', 'bench'), (3, 'direct', 'bench'), (4, 'auto', 'minilm'), (5, 'auto', 'bench')) m(n, method, model) GROUP BY m.n, m.method, m.model ORDER BY m.n;
SELECT slm_drop_classifier('bench' || e) FROM unnest(ARRAY['', '_texts', '_ngrams', '_few', '_names']) e \g /dev/null
