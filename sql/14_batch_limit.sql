-- A LIMIT, and whatever else needs no more rows, stops the calls below it within one batch.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('limit_tiny', :'tiny_file')).name;
SET slm.generate_model = 'limit_tiny';
SET slm.classify_model = 'limit_tiny';
SET max_parallel_workers_per_gather = 0;
SET enable_mergejoin = off;
SET enable_hashagg = off;
SET slm.batch_size = 16;
CREATE TABLE message (id int PRIMARY KEY, team int, body text);
INSERT INTO message SELECT i, i / 100, 'message ' || i FROM generate_series(1, 2000) i;
CREATE TABLE team (id int PRIMARY KEY, name text);
INSERT INTO team SELECT i, 'team ' || i FROM generate_series(0, 20) i;
ANALYZE message, team;
-- What a statement computes, when it needs that many texts: by its batch nodes, and by calls outside of them.
CREATE FUNCTION needs(rows bigint, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan jsonb;
    nodes bigint;
    texts bigint;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT json) ' || statement INTO plan;
    SELECT count(*), sum((node ->> 'Calls Distinct')::bigint) FROM jsonb_path_query(plan, 'strict $.** ? (@."Custom Plan Provider" == "SLM Batch")') node INTO nodes, texts;
    texts := coalesce(texts, 0) + coalesce((plan -> 0 -> 'Outside of Batches' ->> 'Requests')::bigint, 0);
    RETURN CASE WHEN nodes = 0 THEN 'not batched' WHEN texts < rows THEN 'only ' || texts WHEN texts <= rows + 16 THEN 'that and a batch at most' ELSE texts || ' computed' END;
END $$;
SELECT needs(5, 'SELECT slm_generate(body, max_tokens => 1) FROM message LIMIT 5');
SELECT needs(20, 'SELECT id FROM message WHERE slm_generate(body, max_tokens => 1) IS NOT NULL LIMIT 20');
-- FILTER: the first group alone, and a limit below the aggregate
SELECT needs(99, 'SELECT team, count(*) FILTER (WHERE slm_generate(body, max_tokens => 1) IS NOT NULL) FROM message GROUP BY team ORDER BY team LIMIT 1');
SELECT needs(7, 'SELECT max(id) FILTER (WHERE slm_generate(body, max_tokens => 1) IS NOT NULL) FROM (SELECT * FROM message LIMIT 7) m');
SELECT needs(30, 'SELECT m.team, l.n FROM (SELECT DISTINCT team FROM message ORDER BY team) m,
    LATERAL (SELECT count(*) FILTER (WHERE slm_classify(k.body, ARRAY[''a'', ''b'']) = ''a'') AS n FROM (SELECT * FROM message k WHERE k.team = m.team LIMIT 10) k) l LIMIT 3');
-- EXISTS: the first row that answers it; of a limited outer query as many
SELECT needs(1, 'SELECT EXISTS (SELECT FROM message WHERE slm_generate(body, max_tokens => 1) IS NOT NULL)');
SELECT needs(4, 'SELECT id FROM team t WHERE EXISTS (SELECT FROM message m WHERE m.id > t.id AND slm_generate(m.body || t.id, max_tokens => 1) IS NOT NULL) LIMIT 4');
SELECT needs(1, 'SELECT id FROM team WHERE id IN (SELECT team FROM message WHERE slm_generate(body, max_tokens => 1) IS NOT NULL) LIMIT 1');
SELECT needs(2, 'SELECT id, NOT EXISTS (SELECT FROM message m WHERE m.team = t.id AND slm_generate(m.body, max_tokens => 1) IS NOT NULL) FROM team t LIMIT 2');
-- VALUES
SELECT needs(2, format('SELECT slm_generate(v, max_tokens => 1) FROM (VALUES %s) t (v) LIMIT 2', string_agg(format('(%L)', body), ', '))) FROM message WHERE id <= 500;
SELECT needs(2, format('VALUES %s LIMIT 2', string_agg(format('(slm_generate(%L, max_tokens => 1))', body), ', '))) FROM message WHERE id <= 500;
-- conditions of joins
SELECT needs(3, 'SELECT m.id FROM message m JOIN team t ON slm_generate(m.body || t.name, max_tokens => 1) IS NOT NULL LIMIT 3');
SELECT needs(3, 'SELECT m.id FROM message m JOIN team t ON m.team = t.id AND slm_classify(m.body || t.name, ARRAY[''a'', ''b'']) IS NOT NULL LIMIT 3');
-- a cursor that is read for some rows, and FETCH FIRST with ties
SELECT needs(3, 'SELECT id, slm_generate(body, max_tokens => 1) FROM message ORDER BY id FETCH FIRST 3 ROWS WITH TIES');
DROP FUNCTION needs;
DROP TABLE message, team;
SELECT slm_drop_model('limit_tiny');
