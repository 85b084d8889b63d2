-- Loading, renaming, granting and dropping models.
-- Paths never appear in the output.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT slm_version() = extversion AS one_version FROM pg_extension WHERE extname = 'slm_pg';

-- every object has a comment
SELECT p.proname FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = 'slm_pg' AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'slm'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;

SELECT name, family, parameters, quantization, context_length, vocabulary, embedding_dimension, licence, chat_format, owner = current_user::regrole AS mine,
  roles, can_generate, can_embed, substr(sha256, 1, 16) AS sha256
  FROM slm_load_model('smollm2', :'model');
SELECT name, image_bytes BETWEEN 80000000 AND 200000000 AS plausible, layers, tokenizer, kv_bytes_per_token, options FROM slm.models;
SELECT name, state, mapped, progress, pid FROM slm.model_status;
SELECT slm_prewarm('smollm2') = image_bytes AS whole FROM slm.models;
SELECT name, state, mapped, resident_bytes > 0.9 * image_bytes AS resident FROM slm.model_status;

-- the same file under two names shares one image
SELECT name FROM slm_load_model('second', :'model', '{}');
SELECT * FROM images();
\x on
SELECT * FROM try(format('SELECT slm_load_model(%L, %L)', 'smollm2', :'model'));
SELECT * FROM try(format('SELECT slm_load_model(%L, %L)', 'a b', :'model'));
SELECT * FROM try(format('SELECT slm_load_model(%L, %L)', '', :'model'));
SELECT * FROM try(format('SELECT slm_load_model(%L, %L)', repeat('x', 64), :'model'));
SELECT * FROM try(format('SELECT slm_load_model(NULL, %L)', :'model'));
SELECT * FROM try(format('SELECT slm_load_model(%L, %L, %L)', 'x', :'model', '[]'));
SELECT * FROM try(format('SELECT slm_load_model(%L, %L, %L)', 'x', :'model', '{"quantisation": "Q8_0"}'));
SELECT * FROM try(format('SELECT slm_load_model(%L, %L, %L)', 'x', :'model', '{"quantization": 8}'));
SELECT * FROM try(format('SELECT slm_load_model(%L, %L, %L)', 'x', :'model', '{"chat_format": "no such format"}'));
SELECT * FROM try($$SELECT slm_drop_model('unknown')$$);
SELECT * FROM try($$SELECT slm_drop_model(NULL)$$);
SELECT * FROM try($$SELECT slm_rename_model('second', 'smollm2')$$);
SELECT * FROM try($$SELECT slm_rename_model('second', '-x')$$);
SELECT * FROM try($$SELECT slm_rename_model('unknown', 'x')$$);
SELECT * FROM try($$SELECT slm_grant_model('unknown', 'public')$$);
SELECT * FROM try($$SELECT slm_grant_model('second', 'no_such_role')$$);
SELECT * FROM try($$SELECT slm_prewarm('unknown')$$);
\x off
SELECT slm_rename_model('second', 'third');
SELECT name FROM slm.models ORDER BY name;

-- transactions: what is rolled back has not happened
BEGIN;
SELECT slm_drop_model('smollm2');
SELECT slm_drop_model('third');
SELECT count(*) FROM slm.models;
ROLLBACK;
SELECT name FROM slm.models ORDER BY name;
SELECT * FROM images();
BEGIN;
SELECT slm_drop_model('third');
SAVEPOINT a;
SELECT name FROM slm_load_model('fourth', :'model');
ROLLBACK TO a;
COMMIT;
SELECT name FROM slm.models ORDER BY name;
SELECT * FROM images();
BEGIN READ ONLY;
SELECT slm_drop_model('smollm2');
ROLLBACK;
BEGIN;
SELECT slm_rename_model('smollm2', 'x');
SELECT slm_drop_model('x');
PREPARE TRANSACTION 'slm';
BEGIN;
SELECT slm_drop_model('smollm2');
SELECT name FROM slm_load_model('smollm2', :'model');
COMMIT;
SELECT name FROM slm.models ORDER BY name;
SELECT * FROM images();

-- the last user frees the disk, and an image that is missing is said to be
SELECT slm_drop_model('smollm2');
SELECT * FROM images();
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT * FROM images();
