-- What `make demo` shows.  Needs psql variables: model (path of the GGUF file), encoder (directory of all-MiniLM-L6-v2), report (the page).  Answers are greedy and therefore the same on every
-- machine; only the times differ.
\set ON_ERROR_STOP on
\pset border 2
\pset linestyle unicode
\pset footer off
\pset null ''
SET client_min_messages = warning;
SET search_path = public;

-- what each step took, for the table at the end; and text in lines of at most n characters
CREATE TEMP TABLE measured (no serial, step text, n int, unit text, seconds float8);
CREATE FUNCTION pg_temp.wrap(t text, n int) RETURNS text LANGUAGE sql AS
$$ SELECT rtrim(regexp_replace(regexp_replace(t, '\s+', ' ', 'g'), '(.{1,' || n || '})(\s|$)', E'\\1\n', 'g'), E'\n') $$;

\echo
\echo '== 1. A 4-bit model becomes part of the database: validated, repacked for this engine, shared by all sessions'
SELECT clock_timestamp() AS t0 \gset
CREATE EXTENSION slm_pg;
SELECT name, family, quantization, context_length, pg_size_pretty(image_bytes) AS image, chat_format, licence
FROM slm_load_model('smollm2', :'model');
INSERT INTO measured (step, n, unit, seconds)
VALUES ('load the model (once for all sessions and restarts)', 1, 'model', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz));

SET slm.generate_model = 'smollm2';
SET slm.classify_model = 'smollm2';

\echo
\echo '== 2. A question, a stream of pieces, and what an answer cost'
SELECT slm_generate('What is the capital of France?', system => 'Answer in one short sentence.') AS answer;
SELECT pg_temp.wrap(text, 60) AS text, finish_reason, prompt_tokens, reused_tokens, output_tokens, round(ms::numeric) AS ms
FROM slm_generate_details('What does a database do?', system => 'Answer in one short sentence.', max_tokens => 60);
SELECT pg_temp.wrap(string_agg(piece, '|'), 110) AS "pieces of a stream, in the order they came"
FROM slm_generate_stream('Write one sentence about elephants.', max_tokens => 30) AS piece;

\echo
\echo '== 3. The tickets'
SELECT count(*) AS tickets, count(DISTINCT topic) AS topics, sum(slm_count_tokens(body, 'smollm2')) AS tokens, round(avg(length(body))) AS "characters each"
FROM tickets;
SELECT id, customer, pg_temp.wrap(body, 100) AS body FROM tickets ORDER BY id LIMIT 4;

\echo
\echo '== 4. Labels: each ticket gets one of six, and nothing else can be answered; a small encoder is the right tool for it'
SELECT clock_timestamp() AS t0 \gset
SELECT name, family, quantization, embedding_dimension, pg_size_pretty(image_bytes) AS image, licence FROM slm_load_model('minilm', :'encoder');
INSERT INTO measured (step, n, unit, seconds)
VALUES ('load the encoder (once)', 1, 'model', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz));

\set labels 'ARRAY[''billing'', ''delivery'', ''account access'', ''technical problem'', ''cancellation'', ''praise'']'
CREATE TEMP TABLE topics (label text, description text);
INSERT INTO topics VALUES ('billing', 'invoices, payments, refunds, charges'), ('delivery', 'parcels, shipping, missing or late orders'),
    ('account access', 'login, password, locked account'), ('technical problem', 'something does not work, errors, broken devices'),
    ('cancellation', 'the customer wants to cancel an order or a subscription'), ('praise', 'the customer is happy and says thanks');

CREATE TEMP TABLE labelled (method text, id int, label text);
SELECT clock_timestamp() AS t0 \gset
INSERT INTO labelled
SELECT 'MiniLM, labels with a description', id,
       slm_classify(body, descriptions => (SELECT jsonb_object_agg(label, description) FROM topics), model => 'minilm')
FROM tickets;
INSERT INTO measured (step, n, unit, seconds)
SELECT 'classify by MiniLM', 36, 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz);

INSERT INTO labelled
SELECT 'MiniLM, names of the labels only', id, slm_classify(body, :labels, model => 'minilm') FROM tickets;

SELECT clock_timestamp() AS t0 \gset
INSERT INTO labelled
SELECT 'SmolLM2, which label explains the text (channel)', id, slm_classify(body, :labels, model => 'smollm2', method => 'channel') FROM tickets;
INSERT INTO measured (step, n, unit, seconds)
SELECT 'classify by SmolLM2, channel', 36, 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz);

SELECT clock_timestamp() AS t0 \gset
INSERT INTO labelled
SELECT 'SmolLM2, asked for the label (direct)', id, slm_classify(body, :labels, model => 'smollm2', method => 'direct') FROM tickets;
INSERT INTO measured (step, n, unit, seconds)
SELECT 'classify by SmolLM2, direct', 36, 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz);

SELECT t.id, left(t.body, 70) || '…' AS ticket, t.topic AS "a person says", l.label AS "the model says"
FROM tickets t JOIN labelled l USING (id) WHERE method LIKE 'MiniLM, labels%' ORDER BY id LIMIT 12;

SELECT method, count(*) AS tickets, sum((topic = label)::int) AS right, round(100.0 * avg((topic = label)::int), 1) || ' %' AS accuracy
FROM labelled JOIN tickets USING (id) GROUP BY method ORDER BY 3 DESC;

SELECT label, round(probability::numeric, 3) AS probability
FROM tickets, slm_classify_scores(body, descriptions => (SELECT jsonb_object_agg(label, description) FROM topics), model => 'minilm')
WHERE id = 25 ORDER BY probability DESC;

\echo
\echo 'The same encoder after learning from the 36 tickets themselves; accuracy is held out by cross-validation'
SELECT training_rows, n_labels, round(100 * accuracy::numeric, 1) || ' %' AS accuracy, round(macro_f1::numeric, 3) AS macro_f1, round(seconds::numeric, 3) AS seconds
FROM slm_train_classifier('topics', 'SELECT body, topic FROM tickets', model => 'minilm');
SELECT slm_classify('My invoice shows the wrong company name.', classifier => 'topics') AS "a new ticket is filed under";

\echo
\echo '== 5. Summaries in plain SQL, as part of an ordinary query'
SELECT clock_timestamp() AS t0 \gset
CREATE TEMP TABLE summarized AS SELECT id, slm_summarize(body, max_words => 15) AS summary FROM tickets WHERE id <= 12;
INSERT INTO measured (step, n, unit, seconds)
SELECT 'summarize', count(*), 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz) FROM summarized;
SELECT t.id, pg_temp.wrap(t.body, 60) AS ticket, pg_temp.wrap(s.summary, 50) AS summary FROM tickets t JOIN summarized s USING (id) ORDER BY id LIMIT 6;

\echo
\echo '== 6. A draft of an answer for each ticket of a topic'
SELECT clock_timestamp() AS t0 \gset
CREATE TEMP TABLE drafts AS
SELECT id, slm_generate('Reply to this customer in two or three friendly sentences.' || E'\n\n' || body,
                        system => 'You are a support agent of a web shop. You are polite and brief.', max_tokens => 80, repeat_penalty => 1.1) AS draft
FROM tickets WHERE topic IN ('delivery', 'praise');
INSERT INTO measured (step, n, unit, seconds)
SELECT 'draft an answer', count(*), 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz) FROM drafts;
INSERT INTO measured (step, n, unit, seconds)
SELECT '  the same in tokens of answer', sum(slm_count_tokens(draft, 'smollm2')), 'tokens', (SELECT seconds FROM measured WHERE step = 'draft an answer')
FROM drafts;
SELECT t.customer, pg_temp.wrap(t.body, 50) AS ticket, pg_temp.wrap(d.draft, 60) AS draft FROM drafts d JOIN tickets t USING (id) ORDER BY id LIMIT 4;

\echo
\echo '== 7. The same model, taught by two thirds of the tickets: one statement, on the CPUs of this server (docs/FINE_TUNING.md)'
\set ask 'Name the topic of the message: billing, delivery, account access, technical problem, cancellation or praise.'
CREATE TEMP TABLE told AS
SELECT id, slm_generate(body, 'smollm2', system => :'ask', max_tokens => 8) AS before FROM tickets WHERE id > 24;
SELECT clock_timestamp() AS t0 \gset
SELECT training_rows AS "tickets learned from", steps, round(seconds::numeric) AS seconds
FROM slm_finetune('clerk', 'smollm2', 'SELECT body, topic FROM tickets WHERE id <= 24',
                  jsonb_build_object('system', :'ask', 'epochs', 6, 'rate', 0.002, 'validation', 0));
INSERT INTO measured (step, n, unit, seconds)
VALUES ('fine-tune the model on 24 tickets', 24, 'tickets', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz));
CREATE TEMP TABLE learned AS
SELECT id, slm_generate(body, 'smollm2+clerk', system => :'ask', max_tokens => 8) AS after FROM tickets WHERE id > 24;
SELECT id, pg_temp.wrap(left(body, 70), 40) AS "a ticket that it has not seen", topic AS "a person says", pg_temp.wrap(before, 34) AS before, after
FROM tickets JOIN told USING (id) JOIN learned USING (id) ORDER BY id;
SELECT count(*) AS tickets, count(*) FILTER (WHERE before = topic) AS "right before", count(*) FILTER (WHERE after = topic) AS "right after"
FROM tickets JOIN told USING (id) JOIN learned USING (id);

\echo
\echo '== 8. How the server runs it: many rows at a time, the common instruction computed once'
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT slm_summarize(body, max_words => 15) FROM tickets WHERE id <= 12;

\echo
\echo '== 9. How fast that was, here'
SELECT step, n || ' ' || unit AS amount, round(seconds::numeric, 2) AS seconds, CASE WHEN n > 1 THEN round((n / seconds)::numeric, 1) || ' ' || unit || '/s' END AS speed
FROM measured ORDER BY no;
SELECT * FROM slm_system_info();

\echo
\echo '== 10. What it cost, and what it would have cost elsewhere (docs/COSTS.md)'
\echo 'Labels by the encoder without training: what is answered, and how well, when doubtful tickets are left to a person'
SELECT c.threshold, c.rows, round(100 * c.answered::numeric) || ' %' AS answered, round(100 * c.accuracy::numeric, 1) || ' %' AS accuracy
FROM slm_evaluate('SELECT body, topic FROM tickets', 'slm_classify_details(body, descriptions => (SELECT jsonb_object_agg(label, description) FROM topics), model => ''minilm'')') e,
     jsonb_to_recordset(e.coverage) c (threshold float8, rows bigint, answered float8, accuracy float8)
WHERE c.threshold IN (0, 0.3, 0.5, 0.7);
SELECT function, model, sum(calls) AS calls, sum(prompt_tokens) AS prompt_tokens, sum(output_tokens) AS output_tokens, round(sum(cpu_seconds)::numeric, 2) AS cpu_seconds
FROM slm.usage WHERE tokens > 0 GROUP BY 1, 2 ORDER BY 6 DESC;
SET slm.machine_cost_per_hour = 0.20;
\echo 'Everything above, on a machine that costs 0.20 an hour, beside the same tokens at list prices'
SELECT provider, model, round(api_cost, 6) AS api_cost, round(own_cost, 6) AS own_cost, times_cheaper, as_of FROM slm_cost_report() WHERE model IN ('gpt-4', 'gpt-4o', 'gpt-4o-mini', 'lowest');

\echo
\echo '== 11. The same as a page, with pictures'
\ir report.sql
\echo The report: :report
