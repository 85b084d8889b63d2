-- ---------------------------------------------------------------- what a model says about many texts (src/pg/functions/agg.c)

CREATE FUNCTION slm.agg_add(internal, text, text) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_agg_add' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm.agg_add(internal, text, text) IS 'Part of slm_agg: takes a row';
CREATE FUNCTION slm.agg_add(internal, text, text, text) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_agg_add' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm.agg_add(internal, text, text, text) IS 'Part of slm_agg: takes a row';
CREATE FUNCTION slm.agg_combine(internal, internal) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_agg_combine' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm.agg_combine(internal, internal) IS 'Part of slm_agg: joins what two workers have';
CREATE FUNCTION slm.agg_serialize(internal) RETURNS bytea AS 'MODULE_PATHNAME', 'slm_pg_agg_serialize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION slm.agg_serialize(internal) IS 'Part of slm_agg: what a worker hands on';
CREATE FUNCTION slm.agg_deserialize(bytea, internal) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_agg_deserialize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION slm.agg_deserialize(bytea, internal) IS 'Part of slm_agg: what a worker is handed';
CREATE FUNCTION slm.agg_final(internal) RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_agg' LANGUAGE C STABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION slm.agg_final(internal) IS 'Part of slm_agg: what the model says';

CREATE AGGREGATE slm_agg(input text, instruction text) (
    SFUNC = slm.agg_add, STYPE = internal, SSPACE = 200000, FINALFUNC = slm.agg_final, COMBINEFUNC = slm.agg_combine,
    SERIALFUNC = slm.agg_serialize, DESERIALFUNC = slm.agg_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE slm_agg(text, text) IS
    'What a generative model answers to an instruction about the texts of a group: slm_agg(body, ''What do these customers complain about?''). Equal texts are '
    'shown once, with their count. Memory is bounded (less than 300 kB a group): of more than 64 kB of different texts the model reads a sample by their '
    'hash, and of a text its first 2000 bytes. The result depends on the set of texts alone: the same in any order and any plan, parallel too';
CREATE AGGREGATE slm_agg(input text, instruction text, model text) (
    SFUNC = slm.agg_add, STYPE = internal, SSPACE = 200000, FINALFUNC = slm.agg_final, COMBINEFUNC = slm.agg_combine,
    SERIALFUNC = slm.agg_serialize, DESERIALFUNC = slm.agg_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE slm_agg(text, text, text) IS 'slm_agg by a model of this name, the same for all rows of a group';
