-- Searching and sorting out: duplicates, topics, matches.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('search_minilm', :'minilm')).name;
SET slm.embed_model = 'search_minilm';
CREATE SCHEMA se;
SET search_path = se, public;
CREATE TABLE note (id int PRIMARY KEY, body text, e real[]);
INSERT INTO note (id, body) VALUES
    (1, 'How do I get my money back?'), (2, 'Where is my parcel?'), (3, 'How can I get my money back'), (4, 'I cannot log in'), (5, 'Where is my parcel'),
    (6, 'How do I get my money back?'), (7, NULL), (8, 'The invoice shows the wrong amount'), (9, 'Logging in does not work for me'), (10, 'The amount on the invoice is wrong');
UPDATE note SET e = slm_embed(body);

-- ---- duplicates: of the first of its kind, the nearest one; texts or stored embeddings, with or without a key
SELECT row_no, key, input, of_row_no, of_key, of_input, round(similarity::numeric, 3) FROM slm_duplicates('SELECT body, id FROM note ORDER BY id');
SELECT row_no, key, input, of_key FROM slm_duplicates('SELECT e, body, id FROM note ORDER BY id', 0.6);
SELECT row_no, key, input, of_key FROM slm_duplicates('SELECT e, id FROM note ORDER BY id', 1);
-- without them one row of each kind is left; the order of the query decides which
SELECT count(*) FROM slm_duplicates('SELECT body, id FROM note WHERE id NOT IN (SELECT key::int FROM slm_duplicates(''SELECT body, id FROM note ORDER BY id''))');
SELECT array_agg(of_key::int ORDER BY of_key) FROM slm_duplicates('SELECT body, id FROM note ORDER BY id DESC');
-- more rows than are compared at a time: every one in a group of its own
SELECT count(*), count(DISTINCT of_row_no), bool_and(row_no > of_row_no), bool_and(similarity >= 0.999) FROM slm_duplicates(
    'SELECT ARRAY(SELECT CASE WHEN d = n % 200 THEN 1 + n * 1e-6 ELSE 1e-3 END::real FROM generate_series(0, 383) d) FROM generate_series(0, 999) n', 0.999);
SELECT count(*) FROM slm_duplicates('SELECT body FROM note WHERE false');

-- ---- topics
CREATE TABLE message AS
SELECT row_number() OVER () AS id, format(t.pattern, w.word) AS body, t.label FROM (VALUES
    ('Where is my %s? The parcel has not arrived.', 'delivery'), ('When will the parcel with the %s be delivered?', 'delivery'), ('The courier lost the parcel with my %s', 'delivery'),
    ('I was charged twice for the %s, the invoice is wrong', 'billing'), ('The invoice for my %s is wrong', 'billing'), ('Please send the invoice for the %s again', 'billing'),
    ('I forgot the password for the %s', 'login'), ('The password of my %s account does not work', 'login'), ('How do I change the password for the %s?', 'login')
) t(pattern, label), (VALUES ('lamp'), ('kettle'), ('phone'), ('chair'), ('radio'), ('bicycle')) w(word);
SELECT topic, name, size, round(share::numeric, 2) AS share, array_length(typical, 1), (SELECT count(DISTINCT label) FROM message m WHERE m.id = ANY (typical_keys::int[])) AS labels
    FROM slm_topics('SELECT body, id FROM message ORDER BY id', 3);
SELECT m.label, array_agg(DISTINCT t.topic), count(DISTINCT t.name) FROM slm_topic_rows('SELECT body, id FROM message ORDER BY id', 3) t JOIN message m ON m.id = t.key::int GROUP BY 1 ORDER BY 1;
SELECT topic, name, size, typical, typical_keys FROM slm_topics('SELECT e, id FROM note WHERE id IN (2, 5, 8) ORDER BY id', 2);
SELECT topic, name, size, typical FROM slm_topics('SELECT ''the same'' FROM generate_series(1, 5)', 3);
SELECT count(*) FROM slm_topics('SELECT body FROM note WHERE false');

-- ---- matches: the nearest of another query, and how clear it is
CREATE TABLE department (name text, does text, e real[]);
INSERT INTO department VALUES ('billing', 'invoices, charges and refunds'), ('shipping', 'parcels and their delivery'), ('accounts', 'logging in, passwords');
UPDATE department SET e = slm_embed(does);
SELECT key, input, rank, match_row_no, match_key, match, similarity > 0.25 AS near, margin > 0 AS clear
    FROM slm_match('SELECT body, id FROM note ORDER BY id', 'SELECT does, name FROM department');
SELECT key, rank, match_key, margin IS NULL AS last FROM slm_match('SELECT body, id FROM note WHERE id = 2', 'SELECT e, does, name FROM department', 3) ORDER BY rank;
SELECT key, rank, match_key, similarity > 0 AS similar, margin > 0 AS clear FROM slm_match('SELECT ''the weather is fine'', 1', 'SELECT does, name FROM department', 2, 0.5);
SELECT key, input, rank, match, similarity FROM slm_match('SELECT body, id FROM note WHERE id < 3', 'SELECT body FROM note WHERE false');
SELECT count(*) FROM slm_match('SELECT body FROM note WHERE false', 'SELECT body FROM note');

-- ---- what is refused
SELECT (t).state, (t).message, (t).hint FROM (SELECT try(s) t FROM unnest(ARRAY[
    'SELECT * FROM slm_duplicates(NULL)', 'SELECT * FROM slm_duplicates(''SELECT body FROM se.note'', 0)', 'SELECT * FROM slm_duplicates(''SELECT id FROM se.note'')',
    'SELECT * FROM slm_duplicates(''SELECT body, id, id FROM se.note'')', 'SELECT * FROM slm_duplicates(''SELECT e, body, id, id FROM se.note'')',
    'SELECT * FROM slm_duplicates(''DELETE FROM se.note RETURNING body'')', 'SELECT * FROM slm_duplicates(''SELECT body FROM se.note; SELECT 1'')',
    'SELECT * FROM slm_duplicates(''SELECT ARRAY[1, 2]::real[]'')', 'SELECT * FROM slm_topics(''SELECT body FROM se.note'', 0)', 'SELECT * FROM slm_topics(NULL)',
    'SELECT * FROM slm_match(NULL, ''SELECT 1'')', 'SELECT * FROM slm_match(''SELECT body FROM se.note'', NULL)', 'SELECT * FROM slm_match(''SELECT body FROM se.note'', ''SELECT body FROM se.note'', 0)',
    'SELECT * FROM slm_match(''SELECT body FROM se.note'', ''SELECT body FROM se.note'', threshold => 2)', 'SELECT * FROM slm_topics(''SELECT body FROM se.note'', model => ''nothing'')']) s) q;
DROP SCHEMA se CASCADE;
SELECT slm_drop_model('search_minilm');
