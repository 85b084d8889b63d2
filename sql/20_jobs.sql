-- Triggers and jobs. Every job is created paused and run with CALL, so that the answers are the same with and without background workers.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT (slm_load_model('jobs_tiny', :'tiny_file')).name;
SET slm.generate_model = 'jobs_tiny';
\set q 'SELECT count(*) AS queued FROM slm.job_queue'
-- counts every evaluation
CREATE TABLE calls (input text);
CREATE FUNCTION note(input text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO calls VALUES (input); RETURN upper(input); END $$;
CREATE FUNCTION took() RETURNS text LANGUAGE sql AS $$ WITH d AS (DELETE FROM calls RETURNING input) SELECT string_agg(input, ',' ORDER BY input) FROM d $$;

-- ---- slm_trigger
CREATE TABLE s (id int PRIMARY KEY, body text, other int, up text, dropped int);
ALTER TABLE s DROP COLUMN dropped;
CREATE TRIGGER up BEFORE INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION slm_trigger('up', 'note(s.body)');
INSERT INTO s VALUES (1, 'one', 1), (2, NULL, 2);
UPDATE s SET other = 7;
UPDATE s SET body = body;
SELECT took();
UPDATE s SET body = 'zwei' WHERE id = 2;
UPDATE s SET up = 'mine' WHERE id = 1;
SELECT took();
SELECT * FROM s ORDER BY id;
ALTER TABLE s ADD COLUMN added text, ALTER COLUMN up TYPE varchar(5);
INSERT INTO s VALUES (3, 'three', 1);
INSERT INTO s VALUES (4, 'eleven', 1);
SELECT took();
ALTER TABLE s RENAME COLUMN body TO text;
UPDATE s SET text = 'x';
DROP TABLE s;
DELETE FROM calls;
CREATE TABLE s (id int, body text, n int, label jsonb);
CREATE TRIGGER n BEFORE INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION slm_trigger('n', 'slm_count_tokens(body)');
CREATE TRIGGER l BEFORE INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION slm_trigger('label', 'to_jsonb(s)');
INSERT INTO s VALUES (1, 'two words');
SELECT n > 0 AS counted, label ->> 'body' AS body FROM s;
DROP TRIGGER l ON s;
CREATE TRIGGER a BEFORE INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION slm_trigger('nowhere', 'body');
INSERT INTO s VALUES (2);
CREATE OR REPLACE TRIGGER a BEFORE INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION slm_trigger('body');
INSERT INTO s VALUES (2);
CREATE OR REPLACE TRIGGER a AFTER INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION slm_trigger('body', 'body');
INSERT INTO s VALUES (2);
CREATE OR REPLACE TRIGGER a BEFORE INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION slm_trigger('body', 'no such column');
INSERT INTO s VALUES (2);
CREATE OR REPLACE TRIGGER a BEFORE INSERT OR UPDATE ON s FOR EACH ROW EXECUTE FUNCTION slm_trigger('n', '''not a number''');
INSERT INTO s VALUES (2);
DROP TABLE s;

-- ---- creation: what is refused
CREATE TABLE docs (id int PRIMARY KEY, body text, other int, up text);
CREATE TABLE heap (body text, up text);
CREATE VIEW doc_view AS SELECT * FROM docs;
\set VERBOSITY default
SELECT slm_create_job('j', 'heap', 'up', 'upper(body)');
SELECT slm_create_job('j', 'doc_view', 'up', 'upper(body)');
DROP VIEW doc_view;
CREATE TEMP TABLE temporary (id int PRIMARY KEY, body text, up text);
SELECT slm_create_job('j', 'temporary', 'up', 'upper(body)');
SELECT slm_create_job('j', 'docs', 'up', 'upper(body)', '{"target": "temporary"}');
SELECT slm_create_job('j', 'slm.job_queue', 'error', 'key::text');
SELECT slm_create_job('j', 'docs', 'up', 'upper(body)', '{"target": "heap"}');
ALTER TABLE heap ADD id int;
SELECT slm_create_job('j', 'docs', 'up', 'upper(body)', '{"target": "heap"}');
SELECT slm_create_job('a job', 'docs', 'up', 'upper(body)');
SELECT slm_create_job('j', 'docs', 'nowhere', 'upper(body)');
\set VERBOSITY terse
SELECT slm_create_job('j', 'docs', 'id', 'upper(body)');
SELECT slm_create_job('j', 'docs', 'up', 'upper(bodies)');
SELECT slm_create_job('j', 'docs', 'up', 'no syntax here');
SELECT slm_create_job('j', 'docs', 'other', 'body');
SELECT slm_create_job('j', 'docs', 'up', 'upper(body)', '{"colour": 1}');
SELECT slm_create_job('j', 'docs', 'up', 'upper(body)', '{"backfill": "sideways"}');
SELECT slm_create_job('j', 'docs', 'up', NULL);
SELECT slm_create_job('j', 'docs', 'up', $$slm_generate(body, model => 'unknown')$$);
SELECT slm_drop_job('j');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass;

-- ---- a job and its life
INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 3) i;
SELECT slm_create_job('j', 'docs', 'up', 'note(body)', '{"paused": true, "retry_delay": "0 s", "max_attempts": 2}');
SELECT slm_create_job('j', 'docs', 'up', 'note(body)');
SELECT input_columns, key_columns FROM slm.jobs WHERE name = 'j';
CALL slm_run_job('j');
SELECT took();
SELECT * FROM docs ORDER BY id;
INSERT INTO docs VALUES (4, 'four'), (5, NULL), (6, E'quo''te "x" \\ \n tab\t ☃ 日本');
:q;
CALL slm_run_job('j');
SELECT took();
SELECT up FROM docs WHERE id = 6;
-- nothing is to be done
UPDATE docs SET other = 1;
UPDATE docs SET body = body;
UPDATE docs SET body = 'none' WHERE false;
UPDATE docs SET up = up;
:q;
-- something is
UPDATE docs SET body = 'new 1' WHERE id = 1;
UPDATE docs SET body = 'new 2', other = 5 WHERE id IN (2);
INSERT INTO docs (id, body) VALUES (3, 'conflict 3'), (7, 'seven') ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body;
INSERT INTO docs (id, body) VALUES (3, 'ignored'), (1, 'ignored') ON CONFLICT DO NOTHING;
MERGE INTO docs d USING (VALUES (4, 'merged 4'), (8, 'eight')) v(id, body) ON d.id = v.id
    WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.body);
COPY docs (id, body) FROM stdin;
9	nine
10	ten
\.
SELECT array_agg(key ORDER BY id) FROM slm.job_queue;
CALL slm_run_job('j');
SELECT took();
SELECT id, body, up FROM docs ORDER BY id;
-- changed back and forth: nothing to do; changed twice: once
UPDATE docs SET body = 'x' WHERE id = 1;
UPDATE docs SET body = 'new 1' WHERE id = 1;
UPDATE docs SET body = 'x' WHERE id = 2;
UPDATE docs SET body = 'y' WHERE id = 2;
CALL slm_run_job('j');
SELECT took();
-- a user's value stays, a value that is gone comes back with the next change
UPDATE docs SET up = 'mine', body = 'changed' WHERE id = 1;
UPDATE docs SET up = NULL, body = 'changed' WHERE id = 3;
CALL slm_run_job('j');
SELECT took();
SELECT id, up FROM docs WHERE id IN (1, 3) ORDER BY id;
-- keys: changed alone, with the text, swapped into place of a deleted row
UPDATE docs SET id = 104 WHERE id = 4;
UPDATE docs SET id = 107, body = 'moved' WHERE id = 7;
CALL slm_run_job('j');
SELECT took();
SELECT id, up FROM docs WHERE id > 100 ORDER BY id;
DELETE FROM docs WHERE id IN (8, 9);
SELECT count(*) FROM slm.job_done WHERE key IN ('[8]', '[9]', '[4]', '[7]');
INSERT INTO docs VALUES (8, 'eight');
BEGIN;
INSERT INTO docs VALUES (20, 'never');
ROLLBACK;
INSERT INTO docs VALUES (21, 'gone');
DELETE FROM docs WHERE id = 21;
CALL slm_run_job('j');
SELECT took();
SELECT name, state, pending, running, done, stale, failed, lag FROM slm.job_status;
-- many rows at once
INSERT INTO docs SELECT i, 'bulk ' || i FROM generate_series(1001, 1500) i;
CALL slm_run_job('j');
UPDATE docs SET body = body || CASE WHEN id % 100 = 0 THEN '!' ELSE '' END WHERE id > 1000;
:q;
CALL slm_run_job('j');
SELECT count(*), count(*) FILTER (WHERE up = upper(body)) AS right FROM docs WHERE id > 1000;
SELECT count(*) AS evaluations FROM calls;
DELETE FROM calls;
-- alter: stale, then redone; the user's value still stays
SELECT slm_alter_job('j', 'lower(note(body))');
SELECT version, backfill_done FROM slm.jobs;
SELECT done, stale FROM slm.job_status;
CALL slm_run_job('j');
SELECT count(*) AS evaluations FROM calls;
SELECT done, stale FROM slm.job_status;
SELECT count(*) FILTER (WHERE up = lower(body)) AS right, count(*) AS rows FROM docs;
SELECT id, up FROM docs WHERE up <> lower(body);
DELETE FROM calls;
SELECT slm_alter_job('j', options => '{"overwrite": true}');
CALL slm_run_job('j');
SELECT id, up FROM docs WHERE up <> lower(body);
SELECT slm_alter_job('j', options => '{"target": "x"}');
-- truncate
INSERT INTO docs VALUES (5000, 'x');
TRUNCATE docs;
SELECT (SELECT count(*) FROM slm.job_queue), (SELECT count(*) FROM slm.job_done);
DELETE FROM calls;

-- ---- failures: retried, listed, never in the way
SELECT slm_alter_job('j', 'note(body) || (100 / other)');
INSERT INTO docs SELECT i, 'f' || i, CASE WHEN i = 13 THEN 0 ELSE i END FROM generate_series(1, 20) i;
CALL slm_run_job('j');
SELECT count(*) FROM docs WHERE up IS NOT NULL;
SELECT name, key, error, attempts FROM slm.job_failures;
SELECT done, failed, pending FROM slm.job_status;
UPDATE docs SET other = 1 WHERE id = 13;
CALL slm_run_job('j');
SELECT up FROM docs WHERE id = 13;
SELECT count(*) FROM slm.job_failures;
UPDATE docs SET other = 0 WHERE id = 14;
CALL slm_run_job('j');
SELECT slm_retry_failed('j');
SELECT attempts, failed FROM slm.job_queue;
CALL slm_run_job('j');
SELECT key, attempts FROM slm.job_failures;
-- a row that a trigger does not let be written fails, too
CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.up LIKE 'SECRET%' THEN NULL ELSE NEW END; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION drop_it();
INSERT INTO docs VALUES (50, 'secret', 1);
CALL slm_run_job('j');
SELECT key, error FROM slm.job_failures WHERE key = '[50]';
DROP TRIGGER refuse ON docs;
-- rows during which the server ended again and again: alone, then given up
INSERT INTO docs SELECT i, 'try ' || i, 1 FROM generate_series(60, 62) i;
UPDATE slm.job_queue SET tries = 9 WHERE key = '[61]';
SELECT slm_retry_failed('j') > 0 AS again;
DELETE FROM slm.job_queue WHERE key IN ('[14]', '[50]');
CALL slm_run_job('j');
SELECT key, error FROM slm.job_failures;
SELECT id, up FROM docs WHERE id BETWEEN 60 AND 62 ORDER BY id;
SELECT slm_retry_failed('j');
CALL slm_run_job('j');
SELECT up FROM docs WHERE id = 61;

-- errors that are of no row: they are raised, and the rows keep their tries
CREATE FUNCTION stop(input text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE query_canceled; END $$;
CREATE ROLE slm_job_poor;
GRANT ALL ON docs TO slm_job_poor;
GRANT CREATE ON SCHEMA public TO slm_job_poor;
\set left 'SELECT count(*), max(attempts) AS attempts, max(tries) AS tries, bool_or(failed) AS failed FROM slm.job_queue'
SELECT slm_alter_job('j', 'stop(body)', '{"backfill": "none"}');
INSERT INTO docs SELECT i, 'e' || i, 1 FROM generate_series(80, 82) i;
\set VERBOSITY default
CALL slm_run_job('j');
\set VERBOSITY terse
:left;
SELECT slm_alter_job('j', $$slm_generate(body, 'jobs_tiny', max_tokens => 1)$$, '{"backfill": "none"}');
ALTER TABLE docs OWNER TO slm_job_poor;
UPDATE slm.job_definition SET owner = 'slm_job_poor';
CALL slm_run_job('j');
:left;
ALTER TABLE docs OWNER TO CURRENT_USER;
REVOKE UPDATE ON docs FROM slm_job_poor;
SELECT slm_alter_job('j', 'upper(body)', '{"backfill": "none"}');
CALL slm_run_job('j');
:left;
SELECT slm_alter_job('j', 'note(body)', jsonb_build_object('owner', current_user, 'backfill', 'none'));
CALL slm_run_job('j');
:left;
SELECT took();
SELECT slm_alter_job('j', options => '{"backfill": "oldest"}') > 0 AS altered;
CALL slm_run_job('j');
DELETE FROM calls;
DROP OWNED BY slm_job_poor;
DROP ROLE slm_job_poor;
DROP FUNCTION stop;

-- ---- changed tables
ALTER TABLE docs RENAME TO documents;
ALTER TABLE documents RENAME COLUMN id TO no;
ALTER TABLE documents ALTER COLUMN no TYPE bigint;
INSERT INTO documents VALUES (3000000000, 'big', 1);
CALL slm_run_job('j');
SELECT up FROM documents WHERE no = 3000000000;
ALTER TABLE documents RENAME COLUMN body TO content;
INSERT INTO documents VALUES (70, 'renamed', 1);
CALL slm_run_job('j');
SELECT key, attempts, tries, failed FROM slm.job_queue;
SELECT slm_alter_job('j', 'note(content)');
CALL slm_run_job('j');
SELECT no, up FROM documents WHERE no = 70;
CREATE SCHEMA other;
CREATE TABLE other.documents (LIKE documents INCLUDING ALL);
INSERT INTO other.documents VALUES (1, 'wrong table');
SET search_path = other, public;
UPDATE slm.job_definition SET search_path = 'other, public';
INSERT INTO public.documents VALUES (71, 'right table', 1);
CALL slm_run_job('j');
SELECT no, up FROM public.documents WHERE no = 71;
SELECT no, up FROM other.documents;
RESET search_path;
DROP SCHEMA other CASCADE;
ALTER TABLE documents DROP COLUMN up;
INSERT INTO documents VALUES (72, 'no target', 1);
CALL slm_run_job('j');
SELECT key, attempts, tries, failed FROM slm.job_queue;
ALTER TABLE documents ADD COLUMN up text;
CALL slm_run_job('j');
SELECT up FROM documents WHERE no = 72;
ALTER TABLE documents DROP COLUMN no;
INSERT INTO documents VALUES ('no key', 1);
CALL slm_run_job('j');
DROP TABLE documents;
CALL slm_run_job('j');
SELECT state FROM slm.job_status;
SELECT slm_drop_job('j');
SELECT (SELECT count(*) FROM slm.jobs), (SELECT count(*) FROM slm.job_queue), (SELECT count(*) FROM slm.job_done);
DELETE FROM calls;

-- ---- keys of all sorts
CREATE DOMAIN code AS varchar(8) CHECK (value <> '');
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE keys (a code, b mood, t timestamptz, u uuid, n numeric(8, 2), arr int[], y bytea, "Odd Name" bool, body text, "Up" text,
    PRIMARY KEY (a, b, t, u, n, arr, y, "Odd Name"));
SELECT slm_create_job('k', 'keys', 'Up', 'note(body)', '{"paused": true}');
SET timezone = 'Asia/Tokyo';
SET datestyle = 'german';
SET bytea_output = 'escape';
INSERT INTO keys VALUES ('x''"y', 'happy', '2026-01-02 03:04:05+00', '00000000-0000-0000-0000-000000000001', 1.50, '{1,2}', '\x00ff', true, 'one');
RESET timezone;
RESET datestyle;
RESET bytea_output;
INSERT INTO keys VALUES ('z', 'sad', '2026-01-02 03:04:05+00', '00000000-0000-0000-0000-000000000002', 2, '{}', '', false, 'two');
CALL slm_run_job('k');
SELECT body, "Up" FROM keys ORDER BY body;
SELECT key FROM slm.job_done ORDER BY key;
SET timezone = 'America/New_York';
UPDATE keys SET body = 'uno' WHERE body = 'one';
UPDATE keys SET body = body;
DELETE FROM keys WHERE body = 'two';
SELECT (SELECT count(*) FROM slm.job_queue), (SELECT count(*) FROM slm.job_done);
CALL slm_run_job('k');
SELECT "Up" FROM keys;
SELECT slm_drop_job('k', drop_values => true);
SELECT "Up" FROM keys;
RESET timezone;
DROP TABLE keys;
DELETE FROM calls;

-- hostile names
CREATE SCHEMA "s ""q'ü";
CREATE TABLE "s ""q'ü"."täb'le ""x"" \ $1 %s; DROP TABLE heap; -- 3456789012345678901234" ("i d'""" int, "k''2 ☃" text, "bö""dy' %I" text,
    "ü""p' $2 12345678901234567890123456789012345678901234567890123456" text, PRIMARY KEY ("i d'""", "k''2 ☃"));
SET search_path = "s ""q'ü", public;
SELECT slm_create_job('k23456789_123456789_123456789_123456789_123456789_', c.oid, (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 4),
    'note("bö""dy'' %I")', '{"paused": true}') FROM pg_class c WHERE relname LIKE 'täb%' AND relkind = 'r';
SELECT target_column, input_columns, key_columns FROM slm.jobs;
ALTER TABLE "täb'le ""x"" \ $1 %s; DROP TABLE heap; -- 3456789012345678901234" RENAME TO odd;
INSERT INTO odd VALUES (1, 'a''"\', 'text''s $1'), (2, '☃ {}[]', 'zwei');
CALL slm_run_job('k23456789_123456789_123456789_123456789_123456789_');
UPDATE odd SET "i d'""" = 10 WHERE "i d'""" = 1;
UPDATE odd SET "bö""dy' %I" = 'neu' WHERE "i d'""" = 2;
CALL slm_run_job('k23456789_123456789_123456789_123456789_123456789_');
SELECT took();
SELECT * FROM odd;
SELECT slm_drop_job('k23456789_123456789_123456789_123456789_123456789_', true);
SELECT count(*) FROM odd WHERE odd::text LIKE '%NEU%';
RESET search_path;
DROP SCHEMA "s ""q'ü" CASCADE;

-- ---- backfill: order, none, resumed
CREATE TABLE b (id uuid PRIMARY KEY, body int, up text);
INSERT INTO b SELECT md5(i::text)::uuid, i FROM generate_series(1, 2500) i;
CREATE SEQUENCE b_order;
SELECT slm_create_job('b', 'b', 'up', $$body::text || ':' || nextval('b_order')$$, '{"paused": true, "backfill": "newest", "batch_size": 700}');
CALL slm_run_job('b');
SELECT count(*) FILTER (WHERE split_part(up, ':', 1) = body::text) AS right, count(*) FROM b;
SELECT max(split_part(up, ':', 2)::int) AS newest_first FROM (SELECT up FROM b ORDER BY id DESC LIMIT 1000) newest;
SELECT pending, done, failed FROM slm.job_status;
SELECT slm_drop_job('b', true);
SELECT count(up) FROM b;
SELECT slm_create_job('b', 'b', 'up', 'body::text', '{"paused": true, "backfill": "none"}');
UPDATE b SET body = -body WHERE body <= 3;
CALL slm_run_job('b');
SELECT count(up) FROM b;
SELECT slm_drop_job('b');
DROP TABLE b;
DROP SEQUENCE b_order;

-- ---- a separate target
CREATE TABLE src (k1 int, k2 text, body text, PRIMARY KEY (k1, k2));
CREATE TABLE tgt (k1 int, k2 text, up text, seen int DEFAULT 1, PRIMARY KEY (k1, k2));
CREATE TABLE bad_tgt (k1 int, up text);
SELECT slm_create_job('t', 'src', 'up', 'note(body)', '{"paused": true, "target": "bad_tgt"}');
SELECT slm_create_job('t', 'src', 'up', 'note(body)', '{"paused": true, "target": "tgt"}');
INSERT INTO src SELECT i, 'k' || i, 'b' || i FROM generate_series(1, 5) i;
INSERT INTO tgt VALUES (2, 'k2', 'mine');
CALL slm_run_job('t');
SELECT * FROM tgt ORDER BY k1;
UPDATE src SET body = 'new' WHERE k1 IN (1, 2, 3);
UPDATE tgt SET up = 'mine too' WHERE k1 = 3;
CALL slm_run_job('t');
SELECT took();
SELECT * FROM tgt ORDER BY k1;
SELECT slm_drop_job('t', true);
SELECT * FROM tgt ORDER BY k1;
DROP TABLE src, tgt, bad_tgt;

-- ---- partitioned tables
CREATE TABLE p (id int, part int, body text, up text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 (up text, body text, dropped int, part int NOT NULL, id int NOT NULL);
ALTER TABLE p2 DROP COLUMN dropped;
ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2);
INSERT INTO p VALUES (1, 1, 'before');
SELECT slm_create_job('p', 'p', 'up', 'note(body)', '{"paused": true}');
INSERT INTO p VALUES (2, 1, 'root'), (3, 2, 'root 2');
INSERT INTO p2 (id, part, body) VALUES (4, 2, 'direct');
CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3);
INSERT INTO p3 VALUES (5, 3, 'later');
COPY p1 FROM stdin;
6	1	copied	\N
\.
CALL slm_run_job('p');
SELECT took();
UPDATE p SET body = body || '!' WHERE id IN (2, 4);
UPDATE p2 SET body = 'again' WHERE id = 3;
UPDATE p SET part = 2 WHERE id = 1;
UPDATE p SET part = 3, body = 'moved' WHERE id = 6;
UPDATE p SET up = up;
CALL slm_run_job('p');
SELECT took();
SELECT * FROM p ORDER BY id;
DROP TABLE p3;
DELETE FROM p WHERE id = 2;
TRUNCATE p;
SELECT (SELECT count(*) FROM slm.job_queue), (SELECT count(*) FROM slm.job_done);
SELECT slm_drop_job('p');
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'slm_job%';
DROP TABLE p;

-- ---- models
CREATE TABLE m (id int PRIMARY KEY, body text, answer text, words int, label text);
INSERT INTO m SELECT i, 'question ' || i FROM generate_series(1, 10) i;
SELECT slm_create_job('m', 'm', 'answer', 'slm_generate(body, max_tokens => 3)', '{"paused": true}');
SELECT slm_create_job('w', 'm', 'words', 'slm_count_tokens(answer)', '{"paused": true}');
RESET slm.generate_model;
CALL slm_run_job('m');
CALL slm_run_job('w');
SELECT count(*) FROM m WHERE answer = slm_generate(body, 'jobs_tiny', max_tokens => 3) AND words = slm_count_tokens(answer, 'jobs_tiny');
SELECT prompt_tokens > 0 AS prompt, output_tokens BETWEEN 1 AND 30 AS output FROM slm.jobs WHERE name = 'm';
SELECT usage ->> 'requests' AS requests, (usage ->> 'prefill_ns')::bigint > 0 AS timed, (usage ->> 'label_tokens')::bigint AS label_tokens FROM slm.jobs WHERE name = 'm';
-- tokens of labels are tokens too
SELECT slm_create_job('l', 'm', 'label', $$slm_classify(body, ARRAY['first words', 'first wording'], 'jobs_tiny', 'direct')$$, '{"paused": true}');
CALL slm_run_job('l');
SELECT usage ->> 'requests' AS requests, (usage ->> 'label_tokens')::bigint > 0 AS labels FROM slm.jobs WHERE name = 'l';
SELECT slm_drop_job('l');
SELECT DISTINCT models = ARRAY[(SELECT sha256 FROM slm.models WHERE name = 'jobs_tiny')] AS digest FROM slm.job_done WHERE job_id = (SELECT job_id FROM slm.jobs WHERE name = 'm');
SELECT slm_drop_job('m'), slm_drop_job('w');
SET slm.generate_model = 'jobs_tiny';

-- ---- privileges
CREATE ROLE slm_job_owner;
CREATE ROLE slm_job_other;
GRANT ALL ON SCHEMA public TO slm_job_owner;
CREATE TABLE secret (t text);
INSERT INTO secret VALUES ('secret');
CREATE FUNCTION forbidden(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
REVOKE ALL ON FUNCTION forbidden(text) FROM PUBLIC;
SET ROLE slm_job_owner;
SELECT slm_create_job('o', 'm', 'answer', 'body');
RESET ROLE;
ALTER TABLE m OWNER TO slm_job_owner;
SET ROLE slm_job_owner;
SELECT slm_create_job('o', 'm', 'answer', 'body || (SELECT t FROM secret)');
SELECT slm_create_job('o', 'm', 'answer', 'forbidden(body)');
SELECT slm_create_job('o', 'm', 'answer', 'slm_generate(body, max_tokens => 3)');
SELECT slm_create_job('o', 'm', 'answer', $$slm_generate(body, 'jobs_tiny', max_tokens => 3)$$);
SELECT slm_create_job('o', 'm', 'answer', 'current_user || body', '{"paused": true, "overwrite": true, "retry_delay": "0 s", "max_attempts": 1}');
RESET ROLE;
INSERT INTO m VALUES (11, 'by postgres');
SET ROLE slm_job_other;
SELECT count(*) FROM slm.jobs;
SELECT count(*) FROM slm.job_status;
SELECT slm_drop_job('o');
CALL slm_run_job('o');
INSERT INTO slm.job_definition (name, owner, source, target, target_column, key_columns, input_columns, expression, search_path)
    SELECT 'evil', 'slm_job_owner', 'm', 'm', 'answer', '{id}', '{body}', 'body', '';
SELECT count(*) FROM slm.job_queue;
SELECT slm_pause_job('o'), slm_retry_failed('o');
SELECT slm_alter_job('o', 'upper(body)');
RESET ROLE;
CALL slm_run_job('o');
SELECT answer FROM m WHERE id = 11;
-- row-level security of the owner
ALTER TABLE m ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY upper_half ON m TO slm_job_owner USING (id > 5);
UPDATE m SET body = body || '?';
CALL slm_run_job('o');
SELECT count(*) FILTER (WHERE answer LIKE '%?') AS visible, count(*) FROM m;
-- what the owner puts on the search_path does not run as anybody else
CREATE TABLE who (name text);
GRANT INSERT ON who TO PUBLIC;
CREATE SCHEMA trap AUTHORIZATION slm_job_owner;
SET ROLE slm_job_owner;
CREATE FUNCTION trap.eq(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.who VALUES (current_user); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR trap.= (LEFTARG = int, RIGHTARG = int, FUNCTION = trap.eq);
SET search_path = trap, pg_catalog, public;
SELECT slm_alter_job('o', 'CASE WHEN id = id THEN current_user || body END');
RESET search_path;
RESET ROLE;
UPDATE m SET body = body || '.';
CALL slm_run_job('o');
SELECT answer FROM m WHERE id = 11;
SELECT DISTINCT name FROM who;
-- an owner who is gone
UPDATE slm.job_definition SET owner = 4294967000::oid WHERE name = 'o';
INSERT INTO m VALUES (12, 'orphan');
CALL slm_run_job('o');
ALTER TABLE m NO FORCE ROW LEVEL SECURITY;
SELECT slm_alter_job('o', options => jsonb_build_object('owner', current_user)) > 1 AS altered;
CALL slm_run_job('o');
SELECT answer FROM m WHERE id = 12;
SELECT slm_drop_job('o');
DROP TABLE m, who, secret;
DROP SCHEMA trap CASCADE;

-- ---- the trigger function on its own
CREATE TABLE x (id int PRIMARY KEY, body text, up text);
CREATE TABLE y (id int PRIMARY KEY, body text);
SELECT slm_create_job('x', 'x', 'up', 'body', '{"paused": true}');
SELECT job_id FROM slm.jobs \gset
CREATE TRIGGER t AFTER INSERT ON y REFERENCING NEW TABLE AS slm_new FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(:'job_id');
INSERT INTO y VALUES (1);
SELECT count(*) FROM slm.job_queue;
CREATE OR REPLACE TRIGGER t AFTER INSERT ON y FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(:'job_id');
INSERT INTO y VALUES (2);
CREATE OR REPLACE TRIGGER t AFTER INSERT ON y FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue();
INSERT INTO y VALUES (2);
SELECT slm.job_enqueue();
DROP TABLE y;
-- a table that was restored without the jobs has triggers of a job that is not here, or is another one
CREATE TABLE y (id int PRIMARY KEY, body text, up text);
CREATE FUNCTION restored(job int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('CREATE TRIGGER slm_job_%1$s_insert AFTER INSERT ON y REFERENCING NEW TABLE AS slm_new FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%1$L)', job);
    EXECUTE format('CREATE TRIGGER slm_job_%1$s_update AFTER UPDATE ON y REFERENCING OLD TABLE AS slm_old NEW TABLE AS slm_new FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%1$L)', job);
END $$;
SELECT restored(:job_id + 1), restored(:job_id);
DROP FUNCTION restored;
SET client_min_messages = error; -- the triggers' names have numbers
INSERT INTO y VALUES (1, 'restored');
SELECT slm_create_job('y', 'y', 'up', 'upper(body)', '{"paused": true}');
SELECT job_id = :job_id + 1 AS same_name FROM slm.jobs WHERE name = 'y';
DELETE FROM y;
INSERT INTO y VALUES (1, 'restored');
CALL slm_run_job('y');
SELECT * FROM y;
SELECT slm_drop_job('y');
DROP TABLE y;
SET client_min_messages = warning;
SELECT slm_pause_job('nobody');
SELECT slm_drop_job('x');
DROP TABLE x;
REVOKE ALL ON SCHEMA public FROM slm_job_owner;
DROP ROLE slm_job_owner, slm_job_other;
SELECT slm_drop_model('jobs_tiny');
DROP FUNCTION note, took, forbidden, drop_it;
DROP TABLE calls, heap;
DROP DOMAIN code;
DROP TYPE mood;
