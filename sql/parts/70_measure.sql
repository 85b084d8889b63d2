-- ---------------------------------------------------------------- measuring, choosing, paying (src/pg/measure)

CREATE FUNCTION slm_evaluate(query text,
    expression text DEFAULT NULL,
    classifier text DEFAULT NULL,
    kind text DEFAULT 'label',
    OUT rows bigint,
    OUT answered bigint,
    OUT accuracy double precision,
    OUT accuracy_low double precision,
    OUT accuracy_high double precision,
    OUT macro_f1 double precision,
    OUT weighted_f1 double precision,
    OUT kappa double precision,
    OUT ece double precision,
    OUT exact_match double precision,
    OUT token_f1 double precision,
    OUT rouge_1 double precision,
    OUT rouge_2 double precision,
    OUT rouge_l double precision,
    OUT seconds double precision,
    OUT rows_per_second double precision,
    OUT cpu_seconds double precision,
    OUT cost_per_million_rows double precision,
    OUT labels jsonb,
    OUT confusions jsonb,
    OUT calibration jsonb,
    OUT coverage jsonb)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_evaluate' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_evaluate(text, text, text, text) IS
    'How good answers are, on the rows of a query that gives an input and the expected value (rows whose expected value is NULL are left out). '
    'expression answers, over the columns of the query, whose first two are also called input and expected; or a trained classifier; or, with '
    'neither, the third column of the query holds the answers of another system and the fourth, if any, their confidence. kind => ''label'' '
    'compares labels: accuracy with its 95 % interval (Wilson), macro and weighted F1, Cohen''s kappa, labels (each with precision, recall, F1), '
    'the ten worst confusions, and where answers have a probability (slm_classify_details, classifier) ece (15 bins), calibration and coverage: '
    'the share answered and its accuracy when answers below a threshold are left to somebody else. kind => ''text'' compares texts: exact match '
    'and F1 of common words as SQuAD counts them, ROUGE-1, -2, -L; ''stems'' the same with ROUGE by the stems of English words. No answer counts as wrong. cost_per_million_rows needs '
    'slm.machine_cost_per_hour. The query runs read-only with your privileges';

CREATE FUNCTION slm_compare(query text,
    candidates jsonb,
    min_accuracy double precision DEFAULT 0,
    max_cost double precision DEFAULT NULL,
    OUT candidate text,
    OUT rows bigint,
    OUT answered bigint,
    OUT accuracy double precision,
    OUT accuracy_low double precision,
    OUT accuracy_high double precision,
    OUT macro_f1 double precision,
    OUT ece double precision,
    OUT p_value double precision,
    OUT within_noise boolean,
    OUT seconds double precision,
    OUT rows_per_second double precision,
    OUT cpu_seconds double precision,
    OUT cost_per_million_rows double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_compare' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION slm_compare(text, jsonb, double precision, double precision) IS
    'Several candidates on the same rows, best accuracy first. candidates: an object of names and what answers: an expression, '
    '{"classifier": "name"}, or {"column": "name"} of the query with another system''s answers. p_value is that of McNemar''s test against the '
    'best candidate shown, within_noise whether it is above 0.05: then this query does not tell which of the two is better. min_accuracy shows '
    'the candidates that reach it, the cheapest first; max_cost those that cost no more for a million rows (needs slm.machine_cost_per_hour)';

-- ---------------------------------------------------------------- prices

CREATE TABLE slm.price (
    provider text NOT NULL,
    model text NOT NULL,
    input_per_million numeric NOT NULL CHECK (input_per_million OPERATOR(pg_catalog.>=) 0::pg_catalog.numeric),
    output_per_million numeric NOT NULL CHECK (output_per_million OPERATOR(pg_catalog.>=) 0::pg_catalog.numeric),
    currency text NOT NULL DEFAULT 'USD',
    as_of date NOT NULL,
    source text NOT NULL,
    seeded boolean NOT NULL DEFAULT false,
    PRIMARY KEY (provider, model, seeded)
);
COMMENT ON TABLE slm.price IS 'List prices of hosted models, for comparison. A changed price is a row beside the one that the extension brought: only it is dumped, so that it meets no row of its key where it is restored';
COMMENT ON COLUMN slm.price.seeded IS 'Is the row as the extension brought it?';
SELECT pg_catalog.pg_extension_config_dump('slm.price', 'WHERE NOT seeded');
INSERT INTO slm.price (provider, model, input_per_million, output_per_million, as_of, source, seeded) VALUES
    ('OpenAI', 'gpt-4', 30, 60, '2023-06-13', 'public list price, 8k context', true),
    ('OpenAI', 'gpt-4o', 2.50, 10, '2024-10-02', 'public list price', true),
    ('OpenAI', 'gpt-4o-mini', 0.15, 0.60, '2024-07-18', 'public list price', true),
    ('OpenAI', 'gpt-4.1-mini', 0.40, 1.60, '2025-04-14', 'public list price', true),
    ('OpenAI', 'gpt-4.1-nano', 0.10, 0.40, '2025-04-14', 'public list price', true),
    ('Anthropic', 'claude-3-haiku', 0.25, 1.25, '2024-03-13', 'public list price', true),
    ('Anthropic', 'claude-3.5-haiku', 0.80, 4, '2024-11-04', 'public list price', true),
    ('Google', 'gemini-2.0-flash', 0.10, 0.40, '2025-02-05', 'public list price', true),
    ('hosted decision service', 'lowest', 0.03, 0, '2026-11-01', 'public list prices of such services, from', true),
    ('hosted decision service', 'highest', 0.09, 0, '2026-11-01', 'public list prices of such services, to', true);

CREATE VIEW slm.prices WITH (security_barrier) AS
SELECT p.provider, p.model, p.input_per_million, p.output_per_million, p.currency, p.as_of, p.source FROM slm.price p
WHERE NOT p.seeded OR NOT EXISTS (SELECT FROM slm.price o WHERE o.provider OPERATOR(pg_catalog.=) p.provider AND o.model OPERATOR(pg_catalog.=) p.model AND NOT o.seeded);
GRANT SELECT ON slm.prices TO PUBLIC;
COMMENT ON VIEW slm.prices IS
    'List prices of hosted models for a million tokens, with date and source: what a saving is reckoned against. Prices change: a superuser keeps them with slm_set_price';
COMMENT ON COLUMN slm.prices.input_per_million IS 'For a million tokens of prompts';
COMMENT ON COLUMN slm.prices.output_per_million IS 'For a million tokens of answers';
COMMENT ON COLUMN slm.prices.as_of IS 'When this was the price';

CREATE FUNCTION slm_set_price(provider text, model text, input_per_million numeric, output_per_million numeric, source text,
    as_of date DEFAULT pg_catalog.now()::pg_catalog.date, currency text DEFAULT 'USD')
RETURNS void LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
    INSERT INTO slm.price AS p (provider, model, input_per_million, output_per_million, currency, as_of, source, seeded)
    VALUES ($1, $2, $3, $4, $7, $6, $5, false)
    ON CONFLICT (provider, model, seeded) DO UPDATE SET input_per_million = excluded.input_per_million, output_per_million = excluded.output_per_million,
        currency = excluded.currency, as_of = excluded.as_of, source = excluded.source;
END;
REVOKE EXECUTE ON FUNCTION slm_set_price(text, text, numeric, numeric, text, date, text) FROM PUBLIC;
COMMENT ON FUNCTION slm_set_price(text, text, numeric, numeric, text, date, text) IS
    'Adds or changes a price in slm.prices: for a million tokens of prompts and of answers, with its source and date. Superusers';

CREATE FUNCTION slm_roi(requests_per_month numeric,
    tokens_in numeric,
    tokens_out numeric,
    cost_per_month numeric DEFAULT NULL,
    development_cost numeric DEFAULT 0,
    api text DEFAULT 'gpt-4o-mini',
    cpu_seconds_per_request numeric DEFAULT NULL,
    cpus integer DEFAULT 8,
    peak_factor numeric DEFAULT 3,
    OUT api_cost_per_month numeric,
    OUT own_cost_per_month numeric,
    OUT machines bigint,
    OUT saving_per_month numeric,
    OUT saving_per_year numeric,
    OUT payback_days numeric)
RETURNS record LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
    SELECT pg_catalog.round(b.api, 2), pg_catalog.round(b.own, 2), b.machines, pg_catalog.round(b.api OPERATOR(pg_catalog.-) b.own, 2),
           pg_catalog.round((b.api OPERATOR(pg_catalog.-) b.own) OPERATOR(pg_catalog.*) 12::pg_catalog.numeric, 2),
           CASE WHEN b.api OPERATOR(pg_catalog.>) b.own
                THEN pg_catalog.round($5 OPERATOR(pg_catalog.*) 30::pg_catalog.numeric OPERATOR(pg_catalog./) (b.api OPERATOR(pg_catalog.-) b.own), 1) END
    FROM (SELECT a.api, a.machines,
                 coalesce($4, a.machines::pg_catalog.numeric OPERATOR(pg_catalog.*) 720::pg_catalog.numeric
                     OPERATOR(pg_catalog.*) nullif(pg_catalog.current_setting('slm.machine_cost_per_hour', true)::pg_catalog.numeric, 0::pg_catalog.numeric)) AS own
          FROM (SELECT $1 OPERATOR(pg_catalog.*) (($2 OPERATOR(pg_catalog.*) p.input_per_million) OPERATOR(pg_catalog.+) ($3 OPERATOR(pg_catalog.*) p.output_per_million))
                       OPERATOR(pg_catalog./) 1000000::pg_catalog.numeric AS api,
                       pg_catalog.ceil($1 OPERATOR(pg_catalog.*) $7 OPERATOR(pg_catalog.*) $9 OPERATOR(pg_catalog./) ($8::pg_catalog.numeric OPERATOR(pg_catalog.*) 2592000::pg_catalog.numeric))::pg_catalog.int8 AS machines
                FROM slm.prices p WHERE p.model OPERATOR(pg_catalog.=) $6 ORDER BY p.as_of DESC, p.provider LIMIT 1) a) b;
END;
COMMENT ON FUNCTION slm_roi(numeric, numeric, numeric, numeric, numeric, text, numeric, integer, numeric) IS
    'What a use costs at a hosted model of slm.prices and on own machines, and in how many days the cost of development is paid back. Tokens are those of one request. '
    'cost_per_month is what is paid for own machines; NULL: reckoned from slm.machine_cost_per_hour (720 hours) and the number of machines of so many cpus that '
    'cpu_seconds_per_request (as slm_evaluate or EXPLAIN ANALYZE measured it) needs at peak_factor times the mean load. A month has 30 days. NULL where an input is missing';
