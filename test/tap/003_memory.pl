# Thousands of calls leave a backend's memory where it was, errors included.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use SlmTest;

my $calls = long_run() ? 10_000 : 300;
my $warm_up = 300; # enough for the largest batch that rows are read ahead in
my $node = slm_cluster('memory');
my $session = SlmTest::Session->new($node);

my %work = (
	generate => "SELECT count(slm_generate('Say ' || i, max_tokens => 1)) FROM generate_series(1, %d) i",
	classify => "SELECT count(slm_classify('parcel ' || i, ARRAY['red', 'blue'], method => 'direct')) FROM generate_series(1, %d) i",
	tokens => "SELECT count(slm_detokenize(slm_tokenize('some words ' || i))) FROM generate_series(1, %d) i");
my $failing = "DO \$\$ BEGIN FOR i IN 1..%d LOOP BEGIN PERFORM slm_generate('x', max_tokens => -1 - i); EXCEPTION WHEN OTHERS THEN NULL; END;"
  . " BEGIN PERFORM slm_generate(repeat('too long ', 20000)); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END \$\$";

for my $kind (sort keys %work)
{
	# an idle session gives memory back, so what it may hold is the most of some rounds
	my $before = 0;
	for (1 .. 3)
	{
		$session->query(sprintf($work{$kind}, $warm_up));
		my $now = process_kb($session->pid, 'smaps_rollup', 'Private_Dirty');
		$before = $now if $now > $before;
	}
	is($session->query(sprintf($work{$kind}, $calls)), $calls, "$kind: $calls calls");
	my $after = process_kb($session->pid, 'smaps_rollup', 'Private_Dirty');
	diag("$kind: $before KiB before, $after KiB after");
	cmp_ok($after - $before, '<=', 4096, "$kind: memory stays flat");
}

$session->query(sprintf($failing, 3));
my $before = process_kb($session->pid, 'smaps_rollup', 'Private_Dirty');
$session->query(sprintf($failing, 40));
my $after = process_kb($session->pid, 'smaps_rollup', 'Private_Dirty');
diag("errors: $before KiB before, $after KiB after");
cmp_ok($after - $before, '<=', 4096, 'errors give their memory back');

$session->quit;
$node->stop;
done_testing();
