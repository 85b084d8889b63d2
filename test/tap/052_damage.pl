# Images that are cut short, or vanish from the disk page by page, while sessions use them: an ERROR for whoever needs what is missing, and nobody else
# notices.  A SIGBUS would end the server.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Copy;
use Test::More;
use Time::HiRes qw(usleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $path = model_path();
my $encoder = $path =~ s![^/]*$!all-MiniLM-L6-v2!r;
my $data = "$FindBin::RealBin/../data";
my $node = slm_cluster('damage', conf => "slm.max_threads = 4\nslm.threads = 2\n");
my $store = $node->data_dir . '/slm_models';

sub image_of
{
	my ($name) = @_;
	my $stem = $node->safe_psql('postgres', "SELECT substr(image, 1, 16) || '-' || substr(encode(sha256(convert_to(image, 'UTF8')), 'hex'), 1, 24) FROM slm.model_registry WHERE name = '$name'");
	return "$store/$stem.img";
}

# The image cut short in place, for those who have it mapped; and whole again.
sub cut { my ($image, $bytes) = @_; copy($image, "$image.whole") or die; truncate($image, $bytes) or die; return; }
sub heal { my ($image) = @_; rename("$image.whole", $image) or die; return; }

my $image = image_of('smollm2');
my $size = -s $image;
my %calls = (
	generate => "SELECT slm_generate('What is the capital of France?', max_tokens => 12)",
	labels => "SELECT slm_classify('I was charged twice', ARRAY['billing', 'delivery'])",
	logprobs => "SELECT slm_perplexity('The quick brown fox')",
	tokenize => "SELECT slm_count_tokens('The quick brown fox', 'smollm2')",
	detokenize => "SELECT slm_detokenize(ARRAY[100, 2000, 30000], 'smollm2')",
	chunk => "SELECT count(*) FROM slm_chunk('One. Two. Three. Four.', 4, 0, 'smollm2')",
	stream => "SELECT string_agg(p, '') FROM (SELECT slm_generate_stream('Count to three', max_tokens => 12) p) s",
	batch => "SELECT count(DISTINCT slm_generate('Say ' || i, max_tokens => 4)) FROM generate_series(1, 8) i",
	quantize => "SELECT slm_quantize_model('smollm2', 'other', 'Q8_0')",
	prewarm => "SELECT slm_prewarm('smollm2') > 0");
my $error = qr/ERROR:.*(damaged|cannot be read)/;
my $steady = SlmTest::Session->new($node);

for my $left (0, 5000, 200_000, 3_000_000, 20_000_000, $size - 100_000)
{
	my (%session, %before);
	for my $call (keys %calls)
	{
		$session{$call} = SlmTest::Session->new($node);
		$before{$call} = $session{$call}->query($calls{$call}) if $call ne 'quantize';
		$session{$call}->query($calls{generate}) if $call eq 'quantize';
	}
	cut($image, $left);
	my ($refused, $right, @odd) = (0, 0);
	for my $call (sort keys %calls)
	{
		my ($out, $err) = $session{$call}->query($calls{$call});
		if ($err =~ $error && $out eq '') { $refused++; }
		elsif ($err eq '' && $call ne 'quantize' && $out eq $before{$call}) { $right++; }
		else { push(@odd, "$call: $out $err"); }
		my ($again, $what) = $session{$call}->query($calls{generate});
		push(@odd, "$call, then: $again $what") if $what !~ $error;
	}
	is("@odd", '', "$left bytes left of $size: each call fails, or needed nothing of what is missing ($refused, $right)");
	cmp_ok($refused, '>=', 5, 'most of them fail');
	is($steady->query("SELECT count(*) FROM slm.model_status WHERE name = 'smollm2' AND state = 'image damaged'"), '1', 'the status says so');
	heal($image);
	is($session{generate}->query($calls{generate}), $before{generate}, 'whole again: the same session answers as before');
	$_->quit for values %session;
}

# in the middle of a statement, of several sessions at once
my @running = map { SlmTest::Session->new($node) } 1 .. 3;
$_->query($calls{generate}) for @running;
$_->send("SELECT count(slm_generate('Tell a long story about ' || i, max_tokens => 200)) FROM generate_series(1, 200) i") for @running;
usleep(1_500_000);
cut($image, 1_000_000);
for my $session (@running)
{
	my (undef, $said) = $session->wait;
	like($said, $error, 'a statement that was running: an ERROR');
}
# loading the same file again, under the same name, repairs it for all
my ($rc, $out, $said) = $node->psql('postgres', "SELECT name FROM slm_load_model('smollm2', '$path')");
is($out, 'smollm2', 'slm_load_model with the same name and file writes the image anew') or diag($said);
unlink("$image.whole");
is(-s $image, $size, 'whole');
like($_->query($calls{generate}), qr/\w/, 'and the sessions answer') for @running;
$_->quit for @running;

# a weight that has rotted: nobody notices but slm_prewarm, and those who would pass it on
open(my $f, '+<', $image) or die;
binmode $f;
seek($f, $size - 50_000, 0);
print $f "\x55" x 1000;
close $f;
like(($steady->query($calls{prewarm}))[1], qr/ERROR:.*checksum/, 'slm_prewarm finds a weight that has changed');
like(($steady->query($calls{quantize}))[1], qr/ERROR:.*checksum/, 'which does not get into another model');
$node->safe_psql('postgres', 'CREATE DATABASE next');
(undef, undef, $said) = $node->psql('next', "CREATE EXTENSION slm_pg; SELECT slm_load_model('again', '$path')");
like($said, qr/NOTICE:.*was damaged and is written again/, 'nor into another database: the next load of the file writes the image anew');
is($steady->query('SELECT slm_prewarm($$smollm2$$)'), $size, 'for all');

# adapters and encoders
$node->safe_psql('postgres', "SELECT slm_load_model('tiny', '$data/tiny.gguf'); SELECT slm_load_adapter('lora', 'tiny', '$data/tiny_lora.gguf')");
my $session = SlmTest::Session->new($node);
my $adapted = $session->query("SELECT slm_perplexity('abc abc', 'tiny+lora')");
my $plain = $session->query("SELECT slm_perplexity('abc abc', 'tiny')");
my $lora = image_of('lora');
for my $left (0, 5000, int((-s $lora) / 2))
{
	cut($lora, $left);
	(undef, $said) = $session->query("SELECT slm_perplexity('abc abc', 'tiny+lora')");
	# what lies on a page that is left may be all that is needed
	ok($said =~ $error, "an adapter, $left bytes left") or diag($said);
	is($session->query("SELECT slm_perplexity('abc abc', 'tiny')"), $plain, 'its model goes on');
	heal($lora);
	is($session->query("SELECT slm_perplexity('abc abc', 'tiny+lora')"), $adapted, 'whole again');
}
truncate($lora, 5000);
is($node->safe_psql('postgres', "SELECT name FROM slm_load_adapter('lora', 'tiny', '$data/tiny_lora.gguf')"), 'lora', 'slm_load_adapter with the same file writes it anew');
is($session->query("SELECT slm_perplexity('abc abc', 'tiny+lora')"), $adapted, 'whole again');
like(($node->psql('postgres', "SELECT slm_load_adapter('lora', 'tiny', '$data/tiny_lora.gguf')"))[2], qr/already exists/, 'and not when it is whole');
SKIP:
{
	skip('the encoder is absent; models/fetch --default brings it', 3) unless -r "$encoder/model.safetensors";
	$node->safe_psql('postgres', "SELECT slm_load_model('minilm', '$encoder')");
	my $embed = "SELECT (slm_embed('The quick brown fox', 'minilm'))[1:2]";
	my $vector = $session->query($embed);
	my $encoded = image_of('minilm');
	cut($encoded, 1_000_000);
	(undef, $said) = $session->query($embed);
	like($said, $error, 'an encoder');
	heal($encoded);
	is($session->query($embed), $vector, 'whole again');
}

is($steady->query('SELECT 1'), '1', 'sessions that were there from the beginning are still there');
unlike(slurp_file($node->logfile), qr/terminated by signal|server process .* exited/, 'no process was lost');

# a signal that somebody sends, and not a missing page, ends the process as ever
kill('BUS', $session->pid);
$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';
like(slurp_file($node->logfile), qr/terminated by signal 7/, 'a signal that was sent');
$_->quit for $steady, $session;
$node->stop;
done_testing();
