# Adapters that PEFT has trained, in the directories that it writes: loaded here they say what they say in transformers; settings that change
# what the matrices mean are refused by name.
#
# SLM_TEST_PYTHON names a Python that has torch, transformers, peft and gguf; default: python3.  Two minutes of CPU time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use JSON::PP;
use List::Util qw(max sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $python = $ENV{SLM_TEST_PYTHON} || 'python3';
my $missing = `$python -c 'import torch, transformers, peft, gguf' 2>&1`;
plan(skip_all => "$python has no torch, transformers, peft and gguf: " . ((split /\n/, $missing)[-1] || 'it does not start')) if $? != 0;
my $model = model_path();
my $folder = $PostgreSQL::Test::Utils::tmp_check . '/peft';
mkdir $folder;
is(system("$python $FindBin::RealBin/peft_reference.py $model $folder >$folder/log 2>&1"), 0, 'PEFT trains and saves') or BAIL_OUT(slurp_file("$folder/log"));
my $said = decode_json(slurp_file("$folder/peft.json"));

my $node = slm_cluster('peft');
for my $name (sort keys %{ $said->{taught} })
{
	$node->safe_psql('postgres', "SELECT slm_load_adapter('$name', 'smollm2', '$folder/$name')");
	my (@differences, $equal);
	for my $row (@{ $said->{taught}{$name} })
	{
		my $text = $row->{prompt} . $row->{answer};
		my @ours = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', "SELECT token_id, logprob FROM slm_token_logprobs(\$t\$$text\$t\$, 'smollm2+$name') ORDER BY position");
		is(join(' ', map { $_->[0] } @ours), join(' ', @{ $row->{ids} }), "$name: tokens of: $row->{answer}");
		push @differences, map { abs($ours[ $row->{first} + $_ ][1] - $row->{logprobs}[$_]) } 0 .. $#{ $row->{logprobs} };
		$equal += $node->safe_psql('postgres', "SELECT slm_generate(\$t\$$row->{prompt}\$t\$, 'smollm2+$name', chat => false, max_tokens => 24)") eq $row->{answer};
	}
	note sprintf('%s: %d tokens, difference of log probabilities %.4f on average, %.4f at most; %d of %d answers are equal',
		$name, scalar @differences, sum(@differences) / @differences, max(@differences), $equal, scalar @{ $said->{taught}{$name} });
	cmp_ok(max(@differences), '<=', 0.05, "$name: log probabilities are those of transformers");
	is($equal, scalar @{ $said->{taught}{$name} }, "$name: answers are those of transformers");
}
for my $name (sort keys %{ $said->{others} })
{
	my ($code, $out, $err) = $node->psql('postgres', "SELECT slm_load_adapter('$name', 'smollm2', '$folder/$name')");
	like($err, qr/$said->{others}{$name}/, "$name is refused by name");
}
$node->stop;
done_testing();
