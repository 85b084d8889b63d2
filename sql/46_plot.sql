-- Pictures of rows: every kind is one well-formed SVG with labelled axes, whatever the texts; nothing from outside, nothing that runs.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SET client_min_messages = warning;
-- what a picture is made of: its elements and attributes, whether it is well-formed, and whether it says these words
CREATE FUNCTION made_of(svg text, words text[] DEFAULT '{}', OUT elements text, OUT attributes text, OUT whole boolean, OUT says boolean) LANGUAGE sql AS $$
  SELECT (SELECT string_agg(DISTINCT m[1], ' ') FROM regexp_matches(svg, '<([a-zA-Z!?][^\s/>]*)', 'g') m),
         (SELECT string_agg(DISTINCT m[1], ' ') FROM regexp_matches(regexp_replace(svg, '>[^<]*<', '><', 'g'), '\s([a-zA-Z0-9:-]+)=', 'g') m),
         xml_is_well_formed_document(svg) AND (SELECT count(*) FROM regexp_matches(svg, '(https?:|url\(|@import)(?![^<>]*</)', 'g')) = 1,
         NOT EXISTS (SELECT FROM unnest(words) w WHERE strpos(svg, '>' || w || '<') = 0) $$;
CREATE TABLE coverage AS SELECT * FROM (VALUES (0, 1.0, 0.62, 0.58, 0.66), (0.5, 0.8, 0.71, 0.66, 0.76), (0.9, 0.25, 0.97, 0.9, 1)) t(threshold, answered, accuracy, low, high);
SELECT (made_of(slm_plot('SELECT * FROM coverage', 'coverage'), '{Coverage,share answered (%),accuracy of what is answered (%),50 %,100 %}')).*;
SELECT (made_of(slm_plot('SELECT jsonb_agg(c) FROM coverage c', 'coverage', title => 'Tickets'), '{Tickets,100 %}')).*;
SELECT slm_plot('SELECT * FROM coverage', 'coverage') = slm_plot('SELECT jsonb_agg(c) FROM coverage c;', 'coverage') AS either_form;
SELECT (made_of(slm_plot('SELECT 0.7 AS confidence, 0.5 AS accuracy, 20 AS rows UNION ALL SELECT 0.9, 0.8, 80', 'calibration'), '{how sure the answers are (%),how many are right (%)}')).*;
SELECT (made_of(slm_plot('SELECT e AS expected, g AS given, CASE WHEN e = g THEN 20 ELSE 3 END AS rows FROM unnest(ARRAY[''a'', ''b'']) e, unnest(ARRAY[''a'', ''b'', ''c'']) g', 'confusion'), '{expected,given,20,3}')).*;
SELECT (made_of(slm_plot('SELECT i % 40 AS expected, i % 39 AS given FROM generate_series(1, 3000) i', 'confusion', height => 800), '{the 30 of 40 labels that are confused most; dark: a large part of the expected ones}')).*;
SELECT (made_of(slm_plot('SELECT * FROM (VALUES (''small'', 0.8, 0.05, 0.7, 0.9), (''large'', 0.9, 20, NULL, NULL)) t(candidate, accuracy, cost_per_million_rows, accuracy_low, accuracy_high)',
    'cost', x_label => 'USD for a million rows'), '{small,large,0.1,10,USD for a million rows,accuracy (%)}')).*;
SELECT (made_of(slm_plot('SELECT date ''2026-11-01'' + d AS day, f AS function, d * 1000 AS tokens FROM generate_series(1, 10) d, generate_series(1, 12) f', 'usage'), '{tokens a day,day (UTC),(other),2026-11-02,100k}')).*;
SELECT (made_of(slm_plot('SELECT * FROM slm.usage UNION ALL SELECT current_date, ''a'', ''b'', ''c'', ''d'', ''e'', 1, 1, 1, 1, 1, 1, 1, 1, 1, 1', 'usage'), '{tokens a day}')).whole;
SELECT (made_of(slm_plot('SELECT x, y AS cpu_seconds, x AS day FROM (VALUES (timestamptz ''2026-01-01'', 2.5)) t(x, y)', 'usage'), '{CPU time (seconds a day)}')).says;
SELECT (made_of(slm_plot('SELECT x, x * s AS y, s AS series FROM generate_series(-5, 5) x, generate_series(1, 2) s', 'line', 'A line', 'time (s)', 'length (m)'), '{A line,time (s),length (m),-10,1,2}')).*;
SELECT (made_of(slm_plot('SELECT date ''2026-01-01'' + x AS x, 5 AS y FROM generate_series(0, 3) x', 'line'), '{2026-01-01,2026-01-04}')).says;
SELECT (made_of(slm_plot('SELECT x, length(x) AS y FROM unnest(ARRAY[''a'', ''bbb'']) x', 'bar', 'Bars', 'characters'), '{a,bbb,3,characters}')).*;
-- ---- hostile texts stay texts, wherever they stand
CREATE TABLE hostile AS SELECT * FROM (VALUES ('</text></svg><script>alert(1)</script>'), ('" onload="alert(1)'), ('&lt;b&#38;&bogus;'), (']]><![CDATA[x'), (E'a\x01b\x1b\n\u202Ec\u200Bd\uFFFF'), ('<?xml?><!DOCTYPE x>'),
    (repeat('𝔘<', 5000)), ('{color:url(http://x)}</style>')) t(word);
SELECT k AS kind, (made_of(slm_plot(CASE k WHEN 'bar' THEN 'SELECT word AS x, 1 AS y FROM hostile' WHEN 'cost' THEN 'SELECT word AS candidate, 0.5 AS accuracy, length(word) AS cost_per_million_rows FROM hostile'
    WHEN 'confusion' THEN 'SELECT a.word AS expected, b.word AS given FROM hostile a, hostile b' WHEN 'usage' THEN 'SELECT current_date AS day, word AS function, 1 AS tokens FROM hostile'
    ELSE 'SELECT 0.5 AS x, 0.5 AS y, 0.5 AS answered, 0.5 AS confidence, 0.5 AS accuracy, word AS series FROM hostile' END, k, title => w.word, x_label => w.word, y_label => w.word))).elements AS elements,
    bool_and(xml_is_well_formed_document(slm_plot('SELECT word AS x, 1 AS y FROM hostile', 'bar', w.word, w.word, w.word))) AS whole
    FROM unnest(ARRAY['bar', 'cost', 'confusion', 'usage', 'line', 'coverage', 'calibration']) k, hostile w GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM hostile w WHERE slm_plot('SELECT word AS x, 1 AS y FROM hostile', 'bar', w.word) ~ '<script|onload="|<b|<!|[\x01-\x09\x0b-\x1f\u202a-\u202e\u200b]';
SELECT max(length(slm_plot('SELECT word AS x, 1 AS y FROM hostile', 'bar', w.word, w.word, w.word))) < 30000 AS bounded FROM hostile w;
-- ---- numbers that are none, or too large, are left out; ends that are equal, negative, tiny, huge
SELECT (made_of(slm_plot('SELECT x, y FROM (VALUES (1, 2.5::float8), (2, ''nan''), (3, ''infinity''), (4, NULL), (5, 1e200), (6, -3)) t(x, y)', 'line'))).whole;
SELECT y, (made_of(slm_plot(format('SELECT %s AS x, %s AS y', y, y), 'line'))).whole FROM unnest(ARRAY['0', '1e-300', '-1e-90', '1e99', '123456789012345678901234567890.5']) y;
SELECT count(*) FROM regexp_matches(slm_plot('SELECT i AS x, CASE WHEN i % 2 = 0 THEN 1e90 ELSE -1e-90 END AS y FROM generate_series(1, 9) i', 'line'), 'nan|inf', 'gi');
SELECT slm_plot('SELECT 1 AS answered, 0.5 AS accuracy', 'coverage', width => 2000, height => 2000) LIKE '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2000 2000"%' AS sized;
-- ---- the query runs with the caller's rights, and read-only
CREATE ROLE plot_nobody;
GRANT USAGE ON SCHEMA public TO plot_nobody;
SET ROLE plot_nobody;
SELECT * FROM try($$SELECT slm_plot('SELECT * FROM coverage', 'coverage')$$);
RESET ROLE;
DROP OWNED BY plot_nobody;
DROP ROLE plot_nobody;
SELECT * FROM try($$SELECT slm_plot('DELETE FROM coverage RETURNING 1 AS x, 1 AS y', 'line')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT 1 AS x, 1 AS y; DROP TABLE coverage', 'line')$$);
SELECT state, message FROM try($$SELECT slm_plot('SELECT 1 AS x, 1 AS y) AS q; --', 'line')$$);
SELECT count(*) FROM coverage;
-- ---- what cannot be drawn says what to write
SELECT * FROM try($$SELECT slm_plot('SELECT answered FROM coverage', 'coverage')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT answered, ''high'' AS accuracy FROM coverage', 'coverage')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT answered * 100 AS answered, accuracy FROM coverage', 'coverage')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT ''{"answered": 1}''::jsonb', 'coverage')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT ''[{"answered": 1}]''::jsonb', 'coverage')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT 1 AS day, 2 AS tokens', 'usage')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT ''[]''::jsonb', 'usage')$$);
SELECT state, message, hint FROM try($$SELECT slm_plot('SELECT i AS x, i AS y FROM generate_series(1, 20001) i', 'line')$$);
SELECT state, message, hint FROM try($$SELECT slm_plot('SELECT i AS x, i AS y FROM generate_series(1, 61) i', 'bar')$$);
SELECT state, message, hint FROM try($$SELECT slm_plot('SELECT 1 AS x, 1 AS y, i AS series FROM generate_series(1, 9) i', 'line')$$);
SELECT state, message, hint FROM try($$SELECT slm_plot('SELECT date ''2000-01-01'' + i * 1000 AS day, 1 AS tokens FROM generate_series(1, 9) i', 'usage')$$);
SELECT state, message, hint FROM try($$SELECT slm_plot('SELECT i AS candidate, 0.5 AS accuracy, i AS cost_per_million_rows FROM generate_series(1, 201) i', 'cost')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT 1 AS x, 1 AS y', 'pie')$$);
SELECT * FROM try($$SELECT slm_plot('SELECT 1 AS x, 1 AS y', 'line', width => 20)$$);
SELECT * FROM try($$SELECT slm_plot(NULL, 'line')$$);
