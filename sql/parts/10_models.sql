-- slm_pg
-- Tables and views live in the schema slm, functions in the schema that CREATE EXTENSION names.
-- Functions that run a model are STABLE: with seed, an answer is a function of its arguments and of the model.
-- They are not STRICT: a NULL text gives NULL, any other NULL argument means that argument's default.
\echo Use "CREATE EXTENSION slm_pg" to load this file. \quit

CREATE SCHEMA slm;
COMMENT ON SCHEMA slm IS 'Tables and views of the extension slm_pg';
GRANT USAGE ON SCHEMA slm TO PUBLIC;

CREATE TABLE slm.model_registry (
    name text COLLATE "C" PRIMARY KEY,
    image text COLLATE "C" NOT NULL,
    owner regrole NOT NULL, -- '-': was dropped
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
    base text COLLATE "C", -- adapters: the name of their model
    languages text[],
    scripts text[],
    pooling text,
    labels text[],
    recognized text,
    warnings text[]
);
REVOKE ALL ON slm.model_registry FROM PUBLIC;
COMMENT ON TABLE slm.model_registry IS 'Models and adapters of this database; change it with the functions only, read it through slm.models and slm.adapters';

CREATE TABLE slm.model_grant (
    name text COLLATE "C" NOT NULL,
    role regrole NOT NULL, -- '-' is PUBLIC
    PRIMARY KEY (name, role)
);
REVOKE ALL ON slm.model_grant FROM PUBLIC;
COMMENT ON TABLE slm.model_grant IS 'Roles that may use a model or adapter besides its owner; slm_grant_model and slm_revoke_model change it';

-- A role that was dropped is a mere number, and the next cluster may give that number to somebody else: what belongs to one is not dumped.
SELECT pg_catalog.pg_extension_config_dump('slm.model_registry',
    'WHERE owner::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)');
SELECT pg_catalog.pg_extension_config_dump('slm.model_grant',
    'WHERE (role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR role::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)) '
    'AND name OPERATOR(pg_catalog.=) ANY (SELECT m.name FROM slm.model_registry m WHERE m.owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a))');

-- Who sees what: owners (and members of that role) and superusers all of it; roles that were granted the model all but the source, a path of
-- the server, and the grants of others; nobody else anything. A model whose owner was dropped is the superusers' alone.
CREATE VIEW slm.models WITH (security_barrier) AS
SELECT m.name, m.family, m.parameters, m.quantization, m.context_length, m.vocabulary, m.embedding_dimension, m.licence,
       CASE WHEN pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text) THEN m.source END AS source, m.sha256,
       m.image_bytes, m.chat_format, m.owner,
       ARRAY(SELECT CASE WHEN g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE g.role::pg_catalog.text END
             FROM slm.model_grant g WHERE g.name OPERATOR(pg_catalog.=) m.name
               AND (pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text)
                    OR g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                    OR pg_catalog.pg_has_role(g.role::pg_catalog.oid, 'USAGE'::pg_catalog.text))
             ORDER BY g.role::pg_catalog.oid) AS roles,
       m.can_generate, m.can_embed, m.can_rerank, m.title, m.layers, m.tokenizer, m.kv_bytes_per_token, m.options, m.loaded_at,
       m.languages, m.scripts, m.pooling, m.labels, m.recognized, m.warnings
FROM slm.model_registry m
WHERE m.base IS NULL
  AND (pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text)
       OR (m.owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)
           AND EXISTS (SELECT FROM slm.model_grant g WHERE g.name OPERATOR(pg_catalog.=) m.name
                       AND (g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                            OR pg_catalog.pg_has_role(g.role::pg_catalog.oid, 'USAGE'::pg_catalog.text)))));
GRANT SELECT ON slm.models TO PUBLIC;
COMMENT ON VIEW slm.models IS
    'The models of this database that you own or were granted: what they are, where they came from, who owns them and which roles may use them. '
    'A superuser sees all';

COMMENT ON COLUMN slm.models.name IS 'Name to pass as model => ...';
COMMENT ON COLUMN slm.models.family IS 'Architecture: llama, phi3, gemma3, qwen2, bert, ...';
COMMENT ON COLUMN slm.models.parameters IS 'Number of weights, embeddings included';
COMMENT ON COLUMN slm.models.quantization IS 'Most common type of the weights';
COMMENT ON COLUMN slm.models.context_length IS 'Tokens that fit into one request';
COMMENT ON COLUMN slm.models.vocabulary IS 'Number of tokens';
COMMENT ON COLUMN slm.models.embedding_dimension IS 'Width of the model, and of its embeddings where it computes them';
COMMENT ON COLUMN slm.models.licence IS 'The source''s licence, as it states it';
COMMENT ON COLUMN slm.models.source IS 'Path that it was loaded from, or the call that made it; shown to its owner only';
COMMENT ON COLUMN slm.models.sha256 IS 'SHA-256 of the source';
COMMENT ON COLUMN slm.models.image_bytes IS 'Size of the packed image';
COMMENT ON COLUMN slm.models.chat_format IS 'How conversations are written for it';
COMMENT ON COLUMN slm.models.owner IS 'Role that loaded it';
COMMENT ON COLUMN slm.models.roles IS 'Roles that may use it besides owner and superusers';
COMMENT ON COLUMN slm.models.languages IS 'Languages that the source names; NULL where it names none';
COMMENT ON COLUMN slm.models.scripts IS 'Scripts whose words its vocabulary has; texts that are mostly in others get a NOTICE';
COMMENT ON COLUMN slm.models.pooling IS 'How an encoder makes one vector of a text, or what its head is put on';
COMMENT ON COLUMN slm.models.labels IS 'The labels of its head, where it has one';
COMMENT ON COLUMN slm.models.recognized IS 'What in its source, and which options, say what it is';
COMMENT ON COLUMN slm.models.warnings IS 'The WARNINGs that it was loaded with';

-- ---- models

CREATE FUNCTION slm_load_model(name text, path text, options jsonb DEFAULT '{}')
RETURNS slm.models AS 'MODULE_PATHNAME', 'slm_pg_load_model' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_load_model(text, text, jsonb) IS
    'Imports a model file of the server (GGUF, or a Hugging Face directory) into the cluster''s image directory, tries it, and '
    'registers it. Needs superuser, or membership of pg_read_server_files and a GRANT of EXECUTE on this function to the role itself or to '
    'one of its roles other than PUBLIC. options: quantization, '
    'chat_format, pre (how a GGUF vocabulary that does not say it splits words); in place of what the source says: rope (none, linear:4, base:500000), pooling (mean, cls, last, max, sqrt, weighted), dimensions (vectors are cut to so many and scaled to length 1), eos (the text of the token that ends an answer). A model whose image is missing (restored dump, standby) is made again from the same source';

CREATE FUNCTION slm_drop_model(name text, cascade boolean DEFAULT false)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_model(text, boolean) IS
    'Removes a model from this database; its image goes with the last database that uses it. Sessions that run it finish their '
    'statement. Refused while jobs, triggers, classifiers, adapters, functions, views, defaults or slm.*_model settings use it, unless '
    'cascade, which drops its classifiers and adapters and says what misses it from now on. Owner or superuser';

CREATE FUNCTION slm_rename_model(name text, new_name text, cascade boolean DEFAULT false)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_rename_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_rename_model(text, text, boolean) IS
    'Gives a model another name; its classifiers and adapters go along. Refused while something names it, unless cascade, which says '
    'what misses it from now on. Owner or superuser';

CREATE FUNCTION slm_grant_model(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_grant_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_grant_model(text, text) IS
    'Lets a role, or PUBLIC, use a model or adapter. A new one may be used by its owner and superusers only. Owner or superuser. A superuser '
    'who grants a model whose owner was dropped becomes its owner';

CREATE FUNCTION slm_revoke_model(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_revoke_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_revoke_model(text, text) IS
    'Takes back what slm_grant_model gave. Owner or superuser';

CREATE FUNCTION slm_set_model_owner(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_set_model_owner' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_set_model_owner(text, text) IS
    'Gives a model or adapter to another role, of which you must be a member. Owner or superuser; a superuser alone when the owner was dropped';

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
    'State of the models that you may use and of your own loads and trainings; of all for members of pg_read_all_stats; see the view slm.model_status';

CREATE VIEW slm.model_status WITH (security_barrier) AS
SELECT s.name, s.state, s.mapped, s.image_bytes, s.resident_bytes, s.kv_bytes, s.last_use, s.progress, s.pid
FROM @extschema@.slm_model_status() s;
GRANT SELECT ON slm.model_status TO PUBLIC;
COMMENT ON VIEW slm.model_status IS
    'Is a model mapped by this session, how much of it is in memory, when was it used last, and how far is a running load or training. Shows '
    'the models that you may use and your own loads, members of pg_read_all_stats all of this database and of the cluster';
COMMENT ON COLUMN slm.model_status.name IS 'Name of the model';
COMMENT ON COLUMN slm.model_status.state IS 'ready, image missing, image damaged, image of an earlier version (its next use rebuilds it); at work: hashing, importing, rebuilding, probing';
COMMENT ON COLUMN slm.model_status.mapped IS 'Has this session mapped it?';
COMMENT ON COLUMN slm.model_status.image_bytes IS 'Size of the image';
COMMENT ON COLUMN slm.model_status.resident_bytes IS 'Bytes of the image that are in memory now, once for the whole cluster';
COMMENT ON COLUMN slm.model_status.kv_bytes IS 'Keys and values that this session keeps for it';
COMMENT ON COLUMN slm.model_status.last_use IS 'Start of the last statement of this session that used it';
COMMENT ON COLUMN slm.model_status.progress IS 'Of a running load: 0 to 1';
COMMENT ON COLUMN slm.model_status.pid IS 'Of a running load: its process';

-- ---- generation

CREATE FUNCTION slm_generate(prompt text DEFAULT NULL,
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
    truncate boolean DEFAULT NULL,
    prefill text DEFAULT NULL,
    suffix text DEFAULT NULL,
    prompt_name text DEFAULT NULL,
    variables jsonb DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_generate' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_generate(text, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean, text, text, text, jsonb, text) IS
    'The model''s answer to a prompt. Greedy at temperature 0; above it the answer depends on seed, so pass for example seed => '
    '(random() * 1e9)::bigint for another answer each time. chat => false continues the prompt as plain text. A prompt longer than'
    ' the context is an error unless truncate => true cuts it. prefill: what the answer begins with; suffix: what stands behind the prompt. '
    'prompt_name: a prompt of slm.prompts, whose {placeholders} are filled in from variables, and {prompt} by the prompt. '
    'on_error => ''null'': NULL in place of an error of the prompt';

CREATE FUNCTION slm_generate_details(prompt text DEFAULT NULL,
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
    truncate boolean DEFAULT NULL,
    prefill text DEFAULT NULL,
    suffix text DEFAULT NULL,
    prompt_name text DEFAULT NULL,
    variables jsonb DEFAULT NULL,
    on_error text DEFAULT NULL,
    OUT text text,
    OUT finish_reason text,
    OUT prompt_tokens integer,
    OUT reused_tokens integer,
    OUT output_tokens integer,
    OUT ms double precision,
    OUT prefill_ms double precision,
    OUT error text)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_generate_details' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_generate_details(text, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean, text, text, text, jsonb, text) IS
    'As slm_generate, with why the answer ended (stop, length or context), the numbers of tokens (reused: taken from the cache of '
    'instructions) and the milliseconds it took. An error of the prompt, such as one that is too long, is in the column error, unless'
    ' on_error => ''error''';

CREATE FUNCTION slm_generate_stream(prompt text DEFAULT NULL,
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
    truncate boolean DEFAULT NULL,
    prefill text DEFAULT NULL,
    suffix text DEFAULT NULL,
    prompt_name text DEFAULT NULL,
    variables jsonb DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS SETOF text AS 'MODULE_PATHNAME', 'slm_pg_generate_stream' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 100;
COMMENT ON FUNCTION slm_generate_stream(text, text, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, boolean, text, text, text, jsonb, text) IS
    'As slm_generate, one row per piece, sent to the client as it is made: from the select list (SELECT slm_generate_stream(...)), from FROM where '
    'nothing else stands there, through COPY and cursors. Beside other relations in FROM the server collects the rows first';

CREATE FUNCTION slm_chat(messages jsonb,
    model text DEFAULT NULL,
    max_tokens integer DEFAULT 256,
    temperature double precision DEFAULT 0,
    top_k integer DEFAULT 0,
    top_p double precision DEFAULT 1,
    min_p double precision DEFAULT 0,
    repeat_penalty double precision DEFAULT 1,
    seed bigint DEFAULT 0,
    stop text[] DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_chat' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_chat(jsonb, text, integer, double precision, integer, double precision, double precision, double precision, bigint, text[], boolean, text) IS
    'The model''s answer to a conversation: [{"role": "system" | "user" | "assistant", "content": "..."}, ...]. When the last '
    'message is the assistant''s, the answer continues it. A conversation longer than the context is an error unless truncate => true'
    ' cuts the last message of the user';

-- ---- tokens

CREATE FUNCTION slm_tokenize(input text, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS integer[] AS 'MODULE_PATHNAME', 'slm_pg_tokenize' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION slm_tokenize(text, text, text) IS
    'Token ids of a text; control tokens written in it are plain text';

CREATE FUNCTION slm_detokenize(tokens integer[], model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_detokenize' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION slm_detokenize(integer[], text, text) IS
    'Text of token ids; bytes that form no character become U+FFFD';

CREATE FUNCTION slm_count_tokens(input text, model text DEFAULT NULL, embed boolean DEFAULT false, on_error text DEFAULT NULL)
RETURNS integer AS 'MODULE_PATHNAME', 'slm_pg_count_tokens' LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION slm_count_tokens(text, text, boolean, text) IS
    'Number of tokens of a text. embed => true: as slm_embed reads it, with special tokens and the model''s document prompt; the default model is then '
    'slm.embed_model, and the model reads the text as a whole where the number is at most its context_length in slm.models';

CREATE FUNCTION slm_chunk(input text,
    max_tokens integer DEFAULT NULL,
    overlap integer DEFAULT 0,
    model text DEFAULT NULL,
    on_error text DEFAULT NULL,
    OUT no integer,
    OUT content text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_chunk' LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 10;
COMMENT ON FUNCTION slm_chunk(text, integer, integer, text, text) IS
    'Cuts a text into pieces of at most max_tokens tokens that overlap by overlap tokens, at sentence, line or word boundaries '
    'where there are some. model: default slm.embed_model, then slm.generate_model. For an encoder max_tokens counts what slm_embed adds and is by '
    'default all that the model reads, so every piece can be embedded; for a generative model it is 256 by default';

CREATE FUNCTION slm_token_logprobs(input text,
    model text DEFAULT NULL,
    special boolean DEFAULT false,
    truncate boolean DEFAULT NULL,
    on_error text DEFAULT NULL,
    OUT "position" integer,
    OUT token_id integer,
    OUT token text,
    OUT logprob double precision)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_token_logprobs' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 100;
COMMENT ON FUNCTION slm_token_logprobs(text, text, boolean, boolean, text) IS
    'Log probability of each token of a text given those before it; NULL where nothing precedes it. special => true parses control'
    ' tokens written in the text, for evaluation only';

CREATE FUNCTION slm_perplexity(input text, model text DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS double precision AS 'MODULE_PATHNAME', 'slm_pg_perplexity' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_perplexity(text, text, boolean, text) IS
    'exp of minus the mean log probability of the tokens of a text; NULL for a text of less than two tokens';

-- ---- tasks

-- ---- the library

CREATE FUNCTION slm_version()
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_version' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm_version() IS
    'Version of the slm_pg library';

CREATE FUNCTION slm_system_info(OUT item text, OUT value text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_system_info' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 20;
COMMENT ON FUNCTION slm_system_info() IS
    'Instruction set in use, threads, limits and libraries of this server';
