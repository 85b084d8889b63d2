# slm_compare beside scikit-learn and SciPy (compare_reference.py) on 500 fixed messages to a bank (Banking77): labels by name,
# classifiers of ten rows a label, of all rows, with n-grams, and, with SLM_TEST_LONG=1, which of 77 labels explains the text best to
# SmolLM2 (ten minutes of one core).
#
# SLM_TEST_PYTHON names a Python that has scikit-learn and SciPy; default: python3.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $python = $ENV{SLM_TEST_PYTHON} || 'python3';
my $missing = `$python -c 'import sklearn, scipy' 2>&1`;
plan(skip_all => "$python has no scikit-learn and SciPy: " . ((split /\n/, $missing)[-1] || 'it does not start')) if $? != 0;
my $node = banking77_cluster('compare');
$node->safe_psql('postgres', <<'SQL');
UPDATE train SET e = slm_embed(body), label = replace(label, '_', ' ');
UPDATE test SET label = replace(label, '_', ' ');
CREATE TABLE ten AS SELECT e, label FROM (SELECT *, row_number() OVER (PARTITION BY label ORDER BY md5(body), id) AS n FROM train) t WHERE n <= 10;
SELECT slm_train_classifier('ten', 'SELECT e, label FROM ten ORDER BY e');
SELECT slm_train_classifier('all-rows', 'SELECT e, label FROM train ORDER BY id');
SELECT slm_train_classifier('n-grams', 'SELECT body, label FROM train ORDER BY id', options => '{"ngrams": true}');
CREATE TABLE five AS SELECT id, body, label FROM test ORDER BY md5(body), id LIMIT 500;
CREATE TABLE answer AS SELECT body, label, slm_classify(body, (SELECT array_agg(DISTINCT label ORDER BY label) FROM train)) AS names,
    slm_classify(body, classifier => 'ten') AS ten, slm_classify(body, classifier => 'all-rows') AS "all-rows", slm_classify(body, classifier => 'n-grams') AS "n-grams" FROM five ORDER BY id;
SQL
my @candidates = ('names', 'ten', 'all-rows', 'n-grams');
if (long_run())
{
	my $model = model_path();
	$node->safe_psql('postgres', qq{
		SELECT slm_load_model('smollm2', '$model');
		ALTER TABLE answer ADD channel text;
		UPDATE answer SET channel = slm_classify(body, (SELECT array_agg(DISTINCT label ORDER BY label) FROM train), 'smollm2', 'channel')});
	push @candidates, 'channel';
}
my $folder = $PostgreSQL::Test::Utils::tmp_check;
my $columns = join(', ', map { qq{"$_"} } @candidates);
my $json = '{' . join(', ', map { qq{"$_": {"column": "$_"}} } @candidates) . '}';
sub to_file
{
	my ($name, $query) = @_;
	append_to_file("$folder/$name.csv", $node->safe_psql('postgres', "COPY ($query) TO STDOUT (FORMAT csv, HEADER)") . "\n");
	return "$folder/$name.csv";
}
my @files = (
	to_file('answers', "SELECT label, $columns FROM answer"),
	to_file('measured', "SELECT candidate, accuracy, macro_f1, p_value, within_noise FROM slm_compare('SELECT body, label, $columns FROM answer', '$json')"),
	to_file('training', 'SELECT label, e FROM ten'),
	to_file('texts', 'SELECT label, slm_embed(body) AS e FROM answer'));
my $said = `$python $FindBin::RealBin/compare_reference.py @files`;
note $_ for split /\n/, $said;
like($said, qr/^same$/m, 'accuracy, macro F1, McNemar and the order are those of scikit-learn and SciPy');
my ($ours) = $node->safe_psql('postgres', 'SELECT avg((ten = label)::int) FROM answer');
my ($theirs) = $said =~ /own classifier on these embeddings: ([0-9.]+)/;
cmp_ok(abs($ours - $theirs), '<', 0.01, "ten rows a label: $ours, by scikit-learn's logistic regression on the same embeddings $theirs");
$node->stop;
done_testing();
