-- What EXPLAIN says of calls: as people write them, who computes them, and why not in a batch.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('tiny', :'tiny_file')).name;
SET slm.generate_model = 'tiny';
SET slm.classify_model = 'tiny';
SET max_parallel_workers_per_gather = 0;
SET enable_mergejoin = off;
CREATE TABLE ticket (id int PRIMARY KEY, team int, body text);
INSERT INTO ticket SELECT i, i % 3, 'ticket ' || i % 4 FROM generate_series(1, 20) i;
CREATE TABLE team (id int PRIMARY KEY, name text);
INSERT INTO team VALUES (0, 'billing'), (1, 'delivery'), (2, 'other');
ANALYZE ticket;
ANALYZE team;
CREATE FUNCTION answer(input text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN slm_generate(input, max_tokens => 2); END $$;

-- arguments at their default are left out, those after them are named, constants are short
EXPLAIN (COSTS OFF) SELECT slm_classify(body, ARRAY['a', 'b']), slm_classify(body, ARRAY['a', 'b'], threshold => 0.25), slm_generate(body, max_tokens => 5, seed => 7) FROM ticket;
EXPLAIN (COSTS OFF) SELECT slm_sentiment(body) FROM ticket ORDER BY slm_classify(body, descriptions => '{"billing": "invoices, refunds, and whatever else has to do with money", "other": "the rest"}');
EXPLAIN (COSTS OFF) SELECT id, slm_generate('A very long introduction to the question that follows it: what is this? ' || body) FROM ticket WHERE team = 1 AND slm_classify(body, ARRAY['a', 'b'], method => 'direct') = 'a';
EXPLAIN (COSTS OFF, VERBOSE) SELECT slm_classify(body, ARRAY['a', 'b']) FROM ticket WHERE slm_generate(body, max_tokens => 1) <> 'x';
EXPLAIN (COSTS OFF, VERBOSE) SELECT t.id FROM ticket t JOIN team m ON slm_classify(t.body, ARRAY['a', 'b']) = m.name;
EXPLAIN (COSTS OFF) SELECT slm_generate(body, model => name) FROM ticket JOIN team ON team.id = ticket.team;
SET slm.generate_model = '';
EXPLAIN (COSTS OFF) SELECT slm_generate(body), slm_generate(body, model => 'tiny') FROM ticket;
SET slm.generate_model = 'tiny';

-- what is computed in batches
EXPLAIN (COSTS OFF) SELECT count(*) FILTER (WHERE slm_classify(body, ARRAY['a', 'b']) = 'a'), max(slm_generate(body)) FILTER (WHERE team = 1) FROM ticket;
EXPLAIN (COSTS OFF) SELECT id, EXISTS (SELECT FROM team m WHERE m.id > t.team AND slm_classify(m.name, ARRAY['a', 'b']) = 'a') FROM ticket t;
EXPLAIN (COSTS OFF) SELECT id FROM ticket t WHERE NOT EXISTS (SELECT FROM team m WHERE m.id > t.team AND slm_classify(m.name, ARRAY['a', 'b']) = 'a');
EXPLAIN (COSTS OFF) SELECT t.id, m.id FROM ticket t JOIN team m ON slm_classify(t.body || m.name, ARRAY['a', 'b']) = 'a';
EXPLAIN (COSTS OFF) INSERT INTO team VALUES (3, slm_generate('x')), (4, slm_generate('y', max_tokens => 9));

-- A plan as versions up to 17 show it: 18 adds a line about windows and parts of rows.
CREATE FUNCTION plan(statement text, options text DEFAULT 'ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF')
    RETURNS TABLE ("QUERY PLAN" text) LANGUAGE plpgsql AS $$
BEGIN
    FOR "QUERY PLAN" IN EXECUTE format('EXPLAIN (%s) %s', options, statement) LOOP
        CONTINUE WHEN "QUERY PLAN" ~ '^ *Window: ';
        "QUERY PLAN" := regexp_replace("QUERY PLAN", '(rows=\d+)\.00', '\1');
        RETURN NEXT;
    END LOOP;
END $$;

-- what is not, and why
EXPLAIN (COSTS OFF) SELECT slm_generate('hi');
EXPLAIN (COSTS OFF) SELECT id FROM ticket t WHERE EXISTS (SELECT FROM team m WHERE slm_classify(t.body || m.name, ARRAY['a', 'b']) = 'a');
EXPLAIN (COSTS OFF) SELECT t.id, m.id FROM ticket t LEFT JOIN team m ON slm_classify(t.body || m.name, ARRAY['a', 'b']) = 'a';
EXPLAIN (COSTS OFF) INSERT INTO team VALUES (3, slm_generate('x')), (4, 'y');
EXPLAIN (COSTS OFF) UPDATE team SET name = 'x' WHERE id = 1 RETURNING slm_generate(name);
EXPLAIN (COSTS OFF) INSERT INTO team VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = slm_generate(excluded.name);
EXPLAIN (COSTS OFF) SELECT slm_generate(body) FROM ticket WHERE answer(body) > 'a';
EXPLAIN (COSTS OFF) SELECT slm_generate(body || random()), CASE team WHEN 1 THEN slm_generate(body) END, ROW(id, slm_generate(body)) < ROW(1, 'x') FROM ticket;
EXPLAIN (COSTS OFF) SELECT id, slm_generate(body), random() FROM ticket WHERE random() < 0.5;
SELECT * FROM plan('SELECT lag(slm_generate(body)) OVER (ORDER BY team) FROM ticket', 'COSTS OFF');
EXPLAIN (COSTS OFF) SELECT team, count(slm_generate(body)) FROM ticket GROUP BY GROUPING SETS ((team), (id));
EXPLAIN (COSTS OFF) SELECT s.* FROM ticket, slm_classify_scores(slm_generate(body), ARRAY['a', 'b']) s;
EXPLAIN (COSTS OFF) WITH x AS MATERIALIZED (SELECT id, body FROM ticket) SELECT slm_generate(x.body) FROM x UNION ALL SELECT body FROM x;
SET slm.enable_batch = off;
EXPLAIN (COSTS OFF) SELECT slm_generate(body) FROM ticket;
SET slm.enable_batch = on;

-- figures: with units for people, as numbers for programs; of single calls and of functions that run statements too
SELECT * FROM plan($$SELECT slm_generate(body, max_tokens => 2) FROM ticket$$);
SELECT * FROM plan($$SELECT slm_generate('hi', max_tokens => 2)$$);
SELECT * FROM plan($$SELECT answer(body), slm_generate(body, max_tokens => 3) FROM ticket WHERE id < 4$$);
CREATE FUNCTION explained(statement text, form text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    result text := '';
BEGIN
    FOR line IN EXECUTE format('EXPLAIN (ANALYZE, COSTS OFF, FORMAT %s) %s', form, statement) LOOP
        result := result || line || E'\n';
    END LOOP;
    RETURN result;
END $$;
SELECT regexp_replace(line, '\d+(\.\d+)?( ms| tokens/s)', 'N\2') AS line FROM regexp_split_to_table(explained('SELECT slm_generate(body, max_tokens => 2) FROM ticket', 'text'), '\n') line
    WHERE line ~ 'Time|Speed' AND line !~ 'Planning|Execution';
SELECT (plan -> 'Outside of Batches' -> 'Usage') - '{prefill_ns,decode_ns,cpu_ns}'::text[] AS usage, (plan -> 'Outside of Batches' -> 'Usage' ->> 'decode_ns')::bigint > 0 AS timed
    FROM (SELECT explained('SELECT slm_generate(''hi'', max_tokens => 2)', 'json')::jsonb -> 0 AS plan) p;
SELECT jsonb_pretty(plan -> 'Not Batched') AS missed, (plan -> 'Outside of Batches') - 'Model Time' - 'Tokens per Second' - 'Usage' AS outside
    FROM (SELECT explained('SELECT slm_generate(''hi'', max_tokens => 2)', 'json')::jsonb -> 0 AS plan) p;
SELECT substring(explained('SELECT slm_generate(''hi'', max_tokens => 2)', 'xml') FROM '<Reason>([^<]*)</Reason>') AS reason;
SELECT explained('SELECT slm_generate(''hi'', max_tokens => 2)', 'yaml') ~ 'Not Batched: \n    - Call: .*\n      Place: "Result"\n      Reason: ".*"\n  Outside of Batches: \n    Requests: 1\n' AS yaml;
-- EXPLAIN leaves prepared plans as they are
PREPARE q AS SELECT slm_classify(body, ARRAY['a', 'b']) IS NULL AS n FROM ticket WHERE id = 1;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE q;
EXECUTE q;
RESET plan_cache_mode;
DROP FUNCTION answer, explained, plan;
DROP TABLE ticket, team;
SELECT slm_drop_model('tiny');
