# Memory of a server whose sessions have all generated behind a long prompt: the image once, the keys and values of the engine process within
# slm.engine_memory, and at most 3 MiB for each connection.  Figures are proportional set sizes (PSS) of all processes of the server, so that
# what they share counts once.  SLM_TEST_LONG=1: a hundred connections.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my ($connections, $budget_mb) = long_run() ? (100, 64) : (12, 64);
my $node = slm_cluster('engine_memory', conf => <<"CONF");
shared_preload_libraries = 'slm_pg'
slm.engine = 'shared'
slm.engine_memory = '${budget_mb}MB'
shared_buffers = '16MB'
max_connections = 120
CONF

my $image_kb = $node->safe_psql('postgres', "SELECT image_bytes / 1024 FROM slm.models WHERE name = 'smollm2'");
my @sessions = map { SlmTest::Session->new($node) } 1 .. $connections;
my $bare = sum_pss();
for my $i (0 .. $#sessions)
{
	$sessions[$i]->send("SELECT prompt_tokens FROM slm_generate_details('Letter $i. ' || repeat('The harbour is closed today. ', 245), max_tokens => 8)");
}
my @tokens = map { scalar $_->wait } @sessions;
is(scalar(grep { $_ >= 1450 && $_ < 1600 } @tokens), $connections, "$connections connections have generated behind $tokens[0] tokens");
my ($models, $engine) = split /\|/, $node->safe_psql('postgres', 'SELECT models, pid FROM slm.engine_status');
is($models, '1', 'in the engine process');
my $sum = sum_pss();
# What the server takes before anybody computes is more than 12 connections are allowed; 100 have to do with their 3 MiB each.
my $most = $image_kb + 1024 * $budget_mb + 3 * 1024 * $connections + (long_run() ? 0 : $bare);
note(sprintf 'PSS of all processes: %.1f MiB, %.1f before; the engine process %.1f, the image %.1f, a connection %.2f MiB', $sum / 1024,
	$bare / 1024, process_kb($engine, 'smaps_rollup', 'Pss') / 1024, $image_kb / 1024,
	($sum - process_kb($engine, 'smaps_rollup', 'Pss')) / 1024 / $connections);
cmp_ok($sum, '<=', $most, sprintf('%.0f MiB of all processes, of %.0f that are allowed', $sum / 1024, $most / 1024));
cmp_ok($sum - $bare, '>', 20 * 1024, '... with the model in memory');
$_->quit for @sessions;
$node->stop;
done_testing();

# Of the postmaster and all that came from it, in kB.
sub sum_pss
{
	my ($server) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my %parent;
	for my $file (glob '/proc/[0-9]*/stat')
	{
		my ($pid) = $file =~ /(\d+)/;
		$parent{$pid} = (eval { slurp_file($file) } // '') =~ /\) \S (\d+)/ ? $1 : 0;
	}
	my ($sum, @left) = (0, $server);
	while (defined(my $pid = shift @left))
	{
		$sum += process_kb($pid, 'smaps_rollup', 'Pss') // 0;
		push @left, grep { $parent{$_} == $pid } keys %parent;
	}
	return $sum;
}
