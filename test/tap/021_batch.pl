# SLM Batch over many rows: cancel, timeout and the end of a session in the middle of a batch; memory over many rows; what is computed under
# LIMIT and with a long instruction, by the counters of EXPLAIN; label scoring that stops early; auto_explain and pg_stat_statements beside it.
#
# The texts are made here: 13,083 with 77 labels, as Banking77 has (test/tap/data/banking77.pl takes its texts).
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use SlmTest;

my $path = model_path();
my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";

my $config = `pg_config --pkglibdir`;
chomp $config;
my @beside = grep { -e "$config/$_.so" } qw(pg_stat_statements auto_explain);
my $node = slm_cluster('batch', conf => "shared_preload_libraries = '" . join(',', 'slm_pg', @beside) . "'\nslm.threads = 2\n");
$node->safe_psql('postgres', "SELECT slm_load_model('minilm', '$minilm')");
$node->append_conf('postgresql.conf', "slm.embed_model = 'minilm'\nmax_parallel_workers_per_gather = 0");
$node->reload;

# ---- texts, 8 and 77 labels

$node->safe_psql('postgres', 'CREATE TABLE message (id serial PRIMARY KEY, body text, category text)');
$node->safe_psql('postgres', q{
	INSERT INTO message (body, category) SELECT format('%s my %s %s since %s, order %s?', h, n, v, d, i), v || ' ' || n
		FROM (SELECT i, (ARRAY['Why is', 'Please tell me why', 'Hello, I see that', 'I do not know why', 'Can you say when'])[1 + i % 5] h,
			(ARRAY['card', 'transfer', 'refund', 'account', 'top-up', 'cheque', 'passcode'])[1 + i % 7] n,
			(ARRAY['declined', 'pending', 'missing', 'charged twice', 'blocked', 'delayed', 'lost', 'wrong', 'expired', 'stolen', 'unknown'])[1 + i % 11] v,
			(ARRAY['Monday', 'yesterday', 'last week', 'the holidays'])[1 + i % 4] d FROM generate_series(1, 13083) i) t});
my $eight = "ARRAY['card delivery', 'exchange rate', 'lost or stolen card', 'top-up problem', 'refund request', 'identity verification', 'PIN code', 'cash withdrawal']";
my $many = $node->safe_psql('postgres', "SELECT quote_literal(array_agg(DISTINCT replace(category, '_', ' '))) || '::text[]' FROM message");
is($node->safe_psql('postgres', "SELECT cardinality($many)"), 77, '77 labels');

# The EXPLAIN ANALYZE counters of the statement's batch node.
sub find_batch
{
	my ($plan) = @_;
	return $plan if ($plan->{'Custom Plan Provider'} || '') eq 'SLM Batch';
	for my $child (@{ $plan->{Plans} || [] }) { my $found = find_batch($child); return $found if $found; }
	return undef;
}

sub counters
{
	my ($session, $sql) = @_;
	my ($out, $error) = $session->query("EXPLAIN (ANALYZE, FORMAT JSON) $sql");
	die $error if $error =~ /ERROR/;
	return find_batch(decode_json($out)->[0]{Plan});
}

my $control = SlmTest::Session->new($node);
my $worker = SlmTest::Session->new($node);

# ---- cancel in the middle of a batch

my $tries = long_run() ? 200 : 20;
my $limit = long_run() ? 50 : 500; # ms; an ordinary run may share its machine
my $question = "SELECT string_agg(slm_generate(body, max_tokens => 4), '|' ORDER BY id) FROM message WHERE id <= 5";
my $answer = $worker->query($question);
my %statement = (
	classify => "SELECT count(slm_classify(body, $eight, method => 'direct')) FROM message",
	generate => 'SELECT count(slm_generate(body, max_tokens => 64)) FROM message',
	embed => 'SELECT count(slm_embed(body || i)) FROM message, generate_series(1, 10) i');
for my $kind (sort keys %statement)
{
	like($worker->query("EXPLAIN $statement{$kind}"), qr/SLM Batch/, "$kind: runs in a node");
	my @ms;
	for my $try (1 .. $tries)
	{
		$worker->send($statement{$kind});
		sleep(0.02 + rand(0.8));
		my $begin = time();
		$control->query('SELECT pg_cancel_backend(' . $worker->pid . ')');
		my $seconds = $worker->seconds_until_error($begin);
		push @ms, $seconds * 1000 if $worker->{error} =~ /canceling statement due to user request/;
	}
	is(scalar(@ms), $tries, "$kind: $tries cancels");
	my ($half, $most) = (percentile(0.5, @ms), percentile(0.99, @ms));
	diag(sprintf('%s: cancel in a batch answered after %.1f ms (median), %.1f ms (99 %%)', $kind, $half, $most));
	cmp_ok($most, '<=', $limit, "$kind: 99 % of the cancels in a batch are answered within $limit ms");
	is($worker->query($question), $answer, "$kind: the session goes on with the same answers");

	my @late;
	for my $try (1 .. $tries / 4)
	{
		my $timeout = 20 + int(rand(400));
		my $begin = time();
		my (undef, $error) = $worker->query("SET statement_timeout = $timeout\n;\n$statement{$kind}");
		push @late, (time() - $begin) * 1000 - $timeout if $error =~ /statement timeout/;
		$worker->query('RESET statement_timeout');
	}
	is(scalar(@late), $tries / 4, "$kind: statement_timeout ends it");
	cmp_ok(percentile(0.5, @late), '<=', $limit, sprintf('%s: timeouts are answered in time (%.1f ms)', $kind, percentile(0.5, @late)));
	is($worker->query($question), $answer, "$kind: and the session goes on");

	my $victim = SlmTest::Session->new($node);
	$victim->send($statement{$kind});
	sleep(0.4);
	$control->query('SELECT pg_terminate_backend(' . $victim->pid . ')');
	my $gone = 0;
	for (1 .. 100) { $gone = !-e '/proc/' . $victim->pid; last if $gone; sleep(0.02); }
	ok($gone, "$kind: pg_terminate_backend ends a session in a batch");
	$victim->quit;
}
is($control->query($question), $answer, 'other sessions are as before');

# ---- memory

my $rows = long_run() ? 100_000 : 5_000;
my $eater = SlmTest::Session->new($node);
$eater->query("SET work_mem = '1MB'");
sub peak
{
	my ($n) = @_;
	my $peak = 0;
	$eater->send("SELECT count(slm_embed('a note on parcel number ' || i)) FROM generate_series(1, $n) i");
	until (index($eater->{out}, ":done$eater->{n}:") >= 0)
	{
		my $kb = process_kb($eater->pid, 'smaps_rollup', 'Private_Dirty');
		$peak = $kb if $kb > $peak;
		$eater->{timer}->start(300);
		$eater->{run}->pump_nb;
		sleep(0.05);
	}
	is($eater->wait, $n, "$n rows embedded");
	return $peak;
}
peak(1000);
my ($before, $after) = (peak(2000), peak($rows));
diag("embedding: $before KiB at most over 2,000 rows, $after KiB over $rows");
cmp_ok($after - $before, '<=', 4096, "memory stays flat over $rows rows");
$eater->quit;

# ---- LIMIT computes little more than it returns

$worker->query("CREATE TABLE million AS SELECT i AS id, 'row ' || i AS body FROM generate_series(1, 1000000) i");
$worker->query('ALTER TABLE million ADD PRIMARY KEY (id)');
$worker->query('ANALYZE million');
$worker->query('PREPARE first_rows(int) AS SELECT slm_generate(body, max_tokens => 1) FROM million LIMIT $1');
$worker->query('SET plan_cache_mode = force_generic_plan');
my %limited = (
	'target list' => 'SELECT slm_generate(body, max_tokens => 1) FROM million LIMIT 10',
	'index order' => 'SELECT id, slm_embed(body) FROM million ORDER BY id DESC LIMIT 10',
	'condition' => "SELECT id FROM million WHERE slm_classify(body, ARRAY['red', 'blue'], method => 'direct') IS NOT NULL LIMIT 10",
	'parameter' => 'EXECUTE first_rows(10)');
for my $kind (sort keys %limited)
{
	my $c = counters($worker, $limited{$kind});
	cmp_ok($c->{'Calls Wanted'}, '>=', 10, "LIMIT 10, $kind: counted");
	cmp_ok($c->{'Calls Wanted'}, '<=', 16, "LIMIT 10, $kind: $c->{'Calls Wanted'} calls");
	cmp_ok($c->{'Rows Read'}, '<=', 16, "LIMIT 10, $kind: $c->{'Rows Read'} rows read");
}

# ---- a long instruction is computed once
#
# A row's own tokens are all that come after the shared instruction in its prompt: its text, and what closes its turn and opens the answer's
# in the model's chat format.  The tokens of labels that are scored after the prompt are counted apart (Label Tokens Computed).

$rows = long_run() ? 10_000 : 500;
my $reader = SlmTest::Session->new($node);
my $classify = "SELECT slm_classify(body, $many, method => 'direct') FROM message WHERE id <= $rows";
my $c = counters($reader, $classify);
is($c->{'Calls Wanted'}, $rows, "$rows rows x 77 labels");
my $text = $reader->query("SELECT sum(slm_count_tokens(body)) FROM (SELECT DISTINCT body FROM message WHERE id <= $rows) t");
my $empty = 'Classify the following text into exactly one of these categories: ';
my $instruction = $reader->query("SELECT slm_count_tokens('$empty' || array_to_string($many, ', ') || '. Answer with the category only.')");
my $closing = 6; # <|im_end|> \n <|im_start|> assistant \n, and the space before the text
my $whole = $c->{'Prompt Tokens Computed'} + $c->{'Prompt Tokens Reused'};
my $own = $text + $closing * $c->{'Calls Distinct'};
my $prefix = ($whole - $own) / ($c->{'Calls Distinct'} + 1); # the prior's prompt is one more
ok($prefix >= $instruction && $prefix <= $instruction + 40,
	sprintf('the prompts without their own tokens are the instruction and the chat format\'s beginning (%.1f and %d tokens)', $prefix, $instruction));
my $ratio = $c->{'Prompt Tokens Computed'} / ($prefix + $own);
diag(sprintf('%d rows x 77 labels: %d prompt tokens computed = %.3f x (one prefix of %.0f + %d own), %.3f x with the texts alone; %.1f label tokens a row',
		$rows, $c->{'Prompt Tokens Computed'}, $ratio, $prefix, $own, $c->{'Prompt Tokens Computed'} / ($prefix + $text),
		$c->{'Label Tokens Computed'} / $rows));
cmp_ok($ratio, '<=', 1.05, 'prompt tokens computed: at most 1.05 x (one prefix and the rows\' own tokens)');
cmp_ok($c->{'Prompt Tokens Computed'}, '>', 0.5 * $text, 'and they are counted');

# ---- labels that cannot win are not computed further, and the winner stays the winner

my %checks = (
	'direct, 8 labels' => [ $eight, 'direct', long_run() ? 1000 : 60 ],
	'direct, 77 labels' => [ $many, 'direct', long_run() ? 200 : 12 ],
	'channel, 8 labels' => [ $eight, 'channel', long_run() ? 1000 : 20 ]);
for my $kind (sort keys %checks)
{
	my ($labels, $method, $n) = @{ $checks{$kind} };
	my $result = $reader->query(qq{
		WITH winner AS MATERIALIZED (SELECT id, body, slm_classify(body, $labels, method => '$method') AS label,
				slm_classify(body, $labels, method => '$method', threshold => 0.5) AS sure FROM message WHERE id <= $n),
			score AS MATERIALIZED (SELECT id, label, probability, max(probability) OVER (PARTITION BY id) AS most
				FROM message m, slm_classify_scores(body, $labels, method => '$method') WHERE id <= $n)
		SELECT count(*), count(*) FILTER (WHERE probability = most), count(*) FILTER (WHERE sure IS NOT DISTINCT FROM CASE WHEN most >= 0.5 THEN label END),
			count(DISTINCT label) > 1, bool_or(sure IS NULL) FROM winner JOIN score USING (id, label)});
	is($result, "$n|$n|$n|t|t", "$kind: the winner of $n rows is the best of all scores, with a threshold too");
}
for my $labels ($eight, $many)
{
	my $n = long_run() ? 200 : 40;
	my $fast = counters($reader, "SELECT slm_classify(body, $labels, method => 'direct') FROM message WHERE id <= $n");
	my $all = counters($reader, "SELECT slm_classify(body, $labels, method => 'direct', threshold => 1e-9) FROM message WHERE id <= $n");
	my $least = $labels eq $many ? 1 : 0; # eight labels are told apart by their first tokens, which come with the prompt
	cmp_ok($fast->{'Label Tokens Computed'} + $least, '<=', $all->{'Label Tokens Computed'},
		sprintf('label tokens a row: %.1f in place of %.1f', $fast->{'Label Tokens Computed'} / $n, $all->{'Label Tokens Computed'} / $n));
}
$reader->quit;

# ---- beside other extensions

SKIP:
{
	skip('the server has no pg_stat_statements or auto_explain', 5) if @beside < 2;
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');
	my $log = -s $node->logfile;
	my $sql = "SELECT id, slm_classify(body, ARRAY['red', 'blue'], method => 'direct') FROM message WHERE id <= %d";
	$worker->query('SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; SET auto_explain.log_format = json; SET auto_explain.log_nested_statements = on');
	$worker->query('SELECT pg_stat_statements_reset()');
	$worker->query(sprintf($sql, $_)) for 5, 7;
	$worker->query('SET auto_explain.log_min_duration = -1');
	my $logged = slurp_file($node->logfile, $log);
	my @wanted = $logged =~ /"Calls Wanted": (\d+)/g;
	is("@wanted", '5 7', 'auto_explain logs the nodes with their counters');
	like($logged, qr/"Custom Plan Provider": "SLM Batch"/, 'as JSON');
	my $seen = $control->query("SELECT calls, rows FROM pg_stat_statements WHERE query LIKE '%slm_classify(body%message WHERE%' AND query NOT LIKE '%pg_stat%'");
	is($seen, '2|12', 'pg_stat_statements counts the statement');
	like($control->query("SELECT query FROM pg_stat_statements WHERE query LIKE 'SELECT id, slm_classify%'"), qr/id <= \$\d/, 'without its constants');
	is($worker->query($question), $answer, 'and answers are the same');
}

$worker->quit;
$control->quit;
$node->stop;
done_testing();
