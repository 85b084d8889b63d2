# Choosing on real messages to a bank: wrong labels are found, and what is labelled next is worth more than rows by lot.
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

my $node = banking77_cluster('choose');
$node->safe_psql('postgres', <<'SQL');
UPDATE train SET e = slm_embed(body);
UPDATE test SET e = slm_embed(body);
CREATE TABLE name AS SELECT label, row_number() OVER (ORDER BY label) - 1 AS no FROM (SELECT DISTINCT label FROM train) l;
-- every twentieth row is given another label by lot
CREATE TABLE planted AS SELECT t.id, t.e, t.label AS truth, CASE WHEN t.id % 20 = 3
    THEN (SELECT o.label FROM name o WHERE o.no = (m.no + 1 + abs(hashint4(t.id) % 76)) % 77) ELSE t.label END AS label FROM train t JOIN name m USING (label);
SQL
is($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE label <> truth) FROM planted'), '10003|501', 'five of a hundred labels are wrong');
my $found = $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE p.label <> p.truth)
    FROM slm_suspects('SELECT e, label, id FROM planted ORDER BY id', n => 501) s JOIN planted p ON p.id = s.key::int});
note "found $found of 501 among 501";
cmp_ok($found, '>=', 450, 'nine of ten of them are among the first 501 suspects');

# three halves of the rows: 539 chosen ones in rounds of 77 against 770 by lot
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION learn(half int, chosen boolean, upto int, step int) RETURNS float8 LANGUAGE plpgsql SET client_min_messages = error AS $$
DECLARE q text := format('SELECT t.e, t.id FROM train t WHERE hashint4(t.id # %s) %% 2 = 0 AND NOT EXISTS (SELECT FROM known k WHERE k.id = t.id) ORDER BY t.id', half * 7919);
    n int := 0; accuracy float8;
BEGIN
    CREATE TEMP TABLE known (id int PRIMARY KEY) ON COMMIT DROP;
    WHILE n < upto LOOP
        IF chosen THEN
            INSERT INTO known SELECT key::int FROM slm_label_next(CASE WHEN n > 0 THEN 'curve' END, q, step);
        ELSE
            EXECUTE 'INSERT INTO known SELECT id FROM (' || q || ') q ORDER BY hashint4(id # ' || half * 104729 || ') LIMIT ' || step;
        END IF;
        PERFORM slm_train_classifier('curve', 'SELECT e, label FROM train JOIN known USING (id) ORDER BY id', options => '{"activate": "always", "l2": 0.03}');
        SELECT count(*) INTO n FROM known;
    END LOOP;
    SELECT avg((slm_classify_embedding(e, 'curve') = label)::int) INTO accuracy FROM test;
    RETURN accuracy;
END $$;
SQL
my ($by_choice, $by_lot) = (0, 0);
for my $half (1 .. 3) {
    my $chosen = $node->safe_psql('postgres', "SELECT learn($half, true, 539, 77)");
    my $lot = $node->safe_psql('postgres', "SELECT learn($half, false, 770, 770)");
    note "half $half: 539 chosen $chosen, 770 by lot $lot";
    $by_choice += $chosen / 3;
    $by_lot += $lot / 3;
}
cmp_ok($by_choice, '>=', $by_lot, 'seven tenths of the labels are enough where they are chosen');
$node->stop;
done_testing();
