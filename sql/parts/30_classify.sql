-- ---------------------------------------------------------------- embeddings (src/pg/functions/embed.c)

CREATE FUNCTION slm_embed(input text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS real[] AS 'MODULE_PATHNAME', 'slm_pg_embed' LANGUAGE C STABLE PARALLEL SAFE COST 50000;
COMMENT ON FUNCTION slm_embed(text, text, boolean, text) IS
'The embedding of a text: normalized, as long as the model''s embedding_dimension; casts to pgvector''s vector. A text longer than the model reads is read in windows, whose normalized mean it is; truncate => true cuts it instead, false makes it an error. model: default slm.embed_model. on_error => ''null'': NULL in place of an error of the text.';

CREATE FUNCTION slm_embed_details(input text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL,
    OUT value real[], OUT error text)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_embed_details' LANGUAGE C STABLE PARALLEL SAFE COST 50000;
COMMENT ON FUNCTION slm_embed_details(text, text, boolean, text) IS
'slm_embed with an error of the text in the column error in place of the statement''s end, unless on_error => ''error''';

CREATE FUNCTION slm_embed_many(inputs text[], model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS SETOF real[] AS 'MODULE_PATHNAME', 'slm_pg_embed_many' LANGUAGE C STABLE PARALLEL SAFE COST 50000 ROWS 100;
COMMENT ON FUNCTION slm_embed_many(text[], text, boolean, text) IS
'The embeddings of the elements, a row each in their order (NULL for a NULL element), computed in packed batches. Use WITH ORDINALITY to number them.';

CREATE FUNCTION slm_embed_query(input text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS real[] AS 'MODULE_PATHNAME', 'slm_pg_embed_query' LANGUAGE C STABLE PARALLEL SAFE COST 50000;
COMMENT ON FUNCTION slm_embed_query(text, text, boolean, text) IS
'The embedding of a search query: as slm_embed, with the query instruction before it where the model has one (e5, bge).';

CREATE FUNCTION slm_similarity(a text, b text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, method text DEFAULT 'auto',
    on_error text DEFAULT NULL)
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_similarity' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_similarity(text, text, text, boolean, text, text) IS 'Cosine of the embeddings of two texts, from -1 to 1; of a text that is longer than the model reads beside a short one, that of its nearest sentence. method: embedding; cross (a cross-encoder reads both together: its score as a number from 0 to 1, of a long second text that of its best window); auto: cross where the model is a cross-encoder. truncate as in slm_embed';

CREATE FUNCTION slm_rerank(query text, documents text[], model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL,
    OUT document_no integer, OUT score double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_rerank' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION slm_rerank(text, text[], text, boolean, text) IS
'The documents in order of relevance to the query, best first: document_no counts from 1 in the array, score is the cosine, or a cross-encoder''s relevance where the model is one; of a document that is longer than the model reads, that of its best sentence (or window). NULL documents are left out. truncate as in slm_embed';

-- ---------------------------------------------------------------- classification (src/pg/functions/classify.c)
-- No other function has one of these names, and labels are text[]: a list that a driver sends without a type can only be labels.

CREATE FUNCTION slm_classify(input text, labels text[] DEFAULT NULL, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, embedding real[] DEFAULT NULL, cascade text DEFAULT NULL, shortlist integer DEFAULT NULL,
    shortlist_model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify(text, text[], text, text, text, double precision, jsonb, jsonb, text, real[], text, integer, text, boolean, text) IS
'The label that fits the text best; NULL when its probability is below threshold. labels => ARRAY[...], descriptions => ''{"billing": "invoices, refunds"}'' (of the labels, or in place of them), or classifier => ''name'' of one that slm_train_classifier made, or cascade => ''name'' of one that slm_create_cascade made. embedding: the text''s, stored, by the same encoder (in a cascade, by that of its first step): the text is not embedded again; NULL: it is. method: embedding (nearest label, for encoders), direct (asks for the label; instruction may contain {labels}), channel (which label explains the text best; instruction contains {label}), described (which label becomes likelier as a description of the text, as in slm_decide: the text is computed once, also for other decisions of the row), entailment (for models of natural language inference: whose sentence the text entails most; instruction is the sentence, with {label}), joint (for models that read text and labels together, such as GLiClass: whose label they choose; instruction stands before the text), auto (chooses by the model). examples: [{"text": ..., "label": ...}]. shortlist: of many labels the encoder shortlist_model (default slm.embed_model) leaves the so many nearest over, and the model weighs these only; both scores count. model: default slm.classify_model, then slm.embed_model, then slm.generate_model. A text longer than the model reads is read in windows by an encoder, and counted in a NOTICE; a generative model reads its beginning; truncate => true cuts it, false makes it an error. on_error => ''null'': NULL in place of an error of the text.';

CREATE FUNCTION slm_classify_enum(input text, as_enum anyenum, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, embedding real[] DEFAULT NULL, cascade text DEFAULT NULL, shortlist integer DEFAULT NULL,
    shortlist_model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS anyenum AS 'MODULE_PATHNAME', 'slm_pg_classify' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify_enum(text, anyenum, text, text, text, double precision, jsonb, jsonb, text, real[], text, integer, text, boolean, text) IS
'slm_classify into an enum type: slm_classify_enum(body, NULL::my_enum) chooses among its values';

CREATE FUNCTION slm_classify_details(input text, labels text[] DEFAULT NULL, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, embedding real[] DEFAULT NULL, cascade text DEFAULT NULL, shortlist integer DEFAULT NULL,
    shortlist_model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL,
    OUT label text, OUT probability double precision, OUT runner_up text, OUT margin double precision, OUT error text)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_classify_details' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify_details(text, text[], text, text, text, double precision, jsonb, jsonb, text, real[], text, integer, text, boolean, text) IS
'slm_classify with the probability of the best label, the next best and how far it is behind. label is NULL below threshold. An error of the text is in the column error, unless on_error => ''error''.';

CREATE FUNCTION slm_classify_scores(input text, labels text[] DEFAULT NULL, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, embedding real[] DEFAULT NULL, cascade text DEFAULT NULL, shortlist integer DEFAULT NULL,
    shortlist_model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL,
    OUT label text, OUT probability double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_classify_scores' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION slm_classify_scores(text, text[], text, text, text, double precision, jsonb, jsonb, text, real[], text, integer, text, boolean, text) IS
'Probability of each label, over the whole label, best first; they sum to 1. Labels below threshold are left out. Arguments as slm_classify. One text at a time: for tables take slm_classify_scores_json.';

CREATE FUNCTION slm_classify_scores_json(input text, labels text[] DEFAULT NULL, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, embedding real[] DEFAULT NULL, cascade text DEFAULT NULL, shortlist integer DEFAULT NULL,
    shortlist_model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_classify_scores_json' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify_scores_json(text, text[], text, text, text, double precision, jsonb, jsonb, text, real[], text, integer, text, boolean, text) IS
'slm_classify_scores as an object, {"billing": 0.8, "delivery": 0.2}; rows of tables are computed in batches';

CREATE FUNCTION slm_classify_multi(input text, labels text[] DEFAULT NULL, threshold double precision DEFAULT NULL, model text DEFAULT NULL,
    instruction text DEFAULT NULL, descriptions jsonb DEFAULT NULL, shortlist integer DEFAULT NULL, shortlist_model text DEFAULT NULL,
    truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text[] AS 'MODULE_PATHNAME', 'slm_pg_classify_multi' LANGUAGE C STABLE PARALLEL SAFE COST 200000;
COMMENT ON FUNCTION slm_classify_multi(text, text[], double precision, text, text, jsonb, integer, text, boolean, text) IS
'Every label that fits the text, each judged on its own: with an embedding model those whose cosine reaches threshold (default 0.3), with a generative one those for which the probability of "yes" to instruction (with {label}) does (default 0.5). descriptions as in slm_classify; shortlist: only the so many labels that the encoder shortlist_model finds nearest are judged.';

CREATE FUNCTION slm_sentiment(input text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE COST 100000
RETURN @extschema@.slm_classify(input, model => model, instruction => 'The writer''s feeling in this message is {label}',
    descriptions => '[{"label": "positive", "description": "satisfied, happy, thankful, praise"},
        {"label": "negative", "description": "dissatisfied, angry, disappointed, complaint"},
        {"label": "neutral", "description": "a plain question or statement of facts"}]'::pg_catalog.jsonb, truncate => truncate, on_error => on_error);
COMMENT ON FUNCTION slm_sentiment(text, text, boolean, text) IS 'positive, negative or neutral';

CREATE FUNCTION slm_classify_embedding(embedding real[], classifier text, threshold double precision DEFAULT 0, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify_embedding' LANGUAGE C STABLE PARALLEL SAFE COST 500;
COMMENT ON FUNCTION slm_classify_embedding(real[], text, double precision, text) IS
'The label that a trained classifier gives a stored embedding; no model runs, so it is fast enough for whole tables';

CREATE FUNCTION slm_classify_embedding_scores(embedding real[], classifier text, threshold double precision DEFAULT 0,
    on_error text DEFAULT NULL, OUT label text, OUT probability double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_classify_embedding_scores' LANGUAGE C STABLE PARALLEL SAFE COST 500 ROWS 10;
COMMENT ON FUNCTION slm_classify_embedding_scores(real[], text, double precision, text) IS
'Calibrated probabilities of a trained classifier''s labels for a stored embedding, best first; those below threshold are left out';
