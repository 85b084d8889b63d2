CREATE EXTENSION IF NOT EXISTS slm_pg;
-- SLM Batch: 60 statements, each run with the node off and on, with batch sizes 1, 7 and 64 and in parallel workers: the same rows or
-- the same error, byte for byte.  g(x) stands for slm_generate of three tokens, c(x) for slm_classify with three labels.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set tiny_file :srcdir '/test/data/tiny.gguf'
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT (slm_load_model('tiny', :'tiny_file')).name;
SET slm.generate_model = 'tiny';
SET slm.classify_model = 'tiny';

CREATE TABLE ticket (id int PRIMARY KEY, team int, body text, note text);
INSERT INTO ticket SELECT i, i % 3, CASE WHEN i % 5 = 4 THEN NULL ELSE 'ticket ' || (i % 7) || ' about ' ||
    (ARRAY['a refund', 'a late parcel', 'a lost card', 'an invoice'])[i % 4 + 1] END, NULL FROM generate_series(1, 20) i;
CREATE TABLE team (id int PRIMARY KEY, name text, hint text);
INSERT INTO team VALUES (0, 'billing', 'money'), (1, 'delivery', 'parcels'), (2, 'other', NULL);
CREATE TABLE big (id int, body text);
INSERT INTO big SELECT i, 'row ' || (i % 9) FROM generate_series(1, 3000) i;
ANALYZE ticket;
ANALYZE team;
ANALYZE big;

CREATE FUNCTION expand(statement text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT replace(replace(statement, '@g(', 'slm_generate(max_tokens => 3, prompt => '),
                   '@c(', 'slm_classify(labels => ARRAY[''billing'', ''delivery'', ''other''], input => ') $$;

-- The rows of a statement as one text, or its error; what it wrote is rolled back.
CREATE FUNCTION outcome(statement text, after text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text := '';
    row_text text;
BEGIN
    BEGIN
        IF after IS NULL THEN
            FOR row_text IN EXECUTE format('SELECT r::text FROM (%s) r', expand(statement)) LOOP
                result := result || row_text || E'\n';
            END LOOP;
        ELSE
            EXECUTE expand(statement);
            FOR row_text IN EXECUTE format('SELECT r::text FROM (%s) r', after) LOOP
                result := result || row_text || E'\n';
            END LOOP;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'SLM00', MESSAGE = result;
    EXCEPTION WHEN OTHERS THEN
        RETURN CASE SQLSTATE WHEN 'SLM00' THEN SQLERRM ELSE 'ERROR ' || SQLSTATE || ' ' || SQLERRM END;
    END;
END $$;

CREATE FUNCTION same(statement text, after text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    expected text;
    size int;
BEGIN
    PERFORM set_config('slm.enable_batch', 'off', false);
    expected := outcome(statement, after);
    PERFORM set_config('slm.enable_batch', 'on', false);
    FOREACH size IN ARRAY ARRAY[1, 7, 64] LOOP
        PERFORM set_config('slm.batch_size', size::text, false);
        IF outcome(statement, after) IS DISTINCT FROM expected THEN
            RETURN format('DIFFERENT with batch size %s: %s instead of %s', size, outcome(statement, after), expected);
        END IF;
    END LOOP;
    RETURN CASE WHEN expected LIKE 'ERROR%' THEN 'same error: ' || expected ELSE 'same ' || length(expected) || ' characters' END;
END $$;

-- target lists
SELECT same('SELECT id, @g(body) FROM ticket');
SELECT same('SELECT id, @g(body), length(@g(body)) AS l, upper(@g(body)) AS u FROM ticket');
SELECT same('SELECT @g(body) || '' / '' || @g(note) AS two, id FROM ticket');
SELECT same('SELECT id, @g(@g(body)) FROM ticket');
SELECT same('SELECT id, @c(@g(body)), @c(body) FROM ticket');
SELECT same('SELECT id, @g(''constant'') FROM ticket');
SELECT same('SELECT @g(body) FROM ticket ORDER BY id DESC');
SELECT same('SELECT ticket.*, @g(body) AS answer, ticket AS whole FROM ticket');
SELECT same('SELECT DISTINCT @c(body) FROM ticket');
SELECT same('SELECT ctid, tableoid::regclass::text AS t, @g(body) FROM ticket');
-- conditional evaluation
SELECT same('SELECT id, CASE WHEN team = 0 THEN @g(body) WHEN 1 / team > 0 THEN ''one'' ELSE @c(body) END AS x FROM ticket');
SELECT same('SELECT id, CASE team WHEN 0 THEN @g(body) ELSE ''no'' END AS x FROM ticket');
SELECT same('SELECT id, COALESCE(note, @g(body), ''none'') AS x FROM ticket');
SELECT same('SELECT id, COALESCE(@g(body), @c(''x'' || id)) AS x FROM ticket');
SELECT same('SELECT id, team = 0 AND @g(body) <> '''' AS x, team = 0 OR @c(body) = ''other'' AS y FROM ticket');
SELECT same('SELECT id, CASE WHEN id > 100 THEN slm_generate(body, max_tokens => id / 0) ELSE ''ok'' END AS x FROM ticket');
SELECT same('SELECT id, NULLIF(@c(body), ''billing'') AS x FROM ticket');
SELECT same('SELECT id, CASE WHEN @c(body) = ''other'' THEN @g(body) ELSE @c(body) END AS x FROM ticket');
SELECT same('SELECT id, GREATEST(@g(body), @c(body)) AS x, ARRAY[@g(body), ''b''] AS y, ROW(@g(body), id) AS z FROM ticket');
SELECT same('SELECT id, @c(body) = ANY (ARRAY[''billing'', ''other'']) AS x, @g(body) IS NULL AS y FROM ticket');
-- filters
SELECT same('SELECT id FROM ticket WHERE @c(body) = ''delivery''');
SELECT same('SELECT id, @g(body) FROM ticket WHERE team > 0 AND @c(body) <> ''delivery'' AND @g(body) LIKE ''%e%''');
SELECT same('SELECT id FROM ticket WHERE team = 1 OR @c(body) = ''other''');
SELECT same('SELECT id FROM ticket WHERE @c(body) = ''other'' AND id % 2 = 0 ORDER BY id');
SELECT same('SELECT id FROM ticket WHERE NOT (@c(body) = ''other'') AND 10 / (id - 100) < 5');
SELECT same('SELECT id, @g(body) FROM ticket WHERE id = 7');
-- joins
SELECT same('SELECT t.id, m.name, @g(t.body || m.name) AS x FROM ticket t JOIN team m ON t.team = m.id ORDER BY 1');
SELECT same('SELECT t.id, m.name FROM ticket t JOIN team m ON @c(t.body) = m.name ORDER BY 1, 2');
SELECT same('SELECT t.id, m.name FROM ticket t LEFT JOIN team m ON m.id = t.team AND @c(t.body) = m.name ORDER BY 1, 2');
SELECT same('SELECT t.id, @g(m.hint) AS x FROM ticket t LEFT JOIN team m ON m.id = t.team - 1 ORDER BY 1');
SELECT same('SELECT t.id FROM ticket t JOIN team m ON m.id <> t.team AND @c(t.body || m.name) = m.name ORDER BY 1');
SELECT same('SELECT t.id FROM ticket t WHERE EXISTS (SELECT FROM team m WHERE @c(t.body) = m.name) ORDER BY 1');
SELECT same('SELECT t.id FROM ticket t WHERE t.team NOT IN (SELECT id FROM team WHERE @c(hint) = ''other'') ORDER BY 1');
SELECT same('SELECT m.id, l.x FROM team m, LATERAL (SELECT @g(t.body) AS x FROM ticket t WHERE t.team = m.id ORDER BY t.id LIMIT 2) l');
-- aggregates, windows, set operations
SELECT same('SELECT @c(body) AS label, count(*) FROM ticket GROUP BY 1 ORDER BY 1');
SELECT same('SELECT team, count(@c(body)), max(length(@g(body))), string_agg(@g(body), '','' ORDER BY id) FROM ticket GROUP BY team ORDER BY 1');
SELECT same('SELECT team, count(*) FILTER (WHERE @c(body) = ''other'') AS n FROM ticket GROUP BY team ORDER BY 1');
SELECT same('SELECT team, @g(min(body)) AS x FROM ticket GROUP BY team ORDER BY 1');
SELECT same('SELECT team FROM ticket GROUP BY team HAVING @c(min(body)) <> ''x'' AND count(*) > 1 ORDER BY 1');
SELECT same('SELECT team, @c(body) AS x, count(*) FROM ticket GROUP BY GROUPING SETS ((team), (@c(body))) ORDER BY 1, 2');
SELECT same('SELECT id, row_number() OVER (PARTITION BY @c(body) ORDER BY id) AS n, @g(body) FROM ticket ORDER BY id');
SELECT same('SELECT id, max(@g(body)) OVER (PARTITION BY team) AS m FROM ticket ORDER BY id');
SELECT same('SELECT @g(body) FROM ticket WHERE id < 5 UNION SELECT @c(body) FROM ticket UNION ALL SELECT name FROM team ORDER BY 1');
SELECT same('SELECT count(DISTINCT @g(body)) AS n, min(@c(body)) AS m FROM ticket');
-- subqueries and CTEs
SELECT same('WITH x AS MATERIALIZED (SELECT id, @g(body) AS a FROM ticket) SELECT x.*, y.a AS b FROM x JOIN x y USING (id) ORDER BY id');
SELECT same('SELECT id, (SELECT @g(name) FROM team m WHERE m.id = t.team) AS x FROM ticket t ORDER BY id');
SELECT same('SELECT id, ARRAY(SELECT @c(name) FROM team ORDER BY id) AS x FROM ticket ORDER BY id LIMIT 3');
SELECT same('SELECT * FROM (SELECT id, @g(body) AS a FROM ticket OFFSET 0) s WHERE a IS NOT NULL ORDER BY id');
SELECT same('WITH RECURSIVE r(n, a) AS (SELECT 1, @g(''start'') UNION ALL SELECT n + 1, @g(a) FROM r WHERE n < 4) SELECT * FROM r');
-- limits
SELECT same('SELECT id, @g(body) FROM ticket ORDER BY id LIMIT 3 OFFSET 2');
SELECT same('SELECT id FROM ticket WHERE @c(body) IS NOT NULL LIMIT 4');
-- writing
SELECT same('UPDATE ticket SET note = @g(body) WHERE team < 2', 'SELECT * FROM ticket ORDER BY id');
SELECT same('UPDATE ticket t SET note = @c(t.body || m.name) FROM team m WHERE m.id = t.team', 'SELECT * FROM ticket ORDER BY id');
SELECT same('INSERT INTO ticket SELECT id + 100, team, body, @g(body) FROM ticket', 'SELECT * FROM ticket ORDER BY id');
SELECT same('INSERT INTO ticket VALUES (200, 1, ''x'', @g(''x'')), (201, 2, ''y'', @g(''y''))', 'SELECT * FROM ticket ORDER BY id');
SELECT same('DELETE FROM ticket WHERE @c(body) = ''delivery''', 'SELECT * FROM ticket ORDER BY id');
SELECT same('CREATE TABLE copy AS SELECT id, @g(body) AS answer FROM ticket', 'SELECT * FROM copy ORDER BY id');
SELECT same('CREATE MATERIALIZED VIEW answers AS SELECT id, @g(body) AS answer FROM ticket', 'SELECT * FROM answers ORDER BY id');
SELECT same('MERGE INTO team m USING (SELECT team, @c(min(body)) AS label FROM ticket GROUP BY team) s ON s.team = m.id
    WHEN MATCHED THEN UPDATE SET hint = s.label', 'SELECT * FROM team ORDER BY id');
-- errors: the first in row order is the one raised
SELECT same('SELECT id, 10 / (id - 9) AS d, @g(body) FROM ticket ORDER BY id');
SELECT same('SELECT id, slm_generate(body, max_tokens => 3 * (1 - id / 8)) FROM ticket');
SELECT same('SELECT id, slm_generate(repeat(body, CASE id WHEN 6 THEN 100000 ELSE 1 END), max_tokens => 2) AS x, 1 / (id - 12) AS d FROM ticket');

-- prepared statements and plpgsql
SET slm.enable_batch = on;
SET slm.batch_size = 7;
PREPARE answer(int) AS SELECT id, slm_generate(body, max_tokens => $1) FROM ticket WHERE id < 4;
EXECUTE answer(2);
EXECUTE answer(3);
SET plan_cache_mode = force_generic_plan;
EXECUTE answer(2);
RESET plan_cache_mode;
DO $$
DECLARE
    r record;
    n int := 0;
BEGIN
    FOR r IN SELECT id, slm_generate(body, max_tokens => 2) AS a FROM ticket ORDER BY id LOOP
        n := n + length(coalesce(r.a, ''));
        BEGIN
            PERFORM slm_generate('inner ' || r.id, max_tokens => 1); -- the same session, in the middle of a batch
            IF r.id = 5 THEN
                RAISE division_by_zero;
            END IF;
        EXCEPTION WHEN division_by_zero THEN
            n := n + 1000;
        END;
    END LOOP;
    IF n <> 1000 + (SELECT sum(length(slm_generate(body, max_tokens => 2))) FROM ticket) THEN
        RAISE EXCEPTION 'wrong sum %', n;
    END IF;
END $$;

-- cursors: a scrollable one, and one that is left early
BEGIN;
DECLARE s SCROLL CURSOR FOR SELECT id, slm_classify(body, ARRAY['billing', 'delivery', 'other']) FROM ticket ORDER BY id;
FETCH 2 FROM s;
FETCH BACKWARD 1 FROM s;
MOVE 10 FROM s;
FETCH PRIOR FROM s;
DECLARE c CURSOR FOR SELECT id, slm_classify(body, ARRAY['billing', 'delivery', 'other']) FROM ticket ORDER BY id;
FETCH 3 FROM c;
CLOSE c;
-- row locks
SELECT id, slm_classify(body, ARRAY['billing', 'delivery', 'other']) FROM ticket WHERE id < 3 FOR UPDATE;
COMMIT;

-- parallel workers
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
CREATE TEMP TABLE serial AS SELECT id, slm_classify(body, ARRAY['billing', 'delivery', 'other']) AS label FROM big WHERE id <= 60;
SELECT count(*) FROM serial s JOIN (SELECT id, slm_classify(body, ARRAY['billing', 'delivery', 'other']) AS label FROM big WHERE id <= 60) p
    USING (id, label);
SET max_parallel_workers_per_gather = 0;

-- what EXPLAIN shows
EXPLAIN (COSTS OFF) SELECT id, slm_classify(body, ARRAY['billing', 'other']) FROM ticket WHERE team = 1 AND slm_classify(body, ARRAY['billing', 'other']) = 'other';
EXPLAIN (COSTS OFF) SELECT team, max(slm_classify(body, ARRAY['billing', 'other'])) FROM ticket GROUP BY team;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT slm_classify(body, ARRAY['billing', 'other']) FROM big WHERE id <= 90;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT slm_classify(body, ARRAY['billing', 'other']) FROM big LIMIT 10;
DROP TABLE ticket, team, big;
DROP FUNCTION same(text, text), outcome(text, text), expand(text);
SELECT slm_drop_model('tiny');
