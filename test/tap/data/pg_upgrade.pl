# pg_upgrade from an older major version: every row of the extension is as it was, answers are equal, jobs and fine-tunings go on, and no
# image is lost when the old cluster is removed.
#
# SLM_TEST_OLDER names the older server: a folder with bin and lib, into which this version of slm_pg is installed
# (scripts/matrix.sh upgrade-trixie puts this machine's into a release's folder).
use strict;
use warnings;
use File::Path qw(make_path remove_tree);
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $older = $ENV{SLM_TEST_OLDER} || '';
plan(skip_all => 'SLM_TEST_OLDER names no folder of an older server, with bin/pg_ctl') unless -x "$older/bin/pg_ctl";
my $data = "$FindBin::RealBin/../../data";
my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";

# A cluster that could be upgraded from or to; 18 would choose checksums, 15 would not.
sub cluster
{
	my ($name, $conf, @place) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, @place);
	$node->init(extra => [ '-k', '--locale', 'C', '--encoding', 'UTF8' ]);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'\nmax_worker_processes = 20\nslm.threads = 1\nslm.job_workers = 0\n$conf");
	return $node;
}

sub upgrade
{
	my ($from, $to, $what, @options) = @_;
	my ($old_bin, $new_bin) = map { $_->config_data('--bindir') } $from, $to;
	$from->stop;
	chdir $to->basedir; # where it writes its scripts
	return $to->command_ok([ 'pg_upgrade', '--no-sync', '-d', $from->data_dir, '-D', $to->data_dir, '-b', $old_bin, '-B', $new_bin, '-s', $to->host,
		'-p', $from->port, '-P', $to->port, @options ], $what);
}

# Every row of every table that the extension has, but what a server counts for itself.
sub rows
{
	my ($node) = @_;
	my $tables = $node->safe_psql('postgres', q(SELECT t::regclass FROM pg_extension, unnest(extconfig) t JOIN pg_class c ON c.oid = t WHERE extname = 'slm_pg' AND c.relkind = 'r' ORDER BY 1));
	return join("\n", map { "$_: " . $node->safe_psql('postgres', "SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM $_ t") } split /\n/, $tables);
}

my $old = cluster('old', '', install_path => $older);
my $new = cluster('new', '');
my ($from, $to) = map { $_->pg_version } $old, $new;
plan(skip_all => "the server of SLM_TEST_OLDER is $from, this one $to") unless $from < $to;
note("from $from to $to");
$old->start;

# ---- what the old server has

$old->safe_psql('postgres', <<"SQL");
CREATE EXTENSION slm_pg;
CREATE ROLE ann; CREATE ROLE bob;
GRANT ALL ON SCHEMA public TO PUBLIC;
SELECT slm_load_model('stored', '$data/tiny.gguf', '{"stored": true, "quantization": "F32"}');
SELECT slm_load_model('plain', '$data/tiny.gguf');
SELECT slm_load_model('mini', '$minilm', '{"stored": true}');
SELECT slm_load_adapter('lora', 'stored', '$data/tiny_lora.gguf');
SELECT slm_store_model('lora');
SELECT slm_grant_model('stored', 'ann'), slm_grant_model('mini', 'ann');
SELECT slm_set_prompt('capital', 'What is the capital of {country}?'), slm_set_prompt('capital', 'The capital of {country}?');
SELECT slm_set_redact_pattern('nl_bsn', '(?<=BSN )\\d{9}\\M', category => 'national_id');
SELECT slm_set_price('Acme', 'acme-1', 1.50, 2, 'offer of June', '2026-06-01', 'EUR');
SELECT slm_set_budget('bob', 2000000000, per => 'month');
GRANT EXECUTE ON FUNCTION slm_load_model TO bob;
ALTER SYSTEM SET slm.generate_model = 'stored'; ALTER SYSTEM SET slm.embed_model = 'mini'; SELECT pg_reload_conf();
SQL
$old->safe_psql('postgres', <<'SQL');
SET ROLE ann;
CREATE TABLE sample AS SELECT 'invoice number ' || i || ' was charged twice' AS body, 'billing' AS label FROM generate_series(1, 9) i
  UNION ALL SELECT 'parcel number ' || i || ' has not arrived', 'delivery' FROM generate_series(1, 9) i;
SELECT slm_train_classifier('quick', 'SELECT body, label FROM sample', 'mini'), slm_train_classifier('slow', 'SELECT body, label FROM sample', 'mini', options => '{"seed": 2}');
SELECT slm_train_classifier('quick', 'SELECT body, label FROM sample', 'mini', options => '{"seed": 3}');
SELECT slm_grant_classifier('quick', 'bob');
SELECT rows FROM slm_create_cascade('topics', '[{"classifier": "quick"}, {"classifier": "slow"}]', 'SELECT body FROM sample', target => 0.5);
CREATE TABLE letters (id int PRIMARY KEY, body text, label text, loud text);
INSERT INTO letters (id, body) SELECT i, 'parcel ' || i FROM generate_series(1, 6) i;
SELECT slm_create_job('labels', 'letters', 'label', $$slm_classify(body, classifier => 'quick')$$);
CALL slm_run_job('labels');
INSERT INTO letters (id, body) VALUES (7, 'invoice seven');
SELECT slm_create_trigger('letters', 'loud', 'upper(body)');
CREATE TABLE pinned (body text, e real[]);
CREATE VIEW asked AS SELECT slm_classify('the invoice', classifier => 'quick'), slm_generate('Once', max_tokens => 5, chat => false);
RESET ROLE;
SELECT slm_create_finetune('later', 'stored', 'SELECT body, label FROM sample', '{"epochs": 2}');
SQL
my $digest = $old->safe_psql('postgres', "SELECT slm_model_digest('mini')");
$old->safe_psql('postgres', "SET ROLE ann; CREATE INDEX pinned_label ON pinned (slm_classify_pinned(body, ARRAY['billing', 'delivery'], 'mini', '$digest')); "
	. "ALTER TABLE pinned ADD made real[] GENERATED ALWAYS AS (slm_embed_pinned(body, 'mini', '$digest')) STORED; INSERT INTO pinned (body) VALUES ('an invoice'), ('a parcel')");
my $questions = join '; ', map { "SELECT $_" } "slm_generate('Once', max_tokens => 5, chat => false)", "slm_perplexity('abc abc', 'stored')", "slm_perplexity('abc abc', 'stored+lora')",
	"slm_embed('a', 'mini')", "slm_classify('the parcel is late', classifier => 'quick')", "slm_classify('the parcel is late', cascade => 'topics')", "slm_redact_all('BSN 123456782')",
	"slm_generate(prompt_name => 'capital', variables => '{\"country\": \"France\"}', max_tokens => 3)", 'a FROM asked a', "made FROM pinned WHERE slm_classify_pinned(body, ARRAY['billing', 'delivery'], 'mini', '$digest') = 'delivery'";
my $of_plain = "SELECT slm_perplexity('abc abc', 'plain')";
my ($answers, $plain, $held) = ($old->safe_psql('postgres', $questions), $old->safe_psql('postgres', $of_plain), rows($old));
like($held, qr/slm\.$_: [1-9]/, "there are rows of $_") for qw(model_registry image_part classifier_registry cascade_registry job_definition job_done job_queue tune_job prompt_registry redact_pattern price budget);

# ---- the new one, from which the script that pg_upgrade wrote has removed the old cluster

my $images = $old->data_dir . '/slm_models';
make_path(my $aside = $old->basedir . '/aside');
ok(system('cp', '-a', $images, $aside) == 0, 'a copy of the images, for later');
upgrade($old, $new, "pg_upgrade from $from to $to");
$new->append_conf('postgresql.conf', "slm.generate_model = 'stored'\nslm.embed_model = 'mini'\n");
system_or_bail('sh', $new->basedir . '/delete_old_cluster.sh');
ok(!-e $images, 'the old cluster is gone, its images with it');
$new->start;
is(rows($new), $held, 'every row of the extension is as it was');
is($new->safe_psql('postgres', $questions), $answers, 'answers are equal, without hand work');
my ($rc, undef, $said) = $new->psql('postgres', $of_plain);
isnt($rc, 0, 'a model that is not stored does not answer');
like($said, qr/HINT: .*copy the directory "slm_models" of the old cluster.*slm_store_model/, '... and says what to copy');
ok(system("cp -an $aside/slm_models/*.img " . $new->data_dir . '/slm_models/') == 0, 'as it says');
is($new->safe_psql('postgres', $of_plain), $plain, '... then it answers, equally');
is($new->safe_psql('postgres', "SELECT has_function_privilege('bob', p.oid, 'EXECUTE') FROM pg_proc p WHERE proname = 'slm_load_model'"), 't', 'grants on functions');

# ---- jobs, triggers and fine-tunings go on

$new->safe_psql('postgres', "INSERT INTO letters (id, body) VALUES (8, 'invoice eight')");
$new->append_conf('postgresql.conf', "slm.job_workers = 2\n");
$new->restart;
ok($new->poll_query_until('postgres', 'SELECT count(label) = 8 FROM letters'), 'the job works on its queue and on new rows');
is($new->safe_psql('postgres', "SELECT label, loud FROM letters WHERE id = 8"), 'billing|INVOICE EIGHT', 'the trigger too');
ok($new->poll_query_until('postgres', "SELECT state = 'trained' FROM slm.finetune_jobs WHERE name = 'later'"), 'a fine-tuning that was created there is trained here');
$new->stop;

# ---- a directory of models outside the data directory: nothing is copied, nothing is removed

my $shared = $old->basedir . '/models';
make_path($shared, { mode => 0700 }); # the server's alone, or it is refused
my $outside = cluster('outside', "slm.model_directory = '$shared'\n", install_path => $older);
my $after = cluster('after', "slm.model_directory = '$shared'\n");
$outside->start;
$outside->safe_psql('postgres', "CREATE EXTENSION slm_pg; SELECT slm_load_model('plain', '$data/tiny.gguf')");
is($outside->safe_psql('postgres', $of_plain), $plain, 'the same model in a directory of its own');
upgrade($outside, $after, 'pg_upgrade --link', '--link');
system_or_bail('sh', $after->basedir . '/delete_old_cluster.sh');
$after->start;
is($after->safe_psql('postgres', $of_plain), $plain, 'answers equally, without rows and without a copy');
$after->stop;
done_testing();
