-- Searching: the nearest rows of a table, search by words and meaning, answers with their source.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('search_minilm', :'minilm')).name;
SET slm.embed_model = 'search_minilm';
CREATE SCHEMA se;
SET search_path = se, public;
CREATE TABLE note (id int PRIMARY KEY, body text, product text, e real[]);
INSERT INTO note VALUES
    (1, 'How do I get my money back?', 'lamp'), (2, 'Where is my parcel?', 'lamp'), (3, 'The refund has not arrived on my account', 'chair'), (4, 'I cannot log in', NULL),
    (5, 'Error E-4711 when I press the button', 'lamp'), (6, 'The courier has lost it', 'chair'), (7, NULL, 'chair'), (8, 'The invoice shows the wrong amount', 'lamp');
UPDATE note SET e = slm_embed(body);

-- ---- the nearest rows: as ORDER BY says, with the primary key, another column, a condition
SELECT key, similarity = (SELECT slm_similarity(e, slm_embed_query('my package is late')) FROM note WHERE id = key::int) AS exact FROM slm_topk(slm_embed_query('my package is late'), 'note', 'e', 2);
SELECT array_agg(key) = (SELECT array_agg(id::text ORDER BY slm_similarity(e, slm_embed('refund')) DESC) FROM note WHERE e IS NOT NULL) FROM slm_topk(slm_embed('refund'), 'note', 'e', 100);
SELECT key FROM slm_topk(slm_embed('refund'), 'note', 'e', 1, key_column => 'body', condition => $$product = 'chair' AND id < 7$$);
CREATE TABLE pair (a int, b text, e double precision[], v real[], PRIMARY KEY (b, a));
INSERT INTO pair VALUES (1, 'x', '{1,0}', '{1,0}'), (2, 'y', '{0,1}', '{0,1}'), (3, 'z', '{1,1}', NULL);
SELECT * FROM slm_topk('{0,3}', 'pair', 'v', 5);
-- equally near rows come by their keys, in a parallel plan as in a serial one
CREATE TABLE twice AS SELECT 1001 - i AS id, ARRAY[i % 3, 1]::real[] AS v FROM generate_series(1, 1000) i;
ALTER TABLE twice ADD PRIMARY KEY (id);
SELECT string_agg(key, ' ') FROM slm_topk('{0,1}', 'twice', 'v', 5);
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
SELECT string_agg(key, ' ') FROM slm_topk('{0,1}', 'twice', 'v', 5);
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
CREATE VIEW shown AS SELECT id, upper(body) AS body, e FROM note;
SELECT key FROM slm_topk(slm_embed('refund'), 'shown', 'e', 1, 'id');

-- ---- by words and by meaning
SELECT key, content, text_place IS NOT NULL AS by_words, vector_place FROM slm_search('E-4711', 'note', 'body', 'e', 1, config => 'english');
SELECT key, text_place, vector_place, round(score::numeric, 4) AS score FROM slm_search('When is my refund coming? The parcel was lost.', 'note', 'body', 'e', 3, config => 'english');
SELECT key, text_place, vector_place FROM slm_search('refund parcel', 'note', 'body', k => 5, config => 'english') ORDER BY 1;
SELECT key, text_place, vector_place FROM slm_search('the', 'note', 'body', 'e', 1, config => 'english', condition => 'id > 7');
SELECT count(*) FROM slm_search('the', 'note', 'body', config => 'english');
SELECT count(*) FROM slm_search($$it's \ 'quoted' & | ! <-> :* ; DROP TABLE note$$, 'note', 'body', 'e', config => 'simple');
SELECT key FROM slm_search('refund', 'shown', 'body', 'e', 1, 'id', config => 'english');

-- ---- a name that wants to be SQL; what belongs to others
CREATE TABLE "no; te" ("i'd" int PRIMARY KEY, "bo""dy" text, "e)" real[]);
INSERT INTO "no; te" SELECT id, body, e FROM note;
SELECT key, content FROM slm_search('refund', '"no; te"', 'bo"dy', 'e)', 1, config => 'english');
CREATE ROLE slm_other;
GRANT USAGE, CREATE ON SCHEMA se TO slm_other;
GRANT SELECT ON note TO slm_other;
SET ROLE slm_other;
CREATE FUNCTION who(e real[]) RETURNS real[] LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'runs as %', current_user; RETURN e; END $$;
CREATE VIEW trap AS SELECT 1 AS id, 'x'::text AS body, who('{1,0}') AS e;
GRANT SELECT ON trap TO PUBLIC;
SELECT key FROM slm_topk('{1,0}', 'trap', 'e', 1, 'id');
SELECT count(*) FROM slm_topk(array_fill(1::real, ARRAY[384]), 'note', 'e');
SELECT * FROM try('SELECT * FROM slm_topk(''{1,0}'', ''pair'', ''v'')');
RESET ROLE;
-- a superuser's search of another role's view runs what it says as that role, and cannot be turned into more
SELECT key FROM slm_topk('{1,0}', 'trap', 'e', 1, 'id');
SELECT * FROM try('SELECT * FROM slm_topk(''{1,0}'', ''trap'', ''e'', 1, ''id'', ''1 IN (SELECT a FROM se.pair)'')');

-- ---- answers
CREATE TABLE manual (title text PRIMARY KEY, body text, e real[]);
INSERT INTO manual VALUES
    ('shipping', 'Shipping. Parcels leave our house on the day of the order. They take three days within the country. Abroad it takes a week.'),
    ('refunds', 'Money is returned within five days. You need the number of your order. Shipping is not refunded.'),
    ('account', 'You change your password on the page Settings. An account is deleted after two years without a login.'), ('empty', NULL);
UPDATE manual SET e = slm_embed(body);
SELECT q, quote, source, score > 0.4 AS sure FROM (VALUES ('How long does it take to get my money back?'), ('How do I change my password?'), ('How long does a parcel to another country take?'),
    ('Who painted the ceiling of the chapel?')) v(q), LATERAL slm_answer(q, 'SELECT e, body, title FROM manual ORDER BY title');
SELECT quote, source FROM slm_answer('parcels and shipping', 'SELECT body FROM manual', 2, 0.3);
SELECT * FROM slm_answer('anything', 'SELECT body FROM manual WHERE false');
-- with what a generative model makes of the quotes, beside the first; none where nothing is quoted
SELECT (slm_load_model('search_tiny', :'tiny_file')).can_generate;
SELECT quote, source, answer = slm_generate(E'Shipping is not refunded.\nMoney is returned within five days.\n\nIs the money returned, and shipping refunded?', model => 'search_tiny',
    max_tokens => 96, truncate => true, system => 'Answer the question in one sentence, from the text alone.') AS as_asked
FROM slm_answer('Is the money returned, and shipping refunded?', 'SELECT e, body, title FROM manual ORDER BY title', n => 2, generate => true, generate_model => 'search_tiny');
SELECT quote, answer FROM slm_answer('Who painted the ceiling of the chapel?', 'SELECT e, body FROM manual', generate => true, generate_model => 'search_tiny');
SELECT state, message, hint FROM try('SELECT * FROM slm_answer(''How long does a parcel take?'', ''SELECT e, body FROM se.manual'', generate => true)');
SELECT slm_drop_model('search_tiny');

-- ---- what is refused
SELECT (t).state, (t).message, (t).hint FROM (SELECT try(s) t FROM unnest(ARRAY[
    'SELECT * FROM slm_topk(NULL, ''se.note'', ''e'')', 'SELECT * FROM slm_topk(''{1}'', ''se.note'', ''e'')', 'SELECT * FROM slm_topk(''{1}'', ''se.note'', ''body'')', 'SELECT * FROM slm_topk(''{1}'', ''se.note'', ''f'')',
    'SELECT * FROM slm_topk(''{1}'', ''se.shown'', ''e'')', 'SELECT * FROM slm_topk(''{1}'', ''se.note_pkey'', ''e'')', 'SELECT * FROM slm_topk(''{1}'', 0, ''e'')', 'SELECT * FROM slm_topk(''{1}'', ''se.note'', ''e'', 0)',
    'SELECT * FROM slm_topk(''{1}'', ''se.note'', ''e'', condition => ''true; DROP TABLE se.note'')', 'SELECT * FROM slm_topk(''{1}'', ''se.note'', ''e'', condition => ''id'')',
    'SELECT * FROM slm_topk(''{1}'', ''se.note'', ''e'', condition => ''true) OR (true'')',
    'SELECT * FROM slm_search(NULL, ''se.note'', ''body'')', 'SELECT * FROM slm_search(''x'', ''se.note'', ''id'')', 'SELECT * FROM slm_search(''x'', ''se.note'', ''body'', ''product'')',
    'SELECT * FROM slm_answer(NULL, ''SELECT body FROM se.note'')', 'SELECT * FROM slm_answer(''x'', NULL)', 'SELECT * FROM slm_answer(''x'', ''SELECT e FROM se.note'')', 'SELECT * FROM slm_answer(''x'', ''SELECT body FROM se.note'', 0)',
    'SELECT * FROM slm_answer(''x'', ''se.note'')', 'SELECT slm_plot(''note'', ''line'')', 'SELECT accuracy FROM slm_evaluate(''note'', ''slm_classify(body, classifier => x)'')']) s) q;

-- ---- pinned to a model's digest: immutable, in batches
SELECT slm_model_digest('search_minilm') ~ '^[0-9a-f]{64}(-[0-9a-f]{16})?$' AS is_digest, slm_model_digest('search_minilm') AS digest \gset
SELECT :'is_digest', slm_embed_pinned('x', 'search_minilm', :'digest') = slm_embed('x') AS same, slm_classify_pinned('Where is my parcel?', ARRAY['delivery', 'billing'], 'search_minilm', :'digest');
SELECT format('ALTER TABLE note ADD topic text GENERATED ALWAYS AS (slm_classify_pinned(body, ARRAY[''delivery'', ''money'', ''login''], ''search_minilm'', %L)) STORED', :'digest') \gexec
INSERT INTO note (id, body) VALUES (9, 'My password is not accepted');
SELECT id, topic FROM note WHERE id IN (1, 2, 7, 9) ORDER BY id;
SELECT format('CREATE INDEX ON note (slm_classify_pinned(body, ARRAY[''a'', ''b''], ''search_minilm'', %L))', :'digest') \gexec
SELECT format('EXPLAIN (COSTS OFF) SELECT slm_embed_pinned(body, ''search_minilm'', %L) IS NULL FROM note', left(:'digest', 8)) \gexec
SELECT (t).state, (t).message, (t).hint FROM (SELECT try(s) t FROM unnest(ARRAY['SELECT slm_embed_pinned(''x'', ''search_minilm'', ''abc'')', 'SELECT slm_embed_pinned(''x'', NULL, ''abc'')',
    'SELECT slm_classify_pinned(''x'', ARRAY[''a'', ''b''], ''search_minilm'', ''abc'')', 'SELECT slm_model_digest(''nothing'')']) s) q;
-- ---- where a model comes from
SELECT * FROM slm_fetch_model('all-MiniLM-L6-v2');
SELECT * FROM slm_fetch_model('x; rm -rf /');
DROP SCHEMA se CASCADE;
DROP OWNED BY slm_other;
DROP ROLE slm_other;
SELECT slm_drop_model('search_minilm');
