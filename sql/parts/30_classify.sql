-- ---------------------------------------------------------------- embeddings (src/pg/fn_embed.c)

CREATE FUNCTION slm_embed(input text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS real[] AS 'MODULE_PATHNAME', 'slm_pg_embed' LANGUAGE C STABLE PARALLEL SAFE COST 50000;
COMMENT ON FUNCTION slm_embed(text, text, boolean, text) IS
'The embedding of a text: normalized, as long as the model''s embedding_dimension; casts to pgvector''s vector. A text longer than the model reads is an ERROR unless truncate. model: default slm.embed_model. on_error => ''null'': NULL in place of an error of the text.';

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

CREATE FUNCTION slm_similarity(a text, b text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_similarity' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_similarity(text, text, text, boolean, text) IS 'Cosine of the embeddings of two texts, from -1 to 1';

CREATE FUNCTION slm_rerank(query text, documents text[], model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL,
    OUT document_no integer, OUT score double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_rerank' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION slm_rerank(text, text[], text, boolean, text) IS
'The documents in order of relevance to the query, best first: document_no counts from 1 in the array, score is the cosine, or a cross-encoder''s relevance where the model is one. NULL documents are left out.';

-- ---------------------------------------------------------------- classification (src/pg/fn_classify.c)
-- No other function has one of these names, and labels are text[]: a list that a driver sends without a type can only be labels.

CREATE FUNCTION slm_classify(input text, labels text[] DEFAULT NULL, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify(text, text[], text, text, text, double precision, jsonb, jsonb, text, boolean, text) IS
'The label that fits the text best; NULL when its probability is below threshold. labels => ARRAY[...], descriptions => ''{"billing": "invoices, refunds"}'' (of the labels, or in place of them), or classifier => ''name'' of one that slm_train_classifier made. method: embedding (nearest label, for encoders), direct (asks for the label; instruction may contain {labels}), channel (which label explains the text best; instruction contains {label}), auto (chooses by the model). examples: [{"text": ..., "label": ...}]. model: default slm.classify_model, then slm.embed_model, then slm.generate_model. on_error => ''null'': NULL in place of an error of the text.';

CREATE FUNCTION slm_classify_enum(input text, as_enum anyenum, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS anyenum AS 'MODULE_PATHNAME', 'slm_pg_classify' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify_enum(text, anyenum, text, text, text, double precision, jsonb, jsonb, text, boolean, text) IS
'slm_classify into an enum type: slm_classify_enum(body, NULL::my_enum) chooses among its values';

CREATE FUNCTION slm_classify_details(input text, labels text[] DEFAULT NULL, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL,
    OUT label text, OUT probability double precision, OUT runner_up text, OUT margin double precision, OUT error text)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_classify_details' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify_details(text, text[], text, text, text, double precision, jsonb, jsonb, text, boolean, text) IS
'slm_classify with the probability of the best label, the next best and how far it is behind. label is NULL below threshold. An error of the text is in the column error, unless on_error => ''error''.';

CREATE FUNCTION slm_classify_scores(input text, labels text[] DEFAULT NULL, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL,
    OUT label text, OUT probability double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_classify_scores' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION slm_classify_scores(text, text[], text, text, text, double precision, jsonb, jsonb, text, boolean, text) IS
'Probability of each label, over the whole label, best first; they sum to 1. Labels below threshold are left out. Arguments as slm_classify. One text at a time: for tables take slm_classify_scores_json.';

CREATE FUNCTION slm_classify_scores_json(input text, labels text[] DEFAULT NULL, model text DEFAULT NULL, method text DEFAULT 'auto',
    instruction text DEFAULT NULL, threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL, descriptions jsonb DEFAULT NULL,
    classifier text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS jsonb AS 'MODULE_PATHNAME', 'slm_pg_classify_scores_json' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify_scores_json(text, text[], text, text, text, double precision, jsonb, jsonb, text, boolean, text) IS
'slm_classify_scores as an object, {"billing": 0.8, "delivery": 0.2}; rows of tables are computed in batches';

CREATE FUNCTION slm_classify_multi(input text, labels text[] DEFAULT NULL, threshold double precision DEFAULT NULL, model text DEFAULT NULL,
    instruction text DEFAULT NULL, descriptions jsonb DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text[] AS 'MODULE_PATHNAME', 'slm_pg_classify_multi' LANGUAGE C STABLE PARALLEL SAFE COST 200000;
COMMENT ON FUNCTION slm_classify_multi(text, text[], double precision, text, text, jsonb, boolean, text) IS
'Every label that fits the text, each judged on its own: with an embedding model those whose cosine reaches threshold (default 0.3), with a generative one those for which the probability of "yes" to instruction (with {label}) does (default 0.5). descriptions as in slm_classify.';

CREATE FUNCTION slm_sentiment(input text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE COST 100000
RETURN @extschema@.slm_classify(input, model => model, instruction => 'The writer''s feeling in this message is {label}',
    descriptions => '[{"label": "positive", "description": "satisfied, happy, thankful, praise"},
        {"label": "negative", "description": "dissatisfied, angry, disappointed, complaint"},
        {"label": "neutral", "description": "a plain question or statement of facts"}]'::pg_catalog.jsonb, truncate => truncate, on_error => on_error);
COMMENT ON FUNCTION slm_sentiment(text, text, boolean, text) IS 'positive, negative or neutral';

-- ---------------------------------------------------------------- trained classifiers (src/pg/fn_train.c, classifiers.c)

CREATE TABLE slm.classifier_registry (
    name text NOT NULL,
    version integer NOT NULL,
    active boolean NOT NULL,
    owner regrole NOT NULL,
    image text NOT NULL,
    labels text[] NOT NULL,
    training_rows bigint NOT NULL,
    accuracy double precision,
    macro_f1 double precision,
    log_loss double precision,
    ece double precision,
    temperature double precision NOT NULL,
    l2 double precision NOT NULL,
    confusion integer[],
    options jsonb NOT NULL,
    query text NOT NULL,
    by_names boolean NOT NULL,
    seconds double precision NOT NULL,
    trained_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    blob bytea NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE UNIQUE INDEX classifier_active ON slm.classifier_registry (name) WHERE active;
ALTER TABLE slm.classifier_registry ALTER COLUMN blob SET STORAGE EXTERNAL;
COMMENT ON TABLE slm.classifier_registry IS 'Versions of trained classifiers; slm.classifiers shows them, the functions change them';
SELECT pg_catalog.pg_extension_config_dump('slm.classifier_registry', '');
ALTER TABLE slm.classifier_registry ENABLE ROW LEVEL SECURITY;
CREATE POLICY use ON slm.classifier_registry FOR SELECT USING (true);
CREATE POLICY make ON slm.classifier_registry FOR INSERT WITH CHECK (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY change ON slm.classifier_registry FOR UPDATE USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY remove ON slm.classifier_registry FOR DELETE USING (pg_catalog.pg_has_role(owner, 'USAGE'));
GRANT SELECT, INSERT, UPDATE, DELETE ON slm.classifier_registry TO PUBLIC;

CREATE VIEW slm.classifiers AS
    SELECT r.name, r.version, r.active, r.owner, m.name AS model, r.image AS model_digest, r.labels, r.training_rows, r.accuracy, r.macro_f1, r.log_loss, r.ece,
           r.confusion, r.temperature, r.l2, r.options, r.query, r.by_names, r.seconds, r.trained_at, pg_catalog.octet_length(r.blob) AS bytes
    FROM slm.classifier_registry r LEFT JOIN LATERAL (SELECT g.name FROM slm.model_registry g WHERE g.image = r.image ORDER BY g.name LIMIT 1) m ON true;
GRANT SELECT ON slm.classifiers TO PUBLIC;
COMMENT ON VIEW slm.classifiers IS
'Trained classifiers and their versions: accuracy, macro F1, log loss and calibration (ECE) by cross-validation, confusion[true label][predicted label] in the order of labels, the model they belong to';

CREATE FUNCTION slm.classifiers_touch() RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_classifiers_touch' LANGUAGE C;
COMMENT ON FUNCTION slm.classifiers_touch() IS 'Tells all sessions that a classifier has changed';

CREATE FUNCTION slm.classifier_owned(name text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM slm.classifier_registry r WHERE r.name = classifier_owned.name) THEN
        RAISE EXCEPTION 'classifier "%" does not exist', name USING ERRCODE = 'undefined_object', HINT = 'The view slm.classifiers lists them.';
    ELSIF EXISTS (SELECT FROM slm.classifier_registry r WHERE r.name = classifier_owned.name AND NOT pg_has_role(r.owner, 'USAGE')) THEN
        RAISE EXCEPTION 'must be owner of classifier "%"', name USING ERRCODE = 'insufficient_privilege', HINT = 'slm.classifiers shows the owner.';
    END IF;
END $$;
COMMENT ON FUNCTION slm.classifier_owned(text) IS 'Raises an error unless the current role owns the classifier';

CREATE FUNCTION slm.classifier_store(name text, image text, labels text[], training_rows bigint, accuracy double precision, macro_f1 double precision,
    log_loss double precision, ece double precision, temperature double precision, l2 double precision, confusion integer[], options jsonb, query text,
    blob bytea, seconds double precision, by_names boolean) RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v integer;
BEGIN
    LOCK TABLE slm.classifier_registry IN SHARE ROW EXCLUSIVE MODE; -- two trainings of one name come one after the other
    IF EXISTS (SELECT FROM slm.classifier_registry r WHERE r.name = classifier_store.name) THEN
        PERFORM slm.classifier_owned(name);
    END IF;
    SELECT coalesce(max(r.version), 0) + 1 INTO v FROM slm.classifier_registry r WHERE r.name = classifier_store.name;
    UPDATE slm.classifier_registry r SET active = false WHERE r.name = classifier_store.name AND r.active;
    INSERT INTO slm.classifier_registry VALUES (name, v, true, current_user::regrole, image, labels, training_rows,
        CASE WHEN NOT by_names THEN accuracy END, CASE WHEN NOT by_names THEN macro_f1 END, CASE WHEN NOT by_names THEN log_loss END,
        CASE WHEN NOT by_names THEN ece END, temperature, l2, CASE WHEN NOT by_names THEN confusion END, options, query, by_names, seconds, clock_timestamp(), blob);
    PERFORM slm.classifiers_touch();
    RETURN v;
END $$;
COMMENT ON FUNCTION slm.classifier_store(text, text, text[], bigint, double precision, double precision, double precision, double precision, double precision,
    double precision, integer[], jsonb, text, bytea, double precision, boolean) IS 'Stores the next version of a classifier; for slm_train_classifier';

CREATE FUNCTION slm_train_classifier(name text, query text, model text DEFAULT NULL, labels text[] DEFAULT NULL, options jsonb DEFAULT '{}',
    OUT version integer, OUT training_rows bigint, OUT n_labels integer, OUT accuracy double precision, OUT macro_f1 double precision,
    OUT ece double precision, OUT seconds double precision)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_train_classifier' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION slm_train_classifier(text, text, text, text[], jsonb) IS
'Trains a classifier on the rows of a query that gives (text, label), or (embedding real[], label): multinomial logistic regression on the embeddings of model (default slm.embed_model), its strength chosen by cross-validation. Returns the new version and its held-out accuracy, macro F1 and calibration. With labels => ARRAY[...] the query gives texts alone and the classifier is learned from the names of the labels and the unlabelled rows. options: ngrams (true: words and character n-grams beside the embedding), l2, folds, balance, seed. Retraining makes a new version; slm_restore_classifier goes back.';

CREATE FUNCTION slm_drop_classifier(name text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM slm.classifier_owned(name);
    DELETE FROM slm.classifier_registry r WHERE r.name = slm_drop_classifier.name;
    PERFORM slm.classifiers_touch();
END $$;
COMMENT ON FUNCTION slm_drop_classifier(text) IS 'Removes a classifier with all its versions';

CREATE FUNCTION slm_restore_classifier(name text, version integer) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM slm.classifier_owned(name);
    IF NOT EXISTS (SELECT FROM slm.classifier_registry r WHERE r.name = slm_restore_classifier.name AND r.version = slm_restore_classifier.version) THEN
        RAISE EXCEPTION 'classifier "%" has no version %', name, version USING ERRCODE = 'undefined_object', HINT = 'The view slm.classifiers lists the versions.';
    END IF;
    UPDATE slm.classifier_registry r SET active = false WHERE r.name = slm_restore_classifier.name AND r.active;
    UPDATE slm.classifier_registry r SET active = true WHERE r.name = slm_restore_classifier.name AND r.version = slm_restore_classifier.version;
    PERFORM slm.classifiers_touch();
END $$;
COMMENT ON FUNCTION slm_restore_classifier(text, integer) IS 'Makes an earlier version of a classifier the active one';

CREATE FUNCTION slm_classify_embedding(embedding real[], classifier text, threshold double precision DEFAULT 0, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify_embedding' LANGUAGE C STABLE PARALLEL SAFE COST 500;
COMMENT ON FUNCTION slm_classify_embedding(real[], text, double precision, text) IS
'The label that a trained classifier gives a stored embedding; no model runs, so it is fast enough for whole tables';

CREATE FUNCTION slm_classify_embedding_scores(embedding real[], classifier text, threshold double precision DEFAULT 0,
    on_error text DEFAULT NULL, OUT label text, OUT probability double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_classify_embedding_scores' LANGUAGE C STABLE PARALLEL SAFE COST 500 ROWS 10;
COMMENT ON FUNCTION slm_classify_embedding_scores(real[], text, double precision, text) IS
'Calibrated probabilities of a trained classifier''s labels for a stored embedding, best first; those below threshold are left out';
