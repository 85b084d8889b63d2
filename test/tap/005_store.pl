# The image directory: several databases, dump and restore, a copied database, crashes, a full disk, a standby.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $path = model_path();
my $node = PostgreSQL::Test::Cluster->new('store');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "slm.generate_model = 'smollm2'\nrestart_after_crash = on");
$node->start;
my $store = $node->data_dir . '/slm_models';
my $question = "SELECT slm_generate('What is the capital of France?', max_tokens => 12)";

sub files
{
	my ($pattern) = @_;
	# what the CPU was measured to like is no image
	my @found = grep { /$pattern/ && $_ ne 'tuning' } map { s!.*/!!r } glob("$store/*");
	return scalar @found;
}

sub fails_with
{
	my ($database, $sql, $pattern, $name, $on) = @_;
	my ($rc, $out, $err) = ($on || $node)->psql($database, $sql);
	isnt($rc, 0, "$name: refused");
	like($err, $pattern, "$name: says why");
	return;
}

# two databases share an image; the last one frees it
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql($_, "CREATE EXTENSION slm_pg; SELECT slm_load_model('smollm2', '$path')") for qw(postgres other);
is(files('\.img$'), 1, 'two databases share an image');
is(files('\.db[0-9]+$'), 2, 'and each has a marker');
my $answer = $node->safe_psql('postgres', $question);
is($node->safe_psql('other', $question), $answer, 'both answer alike');
$node->safe_psql('postgres', "SELECT slm_drop_model('smollm2')");
is(files('\.img$'), 1, 'the image stays while a database uses it');
is($node->safe_psql('other', $question), $answer, 'and still answers');

# a copied database, and a dropped one
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE other');
is($node->safe_psql('copy', $question), $answer, 'a copied database answers');
is(files('\.db[0-9]+$'), 2, 'and has marked its use');
$node->safe_psql('postgres', 'DROP DATABASE other');
is($node->safe_psql('copy', $question), $answer, 'the copy goes on when the original is dropped');
$node->safe_psql('postgres', 'DROP DATABASE copy');
$node->safe_psql('postgres', "SELECT slm_load_model('smollm2', '$path'); SELECT slm_drop_model('smollm2')");
is(files('.'), 0, 'nothing is left when the last user is gone');

# dump and restore
$node->safe_psql('postgres', "SELECT slm_load_model('smollm2', '$path'); CREATE ROLE reader; SELECT slm_grant_model('smollm2', 'reader');");
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'restore into the same cluster');
is($node->safe_psql('restored', 'SELECT name, roles FROM slm.models'), 'smollm2|{reader}', 'the row is there');
is($node->safe_psql('restored', $question), $answer, 'the image of the same file is used');
$node->safe_psql('postgres', "SELECT slm_drop_model('smollm2')");
is($node->safe_psql('restored', $question), $answer, 'and stays');

my $fresh = PostgreSQL::Test::Cluster->new('fresh');
$fresh->init;
$fresh->append_conf('postgresql.conf', "slm.generate_model = 'smollm2'");
$fresh->start;
$fresh->safe_psql('postgres', 'CREATE ROLE reader');
$fresh->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $fresh->connstr('postgres'), '-f', $dump ], 'restore into a new cluster');
fails_with('postgres', $question, qr/image of model "smollm2" is not on this server.*HINT.*slm_load_model\('smollm2', '\Q$path\E'\)/s,
	'an image that is missing', $fresh);
fails_with('postgres', "SELECT slm_load_model('smollm2', '/etc/hostname')", qr/was registered from another file/, 'another file under the name', $fresh);
is($fresh->safe_psql('postgres', 'SELECT state FROM slm.model_status'), 'image missing', 'the status says so too');
$fresh->safe_psql('postgres', "SELECT slm_load_model('smollm2', '$path')");
is($fresh->safe_psql('postgres', $question), $answer, 'loading the same file again makes it whole');
is($fresh->safe_psql('postgres', 'SELECT roles FROM slm.models'), '{reader}', 'with its grants');

# a damaged image is found out; loading the file again under another name repairs it
my ($image) = glob($fresh->data_dir . '/slm_models/*.img');
open(my $f, '+<', $image) or die;
binmode $f;
seek($f, 40, 0);
print $f "\xFF" x 64;
close $f;
fails_with('postgres', $question, qr/could not open the image of model "smollm2"/, 'a damaged header', $fresh);
is($fresh->safe_psql('postgres', 'SELECT state FROM slm.model_status'), 'image damaged', 'the status says so too');
my (undef, undef, $notice) = $fresh->psql('postgres', "SELECT slm_load_model('repaired', '$path')");
like($notice, qr/NOTICE:.*was damaged and is written again/, 'the next load of the file writes it again');
is($fresh->safe_psql('postgres', $question), $answer, 'which repairs both names');
$fresh->stop;

# crashes leave nothing that the next load does not clean up
$node->safe_psql('postgres', 'DROP DATABASE restored');
$node->safe_psql('postgres', "SELECT slm_load_model('smollm2', '$path'); SELECT slm_drop_model('smollm2')");
is(files('.'), 0, 'empty again');
my $killed = 0;
for my $try (1 .. 4)
{
	my $session = SlmTest::Session->new($node);
	$session->send("BEGIN; SELECT slm_load_model('smollm2', '$path'); SELECT pg_sleep(10)");
	sleep(0.06 + 0.2 * $try);
	$killed++ if kill('KILL', $session->pid);
	$session->quit;
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';
}
is($killed, 4, 'loads were killed');
cmp_ok(files('.'), '>', 0, 'which left files');
# names of databases that are no more, and a writer that is no more
my $key = ('ab' x 32) . '-l1';
append_to_file("$store/$key.$_", 'x') for qw(img tmp.999999 db4294967);
append_to_file("$store/loading.999999", 'x');
$node->safe_psql('postgres', "SELECT slm_load_model('smollm2', '$path')");
is(files('.'), 2, 'one image and its marker after the next load');
is($node->safe_psql('postgres', $question), $answer, 'and the same answer');

# a standby has the row and makes its own image
my $backup = 'backup';
$node->backup($backup);
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, $backup, has_streaming => 1);
system('rm', '-rf', $standby->data_dir . '/slm_models');
$standby->start;
$node->wait_for_catchup($standby);
fails_with('postgres', $question, qr/is not on this server/, 'a standby without the image', $standby);
fails_with('postgres', "SELECT slm_load_model('another', '$path')", qr/cannot execute slm_load_model\(\)/, 'a new model on a standby', $standby);
$standby->safe_psql('postgres', "SELECT slm_load_model('smollm2', '$path')");
is($standby->safe_psql('postgres', $question), $answer, 'a standby makes the image for itself and answers');
$standby->stop;

# progress of a load is visible to others
$node->safe_psql('postgres', "SELECT slm_drop_model('smollm2')");
my $loading = SlmTest::Session->new($node);
my $watching = SlmTest::Session->new($node);
my %seen;
$loading->send("SELECT name FROM slm_load_model('smollm2', '$path')");
my $until = time() + 60;
while (time() < $until)
{
	my $state = $watching->query("SELECT state, progress FROM slm.model_status WHERE pid = " . $loading->pid);
	$seen{$1} = 1 if $state =~ /^(hashing|importing|probing)\|[01]/;
	last if !$state && $watching->query('SELECT count(*) FROM slm.models') eq '1';
}
ok($seen{hashing} || $seen{importing}, 'the progress of a load is seen: ' . join(', ', sort keys %seen));
$loading->wait;
$_->quit for $loading, $watching;

$node->stop;
done_testing();
