-- slm_redact_all: patterns of administrators (slm_set_redact_pattern), names by a model for token classification, and forms, together.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set files :srcdir '/sql/include/files.sql'
\i :files
\set tagger :srcdir '/sql/include/tagger.sql'
\i :tagger

-- ---- without patterns and models it is slm_redact
SELECT slm_redact_all(t) = slm_redact(t) AS same, slm_redact_all(t) FROM (VALUES ('Mail jane@example.com or call +49 30 1234567; jane@example.com.')) v(t);
SELECT slm_redact_all(''), slm_redact_all(NULL) IS NULL AS null, slm_redact_all('Anna lives in Berlin');

-- ---- patterns
SELECT slm_set_redact_pattern('nl_bsn', '\mBSN:? ?(\d{9})\M', category => 'national_id'), slm_set_redact_pattern('employee', '\mE-\d{4,6}\M'),
  slm_set_redact_pattern('member', '\mM\d{8,12}\M', category => 'membership', check_digits => 'luhn'), slm_set_redact_pattern('reference', '\mREF-\d{6,20}\M', check_digits => 'mod97');
SELECT name, category, pattern, check_digits FROM slm.redact_patterns ORDER BY name;
SELECT slm_redact_all('BSN 123456782, US 078-05-1120, staff E-1234 and E-99, again E-1234, E-777777; äöü E-5555.');
SELECT slm_redact_all('Number M79927398713 is one, M79927398714 is none.'), slm_redact_all('Neither REF-539007547013 nor REF-539007547032; REF-539007547031.');
SELECT * FROM slm_redact_all_details('🙂 BSN 123456782, staff E-1234, jane@example.com, E-1234');
SELECT slm_redact_all('E-1234 of jane@example.com', ARRAY['employee']), slm_redact_all('E-1234 of jane@example.com', '{email,employee}', '<{kind} {n}>');
-- what overlaps is covered wholly: a form keeps its place, the rest of a pattern's is replaced too
SELECT slm_set_redact_pattern('line', 'secret [^.]*\.');
SELECT slm_redact_all('A secret of jane@example.com is short. No more.'), slm_redact_all('secret a.') AS whole;
SELECT slm_drop_redact_pattern('line'), slm_drop_redact_pattern('line');
-- put anew, in its place
SELECT slm_set_redact_pattern('employee', '\mEMP\d{3}\M');
SELECT slm_redact_all('E-1234 is EMP123');
-- what is no pattern
SELECT * FROM try($$SELECT slm_set_redact_pattern('a', '')$$);
SELECT * FROM try($$SELECT slm_set_redact_pattern('a', 'x*')$$);
SELECT * FROM try($$SELECT slm_set_redact_pattern('a', '(a')$$);
SELECT * FROM try($$SELECT slm_set_redact_pattern('a', '(.)\1')$$);
SELECT * FROM try(format('SELECT slm_set_redact_pattern(''a'', %L)', repeat('x', 1001)));
SELECT * FROM try(format('SELECT slm_set_redact_pattern(''a'', %L)', '(' || repeat('(\d{1,250}){1,250}', 20) || '){1,250}'));
SELECT state, message FROM try($$SELECT slm_set_redact_pattern('A b', 'x')$$);
SELECT state, message FROM try($$SELECT slm_set_redact_pattern('a', 'x', check_digits => 'mod12')$$);
SELECT * FROM try($$SELECT slm_redact_all('x', ARRAY['nothing'])$$);
SELECT name FROM slm.redact_patterns ORDER BY name;
-- a long text, many equal values: every one has its number
SELECT count(*), count(DISTINCT n), bool_and(n = (substring(value, 4)::int - 100)) AS numbers
FROM slm_redact_all_details((SELECT string_agg('EMP' || 101 + i % 700, ', ' ORDER BY i) FROM generate_series(0, 4999) i), ARRAY['employee']);

-- ---- names, by a model
SET slm.entity_model = 'tagger';
SELECT slm_redact_all('Anna Schmidt lives in München, Karl in New York. Anna Schmidt met Karl, EMP123, a@b.de.');
SELECT slm_redact_all('Anna met Karl in New York', ARRAY['person']), slm_redact_all('Anna met Karl in New York, EMP123', ARRAY['place', 'employee'], mask => '***');
SELECT * FROM slm_redact_all_details('🙂 Anna lives in New York');
SELECT slm_redact_all('Anna met Karl', threshold => 0.999999), slm_redact_all('Anna met Karl', ARRAY['email']);
-- in windows, in tables, one by one
CREATE TABLE letter AS SELECT i, (SELECT string_agg(CASE (i * j) % 7 WHEN 0 THEN 'Anna Schmidt met Karl' WHEN 3 THEN 'EMP12' || i || ' lives in New York' WHEN 5 THEN 'a@b.de moved to München' ELSE 'and a b c' END, ', ' ORDER BY j)
  FROM generate_series(1, 20) j) AS body FROM generate_series(1, 6) i;
SELECT bool_and(r = slm_redact_all(body)) AS same, bool_or(r ~ 'Anna|Karl|York|München|EMP1|a@') AS left_over, max(length(r)) FROM (SELECT body, slm_redact_all(body) AS r FROM letter OFFSET 0) x;
EXPLAIN (costs off) SELECT slm_redact_all(body) FROM letter;
RESET slm.entity_model;
SELECT slm_redact_all('Anna met Karl', model => 'tagger');
SELECT * FROM try($$SELECT slm_redact_all('Anna met Karl', ARRAY['person'])$$);
SELECT * FROM try($$SELECT slm_redact_all('Anna met Karl', threshold => 2)$$);

-- ---- rights: everybody sees and uses them, superusers write them
CREATE ROLE slm_redact_user;
SET ROLE slm_redact_user;
SELECT slm_redact_all('EMP123'), (SELECT count(*) FROM slm.redact_patterns);
SELECT state, message FROM try($$SELECT slm_set_redact_pattern('b', 'x')$$);
SELECT state, message FROM try($$SELECT slm_drop_redact_pattern('employee')$$);
SELECT state, message FROM try($$INSERT INTO slm.redact_pattern (name, category, pattern) VALUES ('b', 'b', 'x')$$);
RESET ROLE;
DROP ROLE slm_redact_user;
SELECT slm_drop_model('tagger');
DROP TABLE letter, tensor, vocabulary, label;
