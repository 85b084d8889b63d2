# A model that finds what labels ask for, a tiny one of test/golden/spans as the gliner library saves it: slm_entities gives what the library
# gives; rows of a table together, in the engine process and in the session, a job, windows of a long text, slm_redact_all, and a dump that
# is restored.
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

my $dump = "$folder/spans.dump";
command_ok([ 'pg_dump', '-Fc', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-h', $node->host, '-p', $node->port, '-d', 'restored', $dump ], 'pg_restore');
is($node->safe_psql('restored', $answers), $before, 'the same answers');
$node->stop;
done_testing();
