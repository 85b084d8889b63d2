-- ---------------------------------------------------------------- decisions (src/pg/functions/filter.c)

CREATE FUNCTION slm_filter(condition text,
    input text,
    model text DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    threshold double precision DEFAULT 0.6,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS boolean AS 'MODULE_PATHNAME', 'slm_pg_filter' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_filter(text, text, text, text, text, double precision, boolean, text) IS
    'Does the condition fit the text? NULL where the model is not sure: the likelier answer has less probability than threshold (0.5: never). '
    'Write the condition as a description of the text: ''asks for a refund''. method: embedding (encoders), described or direct (generative '
    'models), auto';

CREATE FUNCTION slm_filter_details(condition text,
    input text,
    model text DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    threshold double precision DEFAULT 0.6,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL,
    OUT value boolean,
    OUT probability double precision,
    OUT error text)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_filter_details' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_filter_details(text, text, text, text, text, double precision, boolean, text) IS
    'slm_filter with the probability that the condition fits. An error of the text is in the column error, unless on_error => ''error''';

CREATE FUNCTION slm_score(input text,
    rubric text,
    low double precision DEFAULT 0,
    high double precision DEFAULT 1,
    levels text[] DEFAULT NULL,
    model text DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_score' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_score(text, text, double precision, double precision, text[], text, text, text, boolean, text) IS
    'Where the text stands between low and high: the expectation over levels, 2 to 10 descriptions from the lowest to the highest, or '
    'without them the probability that the rubric fits. method as in slm_filter';
