-- ---------------------------------------------------------------- what functions say to models (src/pg/functions/prompts.c, prompt_rows.c)

-- C code reads columns by number: columns are only ever added at the end.
CREATE TABLE slm.prompt_registry (
    name text COLLATE "C" NOT NULL,
    family text COLLATE "C" NOT NULL, -- '': every model's
    language text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    text text COLLATE "C" NOT NULL,
    owner regrole NOT NULL,
    public boolean NOT NULL,
    active boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (name, family, language, version)
);
REVOKE ALL ON slm.prompt_registry FROM PUBLIC;
COMMENT ON TABLE slm.prompt_registry IS 'Prompts that were written here; change it with the functions only, read it through slm.prompts';

-- A role that was dropped is a mere number, and the next cluster may give that number to somebody else.
SELECT pg_catalog.pg_extension_config_dump('slm.prompt_registry',
    'WHERE owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)');

CREATE FUNCTION slm.built_in_prompts(OUT name text, OUT text text, OUT placeholders text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_list_built_in_prompts' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 15;
COMMENT ON FUNCTION slm.built_in_prompts() IS 'Part of slm.prompts: the words that come with the extension';

CREATE VIEW slm.prompts WITH (security_barrier) AS
SELECT b.name, 0 AS version, NULL::pg_catalog.text AS family, 'en'::pg_catalog.text AS language, b.text, b.placeholders, NULL::pg_catalog.regrole AS owner,
       true AS public, NULL::timestamptz AS created_at,
       NOT EXISTS (SELECT FROM slm.prompt_registry o JOIN pg_catalog.pg_roles a ON a.oid OPERATOR(pg_catalog.=) o.owner::pg_catalog.oid
                   WHERE o.name OPERATOR(pg_catalog.=) b.name AND o.family OPERATOR(pg_catalog.=) ''::pg_catalog.text
                     AND o.language OPERATOR(pg_catalog.=) 'en'::pg_catalog.text AND o.active AND a.rolsuper) AS active
FROM slm.built_in_prompts() b
UNION ALL
SELECT r.name, r.version, nullif(r.family, ''::pg_catalog.text), r.language, r.text, b.placeholders, r.owner, r.public, r.created_at,
       r.active AND EXISTS (SELECT FROM pg_catalog.pg_roles a WHERE a.oid OPERATOR(pg_catalog.=) r.owner::pg_catalog.oid
                            AND (a.rolsuper OR b.name IS NULL))
FROM slm.prompt_registry r LEFT JOIN slm.built_in_prompts() b ON b.name OPERATOR(pg_catalog.=) r.name
WHERE r.public OR pg_catalog.pg_has_role(r.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
GRANT SELECT ON slm.prompts TO PUBLIC;
COMMENT ON VIEW slm.prompts IS
    'What functions say to generative models: the words of the built-in functions (version 0), those that superusers have put in their place, and prompts '
    'of slm_generate(prompt_name => ...) that you own or that are public';
COMMENT ON COLUMN slm.prompts.family IS 'The models it is for, as in slm.models; NULL: all';
COMMENT ON COLUMN slm.prompts.placeholders IS 'Of a built-in function: what it fills in, and what each text must have';
COMMENT ON COLUMN slm.prompts.active IS 'It is the version in use';

CREATE FUNCTION slm_set_prompt(name text, text text, family text DEFAULT NULL, language text DEFAULT 'en', public boolean DEFAULT NULL)
RETURNS integer AS 'MODULE_PATHNAME', 'slm_pg_set_prompt' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_set_prompt(text, text, text, text, boolean) IS
    'Writes the words of a built-in function anew (superusers; names as in slm.prompts, with the same placeholders), or a prompt of your own for '
    'slm_generate(prompt_name => name, variables => ...), with {placeholders}. family: for models of one family only; language: taken where '
    'slm.prompt_language asks for it. public: every role may use it, and what the engine process has computed of it serves every role where a superuser wrote it. Returns the version; the last 20 are kept';

CREATE FUNCTION slm_restore_prompt(name text, version integer, family text DEFAULT NULL, language text DEFAULT 'en')
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_restore_prompt' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_restore_prompt(text, integer, text, text) IS 'Makes an earlier version of a prompt the active one. Owner or superuser';

CREATE FUNCTION slm_drop_prompt(name text, family text DEFAULT NULL, language text DEFAULT 'en')
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_prompt' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_prompt(text, text, text) IS
    'Removes a prompt with all its versions; of a built-in function the words that came with the extension stand again. Owner or superuser';
