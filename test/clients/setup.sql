-- What the tests of the drivers share.
CREATE EXTENSION slm_pg;
\getenv cache SLM_MODEL_CACHE
\set minilm :cache '/all-MiniLM-L6-v2'
\set smollm2 :cache '/SmolLM2-135M-Instruct.Q4_1.gguf'
SELECT name FROM slm_load_model('minilm', :'minilm') \g /dev/null
SELECT name FROM slm_load_model('smollm2', :'smollm2') \g /dev/null
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET slm.embed_model = ''minilm''', current_database());
    EXECUTE format('ALTER DATABASE %I SET slm.generate_model = ''smollm2''', current_database());
END $$;
SET slm.embed_model = 'minilm';
CREATE TYPE topic AS ENUM ('billing', 'delivery', 'praise');
CREATE TABLE tickets (id int PRIMARY KEY, body text, label text, e real[]);
INSERT INTO tickets (id, body) VALUES (1, 'I was charged twice'), (2, 'Where is my parcel?'), (3, 'Thank you, that was great'), (4, repeat('far too long ', 200));
SELECT version FROM slm_train_classifier('topics', $$SELECT format(p, w), l FROM (VALUES ('Where is my %s?', 'delivery'), ('The %s has not arrived', 'delivery'),
    ('The invoice for the %s is wrong', 'billing'), ('I was charged twice for the %s', 'billing')) m(p, l), unnest(ARRAY['lamp', 'phone', 'chair', 'radio']) w$$) \g /dev/null
