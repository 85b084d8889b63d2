-- ---------------------------------------------------------------- models that travel with the data

CREATE TABLE slm.image_part (
    image text COLLATE "C" NOT NULL,
    part integer NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (image, part)
);
ALTER TABLE slm.image_part ALTER COLUMN bytes SET STORAGE EXTERNAL;
REVOKE ALL ON slm.image_part FROM PUBLIC;
COMMENT ON TABLE slm.image_part IS 'Images of models as rows, in parts of 1 MiB; slm_store_model and slm_drop_model change it, slm.stored_models shows it';
SELECT pg_catalog.pg_extension_config_dump('slm.image_part',
    'WHERE image OPERATOR(pg_catalog.=) ANY (SELECT m.image FROM slm.model_registry m WHERE m.owner::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT a.oid FROM pg_catalog.pg_roles a))');

CREATE VIEW slm.stored_models WITH (security_barrier) AS
SELECT m.name, pg_catalog.sum(pg_catalog.octet_length(p.bytes))::pg_catalog.int8 AS bytes, pg_catalog.count(*) AS parts
FROM slm.model_registry m JOIN slm.image_part p ON p.image OPERATOR(pg_catalog.=) m.image
WHERE pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text)
GROUP BY m.name;
GRANT SELECT ON slm.stored_models TO PUBLIC;
COMMENT ON VIEW slm.stored_models IS 'Models and adapters of yours whose images are also rows of this database, and so in its dumps, standbys and upgrades';
COMMENT ON COLUMN slm.stored_models.name IS 'Model or adapter';
COMMENT ON COLUMN slm.stored_models.bytes IS 'Bytes of its image';
COMMENT ON COLUMN slm.stored_models.parts IS 'Rows that hold them';

CREATE FUNCTION slm_store_model(name text, stored boolean DEFAULT true)
RETURNS void AS 'MODULE_PATHNAME', 'slm_pg_store_model' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_store_model(text, boolean) IS
    'Keeps the image of a model or adapter as rows of the database too, so that it travels with the data: a standby, a restored dump, an upgraded '
    'cluster makes the image from them on first use. stored => false deletes the rows. Owner or superuser; the option "stored" of slm_load_model does the same';

CREATE FUNCTION slm_export_model(name text, path text)
RETURNS bigint AS 'MODULE_PATHNAME', 'slm_pg_export_model' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION slm_export_model(text, text) IS
    'Writes the image of a model into a new file of the server and returns its bytes; slm_load_model takes such a file on another server. Nothing is '
    'overwritten. The owner, if superuser or member of pg_write_server_files';
