# Trained classifiers and prompts: dump and restore, restart, drop and replace under a running statement; embeddings in pgvector where it is installed.
use strict;
use warnings;
use lib 'test/tap';
use SlmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";

my $node = slm_cluster('classifiers', empty => 1);
$node->safe_psql('postgres', "SELECT slm_load_model('minilm', '$minilm')");
$node->append_conf('postgresql.conf', "slm.embed_model = 'minilm'");
$node->reload;
$node->safe_psql('postgres', q{
    CREATE TABLE message AS SELECT format(p, w) AS body, label FROM (VALUES ('Where is my %s?', 'delivery'), ('The %s has not arrived', 'delivery'),
        ('The invoice for the %s is wrong', 'billing'), ('I was charged twice for the %s', 'billing')) m(p, label), unnest(ARRAY['lamp', 'phone', 'chair', 'radio']) w;
    SELECT slm_train_classifier('topic', 'SELECT body, label FROM message ORDER BY body')});
my $answers = 'SELECT body, slm_classify(body, classifier => \'topic\') FROM message ORDER BY body';
my $before = $node->safe_psql('postgres', $answers);
$node->safe_psql('postgres', q{CREATE ROLE writer; SELECT slm_set_prompt('slm_decide.text', 'Texte : ', language => 'fr'); SELECT slm_set_prompt('greet', 'v1'), slm_set_prompt('greet', 'Greet {who}.', public => true);
    SET ROLE writer; SELECT slm_set_prompt('own', 'Say hello.')});
my $prompts = 'SELECT name, version, family, language, text, owner, public, active FROM slm.prompts WHERE version > 0 ORDER BY 1, 2';
my $written = $node->safe_psql('postgres', $prompts);
like($before, qr/has not arrived\|delivery/, 'the classifier answers');

# dump and restore into another database
my $dump = $node->backup_dir . '_dump.sql';
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-f', $dump ], 'dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'restored', '-f', $dump ], 'restore');
is($node->safe_psql('restored', $answers), $before, 'the restored classifier gives the same answers');
is($node->safe_psql('restored', 'SELECT name, version, active, n FROM slm.classifiers, LATERAL (SELECT cardinality(labels) AS n) l'), 'topic|1|t|2',
	'its registry came along');
is($node->safe_psql('restored', $prompts), $written, 'and prompts, with their versions and owners');
like($written, qr/^greet\|1\|\|en\|v1\|\w+\|f\|f\ngreet\|2\|\|en\|Greet \{who\}\.\|\w+\|t\|t\nown\|1\|\|en\|Say hello\.\|writer\|f\|t\nslm_decide\.text\|1\|\|fr\|/, 'which are these');

$node->restart;
is($node->safe_psql('postgres', $answers), $before, 'the same after a restart');

# drop and replace while a statement of another session runs: its cursor is open
my $reader = SlmTest::Session->new($node);
$reader->query("BEGIN; DECLARE c CURSOR FOR $answers");
my $first = $reader->query('FETCH 1 FROM c');
$node->safe_psql('postgres', q{SELECT slm_train_classifier('topic', 'SELECT body, upper(label) FROM message')});
$node->safe_psql('postgres', q{SELECT slm_drop_classifier('topic')});
is("$first\n" . $reader->query('FETCH ALL FROM c'), $before, 'a statement that runs keeps the version that it began with');
$reader->query('COMMIT');
$reader->quit;
my ($rc, $stdout, $stderr) = $node->psql('postgres', $answers);
like($stderr, qr/classifier "topic" does not exist/, 'a new statement sees the drop');

$node->stop;
done_testing();
