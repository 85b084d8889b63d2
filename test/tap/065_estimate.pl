# slm_estimate says what a statement will take: within 20 % of the tokens that it takes then, for statements of different shapes; with
# SLM_TEST_LONG=1 for twenty of them, and within 35 % of the CPU time of the model.  Nothing is written, whatever the statement.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(time);
use SlmTest;

my $long = $ENV{SLM_TEST_LONG};
my $node = slm_cluster('estimate', conf => "shared_preload_libraries = 'slm_pg'\nslm.machine_cost_per_hour = 0.2\nmax_parallel_workers_per_gather = 0\n");
my $rows = $long ? 800 : 400;
my $cache = $ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg";
$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('minilm', '$cache/all-MiniLM-L6-v2');
SELECT slm_load_model('small', '$FindBin::RealBin/../data/tiny.gguf');
ALTER SYSTEM SET slm.embed_model = 'minilm';
ALTER SYSTEM SET slm.classify_model = 'minilm';
SELECT pg_reload_conf();
CREATE TABLE product (id int PRIMARY KEY, name text);
INSERT INTO product SELECT i, (ARRAY['kettle', 'lamp', 'old brown desk', 'bicycle'])[1 + i % 4] || ' number ' || i FROM generate_series(1, 40) i;
-- texts of 3 to 40 words, drawn by their number
CREATE TABLE texts (id int PRIMARY KEY, product int, body text, other text);
INSERT INTO texts
SELECT i, 1 + i * 7 % 40,
       (SELECT string_agg((ARRAY['my', 'card', 'has', 'not', 'arrived', 'yet', 'please', 'help', 'the', 'payment', 'was', 'declined', 'again', 'twice', 'parcel', 'refund', 'thanks'])[1 + hashint4(i * 61 + w) & 15], ' ' ORDER BY w)
        FROM generate_series(1, 3 + (hashint4(i) & 1023) % 38) w), NULL
FROM generate_series(1, $rows) i;
ANALYZE;
CREATE FUNCTION told(input text) RETURNS text LANGUAGE plpgsql STABLE AS \$\$ BEGIN RETURN slm_generate(input, max_tokens => 4); END \$\$;
SQL
$node->safe_psql('postgres', <<'SQL') if $long;
SELECT version FROM slm_train_classifier('kinds', $$SELECT body, CASE WHEN body LIKE '%card%' THEN 'card' WHEN body LIKE '%parcel%' THEN 'parcel' ELSE 'other' END FROM texts$$);
SELECT bound FROM slm_create_cascade('both', '[{"classifier": "kinds"}, {"labels": ["card", "parcel", "other"]}]', 'SELECT body FROM texts ORDER BY id LIMIT 400', target => 0.6, failure => 0.2, audit => 0.05);
SQL

sub figures
{
	my %f;
	for (split /\n/, $_[0]) { my ($figure, @f) = split /\|/; $f{$figure} = {estimate => $f[0], low => $f[1], high => $f[2]}; }
	return \%f;
}

my $topics = "ARRAY['billing', 'delivery', 'praise']";
my %statement = (
	# in the ordinary run
	'a filter before another call' => "SELECT slm_embed(body) FROM texts WHERE slm_similarity(body, 'the payment was declined') > 0.55",
	'a join, with duplicates' => "SELECT slm_embed(name) FROM texts t JOIN product p ON p.id = t.product",
	'LIMIT' => "SELECT id, slm_classify(body, $topics) FROM texts ORDER BY id LIMIT 250",
	'UPDATE' => "UPDATE texts SET other = slm_generate(body, max_tokens => 4, model => 'small', chat => false) WHERE id % 2 = 0",
	'a group' => "SELECT slm_classify(body, $topics), count(*) FROM texts GROUP BY 1");
%statement = (%statement,
	'all rows' => "SELECT slm_embed(body) FROM texts",
	'labels by a generative model' => "SELECT slm_classify(body, $topics, model => 'smollm2', method => 'direct') FROM texts WHERE id <= 150",
	'answers' => "SELECT slm_generate('Say in one word what this is about: ' || body, max_tokens => 6) FROM texts WHERE id <= 150",
	'summaries' => "SELECT slm_summarize(body, max_words => 8) FROM texts WHERE length(body) > 120 AND id <= 350",
	'slm_filter' => "SELECT count(*) FROM texts WHERE slm_filter('is about a card', body, model => 'smollm2') AND id <= 150",
	'a filter and LIMIT' => "SELECT id, slm_embed(body) FROM texts WHERE slm_similarity(body, 'the payment was declined') > 0.55 LIMIT 150",
	'five copies' => "SELECT slm_embed(body) FROM texts, generate_series(1, 5)",
	'INSERT ... SELECT' => "INSERT INTO product SELECT id + 1000, slm_generate(body, max_tokens => 5) FROM texts WHERE id <= 150",
	'a call within a call' => "SELECT slm_embed(slm_generate(body, max_tokens => 6)) FROM texts WHERE id <= 150",
	'a cascade' => "SELECT slm_classify(body, cascade => 'both') FROM texts",
	'a classifier' => "SELECT slm_classify(body, classifier => 'kinds') FROM texts, generate_series(1, 2)",
	'fields' => "SELECT slm_extract(body, ARRAY['thing', 'amount']) FROM texts WHERE id <= 150",
	'CASE' => "SELECT CASE WHEN length(body) > 100 THEN slm_generate(body, max_tokens => 5) ELSE body END FROM texts WHERE id <= 200",
	'a call over labels' => "SELECT slm_generate('Define: ' || topic, max_tokens => 8) FROM (SELECT DISTINCT slm_classify(body, $topics) AS topic FROM texts) t",
	'a function of a user' => "SELECT told(body) FROM texts WHERE id <= 150") if $long;

my $n = 0;
for my $name (sort keys %statement)
{
	my $sql = $statement{$name};
	my $e = figures($node->safe_psql('postgres', "SELECT figure, estimate, low, high FROM slm_estimate(\$estimate\$$sql\$estimate\$)"));
	my $begun = time;
	$node->safe_psql('postgres', "SET application_name = 'run $name'; BEGIN; $sql; ROLLBACK");
	my $minutes = (time - $begun) / 60;
	my ($in, $out, $computed, $distinct, $cpu) = split /\|/,
	  $node->safe_psql('postgres', "SELECT sum(prompt_tokens), sum(output_tokens), sum(tokens), sum(distinct_calls), sum(cpu_seconds) FROM slm.usage WHERE application_name = 'run $name'");
	my %actual = (tokens_in => $in, tokens_out => $out, tokens_computed => $computed);
	my @off = grep { abs($e->{$_}{estimate} - $actual{$_}) > 0.2 * $actual{$_} } sort keys %actual;
	is("@off", '', "$name: tokens within 20 %");
	my $seconds = 3600 * $e->{core_hours}{estimate};
	push @off, 'CPU' if abs($seconds - $cpu) > 0.35 * $cpu;
	ok(abs($seconds - $cpu) <= 0.35 * $cpu, "$name: CPU time within 35 %") if $long;
	note sprintf("%-30s in %d of %d, out %d of %d, computed %d of %d, distinct %d of %d, CPU %.2f of %.2f, wall %.2f of %.2f s%s", $name, $e->{tokens_in}{estimate}, $in,
		$e->{tokens_out}{estimate}, $out, $e->{tokens_computed}{estimate}, $computed, $e->{distinct_calls}{estimate}, $distinct,
		$seconds, $cpu, 60 * $e->{minutes}{estimate}, 60 * $minutes, @off ? "  <-- @off" : '');
	$n++;
}
is($n, $long ? 20 : 5, 'statements of different shapes');

# ---- nothing is written
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE written (n int);
CREATE SEQUENCE counter;
CREATE FUNCTION writes(input text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO written VALUES (1); RETURN slm_embed(input)::text; END $$;
SQL
my ($status, $out, $err) = $node->psql('postgres', "SELECT * FROM slm_estimate('SELECT writes(body) FROM texts LIMIT 3')");
like($err, qr/read-only transaction/, 'a function that writes is refused');
($status, $out, $err) = $node->psql('postgres', "SELECT * FROM slm_estimate('SELECT nextval(''counter''), slm_embed(body) FROM texts LIMIT 3')");
like($err, qr/read-only transaction/, 'so is one that takes a number');
is($node->safe_psql('postgres', "SELECT estimate FROM slm_estimate('DELETE FROM texts WHERE slm_similarity(body, ''card'') > -1') WHERE figure = 'rows'; SELECT count(*) FROM texts"), "$rows\n$rows",
	'DELETE counts the rows that it reads, and deletes none');
is($node->safe_psql('postgres', "SELECT count(*) FROM texts WHERE other IS NOT NULL; SELECT count(*) FROM written; SELECT count(*) FROM product; INSERT INTO written VALUES (2) RETURNING n"), "0\n0\n40\n2",
	'nothing was written, and what comes after may write');
$node->safe_psql('postgres', 'CREATE ROLE reader LOGIN');
($status, $out, $err) = $node->psql('postgres', "SELECT * FROM slm_estimate('SELECT slm_embed(body) FROM texts')", extra_params => [ '-U', 'reader' ]);
like($err, qr/permission denied for table texts/, 'rows are read with the rights of the caller');
$node->safe_psql('postgres', "GRANT SELECT ON texts TO reader; SELECT slm_grant_model('minilm', 'reader')");
($status, $out, $err) = $node->psql('postgres', "SELECT * FROM slm_estimate('UPDATE texts SET other = slm_classify(body, ARRAY[''a'', ''b''])')", extra_params => [ '-U', 'reader' ]);
like($err, qr/permission denied for table texts/, 'so is what would be written');
is($node->safe_psql('postgres', "SET slm.max_tokens_per_statement = 100; SELECT estimate FROM slm_estimate('SELECT slm_embed(body) FROM texts LIMIT 2') WHERE figure = 'distinct_calls'", extra_params => [ '-U', 'reader' ]), 2,
	'a small sample passes a small budget');
($status, $out, $err) = $node->psql('postgres', "SET slm.max_tokens_per_statement = 100; SELECT * FROM slm_estimate('SELECT slm_embed(body) FROM texts')");
like($err, qr/more than the 100 tokens/, 'and a large one does not');
$node->stop;
done_testing();
