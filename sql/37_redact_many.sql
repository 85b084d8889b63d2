-- 500 messages in five languages, made of sentences with values of every kind that has a form: each is found, and no other byte changes
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
-- n digits that follow from i
CREATE FUNCTION digits(i int, n int, salt text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT string_agg((('x' || substr(md5(salt || i || '/' || k), 1, 7))::bit(28)::int % 10)::text, '' ORDER BY k) FROM generate_series(1, n) k $$;
-- an IBAN: letters count from A = 10, and its number leaves 1 when it is divided by 97
CREATE FUNCTION iban(country text, bban text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT country || lpad((98 - string_agg(CASE WHEN c ~ '[A-Z]' THEN (ascii(c) - 55)::text ELSE c END, '' ORDER BY k)::numeric % 97)::text, 2, '0') || bban
FROM string_to_table(bban || country || '00', NULL) WITH ORDINALITY s(c, k) $$;
CREATE FUNCTION groups(s text, n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT rtrim(regexp_replace(s, format('(.{%s})', n), '\1 ', 'g')) $$;
-- a card's number: every second digit twice, and all of them make tens
CREATE FUNCTION card(first15 text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT first15 || (10 - sum(CASE WHEN k % 2 = 0 THEN c::int ELSE c::int * 2 / 10 + c::int * 2 % 10 END) % 10) % 10 FROM string_to_table(first15, NULL) WITH ORDINALITY s(c, k) $$;
CREATE FUNCTION value_of(kind text, lang int, i int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE kind
  WHEN 'email' THEN (ARRAY['anna.smith', 'j_mueller', 'elodie-d', 'PEDRO', 'g.rossi+shop'])[lang] || i || '@mail' || i % 7 || '.example.' || (ARRAY['com', 'de', 'fr', 'es', 'it'])[lang]
  WHEN 'url' THEN (ARRAY['https://shop.example.com/o/', 'http://example.de/?q=', 'https://www.example.fr/', 'https://tienda.example.es:8080/p/', 'https://example.it/a#'])[lang] || i
  WHEN 'ip' THEN CASE i % 2 WHEN 0 THEN format('192.0.%s.%s', i % 256, i * 7 % 256) ELSE '2001:db8::' || to_hex(i + 16) END
  WHEN 'card' THEN CASE i % 2 WHEN 0 THEN groups(card('4' || digits(i, 14, 'card')), 4) ELSE card('51' || digits(i, 13, 'card')) END
  WHEN 'iban' THEN (SELECT CASE i % 2 WHEN 0 THEN b ELSE groups(b, 4) END FROM (SELECT iban((ARRAY['GB', 'DE', 'FR', 'ES', 'IT'])[lang],
    (ARRAY['NWBK', '', '', '', 'X'])[lang] || digits(i, (ARRAY[14, 18, 23, 20, 22])[lang], 'iban')) AS b) x)
  WHEN 'phone' THEN (ARRAY['+44 20 7946 0', '+49 30 9018', '+33 6 12 34 5', '+34 612 34 5', '+39 06 6982 '])[lang] || (ARRAY[digits(i, 3, 'p'), digits(i, 4, 'p'), digits(i, 1, 'p') || ' ' || digits(i, 2, 'q'),
    digits(i, 1, 'p') || ' ' || digits(i, 2, 'q'), digits(i, 4, 'p')])[lang]
  WHEN 'national_id' THEN CASE lang
    WHEN 1 THEN format('%s-%s-%s', lpad((100 + i % 500)::text, 3, '0'), lpad((1 + i % 99)::text, 2, '0'), lpad((1000 + i)::text, 4, '0'))
    WHEN 4 THEN (SELECT n || substr('TRWAGMYFPDXBNJZSQVHLCKE', 1 + n % 23, 1) FROM (SELECT 10000000 + i * 7919 AS n) x)
    ELSE (SELECT n::text || lpad((97 - n % 97)::text, 2, '0') FROM (SELECT (1 + i % 2)::text || lpad((40 + i % 60)::text, 2, '0') || lpad((1 + i % 12)::text, 2, '0') || '75' || lpad((1 + i % 600)::text, 3, '0')
      || lpad((1 + i)::text, 3, '0') AS s) y, LATERAL (SELECT s::bigint AS n) x) END
  WHEN 'birth_date' THEN CASE WHEN i % 2 = 0 THEN format('%s.%s.%s', lpad((1 + i % 28)::text, 2, '0'), lpad((1 + i % 12)::text, 2, '0'), 1940 + i % 60)
    ELSE format((ARRAY['%s May %s', '%s. Mai %s', '%s mai %s', '%s de mayo de %s', '%s maggio %s'])[lang], 1 + i % 28, 1940 + i % 60) END END $$;
CREATE TABLE sentence (lang int, kind text, words text);
INSERT INTO sentence VALUES
  (1, 'email', 'Please write to {} – thank you'), (1, 'url', 'See {} for the offer'), (1, 'ip', 'It came from {} at 10:30'), (1, 'card', 'I paid €12.50 by card {} on 3 July'), (1, 'iban', 'My account is {}; order 4711'),
  (1, 'phone', 'Call me: {}'), (1, 'national_id', 'My SSN is {}'), (1, 'birth_date', 'I was born on {}'),
  (2, 'email', 'Bitte schreiben Sie an {} – danke'), (2, 'url', 'Siehe {} für das Angebot'), (2, 'ip', 'Der Zugriff kam von {} um 10:30 Uhr'), (2, 'card', 'Bezahlt habe ich 12,50 € mit Karte {}'), (2, 'iban', 'Mein Konto: {}; Bestellung 4711'),
  (2, 'phone', 'Rufen Sie mich an: {}'), (2, 'birth_date', 'Ich bin geboren am {}'),
  (3, 'email', 'Écrivez à {} – merci'), (3, 'url', 'Voir {} pour l’offre'), (3, 'ip', 'L’accès venait de {} à 10h30'), (3, 'card', 'J’ai payé 12,50 € par carte {}'), (3, 'iban', 'Mon compte : {} ; commande 4711'),
  (3, 'phone', 'Appelez-moi : {}'), (3, 'national_id', 'Mon numéro de sécurité sociale est {}'), (3, 'birth_date', 'Je suis né le {}'),
  (4, 'email', 'Escriba a {} – ¡gracias!'), (4, 'url', 'Vea {} para la oferta'), (4, 'ip', 'El acceso vino de {} a las 10:30'), (4, 'card', 'Pagué 12,50 € con la tarjeta {}'), (4, 'iban', 'Mi cuenta es {}; pedido 4711'),
  (4, 'phone', 'Llámeme al {}'), (4, 'national_id', 'Mi DNI es {}'), (4, 'birth_date', 'Soy nacido el {}'),
  (5, 'email', 'Scriva a {} – grazie'), (5, 'url', 'Veda {} per l’offerta'), (5, 'ip', 'L’accesso veniva da {} alle 10:30'), (5, 'card', 'Ho pagato 12,50 € con la carta {}'), (5, 'iban', 'Il mio conto è {}; ordine 4711'),
  (5, 'phone', 'Mi chiami al {}'), (5, 'birth_date', 'Sono nato il {}');
-- four sentences a message, another four in each
CREATE TABLE message AS
SELECT i, lang, string_agg(replace(words, '{}', value_of(kind, lang, i)), E'.\n' ORDER BY place) AS body, string_agg(replace(words, '{}', format('[%s_1]', upper(kind))), E'.\n' ORDER BY place) AS expected,
       array_agg(kind ORDER BY kind COLLATE "C") AS kinds
FROM (SELECT i, 1 + i % 5 AS lang, s.kind, s.words, md5(i || s.kind) AS place, row_number() OVER (PARTITION BY i ORDER BY md5(s.kind || i)) AS n
      FROM generate_series(1, 500) i JOIN sentence s ON s.lang = 1 + i % 5) x WHERE n <= 4 GROUP BY i, lang;
SELECT body, expected FROM message WHERE i IN (1, 2, 3, 4, 5) ORDER BY i;
SELECT lang, count(*) AS messages, count(*) FILTER (WHERE slm_redact(body) = expected) AS "exact, no other byte changed" FROM message GROUP BY lang ORDER BY lang;
SELECT kind, count(*) AS "values", count(*) FILTER (WHERE found) AS found
FROM (SELECT k AS kind, EXISTS (SELECT FROM slm_redact_details(body) d WHERE d.kind = k AND d.value = value_of(k, lang, i)) AS found FROM message, unnest(kinds) k) x GROUP BY kind ORDER BY kind COLLATE "C";
SELECT k AS missed, lang, value_of(k, lang, i), body FROM message, unnest(kinds) k WHERE NOT EXISTS (SELECT FROM slm_redact_details(body) d WHERE d.kind = k AND d.value = value_of(k, lang, i)) ORDER BY i LIMIT 5;
SELECT d.kind AS too_much, d.value, body FROM message, slm_redact_details(body) d WHERE d.value <> ALL (SELECT value_of(k, lang, i) FROM unnest(kinds) k) ORDER BY i LIMIT 5;
