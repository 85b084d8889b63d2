-- Answers that are values of a column (values_of), and typed answers that begin with given words (prefill) or go behind others (suffix).
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SET slm.generate_model = 'smollm2';
CREATE SCHEMA shop;
CREATE TABLE shop.categories (id int PRIMARY KEY, name text, code varchar(3), "Odd ""name" text COLLATE "C", level int);
INSERT INTO shop.categories VALUES (1, 'billing', 'bil', 'it''s "this"', 10), (2, 'delivery', 'del', 'or \that', 20), (3, 'billing', NULL, NULL, 20), (4, 'returns', 'ret', E'two\nlines', NULL);

-- ---- one of the values of a column; several for an array
SELECT slm_generate_as('My parcel has not arrived. Which department: billing, delivery or returns?', NULL::text, values_of => 'shop.categories.name') AS one;
SELECT v <@ ARRAY['billing', 'delivery', 'returns'] AND cardinality(v) = (SELECT count(DISTINCT x) FROM unnest(v) x) AS distinct_values
FROM slm_generate_as('Which departments are there?', NULL::text[], values_of => 'shop.categories.name') v;
SELECT slm_generate_as('A number', NULL::int, values_of => 'shop.categories.level') IN (10, 20) AS level, pg_typeof(slm_generate_as('A code', NULL::varchar(3), values_of => 'shop.categories.code'));
-- whatever is sampled, odd values too
SELECT count(*) AS answers, bool_and(v IN (SELECT "Odd ""name" FROM shop.categories)) AS all_values
FROM (SELECT slm_generate_as('Number ' || i, NULL::text, values_of => 'shop.categories."Odd ""name"', temperature => 2, seed => i) AS v FROM generate_series(1, 12) i OFFSET 0) s;
-- the table as it is when the statement begins
INSERT INTO shop.categories VALUES (5, 'other', 'oth', NULL, 30);
SELECT slm_generate_as('other', NULL::text, values_of => 'shop.categories.name', prefill => '"o', show_schema => false) AS new_value;
SET search_path = shop, public;
SELECT slm_generate_as('x', NULL::text, values_of => 'categories.name', prefill => '"r') AS by_path;
RESET search_path;
SELECT slm_extract('Please send it back to returns, not to billing', '{"where": {"values_of": "shop.categories.name", "description": "Where to?"}}');
SELECT slm_classify('I was charged twice', ARRAY(SELECT DISTINCT name FROM shop.categories ORDER BY 1)) AS as_labels;

-- ---- names that are none
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'name')$$);
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => '')$$);
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'shop.categories.name; DROP TABLE x')$$);
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'shop.categories.nothing')$$);
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'shop.categories.ctid')$$);
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'shop.nothing.name')$$);
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::date, values_of => 'shop.categories.name')$$);
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::shop.categories, values_of => 'shop.categories.name')$$);
SELECT * FROM try($$SELECT slm_extract('x', '{"a": {"values_of": "shop.categories.level2"}}')$$);
CREATE TABLE shop.many AS SELECT i AS n, NULL::text AS empty FROM generate_series(1, 10001) i;
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'shop.many.n')$$);
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'shop.many.empty')$$);
DELETE FROM shop.many WHERE n > 9999;
SELECT slm_generate_as('x', NULL::int, values_of => 'shop.many.n', show_schema => false) BETWEEN 1 AND 9999 AS many;

-- ---- the caller's rights
CREATE ROLE slm_values_reader;
GRANT USAGE ON SCHEMA shop TO slm_values_reader;
SELECT slm_grant_model('smollm2', 'slm_values_reader');
SET ROLE slm_values_reader;
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'shop.categories.name')$$);
RESET ROLE;
GRANT SELECT (name) ON shop.categories TO slm_values_reader;
ALTER TABLE shop.categories ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_some ON shop.categories TO slm_values_reader USING (name = 'returns');
SET ROLE slm_values_reader;
SELECT slm_generate_as('My bill is wrong. billing or returns?', NULL::text, values_of => 'shop.categories.name') AS what_may_be_seen;
SELECT * FROM try($$SELECT slm_generate_as('x', NULL::text, values_of => 'shop.categories.code')$$);
RESET ROLE;

-- ---- prefill: the answer begins with it; suffix: behind the prompt
\set person '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "city": {"enum": ["Paris", "Rome", "Berlin"]}}, "required": ["name", "city"], "additionalProperties": false}'
SELECT slm_generate_json('Anna lives in Rome.', :'person', prefill => '{"city":"Berlin","na') ->> 'city' AS begun,
  slm_generate_json('Anna lives in Rome.', :'person', prefill => '') = slm_generate_json('Anna lives in Rome.', :'person') AS empty_is_none,
  slm_generate_json('Anna lives in Rome.', :'person', prefill => '{"city":"Rome","name":"Anna"}') AS complete;
SELECT slm_generate_as('How much?', NULL::int, prefill => '12')::text ~ '^12' AS number;
SELECT slm_generate_matching('When was it, 3 May 2021?', '[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]', prefill => '2021-0') AS day,
  slm_generate_matching('Is the sky blue?', grammar => 'root ::= "it is " ("blue" | "green") "."', prefill => 'it is gr') AS forced;
SELECT slm_generate_json(body, :'person', suffix => E'\n\nThe city is never Rome.') = slm_generate_json(body || E'\n\nThe city is never Rome.', :'person') AS behind
FROM (VALUES ('Ben lives in Paris.')) t(body);
-- the same one by one and in a batch
CREATE TABLE note AS SELECT i AS id, format('Note %s: %s lives in Paris.', i, (ARRAY['Anna', 'Ben', 'Chris'])[i % 3 + 1]) AS body FROM generate_series(1, 9) i;
SELECT count(*) AS rows, count(*) FILTER (WHERE b.j <> slm_generate_json(b.body, :'person', prefill => '{"city":"P', suffix => ' Now.') OR b.j ->> 'city' <> 'Paris') AS differ
FROM (SELECT id, body, slm_generate_json(body, :'person', prefill => '{"city":"P', suffix => ' Now.') AS j FROM note OFFSET 0) b;
SELECT * FROM try($$SELECT slm_generate_json('x', '{"enum": ["a", "b"]}', prefill => '"c')$$);
SELECT * FROM try($$SELECT slm_generate_json('x', '{"type": "array"}', prefill => '[ ')$$);
SELECT * FROM try($$SELECT slm_generate_matching('x', '[a-c]+', prefill => 'abcd')$$);
SELECT slm_generate_matching('x', '[a-c]{4}', prefill => 'abc', max_tokens => 1, chat => false) ~ '^abc[abc]$' AS raw;
DROP OWNED BY slm_values_reader;
DROP ROLE slm_values_reader;
