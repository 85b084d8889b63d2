-- Domains: answers within their CHECKs, which are read and never run before the value is there; what cannot be kept is refused by name.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SET slm.generate_model = 'smollm2';
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN stars AS positive CHECK (VALUE BETWEEN 1 AND 5);
CREATE DOMAIN share AS numeric(4,3) NOT NULL CHECK (VALUE >= 0 AND VALUE <= 1);
CREATE DOMAIN ratio AS real CHECK (VALUE > 0 AND 0.5 > VALUE);
CREATE DOMAIN colour AS text CHECK (VALUE IN ('red', 'dark green', 'it''s "blue"', 'größer'));
CREATE DOMAIN odd AS smallint CHECK (VALUE = ANY (ARRAY[1, 3, 5]) OR VALUE = 99);
CREATE DOMAIN plate AS varchar(12) CHECK (VALUE ~ '^[[:upper:]]{1,3}-[A-Z]{1,2} \d{1,4}$' AND char_length(VALUE) <= 10);
CREATE DOMAIN short AS text CHECK (length(VALUE) >= 2) CHECK (VALUE IS NOT NULL) CHECK (character_length(VALUE) < 9);
CREATE TYPE product AS (name short, stars stars, colour colour, plates plate[], share share);
COMMENT ON COLUMN product.stars IS 'how good it is';

CREATE FUNCTION tries(type text) RETURNS TABLE (type_name text, answers bigint, same boolean) LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY EXECUTE format(
    'WITH p AS MATERIALIZED (SELECT i, ''Number '' || i AS prompt FROM generate_series(1, 4) i),
          b AS MATERIALIZED (SELECT i, slm_generate_as(prompt, NULL::%1$s, temperature => 1, seed => i, max_tokens => 400) AS v FROM p)
     SELECT %1$L, count(v), bool_and(v::text = (SELECT slm_generate_as(p.prompt, NULL::%1$s, temperature => 1, seed => i, max_tokens => 400) WHERE i > 3)::text) FROM p JOIN b USING (i)', type);
END $$;
SELECT t.* FROM unnest('{positive,stars,ratio,colour,odd,plate,"stars[]",product}'::text[]) n, tries(n) t;
SELECT slm_generate_as('A lamp, very good, in dark green.', NULL::colour), slm_generate_as('I give it five stars, the best: 5.', NULL::stars);

-- refused by name, before a token is computed
CREATE FUNCTION mine(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE 'run'; END $$;
CREATE DOMAIN ran AS int CHECK (mine(VALUE));
CREATE DOMAIN late AS date CHECK (VALUE > '2020-01-01');
CREATE DOMAIN caseless AS text CONSTRAINT letters CHECK (VALUE ~* '^a');
CREATE DOMAIN wordy AS text CHECK (VALUE ~ '\mword');
CREATE DOMAIN optioned AS text CHECK (VALUE ~ '(?i)a');
CREATE DOMAIN nothing AS text CHECK (VALUE ~ '^(?!a)');
CREATE DOMAIN negated AS int CHECK (NOT VALUE = 3);
CREATE DOMAIN tenth AS real CHECK (VALUE <= 0.1);
CREATE DOMAIN never AS int CHECK (VALUE > 3) CHECK (VALUE < 2);
SELECT t.* FROM unnest('{"ran[]",late,caseless,wordy,optioned,nothing,negated,tenth,never}'::text[]) n,
  try(format('SELECT slm_generate_as(''x'', NULL::%s)', n)) t;
