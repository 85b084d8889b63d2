-- ---------------------------------------------------------------- summaries (src/pg/functions/text.c, summarize_agg.c)

CREATE FUNCTION slm_summarize(input text,
    max_words integer DEFAULT 50,
    focus text DEFAULT NULL,
    model text DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    method text DEFAULT 'auto',
    on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_summarize' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_summarize(text, integer, text, text, boolean, text, text) IS
    'A summary of at most max_words words, where given with a focus. method: extract (whole sentences of the text, verbatim and in their order: central '
    'ones that are unlike each other, by the encoder of slm.embed_model, or by their words where none is set), abstract (a generative model writes; '
    'it never ends inside a sentence), auto (abstract for models of a billion parameters or more, and where truncate is given; else extract). '
    'abstract: a text that does not fit into the context is summarized in parts, and then their summaries; truncate => true cuts it instead, false '
    'makes it an error';

CREATE FUNCTION slm_summarize_details(input text,
    max_words integer DEFAULT 50,
    focus text DEFAULT NULL,
    model text DEFAULT NULL,
    truncate boolean DEFAULT NULL,
    method text DEFAULT 'auto',
    on_error text DEFAULT NULL,
    OUT value text,
    OUT made_by text,
    OUT error text)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_summarize_details' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_summarize_details(text, integer, text, text, boolean, text, text) IS
    'slm_summarize with how it was made (extract, also where no sentence that a model wrote was short enough; abstract), and with an error of the text in '
    'the column error in place of the statement''s end, unless on_error => ''error''';

CREATE FUNCTION slm.summary_add(internal, text) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_summary_add' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm.summary_add(internal, text) IS 'Part of slm_summarize_agg: takes a row';
CREATE FUNCTION slm.summary_add(internal, text, integer) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_summary_add' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm.summary_add(internal, text, integer) IS 'Part of slm_summarize_agg: takes a row';
CREATE FUNCTION slm.summary_combine(internal, internal) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_summary_combine' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm.summary_combine(internal, internal) IS 'Part of slm_summarize_agg: joins what two workers have';
CREATE FUNCTION slm.summary_serialize(internal) RETURNS bytea AS 'MODULE_PATHNAME', 'slm_pg_summary_serialize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION slm.summary_serialize(internal) IS 'Part of slm_summarize_agg: what a worker hands on';
CREATE FUNCTION slm.summary_deserialize(bytea, internal) RETURNS internal AS 'MODULE_PATHNAME', 'slm_pg_summary_deserialize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION slm.summary_deserialize(bytea, internal) IS 'Part of slm_summarize_agg: what a worker is handed';
CREATE FUNCTION slm.summary_final(internal) RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_summary_final' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION slm.summary_final(internal) IS 'Part of slm_summarize_agg: the summary';

CREATE AGGREGATE slm_summarize_agg(input text) (
    SFUNC = slm.summary_add, STYPE = internal, SSPACE = 200000, FINALFUNC = slm.summary_final, COMBINEFUNC = slm.summary_combine,
    SERIALFUNC = slm.summary_serialize, DESERIALFUNC = slm.summary_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE slm_summarize_agg(text) IS
    'Sentences that stand for all texts of a group, verbatim, the most central first, at most 50 words. No model is run; memory is bounded (some 200 kB a '
    'group): up to 400 different sentences are compared, a sample by their hash. The result depends on the texts alone: the same in any order and any plan, parallel too';
CREATE AGGREGATE slm_summarize_agg(input text, max_words integer) (
    SFUNC = slm.summary_add, STYPE = internal, SSPACE = 200000, FINALFUNC = slm.summary_final, COMBINEFUNC = slm.summary_combine,
    SERIALFUNC = slm.summary_serialize, DESERIALFUNC = slm.summary_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE slm_summarize_agg(text, integer) IS 'slm_summarize_agg with at most max_words words, which must be the same for all rows of a group';

-- ---------------------------------------------------------------- texts said in another way (src/pg/functions/rewrite.c)

CREATE FUNCTION slm_translate(input text, target text, model text DEFAULT NULL, max_tokens integer DEFAULT 1024, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_translate' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_translate(text, text, text, integer, text) IS
    'The text in another language, target: ''French''. It is as good as the model: those below a billion parameters do not translate, they make things up; '
    'take a multilingual one of several billion. An answer that max_tokens ends early is an error of the text';

CREATE FUNCTION slm_fix_grammar(input text, model text DEFAULT NULL, max_tokens integer DEFAULT 1024, on_error text DEFAULT NULL)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_fix_grammar' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION slm_fix_grammar(text, text, integer, text) IS
    'The text with spelling and grammar corrected. Small models change what they should leave: below a billion parameters, compare before you store. '
    'An answer that max_tokens ends early is an error of the text';
