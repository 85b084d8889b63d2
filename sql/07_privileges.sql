-- Who may load, use, and change a model.
\getenv cache SLM_MODEL_CACHE
\set model :cache '/SmolLM2-135M-Instruct.Q4_1.gguf'
CREATE ROLE slm_reader;
CREATE ROLE slm_team;
CREATE ROLE slm_member IN ROLE slm_team;
CREATE ROLE slm_loader IN ROLE pg_read_server_files;
\x on
SET ROLE slm_reader;
SELECT name, owner FROM slm.models;
SELECT * FROM try($$SELECT slm_generate('x', model => 'smollm2')$$);
SELECT * FROM try($$SELECT slm_generate('x', model => 'unknown')$$);
SELECT * FROM try($$SELECT slm_tokenize('x', model => 'smollm2')$$);
SELECT * FROM try($$SELECT slm_prewarm('smollm2')$$);
SELECT * FROM try($$SELECT slm_drop_model('smollm2')$$);
SELECT * FROM try($$SELECT slm_rename_model('smollm2', 'mine')$$);
SELECT * FROM try($$SELECT slm_grant_model('smollm2', 'slm_reader')$$);
SELECT * FROM try($$SELECT slm_revoke_model('smollm2', 'slm_reader')$$);
SELECT * FROM try($$SELECT * FROM slm.model_registry$$);
SELECT * FROM try($$SELECT slm_load_model('mine', '/etc/passwd')$$);
SELECT * FROM try($$SET slm.isa = 'ref'$$);
RESET ROLE;
-- EXECUTE alone is not enough, nor is membership alone
GRANT EXECUTE ON FUNCTION slm_load_model TO slm_reader;
SET ROLE slm_reader;
SELECT * FROM try($$SELECT slm_load_model('mine', '/etc/passwd')$$);
SET ROLE slm_loader;
SELECT * FROM try($$SELECT slm_load_model('mine', '/etc/passwd')$$);
RESET ROLE;
\x off
GRANT EXECUTE ON FUNCTION slm_load_model TO slm_loader;
SET ROLE slm_loader;
SELECT name, owner FROM slm_load_model('loaded', :'model');
SELECT slm_count_tokens('one two', model => 'loaded');
SELECT slm_grant_model('loaded', 'slm_team');
RESET ROLE;
SET ROLE slm_member;
SELECT slm_count_tokens('one two', model => 'loaded');
RESET ROLE;
SET ROLE slm_reader;
SELECT message FROM try($$SELECT slm_count_tokens('one two', model => 'loaded')$$);
RESET ROLE;
SELECT slm_grant_model('loaded', 'PUBLIC');
SELECT slm_grant_model('loaded', 'slm_team');
SELECT name, roles FROM slm.models ORDER BY name;
SET ROLE slm_reader;
SELECT slm_count_tokens('one two', model => 'loaded');
RESET ROLE;
SELECT slm_revoke_model('loaded', 'public');
SELECT slm_revoke_model('loaded', 'slm_team');
SET ROLE slm_member;
SELECT message FROM try($$SELECT slm_count_tokens('one two', model => 'loaded')$$);
RESET ROLE;
-- a search path with traps changes nothing
CREATE SCHEMA trap;
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT NULL::timestamptz$$;
CREATE FUNCTION trap.int4(text) RETURNS int LANGUAGE sql AS $$SELECT 1/0$$;
CREATE FUNCTION trap.eq(text, text) RETURNS bool LANGUAGE sql AS $$SELECT true$$;
CREATE OPERATOR trap.= (FUNCTION = trap.eq, LEFTARG = text, RIGHTARG = text);
SET search_path = trap, pg_catalog, public;
SELECT slm_rename_model('loaded', 'renamed');
RESET search_path;
SELECT name, loaded_at IS NOT NULL AS loaded FROM slm.models ORDER BY name;
DROP SCHEMA trap CASCADE;
SET ROLE slm_loader;
SELECT slm_drop_model('renamed');
RESET ROLE;
SELECT name FROM slm.models;
REVOKE EXECUTE ON FUNCTION slm_load_model FROM slm_loader, slm_reader;
DROP ROLE slm_reader, slm_member, slm_team, slm_loader;
