-- No hint names an argument that the function does not have: every function that reads a text is called with texts that are too long and with
-- wrong arguments, one by one, and "name =>" in each hint is looked up among the arguments of that function.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT name FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
SET slm.generate_model = 'smollm2';
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE nobody AS ENUM ();
CREATE TYPE pair AS (product text, amount numeric);
SELECT version FROM slm_train_classifier('mood', 'SELECT ''a day '' || m || '' '' || i, m FROM generate_series(1, 8) i, unnest(ARRAY[''good'', ''bad'']) m');

-- the functions of the extension that a row calls: they have the argument on_error, and it is the last
CREATE VIEW row_function AS
SELECT p.oid::regprocedure AS f, p.proname, p.pronargs, p.pronargdefaults, p.proargnames[1:p.pronargs] AS names,
       ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY u(t, n) ORDER BY n) AS types
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'slm_pg'
WHERE p.prokind = 'f' AND 'on_error' = ANY (p.proargnames) AND p.proname <> 'slm_create_trigger';
SELECT proname, names[pronargs] AS last, 'truncate' = ANY (names) AS truncates FROM row_function ORDER BY proname;
-- every other function of the extension that takes a text of rows is in this list: administration, vectors, and what no text can make fail
SELECT p.proname FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'slm_pg'
WHERE p.oid NOT IN (SELECT f FROM row_function) AND p.proargnames && '{input,prompt,a,query,documents,messages,tokens,embedding}' ORDER BY 1;

-- one function a name, but for vectors and fields, of which an untyped parameter is text: untyped parameters cannot miss
SELECT p.proname, count(*) FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'slm_pg' GROUP BY 1 HAVING count(*) > 1 ORDER BY 1;
-- those that the batch node computes, of a column of each type that they take
CREATE TABLE source (input text, messages jsonb, tokens int[], embedding real[], list text[]);
CREATE FUNCTION is_batched(f regprocedure) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE call text; line text;
BEGIN
  SELECT format('%s(%s)', proname, string_agg(CASE WHEN n = 1 OR name IN ('b', 'documents') THEN CASE type WHEN 'text' THEN 'input' WHEN 'jsonb' THEN 'messages' WHEN 'integer[]' THEN 'tokens'
      WHEN 'real[]' THEN 'embedding' ELSE 'list' END WHEN name = 'as_enum' THEN 'NULL::mood' WHEN name = 'as_type' THEN 'NULL::date' WHEN name = 'schema' THEN '''{}''' WHEN name = 'labels' THEN '''{a,b}''' WHEN name = 'questions' THEN '''[{"type": "yes_no", "question": "is about money"}]''' WHEN name = 'fields' THEN format('%L::%s', CASE type WHEN 'text[]' THEN '{a}' ELSE '["a"]' END, type) ELSE '''mood''' END, ', ' ORDER BY n)) INTO call
    FROM row_function r, unnest(names, types) WITH ORDINALITY u(name, type, n) WHERE r.f = is_batched.f AND n <= greatest(1, pronargs - pronargdefaults) GROUP BY proname;
  FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) SELECT ' || call || ' FROM source' LOOP
    IF line LIKE '%SLM Batch%' THEN RETURN true; END IF;
  END LOOP;
  RETURN false;
END $$;
SELECT is_batched(f) AS batched, string_agg(proname, ' ' ORDER BY proname) FROM row_function GROUP BY 1 ORDER BY 1;
DROP FUNCTION is_batched;
DROP TABLE source;

-- a value for an argument: the text of the row, what must be given, or nothing
CREATE FUNCTION value_of(f regprocedure, name text, type text, input text) RETURNS text LANGUAGE sql AS $$
SELECT CASE
  WHEN name IN ('input', 'prompt', 'query', 'a') THEN input
  WHEN name = 'b' THEN '''word'''
  WHEN name = 'target' THEN '''German'''
  WHEN name IN ('condition', 'rubric') THEN '''is about money'''
  WHEN name = 'state' THEN format('%s::text', input)
  WHEN name = 'questions' THEN '''[{"type": "yes_no", "question": "is about money"}]'''
  WHEN name IN ('inputs', 'documents') THEN format('ARRAY[%s]', input)
  WHEN name = 'messages' THEN format('jsonb_build_array(jsonb_build_object(''role'', ''user'', ''content'', %s))', input)
  WHEN name = 'tokens' THEN 'ARRAY[1, -1]'
  WHEN name = 'embedding' AND f::text LIKE 'slm_classify_embedding%' THEN 'ARRAY[1, 2]::real[]'
  WHEN name = 'as_enum' THEN 'NULL::mood'
  WHEN name = 'as_type' THEN CASE WHEN f::text LIKE 'slm_extract%' THEN 'NULL::pair' ELSE 'NULL::boolean' END
  WHEN name = 'fields' THEN format('%L::%s', CASE type WHEN 'text[]' THEN '{product}' ELSE '["product"]' END, type)
  WHEN name = 'schema' THEN '''{"type": "boolean"}'''
  WHEN name = 'regex' THEN '''yes|no'''
  WHEN name = 'truncate' THEN 'false'
  WHEN name IN ('max_tokens', 'max_words') THEN '1'
  WHEN name = 'on_error' THEN '''error'''
  WHEN name = 'digest' THEN 'slm_model_digest(''minilm'')'
  WHEN name = 'model' AND f::text LIKE '%\_pinned(%' THEN '''minilm'''
  WHEN name = 'truncate' THEN 'false'
  WHEN name = 'labels' THEN 'ARRAY[''good'', ''bad'']'
  WHEN name = 'classifier' AND type = 'text' AND f::text LIKE 'slm_classify_embedding%' THEN '''mood''' END $$;
CREATE FUNCTION call_of(f regprocedure, input text, argument text DEFAULT NULL, wrong text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
SELECT format('SELECT * FROM %s(%s)', proname, string_agg(name || ' => ' || v, ', ' ORDER BY n))
FROM row_function r, unnest(names, types) WITH ORDINALITY u(name, type, n),
  LATERAL (SELECT CASE WHEN name = argument THEN wrong ELSE value_of(r.f, name, type, input) END AS v) w
WHERE r.f = call_of.f AND v IS NOT NULL GROUP BY proname $$;
CREATE FUNCTION hint_of(call text, OUT state text, OUT message text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE call;
EXCEPTION WHEN others THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END $$;

CREATE TABLE wrong (name text, value text);
INSERT INTO wrong VALUES ('model', $$'nothing'$$), ('model', $$'minilm'$$), ('model', $$'smollm2'$$), ('model', $$''$$), ('max_tokens', '0'), ('max_tokens', '2000000000'),
  ('temperature', '-1'), ('top_k', '-1'), ('top_p', '0'), ('min_p', '1'), ('repeat_penalty', '0'), ('stop', $$ARRAY['']$$), ('stop', $$ARRAY[NULL, 'x']$$),
  ('stop', $$(SELECT array_agg(i::text) FROM generate_series(1, 65) i)$$), ('chat', 'false'), ('system', $$repeat('word ', 20000)$$), ('overlap', '256'), ('overlap', '-1'),
  ('max_words', '0'), ('labels', $$'{}'$$), ('labels', $$ARRAY['a', 'a']$$), ('labels', $$ARRAY['a', NULL]$$), ('labels', $$ARRAY['']$$), ('labels', $$ARRAY[['a'], ['b']]$$),
  ('labels', $$(SELECT array_agg(i::text) FROM generate_series(1, 10001) i)$$), ('labels', 'NULL'), ('as_enum', 'NULL::nobody'),
  ('descriptions', $$'{}'$$), ('descriptions', $$'1'$$), ('descriptions', $$'{"worse": null}'$$), ('descriptions', $$'{"good": 1}'$$), ('descriptions', $$'[{"no": "label"}]'$$),
  ('descriptions', $$'["good", "good"]'$$), ('descriptions', $$'{"": "x"}'$$), ('descriptions', $$(SELECT jsonb_object_agg(i, i) FROM generate_series(1, 10001) i)$$),
  ('examples', $$'{}'$$), ('examples', $$'[{"text": "x"}]'$$), ('examples', $$'[{"text": "x", "label": "worse"}]'$$),
  ('examples', $$(SELECT jsonb_agg(jsonb_build_object('text', 'x', 'label', 'good')) FROM generate_series(1, 1001))$$), ('method', $$'magic'$$), ('method', $$'direct'$$), ('method', $$'embedding'$$),
  ('threshold', '2'), ('threshold', $$'NaN'$$), ('classifier', $$'nothing'$$), ('classifier', $$'mood'$$), ('cascade', $$'nothing'$$), ('shortlist', '1'), ('shortlist', '3'), ('shortlist_model', $$'minilm'$$), ('messages', $$'{}'$$), ('messages', $$'[]'$$), ('messages', $$'[{"role": "boss", "content": ""}]'$$),
  ('tokens', 'ARRAY[NULL]::int[]'), ('embedding', $$array_fill('NaN'::real, ARRAY[384])$$), ('on_error', $$'nothing'$$), ('truncate', 'false'),
  ('as_type', 'NULL::point'), ('fields', $$''$$), ('fields', $$'["a", "a"]'$$), ('fields', $$'{"a": "boolean"}'$$), ('copy', 'false'), ('target', $$' '$$), ('schema', $$'{"type": "number", "minimum": 2, "maximum": 1}'$$), ('schema', $$'{"$dynamicRef": "#x"}'$$), ('regex', $$'(a'$$), ('regex', $$'\b'$$), ('grammar', $$'root ::= nowhere'$$);
INSERT INTO wrong VALUES ('condition', $$' '$$), ('condition', 'NULL'), ('rubric', $$''$$), ('low', '1'), ('high', '-1'), ('levels', $$'{a}'$$), ('levels', $$ARRAY['a', 'a']$$), ('levels', $$ARRAY['a', NULL]$$),
  ('prompt_name', $$'nothing'$$), ('prompt_name', $$'slm_translate'$$), ('variables', $$'{}'$$), ('digest', $$'nothing'$$), ('digest', 'NULL'), ('questions', $$'{}'$$), ('questions', $$'[{"type": "magic"}]'$$), ('questions', $$'[{"type": "choice", "options": ["a"]}]'$$);
-- what cannot be wrong
SELECT DISTINCT name FROM row_function, unnest(names) name WHERE name NOT IN (SELECT name FROM wrong) ORDER BY name;

CREATE TABLE said AS
SELECT f, names, argument, h.* FROM (
  SELECT f, names, NULL AS argument, call_of(f, $$repeat('word ', 20000)$$) AS call FROM row_function
  UNION ALL SELECT f, names, NULL, call_of(f, $$''$$) FROM row_function
  UNION ALL SELECT f, names, NULL, call_of(f, $$repeat('x', 20000000)$$) FROM row_function WHERE proname IN ('slm_generate', 'slm_count_tokens', 'slm_chunk')
  UNION ALL SELECT r.f, names, w.name, call_of(r.f, CASE n WHEN 1 THEN $$'word'$$ ELSE $$repeat('word ', 20000)$$ END, w.name, w.value)
    FROM row_function r JOIN wrong w ON w.name = ANY (r.names), generate_series(1, 2) n) c, LATERAL hint_of(c.call) h;
-- the calls are right but for what is wrong with them
SELECT f, message FROM said WHERE state IN ('42883', '42601') OR state LIKE 'XX%';
-- each function has told of something; these arguments are never wrong by themselves
SELECT r.f FROM row_function r WHERE NOT EXISTS (SELECT FROM said s WHERE s.f = r.f AND s.hint <> '');
SELECT DISTINCT argument FROM said GROUP BY argument, f HAVING bool_and(state IS NULL) ORDER BY 1;
-- and no hint names what is not there
SELECT DISTINCT f, named[1] AS argument, hint FROM said, regexp_matches(hint, '(\w+) =>', 'g') named WHERE NOT named[1] = ANY (names) AND hint NOT LIKE '%slm\_%(%' || named[1] || ' =>%';
SELECT count(*) > 100 AS many, count(DISTINCT hint) > 25 AS different FROM said WHERE hint LIKE '%=>%' OR hint <> '';
-- texts that are too long: all of them
SELECT DISTINCT f::text, hint FROM said WHERE argument IS NULL AND state = '54000' ORDER BY f, hint;
DROP TABLE said, wrong;
DROP FUNCTION hint_of, call_of, value_of;
DROP VIEW row_function;
SELECT slm_drop_classifier('mood');
DROP TYPE mood, nobody, pair;
SELECT slm_drop_model('minilm');
