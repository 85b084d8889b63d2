# Choosing on real messages to a bank: wrong labels are found.
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

my $data = $ENV{SLM_TEST_DATA} || '';
my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => 'SLM_TEST_DATA names no folder with banking77_train.csv and banking77_test.csv') unless -r "$data/banking77_train.csv" && -r "$data/banking77_test.csv";
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";

my $node = slm_cluster('choose', empty => 1, conf => "slm.embed_model = 'minilm'\n");
$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('minilm', '$minilm');
CREATE TABLE train (id serial PRIMARY KEY, body text, label text, e real[]);
CREATE TABLE test (id serial PRIMARY KEY, body text, label text, e real[]);
\\copy train (body, label) FROM '$data/banking77_train.csv' (FORMAT csv, HEADER)
\\copy test (body, label) FROM '$data/banking77_test.csv' (FORMAT csv, HEADER)
UPDATE train SET e = slm_embed(body);
UPDATE test SET e = slm_embed(body);
CREATE TABLE name AS SELECT label, row_number() OVER (ORDER BY label) - 1 AS no FROM (SELECT DISTINCT label FROM train) l;
-- every twentieth row is given another label by lot
CREATE TABLE planted AS SELECT t.id, t.e, t.label AS truth, CASE WHEN t.id % 20 = 3
    THEN (SELECT o.label FROM name o WHERE o.no = (m.no + 1 + abs(hashint4(t.id) % 76)) % 77) ELSE t.label END AS label FROM train t JOIN name m USING (label);
SQL
is($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE label <> truth) FROM planted'), '10003|500', 'five of a hundred labels are wrong');
my $found = $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE p.label <> p.truth)
    FROM slm_suspects('SELECT e, label, id FROM planted ORDER BY id', n => 500) s JOIN planted p ON p.id = s.key::int});
note "found $found of 500 among 500";
cmp_ok($found, '>=', 450, 'nine of ten of them are among the first 500 suspects');
$node->stop;
done_testing();
