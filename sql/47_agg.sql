-- slm_agg, and what aggregates of texts hold in memory
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT name FROM slm_load_model('tiny', :'tiny_file');
SET slm.generate_model = 'smollm2';
CREATE TABLE mail AS SELECT i AS id, i % 2 AS team, CASE i % 3 WHEN 0 THEN 'My parcel has not arrived.' WHEN 1 THEN 'The parcel came too late.' ELSE '  Where is my parcel?  ' END AS body
FROM generate_series(1, 12) i;
-- by group, in any order; equal texts count once
SELECT team, slm_agg(body, 'What are these messages about? Answer in one sentence.') AS said FROM mail GROUP BY team ORDER BY team;
SELECT slm_agg(body, 'What are these messages about? Answer in one sentence.' ORDER BY id DESC) = slm_agg(body, 'What are these messages about? Answer in one sentence.' ORDER BY body, id) AS any_order FROM mail;
SELECT slm_agg(body, 'Say what it is.') FILTER (WHERE id < 0) IS NULL AS no_row, slm_agg(NULL, 'Say what it is.') IS NULL AS no_text, slm_agg('  ', 'Say what it is.') IS NULL AS blank FROM mail;
-- its prompt is a row of slm.prompts
SELECT placeholders FROM slm.prompts WHERE name = 'slm_agg';
-- what is refused
SELECT * FROM try($$SELECT slm_agg(body, NULL) FROM mail$$);
SELECT * FROM try($$SELECT slm_agg(body, CASE WHEN id > 3 THEN 'a' ELSE 'b' END) FROM mail$$);
SELECT * FROM try($$SELECT slm_agg(body, 'a', CASE WHEN id > 3 THEN 'tiny' ELSE 'smollm2' END) FROM mail$$);
SELECT * FROM try($$SELECT slm_agg(body, 'a', 'nothing') FROM mail$$);

-- 5,000 rows with little memory: the same in any plan, and bounded
CREATE TABLE many AS SELECT i AS id, 'Message ' || i || ': ' || repeat(md5(i::text) || ' is what I have to say today. ', 1 + i % 7) AS body FROM generate_series(1, 5000) i;
ANALYZE many;
SET work_mem = '4MB';
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
CREATE FUNCTION has_workers(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
    IF line LIKE '%Partial Aggregate%' THEN RETURN true; END IF;
  END LOOP;
  RETURN false;
END $$;
SELECT has_workers($$SELECT slm_agg(body, 'Say what it is.', 'tiny') FROM many$$), has_workers($$SELECT slm_summarize_agg(body, 30) FROM many$$);
CREATE TABLE said AS SELECT slm_summarize_agg(body, 30) AS summary FROM many;
SET max_parallel_workers_per_gather = 0;
SELECT summary = (SELECT slm_summarize_agg(body, 30) FROM many) AS same_alone, summary = (SELECT slm_summarize_agg(body, 30 ORDER BY md5(body)) FROM many) AS same_sorted FROM said;
-- what the model is given, without running it
CREATE AGGREGATE texts_of(text, text) (SFUNC = slm.agg_add, STYPE = internal, FINALFUNC = slm.agg_serialize, COMBINEFUNC = slm.agg_combine,
  SERIALFUNC = slm.agg_serialize, DESERIALFUNC = slm.agg_deserialize, PARALLEL = SAFE);
CREATE TABLE given AS SELECT texts_of(body, 'Say what it is.') AS bytes FROM many;
SELECT length(bytes) BETWEEN 60000 AND 110000 AS bounded,
       bytes = (SELECT texts_of(body, 'Say what it is.' ORDER BY id DESC) FROM many) AS same_backwards,
       bytes = (SELECT texts_of(body, 'Say what it is.' ORDER BY length(body), md5(body)) FROM many) AS same_sorted FROM given;
SET max_parallel_workers_per_gather = 2;
SELECT bytes = (SELECT texts_of(body, 'Say what it is.') FROM many) AS same_in_parallel FROM given;
-- one text that is too large for all beside it, at any place
CREATE TABLE odd AS SELECT i AS id, repeat(i || ' ', CASE WHEN i % 10 = 0 THEN 900 ELSE 30 + i % 100 END) AS body FROM generate_series(1, 1500) i;
SELECT count(DISTINCT texts_of) FROM (SELECT texts_of(body, 'x' ORDER BY id) FROM odd UNION ALL SELECT texts_of(body, 'x' ORDER BY id DESC) FROM odd
  UNION ALL SELECT texts_of(body, 'x' ORDER BY length(body), id) FROM odd UNION ALL SELECT texts_of(body, 'x' ORDER BY length(body) DESC, id) FROM odd UNION ALL SELECT texts_of(body, 'x' ORDER BY md5(body)) FROM odd) o;
RESET max_parallel_workers_per_gather; RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
-- what a group holds, whatever its rows
CREATE FUNCTION bytes_of_aggregates(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE c refcursor; bytes bigint; one text;
BEGIN
  OPEN c FOR EXECUTE query;
  FETCH c INTO one;
  SELECT sum(total_bytes) INTO bytes FROM pg_backend_memory_contexts WHERE name = 'ExprContext';
  CLOSE c;
  RETURN bytes;
END $$;
SELECT bytes_of_aggregates('SELECT slm_summarize_agg(body, 30) FROM many UNION ALL SELECT NULL') BETWEEN 100000 AND 1000000 AS summarize_is_bounded,
       bytes_of_aggregates($$SELECT texts_of(body, 'Say what it is.')::text FROM many UNION ALL SELECT NULL$$) BETWEEN 100000 AND 1000000 AS agg_is_bounded;
