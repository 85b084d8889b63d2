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
