-- ---------------------------------------------------------------- distillation (src/pg/functions/finetune_distill.c)

CREATE FUNCTION slm_distill(name text, student text, query text, teacher text, rows integer DEFAULT 1000, options jsonb DEFAULT '{}',
    OUT version integer,
    OUT training_rows bigint,
    OUT held_out_rows bigint,
    OUT exact_before double precision,
    OUT exact_after double precision,
    OUT agreement double precision,
    OUT teacher_rows_per_second double precision,
    OUT student_rows_per_second double precision,
    OUT teacher_bytes bigint,
    OUT student_bytes bigint,
    OUT seconds double precision,
    OUT active boolean)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_distill' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_distill(text, text, text, text, integer, jsonb) IS
    'Teaches a loaded model what a teacher answers: query gives texts, teacher is an SQL expression over the column input, such as slm_generate(input, ''large''), or a column of '
    'answers looked up. At most rows different texts are asked about, those with the smallest hashes, each once; a NULL is no answer and left out. The result is an adapter, as '
    'of slm_finetune, whose options it takes; then both are measured on held-out texts. Needs superuser, or a GRANT of EXECUTE on this function to the role itself or to one of its roles '
    'other than PUBLIC';
