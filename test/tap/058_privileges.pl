# Who may do what: the catalog of the extension, object by object, and the tables of docs/SECURITY.md, action by action.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $data = "$FindBin::RealBin/../data";
my $page = slurp_file("$FindBin::RealBin/../../docs/SECURITY.md");
my $node = slm_cluster('privileges', empty => 1, conf => "shared_preload_libraries = 'slm_pg'\nslm.job_workers = 0\nslm.threads = 1\n");
my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';

sub sql { return $node->safe_psql('postgres', $_[0]); }

# ---- the catalog

my $members = "pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'slm_pg' AND d.deptype = 'e'";
sql('CREATE ROLE nobody_special LOGIN');
is(sql(<<"SQL"), '', 'no table and no sequence of the extension gives PUBLIC a privilege');
SELECT c.oid::regclass || ' ' || p FROM pg_class c JOIN $members ON d.classid = 'pg_class'::regclass AND d.objid = c.oid,
  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p WHERE c.relkind IN ('r', 'p', 'm', 'f') AND has_table_privilege('nobody_special', c.oid, p)
UNION ALL SELECT c.oid::regclass || ' column' FROM pg_class c JOIN $members ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
  WHERE c.relkind IN ('r', 'p') AND has_any_column_privilege('nobody_special', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
UNION ALL SELECT c.oid::regclass || ' ' || p FROM pg_class c JOIN pg_depend s ON s.classid = 'pg_class'::regclass AND s.objid = c.oid AND s.deptype IN ('e', 'i', 'a'), unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) p
  WHERE c.relkind = 'S' AND c.relnamespace = 'slm'::regnamespace AND has_sequence_privilege('nobody_special', c.oid, p) ORDER BY 1
SQL
is(sql(<<"SQL"), '', 'of views, only SELECT');
SELECT c.oid::regclass || ' ' || p FROM pg_class c JOIN $members ON d.classid = 'pg_class'::regclass AND d.objid = c.oid,
  unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p WHERE c.relkind = 'v' AND has_table_privilege('nobody_special', c.oid, p)
SQL
is(sql(<<"SQL"), '', 'every view is a security barrier');
SELECT c.oid::regclass FROM pg_class c JOIN $members ON d.classid = 'pg_class'::regclass AND d.objid = c.oid WHERE c.relkind = 'v'
  AND NOT coalesce(c.reloptions::text, '') ~ 'security_barrier(=(on|true))?[,}]' ORDER BY 1
SQL
is(sql(<<"SQL"), '', 'what runs with other rights, or text that is parsed when it runs, has a search_path of its own');
SELECT p.oid::regprocedure FROM pg_proc p JOIN $members ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid JOIN pg_language l ON l.oid = p.prolang
  WHERE (p.prosecdef OR l.lanname = 'plpgsql' OR l.lanname = 'sql' AND p.prosqlbody IS NULL)
  AND p.prokind <> 'p' AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c ~ '^search_path=') ORDER BY 1
SQL
is(sql(<<"SQL"), '', 'no policy, rule or event trigger in the extension');
SELECT 'policy ' || polname FROM pg_policy WHERE polrelid IN (SELECT d.objid FROM $members WHERE d.classid = 'pg_class'::regclass)
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
SQL
my $refused = join("\n", sort split /\n/, sql(<<"SQL"));
SELECT DISTINCT p.proname FROM pg_proc p JOIN $members ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid WHERE NOT has_function_privilege('nobody_special', p.oid, 'EXECUTE')
SQL
my ($functions) = $page =~ /<!-- functions -->(.*?)<!-- end of functions -->/s;
is($refused, join("\n", sort $functions =~ /^\| `(?:slm\.)?(\w+)`/mg), 'the functions that not everybody may call are those of docs/SECURITY.md');

# ---- the actions

sql(<<"SQL");
CREATE ROLE owner_group; CREATE ROLE boss LOGIN SUPERUSER; CREATE ROLE "no grant" LOGIN; CREATE ROLE "member of the owner" LOGIN IN ROLE owner_group; CREATE ROLE grantee LOGIN;
CREATE ROLE monitor_member LOGIN IN ROLE pg_monitor; CREATE ROLE victim; CREATE ROLE loader IN ROLE owner_group, pg_read_server_files;
GRANT ALL ON SCHEMA public TO PUBLIC;
GRANT EXECUTE ON FUNCTION slm_load_model, slm_load_adapter TO owner_group; GRANT pg_read_server_files TO owner_group;
SET ROLE owner_group;
SELECT slm_load_model('tiny', '$data/tiny.gguf'); SELECT slm_load_adapter('ad', 'tiny', '$data/tiny_lora.gguf'); SELECT slm_load_model('mini', '$minilm');
SELECT slm_grant_model('tiny', 'grantee'); SELECT slm_grant_model('ad', 'grantee'); SELECT slm_grant_model('mini', 'grantee');
CREATE TABLE sample (body text, label text);
INSERT INTO sample SELECT b, l FROM (VALUES ('my invoice is wrong', 'billing'), ('the parcel is late', 'delivery')) v(b, l), generate_series(1, 1);
INSERT INTO sample SELECT 'invoice number ' || i || ' was charged twice', 'billing' FROM generate_series(1, 9) i;
INSERT INTO sample SELECT 'parcel number ' || i || ' has not arrived', 'delivery' FROM generate_series(1, 9) i;
SELECT slm_train_classifier('cls', 'SELECT body, label FROM sample', 'mini');
SELECT slm_set_prompt('pub', 'Say hello.');
CREATE TABLE letters (id text PRIMARY KEY, body text, out text);
INSERT INTO letters VALUES ('patient-77', 'x');
SELECT slm_create_job('job', 'letters', 'out', '(1 / (length(body) - 1))::text', '{"max_attempts": 1}');
RESET ROLE;
GRANT EXECUTE ON FUNCTION slm_create_finetune TO owner_group;
SET ROLE owner_group;
SELECT slm_create_finetune('tuning', 'tiny', 'SELECT body, label AS answer FROM sample', '{"paused": true}');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION slm_load_model, slm_load_adapter, slm_create_finetune FROM owner_group; REVOKE pg_read_server_files FROM owner_group;
SQL
$node->psql('postgres', q(DO $$ BEGIN PERFORM slm_grant_classifier('cls', 'grantee'); END $$));
sql(q(SET client_min_messages = warning; SET ROLE owner_group; SELECT slm_create_cascade('casc', '[{"classifier": "cls"}, {"classifier": "cls"}]', 'SELECT body FROM sample'); SELECT slm_grant_cascade('casc', 'grantee')));
$node->safe_psql('postgres', q(SET client_min_messages = warning; SET ROLE owner_group; SELECT slm_calibrate('mini', 'SELECT ''invoice '' || i, CASE WHEN i % 3 = 0 THEN ''b'' ELSE ''a'' END FROM generate_series(1, 60) i', descriptions => '{"a": "invoice", "b": "zebra"}')));
$node->psql('postgres', "CALL slm_run_job('job')");
is(sql(q(SELECT key FROM slm.job_failures)), '["patient-77"]', 'a row has failed');

my $own = 'CREATE TABLE mine (id int PRIMARY KEY, body text, out text); ';
my %action = (
	'read or write a table of schema slm' => [
		'SELECT * FROM slm.job_definition', 'DELETE FROM slm.job_queue', 'SELECT * FROM slm.model_registry', "UPDATE slm.classifier_registry SET active = false WHERE false", 'LOCK TABLE slm.job_done',
		'TRUNCATE slm.job_queue' ],
	'load a model' => ["SELECT slm_load_model('other', '$data/tiny.gguf')"],
	'load an adapter' => ["SELECT slm_load_adapter('other', 'tiny', '$data/tiny_lora.gguf')"],
	'run a model' => [ "SELECT slm_generate('x', model => 'tiny', max_tokens => 1)", "SELECT slm_tokenize('x', model => 'tiny')", "SELECT slm_embed('x', model => 'mini')" ],
	'run an adapter' => ["SELECT slm_generate('x', model => 'tiny+ad', max_tokens => 1)"],
	'prewarm a model' => ["SELECT slm_prewarm('tiny')"],
	'grant a model' => [ "SELECT slm_grant_model('tiny', 'victim')", "SELECT slm_grant_model('ad', 'PUBLIC')" ],
	'revoke a model' => ["SELECT slm_revoke_model('tiny', 'grantee')"],
	'rename a model' => ["SELECT slm_rename_model('ad', 'da')"],
	'drop a model' => ["SELECT slm_drop_adapter('ad'); SELECT slm_drop_model('tiny')"],
	'drop an adapter' => ["SELECT slm_drop_adapter('ad')"],
	'use a classifier' => [
		"SELECT slm_classify('x', classifier => 'cls')", "SELECT * FROM slm_classify_scores('x', classifier => 'cls')", "SELECT slm_classify_embedding(array_fill(0.05::real, ARRAY[384]), 'cls')" ],
	'grant a classifier' => ["SELECT slm_grant_classifier('cls', 'victim')"],
	'train another version of a classifier' => [q(CREATE TEMP TABLE s AS SELECT 'word ' || i AS b, CASE WHEN i % 2 = 0 THEN 'billing' ELSE 'delivery' END AS l FROM generate_series(1, 20) i;
		SELECT slm_train_classifier('cls', 'SELECT b, l FROM s', 'mini', options => '{"activate": "never"}'))],
	'restore a version of a classifier' => ["SELECT slm_restore_classifier('cls', 1)"],
	'drop a classifier' => ["SELECT slm_drop_classifier('cls', cascade => true)"],
	'calibrate a model' => [q(SELECT slm_calibrate('mini', 'SELECT ''invoice '' || i, CASE WHEN i % 3 = 0 THEN ''b'' ELSE ''a'' END FROM generate_series(1, 60) i', descriptions => '{"a": "invoice", "b": "zebra"}'))],
	'drop a calibration' => ["SELECT slm_drop_calibration('mini', 1)"],
	'see what a calibration was learned from' => ["SELECT 1 / count(*) FROM slm.calibrations WHERE query LIKE '%invoice%'"],
	'use a cascade' => [ "SELECT slm_classify('x', cascade => 'casc')", "SELECT * FROM slm_classify_scores('x', cascade => 'casc')" ],
	'grant a cascade' => [ "SELECT slm_grant_cascade('casc', 'victim')", "SELECT slm_revoke_cascade('casc', 'grantee')" ],
	'make a cascade anew' => [q(SELECT slm_create_cascade('casc', '[{"classifier": "cls"}, {"classifier": "cls"}]', 'SELECT ''x'''))],
	'drop a cascade' => ["SELECT slm_drop_cascade('casc')"],
	'see what a cascade was learned from' => ["SELECT 1 / count(*) FROM slm.cascades WHERE query LIKE '%sample%'"],
	'write a prompt of a built-in function' => [ q(SELECT slm_set_prompt('slm_fix_grammar', 'Correct: ')), q(SELECT slm_set_prompt('slm_decide.text', 'Texte: ', language => 'fr')) ],
	'use a prompt that is not public' => [q(SELECT slm_generate(prompt_name => 'pub', model => 'tiny', max_tokens => 1))],
	'write another version of a prompt' => [ q(SELECT slm_set_prompt('pub', 'x')), q(SELECT slm_restore_prompt('pub', 1)) ],
	'drop a prompt' => [q(SELECT slm_drop_prompt('pub'))],
	'create a job on an own table' => [$own . "SELECT slm_create_job('mine', 'mine', 'out', 'upper(body)')"],
	'create a job on a table of another role' => ["SELECT slm_create_job('theirs', 'sample_of_victim', 'out', 'upper(body)')"],
	'alter a job' => [ "SELECT slm_alter_job('job', 'lower(body)')", "SELECT slm_alter_job('job', options => '{\"overwrite\": true}')" ],
	'give a job to another role' => ["SELECT slm_alter_job('job', options => '{\"owner\": \"heir\"}')"],
	'pause a job' => [ "SELECT slm_pause_job('job')", "SELECT slm_resume_job('job')" ],
	'run a job' => ["CALL slm_run_job('job')"],
	'retry failed rows of a job' => ["SELECT slm_retry_failed('job')"],
	'drop a job' => ["SELECT slm_drop_job('job', drop_values => true)"],
	'pause a fine-tuning in the background' => [ "SELECT slm_pause_finetune('tuning')", "SELECT slm_resume_finetune('tuning'); SELECT slm_pause_finetune('tuning')" ],
	'drop a fine-tuning in the background' => ["SELECT slm_drop_finetune('tuning')"],
	q(see another role's fine-tuning in slm.finetune_jobs) => ["SELECT 1 / count(*) FROM slm.finetune_jobs WHERE query LIKE '%sample%'"],
	q(see another role's job in slm.jobs) => [ "SELECT 1 / count(*) FROM slm.jobs WHERE name = 'job'", "SELECT 1 / count(*) FROM slm.job_status WHERE name = 'job'" ],
	q(see keys of another role's failed rows) => ["SELECT 1 / count(*) FROM slm.job_failures"],
	'see the training query of a classifier' => ["SELECT 1 / count(*) FROM slm.classifiers WHERE query LIKE '%sample%'"],
	'see the source path of a model' => ["SELECT 1 / count(*) FROM slm.models WHERE name = 'tiny' AND source LIKE '%tiny.gguf'"],
	'set slm.isa' => ["SET slm.isa = 'ref'"]);
sql('CREATE TABLE sample_of_victim (id int PRIMARY KEY, body text, out text); ALTER TABLE sample_of_victim OWNER TO victim; CREATE ROLE heir; GRANT owner_group TO heir; GRANT ALL ON sample_of_victim TO PUBLIC');

my ($table) = $page =~ /<!-- actions:.*?-->\s*(\|.*?)<!-- end of actions -->/s;
my ($head, undef, @rows) = map { [ map { s/^\s+|\s+$//gr } (split /\|/)[ 1 .. 6 ] ] } split /\n/, $table;
my %login = ('pg_monitor' => 'monitor_member', 'superuser' => 'boss');
is(join('; ', sort map { $_->[0] } @rows), join('; ', sort keys %action), 'the page and this test know the same actions');
for my $row (@rows)
{
	my ($name, @expected) = @$row;
	for my $i (0 .. $#expected)
	{
		my $role = $head->[ $i + 1 ];
		for my $statement (@{ $action{$name} || [] })
		{
			# CALL commits as it goes and cannot be rolled back: it is repeatable
			my $sql = $statement =~ /^CALL/ ? $statement : "BEGIN; $statement; ROLLBACK;";
			my ($out, $err) = ('', '');
			$node->psql('postgres', $sql, connstr => $node->connstr('postgres') . " user='" . ($login{$role} || $role) . "'", stdout => \$out, stderr => \$err);
			my ($error) = $err =~ /ERROR:\s+([^\n]*)/;
			is(defined $error ? 'no' : 'yes', $expected[$i], "$name, $role: $statement") or diag($error // 'no error');
			like($error, qr/permission denied|must be (owner|superuser|able)|does not exist|division by zero|may not|cannot SET ROLE|not permitted/i, '... and says so') if defined $error && $expected[$i] eq 'no';
		}
	}
}

# Views under SET ROLE show what the current role may see, not what the session's may.
is($node->safe_psql('postgres', q(SET ROLE "no grant"; SELECT count(*) FROM slm.jobs; SELECT count(*) FROM slm.job_failures)), "0\n0", 'SET ROLE counts');

# CREATE EXTENSION in a schema full of traps depends on none of them.
sql('CREATE DATABASE trapped');
my $traps = q(CREATE SCHEMA t; CREATE FUNCTION t.trap(anyelement, anynonarray) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trap'; END $$;
	CREATE FUNCTION t.trap(anyarray, anyarray) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trap'; END $$;);
for my $o (qw(= <> < > <= >= + - * / || ->> -> ~ ~~ @> &&))
{
	$traps .= "CREATE OPERATOR t.$o (LEFTARG = anyelement, RIGHTARG = anynonarray, FUNCTION = t.trap);\nCREATE OPERATOR t.$o (LEFTARG = anyarray, RIGHTARG = anyarray, FUNCTION = t.trap);\n";
}
for my $f (qw(count min max round now clock_timestamp unnest pg_has_role make_interval octet_length current_database md5 array_agg greatest_ format quote_literal string_agg extract))
{
	$traps .= "CREATE FUNCTION t.$f(anyelement) RETURNS anyelement LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'trap'; END \$\$;\nCREATE FUNCTION t.$f(anyelement, anynonarray) RETURNS bool LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'trap'; END \$\$;\n";
}
$node->safe_psql('trapped', $traps);
$node->safe_psql('trapped', 'CREATE EXTENSION slm_pg SCHEMA t');
is($node->safe_psql('trapped', <<"SQL"), '', 'nothing of the extension refers to a trap of the schema that it was made in');
SELECT DISTINCT pg_describe_object(x.classid, x.objid, 0) || ' uses ' || pg_describe_object(x.refclassid, x.refobjid, 0) FROM pg_depend x
WHERE x.refobjid IN (SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 't'::regnamespace AND p.prosrc LIKE '%trap%' UNION ALL SELECT o.oid FROM pg_operator o WHERE o.oprnamespace = 't'::regnamespace)
AND x.classid IN ('pg_rewrite'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_policy'::regclass, 'pg_index'::regclass)
UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p JOIN $members ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid JOIN pg_depend x ON x.classid = 'pg_proc'::regclass AND x.objid = p.oid
JOIN pg_proc q ON q.oid = x.refobjid AND x.refclassid = 'pg_proc'::regclass WHERE q.prosrc LIKE '%trap%'
SQL
$node->safe_psql('trapped', 'SET search_path = t; SELECT * FROM slm.jobs; SELECT * FROM slm.job_status; SELECT * FROM slm.models; SELECT * FROM slm.classifiers; SELECT * FROM slm.cascades; SELECT * FROM slm.calibrations; SELECT * FROM slm.progress; SELECT * FROM slm.model_status');
pass('the views can be read under a path of traps');
$node->stop;
done_testing();
