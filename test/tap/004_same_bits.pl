# One answer, many ways: greedy text and probabilities are the same bytes for every instruction set, thread count, preloaded or not, with a
# prefix computed anew or reused, and in sessions that did other things before.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use SlmTest;

my $prompts = 50;
my $tokens = long_run() ? 32 : 8;
my $node = slm_cluster('bits');
my $isas = $node->safe_psql('postgres', "SELECT string_agg(i, ' ') FROM unnest(ARRAY['ref', 'avx2', 'avx512', 'neon']) AS i "
	  . "WHERE i IN (SELECT regexp_split_to_table(value, '[ ,]+') FROM slm_system_info())");
my @isas = split / /, $isas;
ok(scalar(@isas) >= 1, "instruction sets here: $isas");

my $all = "SELECT md5(string_agg(t, '|' ORDER BY i)) FROM (SELECT i, slm_generate('Question ' || i || ': name a word that begins with ' "
  . "|| chr(97 + i %% 26) || ' and explain it.', max_tokens => $tokens) AS t FROM generate_series(%d, %d) i %s) x";
my $scores = "SELECT md5(string_agg(label || probability, ',' ORDER BY label)) FROM "
  . "slm_classify_scores('The parcel never arrived.', ARRAY['delivery', 'billing', 'account access'], method => 'direct')";
my $logprobs = "SELECT md5(string_agg(coalesce(logprob::text, '-'), ',' ORDER BY position)) FROM "
  . "slm_token_logprobs(repeat('All models are wrong, but some are useful. ', 6))";

my @queries = (sprintf($all, 1, $prompts, ''), $scores, $logprobs);
my @expected = map { $node->safe_psql('postgres', $_) } @queries;
# the portable kernels are slow: a few prompts are enough for them in the short run
my @few = long_run() ? @queries : (sprintf($all, 1, 2, ''), $scores);
my @few_expected = map { $node->safe_psql('postgres', $_) } @few;

for my $isa (@isas)
{
	for my $threads (1, 2)
	{
		my @got = map { $node->safe_psql('postgres', "SET slm.isa = '$isa'; SET slm.threads = $threads; $_") } $isa eq 'ref' ? @few : @queries;
		is_deeply(\@got, $isa eq 'ref' ? \@few_expected : \@expected, "$isa, $threads threads: text, scores and log probabilities");
	}
}

my $backwards = $node->safe_psql('postgres', sprintf($all, 1, $prompts, 'ORDER BY i DESC'));
is($backwards, $expected[0], 'rows in another order');

my $session = SlmTest::Session->new($node);
my $alone = $session->query(sprintf($all, 7, 7, ''));
is(scalar($session->query(sprintf($all, 7, 7, ''))), $alone, 'the prefix reused');
my ($reused) = $session->query("SELECT reused_tokens > 0 FROM slm_generate_details('Question 7', max_tokens => 1)");
is($reused, 't', 'there was a prefix to reuse');
$session->quit;
is($node->safe_psql('postgres', sprintf($all, 7, 7, '')), $alone, 'the prefix computed anew');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'");
$node->restart;
is_deeply([ map { $node->safe_psql('postgres', $_) } @queries ], \@expected, 'preloaded');

$node->stop;
done_testing();
