-- What a job adds to the work of its expression, for run_bench.sh: prints CSV lines "metric,type,threads,value,unit".
-- psql variables: threads (which must be the server's slm.job_threads), documents, rounds, and a model loaded under the name bench.
-- Backfill of short documents: plain UPDATE, CALL slm_run_job and the background worker take turns.  Then single documents: from
-- COMMIT to the filled column, beside the function itself.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ','
\set QUIET on
SET client_min_messages = error;
SET slm.threads = :threads;
SET slm.generate_model = 'bench';

CREATE TABLE bench_result (metric text, seconds double precision);
CREATE TABLE bench_docs (id int PRIMARY KEY, body text, summary text);
SELECT slm_generate('Hello', max_tokens => 1) AS warm \gset

-- n documents of two tickets each, as a new table
CREATE PROCEDURE bench_fill(n int) LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE bench_docs;
    INSERT INTO bench_docs SELECT i, a.body || ' ' || b.body FROM generate_series(1, n) i
        JOIN tickets a ON a.id = i % 36 + 1 JOIN tickets b ON b.id = (i + i / 36 + 1) % 36 + 1;
    COMMIT;
    ANALYZE bench_docs;
END $$;

CREATE PROCEDURE bench_backfill(way text, n int, expression text) LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz;
BEGIN
    CALL bench_fill(n);
    PERFORM slm_create_job('bench', 'bench_docs', 'summary', expression, jsonb_build_object('paused', true));
    COMMIT;
    t := clock_timestamp();
    IF way = 'UPDATE' THEN
        EXECUTE format('UPDATE bench_docs SET summary = %s', expression);
    ELSIF way = 'CALL slm_run_job' THEN
        CALL slm_run_job('bench');
    ELSE
        PERFORM slm_resume_job('bench');
        COMMIT;
        WHILE (SELECT count(*) < n FROM slm.job_done) LOOP
            PERFORM pg_sleep(0.02);
            COMMIT;
        END LOOP;
    END IF;
    COMMIT;
    INSERT INTO bench_result VALUES ('backfill of ' || n || ' documents, ' || way, extract(epoch FROM clock_timestamp() - t));
    PERFORM slm_drop_job('bench');
    COMMIT;
END $$;

CREATE PROCEDURE bench_backfills(n int, rounds int, expression text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..rounds LOOP
        CALL bench_backfill('UPDATE', n, expression);
        CALL bench_backfill('CALL slm_run_job', n, expression);
        CALL bench_backfill('worker', n, expression);
    END LOOP;
END $$;

-- One document at a time.  After `idle` seconds the worker has left the database.
CREATE PROCEDURE bench_singles(label text, idle double precision, rounds int, expression text) LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz;
BEGIN
    CALL bench_fill(rounds + 1);
    PERFORM slm_create_job('bench', 'bench_docs', 'summary', expression, '{"backfill": "none"}');
    COMMIT;
    FOR i IN 1..rounds LOOP
        t := clock_timestamp();
        EXECUTE format('SELECT %s FROM bench_docs WHERE id = %s', expression, i);
        INSERT INTO bench_result VALUES ('one document, the function itself', extract(epoch FROM clock_timestamp() - t));
        COMMIT;
        PERFORM pg_sleep(idle);
        UPDATE bench_docs SET body = body || ' Thanks.' WHERE id = i;
        COMMIT;
        t := clock_timestamp();
        WHILE NOT EXISTS (SELECT FROM slm.job_done WHERE key = jsonb_build_array(i)) LOOP
            PERFORM pg_sleep(0.005);
            COMMIT;
        END LOOP;
        INSERT INTO bench_result VALUES ('one document, COMMIT to column, ' || label, extract(epoch FROM clock_timestamp() - t));
        COMMIT;
    END LOOP;
    PERFORM slm_drop_job('bench');
    COMMIT;
END $$;

CALL bench_backfills(:documents, :rounds, 'slm_summarize(body, max_words => 10, method => ''abstract'')');
CALL bench_singles('worker at hand', 0.2, 5 * :rounds, 'slm_summarize(body, max_words => 10, method => ''abstract'')');
CALL bench_singles('worker left', 9, :rounds, 'slm_summarize(body, max_words => 10, method => ''abstract'')');

SELECT metric || ' (median of ' || count(*) || ')', :'type', :threads,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds)::numeric * CASE WHEN metric LIKE 'one %' THEN 1000 ELSE 1 END, 1),
       CASE WHEN metric LIKE 'one %' THEN 'ms' ELSE 's' END
FROM bench_result GROUP BY metric ORDER BY metric;
DROP PROCEDURE bench_fill, bench_backfill, bench_backfills, bench_singles;
DROP TABLE bench_docs, bench_result;
