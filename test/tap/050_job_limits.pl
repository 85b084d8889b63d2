# Background jobs: workers leave databases alone that are not theirs, no setting of others holds in them, and no job stops those of others.
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

my $tiny = "$FindBin::RealBin/../data/tiny.gguf";
my $node = PostgreSQL::Test::Cluster->new('job_limits');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'slm_pg'
max_connections = 40
max_worker_processes = 20
restart_after_crash = on
CONF
$node->start;
my $super = $node->safe_psql('postgres', 'SELECT current_user');
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION slm_pg;
CREATE ROLE mallory LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE dbo LOGIN CREATEDB;
CREATE SCHEMA mal AUTHORIZATION mallory;
CREATE SCHEMA bob AUTHORIZATION bob;
SQL

sub as_role
{
	my ($role, $sql, $db) = @_;
	my ($out, $err) = ('', '');
	$node->psql($db || 'postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role, '-q' ], on_error_stop => 0);
	return ($out, $err);
}

sub wait_for
{
	my ($sql, $name, $db) = @_;
	return ok($node->poll_query_until($db || 'postgres', "SELECT $sql"), $name);
}

# ---- C2: a schema that looks like the extension, in databases of a role that may make them
my $trap = <<'SQL';
CREATE FUNCTION slm.pwn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'dbo' THEN EXECUTE 'ALTER ROLE dbo SUPERUSER'; END IF; RETURN 1; END $$;
SQL
as_role('dbo', 'CREATE DATABASE evedb');
as_role('dbo', "CREATE SCHEMA slm;\n$trap" . <<'SQL', 'evedb');
CREATE TABLE slm.job_queue(id bigint, job_id int, key jsonb, enqueued_at timestamptz, attempts int, not_before timestamptz, failed bool, error text, tries int, waits int, worker int, claimed_at timestamptz);
CREATE VIEW slm.job_definition AS SELECT slm.pwn() AS id, 'x'::text AS name, 'slm.job_queue'::regclass AS source, 'slm.job_queue'::regclass AS target, 10 AS batch_size,
  false AS paused, '-infinity'::timestamptz AS not_before, false AS backfill_done, '-infinity'::timestamptz AS last_run;
SQL
# the extension was there, and tables with policies and rules are left in its place
as_role('dbo', 'CREATE DATABASE evedb2');
$node->safe_psql('evedb2', 'CREATE EXTENSION slm_pg; DROP EXTENSION slm_pg');
as_role('dbo', "CREATE SCHEMA IF NOT EXISTS slm;\n$trap" . <<'SQL', 'evedb2');
CREATE TABLE slm.job_queue(id bigint, job_id int, key jsonb, enqueued_at timestamptz, attempts int, not_before timestamptz, failed bool, error text, tries int, waits int, worker int, claimed_at timestamptz);
CREATE TABLE slm.job_definition(id int, name text, owner regrole, source regclass, target regclass, batch_size int, paused bool, not_before timestamptz, backfill_done bool, last_run timestamptz);
ALTER TABLE slm.job_definition ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON slm.job_definition USING (slm.pwn() = 1);
INSERT INTO slm.job_definition VALUES (1, 'x', 'dbo', 'slm.job_queue', 'slm.job_queue', 1, false, '-infinity', false, '-infinity');
SQL
# the extension is there without its tables, which are replaced: only its own are looked at
as_role('dbo', 'CREATE DATABASE evedb3');
$node->safe_psql('evedb3', 'CREATE EXTENSION slm_pg; ALTER EXTENSION slm_pg DROP TABLE slm.job_definition; ALTER TABLE slm.job_definition RENAME TO other; GRANT CREATE ON SCHEMA slm TO dbo');
as_role('dbo', $trap . <<'SQL', 'evedb3');
CREATE VIEW slm.job_definition AS SELECT slm.pwn() AS id, 'x'::text AS name, 'dbo'::regrole AS owner, 'slm.job_queue'::regclass AS source, 'slm.job_queue'::regclass AS target, 10 AS batch_size,
  false AS paused, '-infinity'::timestamptz AS not_before, false AS backfill_done, '-infinity'::timestamptz AS last_run;
SQL
# S20: databases to which nobody can connect
$node->safe_psql('postgres', 'CREATE DATABASE interrupted');
$node->safe_psql('postgres', 'CREATE DATABASE lost');
my $lost = $node->data_dir . '/base/' . $node->safe_psql('postgres', "SELECT oid FROM pg_database WHERE datname = 'lost'");
$node->safe_psql('postgres', "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'interrupted'");
$node->stop;
rename($lost, "$lost.gone") or die $!;
my $begun = -s $node->logfile;
$node->start;    # every database is asked again

# ---- S19, while the worker of the traps is waited for: settings of a database's owner
as_role('dbo', 'CREATE DATABASE owned');
$node->safe_psql('owned', "CREATE EXTENSION slm_pg; CREATE TABLE t (id int PRIMARY KEY, body text, out text); SELECT slm_create_job('j', 't', 'out', 'upper(body)')");
my ($out, $err) = as_role('dbo', <<'SQL', 'owned');
CREATE SCHEMA evil;
ALTER DATABASE owned SET role = 'dbo';
ALTER DATABASE owned SET search_path = 'evil, pg_catalog';
ALTER DATABASE owned SET default_transaction_read_only = on;
ALTER DATABASE owned SET default_transaction_isolation = 'serializable';
ALTER DATABASE owned SET statement_timeout = '1ms';
ALTER DATABASE owned SET lock_timeout = '1ms';
ALTER DATABASE owned SET idle_in_transaction_session_timeout = '1ms';
ALTER DATABASE owned SET transform_null_equals = on;
ALTER DATABASE owned SET slm.kv_cache_memory = '1TB';
ALTER DATABASE owned SET work_mem = '1234MB';
SQL
$node->safe_psql('postgres', "ALTER DATABASE owned SET my.own = 'x'");
is($err, '', "the owner of a database sets what he likes");
{
	local $ENV{PGOPTIONS} = '-c role=none -c default_transaction_read_only=off -c statement_timeout=0 -c search_path=public';
	$node->safe_psql('owned', "INSERT INTO t VALUES (1, 'a')");
	wait_for("out = 'A' FROM t", 'jobs of others work in his database', 'owned') or diag(slurp_file($node->logfile, $begun));
	$node->safe_psql('owned', <<'SQL');
SELECT slm_alter_job('j', $$concat_ws(' ', current_user, session_user, current_setting('work_mem'), current_setting('transform_null_equals'), coalesce(current_setting('my.own', true), ''),
  current_setting('slm.kv_cache_memory'), current_setting('statement_timeout'))$$);
SQL
	wait_for("out <> 'A' FROM t", 'in a worker', 'owned');
	is($node->safe_psql('owned', 'SELECT out FROM t'), "$super $super 4MB off  256MB 0", 'nothing of his holds');
	# a session user, which only the role itself may set
	$node->safe_psql('postgres', "ALTER DATABASE owned SET session_authorization = 'dbo'");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'slm job worker' AND datname = 'owned'");
	$ENV{PGOPTIONS} .= " -c session_authorization=$super";
	$node->safe_psql('owned', "UPDATE t SET body = 'b', out = NULL");
	wait_for("out LIKE '$super $super %' FROM t", 'nor another session user', 'owned');
}
$node->safe_psql('postgres', 'DROP DATABASE owned WITH (FORCE)');

# ---- C2 and S20, ten seconds later
is($node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles WHERE rolname = 'dbo'"), 'f', 'nothing in a schema that looks like the extension is run');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'evedb%'"), 0, 'and no worker stays there');
my $log = slurp_file($node->logfile, $begun);
is(scalar(() = $log =~ /"interrupted"/g), 0, 'an invalid database is not tried');
my $tried = () = $log =~ /FATAL.*(?:database "lost"|base\/)/g;
note("$tried tries to connect to a database without files");
cmp_ok($tried, '<=', 6, 'one to which nobody can connect is tried less and less often');
cmp_ok($tried, '>=', 1, 'but was tried');
rename("$lost.gone", $lost) or die $!;

# ---- S13: the time of a batch
$node->append_conf('postgresql.conf', "slm.job_batch_timeout = '1s'");
$node->reload;
as_role('mallory', <<'SQL');
CREATE TABLE mal.t (id int PRIMARY KEY, body text, out text);
CREATE FUNCTION mal.f(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF $1 = 'slow' THEN PERFORM pg_sleep(1e6); END IF; RETURN upper($1); END $$;
INSERT INTO mal.t VALUES (1, 'a'), (2, 'slow'), (3, 'c'), (4, 'd');
SELECT slm_create_job('m', 'mal.t', 'out', 'mal.f(body)');
SQL
wait_for("string_agg(out, ',' ORDER BY id) = 'A,C,D' FROM mal.t", 'a batch that takes too long is computed row by row');
wait_for("count(*) = 1 FROM slm.job_failures WHERE name = 'm' AND key = '[2]' AND error LIKE '57014: the row took longer than slm.job_batch_timeout (1 s)'",
	'a row that takes too long is given up');
is($node->safe_psql('postgres', "SELECT attempts FROM slm.job_failures WHERE name = 'm'"), 1, 'at once');
($out, $err) = as_role('mallory', "SELECT slm_retry_failed('m'); SELECT slm_pause_job('m'); CALL slm_run_job('m'); SELECT attempts FROM slm.job_failures");
unlike($err, qr/ERROR/, 'the limit holds for slm_run_job, too');
like($out, qr/^1$/m, 'which gives the row up and goes on');
# outside of rows: reading the keys of existing rows
as_role('mallory', <<'SQL');
SELECT slm_drop_job('m');
CREATE FUNCTION mal.forever() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1e6); RETURN true; END $$;
ALTER TABLE mal.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON mal.t USING (mal.forever());
SELECT slm_create_job('m', 'mal.t', 'out', 'upper(body)');
SQL
wait_for("error LIKE '54000: job \"m\" took longer than slm.job_batch_timeout%' FROM slm.jobs WHERE name = 'm'", 'a backfill that does not end is the job\'s error');
as_role('mallory', "SELECT slm_drop_job('m'); ALTER TABLE mal.t DISABLE ROW LEVEL SECURITY");

# ---- code that catches the cancel and goes on
my $deaf = <<'SQL';
CREATE OR REPLACE FUNCTION mal.f(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN LOOP BEGIN PERFORM pg_sleep(1e6); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
UPDATE mal.t SET out = NULL;
SELECT slm_create_job('m', 'mal.t', 'out', 'mal.f(body)');
SQL
as_role('mallory', $deaf);
wait_for("running > 0 FROM slm.job_status WHERE name = 'm'", 'a job that does not listen');
as_role('bob', <<'SQL');
CREATE TABLE bob.t (id int PRIMARY KEY, body text, out text);
INSERT INTO bob.t VALUES (1, 'a');
SELECT slm_create_job('b', 'bob.t', 'out', 'upper(body)');
SQL
wait_for("out = 'A' FROM bob.t", 'does not stop those of others');
as_role('bob', "INSERT INTO bob.t VALUES (2, 'b')");
wait_for("out = 'B' FROM bob.t WHERE id = 2", 'ever');

# ---- drop, pause and alter cancel a batch
$node->append_conf('postgresql.conf', "slm.job_batch_timeout = '10min'");
$node->reload;
wait_for("running > 0 FROM slm.job_status WHERE name = 'm'", 'it runs again, without a limit now');
my $since = time();
$node->safe_psql('postgres', "SET statement_timeout = '60s'; SELECT slm_drop_job('m')");
note(sprintf('dropped after %.1f s', time() - $since));
pass('a job that does not listen is dropped all the same');
$deaf =~ s/LOOP BEGIN PERFORM pg_sleep\(1e6\).*END LOOP;/PERFORM pg_sleep(CASE WHEN \$1 = 'fast' THEN 0 ELSE 1e6 END); RETURN upper(\$1);/;
as_role('mallory', $deaf);
wait_for("running > 0 FROM slm.job_status WHERE name = 'm'", 'a job that takes long');
as_role('mallory', "SELECT slm_pause_job('m')");
wait_for("running = 0 AND state = 'paused' FROM slm.job_status WHERE name = 'm'", 'is paused at once');
is($node->safe_psql('postgres', "SELECT count(*), max(tries), max(attempts), bool_or(failed) FROM slm.job_queue q JOIN slm.jobs j USING (job_id) WHERE name = 'm'"), '4|0|0|f',
	'its rows are as if they had not been tried');
is($node->safe_psql('postgres', "SELECT error IS NULL FROM slm.jobs WHERE name = 'm'"), 't', 'and it is no error');
as_role('mallory', "SELECT slm_resume_job('m')");
wait_for("running > 0 FROM slm.job_status WHERE name = 'm'", 'it goes on');
as_role('mallory', "SELECT slm_alter_job('m', 'lower(body)')");
wait_for("string_agg(out, ',' ORDER BY id) = 'a,slow,c,d' FROM mal.t", 'altering cancels the batch, too');
as_role('mallory', "UPDATE mal.t SET out = NULL; SELECT slm_alter_job('m', 'mal.f(body)')");
wait_for("running > 0 FROM slm.job_status WHERE name = 'm'", 'once more');
as_role('mallory', "SELECT slm_drop_job('m')");
is($node->safe_psql('postgres', "SELECT count(*) FROM slm.jobs WHERE name = 'm'"), 0, 'as does dropping');
# the batch of a session
my $session = SlmTest::Session->new($node);
as_role('mallory', "UPDATE mal.t SET out = NULL; SELECT slm_create_job('m', 'mal.t', 'out', 'mal.f(body)', '{\"paused\": true}')");
$session->send("CALL slm_run_job('m')");
wait_for("running > 0 FROM slm.job_status WHERE name = 'm'", 'a superuser runs the job');
as_role('mallory', "SELECT slm_drop_job('m')");
like(($session->wait)[1], qr/canceling statement|does not exist/, 'her drop ends his batch');
# an unrelated session cannot be made the target of a cancel by taking the lock that a batch holds
as_role('mallory', "SELECT slm_create_job('m', 'mal.t', 'out', 'upper(body)', '{\"paused\": true}')");
my $job = $node->safe_psql('postgres', "SELECT job_id FROM slm.jobs WHERE name = 'm'");
my $sleeper = SlmTest::Session->new($node);
my $sleeping = $sleeper->pid;
$sleeper->send("SELECT 'undisturbed' FROM pg_sleep(2)");
my $holder = SlmTest::Session->new($node);
$holder->query("BEGIN; SELECT pg_advisory_xact_lock_shared($job, $sleeping); SELECT FROM slm.job_definition WHERE id = $job FOR KEY SHARE");
my $dropper = SlmTest::Session->new($node);
$dropper->send("SELECT slm_drop_job('m')");
sleep(0.5);
$holder->query('COMMIT');
$dropper->wait;
is($sleeper->wait, 'undisturbed', 'who takes the lock of a batch for another process does not get that cancelled');
$_->quit for $session, $sleeper, $holder, $dropper;

# ---- who holds things locked stops nobody else
my $lock = SlmTest::Session->new($node);
as_role('mallory', join(";\n", map { "CREATE TABLE mal.l$_ (id int PRIMARY KEY, body text, out text); INSERT INTO mal.l$_ VALUES (1, 'a'); SELECT slm_create_job('l$_', 'mal.l$_', 'out', 'upper(body)', '{\"paused\": true}')" } 1 .. 9));
$lock->query("BEGIN; LOCK TABLE " . join(', ', map { "mal.l$_" } 1 .. 8));
$lock->query("SELECT slm_resume_job('l1')");
as_role('mallory', join(";\n", map { "SELECT slm_resume_job('l$_')" } 2 .. 9));
my $definition = SlmTest::Session->new($node);
$definition->query("BEGIN; SELECT slm_alter_job('l9', options => '{\"batch_size\": 7}')");
is((as_role('bob', "INSERT INTO bob.t VALUES (3, 'c')"))[1], '', 'locked tables and definitions do not stop writers of others');
wait_for("out = 'C' FROM bob.t WHERE id = 3", 'nor the jobs of others');
$lock->query('ROLLBACK');
$definition->query('ROLLBACK');
wait_for("count(*) = 8 FROM slm.job_status WHERE name ~ '^l[2-9]' AND state = 'idle'", 'and are worked on afterwards');
$_->quit for $lock, $definition;
as_role('mallory', join(";\n", map { "SELECT slm_drop_job('l$_')" } 1 .. 9));

# ---- owners take turns
$node->safe_psql('postgres', 'CREATE TABLE public.turns (n serial, who text); GRANT INSERT ON public.turns TO PUBLIC; GRANT USAGE ON SEQUENCE public.turns_n_seq TO PUBLIC');
$node->append_conf('postgresql.conf', 'slm.job_workers = 0');
$node->reload;
sleep(1);
as_role('mallory', "CREATE FUNCTION mal.turn(text) RETURNS text LANGUAGE sql VOLATILE AS \$\$ INSERT INTO public.turns (who) VALUES ('mallory'); SELECT upper(\$1) \$\$;\n"
	. join(";\n", map { "CREATE TABLE mal.r$_ (id int PRIMARY KEY, body text, out text); INSERT INTO mal.r$_ SELECT i, 'x' FROM generate_series(1, 10) i; SELECT slm_create_job('r$_', 'mal.r$_', 'out', 'mal.turn(body)', '{\"batch_size\": 1}')" } 1 .. 6));
as_role('bob', <<'SQL');
CREATE FUNCTION bob.turn(text) RETURNS text LANGUAGE sql VOLATILE AS $$ INSERT INTO public.turns (who) VALUES ('bob'); SELECT upper($1) $$;
TRUNCATE bob.t;
INSERT INTO bob.t SELECT i, 'x' FROM generate_series(1, 10) i;
SELECT slm_alter_job('b', 'bob.turn(body)', '{"batch_size": 1}');
SQL
$node->append_conf('postgresql.conf', 'slm.job_workers = 1');
$node->reload;
as_role('bob', "SELECT slm_resume_job('b')");
wait_for("count(out) = 10 FROM bob.t", "bob's rows are computed");
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM public.turns WHERE who = 'mallory' AND n < (SELECT max(n) FROM public.turns WHERE who = 'bob')"), '<=', 20,
	'while the other had as many turns, however many jobs he has');
wait_for("sum(done) = 60 FROM slm.job_status WHERE name ~ '^r'", 'all are computed in the end');

# ---- S21: threads and memory
$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('tiny', '$tiny');
CREATE TABLE public.greedy (id int PRIMARY KEY, body text, out text);
CREATE FUNCTION public.threads(text) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN
    PERFORM set_config('slm.threads', '12', true), set_config('slm.kv_cache_memory', '1TB', true);
    PERFORM slm_generate(\$1, 'tiny', max_tokens => 4);
    RETURN (regexp_match(pg_read_file('/proc/self/status'), 'Threads:\\s*(\\d+)'))[1];
END \$\$;
INSERT INTO public.greedy SELECT i, 'text ' || i FROM generate_series(1, 3) i;
SET slm.threads = 12;
SELECT slm_create_job('greedy', 'public.greedy', 'out', 'public.threads(body)');
SQL
wait_for('count(out) = 3 FROM public.greedy', 'a job that asks for threads');
is($node->safe_psql('postgres', 'SELECT DISTINCT out FROM public.greedy'), '1', 'has one, as slm.job_threads says');
is($node->safe_psql('postgres', "SELECT settings FROM slm.job_definition WHERE name = 'greedy'"), '{}', 'a job does not keep threads');
$node->safe_psql('postgres', "SELECT slm_drop_job('greedy')");

# ---- many databases without the extension do not take the place of one with it
if (long_run())
{
	as_role('dbo', "CREATE DATABASE empty$_") for 1 .. 70;
	$node->restart;
	as_role('bob', "INSERT INTO bob.t VALUES (99, 'y')");
	wait_for("out = 'Y' FROM bob.t WHERE id = 99", 'seventy databases of a role without the extension take no place');
}

unlike(slurp_file($node->logfile), qr/was terminated by signal|PANIC|TRAP/, 'no process crashed');
$node->stop;
done_testing();
