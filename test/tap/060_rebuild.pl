# Images that version 0.1.0 wrote: their first use rebuilds them from themselves, with the same answers; kill -9, a cancel, a second session, a
# directory that cannot be written to, a damaged image, a standby.
use strict;
use warnings;
use File::Copy qw(copy);
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(usleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $path = model_path();
my $data = "$FindBin::RealBin/../data";
my $tool = "$FindBin::RealBin/../../build/tools/old_image";
plan(skip_all => 'build/tools/old_image is absent; test/run.sh tap builds it') unless -x $tool;
my $node = PostgreSQL::Test::Cluster->new('rebuild');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "restart_after_crash = on\nmax_prepared_transactions = 2\nslm.generate_model = 'smollm2'");
$node->start;
my $store = $node->data_dir . '/slm_models';
my %image; # by model
my $big = "SELECT slm_perplexity('The quick brown fox', 'smollm2') || slm_generate('Hello', max_tokens => 4)";

sub names { return map { s!.*/!!r } glob("$store/*"); }
sub temporaries { return grep { /^pgsql_tmp\.[0-9a-f]{16}-/ } names(); }

sub layout
{
	my ($model) = @_;
	open(my $f, '<:raw', $image{$model}) or die;
	read($f, my $head, 12) == 12 or die;
	return unpack('x8V', $head);
}

# Puts an image into the form that 0.1.0 wrote. Sessions that have it mapped keep what they have.
sub make_old
{
	my ($model) = @_;
	return if layout($model) == 1;
	system_or_bail($tool, $image{$model}, "$store/old");
	rename("$store/old", $image{$model}) or die;
	return;
}

# A session that stands still while it rebuilds the big model.
sub stop_in_rebuild
{
	for my $try (1 .. 20)
	{
		my $session = SlmTest::Session->new($node);
		$session->send($big);
		my $until = time() + 60;
		usleep(1000) until temporaries() || layout('smollm2') == 2 || time() > $until;
		kill('STOP', $session->pid);
		return $session if temporaries() && -e "$store/pgsql_tmp.loading." . $session->pid && layout('smollm2') == 1;
		kill('CONT', $session->pid);
		$session->wait;
		$session->quit;
		make_old('smollm2');
	}
	die 'the rebuilding was never seen at work';
}

# An image without what it says of where it comes from: the section of information, and the checksum over it.
sub bytes_but_info
{
	my $bytes = slurp_file($image{ $_[0] });
	my ($offset, $length) = unpack('x48 Q< Q<', $bytes);
	substr($bytes, $offset, $length) = '';
	substr($bytes, 104, 8) = '';
	return $bytes;
}

$node->safe_psql('postgres', qq{
	CREATE EXTENSION slm_pg;
	SELECT slm_load_model('plain', '$data/tiny.gguf');
	SELECT slm_load_model('half', '$data/tiny.gguf', '{"quantization": "F16", "chat_format": "chatml"}');
	SELECT slm_quantize_model('half', 'quantized', 'Q4_0');
	SELECT slm_load_adapter('lora', 'plain', '$data/tiny_lora.gguf');
	SELECT slm_load_model('smollm2', '$path')});
my @models = qw(plain half quantized smollm2);
for my $model (@models)
{
	my $key = $node->safe_psql('postgres', "SELECT image FROM slm.model_registry WHERE name = '$model'");
	my $digest = $node->safe_psql('postgres', "SELECT left(encode(sha256('$key'::bytea), 'hex'), 24)");
	$image{$model} = "$store/" . substr($key, 0, 16) . "-$digest.img";
}
my $small = 'SELECT ' . join(', ', "slm_generate('abc', 'plain', max_tokens => 6)", map { "slm_perplexity('abc abc', '$_')" } qw(plain half quantized plain+lora));
my $answers = $node->safe_psql('postgres', $small);
my $big_answer = $node->safe_psql('postgres', $big);
my %bytes = map { $_ => bytes_but_info($_) } @models;
is(layout($_), 2, "$_ is written in the present layout") for @models;

# ---- the first use
make_old($_) for @models;
copy("$data/tiny-0.1.0.img", $image{plain}) or die; # which 0.1.0 has written itself, with its own form of the tokenizer
is(layout($_), 1, "$_ is as 0.1.0 wrote it") for @models;
is($node->safe_psql('postgres', 'SELECT DISTINCT state FROM slm.model_status'), 'image of an earlier version', 'slm.model_status tells');
is(layout('plain'), 1, 'and does not rebuild');
is($node->safe_psql('postgres', "BEGIN READ ONLY; $small; COMMIT"), $answers, 'the same answers, in a transaction that is read only');
is(layout($_), 2, "$_ has the present layout") for qw(plain half quantized);
ok(bytes_but_info($_) eq $bytes{$_}, "$_ is the image that an import writes") for qw(plain half quantized);
make_old('plain');
is($node->safe_psql('postgres', "SELECT slm_prewarm('plain')"), -s $image{plain}, 'slm_prewarm rebuilds');
is(layout('plain'), 2, 'too');
make_old('plain');
is($node->safe_psql('postgres', "BEGIN; $small; PREPARE TRANSACTION 'x'; ROLLBACK PREPARED 'x'"), $answers, 'a transaction that rebuilds can be prepared');
is(layout('plain'), 2, 'and has rebuilt');
make_old('plain');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', "CREATE EXTENSION slm_pg; SELECT slm_load_model('mine', '$data/tiny.gguf')");
ok(bytes_but_info('plain') eq $bytes{plain}, 'a load of the same file in another database rebuilds the image');
make_old('plain');
like(($node->psql('postgres', "SELECT slm_load_model('plain', '$data/tiny.gguf')"))[2], qr/already exists/, 'a load under the same name is refused as ever');

# ---- seen at work, and two sessions at once
my $first = stop_in_rebuild();
my $second = SlmTest::Session->new($node);
is($node->safe_psql('postgres', q{SELECT name, state, progress BETWEEN 0 AND 1, pid FROM slm.model_status WHERE pid IS NOT NULL}),
	'smollm2|rebuilding|t|' . $first->pid, 'slm.model_status shows it at work');
$second->send($big);
$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = $$userlock$$ AND pid = ' . $second->pid) or die;
is(scalar(temporaries()), 1, 'a second session waits');
kill('CONT', $first->pid);
is($first->wait, $big_answer, 'the first answers');
is($second->wait, $big_answer, 'and the second, alike');
ok(bytes_but_info('smollm2') eq $bytes{smollm2}, 'with the image that an import writes');
is(scalar(grep { /pgsql_tmp/ } names()), 0, 'and nothing is left');
$_->quit for $first, $second;

# ---- cancel
make_old('smollm2');
$first = stop_in_rebuild();
kill('INT', $first->pid);
kill('CONT', $first->pid);
my (undef, $said) = $first->wait;
like($said, qr/canceling statement/, 'a cancel ends it');
is(layout('smollm2'), 1, 'the old image is still there');
is(scalar(grep { /pgsql_tmp/ } names()), 0, 'and nothing else');
is($first->query($big), $big_answer, 'the session that was cancelled may ask again');
$first->quit;

# ---- kill -9
make_old('smollm2');
$first = stop_in_rebuild();
kill('KILL', $first->pid);
usleep(100_000);
$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';
is(layout('smollm2'), 1, 'after a kill -9 the old image is still there');
is(scalar(temporaries()), 1, 'and what was half written');
is($node->safe_psql('postgres', q{SELECT state FROM slm.model_status WHERE name = 'smollm2'}), 'image of an earlier version', 'nobody is at work');
is($node->safe_psql('postgres', $big), $big_answer, 'the next use begins again');
is(layout('smollm2'), 2, 'and gets to the end');
is(scalar(temporaries()), 0, 'what was half written is gone');
eval { $first->quit };

# ---- a directory that cannot be written to
make_old('half');
chmod(0500, $store) or die;
my ($rc, $out, $err) = $node->psql('postgres', "SELECT slm_perplexity('abc abc', 'half')");
isnt($rc, 0, 'a directory without the right to write');
like($err, qr/ERROR: .*could not rebuild the image of model "half", which an earlier version has written\n.*Permission denied\n?.*HINT: .*slm\.model_directory \("slm_models"\), and needs \d+ MB/s, 'says what to do');
unlike($err, qr/\Q@{[ $node->data_dir ]}\E/, 'and not where the data directory is');
chmod(0700, $store) or die;
like($node->safe_psql('postgres', "SELECT slm_perplexity('abc abc', 'half')"), qr/^\d/, 'and then it works');

# ---- damage
make_old('half');
open(my $f, '+<:raw', $image{half}) or die;
seek($f, -5000, 2);
print $f "\x55" x 64;
close $f;
($rc, $out, $err) = $node->psql('postgres', "SELECT slm_perplexity('abc abc', 'half')");
like($err, qr/ERROR: .*damaged: the checksum of its weights is wrong\n.*HINT: .*Load the model again/s, 'a damaged image is not rebuilt');
is(layout('half'), 1, 'but left');
like(($node->psql('postgres', qq{SELECT name FROM slm_load_model('half', '$data/tiny.gguf', '{"quantization": "F16", "chat_format": "chatml"}')}))[2],
	qr/NOTICE: .*is written again/, 'and made anew by the same load');
ok(bytes_but_info('half') eq $bytes{half}, 'as it was');

# ---- standby
make_old($_) for @models;
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby_rebuild');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $small), $answers, 'a standby rebuilds its own images');
is(layout('plain'), 1, 'those of the primary are its own');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM slm.model_status WHERE state = $$ready$$'), '3', 'ready there');
is($node->safe_psql('postgres', $small), $answers, 'and the primary does so for itself');
$standby->stop;
$node->stop;
done_testing();
