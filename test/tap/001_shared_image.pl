# The weights are in memory once for all sessions, in a new session at once, after a crash and after a restart still there.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use SlmTest;

my $sessions = 20;
my $node = slm_cluster('image');
my $question = "SELECT slm_generate('What is gravity?', max_tokens => 12)";
my $image_kb = $node->safe_psql('postgres', "SELECT image_bytes / 1024 FROM slm.models WHERE name = 'smollm2'");
cmp_ok($image_kb, '>', 50_000, 'the image holds the weights');

my $answer = $node->safe_psql('postgres', $question);
like($answer, qr/gravity/i, 'the model answers');

my @open = map { SlmTest::Session->new($node) } 1 .. $sessions;
is_deeply([ map { scalar $_->query($question) } @open ], [ ($answer) x $sessions ], "$sessions sessions give one answer");

my $sum = 0;
$sum += process_kb($_->pid, 'smaps_rollup', 'Pss') for @open;
diag(sprintf('PSS of %d sessions: %.1f MiB, image %.1f MiB', $sessions, $sum / 1024, $image_kb / 1024));
cmp_ok($sum, '<=', $image_kb + $sessions * 24 * 1024, 'they share one copy of the weights and need at most 24 MiB each');

# kill -9 of a backend at work restarts the server's processes; the image needs no repair
$open[0]->send("SELECT slm_generate('Write a very long story about the sea.', max_tokens => 1500)");
select(undef, undef, undef, 0.3);
kill 'KILL', $open[0]->pid;
$_->quit for @open;
$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';
is($node->safe_psql('postgres', $question), $answer, 'the same answer after kill -9 of a backend');

$node->restart;
is($node->safe_psql('postgres', $question), $answer, 'the same answer after a restart');

# a load that is killed leaves nothing that counts, and the next one works
my $path = model_path();
$node->safe_psql('postgres', "SELECT slm_drop_model('smollm2')");
my $loading = SlmTest::Session->new($node);
$loading->send("SELECT slm_load_model('smollm2', '$path')");
select(undef, undef, undef, 0.1);
kill 'KILL', $loading->pid;
$loading->quit;
$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';
is($node->safe_psql('postgres', 'SELECT count(*) FROM slm.models'), '0', 'no catalog row of a load that was killed');
load_model($node);
is($node->safe_psql('postgres', $question), $answer, 'the model can be loaded again and gives the same answer');

my $data = $node->data_dir;
my @images = grep { -f } glob("$data/slm_models/* $data/slm_models/.[!.]*");
my $in_use = 0;
$in_use += -s $_ for @images;
cmp_ok($in_use, '<', 2 * 1024 * $image_kb, 'the killed load left no copy on the disk');
$node->safe_psql('postgres', "SELECT slm_drop_model('smollm2')");
@images = grep { -s $_ > 1_000_000 } glob("$data/slm_models/*");
is(scalar(@images), 0, 'dropping the model frees the disk');

$node->stop;
done_testing();
