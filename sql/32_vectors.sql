-- Stored vectors compared in plain SQL: cosine, Euclidean and inner product, for real[] and double precision[].
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT slm_similarity('{1,0}'::real[], '{1,0}'::real[]) AS same, slm_similarity('{1,0}'::real[], '{0,2}'::real[]) AS across,
  slm_similarity('{1,2}'::real[], '{-2,-4}'::real[]) AS opposite, slm_similarity('{3,4}'::real[], '{4,3}'::real[]) AS between;
SELECT slm_distance('{1,0}'::real[], '{0,2}'::real[]), slm_distance('{1,0}'::real[], '{0,2}'::real[], 'l2'), slm_distance('{1,2}'::real[], '{3,4}'::real[], metric => 'dot'),
  slm_distance('{1,0}'::real[], '{2,0}'::real[], 'cosine') AS none;
-- doubles, and one of each, as drivers send them
SELECT slm_similarity('{3,4}'::float8[], '{4,3}'::float8[]), slm_similarity('{3,4}'::real[], '{4,3}'::float8[]), slm_similarity('{3,4}'::float8[], '{4,3}'::real[]);
SELECT m, slm_distance('{3,4}'::float8[], '{4,3}'::float8[], m) AS doubles, slm_distance('{3,4}'::real[], '{4,3}'::float8[], m) AS mixed,
  slm_distance('{3,4}'::float8[], '{4,3}'::real[], m) AS mixed_too, slm_distance('{3,4}'::real[], '{4,3}'::real[], m) AS reals FROM unnest(ARRAY['cosine', 'l2', 'dot']) m;
-- an untyped parameter is taken for what it is compared with; two of them are texts
PREPARE untyped AS SELECT slm_similarity('{3,4}'::real[], $1), slm_similarity($2, '{3,4}'::float8[]), slm_distance('{3,4}'::real[], $3);
EXECUTE untyped('{4,3}', '{4,3}', '{4,3}');
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped';
DEALLOCATE untyped;
-- a real[] column beside doubles is not converted
CREATE TABLE stored (i int, e real[]);
EXPLAIN (VERBOSE, COSTS OFF) SELECT slm_similarity(e, '{3,4}'::float8[]), slm_distance('{3,4}'::float8[], e, 'l2') FROM stored;
SELECT slm_similarity(NULL::real[], '{1}'::real[]) IS NULL AS none, slm_distance('{1}'::real[], NULL::real[]) IS NULL AS none_too;
SELECT slm_similarity('[0:1]={1,0}'::real[], '[5:6]={1,0}'::real[]) AS other_bounds;
-- any length is the sum over its components; never beyond 1 in magnitude, 1 for the same
SELECT count(*), bool_and(abs(slm_similarity(a, b) - sum_ab / sqrt(sum_aa * sum_bb)) < 1e-12) AS right,
  bool_and(slm_similarity(a, a) = 1 AND slm_distance(a, a) = 0 AND slm_distance(a, a, 'l2') = 0) AS itself,
  bool_and(slm_similarity(a::real[], a::real[]) = 1 AND slm_similarity(a::real[], opposite) >= -1) AS floats,
  bool_and(abs(slm_distance(a, b, 'l2') - sqrt(sum_aa + sum_bb - 2 * sum_ab)) < 1e-9 AND abs(slm_distance(a, b, 'dot') + sum_ab) < 1e-9) AS others
FROM (SELECT n, array_agg(x ORDER BY i) AS a, array_agg(y ORDER BY i) AS b, array_agg(-x::real ORDER BY i) AS opposite, sum(x * y) AS sum_ab, sum(x * x) AS sum_aa, sum(y * y) AS sum_bb
      FROM (SELECT n, i, sin(i * n)::float8 AS x, cos(i * i + n)::float8 AS y FROM generate_series(1, 70) n, generate_series(1, n) i) s GROUP BY n) v;
-- numbers of any size
SELECT slm_similarity('{1e200,1e200}'::float8[], '{1e-200,1e-200}'::float8[]) AS same, slm_similarity('{3e307,4e307}'::float8[], '{4e-300,3e-300}'::float8[]) AS between,
  slm_similarity('{1e38,1e-38}'::real[], '{1e38,1e-38}'::real[]) AS floats, slm_distance('{3e200,0}'::float8[], '{0,4e200}'::float8[], 'l2') AS far, slm_distance('{3e-200,0}'::float8[], '{0,4e-200}'::float8[], 'l2') AS near;
SELECT slm_distance('{0,0}'::real[], '{3,4}'::real[], 'l2'), slm_distance('{0,0}'::real[], '{3,4}'::real[], 'dot');
-- stored out of line and compressed
INSERT INTO stored SELECT i, array_agg((i * j % 7)::real) FROM generate_series(1, 3) i, generate_series(1, 3000) j GROUP BY i;
SELECT a.i, b.i AS other, round(slm_similarity(a.e, b.e)::numeric, 6) FROM stored a, stored b WHERE a.i < b.i ORDER BY 1, 2;
-- immutable: an index may hold it, and workers compute it
CREATE INDEX ON stored ((slm_distance(e, e)));
SELECT provolatile, proparallel, proisstrict, count(*) FROM pg_proc WHERE prosrc LIKE 'slm\_pg\_vector\_%' AND prosrc <> 'slm_pg_vector_scores' GROUP BY 1, 2, 3;
DROP TABLE stored;
\x on
SELECT * FROM try($$SELECT slm_similarity('{1,2}'::real[], '{1,2,3}'::real[])$$);
SELECT * FROM try($$SELECT slm_distance('{1,2}'::real[], '{1,2,3}'::float8[], 'l2')$$);
SELECT * FROM try($$SELECT slm_similarity('{}'::real[], '{}'::real[])$$);
SELECT * FROM try($$SELECT slm_similarity('{1,NULL}'::real[], '{1,2}'::real[])$$);
SELECT * FROM try($$SELECT slm_similarity('{{1,2}}'::real[], '{1,2}'::real[])$$);
SELECT * FROM try($$SELECT slm_similarity('{1,NaN}'::real[], '{1,2}'::real[])$$);
SELECT * FROM try($$SELECT slm_distance('{1,2}'::float8[], '{1,Infinity}'::float8[], 'dot')$$);
SELECT * FROM try($$SELECT slm_distance('{1,2}'::float8[], '{1,-Infinity}'::real[], 'l2')$$);
SELECT * FROM try($$SELECT slm_similarity('{0,0}'::real[], '{1,2}'::real[])$$);
SELECT * FROM try($$SELECT slm_distance('{1,2}'::float8[], '{0,0}'::float8[])$$);
SELECT * FROM try($$SELECT slm_distance('{1}'::real[], '{1}'::real[], 'manhattan')$$);
SELECT * FROM try($$SELECT slm_distance('{1e300}'::float8[], '{-1e300}'::float8[], 'dot')$$);
SELECT * FROM try($$SELECT slm_distance('{1.7e308}'::float8[], '{-1.7e308}'::float8[], 'l2')$$);
\x off
-- embeddings: the cosine of texts is that of their vectors, in [-1, 1]; no component so small that real arithmetic raises
SELECT name FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
CREATE TABLE texts AS SELECT i, 'parcel number ' || i || repeat(' late', i % 9) AS body FROM generate_series(1, 60) i;
SELECT count(*), count(*) FILTER (WHERE s <> 1) AS not_one, count(acos(s)) FROM (SELECT slm_similarity(body, body) AS s FROM texts) x;
SELECT slm_similarity('', ''), acos(slm_similarity('', ''));
SELECT count(*) FROM texts a JOIN texts b ON a.i < b.i WHERE a.i < 4 AND slm_similarity(a.body, b.body) <> slm_similarity(slm_embed(a.body), slm_embed(b.body));
SELECT max(score) <= 1 AS bounded, count(*) FROM texts, slm_rerank(body, ARRAY[body]);
SELECT count(*) FILTER (WHERE x <> 0 AND abs(x) < 1e-18::real) AS tiny, count(*) FROM texts, unnest(slm_embed(body)) x;
SELECT round(sum(a * b)::numeric, 4) AS sum_of_reals FROM unnest(slm_embed('x'), slm_embed('y')) u(a, b);
RESET slm.embed_model;
SELECT slm_drop_model('minilm');
DROP TABLE texts;
