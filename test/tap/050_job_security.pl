# Background jobs: no role gains a right by a job, by a trigger, by a database of its own, or by what its code leaves behind.
#
# Functions of a role report in public.seen as whom they ran: never as another role, whatever was tried.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(sleep time);
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} ||= 60; }
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $node = PostgreSQL::Test::Cluster->new('job_security');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'slm_pg'
max_connections = 40
max_worker_processes = 20
slm.threads = 1
restart_after_crash = on
CONF
$node->start;
$node->psql('postgres', 'CREATE ROLE postgres SUPERUSER');    # where the server's user has another name
my $super = $node->safe_psql('postgres', 'SELECT current_user');
my $superusers = $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1');
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION slm_pg;
CREATE TABLE public.seen (who text, saw text, what text);
GRANT INSERT ON public.seen TO PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
CREATE ROLE mallory LOGIN;                           -- an ordinary role with a schema
CREATE ROLE connected LOGIN;                         -- a role with nothing but CONNECT (and TEMP)
CREATE ROLE dbo LOGIN CREATEDB;                      -- owns databases
CREATE ROLE crew;                                    -- reached through SET ROLE
CREATE ROLE member LOGIN NOINHERIT IN ROLE crew;
CREATE ROLE backup LOGIN BYPASSRLS;
CREATE ROLE bob LOGIN;
CREATE SCHEMA mal AUTHORIZATION mallory;
CREATE SCHEMA crew AUTHORIZATION crew;
CREATE SCHEMA br AUTHORIZATION backup;
CREATE SCHEMA bob AUTHORIZATION bob;
CREATE SCHEMA dbo AUTHORIZATION dbo;
SQL

# The attackers: how each comes to its rights, its schema, and the role as which its functions may run.
my %attackers = (
	mallory => { login => 'mallory', schema => 'mal', role => 'mallory', prefix => '' },
	createdb => { login => 'dbo', schema => 'dbo', role => 'dbo', prefix => '' },
	bypassrls => { login => 'backup', schema => 'br', role => 'backup', prefix => '' },
	set_role => { login => 'member', schema => 'crew', role => 'crew', prefix => "SET ROLE crew;\n" },
);

# Statements as a role that has logged in itself; returns output and errors.
sub as_role
{
	my ($role, $sql, $db) = @_;
	my ($out, $err) = ('', '');
	$node->psql($db || 'postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role, '-q' ], on_error_stop => 0);
	return ($out, $err);
}

# The same with %S for the attacker's schema, %R for his role, and %seen for what his functions report and try.
sub attack
{
	my ($name, $sql) = @_;
	my $a = $attackers{$name};
	my $seen = "INSERT INTO public.seen VALUES ('$a->{role}', current_user, 'function'); "
		. "IF current_user <> '$a->{role}' THEN EXECUTE 'ALTER ROLE $a->{role} SUPERUSER'; END IF;";
	$sql =~ s/%S/$a->{schema}/g;
	$sql =~ s/%R/$a->{role}/g;
	$sql =~ s/%seen/$seen/g;
	return as_role($a->{login}, $a->{prefix} . $sql);
}

# No role but the first ones is a superuser, and no function of a role has run as another. Then all is as before.
sub nobody_gained
{
	my ($name) = @_;
	my $now = $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1');
	is($now, $superusers, "$name: no new superuser");
	is($node->safe_psql('postgres', 'SELECT DISTINCT who, saw, what FROM public.seen WHERE who <> saw'), '', "$name: no function ran as another role");
	$node->safe_psql('postgres', 'TRUNCATE public.seen; ALTER ROLE mallory NOSUPERUSER; ALTER ROLE dbo NOSUPERUSER; ALTER ROLE crew NOSUPERUSER; ALTER ROLE backup NOSUPERUSER');
	return;
}

sub never_crashed
{
	my ($name) = @_;
	unlike(slurp_file($node->logfile), qr/was terminated by signal|all server processes terminated/, "$name: no process crashed");
	return;
}

# Waits until a condition holds; a job must not fail to get there because of what was tried.
sub wait_for
{
	my ($sql, $name) = @_;
	return ok($node->poll_query_until('postgres', "SELECT $sql"), $name);
}

# The same as the owner of the tables: a superuser who reads them plans with their index expressions, as himself.
sub wait_as
{
	my ($role, $sql, $name) = @_;
	my $out = '';
	for (1 .. 600)
	{
		($out) = as_role($role, "SELECT $sql");
		last if $out eq 't';
		sleep(0.1);
	}
	return is($out, 't', $name);
}

# A fresh table %S.t (id, body, out) of the attacker with one row.
my $table = "CREATE TABLE %S.t (id int PRIMARY KEY, body text, out text);\nINSERT INTO %S.t VALUES (1, 'a');\n";

# ---- C1: a trigger of one's own on one's own table
for my $name (sort keys %attackers)
{
	my $job = "c1_$name";
	# transition tables of other names, and in the way of ours a view, a temporary view, a temporary table with a policy
	my ($out, $err) = attack($name, $table . <<"SQL");
SET search_path = %S, public;
CREATE FUNCTION %S.pwn() RETURNS int LANGUAGE plpgsql AS \$\$ BEGIN %seen RETURN 1; END \$\$;
SELECT slm_create_job('$job', '%S.t', 'out', 'upper(body)');
CREATE VIEW %S.slm_new AS SELECT %S.pwn() AS id;
CREATE VIEW %S.slm_old AS SELECT %S.pwn() AS id, '1'::text AS body;
SELECT format('CREATE TRIGGER aa AFTER INSERT ON %S.t REFERENCING NEW TABLE AS other FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)', job_id),
    format('CREATE TRIGGER ab AFTER DELETE ON %S.t REFERENCING OLD TABLE AS other FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)', job_id),
    format('CREATE TRIGGER ac AFTER UPDATE ON %S.t REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)', job_id),
    format('CREATE TRIGGER ad AFTER INSERT ON %S.t FOR EACH ROW EXECUTE FUNCTION slm.job_enqueue(%L)', job_id)
  FROM slm.jobs WHERE name = '$job' \\gexec
INSERT INTO %S.t VALUES (2, 'x');
UPDATE %S.t SET body = body || '!', id = id + 10;
DELETE FROM %S.t WHERE id = 12;
SET search_path = pg_catalog, pg_temp;
CREATE TEMP VIEW slm_new AS SELECT %S.pwn() AS id;
CREATE TEMP VIEW slm_old AS SELECT %S.pwn() AS id;
INSERT INTO %S.t VALUES (3, 'x');
UPDATE %S.t SET body = body || '?', id = id + 20;
DELETE FROM %S.t WHERE id = 23;
SELECT 'writers go on';
SQL
	like($out, qr/writers go on/, "C1 $name: the writer's statements go on");
	like($err, qr/WARNING:  trigger "aa" of table "t" is not as slm_create_job makes it/, 'and say that a trigger is passed over');
	unlike($err, qr/ERROR/, 'without an error');
	# triggers of the job itself, made anew in another shape under their own names
	($out, $err) = attack($name, <<"SQL");
SELECT format('CREATE OR REPLACE TRIGGER slm_job_%s_insert AFTER INSERT ON %S.t REFERENCING NEW TABLE AS other FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)', job_id, job_id),
    format('CREATE OR REPLACE TRIGGER slm_job_%s_update AFTER UPDATE OF body ON %S.t FOR EACH ROW WHEN (%S.pwn() = 1) EXECUTE FUNCTION slm.job_enqueue(%L)', job_id, job_id)
  FROM slm.jobs WHERE name = '$job' \\gexec
INSERT INTO %S.t VALUES (4, 'x');
UPDATE %S.t SET body = 'y';
SELECT slm_drop_job('$job');
DROP SCHEMA %S CASCADE;
SQL
	nobody_gained("C1 $name");
	$node->safe_psql('postgres', "DROP SCHEMA IF EXISTS $attackers{$name}{schema} CASCADE; CREATE SCHEMA $attackers{$name}{schema} AUTHORIZATION $attackers{$name}{role}");
}
my ($out, $err) = as_role('bob', <<'SQL');
CREATE TABLE bob.t (id int PRIMARY KEY, body text, out text);
SELECT slm_create_job('bobs', 'bob.t', 'out', 'upper(body)', '{"paused": true}');
SQL
($out, $err) = as_role('connected', <<'SQL');
CREATE TEMP TABLE t (id int PRIMARY KEY, body text, out text);
SELECT slm_create_job('temp', 'pg_temp.t', 'out', 'upper(body)');
CREATE FUNCTION pg_temp.pwn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES ('connected', current_user, 'pwn'); RETURN 1; END $$;
CREATE TEMP VIEW slm_new AS SELECT pg_temp.pwn() AS id;
SELECT format('CREATE TRIGGER a%s AFTER INSERT ON t REFERENCING NEW TABLE AS other FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)', i, i),
    format('CREATE TRIGGER slm_job_%s_insert AFTER INSERT ON t REFERENCING NEW TABLE AS slm_new FOR EACH STATEMENT EXECUTE FUNCTION slm.job_enqueue(%L)', i, i)
  FROM generate_series(1, 9) i \gexec
INSERT INTO t VALUES (1, 'x');
SELECT slm_create_job('x', 'bob.t', 'out', 'upper(body)');
SELECT slm_drop_job('bobs');
SELECT slm_alter_job('bobs', 'lower(body)');
SELECT slm_pause_job('bobs');
SELECT slm_retry_failed('bobs');
CALL slm_run_job('bobs');
SELECT count(*) AS jobs FROM slm.jobs;
SQL
like($err, qr/belongs to a job of another table/, 'a role with CONNECT only cannot use the trigger of a job of others');
unlike($out . join("\n", grep { /WARNING/ } split /\n/, $err), qr/bobs/, 'warnings do not name it');
is(scalar(() = $err =~ /job "bobs" does not exist/g), 5, 'no function does anything with it');
like($err, qr/permission denied for schema bob/, 'nor can it name a table of another');
like($out, qr/^0$/m, 'nor see the job');
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA bob TO connected; GRANT ALL ON bob.t TO connected');
like((as_role('connected', "SELECT slm_create_job('x', 'bob.t', 'body', 'upper(out)')"))[1], qr/job "x" of role "connected" may not work on table bob.t/,
	'whatever is granted on a table, who could not be its owner makes no job on it');
nobody_gained('a role with CONNECT only');

# ---- M1, M2, M3, S12, S17, H1: nothing is there to be written, read or locked
my $objects = "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'slm' AND relname LIKE 'job\\_%'";
for my $relation (split /\n/, $node->safe_psql('postgres', "$objects AND relkind IN ('r', 'S') ORDER BY 1"))
{
	is($node->safe_psql('postgres', "SELECT coalesce(string_agg(p, ','), '') FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p "
				. "WHERE '$relation'::regclass IN (SELECT oid FROM pg_class WHERE relkind = 'r') AND has_table_privilege('mallory', '$relation', p)"),
		'', "no privilege of PUBLIC on $relation");
	like((as_role('mallory', "BEGIN; LOCK TABLE $relation"))[1], qr/permission denied|cannot lock/, "$relation cannot be locked");
	like((as_role('mallory', "TABLE $relation"))[1], qr/permission denied/, 'nor read');
}
like((as_role('mallory', "SELECT nextval('slm.job_queue_id_seq')"))[1], qr/permission denied/, 'a sequence cannot be run to its end');
like((as_role('mallory', 'BEGIN; LOCK TABLE slm.jobs IN ACCESS EXCLUSIVE MODE'))[1], qr/permission denied/, 'a view lends no lock');
is($node->safe_psql('postgres', "SELECT string_agg(p.oid::regprocedure::text, ' ' ORDER BY 1) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
	WHERE nspname = 'slm' AND proname LIKE 'job\\_%' AND has_function_privilege('mallory', p.oid, 'EXECUTE')"),
	'slm.job_enqueue()', 'of the functions in schema slm only the trigger may be used, which restored tables need');
is($node->safe_psql('postgres', "SELECT string_agg(attrelid::regclass::text, ' ' ORDER BY attrelid::regclass::text) FROM pg_attribute WHERE attidentity = 'a'
	AND attrelid IN ('slm.job_definition'::regclass, 'slm.job_queue'::regclass)"), 'slm.job_definition slm.job_queue', 'identities are always generated');

# ---- H1: an expression is one expression
for my $text ('1) AS slm_value FROM slm_u, mal.ti) slm_s) SELECT 4096,4096,4096 --', 'upper(body) FROM slm.job_queue', 'body, body', 'body AS x', '1; DROP TABLE mal.t',
	'body) --', '$1::text', '*', 'body UNION SELECT body', 'body INTO mal.x', '(SELECT body', '', 'upper(body) --', '/* a */ upper(body)')
{
	my $right = $text =~ /^upper\(body\) --$|a \*\//;
	($out, $err) = as_role('mallory', "CREATE TABLE IF NOT EXISTS mal.ti (id int PRIMARY KEY, body text, out text);\nSELECT slm_create_job('inj', 'mal.ti', 'out', \$x\$$text\$x\$, '{\"paused\": true}')");
	$right ? is($err, "psql:<stdin>:1: NOTICE:  relation \"ti\" already exists, skipping", "comments are part of an expression: $text")
		: like($err, qr/ERROR:  (the expression|syntax error|there is no parameter)/, "refused: $text");
	as_role('mallory', "SELECT slm_drop_job('inj')") if $right;
}
# a superuser may write the definition, and is held to the same
$node->safe_psql('postgres', <<'SQL');
INSERT INTO mal.ti VALUES (1, 'a');
SELECT slm_create_job('inj', 'mal.ti', 'out', 'upper(body)', '{"paused": true}');
UPDATE slm.job_definition SET expression = $$1) AS slm_value FROM slm_u, mal.ti) slm_s) SELECT 4096,4096,4096,4096,4096,4096,4096 --$$ WHERE name = 'inj';
SQL
($out, $err) = ('', '');
$node->psql('postgres', "CALL slm_run_job('inj')", stderr => \$err);
like($err, qr/syntax error/, 'also in a batch');
$node->safe_psql('postgres', "SELECT slm_drop_job('inj')");
never_crashed('expressions');

# ---- S8: types, casts and operators of the owner's own on his search_path
$node->safe_psql('postgres', 'CREATE SCHEMA tess AUTHORIZATION mallory');
($out, $err) = as_role('mallory', <<'SQL');
CREATE TYPE tess.text AS ENUM ('a', 'b');
CREATE TYPE tess.jsonb AS (a int);
CREATE TYPE tess.int8 AS ENUM ('a', 'b');
CREATE FUNCTION tess.cast_text(pg_catalog.text) RETURNS tess.text LANGUAGE sql IMMUTABLE AS $$ SELECT 'a'::tess.text $$;
CREATE FUNCTION tess.eq(pg_catalog.text, tess.text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR tess.= (LEFTARG = pg_catalog.text, RIGHTARG = tess.text, FUNCTION = tess.eq);
CREATE FUNCTION tess.odd(pg_catalog.text, pg_catalog.text) RETURNS int LANGUAGE sql AS 'SELECT 4096';
CREATE OPERATOR tess.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = tess.odd);
CREATE OPERATOR tess.->> (LEFTARG = pg_catalog.jsonb, RIGHTARG = int, FUNCTION = pg_catalog.jsonb_array_element_text);
CREATE FUNCTION tess.md5(pg_catalog.text) RETURNS int LANGUAGE sql AS 'SELECT 4096';
CREATE FUNCTION tess.concat(VARIADIC "any") RETURNS pg_catalog.text LANGUAGE internal IMMUTABLE AS 'text_concat';
CREATE FUNCTION tess.array_agg(anyelement) RETURNS int LANGUAGE sql AS 'SELECT 4096';
CREATE TABLE tess.t (id int PRIMARY KEY, body pg_catalog.text, out pg_catalog.text);
INSERT INTO tess.t VALUES (1, 'a');
CREATE CAST (pg_catalog.text AS tess.text) WITH FUNCTION tess.cast_text(pg_catalog.text);
CREATE FUNCTION tess.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing BEFORE UPDATE ON tess.t FOR EACH ROW EXECUTE FUNCTION tess.nothing();
SET search_path = tess, pg_catalog, public;
SELECT slm_create_job('ty', 'tess.t', 'out', 'pg_catalog.upper(body)', '{"paused":true,"overwrite":true,"max_attempts":1}');
CALL slm_run_job('ty');
CALL slm_run_job('ty');
DROP TRIGGER nothing ON tess.t;
SELECT slm_retry_failed('ty');
CALL slm_run_job('ty');
SELECT out FROM tess.t;
SELECT slm_drop_job('ty', true);
SELECT slm_create_job('row', 'tess.t', 'out', 'ROW(1, body)', '{"paused":true}');
SELECT slm_create_job('row', 'tess.t', 'out', 'ARRAY[t]', '{"paused":true}');
SQL
like($out, qr/^A$/m, 'the job does its work all the same') or diag($out, $err);
never_crashed('types and operators of the same name');

# ---- S1: settings of a job's expression end with it
($out, $err) = as_role('mallory', <<'SQL');
SET search_path = mal, public;
CREATE TABLE mal.t (id int PRIMARY KEY, body text, out text);
INSERT INTO mal.t VALUES (1, 'a');
CREATE FUNCTION mal.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.seen VALUES ('mallory', current_user, 'unnest'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$;
CREATE FUNCTION mal.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.seen VALUES ('mallory', current_user, 'clock_timestamp'); RETURN pg_catalog.clock_timestamp(); END $$;
CREATE FUNCTION mal.leave(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  PERFORM set_config('search_path', 'mal, pg_catalog', false), set_config('work_mem', '77MB', false), set_config('my.own', 'x', false),
    set_config('slm.generate_model', 'of mallory', false), set_config('slm.threads', '1000', false), set_config('default_transaction_read_only', 'on', false),
    set_config('statement_timeout', '1', false), pg_advisory_lock(4711);
  RETURN current_setting('search_path') || current_setting('work_mem') || current_setting('my.own');
END $$;
SELECT slm_create_job('e2', 'mal.t', 'out', 'mal.leave(body)', '{"paused": true}');
CALL slm_run_job('e2');
SHOW search_path;
SHOW work_mem;
SHOW default_transaction_read_only;
SELECT coalesce(current_setting('my.own', true), '');
SELECT out FROM mal.t;
SQL
like($out, qr/^mal, public\n4MB\noff\n\nmal, pg_catalog77MBx$/m, 'settings of an expression end with its batch') or diag($out, $err);
nobody_gained('S1 in a session');
$node->psql('postgres', "UPDATE mal.t SET body = 'b', out = NULL; SET search_path = mal, public; CALL slm_run_job('e2'); SHOW work_mem; SHOW search_path", stdout => \$out);
like($out, qr/^4MB\nmal, public$/m, 'also when a superuser calls slm_run_job');
nobody_gained('S1 in a superuser\'s session');
as_role('mallory', "UPDATE mal.t SET body = 'c', out = NULL; SELECT slm_resume_job('e2')");
wait_for('out IS NOT NULL FROM mal.t', 'a worker runs the job');
as_role('bob', <<'SQL');
INSERT INTO bob.t VALUES (1, 'a');
SELECT slm_alter_job('bobs', $$concat_ws(' ', current_setting('search_path'), current_setting('work_mem'), coalesce(current_setting('my.own', true), ''), current_user,
  current_setting('slm.generate_model'), current_setting('slm.threads'), current_setting('statement_timeout'))$$);
SELECT slm_resume_job('bobs');
SQL
wait_for('out IS NOT NULL FROM bob.t', "bob's job is served by the same worker");
is($node->safe_psql('postgres', 'SELECT out FROM bob.t'), 'pg_catalog, bob, public, pg_temp 4MB  bob  1 0', 'and finds nothing of hers');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"), 0, 'nor do session locks stay with the worker');
nobody_gained('S1 in a worker');
as_role('mallory', "SELECT slm_drop_job('e2')");

# ---- S2: a job is given only to a role that the giver could be
($out, $err) = as_role('backup', <<'SQL');
CREATE TABLE br.t (id int PRIMARY KEY, body text, out text);
INSERT INTO br.t VALUES (1, 'a');
CREATE FUNCTION br.f(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES ('backup', current_user, 'f'); RETURN upper($1); END $$;
SELECT slm_create_job('b1', 'br.t', 'out', 'br.f(body)', '{"paused": true}');
SELECT slm_alter_job('b1', options => '{"owner": "postgres"}');
SELECT slm_alter_job('b1', options => '{"owner": "bob"}');
SELECT slm_alter_job('b1', options => '{"owner": "nobody"}');
UPDATE slm.job_definition SET owner = 'postgres';
CALL slm_run_job('b1');
SQL
like($err, qr/you may not give job "b1" to role "postgres"/, 'not to a superuser');
like($err, qr/you may not give job "b1" to role "bob"/, 'nor to another role');
# through SET ROLE, and back: member may be crew, crew may not be member
($out, $err) = attack('set_role', <<'SQL');
CREATE TABLE crew.t (id int PRIMARY KEY, body text, out text);
SELECT slm_create_job('crews', 'crew.t', 'out', 'upper(body)', '{"paused": true}');
SELECT slm_alter_job('crews', options => '{"owner": "member"}');
RESET ROLE;
SELECT slm_alter_job('crews', options => '{"owner": "member"}');
SELECT count(*) AS seen_by_noinherit FROM slm.jobs WHERE name = 'crews';
SQL
like($err, qr/you may not give job "crews" to role "member".*job "crews" does not exist/s, 'membership is asked in the direction of SET ROLE, and rights must be inherited');
# a superuser may; the expression still runs as the table's owner
$node->safe_psql('postgres', "UPDATE br.t SET out = NULL, body = 'b'; SELECT slm_alter_job('b1', options => '{\"owner\": \"postgres\"}'); CALL slm_run_job('b1')");
is($node->safe_psql('postgres', 'SELECT out FROM br.t'), 'B', 'a superuser takes the job over');
nobody_gained('S2');
$node->safe_psql('postgres', "SELECT slm_drop_job('b1'); SELECT slm_drop_job('crews')");

# ---- S3, M6: what belongs to a table runs as the table's owner, whoever owns the job, runs, alters or drops it
as_role('mallory', <<'SQL');
CREATE FUNCTION mal.saw(what text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.seen VALUES ('mallory', current_user, what); IF current_user <> 'mallory' THEN EXECUTE 'ALTER ROLE mallory SUPERUSER'; END IF; RETURN 1; END $$;
CREATE FUNCTION mal.folded(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN mal.saw(what); END $$;
CREATE FUNCTION mal.tf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.saw(TG_NAME || TG_WHEN || TG_OP); RETURN NEW; END $$;
CREATE TYPE mal.mood AS ENUM ('sad', 'happy');
CREATE FUNCTION mal.mood_text(mal.mood) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mal.saw('cast to text'); RETURN CASE $1 WHEN 'sad' THEN 'sad' ELSE 'happy' END; END $$;
CREATE CAST (mal.mood AS text) WITH FUNCTION mal.mood_text(mal.mood) AS ASSIGNMENT;
CREATE FUNCTION mal.text_mood(text) RETURNS mal.mood LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mal.saw('cast from text'); RETURN CASE $1 WHEN 'sad' THEN 'sad'::mal.mood ELSE 'happy' END; END $$;
CREATE CAST (text AS mal.mood) WITH FUNCTION mal.text_mood(text) AS ASSIGNMENT;
CREATE DOMAIN mal.checked AS text CHECK (mal.folded('domain') = 1);
CREATE TABLE mal.src (id mal.mood, part int, body text, out mal.checked, gen int GENERATED ALWAYS AS (mal.folded('generated') + length(body)) STORED, CHECK (mal.folded('check') = 1), PRIMARY KEY (id, part));
CREATE INDEX ON mal.src ((length(body) + mal.folded('index'))) WHERE mal.folded('predicate') = 1;
CREATE STATISTICS mal.st ON (length(body) + mal.folded('statistics')) FROM mal.src;
CREATE TRIGGER t1 BEFORE UPDATE ON mal.src FOR EACH ROW EXECUTE FUNCTION mal.tf();
CREATE TRIGGER t2 AFTER UPDATE ON mal.src FOR EACH STATEMENT EXECUTE FUNCTION mal.tf();
CREATE CONSTRAINT TRIGGER t3 AFTER UPDATE ON mal.src DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mal.tf();
CREATE TABLE mal.dst (id mal.mood, part int, out text, x int DEFAULT mal.folded('default'), PRIMARY KEY (id, part));
CREATE TRIGGER d1 BEFORE INSERT OR UPDATE ON mal.dst FOR EACH ROW EXECUTE FUNCTION mal.tf();
CREATE RULE r AS ON UPDATE TO mal.dst WHERE mal.saw('rule') = 2 DO ALSO SELECT mal.saw('rule action');
ALTER TABLE mal.src ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON mal.src USING (mal.saw('policy') = 1);
INSERT INTO mal.src (id, part, body) VALUES ('happy', 1, 'a'), ('sad', 2, 'b');
SQL
my $jobs = <<'SQL';
SELECT slm_create_job('admins', 'mal.src', 'out', 'upper(body)');
SELECT slm_create_job('admins2', 'mal.src', 'out', 'upper(body)', '{"target": "mal.dst"}');
SQL
$node->psql('postgres', $jobs, stderr => \$err);
# an ordinary thing to do: a superuser's job on a table of another role (the job into dst uses a rule and is refused by ON CONFLICT)
$node->psql('postgres', "DROP RULE r ON mal.dst; SELECT slm_create_job('admins2', 'mal.src', 'out', 'upper(body)', '{\"target\": \"mal.dst\"}')", stderr => \$err);
is($err, '', 'a superuser makes jobs on a table of another role');
wait_as('mallory', "count(out) = 2 FROM mal.src", 'his job works');
wait_as('mallory', "count(*) FILTER (WHERE out IN ('A', 'B')) = 2 FROM mal.dst", 'also into a separate table');
as_role('mallory', "UPDATE mal.src SET body = body || 'x'; UPDATE mal.src SET part = part + 1");
$node->psql('postgres', "CALL slm_run_job('admins'); CALL slm_run_job('admins2'); SELECT slm_alter_job('admins', 'lower(body)'); CALL slm_run_job('admins')", stderr => \$err);
unlike($err, qr/ERROR/, 'a superuser runs and alters them');
cmp_ok($node->safe_psql('postgres', "SELECT count(DISTINCT what) FROM public.seen WHERE saw = 'mallory'"), '>=', 8, "the table's code has run")
	or diag($node->safe_psql('postgres', 'SELECT DISTINCT * FROM seen'));
$node->psql('postgres', "SET CONSTRAINTS ALL IMMEDIATE; SELECT slm_drop_job('admins2', drop_values => true)", stderr => \$err);
unlike($err, qr/ERROR/, 'and takes values back');
$node->psql('postgres', "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; SELECT slm_drop_job('admins', drop_values => true); COMMIT", stderr => \$err);
unlike($err, qr/ERROR/, 'also where constraints are deferred');
nobody_gained("S3: a superuser's jobs");
# M6: her own job, dropped by a superuser
as_role('mallory', "SELECT slm_create_job('hers', 'mal.src', 'out', 'upper(body)')");
wait_as('mallory', "count(*) = 2 FROM mal.src WHERE out = upper(body)", 'her own job works');
$node->psql('postgres', "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; SELECT slm_drop_job('hers', drop_values => true); COMMIT", stderr => \$err);
is((as_role('mallory', 'SELECT count(out) FROM mal.src'))[0], 0, 'a superuser drops the values of her job');
nobody_gained('M6: a superuser drops the job of another');

# ---- owners and memberships that change between creation and batch
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE public.moved (id int PRIMARY KEY, body text, out text);
ALTER TABLE public.moved OWNER TO bob;
SQL
as_role('bob', "SELECT slm_create_job('moves', 'public.moved', 'out', 'current_user || body')");
$node->safe_psql('postgres', "ALTER TABLE public.moved OWNER TO mallory; INSERT INTO public.moved VALUES (1, '1')");
wait_for("error LIKE '42501%may not work on table public.moved%' FROM slm.jobs WHERE name = 'moves'", 'a job stops when its table gets another owner');
$node->safe_psql('postgres', "GRANT mallory TO bob; SELECT slm_resume_job('moves')");
wait_for("out = 'mallory1' FROM public.moved", 'and goes on when its owner may be that role');
$node->safe_psql('postgres', "REVOKE mallory FROM bob; UPDATE public.moved SET body = '2'");
wait_for("error LIKE '42501%' FROM slm.jobs WHERE name = 'moves'", 'until he may not any more');
is($node->safe_psql('postgres', "SELECT attempts, failed FROM slm.job_queue q JOIN slm.jobs j USING (job_id) WHERE name = 'moves'"), '0|f', 'which no row is charged for');
($out, $err) = as_role('bob', "SELECT slm_drop_job('moves', true)");
like($err, qr/you may not change table public.moved/, 'he cannot take values back from a table that is not his');
($out, $err) = as_role('bob', "SELECT slm_drop_job('moves')");
is($err, '', 'but end his job');
$node->safe_psql('postgres', "INSERT INTO public.moved VALUES (3, '3')");
# source and target of different owners
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE twin LOGIN IN ROLE mallory, bob;
CREATE TABLE mal.two (id int PRIMARY KEY, body text);
CREATE TABLE bob.two (id int PRIMARY KEY, out text, who text DEFAULT current_user);
ALTER TABLE mal.two OWNER TO mallory;
ALTER TABLE bob.two OWNER TO bob;
INSERT INTO mal.two VALUES (1, 'x');
SQL
like((as_role('mallory', "SELECT slm_create_job('two', 'mal.two', 'out', 'body', '{\"target\": \"bob.two\"}')"))[1], qr/may not work on table bob.two|permission denied for schema/, 'a target of another is refused');
like((as_role('bob', "SELECT slm_create_job('two', 'mal.two', 'out', 'body', '{\"target\": \"bob.two\"}')"))[1], qr/may not work on table mal.two|permission denied for schema/, 'and so is a source');
($out, $err) = as_role('twin', "SELECT slm_create_job('two', 'mal.two', 'out', 'current_user || body', '{\"target\": \"bob.two\"}')");
wait_for("out = 'malloryx' AND who = 'bob' FROM bob.two", 'who may be both owners has a job: the expression runs as the source\'s, the write as the target\'s');
as_role('twin', "SELECT slm_drop_job('two')");

# ---- one column, one job; nothing is computed from itself
as_role('bob', <<'SQL');
CREATE TABLE bob.self (id int PRIMARY KEY, body text, out text, other text, gen text GENERATED ALWAYS AS (out || '!') STORED);
SELECT slm_create_job('self', 'bob.self', 'other', 'body', '{"paused": true}');
SQL
like((as_role('bob', "SELECT slm_create_job('again', 'bob.self', 'other', 'upper(body)')"))[1], qr/another job fills column "other" of table bob.self/, 'two jobs on one column are refused');
like((as_role('bob', "SELECT slm_create_job('again', 'bob.t', 'other', 'body', '{\"target\": \"bob.self\"}')"))[1], qr/another job fills column "other"/, 'also from another table');
like((as_role('bob', "SELECT slm_create_job('it', 'bob.self', 'out', 'coalesce(out, body)')"))[1], qr/reads the column that it fills/, 'a target that is an input is refused');
like((as_role('bob', "SELECT slm_create_job('it', 'bob.self', 'out', 'self.out')"))[1], qr/reads the column that it fills/, 'also by the table\'s name');
like((as_role('bob', "SELECT slm_create_job('it', 'bob.self', 'out', 'body || gen')"))[1], qr/reads the column that it fills/, 'also through a generated column');
like((as_role('bob', "SELECT slm_alter_job('self', 'other')"))[1], qr/reads the column that it fills/, 'also by slm_alter_job');
is((as_role('bob', "SELECT slm_create_job('it', 'bob.self', 'out', 'to_jsonb(self)::text', '{\"paused\": true}')"))[1], '', 'the row as a whole is not the column');
as_role('bob', "SELECT slm_drop_job('it'); SELECT slm_drop_job('self')");

# ---- S11: conditions of a reader do not see the rows that the views hide
as_role('bob', <<'SQL');
SELECT slm_create_job('hidden', 'bob.self', 'out', $$'a secret prompt of bob' || (1 / (id - 1))$$, '{"paused": true, "max_attempts": 1}');
INSERT INTO bob.self VALUES (1, 'patient');
CALL slm_run_job('hidden');
SQL
is($node->safe_psql('postgres', 'SELECT count(*) FROM slm.job_failures'), 1, 'there is something to hide');
($out, $err) = as_role('mallory', <<'SQL');
CREATE FUNCTION mal.leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$;
SELECT 1 FROM slm.jobs j WHERE mal.leak(name || owner::text || expression);
SELECT 1 FROM slm.job_failures j WHERE mal.leak(key::text || error);
SELECT 1 FROM slm.job_status j WHERE mal.leak(name);
SELECT 1 FROM slm.jobs j WHERE mal.leak(name) OR 1 / (job_id - job_id) = 1;
SQL
unlike($err, qr/leaked|division/, 'a function in a condition sees no job of others');
as_role('bob', "SELECT slm_drop_job('hidden'); SELECT slm_drop_job('bobs')");

# ---- S4: the extension in a schema in which others make functions and operators
$node->safe_psql('postgres', 'CREATE DATABASE open_schema');
$node->safe_psql('open_schema', 'GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE TABLE public.seen (who text, saw text, what text); GRANT INSERT ON public.seen TO PUBLIC');
as_role('mallory', <<'SQL', 'open_schema');
CREATE FUNCTION public.pwn(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.seen VALUES ('mallory', current_user, what); IF current_user <> 'mallory' THEN EXECUTE 'ALTER ROLE mallory SUPERUSER'; END IF; END $$;
-- every operator of two built-in types that has no exact match, for the types that the views use
DO $do$
DECLARE t text[] := '{smallint,integer,bigint,numeric,real,double precision,oid,regclass,regrole,regnamespace,text,name,character varying,jsonb,timestamptz,interval,boolean}';
    l text; r text; o text; n int := 0;
BEGIN
    FOREACH o IN ARRAY '{=,<>,<,>,<=,>=,+,-,*,/,||,->>,~}'::text[] LOOP FOREACH l IN ARRAY t LOOP FOREACH r IN ARRAY t LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_operator WHERE oprname = o AND oprleft = l::regtype AND oprright = r::regtype AND oprnamespace = 'pg_catalog'::regnamespace);
        n := n + 1;
        EXECUTE format('CREATE FUNCTION public.o%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.pwn(%L); RETURN NULL; END $f$', n, l, r,
            CASE WHEN o IN ('+', '-', '*', '/') THEN 'numeric' WHEN o IN ('||', '->>') THEN 'text' ELSE 'boolean' END, l || o || r);
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.o%s)', o, l, r, n);
    END LOOP; END LOOP; END LOOP;
END $do$;
CREATE FUNCTION public.make_interval(secs numeric) RETURNS interval LANGUAGE plpgsql AS $$ BEGIN PERFORM public.pwn('make_interval'); RETURN '1 s'; END $$;
CREATE FUNCTION public.round(double precision, integer) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN PERFORM public.pwn('round'); RETURN 1; END $$;
CREATE FUNCTION public.pg_has_role(regrole, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.pwn('pg_has_role'); RETURN true; END $$;
CREATE FUNCTION public.pg_has_role(regrole, unknown) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.pwn('pg_has_role'); RETURN true; END $$;
CREATE FUNCTION public.to_jsonb(integer) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM public.pwn('to_jsonb'); RETURN '1'; END $$;
CREATE FUNCTION public.array_agg(integer) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN PERFORM public.pwn('array_agg'); RETURN 1; END $$;
SQL
$node->safe_psql('open_schema', 'CREATE EXTENSION slm_pg');
as_role('mallory', <<'SQL', 'open_schema');
CREATE TABLE public.t (id varchar(9) PRIMARY KEY, body varchar(9), out varchar(99));
INSERT INTO public.t VALUES ('a', 'b');
SELECT slm_create_job('open', 'public.t', 'out', 'upper(body)');
INSERT INTO public.t VALUES ('c', 'd');
SQL
ok($node->poll_query_until('open_schema', 'SELECT count(out) = 2 FROM public.t'), 'a job works there');
$node->psql('open_schema', <<'SQL', stderr => \$err);
SELECT * FROM slm.jobs;
SELECT * FROM slm.job_status;
SELECT * FROM slm.job_failures;
SELECT * FROM slm.job_status WHERE name = 'open' AND pending = 0;
UPDATE public.t SET id = pg_catalog.concat(id, 'x'), body = 'e';
CALL slm_run_job('open');
SELECT slm_pause_job('open'), slm_resume_job('open'), slm_retry_failed('open');
SELECT slm_alter_job('open', 'lower(body)', '{"retry_delay": "1 s", "batch_size": 7}');
CALL slm_run_job('open');
SELECT slm_drop_job('open', true);
SQL
unlike($err, qr/ERROR/, 'a superuser looks at it and changes it') or diag($err);
is($node->safe_psql('open_schema', "SELECT DISTINCT saw, what FROM public.seen WHERE who <> saw"), '', 'no operator or function of others is called');
nobody_gained('S4');

# ---- S16: a role that is dropped takes its name from its jobs
$node->safe_psql('postgres', <<'SQL');
DROP SCHEMA mal, tess CASCADE;
CREATE ROLE leaver LOGIN;
CREATE TABLE public.left_behind (id int PRIMARY KEY, body text, out text);
ALTER TABLE public.left_behind OWNER TO leaver;
CREATE TABLE public.stays (id int PRIMARY KEY, body text, out text);
INSERT INTO public.stays VALUES (1, 'a');
SELECT slm_create_job('stays', 'public.stays', 'out', 'upper(body)', '{"paused": true}');
CREATE TABLE public.vanishes (id int PRIMARY KEY, body text, out text);
SELECT slm_create_job('vanishes', 'public.vanishes', 'out', 'upper(body)', '{"paused": true}');
DROP TABLE public.vanishes;
SQL
as_role('leaver', "SELECT slm_create_job('leavers', 'public.left_behind', 'out', 'upper(body)')");
$node->safe_psql('postgres', "ALTER TABLE public.left_behind OWNER TO postgres; DROP ROLE leaver; INSERT INTO public.left_behind VALUES (1, 'a')");
wait_for("owner = '-'::regrole FROM slm.jobs WHERE name = 'leavers'", 'the owner of his jobs is nobody');
is($node->safe_psql('postgres', "SELECT error FROM slm.jobs WHERE name = 'leavers'"), 'its owner was dropped', 'and the job says why it does not work');
is((as_role('mallory', "SELECT count(*) FROM slm.jobs WHERE name = 'leavers'"))[0], '0', 'nobody sees it');
like((as_role('mallory', "SELECT slm_alter_job('leavers', options => '{\"owner\": \"mallory\"}')"))[1], qr/job "leavers" does not exist/, 'or takes it');
$node->psql('postgres', "CALL slm_run_job('leavers')", stderr => \$err);
like($err, qr/the owner of job "leavers" is gone/, 'it does not run');
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
my $dump = $node->basedir . '/jobs.sql';
$node->command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
my @rows = slurp_file($dump) =~ /^COPY slm\.job_definition .*? FROM stdin;\n(.*?)^\\\./ms;
like($rows[0], qr/\tstays\t$super\tpublic\.stays\t/, 'a dump has the jobs');
unlike($rows[0], qr/leavers|vanishes/, 'but those whose owner or table is gone');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'elsewhere', '-f', $dump ], 'it is restored');
is($node->safe_psql('elsewhere', 'SELECT name, owner, source FROM slm.jobs'), "stays|$super|stays", 'as it was');
$node->safe_psql('elsewhere', "CALL slm_run_job('stays'); SELECT slm_drop_job('stays')");
$node->safe_psql('postgres', "SELECT slm_alter_job('leavers', options => '{\"owner\": \"postgres\"}')");
wait_for("out = 'A' FROM public.left_behind", 'a superuser gives the job a new owner');

never_crashed('all');
$node->stop;
done_testing();
