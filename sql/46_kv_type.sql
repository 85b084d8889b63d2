-- Keys and values in eight bits: a setting of the session that may change at any time; the same answers for the same choice; half the memory.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
LOAD 'slm_pg';
SET slm.generate_model = 'smollm2';
SELECT boot_val, context, enumvals FROM pg_settings WHERE name = 'slm.kv_type';
\set VERBOSITY terse
SET slm.kv_type = 'q4';
\set VERBOSITY default
SET slm.cache_timeout = 0;
CREATE TABLE note AS SELECT i, 'note ' || i || ': the ' || w || ' left at ' || i || ' o''clock' AS body
  FROM unnest(ARRAY['train', 'ship', 'bus', 'plane', 'tram', 'ferry']) WITH ORDINALITY t(w, i);
CREATE TEMP TABLE seen (kv text, how text, answers text);
CREATE PROCEDURE pg_temp.look(how text) LANGUAGE sql AS $$
  INSERT INTO seen SELECT current_setting('slm.kv_type'), how, string_agg(concat_ws('|', slm_generate('Repeat: ' || body, max_tokens => 6),
    slm_classify(body, ARRAY['on rails', 'on water', 'in the air'], method => 'direct'), slm_perplexity(body)), '/' ORDER BY i) FROM note
$$;
CALL pg_temp.look('first');
SET slm.kv_type = q8;
CALL pg_temp.look('first');
SET slm.enable_batch = off;
SET slm.threads = 1;
CALL pg_temp.look('otherwise');
RESET slm.kv_type;
CALL pg_temp.look('otherwise');
RESET slm.threads; RESET slm.enable_batch;
SELECT kv, count(*) AS ways, count(DISTINCT answers) AS different FROM seen GROUP BY kv ORDER BY kv COLLATE "C";
SELECT count(DISTINCT answers) AS of_both FROM seen;
-- in the middle of what runs: a stream goes on as it began
SELECT slm_generate('Count from one to ten in words.', max_tokens => 12) AS whole \gset
CREATE FUNCTION pg_temp.told() RETURNS text LANGUAGE plpgsql AS $$
DECLARE told CURSOR FOR SELECT slm_generate_stream('Count from one to ten in words.', max_tokens => 12); piece text; whole text := '';
BEGIN
  OPEN told;
  LOOP
    FETCH told INTO piece;
    EXIT WHEN NOT FOUND;
    whole := whole || piece;
    PERFORM set_config('slm.kv_type', CASE current_setting('slm.kv_type') WHEN 'f16' THEN 'q8' ELSE 'f16' END, true);
    PERFORM slm_generate('Name a fruit.', max_tokens => 2);
  END LOOP;
  RETURN whole;
END
$$;
SELECT pg_temp.told() = :'whole' AS same;
CREATE FUNCTION pg_temp.both(OUT f16 text, OUT q8 text) LANGUAGE plpgsql AS $$
BEGIN
  SET LOCAL slm.kv_type = f16;
  f16 := slm_generate('Name a fruit.', max_tokens => 4);
  SET LOCAL slm.kv_type = q8;
  q8 := slm_generate('Name a fruit.', max_tokens => 4);
END
$$;
SELECT f16 <> '' AND q8 <> '' AS both FROM pg_temp.both();
-- memory: of what one call leaves behind
SET slm.engine = local;
SELECT slm_generate('x', system => repeat('Answer briefly. ', 60), max_tokens => 1) IS NOT NULL AS done;
SELECT kv_bytes AS f16 FROM slm.model_status WHERE name = 'smollm2' \gset
SET slm.kv_type = q8;
SELECT kv_bytes IS NULL AS given_back FROM slm.model_status WHERE name = 'smollm2';
SELECT slm_generate('x', system => repeat('Answer briefly. ', 60), max_tokens => 1) IS NOT NULL AS done;
SELECT kv_bytes BETWEEN :f16 * 0.4 AND :f16 * 0.7 AS about_half, kv_bytes > 0 AS some FROM slm.model_status WHERE name = 'smollm2';
RESET slm.kv_type;
RESET slm.engine;
-- a text that fits only so, and the hint that says it
SET slm.kv_cache_memory = '15MB';
\set VERBOSITY terse
SELECT slm_generate(repeat('word ', 900), max_tokens => 2);
SET slm.kv_type = q8;
SELECT slm_generate(repeat('word ', 900), max_tokens => 2) IS NOT NULL AS fits;
\set VERBOSITY default
SELECT slm_generate(repeat('word ', 1500), max_tokens => 2);
RESET slm.kv_type;
SELECT slm_generate(repeat('word ', 1500), max_tokens => 2);
RESET slm.kv_cache_memory;
DROP TABLE note;
