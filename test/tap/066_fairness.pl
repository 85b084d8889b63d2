# Shares of the engine process: a role of one client has as much of its time as a role of many, and a job that never ends does not keep away
# those who wait.  Shares are CPU time as slm.usage counts it, while both are at work: a role of many has answers to finish when all have
# stopped to ask.  The latency beside a job is compared with that alone, with room for other work on the machine (docs/ENGINE.md has exact
# figures).  SLM_TEST_LONG=1: longer, and to 20 per cent.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run qw(start finish);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use SlmTest;

my ($many, $work, $seconds, $most_share, $least_rate, $most_latency) = long_run() ? (63, 30, 20, 1.2, 0.4, 1.6) : (15, 8, 4, 1.6, 0.25, 4);
my $node = slm_cluster('fairness', conf => "shared_preload_libraries = 'slm_pg'\nslm.engine = 'shared'\nmax_connections = 100\n"
	  . "slm.job_max_load = 0\nslm.job_workers = 1\n");
my $directory = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE one LOGIN;
CREATE ROLE many LOGIN;
CREATE ROLE few LOGIN;
ALTER ROLE few SET slm.batch_size = 8;
SELECT slm_grant_model('smollm2', 'public');
CREATE TABLE doc AS SELECT i AS id, 'Tell a long story about the number ' || i AS body, NULL::text AS story FROM generate_series(1, 20000) i;
ALTER TABLE doc ADD PRIMARY KEY (id);
SQL
append_to_file("$directory/generate.sql",
	"\\set n random(1, 1000000)\nSELECT slm_generate('Tell a story about the number ' || :n, max_tokens => 24);\n");
append_to_file("$directory/classify.sql",
	"\\set n random(1, 1000000)\nSELECT slm_classify('Order ' || :n || ': my card has not arrived', ARRAY['billing', 'delivery']);\n");

append_to_file("$directory/statement.sql",
	"\\set n random(1, 1000000)\nSELECT count(slm_generate('Tell a story about the number ' || :n + i, max_tokens => 4)) FROM generate_series(1, 64) i;\n");

# pgbench of a role; its arguments as start wants them.
sub clients
{
	my ($role, $script, $n, @more) = @_;
	return [ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', $role, '-f', "$directory/$script.sql", '-c', $n, @more, 'postgres' ];
}

# What the roles have had so far: role => [CPU seconds, answers]; engine => [seconds in which it computed].
sub had
{
	return map { my ($role, @had) = split /\|/; ($role => \@had) } split /\n/,
	  $node->safe_psql('postgres', "SELECT role, sum(cpu_seconds), sum(requests) FROM slm.usage GROUP BY role UNION ALL SELECT 'engine', busy_seconds, 0 FROM slm.engine_status");
}

sub sum_cpu
{
	my ($had, @who) = @_;
	my $sum = 0;
	$sum += $had->{ $_->[0] }[0] for @who;
	return $sum;
}

# Lets roles ask, [role, script, clients] each, until all are at work and have had $work CPU seconds together; what each had meanwhile.
sub beside
{
	my @who = @_;
	my ($out, $err) = ('', '');
	my $names = join ', ', map { "'$_->[0]'" } @who;
	my $clients = 0;
	$clients += $_->[2] for @who;
	my $since = time();
	my %begin = had();
	my @runs = map { start(clients(@$_, '-T', 3600), '>', \$out, '2>', \$err) } @who;
	for my $who (@who)
	{
		$node->poll_query_until('postgres', "SELECT sum(requests) > " . ($begin{ $who->[0] } ? $begin{ $who->[0] }[1] : 0) . " FROM slm.usage WHERE role = '$who->[0]'") or die 'nobody computes';
	}
	my %from = had();
	my %to = %from;
	until (sum_cpu(\%to, @who) - sum_cpu(\%from, @who) > $work || time() > $since + 180)
	{
		sleep 0.2;
		%to = had();
	}
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE usename IN ($names)"), $clients, "all of $names are at work");
	$_->signal('TERM'), finish($_) for @runs;
	$node->poll_query_until('postgres', "SELECT running = 'interactive 0, batch 0, job 0' FROM slm.engine_status") or die 'the engine does not come to rest';
	unlike($err, qr/ERROR|FATAL|abort/, 'nobody failed') or diag($err);
	my $busy = $to{engine}[0] - $from{engine}[0];
	return map { { cpu => $to{$_}[0] - $from{$_}[0], rate => ($to{$_}[1] - $from{$_}[1]) / ($busy || 1e-9) } } map { $_->[0] } @who;
}

sub is_equal
{
	my ($few, $many, $what) = @_;
	my $share = $many->{cpu} / ($few->{cpu} || 1e-9);
	note("CPU seconds: $few->{cpu} and $many->{cpu}");
	cmp_ok($few->{cpu} + $many->{cpu}, '>', $work, 'they have computed');
	cmp_ok($share, '<', $most_share, sprintf('%s had %.2f times as much', $what, $share));
	cmp_ok($share, '>', 1 / $most_share, '... and no less');
	return;
}

# ---- two roles: one client and many; then, when all have a statement under way, few rows at a time and many

my ($alone_of_one) = beside([ 'one', 'generate', 1 ]);
my ($of_one, $of_many) = beside([ 'one', 'generate', 1 ], [ 'many', 'generate', $many ]);
is_equal($of_one, $of_many, "beside a role of one client one of $many");
cmp_ok($of_one->{rate} / $alone_of_one->{rate}, '>', $least_rate, sprintf('the one has %.2f of the answers that it has alone in as much of the engine\'s time', $of_one->{rate} / $alone_of_one->{rate}));
is_equal(beside([ 'few', 'statement', 1 ], [ 'many', 'statement', 2 ]), 'beside a statement of 8 rows at a time two of 64');

# ---- a statement of many rows waits for none of them alone, the first one included

my $statement = SlmTest::Session->new($node);
$statement->send("SELECT count(slm_generate(body, max_tokens => 100)) FROM doc WHERE id <= 300");
$node->poll_query_until('postgres', "SELECT running NOT LIKE '%batch 0,%' FROM slm.engine_status") or die 'the statement does not begin';
like($node->safe_psql('postgres', 'SELECT running FROM slm.engine_status'), qr/^interactive 0, batch \d+, job 0$/, 'all rows of a statement are a batch');
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $statement->pid . ')');
$statement->wait;
$statement->quit;

# ---- beside a job

sub latency
{
	my ($name) = @_;
	my ($out, $err, @taken) = ('', '');
	run_log(clients('one', 'classify', 1, '-T', $seconds, '-l', "--log-prefix=$directory/$name"), '>', \$out, '2>', \$err);
	for my $file (glob "$directory/$name.*")
	{
		push @taken, map { (split)[2] / 1000 } split /\n/, slurp_file($file);
	}
	return percentile(0.95, @taken);
}

my $alone = latency('alone');
$node->safe_psql('postgres', "SELECT slm_create_job('stories', 'doc', 'story', 'slm_generate(body, max_tokens => 32)')");
$node->poll_query_until('postgres', "SELECT running NOT LIKE '%job 0' FROM slm.engine_status") or die 'the job does not begin';
my $written = $node->safe_psql('postgres', 'SELECT output_tokens FROM slm.engine_status');
my $beside;
for (1 .. 5) # on a machine that does other things too no answer may have ended in so many seconds
{
	$beside = latency('beside');
	last if $node->safe_psql('postgres', 'SELECT output_tokens FROM slm.engine_status') > $written;
}
cmp_ok($node->safe_psql('postgres', 'SELECT output_tokens FROM slm.engine_status'), '>', $written, 'the job computes');
is($node->safe_psql('postgres', "SELECT running LIKE '%job 0' FROM slm.engine_status"), 'f', '... and does not end');
cmp_ok($beside / $alone, '<', $most_latency, sprintf('95 %% of calls took %.1f ms alone and %.1f ms beside the job', $alone, $beside));
$node->safe_psql('postgres', "SELECT slm_drop_job('stories')");
$node->stop;
done_testing();
