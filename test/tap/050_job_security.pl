# Background jobs: no role gains a right by a job, by a database of its own, or by what it leaves behind; no role stops others.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $node = PostgreSQL::Test::Cluster->new('job_security');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'\nmax_connections = 40\nmax_worker_processes = 20\nslm.threads = 1\nrestart_after_crash = on\n");
$node->start;
my @superusers = $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1');
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION slm_pg;
CREATE ROLE mallory LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE dbo LOGIN CREATEDB;
CREATE SCHEMA mal AUTHORIZATION mallory;
CREATE SCHEMA bob AUTHORIZATION bob;
-- who runs what: each line says whose function saw which current_user
CREATE TABLE public.seen (who text, saw text);
GRANT INSERT ON public.seen TO PUBLIC;
SQL

# Statements as a role that has logged in itself; returns output and errors.
sub as_role
{
	my ($role, $sql, $db) = @_;
	my ($out, $err) = ('', '');
	my $rc = $node->psql($db || 'postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role, '-q' ], on_error_stop => 0);
	return ($out, $err);
}

# No role but the first ones is a superuser, and no function of a role has run as one.
sub nobody_gained
{
	my ($name) = @_;
	is_deeply([ $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1') ], \@superusers, "$name: no new superuser");
	is($node->safe_psql('postgres', 'SELECT DISTINCT who, saw FROM public.seen WHERE who <> saw'), '', "$name: no function ran as another role");
	$node->safe_psql('postgres', "ALTER ROLE $_ NOSUPERUSER") for qw(mallory bob dbo);
	$node->safe_psql('postgres', 'TRUNCATE public.seen');
	return;
}

my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

# The server has not restarted after a crash of a process.
sub never_crashed
{
	my ($name) = @_;
	unlike(slurp_file($node->logfile), qr/was terminated by signal|all server processes terminated/, "$name: no process crashed");
	return;
}

# ---- C2: a database without the extension, whose owner builds what looks like it
as_role('dbo', 'CREATE DATABASE evedb');
as_role('dbo', <<'SQL', 'evedb');
CREATE SCHEMA slm;
CREATE FUNCTION slm.pwn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'dbo' THEN ALTER ROLE dbo SUPERUSER; END IF; RETURN 1; END $$;
CREATE TABLE slm.job_queue(id bigint, job_id int, key jsonb, enqueued_at timestamptz, attempts int, not_before timestamptz, failed bool, error text, tries int, waits int, worker int, claimed_at timestamptz);
CREATE VIEW slm.job_definition AS SELECT slm.pwn() AS id, 'x'::text AS name, 'slm.job_queue'::regclass AS source, 'slm.job_queue'::regclass AS target, 10 AS batch_size,
  false AS paused, '-infinity'::timestamptz AS not_before, false AS backfill_done, '-infinity'::timestamptz AS last_run;
SQL
# the same in a database in which the extension was, with a table instead of a view
as_role('dbo', 'CREATE DATABASE evedb2');
$node->safe_psql('evedb2', 'CREATE EXTENSION slm_pg; DROP EXTENSION slm_pg; ALTER DATABASE evedb2 OWNER TO dbo');
as_role('dbo', <<'SQL', 'evedb2');
CREATE SCHEMA IF NOT EXISTS slm;
CREATE FUNCTION slm.pwn() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'dbo' THEN ALTER ROLE dbo SUPERUSER; END IF; RETURN false; END $$;
CREATE TABLE slm.job_queue(id bigint, job_id int, key jsonb, enqueued_at timestamptz, attempts int, not_before timestamptz, failed bool, error text, tries int, waits int, worker int, claimed_at timestamptz);
CREATE TABLE slm.job_definition(id int, name text, source regclass, target regclass, batch_size int, paused bool, not_before timestamptz, backfill_done bool, last_run timestamptz);
ALTER TABLE slm.job_definition ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON slm.job_definition USING (slm.pwn());
CREATE RULE "_RETURN" AS ON SELECT TO slm.job_queue DO INSTEAD SELECT 1::bigint AS id, 1 AS job_id, '1'::jsonb AS key, now() AS enqueued_at, 0 AS attempts, now() AS not_before,
  slm.pwn() AS failed, ''::text AS error, 0 AS tries, 0 AS waits, 0 AS worker, now() AS claimed_at;
SQL
$node->restart;    # every database is asked again
sleep(13);
nobody_gained('a schema that looks like the extension');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'evedb%'"), 0, 'and no worker stays there');

# ---- H1, S8: a statement of a job gives columns of other types than it was written for
$node->safe_psql('postgres', 'CREATE SCHEMA tess AUTHORIZATION mallory');
my ($out, $err) = as_role('mallory', <<'SQL');
CREATE TYPE tess.text AS ENUM ('a', 'b');
CREATE FUNCTION tess.cast_text(pg_catalog.text) RETURNS tess.text LANGUAGE sql IMMUTABLE AS $$ SELECT 'a'::tess.text $$;
CREATE FUNCTION tess.eq(pg_catalog.text, tess.text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR tess.= (LEFTARG = pg_catalog.text, RIGHTARG = tess.text, FUNCTION = tess.eq);
CREATE TABLE tess.t (id int PRIMARY KEY, body pg_catalog.text, out pg_catalog.text);
INSERT INTO tess.t VALUES (1, 'a');
CREATE CAST (pg_catalog.text AS tess.text) WITH FUNCTION tess.cast_text(pg_catalog.text);
CREATE FUNCTION tess.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing BEFORE UPDATE ON tess.t FOR EACH ROW EXECUTE FUNCTION tess.nothing();
SET search_path = tess, pg_catalog, public;
SELECT slm_create_job('ty', 'tess.t', 'out', 'upper(body)', '{"paused":true,"overwrite":true}');
CALL slm_run_job('ty');
RESET search_path;
SELECT slm_drop_job('ty');
SQL
never_crashed('types of the same name');

# ---- S1: settings of a job's expression end with it
($out, $err) = as_role('mallory', <<'SQL');
SET search_path = mal, public;
CREATE TABLE mal.t (id int PRIMARY KEY, body text, out text);
INSERT INTO mal.t VALUES (1, 'a');
CREATE FUNCTION mal.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.seen VALUES ('mallory', current_user); RETURN QUERY SELECT pg_catalog.unnest($1); END $$;
SELECT slm_create_job('e2', 'mal.t', 'out', $$set_config('search_path', 'mal, pg_catalog', false) || set_config('work_mem', '77MB', false) || set_config('my.own', 'x', false)$$,
  '{"paused": true}');
CALL slm_run_job('e2');
SHOW search_path;
SHOW work_mem;
SELECT coalesce(current_setting('my.own', true), '');
SELECT out FROM mal.t;
SQL
like($out, qr/^mal, public\n4MB\n\nmal, pg_catalog77MBx$/m, 'settings of an expression end with its batch') or diag($out, $err);
nobody_gained('settings in a session');
as_role('mallory', <<'SQL');
UPDATE mal.t SET body = 'b', out = NULL;
SELECT slm_resume_job('e2');
SQL
$node->poll_query_until('postgres', "SELECT out IS NOT NULL FROM mal.t");
# bob's job is served by the same worker
($out, $err) = as_role('bob', <<'SQL');
CREATE TABLE bob.t (id int PRIMARY KEY, body text, out text);
INSERT INTO bob.t VALUES (1, 'a');
SELECT slm_create_job('b', 'bob.t', 'out', $$current_setting('search_path') || ' ' || current_setting('work_mem') || ' ' || coalesce(current_setting('my.own', true), '') || current_user$$);
SQL
$node->poll_query_until('postgres', "SELECT out IS NOT NULL FROM bob.t");
like($node->safe_psql('postgres', 'SELECT out FROM bob.t'), qr/^pg_catalog, bob, public, pg_temp 4MB bob$/, 'nor do they hold in the next job of the worker');
nobody_gained('settings in a worker');
as_role('mallory', "SELECT slm_drop_job('e2')");
as_role('bob', "SELECT slm_drop_job('b')");

# ---- S11: conditions of a reader do not see the rows that the views hide
as_role('bob', <<'SQL');
SELECT slm_create_job('hidden', 'bob.t', 'out', $$slm_count_tokens('a secret prompt of bob')::text || (1 / (id - 1))$$, '{"paused": true, "max_attempts": 1}');
CALL slm_run_job('hidden');
SQL
($out, $err) = as_role('mallory', <<'SQL');
CREATE FUNCTION mal.leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$;
SELECT 1 FROM slm.jobs j WHERE mal.leak(name || owner::text || expression);
SELECT 1 FROM slm.job_failures j WHERE mal.leak(key::text || error);
SELECT 1 FROM slm.job_status j WHERE mal.leak(name);
SQL
unlike($err, qr/leaked/, 'a function in a condition sees no job of others');
as_role('bob', "SELECT slm_drop_job('hidden')");

never_crashed('all');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()') ne '', 1, 'the server answers');
$node->stop;
done_testing();
