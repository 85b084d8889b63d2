-- Files that are no models, or not whole: one clear ERROR each, no row and no file left behind, and the backend lives.
-- files are made in the data directory by the server itself
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
CREATE TABLE backend AS SELECT pg_backend_pid() AS pid;
CREATE FUNCTION bad_file(name text, content bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE object oid := lo_from_bytea(0, content);
DECLARE path text := current_setting('data_directory') || '/' || name;
BEGIN
  PERFORM lo_export(object, path);
  PERFORM lo_unlink(object);
  RETURN path;
END $$;
CREATE FUNCTION try_load(path text) RETURNS TABLE (state text, message text, detail text, hint text) LANGUAGE sql AS
  $$ SELECT * FROM try(format('SELECT slm_load_model(%L, %L)', 'bad', path)) $$;
\x on
SELECT * FROM try_load('/no/such/file.gguf');
SELECT * FROM try_load('');
SELECT * FROM try_load('/dev/null');
SELECT * FROM try_load('/dev/zero');
SELECT * FROM try_load('pg_notify');
SELECT * FROM try_load(bad_file('empty.gguf', ''));
SELECT * FROM try_load(bad_file('text.gguf', 'This is a letter, not a model.'));
SELECT * FROM try_load(bad_file('magic.gguf', 'GGUF'));
SELECT * FROM try_load(bad_file('version.gguf', '\x47475546ff00000000000000000000000000000000000000'));
-- 2^63 tensors; an array of 2^62 entries
SELECT * FROM try_load(bad_file('tensors.gguf', '\x4747554603000000ffffffffffffff7f0000000000000000'));
SELECT * FROM try_load(bad_file('array.gguf', '\x4747554603000000000000000000000001000000000000000100000000000000610900000000000000ffffffffffffff3f'));
-- the beginning of a real file
SELECT * FROM try_load(bad_file('short.gguf', pg_read_binary_file(:'model', 0, 3000000)));
-- a real file with a bit of its header flipped
SELECT * FROM try_load(bad_file('flipped.gguf', set_bit(pg_read_binary_file(:'model', 0, 2000000), 8 * 16 + 3, 1)));
-- a vocabulary whose merges, or whose rule of splitting, got lost; the rule may be named
\set tiny :srcdir '/test/data/tiny.gguf'
CREATE FUNCTION without_key(file bytea, key bytea) RETURNS bytea LANGUAGE sql AS
  $$ SELECT overlay(file PLACING substr(key, 1, length(key) - 1) || '_'::bytea FROM position(key IN file)) $$;
SELECT * FROM try_load(bad_file('merges.gguf', without_key(pg_read_binary_file(:'tiny'), 'tokenizer.ggml.merges')));
SELECT name, tokenizer FROM slm_load_model('no_rule', bad_file('rule.gguf', without_key(pg_read_binary_file(:'tiny'), 'tokenizer.ggml.pre')));
SELECT name, tokenizer, options FROM slm_load_model('a_rule', current_setting('data_directory') || '/rule.gguf', '{"pre": "qwen2"}');
SELECT * FROM try(format('SELECT slm_load_model(%L, %L, %L)', 'bad', current_setting('data_directory') || '/rule.gguf', '{"pre": "none such"}'));
SELECT slm_drop_model('no_rule'), slm_drop_model('a_rule');
-- scalings of RoPE that are not done here are refused by their key
CREATE FUNCTION with_key(file bytea, key bytea, value bytea) RETURNS bytea LANGUAGE sql AS
  $$ SELECT substr(file, 1, 16) || set_byte(substr(file, 17, 8), 0, get_byte(file, 16) + 1) || set_byte('\x0000000000000000', 0, length(key)) || key || value
       || substr(file, 25) || decode(repeat('00', 128), 'hex') $$;
SELECT * FROM try_load(bad_file('yarn.gguf', with_key(pg_read_binary_file(:'tiny'), 'llama.rope.scaling.yarn_log_multiplier', '\x06000000cdcccc3d')));
SELECT * FROM try_load(bad_file('yarn.gguf', with_key(pg_read_binary_file(:'tiny'), 'llama.rope.scaling.type', '\x0800000004000000000000007961726e')));
\x off
SELECT pid = pg_backend_pid() AS same_backend FROM backend;
SELECT name FROM slm.models ORDER BY name;
SELECT * FROM images();
SELECT slm_generate('What is the capital of France?', model => 'smollm2', max_tokens => 8);
DROP TABLE backend;
DROP FUNCTION bad_file, try_load, without_key, with_key;
