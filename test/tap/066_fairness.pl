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

my ($many, $seconds, $most_share, $most_latency) = long_run() ? (63, 20, 1.2, 1.6) : (15, 4, 1.6, 4);
my $node = slm_cluster('fairness', conf => "shared_preload_libraries = 'slm_pg'\nslm.engine = 'shared'\nmax_connections = 100\n"
	  . "slm.job_max_load = 0\nslm.job_workers = 1\n");
my $directory = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE one LOGIN;
CREATE ROLE many LOGIN;
SELECT slm_grant_model('smollm2', 'public');
CREATE TABLE doc AS SELECT i AS id, 'Tell a long story about the number ' || i AS body, NULL::text AS story FROM generate_series(1, 20000) i;
ALTER TABLE doc ADD PRIMARY KEY (id);
SQL
append_to_file("$directory/generate.sql",
	"\\set n random(1, 1000000)\nSELECT slm_generate('Tell a story about the number ' || :n, max_tokens => 8);\n");
append_to_file("$directory/classify.sql",
	"\\set n random(1, 1000000)\nSELECT slm_classify('Order ' || :n || ': my card has not arrived', ARRAY['billing', 'delivery']);\n");

# pgbench of a role; its arguments as start wants them.
sub clients
{
	my ($role, $script, $n, @more) = @_;
	return [ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', $role, '-f', "$directory/$script.sql", '-c', $n, @more, 'postgres' ];
}

# CPU seconds of roles so far.
sub cpu
{
	return map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT role, sum(cpu_seconds) FROM slm.usage GROUP BY role');
}

# ---- two roles

my ($out, $err) = ('', '');
my @runs = map { start(clients(@$_, '-T', 3600), '>', \$out, '2>', \$err) } [ 'one', 'generate', 1 ], [ 'many', 'generate', $many ];
$node->poll_query_until('postgres', "SELECT count(*) = 2 FROM slm.usage WHERE role IN ('one', 'many')") or die 'nobody computes';
my %from = cpu();
sleep $seconds;
my %to = cpu();
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('one', 'many')"), $many + 1, 'all are at work');
$_->signal('TERM'), finish($_) for @runs;
$node->poll_query_until('postgres', "SELECT running = 'interactive 0, batch 0, job 0' FROM slm.engine_status") or die 'the engine does not come to rest';
unlike($err, qr/ERROR|FATAL|abort/, 'nobody failed') or diag($err);
my ($of_one, $of_many) = map { $to{$_} - $from{$_} } qw(one many);
my $share = $of_many / ($of_one || 1e-9);
note("CPU seconds: a role of one client $of_one, of $many clients $of_many");
cmp_ok($of_one, '>', 0.3, 'both have computed');
cmp_ok($share, '<', $most_share, sprintf('a role of %d clients had %.2f times as much as a role of one', $many, $share));
cmp_ok($share, '>', 1 / $most_share, '... and no less');

# ---- beside a job

sub latency
{
	my ($name) = @_;
	my @taken;
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
my $beside = latency('beside');
cmp_ok($node->safe_psql('postgres', 'SELECT output_tokens FROM slm.engine_status'), '>', $written, 'the job computes');
is($node->safe_psql('postgres', "SELECT running LIKE '%job 0' FROM slm.engine_status"), 'f', '... and does not end');
cmp_ok($beside / $alone, '<', $most_latency, sprintf('95 %% of calls took %.1f ms alone and %.1f ms beside the job', $alone, $beside));
$node->safe_psql('postgres', "SELECT slm_drop_job('stories')");
$node->stop;
done_testing();
