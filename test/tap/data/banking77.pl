# Real messages to a bank: the accuracy of a trained classifier and of label names alone, and the same answers with the batch node and without.
#
# Banking77 (Casanueva et al. 2020, CC BY 4.0): banking77_train.csv and banking77_test.csv in $SLM_TEST_DATA.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $node = banking77_cluster('banking77');
$node->safe_psql('postgres', <<'SQL');
UPDATE test SET e = slm_embed(body);
SELECT slm_train_classifier('ten', 'SELECT body, label FROM (SELECT *, row_number() OVER (PARTITION BY label ORDER BY id) AS n FROM train) t WHERE n <= 10 ORDER BY id');
SQL
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT label) FROM test'), '3080|77', 'the texts and intents');
is($node->safe_psql('postgres', q(SELECT round(100.0 * avg((slm_classify_embedding(e, 'ten') = label)::int)) FROM test)), '85', 'accuracy with ten rows an intent');
my $names = $node->safe_psql('postgres', "SELECT quote_literal(array_agg(DISTINCT replace(label, '_', ' '))) || '::text[]' FROM test");
my $zero = "SELECT round(100.0 * avg((slm_classify(body, $names) = replace(label, '_', ' '))::int)) FROM test WHERE id % 8 = 0";
cmp_ok($node->safe_psql('postgres', $zero), '>=', 58, '... and by the names of the intents alone, of 77');
my $answers = "SELECT id, slm_classify(body, $names), slm_classify(body, classifier => 'ten') FROM test WHERE id % 20 = 0 ORDER BY id";
is($node->safe_psql('postgres', $answers), $node->safe_psql('postgres', "SET slm.enable_batch = off; $answers"), 'the same answers in batches and row by row');
$node->stop;
done_testing();
