-- ---------------------------------------------------------------- cascades (src/pg/measure/create_cascade.c, src/pg/functions/cascade.c, src/pg/models/cascade_rows.c)

-- C code reads columns by number: columns are only ever added at the end.
CREATE TABLE slm.cascade_registry (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    owner regrole NOT NULL,
    steps jsonb NOT NULL,
    images text[] NOT NULL,       -- of each step's model
    versions integer[] NOT NULL,  -- of each step's classifier, 0 where it has none
    thresholds double precision[] NOT NULL, -- of each step but the last; above 1: it answers nothing
    measure text NOT NULL,
    target double precision NOT NULL,
    failure double precision NOT NULL,
    audit double precision NOT NULL,
    rows bigint NOT NULL,
    shares double precision[] NOT NULL,
    measured double precision,
    bound double precision NOT NULL,
    speedup double precision,
    query text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
REVOKE ALL ON slm.cascade_registry FROM PUBLIC;
COMMENT ON TABLE slm.cascade_registry IS 'Cascades; change it with the functions only, read it through slm.cascades';

CREATE TABLE slm.cascade_grant (
    name text COLLATE "C" NOT NULL,
    role regrole NOT NULL, -- '-' is PUBLIC
    PRIMARY KEY (name, role)
);
REVOKE ALL ON slm.cascade_grant FROM PUBLIC;
COMMENT ON TABLE slm.cascade_grant IS 'Roles that may use a cascade besides its owner; slm_grant_cascade and slm_revoke_cascade change it';

-- A role that was dropped is a mere number, and the next cluster may give that number to somebody else.
SELECT pg_catalog.pg_extension_config_dump('slm.cascade_registry',
    'WHERE owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)');
SELECT pg_catalog.pg_extension_config_dump('slm.cascade_grant',
    'WHERE role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR role::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)');

CREATE VIEW slm.cascades WITH (security_barrier) AS
SELECT r.name, r.owner,
       ARRAY(SELECT CASE WHEN g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE g.role::pg_catalog.text END
             FROM slm.cascade_grant g WHERE g.name OPERATOR(pg_catalog.=) r.name ORDER BY g.role::pg_catalog.oid) AS roles,
       r.steps, r.thresholds, r.measure, r.target, r.failure, r.audit, r.rows, r.shares, r.measured, r.bound, r.speedup, r.images AS model_digests,
       CASE WHEN pg_catalog.pg_has_role(r.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text) THEN r.query END AS query, r.created_at
FROM slm.cascade_registry r
WHERE pg_catalog.pg_has_role(r.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text)
   OR EXISTS (SELECT FROM slm.cascade_grant g WHERE g.name OPERATOR(pg_catalog.=) r.name
              AND (g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                   OR pg_catalog.pg_has_role(g.role::pg_catalog.oid, 'USAGE'::pg_catalog.text)));
GRANT SELECT ON slm.cascades TO PUBLIC;
COMMENT ON VIEW slm.cascades IS
    'Cascades that you own or were granted: their steps, thresholds and target, and what was measured on the rows that they were learned from';
COMMENT ON COLUMN slm.cascades.roles IS 'Roles that may use it besides owner and superusers; each needs its classifiers and models too';
COMMENT ON COLUMN slm.cascades.thresholds IS 'Of each step but the last: the probability from which its answer counts; above 1: it answers nothing';
COMMENT ON COLUMN slm.cascades.shares IS 'Share of the rows that each step answers';
COMMENT ON COLUMN slm.cascades.query IS 'What it was learned from; shown to its owner only';

CREATE FUNCTION slm_create_cascade(name text,
    steps jsonb,
    query text,
    target double precision DEFAULT 0.95,
    measure text DEFAULT 'agreement',
    failure double precision DEFAULT 0.01,
    audit double precision DEFAULT 0.01,
    answers text[] DEFAULT NULL,
    OUT rows bigint,
    OUT thresholds double precision[],
    OUT shares double precision[],
    OUT measured double precision,
    OUT bound double precision,
    OUT speedup double precision)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_create_cascade' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_create_cascade(text, jsonb, text, double precision, text, double precision, double precision, text[]) IS
    'Makes a cascade for slm_classify(text, cascade => name) or slm_filter(condition, text, cascade => name), or makes it anew: the steps, cheapest first, are '
    '{"classifier": "name"} or {"labels": [...], "model": ..., "method": ..., "instruction": ..., "descriptions": {...}}, for slm_filter '
    '{"condition": ..., "model": ...} behind classifiers of true and false; a text goes on to the next '
    'step where the one before is less sure than its threshold. Thresholds are learned from the rows of the query, so that with a chance of '
    '1 - failure the target is held: measure => ''agreement'': this share of all texts gets the answer that the last step would give (the query gives '
    'texts, no labels are needed); ''precision'': this share of what is answered before the last step is right (the query gives text, label). audit: '
    'share of the texts answered early that the last step answers all the same; where it too often says something else, a WARNING ends the statement. '
    'answers: for each step the column of the query that holds its answers already (with a threshold to be learned: a row of slm_classify_details or '
    'slm_filter_details), NULL: it is asked. A cascade is bound to the models and classifier versions it was learned with. The query runs read-only with your privileges';

CREATE FUNCTION slm_drop_cascade(name text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_cascade' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_cascade(text) IS 'Removes a cascade. Owner or superuser';

CREATE FUNCTION slm_grant_cascade(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_grant_cascade' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_grant_cascade(text, text) IS
    'Lets a role, or PUBLIC, use a cascade. A new cascade may be used by its owner and superusers only, and a role also needs its classifiers and '
    'models. Owner or superuser';

CREATE FUNCTION slm_revoke_cascade(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_revoke_cascade' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_revoke_cascade(text, text) IS 'Takes back what slm_grant_cascade gave. Owner or superuser';
