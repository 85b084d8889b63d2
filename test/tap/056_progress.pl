# slm.progress: rows and their total, tokens while a row is being written, single calls, cursors, statements in statements, errors; what of it
# other roles see.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use SlmTest;

my $node = slm_cluster('progress', conf => "shared_preload_libraries = 'slm_pg'\nslm.threads = 1\nmax_parallel_workers_per_gather = 0\n");
my $watcher = SlmTest::Session->new($node);
my $worker = SlmTest::Session->new($node);
my $pid = $worker->pid;
$worker->query("CREATE TABLE note AS SELECT i AS id, 'note ' || i AS body FROM generate_series(1, 400) i");

# What is seen of the worker, as a hash; nothing when it is not shown.
sub seen
{
	my ($session) = @_;
	my $row = ($session || $watcher)->query('SELECT role, rows_done, rows_total, total_is_exact, percent, tokens, eta IS NOT NULL, query, started IS NOT NULL '
		  . "FROM slm.progress WHERE pid = $pid");
	my %seen;
	return \%seen if $row eq '';
	@seen{qw(role done total exact percent tokens eta query started)} = split(/\|/, $row);
	return \%seen;
}

# Watches until the condition holds of what is seen, or the statement has ended.
sub watch
{
	my ($holds) = @_;
	my $seen = {};
	until (index($worker->{out}, ":done$worker->{n}:") >= 0)
	{
		$seen = seen();
		return $seen if %$seen && $holds->($seen);
		$worker->{run}->pump_nb;
		sleep(0.01);
	}
	return undef;
}

sub cancel { $watcher->query("SELECT pg_cancel_backend($pid)"); $worker->wait; return; }

# ---- tokens while the first row is still being written

$worker->send("SELECT length(slm_generate('Write a very long story about a ship.', max_tokens => 2000))");
my @tokens;
for (1 .. 3)
{
	my $seen = watch(sub { $_[0]{tokens} > (@tokens ? $tokens[-1] + 20 : 0) });
	ok($seen, 'a single call is shown, and its tokens advance') or last;
	push @tokens, $seen->{tokens};
	is($seen->{done}, 0, 'its row is not done') or last;
	is($seen->{total} . $seen->{percent}, '', 'of how many nobody knows');
}
cancel();
is(scalar(keys %{ seen() }), 0, 'a cancelled statement is not shown any more');

# ---- the total: the planner's, then what the scan met

$worker->query('ANALYZE note');
$worker->send("SELECT id, slm_generate(body, max_tokens => 30) FROM note");
my $seen = watch(sub { $_[0]{done} >= 3 });
ok($seen, 'rows are counted');
cmp_ok($seen->{total}, '>=', 300, 'a scan of an analyzed table: the total');
cmp_ok($seen->{total}, '<=', 500, "is about right ($seen->{total})");
cmp_ok(abs($seen->{percent} - 100 * $seen->{done} / $seen->{total}), '<', 0.2, 'and the percentage follows');
is($seen->{eta}, 't', 'and the time left is told');
cancel();

$worker->query("CREATE TABLE unseen (id int, body text) WITH (autovacuum_enabled = off); INSERT INTO unseen SELECT i, 'note ' || i FROM generate_series(1, 12) i");
$worker->send("SELECT count(slm_generate(body, max_tokens => 60)) FROM unseen");
$seen = watch(sub { $_[0]{done} >= 1 });
ok($seen, 'a table that was never analyzed');
is("$seen->{total} $seen->{exact}", '12 t', 'once it has been read to its end the total is known');
cancel();

$worker->send("SELECT id FROM note WHERE slm_classify(body, ARRAY['angry', 'glad'], method => 'direct') = 'angry'");
$seen = watch(sub { $_[0]{done} >= 5 });
ok($seen, 'a condition: rows that it drops are done too');
cmp_ok($seen->{total}, '>=', 300, 'and the total is that of the rows to be looked at');
cancel();

$worker->send("SELECT slm_generate(body, max_tokens => 20 * id) FROM note LIMIT 8");
$seen = watch(sub { $_[0]{done} >= 1 });
ok($seen && $seen->{total} == 8, 'LIMIT bounds it');
cancel();

# ---- statements in statements: the outer one's rows count

$worker->query('CREATE FUNCTION inner_batch(int) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
	RETURN (SELECT count(slm_generate(body, max_tokens => 3)) FROM note WHERE id <= 5 AND $1 > 0); END $$');
$worker->send("SELECT inner_batch(id), slm_generate(body, max_tokens => 3) FROM unseen");
my $most = 0;
while (my $s = watch(sub { 1 })) { $most = $s->{done} if $s->{done} > $most; last if $most > 12; }
$worker->wait;
cmp_ok($most, '<=', 12, "rows of inner statements are not added to those of the outer one ($most)");
cmp_ok($most, '>=', 2, 'which are counted');

# ---- calls of a loop

$worker->send('DO $$ BEGIN FOR i IN 1 .. 200 LOOP PERFORM slm_generate(\'number \' || i, max_tokens => 5); END LOOP; END $$');
ok(watch(sub { $_[0]{done} >= 3 && $_[0]{percent} eq '' }), 'single calls of a loop are counted, without a total');
cancel();

# ---- a cursor is shown while it is read

$worker->query("BEGIN; DECLARE c CURSOR FOR SELECT slm_generate(body, max_tokens => 100) FROM note");
is(scalar(keys %{ seen() }), 0, 'an open cursor that nobody reads is not shown');
$worker->send('FETCH 3 FROM c');
ok(watch(sub { $_[0]{tokens} > 0 && $_[0]{query} =~ /FETCH 3/ }), 'one that is read is');
$worker->wait;
is(scalar(keys %{ seen() }), 0, 'and afterwards is not');
$worker->query('ROLLBACK');

# ---- an error that is caught ends what ran below it

$worker->send('DO $$ BEGIN BEGIN PERFORM slm_generate(body, max_tokens => 3 - id) FROM note; EXCEPTION WHEN OTHERS THEN NULL; END; PERFORM pg_sleep(2); END $$');
sleep(0.02) until $watcher->query("SELECT wait_event FROM pg_stat_activity WHERE pid = $pid") eq 'PgSleep';
is(scalar(keys %{ seen() }), 0, 'nothing is shown while no model runs');
$worker->wait;

# ---- other roles

$watcher->query('CREATE ROLE reader LOGIN; CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor');
$worker->send("SELECT length(slm_generate('Write a very long story about a secret.', max_tokens => 2000))");
ok(watch(sub { $_[0]{tokens} > 0 }), 'a statement of another role');
$watcher->query('SET ROLE reader');
$seen = seen();
is($seen->{role}, $watcher->query('SELECT session_user'), 'a role without privileges sees that there is one');
is(join('', map { $seen->{$_} // '' } qw(done total exact percent tokens query)), '', 'and nothing else');
is($watcher->query("SELECT count(*) FROM slm.running_batches() WHERE started IS NOT NULL"), '0', 'nor by the function below');
$watcher->query('SET ROLE monitor');
$seen = seen();
like($seen->{query}, qr/secret/, 'a monitor sees all');
cmp_ok($seen->{tokens}, '>', 0, 'with its figures');
$watcher->query('RESET ROLE');
is($watcher->query("SELECT reloptions FROM pg_class WHERE oid = 'slm.progress'::regclass"), '{security_barrier=true}', 'the view is a barrier');
cancel();

$worker->quit;
$watcher->quit;
$node->stop;
done_testing();
