-- slm_estimate: shape of what it gives, what it counts exactly, and what it refuses. How near it comes is in test/tap/065_estimate.pl.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SELECT (slm_load_model('estimate_minilm', :'minilm')).name;
SET slm.embed_model = 'estimate_minilm';
CREATE TABLE note (id int, body text);
INSERT INTO note SELECT i, 'note number ' || i % 12 FROM generate_series(1, 60) i;
ANALYZE note;
SELECT figure, low <= estimate AND estimate <= high AS ordered, unit, note FROM slm_estimate('SELECT slm_embed(body) FROM note');
SET slm.machine_cost_per_hour = 0.2;
-- all different inputs are in the sample: exact
SELECT figure, estimate, low, high FROM slm_estimate('SELECT slm_embed(body) FROM note') WHERE figure IN ('rows', 'calls', 'distinct_calls', 'tokens_out');
SELECT figure, estimate FROM slm_estimate('INSERT INTO note SELECT 1, slm_embed(body)::text FROM note WHERE id <= 6') WHERE figure IN ('rows', 'calls', 'distinct_calls');
SELECT figure, estimate FROM slm_estimate('SELECT slm_embed(body) FROM note ORDER BY id LIMIT 5') WHERE figure IN ('rows', 'calls', 'distinct_calls');
SELECT estimate FROM slm_estimate('SELECT slm_embed(''one'')') WHERE figure = 'distinct_calls';
SELECT estimate FROM slm_estimate('SELECT count(*) FROM note') WHERE figure IN ('calls', 'tokens_in', 'price_here');
SELECT estimate FROM slm_estimate('SELECT slm_embed(body) FROM note WHERE false') WHERE figure = 'calls';
-- the price that is named, and the cheapest
SELECT figure, note FROM slm_estimate('SELECT slm_embed(body) FROM note LIMIT 2', api => 'gpt-4o') WHERE figure LIKE 'price%';
-- what cannot be estimated
SELECT * FROM try($$SELECT * FROM slm_estimate(NULL)$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT 1; SELECT 2')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('VACUUM note')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT slm_embed(body) FROM note FOR UPDATE')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('WITH d AS (DELETE FROM note RETURNING body) SELECT slm_embed(body) FROM d')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT slm_embed(body) FROM nowhere')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT slm_embed($1)')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT slm_embed(body) FROM note LIMIT 2', api => 'gpt-0')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT slm_embed(body) FROM note', sample => 1)$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT slm_embed(body) FROM note', seconds => 'NaN')$$);
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT * FROM slm_estimate(''SELECT slm_embed(body) FROM note'')')$$);
-- an error of the statement is the error, and nothing is left behind
SELECT * FROM try($$SELECT * FROM slm_estimate('SELECT slm_embed(body), 1 / (id - 1) FROM note')$$);
SELECT estimate FROM slm_estimate('SELECT slm_embed(body) FROM note') WHERE figure = 'distinct_calls';
SELECT count(*), count(slm_embed(body)) FROM note;
-- EXPLAIN expects tokens, and minutes of a model that has computed; COSTS off hides it
CREATE FUNCTION expected(statement text, with_costs boolean DEFAULT true) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  FOR line IN EXECUTE format('EXPLAIN (COSTS %s) %s', CASE WHEN with_costs THEN 'on' ELSE 'off' END, statement) LOOP
    IF line ~ 'Estimated' THEN RETURN NEXT regexp_replace(trim(line), '[0-9.]+', 'N'); END IF;
  END LOOP;
END $$;
SELECT expected('SELECT slm_embed(body) FROM note');
SELECT expected('SELECT slm_embed(body) FROM note', false);
CREATE FUNCTION expected_tokens(statement text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
  EXECUTE 'EXPLAIN (FORMAT json) ' || statement INTO plan;
  RETURN substring(plan::text FROM '"Estimated Tokens": ([0-9]+)')::numeric;
END $$;
-- 12 different texts; a LIMIT; a text that is put together; a join
SELECT expected_tokens('SELECT slm_embed(body) FROM note') BETWEEN 12 * 2 AND 12 * 6 AS by_statistics,
       expected_tokens('SELECT slm_embed(body || id) FROM note LIMIT 5') < expected_tokens('SELECT slm_embed(body || id) FROM note') AS limited,
       expected_tokens('SELECT slm_embed(body || id) FROM note') > expected_tokens('SELECT slm_embed(body) FROM note') AS different_texts,
       expected_tokens('SELECT slm_embed(n.body) FROM note n JOIN note m USING (id)') = expected_tokens('SELECT slm_embed(body) FROM note') AS joined;
