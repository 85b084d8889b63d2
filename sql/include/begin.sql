\set ECHO none
-- What every file of the regression tests begins with: a database with nothing but the extension, whatever ran there before, the files of
-- models, and two functions.  So each file runs alone, and in any order (make test-long tries both).
\getenv cache SLM_MODEL_CACHE
\set model :cache '/SmolLM2-135M-Instruct.Q4_1.gguf'
\set minilm :cache '/all-MiniLM-L6-v2'
\set tiny_file :srcdir '/test/data/tiny.gguf'
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS slm_pg CASCADE;
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA public TO PUBLIC;
CREATE EXTENSION slm_pg;
-- runs a statement and shows what it says, without paths and without stopping the test
CREATE FUNCTION try(statement text) RETURNS TABLE (state text, message text, detail text, hint text) LANGUAGE plpgsql AS $$
DECLARE path CONSTANT text := '/[^" ]*/';
BEGIN
  EXECUTE statement;
  state := 'ok';
  RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  message := regexp_replace(message, path, '.../', 'g');
  detail := nullif(regexp_replace(detail, path, '.../', 'g'), '');
  hint := nullif(regexp_replace(hint, path, '.../', 'g'), '');
  RETURN NEXT;
END $$;
-- the image directory as far as this database uses it (others of the cluster may have images there too)
CREATE FUNCTION images() RETURNS TABLE (kind text, n bigint) LANGUAGE sql AS $$
  WITH file AS (SELECT f, split_part(f, '.', 1) AS key, substring(f FROM '\.db([0-9]+)$')::oid AS db
                FROM pg_ls_dir(current_setting('slm.model_directory'), true, false) f WHERE f <> 'tuning'),
       key AS (SELECT key, bool_or(db = d.oid) AS ours, bool_or(db <> d.oid) AS others
               FROM file, pg_database d WHERE d.datname = current_database() GROUP BY key)
  SELECT regexp_replace(regexp_replace(f, '^[0-9a-f]{16}-[0-9a-f]{24}', '<stem>'), '[0-9]+$', '<n>'), count(*)
  FROM file JOIN key USING (key) JOIN pg_database d ON d.datname = current_database()
  WHERE (ours OR others IS NOT TRUE) AND (db IS NULL OR db = d.oid) GROUP BY 1 ORDER BY min(f) COLLATE "C" $$;

RESET client_min_messages;
\set ECHO all
