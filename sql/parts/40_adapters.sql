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
    'BF16 or F32. Returns the bytes of both images and, with a sample text, the perplexity of both on it. The source must be the caller''s own';
REVOKE EXECUTE ON FUNCTION slm_quantize_model(text, text, text, text) FROM PUBLIC;
