-- ---------------------------------------------------------------- what models with labels for words find (src/pg/functions/entities.c)

CREATE FUNCTION slm_entities(input text, model text DEFAULT NULL, threshold double precision DEFAULT NULL, truncate boolean DEFAULT NULL,
    labels text[] DEFAULT NULL, on_error text DEFAULT NULL, OUT kind text, OUT value text, OUT start integer, OUT "end" integer, OUT score double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_entities' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 5;
COMMENT ON FUNCTION slm_entities(text, text, double precision, boolean, text[], text) IS
'What a model finds in the text, in order: one for token classification names of people, places, organizations and the like, one that finds what it is asked for (GLiNER) the labels given; kind as the model names it (its label without B- and I-) or the label, value, the places of its first and last character (from 1), and the mean probability of its words; those below threshold are left out (NULL: 0, or 0.5 for labels). A text longer than the model reads is read in windows that overlap; truncate => true cuts it, false makes it an error. model: default slm.entity_model';

CREATE FUNCTION slm_entities_json(input text, model text DEFAULT NULL, threshold double precision DEFAULT NULL, truncate boolean DEFAULT NULL,
    labels text[] DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_entities_json' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_entities_json(text, text, double precision, boolean, text[], text) IS
'The rows of slm_entities as one value, for tables and jobs: [{"kind": ..., "value": ..., "start": ..., "end": ..., "score": ...}, ...]; [] where nothing is found';
