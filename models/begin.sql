-- The extension and the two default models in this database, for every role of it, and a first label.  As a superuser:
--
--   psql -d shop -f /usr/share/slm_pg/begin.sql          (of the Debian package, after slm_fetch --default)
--   psql -d shop -v models=/folder -f models/begin.sql   (models elsewhere, where the server can read them)
\set ON_ERROR_STOP on
\if :{?models}
\else
\set models '/var/lib/slm_pg'
\endif
\set minilm :models '/all-MiniLM-L6-v2'
\set smollm2 :models '/SmolLM2-135M-Instruct.Q4_1.gguf'
CREATE EXTENSION IF NOT EXISTS slm_pg;
SELECT name, family, parameters FROM slm_load_model('minilm', :'minilm');
SELECT name, family, parameters FROM slm_load_model('smollm2', :'smollm2');
-- whom the CPU is given to: roles by name instead of everybody, if you like
SELECT slm_grant_model('minilm', 'public'), slm_grant_model('smollm2', 'public') \g /dev/null
ALTER DATABASE :"DBNAME" SET slm.embed_model = 'minilm';
ALTER DATABASE :"DBNAME" SET slm.generate_model = 'smollm2';
\connect -
SELECT slm_classify('I was charged twice for one order', ARRAY['payment', 'delivery', 'praise']);
