-- Classifiers trained inside the database.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT name FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
CREATE TABLE message (id serial, body text, label text);
INSERT INTO message (body, label)
SELECT format(t.pattern, w.word), t.label FROM (VALUES
    ('Where is my %s? It has not arrived.', 'delivery'), ('When will the %s be delivered?', 'delivery'), ('The courier lost my %s', 'delivery'),
    ('Tracking says the %s is still on its way', 'delivery'),
    ('I was charged twice for the %s', 'billing'), ('The invoice for my %s is wrong', 'billing'), ('Please send the receipt for the %s', 'billing'),
    ('Why did the price of the %s change on my bill?', 'billing'),
    ('The %s is broken', 'fault'), ('My %s does not switch on any more', 'fault'), ('There is a scratch on the %s', 'fault'), ('The %s makes a strange noise', 'fault')
) t(pattern, label), (VALUES ('lamp'), ('kettle'), ('phone'), ('chair'), ('radio'), ('bicycle')) w(word);
CREATE TABLE question AS SELECT * FROM (VALUES ('Has my order been shipped yet?', 'delivery'), ('You took the money two times', 'billing'),
  ('It stopped working after a day', 'fault'), ('The parcel never came', 'delivery')) q(body, label);

SELECT version, training_rows, n_labels, accuracy > 0.9 AS accurate, macro_f1 > 0.9 AS f1, ece BETWEEN 0 AND 0.3 AS calibrated
  FROM slm_train_classifier('support', 'SELECT body, label FROM message');
SELECT body, slm_classify(body, classifier => 'support') AS label FROM question;
SELECT label, probability > 0.3 AS likely FROM slm_classify_scores('You took the money two times', classifier => 'support');
SELECT round(sum(probability)::numeric, 4) FROM slm_classify_scores('anything', classifier => 'support');
SELECT label, probability > 0.3 AS likely, runner_up, margin > 0 AS ahead, error FROM slm_classify_details('You took the money two times', classifier => 'support');
CREATE TYPE topic AS ENUM ('other', 'billing', 'delivery', 'quality');
SELECT slm_classify_enum('You took the money two times', NULL::topic, classifier => 'support'), pg_typeof(slm_classify_enum('x', NULL::topic, classifier => 'support'));
SELECT slm_classify('qwertz', classifier => 'support', threshold => 1) IS NULL AS unsure, slm_classify(NULL::text, classifier => 'support') IS NULL AS none;
-- a stored embedding gives the same answer
SELECT count(*) FROM message WHERE slm_classify(body, classifier => 'support') = slm_classify_embedding(slm_embed(body), classifier => 'support');
-- retraining makes a version, which goes live when it is better than the active one on rows that neither has learned from
\set VERBOSITY terse
SELECT version, n_labels, active, previous_accuracy = 1 AS previous FROM slm_train_classifier('support', 'SELECT body, label FROM message WHERE label <> ''fault''',
    options => '{"activate": "always"}');
SELECT slm_classify('It stopped working after a day', classifier => 'support');
SELECT slm_restore_classifier('support', 1);
SELECT slm_classify('It stopped working after a day', classifier => 'support');
-- the same rows again are no better; equal rows in equal order give equal bytes
SELECT version, active, previous_accuracy = accuracy AS equal FROM slm_train_classifier('support', 'SELECT body, label FROM message');
SELECT name, version, active, model, labels, training_rows, cardinality(confusion) AS cells, by_names FROM slm.classifiers ORDER BY version;
SELECT a.blob = b.blob AS same_bytes FROM slm.classifier_registry a, slm.classifier_registry b WHERE a.version = 1 AND b.version = 3;
-- bad labels
SET client_min_messages = warning;
CREATE VIEW mistaken AS SELECT body, CASE WHEN id % 4 > 0 THEN label WHEN id % 8 = 0 THEN 'fault' ELSE 'billing' END AS label FROM message;
SELECT version, active, accuracy < previous_accuracy AS worse FROM slm_train_classifier('support', 'SELECT body, label FROM mistaken');
SELECT slm_classify('It stopped working after a day', classifier => 'support');
SELECT version, active, accuracy < previous_accuracy AS worse FROM slm_train_classifier('support', 'SELECT body, label FROM mistaken', options => '{"activate": "always"}');
SELECT version, active, accuracy > previous_accuracy AS better FROM slm_train_classifier('support', 'SELECT body, label FROM message', options => '{"activate": "never"}');
SELECT version, active, accuracy > previous_accuracy AS better FROM slm_train_classifier('support', 'SELECT body, label FROM message');
-- a label that the active version does not know; rows that it knows by their embedding; more folds; n-grams beside it
SELECT version, n_labels, active FROM slm_train_classifier('support', $$SELECT body, label FROM message UNION ALL SELECT format('Do you hire a %s?', w), 'jobs'
    FROM unnest(ARRAY['cook', 'driver', 'guard', 'clerk']) w ORDER BY 1$$);
SELECT active, previous_accuracy IS NOT NULL AS compared FROM slm_train_classifier('support', 'SELECT slm_embed(body), label FROM mistaken', options => '{"folds": 5}');
SELECT active, previous_accuracy IS NOT NULL AS compared FROM slm_train_classifier('support', 'SELECT body, label FROM mistaken', options => '{"ngrams": true}');
RESET client_min_messages;
-- no labels to judge by: the active one stays; none is active
SELECT version, active, previous_accuracy FROM slm_train_classifier('support', 'SELECT body FROM message', labels => ARRAY['late delivery', 'wrong invoice or charge', 'broken product']);
SELECT version, active FROM slm_train_classifier('careful', 'SELECT body, label FROM message', options => '{"activate": "never"}');
\set VERBOSITY default
SELECT * FROM try($$SELECT slm_classify('x', classifier => 'careful')$$);
SELECT slm_restore_classifier('careful', 1);
SELECT slm_classify('It stopped working after a day', classifier => 'careful');
-- n-grams, stored embeddings, names only
SELECT training_rows, accuracy > 0.9 AS accurate FROM slm_train_classifier('ngrams', 'SELECT body, label FROM message', options => '{"ngrams": true}');
SELECT slm_classify('The courier lost it', classifier => 'ngrams');
CREATE TABLE stored AS SELECT slm_embed(body) AS e, label FROM message;
SELECT training_rows FROM slm_train_classifier('stored', 'SELECT e, label FROM stored');
SELECT count(*) FROM stored WHERE slm_classify_embedding(e, classifier => 'stored') = label;
SELECT training_rows, n_labels, accuracy FROM slm_train_classifier('names', 'SELECT body FROM message', labels => ARRAY['late delivery', 'wrong invoice or charge', 'broken product']);
SELECT body, slm_classify(body, classifier => 'names') AS label FROM question;
-- rows without text or label are skipped and counted
INSERT INTO message (body, label) VALUES (NULL, 'fault'), ('no label', NULL), ('empty label', '');
SELECT training_rows FROM slm_train_classifier('skips', 'SELECT body, label FROM message');
-- figures are given where rows can be held out: equal texts are held out together, a label needs two different ones
CREATE VIEW first_of AS SELECT DISTINCT ON (label) body, label FROM message WHERE label <> '' ORDER BY label, id;
SELECT training_rows, accuracy FROM slm_train_classifier('few', 'SELECT body, label FROM first_of');
SELECT training_rows, accuracy FROM slm_train_classifier('copies', 'SELECT body, label FROM first_of, generate_series(1, 5)');
SELECT training_rows, accuracy FROM slm_train_classifier('three', 'SELECT m.body, f.label FROM message m, first_of f WHERE m.id <= 3');
SELECT training_rows, accuracy > 0.9 AS accurate FROM slm_train_classifier('rare',
    $$SELECT body, label FROM message WHERE label <> '' UNION ALL SELECT 'Do you hire?', 'jobs' ORDER BY 1$$);
SELECT slm_classify('Do you hire?', classifier => 'rare');
-- labels by lot: nothing can be learned, however often a row is there
SELECT training_rows, accuracy < 0.65 AS honest FROM slm_train_classifier('lot',
    $$SELECT body, CASE WHEN md5(body) < '8' THEN 'a' ELSE 'b' END FROM message, generate_series(1, 5) WHERE label <> '' ORDER BY md5(body)$$);
\x on
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT body, label FROM message WHERE false')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT body, ''one'' FROM message')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT body FROM message')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT id, label FROM message')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'DELETE FROM message RETURNING body, label')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT body, label FROM message; DROP TABLE message')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT FROM')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT body, label FROM message', model => 'smollm2')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT body, label FROM message', options => '{"speed": 1}')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT body, label FROM message', options => '{"activate": "perhaps"}')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT ARRAY[1, 2]::real[], label FROM message')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad', 'SELECT array_fill(''NaN''::real, ARRAY[384]), label FROM message WHERE label <> ''''')$$);
SELECT * FROM try($$SELECT slm_train_classifier('bad name', 'SELECT body, label FROM message')$$);
SELECT * FROM try($$SELECT slm_classify('x', classifier => 'nothing')$$);
SELECT * FROM try($$SELECT slm_classify('x', classifier => 'suport')$$);
SELECT * FROM try($$SELECT slm_drop_classifier('Stored')$$);
SELECT * FROM try($$SELECT slm_classify_embedding(ARRAY[1, 2]::real[], classifier => 'stored')$$);
SELECT * FROM try($$SELECT slm_classify_embedding(slm_embed('x'), classifier => 'ngrams')$$);
SELECT * FROM try($$SELECT slm_classify_embedding(array_fill('NaN'::real, ARRAY[384]), classifier => 'stored')$$);
SELECT * FROM try($$SELECT slm_restore_classifier('support', 99)$$);
SELECT * FROM try($$SELECT slm_drop_classifier('nothing')$$);
\x off
-- only the owner changes a classifier
CREATE ROLE slm_other;
SET ROLE slm_other;
SELECT state, message FROM try($$SELECT slm_drop_classifier('support')$$);
SELECT state, message FROM try($$SELECT slm_classify('x', classifier => 'support')$$);
RESET ROLE;
DROP ROLE slm_other;
SELECT slm_drop_classifier(name) FROM (SELECT DISTINCT name FROM slm.classifiers ORDER BY name) c;
SELECT count(*) FROM slm.classifiers;
DROP VIEW first_of, mistaken;
DROP TABLE message, question, stored;
SELECT slm_drop_model('minilm');
