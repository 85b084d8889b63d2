-- Decisions: conditions, scales; by each method; what is refused; batches, errors of rows.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT name FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
SET slm.generate_model = 'smollm2';
CREATE TABLE message (id int, body text);
INSERT INTO message VALUES (1, 'I want my money back for the broken lamp.'), (2, 'My parcel has not arrived yet.'), (3, 'Thank you, everything works fine now!'),
  (4, 'This is a disgrace, I have been waiting for three weeks and nobody answers!'), (5, NULL), (6, ' ');

-- a condition
SELECT id, slm_filter('asks for a refund', body) AS encoder, slm_filter('asks for a refund', body, model => 'smollm2') AS generator,
  slm_filter('asks for a refund', body, model => 'smollm2', threshold => 0.9) AS sure FROM message ORDER BY id;
SELECT id, (slm_filter_details('asks for a refund', body, model => 'smollm2')).* FROM message ORDER BY id;
SELECT id FROM message WHERE slm_filter('asks about a delivery', body) ORDER BY id;
SELECT id, slm_filter('asks for a refund', body, on_error => 'error') FROM message WHERE id = 6;
SELECT id, slm_filter('asks for a refund', body, model => 'smollm2', method => 'direct', threshold => 0.5) AS direct,
  slm_filter('asks for a refund', body, model => 'smollm2', instruction => 'Say in a few words what the customer wants from us, whoever the customer may be.') AS told
FROM message WHERE id < 5 ORDER BY id;

SELECT slm_filter(NULL, 'x') IS NULL AS no_condition, slm_score('x', NULL) IS NULL AS no_rubric;

-- a scale: the expectation over its levels
SELECT id, round(slm_score(body, 'the writer is angry')::numeric, 3) AS rubric,
  round(slm_score(body, 'mood', 1, 5, levels => ARRAY['happy, thankful', 'neutral', 'angry, disappointed'])::numeric, 3) AS encoder,
  round(slm_score(body, 'How does the writer feel?', 1, 5, levels => ARRAY['happy, thankful', 'neutral', 'angry, disappointed'], model => 'smollm2')::numeric, 3) AS generator
FROM message ORDER BY id;
-- a scale turned round gives what is left of it, to the bit: options are weighed alone
SELECT m AS model, bool_and(abs(slm_score(body, 'mood', 0, 1, ARRAY['happy', 'neutral', 'angry'], model => m) + slm_score(body, 'mood', 0, 1, ARRAY['angry', 'neutral', 'happy'], model => m) - 1) < 1e-12) AS turned
FROM message, unnest(ARRAY['smollm2', 'minilm']) m WHERE id < 5 GROUP BY m ORDER BY m;

-- what is refused
SELECT s, t.* FROM unnest(ARRAY[
  $$SELECT slm_filter('', 'x')$$, $$SELECT slm_filter('a', 'x', threshold => 0.4)$$, $$SELECT slm_filter('a', 'x', method => 'magic')$$,
  $$SELECT slm_filter('a', 'x', method => 'direct', model => 'minilm')$$, $$SELECT slm_filter('a', 'x', method => 'embedding', model => 'smollm2')$$,
  $$SELECT slm_filter('a', repeat('word ', 10000), model => 'smollm2', truncate => false)$$,
  $$SELECT slm_score('x', '')$$, $$SELECT slm_score('x', 'a', low => 1)$$, $$SELECT slm_score('x', 'a', levels => ARRAY['b'])$$, $$SELECT slm_score('x', 'a', levels => ARRAY['b', 'b'])$$,
  $$SELECT slm_score('x', 'a', levels => (SELECT array_agg(i::text) FROM generate_series(1, 11) i))$$]) s, try(s) t;

-- the same in a batch and one by one, short texts and long ones; a text before and behind others
CREATE TABLE many AS SELECT i AS id, CASE i % 4 WHEN 0 THEN (SELECT body FROM message WHERE id = 1 + i % 4) ELSE repeat('The lamp came on day ' || i || ' and does not shine. ', i % 7) || 'Please answer.' END AS body
FROM generate_series(1, 24) i;
CREATE TABLE batched AS SELECT id, slm_filter_details('asks for a refund', body, model => 'smollm2')::text AS f, slm_score(body, 'mood', 0, 1, ARRAY['happy', 'neutral', 'angry'], model => 'smollm2') AS s,
  slm_filter_details('asks for a refund', body)::text AS e FROM many;
SET slm.enable_batch = off;
SELECT count(*) AS rows, count(*) FILTER (WHERE (f, s, e) IS NOT DISTINCT FROM (slm_filter_details('asks for a refund', body, model => 'smollm2')::text, slm_score(body, 'mood', 0, 1, ARRAY['happy', 'neutral', 'angry'], model => 'smollm2'),
  slm_filter_details('asks for a refund', body)::text)) AS same FROM batched JOIN many USING (id);
RESET slm.enable_batch;
SELECT slm_drop_model('minilm'), slm_drop_model('smollm2');
