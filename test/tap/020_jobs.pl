# Background jobs: latency, writers' cost, kill -9 of workers and server, concurrency, replication, dump and restore, promotion.
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
my $long = long_run();
my $common = "shared_preload_libraries = 'slm_pg'\nrestart_after_crash = on\nmax_connections = 60\nmax_worker_processes = 20\nmax_prepared_transactions = 4\nslm.threads = 1\n";

sub make_node
{
	my ($name, %init) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(%init);
	$node->append_conf('postgresql.conf', $common);
	$node->start;
	return $node;
}

sub prepare_database
{
	my ($node, $db) = @_;
	$node->safe_psql($db, "CREATE EXTENSION slm_pg; SELECT slm_load_model('tiny', '$tiny')");
	$node->safe_psql('postgres', "ALTER DATABASE $db SET slm.generate_model = 'tiny'");
	return;
}

# Waits until a job has nothing left to do, and says so as a test.
sub finishes
{
	my ($node, $db, $job, $name) = @_;
	my $sql = "SELECT pending = 0 AND running = 0 AND state = 'idle' FROM slm.job_status WHERE name = '$job'";
	my $ok = $node->poll_query_until($db, $sql);
	diag($node->safe_psql($db, "SELECT * FROM slm.job_status; SELECT * FROM slm.jobs; SELECT * FROM slm.job_queue LIMIT 10")) unless $ok;
	return ok($ok, $name);
}

sub worker_pid
{
	my ($node) = @_;
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'slm job worker' AND state = 'active' LIMIT 1");
}

# A table with a job of the real model, when that is there.
sub real_model
{
	my ($node) = @_;
	my $path = model_file();
	return 0 unless -r $path;
	$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('smollm2', '$path');
CREATE TABLE letters (id int PRIMARY KEY, body text, summary text, done_at timestamptz, made_at timestamptz DEFAULT clock_timestamp());
CREATE TRIGGER stamp BEFORE UPDATE OF summary ON letters FOR EACH ROW EXECUTE FUNCTION stamp();
SELECT slm_create_job('letters', 'letters', 'summary', 'slm_summarize(body, model => ''smollm2'', max_words => 10, method => ''abstract'')');
SQL
	return 1;
}

# From COMMIT to the filled column with the real model, against the function itself in a session.
sub real_latency
{
	my ($node) = @_;
	my $letter = 'Dear shop, the lamp number %d that I ordered on Monday came with a broken shade and without a plug. Please send me a new one soon.';
	my $session = SlmTest::Session->new($node);
	my (@alone, @job);
	for my $i (0 .. 5)
	{
		my $body = sprintf($letter, $i);
		$session->query("SELECT slm_summarize('$body', model => 'smollm2', max_words => 10, method => 'abstract')") if $i == 0;    # maps the model
		push @alone, scalar($session->query("SELECT clock_timestamp() AS t0 \\gset\nSELECT length(slm_summarize('$body!', model => 'smollm2', max_words => 10, method => 'abstract')) AS n \\gset\n"
				. "SELECT 1000 * extract(epoch FROM clock_timestamp() - :'t0'::timestamptz)"));
		$node->safe_psql('postgres', "INSERT INTO letters (id, body) VALUES ($i, '$body')");
		finishes($node, 'postgres', 'letters', "letter $i is summarized");
		push @job, $node->safe_psql('postgres', "SELECT 1000 * extract(epoch FROM done_at - made_at) FROM letters WHERE id = $i");
	}
	$session->quit;
	note("SmolLM2, ms: the function @alone; from COMMIT to the filled column @job (the first without a worker)");
	$node->safe_psql('postgres', "SELECT slm_drop_job('letters'); DROP TABLE letters; SELECT slm_drop_model('smollm2')");
	my $bound = 1.5 * percentile(0.5, @alone) + 200;
	cmp_ok($job[0], '<', $long ? $bound : 5 * $bound, 'a document that finds no worker is filled in soon');
	cmp_ok(percentile(0.5, @job[ 1 .. $#job ]), '<', $long ? $bound : 5 * $bound, 'and so are those that find one');
	return;
}

my $node = make_node('jobs', allows_streaming => 'logical');
prepare_database($node, 'postgres');

# ---- the first row of a new job, and one short document
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE docs (id int PRIMARY KEY, body text, answer text, other int, done_at timestamptz,
    made_at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.done_at = clock_timestamp(); RETURN NEW; END';
CREATE TRIGGER stamp BEFORE UPDATE OF answer ON docs FOR EACH ROW EXECUTE FUNCTION stamp();
INSERT INTO docs (id, body) VALUES (1, 'an existing row');
SQL
my $notice = '';
$node->psql('postgres', "SELECT slm_create_job('docs', 'docs', 'answer', 'slm_generate(body, max_tokens => 8)')", stderr => \$notice);
is($notice, '', 'a job has a background worker');
finishes($node, 'postgres', 'docs', 'existing rows are filled in');
my $begun = $node->safe_psql('postgres', "SELECT extract(epoch FROM d.done_at - j.created_at) FROM docs d, slm.jobs j");
note("first row of a new job after $begun s");
cmp_ok($begun, '<', $long ? 1 : 5, 'the first row of a new job begins at once');
my $smol = real_model($node);
sleep(8);
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'slm job worker'"), 0, 'an idle worker leaves the database');
real_latency($node) if $smol;
my @late;
for my $i (2 .. 4)
{
	$node->safe_psql('postgres', "INSERT INTO docs (id, body) VALUES ($i, 'short document $i')");
	finishes($node, 'postgres', 'docs', "document $i is filled in");
	push @late, $node->safe_psql('postgres', "SELECT 1000 * extract(epoch FROM done_at - made_at) FROM docs WHERE id = $i");
}
note("from INSERT to the filled column, ms (begins without a worker): @late");
cmp_ok(percentile(0.5, @late), '<', $long ? 250 : 3000, 'a short document is filled in soon after COMMIT');
is($node->safe_psql('postgres', 'SELECT count(*) FROM docs WHERE answer = slm_generate(body, max_tokens => 8)'), 4, 'with what the function answers');

# ---- what a job costs writers, against a plain statement-level trigger that notes keys
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE plain (id serial PRIMARY KEY, body text, answer text);
CREATE TABLE plain_queue (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, key jsonb, noted_at timestamptz DEFAULT now());
CREATE FUNCTION note_keys() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO plain_queue (key) SELECT jsonb_build_array(id) FROM slm_new; RETURN NULL; END';
CREATE TRIGGER note AFTER INSERT ON plain REFERENCING NEW TABLE AS slm_new FOR EACH STATEMENT EXECUTE FUNCTION note_keys();
CREATE TABLE fast (id serial PRIMARY KEY, body text, answer text);
CREATE TABLE executions (id int, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION log_execution() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO executions VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER log AFTER UPDATE OF answer ON fast FOR EACH ROW EXECUTE FUNCTION log_execution();
SELECT slm_create_job('fast', 'fast', 'answer', 'slm_generate(body, max_tokens => 4)');
CREATE TABLE busy (id serial PRIMARY KEY, body text, answer text);
INSERT INTO busy (body) SELECT 'long document ' || i FROM generate_series(1, 20000) i;
SELECT slm_create_job('busy', 'busy', 'answer', 'slm_generate(body, max_tokens => 40)');
SQL

# Latencies in us of $n inserts by each of 4 clients, for each table: chosen at random, so that all of them meet the same noise.
sub insert_latencies
{
	my ($n, @tables) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$dir/$_.sql", "INSERT INTO $_ (body) VALUES ('document ' || :client_id || ' of ' || random());\n") for @tables;
	my ($out, $err);
	IPC::Run::run([ 'pgbench', '-n', '-c', 4, '-j', 1, '-t', $n, '-l', '--log-prefix', "$dir/log", map({ ('-f', "$dir/$_.sql") } @tables), '-h', $node->host,
			'-p', $node->port, 'postgres' ], '>', \$out, '2>', \$err) or die $err;
	my %us = map { $_ => [] } @tables;
	for (map { split /\n/, slurp_file($_) } glob("$dir/log*"))
	{
		my (undef, undef, $us, $script) = split;
		push @{ $us{ $tables[$script] } }, $us;
	}
	my $rows = 0;
	$rows += @$_ for values %us;
	is($rows, 4 * $n, "pgbench wrote all rows into @tables");
	return %us;
}

# A worker computes rows all the while, also those that are inserted.
$node->poll_query_until('postgres', "SELECT running > 0 FROM slm.job_status WHERE name = 'busy'");
my (@plain, @fast);
for my $round (1 .. $long ? 4 : 1)
{
	my %us = insert_latencies(1000, 'plain', 'fast');
	push @plain, @{ $us{plain} };
	push @fast, @{ $us{fast} };
}
my $ratio = percentile(0.95, @fast) / percentile(0.95, @plain);
note(sprintf('insert latency, us: plain trigger %d (p95 %d); job %d (p95 %d); ratio of p95 %.2f',
		map({ (percentile(0.5, @$_), percentile(0.95, @$_)) } \@plain, \@fast), $ratio));
is($node->safe_psql('postgres', "SELECT state FROM slm.job_status WHERE name = 'busy'"), 'working', 'while a worker was at work');
$node->safe_psql('postgres', "SELECT slm_drop_job('busy'); DROP TABLE busy");
cmp_ok($ratio, '<=', $long ? 1.2 : 3, 'a job costs writers about what a plain trigger costs');
finishes($node, 'postgres', 'fast', 'all rows are computed');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM fast WHERE answer IS NULL) FROM executions'),
	join('|', (scalar(@fast)) x 2, 0), 'every row once');

# ---- kill -9 of workers and of the server while 2,000 rows are written by 4 clients
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE hard (id serial PRIMARY KEY, body text, answer text);
CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN $1; END';
TRUNCATE executions;
CREATE TRIGGER log AFTER UPDATE OF answer ON hard FOR EACH ROW EXECUTE FUNCTION log_execution();
SELECT slm_create_job('hard', 'hard', 'answer', 'slow(slm_generate(body, max_tokens => 6))', '{"batch_size": 64}');
SQL

my $written = 0;
my ($worker_kills, $server_kills) = $long ? (20, 3) : (3, 1);
for my $kill (1 .. $worker_kills + $server_kills)
{
	my $rows = int(2000 / ($worker_kills + $server_kills)) + 1;
	my $per_client = int($rows / 4) + 1;
	insert_latencies($per_client, 'hard');
	$written += 4 * $per_client;
	my $pid = '';
	for (1 .. 200)
	{
		$pid = worker_pid($node);
		last if $pid ne '';
		sleep(0.05);
	}
	isnt($pid, '', "round $kill: a worker is at work");
	if ($kill <= $worker_kills)
	{
		kill 9, $pid;
		sleep(0.3);
		ok($node->poll_query_until('postgres', 'SELECT true'), "round $kill: the server has recovered from kill -9 of the worker");
	}
	else
	{
		$node->kill9;
		start_killed($node);
		pass("round $kill: the server was killed and started");
	}
}
finishes($node, 'postgres', 'hard', 'all rows are computed after the kills');
is($node->safe_psql('postgres', 'SELECT count(*), count(answer) FROM hard'), "$written|$written", 'nothing is lost');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM executions'), "$written|$written", 'nothing was written twice');
is($node->safe_psql('postgres', "SELECT running, failed, done FROM slm.job_status WHERE name = 'hard'"), "0|0|$written", 'no row is left running or failed');
is($node->safe_psql('postgres', 'SELECT count(*) FROM slm.job_queue'), 0, 'the queue is empty');
is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT * FROM hard ORDER BY id DESC LIMIT 50) h WHERE answer = slm_generate(body, max_tokens => 6)"), 50,
	'answers are right');

# ---- a row that ends its worker each time: the others are computed, the row is given up
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE poison (id int PRIMARY KEY, body text, answer text);
CREATE FUNCTION deadly(text) RETURNS text LANGUAGE plpgsql AS
    'BEGIN IF $1 = ''poison'' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF; RETURN upper($1); END';
SELECT slm_create_job('poison', 'poison', 'answer', 'deadly(body)', '{"max_attempts": 1}');
INSERT INTO poison VALUES (1, 'a'), (2, 'poison'), (3, 'c'), (4, 'd');
SQL
finishes($node, 'postgres', 'poison', 'a row that ends its worker does not hold back the others');
is($node->safe_psql('postgres', 'SELECT string_agg(answer, \',\' ORDER BY id) FROM poison'), 'A,C,D', 'the others are computed');
is($node->safe_psql('postgres', "SELECT key FROM slm.job_failures WHERE name = 'poison'"), '[2]', 'and the row is listed');
$node->safe_psql('postgres', "SELECT slm_alter_job('poison', 'upper(body)')");
finishes($node, 'postgres', 'poison', 'with another expression');
is($node->safe_psql('postgres', 'SELECT string_agg(answer, \',\' ORDER BY id) FROM poison'), 'A,POISON,C,D', 'it is computed');

# ---- concurrency
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE c (id int PRIMARY KEY, body text, answer text, other int);
CREATE SEQUENCE evaluations;
CREATE FUNCTION counted(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''public.evaluations''), pg_sleep(0.01); RETURN upper($1); END';
CREATE FUNCTION slowly(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(CASE WHEN $1 = ''slow'' THEN 2 ELSE 0 END); RETURN upper($1); END';
SELECT slm_create_job('c', 'c', 'answer', 'slowly(body)');
SQL
# a row that is changed while it is computed
$node->safe_psql('postgres', "INSERT INTO c VALUES (1, 'slow')");
$node->poll_query_until('postgres', "SELECT running = 1 AND pending = 0 FROM slm.job_status WHERE name = 'c'") or diag('the row was never seen running');
is($node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'slm job worker' AND state = 'active'"),
	'slm job "c": up to 128 rows of public.c', 'pg_stat_activity says what the worker does');
$node->safe_psql('postgres', "UPDATE c SET body = 'changed' WHERE id = 1");
finishes($node, 'postgres', 'c', 'a row that changes while it is computed is computed again');
is($node->safe_psql('postgres', 'SELECT answer FROM c'), 'CHANGED', 'the value belongs to the new text');
# a row that is written by its user while it is computed
$node->safe_psql('postgres', "INSERT INTO c VALUES (2, 'slow')");
$node->poll_query_until('postgres', "SELECT running = 1 FROM slm.job_status WHERE name = 'c'");
$node->safe_psql('postgres', "UPDATE c SET answer = 'mine' WHERE id = 2");
finishes($node, 'postgres', 'c', 'a row gets a value from its user while it is computed');
is($node->safe_psql('postgres', 'SELECT answer FROM c WHERE id = 2'), 'mine', 'which stays');
# a row that somebody holds locked
my $holder = SlmTest::Session->new($node);
$node->safe_psql('postgres', "INSERT INTO c SELECT i, 'free' FROM generate_series(10, 12) i");
finishes($node, 'postgres', 'c', 'rows');
$holder->query('BEGIN; UPDATE c SET other = 1 WHERE id = 11');
$node->safe_psql('postgres', "UPDATE c SET body = 'later' WHERE id IN (10, 12)");
my $writer = SlmTest::Session->new($node);
$writer->send("UPDATE c SET body = 'later' WHERE id = 11");
finishes($node, 'postgres', 'c', 'rows beside a locked one are computed');
$holder->query('COMMIT');
$writer->wait;
$node->safe_psql('postgres', "SELECT slm_pause_job('c')");
$node->safe_psql('postgres', "UPDATE c SET body = 'held' WHERE id IN (10, 11, 12)");
$holder->query('BEGIN; SELECT FROM c WHERE id = 11 FOR UPDATE');
$node->safe_psql('postgres', "SELECT slm_resume_job('c')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM c WHERE answer = 'HELD'"), 'a locked row holds nobody back');
is($node->safe_psql('postgres', 'SELECT failed, attempts FROM slm.job_queue WHERE key = \'[11]\''), 'f|0', 'nor is it a failure');
$holder->query('COMMIT');
finishes($node, 'postgres', 'c', 'it is computed when it is free');
is($node->safe_psql('postgres', 'SELECT count(*) FROM c WHERE answer = \'HELD\''), 3, 'all three have their value');
# a transaction whose snapshot is older than the job
$holder->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM c');
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE young (id int PRIMARY KEY, body text, answer text);
SELECT slm_create_job('young', 'young', 'answer', 'upper(body)');
SQL
finishes($node, 'postgres', 'young', 'a new job is idle');
$holder->query("INSERT INTO young VALUES (1, 'old snapshot'); COMMIT");
ok($node->poll_query_until('postgres', "SELECT answer = 'OLD SNAPSHOT' FROM young"), 'a transaction older than the job is noted');
# completion is notified
my $listener = SlmTest::Session->new($node);
$listener->query('LISTEN slm_job_young');
$node->safe_psql('postgres', "INSERT INTO young VALUES (2, 'x')");
finishes($node, 'postgres', 'young', 'one more row');
sleep(0.2);
like($listener->query('SELECT 1'), qr/Asynchronous notification "slm_job_young"/, 'the end is notified');
# three workers
$node->append_conf('postgresql.conf', 'slm.job_workers = 3');
$node->reload;
$node->safe_psql('postgres', "SELECT slm_alter_job('c', 'counted(body)', '{\"batch_size\": 10}')");
finishes($node, 'postgres', 'c', 'altered');
my $before = $node->safe_psql('postgres', "SELECT nextval('evaluations')");
$node->safe_psql('postgres', "INSERT INTO c SELECT i, 'many' FROM generate_series(1001, 1600) i");
finishes($node, 'postgres', 'c', 'three workers share a job');
is($node->safe_psql('postgres', "SELECT nextval('evaluations') - $before - 1"), 600, 'and evaluate no row twice');
# they are at work together: each waits for a lock in its first batch
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION gated(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN WHILE EXISTS (SELECT FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4711) LOOP
    PERFORM pg_sleep(0.02); END LOOP; RETURN lower($1); END';
SQL
$holder->query('SELECT pg_advisory_lock(4711)');
$node->safe_psql('postgres', "SELECT slm_alter_job('c', 'gated(body)')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type = 'slm job worker' AND query LIKE 'slm job \"c\"%' AND state = 'active'"),
	'three workers are at work');
ok($node->poll_query_until('postgres', "SELECT running = 30 FROM slm.job_status WHERE name = 'c'"), 'on different rows');
$holder->query('SELECT pg_advisory_unlock(4711)');
finishes($node, 'postgres', 'c', 'they finish');
# a migration in one transaction while they work: whoever alters table and job waits for a batch at most and is never the victim of a deadlock
$node->safe_psql('postgres', "SELECT slm_alter_job('c', 'counted(body)')");
$node->poll_query_until('postgres', "SELECT running > 0 FROM slm.job_status WHERE name = 'c'");
for my $migration (
	"ALTER TABLE c RENAME body TO content; SELECT pg_sleep(1.5), slm_alter_job('c', 'counted(content)')",
	"LOCK TABLE c IN SHARE MODE; SELECT pg_sleep(1.5), slm_alter_job('c', 'counted(content)')",
	"SELECT slm_pause_job('c'), pg_sleep(1.5); ALTER TABLE c RENAME content TO body; SELECT slm_alter_job('c', 'counted(body)'), slm_resume_job('c')")
{
	my ($rc, $out, $err) = $node->psql('postgres', "BEGIN; $migration; COMMIT", on_error_stop => 1);
	is($rc, 0, "a migration beside the workers: $migration") or diag($err);
}
finishes($node, 'postgres', 'c', 'the job goes on with the new definition');
is($node->safe_psql('postgres', 'SELECT count(*) FROM c WHERE answer IS DISTINCT FROM upper(body) AND answer <> \'mine\''), 0, 'and all values are right');
# prepared transactions and savepoints
$node->safe_psql('postgres', "BEGIN; INSERT INTO young VALUES (10, 'prepared'); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'");
ok($node->poll_query_until('postgres', "SELECT answer = 'PREPARED' FROM young WHERE id = 10"), 'rows of a prepared transaction are computed');
$node->safe_psql('postgres', "BEGIN; INSERT INTO young VALUES (11, 'no'); PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p';
	BEGIN; SAVEPOINT s; INSERT INTO young VALUES (12, 'no'); ROLLBACK TO s; INSERT INTO young VALUES (13, 'kept'); COMMIT");
ok($node->poll_query_until('postgres', "SELECT answer = 'KEPT' FROM young WHERE id = 13"), 'rows beside a savepoint that was rolled back');
is($node->safe_psql('postgres', "SELECT count(*) FROM slm.job_done d, slm.jobs j WHERE j.name = 'young' AND d.job_id = j.job_id AND key IN ('[11]', '[12]')"), 0,
	'what was rolled back is not');
$_->quit for ($holder, $writer, $listener);

# ---- courtesy
for my $setting ("slm.job_max_load = 0.0001", "slm.job_workers = 0", "slm.job_window = '" . window_without_now() . "'")
{
	my ($name) = $setting =~ /^(\S+)/;
	$node->append_conf('postgresql.conf', $setting);
	$node->reload;
	sleep(0.5);
	$node->safe_psql('postgres', "UPDATE young SET body = body || '.' WHERE id = 1");
	sleep(2);
	is($node->safe_psql('postgres', 'SELECT answer = upper(body) FROM young WHERE id = 1'), 'f', "$setting: nothing is done");
	$node->append_conf('postgresql.conf', "$name = " . { 'slm.job_max_load' => 0, 'slm.job_workers' => 1, 'slm.job_window' => "''" }->{$name});
	$node->reload;
	$node->safe_psql('postgres', "INSERT INTO young VALUES (100 + (SELECT count(*) FROM young), 'wake')");
	finishes($node, 'postgres', 'young', "$name back: work goes on");
}

# An hour that has passed twelve hours ago, in the server's time zone.
sub window_without_now
{
	my ($hour) = $node->safe_psql('postgres', "SELECT extract(hour FROM now() AT TIME ZONE current_setting('log_timezone'))::int");
	return sprintf('%02d:00-%02d:00', ($hour + 12) % 24, ($hour + 13) % 24);
}
my ($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET slm.job_window = 'nightly'");
like($err, qr/invalid value for parameter "slm.job_window".*hh:mm-hh:mm/s, 'a window that is none is refused');

# ---- dump and restore: jobs, queue and triggers
$node->append_conf('postgresql.conf', 'slm.job_workers = 0');
$node->reload;
sleep(0.5);
my $rest = $node->safe_psql('postgres', "SELECT string_agg(slm_drop_job(name)::text, '') FROM slm.jobs WHERE name <> 'young'; DROP TABLE hard, fast, plain, c, poison, docs CASCADE");
$node->safe_psql('postgres', "INSERT INTO young SELECT i, 'dumped ' || i FROM generate_series(201, 205) i");
my $dump = $node->basedir . '/jobs.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->append_conf('postgresql.conf', 'slm.job_workers = 1');
$node->reload;
$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-d', 'restored', '--exit-on-error', $dump ], 'pg_restore, while workers may look');
ok($node->poll_query_until('restored', "SELECT count(*) = 5 FROM young WHERE answer = upper(body) AND body LIKE 'dumped%'"), 'the queue is worked off after the restore');
is($node->safe_psql('restored', "SELECT count(*) FROM slm.job_failures"), 0, 'nothing failed meanwhile');
$node->safe_psql('restored', "INSERT INTO young VALUES (300, 'after'); UPDATE young SET body = body WHERE id = 1");
finishes($node, 'restored', 'young', 'the restored triggers note rows');
is($node->safe_psql('restored', 'SELECT answer FROM young WHERE id = 300'), 'AFTER', 'and they are computed');
# whatever the database says for its sessions
$node->safe_psql('postgres', "ALTER DATABASE restored SET $_") for 'default_transaction_read_only = on', "lock_timeout = '1ms'", "default_transaction_isolation = 'serializable'",
	'row_security = off', "search_path = ''", "statement_timeout = '100ms'";
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'slm job worker' AND datname = 'restored'");
$node->safe_psql('restored', "SET default_transaction_read_only = off; INSERT INTO public.young VALUES (301, 'settings')");
ok($node->poll_query_until('restored', "SELECT answer = 'SETTINGS' FROM public.young WHERE id = 301"), 'a worker does not depend on the settings of the database');
$node->safe_psql('postgres', 'DROP DATABASE restored');
pass('a database with an idle worker can be dropped');

# ---- logical replication: what is applied is noted
my $subscriber = make_node('jobs_subscriber');
prepare_database($subscriber, 'postgres');
my $schema = 'CREATE TABLE r (id int PRIMARY KEY, body text, other int); ';
$node->safe_psql('postgres', $schema . "INSERT INTO r SELECT i, 'copied ' || i FROM generate_series(1, 3) i; CREATE PUBLICATION p FOR TABLE r");
$subscriber->safe_psql('postgres', $schema . "ALTER TABLE r ADD COLUMN answer text; SELECT slm_create_job('r', 'r', 'answer', 'upper(body)')");
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION p");
$subscriber->wait_for_subscription_sync($node, 's');
ok($subscriber->poll_query_until('postgres', "SELECT count(*) = 3 FROM r WHERE answer = upper(body)"), 'rows of the initial copy are computed');
$node->safe_psql('postgres', "INSERT INTO r VALUES (4, 'new'); UPDATE r SET body = 'changed' WHERE id = 1; UPDATE r SET other = 1; UPDATE r SET id = 20 WHERE id = 2; DELETE FROM r WHERE id = 3");
$node->wait_for_catchup('s');
ok($subscriber->poll_query_until('postgres', "SELECT array_agg(answer ORDER BY id) = '{CHANGED,NEW,COPIED 2}' FROM r"), 'applied changes are computed');
finishes($subscriber, 'postgres', 'r', 'the subscriber is idle');
is($subscriber->safe_psql('postgres', "SELECT array_agg(key ORDER BY key) FROM slm.job_done"), '{[1],[4],[20]}', 'deleted and moved keys are forgotten');
is($subscriber->safe_psql('postgres', "SELECT count(*) FROM slm.job_done WHERE key = '[4]' AND done_at < clock_timestamp()"), 1, 'a new row is noted once');
$node->safe_psql('postgres', 'TRUNCATE r');
$node->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM slm.job_done'), 0, 'so is a TRUNCATE');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$subscriber->stop;

# ---- a standby shows the jobs; promotion goes on with the work
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('jobs_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->append_conf('postgresql.conf', 'slm.job_workers = 0');
$node->reload;
sleep(0.5);
$node->safe_psql('postgres', "INSERT INTO young VALUES (400, 'left to the standby')");
$node->wait_for_catchup($standby, 'replay');
is($standby->safe_psql('postgres', "SELECT name, pending, running, failed FROM slm.job_status"), 'young|1|0|0', 'a standby shows the status');
is($standby->safe_psql('postgres', 'SELECT name, source FROM slm.jobs'), 'young|young', 'and the jobs');
($rc, $out, $err) = $standby->psql('postgres', "CALL slm_run_job('young')");
like($err, qr/read-only transaction|during recovery/, 'but does not work');
$node->stop('immediate');
$standby->promote;
ok($standby->poll_query_until('postgres', "SELECT answer = 'LEFT TO THE STANDBY' FROM young WHERE id = 400"), 'promotion goes on with the work');

# ---- the extension takes the jobs with it, whatever the worker does
$standby->safe_psql('postgres', "INSERT INTO young SELECT i, 'x' FROM generate_series(1001, 3000) i; DROP EXTENSION slm_pg CASCADE");
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'slm%'"), 0, 'DROP EXTENSION removes the triggers');
$standby->safe_psql('postgres', "INSERT INTO young VALUES (5000, 'free')");
sleep(1.5);
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'slm job worker'"), 0, 'and the worker leaves');
$standby->stop;
done_testing();
