-- Dropping the model frees the disk; the extension goes without a trace in the catalog.
SELECT slm_drop_model('smollm2');
SELECT * FROM images();
SELECT count(*) FROM slm.models;
DROP FUNCTION images, try;
DROP EXTENSION slm_pg;
SELECT count(*) FROM pg_namespace WHERE nspname = 'slm';
