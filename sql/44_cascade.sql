-- Cascades: a cheap step first, thresholds that hold a target, bound to models and versions.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('cascade_minilm', :'minilm')).name;
SET slm.embed_model = 'cascade_minilm';
CREATE SCHEMA cs;
SET search_path = cs, public;
CREATE TABLE message (id serial, body text, label text, e real[]);
INSERT INTO message (body, label)
SELECT format(t.pattern, w.word), t.label FROM (VALUES
    ('Where is my %s? It has not arrived.', 'delivery'), ('When will the %s be delivered?', 'delivery'), ('The courier lost my %s', 'delivery'),
    ('Tracking says the %s is still on its way', 'delivery'),
    ('I was charged twice for the %s', 'billing'), ('The invoice for my %s is wrong', 'billing'), ('Please send the receipt for the %s', 'billing'),
    ('Why did the price of the %s change on my bill?', 'billing'),
    ('The %s is broken', 'fault'), ('My %s does not switch on any more', 'fault'), ('There is a scratch on the %s', 'fault'), ('The %s makes a strange noise', 'fault')
) t(pattern, label), (VALUES ('lamp'), ('kettle'), ('phone'), ('chair'), ('radio'), ('bicycle'), ('table'), ('clock'), ('oven'), ('bed')) w(word);
UPDATE message SET e = slm_embed(body);
SELECT version FROM slm_train_classifier('cheap', 'SELECT e, label FROM message WHERE id % 4 = 0 ORDER BY id');
SELECT version FROM slm_train_classifier('dear', 'SELECT body, label FROM message ORDER BY id', options => '{"ngrams": true}');
\set steps '[{"classifier": "cheap"}, {"classifier": "dear"}]'

-- ---- what is learned: too few rows answer nothing early, more do
SET client_min_messages = notice;
SELECT rows, thresholds, shares, measured, bound FROM slm_create_cascade('few', :'steps', 'SELECT body FROM message WHERE id < 40 ORDER BY id', audit => 0);
RESET client_min_messages;
SET client_min_messages = warning;
SELECT rows, thresholds[1] BETWEEN 0.2 AND 1 AS threshold, shares[1] > 0.9 AND round((shares[1] + shares[2])::numeric, 6) = 1 AS shares, measured >= 0.95 AS measured, bound >= 0.9 AS bound, speedup > 0 AS speedup
    FROM slm_create_cascade('two', :'steps', 'SELECT body FROM message ORDER BY id;', target => 0.9, audit => 0);
-- of 120 rows without an error, Clopper and Pearson allow 1 - 0.01 ^ (1 / 120)
SELECT round(bound::numeric, 6) AS bound, round(power(0.01, 1 / 120.0), 6) AS by_hand FROM slm.cascades WHERE name = 'two' AND measured = 1;
SELECT slm_classify('The parcel never came', cascade => 'two'), slm_classify(NULL::text, cascade => 'two') IS NULL AS none, slm_classify('qwertz', cascade => 'two', threshold => 1) IS NULL AS unsure;
SELECT label, probability > 0.5 AS likely, runner_up IS NOT NULL AS other, error FROM slm_classify_details('The parcel never came', cascade => 'two');
SELECT count(*), round(sum(probability)::numeric, 4) FROM slm_classify_scores('The parcel never came', cascade => 'two');
CREATE TYPE topic AS ENUM ('billing', 'delivery', 'fault');
SELECT slm_classify_enum('The parcel never came', NULL::topic, cascade => 'two');
-- every text goes up where no early step is good enough
SELECT count(*) FROM message WHERE slm_classify(body, cascade => 'few') IS DISTINCT FROM slm_classify(body, classifier => 'dear');
-- in batches, row by row, and with stored embeddings: the same
CREATE TABLE answer AS SELECT id, slm_classify(body, cascade => 'two') AS label FROM message;
EXPLAIN (COSTS OFF) SELECT slm_classify(body, cascade => 'two') FROM message;
SET slm.enable_batch = off;
SELECT count(*) FROM message m JOIN answer a USING (id) WHERE a.label IS DISTINCT FROM slm_classify(m.body, cascade => 'two') AND id % 3 = 0;
RESET slm.enable_batch;
SELECT count(*) FROM message m JOIN answer a USING (id) WHERE a.label IS DISTINCT FROM slm_classify(m.body, cascade => 'two', embedding => m.e);
-- three steps, labels by name among them; precision by labels
SELECT rows, array_length(thresholds, 1), array_length(shares, 1) FROM slm_create_cascade('three', '[{"classifier": "cheap"}, {"descriptions": {"billing": "invoices and money", "delivery": "where a parcel is", "fault": "it is broken"}},
    {"labels": ["billing", "delivery", "fault"], "model": "cascade_minilm", "method": "embedding"}]', 'SELECT body FROM message ORDER BY id', target => 0.8);
SELECT rows, thresholds[1] <= 1 AS answers, measured >= 0.9 AS measured FROM slm_create_cascade('right', :'steps', 'SELECT body, label FROM message ORDER BY id', target => 0.85, measure => 'precision');
SELECT name, measure, target, audit, roles, query FROM slm.cascades ORDER BY name;
-- all that is answered early is audited: the last step answers, and says so when it says something else
SELECT version FROM slm_train_classifier('other', 'SELECT e, CASE label WHEN ''fault'' THEN ''billing'' WHEN ''billing'' THEN ''fault'' ELSE label END FROM message ORDER BY id');
SELECT shares[1] > 0.9 AS early FROM slm_create_cascade('audited', '[{"classifier": "cheap"}, {"classifier": "other"}]', 'SELECT body FROM message WHERE label = ''delivery'' ORDER BY id', target => 0.85, audit => 1);
SELECT count(slm_classify(body, cascade => 'audited')) FROM message WHERE label = 'delivery';
SELECT count(*), bool_and(slm_classify(body, cascade => 'audited') = slm_classify(body, classifier => 'other')) AS last_step FROM message;

-- ---- the embedding of a text that is stored already
SELECT count(*) FROM message WHERE slm_classify(body, classifier => 'cheap', embedding => e) IS DISTINCT FROM slm_classify(body, classifier => 'cheap');
SELECT count(*) FROM message WHERE slm_classify(body, ARRAY['billing', 'delivery', 'fault'], embedding => e) IS DISTINCT FROM slm_classify(body, ARRAY['billing', 'delivery', 'fault']);
SELECT count(*) FROM message WHERE slm_classify(body, classifier => 'dear', embedding => e) IS DISTINCT FROM slm_classify(body, classifier => 'dear');
SELECT slm_classify('The parcel never came', ARRAY['billing', 'delivery'], embedding => NULL);
SELECT slm_classify('whatever the text is', ARRAY['billing', 'delivery'], embedding => slm_embed('Where is my parcel?'));

-- ---- whether a condition fits
SELECT version FROM slm_train_classifier('broken', 'SELECT e, slm_filter(''something is broken'', body, threshold => 0.5) FROM message WHERE id % 2 = 0 ORDER BY id', options => '{"activate": "always"}');
SELECT rows, thresholds[1] <= 1 AS answers, shares[1] > 0.5 AS early, measured >= 0.9 AS measured, bound >= 0.8 AS bound, speedup > 0 AS speedup
    FROM slm_create_cascade('is_broken', '[{"classifier": "broken"}, {"condition": "something is broken", "model": "cascade_minilm"}]', 'SELECT body FROM message ORDER BY id', target => 0.8, audit => 0);
CREATE TABLE fits AS SELECT id, slm_filter('something is broken', body, cascade => 'is_broken') AS fits FROM message;
EXPLAIN (COSTS OFF) SELECT id FROM message WHERE slm_filter('something is broken', body, cascade => 'is_broken', embedding => e);
SELECT count(*) AS other FROM fits JOIN message USING (id) WHERE fits IS DISTINCT FROM slm_filter('something is broken', body, cascade => 'is_broken', embedding => e);
SET slm.enable_batch = off;
SELECT count(*) AS other FROM fits JOIN message USING (id) WHERE id % 4 = 0 AND fits IS DISTINCT FROM slm_filter('something is broken', body, cascade => 'is_broken');
RESET slm.enable_batch;
SELECT avg((fits = slm_filter('something is broken', body, threshold => 0.5))::int) >= 0.9 AS agrees, count(*) FILTER (WHERE fits) > 0 AS some FROM fits JOIN message USING (id);
SELECT d.value, d.probability > 0.5 AS likely, d.error FROM slm_filter_details('something is broken', 'The kettle is broken', cascade => 'is_broken') d;
SELECT slm_filter('something is broken', NULL, cascade => 'is_broken') IS NULL AS no_text, slm_filter(NULL, 'x', cascade => 'is_broken') IS NULL AS no_condition,
    slm_filter('something is broken', 'qwertz', cascade => 'is_broken', threshold => 1) IS NULL AS unsure, slm_classify('The kettle is broken', cascade => 'is_broken');
-- answers that are there already are not asked for again: the same thresholds
CREATE TYPE said AS (label text, probability float8);
CREATE TABLE have AS SELECT id, body, (SELECT ROW(d.label, d.probability)::said FROM slm_classify_details(body, classifier => 'broken', embedding => e) d) AS first, slm_filter('something is broken', body, threshold => 0.5) AS last FROM message;
SELECT n.thresholds = o.thresholds AS thresholds, n.shares = o.shares AS shares, n.bound = o.bound AS bound, n.speedup FROM slm.cascades o,
    slm_create_cascade('is_broken_stored', '[{"classifier": "broken"}, {"condition": "something is broken", "model": "cascade_minilm"}]', 'SELECT * FROM (SELECT body, first, last FROM have ORDER BY id) s', target => 0.8, audit => 0, answers => '{first,last}') n
    WHERE o.name = 'is_broken';
SELECT n.bound = o.bound AS last_only FROM slm.cascades o,
    slm_create_cascade('is_broken_stored', '[{"classifier": "broken"}, {"condition": "something is broken", "model": "cascade_minilm"}]', 'SELECT body, last FROM have ORDER BY id', target => 0.8, audit => 0, answers => '{NULL,last}') n
    WHERE o.name = 'is_broken';
SELECT count(*) AS stored_embedding FROM message WHERE slm_filter('something is broken', body, embedding => e) IS DISTINCT FROM slm_filter('something is broken', body);
SELECT accuracy, round(ece::numeric, 2) AS ece FROM slm_evaluate('SELECT body, last FROM have', 'slm_filter_details(''something is broken'', body, threshold => 0.5)');

-- ---- what is refused
\x on
SELECT * FROM try($$SELECT slm_filter('a parcel is lost', 'x', cascade => 'is_broken')$$);
SELECT * FROM try($$SELECT slm_filter('a parcel is lost', 'x', cascade => 'two')$$);
SELECT * FROM try($$SELECT slm_filter('something is broken', 'x', model => 'cascade_minilm', cascade => 'is_broken')$$);
SELECT * FROM try($$SELECT slm_filter('something is broken', 'x', method => 'embedding', cascade => 'is_broken')$$);
SELECT * FROM try($$SELECT slm_filter('something is broken', 'x', embedding => '{1,2}')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "broken"}, {"condition": ""}]', 'SELECT body FROM message')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "broken"}, {"condition": "x", "labels": ["a", "b"]}]', 'SELECT body FROM message')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "broken"}, {"condition": "x"}]', 'SELECT body FROM message', answers => '{last}')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "broken"}, {"condition": "x"}]', 'SELECT body FROM message', answers => '{NULL,last}')$$);
SELECT * FROM try($$SELECT slm_classify('x', cascade => 'tow')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], cascade => 'two')$$);
SELECT * FROM try($$SELECT slm_classify('x', classifier => 'cheap', cascade => 'two')$$);
SELECT * FROM try($$SELECT slm_classify('x', classifier => 'cheap', embedding => '{1,2}')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], embedding => array_fill('NaN'::real, ARRAY[384]))$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], embedding => array_fill(NULL::real, ARRAY[384]))$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}]', 'SELECT body FROM message')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"labels": []}]', 'SELECT body FROM message')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"classifier": "dear", "labels": ["a"]}]', 'SELECT body FROM message')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"speed": "high"}]', 'SELECT body FROM message')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"classifier": "nothing"}]', 'SELECT body FROM message')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"classifier": "dear"}]', 'DELETE FROM message RETURNING body')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"classifier": "dear"}]', 'SELECT body FROM message', measure => 'precision')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"classifier": "dear"}]', 'SELECT body FROM message', target => 1)$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"classifier": "dear"}]', 'SELECT body FROM message', measure => 'recall')$$);
SELECT * FROM try($$SELECT slm_create_cascade('bad', '[{"classifier": "cheap"}, {"classifier": "dear"}]', 'SELECT NULL::text')$$);
-- another version of a step's classifier: its thresholds say nothing of it
SELECT version, active FROM slm_train_classifier('cheap', 'SELECT e, label FROM message WHERE id % 3 = 0 ORDER BY id', options => '{"activate": "always"}');
SELECT * FROM try($$SELECT slm_classify('x', cascade => 'two')$$);
SELECT c.rows, c.shares[1] > 0.9 AS early FROM slm.cascades o, slm_create_cascade(o.name, o.steps, o.query, o.target, o.measure, o.failure, o.audit) c WHERE o.name = 'two' AND o.owner = current_user::regrole;
SELECT * FROM try($$SELECT slm_classify('The parcel never came', cascade => 'two')$$);
-- owner, grants: a cascade lends nobody a classifier or a model
CREATE ROLE slm_cascade_user;
GRANT USAGE ON SCHEMA cs TO slm_cascade_user;
SET ROLE slm_cascade_user;
SELECT state, message, hint FROM try($$SELECT slm_classify('x', cascade => 'two')$$);
SELECT state, message FROM try($$SELECT slm_drop_cascade('two')$$);
SELECT state, message FROM try($$SELECT slm_create_cascade('two', '[{"classifier": "cheap"}, {"classifier": "dear"}]', 'SELECT ''x''')$$);
SELECT state, message FROM try($$SELECT * FROM slm.cascade_registry$$);
SELECT count(*) FROM slm.cascades;
RESET ROLE;
SELECT slm_grant_cascade('two', 'slm_cascade_user');
SET ROLE slm_cascade_user;
SELECT state, message FROM try($$SELECT slm_classify('x', cascade => 'two')$$);
SELECT name, roles, query FROM slm.cascades;
RESET ROLE;
SELECT slm_grant_classifier('cheap', 'slm_cascade_user'), slm_grant_classifier('dear', 'slm_cascade_user'), slm_grant_model('cascade_minilm', 'slm_cascade_user');
SET ROLE slm_cascade_user;
SELECT slm_classify('The parcel never came', cascade => 'two');
RESET ROLE;
SELECT slm_revoke_cascade('two', 'slm_cascade_user');
SET ROLE slm_cascade_user;
SELECT state, message FROM try($$SELECT slm_classify('x', cascade => 'two')$$);
RESET ROLE;
-- what a cascade uses is not pulled away from under it, by its name or by its image
SELECT * FROM try($$SELECT slm_drop_classifier('other')$$);
SELECT * FROM try($$SELECT slm_rename_classifier('other', 'another')$$);
SELECT * FROM try($$SELECT slm_drop_model('cascade_minilm')$$);
SELECT state, message, detail FROM try($$SELECT slm_rename_model('cascade_minilm', 'another')$$);
\x off
SELECT slm_drop_cascade(name) FROM (SELECT name FROM slm.cascades ORDER BY name) c;
SELECT slm_revoke_model('cascade_minilm', 'slm_cascade_user');
DROP SCHEMA cs CASCADE;
SELECT slm_drop_classifier(name) FROM (SELECT DISTINCT name FROM slm.classifiers ORDER BY name) c;
DROP ROLE slm_cascade_user;
SELECT slm_drop_model('cascade_minilm');
