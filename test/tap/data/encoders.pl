# Published encoders: the vectors of 200 texts beside those of sentence-transformers, in 8 bits; and what each is worth on Banking77.
#
# $SLM_TEST_DATA/encoders/NAME is a model's directory, NAME.jsonl what test/tools/embed_reference.py has written beside it.  Banking77
# (Casanueva et al. 2020, CC BY 4.0) is banking77_train.csv and banking77_test.csv in $SLM_TEST_DATA; with SLM_TEST_LONG all of it is
# embedded by every encoder (the table of docs/CHOOSING.md).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $data = ($ENV{SLM_TEST_DATA} || '') . '/encoders';
my @models = grep { -r "$data/$_/config.json" && -r "$data/$_.jsonl" } map { s{.*/}{}r } sort glob("$data/*");
plan(skip_all => 'SLM_TEST_DATA names no folder encoders with models and their reference vectors') unless @models;

my $node = slm_cluster('encoders', empty => 1, conf => "client_min_messages = warning\n");
for my $model (@models)
{
	$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('$model', '$data/$model');
CREATE TABLE wanted (id serial, line jsonb);
COPY wanted (line) FROM '$data/$model.jsonl' (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02');
CREATE TABLE cosines AS SELECT id, slm_similarity(slm_embed(line ->> 'text', '$model', truncate => true),
    ARRAY(SELECT v::real FROM jsonb_array_elements_text(line -> 'vector') WITH ORDINALITY e(v, n) ORDER BY n)) AS cosine, line ->> 'text' AS body FROM wanted;
SQL
	my ($n, $least, $mean) = split /\|/, $node->safe_psql('postgres', 'SELECT count(*), min(cosine), avg(cosine) FROM cosines');
	is($n, 200, "$model: all texts have a vector");
	cmp_ok($mean, '>=', 0.9998, "$model: the mean of the cosines");
	cmp_ok($least, '>=', 0.9969, sprintf('%s: the smallest of 200 cosines with the reference is %.6f, their mean %.6f', $model, $least, $mean));
	is($node->safe_psql('postgres', "SELECT string_agg(left(body, 40), ', ') FROM cosines WHERE cosine < 0.999 AND body !~ '^(word ){100}'"),
		'', "$model: 0.999 and more, but for one word a hundred times");
	$node->safe_psql('postgres', 'DROP TABLE wanted, cosines');
}

# What each is worth to a classifier: ten rows a label and all of them.
sub worth
{
	my ($model, $name) = @_;
	my $right = $node->safe_psql('postgres', <<"SQL");
SET slm.embed_model = '$model';
ALTER TABLE train ADD e real[], ADD n int;
ALTER TABLE test ADD e real[];
UPDATE train SET e = slm_embed(body);
UPDATE test SET e = slm_embed(body);
UPDATE train SET n = r.n FROM (SELECT id, row_number() OVER (PARTITION BY label ORDER BY md5(body), id) AS n FROM train) r WHERE r.id = train.id;
SELECT FROM slm_train_classifier('ten', 'SELECT e, label FROM train WHERE n <= 10 ORDER BY id');
SELECT FROM slm_train_classifier('all', 'SELECT e, label FROM train ORDER BY id');
SELECT round(100 * avg((slm_classify_embedding(e, 'ten') = label)::int), 1), round(100 * avg((slm_classify_embedding(e, 'all') = label)::int), 1) FROM test;
SELECT slm_drop_classifier('ten'), slm_drop_classifier('all');
DROP TABLE train, test;
SQL
	my ($ten, $all) = $right =~ /([\d.]+)\|([\d.]+)/;
	note "$model on $name, ten rows a label, all rows: $ten, $all";
	return ($ten, $all);
}

# 12 intents of 15 German messages each, our own: five of each are left out to be answered, three times others; ten remain, which are all.
for my $model (@models)
{
	my @fold;
	for my $fold (0 .. 2)
	{
		$node->safe_psql('postgres', <<"SQL");
CREATE TABLE german (id serial, body text, label text);
\\copy german (body, label) FROM '$FindBin::RealBin/../../data/intents_de.csv' (FORMAT csv, HEADER)
CREATE TABLE train AS SELECT * FROM german WHERE id % 3 <> $fold;
CREATE TABLE test AS SELECT * FROM german WHERE id % 3 = $fold;
DROP TABLE german;
SQL
		push @fold, (worth($model, "German, part $fold"))[0];
	}
	my $mean = ($fold[0] + $fold[1] + $fold[2]) / 3;
	cmp_ok($mean, '>', 16, sprintf('%s on German messages to a shop, ten rows a label: %.1f', $model, $mean));
}

my @files = map { ($ENV{SLM_TEST_DATA} || '') . "/banking77_$_.csv" } qw(train test);
if (long_run() && !grep { !-r $_ } @files)
{
	for my $model (@models)
	{
		$node->safe_psql('postgres', <<"SQL");
CREATE TABLE train (id serial, body text, label text);
CREATE TABLE test (id serial, body text, label text);
\\copy train (body, label) FROM '$files[0]' (FORMAT csv, HEADER)
\\copy test (body, label) FROM '$files[1]' (FORMAT csv, HEADER)
SQL
		my ($ten, $all) = worth($model, 'Banking77');
		cmp_ok($all, '>=', 85, "$model: accuracy on Banking77 by ten rows a label $ten, by all rows $all");
	}
}
$node->stop;
done_testing();
