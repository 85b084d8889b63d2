-- ---------------------------------------------------------------- models made from loaded ones

CREATE FUNCTION slm_quantize_model(source text, target text, type text, sample text DEFAULT NULL,
    OUT name text,
    OUT quantization text,
    OUT source_bytes bigint,
    OUT target_bytes bigint,
    OUT source_perplexity double precision,
    OUT target_perplexity double precision)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_quantize_model' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_quantize_model(text, text, text, text) IS
    'Makes a new model, target, from the image of a loaded one, with its weights as type: Q8_0, Q6_K, Q5_K, Q4_K, Q5_0, Q5_1, Q4_0, Q4_1, F16, '
    'BF16 or F32. Returns the bytes of both images and, with a sample text, the perplexity of both on it. The source must be the caller''s own. Needs superuser, or a '
    'GRANT of EXECUTE on this function to the role itself or to one of its roles other than PUBLIC';

-- ---------------------------------------------------------------- adapters

CREATE VIEW slm.adapters WITH (security_barrier) AS
SELECT m.name, m.base, (m.options OPERATOR(pg_catalog.->>) 'rank'::pg_catalog.text)::pg_catalog.int4 AS rank, (m.options OPERATOR(pg_catalog.->>) 'matrices'::pg_catalog.text)::pg_catalog.int4 AS matrices,
       m.parameters, m.image_bytes,
       CASE WHEN pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text) THEN m.source END AS source, m.sha256, m.owner,
       ARRAY(SELECT CASE WHEN g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE g.role::pg_catalog.text END
             FROM slm.model_grant g WHERE g.name OPERATOR(pg_catalog.=) m.name
               AND (pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text)
                    OR g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                    OR pg_catalog.pg_has_role(g.role::pg_catalog.oid, 'USAGE'::pg_catalog.text))
             ORDER BY g.role::pg_catalog.oid) AS roles,
       m.title, m.loaded_at
FROM slm.model_registry m
WHERE m.base IS NOT NULL
  AND (pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text)
       OR (m.owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)
           AND EXISTS (SELECT FROM slm.model_grant g WHERE g.name OPERATOR(pg_catalog.=) m.name
                       AND (g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                            OR pg_catalog.pg_has_role(g.role::pg_catalog.oid, 'USAGE'::pg_catalog.text)))));
GRANT SELECT ON slm.adapters TO PUBLIC;
COMMENT ON VIEW slm.adapters IS 'LoRA adapters of this database that you own or were granted (a superuser sees all): used as model => ''base+name'' in every call that generates, classifies or scores';
COMMENT ON COLUMN slm.adapters.name IS 'Name to pass after the + in model => ''base+name''';
COMMENT ON COLUMN slm.adapters.base IS 'Model that it belongs to';
COMMENT ON COLUMN slm.adapters.rank IS 'Largest rank of its matrices';
COMMENT ON COLUMN slm.adapters.matrices IS 'Number of projections that it changes';
COMMENT ON COLUMN slm.adapters.parameters IS 'Number of its weights';
COMMENT ON COLUMN slm.adapters.image_bytes IS 'Size of its image';
COMMENT ON COLUMN slm.adapters.source IS 'Path that it was loaded from; shown to its owner only';
COMMENT ON COLUMN slm.adapters.sha256 IS 'SHA-256 of the source';
COMMENT ON COLUMN slm.adapters.owner IS 'Role that loaded it';
COMMENT ON COLUMN slm.adapters.roles IS 'Roles that may use it besides owner and superusers';

CREATE FUNCTION slm_load_adapter(name text, base_model text, path text)
RETURNS slm.adapters AS 'MODULE_PATHNAME', 'slm_pg_load_adapter' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_load_adapter(text, text, text) IS
    'Imports a LoRA adapter of the server (a GGUF file of type adapter, a PEFT directory, or a task of the model''s own directory: its name behind the path) for a loaded model; then model => ''base+name'' '
    'uses it. The model''s weights stay shared. Needs what slm_load_model needs. '
    'slm_grant_model, slm_revoke_model and slm_rename_model work for adapters too';

CREATE FUNCTION slm_drop_adapter(name text, cascade boolean DEFAULT false)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_adapter' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_adapter(text, boolean) IS
    'Removes an adapter from this database. Refused while something names it, as slm_drop_model is. Owner or superuser';
