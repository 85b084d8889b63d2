-- Stored vectors compared in plain SQL, for run_bench.sh: prints CSV lines "metric,type,threads,value,unit".  200,000 vectors of 384
-- components (312 MB, in shared buffers), compared with one query and with 25, on one process and by parallel workers.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ','
CREATE TABLE vectors (e real[]);
ALTER TABLE vectors ALTER e SET STORAGE PLAIN;
INSERT INTO vectors SELECT v.e FROM (SELECT i, array_agg((random() - 0.5)::real) AS e FROM generate_series(1, 4000) i, generate_series(1, 384) GROUP BY i) v,
  generate_series(1, 50);
VACUUM (ANALYZE) vectors;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SELECT sum(slm_similarity(e, e)) AS warm FROM vectors \gset
SELECT e AS query FROM vectors LIMIT 1 \gset
SELECT string_agg(format('slm_similarity(e, %L::real[])', e), ' + ') AS calls FROM (SELECT e FROM vectors LIMIT 25) q \gset

SET max_parallel_workers_per_gather = 0;
SELECT clock_timestamp() AS t0 \gset
SELECT max(slm_similarity(e, :'query'::real[])) AS best FROM vectors \gset
SELECT 'slm_similarity(real[384], real[384]), 200,000 stored vectors, one query', '', 1,
       round((0.2 / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 2), 'million pairs/s';
SELECT clock_timestamp() AS t0 \gset
SELECT max(:calls) AS best FROM vectors \gset
SELECT 'slm_similarity(real[384], real[384]), 200,000 stored vectors, 25 queries', '', 1,
       round((5 / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 2), 'million pairs/s';

SET max_parallel_workers_per_gather = 2;
SELECT clock_timestamp() AS t0 \gset
SELECT max(slm_similarity(e, :'query'::real[])) AS best FROM vectors \gset
SELECT 'slm_similarity(real[384], real[384]), 200,000 stored vectors, one query', '', 2,
       round((0.2 / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 2), 'million pairs/s';
SELECT clock_timestamp() AS t0 \gset
SELECT max(:calls) AS best FROM vectors \gset
SELECT 'slm_similarity(real[384], real[384]), 200,000 stored vectors, 25 queries', '', 2,
       round((5 / extract(epoch FROM clock_timestamp() - :'t0'::timestamptz))::numeric, 2), 'million pairs/s';
