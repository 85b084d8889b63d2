-- Choosing: rows whose label is probably wrong, rows to label next, a first look at labels.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('choose_minilm', :'minilm')).name;
SET slm.embed_model = 'choose_minilm';
CREATE SCHEMA ch;
SET search_path = ch, public;
CREATE TABLE message (id serial, body text, label text, e real[]);
INSERT INTO message (body, label)
SELECT format(t.pattern, w.word), t.label FROM (VALUES
    ('Where is my %s? It has not arrived.', 'delivery'), ('When will the %s be delivered?', 'delivery'), ('The courier lost my %s', 'delivery'),
    ('Tracking says the %s is still on its way', 'delivery'),
    ('I was charged twice for the %s', 'billing'), ('The invoice for my %s is wrong', 'billing'), ('Please send the receipt for the %s', 'billing'),
    ('Why did the price of the %s change on my bill?', 'billing'),
    ('The %s is broken', 'fault'), ('My %s does not switch on any more', 'fault'), ('There is a scratch on the %s', 'fault'), ('The %s makes a strange noise', 'fault')
) t(pattern, label), (VALUES ('lamp'), ('kettle'), ('phone'), ('chair'), ('radio'), ('bicycle')) w(word);
UPDATE message SET e = slm_embed(body);

-- ---- suspects: planted errors come first, as many as there are, and the label that they had is suggested
CREATE TABLE mixed AS SELECT id, body, e, label AS truth, CASE WHEN id NOT IN (5, 30, 48, 67) THEN label WHEN label = 'fault' THEN 'delivery' ELSE 'fault' END AS label FROM message;
SELECT count(*) FROM mixed WHERE label <> truth;
SELECT s.row_no, s.key, s.input, s.label, s.suggested, m.truth, probability < suggested_probability AS less, margin BETWEEN -1 AND 0 AS negative
    FROM slm_suspects('SELECT body, label, id FROM mixed ORDER BY id DESC') s JOIN mixed m ON m.id = s.key::int ORDER BY s.key::int;
SELECT array_agg(key::int ORDER BY key::int), bool_and(input IS NULL) AS no_text FROM slm_suspects('SELECT e, label, id FROM mixed ORDER BY id', n => 4);
SELECT count(*), bool_and(margin > 0) AS clean, bool_and(key IS NULL) AS no_key FROM slm_suspects('SELECT body, label FROM message', n => 100);
SELECT count(*) FROM slm_suspects('SELECT body, label FROM message');
-- with a classifier's model and n-grams; its query by hand
SELECT version FROM slm_train_classifier('choose', 'SELECT body, label FROM mixed', options => '{"ngrams": true}');
SELECT input, suggested FROM slm_suspects((SELECT query FROM slm.classifiers WHERE name = 'choose' AND active), 'choose') ORDER BY 1;
-- rows without text or label are passed over; a label of one text can be no suspect
SELECT row_no, label FROM slm_suspects($$SELECT NULL, 'x' UNION ALL SELECT body, label FROM mixed UNION ALL SELECT 'Do you hire?', 'jobs' UNION ALL SELECT 'x', NULL$$) ORDER BY 1;
\x on
SELECT * FROM try($$SELECT * FROM slm_suspects(NULL)$$);
SELECT * FROM try($$SELECT * FROM slm_suspects(NULL, 'cho''ose')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT body, label FROM message', n => 0)$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT body FROM message')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT body, label, id, id FROM message')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('DELETE FROM message RETURNING body, label')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT body, label FROM message; SELECT 1')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT body, ''one'' FROM message')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT body, label FROM message WHERE false')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT DISTINCT ON (label) body, label FROM message')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT e, label FROM message', 'choose')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT body, label FROM message', 'choose', 'choose_minilm')$$);
SELECT * FROM try($$SELECT * FROM slm_suspects('SELECT body, label FROM message', 'chose')$$);
\x off

-- ---- which rows to label next: without a classifier what is typical, with one what it is unsure of; equal rows only once
SELECT m.label, count(*) FROM slm_label_next(NULL, 'SELECT body, id FROM message ORDER BY id', 9) n JOIN message m ON m.id = n.key::int GROUP BY 1 ORDER BY 1;
SELECT count(*), count(DISTINCT row_no) AS rows, count(DISTINCT input) AS texts, bool_and(key IS NULL AND label IS NULL AND probability IS NULL AND margin IS NULL) AS unjudged
    FROM slm_label_next(NULL, 'SELECT body FROM message, generate_series(1, 3) ORDER BY id');
SELECT count(*) FROM slm_label_next(NULL, 'SELECT ''the same'' FROM generate_series(1, 5)');
SELECT count(*) FROM slm_label_next(NULL, 'SELECT body FROM message WHERE false');
SELECT version FROM slm_train_classifier('choose2', 'SELECT body, label FROM message WHERE label <> ''fault''');
SELECT m.label, count(*), bool_and(n.label IN ('billing', 'delivery') AND probability >= margin AND margin >= 0) AS judged
    FROM slm_label_next('choose2', 'SELECT e, id FROM message ORDER BY id', 4) n JOIN message m ON m.id = n.key::int GROUP BY 1 ORDER BY 1;
SELECT array_agg(margin) = array_agg(margin ORDER BY margin) AS least_sure_first FROM slm_label_next('choose2', 'SELECT body FROM message ORDER BY id', 20);
\x on
SELECT * FROM try($$SELECT * FROM slm_label_next(NULL, NULL)$$);
SELECT * FROM try($$SELECT * FROM slm_label_next(NULL, 'SELECT body FROM message', 0)$$);
SELECT * FROM try($$SELECT * FROM slm_label_next(NULL, 'SELECT body, label, id FROM message')$$);
SELECT * FROM try($$SELECT * FROM slm_label_next(NULL, 'DELETE FROM message RETURNING body')$$);
SELECT * FROM try($$SELECT * FROM slm_label_next('choose', 'SELECT e FROM message')$$);
SELECT * FROM try($$SELECT * FROM slm_label_next('choose2', 'SELECT body FROM message', model => 'choose_minilm')$$);
SELECT * FROM try($$SELECT * FROM slm_label_next('chose', 'SELECT body FROM message')$$);
\x off

-- ---- a first look: rows, and what is to be said of rows and labels
SELECT row_no, left(input, 45) AS input, label, probability BETWEEN 0 AND 1 AS p, runner_up, hint FROM slm_try($$SELECT * FROM (VALUES ('Where is my parcel?', 1), ('The courier lost my parcel', 2),
    ('When should I expect my card?', 3), ('I have lost my card', 4), ('Someone else is using my card, freeze it.', 5), ('Where is my card?', 6), ('My daughter would like a card as well', 7), ('Mein Paket ist noch nicht angekommen, wo bleibt es denn?', 8),
    (repeat('parcel ', 300), 9), ('When should I expect my card?', 10), ('', 11), (NULL, 12)) t (body, id) ORDER BY id$$, ARRAY['parcel', 'lost card', 'stolen card', 'holiday']);
SELECT row_no, label, hint FROM slm_try('SELECT body FROM message WHERE label = ''billing'' ORDER BY id', ARRAY['bill', 'weather'], 10) WHERE hint <> '' OR row_no = 10;
SELECT count(*), count(DISTINCT label) FROM slm_try('SELECT body, label FROM message ORDER BY id', descriptions => '{"billing": "invoices and money", "delivery": "where a parcel is"}') WHERE row_no IS NOT NULL;
SELECT count(*) FROM slm_try('SELECT body FROM message ORDER BY id;', n => 5, classifier => 'choose') WHERE row_no IS NOT NULL;
\x on
SELECT * FROM try($$SELECT * FROM slm_try(NULL, ARRAY['a', 'b'])$$);
SELECT * FROM try($$SELECT * FROM slm_try('SELECT body FROM message')$$);
SELECT * FROM try($$SELECT * FROM slm_try('SELECT body FROM message WHERE false', ARRAY['a', 'b'])$$);
SELECT * FROM try($$SELECT * FROM slm_try('SELECT body FROM message', ARRAY['a', 'b'], 0)$$);
SELECT * FROM try($$SELECT * FROM slm_try('DELETE FROM message RETURNING body', ARRAY['a', 'b'])$$);
SELECT * FROM try($$SELECT * FROM slm_try('SELECT body FROM message) q; SELECT (1', ARRAY['a', 'b'])$$);
SELECT * FROM try($$SELECT * FROM slm_try('SELECT body FROM message', ARRAY['a', 'a'])$$);
\x off
SELECT slm_drop_classifier('choose'), slm_drop_classifier('choose2');
DROP SCHEMA ch CASCADE;
SELECT slm_drop_model('choose_minilm');
