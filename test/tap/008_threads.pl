# The cluster's thread budget where sessions compute themselves: with many at work no more threads than slm.max_threads compute (each call has at least its own), and none is
# counted when all is done, cancelled, failed or killed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(sleep);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $node = slm_cluster('threads', conf => "shared_preload_libraries = 'slm_pg'\nslm.engine = 'local'\nslm.max_threads = 3\nslm.threads = 2\n");
my $work = "SELECT length(slm_generate('Write a very long story about a ship.', max_tokens => 3000))";
my $control = SlmTest::Session->new($node);
my $running = "SELECT value FROM slm_system_info() WHERE item = 'threads running now'";

is($control->query("SELECT value FROM slm_system_info() WHERE item = 'preloaded'"), 'yes', 'preloaded');
is($control->query($running), '0', 'nothing runs');

# threads of a process besides its own; the budget is what counts as running
sub most_running
{
	my ($tries) = @_;
	my $most = 0;
	for (1 .. $tries)
	{
		my $now = $control->query($running);
		$most = $now if $now > $most;
		sleep(0.01);
	}
	return $most;
}

sub comes_to_rest
{
	my ($name) = @_;
	my $now;
	for (1 .. 200) { $now = $control->query($running); last if $now == 0; sleep(0.02); }
	is($now, 0, "$name: no thread is counted any more");
	return;
}

my @one = (SlmTest::Session->new($node));
$one[0]->send($work);
sleep(0.3);
is(most_running(20), 2, 'one session takes its two threads');
push @one, SlmTest::Session->new($node);
$one[1]->send($work);
sleep(0.3);
my $two = most_running(40);
ok($two >= 2 && $two <= 3, "two sessions share three threads ($two at most)");
push @one, SlmTest::Session->new($node), SlmTest::Session->new($node);
$_->send($work) for @one[ 2, 3 ];
sleep(0.5);
my $four = most_running(40);
ok($four >= 3 && $four <= 4, "four sessions have one each, or one of them two ($four at most)");

$control->query('SELECT pg_cancel_backend(' . $_->pid . ')') for @one;
$_->wait for @one;
comes_to_rest('cancelled');

$one[0]->query("SELECT slm_generate(repeat('too long ', 20000))");
comes_to_rest('failed');
$one[0]->query("DO \$\$ BEGIN PERFORM slm_generate('x', max_tokens => 3); RAISE EXCEPTION 'no'; EXCEPTION WHEN OTHERS THEN NULL; END \$\$");
comes_to_rest('caught');

$one[1]->send($work);
sleep(0.3);
$control->query('SELECT pg_terminate_backend(' . $one[1]->pid . ')');
comes_to_rest('terminated');

$one[2]->send($work);
sleep(0.3);
kill 'KILL', $one[2]->pid;
$_->quit for @one, $control;
$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';
is($node->safe_psql('postgres', $running), '0', 'killed: shared memory is made anew');

# the postmaster itself has one thread
my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
my ($threads) = slurp_file("/proc/$postmaster/status") =~ /^Threads:\s+(\d+)/m;
is($threads, 1, 'the postmaster has no other thread than its own');
$node->stop;
done_testing();
