-- ---------------------------------------------------------------- searching and sorting out (src/pg/search)

CREATE FUNCTION slm_duplicates(query text,
    threshold double precision DEFAULT 0.9,
    model text DEFAULT NULL,
    OUT row_no bigint,
    OUT key text,
    OUT input text,
    OUT of_row_no bigint,
    OUT of_key text,
    OUT of_input text,
    OUT similarity double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_duplicates' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION slm_duplicates(text, double precision, text) IS
    'Rows that say again what a row before them says: those whose embedding has at least this cosine with that of an earlier row that is no '
    'duplicate itself, with the nearest such row (of_row_no, of_key, of_input). So what is left without the duplicates is one row of each kind, '
    'the first in the order of the query. The query gives a text, or its embedding (real[]) and maybe the text, and maybe a key. All pairs are '
    'compared. It runs read-only with your privileges';

CREATE FUNCTION slm_topics(query text,
    k integer DEFAULT 10,
    model text DEFAULT NULL,
    OUT topic integer,
    OUT name text,
    OUT size bigint,
    OUT share double precision,
    OUT typical text[],
    OUT typical_keys text[])
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_topics' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION slm_topics(text, integer, text) IS
    'What the texts of a query are about: k clusters (k-means on embeddings), the largest first, each named by words and pairs of words that '
    'are frequent in it and rare in the others, with the three rows nearest to its middle. The query gives a text, or its embedding (real[]) '
    'and maybe the text, and maybe a key. Of more than 20,000 rows as many are clustered, and the others belong to the nearest cluster. The '
    'same rows in the same order give the same topics. It runs read-only with your privileges';

CREATE FUNCTION slm_topic_rows(query text,
    k integer DEFAULT 10,
    model text DEFAULT NULL,
    OUT row_no bigint,
    OUT key text,
    OUT input text,
    OUT topic integer,
    OUT name text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_topic_rows' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION slm_topic_rows(text, integer, text) IS
    'The topic of each row of a query: the rows of what slm_topics, called with the same arguments, gives as topics';

CREATE FUNCTION slm_match(query text,
    candidates text,
    n integer DEFAULT 1,
    threshold double precision DEFAULT NULL,
    model text DEFAULT NULL,
    OUT row_no bigint,
    OUT key text,
    OUT input text,
    OUT rank integer,
    OUT match_row_no bigint,
    OUT match_key text,
    OUT match text,
    OUT similarity double precision,
    OUT margin double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_match' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION slm_match(text, text, integer, double precision, text) IS
    'Of each row of a query, the n nearest rows of another one, by the cosine of their embeddings: a join by meaning. margin is the distance to '
    'the next candidate behind. A row of which no candidate reaches the threshold comes once, with its best similarity and no match. Both '
    'queries give a text, or its embedding (real[]) and maybe the text, and maybe a key. All pairs are compared. They run read-only with your '
    'privileges';

CREATE FUNCTION slm_topk(query real[],
    source regclass,
    vector_column name,
    k integer DEFAULT 10,
    key_column name DEFAULT NULL,
    condition text DEFAULT NULL,
    OUT key text,
    OUT similarity double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_topk' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION slm_topk(real[], regclass, name, integer, name, text) IS
    'The k rows of a table or view whose vector is nearest to a given one, by cosine, nearest first: their keys (the primary key, or key_column) '
    'as text. The column is real[], where all rows are compared and the result is exact, or vector or halfvec of pgvector, whose index is used '
    'where there is one; an index on (column::vector(n)) serves a real[] too. condition: an SQL condition on the rows, as a text. The table is '
    'read with your privileges; of a role whose rights you have, with that role''s';

CREATE FUNCTION slm_search(question text,
    source regclass,
    text_column name,
    vector_column name DEFAULT NULL,
    k integer DEFAULT 10,
    key_column name DEFAULT NULL,
    condition text DEFAULT NULL,
    config regconfig DEFAULT NULL,
    model text DEFAULT NULL,
    OUT key text,
    OUT content text,
    OUT score double precision,
    OUT text_place integer,
    OUT vector_place integer)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_search' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION slm_search(text, regclass, name, name, integer, name, text, regconfig, text) IS
    'The k rows of a table or view that fit a question best, by words and by meaning: full text search (any word of the question, in the '
    'configuration config, default default_text_search_config; an index USING gin (to_tsvector(''english'', body)) is used) and the cosine of '
    'vector_column with the question''s embedding (as slm_topk; NULL: words alone), joined by reciprocal rank fusion. text_place and '
    'vector_place: the row''s places by either. The table is read with your privileges; of a role whose rights you have, with that role''s';

CREATE FUNCTION slm_answer(question text,
    query text,
    n integer DEFAULT 1,
    threshold double precision DEFAULT 0.4,
    generate boolean DEFAULT false,
    model text DEFAULT NULL,
    generate_model text DEFAULT NULL,
    OUT quote text,
    OUT source text,
    OUT score double precision,
    OUT answer text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_answer' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION slm_answer(text, text, integer, double precision, boolean, text, text) IS
    'The n sentences of a query''s texts that answer a question best, word for word, with the key of their row and a score. Where none reaches '
    'the threshold there is one row without a quote. generate: beside the first quote stands what a generative model makes of the quotes, which '
    'may be wrong. The query gives a text, or its embedding (real[]) and the text, and maybe a key; it runs read-only with your privileges';
