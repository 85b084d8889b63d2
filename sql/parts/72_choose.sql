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
