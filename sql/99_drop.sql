-- Dropping the model frees the disk; the extension goes without a trace in the catalog.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT slm_drop_model('smollm2');
SELECT * FROM images();
SELECT count(*) FROM slm.models;
DROP FUNCTION images, try;
DROP EXTENSION slm_pg;
SELECT count(*) FROM pg_namespace WHERE nspname = 'slm';
