-- Entities: a tiny tagger whose answer depends on the word alone, written here as a directory; places in characters, windows, errors, tables.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set files :srcdir '/sql/include/files.sql'
\i :files
\set tagger :srcdir '/sql/include/tagger.sql'
\i :tagger

SELECT kind, value, start, "end", round(score::numeric, 3) AS score FROM slm_entities('Anna Schmidt lives in München, Karl in New York and Berlin.', 'tagger');
-- start and end are those of substring; of text in other encodings too
SELECT kind, value, value = substring(t FOR "end" - start + 1 FROM start) AS same FROM (VALUES ('🙂 (Anna)! Grüße from München, Karl')) v(t), slm_entities(t, 'tagger');
SET slm.entity_model = 'tagger';
SELECT count(*) FROM slm_entities('in Berlin');
SELECT count(*) FROM slm_entities('in Berlin', threshold => 0.999999);
SELECT * FROM slm_entities('');
SELECT * FROM slm_entities(NULL);
SELECT jsonb_path_query_array(slm_entities_json('Karl met Anna.'), '$[*] ? (@.score > 0.9 && @.kind == "PER").value') AS people, slm_entities_json('met'), slm_entities_json('  '), slm_entities_json(NULL) IS NULL AS null;
-- longer than the model reads: windows that overlap find what one pass over each part finds, at the same places
CREATE TABLE letter AS SELECT i, (SELECT string_agg(CASE (i * j) % 7 WHEN 0 THEN 'Anna Schmidt met Karl' WHEN 3 THEN 'lives in New York' WHEN 5 THEN 'moved to München' ELSE 'and a b c' END, ', ' ORDER BY j)
  FROM generate_series(1, 20) j) AS body FROM generate_series(1, 6) i;
SELECT i, count(e.*), bool_and(value = substring(body FOR "end" - start + 1 FROM start)) AS places,
  count(e.*) = (SELECT count(*) FROM regexp_matches(body, 'Anna Schmidt|Karl|New York|München', 'g')) AS all_found
  FROM letter, slm_entities(body) e GROUP BY i, body ORDER BY i;
-- rows of a table together give what each gives alone
SELECT bool_and(e = slm_entities_json(body)) AS same, sum(jsonb_array_length(e)) AS entities FROM (SELECT body, slm_entities_json(body) AS e FROM letter OFFSET 0) x;
EXPLAIN (costs off) SELECT slm_entities_json(body) FROM letter;
SELECT i, jsonb_array_length(slm_entities_json(body, truncate => true)) FROM letter WHERE i < 3 ORDER BY i;
\x on
SELECT * FROM try($$SELECT slm_entities_json(body, truncate => false) FROM letter WHERE i = 1$$);
SELECT * FROM try($$SELECT * FROM slm_entities((SELECT body FROM letter WHERE i = 1), truncate => false)$$);
SELECT * FROM try($$SELECT * FROM slm_entities('x', threshold => 2)$$);
SELECT * FROM try($$SELECT slm_embed('x', model => 'tagger')$$);
SELECT * FROM try($$SELECT slm_classify('x', model => 'tagger')$$);
SELECT * FROM try($$SELECT slm_classify('x', ARRAY['a', 'b'], model => 'tagger')$$);
SELECT * FROM try($$SELECT slm_generate('x', model => 'tagger')$$);
RESET slm.entity_model;
SELECT * FROM try($$SELECT * FROM slm_entities('x')$$);
SELECT name FROM slm_load_model('minilm', :'minilm');
SELECT * FROM try($$SELECT * FROM slm_entities('x', 'minilm')$$);
\x off
SELECT slm_entities_json(body, 'tagger', truncate => false, on_error => 'null') IS NULL AS null FROM letter WHERE i = 1;
SELECT * FROM slm_entities((SELECT body FROM letter WHERE i = 1), 'tagger', truncate => false, on_error => 'null');
SELECT slm_drop_model('tagger'), slm_drop_model('minilm');
DROP TABLE letter, tensor, vocabulary, label;
