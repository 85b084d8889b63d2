-- SLM Batch: corners that random statements (test/tap/022_batch_random.pl) and reading the executor have shown. Each is run in the plain
-- way and with batches of 1, 7 and 64 rows: the same rows, the same error, the same effects. g(x), c(x) as in 10_batch.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT (slm_load_model('tiny', :'tiny_file')).name;
SET slm.generate_model = 'tiny';
SET slm.classify_model = 'tiny';

CREATE TABLE ticket (id int PRIMARY KEY, team int, body text, note text);
INSERT INTO ticket SELECT i, i % 3, CASE WHEN i % 5 = 4 THEN NULL ELSE 'ticket ' || i END, NULL FROM generate_series(1, 40) i;
CREATE TABLE team (id int PRIMARY KEY, name text);
INSERT INTO team VALUES (0, 'billing'), (1, 'delivery'), (2, 'other');
CREATE SEQUENCE numbers;
CREATE TABLE trace (n int, what text);
ANALYZE ticket;
ANALYZE team;

CREATE FUNCTION expand(statement text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT replace(replace(statement, '@g(', 'slm_generate(max_tokens => 2, prompt => '),
                   '@c(', 'slm_classify(labels => ARRAY[''billing'', ''delivery'', ''other''], input => ') $$;

-- The rows of a statement in their order, up to `rows` of them; or its error.
CREATE FUNCTION outcome(statement text, after text, rows int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text := '';
    row_text text;
    n int := 0;
BEGIN
    PERFORM setval('numbers', 1), setseed(0.5);
    BEGIN
        IF after IS NULL THEN
            FOR row_text IN EXECUTE format('SELECT r::text FROM (%s) r', expand(statement)) LOOP
                result := result || row_text || E'\n';
                n := n + 1;
                EXIT WHEN n = rows;
            END LOOP;
        ELSE
            EXECUTE expand(statement);
            FOR row_text IN EXECUTE format('SELECT r::text FROM (%s) r', after) LOOP
                result := result || row_text || E'\n';
            END LOOP;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'SLM00', MESSAGE = result || current_user;
    EXCEPTION WHEN OTHERS THEN
        RETURN CASE SQLSTATE WHEN 'SLM00' THEN SQLERRM ELSE 'ERROR ' || SQLSTATE || ' ' || SQLERRM END;
    END;
END $$;

CREATE FUNCTION same(statement text, after text DEFAULT NULL, rows int DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    expected text;
    got text;
    size int;
BEGIN
    PERFORM set_config('slm.enable_batch', 'off', false);
    expected := outcome(statement, after, rows);
    PERFORM set_config('slm.enable_batch', 'on', false);
    FOREACH size IN ARRAY ARRAY[1, 7, 64] LOOP
        PERFORM set_config('slm.batch_size', size::text, false);
        got := outcome(statement, after, rows);
        IF got IS DISTINCT FROM expected THEN
            RETURN format('DIFFERENT with batch size %s: %s instead of %s', size, got, expected);
        END IF;
    END LOOP;
    RETURN CASE WHEN expected LIKE 'ERROR%' THEN 'same error: ' || expected ELSE 'same ' || length(expected) || ' characters' END;
END $$;

-- several errors in one row: the leftmost
SELECT same('SELECT id, 10 / (id - 9), slm_generate(body, max_tokens => 2 * (9 - id)) FROM ticket');
SELECT same('SELECT id, slm_generate(body, max_tokens => 2 * (8 - id)), 10 / (id - 8) FROM ticket');
SELECT same('SELECT id, slm_generate(repeat(body, CASE id WHEN 6 THEN 100000 ELSE 1 END), max_tokens => 2) AS x, 1 / (id - 6) AS d FROM ticket');
SELECT same('SELECT id, slm_generate(body, max_tokens => id % 3 + 1 / (id - 7)) FROM ticket WHERE @c(body) <> ''x'' AND slm_generate(body, max_tokens => 7 - id) <> ''''');
SELECT same('SELECT team, sum(10 / (id - 8)), max(slm_generate(body, max_tokens => 2 * (8 - id))) FROM ticket GROUP BY team');
SELECT same('SELECT max(slm_generate(body, max_tokens => 2 * (8 - id))), sum(10 / (id - 8)) FROM ticket');
SELECT same('SELECT sum(10 / (id - 8)) OVER w, max(slm_generate(body, max_tokens => 2 * (8 - id))) OVER w FROM ticket WINDOW w AS (ORDER BY id)');
SELECT same('SELECT team, count(@g(body || 10 / (id - 50))), string_agg(@c(body) || 1 / id, ''+'' ORDER BY @g(body), id) FROM ticket GROUP BY team ORDER BY 1');
-- the reader stops before the row that fails, and goes on with a clean session
CREATE FUNCTION prefix(n int) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET work_mem = '1MB' AS $$
BEGIN
    PERFORM 1 / (n - 12) FROM team;
    RETURN 'prefix ';
END $$;
CREATE ROLE batch_reader;
GRANT SELECT ON ticket, team TO batch_reader;
GRANT ALL ON numbers, trace TO batch_reader;
SELECT slm_grant_model('tiny', 'batch_reader');
SET ROLE batch_reader;
SELECT same('SELECT id, @g(prefix(id) || body) FROM ticket', NULL, 9);
SELECT same('SELECT id, @g(prefix(id) || body) || current_user || current_setting(''work_mem'') FROM ticket', NULL, 11);
SELECT same('SELECT id, @g(prefix(id) || body) FROM ticket');
SELECT same('SELECT id, @g(body) || current_user FROM ticket WHERE prefix(id) > ''a''', NULL, 9);
RESET ROLE;
SELECT same('SELECT id, @g(body || 10 / (id - 12)) FROM ticket', NULL, 10);
SELECT same('SELECT t.id, l.x FROM team t, LATERAL (SELECT @g(k.body) AS x FROM ticket k WHERE k.id > t.id AND 10 / (k.id - 12) < 99 AND @c(k.body) <> ''x'' LIMIT 3) l');
DO $$
DECLARE
    r record;
    s text := '';
BEGIN
    FOR r IN SELECT id, slm_generate(prefix(id) || body, max_tokens => 2) AS a FROM ticket LOOP
        EXIT WHEN r.id = 10;
        s := s || r.a || prefix(r.id);
    END LOOP;
    IF length(s) < 10 OR current_setting('work_mem') = '1MB' THEN
        RAISE EXCEPTION 'the session is not as it was: % %', s, current_setting('work_mem');
    END IF;
END $$;
-- volatile functions are evaluated in their order
SELECT same('SELECT nextval(''numbers''), @g(body || nextval(''numbers'')) FROM ticket');
SELECT same('SELECT id, nextval(''numbers''), @g(body) FROM ticket');
SELECT same('SELECT id, @g(body) FROM ticket WHERE @c(body) <> ''x'' AND random() < 0.5');
SELECT same('SELECT id, random(), @g(body) FROM ticket WHERE random() < 0.5');
SELECT same('SELECT x.*, nextval(''numbers'') FROM (SELECT id, nextval(''numbers'') AS n, @g(body) FROM ticket OFFSET 0) x');
SELECT same('SELECT id, CASE WHEN random() < 0.5 THEN @g(body) ELSE @c(body) END FROM ticket');
SELECT same('SELECT id, @g(body) FROM (SELECT * FROM ticket ORDER BY random() LIMIT 10) t');
-- ties under a limit: the sort below is bounded as in the plain way
SELECT same('SELECT id, @g(body) FROM ticket ORDER BY team LIMIT 7');
SELECT same('SELECT id, @g(body) FROM ticket ORDER BY team LIMIT (SELECT count(*) FROM team) OFFSET (SELECT 2)');
SELECT same('SELECT id, @g(body) FROM ticket ORDER BY team FETCH FIRST 5 ROWS WITH TIES');
PREPARE bounded(int) AS SELECT id, slm_generate(body, max_tokens => 2) IS NULL AS n FROM ticket ORDER BY team LIMIT $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE bounded(4);
SET slm.enable_batch = off;
EXECUTE bounded(4);
SET slm.enable_batch = on;
RESET plan_cache_mode;
-- window functions look at the rows they want only
SELECT same('SELECT id, lag(slm_generate(body, max_tokens => 40 - id)) OVER (ORDER BY id) FROM ticket');
SELECT same('SELECT id, first_value(slm_generate(body, max_tokens => 2 - id)) OVER (PARTITION BY team ORDER BY id) FROM ticket');
SELECT same('SELECT id, count(slm_generate(body, max_tokens => id - 1)) OVER (ORDER BY id ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING) FROM ticket');
SELECT same('SELECT id, max(@g(body)) OVER (ORDER BY team) FROM ticket');
-- subqueries that fail, and what is evaluated again after them
SELECT same('SELECT id, @g((SELECT name FROM team)) FROM ticket ORDER BY @c(body || 1 / (id - 1))');
SELECT same('SELECT id, @g((SELECT m.name FROM team m WHERE m.id <= t.team - CASE id WHEN 8 THEN 1 ELSE 2 END)) FROM ticket t');
SELECT same('SELECT id, @g(body) FROM ticket t WHERE team > ALL (SELECT 2 / (m.id - 2) FROM team m) OR @c(body) = ''x''');
SELECT same('SELECT id FROM ticket t WHERE @c(body) <> ''x'' AND team NOT IN (SELECT m.id FROM team m WHERE 1 / (t.id - 5) < 2)');
SELECT same('SELECT id, CASE WHEN id < 5 THEN @g((SELECT name FROM team WHERE id < t.id)) END FROM ticket t WHERE id <> 1');
SELECT same('SELECT id, @g(CASE WHEN id = 2 THEN (SELECT name FROM team WHERE id < t.id) ELSE body END) FROM ticket t');
-- a column that decides a row comparison, subscripts, domains
SELECT same('SELECT id, ROW(id, @g(body)) < ROW(5, slm_generate(body, max_tokens => id - 5)) FROM ticket');
SELECT same('SELECT id, (slm_classify_multi(body, ARRAY[''a'', ''b''], threshold => 0))[1 + team], (ARRAY[@g(body)])[1 / (id - 30)] FROM ticket');
CREATE DOMAIN brief AS text CHECK (length(VALUE) < 10);
SELECT same('SELECT id, @c(body)::brief FROM ticket');
SELECT same('SELECT id, (@c(body) || repeat(''x'', id))::brief FROM ticket');
-- what one part of a statement leaves, others read on
SELECT same('WITH x AS MATERIALIZED (SELECT id, body, 1 / (id - 12) AS d FROM ticket) SELECT @g(x.body) FROM x WHERE x.id < (SELECT max(y.id) FROM x y WHERE y.id < 9) LIMIT 3');
SELECT same('WITH x AS MATERIALIZED (SELECT id, body, 1 / (id - 12) AS d FROM ticket) (SELECT id, @g(body) FROM x LIMIT 5) UNION ALL SELECT id, body FROM x');
SELECT same('WITH gone AS (DELETE FROM ticket WHERE 1 / (id - 12) < 9 RETURNING id, body) SELECT id, @g(body) FROM gone LIMIT 2', 'SELECT id FROM ticket');
SELECT same('WITH gone AS (DELETE FROM ticket WHERE id % 2 = 0 RETURNING id, body) INSERT INTO trace SELECT id, @g(body) FROM gone', 'SELECT * FROM trace');

-- filters of aggregates decide whether arguments are evaluated
SELECT same('SELECT team, count(*) FILTER (WHERE @c(body) = ''other''), max(@g(body)) FILTER (WHERE team = 1), min(@g(body)) FILTER (WHERE @c(body) <> ''x'') FROM ticket GROUP BY team ORDER BY 1');
SELECT same('SELECT team, count(slm_generate(body, max_tokens => abs(id - 7))) FILTER (WHERE id <> 7 AND @c(body) <> ''x'') FROM ticket GROUP BY team ORDER BY 1');
SELECT same('SELECT team, count(slm_generate(body, max_tokens => abs(id - 7))) FILTER (WHERE @c(body) <> ''x'') FROM ticket GROUP BY team ORDER BY 1');
SELECT same('SELECT count(@g(body)) FILTER (WHERE 10 / (id - 9) <> 99), max(slm_generate(body, max_tokens => 2 * (8 - id))) FROM ticket');
SELECT same('SELECT max(slm_generate(body, max_tokens => 2 * (10 - id))), count(*) FILTER (WHERE @c(body) <> ''x'' AND 10 / (id - 9) <> 99) FROM ticket');
SELECT same('SELECT id, count(@g(body)) FILTER (WHERE @c(body) <> ''x'') OVER (ORDER BY id), max(@g(body)) FILTER (WHERE id > 4) OVER () FROM ticket');
SELECT same('SELECT team, count(*) FILTER (WHERE random() < 0.5 AND @c(body) <> ''x'') FROM ticket GROUP BY team ORDER BY 1');
SELECT same('SELECT team, count(@g(body)) FILTER (WHERE team IN (SELECT m.id FROM team m WHERE m.name > ''c'')) FROM ticket GROUP BY team ORDER BY 1');
SELECT same('SELECT count(DISTINCT @g(body)) FILTER (WHERE @c(body) <> ''x''), string_agg(@c(body), '','' ORDER BY id) FILTER (WHERE id % 3 = 0) FROM ticket');
-- EXISTS and the like stop at a row, and begin anew; what lies behind that row is not met
SELECT same('SELECT id FROM ticket t WHERE team = 9 OR EXISTS (SELECT FROM team m WHERE m.id <= t.team AND 1 / (m.id - 2) < 5 AND @c(m.name) IS NOT NULL)');
SELECT same('SELECT id, EXISTS (SELECT FROM team m WHERE 1 / (m.id - t.team) < 5 AND @c(m.name) IS NOT NULL) FROM ticket t');
SELECT same('SELECT id, EXISTS (SELECT FROM team m WHERE m.id <= t.team + 1 AND 1 / (m.id - 2) < 5 AND @c(m.name) IS NOT NULL) FROM ticket t');
SELECT same('SELECT id, EXISTS (SELECT FROM ticket k WHERE k.id > t.id AND @c(k.body) <> ''x'' AND 10 / (k.id - 30) < 99) AS e FROM ticket t', NULL, 28);
SELECT same('SELECT id, EXISTS (SELECT FROM ticket k WHERE k.id > t.id AND slm_generate(k.body, max_tokens => 2 * abs(k.id - 30)) > '''') FROM ticket t', NULL, 20);
SELECT same('SELECT id, team NOT IN (SELECT m.id FROM team m WHERE m.id < t.id AND @c(m.name || t.body) <> ''x'') FROM ticket t');
SELECT same('SELECT id FROM ticket t WHERE id > ALL (SELECT k.id FROM ticket k WHERE k.id < t.team AND slm_generate(k.body, max_tokens => k.id) > '''')');
SELECT same('SELECT id, CASE WHEN EXISTS (SELECT FROM team m WHERE m.id = t.team AND @c(m.name) <> ''x'') THEN @g(body) END FROM ticket t');
SELECT same('SELECT id FROM ticket t WHERE NOT EXISTS (SELECT FROM team m WHERE m.id >= t.team AND @c(m.name || t.body) = ''billing'') ORDER BY id LIMIT 4');
SELECT same('SELECT id, EXISTS (SELECT FROM ticket k WHERE k.id >= t.id AND 10 / (k.id - t.id - 3) < 99 AND CASE WHEN @c(coalesce(k.body, '''')) > '''' OR true THEN k.id = t.id + 2 END) FROM ticket t WHERE id < 30');
SELECT same('SELECT id, EXISTS (SELECT FROM ticket k WHERE k.id >= t.id AND 10 / (k.id - t.id - 3) < 99 AND CASE @c(coalesce(k.body, '''')) > '''' IS NULL WHEN true THEN true ELSE @g(k.body || t.id) > '''' IS NULL OR k.id = t.id + 2 END) FROM ticket t WHERE id < 30');
SELECT same('SELECT id, (SELECT @g(k.body || t.id) FROM ticket k WHERE k.id >= t.id AND 10 / (k.id - t.id - 3) < 99 AND coalesce(@c(k.body) || k.id, ''x'' || k.id) LIKE ''%'' || (t.id + 2) LIMIT 1) AS x FROM ticket t WHERE id < 30');
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT same('SELECT id FROM ticket t WHERE EXISTS (SELECT FROM team m WHERE m.id >= t.team AND @c(m.name) <> ''x'' AND 1 / (m.id - 2) < 5)');
SELECT same('SELECT id FROM ticket t WHERE NOT EXISTS (SELECT FROM team m WHERE m.id > t.team AND @c(m.name) <> ''x'')');
SET enable_material = off;
SELECT same('SELECT id FROM ticket t WHERE EXISTS (SELECT FROM team m WHERE m.id >= t.team AND @c(m.name) <> ''x'' AND 1 / (m.id - 2) < 5)', NULL, 3);
SELECT same('SELECT t.id, l.x FROM ticket t, LATERAL (SELECT @g(m.name) AS x FROM team m WHERE m.id >= t.team AND 1 / (m.id - 2) < 5 LIMIT 1) l', NULL, 3);
RESET enable_material;
RESET enable_hashjoin;
SET enable_nestloop = off;
SELECT same('SELECT id FROM ticket t WHERE EXISTS (SELECT FROM ticket k WHERE k.team = t.team AND @c(k.body) = ''other'') ORDER BY id');
RESET enable_mergejoin;
RESET enable_nestloop;
-- VALUES: one call for all rows, if they differ in its arguments only
SELECT same('SELECT * FROM (VALUES (1, @g(''a'')), (2, @g(NULL)), (3, @g(''c'' || ''d''))) v(i, x)');
SELECT same('SELECT x, i, x FROM (VALUES (1, upper(@g(''a'')) || 1, 2.5), (2, upper(@g(''b'')) || 2, 3)) v(i, x, y)');
SELECT same('SELECT i, x FROM (VALUES (1, slm_generate(''a'', max_tokens => 2)), (2, slm_generate(''b'', max_tokens => 0)), (3, slm_generate(''c'', max_tokens => 2))) v(i, x)');
SELECT same('SELECT i, x FROM (VALUES (1, slm_generate(''a'', max_tokens => 2)), (2, slm_generate(''b'', max_tokens => 0)), (3, slm_generate(''c'', max_tokens => 2))) v(i, x)', NULL, 1);
SELECT same('SELECT i FROM (VALUES (1, slm_generate(''a'', max_tokens => 2)), (2, slm_generate(''b'', max_tokens => 0))) v(i, x)');
SELECT same('SELECT i, x FROM (VALUES (1, slm_generate(''a'', max_tokens => 2)), (2, slm_generate(''b'', max_tokens => 0))) v(i, x) WHERE i < 2');
SELECT same('SELECT * FROM (VALUES (1, @g(''a''), @c(''x'')), (2, ''b'', @c(''y'')), (3, @g(''c''), @c(''z''))) v(i, x, l)');
SELECT same('SELECT * FROM (VALUES (nextval(''numbers''), @g(''a''), @c(''x'')), (nextval(''numbers''), @g(''b''), @c(''y''))) v(i, x, l)');
SELECT same('SELECT * FROM (VALUES (@g(''a''), nextval(''numbers'')), (@g(''b''), nextval(''numbers''))) v(x, i)');
SELECT same('INSERT INTO ticket VALUES (101, 1, @g(''a''), @c(''x'')), (102, 2, @g(''b''), @c(''y'')), (103, 0, @g(''c''), @c(''z''))', 'SELECT * FROM ticket WHERE id > 100 ORDER BY id');
SELECT same('INSERT INTO trace SELECT i, x FROM (VALUES (1, @g(''a'')), (2, @g(''b''))) v(i, x) JOIN team ON team.id = i', 'SELECT * FROM trace ORDER BY n');
PREPARE given(text, text) AS SELECT i, x IS NULL AS n FROM (VALUES (1, slm_generate($1, max_tokens => 2)), (2, slm_generate($2, max_tokens => 2))) v(i, x);
SET plan_cache_mode = force_generic_plan;
EXECUTE given('a', NULL);
RESET plan_cache_mode;

-- cursors: scrolled without having been told so, and the row that they stand on
CREATE FUNCTION scroll(batch text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c refcursor;
    r record;
    s text := '';
    move text;
BEGIN
    PERFORM set_config('slm.enable_batch', batch, true);
    EXECUTE 'DECLARE scrolled CURSOR FOR SELECT id, slm_generate(body, max_tokens => 2) AS a FROM ticket WHERE id < 12';
    c := 'scrolled';
    FOREACH move IN ARRAY ARRAY['NEXT', 'FORWARD 4', 'PRIOR', 'LAST', 'NEXT', 'PRIOR', 'PRIOR', 'ABSOLUTE 2', 'FIRST', 'PRIOR', 'PRIOR', 'NEXT',
        'RELATIVE 3', 'RELATIVE -2', 'ABSOLUTE -1', 'FORWARD 0'] LOOP
        EXECUTE 'FETCH ' || move || ' FROM scrolled' INTO r;
        s := s || move || ' ' || coalesce(r.id::text || r.a, '-') || E'\n';
        IF r.id IS NOT NULL THEN
            BEGIN
                UPDATE ticket SET note = move WHERE CURRENT OF c RETURNING id INTO STRICT r;
                s := s || 'updated ' || r.id || E'\n';
                RAISE EXCEPTION USING ERRCODE = 'SLM01';
            EXCEPTION WHEN SQLSTATE 'SLM01' THEN NULL;
            END;
        END IF;
    END LOOP;
    CLOSE c;
    RETURN s;
EXCEPTION WHEN OTHERS THEN
    RETURN s || SQLERRM;
END $$;
SELECT scroll('on') = scroll('off') AS same, scroll('on') NOT LIKE '%cursor%' AS works;
SET enable_seqscan = off;
SELECT scroll('on') = scroll('off') AS same, scroll('on') NOT LIKE '%cursor%' AS works;
RESET enable_seqscan;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT id, slm_classify(body, ARRAY['a', 'b']) IS NULL AS n FROM ticket WHERE id < 6;
FETCH 2 FROM held;
COMMIT;
FETCH BACKWARD 1 FROM held;
FETCH ALL FROM held;
CLOSE held;

-- a function that may not be called, or is not called as it is
REVOKE EXECUTE ON FUNCTION slm_perplexity FROM PUBLIC;
SET ROLE batch_reader;
SELECT slm_perplexity(body) FROM ticket WHERE id < 3;
SET slm.enable_batch = off;
SELECT slm_perplexity(body) FROM ticket WHERE id < 3;
SET slm.enable_batch = on;
RESET ROLE;
GRANT EXECUTE ON FUNCTION slm_perplexity TO PUBLIC;
ALTER FUNCTION slm_perplexity SET slm.generate_model = 'none';
SELECT slm_perplexity(body) FROM ticket WHERE id < 3;
ALTER FUNCTION slm_perplexity RESET ALL;

-- above code of users there is no batch node; in arguments it may stand
EXPLAIN (COSTS OFF) SELECT slm_count_tokens(body), slm_classify(body, ARRAY['a', 'b']) FROM ticket WHERE prefix(id) > 'a';
EXPLAIN (COSTS OFF) SELECT slm_classify(prefix(id) || body, ARRAY['a', 'b']) FROM ticket;
-- an error that does not wait, out of code of users in an argument, within a block that catches it
CREATE FUNCTION not_ready(int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not ready' USING ERRCODE = '55000'; END $$;
SELECT try.* FROM try('SELECT slm_count_tokens(body), slm_classify(not_ready(id) || body, ARRAY[''a'', ''b'']) FROM ticket');
SELECT count(*) > 0 AS goes_on FROM ticket;
DROP TABLE ticket, team, trace;
DROP SEQUENCE numbers;
DROP FUNCTION same, outcome, expand, prefix, scroll, not_ready;
DROP DOMAIN brief;
SELECT slm_drop_model('tiny');
DROP ROLE batch_reader;
