-- Probabilities that are right as often as they say: learned from rows, measured on others, bound to a model's image.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;
SELECT (slm_load_model('calibrate_minilm', :'minilm')).name;
SET slm.classify_model = 'calibrate_minilm';
SET slm.embed_model = 'calibrate_minilm';
CREATE SCHEMA cal;
SET search_path = cal, public;
-- messages of three kinds; every fourth has the label of another one, so that nobody can be right in more than three of four
CREATE TABLE message AS
SELECT row_number() OVER () AS id, format(t, n, m) AS body, CASE WHEN row_number() OVER () % 4 = 0 THEN (ARRAY['billing', 'delivery', 'fault'])[1 + (k % 3)] ELSE label END AS label, label AS truth
FROM (VALUES (1, 'billing', 'My invoice %s has a wrong amount of %s euros'), (1, 'billing', 'I was charged twice for order %s, %s euros'), (2, 'delivery', 'Where is my parcel %s? It is %s days late'),
    (2, 'delivery', 'The courier never brought order %s from depot %s'), (3, 'fault', 'The machine %s stops with error %s'), (3, 'fault', 'Part %s of it is broken since day %s')) t(k, label, t),
    generate_series(1, 4) n, generate_series(5, 9) m;
CREATE VIEW raw AS SELECT id, (slm_classify_details(body, ARRAY['billing', 'delivery', 'fault'])).* FROM message;
CREATE TABLE before AS SELECT * FROM raw;
SELECT version, options, rows, round(accuracy::numeric, 2) AS accuracy, temperature > 1 AS too_sure, ece_after < ece_before AS better, log_loss_after < log_loss_before AS likelier
FROM slm_calibrate('calibrate_minilm', 'SELECT body, label FROM message ORDER BY id', labels => ARRAY['billing', 'delivery', 'fault']);
-- the answers stay, they are less sure; every form of the call has it, and only such with three labels
SELECT count(*), bool_and(r.label = b.label) AS same, bool_and(r.probability < b.probability) AS less_sure FROM raw r JOIN before b USING (id);
SELECT round(sum(probability)::numeric, 9) AS sum, max(probability) = (SELECT probability FROM raw WHERE id = 1) AS alike FROM slm_classify_scores((SELECT body FROM message WHERE id = 1), ARRAY['billing', 'delivery', 'fault']);
SELECT (slm_classify_scores_json(body, ARRAY['billing', 'delivery', 'fault']) ->> label)::float8 = probability AS alike FROM message JOIN raw USING (id, label) WHERE id = 1;
SELECT slm_classify(body, ARRAY['billing', 'delivery', 'fault'], threshold => 0.9) IS NULL AS unsure FROM message WHERE id = 1;
-- against the formula, and with the labels in another order
SET slm.enable_calibration = off;
CREATE TABLE unscaled AS SELECT id, slm_classify_scores_json(body, ARRAY['billing', 'delivery', 'fault']) AS s FROM message;
SELECT count(*) FROM raw r JOIN before b USING (id) WHERE r.probability <> b.probability;
RESET slm.enable_calibration;
SELECT bool_and(abs(r.probability - power(b.probability, 1 / c.temperature) / (SELECT sum(power(x.value::float8, 1 / c.temperature)) FROM unscaled u, jsonb_each_text(u.s) x WHERE u.id = r.id)) < 1e-9) AS by_formula
FROM raw r JOIN before b USING (id), slm.calibrations c;
SELECT bool_and((slm_classify_details(body, ARRAY['fault', 'billing', 'delivery'])).label = r.label) AS same FROM message JOIN raw r USING (id);
CREATE TABLE two AS SELECT (slm_classify_details(body, ARRAY['billing', 'delivery'])).probability FROM message WHERE id = 1;
SET slm.enable_calibration = off;
SELECT (slm_classify_details(body, ARRAY['billing', 'delivery'])).probability = two.probability AS untouched FROM message, two WHERE id = 1;
RESET slm.enable_calibration;
-- what slm_evaluate measures on the same rows is what it says, nearly: it was measured on held-out ones
SELECT abs(e.ece - c.ece_after) < 0.05 AS as_measured FROM slm_evaluate('SELECT body, label FROM message ORDER BY id', 'slm_classify_details(body, ARRAY[''billing'', ''delivery'', ''fault''])') e, slm.calibrations c;
-- ---- versions: the newest counts, dropping it brings back the one before
SELECT version FROM slm_calibrate('calibrate_minilm', 'SELECT body, label FROM message WHERE id <= 60 ORDER BY id', labels => ARRAY['billing', 'delivery', 'fault']);
SELECT model, kind, method, options, version, applied, scaling, rows, query FROM slm.calibrations ORDER BY version;
SELECT slm_drop_calibration('calibrate_minilm', 2);
SELECT version, applied FROM slm.calibrations ORDER BY version;
-- a new version in a transaction that is rolled back leaves nothing
BEGIN;
SELECT version FROM slm_calibrate('calibrate_minilm', 'SELECT body, label FROM message WHERE id <= 60 ORDER BY id', labels => ARRAY['billing', 'delivery', 'fault']);
SELECT count(*) FROM raw r JOIN before b USING (id) WHERE r.probability = b.probability;
ROLLBACK;
SELECT version, applied FROM slm.calibrations ORDER BY version;
-- ---- conditions: slm_filter, and yes or no in slm_decide; with 500 rows a rising line may be better
CREATE TABLE holds AS SELECT m.id * 10 + c.n AS id, body, c.condition, m.truth = c.label AS holds FROM message m, (VALUES (1, 'billing', 'is about money'), (2, 'delivery', 'asks where a parcel is'), (3, 'fault', 'reports something broken'),
    (4, 'billing', 'is about an invoice'), (5, 'delivery', 'is about a shipment')) c(n, label, condition);
CREATE TABLE held AS SELECT id, (slm_filter_details(condition, body)).* FROM holds;
SELECT version, options, rows, temperature IS NULL AS line, ece_after < ece_before AS better FROM slm_calibrate('calibrate_minilm', 'SELECT body, condition, holds FROM holds ORDER BY id', kind => 'filter');
SELECT count(*) FILTER (WHERE f.probability <> h.probability) > 500 AS changed, bool_and(f.probability BETWEEN 0 AND 1) AS shares,
    avg((f.probability - h2.holds::int) ^ 2) < avg((h.probability - h2.holds::int) ^ 2) AS better
FROM (SELECT id, (slm_filter_details(condition, body)).* FROM holds) f JOIN held h USING (id) JOIN holds h2 USING (id);
SELECT (slm_decide(body, jsonb_build_object('q', jsonb_build_object('type', 'yes_no', 'question', condition))) -> 'q' ->> 'probability')::float8 = (slm_filter_details(condition, body)).probability AS one_question FROM holds WHERE id = 11;
-- ---- choices of slm_decide
CREATE TABLE asked AS SELECT id, body, '{"type": "choice", "question": "what is it about?", "choices": ["billing", "delivery", "fault"]}'::jsonb AS question, label AS answer FROM message;
CREATE TABLE decided AS SELECT id, slm_decide(body, jsonb_build_object('q', question)) -> 'q' AS a FROM asked;
SELECT version, options, rows, temperature > 1 AS too_sure, ece_after < ece_before AS better FROM slm_calibrate('calibrate_minilm', 'SELECT body, question, answer FROM asked ORDER BY id', kind => 'decide');
SELECT bool_and(d.a ->> 'choice' = n.a ->> 'choice') AS same, bool_and((d.a ->> 'confidence')::float8 > (n.a ->> 'confidence')::float8) AS less_sure
FROM decided d JOIN (SELECT id, slm_decide(body, jsonb_build_object('q', question)) -> 'q' AS a FROM asked) n USING (id);
SELECT kind, method, options, applied FROM slm.calibrations ORDER BY kind;
-- ---- a cascade learns without, and goes on as it learned
SELECT version FROM slm_train_classifier('calibrate_dear', 'SELECT body, truth FROM message ORDER BY id');
SELECT rows FROM slm_create_cascade('calibrate_two', '[{"labels": ["billing", "delivery", "fault"]}, {"classifier": "calibrate_dear"}]', 'SELECT body FROM message ORDER BY id', target => 0.9, audit => 0);
CREATE TABLE with_calibration AS SELECT id, slm_classify(body, cascade => 'calibrate_two') AS label FROM message;
SELECT slm_drop_calibration('calibrate_minilm', version) FROM (SELECT version FROM slm.calibrations WHERE kind = 'classify') c;
SELECT count(*) FROM with_calibration w JOIN message m USING (id) WHERE w.label IS DISTINCT FROM slm_classify(m.body, cascade => 'calibrate_two');
-- ---- bound to the image: a model of the same name from another file has none; renamed, it keeps them; dropped, they go
SELECT slm_drop_cascade('calibrate_two');
SELECT slm_drop_classifier('calibrate_dear');
SELECT slm_rename_model('calibrate_minilm', 'calibrate_renamed');
SELECT model, kind, applied FROM slm.calibrations ORDER BY kind;
SELECT (slm_filter_details(condition, body, model => 'calibrate_renamed')).probability <> h.probability AS applied FROM holds JOIN held h USING (id) WHERE id = 11;
UPDATE slm.calibration_registry SET image = repeat('0', 64);
SELECT model, kind, applied FROM slm.calibrations ORDER BY kind;
SELECT (slm_filter_details(condition, body, model => 'calibrate_renamed')).probability = h.probability AS as_it_was FROM holds JOIN held h USING (id) WHERE id = 11;
-- rows that a hostile dump brings are passed over
UPDATE slm.calibration_registry SET image = (SELECT image FROM slm.model_registry WHERE name = 'calibrate_renamed');
UPDATE slm.calibration_registry SET temperature = 'NaN', points_from = NULL, points_to = NULL WHERE kind = 'filter';
SELECT (slm_filter_details(condition, body, model => 'calibrate_renamed')).probability = h.probability AS as_it_was FROM holds JOIN held h USING (id) WHERE id = 11;
UPDATE slm.calibration_registry SET temperature = NULL, points_from = '{0.5,0.1}', points_to = '{0,1}' WHERE kind = 'filter';
SELECT (slm_filter_details(condition, body, model => 'calibrate_renamed')).probability = h.probability AS as_it_was FROM holds JOIN held h USING (id) WHERE id = 11;
UPDATE slm.calibration_registry SET points_from = '{0.1}', points_to = '{0,1}' WHERE kind = 'filter';
SELECT (slm_filter_details(condition, body, model => 'calibrate_renamed')).probability = h.probability AS as_it_was FROM holds JOIN held h USING (id) WHERE id = 11;
-- ---- the model's owner calibrates; who may use it gets it
CREATE ROLE calibrate_user;
GRANT USAGE ON SCHEMA cal TO calibrate_user;
GRANT SELECT ON ALL TABLES IN SCHEMA cal TO calibrate_user;
SET ROLE calibrate_user;
SELECT count(*) FROM slm.calibrations;
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, label FROM message', labels => '{billing,delivery,fault}')$$);
RESET ROLE;
SELECT slm_grant_model('calibrate_renamed', 'calibrate_user');
SET ROLE calibrate_user;
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, label FROM message', labels => '{billing,delivery,fault}')$$);
SELECT * FROM try($$SELECT slm_drop_calibration('calibrate_renamed')$$);
SELECT kind, query FROM slm.calibrations WHERE kind = 'decide';
SELECT state FROM try($$SELECT * FROM slm.calibration_registry$$);
SELECT (slm_decide(body, jsonb_build_object('q', question), model => 'calibrate_renamed') -> 'q' ->> 'confidence')::float8 < (a ->> 'confidence')::float8 AS has_it FROM asked JOIN decided USING (id) WHERE id = 1;
RESET ROLE;
-- ---- errors
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, label FROM message')$$);
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, label FROM message', kind => 'rank')$$);
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, label FROM message', kind => 'filter')$$);
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, ''x'', label FROM message', kind => 'filter')$$);
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, ''{"type": "yes_no", "question": "x"}'', label FROM message', kind => 'decide')$$);
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, label FROM message WHERE id < 20', labels => '{billing,delivery,fault}')$$);
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, label FROM message', labels => '{a,b}')$$);
SELECT * FROM try($$SELECT slm_calibrate('calibrate_renamed', 'SELECT body, label FROM message', labels => '{a,b}', method => 'direct')$$);
SELECT state, message, hint FROM try($$SELECT slm_calibrate('calibrate_renamed', 'DELETE FROM message RETURNING body, label', labels => '{a,b}')$$);
SELECT * FROM try($$SELECT slm_calibrate('nothing', 'SELECT body, label FROM message', labels => '{a,b}')$$);
SELECT * FROM try($$SELECT slm_drop_calibration('calibrate_renamed', 77)$$);
-- what cannot be made better stays as it is: answers that are right as often as they say
SET client_min_messages = notice;
\set VERBOSITY terse
SELECT version, ece_before = ece_after AS as_it_was FROM slm_calibrate('calibrate_renamed', 'SELECT ''same text'', (ARRAY[''billing'', ''billing''])[1 + i % 2] FROM generate_series(1, 60) i', descriptions => '{"billing": "same text", "zzzz": "qqqq wwww"}');
SET client_min_messages = warning;
SELECT slm_drop_model('calibrate_renamed');
SELECT count(*) FROM slm.calibration_registry;
DROP SCHEMA cal CASCADE;
DROP OWNED BY calibrate_user;
DROP ROLE calibrate_user;
