-- What the examples of the pages work on (scripts/record_docs.py): the 36 tickets of the demo, and two small models.
\set ON_ERROR_STOP on
-- roles belong to the cluster: analysts are granted things, a visitor is not
DO $$ BEGIN CREATE ROLE analysts; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE visitor; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
\i demo/tickets.sql
ANALYZE;
-- models
CREATE EXTENSION slm_pg;
SELECT FROM slm_load_model('smollm2', '/models/SmolLM2-135M-Instruct.Q4_1.gguf');
SELECT FROM slm_load_model('minilm', '/models/all-MiniLM-L6-v2');
