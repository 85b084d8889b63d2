-- ---------------------------------------------------------------- personal values of a known form (src/pg/functions/redact.c)

CREATE FUNCTION slm_redact(input text, categories text[] DEFAULT NULL, mask text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_redact' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 50;
COMMENT ON FUNCTION slm_redact(text, text[], text) IS
    'The text with personal values of a known form replaced: email, url, iban (length and check digits), card (payment cards of the known networks, '
    'Luhn), ip, national_id (United States, United Kingdom, Germany, France, Spain, Italy, Poland, Brazil; check digits where they have some), '
    'birth_date (a date behind a word such as born, geboren, né le, nacido, nato il), phone. categories: those to look for; NULL: all. mask is what stands '
    'in place of a value, with {kind}, {KIND} and {n} filled in; NULL: [{KIND}_{n}]. Equal values get equal numbers. Every other byte stays as it is. No model is '
    'run; names of people, places and organizations are not found';

CREATE FUNCTION slm_redact_details(input text, categories text[] DEFAULT NULL,
    OUT kind text, OUT value text, OUT start integer, OUT "end" integer, OUT n integer)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_redact_details' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 50 ROWS 3;
COMMENT ON FUNCTION slm_redact_details(text, text[]) IS
    'What slm_redact replaces, in order: kind, value, the places of its first and last character (from 1), and its number among the different values of its kind';
