-- A decision model (GGUF, the laya kind, tiny, random weights): options of a call beside a text, one statement alone; scores of the reference.
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/sql/include/begin.sql'
\i :begin
\set packed :srcdir '/test/golden/decision/laya.gguf.xz'
SELECT format('COPY (SELECT) TO PROGRAM %L', format('cat >/dev/null; xz -dc %L >laya.gguf', :'packed')) AS unpack \gset
:unpack;
SELECT name, family, quantization, can_embed, can_generate, can_rerank, labels FROM slm_load_model('laya', 'laya.gguf');
SET slm.classify_model = 'laya';

-- what the reference gives: -0.297699, -0.415134, -0.621286 for the options, -0.085704 for the statement
CREATE TABLE message AS SELECT 'The parcel never came and nobody answers the phone.'::text AS body, '{billing,delivery,other}'::text[] AS options;
SELECT label, round(probability::numeric, 3) AS probability, abs(probability - exp(reference) / sum(exp(reference)) OVER ()) < 0.0005 AS as_reference
  FROM message, slm_classify_scores(body, options, instruction => 'Which department should handle this?') s
  JOIN (VALUES ('billing', -0.297699), ('delivery', -0.415134), ('other', -0.621286)) r(name, reference) ON name = label;
SELECT slm_classify(body, options, instruction => 'Which department should handle this?') AS label,
  slm_classify(body, options, instruction => 'Which department should handle this?', method => 'joint') AS joint,
  slm_classify(body, options, threshold => 0.99) AS unsure FROM message;
SELECT abs(d.probability - 1 / (1 + exp(0.085704))) < 0.0005 AS as_reference, slm_filter('The customer is angry.', body) IS NULL AS unsure
  FROM message, slm_filter_details('The customer is angry.', body) d;
-- each label alone is a statement
SELECT o AS label, d.probability >= 0.5 AS holds, o = ANY (slm_classify_multi(body, options)) AS taken,
  o = ANY (slm_classify_multi(body, options, threshold => d.probability)) AS at_its_own, o = ANY (slm_classify_multi(body, options, threshold => d.probability + 1e-6)) AS above
  FROM message, unnest(options) o, slm_filter_details('This text is about ' || o || '.', body) d;
-- questions; where none of the options may be right, each is a statement
SELECT abs((d -> 'about' -> 'probabilities' ->> 'billing')::float8 - (SELECT probability FROM slm_classify_scores(body, options, instruction => 'What is it?') WHERE label = 'billing')) < 1e-6
    AS as_classify, d -> 'none' -> 'probabilities' ? 'billing' AS options, (d -> 'none' -> 'probabilities') <> (d -> 'about' -> 'probabilities') AS other
  FROM message, slm_decide(body, '{"about": {"type": "choice", "instructions": "What is it?", "criteria": ["billing", "delivery", "other"]},
    "none": {"type": "choice", "instructions": "What is it?", "criteria": ["billing", "delivery", "other"], "none": true}}') d;

-- rows of a table together give what each gives alone; long texts are read in windows, marks in a text are text
CREATE TABLE many AS SELECT i, repeat(body || ' [MASK] [SEP] ', i) AS body, options FROM message, generate_series(1, 12) i;
SELECT count(*), bool_and(scores = slm_classify_scores_json(body, options)) AS same FROM (SELECT body, options, slm_classify_scores_json(body, options) AS scores FROM many OFFSET 0) x;
\x on
SELECT * FROM try($$SELECT slm_embed('the', model => 'laya')$$);
SELECT * FROM try($$SELECT slm_classify('the', '{a,b}', method => 'embedding')$$);
SELECT * FROM try($$SELECT slm_classify('the', (SELECT array_agg('l' || i) FROM generate_series(1, 300) i))$$);
\x off
SELECT slm_drop_model('laya');
COPY (SELECT) TO PROGRAM 'cat >/dev/null; rm laya.gguf';
