-- Whose fault an error is: rows that fail at once or are tried again, what stops a job as a whole, values of users.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT (slm_load_model('errors_tiny', :'tiny_file')).name;
SELECT (slm_load_model('errors_minilm', :'minilm')).name;
CREATE SCHEMA je;
SET search_path = je, public;
CREATE VIEW status AS SELECT name, state, pending, done, stale, failed, kept, retrying, last_error FROM slm.job_status ORDER BY name;

-- ---- the row's data: at once, and the others are computed
CREATE TABLE t (id int PRIMARY KEY, body text, out text, n int);
CREATE FUNCTION picky(id int, body text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    CASE id % 100
        WHEN 1 THEN RETURN 1 / 0;
        WHEN 2 THEN RETURN body::int;
        WHEN 3 THEN RAISE 'a trigger or function says no';
        WHEN 4 THEN RAISE USING ERRCODE = '54000', MESSAGE = 'too long';
        WHEN 5 THEN RAISE USING ERRCODE = '0A000', MESSAGE = 'not supported';
        WHEN 6 THEN RAISE USING ERRCODE = '23514', MESSAGE = 'a constraint';
        WHEN 7 THEN RAISE USING ERRCODE = '40001', MESSAGE = 'somebody was in the way';
        WHEN 8 THEN RAISE USING ERRCODE = '53200', MESSAGE = 'memory';
        WHEN 9 THEN RETURN slm_generate(body, model => 'errors_gone');
        WHEN 10 THEN EXECUTE 'SELECT * FROM nowhere';
        ELSE RETURN upper(body);
    END CASE;
END $$;
SELECT slm_create_job('j', 't', 'out', 'picky(id, body)', '{"paused": true, "retry_delay": "1 hour"}');
INSERT INTO t SELECT i, 'text ' || i FROM generate_series(1, 40) i;
CALL slm_run_job('j');
SELECT count(*) FROM t WHERE out = upper(body);
SELECT key, error, attempts FROM slm.job_failures ORDER BY key;
SELECT * FROM status;
SELECT key, attempts, waits, failed, error FROM slm.job_queue WHERE NOT failed ORDER BY key;
SELECT eta IS NULL OR eta = '0' AS nothing_is_due FROM slm.job_status;
SELECT slm_retry_failed('j');
-- with another expression all of them are computed
SELECT slm_alter_job('j', 'lower(body)');
CALL slm_run_job('j');
SELECT * FROM status;
SELECT count(*) FROM t WHERE out = lower(body);
SELECT slm_drop_job('j');

-- ---- what the expression needs: the job stops, and no row is charged
SELECT (slm_load_model('errors_other', :'tiny_file', '{"quantization": "F32"}')).name;
CREATE FUNCTION wrapped(text) RETURNS text LANGUAGE sql AS $$ SELECT slm_generate($1, model => 'errors_other', max_tokens => 2) $$;
CREATE FUNCTION default_model(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN slm_generate($1, max_tokens => 2); END $$;
CREATE TABLE helper (x int);
CREATE FUNCTION helped(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN $1 || (SELECT count(*) FROM helper); END $$;
UPDATE t SET out = NULL;
SELECT slm_create_job('named', 't', 'out', 'slm_generate(body, model => ''errors_other'', max_tokens => 2)', '{"paused": true}');
SELECT slm_rename_model('errors_other', 'errors_renamed', cascade => true);
CALL slm_run_job('named');
SELECT slm_drop_job('named');
SELECT slm_rename_model('errors_renamed', 'errors_other');
SELECT slm_create_job('wrapped', 't', 'out', 'wrapped(body)', '{"paused": true}');
SELECT slm_rename_model('errors_other', 'errors_renamed', cascade => true);
CALL slm_run_job('wrapped');
SELECT * FROM status;
SELECT count(*) FROM slm.job_queue WHERE attempts > 0 OR failed OR tries > 0;
SELECT slm_rename_model('errors_renamed', 'errors_other');
CALL slm_run_job('wrapped');
SELECT name, done, failed FROM status;
SELECT slm_drop_job('wrapped');
UPDATE t SET out = NULL;
-- a default model that is not set: refused at creation where it can be seen, else it stops the job
SELECT slm_create_job('unset', 't', 'out', 'slm_generate(body, max_tokens => 2)', '{"paused": true}');
SELECT slm_create_job('unset', 't', 'out', 'default_model(body)', '{"paused": true}');
CALL slm_run_job('unset');
SELECT count(*) FROM slm.job_queue WHERE attempts > 0 OR failed OR tries > 0;
SELECT slm_drop_job('unset');
-- settings of the session are kept with the job
SET slm.generate_model = 'errors_tiny';
SELECT slm_create_job('kept', 't', 'out', 'default_model(body)', '{"paused": true}');
RESET slm.generate_model;
CALL slm_run_job('kept');
SELECT name, done, failed FROM status;
SELECT slm_drop_job('kept');
-- a table, a function, a privilege
UPDATE t SET out = NULL;
SELECT slm_create_job('helped', 't', 'out', 'helped(body)', '{"paused": true}');
ALTER TABLE helper RENAME TO helper2;
CALL slm_run_job('helped');
ALTER TABLE helper2 RENAME TO helper;
CREATE ROLE errors_owner;
GRANT ALL ON SCHEMA je TO errors_owner;
ALTER TABLE t OWNER TO errors_owner;
CALL slm_run_job('helped');
SELECT count(*) FROM slm.job_queue WHERE attempts > 0 OR failed OR tries > 0;
GRANT SELECT ON helper TO errors_owner;
CALL slm_run_job('helped');
SELECT name, done, failed FROM status;
SELECT slm_drop_job('helped');
ALTER TABLE t OWNER TO CURRENT_USER;
-- a classifier
SELECT version FROM slm_train_classifier('errors_topic', 'SELECT q.* FROM (VALUES (''charged twice'', ''billing''), (''wrong invoice'', ''billing''), (''late parcel'', ''delivery''),
    (''lost by the courier'', ''delivery'')) q(body, label), generate_series(1, 5)', model => 'errors_minilm');
UPDATE t SET out = NULL;
SELECT slm_create_job('topic', 't', 'out', 'slm_classify(body, classifier => ''errors_topic'')', '{"paused": true}');
CALL slm_run_job('topic');
SELECT name, done, failed FROM status;
INSERT INTO t VALUES (101, 'too much money'), (102, 'not arrived');
DELETE FROM slm.classifier_registry WHERE name = 'errors_topic';
\c -
\set VERBOSITY terse
SET client_min_messages = warning;
SET search_path = je, public;
CALL slm_run_job('topic');
SELECT count(*) FROM slm.job_queue WHERE attempts > 0 OR failed OR tries > 0;
SELECT slm_drop_job('topic');

-- ---- values of users are counted, and neither stale nor pending
DELETE FROM t WHERE id > 10;
UPDATE t SET out = CASE WHEN id <= 3 THEN 'mine' END;
SELECT slm_create_job('k', 't', 'out', 'upper(body)', '{"paused": true}');
CALL slm_run_job('k');
SELECT name, pending, done, stale, kept FROM status;
SELECT slm_alter_job('k', 'lower(body)');
UPDATE t SET out = 'mine too' WHERE id = 4;
CALL slm_run_job('k');
SELECT name, pending, done, stale, kept FROM status;
UPDATE t SET out = NULL WHERE id IN (1, 4);
UPDATE t SET body = body || '.' WHERE id IN (1, 4);
CALL slm_run_job('k');
SELECT name, pending, done, stale, kept FROM status;
SELECT id, out FROM t WHERE id <= 5 ORDER BY id;
SELECT slm_alter_job('k', options => '{"overwrite": true}');
CALL slm_run_job('k');
SELECT name, pending, done, stale, kept FROM status;
SELECT slm_drop_job('k');
-- a separate target
CREATE TABLE target (id int PRIMARY KEY, out text);
INSERT INTO target VALUES (1, 'mine'), (2, NULL);
SELECT slm_create_job('s', 't', 'out', 'upper(body)', '{"paused": true, "target": "target"}');
CALL slm_run_job('s');
SELECT name, pending, done, stale, kept FROM status;
SELECT slm_drop_job('s');

-- ---- two jobs on one column, a job on its own input
SELECT slm_create_job('one', 't', 'out', 'upper(body)', '{"paused": true}');
SELECT slm_create_job('two', 't', 'out', 'lower(body)', '{"paused": true}');
SELECT slm_create_job('two', 't', 'body', 'lower(body)', '{"paused": true}');
SELECT slm_create_job('two', 't', 'body', '(SELECT string_agg(s.body, '','') FROM t s)', '{"paused": true}');
SELECT slm_alter_job('one', 'upper(out)');
SELECT slm_drop_job('one');

DROP SCHEMA je CASCADE;
DROP ROLE errors_owner;
SELECT slm_drop_model('errors_tiny', cascade => true);
SELECT slm_drop_model('errors_other', cascade => true);
SELECT slm_drop_model('errors_minilm', cascade => true);
