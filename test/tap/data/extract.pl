# A model of 135 million parameters is taught to read e-mails: slm_finetune on 600 of them with their fields, each as it is and twice
# with some of its small words left out; judged on 200 others, a third of which have sentences and products that the 600 do not; three
# seeds.  All five fields must be right.  Then the same with what has a form (order, amount, date) copied out of the text by slm_extract.
#
# $SLM_TEST_DATA/extract: train.jsonl and test.jsonl, a line {"text", "order", "amount", "date", "product", "sentiment", "unseen"}.  A seed
# takes 15 minutes of CPU time, so it runs with SLM_TEST_LONG=1 only; SLM_TEST_SEED names one seed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my @files = map { ($ENV{SLM_TEST_DATA} || '') . "/extract/$_.jsonl" } qw(train test);
plan(skip_all => 'SLM_TEST_DATA names no folder with extract/train.jsonl and extract/test.jsonl') if grep { !-r $_ } @files;
plan(skip_all => 'a training of 15 minutes a seed: SLM_TEST_LONG=1') unless long_run();
my @seeds = $ENV{SLM_TEST_SEED} ? ($ENV{SLM_TEST_SEED}) : (1, 2, 3);
my $system = 'Read the order number, amount, date, product and sentiment.';
my $recipe = qq("epochs": 1, "validation": 0, "show_schema": false, "system": "$system");

my $node = slm_cluster('extract', conf => "shared_preload_libraries = 'slm_pg'\n");
my @sets = map { "CREATE TABLE $_ (id serial, line jsonb);\n\\copy $_ (line) FROM '$files[$_ eq 'test']' (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')\n" } qw(train test);
$node->safe_psql('postgres', join('', @sets) . <<'SQL');
-- without about one in six of the words in small letters that are none of the product's: a text that is worded otherwise, and says the same
CREATE FUNCTION thinned(body text, product text, salt text) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$SELECT string_agg(word, ' ' ORDER BY n) FROM regexp_split_to_table(body, ' ') WITH ORDINALITY w (word, n)
      WHERE word !~ '^[a-z]+[.,]?$' OR position(rtrim(word, '.,') IN coalesce(product, '')) > 0 OR abs(hashtext(salt || n) % 6) > 0$$;
CREATE FUNCTION rows(seed int) RETURNS TABLE (body text, fields jsonb) LANGUAGE sql AS
    $$SELECT CASE WHEN copy = 0 THEN line ->> 'text' ELSE thinned(line ->> 'text', line ->> 'product', seed || ' ' || copy || ' ' || id || ' ') END,
             line - 'text' - 'unseen' FROM train, generate_series(0, 2) copy ORDER BY id, copy$$;
CREATE TABLE answers (seed int, id int, unseen boolean, truth jsonb, tuned jsonb, copied jsonb);
-- what is compared: numbers as numbers, texts without regard to case
CREATE FUNCTION same(a jsonb, b jsonb, field text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
    $$SELECT CASE WHEN a ->> field ~ '^\d+\.?\d*$' AND b ->> field ~ '^\d+\.?\d*$' AND field = 'amount' THEN (a ->> field)::numeric = (b ->> field)::numeric
        ELSE lower(a ->> field) IS NOT DISTINCT FROM lower(b ->> field) END$$;
SQL
for my $seed (@seeds)
{
	note $node->safe_psql('postgres', qq(SELECT 'seed $seed: ' || to_json(f) FROM slm_finetune('mail', 'smollm2', 'SELECT body, fields FROM rows($seed)',
		'{$recipe, "seed": $seed, "activate": "always"}') f));
	note $node->safe_psql('postgres', qq(SELECT round(cpu_seconds) || ' CPU seconds, ' || memory_bytes / 1000000 || ' MB' FROM slm.finetunes WHERE active));
	my $schema = '{"type": "object", "required": ["order", "amount", "date", "product", "sentiment"], "additionalProperties": false, "properties": {'
	  . join(', ', map { qq("$_": {"type": ["string", "null"]}) } qw(order amount date product sentiment)) . '}}';
	$node->safe_psql('postgres', qq(SET slm.on_error = 'null';
		INSERT INTO answers SELECT $seed, id, unseen, truth, tuned, tuned || slm_extract(body, 'order: id, amount, date') FROM (
			SELECT id, line ->> 'text' AS body, (line ->> 'unseen')::boolean AS unseen, line - 'text' - 'unseen' AS truth,
				slm_generate_json(line ->> 'text', '$schema', 'smollm2+mail', system => '$system',
					show_schema => false, max_tokens => 120) AS tuned FROM test OFFSET 0) t));
}
for my $set ('tuned', 'copied')
{
	note $node->safe_psql('postgres', qq(SELECT '$set, seed ' || seed || CASE WHEN unseen THEN ', unseen' ELSE ', all' END || ': ' || count(*) || ' rows, '
		|| string_agg(DISTINCT shares, '') FROM (SELECT a.seed, g.unseen, (SELECT string_agg(field || ' ' || share, ', ') FROM (
			SELECT field, round(100.0 * avg(same(o.truth, o.$set, field)::int), 1) AS share FROM answers o, unnest('{order,amount,date,product,sentiment}'::text[]) field
			WHERE o.seed = a.seed AND (o.unseen OR NOT g.unseen) GROUP BY field) s) AS shares
			FROM answers a, (VALUES (false), (true)) g (unseen) WHERE a.unseen OR NOT g.unseen) r GROUP BY seed, unseen ORDER BY seed, unseen));
}
sub share
{
	my ($set, $seed, $unseen) = @_;
	return $node->safe_psql('postgres', "SELECT round(100 * avg((SELECT bool_and(same(truth, $set, field)) FROM unnest('{order,amount,date,product,sentiment}'::text[]) field)::int), 1)
		FROM answers WHERE seed = $seed" . ($unseen ? ' AND unseen' : ''));
}
for my $seed (@seeds)
{
	note $node->safe_psql('postgres', "SELECT id || ': ' || truth || ' | ' || coalesce(tuned::text, 'none') FROM answers WHERE seed = $seed
		AND NOT (SELECT coalesce(bool_and(same(truth, tuned, field)), false) FROM unnest('{order,amount,date,product,sentiment}'::text[]) field) ORDER BY id");
	my ($all, $unseen, $copied, $copied_unseen) = (share('tuned', $seed, 0), share('tuned', $seed, 1), share('copied', $seed, 0), share('copied', $seed, 1));
	cmp_ok($all, '>=', 93, "seed $seed: all fields of $all % are right");
	cmp_ok($unseen, '>=', 85, "seed $seed: of those with unseen sentences and products $unseen %");
	cmp_ok($copied, '>=', 97, "seed $seed: with what has a form copied, $copied % (unseen: $copied_unseen %)");
}
$node->stop;
done_testing();
