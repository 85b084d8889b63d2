# Many labels in two steps (slm_classify with shortlist) beside names alone: the table of docs/CHOOSING.md.
#
# The sets are banking77_test.csv (Casanueva et al. 2020, CC BY 4.0) and shortlist/NAME.csv in $SLM_TEST_DATA: a head line, then text and
# label, of which the first 300 by their MD5 are answered; with SLM_TEST_LONG, for it takes some minutes of CPU a set.  A second encoder is
# taken from encoders/all-mpnet-base-v2.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $data = $ENV{SLM_TEST_DATA} || '';
my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
my @sets = grep { -r } "$data/banking77_test.csv", sort glob("$data/shortlist/*.csv");
plan(skip_all => 'SLM_TEST_LONG is not set') unless long_run();
plan(skip_all => 'SLM_TEST_DATA names no folder with banking77_test.csv') unless @sets;
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";

my $second = "$data/encoders/all-mpnet-base-v2";
my $node = slm_cluster('shortlist', conf => "client_min_messages = warning\nslm.embed_model = 'minilm'\n");
$node->safe_psql('postgres', "SELECT slm_load_model('minilm', '$minilm')");
$node->safe_psql('postgres', 'CREATE TABLE answers (name text, id int, method text, answer text, expected text)');

# name => arguments of slm_classify
my @methods = (['names alone' => "model => 'minilm'"]);
for my $method (qw(channel described direct))
{
	push @methods, map { ["$method, list of $_" => "model => 'smollm2', method => '$method', shortlist => $_"] } 2, 4, 8;
}
if (-r "$second/config.json")
{
	$node->safe_psql('postgres', "SELECT slm_load_model('mpnet', '$second')");
	push @methods, ['names alone, mpnet' => "model => 'mpnet'"], ['a second encoder, list of 8' => "model => 'mpnet', shortlist => 8"];
}
for my $file (@sets)
{
	my ($name) = $file =~ m{([^/]*?)(?:_test)?\.csv$};
	$node->safe_psql('postgres', <<"SQL");
CREATE TABLE t (body text, label text);
\\copy t FROM '$file' (FORMAT csv, HEADER)
UPDATE t SET label = lower(replace(label, '_', ' '));
CREATE TABLE l AS SELECT array_agg(DISTINCT label ORDER BY label) AS labels FROM t;
CREATE TABLE chosen AS SELECT row_number() OVER (ORDER BY md5(body || '|' || label)) AS id, * FROM (SELECT DISTINCT * FROM t) t ORDER BY 1 LIMIT 300;
SQL
	$node->safe_psql('postgres', "INSERT INTO answers SELECT '$name', id, '$_->[0]', slm_classify(body, (SELECT labels FROM l), $_->[1]), label FROM chosen") for @methods;
	note $node->safe_psql('postgres', "SELECT name, method, round(100 * avg((answer = expected)::int), 1) FROM answers WHERE name = '$name' GROUP BY 1, 2 ORDER BY 1, 2");
	$node->safe_psql('postgres', 'DROP TABLE t, l, chosen');
}
# of all sets: rows that only the two steps answer rightly, beside those that only names alone do; direct is no better than these
for my $method (map { $_->[0] } grep { $_->[0] !~ /^(names|direct)/ } @methods)
{
	my ($gained, $lost) = split /\|/, $node->safe_psql('postgres', <<"SQL");
SELECT count(*) FILTER (WHERE a.answer = a.expected AND n.answer <> n.expected), count(*) FILTER (WHERE a.answer <> a.expected AND n.answer = n.expected)
FROM answers a JOIN answers n USING (name, id) WHERE a.method = '$method' AND n.method = 'names alone'
SQL
	cmp_ok($gained, '>', $lost, "$method: $gained rows gained, $lost lost");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM answers WHERE answer IS NULL'), 0, 'every row has an answer');
$node->stop;
done_testing();
