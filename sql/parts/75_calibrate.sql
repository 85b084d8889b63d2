-- ---------------------------------------------------------------- calibration (src/pg/measure/calibrate.c, src/pg/models/calibration_rows.c)

-- C code reads columns by number: columns are only ever added at the end.
CREATE TABLE slm.calibration_registry (
    model text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    method text COLLATE "C" NOT NULL,
    options integer NOT NULL,
    version integer NOT NULL,
    image text COLLATE "C" NOT NULL,
    temperature double precision, -- NULL: by the points of a rising line
    points_from double precision[],
    points_to double precision[],
    rows bigint NOT NULL,
    accuracy double precision NOT NULL,
    ece_before double precision NOT NULL,
    ece_after double precision NOT NULL,
    log_loss_before double precision NOT NULL,
    log_loss_after double precision NOT NULL,
    query text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (model, version)
);
REVOKE ALL ON slm.calibration_registry FROM PUBLIC;
COMMENT ON TABLE slm.calibration_registry IS 'Calibrations of models; change it with the functions only, read it through slm.calibrations';
SELECT pg_catalog.pg_extension_config_dump('slm.calibration_registry', '');

CREATE VIEW slm.calibrations WITH (security_barrier) AS
SELECT r.model, r.kind, r.method, r.options, r.version,
       r.image OPERATOR(pg_catalog.=) g.image AND NOT EXISTS (
           SELECT FROM slm.calibration_registry n
           WHERE n.model OPERATOR(pg_catalog.=) r.model AND n.kind OPERATOR(pg_catalog.=) r.kind AND n.method OPERATOR(pg_catalog.=) r.method
             AND n.options OPERATOR(pg_catalog.=) r.options AND n.image OPERATOR(pg_catalog.=) r.image
             AND n.version OPERATOR(pg_catalog.>) r.version) AS applied,
       CASE WHEN r.temperature IS NULL THEN 'isotonic' ELSE 'temperature' END AS scaling, r.temperature, r.rows, r.accuracy, r.ece_before,
       r.ece_after, r.log_loss_before, r.log_loss_after, r.image AS model_digest,
       CASE WHEN pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text) THEN r.query END AS query, r.created_at
FROM slm.calibration_registry r JOIN slm.models m ON m.name OPERATOR(pg_catalog.=) r.model
JOIN slm.model_registry g ON g.name OPERATOR(pg_catalog.=) r.model;
GRANT SELECT ON slm.calibrations TO PUBLIC;
COMMENT ON VIEW slm.calibrations IS
    'How the probabilities of models that you own or were granted are corrected, and what that was measured to bring on held-out rows';
COMMENT ON COLUMN slm.calibrations.kind IS 'classify, filter (also yes or no of slm_decide) or decide (choices and scales)';
COMMENT ON COLUMN slm.calibrations.method IS 'Method of the calls that it is for; head: labels of the model''s own';
COMMENT ON COLUMN slm.calibrations.options IS 'Number of labels or options of the calls that it is for';
COMMENT ON COLUMN slm.calibrations.applied IS 'Is it what calls get now? The newest of its kind, if the model still has the image that it was measured with';
COMMENT ON COLUMN slm.calibrations.temperature IS 'Log probabilities are divided by it: above 1 the model was too sure; NULL: a rising line';
COMMENT ON COLUMN slm.calibrations.ece_before IS 'Expected calibration error on held-out rows, 15 bins, as the model is';
COMMENT ON COLUMN slm.calibrations.ece_after IS 'The same, corrected by what other rows have taught';
COMMENT ON COLUMN slm.calibrations.query IS 'What it was learned from; shown to the model''s owner only';

CREATE FUNCTION slm_calibrate(model text,
    query text,
    kind text DEFAULT 'classify',
    labels text[] DEFAULT NULL,
    method text DEFAULT 'auto',
    instruction text DEFAULT NULL,
    descriptions jsonb DEFAULT NULL,
    OUT version integer,
    OUT options integer,
    OUT rows bigint,
    OUT accuracy double precision,
    OUT temperature double precision,
    OUT ece_before double precision,
    OUT ece_after double precision,
    OUT log_loss_before double precision,
    OUT log_loss_after double precision)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_calibrate' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_calibrate(text, text, text, text[], text, text, jsonb) IS
    'Corrects the probabilities of a model, so that answers of 80 % are right in 80 of 100 cases, from rows whose answer is known. kind: classify '
    '(the query gives text and label; labels or descriptions as in slm_classify), filter (text, condition, whether it holds; applied to slm_filter and to '
    'yes or no in slm_decide) or decide (text, question as in slm_decide, the right option). Learns a temperature, or a rising line (isotonic) where that '
    'is better and there are 500 rows; for each kind, method and number of options by itself. Figures are measured on rows that were held out; where '
    'nothing is better than what is, nothing is stored and version is NULL. It is bound to the image of the model and applied to every call of that kind '
    'by whoever may use the model. The owner of the model. The query runs read-only with your privileges';

CREATE FUNCTION slm_drop_calibration(model text, version integer DEFAULT NULL)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_calibration' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_calibration(text, integer) IS
    'Removes a calibration of a model, so that the version before it counts again, or all of them (NULL). The owner of the model';
