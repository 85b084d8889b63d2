# Whatever is sampled under a constraint is valid: random JSON schemas, judged by Python's jsonschema, and random SQL types, judged by
# their own input; SmolLM2 at temperature 1.  In a batch as one by one, bit for bit.
#
# SLM_TEST_LONG=1: 2,000 schemas and 300 types, three seeds each (SLM_TEST_COUNT schemas, SLM_TEST_SEED of the generators).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $model = model_file();
plan(skip_all => "$model is absent; models/fetch --default brings it") unless -r $model;
my $maker = "$FindBin::RealBin/random_schemas.py";
plan(skip_all => 'Python has no jsonschema (python3-jsonschema)') if system("python3 -c 'import jsonschema' 2>/dev/null") != 0;

my $seed = $ENV{SLM_TEST_SEED} || 3;
my $n_schemas = $ENV{SLM_TEST_COUNT} || (long_run() ? 2000 : 60);
my $n_types = long_run() ? int($n_schemas * 3 / 20) : 40;
my $n_seeds = long_run() ? 3 : 1;
my $tokens = long_run() ? 100 : 40;
my $state = $seed;
sub rnd { my ($n) = @_; $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $n; }
sub pick { return $_[ rnd(scalar @_) ]; }

my $node = PostgreSQL::Test::Cluster->new('answers');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'\nslm.generate_model = 'smollm2'\nclient_min_messages = error\n");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION slm_pg; SELECT slm_load_model('smollm2', '$model')");

# ---- schemas
my @schemas = split /\n/, `python3 $maker make $n_schemas $seed`;
is(scalar @schemas, $n_schemas, 'schemas are made');
$node->safe_psql('postgres', 'CREATE TABLE s (id int, schema jsonb);'
	  . join('', map { "INSERT INTO s VALUES ($_, \$s\$$schemas[$_]\$s\$);" } 0 .. $#schemas));
# those that are refused are so by name, before a token
my $refused = $node->safe_psql('postgres', q{
	CREATE TABLE refused (id int, state text, why text);
	DO $$ DECLARE r record; BEGIN
		FOR r IN SELECT * FROM s LOOP
			BEGIN
				PERFORM slm_generate_json('x', r.schema, max_tokens => 1, show_schema => false, chat => false, on_error => 'null');
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO refused VALUES (r.id, SQLSTATE, SQLERRM);
			END;
		END LOOP;
		DELETE FROM s USING refused WHERE s.id = refused.id;
	END $$;
	SELECT count(*) FILTER (WHERE state NOT IN ('0A000', '22023', '54000')) || ' ' || count(*) FROM refused});
like($refused, qr/^0 /, "refused by name ($refused)");
$node->safe_psql('postgres', qq{
	CREATE TABLE answers AS SELECT id, seed, schema, slm_generate_json('Give me an example, number ' || id, schema, temperature => 1, seed => seed,
		max_tokens => $tokens, show_schema => false, on_error => 'null') AS value FROM s, generate_series(1, $n_seeds) seed});
my $rows = $node->safe_psql('postgres', "SELECT json_build_object('schema', schema, 'value', value) FROM answers WHERE value IS NOT NULL");
my $file = "$PostgreSQL::Test::Utils::tmp_check/answers.jsonl";
append_to_file($file, "$rows\n");
my $verdict = `python3 $maker check < $file`;
my ($n_valid) = $verdict =~ /^(\d+)$/m;
unlike($verdict, qr/NOT VALID/, 'every answer that ends is valid');
my $asked = $node->safe_psql('postgres', 'SELECT count(*) FROM answers');
cmp_ok($n_valid, '>', $asked / 3, "answers that end: $n_valid of $asked");
is($node->safe_psql('postgres', qq{
	SET slm.enable_batch = off;
	SELECT count(*) FROM answers WHERE (id + seed) % 5 = 0 AND value::text IS DISTINCT FROM slm_generate_json('Give me an example, number ' || id, schema,
		temperature => 1, seed => seed, max_tokens => $tokens, show_schema => false, on_error => 'null')::text}), '0', 'one by one as in a batch');

# ---- types
my $named = 0;
my @made;
sub number_domain
{
	my $base = pick('int', 'smallint', 'bigint', 'numeric(9,2)', 'double precision');
	my $low = rnd(200) - 100;
	my $high = $low + pick(1, 2, 10, 5000);
	return ($base, pick("VALUE BETWEEN $low AND $high", "VALUE > $low AND VALUE <= $high", "VALUE IN ($low, $high)", "VALUE = $low OR VALUE >= $high"));
}
sub text_domain
{
	my $n = 1 + rnd(9);
	return (pick('text', "varchar(20)"),
		pick("VALUE IN ('red', 'it''s', 'gr\xc3\xbcn \"x\"')", "VALUE ~ '^[A-Z]{1,$n}-[[:digit:]]+\$' AND char_length(VALUE) < 15", "length(VALUE) BETWEEN 1 AND $n",
			"VALUE ~ '^(a|b c|\\d{2}){1,$n}\$'"));
}
sub scalar_type
{
	my $p = 1 + rnd(20);
	my $s = rnd($p + 1);
	my $k = rnd(4);
	return pick('boolean', 'smallint', 'int', 'bigint', 'real', 'float8', 'date', 'timestamp', 'timestamptz', 'time', 'interval', 'uuid', 'inet', 'numeric',
		"numeric($p,$s)", 'varchar(' . (1 + rnd(12)) . ')', 'char(' . (1 + rnd(5)) . ')')
	  if $k < 2;
	my $name = 't' . $named++;
	if ($k == 2)
	{
		push @made, "CREATE TYPE $name AS ENUM (" . join(', ', map { "'value $_'" } 0 .. rnd(5)) . ')';
		return $name;
	}
	my ($base, $check) = pick(0, 1) ? number_domain() : text_domain();
	push @made, "CREATE DOMAIN $name AS $base CHECK ($check)";
	return $name;
}
sub random_type
{
	my $k = rnd(8);
	my $name;
	return scalar_type() if $k < 4;
	return scalar_type() . '[]' if $k == 4;
	return pick('int4range', 'numrange', 'daterange', 'int8range') if $k == 5;
	$name = 't' . $named++;
	my @columns = map { "c$_ " . scalar_type() . (rnd(5) == 0 ? '[]' : '') } 0 .. rnd(4);
	push @made, "CREATE TYPE $name AS (" . join(', ', @columns) . ')';
	return $name;
}
my @types = map { random_type() } 1 .. $n_types;
$node->safe_psql('postgres', join(";\n", @made)) if @made;
my ($ended, $wrong) = (0, 0);
for my $type (@types)
{
	my $call = "slm_generate_as('An example, number ' || seed, NULL::$type, temperature => 1, seed => seed, max_tokens => $tokens, show_schema => false, on_error => 'null')";
	my ($code, $out, $err) = $node->psql('postgres', qq{
		WITH b AS MATERIALIZED (SELECT seed, $call AS v FROM generate_series(1, $n_seeds) seed)
		SELECT count(v::text), count(*) FILTER (WHERE v::text IS DISTINCT FROM (v::text)::${type}::text),
			count(*) FILTER (WHERE seed = 1 AND v::text IS DISTINCT FROM (SELECT $call FROM (VALUES (1)) one(seed))::text) FROM b});
	my ($n, @bad) = $code == 0 ? split(/\|/, $out) : (0, 1);
	$ended += $n;
	next unless grep { $_ != 0 } @bad;
	$wrong++;
	diag("$type: " . ($code == 0 ? "@bad" : $err));
}
is($wrong, 0, "values of $n_types types can be cast, and are the same alone");
cmp_ok($ended, '>', $n_types * $n_seeds / 3, "values that end: $ended of " . $n_types * $n_seeds);
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server is there');
$node->stop;
done_testing();
