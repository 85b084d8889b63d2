-- ---------------------------------------------------------------- patterns of administrators, and names (src/pg/functions/redact_patterns.c, redact_all.c)

CREATE FUNCTION slm.redact_pattern_ok(pattern text)
RETURNS boolean AS 'MODULE_PATHNAME', 'slm_pg_redact_pattern_ok' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION slm.redact_pattern_ok(text) IS 'Part of slm.redact_pattern: true, or an error that says what is wrong with the pattern';

-- C code reads columns by number: columns are only ever added at the end.
CREATE TABLE slm.redact_pattern (
    name text COLLATE "C" PRIMARY KEY CHECK (name OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_]{0,62}$'),
    category text COLLATE "C" NOT NULL CHECK (category OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_]{0,62}$'),
    pattern text COLLATE "C" NOT NULL CHECK (slm.redact_pattern_ok(pattern)),
    check_digits text COLLATE "C" CHECK (check_digits OPERATOR(pg_catalog.=) ANY (ARRAY['luhn', 'mod97'])),
    set_by name NOT NULL DEFAULT current_user,
    set_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
REVOKE ALL ON slm.redact_pattern FROM PUBLIC;
COMMENT ON TABLE slm.redact_pattern IS 'Patterns of slm_redact_all that were added here; change it with slm_set_redact_pattern, read it through slm.redact_patterns';
SELECT pg_catalog.pg_extension_config_dump('slm.redact_pattern', '');

CREATE VIEW slm.redact_patterns WITH (security_barrier) AS
SELECT p.name, p.category, p.pattern, p.check_digits, p.set_by, p.set_at FROM slm.redact_pattern p;
GRANT SELECT ON slm.redact_patterns TO PUBLIC;
COMMENT ON VIEW slm.redact_patterns IS 'Patterns that administrators have added to what slm_redact_all replaces';
COMMENT ON COLUMN slm.redact_patterns.category IS 'What it is replaced by, and asked for: one of slm_redact''s or another';
COMMENT ON COLUMN slm.redact_patterns.pattern IS 'A regular expression as PostgreSQL writes them';
COMMENT ON COLUMN slm.redact_patterns.check_digits IS 'luhn or mod97: what its digits must add up to; NULL: nothing';

CREATE FUNCTION slm_set_redact_pattern(name text, pattern text, category text DEFAULT NULL, check_digits text DEFAULT NULL)
RETURNS void LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
    INSERT INTO slm.redact_pattern AS p (name, category, pattern, check_digits) VALUES ($1, coalesce($3, $1), $2, $4)
    ON CONFLICT ON CONSTRAINT redact_pattern_pkey DO UPDATE
    SET category = excluded.category, pattern = excluded.pattern, check_digits = excluded.check_digits, set_by = excluded.set_by, set_at = excluded.set_at;
END;
REVOKE EXECUTE ON FUNCTION slm_set_redact_pattern(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION slm_set_redact_pattern(text, text, text, text) IS
    'Adds a pattern to what slm_redact_all replaces, or puts another in its place: a regular expression of PostgreSQL without back-references that does not fit '
    'an empty text, ''\mNL-\d{6}\M''; it sees characters, letters of ASCII only are letters. category: as what it counts, national_id or a name of your own; NULL: '
    'name. check_digits: luhn or mod97 (ISO 7064), the digits must add up. Superusers';

CREATE FUNCTION slm_drop_redact_pattern(name text)
RETURNS boolean LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
    WITH gone AS (DELETE FROM slm.redact_pattern p WHERE p.name OPERATOR(pg_catalog.=) $1 RETURNING 1)
    SELECT EXISTS (SELECT FROM gone);
END;
REVOKE EXECUTE ON FUNCTION slm_drop_redact_pattern(text) FROM PUBLIC;
COMMENT ON FUNCTION slm_drop_redact_pattern(text) IS 'Removes a pattern of slm_redact_all; false where there was none. Superusers';

CREATE FUNCTION slm_redact_all(input text, categories text[] DEFAULT NULL, mask text DEFAULT NULL, model text DEFAULT NULL,
    threshold double precision DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_redact_all' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION slm_redact_all(text, text[], text, text, double precision, text) IS
    'As slm_redact, with the patterns of slm.redact_patterns and with names: person, organization, place and address, as a model for token classification finds '
    'them (model, default slm.entity_model; without one, and without asking for names, no model is run). Whatever is found by its form keeps its place, then '
    'patterns, then names. threshold: names whose score is lower stay (NULL: 0, or 0.5 with a model that finds what it is asked for). Every other byte stays as it is';

CREATE FUNCTION slm_redact_all_details(input text, categories text[] DEFAULT NULL, model text DEFAULT NULL,
    threshold double precision DEFAULT NULL, on_error text DEFAULT NULL, OUT kind text, OUT value text, OUT start integer, OUT "end" integer, OUT n integer)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'slm_pg_redact_all_details' LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 3;
COMMENT ON FUNCTION slm_redact_all_details(text, text[], text, double precision, text) IS
    'What slm_redact_all replaces, in order: kind, value, the places of its first and last character (from 1), and its number among the different values of its kind';
