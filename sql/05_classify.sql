-- Classification with a generative model.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SET slm.classify_model = 'smollm2';
CREATE TABLE tickets (id int, body text);
INSERT INTO tickets VALUES
  (1, 'My card was stolen yesterday in the train, please block it.'),
  (2, 'Which exchange rate do you use for dollars?'),
  (3, NULL),
  (4, 'I forgot the PIN of my card.'),
  (5, 'The cash machine kept my money but gave me nothing.');
SELECT id, slm_classify(body, ARRAY['lost or stolen card', 'exchange rate', 'PIN code', 'cash withdrawal']) FROM tickets ORDER BY id;
SELECT id, slm_classify(body, ARRAY['lost or stolen card', 'exchange rate', 'PIN code', 'cash withdrawal'], method => 'channel',
  instruction => 'Write a message to a bank about: {label}') FROM tickets ORDER BY id;
SELECT id, slm_classify(body, ARRAY['lost or stolen card', 'exchange rate', 'PIN code', 'cash withdrawal'], method => 'direct') IS NOT NULL AS answered FROM tickets ORDER BY id;
SELECT label, round(probability::numeric, 4) FROM slm_classify_scores('Which exchange rate do you use for dollars?', ARRAY['exchange rate', 'PIN code', 'cash withdrawal'], method => 'channel');
SELECT label, round(probability::numeric, 4) FROM slm_classify_scores('Which exchange rate do you use for dollars?', ARRAY['exchange rate', 'PIN code', 'cash withdrawal'], method => 'direct');
-- they sum to 1, labels that begin alike and one label included
SELECT method, abs(sum(probability) - 1) < 1e-6 AS one, count(*) FROM unnest(ARRAY['direct', 'channel']) method,
  slm_classify_scores('I like it', ARRAY['good', 'goodbye', 'good morning', 'bad'], method => method) GROUP BY method ORDER BY method;
SELECT * FROM slm_classify_scores('I like it', ARRAY['good'], method => 'direct');
SELECT * FROM slm_classify_scores('I like it', ARRAY['good']);
SELECT count(*) FROM slm_classify_scores(NULL, ARRAY['good']);
-- an answer does not depend on its neighbours
SELECT count(DISTINCT slm_classify('Which exchange rate do you use for dollars?', ARRAY['exchange rate', 'PIN code'])) FROM generate_series(1, 3);
-- nothing to classify
SELECT m, slm_classify('', ARRAY['good', 'bad'], method => m) IS NULL AS empty, slm_classify(E' \n\t ', ARRAY['good', 'bad'], method => m) IS NULL AS blank,
  (SELECT count(*) FROM slm_classify_scores('', ARRAY['good', 'bad'], method => m)) AS scores FROM unnest(ARRAY['direct', 'channel']) m;
-- the threshold
SELECT slm_classify('Which exchange rate do you use for dollars?', ARRAY['exchange rate', 'PIN code'], threshold => 0.5),
  slm_classify('Which exchange rate do you use for dollars?', ARRAY['exchange rate', 'PIN code'], threshold => 1) IS NULL AS unsure;
-- slm.generate_model stands in
RESET slm.classify_model;
SET slm.generate_model = 'smollm2';
SELECT slm_classify('I forgot the PIN of my card.', ARRAY['exchange rate', 'PIN code']);
-- labels of other scripts
SELECT slm_classify('Wo ist mein Päckchen?', ARRAY['Lieferung', 'Rückgabe', '支払い']) IS NOT NULL AS answered;
\x on
SELECT * FROM try($$SELECT slm_classify('x', NULL::text[])$$);
SELECT * FROM try($$SELECT slm_classify('x', '{}'::text[])$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', NULL])$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', ''])$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b', 'a'])$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY[['a'], ['b']])$$);
SELECT * FROM try($$SELECT slm_classify('x', (SELECT array_agg(i::text) FROM generate_series(1, 10001) i))$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], method => 'magic')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], method => 'channel', instruction => 'no place')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], threshold => 1.5)$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], threshold => 'NaN')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], model => 'unknown')$$);
SELECT * FROM try($$SELECT slm_classify(repeat('long ', 20000), ARRAY['a', 'b'], truncate => false)$$);
SELECT * FROM try($$SELECT slm_classify(repeat('long ', 20000), ARRAY['a', 'b'], method => 'direct', truncate => false)$$);
\x off
DROP TABLE tickets;
