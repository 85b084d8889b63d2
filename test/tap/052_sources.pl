# The sources of models: what is imported is what was hashed, whoever writes to the files meanwhile; what is no model is refused at once, however
# large it is; what the system refuses has its own SQLSTATE.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Copy;
use File::Path;
use Test::More;
use Time::HiRes qw(usleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $genuine = model_path();
my $encoder = $genuine =~ s![^/]*$!all-MiniLM-L6-v2!r;
my $data = "$FindBin::RealBin/../data";
my $node = slm_cluster('sources', empty => 1);
my $store = $node->data_dir . '/slm_models';
my $here = $node->basedir;
my $session = SlmTest::Session->new($node);

# SQLSTATE, message and hint of a statement, and the seconds that it took.
sub refused
{
	my ($sql) = @_;
	my $begin = time();
	my (undef, $error) = $session->query("\\set VERBOSITY verbose\n$sql");
	my ($state, $message) = $error =~ /ERROR:  (\w{5}): (.*)/;
	my ($hint) = $error =~ /HINT:  (.*)/;
	return ($state // "none: $error", $message // '', $hint // '', time() - $begin);
}

sub is_refused
{
	my ($sql, $state, $pattern, $name) = @_;
	my @said = refused($sql);
	is($said[0], $state, "$name: SQLSTATE");
	like("$said[1]\nHINT: $said[2]", $pattern, "$name: says why");
	return $said[3];
}

sub load { my ($path, $name) = @_; return "SELECT name FROM slm_load_model('" . ($name || 'm') . "', '$path')"; }

# ---- what is imported is what was hashed

# Loads `path` and stops the backend when its image is being written; false when it was too late.
sub stopped_load
{
	my ($path) = @_;
	$session->send(load($path));
	my $until = time() + 60;
	my @temporary;
	usleep(500) until (@temporary = grep { !/loading/ } glob("$store/pgsql_tmp.*")) || time() > $until;
	kill('STOP', $session->pid);
	usleep(20_000);
	return 1 if @temporary && -e $temporary[0] && -s $temporary[0] < 50_000_000;
	kill('CONT', $session->pid);
	$session->wait;
	$session->query("SELECT slm_drop_model('m')");
	return 0;
}

# The load while somebody changes the source; its error.
sub changed_load
{
	my ($path, $change) = @_;
	for my $try (1 .. 30)
	{
		next unless stopped_load($path);
		$change->();
		kill('CONT', $session->pid);
		my (undef, $error) = $session->wait;
		return $error;
	}
	die 'the load was never seen at work';
}

sub write_at
{
	my ($path, $at, $bytes) = @_;
	my @times = (stat($path))[8, 9];
	open(my $f, '+<', $path) or die;
	binmode $f;
	sysseek($f, $at < 0 ? (-s $path) + $at : $at, 0);
	syswrite($f, $bytes);
	close $f;
	utime(@times, $path);
	return;
}

my $question = "SELECT slm_generate('What is the capital of France?', max_tokens => 8, model => 'm')";
$session->query(load($genuine));
my $answer = $session->query($question);
$session->query("SELECT slm_drop_model('m')");
like($answer, qr/\w/, 'the genuine file answers');

my $mine = "$here/mine.gguf";
copy($genuine, $mine) or die;
my $error = changed_load($mine, sub { write_at($mine, -20_000_000, "\x11" x 19_000_000); });
like($error, qr/ERROR:.*changed while it was loaded.*HINT:/s, 'weights that are overwritten in place, with the times set back');
copy($genuine, $mine) or die;
$error = changed_load($mine, sub { copy($genuine, "$here/other.gguf"); write_at("$here/other.gguf", -20_000_000, "\x11" x 19_000_000); open(my $f, '<', "$here/other.gguf"); binmode $f;
	open(my $g, '+<', $mine); binmode $g; print $g join("", readline($f)); close $g; });
like($error, qr/changed while it was loaded/, 'the whole file overwritten by another one');
copy($genuine, $mine) or die;
$error = changed_load($mine, sub { truncate($mine, 60_000_000); });
like($error, qr/ERROR:.*(changed|truncated)/, 'a file that becomes shorter');
is(scalar(grep { !/\/tuning$/ } glob("$store/*")), 0, 'nothing is left of them');
$session->query(load($genuine));
is($session->query($question), $answer, 'the genuine file is what it was');
$session->query("SELECT slm_drop_model('m')");

SKIP:
{
	skip('the encoder is absent; models/fetch --default brings it', 4) unless -r "$encoder/model.safetensors";
	my $folder = "$here/encoder";
	my $fresh = sub { rmtree($folder); mkdir $folder; copy($_, $folder) or die for grep { -f } glob("$encoder/*"); mkdir "$folder/1_Pooling"; copy("$encoder/1_Pooling/config.json", "$folder/1_Pooling"); };
	my $embed = "SELECT (slm_embed('a', 'm'))[1:3]";
	$fresh->();
	$session->query(load($folder));
	my $vector = $session->query($embed);
	$session->query("SELECT slm_drop_model('m')");
	# an encoder reads its weights twice: for the scales of its activations, then for the image
	$error = changed_load($folder, sub { write_at("$folder/model.safetensors", -30_000_000, "\0" x 29_000_000); });
	like($error, qr/"model\.safetensors" changed while it was loaded/, 'a directory whose weights change');
	$fresh->();
	# between the digest and the import: everything is read in the second
	$session->send(load($folder));
	my $until = time() + 60;
	usleep(200) until glob("$store/pgsql_tmp.loading.*") || time() > $until;
	kill('STOP', $session->pid);
	unlink("$folder/modules.json");
	kill('CONT', $session->pid);
	(undef, $error) = $session->wait;
	my $state = $session->query("SELECT count(*) FROM slm.models");
	ok($error =~ /changed while it was loaded|could not/ || $state eq '1', 'a file that vanishes is noticed, or it was read before');
	$session->query("SELECT slm_drop_model('m')") if $state eq '1';
	is(scalar(grep { !/\/tuning$/ } glob("$store/*")), 0, 'nothing is left of them');
	$fresh->();
	$session->query(load($folder));
	is($session->query($embed), $vector, 'the genuine directory is what it was');
	$session->query("SELECT slm_drop_model('m')");
}

# ---- the first look
sub sparse { my ($path, $bytes) = @_; append_to_file($path, ''); return truncate($path, $bytes); }

SKIP:
{
	skip('the file system has no sparse files of a terabyte', 16) unless sparse("$here/empty.gguf", 1 << 40);
	my %look = (empty => "$here/empty.gguf", tail => "$here/tail.gguf", 'magic alone' => "$here/magic.gguf");
	copy("$data/tiny.gguf", $look{tail});
	sparse($look{tail}, 1 << 40);
	append_to_file($look{'magic alone'}, 'GGUF' . pack('VQ<Q<', 3, 1, 0));
	sparse($look{'magic alone'}, 1 << 40);
	# directories: a broken configuration beside weights without end, and a good model beside other files without end
	mkdir "$here/$_" for 'broken', 'junk';
	append_to_file("$here/broken/config.json", '{"architectures": [');
	sparse("$here/broken/model.safetensors", 1 << 40);
	$look{'a broken config.json'} = "$here/broken";
	for my $name (sort keys %look)
	{
		my $seconds = is_refused(load($look{$name}), '22P03', qr/could not load model "m"/, "a terabyte, $name");
		cmp_ok($seconds, '<', 10, 'at once');
	}
	copy("$data/tiny_lora.gguf", "$here/lora.gguf");
	sparse("$here/lora.gguf", 1 << 40);
	$session->query(load("$data/tiny.gguf", 'tiny'));
	my $seconds = is_refused("SELECT slm_load_adapter('a', 'tiny', '$here/lora.gguf')", '22P03', qr/belong to no tensor/, 'an adapter with a terabyte behind it');
	cmp_ok($seconds, '<', 10, 'at once');
	SKIP:
	{
		skip('the encoder is absent', 1) unless -r "$encoder/model.safetensors";
		copy($_, "$here/junk") for grep { -f } glob("$encoder/*");
		mkdir "$here/junk/1_Pooling";
		copy("$encoder/1_Pooling/config.json", "$here/junk/1_Pooling");
		sparse("$here/junk/junk.bin", 1 << 40);
		$seconds = is_refused(load("$here/junk"), '54000', qr/bytes beside the \d+ of its weights/, 'a terabyte beside a model');
		cmp_ok($seconds, '<', 10, 'at once');
	}
	unlink(glob("$here/*.gguf"), "$here/junk/junk.bin", "$here/broken/model.safetensors");
}

# ---- what the system refuses
my $long = 'x' x 300;
is_refused(load("/tmp/$long"), '58P03', qr/could not open model ".*File name too long/, 'a name that is too long');
is_refused(load('/' . ('d/' x 2500) . 'x'), '58P03', qr/File name too long/, 'a path that is too long');
is_refused("SELECT slm_load_adapter('a', 'tiny', '/tmp/$long')", '58P03', qr/File name too long/, 'the same for an adapter');
symlink("$here/loop", "$here/loop");
is_refused(load("$here/loop"), '42809', qr/symbolic links/, 'a link to itself');
is_refused(load('/etc/passwd/x'), '42809', qr/Not a directory/, 'a file in place of a directory');
mkdir "$here/closed";
copy("$data/tiny.gguf", "$here/closed/tiny.gguf");
chmod(0, "$here/closed/tiny.gguf");
is_refused(load("$here/closed/tiny.gguf"), '42501', qr/Permission denied\nHINT: .*copy it/, 'a file that must not be read');
chmod(0, "$here/closed");
is_refused(load("$here/closed/tiny.gguf"), '42501', qr/Permission denied\nHINT: .*every directory above/, 'a directory that must not be entered');
is_refused(load("$here/closed"), '42501', qr/Permission denied\nHINT: .*copy it/, 'a directory of a model that must not be read');
chmod(0700, "$here/closed");
append_to_file("$here/closed/config.json", '{}');
chmod(0100, "$here/closed");
is_refused(load("$here/closed"), '42501', qr/Permission denied/, 'nor listed');
chmod(0700, "$here/closed");
is_refused(load('/no/such/file.gguf'), '58P01', qr/No such file/, 'a file that is not there');
is_refused(load('SomeOne/Some-Model-135M'), '58P01', qr!could not open model "SomeOne/Some-Model-135M": .*\nHINT: The server downloads nothing.*models/fetch!, 'the name of a model on a hub');
is_refused(load('SomeOne/Some-Model-135M-GGUF:Q4_K_M'), '58P01', qr!models/fetch!, 'the same with a tag');
is_refused(load("$_/x/y.gguf"), '22023', qr!"$_/x/y.gguf" is an address.*models/fetch!s, "an address: $_") for 'https://example.org', 'hf://a', 's3://b';
is_refused(load('file:///tmp/x.gguf'), '22023', qr!Give the path alone: '/tmp/x.gguf'!, 'an address of a file');
is_refused(load('~/x.gguf'), '22023', qr!"~/x.gguf" is not a path!, 'a home directory');
is_refused("SELECT slm_load_adapter('a', 'tiny', 'https://example.org/x')", '22023', qr!is an address!, 'an address for an adapter');

# an image that may not be mapped for want of memory
SKIP:
{
	$session->query(load($genuine, 'big'));
	my $poor = SlmTest::Session->new($node);
	my $size = process_kb($poor->pid, 'status', 'VmSize');
	skip('limits cannot be set here', 2) if system("prlimit --pid " . $poor->pid . " --as=" . 1024 * ($size + 20_000) . " 2>/dev/null") != 0;
	my (undef, $said) = $poor->query("\\set VERBOSITY verbose\nSELECT slm_generate('a', model => 'big')");
	like($said, qr/ERROR:  53200: .*Cannot allocate memory.*HINT:/s, 'an image that finds no room');
	unlike($said, qr/\Q${\$node->data_dir}\E/, 'the data directory is not told');
	$poor->quit;
}
$session->quit;
$node->stop;
done_testing();
