-- ---------------------------------------------------------------- typed answers (src/pg/functions/typed.c)

CREATE FUNCTION slm_generate_json(prompt text,
    schema jsonb,
    model text DEFAULT NULL,
    system text DEFAULT NULL,
    max_tokens integer DEFAULT 1024,
    temperature double precision DEFAULT 0,
    top_k integer DEFAULT 0,
    top_p double precision DEFAULT 1,
    min_p double precision DEFAULT 0,
    repeat_penalty double precision DEFAULT 1,
    seed bigint DEFAULT 0,
    stop text[] DEFAULT NULL,
    chat boolean DEFAULT true,
    truncate boolean DEFAULT NULL,
    prefill text DEFAULT NULL,
    suffix text DEFAULT NULL,
    show_schema boolean DEFAULT true,
    on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_generate_json' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_generate_json(text, jsonb, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean, text, text, boolean, text) IS
    'The model''s answer as JSON that fits a JSON Schema: nothing else can be written. What a schema asks for that cannot be kept is an '
    'error that names it, before a token is computed. The schema is shown to the model in the system text, unless show_schema => false. '
    'An answer that max_tokens ends early is an error of the row';

CREATE FUNCTION slm_generate_as(prompt text,
    as_type anyelement,
    model text DEFAULT NULL,
    system text DEFAULT NULL,
    max_tokens integer DEFAULT 1024,
    temperature double precision DEFAULT 0,
    top_k integer DEFAULT 0,
    top_p double precision DEFAULT 1,
    min_p double precision DEFAULT 0,
    repeat_penalty double precision DEFAULT 1,
    seed bigint DEFAULT 0,
    stop text[] DEFAULT NULL,
    chat boolean DEFAULT true,
    truncate boolean DEFAULT NULL,
    prefill text DEFAULT NULL,
    suffix text DEFAULT NULL,
    show_schema boolean DEFAULT true,
    values_of text DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS anyelement AS 'MODULE_PATHNAME', 'slm_pg_generate_as' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_generate_as(text, anyelement, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean, text, text, boolean, text, text) IS
    'The model''s answer as a value of an SQL type: slm_generate_as(body, NULL::date). Booleans, numbers in their range and scale, texts, dates '
    'and times, uuid, inet, json, enums, arrays, ranges, domains within their CHECKs, and composites, whose columns'' comments are read by the '
    'model. values_of => ''table.column'': one of the values of that column, read with the caller''s rights; of an array''s type several';

CREATE FUNCTION slm_generate_matching(prompt text,
    regex text DEFAULT NULL,
    grammar text DEFAULT NULL,
    model text DEFAULT NULL,
    system text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    temperature double precision DEFAULT 0,
    top_k integer DEFAULT 0,
    top_p double precision DEFAULT 1,
    min_p double precision DEFAULT 0,
    repeat_penalty double precision DEFAULT 1,
    seed bigint DEFAULT 0,
    stop text[] DEFAULT NULL,
    chat boolean DEFAULT true,
    truncate boolean DEFAULT NULL,
    prefill text DEFAULT NULL,
    suffix text DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_generate_matching' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_generate_matching(text, text, text, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean, text, text, text) IS
    'The model''s answer as a text that matches a regular expression (ECMA-262) from its beginning to its end, or that the rule root of a '
    'grammar in GBNF derives';
