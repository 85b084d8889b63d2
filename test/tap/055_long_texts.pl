# Texts of any length: a 100 MB text is read in windows in memory that does not grow with it, a cancel is answered at any moment, and a
# long text among many short ones gives what it gives alone, in any plan.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(time sleep);
use SlmTest;

my $tries = long_run() ? 20 : 1;
my $node = slm_cluster('long', conf => "max_parallel_workers_per_gather = 2\n");
my $cache = $ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg";
plan(skip_all => "$cache/all-MiniLM-L6-v2 is absent") unless -r "$cache/all-MiniLM-L6-v2/model.safetensors";
$node->safe_psql('postgres', qq{
	SELECT slm_load_model('minilm', '$cache/all-MiniLM-L6-v2');
	ALTER DATABASE postgres SET slm.embed_model = 'minilm';
	ALTER DATABASE postgres SET slm.classify_model = 'minilm';
	SET slm.embed_model = 'minilm';
	CREATE TABLE huge (kind text, body text);
	ALTER TABLE huge ALTER body SET STORAGE EXTERNAL;
	-- with and without sentences, of one word, of nothing, and of letters that are tokens of their own
	INSERT INTO huge SELECT 'prose', repeat('Yesterday we walked along the river and watched the boats. ', 1700000);
	INSERT INTO huge SELECT 'words', repeat('boats and rivers ', 6000000);
	INSERT INTO huge SELECT 'one word', repeat('x', 100000000);
	INSERT INTO huge SELECT 'spaces', repeat(' ', 50000000) || 'boat' || repeat(' ', 50000000);
	INSERT INTO huge SELECT 'letters', repeat('川', 33000000);
	SELECT slm_train_classifier('topic', 'SELECT w || i, w FROM generate_series(1, 4) i, unnest(ARRAY[''boat '', ''cake '']) w')});
my $control = SlmTest::Session->new($node);
my $worker = SlmTest::Session->new($node);
my $question = "SELECT slm_classify('A boat on the river', ARRAY['boats', 'cakes'])";
my $answer = $worker->query($question);
is($answer, 'boats', 'a short text');

my %statement = (
	embed => 'SELECT slm_embed(body) IS NULL FROM huge WHERE kind = %s',
	labels => "SELECT slm_classify(body, ARRAY['boats', 'cakes']) FROM huge WHERE kind = %s",
	trained => "SELECT slm_classify(body, classifier => 'topic') FROM huge WHERE kind = %s",
	similarity => "SELECT slm_similarity('boats', body) FROM huge WHERE kind = %s",
	summary => 'SELECT slm_summarize(body, method => \'abstract\') FROM huge WHERE kind = %s');
my %kinds = (embed => [qw(prose words letters)], labels => [qw(prose words)], trained => ['prose'], similarity => ['letters'], summary => ['prose']);

# the text itself is there a few times: in its row, detoasted, as the node's key and as the windows' source
my $most = 0;
for my $name (sort keys %statement)
{
	for my $kind (@{ $kinds{$name} })
	{
		my (@seconds, $ended);
		for my $try (1 .. $tries)
		{
			$worker->send(sprintf($statement{$name}, "'$kind'"));
			sleep(1 + $try * 0.3);
			my $kb = process_kb($worker->pid, 'smaps_rollup', 'Private_Dirty') || 0;
			$most = $kb if $kb > $most;
			my $begin = time();
			$control->query('SELECT pg_cancel_backend(' . $worker->pid . ')');
			my $seconds = $worker->seconds_until_error($begin);
			if ($worker->{error} =~ /canceling statement due to user request/) { push @seconds, $seconds; }
			else { $ended = $worker->{error}; }
		}
		is(scalar(@seconds), $tries, "$name of 100 MB of $kind: cancelled" . ($ended ? ", but once: $ended" : ''));
		my $half = percentile(0.5, @seconds) * 1000;
		diag(sprintf('%s, %s: cancel answered after %.0f ms (median)', $name, $kind, $half));
		cmp_ok($half, '<=', 1000, "$name of $kind: the cancel is answered"); # 50 ms on a machine that is not shared: 056_cancel.pl
	}
}
diag(sprintf('most memory: %d MiB', $most / 1024));
cmp_ok($most, '<', 900 * 1024, 'memory does not grow with the length of a text');
is($worker->query($question), $answer, 'the session goes on');

# what needs no windows ends soon
is($worker->query("SELECT slm_classify(body, ARRAY['boats', 'cakes']) FROM huge WHERE kind = 'spaces'"), 'boats', '100 MB of spaces and one word are short');
is($worker->query("SELECT slm_embed(body, truncate => true) = slm_embed(left(body, 5000), truncate => true) FROM huge WHERE kind = 'prose'"), 't', 'a cut text is not read beyond the cut');
like(($node->psql('postgres', "SELECT slm_embed(body, truncate => false) FROM huge WHERE kind = 'prose'"))[2], qr/has more than 254 tokens/, 'a refused one neither');
is($worker->query("SELECT slm_classify(left(body, 3000), ARRAY['boats', 'cakes']) FROM huge WHERE kind = 'one word'") ne '', 1, 'one word of any length is a token');

# memory of many long texts one after the other
$node->safe_psql('postgres', q{CREATE TABLE letters AS SELECT i AS id, repeat('The weather is fine today, number ' || i || '. ', 20 + 5 * i) || 'I lost my card.' || repeat(' The garden is green.', 7 * i) AS body
	FROM generate_series(1, 12) i});
my $query = q{SELECT md5(string_agg(slm_embed(body)::text || slm_classify(body, ARRAY['lost card', 'weather', 'garden']) || slm_classify(body, classifier => 'topic')
	|| slm_similarity(body, 'card')::text, ',' ORDER BY id)) FROM letters};
my $first = $worker->query($query);
my $before = process_kb($worker->pid, 'smaps_rollup', 'Private_Dirty');
for (1 .. (long_run() ? 10 : 1)) { is($worker->query($query), $first, 'the same answers'); }
my $after = process_kb($worker->pid, 'smaps_rollup', 'Private_Dirty');
cmp_ok($after - $before, '<=', 4096, "memory stays flat ($before KiB, $after KiB)");
for my $setting ('slm.enable_batch = off', 'slm.batch_size = 3', 'slm.threads = 1')
{
	$worker->query("SET $setting");
	is($worker->query($query), $first, "the same answers: $setting");
	$worker->query('RESET ALL');
}
my (undef, $notice) = $worker->query('SELECT count(slm_embed(body)) FROM letters');
like($notice, qr/NOTICE:  \d+ of 12 texts are longer than the model reads/, 'a notice counts the long texts');
is(scalar(() = $notice =~ /NOTICE/g), 1, 'once');

$worker->quit;
$control->quit;
$node->stop;
done_testing();
