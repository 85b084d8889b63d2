-- Settings: who may change them, what they accept, and that no answer depends on them.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
LOAD 'slm_pg';
SELECT name, context, unit, boot_val, short_desc <> '' AS described FROM pg_settings WHERE name IN ('slm.threads', 'slm.max_threads', 'slm.isa', 'slm.model_directory',
  'slm.kv_cache_memory', 'slm.generate_model', 'slm.classify_model', 'slm.embed_model') ORDER BY name COLLATE "C";
SET slm.generate_model = 'smollm2';
SELECT slm_generate('Name a fruit.', max_tokens => 8) AS answer \gset
SET slm.threads = 1;
SELECT slm_generate('Name a fruit.', max_tokens => 8) = :'answer' AS same;
SET slm.threads = 2;
SELECT slm_generate('Name a fruit.', max_tokens => 8) = :'answer' AS same;
SET slm.isa = 'ref';
SELECT slm_generate('Name a fruit.', max_tokens => 8) = :'answer' AS same, (SELECT value FROM slm_system_info() WHERE item = 'instruction set');
RESET slm.isa;
SET slm.kv_cache_memory = '64MB';
SELECT slm_generate('Name a fruit.', max_tokens => 8) = :'answer' AS same;
RESET slm.kv_cache_memory;
SET slm.isa = 'sse9';
SET slm.threads = -1;
SET slm.threads = 5000;
-- 17 says the range with its unit
\set VERBOSITY sqlstate
SET slm.kv_cache_memory = '1kB';
\set VERBOSITY default
SET slm.max_threads = 3;
SET slm.model_directory = '/tmp';
SET slm.no_such_setting = 1;
SELECT item FROM slm_system_info() WHERE item NOT LIKE 'library %';
SELECT bool_and(value <> '') AS all_known FROM slm_system_info();
SELECT count(*) > 0 AS libraries FROM slm_system_info() WHERE item LIKE 'library %';
-- volatility, safety and cost as documented
SELECT proname, provolatile, proparallel, procost > 1000 AS dear FROM pg_proc WHERE probin LIKE '%slm_pg'
  AND proname IN ('slm_chat', 'slm_chunk', 'slm_generate', 'slm_generate_stream', 'slm_load_model',
    'slm_perplexity', 'slm_prewarm', 'slm_summarize', 'slm_token_logprobs', 'slm_tokenize') AND pronargs > 0 ORDER BY 1, pronargs;
-- in a parallel worker
CREATE TABLE rows_in_parallel AS SELECT i FROM generate_series(1, 4) i;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query'); -- its name up to 15, and since 16
SELECT count(DISTINCT slm_generate('Name a fruit.', max_tokens => 8)) AS answers, min(slm_generate('Name a fruit.', max_tokens => 8)) = :'answer' AS same FROM rows_in_parallel;
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
DROP TABLE rows_in_parallel;
