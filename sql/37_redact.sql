-- Personal values of a known form: replaced and listed.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
SELECT slm_redact('Mail jane@example.com or call +49 30 1234567; jane@example.com again, then bob@example.org.');
SELECT slm_redact('IBAN DE89 3704 0044 0532 0130 00, card 4111 1111 1111 1111, born on 12 March 1980, SSN 078-05-1120, host 192.168.0.1, https://example.com/x.');
SELECT slm_redact('Meine IBAN ist DE89 3704 0044 0532 0130 00 – geboren am 1. März 1975, Grüße an jürgen@exämple.de', ARRAY['iban', 'email']);
SELECT slm_redact('Mail jane@example.com, bob@example.org', mask => '<{kind} no. {n}>'), slm_redact('Mail jane@example.com', mask => ''), slm_redact('Mail jane@example.com', mask => '{n}{n}{x}{KIND');
SELECT slm_redact('Order 4711-0815 of 2026-11-26: 1,234.56 EUR, IBAN DE89 3704 0044 0532 0130 01'), slm_redact(''), slm_redact(NULL) IS NULL AS null;
SELECT kind, value, start, "end", n, substring(t FROM start FOR "end" - start + 1) = value AS there
    FROM (VALUES ('Größe M: jane@example.com, +1-202-555-0143 und jane@example.com; 4111111111111111')) v (t), slm_redact_details(t);
SELECT * FROM slm_redact_details('jane@example.com 192.168.0.1', '{ip}');
SELECT * FROM slm_redact_details(NULL);
SELECT slm_redact('x', ARRAY['name']);
SELECT slm_redact('x', ARRAY[NULL]::text[]);
SELECT slm_redact('a@b.io', ARRAY[]::text[]);
-- in a generated column, an index and a check, as it is immutable; long texts in linear time
CREATE TABLE redacted (body text CHECK (slm_redact(body, '{card}') = body), clean text GENERATED ALWAYS AS (slm_redact(body)) STORED);
CREATE INDEX ON redacted (slm_redact(body));
INSERT INTO redacted VALUES ('Call 0151 23456789');
INSERT INTO redacted VALUES ('Card 4111 1111 1111 1111');
TABLE redacted;
SELECT length(slm_redact(repeat('jane@example.com and 4111 1111 1111 1111, ', 20000))) AS masked, length(slm_redact(repeat('1', 1000000))) AS digits, length(slm_redact(repeat('a.', 500000))) AS dots,
    length(slm_redact(repeat('1 ', 500000))) AS spaced, length(slm_redact(repeat(':', 1000000))) AS colons;
DROP TABLE redacted;
