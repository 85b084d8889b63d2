-- ---------------------------------------------------------------- stored vectors (src/pg/functions/vectors.c)

CREATE FUNCTION slm_vector_support(internal) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_vector_support' LANGUAGE C STRICT;
COMMENT ON FUNCTION slm_vector_support(internal) IS
'Planner support: a real[] beside a double precision[], as drivers send one, is compared as it is instead of being converted for every row';

CREATE FUNCTION slm_similarity(a real[], b real[])
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_vector_similarity' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION slm_similarity(real[], real[]) IS
'Cosine of two stored embeddings, from -1 to 1, exact and the same bits on every machine; no model runs. Both must have the same length, no NULLs and a direction.';

CREATE FUNCTION slm_similarity(a double precision[], b double precision[])
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_vector_similarity' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10 SUPPORT slm_vector_support;
COMMENT ON FUNCTION slm_similarity(double precision[], double precision[]) IS
'Cosine of two stored vectors, from -1 to 1; either may be a real[]';

CREATE FUNCTION slm_distance(a real[], b real[], metric text DEFAULT 'cosine')
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_vector_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION slm_distance(real[], real[], text) IS
'Distance of two stored embeddings, smaller is nearer: metric cosine (1 - cosine, 0 to 2), l2 (Euclidean), dot (minus the inner product, as in pgvector)';

CREATE FUNCTION slm_distance(a double precision[], b double precision[], metric text DEFAULT 'cosine')
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_vector_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10 SUPPORT slm_vector_support;
COMMENT ON FUNCTION slm_distance(double precision[], double precision[], text) IS
'Distance of two stored vectors, smaller is nearer: metric cosine, l2 or dot; either may be a real[]';
