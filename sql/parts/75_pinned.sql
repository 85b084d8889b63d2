-- ---------------------------------------------------------------- immutable forms (src/pg/functions/pinned.c)

CREATE FUNCTION slm_model_digest(model text)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_model_digest' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION slm_model_digest(text) IS
    'What a model is: SHA-256 of its source, and behind a dash a digest of the options of its load, where they change it. Models with one digest '
    'give the same answers. For slm_embed_pinned and slm_classify_pinned';

CREATE FUNCTION slm_embed_pinned(input text, model text, digest text, truncate boolean DEFAULT NULL, on_error text DEFAULT 'error')
RETURNS real[] AS 'MODULE_PATHNAME', 'slm_pg_embed_pinned' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 50000;
COMMENT ON FUNCTION slm_embed_pinned(text, text, text, boolean, text) IS
    'slm_embed by a model whose digest is given (slm_model_digest); an ERROR where the model of that name has another one. So it is immutable: for '
    'generated columns, indexes, CHECK, and distributed tables';

CREATE FUNCTION slm_classify_pinned(input text, labels text[], model text, digest text, threshold double precision DEFAULT 0,
    descriptions jsonb DEFAULT NULL, truncate boolean DEFAULT NULL, on_error text DEFAULT 'error')
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_classify_pinned' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_classify_pinned(text, text[], text, text, double precision, jsonb, boolean, text) IS
    'slm_classify (method auto) by a model whose digest is given (slm_model_digest); an ERROR where the model of that name has another one. So it '
    'is immutable: for generated columns, indexes, CHECK, and distributed tables';

-- ---------------------------------------------------------------- how a model gets here

CREATE FUNCTION slm_fetch_model(name text, OUT command text, OUT statement text)
RETURNS record LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
    SELECT 'SLM_MODEL_CACHE=/var/lib/slm_pg models/fetch ' OPERATOR(pg_catalog.||) m.name
               OPERATOR(pg_catalog.||) '  # of the Debian package: slm_fetch ' OPERATOR(pg_catalog.||) m.name,
           CASE WHEN m.name IS NOT NULL THEN pg_catalog.format('SELECT slm_load_model(%L, %L);', m.name, '/var/lib/slm_pg/' OPERATOR(pg_catalog.||) m.name) END
    FROM (SELECT CASE WHEN $1 OPERATOR(pg_catalog.~) '^[A-Za-z0-9][A-Za-z0-9._-]*$' THEN $1 END AS name) m;
END;
REVOKE EXECUTE ON FUNCTION slm_fetch_model(text) FROM PUBLIC;
COMMENT ON FUNCTION slm_fetch_model(text) IS
    'What to run to have a model of models/manifest.tsv here; the server itself never opens a network connection. command: in a shell, as root, in '
    'the folder of the sources or of the package; it fetches and checks the file into a place that the server can read. statement: then, here. '
    'models/fetch --list shows the names; one that no file can have gives neither. Superusers';
