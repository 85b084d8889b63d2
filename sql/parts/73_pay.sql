-- ---------------------------------------------------------------- budgets (src/pg/run/budget.c), report

CREATE TABLE slm.budget (
    role pg_catalog.regrole NOT NULL,
    per text NOT NULL CHECK (per OPERATOR(pg_catalog.=) ANY (ARRAY['day', 'month'])),
    tokens bigint NOT NULL CHECK (tokens OPERATOR(pg_catalog.>=) 0::pg_catalog.int8),
    PRIMARY KEY (role, per)
);
REVOKE ALL ON slm.budget FROM PUBLIC;
COMMENT ON TABLE slm.budget IS 'How many tokens roles may compute in this database; slm_set_budget changes it';
SELECT pg_catalog.pg_extension_config_dump('slm.budget', 'WHERE role::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)');

CREATE VIEW slm.budgets WITH (security_barrier) AS
SELECT r.rolname AS role, b.per, b.tokens,
       coalesce(u.used, 0::pg_catalog.numeric)::pg_catalog.int8 AS used
FROM slm.budget b JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) b.role::pg_catalog.oid,
LATERAL (SELECT pg_catalog.sum(s.tokens) AS used FROM slm.usage s
         WHERE s.role OPERATOR(pg_catalog.=) r.rolname AND s.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
           AND s.day OPERATOR(pg_catalog.>=) pg_catalog.date_trunc(b.per, pg_catalog.timezone('UTC'::pg_catalog.text, pg_catalog.now()))::pg_catalog.date) u
WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'::pg_catalog.text) OR pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text);
GRANT SELECT ON slm.budgets TO PUBLIC;
COMMENT ON VIEW slm.budgets IS 'Budgets of roles in this database: of one''s own, of roles whose rights one has, of all with pg_read_all_stats';
COMMENT ON COLUMN slm.budgets.role IS 'Role that may compute so much: by SET ROLE, whatever rights a function lends; the owner of a job';
COMMENT ON COLUMN slm.budgets.per IS 'day or month, of UTC';
COMMENT ON COLUMN slm.budgets.tokens IS 'Tokens that it may compute in it';
COMMENT ON COLUMN slm.budgets.used IS 'Tokens that it has computed in this one, as slm.usage says';

CREATE FUNCTION slm_set_budget(role pg_catalog.regrole, tokens bigint, per text DEFAULT 'day')
RETURNS void LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
    DELETE FROM slm.budget b WHERE b.role::pg_catalog.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND b.per OPERATOR(pg_catalog.=) $3 AND $2 IS NULL;
    INSERT INTO slm.budget AS b (role, per, tokens) SELECT $1, $3, $2 WHERE $2 IS NOT NULL
    ON CONFLICT ON CONSTRAINT budget_pkey DO UPDATE SET tokens = excluded.tokens;
END;
REVOKE EXECUTE ON FUNCTION slm_set_budget(pg_catalog.regrole, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION slm_set_budget(pg_catalog.regrole, bigint, text) IS
    'How many tokens a role may compute in this database per => ''day'' or ''month'' (UTC); NULL: as many as it likes. A statement ends before the first token beyond, a job goes on when the next '
    'day or month begins. Counted for all sessions together where slm_pg is in shared_preload_libraries, else for each alone. Superusers';

CREATE FUNCTION slm_cost_report(since date DEFAULT NULL,
    OUT provider text,
    OUT model text,
    OUT input_tokens bigint,
    OUT output_tokens bigint,
    OUT api_cost numeric,
    OUT own_cost numeric,
    OUT saving numeric,
    OUT times_cheaper numeric,
    OUT currency text,
    OUT as_of date,
    OUT source text)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10 SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
    SELECT p.provider, p.model, u.input, u.output, pg_catalog.round(a.api, 9), pg_catalog.round(u.own, 9), pg_catalog.round(a.api, 9) OPERATOR(pg_catalog.-) pg_catalog.round(u.own, 9),
           pg_catalog.round(a.api OPERATOR(pg_catalog./) nullif(u.own, 0::pg_catalog.numeric), 1), p.currency, p.as_of, p.source
    FROM slm.prices p,
         (SELECT coalesce(pg_catalog.sum(s.prompt_tokens), 0::pg_catalog.numeric)::pg_catalog.int8 AS input, coalesce(pg_catalog.sum(s.output_tokens), 0::pg_catalog.numeric)::pg_catalog.int8 AS output,
                 (coalesce(pg_catalog.sum(s.cpu_seconds), 0::pg_catalog.float8))::pg_catalog.numeric OPERATOR(pg_catalog./) 3600::pg_catalog.numeric
                 OPERATOR(pg_catalog.*) nullif(pg_catalog.current_setting('slm.machine_cost_per_hour', true)::pg_catalog.numeric, 0::pg_catalog.numeric)
                 OPERATOR(pg_catalog./) (SELECT i.value::pg_catalog.numeric FROM slm_system_info() i WHERE i.item OPERATOR(pg_catalog.=) 'cpus') AS own
          FROM slm.usage s WHERE $1 IS NULL OR s.day OPERATOR(pg_catalog.>=) $1) u,
         LATERAL (SELECT ((u.input::pg_catalog.numeric OPERATOR(pg_catalog.*) p.input_per_million) OPERATOR(pg_catalog.+) (u.output::pg_catalog.numeric OPERATOR(pg_catalog.*) p.output_per_million))
                  OPERATOR(pg_catalog./) 1000000::pg_catalog.numeric AS api) a
    ORDER BY a.api DESC, p.provider, p.model;
END;
COMMENT ON FUNCTION slm_cost_report(date) IS
    'What the usage that you may see (slm.usage, since a day) has cost here, CPU time of the model as a share of slm.machine_cost_per_hour, and what the same tokens would have cost at each price of '
    'slm.prices: whole prompts as input, answers as output. Equal calls were computed once here and count once there; labels, which a hosted model would write, count as no output';
