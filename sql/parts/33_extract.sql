-- ---------------------------------------------------------------- values copied out of texts (src/pg/functions/extract.c)
-- The same function for three types of fields: what a driver sends without a type is text, which PostgreSQL prefers, and is read as a list,
-- as JSON or as names.

CREATE FUNCTION slm_extract(input text, fields text, model text DEFAULT NULL, threshold double precision DEFAULT NULL,
    copy boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_extract' LANGUAGE C STABLE PARALLEL SAFE COST 5000;
COMMENT ON FUNCTION slm_extract(text, text, text, double precision, boolean, text) IS
    'The values of fields that stand in a text, as one JSON object: slm_extract(body, ''order number, amount, date''). fields: names with commas, '
    'a list, or JSON: {"paid": "amount", "by": "Who paid?"}, or a JSON Schema. Values are copied, never invented, and brought to a normal form: '
    'dates as 2026-05-02, amounts as numbers, IBANs without spaces; null where the text holds none. Kinds: text, number, integer, amount, date, time, '
    'timestamp, id, email, phone, iban, card, url, ip, uuid, a list of values; without one it is guessed from the name. Kinds with a form need no model; '
    'for text an encoder (or a generative model) chooses among the phrases of the text. A model that finds what it is asked for (GLiNER), named in the '
    'call, is asked for all fields, and lists of values ({"type": "array"}) too. threshold: values with a lower score are null. '
    'copy => false: a generative model writes the values, valid as JSON but maybe not of the text. model: default slm.classify_model, then '
    'slm.embed_model, then slm.generate_model. on_error => ''null'': NULL in place of an error of the text';

CREATE FUNCTION slm_extract(input text, fields text[], model text DEFAULT NULL, threshold double precision DEFAULT NULL,
    copy boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_extract' LANGUAGE C STABLE PARALLEL SAFE COST 5000;
COMMENT ON FUNCTION slm_extract(text, text[], text, double precision, boolean, text) IS
    'slm_extract with the fields as a list: ARRAY[''order number'', ''paid: amount'', ''by: Who paid?'']';

CREATE FUNCTION slm_extract(input text, fields jsonb, model text DEFAULT NULL, threshold double precision DEFAULT NULL,
    copy boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_extract' LANGUAGE C STABLE PARALLEL SAFE COST 5000;
COMMENT ON FUNCTION slm_extract(text, jsonb, text, double precision, boolean, text) IS
    'slm_extract with the fields as JSON: an object of name and kind, question, list of values or schema; a list of names; a JSON Schema of an object';

CREATE FUNCTION slm_extract_as(input text, as_type anyelement, model text DEFAULT NULL, threshold double precision DEFAULT NULL,
    copy boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS anyelement AS 'MODULE_PATHNAME', 'slm_pg_extract_as' LANGUAGE C STABLE PARALLEL SAFE COST 5000;
COMMENT ON FUNCTION slm_extract_as(text, anyelement, text, double precision, boolean, text) IS
    'slm_extract into a composite type: (slm_extract_as(body, NULL::mail)).*. A field for each column, of the column''s name and type; its comment is the question';

CREATE FUNCTION slm_extract_details(input text, fields text, model text DEFAULT NULL, threshold double precision DEFAULT NULL,
    on_error text DEFAULT NULL, OUT field text, OUT value text, OUT start integer, OUT "end" integer, OUT score double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_extract_details' LANGUAGE C STABLE PARALLEL SAFE COST 5000 ROWS 5;
COMMENT ON FUNCTION slm_extract_details(text, text, text, double precision, text) IS
    'What slm_extract takes out of a text, a row for each field in their order: value in its normal form, the places of its first and last character (from 1), '
    'and its score from 0 to 1: how well form and neighbourhood fit the field, of text how near the phrase comes. A list has a row for each of its values';

CREATE FUNCTION slm_extract_details(input text, fields text[], model text DEFAULT NULL, threshold double precision DEFAULT NULL,
    on_error text DEFAULT NULL, OUT field text, OUT value text, OUT start integer, OUT "end" integer, OUT score double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_extract_details' LANGUAGE C STABLE PARALLEL SAFE COST 5000 ROWS 5;
COMMENT ON FUNCTION slm_extract_details(text, text[], text, double precision, text) IS 'slm_extract_details with the fields as a list';

CREATE FUNCTION slm_extract_details(input text, fields jsonb, model text DEFAULT NULL, threshold double precision DEFAULT NULL,
    on_error text DEFAULT NULL, OUT field text, OUT value text, OUT start integer, OUT "end" integer, OUT score double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_extract_details' LANGUAGE C STABLE PARALLEL SAFE COST 5000 ROWS 5;
COMMENT ON FUNCTION slm_extract_details(text, jsonb, text, double precision, text) IS 'slm_extract_details with the fields as JSON';
