-- What `make demo` shows.  Needs psql variables: model (path of the GGUF file).  Answers are greedy and therefore the same on every
-- machine; only the times differ.
\set ON_ERROR_STOP on
\pset border 2
\pset linestyle unicode
\pset footer off
\pset format wrapped
\pset columns 140
\pset null '(null)'
SET client_min_messages = warning;
SET search_path = public;

-- Timing of a step: \i of two lines would do, but a table is what we want to show at the end.
CREATE TEMP TABLE measured (no serial, step text, n int, unit text, seconds float8);

\echo
\echo '== 1. A 4-bit model becomes part of the database: validated, repacked for this engine, shared by all sessions'
SELECT clock_timestamp() AS t0 \gset
CREATE EXTENSION slm_pg;
SELECT name, family, quantization, context_length, pg_size_pretty(image_bytes) AS image, chat_format, licence
FROM slm_load_model('smollm2', :'model');
INSERT INTO measured (step, n, unit, seconds)
VALUES ('load the model (once)', 1, 'models', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz));

SET slm.generate_model = 'smollm2';
SET slm.classify_model = 'smollm2';

\echo
\echo '== 2. A question, a stream of pieces, and what an answer cost'
SELECT slm_generate('What is the capital of France?', max_tokens => 40) AS answer;
SELECT text, finish_reason, prompt_tokens, reused_tokens, output_tokens, round(ms::numeric) AS ms
FROM slm_generate_details('Name three things that a relational database is good at.', max_tokens => 80);
SELECT string_agg(piece, '|') AS "pieces of a stream, in the order they came"
FROM slm_generate_stream('Write one sentence about elephants.', max_tokens => 30) AS piece;

\echo
\echo '== 3. The tickets'
SELECT count(*) AS tickets, count(DISTINCT topic) AS topics, sum(slm_count_tokens(body, 'smollm2')) AS tokens, round(avg(length(body))) AS "characters each"
FROM tickets;
SELECT id, customer, body FROM tickets ORDER BY id LIMIT 4;

\echo
\echo '== 4. Labels: every ticket gets one of six, by the probability of the whole label; nothing else can be answered'
SELECT clock_timestamp() AS t0 \gset
CREATE TEMP TABLE labelled AS
SELECT id, topic, slm_classify(body, ARRAY['billing', 'delivery', 'account access', 'technical problem', 'cancellation', 'praise'],
                               method => 'channel') AS label
FROM tickets;
INSERT INTO measured (step, n, unit, seconds)
SELECT 'classify, 6 labels, method channel', count(*), 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz) FROM labelled;
SELECT clock_timestamp() AS t0 \gset
CREATE TEMP TABLE labelled_direct AS
SELECT id, topic, slm_classify(body, ARRAY['billing', 'delivery', 'account access', 'technical problem', 'cancellation', 'praise'],
                               method => 'direct') AS label
FROM tickets;
INSERT INTO measured (step, n, unit, seconds)
SELECT 'classify, 6 labels, method direct', count(*), 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz) FROM labelled_direct;

SELECT t.id, left(t.body, 70) || '…' AS ticket, t.topic AS "a person says", l.label AS "the model says"
FROM tickets t JOIN labelled l USING (id) ORDER BY id LIMIT 12;

SELECT method, count(*) AS tickets, sum((topic = label)::int) AS right, round(100.0 * avg((topic = label)::int), 1) || ' %' AS accuracy
FROM (SELECT 'channel' AS method, * FROM labelled UNION ALL SELECT 'direct', * FROM labelled_direct) AS x
GROUP BY method ORDER BY method;

SELECT label, round(probability::numeric, 3) AS probability
FROM tickets, slm_classify_scores(body, ARRAY['billing', 'delivery', 'account access', 'technical problem', 'cancellation', 'praise'],
                                  method => 'channel')
WHERE id = 25 ORDER BY probability DESC;

\echo
\echo '== 5. Summaries in plain SQL, as part of an ordinary query'
SELECT clock_timestamp() AS t0 \gset
CREATE TEMP TABLE summarized AS SELECT id, slm_summarize(body, max_words => 15) AS summary FROM tickets WHERE id <= 12;
INSERT INTO measured (step, n, unit, seconds)
SELECT 'summarize', count(*), 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz) FROM summarized;
SELECT t.id, t.body AS ticket, s.summary FROM tickets t JOIN summarized s USING (id) ORDER BY id LIMIT 6;

\echo
\echo '== 6. A draft of an answer for each ticket of a topic'
SELECT clock_timestamp() AS t0 \gset
CREATE TEMP TABLE drafts AS
SELECT id, slm_generate('Reply to this customer in two or three friendly sentences.' || E'\n\n' || body,
                        system => 'You are a support agent of a web shop. You are polite and brief.', max_tokens => 80) AS draft
FROM tickets WHERE topic IN ('delivery', 'praise');
INSERT INTO measured (step, n, unit, seconds)
SELECT 'draft an answer', count(*), 'rows', extract(epoch FROM clock_timestamp() - :'t0'::timestamptz) FROM drafts;
INSERT INTO measured (step, n, unit, seconds)
SELECT '  the same in tokens of answer', sum(slm_count_tokens(draft, 'smollm2')), 'tokens', (SELECT seconds FROM measured WHERE step = 'draft an answer')
FROM drafts;
SELECT t.customer, t.body AS ticket, d.draft FROM drafts d JOIN tickets t USING (id) ORDER BY id LIMIT 4;

\echo
\echo '== 7. How fast that was, here'
SELECT step, n || ' ' || unit AS amount, round(seconds::numeric, 2) AS seconds, round((n / seconds)::numeric, 1) || ' ' || unit || '/s' AS speed
FROM measured ORDER BY no;
SELECT * FROM slm_system_info();
