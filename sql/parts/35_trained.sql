-- ---------------------------------------------------------------- trained classifiers (src/pg/functions/train.c, trained.c, src/pg/models/classifier_rows.c)

-- C code reads columns by number: columns are only ever added at the end. All versions of a name have one owner.
CREATE TABLE slm.classifier_registry (
    name text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    active boolean NOT NULL,
    owner regrole NOT NULL,
    image text COLLATE "C" NOT NULL,
    labels text[] NOT NULL,
    training_rows bigint NOT NULL,
    accuracy double precision,
    macro_f1 double precision,
    log_loss double precision,
    ece double precision,
    temperature double precision NOT NULL,
    l2 double precision NOT NULL,
    confusion integer[],
    options jsonb NOT NULL,
    query text NOT NULL,
    by_names boolean NOT NULL,
    seconds double precision NOT NULL,
    trained_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    blob bytea NOT NULL,
    trials bytea[],   -- classifiers of the folds of its cross-validation
    trial_rows bytea, -- hashes of its rows, and which trial has not seen them
    plain_accuracy double precision,
    tuned_accuracy double precision,
    PRIMARY KEY (name, version)
);
CREATE UNIQUE INDEX classifier_active ON slm.classifier_registry (name) WHERE active;
ALTER TABLE slm.classifier_registry ALTER COLUMN blob SET STORAGE EXTERNAL, ALTER COLUMN trials SET STORAGE EXTERNAL,
    ALTER COLUMN trial_rows SET STORAGE EXTERNAL;
REVOKE ALL ON slm.classifier_registry FROM PUBLIC;
COMMENT ON TABLE slm.classifier_registry IS 'Versions of trained classifiers; change it with the functions only, read it through slm.classifiers';

CREATE TABLE slm.classifier_grant (
    name text COLLATE "C" NOT NULL,
    role regrole NOT NULL, -- '-' is PUBLIC
    PRIMARY KEY (name, role)
);
REVOKE ALL ON slm.classifier_grant FROM PUBLIC;
COMMENT ON TABLE slm.classifier_grant IS 'Roles that may use a classifier besides its owner; slm_grant_classifier and slm_revoke_classifier change it';

-- A role that was dropped is a mere number, and the next cluster may give that number to somebody else.
SELECT pg_catalog.pg_extension_config_dump('slm.classifier_registry',
    'WHERE owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)');
SELECT pg_catalog.pg_extension_config_dump('slm.classifier_grant',
    'WHERE role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR role::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a)');

CREATE VIEW slm.classifiers WITH (security_barrier) AS
SELECT r.name, r.version, r.active, r.owner,
       ARRAY(SELECT CASE WHEN g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE g.role::pg_catalog.text END
             FROM slm.classifier_grant g WHERE g.name OPERATOR(pg_catalog.=) r.name ORDER BY g.role::pg_catalog.oid) AS roles,
       COALESCE(
           (SELECT m.name FROM slm.model_registry m WHERE m.image OPERATOR(pg_catalog.=) r.image ORDER BY m.name LIMIT 1),
           (SELECT m.name OPERATOR(pg_catalog.||) '+' OPERATOR(pg_catalog.||) a.name
            FROM slm.model_registry m JOIN slm.model_registry a ON a.base OPERATOR(pg_catalog.=) m.name
            WHERE m.image OPERATOR(pg_catalog.||) '+' OPERATOR(pg_catalog.||) a.image OPERATOR(pg_catalog.=) r.image
            ORDER BY m.name, a.name LIMIT 1)) AS model,
       r.image AS model_digest, r.labels, r.training_rows, r.accuracy, r.macro_f1, r.log_loss, r.ece, r.confusion, r.temperature, r.l2, r.options,
       CASE WHEN pg_catalog.pg_has_role(r.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text) THEN r.query END AS query,
       r.by_names, r.seconds, r.trained_at, pg_catalog.octet_length(r.blob) AS bytes,
       r.plain_accuracy, r.tuned_accuracy
FROM slm.classifier_registry r
WHERE pg_catalog.pg_has_role(r.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text)
   OR EXISTS (SELECT FROM slm.classifier_grant g WHERE g.name OPERATOR(pg_catalog.=) r.name
              AND (g.role::pg_catalog.oid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                   OR pg_catalog.pg_has_role(g.role::pg_catalog.oid, 'USAGE'::pg_catalog.text)));
GRANT SELECT ON slm.classifiers TO PUBLIC;
COMMENT ON VIEW slm.classifiers IS
    'Trained classifiers that you own or were granted, and their versions: accuracy, macro F1, log loss and calibration (ECE) by '
    'cross-validation, NULL where none was possible; confusion[true label][predicted label] in the order of labels; the model they belong to';
COMMENT ON COLUMN slm.classifiers.active IS 'Is it the version that slm_classify uses?';
COMMENT ON COLUMN slm.classifiers.roles IS 'Roles that may use it besides owner and superusers';
COMMENT ON COLUMN slm.classifiers.plain_accuracy IS 'Accuracy by cross-validation on the embeddings of the model as it was; NULL unless tuning its encoder was asked for';
COMMENT ON COLUMN slm.classifiers.tuned_accuracy IS 'The same with the encoder tuned to the labels, without the rows that are judged; it was kept so where this is higher';
COMMENT ON COLUMN slm.classifiers.query IS 'What it was trained on; shown to its owner only';

CREATE FUNCTION slm_train_classifier(name text,
    query text,
    model text DEFAULT NULL,
    labels text[] DEFAULT NULL,
    options jsonb DEFAULT '{}',
    OUT version integer,
    OUT training_rows bigint,
    OUT n_labels integer,
    OUT accuracy double precision,
    OUT macro_f1 double precision,
    OUT ece double precision,
    OUT seconds double precision,
    OUT active boolean,
    OUT previous_accuracy double precision,
    OUT plain_accuracy double precision,
    OUT tuned_accuracy double precision)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_train_classifier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_train_classifier(text, text, text, text[], jsonb) IS
    'Trains a classifier on the rows of a query that gives (text, label), or (embedding real[], label): multinomial logistic regression on '
    'the embeddings of model (default slm.embed_model), its strength chosen by cross-validation. The query runs read-only with your '
    'privileges. Returns the new version and its held-out accuracy, macro F1 and calibration. With labels => ARRAY[...] the query gives '
    'texts alone and the classifier is learned from the names of the labels and the unlabelled rows. options: ngrams (true: words and '
    'character n-grams beside the embedding), l2, folds, balance, seed, activate, finetune (true, or an object of options of slm_finetune: '
    'the encoder is tuned to the labels where cross-validation says that it pays; plain_accuracy and tuned_accuracy say both). A retraining makes a new version, which is compared with '
    'the active one on the same rows, each row judged by what has not learned from it: activate "if_better" (default) makes it the active '
    'one when it does better, "always" in any case, "never" leaves that to slm_restore_classifier. previous_accuracy is that of the '
    'version that was active, on these rows';

CREATE FUNCTION slm_distill_classifier(name text,
    query text,
    teacher text,
    rows integer DEFAULT 1000,
    model text DEFAULT NULL,
    options jsonb DEFAULT '{}',
    OUT version integer,
    OUT training_rows bigint,
    OUT n_labels integer,
    OUT agreement double precision,
    OUT macro_f1 double precision,
    OUT ece double precision,
    OUT seconds double precision,
    OUT active boolean,
    OUT previous_agreement double precision,
    OUT plain_agreement double precision,
    OUT tuned_agreement double precision)
RETURNS record AS 'MODULE_PATHNAME', 'slm_pg_distill_classifier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_distill_classifier(text, text, text, integer, text, jsonb) IS
    'Trains a classifier on what a teacher says of a sample of texts: query gives texts, teacher is an SQL expression over the column input '
    'that gives a label, such as slm_classify(input, ...) with a larger model, a cascade, or a column of answers looked up. At most rows '
    'different texts are asked about, those with the smallest hashes, each once; a NULL is no answer and left out. agreement is the share '
    'of held-out texts that get the teacher''s label. Both run read-only with your privileges. Otherwise as slm_train_classifier';

CREATE FUNCTION slm_restore_classifier(name text, version integer)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_restore_classifier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_restore_classifier(text, integer) IS 'Makes another version of a classifier the active one. Owner or superuser';

CREATE FUNCTION slm_drop_classifier(name text, cascade boolean DEFAULT false)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_drop_classifier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_drop_classifier(text, boolean) IS
'Removes a classifier with all its versions. Refused while jobs, triggers, functions, views or defaults name it, unless cascade, which '
    'says what misses it from now on. Owner or superuser';

CREATE FUNCTION slm_rename_classifier(name text, new_name text, cascade boolean DEFAULT false)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_rename_classifier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_rename_classifier(text, text, boolean) IS
'Gives a classifier another name. Refused while something names it, as slm_drop_classifier is. Owner or superuser';

CREATE FUNCTION slm_set_classifier_owner(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_set_classifier_owner' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_set_classifier_owner(text, text) IS
    'Gives a classifier to another role, of which you must be a member. Owner or superuser; a superuser alone when the owner was dropped';

CREATE FUNCTION slm_grant_classifier(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_grant_classifier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_grant_classifier(text, text) IS
    'Lets a role, or PUBLIC, use a classifier. A new classifier may be used by its owner and superusers only. To classify texts, and not '
    'stored embeddings, a role must also be allowed to use the model. Owner or superuser';

CREATE FUNCTION slm_revoke_classifier(name text, role text)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_revoke_classifier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION slm_revoke_classifier(text, text) IS
    'Takes back what slm_grant_classifier gave. Owner or superuser';
