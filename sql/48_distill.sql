-- A classifier that learns what a teacher says: an expression over a sample of texts.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
CREATE TABLE message AS SELECT format(p, w) AS body FROM (VALUES ('Where is my %s? It has not arrived.'), ('When will the %s be delivered?'),
    ('The courier lost my %s'), ('I was charged twice for the %s'), ('The invoice for my %s is wrong'), ('Please send the receipt for the %s')) t(p),
  unnest('{lamp,kettle,phone,chair,radio,bicycle}'::text[]) w;
INSERT INTO message SELECT body FROM message;
INSERT INTO message VALUES (NULL);
SET client_min_messages = warning;
-- labels by name teach; equal texts are asked about once
SELECT version, training_rows, n_labels, agreement > 0.9 AS agrees, active
  FROM slm_distill_classifier('taught', 'SELECT body FROM message -- all', $$slm_classify(input, ARRAY['late delivery', 'wrong invoice']) -- by name$$);
SELECT slm_classify('The parcel never came', classifier => 'taught'), slm_classify('You took the money two times', classifier => 'taught');
SELECT count(*) FROM (SELECT DISTINCT body FROM message) m
  WHERE slm_classify(body, classifier => 'taught') = slm_classify(body, ARRAY['late delivery', 'wrong invoice']);
-- the sample is of the texts' hashes, and no answer is no row
SELECT training_rows FROM slm_distill_classifier('sampled', 'SELECT body FROM message', $$CASE WHEN input ~ 'invoice|receipt' THEN 'b' ELSE 'a' END$$, rows => 20);
SELECT training_rows FROM slm_distill_classifier('some', 'SELECT body FROM message', $$CASE WHEN input ~ 'invoice' THEN 'b' WHEN input ~ 'courier' THEN 'a' END$$);
-- a second version is compared with the first on the teacher's labels
SELECT version, active, previous_agreement = agreement AS equal
  FROM slm_distill_classifier('taught', 'SELECT body FROM message', $$slm_classify(input, ARRAY['late delivery', 'wrong invoice'])$$);
RESET client_min_messages;
\x on
SELECT * FROM try($$SELECT slm_distill_classifier('t', 'SELECT body FROM message', $q$'one label'$q$)$$);
SELECT * FROM try($$SELECT slm_distill_classifier('t', 'DELETE FROM message RETURNING body', 'input')$$);
SELECT * FROM try($$SELECT slm_distill_classifier('t', 'SELECT body FROM message', 'nothing(input)')$$);
SELECT * FROM try($$SELECT slm_distill_classifier('t', 'SELECT body FROM message', NULL)$$);
SELECT * FROM try($$SELECT slm_distill_classifier('t', 'SELECT body FROM message', 'input', rows => 1)$$);
SELECT * FROM try($$SELECT slm_distill_classifier('t', 'SELECT body FROM message; SELECT 1', 'input')$$);
\x off
DROP TABLE message;
SELECT slm_drop_classifier(name) FROM (SELECT DISTINCT name FROM slm.classifiers) c ORDER BY name;
SELECT slm_drop_model('minilm');
