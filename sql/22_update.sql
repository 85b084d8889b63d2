-- slm_update: a column computed once, in batches. Notices tell times and are not shown; test/tap has cancel, crash and concurrency.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT (slm_load_model('update_tiny', :'tiny_file')).name;
CREATE SCHEMA up;
SET search_path = up, public;
CREATE TABLE t (id int PRIMARY KEY, body text, up text, n int);
INSERT INTO t SELECT i, 'text ' || i FROM generate_series(1, 3000) i;

-- ---- all rows, some rows, by a model
CALL slm_update('t', 'up', 'upper(body)');
SELECT count(*) FILTER (WHERE up = upper(body)) FROM t;
CALL slm_update('t', 'up', 'lower(body)', 'id > 1000 AND id <= 2000 OR id = 2500');
SELECT count(*) FILTER (WHERE up = lower(body)) FROM t;
CALL slm_update('t', 'up', 'slm_generate(body, model => ''update_tiny'', max_tokens => 2)', 'id <= 100');
SELECT count(*) FILTER (WHERE up = slm_generate(body, model => 'update_tiny', max_tokens => 2)) FROM t WHERE id <= 100;
SELECT target_column, expression, condition, state, rows_seen, rows_written, rows_kept, rows_failed FROM slm.updates ORDER BY id;
-- a finished one begins anew
CALL slm_update('t', 'up', 'upper(body)');
SELECT count(*) FILTER (WHERE up = upper(body)) FROM t;
SELECT count(*) FROM slm.updates WHERE expression = 'upper(body)';

-- ---- rows that fail stay as they were and are listed; a trigger may keep rows; deferred triggers fire with their batch
CALL slm_update('t', 'n', '100 / (id % 1000)', 'id > 500');
SELECT count(n), count(*) FILTER (WHERE n = 100 / nullif(id % 1000, 0)) AS right FROM t;
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.id % 1000 = 7 THEN RETURN NULL; END IF;
    IF new.id % 1000 = 8 THEN RAISE 'row % is guarded', new.id; END IF;
    RETURN new;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION guard();
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.id = 1500 THEN RAISE 'deferred' USING ERRCODE = '23514'; END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION later();
ALTER TABLE t ADD CHECK (id <> 2999 OR up <> 'text 2999');
CALL slm_update('t', 'up', 'lower(body)');
SELECT count(*) FILTER (WHERE up = lower(body)) FROM t;
SELECT source, target_column, key, error FROM slm.update_failures ORDER BY target_column, key;
DROP TABLE t;

-- texts that a function cannot take fail, or give NULL and are counted
CREATE TABLE long (id int PRIMARY KEY, body text, up text);
INSERT INTO long SELECT i, CASE WHEN i % 10 = 0 THEN repeat('long ', 5000) ELSE 'text ' || i END FROM generate_series(1, 40) i;
CALL slm_update('long', 'up', 'slm_generate(body, model => ''update_tiny'', max_tokens => 2)');
SELECT count(up) FROM long;
CALL slm_update('long', 'up', 'slm_generate(body, model => ''update_tiny'', max_tokens => 2)', on_error => 'null');
SELECT count(up) FROM long;
DROP TABLE long;

-- ---- what stops it before a row is touched
CREATE TABLE s (id int PRIMARY KEY, body text, up text, n int, g text GENERATED ALWAYS AS (body) STORED, short varchar(3));
INSERT INTO s SELECT i, 'text ' || i FROM generate_series(1, 10) i;
CALL slm_update('s', 'up', 'nothing(body)');
CALL slm_update('s', 'up', '1) --');
CALL slm_update('s', 'up', 'body FROM s');
CALL slm_update('s', 'up', 'max(body)');
CALL slm_update('s', 'up', '''x''', 'true) --');
CALL slm_update('s', 'up', '''x''', 'body');
CALL slm_update('s', 'up', '''x''', 'count(*) > 1');
CALL slm_update('s', 'up', '''x''', '');
CALL slm_update('s', 'n', 'body');
CALL slm_update('s', 'nowhere', 'body');
CALL slm_update('s', 'id', 'id + 1');
CALL slm_update('s', 'g', 'body');
CALL slm_update('s', NULL, 'body');
CALL slm_update('s', 'up', 'slm_generate(body)');
CALL slm_update('s', 'up', 'slm_generate(body, model => ''gone'')');
CALL slm_update('s', 'up', 'slm_classify(body, classifier => ''gone'')');
CALL slm_update('s', 'short', 'body');
CALL slm_update('s', 'up', '(1 / (id - id))::text');
BEGIN;
CALL slm_update('s', 'up', 'body');
ROLLBACK;
CREATE FUNCTION inside() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL slm_update('s', 'up', 'body'); END $$;
SELECT inside();
CREATE TABLE keyless (id int, up text);
CALL slm_update('keyless', 'up', '1');
CREATE VIEW s_view AS SELECT * FROM s;
CALL slm_update('s_view', 'up', '1');
CREATE TEMP TABLE temporary (id int PRIMARY KEY, up text);
CALL slm_update('temporary', 'up', '1');
CALL slm_update('slm.update_run', 'expression', '1');
CALL slm_update('pg_class', 'relname', '1');
SELECT count(up) FROM s;
-- inside a procedure it commits as it does alone
CREATE PROCEDURE outside() LANGUAGE plpgsql AS $$ BEGIN CALL slm_update('s', 'up', 'body'); END $$;
CALL outside();
SELECT count(up) FROM s;
-- what is known of tables that are gone goes with the next one
SELECT source, state FROM slm.updates ORDER BY id;

-- ---- keys and names of every kind, partitions
CREATE TABLE parts (k int, id text, body text, up text, PRIMARY KEY (k, id)) PARTITION BY RANGE (k);
CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE part2 (junk int, up text, body text, id text NOT NULL, k int NOT NULL);
ALTER TABLE part2 DROP COLUMN junk;
ALTER TABLE parts ATTACH PARTITION part2 DEFAULT;
INSERT INTO parts SELECT i % 30, i, 'b' || i FROM generate_series(1, 500) i;
CALL slm_update('parts', 'up', 'upper(parts.body) || (parts).k');
SELECT count(*) FILTER (WHERE up = upper(body) || k) FROM parts;
CREATE TABLE "select" ("from" date, "a "" b" timestamptz, f float8, "Body" text, "WHERE" text, PRIMARY KEY ("a "" b", f, "from"));
INSERT INTO "select" SELECT '2020-01-01'::date + i, '2020-10-25 00:00+00'::timestamptz + i * interval '1 hour', 1 / i::float8, E'b''"\\' || i FROM generate_series(1, 200) i;
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'Europe/Berlin';
CALL slm_update('"select"', 'WHERE', '"select"."Body" || "from"', '"Body" <> $$b$$');
SELECT count(*) FILTER (WHERE "WHERE" = "Body" || "from"), max("WHERE") FROM "select";
RESET DateStyle;
RESET TimeZone;

-- a key that changed while it was not finished: nobody knows where to go on
CREATE TABLE rekeyed (id int PRIMARY KEY, body text, up text);
INSERT INTO rekeyed SELECT i, 'b' FROM generate_series(1, 2000) i;
CREATE FUNCTION stops(id int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF id = 1900 THEN RAISE query_canceled; END IF; RETURN id; END $$;
\set VERBOSITY terse
CALL slm_update('rekeyed', 'up', 'stops(id)');
\set VERBOSITY default
SELECT state, rows_seen BETWEEN 1 AND 1899 AS begun FROM slm.updates WHERE source = 'rekeyed'::regclass;
ALTER TABLE rekeyed RENAME COLUMN id TO number;
CALL slm_update('rekeyed', 'up', 'stops(id)');
ALTER TABLE rekeyed RENAME COLUMN number TO id;
ALTER TABLE rekeyed ALTER COLUMN id TYPE text;
CREATE OR REPLACE FUNCTION stops(id text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CALL slm_update('rekeyed', 'up', 'stops(id)');
CALL slm_update('rekeyed', 'up', 'stops(id)', restart => true);
SELECT count(*) FILTER (WHERE up = id) FROM rekeyed;

-- ---- as whom: the owner, whoever calls; never a role that the caller may not become
CREATE ROLE update_alice;
CREATE ROLE update_bob;
CREATE ROLE update_carol IN ROLE update_alice;
GRANT ALL ON SCHEMA up TO update_alice, update_bob, update_carol;
SET ROLE update_alice;
CREATE TABLE own (id int PRIMARY KEY, b text, who text);
INSERT INTO own SELECT i, 'x' FROM generate_series(1, 50) i;
GRANT ALL ON own TO update_bob;
CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.who = current_user || ' ' || pg_has_role('pg_write_all_data', 'USAGE'); RETURN new; END $$;
CREATE TRIGGER who BEFORE UPDATE ON own FOR EACH ROW EXECUTE FUNCTION who();
SET ROLE update_bob;
CALL slm_update('own', 'b', 'current_user');
SET ROLE update_carol;
CALL slm_update('own', 'b', 'current_user');
SELECT b, who, count(*) FROM own GROUP BY 1, 2;
RESET ROLE;
CALL slm_update('own', 'b', 'current_user || set_config(''search_path'', ''x'', false) || set_config(''work_mem'', ''65MB'', false)');
SELECT b, who, count(*) FROM own GROUP BY 1, 2;
SHOW search_path;
SHOW work_mem;
CALL slm_update('own', 'b', 'current_setting(''slm.on_error'')', on_error => 'null');
CALL slm_update('own', 'b', 'body', on_error => 'nothing');
SELECT b, current_setting('slm.on_error') AS outside, count(*) FROM own GROUP BY 1;
-- nothing that the owner wrote runs as the superuser who calls: triggers, deferred ones, columns' checks, indexes, types, rules
SET ROLE update_alice;
CREATE TABLE seen (who text);
CREATE FUNCTION note_seen() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO up.seen VALUES (current_user); RETURN true; END $$;
CREATE FUNCTION spy(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN up.note_seen(); END $$;
CREATE FUNCTION spy_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (current_user); RETURN new; END $$;
CREATE DOMAIN spied AS text CHECK (spy(value));
CREATE TABLE trap (id spied PRIMARY KEY, b spied DEFAULT 'd', c text CHECK (spy(c)));
INSERT INTO trap SELECT i, 'b', 'c' FROM generate_series(1, 5) i;
CREATE INDEX ON trap ((spy(b)));
CREATE POLICY spied ON trap USING (spy(b)) WITH CHECK (spy(c));
ALTER TABLE trap ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER spied BEFORE UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION spy_trigger();
CREATE CONSTRAINT TRIGGER spied_later AFTER UPDATE ON trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spy_trigger();
TRUNCATE seen;
RESET ROLE;
CALL slm_update('trap', 'b', $$b || 'x'$$, 'spy(b)');
SELECT count(*) > 10 AS many, count(*) FILTER (WHERE who <> 'update_alice') AS others FROM seen;
SET ROLE update_alice;
CREATE OR REPLACE FUNCTION spy_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO seen VALUES (current_user); RETURN new; END $$;
RESET ROLE;
CALL slm_update('trap', 'b', $$b || 'y'$$);
SELECT count(*) > 10 AS many, count(*) FILTER (WHERE who <> 'update_alice') AS others FROM seen;
-- notes are for their roles
SET ROLE update_bob;
SELECT count(*) FROM slm.updates;
SELECT count(*) FROM slm.update_failures;
SELECT count(*) FROM slm.update_run;
SELECT count(*) FROM slm.update_failure;
RESET ROLE;
SELECT has_table_privilege('public', 'slm.update_run', 'SELECT') OR has_table_privilege('public', 'slm.update_failure', 'SELECT') AS readable_by_all;

DROP SCHEMA up CASCADE;
DROP ROLE update_bob, update_carol, update_alice;
SELECT slm_drop_model('update_tiny');
