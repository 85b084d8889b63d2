# Cancel in the middle of what is large: thousands of labels, documents and requests, texts of 100 MB, ten million tokens, training. What counts
# is the CPU time that the session and its threads still spend: the wall clock of a shared machine says nothing.
#
# SLM_TEST_LONG=1: all cases, many tries, and the answer within 50 ms of CPU time. Else some, few tries and a generous bound, for a slow or busy
# machine.
# SLM_CANCEL=pattern runs some cases, SLM_TRIES=n so many times each.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use SlmTest;

my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";
my $tries = $ENV{SLM_TRIES} || (long_run() ? 40 : 3);
my $cases = $ENV{SLM_CANCEL} || (long_run() ? '.*' : 'multi|channel|rerank|direct|detokenize|embed|generate|count|chunk|train|batch|classify');
my $limit = long_run() ? 50 : 250; # ms of CPU time
my $node = slm_cluster('cancel', conf => "slm.threads = 2\nmax_parallel_workers_per_gather = 0\nwork_mem = '64MB'\njit = off\n");
$node->safe_psql('postgres', "SELECT slm_load_model('minilm', '$minilm')");
$node->append_conf('postgresql.conf', "slm.embed_model = 'minilm'");
$node->reload;
my $control = SlmTest::Session->new($node);
my $worker = SlmTest::Session->new($node);
$worker->query("CREATE TABLE labels AS SELECT array_agg('label number ' || i) AS l FROM generate_series(1, 10000) i");
$worker->query("CREATE TABLE texts AS SELECT i AS id, 'a note on parcel number ' || i || repeat(' and others', i % 20) AS body, 'l' || i % 50 AS label FROM generate_series(1, 3000) i");
$worker->query("CREATE TABLE vectors AS SELECT id, label, ARRAY(SELECT (((id * 7919 + k * 104729 + id * k) % 1000) / 1000.0)::real FROM generate_series(1, 384) k) AS v FROM texts");

$worker->query("CREATE TABLE word AS SELECT 'Ships and harbours, '::text AS w");
my $text = "repeat(w, 5000000)"; # 100 MB, and no constant: the planner would copy it, and does not look up
my $ids = "array_fill(length(w) * 100, ARRAY[10000000])";

# each: a statement, and for how long at most it is let run
my %statement = (
	multi => [ "SELECT slm_classify_multi('Where is my parcel?', l, model => 'smollm2') FROM labels", 1.5 ],
	channel => [ "SELECT slm_classify('Where is my parcel?', l, method => 'channel') FROM labels", 1.5 ],
	direct => [ "SELECT slm_classify('Where is my parcel?', l, method => 'direct', instruction => 'Classify this.') FROM labels", 1.5 ],
	embedding => [ "SELECT slm_classify('Where is my parcel?', l, model => 'minilm') FROM labels", 1.5 ],
	detokenize => [ "SELECT octet_length(slm_detokenize($ids, model => 'smollm2')) FROM word", 2.5 ],
	detokenize_minilm => [ "SELECT octet_length(slm_detokenize($ids, model => 'minilm')) FROM word", 2.5 ],
	embed => [ "SELECT slm_embed($text, truncate => true) FROM word", 1.5 ],
	embed_many => [ "SELECT count(slm_embed(x || i)) FROM labels, unnest(l) x, generate_series(1, 9) i", 1.5 ],
	generate => [ "SELECT slm_generate($text, truncate => true, max_tokens => 10) FROM word", 1.5 ],
	system => [ "SELECT slm_generate('Hello', system => $text, max_tokens => 10) FROM word", 1.5 ],
	tokenize => [ "SELECT cardinality(slm_tokenize($text, model => 'smollm2')) FROM word", 2.5 ],
	count => [ "SELECT slm_count_tokens($text, model => 'smollm2') FROM word", 1.5 ],
	count_minilm => [ "SELECT slm_count_tokens($text, model => 'minilm') FROM word", 1.5 ],
	chunk => [ "SELECT count(*) FROM word, slm_chunk($text, 64, model => 'minilm')", 2.5 ],
	chunk_smollm2 => [ "SELECT count(*) FROM word, slm_chunk($text, 64, 8, model => 'smollm2')", 2.5 ],
	rerank => [ "SELECT count(*) FROM labels, slm_rerank('Where is my parcel?', l)", 1.5 ],
	perplexity => [ "SELECT slm_perplexity($text) FROM word", 1.5 ],
	classify => [ "SELECT slm_classify($text, ARRAY['a', 'b'], method => 'direct') FROM word", 1.5 ],
	similarity => [ "SELECT slm_similarity('ship', $text) FROM word", 1.5 ],
	summarize => [ "SELECT slm_summarize($text, method => 'abstract') FROM word", 1.5 ],
	no_batch => [ "SET slm.enable_batch = off; SELECT slm_embed($text) FROM word", 1.5 ],
	spaces => [ "SELECT slm_classify(repeat(left(w, 0) || ' ', 100000000), ARRAY['a', 'b']) FROM word", 1.5 ],
	long_prompt => [ "SELECT slm_generate(repeat('The harbour was quiet and the ships were old. ', 700), max_tokens => 10)", 1.5 ],
	stop_words => [ "SELECT slm_generate('Write a long story.', max_tokens => 4000, stop => ARRAY(SELECT repeat('x', 100) || i FROM generate_series(1, 64) i))", 1.5 ],
	train => [ "SELECT accuracy FROM slm_train_classifier('t', 'SELECT body AS text, label FROM texts')", 2.5 ],
	train_vectors => [ "SELECT accuracy FROM slm_train_classifier('t', 'SELECT v AS embedding, label FROM vectors')", 2.5 ],
	batch => [ "SELECT count(slm_generate(body, max_tokens => 40)) FROM texts", 1.5 ]);

# CPU time in ms that a process's threads have used.
sub cpu_ms
{
	my ($pid) = @_;
	my $ns = 0;
	for my $file (glob("/proc/$pid/task/*/schedstat"))
	{
		open(my $f, '<', $file) or next;
		my $line = <$f>;
		$ns += (split / /, $line)[0] if defined $line;
	}
	return $ns / 1e6;
}

my $question = "SELECT slm_generate('What is the capital of France?', max_tokens => 12)";
my $answer = $worker->query($question);
for my $name (sort keys %statement)
{
	next unless $name =~ /^($cases)$/;
	my ($sql, $longest) = @{ $statement{$name} };
	my (@ms, @wall);
	my $ended = '';
	# a statement that ends before it is cancelled, on a fast machine, is tried again and cancelled earlier
	for (my $try = 1; @ms < $tries && $try <= 5 * $tries; $try++)
	{
		my $wait = 0.02 + $longest * (@ms + 0.5) / $tries;
		$worker->query($1) if $sql =~ /^(SET [^;]*);/;
		$worker->send($sql =~ s/^SET [^;]*;//r);
		sleep($wait);
		my ($begin, $before) = (time(), cpu_ms($worker->pid));
		$control->query('SELECT pg_cancel_backend(' . $worker->pid . ')');
		$worker->wait;
		if ($worker->{error} =~ /canceling statement due to user request/)
		{
			push @ms, cpu_ms($worker->pid) - $before;
			push @wall, (time() - $begin) * 1000;
			diag(sprintf('  %s: cancelled after %.2f s: %.1f ms CPU', $name, $wait, $ms[-1])) if $ms[-1] > 40;
		}
		else { $ended = $worker->{error} || 'it ended by itself'; $longest *= 0.7; }
	}
	$worker->query('RESET slm.enable_batch');
	cmp_ok(scalar(@ms), '>=', $tries / 2, "$name: cancelled" . ($ended ne '' ? " ($ended)" : ''));
	next unless @ms;
	my ($half, $most) = (percentile(0.5, @ms), percentile(1, @ms));
	diag(sprintf('%-18s CPU after a cancel: %5.1f ms (median) %6.1f ms (most), %.0f ms wall', $name, $half, $most, percentile(0.5, @wall)));
	cmp_ok($most, '<=', $limit, sprintf('%s: at most %d ms of CPU time after a cancel', $name, $limit));
}
is($worker->query($question), $answer, 'the session gives the same answer afterwards');

$worker->quit;
$control->quit;
$node->stop;
done_testing();
