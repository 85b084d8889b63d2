-- Values copied out of texts: typed, in their normal form, with their places; never invented.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set VERBOSITY terse
-- typed values need no model
SELECT slm_extract('Order A-4711 of 3 May 2026: I paid 1.012,50 EUR. Ticket 15404.', 'order number, amount, date, ticket, iban');
SELECT slm_extract('Bestellnummer 55-8812 vom 3. März 2026, Betrag 45 Euro, IBAN DE89 3704 0044 0532 0130 00', ARRAY['order number', 'date', 'paid: amount', 'iban', 'phone']);
SELECT slm_extract('Paid by card on 2026-05-02 at 10:30, 3 chairs, from 192.168.0.1, jo@example.com', '{"when": "timestamp", "chairs": "integer", "ip": null, "by": ["card", "cash"], "mail": "email", "total": {"type": ["number", "null"], "description": "How much was it?"}}');
SELECT slm_extract('Invoice INV-7 due 31/12/2026', '{"type": "object", "properties": {"invoice": {"type": "string"}, "due": {"type": "string", "format": "date"}}, "required": ["invoice"]}');
-- fields as a driver may send them
PREPARE untyped AS SELECT slm_extract($1, $2);
EXECUTE untyped('Order 4711', '{order,date}');
EXECUTE untyped('Order 4711', '["order", "date"]');
EXECUTE untyped('Order 4711', '{"order": "integer"}');
EXECUTE untyped('Order 4711', 'order');
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped';
DEALLOCATE untyped;
SELECT slm_extract('Order 4711', '{"order": "id"}'::jsonb), slm_extract('Order 4711', '["order"]'::jsonb), slm_extract(NULL, 'order') IS NULL AS null, slm_extract('', 'order');
-- a composite type
CREATE TYPE mail AS (order_number text, amount numeric(8,2), bought date, n integer, how text);
COMMENT ON COLUMN mail.n IS 'How many chairs?';
CREATE TYPE way AS ENUM ('card', 'cash');
ALTER TYPE mail ALTER ATTRIBUTE how TYPE way;
SELECT (slm_extract_as('Order 4711 of 2026-05-02: 3 chairs for 12.5 EUR in CASH', NULL::mail)).*;
SELECT * FROM slm_extract_details('Größe M: order 4711, 12,50 € am 2. Mai 2026', 'order, amount, date, iban'),
  LATERAL substring('Größe M: order 4711, 12,50 € am 2. Mai 2026' FROM start FOR "end" - start + 1) AS there;
SELECT count(*) FROM slm_extract_details(NULL, 'order');
SELECT field, value FROM slm_extract_details('Order 4711 or maybe 4712 dollars', '{"order": null}', threshold => 1);
-- what cannot be had by copying is refused by name
SELECT * FROM try($$SELECT slm_extract('x', '')$$);
SELECT * FROM try($$SELECT slm_extract('x', 'a, a')$$);
SELECT * FROM try($$SELECT slm_extract('x', NULL::text)$$);
SELECT * FROM try($$SELECT slm_extract('x', '{"a": "boolean"}')$$);
SELECT * FROM try($$SELECT slm_extract('x', '{"a": {"type": "string", "pattern": "b+"}}')$$);
SELECT * FROM try($$SELECT slm_extract('x', '{"a": {"type": "array"}}')$$);
SELECT * FROM try($$SELECT slm_extract('x', '{"a": 1}')$$);
SELECT * FROM try($$SELECT slm_extract('x', '[1]')$$);
SELECT * FROM try($$SELECT slm_extract('x', '{"a": []}')$$);
SELECT * FROM try($$SELECT slm_extract_as('x', 1)$$);
SELECT * FROM try($$SELECT slm_extract('x', array_to_string(ARRAY(SELECT 'f' || i FROM generate_series(1, 101) i), ','))$$);
SELECT * FROM try($$SELECT slm_extract('The red bike', 'product')$$);
-- phrases by an encoder, or by a generative model; rows in batches
SELECT name FROM slm_load_model('minilm', :'minilm');
SET slm.embed_model = 'minilm';
CREATE TABLE mails (id int, body text);
INSERT INTO mails VALUES (1, 'I bought the bread maker on 9 April 2026. I paid $240.63. Order 5236736.'), (2, 'My new yoga mat is torn. It cost 20 EUR.'), (3, NULL), (4, ''),
  (5, 'I bought the bread maker on 9 April 2026. I paid $240.63. Order 5236736.');
EXPLAIN (COSTS OFF) SELECT id, slm_extract(body, 'product, order, amount') FROM mails;
SELECT id, slm_extract(body, 'product, order, amount') FROM mails ORDER BY id;
SET slm.enable_batch = off;
SELECT id, slm_extract(body, 'product, order, amount') FROM mails ORDER BY id;
RESET slm.enable_batch;
SELECT field, value, start, "end", score > 0.4 AS sure FROM mails, slm_extract_details(body, 'product') WHERE id = 2;
SELECT name FROM slm_load_model('smollm2', :'model');
SELECT slm_extract(body, 'product', model => 'smollm2')->>'product' = ANY (regexp_split_to_array(body, '[ .]+')) OR position(slm_extract(body, 'product', model => 'smollm2')->>'product' IN body) > 0 AS copied FROM mails WHERE id < 3;
SELECT jsonb_typeof(v->'amount') IN ('number', 'null') AS amount, v ? 'order' AS "order" FROM slm_extract('Order 4711, 12.50 EUR', 'order, amount', model => 'smollm2', copy => false) v;
SELECT * FROM try($$SELECT slm_extract('x', 'order', copy => false)$$);
DROP TABLE mails;
DROP TYPE mail, way;
SELECT slm_drop_model('smollm2');
SELECT slm_drop_model('minilm');
