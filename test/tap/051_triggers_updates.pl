# slm_trigger where the search_path is empty (logical replication, dumps), slm_update through cancels, crashes and other writers.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $tiny = "$FindBin::RealBin/../data/tiny.gguf";

sub make_node
{
	my ($name, %init) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(%init);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'\nrestart_after_crash = on\nmax_worker_processes = 20\nslm.threads = 1\n");
	$node->start;
	$node->safe_psql('postgres', "CREATE EXTENSION slm_pg; SELECT slm_load_model('tiny', '$tiny')");
	return $node;
}

my $node = make_node('updates', allows_streaming => 'logical');

# ---- a trigger on a subscriber: the apply worker's search_path is empty
my $subscriber = make_node('subscriber');
my $table = 'CREATE SCHEMA app; CREATE TABLE app.docs (id int PRIMARY KEY, body text); ';
$node->safe_psql('postgres', $table . "INSERT INTO app.docs VALUES (1, 'copied'); CREATE PUBLICATION p FOR TABLE app.docs");
$subscriber->safe_psql('postgres', $table . <<'SQL');
CREATE SCHEMA tools;
CREATE FUNCTION tools.shout(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)';
CREATE FUNCTION tools.twice(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN shout($1) || shout($1); END';
ALTER TABLE app.docs ADD COLUMN tokens int, ADD COLUMN loud text;
CREATE TRIGGER tokens BEFORE INSERT OR UPDATE ON app.docs FOR EACH ROW EXECUTE FUNCTION slm_trigger('tokens', 'slm_count_tokens(body, ''tiny'')');
SET search_path = tools, app, public;
SELECT slm_create_trigger('docs', 'loud', 'twice(body)');
ALTER TABLE app.docs ENABLE ALWAYS TRIGGER tokens, ENABLE ALWAYS TRIGGER slm_loud;
SQL
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION p");
$subscriber->wait_for_subscription_sync($node, 's');
$node->safe_psql('postgres', "INSERT INTO app.docs VALUES (2, 'applied'); UPDATE app.docs SET body = 'changed' WHERE id = 1");
$node->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT string_agg(loud, \',\' ORDER BY id), bool_and(tokens > 0) FROM app.docs'), 'CHANGEDCHANGED,APPLIEDAPPLIED|t',
	'triggers fill the columns of rows that are copied and applied');
is($subscriber->safe_psql('postgres', 'SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats'), 0, 'without an error on the way');

# ---- and in a dump: of the data alone, and of everything
my $dump = $subscriber->basedir . '/docs';
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->command_ok([ 'pg_dump', '-Fc', '-h', $subscriber->host, '-p', $subscriber->port, '-f', "$dump.dump", 'postgres' ], 'pg_dump');
$subscriber->command_ok([ 'pg_dump', '-Fc', '-a', '-t', 'app.docs', '-h', $subscriber->host, '-p', $subscriber->port, '-f', "$dump.data", 'postgres' ], 'pg_dump --data-only');
$subscriber->safe_psql('postgres', "UPDATE app.docs SET loud = 'old'; TRUNCATE app.docs; CREATE DATABASE restored");
$subscriber->command_ok([ 'pg_restore', '--exit-on-error', '-h', $subscriber->host, '-p', $subscriber->port, '-d', 'postgres', "$dump.data" ], 'its restore, under an empty search_path');
is($subscriber->safe_psql('postgres', 'SELECT string_agg(loud, \',\' ORDER BY id) FROM app.docs'), 'CHANGEDCHANGED,APPLIEDAPPLIED', 'computes the columns');
$subscriber->command_ok([ 'pg_restore', '--exit-on-error', '-h', $subscriber->host, '-p', $subscriber->port, '-d', 'restored', "$dump.dump" ], 'restore of everything');
$subscriber->safe_psql('restored', "SET search_path = ''; INSERT INTO app.docs VALUES (3, 'new')");
is($subscriber->safe_psql('restored', 'SELECT loud, tokens > 0 FROM app.docs WHERE id = 3'), 'NEWNEW|t', 'restored triggers mean what they meant');
$subscriber->stop;

# ---- slm_update: a forecast, progress for others, a cancel, and on from there
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE t (id int PRIMARY KEY, body text, up text);
INSERT INTO t SELECT i, 'text ' || i FROM generate_series(1, 3000) i;
CREATE TABLE written (id int);
CREATE FUNCTION note_written() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO written VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER note AFTER UPDATE OF up ON t FOR EACH ROW EXECUTE FUNCTION note_written();
CREATE FUNCTION slowly(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.003); RETURN upper($1); END';
SQL
my $call = q{CALL slm_update('t', 'up', 'slowly(body)', 'id % 2 = 0')};
my $session = SlmTest::Session->new($node);
$session->send($call);
ok($node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM written'), 'batches are committed while it runs');
is($node->safe_psql('postgres', "SELECT rows_total > 0 AND percent > 0 AND eta > interval '0' AND query LIKE 'CALL slm_update%' FROM slm.progress WHERE pid = " . $session->pid),
	't', 'slm.progress shows percentage and time left');
my ($rc, $out, $err) = $node->psql('postgres', $call);
like($err, qr/under way in another session/, 'the same in another session is refused');
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $session->pid . ')');
($out, $err) = $session->wait;
like($err, qr/NOTICE:  slm_update of public.t: about \d+ rows, \d+ s/, 'it says beforehand how long it will take');
like($err, qr/canceling statement.*HINT:  The same CALL goes on behind the \d+ rows that are done/s, 'a cancel ends it at once, and says how to go on');
my $done = $node->safe_psql('postgres', 'SELECT count(*) FROM written');
is($node->safe_psql('postgres', 'SELECT state, rows_written FROM slm.updates'), "unfinished|$done", 'what is committed is noted');
$node->safe_psql('postgres', "INSERT INTO t VALUES (-2, 'text before')");
($rc, $out, $err) = $node->psql('postgres', $call);
like($err, qr/going on behind \d+ rows/, 'the same CALL goes on');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id), min(id) FROM written'), '1500|1500|2', 'every row is written once');
is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE up = upper(body)"), 1500, 'and all are right');
is($node->safe_psql('postgres', 'SELECT state, rows_seen, rows_written FROM slm.updates'), 'finished|3000|1500', 'and the view says so');

# ---- kill -9 of the session, and of the server, in the middle
$node->safe_psql('postgres', 'TRUNCATE written; UPDATE t SET up = NULL; TRUNCATE written');
$call = q{CALL slm_update('t', 'up', 'slowly(body || ''!'')')};
for my $victim ('session', 'server')
{
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM written');
	$session = SlmTest::Session->new($node);
	$session->send($call);
	$node->poll_query_until('postgres', "SELECT count(*) > $before FROM written") or die 'no row was written';
	if ($victim eq 'session')
	{
		kill 9, $session->pid;
		sleep(0.3);
		ok($node->poll_query_until('postgres', 'SELECT true'), 'the server recovers from kill -9 of the session');
	}
	else
	{
		$node->kill9;
		ok(start_killed($node), 'the server was killed and started');
	}
	is($node->safe_psql('postgres', "SELECT rows_written = (SELECT count(*) FROM written) FROM slm.updates WHERE expression LIKE '%!%'"), 't',
		"after kill -9 of the $victim the note fits the rows");
}
$node->safe_psql('postgres', $call);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM written'), '3001|3001', 'every row is written once, in three CALLs');
is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE up = upper(body) || '!'"), 3001, 'and all are right');

# ---- others write meanwhile: a row that changes is computed again, one that is held is waited for, locks are taken late
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE busy (id int PRIMARY KEY, body text, up text);
INSERT INTO busy SELECT i, 'a' FROM generate_series(1, 40) i;
CREATE FUNCTION gated(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN WHILE EXISTS (SELECT FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4711 AND granted) LOOP
    PERFORM pg_sleep(0.02); END LOOP; RETURN upper($1); END';
SQL
my $holder = SlmTest::Session->new($node);
$session = SlmTest::Session->new($node);
$holder->query('SELECT pg_advisory_lock(4711)');
# the sample has eight rows at a time behind it when the lock is taken again: the batch itself waits
$session->send(q{CALL slm_update('busy', 'up', 'gated(body)')});
sleep(0.5);
$holder->query("SET lock_timeout = '10s'; BEGIN; UPDATE busy SET body = 'b' WHERE id IN (3, 5)");
$holder->query('DELETE FROM busy WHERE id = 7');
$holder->query('SELECT pg_advisory_unlock(4711); COMMIT');
($out, $err) = $session->wait;
unlike($err, qr/ERROR|WARNING/, 'others may write while rows are computed');
is($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE up = upper(body)) FROM busy'), '39|39', 'every value belongs to the row as it is');
# many writers at the rows of the batches
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE hot (id int PRIMARY KEY, body text, up text, n int DEFAULT 0);
INSERT INTO hot SELECT i, 'x0' FROM generate_series(1, 1000) i;
SQL
my $script = PostgreSQL::Test::Utils::tempdir() . '/hot.sql';
append_to_file($script, "\\set id random(1, 1000)\nUPDATE hot SET n = n + 1, body = 'x' || (n + 1) WHERE id = :id;\n");
my $writers = IPC::Run::start([ 'pgbench', '-n', '-c', 3, '-T', 5, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \my $bench_out, '2>', \my $bench_err);
($rc, $out, $err) = $node->psql('postgres', q{CALL slm_update('hot', 'up', 'slowly(body) || n')});
is($rc, 0, 'an update among writers') or diag($err);
$writers->finish;
is($node->safe_psql('postgres', "SELECT count(*) FROM hot WHERE up ~ '^X([0-9]+)\\1\$'"), 1000, 'no value is made of two versions of a row');

# ---- what is not a row's fault stops it, and it can be resumed; what is a row's does not
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE m (id int PRIMARY KEY, body text, up text);
INSERT INTO m SELECT i, 'text ' || i FROM generate_series(1, 200) i;
SELECT slm_load_model('other', (SELECT source FROM slm.models WHERE name = 'tiny'), '{"quantization": "F32"}');
CREATE FUNCTION wrapped(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    IF $1 = 'text 150' AND NOT EXISTS (SELECT FROM m WHERE id = 201) THEN RETURN slm_generate($1, model => 'gone', max_tokens => 1); END IF;
    RETURN slm_generate($1, model => 'other', max_tokens => 1); END $$;
SQL
($rc, $out, $err) = $node->psql('postgres', q{CALL slm_update('m', 'up', 'wrapped(body)')});
is($rc, 0, 'one row whose model is missing');
like($err, qr/WARNING:  slm_update of public.m: 1 rows failed.*\[150\] 42704: model "gone" does not exist/s, 'is a row that failed');
$node->safe_psql('postgres', q{SELECT slm_drop_model('other', cascade => true); UPDATE m SET up = NULL});
($rc, $out, $err) = $node->psql('postgres', q{CALL slm_update('m', 'up', 'wrapped(body)')});
like($err, qr/ERROR:  model "(other|gone)" does not exist/, 'a model that is missing for all ends the CALL');
is($node->safe_psql('postgres', q{SELECT count(up), (SELECT count(*) FROM slm.update_failures WHERE source = 'm'::regclass) FROM m}), '0|0', 'and no row is charged');

$session->quit;
$holder->quit;
$node->stop;
done_testing();
