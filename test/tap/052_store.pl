# The image directory: names that fit into an archive, base backups and pg_rewind with every kind of image and during a load, a directory
# that is the server's alone, links, names of 0.1.0, rows that were not written by slm_load_model.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(usleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $path = model_path();
my $data = "$FindBin::RealBin/../data";
my $node = PostgreSQL::Test::Cluster->new('names');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "wal_log_hints = on\nwal_keep_size = 256\nmax_wal_senders = 4\nslm.generate_model = 'plain'");
$node->start;
my $store = $node->data_dir . '/slm_models';
my $perplexity = join(', ', map { "slm_perplexity('abc abc', '$_')" } 'plain', 'options', 'quantized', 'plain+lora');
my $questions = "SELECT slm_generate('abc', max_tokens => 6), $perplexity";

sub names { return map { s!.*/!!r } glob("$store/*"); }

sub fails_with
{
	my ($sql, $pattern, $name, $on) = @_;
	my ($rc, $out, $err) = ($on || $node)->psql('postgres', $sql);
	isnt($rc, 0, "$name: refused");
	like($err, $pattern, "$name: says why");
	return;
}

# Stops a backend that loads `name` while its image is being written; the image's temporary file.
sub stop_in_load
{
	my ($session) = @_;
	for my $try (1 .. 20)
	{
		$session->send("SELECT name FROM slm_load_model('big', '$path')");
		my $until = time() + 60;
		my @temporary;
		usleep(2000) until (@temporary = grep { /^pgsql_tmp\.[0-9a-f]/ } names()) || time() > $until;
		kill('STOP', $session->pid);
		return $temporary[0] if -e "$store/$temporary[0]" && -e "$store/pgsql_tmp.loading." . $session->pid;
		kill('CONT', $session->pid);
		$session->wait;
		$session->query("SELECT slm_drop_model('big')");
	}
	die 'the load was never seen at work';
}

# ---- names
$node->safe_psql('postgres', qq{
	CREATE EXTENSION slm_pg;
	SELECT slm_load_model('plain', '$data/tiny.gguf');
	SELECT slm_load_model('options', '$data/tiny.gguf', '{"quantization": "F32", "chat_format": "chatml"}');
	SELECT slm_quantize_model('plain', 'quantized', 'Q4_0');
	SELECT slm_load_adapter('lora', 'plain', '$data/tiny_lora.gguf')});
my $answers = $node->safe_psql('postgres', $questions);
is(scalar(grep { /\.img$/ } names()), 4, 'four kinds of image');
my $sha256 = $node->safe_psql('postgres', "SELECT sha256 FROM slm.models WHERE name = 'plain'");
is(scalar(grep { substr($_, 0, 16) eq substr($sha256, 0, 16) } names()), 6, 'files are named after their source: three images and their markers');
my $session = SlmTest::Session->new($node);
my $temporary = stop_in_load($session);
my ($longest) = sort { $b <=> $a } map { length("slm_models/$_") } names();
# what an OID or a process number may grow by
cmp_ok($longest + 10, '<', 90, 'names leave room in an archive');

# ---- during a load: base backups in both formats, a tar of the directory
my $backup = $node->backup_dir . '/plain';
$node->command_ok([ 'pg_basebackup', '-D', $backup, '-h', $node->host, '-p', $node->port, '--checkpoint', 'fast', '--no-sync' ],
	'a base backup during a load');
$node->command_ok([ 'pg_basebackup', '-D', "$backup.tar", '-F', 't', '-h', $node->host, '-p', $node->port, '--checkpoint', 'fast', '--no-sync' ],
	'and one in the tar format');
command_ok([ 'tar', '--format=ustar', '-cf', $node->basedir . '/store.tar', '-C', $node->data_dir, 'slm_models' ], 'and the directory in an archive');
is(scalar(grep { /pgsql_tmp/ } glob("$backup/slm_models/*")), 0, 'what is being written is left out');
kill('CONT', $session->pid);
like($session->wait, qr/^big$/, 'the load goes on');
$session->query("SELECT slm_drop_model('big')");

my $standby = PostgreSQL::Test::Cluster->new('standby');
rename($backup, $node->backup_dir . '/whole') or die;
$standby->init_from_backup($node, 'whole', has_streaming => 1);
# a copy of the directory that was made by other means has what was being written
my $stale = $standby->data_dir . '/slm_models/' . $temporary;
append_to_file($stale, 'x');
append_to_file($standby->data_dir . '/slm_models/pgsql_tmp.loading.1', 'x' x 200);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $questions), $answers, 'a server from the backup answers alike');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM slm.model_status WHERE progress IS NOT NULL'), '0', 'it shows no load of another server');

# ---- pg_rewind
$standby->promote;
$standby->safe_psql('postgres', "CREATE TABLE t AS SELECT 1 AS a; SELECT slm_load_model('later', '$data/tiny.gguf', '{\"quantization\": \"F16\"}'); CHECKPOINT");
ok(!-e $stale, 'a load removes what is being written by nobody');
ok(!-e $standby->data_dir . '/slm_models/pgsql_tmp.loading.1', 'and the progress of a load of nobody');
$node->safe_psql('postgres', "CREATE TABLE lost AS SELECT 1 AS a; SELECT slm_quantize_model('plain', 'lost', 'F16'); CHECKPOINT");
$session->quit;
$node->stop;
my ($said, $complained);
my $rewound = IPC::Run::run([ 'pg_rewind', '--target-pgdata', $node->data_dir, '--source-server', $standby->connstr('postgres'), '--no-sync' ],
	'>', \$said, '2>', \$complained);
ok($rewound, 'pg_rewind') or die $complained;
$node->append_conf('postgresql.conf', 'port = ' . $node->port); # the source's came with it
$node->append_conf('postgresql.conf', "primary_conninfo = '" . $standby->connstr . "'");
append_to_file($node->data_dir . '/standby.signal', '');
$node->start;
$standby->wait_for_catchup($node);
is($node->safe_psql('postgres', $questions), $answers, 'the server that was rewound answers alike');
cmp_ok($node->safe_psql('postgres', "SELECT slm_perplexity('abc abc', 'later')"), '>', 1, 'with the models of the other');
$standby->stop;
$node->promote;

# ---- a directory that is not the server's alone
my $load = "SELECT slm_load_model('other', '$data/tiny.gguf', '{\"quantization\": \"BF16\"}')";
my $before = join(' ', names());
for my $mode (0777, 0722, 0770, 0702)
{
	chmod($mode, $store);
	my $name = sprintf('mode %04o', $mode);
	fails_with($questions, qr/ERROR:.*slm_models.*not the server's alone.*0700.*HINT:/s, "$name, a call");
	fails_with($load, qr/not the server's alone/, "$name, a load") if $mode == 0777 || $mode == 0722;
	fails_with("SELECT slm_drop_model('options')", qr/not the server's alone/, "$name, a drop") if $mode == 0777;
}
for my $mode (0750, 0755)
{
	chmod($mode, $store);
	is($node->safe_psql('postgres', $questions), $answers, sprintf('mode %04o below the data directory: fine', $mode));
}
chmod(0700, $store);
is(join(' ', names()), $before, 'nothing was made or removed');
rename($store, "$store.aside") or die;
symlink("$store.aside", $store) or die;
is($node->safe_psql('postgres', $questions), $answers, 'a link of the administrator to a directory of the server: fine');
unlink($store);
append_to_file($store, 'x');
fails_with($load, qr/is not a directory/, 'a file in its place');
unlink($store);
rename("$store.aside", $store) or die;

my $outside = $node->basedir . '/outside';
mkdir $outside;
$node->append_conf('postgresql.conf', "slm.model_directory = '$outside'");
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('slm.model_directory') = '$outside'");
for my $mode (0755, 0705, 0770)
{
	chmod($mode, $outside);
	fails_with($load, qr/not the server's alone/, sprintf('mode %04o elsewhere', $mode));
}
chmod(0700, $outside);
fails_with($questions, qr/is not on this server/, 'an empty directory');
$node->safe_psql('postgres', "$load; SELECT slm_drop_model('other')");
is(scalar(grep { !/\/tuning$/ } glob("$outside/*")), 0, 'a directory elsewhere is used and left empty');
$node->append_conf('postgresql.conf', "slm.model_directory = 'slm_models'");
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('slm.model_directory') = 'slm_models'");

# ---- links in the directory
my $precious = $node->basedir . '/precious';
append_to_file($precious, 'do not touch');
my $control = SlmTest::Session->new($node);
symlink($precious, "$store/pgsql_tmp.loading." . $control->pid) or die;
like($control->query("SELECT name FROM slm_load_model('other', '$data/tiny.gguf', '{\"quantization\": \"BF16\"}')"), qr/^other$/, 'a load past a link in the place of its progress');
my ($image) = grep { !$before || index($before, $_) < 0 } grep { /\.img$/ } names();
$control->query("SELECT slm_drop_model('other')");
my $marker = $image =~ s/img$/db/r . $control->query("SELECT oid FROM pg_database WHERE datname = 'postgres'");
symlink($precious, "$store/$marker") or die;
fails_with($load, qr/could not create file ".*\.db\d+"/, 'a link in the place of a marker');
unlink("$store/$marker");
symlink($precious, "$store/$image") or die;
$node->safe_psql('postgres', $load);
ok(!-l "$store/$image", 'a link in the place of an image is replaced');
$node->safe_psql('postgres', "SELECT slm_drop_model('other')");
my ($plain) = grep { /\.img$/ && -s "$store/$_" == $node->safe_psql('postgres', "SELECT image_bytes FROM slm.models WHERE name = 'plain'") } names();
rename("$store/$plain", "$precious.img") or die;
symlink("$precious.img", "$store/$plain") or die;
fails_with("SELECT slm_perplexity('abc abc', 'plain')", qr/ERROR:.*image of model "plain"/, 'a link to an image is not followed');
unlink("$store/$plain");
rename("$precious.img", "$store/$plain") or die;
is(slurp_file($precious), 'do not touch', 'what a link leads to was not touched');
$control->quit;

# ---- names that only look like ours are left alone
my $stem = ('0123456789abcdef' . '-' . 'ab' x 12);
my @strangers = ("$stem.db", "$stem.db0", "$stem.db007", "$stem.db16384x", "$stem.db99999999999", "$stem.img.bak", "pgsql_tmp.$stem", "pgsql_tmp.$stem.12x",
	"pgsql_tmp.$stem.-5", 'pgsql_tmp.loading.', 'pgsql_tmp.loading.1x', 'loading.0', 'README', ('ab' x 32) . '-l01.img', ('ab' x 32) . '-l1-12.img', ('AB' x 32) . '-l1.img');
append_to_file("$store/$_", 'x') for @strangers, "$stem.img", "$stem.db4294967294", "pgsql_tmp.$stem.999999";
$node->safe_psql('postgres', "$load; SELECT slm_drop_model('other')");
is(scalar(grep { -e "$store/$_" } @strangers), scalar(@strangers), 'names that are none of ours stay');
ok(!-e "$store/$stem.img" && !-e "$store/$stem.db4294967294" && !-e "pgsql_tmp.$stem.999999", 'an image that only a dropped database used is gone');
unlink("$store/$_") for @strangers;

# ---- names of 0.1.0: an upgrade loses nothing
my $oid = $node->safe_psql('postgres', "SELECT oid FROM pg_database WHERE datname = 'postgres'");
my %old = map { my ($key, $present) = split(/\|/); ($present => $key) } split(/\n/, $node->safe_psql('postgres',
	"SELECT image, substr(image, 1, 16) || '-' || substr(encode(sha256(convert_to(image, 'UTF8')), 'hex'), 1, 24) FROM slm.model_registry"));
is(scalar(keys %old), 5, 'five images');
for (keys %old)
{
	rename("$store/$_.img", "$store/$old{$_}.img") or die "$_: $!";
	rename("$store/$_.db$oid", "$store/$old{$_}.db$oid") or die "$_: $!";
	append_to_file("$store/$old{$_}.tmp.999999", 'x');
}
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE postgres');
is($node->safe_psql('copy', $questions), $answers, 'images of 0.1.0 answer alike');
is(scalar(grep { /-l1/ } names()), 0, 'and all have their present names');
is(scalar(grep { /\.img$/ } names()), 5, 'none was lost');
$node->safe_psql('postgres', 'DROP DATABASE copy');
for (keys %old)
{
	rename("$store/$_.img", "$store/$old{$_}.img") or die;
	rename("$store/$_.db$oid", "$store/$old{$_}.db$oid") or die;
}
$node->safe_psql('postgres', "SELECT slm_drop_model('later')");
is(scalar(grep { /\.img$/ } names()), 4, 'a drop finds the image under its old name');
is($node->safe_psql('postgres', $questions), $answers, 'and leaves the others');

# ---- what a row calls its image becomes a path only when it is the name of one
my $tries = 0;
for my $image ('../../precious', "$sha256-l1/../../precious", "$sha256-l1-0123456789abcdeF", "$sha256", 'x' x 200, '', "../$sha256-l1", "$sha256-l1\n")
{
	$node->safe_psql('postgres', "INSERT INTO slm.model_registry (name, image, owner, source, sha256, family, parameters, context_length, vocabulary, embedding_dimension, layers, "
		  . "image_bytes, can_generate, can_embed, can_rerank, kv_bytes_per_token) SELECT 'bad', '$image', owner, source, sha256, family, parameters, context_length, vocabulary, "
		  . "embedding_dimension, layers, image_bytes, can_generate, can_embed, can_rerank, kv_bytes_per_token FROM slm.model_registry WHERE name = 'plain'");
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT slm_perplexity('abc abc', 'bad')");
	$tries++ if $rc != 0 && $err =~ /ERROR:  the registered image of "bad" is not the name of an image\nHINT/;
	$node->safe_psql('postgres', "SELECT count(*) FROM slm.model_status; SELECT slm_drop_model('bad')");
}
is($tries, 8, 'rows with paths in place of a key');
is($node->safe_psql('postgres', $questions), $answers, 'and the others answer');

$node->stop;
done_testing();
