# ALTER EXTENSION slm_pg UPDATE: from 0.1.0, with models, classifiers, jobs and what hostile roles could write there, to what a fresh install is.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $data = "$FindBin::RealBin/../data";
my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";
my $node = slm_cluster('upgrade', empty => 1, conf => "shared_preload_libraries = 'slm_pg'\nslm.job_workers = 0\nslm.threads = 1\n");

sub fresh { return $node->safe_psql('postgres', $_[0]); }
sub sql { return $node->safe_psql('shop', $_[0]); }

# What the statement says on standard error.
sub said
{
	my ($database, $sql) = @_;
	my $err = '';
	$node->psql($database, $sql, stderr => \$err);
	return $err;
}

# Everything that the extension has put into the catalogs, a line each.
my $members = "pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'slm_pg' AND d.deptype = 'e'";
sub acl { return "(SELECT string_agg(concat_ws(' ', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type, is_grantable), ', ' ORDER BY grantee, privilege_type) FROM aclexplode($_[0]))"; }
my $catalog = <<"SQL";
SET search_path = pg_catalog;
SELECT replace(line, chr(10), ' ~ ') FROM (
WITH rel AS (SELECT c.* FROM pg_class c JOIN $members ON d.classid = 'pg_class'::regclass AND d.objid = c.oid),
proc AS (SELECT p.* FROM pg_proc p JOIN $members ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid),
col AS (SELECT a.*, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS place FROM pg_attribute a JOIN rel ON rel.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped)
SELECT 'member ' || pg_describe_object(d.classid, d.objid, d.objsubid) FROM $members
UNION ALL SELECT 'version ' || extversion || ' ' || extowner::regrole FROM pg_extension WHERE extname = 'slm_pg'
UNION ALL SELECT concat_ws('|', 'config', t.oid::regclass, t.condition) FROM pg_extension, unnest(extconfig, extcondition) t(oid, condition) WHERE extname = 'slm_pg'
UNION ALL SELECT concat_ws('|', 'function', CASE p.prokind WHEN 'a' THEN (SELECT to_jsonb(a)::text FROM pg_aggregate a WHERE a.aggfnoid = p.oid) ELSE pg_get_functiondef(p.oid) END, p.proowner::regrole, p.prosupport, p.proleakproof, obj_description(p.oid, 'pg_proc'), @{[acl("coalesce(p.proacl, acldefault('f', p.proowner))")]}) FROM proc p
UNION ALL SELECT concat_ws('|', 'relation', c.oid::regclass, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relowner::regrole, obj_description(c.oid, 'pg_class'),
  @{[acl("coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", c.relowner))")]}, CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END) FROM rel c
UNION ALL SELECT concat_ws('|', 'column', a.attrelid::regclass, a.place, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attstorage, a.attcompression, a.attcollation::regcollation,
  pg_get_expr(f.adbin, f.adrelid), col_description(a.attrelid, a.attnum), a.attacl) FROM col a LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
UNION ALL SELECT concat_ws('|', 'constraint', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid), c.convalidated) FROM pg_constraint c JOIN rel ON rel.oid = c.conrelid
UNION ALL SELECT concat_ws('|', 'index', i.indrelid::regclass, pg_get_indexdef(i.indexrelid), i.indisvalid) FROM pg_index i JOIN rel ON rel.oid = i.indrelid
UNION ALL SELECT concat_ws('|', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger t JOIN rel ON rel.oid = t.tgrelid WHERE NOT t.tgisinternal
UNION ALL SELECT concat_ws('|', 'policy', p.polrelid::regclass, p.polname) FROM pg_policy p JOIN rel ON rel.oid = p.polrelid
UNION ALL SELECT concat_ws('|', 'sequence', s.seqrelid::regclass, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle) FROM pg_sequence s JOIN rel ON rel.oid = s.seqrelid
UNION ALL SELECT concat_ws('|', 'init', pg_describe_object(i.classoid, i.objoid, i.objsubid), @{[acl('i.initprivs')]}) FROM pg_init_privs i JOIN $members ON d.classid = i.classoid AND d.objid = i.objoid
) lines(line) ORDER BY 1
SQL

sub same_catalog
{
	my ($one, $other, $what) = @_;
	my %line = map { $_ => 1 } split /\n/, $node->safe_psql($one, $catalog);
	my @only = grep { !delete $line{$_} } split /\n/, $node->safe_psql($other, $catalog);
	is(join("\n", map({ "$other: $_" } @only), map { "$one: $_" } sort keys %line), '', $what);
}

# ---- what 0.1.0 had: made by this version in another database, and written down as 0.1.0 did

my $files = $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extension_versions WHERE name = 'slm_pg' AND version = '0.1.0'");
is($files, '1', '0.1.0 is installed beside this version');
fresh(<<"SQL");
CREATE ROLE ann; CREATE ROLE bob; CREATE ROLE mallory; CREATE ROLE gone; CREATE ROLE analyst;
SELECT slm_load_model('tiny', '$data/tiny.gguf'); SELECT slm_load_adapter('ad', 'tiny', '$data/tiny_lora.gguf'); SELECT slm_load_model('mini', '$minilm');
CREATE TABLE sample AS SELECT 'invoice number ' || i || ' was charged twice' AS body, 'billing' AS label FROM generate_series(1, 9) i
  UNION ALL SELECT 'parcel number ' || i || ' has not arrived', 'delivery' FROM generate_series(1, 9) i;
SELECT slm_train_classifier('cls', 'SELECT body, label FROM sample', 'mini');
SQL
my $answers = join '; ', map { "SELECT $_" } "slm_generate('Once', model => 'tiny', max_tokens => 5, chat => false)", "slm_generate('Once', model => 'tiny+ad', max_tokens => 5, chat => false)",
	"slm_classify('the parcel is late', classifier => 'cls')", "slm_embed('a', 'mini')";
my $expected = fresh($answers);

# INSERT statements that bring rows of the present tables into those of 0.1.0.
sub rows
{
	my ($table, $columns) = @_;
	return fresh("SELECT format('INSERT INTO $table ($columns) VALUES (%s);', concat_ws(', ', " . join(', ', map { "quote_nullable($_\::text)" } split /, /, $columns) . ")) FROM $table ORDER BY name");
}
my $models = rows('slm.model_registry', 'name, image, owner, source, sha256, options, family, title, parameters, quantization, context_length, vocabulary, embedding_dimension, layers, licence, image_bytes, chat_format, tokenizer, can_generate, can_embed, can_rerank, kv_bytes_per_token, base');
my $classifiers = rows('slm.classifier_registry', 'name, version, active, owner, image, labels, training_rows, accuracy, macro_f1, log_loss, ece, temperature, l2, confusion, options, query, by_names, seconds, blob');

$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(shop plain trapped);
$node->safe_psql($_, "CREATE EXTENSION slm_pg VERSION '0.1.0'") for qw(shop plain);
sql('GRANT ALL ON SCHEMA public TO PUBLIC');
# what its function of jobs would have done: tables are there, triggers made by the function that 0.1.0 had, in SQL
sql(<<"SQL");
$models
$classifiers
UPDATE slm.model_registry SET owner = 'ann', roles = ARRAY[0, 'bob'::regrole::oid, 'gone'::regrole::oid]::regrole[] WHERE name = 'tiny';
UPDATE slm.model_registry SET owner = 'gone' WHERE name = 'mini';
UPDATE slm.classifier_registry SET owner = 'ann' WHERE name = 'cls';
GRANT EXECUTE ON FUNCTION slm_load_model TO analyst;
CREATE VIEW shown AS SELECT name, family FROM slm.models;
ALTER TABLE slm.job_definition DISABLE TRIGGER job_defined; -- its function is the library's
SET ROLE ann;
CREATE TABLE letters (id int PRIMARY KEY, sent timestamptz NOT NULL DEFAULT now(), body text, upper text, label text);
INSERT INTO letters (id, body, upper) SELECT i, 'letter ' || i, CASE WHEN i <= 2 THEN upper('letter ' || i) END FROM generate_series(1, 5) i;
INSERT INTO slm.job_definition (name, owner, source, target, target_column, key_columns, key_types, input_columns, expression, search_path, backfill_done)
  VALUES ('shout', 'ann', 'letters', 'letters', 'upper', '{id}', '{integer}', '{body}', 'upper(body)', 'public', true);
INSERT INTO slm.job_done (job_id, key, version, input_hash, value_hash) SELECT 1, jsonb_build_array(l.id), 1, md5(ROW(l.body)::text), md5(l.upper) FROM letters l WHERE upper IS NOT NULL;
INSERT INTO slm.job_queue (job_id, key) SELECT 1, jsonb_build_array(i) FROM generate_series(2, 4) i;
RESET ROLE; SET ROLE gone;
CREATE TABLE left_behind (id int PRIMARY KEY, body text, out text);
INSERT INTO slm.job_definition (name, owner, source, target, target_column, key_columns, key_types, input_columns, expression, search_path)
  VALUES ('orphan', 'gone', 'left_behind', 'left_behind', 'out', '{id}', '{integer}', '{body}', 'upper(body)', 'public');
RESET ROLE;
ALTER TABLE left_behind OWNER TO ann;
SELECT slm.job_make_triggers(1, 'letters'), slm.job_make_triggers(2, 'left_behind');
SQL

# ---- what hostile roles have written there

sql(<<'SQL');
CREATE SCHEMA traps AUTHORIZATION mallory;
SET ROLE mallory;
CREATE TABLE hers (id int PRIMARY KEY, body text, out text, two text, three text);
-- another's table; a table of the extension; of the server; twice the same column; a number of tomorrow; no such column; the key
INSERT INTO slm.job_definition (name, owner, source, target, target_column, key_columns, key_types, input_columns, expression, search_path)
VALUES ('theirs', 'mallory', 'letters', 'letters', 'upper', '{id}', '{integer}', '{body}', 'body', 'traps'), ('ours', 'mallory', 'slm.job_done', 'slm.job_done', 'input_hash', '{job_id}', '{integer}', '{key}', '1', 'traps'),
  ('server', 'mallory', 'pg_authid', 'pg_authid', 'rolpassword', '{oid}', '{oid}', '{rolname}', '1', 'traps'), ('first', 'mallory', 'hers', 'hers', 'out', '{id}', '{integer}', '{{body,id},{id,body}}', 'body', 'traps'),
  ('second', 'mallory', 'hers', 'hers', 'out', '{id}', '{integer}', '{NULL}', 'body); DROP TABLE letters; --', 'traps'), ('nowhere', 'mallory', 'hers', 'hers', 'missing', '{id}', '{integer}', '{body}', 'body', 'traps'),
  ('key', 'mallory', 'hers', 'hers', 'id', '{id}', '{integer}', '{body}', 'id', 'traps');
INSERT INTO slm.job_definition (id, name, owner, source, target, target_column, key_columns, key_types, input_columns, expression, search_path, created_at, settings, backfill_position, prompt_tokens)
VALUES (2147483647, 'tomorrow', 'mallory', 'hers', 'hers', 'two', '{id}', '{integer}', '{body}', 'body', 'traps', 'infinity', '[1]', '{"a": 1}', -5),
  (-1, 'yesterday', 'mallory', 'hers', 'hers', 'three', '{id}', '{integer}', '{body}', 'body', 'traps', 'infinity', '[1]', '{"a": 1}', -5);
INSERT INTO slm.job_queue (job_id, key, enqueued_at) SELECT id, k, t FROM slm.job_definition, (VALUES ('{"a": 1}'::jsonb, now()), ('[1, 2]', now()), ('[[1]]', now()), ('[7]', 'infinity'), ('7', now()), ('[8]', now())) v(k, t) WHERE name = 'first';
INSERT INTO slm.job_done (job_id, key, version, input_hash, models, done_at) SELECT id, k, 1, 'x', ARRAY[[NULL, 'm'], ['n', NULL]], t FROM slm.job_definition, (VALUES ('{"a": 1}'::jsonb, now()), ('[9]', 'infinity'::timestamptz), ('[8]', now())) v(k, t) WHERE name = 'first';
INSERT INTO slm.job_queue (id, job_id, key) SELECT 9223372036854775807, id, '[3]' FROM slm.job_definition WHERE name = 'first';
INSERT INTO slm.classifier_registry SELECT name, 99, false, 'mallory', image, labels, training_rows, accuracy, macro_f1, log_loss, ece, temperature, l2, confusion, options, query, by_names, seconds, trained_at, blob
  FROM slm.classifier_registry WHERE name = 'cls';
INSERT INTO slm.classifier_registry SELECT 'broken', 1, true, 'mallory', image, ARRAY[['a', NULL], ['b', 'c']], training_rows, accuracy, macro_f1, log_loss, ece, temperature, l2, confusion, options, query, by_names, seconds, trained_at, blob
  FROM slm.classifier_registry WHERE name = 'cls' AND version = 1;
SQL
sql('SET ROLE ann; INSERT INTO slm.classifier_registry SELECT $$odd$$, 1, false, $$ann$$, image, labels, 1, 1, 1, 1, 1, 1, 1, confusion, options, query, by_names, 1, trained_at, blob FROM slm.classifier_registry WHERE name = $$cls$$ AND active');
sql('SET ROLE mallory; INSERT INTO slm.classifier_registry SELECT $$odd$$, 2, false, $$mallory$$, image, labels, 1, 1, 1, 1, 1, 1, 1, confusion, options, query, by_names, 1, trained_at, blob FROM slm.classifier_registry WHERE name = $$cls$$ AND active');
sql('ALTER TABLE slm.job_definition ENABLE TRIGGER job_defined; REASSIGN OWNED BY gone TO ann; DROP OWNED BY gone');
$node->safe_psql('postgres', 'DROP ROLE gone');

# ---- between the new library and the update

my $version = $node->safe_psql('postgres', "SELECT default_version FROM pg_available_extensions WHERE name = 'slm_pg'");
my $refusal = qr/the extension slm_pg of this database is version 0\.1\.0, its library is version \Q$version\E\nHINT:  Run ALTER EXTENSION slm_pg UPDATE;/;
my @calls = split /\n/, sql(<<"SQL");
CREATE TYPE mood AS ENUM ('good', 'bad');
SELECT format(CASE p.prokind WHEN 'p' THEN 'CALL ' ELSE 'SELECT ' END || '%s(%s)', p.oid::regproc, (SELECT string_agg(format('(SELECT NULL::%s)', CASE t WHEN 'anyenum'::regtype THEN 'mood' ELSE t::regtype::text END), ', ' ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a(t, n)))
FROM pg_proc p JOIN $members ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid JOIN pg_language l ON l.oid = p.prolang WHERE l.lanname = 'c' AND p.prorettype NOT IN ('trigger'::regtype, 'internal'::regtype)
SQL
cmp_ok(scalar @calls, '>', 40, 'the functions of 0.1.0');
is(join("\n", grep { my $err = said('shop', $_); $err !~ $refusal } @calls), '', '... are refused by name of the way out, each');
like(said('shop', "INSERT INTO letters (id, body) VALUES (100, 'x')"), $refusal, 'so are writes to the tables of its jobs');
like(said('shop', "SELECT * FROM slm.model_status"), $refusal, 'and views');
is(sql('SELECT count(*) FROM letters; SELECT count(*) FROM slm.models'), "5\n2", 'what needs no function can be read');

# ---- the update

sql('CREATE VIEW in_the_way AS SELECT slm_generate(body) FROM letters');
like(said('shop', 'ALTER EXTENSION slm_pg UPDATE'), qr/cannot drop function .*slm_generate.*\n.*view \S*in_the_way depends on/, 'a view of a function whose arguments changed is named');
sql('DROP VIEW in_the_way');
my $words = said('shop', 'ALTER EXTENSION slm_pg UPDATE');
unlike($words, qr/ERROR/, 'the update');
is(sql("SELECT extversion FROM pg_extension WHERE extname = 'slm_pg'"), $version, '... is done');
my %reason = (theirs => 'jobs work on', ours => 'it could not', server => 'jobs work on', second => 'another job', nowhere => 'it could not', key => 'it could not', tomorrow => 'it was not', yesterday => 'it was not');
is(join(' ', sort $words =~ /WARNING:  job "(\w+)"/g), join(' ', sort keys %reason), 'the jobs that nobody could have made are gone, and named');
like($words, qr/job "$_" of role mallory was removed: \Q$reason{$_}\E/, "$_, with the reason") for sort keys %reason;
is(join(' ', sort $words =~ /WARNING:  (version \d+ of classifier "\w+")/g), 'version 1 of classifier "broken" version 1 of classifier "odd" version 2 of classifier "odd" version 99 of classifier "cls"', 'so are versions of classifiers');
like($words, qr/WARNING:  every role may use the classifiers of 0\.1\.0, as before: cls\nHINT:  To take that back: SELECT slm_revoke_classifier\(name, 'PUBLIC'\);/, 'grants that 0.1.0 did not need are announced');

# the same grants that an administrator gave do not count as the extension's, but are there
like(sql("SELECT @{[acl('proacl')]} FROM pg_proc WHERE proname = 'slm_load_model'"), qr/analyst EXECUTE/, "the administrator's grant has stayed");
my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('shop') ]);
like($dump, qr/GRANT ALL ON FUNCTION public\.slm_load_model\(.*\) TO analyst;/, '... and is dumped');
sql('REVOKE EXECUTE ON FUNCTION slm_load_model FROM analyst');
same_catalog('postgres', 'shop', 'what was updated with data has the catalog of a fresh install');
$node->safe_psql('plain', 'ALTER EXTENSION slm_pg UPDATE');
same_catalog('postgres', 'plain', 'and so has one without');

# ---- everything works

is(sql($answers), $expected, 'models, adapter and classifier answer as in a fresh install');
is(sql('SELECT name, owner, roles FROM slm.models ORDER BY 1'), "mini|-|{}\ntiny|ann|{PUBLIC,bob}", 'owners and grants');
is(sql("SELECT name, owner, paused, error FROM slm.jobs ORDER BY 1"), "first|mallory|f|\norphan|-|f|its owner was dropped\nshout|ann|f|", 'the jobs');
is(sql('SELECT * FROM shown ORDER BY 1'), sql('SELECT name, family FROM slm.models ORDER BY 1'), 'a view of a user');
is(sql("SELECT job_id, key FROM slm.job_queue ORDER BY id"), "1|[2]\n1|[3]\n1|[4]\n" . sql("SELECT job_id || '|[8]' FROM slm.jobs WHERE name = 'first'") . "\n" . sql("SELECT job_id || '|[3]' FROM slm.jobs WHERE name = 'first'"), 'keys that are keys');
sql("INSERT INTO letters (id, body) VALUES (6, 'letter six'); UPDATE letters SET body = 'another' WHERE id = 1");
$node->safe_psql('shop', "CALL slm_run_job('shout')");
is(sql('SELECT id, upper FROM letters ORDER BY id'), "1|ANOTHER\n2|LETTER 2\n3|LETTER 3\n4|LETTER 4\n5|\n6|LETTER SIX", 'the job goes on where it was');
is(sql("SELECT done, failed, state FROM slm.job_status WHERE name = 'shout'"), '5|0|idle', '... and says so');
sql("SELECT slm_drop_job('shout', drop_values => true)");
is(sql('SELECT count(upper) FROM letters'), '0', 'its values, those of 0.1.0 among them, go with it');
is(sql("SET ROLE ann; SELECT slm_create_job('again', 'letters', 'upper', 'upper(body)'); SELECT job_id > 9 FROM slm.jobs WHERE name = 'again'"), "again\nt", 'the next job has a number that no other had');
is(sql("SELECT slm_alter_job('orphan', options => '{\"owner\": \"ann\"}'); SELECT owner FROM slm.jobs WHERE name = 'orphan'"), "2\nann", 'the orphan is adopted');
is(sql("SELECT count(*) FROM pg_trigger WHERE tgfoid = 'slm.job_enqueue()'::regprocedure AND tgrelid = 'letters'::regclass"), '5', 'triggers are those of jobs');
sql("SELECT slm_revoke_classifier('cls', 'PUBLIC')");
sql("DROP EXTENSION slm_pg CASCADE; CREATE EXTENSION slm_pg");
same_catalog('postgres', 'shop', 'dropped and made again');

# ---- background workers leave a database alone until it is updated, and take its jobs up then

$node->safe_psql('postgres', 'CREATE DATABASE worked');
$node->safe_psql('worked', <<"SQL");
CREATE EXTENSION slm_pg VERSION '0.1.0';
CREATE TABLE letters (id int PRIMARY KEY, body text, upper text);
INSERT INTO letters SELECT i, 'letter ' || i FROM generate_series(1, 20) i;
ALTER TABLE slm.job_definition DISABLE TRIGGER job_defined;
INSERT INTO slm.job_definition (name, owner, source, target, target_column, key_columns, key_types, input_columns, expression, search_path)
  VALUES ('shout', current_user::regrole, 'letters', 'letters', 'upper', '{id}', '{integer}', '{body}', 'upper(body)', 'public');
ALTER TABLE slm.job_definition ENABLE TRIGGER job_defined;
SELECT slm.job_make_triggers(1, 'letters');
SQL
$node->append_conf('postgresql.conf', 'slm.job_workers = 1');
my $from = -s $node->logfile;
$node->restart;
sleep 3; # the launcher asks every database at once
unlike(slurp_file($node->logfile, $from), qr/ERROR|FATAL/, 'a worker finds nothing to do in 0.1.0');
$node->safe_psql('worked', 'ALTER EXTENSION slm_pg UPDATE');
ok($node->poll_query_until('worked', q(SELECT count(upper) = 20 FROM letters)), '... and after the update does it');

# ---- in a schema of traps

$node->safe_psql('trapped', "CREATE SCHEMA t; CREATE EXTENSION slm_pg SCHEMA t VERSION '0.1.0'");
my $traps = q(CREATE FUNCTION t.trap(anyelement, anynonarray) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trap'; END $$;
	CREATE FUNCTION t.trap(anyarray, anyarray) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trap'; END $$;);
$traps .= "CREATE OPERATOR t.$_ (LEFTARG = anyelement, RIGHTARG = anynonarray, FUNCTION = t.trap); CREATE OPERATOR t.$_ (LEFTARG = anyarray, RIGHTARG = anyarray, FUNCTION = t.trap);\n" for qw(= <> < > <= >= + - * / || ->> -> ~ ~~ @> &&);
$traps .= "CREATE FUNCTION t.$_(anyelement) RETURNS anyelement LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'trap'; END \$\$; CREATE FUNCTION t.$_(anyelement, anynonarray) RETURNS bool LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'trap'; END \$\$;\n"
	for qw(count min max now unnest pg_has_role md5 array_agg format isfinite cardinality row_number bool_or coalesce_ setval makeaclitem aclexplode jsonb_typeof jsonb_array_length jsonb_array_elements current_setting);
$node->safe_psql('trapped', $traps);
is(said('trapped', 'ALTER EXTENSION slm_pg UPDATE'), '', 'an update in a schema where others may make functions and operators');
is($node->safe_psql('trapped', <<"SQL"), '', 'nothing of the extension refers to one of them');
SELECT DISTINCT pg_describe_object(x.classid, x.objid, 0) || ' uses ' || pg_describe_object(x.refclassid, x.refobjid, 0) FROM pg_depend x
WHERE x.refobjid IN (SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 't'::regnamespace AND p.prosrc LIKE '%trap%' UNION ALL SELECT o.oid FROM pg_operator o WHERE o.oprnamespace = 't'::regnamespace)
AND x.classid IN ('pg_rewrite'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_policy'::regclass, 'pg_index'::regclass)
SQL
$node->stop;
done_testing();
