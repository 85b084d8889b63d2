-- ---------------------------------------------------------------- pictures (src/pg/measure/plot.c)

CREATE FUNCTION slm_plot(query text,
    kind text,
    title text DEFAULT NULL,
    x_label text DEFAULT NULL,
    y_label text DEFAULT NULL,
    width integer DEFAULT 720,
    height integer DEFAULT 420)
RETURNS text AS 'MODULE_PATHNAME', 'slm_pg_plot' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_plot(text, text, text, text, text, integer, integer) IS
    'A picture of the rows of a query, as one SVG that refers to nothing outside of it and is legible in light and dark. kind: coverage (columns '
    'answered, accuracy, maybe low, high and series), calibration (confidence, accuracy, maybe rows and series), confusion (expected, given, maybe '
    'rows), cost (candidate, accuracy, cost_per_million_rows, maybe accuracy_low and accuracy_high), usage (day, tokens or cpu_seconds or calls, maybe '
    'series or function or model), line (x, a number or day; y; maybe series), bar (x, a text; y). Columns are found by their names; the lists of '
    'slm_evaluate may be given as they are. At most 20,000 rows. The query runs read-only with your privileges';
