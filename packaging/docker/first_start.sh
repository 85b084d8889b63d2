#!/bin/sh
# Runs once, when the image's entry point has made a cluster: the extension and its models in the first database and in template1,
# so that every later database has them too.
set -eu
for database in template1 "${POSTGRES_DB:-postgres}"; do
    psql -X -q -v ON_ERROR_STOP=1 -v database="$database" --username "${POSTGRES_USER:-postgres}" --dbname "$database" <<'SQL'
CREATE EXTENSION IF NOT EXISTS slm_pg;
SELECT name, family FROM slm_load_model('minilm', '/var/lib/slm_pg/all-MiniLM-L6-v2');
SELECT name, family FROM slm_load_model('smollm2', '/var/lib/slm_pg/SmolLM2-135M-Instruct.Q4_1.gguf');
ALTER DATABASE :"database" SET slm.embed_model = 'minilm';
ALTER DATABASE :"database" SET slm.generate_model = 'smollm2';
SQL
done
