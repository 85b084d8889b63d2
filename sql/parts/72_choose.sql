-- ---------------------------------------------------------------- choosing: labels (src/pg/measure/suspects.c)

CREATE FUNCTION slm_suspects(query text,
    classifier text DEFAULT NULL,
    model text DEFAULT NULL,
    n bigint DEFAULT NULL,
    OUT row_no bigint,
    OUT key text,
    OUT input text,
    OUT label text,
    OUT suggested text,
    OUT probability double precision,
    OUT suggested_probability double precision,
    OUT margin double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_suspects' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION slm_suspects(text, text, text, bigint) IS
    'Rows whose label is probably wrong, the most suspicious first. The query gives (text or embedding, label) and maybe a key, which is shown '
    'beside the row. Each row is judged by classifiers on embeddings of model (default slm.embed_model; of the classifier, if one is named, '
    'with its n-grams) that have not seen it. suggested is the label that fits best beside the given one; margin compares their '
    'probabilities, from -1 (surely wrong) to 1. As many rows are shown as are probably wrong (confident learning), or n. The query runs '
    'read-only with your privileges';

CREATE FUNCTION slm_label_next(classifier text,
    query text,
    n integer DEFAULT 20,
    model text DEFAULT NULL,
    OUT row_no bigint,
    OUT key text,
    OUT input text,
    OUT label text,
    OUT probability double precision,
    OUT margin double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_label_next' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 20;
COMMENT ON FUNCTION slm_label_next(text, text, integer, text) IS
    'Which n rows (at most 1,000) of a query of unlabelled ones to label next, so that a classifier learns most from few. The query gives a text '
    'or embedding and maybe a key, which is shown beside the row. With a classifier: rows that it is least sure of, spread over what they are about; '
    'label, probability and margin (to the second best) are what it says of them. With NULL, for the first rows: such as are typical, by '
    'embeddings of model (default slm.embed_model). The query runs read-only with your privileges';

CREATE FUNCTION slm_try(query text,
    labels text[] DEFAULT NULL,
    n integer DEFAULT 30,
    descriptions jsonb DEFAULT NULL,
    model text DEFAULT NULL,
    classifier text DEFAULT NULL,
    OUT row_no integer,
    OUT input text,
    OUT label text,
    OUT probability double precision,
    OUT runner_up text,
    OUT hint text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_try' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 30;
COMMENT ON FUNCTION slm_try(text, text[], integer, jsonb, text, text) IS
    'What slm_classify would make of the first n rows of a query, with hints in plain words: close calls, labels that are missing, texts that '
    'are long or in words that the model hardly knows. After the rows come lines about labels (row_no is NULL): never chosen, chosen always, '
    'two that overlap. The query gives the text first and runs read-only with your privileges; to see typical rows, ORDER BY random()';
