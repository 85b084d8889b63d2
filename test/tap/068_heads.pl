# A sentiment head of three labels and a cross-encoder, tiny ones of test/golden/encoders as transformers saves them: a trigger, a job and
# the batch node fill columns with what transformers computed, a dump is restored into the same cluster and into a new one, and they
# answer as before.
use strict;
use warnings;
use JSON::PP;
use lib 'test/tap';
use SlmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %model = (mood => 'seq-bert-3', relevance => 'seq-xlmr-rerank');
my @missing = grep { !-r "test/golden/encoders/$_.tar.xz" } values %model;
plan(skip_all => "a release is without @missing of test/golden/encoders") if @missing;

my $node = slm_cluster('heads', empty => 1, conf => "shared_preload_libraries = 'slm_pg'\nslm.job_workers = 1\n");
my $folder = $node->basedir;
my %golden;
for my $name (sort keys %model)
{
	command_ok([ 'tar', '-xJf', "test/golden/encoders/$model{$name}.tar.xz", '-C', $folder ], "$model{$name} is unpacked");
	$golden{$name} = decode_json(slurp_file("$folder/$model{$name}/golden.json"))->{cases};
}
$node->safe_psql('postgres', "SELECT slm_load_model('$_', '$folder/$model{$_}', '{\"quantization\": \"F32\"}')") for sort keys %model;
is($node->safe_psql('postgres', 'SELECT name, can_rerank, labels FROM slm.models ORDER BY name'),
	"mood|f|{negative,neutral,positive}\nrelevance|t|", 'what they are');

# texts of the references: those that say nothing of control tokens, and whose two best labels are apart
sub clear { my @s = sort { $b <=> $a } @{ $_[0]->{scores} }; return $s[0] - $s[1] > 0.05; }
sub usual { return length $_[0] && $_[0] !~ /<|\[/ && $_[0] =~ /\S/ && length $_[0] < 120; }
my @texts = grep { usual($_->{text}) && clear($_) } @{ $golden{mood} };
my @pairs = grep { usual($_->{text}) && usual($_->{text_pair}) } @{ $golden{relevance} };
cmp_ok(scalar(@texts), '>', 8, scalar(@texts) . ' texts');
cmp_ok(scalar(@pairs), '>', 5, scalar(@pairs) . ' pairs');
sub literal { my ($s) = @_; utf8::encode($s); $s =~ s/'/''/g; return "'$s'"; }
sub row { return '(' . join(', ', map { literal($_) } @_) . ')'; }
my $values = join(', ', map { row($_->{text}, $_->{label}) } @texts);
my $pair_values = join(', ', map { row($_->{text}, $_->{text_pair}, $_->{logits}[0]) } @pairs);
$node->safe_psql('postgres', qq{
	CREATE TABLE said (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, label text, at_once text, later text);
	CREATE TABLE asked (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, question text, body text, logit float8, cross_score float8);
	SELECT slm_create_trigger('said', 'at_once', \$\$slm_classify(body, model => 'mood')\$\$);
	SELECT slm_create_job('moods', 'said', 'later', \$\$slm_classify(body, model => 'mood')\$\$);
	SELECT slm_create_job('crosses', 'asked', 'cross_score', \$\$slm_similarity(question, body, model => 'relevance', method => 'cross')\$\$);
	INSERT INTO said (body, label) VALUES $values;
	INSERT INTO asked (question, body, logit) VALUES $pair_values});
my $done = "SELECT count(*) = 2 AND bool_and(pending = 0 AND running = 0 AND state = 'idle') FROM slm.job_status";
ok($node->poll_query_until('postgres', $done), 'the jobs are done');

my $wrong = 'SELECT count(*) FILTER (WHERE at_once IS DISTINCT FROM label), count(*) FILTER (WHERE later IS DISTINCT FROM label) FROM said';
is($node->safe_psql('postgres', $wrong), '0|0', 'trigger and job give the labels of the reference');
my $far = 'SELECT max(abs(ln(cross_score / (1 - cross_score)) - logit)) < 0.1, count(cross_score) FROM asked';
is($node->safe_psql('postgres', $far), 't|' . @pairs, 'and its relevance');

my $node_of = "EXPLAIN (costs off) SELECT slm_classify(body, model => 'mood') FROM said";
like($node->safe_psql('postgres', $node_of), qr/SLM Batch/, 'the batch node takes the head');
like($node->safe_psql('postgres', "EXPLAIN (costs off) SELECT slm_similarity(question, body, model => 'relevance') FROM asked"), qr/SLM Batch/, 'and the pairs');
my $answers = q{SELECT id, slm_classify(body, model => 'mood') FROM said
	UNION ALL SELECT -id, round(slm_similarity(question, body, model => 'relevance')::numeric, 6)::text FROM asked
	UNION ALL SELECT 1000 + document_no, round(score::numeric, 5)::text FROM slm_rerank('where is my parcel', ARRAY(SELECT body FROM asked ORDER BY id), model => 'relevance')
	ORDER BY 1};
my $before = $node->safe_psql('postgres', $answers);
is($node->safe_psql('postgres', "SET slm.enable_batch = off; $answers"), $before, 'together as each alone');

my $dump = "$folder/heads.dump";
command_ok([ 'pg_dump', '-Fc', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-h', $node->host, '-p', $node->port, '-d', 'restored', $dump ], 'pg_restore into the same cluster');
is($node->safe_psql('restored', $answers), $before, 'the same answers');
my ($text, $label) = (literal($texts[0]->{text}), $texts[0]->{label});
$node->safe_psql('restored', "INSERT INTO said (body) VALUES ($text)");
ok($node->poll_query_until('restored', $done), 'the restored jobs work');
is($node->safe_psql('restored', 'SELECT at_once, later FROM said ORDER BY id DESC LIMIT 1'), "$label|$label", 'with the restored trigger');
$node->restart;
is($node->safe_psql('postgres', $answers), $before, 'the same after a restart');

# elsewhere the images are missing until the models are loaded from the same files
my $fresh = PostgreSQL::Test::Cluster->new('elsewhere');
$fresh->init;
$fresh->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'\nslm.job_workers = 0");
$fresh->start;
command_ok([ 'pg_restore', '--exit-on-error', '-h', $fresh->host, '-p', $fresh->port, '-d', 'postgres', $dump ], 'pg_restore into a new cluster');
$fresh->safe_psql('postgres', "SELECT slm_load_model('$_', '$folder/$model{$_}', '{\"quantization\": \"F32\"}')") for sort keys %model;
is($fresh->safe_psql('postgres', $answers), $before, 'the same answers there');
$_->stop for $node, $fresh;
done_testing();
