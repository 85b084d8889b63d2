\set ECHO none
-- For tests that write a model themselves: a file in the data directory, and its path; a number's bytes, the lowest first.
CREATE FUNCTION file(name text, content bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE object oid := lo_from_bytea(0, content);
DECLARE path text := current_setting('data_directory') || '/' || name;
BEGIN
  PERFORM lo_export(object, path);
  PERFORM lo_unlink(object);
  RETURN path;
END $$;
CREATE FUNCTION file(name text, content text) RETURNS text LANGUAGE sql AS $$ SELECT file(name, convert_to(content, 'UTF8')) $$;
CREATE FUNCTION little(n bigint, bytes int) RETURNS bytea LANGUAGE sql AS
  $$ SELECT decode(string_agg(lpad(to_hex(n >> 8 * i & 255), 2, '0'), '' ORDER BY i), 'hex') FROM generate_series(0, bytes - 1) i $$;
\set ECHO all
