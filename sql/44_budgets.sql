-- Budgets: no token is computed over one. What was computed has cost, and would have cost.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT (slm_load_model('budget_minilm', :'minilm')).name, (slm_load_model('budget_tiny', :'tiny_file')).name;
SET slm.embed_model = 'budget_minilm';
SET slm.generate_model = 'budget_tiny';
SET application_name = 'budget test';
CREATE ROLE regress_slm_saver;
CREATE ROLE regress_slm_spender;
SELECT slm_grant_model(m, 'public') FROM unnest('{budget_minilm,budget_tiny}'::text[]) m;
CREATE VIEW spent AS SELECT role, sum(tokens) AS tokens FROM slm.usage WHERE application_name LIKE 'budget test%' GROUP BY role;
GRANT USAGE ON SCHEMA public TO PUBLIC;
GRANT SELECT ON spent TO PUBLIC;

-- ---- a statement: texts of 4 tokens each
SET slm.max_tokens_per_statement = 43;
SELECT count(slm_embed('text ' || i)) FROM generate_series(10, 19) i;
SELECT count(slm_embed('text ' || i)) FROM generate_series(20, 40) i;
SELECT tokens FROM spent;
SELECT try.state, try.message, try.hint FROM try($$SELECT count(slm_embed('text ' || i)) FROM generate_series(20, 40) i$$);
SELECT try.state FROM try($$SELECT count(slm_embed('text ' || i, on_error => 'null')) FROM generate_series(20, 40) i$$);
-- an answer is cut off by an error, not shortened in silence
SET application_name = 'budget test 2';
SET slm.max_tokens_per_statement = 0;
SELECT length(slm_generate('ab', max_tokens => 6, chat => false)) > 0 AS answered;
SELECT tokens AS whole FROM slm.usage WHERE application_name = 'budget test 2' \gset
SELECT :whole - 3 AS fewer, :whole - 7 AS fewest \gset
SELECT slm_reset_usage() > 0 AS reset;
SET slm.max_tokens_per_statement = :fewer;
SELECT slm_generate('ab', max_tokens => 6, chat => false);
SELECT tokens = :fewer AS to_the_last_token FROM slm.usage WHERE application_name = 'budget test 2';
SELECT slm_generate('ab', max_tokens => 60, chat => false) FROM generate_series(1, 5);
SET slm.max_tokens_per_statement = 0;
SELECT slm_reset_usage() > 0 AS reset;

-- ---- a role: its own, by SET ROLE, through whatever function
SET application_name = 'budget test';
SELECT slm_set_budget('regress_slm_saver', 40);
SELECT slm_set_budget('regress_slm_saver', 100, per => 'month');
CREATE FUNCTION lent(text) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT slm_embed($1) IS NOT NULL';
SET ROLE regress_slm_saver;
SELECT count(slm_embed('text ' || i)) FROM generate_series(10, 18) i;
SELECT role, per, tokens, used FROM slm.budgets ORDER BY per;
SELECT count(slm_embed('text ' || i)) FROM generate_series(20, 29) i;
SELECT lent('text 30');
SELECT * FROM spent;
SELECT slm_set_budget('regress_slm_saver', 4000);
SELECT * FROM slm.budget;
SET ROLE regress_slm_spender;
SELECT count(slm_embed('text ' || i)) FROM generate_series(10, 19) i;
SELECT count(*) AS of_others FROM slm.budgets;
RESET ROLE;
-- ---- wider, then none; the month's is there still
SELECT slm_set_budget('regress_slm_saver', 60);
SET ROLE regress_slm_saver;
SELECT count(slm_embed('text ' || i)) FROM generate_series(20, 24) i;
SELECT count(slm_embed('text ' || i)) FROM generate_series(20, 24) i;
RESET ROLE;
SELECT slm_set_budget('regress_slm_saver', NULL);
SET ROLE regress_slm_saver;
SELECT count(slm_embed('text ' || i)) FROM generate_series(20, 29) i;
SELECT slm_embed('text 30');
RESET ROLE;
SELECT per, tokens, used FROM slm.budgets;
SELECT try.state FROM try('SELECT slm_set_budget(''regress_slm_saver'', -1)');
SELECT try.state FROM try('SELECT slm_set_budget(''regress_slm_saver'', 1, per => ''year'')');
SELECT try.state FROM try('SELECT slm_set_budget(''nobody_at_all'', 1)');

-- ---- what it cost
SELECT count(*) AS prices, count(own_cost) AS unknown FROM slm_cost_report();
SET slm.machine_cost_per_hour = 0.20;
SET ROLE regress_slm_saver;
SELECT model, input_tokens, output_tokens, api_cost, own_cost > 0 AS here, saving = api_cost - own_cost AS saving, currency FROM slm_cost_report() WHERE model IN ('gpt-4', 'gpt-4o-mini') ORDER BY model;
SELECT count(*) FROM slm_cost_report('2999-01-01') WHERE input_tokens > 0;
RESET ROLE;
SELECT slm_set_budget('regress_slm_saver', NULL, per => 'month');
SELECT slm_reset_usage() > 0 AS reset;
DROP VIEW spent;
DROP FUNCTION lent;
SELECT slm_drop_model(m) FROM unnest('{budget_minilm,budget_tiny}'::text[]) m;
DROP ROLE regress_slm_saver, regress_slm_spender;
