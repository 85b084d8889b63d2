-- Typed answers: JSON by a schema, values of SQL types, texts by an expression or a grammar; what is refused; batches, errors of rows.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SET slm.generate_model = 'smollm2';
\set person '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}, "city": {"enum": ["Paris", "Rome", "Berlin"]}}, "required": ["name", "age", "city"], "additionalProperties": false}'

-- JSON
SELECT slm_generate_json('Anna is 31 years old and lives in Rome.', :'person');
SELECT slm_generate_json('Anna is 31 years old and lives in Rome.', :'person', show_schema => false, system => 'Answer in JSON.');
SELECT slm_generate_json('Anna is 31 years old. {"name":', :'person', chat => false);
SELECT slm_generate_json('Say something.', '{"const": {"fixed": [1, 2]}}'), slm_generate_json('Say something.', '{"enum": ["a", 7, null]}');
SELECT slm_generate_json(NULL, '{}') IS NULL AS null_prompt, slm_generate_json('x', NULL) IS NULL AS null_schema;

-- SQL types
CREATE TYPE mood AS ENUM ('good', 'bad', 'so "so"');
CREATE DOMAIN code AS varchar(3);
CREATE TYPE person AS (name varchar(20), born date, mood mood, codes code[]);
COMMENT ON COLUMN person.born IS 'day of birth';
CREATE TABLE item (id int NOT NULL, price numeric(6,2) NOT NULL, label text);
SELECT slm_generate_as('Is the sky blue?', NULL::boolean) AS b, slm_generate_as('3 May 2021', NULL::date) AS d, slm_generate_as('It costs 120.50 Euro', NULL::numeric(8,2)) AS n,
  slm_generate_as('I am so happy!', NULL::mood) AS m, pg_typeof(slm_generate_as('x', NULL::mood)), slm_generate_as(NULL, NULL::int) AS none;
SELECT (slm_generate_as('Anna Smith was born on 3 May 1990 and is happy.', NULL::person)).*;
SELECT slm_generate_as('From 3 to 7', NULL::int4range) AS r, slm_generate_as('red and green', NULL::mood[]) AS a, (slm_generate_as('A lamp for 12.99', NULL::item)).price IS NOT NULL AS item;

-- whatever is sampled is a value of the type, and the same one by one and in a batch
CREATE FUNCTION same(type text) RETURNS TABLE (type_name text, answers bigint, same boolean) LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY EXECUTE format(
    'WITH p AS MATERIALIZED (SELECT i, ''Number '' || i AS prompt FROM generate_series(1, 3) i),
          b AS MATERIALIZED (SELECT i, slm_generate_as(prompt, NULL::%1$s, temperature => 1, top_p => 0.95, seed => i, max_tokens => 300) AS v FROM p)
     SELECT %1$L, count(v), bool_and(v::text = (SELECT slm_generate_as(p.prompt, NULL::%1$s, temperature => 1, top_p => 0.95, seed => i, max_tokens => 300) WHERE i > 2)::text) FROM p JOIN b USING (i)', type);
END $$;
SELECT s.* FROM unnest('{boolean,smallint,integer,bigint,"numeric(8,3)","numeric(3,3)",numeric,real,"double precision",varchar(12),char(5),date,timestamp,timestamptz,time,timetz,interval,uuid,inet,mood,code,"int4range","daterange"}'::text[]) t, same(t) s;

-- a regular expression, a grammar
SELECT slm_generate_matching('When was it, 3 May 2021?', '[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]'), slm_generate_matching('Say x', 'a{3}b|c');
SELECT slm_generate_matching('Is the sky blue?', grammar => 'root ::= "it is " ("blue" | "green") "."');

-- refused before anything is computed
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::bytea)$$);
SELECT * FROM try($$SELECT slm_generate_json('x', '{"type": "nothing"}')$$);
SELECT * FROM try($$SELECT slm_generate_json('x', '{"allOf": [{"type": "string"}, {"type": "null"}]}')$$);
SELECT * FROM try($$SELECT slm_generate_json('x', '{"unevaluatedItems": false, "type": "array", "contains": {"$dynamicRef": "#x"}}')$$);
SELECT * FROM try($$SELECT slm_generate_matching('x', '(a)\1')$$);
SELECT * FROM try($$SELECT slm_generate_matching('x', 'a(')$$);
SELECT * FROM try($$SELECT slm_generate_matching('x')$$);
SELECT * FROM try($$SELECT slm_generate_matching('x', 'a', grammar => 'root ::= "a"')$$);
SELECT * FROM try($$SELECT slm_generate_matching('x', grammar => 'start ::= "a"')$$);
-- a call with untyped arguments is never misread: slm_generate's second argument is a model's name, slm_generate_as needs a type
SELECT * FROM try($$SELECT slm_generate_as('x', 'y')$$);
SELECT * FROM try($$SELECT slm_generate('x', 'y')$$);
PREPARE typed AS SELECT slm_generate_as($1, $2::date);
EXECUTE typed('3 May 2021', NULL);
EXECUTE typed('3 May 2021', '2000-01-01');
SELECT * FROM try($$PREPARE untyped AS SELECT slm_generate_as($1, $2)$$);

-- an answer that is cut is the row's error
SELECT * FROM try($$SELECT slm_generate_json('Anna is 31 years old.', '{"type": "string"}', max_tokens => 3)$$);
SELECT slm_generate_json('Anna is 31 years old.', '{"type": "string", "minLength": 50}', max_tokens => 3, on_error => 'null') IS NULL AS cut;

-- in the batch node, in any order
CREATE TABLE note AS SELECT i AS id, format('Note %s: %s was born in %s.', i, (ARRAY['Anna', 'Ben', 'Chris'])[i % 3 + 1], 1950 + i) AS body FROM generate_series(1, 24) i;
EXPLAIN (COSTS OFF) SELECT id, slm_generate_as(body, NULL::mood) FROM note;
SET slm.enable_batch = off;
CREATE TABLE alone AS SELECT id, slm_generate_json(body, :'person', temperature => 0.7, seed => id) AS j, slm_generate_as(body, NULL::int4) AS n FROM note WHERE id % 4 = 0;
RESET slm.enable_batch;
SELECT count(*) AS differ FROM (SELECT id, slm_generate_json(body, :'person', temperature => 0.7, seed => id) AS j, slm_generate_as(body, NULL::int4) AS n FROM note ORDER BY id DESC) b JOIN alone a USING (id)
  WHERE a.j IS DISTINCT FROM b.j OR a.n IS DISTINCT FROM b.n;
