-- A GGUF file that is split over three loads by its first part, and is the same model; the digest is of all parts.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set first :srcdir '/test/data/split/tiny-00001-of-00003.gguf'
\set second :srcdir '/test/data/split/tiny-00002-of-00003.gguf'
SELECT name, family, quantization FROM slm_load_model('whole', :'tiny_file');
SELECT name, family, quantization FROM slm_load_model('parts', :'first');
SELECT count(DISTINCT sha256) AS digests, count(DISTINCT parameters) AS sizes, count(DISTINCT image_bytes) AS images FROM slm.models;
SELECT slm_generate('a text', model => 'whole', max_tokens => 8) = slm_generate('a text', model => 'parts', max_tokens => 8) AS same;
SELECT state, message, hint FROM try(format('SELECT slm_load_model(''second'', %L)', :'second'));
-- a part that is not there
COPY (SELECT) TO PROGRAM 'mkdir -p split; cat >/dev/null';
\set copy 'cp ' :first ' split/'
SELECT state, message FROM try(format('COPY (SELECT) TO PROGRAM %L', :'copy'));
SELECT state, message, hint FROM try($$SELECT slm_load_model('lonely', 'split/tiny-00001-of-00003.gguf')$$);
