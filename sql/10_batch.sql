-- SLM Batch: each statement is run with the node off and on, with batch sizes 1, 7 and 64, with and without guesses, in no and in two
-- parallel workers, and wholly in a worker: the same rows or the same error, byte for byte (rows of a parallel plan without ORDER BY are
-- sorted first).  At the end it is counted in how many of them a node, a Gather above a node, and guesses really were at work.
-- @g(x) stands for slm_generate of three tokens, @l(x) of 24, @c(x) for slm_classify with three labels, @d(x) for its method direct.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT (slm_load_model('tiny', :'tiny_file')).name;
SET slm.generate_model = 'tiny';
SET slm.classify_model = 'tiny';

-- wide rows, so that a few of them fill several blocks for several workers; a dropped column stays in them
CREATE TABLE ticket (id int PRIMARY KEY, pad char(400) DEFAULT '', team int, body text, note text) WITH (fillfactor = 10, parallel_workers = 2);
INSERT INTO ticket (id, team, body, note) SELECT i, i % 3, CASE WHEN i % 5 = 4 THEN NULL ELSE 'ticket ' || (i % 7) || ' about ' ||
    (ARRAY['a refund', 'a late parcel', 'a lost card', 'an invoice'])[i % 4 + 1] END, NULL FROM generate_series(1, 20) i;
ALTER TABLE ticket DROP COLUMN pad;
CREATE TABLE team (id int PRIMARY KEY, name text, hint text);
INSERT INTO team VALUES (0, 'billing', 'money'), (1, 'delivery', 'parcels'), (2, 'other', NULL);
CREATE TABLE big (id int, body text) WITH (parallel_workers = 2);
INSERT INTO big SELECT i, 'row ' || (i % 9) FROM generate_series(1, 3000) i;
CREATE TABLE part (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (4) WITH (parallel_workers = 2);
CREATE TABLE part_2 (body text, id int) WITH (parallel_workers = 2);
ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (4) TO (100);
INSERT INTO part SELECT i, 'part ' || i FROM generate_series(1, 9) i;
CREATE SEQUENCE tick;
CREATE VIEW guarded WITH (security_barrier) AS SELECT id, body FROM ticket WHERE team = 1;
CREATE DOMAIN short AS text CHECK (length(VALUE) < 1000);
ANALYZE ticket, team, big, part;

CREATE FUNCTION expand(statement text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT replace(replace(replace(replace(statement, '@g(', 'slm_generate(max_tokens => 3, prompt => '),
                   '@l(', 'slm_generate(max_tokens => 24, prompt => '),
                   '@c(', 'slm_classify(labels => ARRAY[''billing'', ''delivery'', ''other''], input => '),
                   '@d(', 'slm_classify(labels => ARRAY[''billing'', ''delivery'', ''other''], method => ''direct'', input => ') $$;

-- The rows of a statement as one text, or its error; what it wrote is rolled back.
CREATE FUNCTION outcome(statement text, after text, sorted bool DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text[];
BEGIN
    PERFORM setval('tick', 1);
    BEGIN
        IF after IS NOT NULL THEN
            EXECUTE expand(statement);
        END IF;
        EXECUTE format('SELECT array_agg(t) FROM (SELECT r::text AS t FROM (%s) r OFFSET 0) s', coalesce(after, expand(statement))) INTO result;
        IF sorted THEN
            result := ARRAY(SELECT t FROM unnest(result) t ORDER BY t COLLATE "C");
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'SLM00', MESSAGE = coalesce(array_to_string(result, E'\n', '(null)'), 'no rows');
    EXCEPTION WHEN OTHERS THEN
        RETURN CASE SQLSTATE WHEN 'SLM00' THEN SQLERRM ELSE 'ERROR ' || SQLSTATE || ' ' || SQLERRM END;
    END;
END $$;

-- EXPLAIN ANALYZE of a statement, or NULL where it fails.
CREATE FUNCTION explained(statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    result jsonb;
BEGIN
    BEGIN
        EXECUTE 'EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) ' || expand(statement) INTO result;
        RAISE EXCEPTION USING ERRCODE = 'SLM00';
    EXCEPTION WHEN OTHERS THEN
        RETURN CASE SQLSTATE WHEN 'SLM00' THEN result END;
    END;
END $$;

CREATE FUNCTION forward_passes(plan jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT sum(n::bigint) FROM jsonb_path_query(plan, 'strict $.**?(exists(@."Batches"))."Batches"') n $$;

CREATE FUNCTION configure(node bool, size int, workers int, speculate bool, whole_in_worker bool DEFAULT false) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('slm.enable_batch', node::text, false), set_config('slm.batch_size', size::text, false),
        set_config('slm.speculate', speculate::text, false), set_config('max_parallel_workers_per_gather', workers::text, false),
        set_config('parallel_setup_cost', CASE workers WHEN 0 THEN '1000' ELSE '0' END, false),
        set_config('parallel_tuple_cost', CASE workers WHEN 0 THEN '0.1' ELSE '0' END, false),
        set_config('min_parallel_table_scan_size', CASE workers WHEN 0 THEN '8MB' ELSE '0' END, false),
        set_config('cpu_operator_cost', CASE workers WHEN 0 THEN '0.0025' ELSE '1' END, false),
        -- half of the parallel runs leave everything to the workers
        set_config('parallel_leader_participation', (size = 64)::text, false),
        set_config(name, CASE WHEN whole_in_worker THEN 'on' ELSE 'off' END, false)
    FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query') $$;

CREATE TABLE seen (no serial, statement text, node bool, gathered bool, guessed bool);

CREATE FUNCTION same(statement text, after text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    expected text;
    found text;
    fails bool;
    unordered bool := statement !~* 'ORDER BY[^()]*$' AND after IS NULL;
    way record;
    parallel_plan jsonb;
    plain jsonb;
BEGIN
    PERFORM configure(false, 64, 0, true);
    expected := outcome(statement, after);
    fails := expected LIKE 'ERROR%';
    FOR way IN SELECT * FROM (VALUES
        (false, 64, 0, false), (true, 1, 0, true), (true, 7, 0, true), (true, 64, 0, true), (true, 1, 0, false), (true, 64, 0, false),
        (false, 64, 2, true), (true, 7, 2, true), (true, 64, 2, false), (true, 7, 1, true)) w (node, size, workers, speculate)
    LOOP
        PERFORM configure(way.node, way.size, way.workers, way.speculate, way.workers = 1);
        found := outcome(statement, after, unordered AND way.workers > 0);
        -- which of several workers fails first is not said
        IF way.workers > 0 AND fails AND found LIKE 'ERROR%' THEN
            CONTINUE;
        END IF;
        IF found IS DISTINCT FROM (CASE WHEN way.workers > 0 AND unordered THEN
                (SELECT string_agg(t, E'\n' ORDER BY t COLLATE "C") FROM regexp_split_to_table(expected, E'\n(?=\\()') t) ELSE expected END) THEN
            RETURN format('DIFFERENT with %s: %s instead of %s', way, found, expected);
        END IF;
    END LOOP;
    PERFORM configure(true, 7, 2, true);
    FOR i IN 1..50 LOOP -- the server may still have to notice that earlier workers have ended
        parallel_plan := explained(statement);
        EXIT WHEN NOT jsonb_path_exists(parallel_plan, '$.**."Workers Launched" ? (@ == 0)');
        PERFORM pg_sleep(0.02);
    END LOOP;
    PERFORM configure(true, 1, 0, false);
    plain := explained(statement);
    PERFORM configure(true, 1, 0, true);
    INSERT INTO seen (statement, node, gathered, guessed) VALUES (statement,
        jsonb_path_exists(plain, '$.** ? (@."Custom Plan Provider" == "SLM Batch")'),
        jsonb_path_exists(parallel_plan, '$.** ? ((@."Node Type" == "Gather" || @."Node Type" == "Gather Merge") && @."Workers Launched" > 0).** ?
            (@."Custom Plan Provider" == "SLM Batch")'),
        forward_passes(explained(statement)) < forward_passes(plain));
    RETURN CASE WHEN fails THEN 'same error: ' || expected ELSE 'same ' || length(expected) || ' characters' END;
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
SELECT same('SELECT id, @l(body) AS a, @l(body || '' again'') AS b FROM ticket');
SELECT same('SELECT id, @l(repeat(body || ''! '', 4)) AS a FROM ticket');
SELECT same('SELECT id, @d(body), @d(@c(body)) AS e FROM ticket');
SELECT same('SELECT id, slm_summarize(body, max_words => 4, method => ''abstract'') AS s, slm_perplexity(body) AS p, slm_classify_multi(body, ARRAY[''red'', ''blue'']) AS m,
    (slm_generate_details(body, max_tokens => 2)).finish_reason AS f FROM ticket');
SELECT same('SELECT id, unnest(ARRAY[@g(body), ''x'']) AS x FROM ticket');
SELECT same('SELECT id, @g(body)::short AS x, (ARRAY[@g(body), note])[1 + id % 2] AS y, (@g(body), id) < (''m'', 3) AS z FROM ticket');
SELECT same('SELECT id, @g(body) FROM part');
SELECT same('SELECT id, @g(body) FROM guarded WHERE @c(body) <> ''x''');
SELECT same('SELECT id, @g(body) FROM ticket TABLESAMPLE BERNOULLI (50) REPEATABLE (3) ORDER BY id');
SELECT same('SELECT t, n, @g(t) AS x FROM unnest(ARRAY[''a'', ''b'', ''a'']) WITH ORDINALITY u (t, n) ORDER BY n');
-- volatile expressions: evaluated as often and in the same order
SELECT same('SELECT id, @g(body || nextval(''tick'')) AS x FROM ticket');
SELECT same('SELECT id, nextval(''tick'') AS n, @g(body) AS x, nextval(''tick'') AS m FROM ticket');
SELECT same('SELECT id, @g(body || nextval(''tick'')) AS x FROM ticket WHERE @c(body) = ''other'' OR @l(body) LIKE ''%e%''');
SELECT same('SELECT id FROM ticket WHERE nextval(''tick'') % 2 = 0 AND @g(body) IS NOT NULL AND nextval(''tick'') % 3 > 0');
SELECT same('SELECT id, CASE WHEN nextval(''tick'') % 2 = 0 THEN @g(body) ELSE @c(body) END AS x FROM ticket');
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
SELECT same('SELECT id, @g(body) FROM ticket WHERE team > 0 AND @c(body) <> ''other'' AND @g(body) LIKE ''%e%''');
SELECT same('SELECT id FROM ticket WHERE team = 1 OR @c(body) = ''other''');
SELECT same('SELECT id FROM ticket WHERE @c(body) = ''delivery'' AND id % 2 = 0 ORDER BY id');
SELECT same('SELECT id FROM ticket WHERE NOT (@c(body) = ''other'') AND 10 / (id - 100) < 5');
SELECT same('SELECT id, @g(body) FROM ticket WHERE id = 7');
SELECT same('SELECT id, @g(body) AS x FROM ticket WHERE id IN (3, 9, 11) OR @d(body) = ''delivery''');
SELECT same('SELECT id, name FROM team WHERE @c(name) IN (SELECT @c(body) FROM ticket) ORDER BY id');
-- joins
SELECT same('SELECT t.id, m.name, @g(t.body || m.name) AS x FROM ticket t JOIN team m ON t.team = m.id ORDER BY 1');
SELECT same('SELECT t.id, m.name FROM ticket t JOIN team m ON @c(t.body) = m.name ORDER BY 1, 2');
SELECT same('SELECT t.id, m.name FROM ticket t LEFT JOIN team m ON m.id = t.team AND @c(t.body) = m.name ORDER BY 1, 2');
SELECT same('SELECT t.id, @g(m.hint) AS x FROM ticket t LEFT JOIN team m ON m.id = t.team - 1 ORDER BY 1');
SELECT same('SELECT t.id FROM ticket t JOIN team m ON m.id <> t.team AND @c(t.body || m.name) = m.name ORDER BY 1');
-- calls as keys of hash joins, on either side
SET enable_nestloop = off; SET enable_mergejoin = off;
SELECT same('SELECT t.id, m.id AS m FROM ticket t JOIN team m ON @c(t.body) = m.name ORDER BY 1, 2');
SELECT same('SELECT t.id, m.id AS m FROM ticket t LEFT JOIN team m ON m.id = t.team AND @c(t.body) = m.name ORDER BY 1, 2');
SELECT same('SELECT t.id, m.id AS m FROM ticket t RIGHT JOIN team m ON m.id = nullif(t.team, 1) AND @c(t.body) = m.name ORDER BY 1, 2');
SELECT same('SELECT t.id, m.id AS m FROM ticket t FULL JOIN team m ON @c(t.body) = m.name ORDER BY 1, 2');
SELECT same('SELECT t.id FROM ticket t WHERE NOT EXISTS (SELECT FROM team m WHERE m.name = @c(t.body)) ORDER BY 1');
SELECT same('SELECT m.id FROM team m WHERE m.name IN (SELECT @c(t.body) FROM ticket t) ORDER BY 1');
SELECT same('SELECT t.id, m.id AS m FROM ticket t JOIN team m ON t.team / (t.id - 3) = m.id AND @c(t.body) = m.name ORDER BY 1, 2');
RESET enable_nestloop; RESET enable_mergejoin;
SELECT same('SELECT t.id FROM ticket t WHERE EXISTS (SELECT FROM team m WHERE @c(t.body) = m.name) ORDER BY 1');
SELECT same('SELECT t.id FROM ticket t WHERE t.team NOT IN (SELECT id FROM team WHERE @c(hint) = ''other'') ORDER BY 1');
SELECT same('SELECT m.id, l.x FROM team m, LATERAL (SELECT @g(t.body) AS x FROM ticket t WHERE t.team = m.id ORDER BY t.id LIMIT 2) l');
SELECT same('SELECT t.id, m.id AS m FROM ticket t FULL JOIN team m ON m.id = t.id AND m.id < t.team WHERE @g(coalesce(t.body, m.name)) IS NOT NULL
    ORDER BY 1, 2');
SELECT same('SELECT m.id, l.x FROM team m LEFT JOIN LATERAL (SELECT @g(t.body || m.name) AS x FROM ticket t WHERE t.id = m.id + 2) l ON true ORDER BY 1');
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
SELECT same('SELECT team, percentile_disc(0.5) WITHIN GROUP (ORDER BY @g(body)) AS p, array_agg(@c(body) ORDER BY @g(body), id) AS a FROM ticket
    GROUP BY team ORDER BY 1');
SELECT same('SELECT DISTINCT ON (@c(body)) @c(body) AS l, id FROM ticket ORDER BY 1, 2');
SELECT same('SELECT id, lag(@g(body), 1, ''none'') OVER w AS l, count(*) OVER (PARTITION BY @d(body)) AS n FROM ticket WINDOW w AS (ORDER BY id)
    ORDER BY id');
SELECT same('SELECT @c(body) AS l FROM ticket INTERSECT SELECT name FROM team ORDER BY 1');
SELECT same('SELECT max(slm_perplexity(body)) AS m, sum(length(@g(body))) AS s, count(*) AS n FROM ticket');
-- subqueries and CTEs
SELECT same('WITH x AS MATERIALIZED (SELECT id, @g(body) AS a FROM ticket) SELECT x.*, y.a AS b FROM x JOIN x y USING (id) ORDER BY id');
SELECT same('SELECT id, (SELECT @g(name) FROM team m WHERE m.id = t.team) AS x FROM ticket t ORDER BY id');
SELECT same('SELECT id, ARRAY(SELECT @c(name) FROM team ORDER BY id) AS x FROM ticket ORDER BY id LIMIT 3');
SELECT same('SELECT * FROM (SELECT id, @g(body) AS a FROM ticket OFFSET 0) s WHERE a IS NOT NULL ORDER BY id');
SELECT same('WITH RECURSIVE r(n, a) AS (SELECT 1, @g(''start'') UNION ALL SELECT n + 1, @g(a) FROM r WHERE n < 4) SELECT * FROM r');
SELECT same('SELECT id, e FROM (SELECT id, EXISTS (SELECT FROM team m WHERE m.name = @c(t.body)) AS e FROM ticket t) s ORDER BY id');
SELECT same('WITH a AS (SELECT id, @g(body) AS x FROM ticket), b AS (SELECT x, count(*) AS n FROM a GROUP BY x) SELECT * FROM b ORDER BY 1, 2');
-- limits
SELECT same('SELECT id, @g(body) FROM ticket ORDER BY id LIMIT 3 OFFSET 2');
SELECT same('SELECT id FROM ticket WHERE @c(body) IS NOT NULL ORDER BY id LIMIT 4');
SELECT same('SELECT id, @g(body) FROM ticket ORDER BY @c(body), id FETCH FIRST 3 ROWS WITH TIES');
SELECT same('SELECT m.id, l.id AS t, l.x FROM team m, LATERAL (SELECT id, @g(body) AS x FROM ticket WHERE body IS NOT NULL ORDER BY id LIMIT m.id) l
    ORDER BY 1, 2');
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
SELECT same('INSERT INTO team SELECT id, ''new'', @g(body) FROM ticket WHERE id < 6
    ON CONFLICT (id) DO UPDATE SET hint = @g(excluded.hint || team.name)', 'SELECT * FROM team ORDER BY id');
SELECT same('WITH u AS (UPDATE ticket SET note = @g(body) WHERE team = 1 RETURNING id, @c(note) AS l)
    INSERT INTO team SELECT id + 10, l, @g(l) FROM u', 'SELECT * FROM team ORDER BY id');
SELECT same('UPDATE ticket t SET (note, body) = (SELECT @g(m.name), @c(t.body) FROM team m WHERE m.id = t.team)', 'SELECT * FROM ticket ORDER BY id');
SELECT same('UPDATE part SET body = @g(body), id = id + 3 WHERE @c(body) <> ''x''', 'SELECT tableoid::regclass AS t, id, body FROM part ORDER BY id');
SELECT same('CREATE TEMP TABLE copy AS SELECT @c(body) AS l, count(*) AS n FROM ticket GROUP BY 1', 'SELECT * FROM copy ORDER BY l');
-- row locks
SELECT same('SELECT id, @c(body) FROM ticket WHERE id < 9 FOR UPDATE');
SELECT same('SELECT t.id, @g(t.body) AS x FROM ticket t JOIN team m ON m.id = t.team WHERE @c(t.body || m.name) <> ''x''
    ORDER BY t.id FOR SHARE OF t SKIP LOCKED');
-- functions that run statements: nodes in nodes, scrolling cursors, cached plans
CREATE FUNCTION answer_of(wanted int) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    result text;
BEGIN
    SELECT string_agg(slm_generate(body || name, max_tokens => 2), ',' ORDER BY id) INTO result FROM ticket JOIN team USING (id) WHERE id = wanted % 3;
    RETURN result;
END $$;
CREATE FUNCTION label_of(wanted int) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT slm_classify(body, ARRAY['red', 'blue']) FROM ticket WHERE id = wanted $$;
CREATE FUNCTION walk(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    c refcursor;
    r record;
BEGIN
    OPEN c SCROLL FOR EXECUTE query;
    FETCH c INTO r;
    RETURN NEXT r::text;
    FETCH RELATIVE 4 FROM c INTO r;
    RETURN NEXT r::text;
    FETCH PRIOR FROM c INTO r;
    RETURN NEXT r::text;
    FETCH ABSOLUTE 2 FROM c INTO r;
    RETURN NEXT r::text;
    FETCH LAST FROM c INTO r;
    RETURN NEXT r::text;
    FETCH BACKWARD FROM c INTO r;
    RETURN NEXT r::text;
    FETCH ABSOLUTE -3 FROM c INTO r;
    RETURN NEXT r::text;
    CLOSE c;
END $$;
SELECT same('SELECT id, answer_of(id) AS a, @g(body) AS x, label_of(id) AS l FROM ticket');
SELECT same('SELECT id FROM ticket WHERE @g(answer_of(id)) IS DISTINCT FROM label_of(id) ORDER BY id');
SELECT same('SELECT w FROM walk(''SELECT id, slm_generate(body, max_tokens => 2) FROM ticket WHERE body IS NOT NULL ORDER BY id'') w');
SELECT same('SELECT w FROM walk(''SELECT id, slm_classify(body, ARRAY[''''red'''', ''''blue'''']) AS x FROM ticket
    WHERE slm_generate(body, max_tokens => 1) <> ''''x'''''') w');
-- errors: the first in row order is the one raised
SELECT same('SELECT id, 10 / (id - 9) AS d, @g(body) FROM ticket ORDER BY id');
SELECT same('SELECT id, slm_generate(body, max_tokens => 3 * (1 - id / 8)) FROM ticket');
SELECT same('SELECT id, slm_generate(repeat(body, CASE id WHEN 6 THEN 100000 ELSE 1 END), max_tokens => 2) AS x, 1 / (id - 12) AS d FROM ticket');

-- in how many of them there was a node, in how many enough nodes ran in workers, and whether guesses saved forward passes
SELECT count(*) AS statements, count(*) FILTER (WHERE node) >= 85 AS enough_nodes, count(*) FILTER (WHERE gathered) >= 45 AS enough_in_workers,
    count(*) FILTER (WHERE guessed) >= 2 AS guesses_at_work FROM seen;
SELECT configure(true, 64, 0, true);

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
DECLARE h CURSOR WITH HOLD FOR SELECT id, slm_classify(body, ARRAY['billing', 'delivery', 'other']) FROM ticket ORDER BY id DESC;
FETCH 1 FROM h;
COMMIT;
FETCH 2 FROM h;
CLOSE h;
COPY (SELECT id, slm_classify(body, ARRAY['billing', 'delivery', 'other']) FROM ticket WHERE id < 3) TO STDOUT;

-- what EXPLAIN shows
EXPLAIN (COSTS OFF) SELECT id, slm_classify(body, ARRAY['billing', 'other']) FROM ticket WHERE team = 1 AND slm_classify(body, ARRAY['billing', 'other']) = 'other';
EXPLAIN (COSTS OFF) SELECT team, max(slm_classify(body, ARRAY['billing', 'other'])) FROM ticket GROUP BY team;
CREATE FUNCTION figures(statement text) RETURNS TABLE ("QUERY PLAN" text) LANGUAGE plpgsql AS $$
BEGIN
    FOR "QUERY PLAN" IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || statement LOOP
        "QUERY PLAN" := regexp_replace("QUERY PLAN", '(rows=\d+)\.00', '\1'); -- 18 shows parts of rows
        RETURN NEXT;
    END LOOP;
END $$;
SELECT * FROM figures($$SELECT slm_classify(body, ARRAY['billing', 'other']) FROM big WHERE id <= 90$$);
SELECT * FROM figures($$SELECT slm_classify(body, ARRAY['billing', 'other']) FROM big LIMIT 10$$);
SELECT string_agg(key, ', ' ORDER BY key) AS keys FROM jsonb_each(jsonb_path_query_first(explained('SELECT @d(body) FROM ticket WHERE @g(body) <> '''''),
    '$.** ? (@."Custom Plan Provider" == "SLM Batch")')) WHERE key NOT IN ('Async Capable', 'Disabled', 'Usage') AND key NOT LIKE '% Blocks';
-- workers' counters reach the leader
SELECT configure(true, 7, 2, true);
SELECT node -> 'Rows Read' AS rows_read, node -> 'Calls Wanted' AS wanted, (node -> 'Output Tokens')::int > 0 AS written
    FROM jsonb_path_query_first(explained('SELECT @g(body) FROM ticket'), '$.** ? (@."Custom Plan Provider" == "SLM Batch")') node;
DROP VIEW guarded;
DROP DOMAIN short;
DROP SEQUENCE tick;
DROP FUNCTION answer_of(int), label_of(int), walk(text), same(text, text), outcome(text, text, bool), explained(text), figures(text), expand(text),
    configure(bool, int, int, bool, bool), forward_passes(jsonb);
DROP TABLE ticket, team, big, part, seen;
SELECT slm_drop_model('tiny');
