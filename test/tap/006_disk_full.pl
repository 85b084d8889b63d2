# A disk that is full while a model is imported: one ERROR, no row, no file, and the server goes on.  Needs a small file system: SLM_SMALL_DISK
# names one that is writable and holds less than 60 MB, or we mount a tmpfs in a user namespace of our own, where that is allowed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $path = model_path();
my $node = PostgreSQL::Test::Cluster->new('full');
$node->init;
my $small = $node->basedir . '/small';
mkdir $small;
my $data = $node->data_dir;
my $options = "-c slm.model_directory=$small";
my $answer_sql = "SELECT slm_generate('What is the capital of France?', model => 'smollm2', max_tokens => 8)";

# A limit of the file size is the disk that is full without a file system of its own: write() fails with EFBIG when SIGXFSZ is ignored, which
# PostgreSQL does.
my $limited = "ulimit -f 40000; exec pg_ctl -w -D '$data' -l '" . $node->logfile . "' start";
system('sh', '-c', $limited) == 0 or plan(skip_all => 'the size of files cannot be limited here');
$node->_update_pid(1);

$node->safe_psql('postgres', 'CREATE EXTENSION slm_pg');
my $session = SlmTest::Session->new($node);
my (undef, $error) = $session->query("SELECT slm_load_model('smollm2', '$path')");
like($error, qr/ERROR:.*could not load model "smollm2".*HINT:.*slm\.model_directory/s, 'a clear ERROR with a HINT');
is($session->query('SELECT count(*) FROM slm.models'), '0', 'no row');
is(scalar(glob("$data/slm_models/*") // ''), '', 'no file');
is($session->query('SELECT slm_version()'), $session->query('SELECT extversion FROM pg_extension WHERE extname = $$slm_pg$$'), 'the session goes on');
$session->quit;
$node->stop;

# a real small disk, where we may mount one
SKIP:
{
	my $disk = $ENV{SLM_SMALL_DISK};
	my $inside = "mount -t tmpfs -o size=60m tmpfs '$small' && exec pg_ctl -w -D '$data' -l '" . $node->logfile . "' -o '$options' start";
	if ($disk)
	{
		$inside = "exec pg_ctl -w -D '$data' -l '" . $node->logfile . "' -o '-c slm.model_directory=$disk' start";
		system('sh', '-c', $inside) == 0 or skip('the server did not start', 4);
	}
	else
	{
		# the same uid inside, so that the server is not root there
		my $uid = $>;
		system("unshare -U -m true 2>/dev/null") == 0 or skip('no user namespaces here, and SLM_SMALL_DISK is not set', 4);
		system('unshare', '-r', '-m', 'sh', '-c', "mount -t tmpfs -o size=60m tmpfs '$small'") == 0
		  or skip('a tmpfs cannot be mounted here, and SLM_SMALL_DISK is not set', 4);
		system('unshare', '-r', '-m', 'sh', '-c', "mount -t tmpfs -o size=60m tmpfs '$small' && chmod 700 '$small' && exec unshare -U --map-user=$uid sh -c \"pg_ctl -w -D '$data' -l '"
			  . $node->logfile . "' -o '$options' start\"") == 0
		  or skip('the server did not start in a namespace', 4);
	}
	$node->_update_pid(1);
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT slm_load_model('smollm2', '$path')");
	isnt($rc, 0, 'a full file system: refused');
	like($err, qr/ERROR:.*(No space left|space).*HINT:.*slm\.model_directory/s, 'a clear ERROR with a HINT');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM slm.models'), '0', 'no row');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_ls_dir(current_setting('slm.model_directory'))"), '0', 'no file');
	$node->stop;
}

# with room again the same load works
$node->start;
$node->safe_psql('postgres', "SELECT slm_load_model('smollm2', '$path')");
like($node->safe_psql('postgres', $answer_sql), qr/\w/, 'with room again it loads and answers');
$node->stop;
done_testing();
