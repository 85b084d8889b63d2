# Behaviour of jobs: they never feed on their own writes, errors are charged to whom they belong, what is missing stops them, dumps keep what they need.
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
my $node = PostgreSQL::Test::Cluster->new('behaviour');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'\nmax_worker_processes = 20\nslm.threads = 1\nslm.job_workers = 2\n");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION slm_pg; SELECT slm_load_model('tiny', '$tiny')");

# Waits until jobs have nothing left to do, and says so as a test.
sub finish
{
	my ($name, $db) = @_;
	my $ok = $node->poll_query_until($db || 'postgres', "SELECT bool_and(pending = 0 AND running = 0 AND state = 'idle') FROM slm.job_status");
	diag($node->safe_psql($db || 'postgres', 'SELECT * FROM slm.job_status; SELECT name, error FROM slm.jobs; SELECT * FROM slm.job_queue LIMIT 10')) unless $ok;
	return ok($ok, $name);
}

# ---- a job never feeds on its own writes, whatever triggers make of them
$node->safe_psql('postgres', <<'SQL');
CREATE SEQUENCE writes;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.updated_at := clock_timestamp(); new.writes := old.writes + 1; RETURN new; END $$;
CREATE FUNCTION touch_after() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('UPDATE %I SET updated_at = clock_timestamp(), writes = writes + 1 WHERE id = $1', tg_table_name) USING new.id; RETURN NULL; END $$;
SQL
my %table = (
	whole => [ 'md5(to_jsonb(whole)::text)' ],
	as_text => [ 'md5(as_text::text)' ],
	composite => [ 'md5((composite).body || composite::text)' ],
	named => [ 'concat(body, updated_at)' ],
	constant => [ 'random()::text' ],
	subquery => [ '(SELECT concat(s.updated_at, s.body) FROM subquery s WHERE s.id = subquery.id)' ],
	after => [ 'md5(to_jsonb(after)::text)' ],
	two_whole => [ 'md5(to_jsonb(two_whole)::text)', 'md5(two_whole::text)' ],
	two_named => [ 'concat(body, updated_at)', 'md5(concat(body, updated_at))' ],
	mutual => [ 'body || coalesce(label2, clock_timestamp()::text)', 'body || coalesce(label, clock_timestamp()::text)' ],
	mixed => [ 'md5(to_jsonb(mixed)::text)', 'concat(body, updated_at)' ],
	three => [ 'md5(to_jsonb(three)::text)', 'concat(body, updated_at)', 'md5(three::text) || body' ],
);
for my $name (sort keys %table)
{
	my $trigger = $name eq 'after' ? "AFTER UPDATE ON $name FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION touch_after()" : "BEFORE UPDATE ON $name FOR EACH ROW EXECUTE FUNCTION touch()";
	my $n = 0;
	my $jobs = join('', map { $n++; "SELECT slm_create_job('${name}_$n', '$name', 'label" . ($n > 1 ? $n : '') . "', '$_');\n" } @{ $table{$name} });
	$node->safe_psql('postgres', <<"SQL");
CREATE TABLE $name (id int PRIMARY KEY, body text, updated_at timestamptz, label text, label2 text, label3 text, writes int DEFAULT 0, other int);
CREATE TRIGGER touch $trigger;
$jobs
SQL
}
$node->safe_psql('postgres', join('', map { "INSERT INTO $_ (id, body) SELECT i, 'invoice ' || i FROM generate_series(1, 3) i;" } keys %table));
finish('all jobs come to an end');
my $all = join(' UNION ALL ', map { "SELECT '$_' AS name, id, writes, num_nonnulls(label, label2, label3) AS labels FROM $_" } sort keys %table);
# what names a column that triggers change for other jobs follows each of them once at most
my %most = (mixed => 3, three => 5);
for my $name (sort keys %table)
{
	my $n = @{ $table{$name} };
	is($node->safe_psql('postgres', "SELECT min(labels), max(labels) FROM $name, LATERAL (SELECT num_nonnulls(label, label2, label3) AS labels) l"), "$n|$n",
		"$name: all values are there");
	my $writes = $node->safe_psql('postgres', "SELECT max(writes) FROM $name");
	$most{$name} ? cmp_ok($writes, '<=', $most{$name}, "$name: the jobs stop") : is($writes, $n, "$name: each job writes once a row");
}
my $before = $node->safe_psql('postgres', "SELECT string_agg(name || id || writes, ',' ORDER BY name, id) FROM ($all) t");
sleep(3);
is($node->safe_psql('postgres', "SELECT string_agg(name || id || writes, ',' ORDER BY name, id) FROM ($all) t"), $before, 'and no more after a while');
# a change of a user is followed by each job once
$node->safe_psql('postgres', join('', map { "UPDATE $_ SET body = 'changed' WHERE id = 2;" } sort keys %table));
finish('a change of a user is worked off');
for my $name (sort keys %table)
{
	next if $most{$name};
	my $n = @{ $table{$name} };
	is($node->safe_psql('postgres', "SELECT writes FROM $name WHERE id = 2"), 2 * $n + 1, "$name: once more for it");
	is($node->safe_psql('postgres', "SELECT max(writes) FROM $name WHERE id <> 2"), $n, "$name: and for no other row");
}
$node->safe_psql('postgres', "SELECT slm_drop_job(name) FROM slm.jobs");

# rows that come before a job has looked for those that were there: it looks after they are computed, and finds nothing to do
$node->append_conf('postgresql.conf', 'slm.job_workers = 0');
$node->reload;
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE early (id int PRIMARY KEY, body text, updated_at timestamptz, label text, label2 text, writes int DEFAULT 0);
CREATE TRIGGER touch BEFORE UPDATE ON early FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO early (id, body) VALUES (0, 'there before');
SELECT slm_create_job('early_1', 'early', 'label', 'md5(to_jsonb(early)::text)');
SELECT slm_create_job('early_2', 'early', 'label2', 'md5(early::text)');
INSERT INTO early (id, body) SELECT i, 'comes' FROM generate_series(1, 50) i;
SQL
$node->append_conf('postgresql.conf', 'slm.job_workers = 2');
$node->reload;
finish('jobs that begin behind their rows come to an end');
is($node->safe_psql('postgres', 'SELECT count(label), count(label2), min(writes), max(writes) FROM early'), '51|51|2|2', 'each job has written once a row');
$node->safe_psql('postgres', "SELECT slm_drop_job(name) FROM slm.jobs");

# jobs that follow one another do so, also through a trigger
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE chain (id int PRIMARY KEY, body text, a text, b text, derived text, c text, updated_at timestamptz, writes int DEFAULT 0);
CREATE FUNCTION derive() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.derived := 'd' || new.b; RETURN new; END $$;
CREATE TRIGGER derive BEFORE UPDATE OF b ON chain FOR EACH ROW EXECUTE FUNCTION derive();
CREATE TRIGGER touch BEFORE UPDATE ON chain FOR EACH ROW EXECUTE FUNCTION touch();
SELECT slm_create_job('c', 'chain', 'c', 'upper(derived)');
SELECT slm_create_job('b', 'chain', 'b', 'a || ''b''');
SELECT slm_create_job('a', 'chain', 'a', 'body || ''a''');
INSERT INTO chain (id, body) VALUES (1, 'x');
SQL
finish('a chain of jobs comes to an end');
is($node->safe_psql('postgres', 'SELECT a, b, c FROM chain'), 'xa|xab|DXAB', 'each job has followed those before it');
$node->safe_psql('postgres', "UPDATE chain SET body = 'y'");
finish('after a change');
is($node->safe_psql('postgres', 'SELECT a, b, c FROM chain'), 'ya|yab|DYAB', 'again');
$node->safe_psql('postgres', "SELECT slm_drop_job(name) FROM slm.jobs");

# a separate target whose trigger writes the source; a partitioned table; two tables whose triggers carry each job's value to the other
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE src (id int PRIMARY KEY, body text, updated_at timestamptz, writes int DEFAULT 0);
CREATE TABLE dst (id int PRIMARY KEY, label text);
CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE src SET updated_at = clock_timestamp(), writes = writes + 1 WHERE id = new.id; RETURN NULL; END $$;
CREATE TRIGGER back AFTER INSERT OR UPDATE ON dst FOR EACH ROW EXECUTE FUNCTION back();
SELECT slm_create_job('separate', 'src', 'label', 'md5(src::text)', '{"target": "dst"}');
CREATE TABLE pt (id int PRIMARY KEY, body text, updated_at timestamptz, label text, label2 text, writes int DEFAULT 0) PARTITION BY RANGE (id);
CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (10);
CREATE TABLE pt2 PARTITION OF pt DEFAULT;
CREATE TRIGGER touch BEFORE UPDATE ON pt FOR EACH ROW EXECUTE FUNCTION touch();
SELECT slm_create_job('parts1', 'pt', 'label', 'md5(to_jsonb(pt)::text)');
SELECT slm_create_job('parts2', 'pt', 'label2', 'md5(pt::text)');
CREATE TABLE ping (id int PRIMARY KEY, x text, y text, writes int DEFAULT 0);
CREATE TABLE pong (id int PRIMARY KEY, x text, y text);
CREATE FUNCTION to_pong() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO pong (id, x) VALUES (new.id, new.y) ON CONFLICT (id) DO UPDATE SET x = excluded.x || clock_timestamp(); RETURN NULL; END $$;
CREATE FUNCTION to_ping() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE ping SET x = new.y || clock_timestamp(), writes = writes + 1 WHERE id = new.id; RETURN NULL; END $$;
CREATE TRIGGER t AFTER UPDATE OF y ON ping FOR EACH ROW EXECUTE FUNCTION to_pong();
CREATE TRIGGER t AFTER UPDATE OF y ON pong FOR EACH ROW EXECUTE FUNCTION to_ping();
SELECT slm_create_job('ping', 'ping', 'y', 'upper(x)', '{"backfill": "none"}'); -- a backfill would take pong's row for one of its own finding
SELECT slm_create_job('pong', 'pong', 'y', 'lower(x)', '{"backfill": "none"}');
INSERT INTO src SELECT i, 'b' FROM generate_series(1, 5) i;
INSERT INTO pt SELECT i, 'b' FROM generate_series(5, 15) i;
INSERT INTO ping VALUES (1, 'start');
SQL
finish('jobs over several tables come to an end');
is($node->safe_psql('postgres', 'SELECT (SELECT count(label) FROM dst), min(writes), max(writes) FROM src'), '5|1|1', 'a job with a separate target writes once a row');
is($node->safe_psql('postgres', 'SELECT count(label), count(label2), min(writes), max(writes) FROM pt'), '11|11|2|2', 'so do two jobs on a partitioned table');
is($node->safe_psql('postgres', 'SELECT writes, y, (SELECT y FROM pong) FROM ping'), '1|START|start', 'and jobs on two tables that feed each other');
$node->safe_psql('postgres', "SELECT slm_drop_job(name) FROM slm.jobs");

# ---- a row at fault is given up at once, and the server log says so; what is missing for all rows stops the job
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE e (id int PRIMARY KEY, body text, out text);
SELECT slm_create_job('e', 'e', 'out', '(12 / id)::text');
INSERT INTO e SELECT i, 'x' FROM generate_series(0, 4) i;
SQL
finish('a job with a row at fault comes to an end');
is($node->safe_psql('postgres', 'SELECT failed, done, retrying, last_error FROM slm.job_status'), '1|4|0|22012: division by zero', 'the row has failed, the others are done');
like(slurp_file($node->logfile), qr/LOG:  job "e" could not compute row \[0\] of public.e: 22012: division by zero/, 'the server log tells of it');
$node->safe_psql('postgres', "SELECT slm_drop_job('e'); DROP TABLE e");

# ---- a dump keeps the settings of the database that a job needs; what the cluster's configuration said is missed, and stops the job
$node->safe_psql('postgres', 'CREATE DATABASE shop; CREATE DATABASE restored');
$node->safe_psql('shop', "CREATE EXTENSION slm_pg; SELECT slm_load_model('tiny', '$tiny'); ALTER DATABASE shop SET slm.generate_model = 'tiny'");
$node->append_conf('postgresql.conf', "slm.embed_model = 'tiny'\nslm.job_workers = 0");
$node->reload;
$node->poll_query_until('shop', "SELECT current_setting('slm.embed_model') = 'tiny'");
$node->safe_psql('shop', <<'SQL');
CREATE FUNCTION default_of(setting text, body text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    RETURN CASE setting WHEN 'generate' THEN slm_generate(body, max_tokens => 2) ELSE (slm_embed(body))[1]::text END; END $$;
CREATE TABLE d (id int PRIMARY KEY, body text, written text, first text);
INSERT INTO d SELECT i, 'text ' || i FROM generate_series(1, 5) i;
SELECT slm_create_job('database', 'd', 'written', 'default_of(''generate'', body)');
SELECT slm_create_job('cluster', 'd', 'first', 'default_of(''embed'', body)');
SQL
my $dump = $node->basedir . '/shop.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-h', $node->host, '-p', $node->port, '-f', $dump, 'shop' ], 'pg_dump');
$node->append_conf('postgresql.conf', "slm.embed_model = ''\nslm.job_workers = 2");
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('slm.embed_model') = ''");
$node->safe_psql('postgres', 'DROP DATABASE shop WITH (FORCE)');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-h', $node->host, '-p', $node->port, '-d', 'restored', $dump ], 'pg_restore, without the settings of the database');
ok($node->poll_query_until('restored', "SELECT state = 'idle' AND done = 5 AND failed = 0 FROM slm.job_status WHERE name = 'database'"), 'a job has kept the settings of its database');
ok($node->poll_query_until('restored', "SELECT state = 'error' AND last_error = '55000: no model was named and slm.embed_model is not set' FROM slm.job_status WHERE name = 'cluster'"),
	'a job that misses a default stops, and says why');
is($node->safe_psql('restored', "SELECT count(*), max(attempts), bool_or(failed) FROM slm.job_queue"), '5|0|f', 'and no row of it is charged');

$node->stop;
done_testing();
