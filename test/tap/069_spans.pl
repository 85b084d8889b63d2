# A model that finds what labels ask for, a tiny one of test/golden/spans as the gliner library saves it: slm_entities gives what the library
# gives; rows of a table together, in the engine process and in the session, a job, windows of a long text, slm_redact_all, slm_extract, and a
# dump that is restored.
use strict;
use warnings;
use JSON::PP;
use lib 'test/tap';
use SlmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $file = 'test/golden/spans/gliner-token.tar.xz';
plan(skip_all => "a release is without $file") if !-r $file;

my $node = slm_cluster('spans', empty => 1, conf => "shared_preload_libraries = 'slm_pg'\nslm.job_workers = 1\n");
my $folder = $node->basedir;
command_ok([ 'tar', '-xJf', $file, '-C', $folder ], 'it is unpacked');
my $cases = decode_json(slurp_file("$folder/gliner-token/golden.json"))->{cases};
my $load = "SELECT slm_load_model('finder', '$folder/gliner-token', '{\"quantization\": \"F32\"}')";
$node->safe_psql('postgres', $load);
is($node->safe_psql('postgres', 'SELECT can_generate, can_embed, can_rerank, pooling FROM slm.models'), 'f|f|f|spans of labels', 'what it is');

sub literal { my ($s) = @_; utf8::encode($s); $s =~ s/'/''/g; return "'$s'"; }
sub array { return 'ARRAY[' . join(', ', map { literal($_) } @_) . ']'; }
my @usual = grep { $_->{text} =~ /\S/ } @$cases;
my $rows = join(', ', map {
	my $found = encode_json([ map { [ $_->[0] + 1, $_->[1], $_->[2] ] } @{ $_->{'at 0.5'} } ]);
	utf8::decode($found);
	'(' . literal($_->{text}) . ', ' . array(@{ $_->{labels} }) . ', ' . literal($found) . ')' } @usual);
$node->safe_psql('postgres', qq{
	CREATE TABLE mail (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, labels text[], found jsonb, later jsonb);
	SELECT slm_create_job('finds', 'mail', 'later', \$\$slm_entities_json(body, 'finder', labels => ARRAY['person', 'city'])\$\$);
	INSERT INTO mail (body, labels, found) VALUES $rows});
my $json = "slm_entities_json(body, 'finder', labels => labels)";
my $short = "(SELECT jsonb_agg(jsonb_build_array(e->'start', e->'end', e->'kind') ORDER BY n) FROM jsonb_array_elements(answer) WITH ORDINALITY x(e, n))";
my $other = "SELECT count(*), count(*) FILTER (WHERE coalesce($short, '[]') IS DISTINCT FROM found) FROM (SELECT found, $json AS answer FROM mail OFFSET 0) x";
is($node->safe_psql('postgres', $other), @usual . '|0', 'the spans of the library, rows together');
like($node->safe_psql('postgres', "EXPLAIN (costs off) SELECT $json FROM mail"), qr/SLM Batch/, 'the batch node takes it');
my $answers = "SELECT id, $json FROM mail ORDER BY id";
my $before = $node->safe_psql('postgres', $answers);
is($node->safe_psql('postgres', "SET slm.enable_batch = off; $answers"), $before, 'each alone');
is($node->safe_psql('postgres', "SET slm.engine = '$_'; $answers"), $before, "engine $_") for qw(local shared);
is($node->safe_psql('postgres', q{SELECT bool_and(value = substring(body FOR "end" - start + 1 FROM start) AND kind = ANY (labels)) FROM mail, slm_entities(body, 'finder', labels => labels)}),
	't', 'values are copies of the text');
is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE score <= 0.62), count(*) > 0 FROM mail, slm_entities(body, 'finder', 0.62, labels => labels)}),
	'0|t', 'a threshold');
ok($node->poll_query_until('postgres', "SELECT pending = 0 AND running = 0 AND state = 'idle' FROM slm.job_status"), 'the job is done');
is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE later IS DISTINCT FROM slm_entities_json(body, 'finder', labels => ARRAY['person', 'city'])) FROM mail}),
	'0', 'a job finds the same');

# windows: places are those of the whole text
my $long = "(SELECT string_agg('Anna met Karl in Berlin (' || i || ').', ' ') FROM generate_series(1, 300) i)";
is($node->safe_psql('postgres', qq{SELECT bool_and(value = substring(t FOR "end" - start + 1 FROM start)), bool_and(start > coalesce(before, 0)), count(*) > 100, max("end") > 9000
	FROM (SELECT t, e.*, lag("end") OVER (ORDER BY start) AS before FROM (SELECT $long) x(t), slm_entities(t, 'finder', labels => ARRAY['person', 'city']) e) y}),
	't|t|t|t', 'windows of a long text');
my $cut = qq{SELECT max("end") < 1500 FROM slm_entities($long, 'finder', labels => ARRAY['person', 'city'], truncate => true)};
is($node->safe_psql('postgres', $cut), 't', 'or its beginning');
for my $case (
	[ "truncate => false, labels => ARRAY['person']", $long, qr/longer than the model reads beside its labels/ ],
	[ '', "'Anna'", qr/no labels are given.*labels => ARRAY/s ],
	[ "labels => ARRAY['']", "'Anna'", qr/labels/ ],
	[ "labels => ARRAY[repeat('word ', 2000)]", "'Anna'", qr/leaves no room for a text/ ])
{
	my ($arguments, $text, $says) = @$case;
	my $call = "SELECT * FROM slm_entities($text, 'finder'" . ($arguments eq '' ? '' : ", $arguments") . ')';
	my (undef, undef, $stderr) = $node->psql('postgres', $call);
	like($stderr, $says, "refused: $arguments");
}
my $redacted = $node->safe_psql('postgres', q{SELECT slm_redact_all('Anna met Karl', ARRAY['person'], model => 'finder', threshold => 0.9999), slm_redact_all('Anna met Karl', ARRAY['person'], model => 'finder', threshold => 0.01)});
like($redacted, qr/^Anna met Karl\|.*\[/, 'slm_redact_all asks for the names that are wanted');

# slm_extract: of each label the best span, of a list all, and what holds a value of a kind with a form
my $fields = q{'{"person": "Who is it?", "big_city": null, "all": {"type": "array", "items": {"type": "string"}, "description": "name"}}'::jsonb};
my $asked = q{slm_entities(body, 'finder', labels => ARRAY['name', 'person', 'big city'])};
my $wanted = qq{(SELECT jsonb_build_object('all', jsonb_agg(value ORDER BY start) FILTER (WHERE kind = 'name'),
	'person', (array_agg(value ORDER BY score DESC, start) FILTER (WHERE kind = 'person'))[1],
	'big_city', (array_agg(value ORDER BY score DESC, start) FILTER (WHERE kind = 'big city'))[1]) FROM $asked)};
my $extract = "slm_extract(body, $fields, 'finder')";
is($node->safe_psql('postgres', qq{SELECT count(*), count(*) FILTER (WHERE got IS DISTINCT FROM $wanted), count(DISTINCT got) > 5, bool_or(jsonb_array_length(nullif(got->'all', 'null')) > 1)
	FROM (SELECT body, $extract AS got FROM mail OFFSET 0) x}), @usual . '|0|t|t', 'slm_extract takes the best span of each field, all of a list');
like($node->safe_psql('postgres', "EXPLAIN (costs off) SELECT $extract FROM mail"), qr/SLM Batch/, 'the batch node takes it');
my $values = "SELECT id, $extract FROM mail ORDER BY id";
my $together = $node->safe_psql('postgres', $values);
is($node->safe_psql('postgres', "SET slm.enable_batch = off; $values"), $together, 'each alone');
is($node->safe_psql('postgres', "SET slm.engine = '$_'; $values"), $together, "engine $_") for qw(local shared);
is($node->safe_psql('postgres', qq{SELECT bool_and(value = substring(body FOR "end" - start + 1 FROM start)), count(value) > 20, bool_and(score > 0.5)
	FROM mail, slm_extract_details(body, $fields, 'finder')}), 't|t|t', 'values are copies of the text');
my $long_values = $node->safe_psql('postgres', qq{SELECT slm_extract(t, 'person', 'finder', 0.3)->>'person' = (SELECT value FROM slm_entities(t, 'finder', 0.3, labels => ARRAY['person']) ORDER BY score DESC, start LIMIT 1)
	FROM (SELECT $long || ' Anna') x(t)});
is($long_values, 't', 'the best of all windows');
my $paid = "'Karl paid 1.012,50 EUR in Berlin and 7 EUR in Rome'";
is($node->safe_psql('postgres', qq{SELECT bool_and(value::numeric IN (1012.50, 7)), count(*) = count(DISTINCT start), count(*) > 1
	FROM slm_extract_details($paid, '{"sums": {"type": "array", "items": {"type": "amount"}, "description": "person"}}'::jsonb, 'finder', 0.01)}),
	't|t|t', 'a value is read whole, and once');
is($node->safe_psql('postgres', qq{SELECT slm_extract($paid, '{"person": "iban"}'::jsonb, 'finder', 0.01), slm_extract('Anna', 'person', 'finder', 0.9999), slm_extract(' ', 'person', 'finder')}),
	'{"person": null}|{"person": null}|{"person": null}', 'what no span holds is NULL');
is($node->safe_psql('postgres', q{SELECT slm_extract('Anna met Karl', ARRAY['a_b', 'a b'], 'finder', 0.01) = jsonb_build_object('a b', value, 'a_b', value)
	FROM slm_entities('Anna met Karl', 'finder', 0.01, labels => ARRAY['a b']) ORDER BY score DESC LIMIT 1}), 't', 'fields of one label');
$node->safe_psql('postgres', q{CREATE TYPE people AS (persons text[], big_city text); COMMENT ON COLUMN people.persons IS 'name'});
is($node->safe_psql('postgres', q{SELECT count(*), bool_and((slm_extract_as(body, NULL::people, 'finder')).persons IS NOT DISTINCT FROM wanted)
	FROM mail, LATERAL (SELECT array_agg(value ORDER BY start) FILTER (WHERE kind = 'name') FROM slm_entities(body, 'finder', labels => ARRAY['name', 'big city'])) x(wanted)}),
	@usual . '|t', 'columns of a type');
$node->safe_psql('postgres', qq{ALTER TABLE mail ADD taken jsonb; SELECT slm_create_job('takes', 'mail', 'taken', \$\$$extract\$\$)});
ok($node->poll_query_until('postgres', "SELECT bool_and(pending = 0 AND running = 0 AND state = 'idle') FROM slm.job_status"), 'a job is done');
is($node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE taken IS DISTINCT FROM $extract) FROM mail"), '0', 'it takes the same');
for my $case (
	[ q{'x', '{"a": {"type": "object"}}', 'finder'}, qr/field "a" is of type object.*HINT/s ],
	[ q{'x', '{"a": {"type": "array", "items": {"type": "array"}}}', 'finder'}, qr/field "a" is of type array.*HINT/s ],
	[ q{'x', '{"a": {"type": "array", "items": {"type": "string"}, "minItems": 1}}', 'finder'}, qr/asks for "minItems"/ ],
	[ q{'x', '{"a": {"type": "string", "items": {"type": "string"}}}', 'finder'}, qr/asks for "items"/ ],
	[ q{'x', '{"a": {"type": "array", "items": {"type": "string"}}}'}, qr/field "a" is of type array/ ],
	[ q{'x', '{"a": {"type": "array"}}', 'finder', copy => false}, qr/cannot generate text/ ],
	[ q{'x', ARRAY[repeat('word ', 190)], 'finder'}, qr/leaves no room for a text/ ])
{
	my ($arguments, $says) = @$case;
	my (undef, undef, $stderr) = $node->psql('postgres', "SELECT slm_extract($arguments)");
	like($stderr, $says, "refused: $arguments");
}
my $by_default = "SET slm.classify_model = 'finder'; SELECT slm_extract('Karl paid on 3 May 2026', ";
is($node->safe_psql('postgres', "$by_default 'date')"), '{"date": "2026-05-03"}', 'a default is asked for nothing that has a form');
like(($node->psql('postgres', "$by_default 'person')"))[2], qr/neither compute embeddings nor generate text/, 'nor for a phrase');

my $dump = "$folder/spans.dump";
command_ok([ 'pg_dump', '-Fc', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-h', $node->host, '-p', $node->port, '-d', 'restored', $dump ], 'pg_restore');
is($node->safe_psql('restored', $answers), $before, 'the same answers');
$node->stop;
done_testing();
