-- The demo as one page of HTML that needs nothing but a browser: the story in numbers, and pictures of slm_plot.  Called by demo.sql, whose
-- tables, models and variables it uses; writes the file :report.
CREATE FUNCTION pg_temp.share(x float8) RETURNS text LANGUAGE sql AS $$ SELECT round(100 * x::numeric, 1) || ' %' $$;
CREATE FUNCTION pg_temp.money(x numeric) RETURNS text LANGUAGE sql AS $$ SELECT CASE WHEN x >= 0.1 THEN round(x, 2)::text WHEN x > 0 THEN round(x, 2 - floor(log(x))::int)::text ELSE '0' END || ' USD' $$;

-- every candidate on the same tickets; the trained one is held out by its own cross-validation, so it stands in the text only
CREATE TEMP TABLE compared AS SELECT * FROM slm_compare('SELECT body, topic FROM tickets ORDER BY id', '{
    "MiniLM, labels with a description": "slm_classify(body, descriptions => (SELECT jsonb_object_agg(label, description) FROM topics), model => ''minilm'')",
    "MiniLM, names of the labels": "slm_classify(body, ARRAY(SELECT label FROM topics), model => ''minilm'')",
    "SmolLM2, which label explains the text": "slm_classify(body, ARRAY(SELECT label FROM topics), model => ''smollm2'', method => ''channel'')",
    "SmolLM2, asked for the label": "slm_classify(body, ARRAY(SELECT label FROM topics), model => ''smollm2'', method => ''direct'')"}');
CREATE TEMP TABLE evaluated AS SELECT * FROM slm_evaluate('SELECT body, topic FROM tickets ORDER BY id',
    'slm_classify_details(body, descriptions => (SELECT jsonb_object_agg(label, description) FROM topics), model => ''minilm'')');
CREATE TEMP TABLE trained AS SELECT accuracy FROM slm.classifiers WHERE name = 'topics' AND active;
CREATE TEMP TABLE spent AS SELECT * FROM slm_cost_report();
CREATE TEMP TABLE best AS SELECT c.* FROM evaluated e, jsonb_to_recordset(e.coverage) c (threshold float8, rows int, answered float8, accuracy float8) WHERE threshold = 0.5;

\pset tuples_only on
\pset format unaligned
\o :report
SELECT $$<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>slm_pg: 36 tickets, in numbers</title>
<style>
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;max-width:760px;margin:2em auto;padding:0 1em;color:#1f2328;background:#fff}
svg{max-width:100%;height:auto;display:block;margin:1em 0}
table{border-collapse:collapse}td,th{padding:.2em 1em .2em 0;text-align:left;border-bottom:1px solid #d8dee4}td.n,th.n{text-align:right}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}small{color:#59636e}
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,th{border-color:#30363d}small{color:#9ea7b3}}
</style></head><body>
<h1>36 tickets, in numbers</h1>$$;
SELECT format('<p><small>Made by <code>make demo</code> on %s, PostgreSQL %s, %s CPUs. Tickets and labels are invented; every figure was measured here.</small></p>',
    current_date, current_setting('server_version'), (SELECT value FROM slm_system_info() WHERE item = 'cpus'));
SELECT format($$<h2>The labels</h2>
<p>Each ticket gets one of %s labels. Without any training an encoder of %s MB has <b>%s</b> right when each label is described, %s by the names of the labels alone;
after learning from the tickets themselves (held out by cross-validation) <b>%s</b>.</p>$$, (SELECT count(*) FROM topics), (SELECT round(image_bytes / 1e6) FROM slm.models WHERE name = 'minilm'),
    pg_temp.share((SELECT accuracy FROM evaluated)), pg_temp.share((SELECT accuracy FROM compared WHERE candidate = 'MiniLM, names of the labels')),
    pg_temp.share((SELECT accuracy FROM trained)));
SELECT slm_plot($$SELECT candidate AS x, 100 * accuracy AS y FROM compared ORDER BY accuracy DESC$$, 'bar', title => 'Four ways to label, without training', x_label => 'right (% of 36 tickets)', height => 260);
SELECT format($$<h2>What can be left to the machine</h2>
<p>Where it is at least 50 %% sure, it answers %s of the tickets and has %s of these right; the rest goes to a person.</p>$$, pg_temp.share(answered), pg_temp.share(accuracy)) FROM best;
SELECT slm_plot('SELECT coverage FROM evaluated', 'coverage', title => 'Coverage: labels with a description');
SELECT slm_plot('SELECT calibration FROM evaluated', 'calibration', title => 'Calibration: labels with a description');
SELECT slm_plot($$SELECT t.topic AS expected, l.label AS given, count(*) AS rows FROM labelled l JOIN tickets t USING (id) WHERE l.method LIKE 'MiniLM, labels%' GROUP BY 1, 2$$, 'confusion',
    title => 'Which labels are taken for one another');
SELECT $$<h2>What it cost</h2>
<p>Everything in this demo, labels, summaries and drafts, by CPU time on a machine that costs 0.20 USD an hour, beside the same tokens at list prices:</p>
<table><tr><th>model</th><th class="n">there</th><th class="n">here</th><th class="n">times</th><th>price of</th></tr>$$;
SELECT format('<tr><td>%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td>%s</td></tr>', model, pg_temp.money(api_cost), pg_temp.money(own_cost), times_cheaper, as_of)
FROM spent WHERE model IN ('gpt-4', 'gpt-4o', 'gpt-4o-mini', 'lowest') ORDER BY api_cost DESC;
SELECT '</table>';
SELECT slm_plot('SELECT * FROM compared', 'cost', title => 'Accuracy over cost', x_label => 'cost of a million tickets (USD)');
SELECT format($$<p>A million tickets labelled by the encoder: <b>%s</b> here. %s at GPT-4o mini for their tokens alone.</p>$$,
    pg_temp.money((SELECT cost_per_million_rows::numeric FROM evaluated)),
    pg_temp.money((SELECT (1e6 * avg(slm_count_tokens(body, 'smollm2')) * p.input_per_million / 1e6)::numeric FROM tickets, slm.prices p WHERE p.model = 'gpt-4o-mini' GROUP BY p.input_per_million)));
SELECT slm_plot('SELECT day, function, cpu_seconds FROM slm.usage WHERE cpu_seconds > 0', 'usage', title => 'What this demo used');
SELECT '</body></html>';
\o
\pset format aligned
\pset tuples_only off
