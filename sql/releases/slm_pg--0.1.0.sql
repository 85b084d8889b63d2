-- slm_pg 0.1.0
-- Tables and views live in the schema slm, functions in the schema that CREATE EXTENSION names.
-- Functions that run a model are STABLE: with seed, an answer is a function of its arguments and of the model.
-- They are not STRICT: a NULL text gives NULL, any other NULL argument means that argument's default.
\echo Use "CREATE EXTENSION slm_pg" to load this file. \quit

CREATE SCHEMA slm;
COMMENT ON SCHEMA slm IS 'Tables and views of the extension slm_pg';
GRANT USAGE ON SCHEMA slm TO PUBLIC;

-- C code reads the first five columns by number: columns are only ever added at the end.
CREATE TABLE slm.model_registry (
    name text COLLATE "C" PRIMARY KEY,
    image text COLLATE "C" NOT NULL,
    owner regrole NOT NULL,
    roles regrole[] NOT NULL DEFAULT '{}',
    source text NOT NULL,
    sha256 text NOT NULL,
    options jsonb NOT NULL DEFAULT '{}',
    loaded_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    family text NOT NULL,
    title text,
    parameters bigint NOT NULL,
    quantization text,
    context_length integer NOT NULL,
    vocabulary integer NOT NULL,
    embedding_dimension integer NOT NULL,
    layers integer NOT NULL,
    licence text,
    image_bytes bigint NOT NULL,
    chat_format text,
    tokenizer text,
    can_generate boolean NOT NULL,
    can_embed boolean NOT NULL,
    can_rerank boolean NOT NULL,
    kv_bytes_per_token integer NOT NULL,
    base text COLLATE "C" -- adapters: the name of their model
);
REVOKE ALL ON slm.model_registry FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('slm.model_registry', '');
COMMENT ON TABLE slm.model_registry IS 'Models loaded by slm_load_model; change it with the functions only, read it through slm.models';

CREATE VIEW slm.models AS
SELECT m.name, m.family, m.parameters, m.quantization, m.context_length, m.vocabulary, m.embedding_dimension, m.licence, m.source, m.sha256,
       m.image_bytes, m.chat_format, m.owner,
       ARRAY(SELECT CASE WHEN r.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE r.role::pg_catalog.text END
             FROM pg_catalog.unnest(m.roles) WITH ORDINALITY AS r(role, n) ORDER BY r.n) AS roles,
       m.can_generate, m.can_embed, m.can_rerank, m.title, m.layers, m.tokenizer, m.kv_bytes_per_token, m.options, m.loaded_at
FROM slm.model_registry m WHERE m.base IS NULL;
GRANT SELECT ON slm.models TO PUBLIC;
COMMENT ON VIEW slm.models IS 'The models of this database: what they are, where they came from, who owns them and which roles may use them';

COMMENT ON COLUMN slm.models.name IS 'Name to pass as model => ...';
COMMENT ON COLUMN slm.models.family IS 'Architecture: llama, phi3, gemma3, qwen2, bert, ...';
COMMENT ON COLUMN slm.models.parameters IS 'Number of weights, embeddings included';
COMMENT ON COLUMN slm.models.quantization IS 'Most common type of the weights';
COMMENT ON COLUMN slm.models.context_length IS 'Tokens that fit into one request';
COMMENT ON COLUMN slm.models.vocabulary IS 'Number of tokens';
COMMENT ON COLUMN slm.models.embedding_dimension IS 'Width of the model, and of its embeddings where it computes them';
COMMENT ON COLUMN slm.models.licence IS 'The source''s licence, as it states it';
COMMENT ON COLUMN slm.models.source IS 'Path that it was loaded from, or the call that made it';
COMMENT ON COLUMN slm.models.sha256 IS 'SHA-256 of the source';
COMMENT ON COLUMN slm.models.image_bytes IS 'Size of the packed image';
COMMENT ON COLUMN slm.models.chat_format IS 'How conversations are written for it';
COMMENT ON COLUMN slm.models.owner IS 'Role that loaded it';
COMMENT ON COLUMN slm.models.roles IS 'Roles that may use it besides owner and superusers';

-- ---- models

CREATE FUNCTION slm_load_model(name text, path text, options jsonb DEFAULT '{}')
RETURNS slm.models AS 'MODULE_PATHNAME', 'slm_pg_load_model' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_load_model(text, text, jsonb) IS
    'Imports a model file of the server (GGUF, or a Hugging Face directory) into the cluster''s image directory, tries it, and '
    'registers it. Needs superuser, or membership of pg_read_server_files and EXECUTE on this function. options: quantization, '
    'chat_format. A model whose image is missing (restored dump, standby) is made again from the same source';
REVOKE EXECUTE ON FUNCTION slm_load_model(text, text, jsonb) FROM PUBLIC;

CREATE FUNCTION slm_drop_model(name text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_model(text) IS
    'Removes a model from this database; its image goes with the last database that uses it. Sessions that run it finish their '
    'statement. Owner or superuser';

CREATE FUNCTION slm_rename_model(name text, new_name text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_rename_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_rename_model(text, text) IS
    'Gives a model another name. Owner or superuser';

CREATE FUNCTION slm_grant_model(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_grant_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_grant_model(text, text) IS
    'Lets a role, or PUBLIC, use a model. A new model may be used by its owner and superusers only. Owner or superuser';

CREATE FUNCTION slm_revoke_model(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_revoke_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_revoke_model(text, text) IS
    'Takes back what slm_grant_model gave. Owner or superuser';

CREATE FUNCTION slm_prewarm(name text)
RETURNS bigint AS 'MODULE_PATHNAME', 'slm_pg_prewarm' LANGUAGE C VOLATILE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_prewarm(text) IS
    'Reads a model''s image into memory, checks its checksum and returns its bytes';

CREATE FUNCTION slm_model_status(OUT name text,
    OUT state text,
    OUT mapped boolean,
    OUT image_bytes bigint,
    OUT resident_bytes bigint,
    OUT kv_bytes bigint,
    OUT last_use timestamptz,
    OUT progress double precision,
    OUT pid integer)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_model_status' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION slm_model_status() IS
    'State of the models of this database and of the loads that run in the cluster; see the view slm.model_status';

CREATE VIEW slm.model_status AS
SELECT s.name, s.state, s.mapped, s.image_bytes, s.resident_bytes, s.kv_bytes, s.last_use, s.progress, s.pid
FROM @extschema@.slm_model_status() s;
GRANT SELECT ON slm.model_status TO PUBLIC;
COMMENT ON VIEW slm.model_status IS 'Is a model mapped by this session, how much of it is in memory, when was it used last, and how far is a running load';
COMMENT ON COLUMN slm.model_status.name IS 'Name of the model';
COMMENT ON COLUMN slm.model_status.state IS 'ready, image missing, image damaged; of a running load: hashing, importing, probing';
COMMENT ON COLUMN slm.model_status.mapped IS 'Has this session mapped it?';
COMMENT ON COLUMN slm.model_status.image_bytes IS 'Size of the image';
COMMENT ON COLUMN slm.model_status.resident_bytes IS 'Bytes of the image that are in memory now, once for the whole cluster';
COMMENT ON COLUMN slm.model_status.kv_bytes IS 'Keys and values that this session keeps for it';
COMMENT ON COLUMN slm.model_status.last_use IS 'Start of the last statement of this session that used it';
COMMENT ON COLUMN slm.model_status.progress IS 'Of a running load: 0 to 1';
COMMENT ON COLUMN slm.model_status.pid IS 'Of a running load: its process';

-- ---- generation

CREATE FUNCTION slm_generate(prompt text,
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
    truncate boolean DEFAULT false)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_generate' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_generate(text, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean) IS
    'The model''s answer to a prompt. Greedy at temperature 0; above it the answer depends on seed, so pass for example seed => '
    '(random() * 1e9)::bigint for another answer each time. chat => false continues the prompt as plain text. A prompt longer than'
    ' the context is an error unless truncate => true';

CREATE FUNCTION slm_generate_details(prompt text,
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
    truncate boolean DEFAULT false,
    OUT text text,
    OUT finish_reason text,
    OUT prompt_tokens integer,
    OUT reused_tokens integer,
    OUT output_tokens integer,
    OUT ms double precision,
    OUT prefill_ms double precision)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_generate_details' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_generate_details(text, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean) IS
    'As slm_generate, with why the answer ended (stop, length or context), the numbers of tokens (reused: taken from the cache of '
    'instructions) and the milliseconds it took';

CREATE FUNCTION slm_generate_stream(prompt text,
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
    truncate boolean DEFAULT false)
RETURNS SETOF text AS 'MODULE_PATHNAME', 'slm_pg_generate_stream' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 100;
COMMENT ON FUNCTION slm_generate_stream(text, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean) IS
    'As slm_generate, one row per piece as it is made. In the select list (SELECT slm_generate_stream(...)) or through a cursor '
    'the first row comes at once; in FROM the server collects the rows first';

CREATE FUNCTION slm_chat(messages jsonb,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    temperature double precision DEFAULT 0,
    top_k integer DEFAULT 0,
    top_p double precision DEFAULT 1,
    min_p double precision DEFAULT 0,
    repeat_penalty double precision DEFAULT 1,
    seed bigint DEFAULT 0,
    stop text[] DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_chat' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_chat(jsonb, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[]) IS
    'The model''s answer to a conversation: [{"role": "system" | "user" | "assistant", "content": "..."}, ...]. When the last '
    'message is the assistant''s, the answer continues it';

-- ---- tokens

CREATE FUNCTION slm_tokenize(input text, model text DEFAULT NULL)
RETURNS integer[] AS 'MODULE_PATHNAME', 'slm_pg_tokenize' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION slm_tokenize(text, text) IS
    'Token ids of a text; control tokens written in it are plain text';

CREATE FUNCTION slm_detokenize(tokens integer[], model text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_detokenize' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION slm_detokenize(integer[], text) IS
    'Text of token ids; bytes that form no character become U+FFFD';

CREATE FUNCTION slm_count_tokens(input text, model text DEFAULT NULL)
RETURNS integer AS 'MODULE_PATHNAME', 'slm_pg_count_tokens' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION slm_count_tokens(text, text) IS
    'Number of tokens of a text';

CREATE FUNCTION slm_chunk(input text,
    max_tokens integer DEFAULT 256,
    overlap integer DEFAULT 0,
    model text DEFAULT NULL,
    OUT no integer,
    OUT content text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_chunk' LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 10;
COMMENT ON FUNCTION slm_chunk(text, integer, integer, text) IS
    'Cuts a text into pieces of at most max_tokens tokens that overlap by overlap tokens, at sentence, line or word boundaries '
    'where there are some';

CREATE FUNCTION slm_token_logprobs(input text,
    model text DEFAULT NULL,
    special boolean DEFAULT false,
    OUT "position" integer,
    OUT token_id integer,
    OUT token text,
    OUT logprob double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_token_logprobs' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 100;
COMMENT ON FUNCTION slm_token_logprobs(text, text, boolean) IS
    'Log probability of each token of a text given those before it; NULL where nothing precedes it. special => true parses control'
    ' tokens written in the text, for evaluation only';

CREATE FUNCTION slm_perplexity(input text, model text DEFAULT NULL)
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_perplexity' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_perplexity(text, text) IS
    'exp of minus the mean log probability of the tokens of a text; NULL for a text of less than two tokens';

-- ---- tasks

CREATE FUNCTION slm_summarize(input text, max_words integer DEFAULT 50, focus text DEFAULT NULL, model text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_summarize' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_summarize(text, integer, text, text) IS
    'A summary of at most max_words words, where given with a focus. A text longer than the context is an error';

-- ---- the library

CREATE FUNCTION slm_version()
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_version' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm_version() IS
    'Version of the slm_pg library';

CREATE FUNCTION slm_system_info(OUT item text, OUT value text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_system_info' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 20;
COMMENT ON FUNCTION slm_system_info() IS
    'Instruction set in use, threads, limits and libraries of this server';
-- ---------------------------------------------------------------- embeddings (src/pg/fn_embed.c)

CREATE FUNCTION slm_embed(input text, model text DEFAULT NULL, truncate boolean DEFAULT false)
RETURNS real[] AS 'MODULE_PATHNAME', 'slm_pg_embed' LANGUAGE C STABLE PARALLEL SAFE COST 50000;
COMMENT ON FUNCTION slm_embed(text, text, boolean) IS
'The embedding of a text: normalized, as long as the model''s embedding_dimension; casts to pgvector''s vector. A text longer than the model''s context is an ERROR unless truncate. model: default slm.embed_model.';

CREATE FUNCTION slm_embed(input text[], model text DEFAULT NULL, truncate boolean DEFAULT false)
RETURNS SETOF real[] AS 'MODULE_PATHNAME', 'slm_pg_embed_array' LANGUAGE C STABLE PARALLEL SAFE COST 50000 ROWS 100;
COMMENT ON FUNCTION slm_embed(text[], text, boolean) IS
'The embeddings of the elements, a row each in their order (NULL for a NULL element), computed in packed batches. Use WITH ORDINALITY to number them.';

CREATE FUNCTION slm_embed_query(input text, model text DEFAULT NULL, truncate boolean DEFAULT false)
RETURNS real[] AS 'MODULE_PATHNAME', 'slm_pg_embed_query' LANGUAGE C STABLE PARALLEL SAFE COST 50000;
COMMENT ON FUNCTION slm_embed_query(text, text, boolean) IS
'The embedding of a search query: as slm_embed, with the query instruction before it where the model has one (e5, bge).';

CREATE FUNCTION slm_similarity(a text, b text, model text DEFAULT NULL)
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_similarity' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_similarity(text, text, text) IS 'Cosine of the embeddings of two texts, from -1 to 1';

CREATE FUNCTION slm_rerank(query text, documents text[], model text DEFAULT NULL, truncate boolean DEFAULT false, OUT document_no integer, OUT score double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_rerank' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION slm_rerank(text, text[], text, boolean) IS
'The documents in order of relevance to the query, best first: document_no counts from 1 in the array, score is the cosine, or a cross-encoder''s relevance where the model is one. NULL documents are left out.';

-- ---------------------------------------------------------------- classification (src/pg/fn_classify.c)

CREATE FUNCTION slm_classify(input text, labels text[], model text DEFAULT NULL, method text DEFAULT 'auto', instruction text DEFAULT NULL,
    threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify(text, text[], text, text, text, double precision, jsonb) IS
'The label that fits the text best; NULL when its probability is below threshold. method: embedding (nearest label, for encoders), direct (asks for the label; instruction may contain {labels}), channel (which label explains the text best; instruction contains {label}), auto (chooses by the model). examples: [{"text": ..., "label": ...}]. model: default slm.classify_model, then slm.embed_model, then slm.generate_model.';

CREATE FUNCTION slm_classify(input text, labels jsonb, model text DEFAULT NULL, method text DEFAULT 'auto', instruction text DEFAULT NULL,
    threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify(text, jsonb, text, text, text, double precision, jsonb) IS
'slm_classify with descriptions: [{"label": "billing", "description": "invoices, refunds"}, {"label": "other"}]';

CREATE FUNCTION slm_classify(input text, as_enum anyenum, model text DEFAULT NULL, method text DEFAULT 'auto', instruction text DEFAULT NULL,
    threshold double precision DEFAULT 0, examples jsonb DEFAULT NULL)
RETURNS anyenum AS 'MODULE_PATHNAME', 'slm_pg_classify' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify(text, anyenum, text, text, text, double precision, jsonb) IS
'slm_classify into an enum type: slm_classify(body, NULL::my_enum) chooses among its values';

CREATE FUNCTION slm_classify_scores(input text, labels text[], model text DEFAULT NULL, method text DEFAULT 'auto', instruction text DEFAULT NULL,
    examples jsonb DEFAULT NULL, OUT label text, OUT probability double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_classify_scores' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION slm_classify_scores(text, text[], text, text, text, jsonb) IS
'Probability of each label, over the whole label, best first; they sum to 1. Arguments as slm_classify.';

CREATE FUNCTION slm_classify_scores(input text, labels jsonb, model text DEFAULT NULL, method text DEFAULT 'auto', instruction text DEFAULT NULL,
    examples jsonb DEFAULT NULL, OUT label text, OUT probability double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_classify_scores' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION slm_classify_scores(text, jsonb, text, text, text, jsonb) IS 'slm_classify_scores with descriptions of the labels';

CREATE FUNCTION slm_classify_multi(input text, labels text[], threshold double precision DEFAULT NULL, model text DEFAULT NULL, instruction text DEFAULT NULL)
RETURNS text[] AS 'MODULE_PATHNAME', 'slm_pg_classify_multi' LANGUAGE C STABLE PARALLEL SAFE COST 200000;
COMMENT ON FUNCTION slm_classify_multi(text, text[], double precision, text, text) IS
'Every label that fits the text, each judged on its own: with an embedding model those whose cosine reaches threshold (default 0.3), with a generative one those for which the probability of "yes" to instruction (with {label}) does (default 0.5)';

CREATE FUNCTION slm_sentiment(input text, model text DEFAULT NULL) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE COST 100000
RETURN @extschema@.slm_classify(input, '[{"label": "positive", "description": "satisfied, happy, thankful, praise"},
    {"label": "negative", "description": "dissatisfied, angry, disappointed, complaint"},
    {"label": "neutral", "description": "a plain question or statement of facts"}]'::jsonb, model,
    'auto', 'The writer''s feeling in this message is {label}');
COMMENT ON FUNCTION slm_sentiment(text, text) IS 'positive, negative or neutral';

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

CREATE FUNCTION slm_classify(input text, classifier text, threshold double precision DEFAULT 0)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify_trained' LANGUAGE C STABLE PARALLEL SAFE COST 50000;
COMMENT ON FUNCTION slm_classify(text, text, double precision) IS
'The label that a trained classifier gives the text: slm_classify(body, classifier => ''name''); NULL when its probability is below threshold';

CREATE FUNCTION slm_classify(embedding real[], classifier text, threshold double precision DEFAULT 0)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify_vector' LANGUAGE C STABLE PARALLEL SAFE COST 500;
COMMENT ON FUNCTION slm_classify(real[], text, double precision) IS
'The label that a trained classifier gives a stored embedding; no model runs, so it is fast enough for whole tables';

CREATE FUNCTION slm_classify_scores(input text, classifier text, OUT label text, OUT probability double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_trained_scores' LANGUAGE C STABLE PARALLEL SAFE COST 50000 ROWS 10;
COMMENT ON FUNCTION slm_classify_scores(text, text) IS 'Calibrated probabilities of a trained classifier''s labels, best first';

CREATE FUNCTION slm_classify_scores(embedding real[], classifier text, OUT label text, OUT probability double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_vector_scores' LANGUAGE C STABLE PARALLEL SAFE COST 500 ROWS 10;
COMMENT ON FUNCTION slm_classify_scores(real[], text) IS 'Calibrated probabilities of a trained classifier''s labels for a stored embedding, best first';
-- ---------------------------------------------------------------- models made from loaded ones

CREATE FUNCTION slm_quantize_model(source text, target text, type text, sample text DEFAULT NULL,
    OUT name text,
    OUT quantization text,
    OUT source_bytes bigint,
    OUT target_bytes bigint,
    OUT source_perplexity double precision,
    OUT target_perplexity double precision)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_quantize_model' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_quantize_model(text, text, text, text) IS
    'Makes a new model, target, from the image of a loaded one, with its weights as type: Q8_0, Q6_K, Q5_K, Q4_K, Q5_0, Q5_1, Q4_0, Q4_1, F16, '
    'BF16 or F32. Returns the bytes of both images and, with a sample text, the perplexity of both on it. The source must be the caller''s own';
REVOKE EXECUTE ON FUNCTION slm_quantize_model(text, text, text, text) FROM PUBLIC;

-- ---------------------------------------------------------------- adapters

CREATE VIEW slm.adapters AS
SELECT m.name, m.base, (m.options OPERATOR(pg_catalog.->>) 'rank')::integer AS rank, (m.options OPERATOR(pg_catalog.->>) 'matrices')::integer AS matrices,
       m.parameters, m.image_bytes, m.source, m.sha256, m.owner,
       ARRAY(SELECT CASE WHEN r.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE r.role::pg_catalog.text END
             FROM pg_catalog.unnest(m.roles) WITH ORDINALITY AS r(role, n) ORDER BY r.n) AS roles,
       m.title, m.loaded_at
FROM slm.model_registry m WHERE m.base IS NOT NULL;
GRANT SELECT ON slm.adapters TO PUBLIC;
COMMENT ON VIEW slm.adapters IS 'LoRA adapters of this database: used as model => ''base+name'' in every call that generates, classifies or scores';
COMMENT ON COLUMN slm.adapters.name IS 'Name to pass after the + in model => ''base+name''';
COMMENT ON COLUMN slm.adapters.base IS 'Model that it belongs to';
COMMENT ON COLUMN slm.adapters.rank IS 'Largest rank of its matrices';
COMMENT ON COLUMN slm.adapters.matrices IS 'Number of projections that it changes';
COMMENT ON COLUMN slm.adapters.parameters IS 'Number of its weights';
COMMENT ON COLUMN slm.adapters.image_bytes IS 'Size of its image';
COMMENT ON COLUMN slm.adapters.source IS 'Path that it was loaded from';
COMMENT ON COLUMN slm.adapters.sha256 IS 'SHA-256 of the source';
COMMENT ON COLUMN slm.adapters.owner IS 'Role that loaded it';
COMMENT ON COLUMN slm.adapters.roles IS 'Roles that may use it besides owner and superusers';

CREATE FUNCTION slm_load_adapter(name text, base_model text, path text)
RETURNS slm.adapters AS 'MODULE_PATHNAME', 'slm_pg_load_adapter' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_load_adapter(text, text, text) IS
    'Imports a LoRA adapter of the server (a GGUF file of type adapter, or a PEFT directory) for a loaded model; then model => ''base+name'' '
    'uses it. The model''s weights stay shared. Needs superuser, or membership of pg_read_server_files and EXECUTE on this function. '
    'slm_grant_model, slm_revoke_model and slm_rename_model work for adapters too';
REVOKE EXECUTE ON FUNCTION slm_load_adapter(text, text, text) FROM PUBLIC;

CREATE FUNCTION slm_drop_adapter(name text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_adapter' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_adapter(text) IS
    'Removes an adapter from this database. Owner or superuser';
-- ---------------------------------------------------------------- batches (src/pg/batch)

CREATE FUNCTION slm_support(internal) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_support' LANGUAGE C STRICT;
COMMENT ON FUNCTION slm_support(internal) IS 'Planner support: the cost of a call from the width of its text, the length of its answer and the size of the model';

-- Every function that runs a model on a text gets its cost from there.
DO $$
DECLARE
    f pg_catalog.regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = '@extschema@'::pg_catalog.regnamespace AND l.lanname = 'c' AND p.prosrc = ANY (ARRAY['slm_pg_generate', 'slm_pg_generate_details', 'slm_pg_summarize',
            'slm_pg_classify', 'slm_pg_classify_multi', 'slm_pg_classify_trained', 'slm_pg_embed', 'slm_pg_embed_query', 'slm_pg_similarity', 'slm_pg_perplexity'])
            AND p.probin = 'MODULE_PATHNAME' LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s SUPPORT @extschema@.slm_support', f);
    END LOOP;
END $$;

CREATE FUNCTION slm.running_batches(OUT pid integer, OUT database_id oid, OUT user_id oid, OUT started timestamptz, OUT rows_done bigint, OUT tokens bigint,
    OUT rows_per_second double precision, OUT tokens_per_second double precision, OUT seconds_left double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_progress' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION slm.running_batches() IS 'What slm.progress is made of';

CREATE VIEW slm.progress AS
    SELECT r.pid, d.datname AS database, r.user_id::regrole AS role, r.started, r.rows_done, r.tokens, r.rows_per_second, r.tokens_per_second,
           pg_catalog.make_interval(secs => r.seconds_left) AS eta,
           CASE WHEN pg_catalog.pg_has_role(r.user_id, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') THEN a.query END AS query
    FROM slm.running_batches() r LEFT JOIN pg_catalog.pg_database d ON d.oid = r.database_id LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = r.pid;
GRANT SELECT ON slm.progress TO PUBLIC;
COMMENT ON VIEW slm.progress IS
'Statements that compute slm_* calls in batches now: rows done, rows and tokens per second, and the time left by the planner''s estimate of rows. Needs slm_pg in shared_preload_libraries.';
-- ---------------------------------------------------------------- triggers and jobs (src/pg/jobs)

CREATE FUNCTION slm_trigger() RETURNS trigger AS 'MODULE_PATHNAME', 'slm_pg_trigger' LANGUAGE C;
COMMENT ON FUNCTION slm_trigger() IS
'Row trigger that keeps a column computed: CREATE TRIGGER ... BEFORE INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION slm_trigger(''summary'', ''slm_summarize(body)'').
Arguments: the target column, and an SQL expression over the row''s columns. On UPDATE it computes only when a column that the expression reads has changed. The statement waits for the model; slm_create_job does not.';

CREATE TABLE slm.job_definition (
    id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,49}$'),
    owner regrole NOT NULL,
    source regclass NOT NULL,
    target regclass NOT NULL,
    target_column name NOT NULL,
    key_columns name[] NOT NULL,
    key_types text[] NOT NULL,
    input_columns name[] NOT NULL,
    expression text NOT NULL,
    search_path text NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    version int NOT NULL DEFAULT 1,
    paused bool NOT NULL DEFAULT false,
    overwrite bool NOT NULL DEFAULT false,
    batch_size int NOT NULL DEFAULT 128 CHECK (batch_size BETWEEN 1 AND 10000),
    max_attempts int NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 100),
    retry_delay interval NOT NULL DEFAULT '10 s' CHECK (retry_delay >= '0'),
    backfill text NOT NULL DEFAULT 'oldest' CHECK (backfill IN ('oldest', 'newest', 'none')),
    backfill_done bool NOT NULL DEFAULT false,
    backfill_position jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_run timestamptz NOT NULL DEFAULT '-infinity',
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    prompt_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    error text
);
COMMENT ON TABLE slm.job_definition IS 'Background jobs as they were created; slm.jobs shows them to users.';

-- Append-only, so that a writer never waits for the row that a worker is computing; the worker drops duplicates.
CREATE TABLE slm.job_queue (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    job_id int NOT NULL,
    key jsonb NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    attempts int NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    failed bool NOT NULL DEFAULT false,
    error text,
    tries int NOT NULL DEFAULT 0,  -- begun and not ended: more than a few mean that the row ends the server
    waits int NOT NULL DEFAULT 0,  -- for rows that others held locked
    worker int,                    -- process that tried it last
    claimed_at timestamptz         -- when: until the worker has locked it, for a moment, no other takes it
);
CREATE INDEX job_queue_next ON slm.job_queue (job_id, not_before, id) WHERE NOT failed;
CREATE INDEX job_queue_key ON slm.job_queue (job_id, pg_catalog.jsonb_hash_extended(key, 0));
CREATE INDEX job_queue_failed ON slm.job_queue (job_id) WHERE failed;
COMMENT ON TABLE slm.job_queue IS 'Primary keys of rows whose job column is to be computed: written by the jobs'' triggers, emptied by the workers.';

CREATE TABLE slm.job_done (
    job_id int NOT NULL,
    key jsonb NOT NULL,
    version int NOT NULL,
    input_hash text NOT NULL,
    value_hash text,
    models text[] NOT NULL DEFAULT '{}',
    done_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, key)
);
COMMENT ON TABLE slm.job_done IS 'What jobs have computed: per row the hash of its inputs and of the value written, so that unchanged rows are skipped and values of users are kept; models are the SHA-256 digests of the models that its batch ran.';

SELECT pg_catalog.pg_extension_config_dump('slm.job_definition', '');
SELECT pg_catalog.pg_extension_config_dump('slm.job_definition_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('slm.job_queue', '');
SELECT pg_catalog.pg_extension_config_dump('slm.job_queue_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('slm.job_done', '');

-- A role sees and changes the jobs of the roles that it belongs to; the worker runs a job as its owner, so nothing is gained by writing here.
ALTER TABLE slm.job_definition ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_jobs ON slm.job_definition USING (pg_catalog.pg_has_role(owner, 'USAGE')) WITH CHECK (pg_catalog.pg_has_role(owner, 'USAGE'));
ALTER TABLE slm.job_queue ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_jobs ON slm.job_queue USING (EXISTS (SELECT FROM slm.job_definition d WHERE d.id = job_id));
ALTER TABLE slm.job_done ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_jobs ON slm.job_done USING (EXISTS (SELECT FROM slm.job_definition d WHERE d.id = job_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON slm.job_definition, slm.job_queue, slm.job_done TO PUBLIC;
GRANT USAGE ON SEQUENCE slm.job_definition_id_seq, slm.job_queue_id_seq TO PUBLIC;

CREATE FUNCTION slm.job_enqueue() RETURNS trigger AS 'MODULE_PATHNAME', 'slm_pg_job_enqueue' LANGUAGE C;
COMMENT ON FUNCTION slm.job_enqueue() IS 'Trigger of jobs: puts the primary keys of new and changed rows into slm.job_queue. Made by slm_create_job.';

CREATE FUNCTION slm.job_claim(job int) RETURNS bigint[] AS 'MODULE_PATHNAME', 'slm_pg_job_claim_rows' LANGUAGE C STRICT;
COMMENT ON FUNCTION slm.job_claim(int) IS 'Takes the next due rows of a job: ids in slm.job_queue, NULL when none is due. For slm_run_job.';

CREATE FUNCTION slm.job_run_batch(job int, ids bigint[]) RETURNS int AS 'MODULE_PATHNAME', 'slm_pg_job_run_batch' LANGUAGE C;
COMMENT ON FUNCTION slm.job_run_batch(int, bigint[]) IS
'Computes claimed rows of a job in this session and returns how many it looked at; without ids, queues existing rows. For slm_run_job.';

CREATE FUNCTION slm.job_key_expression(job int, prefix text) RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_job_key_expression' LANGUAGE C STRICT;
COMMENT ON FUNCTION slm.job_key_expression(int, text) IS 'The SQL expression of a row''s key as slm.job_queue and slm.job_done have it.';

CREATE FUNCTION slm.job_check_models(source regclass, expression text) RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_job_check_models' LANGUAGE C STRICT;
COMMENT ON FUNCTION slm.job_check_models(regclass, text) IS 'Raises an error when the expression names a model that the current role may not use.';

CREATE FUNCTION slm.job_wake() RETURNS bool AS 'MODULE_PATHNAME', 'slm_pg_job_wake' LANGUAGE C;
COMMENT ON FUNCTION slm.job_wake() IS 'At commit, starts or wakes this database''s job workers; false when the library is not preloaded.';

CREATE FUNCTION slm.job_defined() RETURNS trigger AS 'MODULE_PATHNAME', 'slm_pg_job_defined' LANGUAGE C;
COMMENT ON FUNCTION slm.job_defined() IS 'Trigger of slm.job_definition: tells all sessions of changed jobs and wakes the workers, also when a dump is restored.';
CREATE TRIGGER job_defined AFTER INSERT OR DELETE OR UPDATE OF owner, source, target, target_column, key_columns, input_columns, version, paused
    ON slm.job_definition FOR EACH STATEMENT EXECUTE FUNCTION slm.job_defined();

-- The primary key of a table: names and types, in key order.
CREATE FUNCTION slm.job_key(source regclass, OUT columns name[], OUT types text[]) LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
BEGIN
    SELECT array_agg(a.attname ORDER BY k.n), array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.n) INTO columns, types
    FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n), pg_attribute a
    WHERE i.indrelid = source AND i.indisprimary AND k.n <= i.indnkeyatts AND a.attrelid = source AND a.attnum = k.attnum;
    IF columns IS NULL THEN
        RAISE EXCEPTION 'table % has no primary key', source USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'A job remembers rows by their primary key. Add one with ALTER TABLE ... ADD PRIMARY KEY.';
    END IF;
END $$;
COMMENT ON FUNCTION slm.job_key(regclass) IS 'Primary-key columns of a table and their types; an error when it has none.';

-- The columns of source that an expression reads, by letting the server analyse it in a view that is then undone.
CREATE FUNCTION slm.job_inputs(source regclass, expression text, target name) RETURNS name[] LANGUAGE plpgsql AS $$
DECLARE
    result name[];
    whole bool;
BEGIN
    BEGIN
        EXECUTE format('CREATE TEMP VIEW slm_job_probe AS SELECT (%s) AS value FROM %s', expression, source);
        SELECT array_agg(DISTINCT a.attname ORDER BY a.attname) FILTER (WHERE d.refobjsubid > 0 AND a.attname <> target),
               coalesce(bool_and(d.refobjsubid = 0), true)
        INTO result, whole
        FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
            AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = source
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = source AND a.attnum = d.refobjsubid
        WHERE r.ev_class = 'pg_temp.slm_job_probe'::regclass;
        RAISE EXCEPTION USING ERRCODE = 'SLM01', MESSAGE = 'undo';
    EXCEPTION
        WHEN SQLSTATE 'SLM01' THEN NULL;
    END;
    IF whole OR result IS NULL THEN
        SELECT array_agg(attname ORDER BY attname) INTO result FROM pg_catalog.pg_attribute
        WHERE attrelid = source AND attnum > 0 AND NOT attisdropped AND attname <> target;
    END IF;
    RETURN result;
END $$;
COMMENT ON FUNCTION slm.job_inputs(regclass, text, name) IS 'The columns that an expression over a table reads; all but the target when it reads the row as a whole.';

CREATE FUNCTION slm.job_check_table(t regclass) RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE
    c pg_class;
BEGIN
    SELECT * INTO c FROM pg_class WHERE oid = t;
    IF c.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', t USING ERRCODE = 'wrong_object_type', HINT = 'A job needs a table or a partitioned table.';
    ELSIF c.relpersistence = 't' THEN
        RAISE EXCEPTION '% is a temporary table', t USING ERRCODE = 'wrong_object_type', HINT = 'Background workers do not see the temporary tables of a session.';
    ELSIF c.relnamespace = 'slm'::regnamespace THEN
        RAISE EXCEPTION '% belongs to the extension', t USING ERRCODE = 'wrong_object_type', HINT = 'A job needs a table of a user.';
    END IF;
END $$;
COMMENT ON FUNCTION slm.job_check_table(regclass) IS 'Raises an error when a relation can be neither source nor target of a job.';

-- Refuses what the job could not do, as the job's owner, before anything is written.
CREATE FUNCTION slm.job_check(source regclass, target regclass, target_column name, expression text, keys name[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    key name;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = target AND attname = target_column AND attnum > 0 AND NOT attisdropped) THEN
        RAISE EXCEPTION 'table % has no column "%"', target, target_column USING ERRCODE = 'undefined_column',
            HINT = 'Add it first: ALTER TABLE ' || target || ' ADD COLUMN ' || quote_ident(target_column) || ' text;';
    END IF;
    IF target_column = ANY (keys) THEN
        RAISE EXCEPTION 'column "%" is part of the primary key', target_column USING ERRCODE = 'invalid_parameter_value',
            HINT = 'A job cannot compute the key by which it remembers rows.';
    END IF;
    FOREACH key IN ARRAY keys LOOP
        IF target <> source AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = target AND attname = key AND NOT attisdropped) THEN
            RAISE EXCEPTION 'table % has no column "%"', target, key USING ERRCODE = 'undefined_column',
                HINT = 'A separate target table needs the primary-key columns of ' || source || ' as its own key.';
        END IF;
    END LOOP;
    PERFORM slm.job_check_models(source, expression);
    EXECUTE format('EXPLAIN UPDATE %s AS slm_target SET %I = (SELECT (%s) FROM %s LIMIT 1)', target, target_column, expression, source);
    IF target <> source THEN
        BEGIN
            EXECUTE format('EXPLAIN INSERT INTO %1$s (%2$s, %3$I) SELECT %2$s, (%4$s) FROM %5$s ON CONFLICT (%2$s) DO UPDATE SET %3$I = EXCLUDED.%3$I',
                           target, (SELECT string_agg(quote_ident(k), ', ') FROM unnest(keys) k), target_column, expression, source);
        EXCEPTION WHEN invalid_column_reference THEN
            RAISE EXCEPTION 'table % has no unique constraint on (%)', target, array_to_string(keys, ', ') USING ERRCODE = 'invalid_column_reference',
                HINT = 'A separate target table needs the primary key of ' || source || ' as its own.';
        END;
    END IF;
END $$;
COMMENT ON FUNCTION slm.job_check(regclass, regclass, name, text, name[]) IS 'Raises an error when the current role could not run a job with this expression and target.';

CREATE FUNCTION slm.job_make_triggers(job int, source regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    n text := 'slm_job_' || job;
    partitioned bool := (SELECT relkind = 'p' FROM pg_class WHERE oid = source);
BEGIN
    -- A table that was restored without the jobs may have triggers of these names.
    IF NOT partitioned THEN
        EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER INSERT ON %s REFERENCING NEW TABLE AS slm_new FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)',
                       n || '_insert', source, job);
    END IF;
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER UPDATE ON %s REFERENCING OLD TABLE AS slm_old NEW TABLE AS slm_new FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)',
                   n || '_update', source, job);
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER DELETE ON %s REFERENCING OLD TABLE AS slm_old FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)',
                   n || '_delete', source, job);
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)', n || '_truncate', source, job);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', source, n || '_truncate');
    -- Rows that logical replication applies fire row triggers only; so do, for the root, rows that are written to a partition directly.
    IF partitioned THEN
        EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION slm.job_enqueue(%L)', n || '_row', source, job);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', source, n || '_row');
    ELSE
        EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION slm.job_enqueue(%L)', n || '_row', source, job);
        EXECUTE format('ALTER TABLE %s ENABLE REPLICA TRIGGER %I', source, n || '_row');
    END IF;
END $$;
COMMENT ON FUNCTION slm.job_make_triggers(int, regclass) IS 'Creates the triggers of a job on its source table.';

-- What sessions of the current role would use and a background worker does not know.
CREATE FUNCTION slm.job_settings() RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT coalesce(jsonb_object_agg(name, setting), '{}') FROM pg_settings
    WHERE name LIKE 'slm.%' AND context = 'user' AND name <> 'slm.threads' AND source IN ('user', 'database user', 'client', 'session')
$$;
COMMENT ON FUNCTION slm.job_settings() IS 'The slm.* settings that were made for this session or role; a job keeps them.';

CREATE FUNCTION slm_create_job(name text, source regclass, target_column name, expression text, options jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    job slm.job_definition;
    unknown text;
BEGIN
    SELECT string_agg(quote_literal(k), ', ') INTO unknown FROM jsonb_object_keys(coalesce(options, '{}')) k
    WHERE k NOT IN ('target', 'overwrite', 'batch_size', 'max_attempts', 'retry_delay', 'backfill', 'paused');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown job option %', unknown USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Options are target, overwrite, batch_size, max_attempts, retry_delay, backfill (oldest, newest, none), paused.';
    END IF;
    IF name IS NULL OR source IS NULL OR target_column IS NULL OR expression IS NULL THEN
        RAISE EXCEPTION 'name, source, target_column and expression must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF name !~ '^[A-Za-z_][A-Za-z0-9_]{0,49}$' THEN
        RAISE EXCEPTION '"%" cannot be the name of a job', name USING ERRCODE = 'invalid_name',
            HINT = 'A name begins with a letter and has up to 50 letters, digits and underscores.';
    END IF;
    IF EXISTS (SELECT FROM slm.jobs j WHERE j.name = slm_create_job.name) THEN
        RAISE EXCEPTION 'job "%" exists already', name USING ERRCODE = 'duplicate_object', HINT = 'slm_alter_job changes a job, slm_drop_job ends it.';
    END IF;
    job.target := coalesce((options ->> 'target')::regclass, source);
    PERFORM slm.job_check_table(source), slm.job_check_table(job.target);
    SELECT columns, types INTO job.key_columns, job.key_types FROM slm.job_key(source);
    PERFORM slm.job_check(source, job.target, target_column, expression, job.key_columns);
    INSERT INTO slm.job_definition (name, owner, source, target, target_column, key_columns, key_types, input_columns, expression, search_path, settings,
                                    overwrite, batch_size, max_attempts, retry_delay, backfill, backfill_done, paused)
    VALUES (slm_create_job.name, current_user::regrole, source, job.target, target_column, job.key_columns, job.key_types,
            slm.job_inputs(source, expression, CASE WHEN job.target = source THEN target_column ELSE '' END), expression, current_setting('search_path'), slm.job_settings(),
            coalesce((options ->> 'overwrite')::bool, false), coalesce((options ->> 'batch_size')::int, 128),
            coalesce((options ->> 'max_attempts')::int, 5), coalesce((options ->> 'retry_delay')::interval, '10 s'),
            coalesce(options ->> 'backfill', 'oldest'), coalesce(options ->> 'backfill', 'oldest') = 'none',
            coalesce((options ->> 'paused')::bool, false))
    RETURNING * INTO job;
    PERFORM slm.job_make_triggers(job.id, source);
    IF NOT slm.job_wake() THEN
        RAISE NOTICE 'job "%" has no background worker', job.name
            USING HINT = 'Add slm_pg to shared_preload_libraries and restart the server, or run CALL slm_run_job(' || quote_literal(job.name) || ').';
    END IF;
    RETURN job.name;
END $$;
COMMENT ON FUNCTION slm_create_job(text, regclass, name, text, jsonb) IS
'Keeps a column computed in the background: expression is any SQL expression over the columns of source, such as slm_summarize(body, max_words => 30). New and changed rows are
computed by a worker after commit; existing rows are filled in (option backfill: oldest, newest, none). Other options: target (a separate table keyed by the same primary key),
overwrite (also replace values that users wrote), batch_size, max_attempts, retry_delay, paused. Returns the name. The current role becomes the owner and the expression runs with its privileges.';

CREATE FUNCTION slm.job_of(name text) RETURNS slm.job_definition LANGUAGE plpgsql STABLE AS $$
DECLARE
    job slm.job_definition;
BEGIN
    SELECT d.* INTO job FROM slm.job_definition d WHERE d.name = job_of.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job "%" does not exist', name USING ERRCODE = 'undefined_object', HINT = 'SELECT name FROM slm.jobs lists the jobs that you may use.';
    END IF;
    RETURN job;
END $$;
COMMENT ON FUNCTION slm.job_of(text) IS 'The definition of a job, or an error when there is none that the role may use.';

CREATE FUNCTION slm_alter_job(name text, expression text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    job slm.job_definition := slm.job_of(name);
    unknown text;
BEGIN
    SELECT string_agg(quote_literal(k), ', ') INTO unknown FROM jsonb_object_keys(coalesce(options, '{}')) k
    WHERE k NOT IN ('overwrite', 'batch_size', 'max_attempts', 'retry_delay', 'backfill', 'owner');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'option % cannot be altered', unknown USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Options are overwrite, batch_size, max_attempts, retry_delay, backfill, owner. For another target, create another job.';
    END IF;
    PERFORM FROM slm.job_definition d WHERE d.id = job.id FOR UPDATE; -- waits for the batch that is under way
    IF expression IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', job.source); -- writers that noted the inputs of the old one come first
        PERFORM slm.job_check(job.source, job.target, job.target_column, expression, job.key_columns);
    END IF;
    UPDATE slm.job_definition d SET
        owner = coalesce((options ->> 'owner')::regrole, d.owner),
        overwrite = coalesce((options ->> 'overwrite')::bool, d.overwrite),
        batch_size = coalesce((options ->> 'batch_size')::int, d.batch_size),
        max_attempts = coalesce((options ->> 'max_attempts')::int, d.max_attempts),
        retry_delay = coalesce((options ->> 'retry_delay')::interval, d.retry_delay),
        backfill = coalesce(options ->> 'backfill', d.backfill),
        expression = coalesce(slm_alter_job.expression, d.expression),
        search_path = CASE WHEN slm_alter_job.expression IS NULL THEN d.search_path ELSE current_setting('search_path') END,
        settings = CASE WHEN slm_alter_job.expression IS NULL THEN d.settings ELSE slm.job_settings() END,
        input_columns = CASE WHEN slm_alter_job.expression IS NULL THEN d.input_columns
            ELSE slm.job_inputs(d.source, slm_alter_job.expression, CASE WHEN d.target = d.source THEN d.target_column ELSE '' END) END,
        version = d.version + 1,
        backfill_done = coalesce(options ->> 'backfill', d.backfill) = 'none',
        backfill_position = NULL,
        not_before = '-infinity'
    WHERE d.id = job.id RETURNING version INTO job.version;
    UPDATE slm.job_queue q SET failed = false, attempts = 0, tries = 0, not_before = '-infinity' WHERE q.job_id = job.id AND q.failed;
    PERFORM slm.job_wake();
    RETURN job.version;
END $$;
COMMENT ON FUNCTION slm_alter_job(text, text, jsonb) IS
'Changes a job in place and raises its version, which it returns. Rows computed with an older version count as stale and are computed again (with a new model under the same name, call it without an expression).
Options: overwrite, batch_size, max_attempts, retry_delay, backfill (none: only rows that change from now on), owner.';

CREATE FUNCTION slm_drop_job(name text, drop_values bool DEFAULT false) RETURNS void LANGUAGE plpgsql
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    job slm.job_definition := slm.job_of(name);
    suffix text;
    tables bool := (SELECT count(*) = CASE WHEN job.source = job.target THEN 1 ELSE 2 END FROM pg_catalog.pg_class WHERE oid IN (job.source, job.target));
    key text := slm.job_key_expression(job.id, 't');
BEGIN
    PERFORM FROM slm.job_definition d WHERE d.id = job.id FOR UPDATE; -- waits for the batch that is under way, before any lock on the table
    FOREACH suffix IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate', 'row'] LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = job.source AND tgname = 'slm_job_' || job.id || '_' || suffix) THEN
            EXECUTE format('DROP TRIGGER %I ON %s', 'slm_job_' || job.id || '_' || suffix, job.source);
        END IF;
    END LOOP;
    IF drop_values AND tables AND key IS NOT NULL THEN
        IF job.target = job.source THEN
            EXECUTE format('UPDATE %s t SET %I = NULL FROM slm.job_done d WHERE d.job_id = %s AND d.key = %s AND md5(t.%I::text) = d.value_hash',
                           job.target, job.target_column, job.id, key, job.target_column);
        ELSE
            EXECUTE format('DELETE FROM %s t USING slm.job_done d WHERE d.job_id = %s AND d.key = %s AND (t.%I IS NULL OR md5(t.%I::text) = d.value_hash)',
                           job.target, job.id, key, job.target_column, job.target_column);
        END IF;
    END IF;
    DELETE FROM slm.job_queue WHERE job_id = job.id;
    DELETE FROM slm.job_done WHERE job_id = job.id;
    DELETE FROM slm.job_definition WHERE id = job.id;
END $$;
COMMENT ON FUNCTION slm_drop_job(text, bool) IS 'Ends a job. drop_values: also removes the values that it wrote (those that a user has changed since stay).';

CREATE FUNCTION slm_pause_job(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slm.job_definition d SET paused = true WHERE d.id = (slm.job_of(slm_pause_job.name)).id;
END $$;
COMMENT ON FUNCTION slm_pause_job(text) IS 'Stops the work of a job; rows go on being noted and are computed after slm_resume_job.';

CREATE FUNCTION slm_resume_job(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slm.job_definition d SET paused = false, not_before = '-infinity' WHERE d.id = (slm.job_of(slm_resume_job.name)).id;
    PERFORM slm.job_wake();
END $$;
COMMENT ON FUNCTION slm_resume_job(text) IS 'Lets a paused job go on, and one that has met an error try again at once.';

CREATE FUNCTION slm_retry_failed(name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    UPDATE slm.job_queue q SET failed = false, attempts = 0, tries = 0, not_before = '-infinity' WHERE q.job_id = (slm.job_of(slm_retry_failed.name)).id AND q.failed;
    GET DIAGNOSTICS n = ROW_COUNT;
    PERFORM slm.job_wake();
    RETURN n;
END $$;
COMMENT ON FUNCTION slm_retry_failed(text) IS 'Gives the rows in slm.job_failures another try; returns how many.';

CREATE PROCEDURE slm_run_job(name text) LANGUAGE plpgsql AS $$
DECLARE
    job slm.job_definition := slm.job_of(name);
    ids bigint[];
    n int;
    total bigint := 0;
    state text;
    message text;
    hint text;
BEGIN
    LOOP
        ids := slm.job_claim(job.id);
        COMMIT; -- the try counts, should this be the end of the server
        BEGIN
            n := slm.job_run_batch(job.id, ids);
        EXCEPTION WHEN query_canceled OR OTHERS THEN -- not the fault of a row: the try does not count
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
            UPDATE slm.job_queue q SET tries = greatest(q.tries - 1, 0) WHERE q.id = ANY (ids) AND q.job_id = job.id;
        END;
        COMMIT;
        IF state IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message,
                HINT = coalesce(nullif(hint, ''), 'Batches before this one are done; CALL slm_run_job(' || quote_literal(name) || ') goes on.');
        END IF;
        EXIT WHEN n = 0 AND ids IS NULL;
        CONTINUE WHEN ids IS NULL;
        total := total + n;
        RAISE NOTICE 'job "%": % rows', name, total;
    END LOOP;
END $$;
COMMENT ON PROCEDURE slm_run_job(text) IS 'Does all work of a job that is due, in this session, committing after each batch. Needs no background worker.';

CREATE VIEW slm.jobs AS
    SELECT d.name, d.owner, d.source, d.target, d.target_column, d.expression, d.version, d.paused, d.backfill, d.backfill_done, d.overwrite, d.batch_size,
           d.max_attempts, d.retry_delay, d.input_columns, d.key_columns, d.created_at, d.prompt_tokens, d.output_tokens, d.id AS job_id,
           CASE WHEN 2 > (SELECT count(*) FROM (VALUES (d.source), (d.target)) t(oid) JOIN pg_catalog.pg_class c ON c.oid = t.oid) THEN 'its table was dropped'
                ELSE d.error END AS error
    FROM slm.job_definition d WHERE pg_catalog.pg_has_role(d.owner, 'USAGE');
COMMENT ON VIEW slm.jobs IS 'Background jobs of the roles that you belong to; error is why the last batch failed as a whole, tokens are what the job has taken so far.';

CREATE VIEW slm.job_status AS
    SELECT d.name,
           CASE WHEN d.paused THEN 'paused' WHEN d.error IS NOT NULL OR r.oid IS NULL THEN 'error' WHEN q.pending > 0 OR NOT d.backfill_done THEN 'working' ELSE 'idle' END AS state,
           q.pending - q.running + x.unqueued AS pending, q.running, c.done, c.stale, q.failed,
           round(x.speed::numeric, 2) AS rows_per_second,
           CASE WHEN x.speed > 0 THEN make_interval(secs => (q.pending + x.unqueued) / x.speed) END AS eta,
           clock_timestamp() - q.oldest AS lag
    FROM slm.job_definition d
    LEFT JOIN pg_catalog.pg_class r ON r.oid = d.source
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE NOT s.failed) AS pending, count(*) FILTER (WHERE s.failed) AS failed, min(s.enqueued_at) FILTER (WHERE NOT s.failed) AS oldest,
               count(*) FILTER (WHERE NOT s.failed AND s.tries > 0 AND EXISTS (
                   SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                   AND l.classid = d.id::oid AND l.objid = s.worker::oid AND l.objsubid = 2 AND l.pid = s.worker)) AS running
        FROM slm.job_queue s WHERE s.job_id = d.id) q
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE s.version = d.version) AS done, count(*) FILTER (WHERE s.version < d.version) AS stale,
               count(*) FILTER (WHERE s.done_at > clock_timestamp() - interval '60 s') AS recent,
               min(s.done_at) FILTER (WHERE s.done_at > clock_timestamp() - interval '60 s') AS since
        FROM slm.job_done s WHERE s.job_id = d.id) c
    CROSS JOIN LATERAL (
        SELECT CASE WHEN d.backfill_done THEN 0 ELSE greatest(0, r.reltuples::bigint - c.done - q.pending - q.failed) END AS unqueued,
               c.recent / greatest(1, extract(epoch FROM clock_timestamp() - c.since)) AS speed) x
    WHERE pg_catalog.pg_has_role(d.owner, 'USAGE');
COMMENT ON VIEW slm.job_status IS
'How far jobs are: pending rows (the part that a backfill has not reached by the planner''s estimate), rows being computed now, done and stale (computed with an older version) rows,
failures, rows per second in the last minute, estimated time left, age of the oldest row that waits.';

CREATE VIEW slm.job_failures AS
    SELECT d.name, q.key, q.error, q.attempts, q.enqueued_at
    FROM slm.job_queue q JOIN slm.job_definition d ON d.id = q.job_id WHERE q.failed AND pg_catalog.pg_has_role(d.owner, 'USAGE');
COMMENT ON VIEW slm.job_failures IS 'Rows that a job gave up after max_attempts, with the last error. slm_retry_failed tries them again.';
GRANT SELECT ON slm.jobs, slm.job_status, slm.job_failures TO PUBLIC;
