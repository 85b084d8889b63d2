-- ---------------------------------------------------------------- decisions (src/pg/functions/filter.c)

CREATE FUNCTION slm_filter(condition text,
    input text,
    model text DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    threshold double precision DEFAULT NULL,
    embedding real[] DEFAULT NULL,
    cascade text DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS boolean AS 'MODULE_PATHNAME', 'slm_pg_filter' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_filter(text, text, text, text, text, double precision, real[], text, boolean, text) IS
    'Does the condition fit the text? NULL where the model is not sure: the likelier answer has less probability than threshold (0.5: never; '
    'by default 0.6, and 0.5 of a cascade, whose condition must be the same). '
    'Write the condition as a description of the text: ''asks for a refund''. method: embedding (encoders), described or direct (generative '
    'models), auto';

CREATE FUNCTION slm_filter_details(condition text,
    input text,
    model text DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    threshold double precision DEFAULT NULL,
    embedding real[] DEFAULT NULL,
    cascade text DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL,
    OUT value boolean,
    OUT probability double precision,
    OUT error text)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_filter_details' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_filter_details(text, text, text, text, text, double precision, real[], text, boolean, text) IS
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

-- many questions (src/pg/functions/decide.c); one name for text, another for everything else, so that an untyped value is a text

CREATE FUNCTION slm_decide(state text,
    questions jsonb,
    model text DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_decide' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_decide(text, jsonb, text, text, text, boolean, text) IS
    'Answers to many typed questions about one text, with the probability of every option: yes_no (noul, predicate), choice, scale (score). '
    'No question sees another, and what is computed of the text is shared. Questions and answers are written as services of the System One '
    'form (an object of named questions) or the OpenAI Decisions API (a list) have them. method as in slm_filter';

CREATE FUNCTION slm_decide_row(state anyelement,
    questions jsonb,
    model text DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_decide_row' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_decide_row(anyelement, jsonb, text, text, text, boolean, text) IS
    'slm_decide about a row of a table or a jsonb: a line "name: value" for each column or key that is not NULL';

CREATE FUNCTION slm_decide_details(state text,
    questions jsonb,
    model text DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL,
    OUT question text,
    OUT option text,
    OUT probability double precision,
    OUT chosen boolean)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_decide_details' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 20;
COMMENT ON FUNCTION slm_decide_details(text, jsonb, text, text, text, boolean, text) IS
    'slm_decide as rows, one for each option of each question. One text at a time: for tables take slm_decide';
