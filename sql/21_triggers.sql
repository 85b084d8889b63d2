-- slm_trigger and slm_create_trigger: expressions of every kind, names under any search_path, what is refused when it is made.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT (slm_load_model('trigger_tiny', :'tiny_file')).name;
CREATE SCHEMA tr;
SET search_path = tr, public;
CREATE TABLE t (id int PRIMARY KEY, body text, out text);
\set VERBOSITY terse

-- ---- what is not one expression ends nothing but the statement
CREATE FUNCTION try(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
BEGIN
    EXECUTE format('CREATE OR REPLACE TRIGGER x BEFORE INSERT ON tr.t FOR EACH ROW EXECUTE FUNCTION slm_trigger(''out'', %L)', expression);
    INSERT INTO tr.t VALUES ((SELECT count(*) FROM tr.t), 'body') RETURNING out INTO message;
    RETURN coalesce(message, 'NULL');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    RETURN state || ' ' || message;
END $$;
SELECT expression, try(expression) FROM unnest(ARRAY[
    '1) --', '1); SELECT (2', '1) INTO x --', '1; DROP TABLE tr.t', '1;', '1) FROM tr.t; --', '1 /*', '1 -- a comment', '1 /* a comment */', '''1) --''',
    'body FROM tr.t', 'body WHERE true', 'body INTO x', 'body LIMIT 1', 'body ORDER BY 1', 'body FOR UPDATE', 'body GROUP BY body', 'DISTINCT body', '1 UNION SELECT 2', 'body AS x', 'body x',
    '', ' ', '-- nothing', '1, 2', '(1, 2)', '*', 't.*', '(t).*', 't', '$1', '($1).body', '(SELECT $1)', 'slm_expression', 'DEFAULT', 'SELECT 1', '(SELECT 1)',
    '(SELECT 1, 2)', '(SELECT body FROM tr.t)', '(SELECT body INTO x)', '(WITH d AS (DELETE FROM tr.t RETURNING 1) SELECT count(*) FROM d)',
    'max(body)', '(SELECT max(t.body))', '(SELECT max(x) FROM (SELECT t.body AS x) s)', 'row_number() OVER ()', 'count(*) FILTER (WHERE true)', 'generate_series(1, 2)', 'unnest(ARRAY[1])',
    'EXISTS (SELECT FROM generate_series(1, 2))', 'ARRAY(SELECT generate_series(1, 2))', 'ctid', 'tableoid', 'nothing(body)', 'no_column', 'body COLLATE "C"', 'grouping(body)', 'CASE WHEN id > 0 THEN body END']) expression;
SELECT count(*) > 0 AS still_there FROM t;
-- while another statement's expression is parsed with other rules for strings
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SELECT try(E'''a\\'' || body'), try(E'''a\\'') --');
RESET standard_conforming_strings;
SELECT try(E'''a\\'' || body'), try(E'E''a\\'' || body --'''), try('$q$') AS unterminated;
DROP TABLE t;

-- ---- a plan that is in use while the table changes
CREATE TABLE r (id int, body text, out text);
CREATE FUNCTION deeper(b text, i int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF i < 20 THEN
        COMMENT ON TRIGGER x ON r IS 'changes the table';
        EXECUTE 'GRANT SELECT ON r TO ' || current_user;
        INSERT INTO r VALUES (i + 1, b || '.');
    END IF;
    RETURN b || i;
END $$;
CREATE TRIGGER x BEFORE INSERT ON r FOR EACH ROW EXECUTE FUNCTION slm_trigger('out', 'deeper(body, id)');
INSERT INTO r VALUES (1, 'a');
SELECT count(*), count(*) FILTER (WHERE out = body || id) AS right FROM r;
CREATE FUNCTION failing(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF i = 1 THEN RAISE 'no'; END IF; RETURN i; END $$;
CREATE OR REPLACE TRIGGER x BEFORE INSERT ON r FOR EACH ROW EXECUTE FUNCTION slm_trigger('out', 'failing(id)');
INSERT INTO r VALUES (1, 'a');
INSERT INTO r VALUES (2, 'a') RETURNING out;
SELECT count(*) <= 2 AS plans_are_freed FROM pg_backend_memory_contexts WHERE name = 'slm trigger';
DROP TABLE r;

-- ---- the row: whole, typed, one of its columns
CREATE TABLE w (id int PRIMARY KEY, body text, touched int DEFAULT 0, out jsonb, short varchar(4), num numeric(5,2));
ALTER TABLE w DROP COLUMN touched;
ALTER TABLE w ADD COLUMN touched int;
CREATE FUNCTION of_row(w) RETURNS text LANGUAGE sql AS 'SELECT ($1).body || ($1).id';
SELECT slm_create_trigger('w', 'out', 'to_jsonb(w) - ''out'' || jsonb_build_object(''f'', of_row(w))');
SELECT slm_create_trigger('w', 'num', 'id / 3.0');
SELECT slm_create_trigger('w', 'body', 'lower(body)');
INSERT INTO w (id, body) VALUES (1, 'ONE'), (2, NULL) RETURNING *;
UPDATE w SET body = 'UNO' WHERE id = 1 RETURNING *;
UPDATE w SET out = '{}' RETURNING id, out;
UPDATE w SET touched = 1 RETURNING id, out -> 'touched' AS touched;
SELECT slm_create_trigger('w', 'short', 'body');
INSERT INTO w (id, body) VALUES (3, 'three');
DROP TABLE w CASCADE;

-- ---- names mean the same under any search_path
CREATE SCHEMA app;
CREATE FUNCTION app.whisper(text) RETURNS text LANGUAGE sql AS 'SELECT lower($1)';
CREATE FUNCTION app.hush(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN whisper($1) || ''.''; END';
CREATE TABLE names (id int PRIMARY KEY, body text, n int, hushed text, stolen text);
CREATE TRIGGER n BEFORE INSERT OR UPDATE ON names FOR EACH ROW EXECUTE FUNCTION slm_trigger('n', 'slm_count_tokens(body, ''trigger_tiny'')');
SET search_path = app, tr, public;
SELECT slm_create_trigger('tr.names', 'hushed', 'hush(body)', 'quiet');
SET search_path = '';
INSERT INTO tr.names (id, body) VALUES (1, 'ONE TWO') RETURNING n > 0 AS counted, hushed;
UPDATE tr.names SET body = 'ONE' RETURNING n > 0 AS counted, hushed;
CREATE FUNCTION tr.definer() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ INSERT INTO tr.names (id, body) VALUES (2, 'TWO') RETURNING hushed $$;
SELECT tr.definer();
-- a writer's own functions, operators and temporary tables are not taken
CREATE SCHEMA thief;
CREATE FUNCTION thief.hush(text) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$;
CREATE FUNCTION thief.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$;
SET search_path = thief, pg_catalog;
INSERT INTO tr.names (id, body) VALUES (3, 'THREE') RETURNING hushed;
SHOW search_path;
SET search_path = tr, public;
-- the table's schema is renamed
ALTER SCHEMA tr RENAME TO tr2;
INSERT INTO tr2.names (id, body) VALUES (4, 'FOUR') RETURNING n > 0 AS counted, hushed;
ALTER SCHEMA tr2 RENAME TO tr;
-- what the expression sets ends with the row
SELECT slm_create_trigger('names', 'stolen', 'set_config(''search_path'', ''thief'', false) || set_config(''work_mem'', ''65MB'', false)');
INSERT INTO names (id, body) VALUES (5, 'FIVE') RETURNING stolen;
SHOW search_path;
SHOW work_mem;
DROP TRIGGER slm_stolen ON names;
\set SHOW_CONTEXT errors
\set VERBOSITY default
CREATE TRIGGER bad BEFORE INSERT ON names FOR EACH ROW EXECUTE FUNCTION slm_trigger('stolen', 'hush(body)');
INSERT INTO names (id, body) VALUES (6, 'SIX');
DROP TRIGGER bad ON names;
ALTER TABLE names RENAME COLUMN body TO text;
INSERT INTO names (id, text) VALUES (6, 'SIX');
ALTER TABLE names RENAME COLUMN text TO body;

-- ---- what slm_create_trigger refuses
\set SHOW_CONTEXT never
ALTER TABLE names ADD COLUMN g text GENERATED ALWAYS AS (upper(body)) STORED;
CREATE VIEW names_view AS SELECT * FROM names;
SELECT slm_create_trigger('names', 'nowhere', 'upper(body)');
SELECT slm_create_trigger('names', 'ctid', 'body');
SELECT slm_create_trigger('names', 'g', 'body');
SELECT slm_create_trigger('names', 'stolen', 'g');
SELECT slm_create_trigger('names', 'stolen', 'slm_clasify(body)');
SELECT slm_create_trigger('names', 'stolen', 'upper(bodies)');
SELECT slm_create_trigger('names', 'id', 'body');
SELECT slm_create_trigger('names', 'stolen', '1) --');
SELECT slm_create_trigger('names', 'stolen', 'slm_generate(body)');
SELECT slm_create_trigger('names', 'stolen', 'slm_generate(body, model => ''gone'')');
SELECT slm_create_trigger('names', 'stolen', 'slm_classify(body, ARRAY[''a'', ''b''], model => ''gone'')');
SELECT slm_create_trigger('names', 'stolen', '(SELECT string_agg(label, '','') FROM slm_classify_scores(body, ARRAY[''a'', ''b''], model => ''gone''))');
SELECT slm_create_trigger('names', 'stolen', 'slm_classify(body, classifier => ''gone'')');
SELECT slm_create_trigger('names', 'stolen', 'body', on_error => 'nothing');
SELECT slm_create_trigger('names', 'n', 'id');
SELECT slm_create_trigger('names', 'stolen', 'body', 'quiet');
SELECT slm_create_trigger('names_view', 'stolen', 'body');
SELECT slm_create_trigger('slm.job_queue', 'error', 'key::text');
SELECT slm_create_trigger('names', NULL, 'body');
SELECT slm_create_trigger('names', 'stolen', 'current_setting(''slm.on_error'')', on_error => 'null');
INSERT INTO names (id) VALUES (8) RETURNING stolen, current_setting('slm.on_error') AS outside;
DROP TRIGGER slm_stolen ON names;
-- texts that a function cannot take: NULL and a count, or an error that names the trigger
CREATE TABLE long (id int PRIMARY KEY, body text, out text);
SELECT slm_create_trigger('long', 'out', 'slm_generate(body, model => ''trigger_tiny'', max_tokens => 2)', on_error => 'null');
INSERT INTO long SELECT i, CASE WHEN i % 10 = 0 THEN repeat('long ', 5000) ELSE 'text ' || i END FROM generate_series(1, 20) i;
SELECT count(*), count(out) FROM long;
DROP TRIGGER slm_out ON long;
SELECT slm_create_trigger('long', 'out', 'slm_generate(body, model => ''trigger_tiny'', max_tokens => 2)');
\set SHOW_CONTEXT errors
INSERT INTO long VALUES (21, repeat('long ', 5000));
\set SHOW_CONTEXT never
CREATE TABLE parts (k int, body text, out text) PARTITION BY LIST (k);
CREATE TABLE part PARTITION OF parts DEFAULT;
SELECT slm_create_trigger('parts', 'k', 'id');
SELECT slm_create_trigger('part', 'k', 'id');
SELECT slm_create_trigger('parts', 'out', 'upper(body)');
INSERT INTO part VALUES (1, 'one') RETURNING out;
CREATE ROLE trigger_eve;
GRANT USAGE ON SCHEMA tr TO trigger_eve;
SET ROLE trigger_eve;
SELECT slm_create_trigger('names', 'stolen', 'body');
RESET ROLE;
GRANT TRIGGER ON names TO trigger_eve;
SET ROLE trigger_eve;
SELECT slm_create_trigger('names', 'stolen', 'slm_generate(body, model => ''trigger_tiny'')');
SELECT slm_create_trigger('names', 'stolen', '''by '' || current_user');
RESET ROLE;
INSERT INTO names (id) VALUES (7) RETURNING stolen = 'by ' || current_user AS as_the_writer;

SET client_min_messages = warning;
DROP SCHEMA tr, app, thief CASCADE;
DROP ROLE trigger_eve;
SELECT slm_drop_model('trigger_tiny');
