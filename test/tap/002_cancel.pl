# Cancel and timeout at any moment of a load, a fine-tuning, a long prefill and a decode: answered at once, and the session goes on as before.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(time sleep);
use SlmTest;

my $tries = long_run() ? 200 : 24;
my $path = model_path();
my $node = slm_cluster('cancel');
my $control = SlmTest::Session->new($node);
my $worker = SlmTest::Session->new($node);
my $question = "SELECT slm_generate('What is the capital of France?', max_tokens => 12)";
my $answer = $worker->query($question);
my $files = sub { my @all = glob($node->data_dir . '/slm_models/*'); return scalar @all; };
my $files_before = $files->();

# each: a statement that runs long enough, and how long to let it run at most
my %statement = (
	decode => [ "SELECT length(slm_generate('Write a very long story about a ship.', max_tokens => 3000))", 1.0 ],
	prefill => [ "SELECT slm_perplexity(repeat('The harbour was quiet and the ships were old. ', 700))", 0.8 ],
	tokenize => [ "SELECT slm_count_tokens(repeat('Ships and harbours, ', 700000))", 0.3 ],
	finetune => [ "SELECT slm_finetune('again', 'smollm2', 'SELECT ''question '' || i, ''a long answer of the number '' || i FROM generate_series(1, 400) i')", 1.5 ],
	# with an option, so that an image of its own is made
	load => [ "SELECT slm_load_model('again', '$path', '{\"chat_format\": \"raw\"}')", 0.5 ]);

for my $phase (sort keys %statement)
{
	my ($sql, $longest) = @{ $statement{$phase} };
	my $tries = $phase eq 'finetune' && !long_run() ? 8 : $tries;
	my @seconds;
	my $other = 0;
	if ($phase eq 'load' || $phase eq 'tokenize')
	{
		# these end by themselves, on a fast machine soon
		my $begin = time();
		$worker->query($sql);
		my $whole = 0.7 * (time() - $begin);
		$longest = $statement{$phase}[1] = $whole if $whole < $longest;
		$worker->query("SELECT slm_drop_model('again')") if $phase eq 'load';
	}
	for my $try (1 .. $tries)
	{
		$worker->send($sql);
		sleep(0.01 + rand($longest));
		my $begin = time();
		$control->query('SELECT pg_cancel_backend(' . $worker->pid . ')');
		my $seconds = $worker->seconds_until_error($begin);
		if ($worker->{error} =~ /canceling statement due to user request/) { push @seconds, $seconds; }
		else { $other++; $worker->query("SELECT slm_drop_model('again')") if $phase eq 'load'; }
	}
	cmp_ok(scalar(@seconds), '>=', $tries / 2, "$phase: cancelled ($other of $tries had ended before)");
	my ($half, $most) = (percentile(0.5, @seconds) * 1000, percentile(0.99, @seconds) * 1000);
	diag(sprintf('%s: cancel answered after %.1f ms (median), %.1f ms (99 %%)', $phase, $half, $most));
	cmp_ok($half, '<=', 50, "$phase: half of the cancels are answered within 50 ms");
	cmp_ok($most, '<=', 50, "$phase: 99 % of the cancels are answered within 50 ms") if long_run();
	is($worker->query($question), $answer, "$phase: the session gives the same answer afterwards");
}

is($files->(), $files_before, 'cancelled loads leave no file');
is($control->query("SELECT count(*) FROM slm.models"), '1', 'cancelled loads leave no catalog row');

# statement_timeout, from many moments of each
for my $phase (qw(decode load prefill))
{
	my @late;
	my $longest = $statement{$phase}[1] * 1000;
	$longest = 340 if $longest > 340;
	for my $try (1 .. $tries / 4)
	{
		my $timeout = 5 + int(rand($longest));
		$worker->query("SET statement_timeout = $timeout");
		my $begin = time();
		my (undef, $error) = $worker->query($statement{$phase}[0]);
		push @late, (time() - $begin) * 1000 - $timeout if $error =~ /statement timeout/;
		$worker->query('RESET statement_timeout');
		$worker->query("SELECT slm_drop_model('again')") if $phase eq 'load' && !$error;
	}
	cmp_ok(scalar(@late), '>=', $tries / 8, "$phase: statement_timeout ends it");
	my $half = percentile(0.5, @late);
	cmp_ok($half, '<=', 50, sprintf('%s: half of the timeouts are answered within 50 ms (%.1f)', $phase, $half));
	is($worker->query($question), $answer, "$phase: and the session goes on");
}
is($files->(), $files_before, 'no file is left');

# the end of a session at work: its process goes, its threads with it
$worker->send($statement{decode}[0]);
sleep(0.2);
$control->query('SELECT pg_terminate_backend(' . $worker->pid . ')');
my $gone = 0;
for (1 .. 100) { $gone = !-e '/proc/' . $worker->pid; last if $gone; sleep(0.02); }
ok($gone, 'pg_terminate_backend ends a session at work');
$worker->quit;

$control->quit;
$node->stop;
done_testing();
