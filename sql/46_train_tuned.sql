-- A classifier whose encoder is tuned to its labels (slm_train_classifier with finetune): it pays where a linear classifier on the embeddings as
-- they are cannot tell the labels, and is not kept where it brings nothing. Figures differ by instruction set, so only what holds everywhere is shown.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;
SELECT name FROM slm_load_model('minilm', :'minilm', '{"quantization": "Q8_0"}');
-- who does it, and to whom: the words are the same
CREATE TABLE things AS SELECT format('the %s %s the %s', a, v, b) AS t, a AS label, v AS verb
  FROM unnest(ARRAY['dog', 'cat', 'horse', 'sheep']) a, unnest(ARRAY['chased', 'saw', 'followed', 'met']) v, unnest(ARRAY['dog', 'cat', 'horse', 'sheep']) b WHERE a <> b;

-- it pays
SELECT version, training_rows, n_labels, accuracy = tuned_accuracy AS by_folds, tuned_accuracy > plain_accuracy AS better, active
  FROM slm_train_classifier('chaser', 'SELECT t, label FROM things', 'minilm', options => '{"finetune": {"epochs": 8, "rate": 0.002, "seed": 1}, "folds": 2}');
SELECT name, version, model, accuracy = tuned_accuracy AS by_folds, tuned_accuracy > plain_accuracy AS better, options -> 'finetune' ->> 'epochs' AS epochs FROM slm.classifiers;
SELECT name, version, active, base, training_rows, held_out_rows, loss_before, query FROM slm.finetunes;
SELECT avg((slm_classify(t, classifier => 'chaser') = label)::int) > 0.95 AS learned FROM things;
-- the adapter is the classifier's: it cannot be dropped before it
\x on
SELECT state, message FROM try($$SELECT slm_drop_adapter('chaser_1')$$);
\x off
-- another training has another adapter, and the first version stays what it is
SELECT version, active, previous_accuracy IS NULL AS seen_all, tuned_accuracy > plain_accuracy AS better
  FROM slm_train_classifier('chaser', 'SELECT t, label FROM things', 'minilm', options => '{"finetune": {"epochs": 6, "rate": 0.002, "seed": 2}, "folds": 2}');
SELECT version, active, model FROM slm.classifiers ORDER BY version;
SELECT slm_restore_classifier('chaser', 2);
SELECT avg((slm_classify(t, classifier => 'chaser') = label)::int) > 0.95 AS learned FROM things;
SELECT slm_restore_classifier('chaser', 1);
SELECT avg((slm_classify(t, classifier => 'chaser') = label)::int) > 0.95 AS learned FROM things;

-- it does not pay: the classifier stands on the model as it is, and nothing else is left
SET client_min_messages = notice;
\set VERBOSITY terse
SELECT version, accuracy, plain_accuracy, tuned_accuracy <= plain_accuracy AS no_better FROM slm_train_classifier('verbs', $$SELECT verb || ' ' || t, verb FROM things$$, 'minilm', options => '{"finetune": {"epochs": 1}, "folds": 2}');
\set VERBOSITY default
SELECT model FROM slm.classifiers WHERE name = 'verbs';
SELECT name FROM slm.adapters WHERE name LIKE 'verbs%';
-- what a teacher says
SET client_min_messages = warning;
SELECT version, plain_agreement, tuned_agreement <= plain_agreement AS no_better FROM slm_distill_classifier('told', $$SELECT verb || ' ' || t FROM things$$, $$split_part(input, ' ', 1)$$, model => 'minilm', options => '{"finetune": {"epochs": 1}, "folds": 2}');
SET client_min_messages = notice;
-- too few rows to say
SELECT version, plain_accuracy, tuned_accuracy FROM slm_train_classifier('few', $$VALUES ('a', 'x'), ('b', 'y')$$, 'minilm', options => '{"finetune": true}');

-- bad input
\x on
SELECT * FROM try($$SELECT slm_train_classifier('x', 'SELECT t, label FROM things', 'minilm', options => '{"finetune": 1}')$$);
SELECT * FROM try($$SELECT slm_train_classifier('x', 'SELECT t, label FROM things', 'minilm', options => '{"finetune": {"rat": 1}}')$$);
SELECT * FROM try($$SELECT slm_train_classifier('x', 'SELECT t, label FROM things', 'minilm', options => '{"finetune": {"validation": 0.1}}')$$);
SELECT * FROM try($$SELECT slm_train_classifier('x', 'SELECT t FROM things', 'minilm', ARRAY['yes', 'no'], '{"finetune": true}')$$);
SELECT * FROM try($$SELECT slm_train_classifier('x', 'SELECT slm_embed(t, ''minilm''), label FROM things', 'minilm', options => '{"finetune": true}')$$);
SELECT * FROM try($$SELECT slm_train_classifier('x', 'SELECT t, label FROM things', 'minilm+chaser_1', options => '{"finetune": true}')$$);
\x off
-- who may not fine-tune does not do it so
CREATE ROLE regress_tuner;
SELECT slm_grant_model('minilm', 'regress_tuner');
GRANT SELECT ON things TO regress_tuner;
GRANT EXECUTE ON FUNCTION slm_train_classifier TO regress_tuner;
SET ROLE regress_tuner;
SELECT state, message FROM try($$SELECT slm_train_classifier('x', 'SELECT t, label FROM things', 'minilm', options => '{"finetune": true}')$$);
SELECT state FROM try($$SELECT slm_train_classifier('theirs', 'SELECT t, label FROM things', 'minilm', options => '{"finetune": false}')$$);
RESET ROLE;
SET client_min_messages = warning;
SELECT slm_drop_model('minilm', cascade => true);
DROP OWNED BY regress_tuner;
DROP ROLE regress_tuner;
