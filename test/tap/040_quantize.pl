# Making a model from a loaded one while others watch: its progress is visible, its memory bounded, a cancel leaves nothing behind; and a
# model that is dropped meanwhile waits.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(time usleep);
use SlmTest;

my $node = slm_cluster('quantize');
my $maker = SlmTest::Session->new($node);
my $watcher = SlmTest::Session->new($node);
my $count_files = "SELECT count(*) FROM pg_ls_dir('slm_models')";

# what the engine keeps in memory of its own, beside mapped files
my ($peak, $seen, $last, $looks) = (0, 0, 0, 0);
my $before = process_kb($maker->pid, 'status', 'RssAnon');
$maker->send("SELECT target_bytes > source_bytes FROM slm_quantize_model('smollm2', 'f16', 'F16')");
my $begin = time();
while (time() - $begin < 120)
{
	my $now = process_kb($maker->pid, 'status', 'RssAnon');
	# an interrupt, and no reason to begin anew
	$watcher->query('SELECT pg_log_backend_memory_contexts(' . $maker->pid . ')') if $looks++ % 50 == 0;
	$peak = $now if $now > $peak;
	my ($state, $progress) = split(/\|/, $watcher->query("SELECT state, progress FROM slm.model_status WHERE name = 'f16'") || '');
	last if defined $state && $state eq 'ready';
	next unless defined $state && $state eq 'quantizing' && $progress > 0;
	cmp_ok($progress, '<=', 1, 'progress is a share') unless $seen++;
	fail('progress goes back') if $progress < $last;
	$last = $progress;
}
is($maker->wait, 't', 'a model was made');
diag(sprintf('private memory: %d KiB before, %d KiB at most', $before, $peak));
cmp_ok($seen, '>', 0, 'another session saw the progress');
cmp_ok($peak - $before, '<=', 128 * 1024, 'memory is bounded');
is($watcher->query("SELECT source FROM slm.models WHERE name = 'f16'"), "slm_quantize_model('smollm2', 'f16', 'F16')", 'its source is the call');

# cancelled in the middle
my $files = $watcher->query($count_files);
$maker->send("SELECT slm_quantize_model('f16', 'q4', 'Q4_0')");
$begin = time();
usleep(20_000) until time() - $begin > 60 || ($watcher->query("SELECT progress FROM slm.model_status WHERE state = 'quantizing'") || 0) > 0.1;
my $since = time();
$watcher->query('SELECT pg_cancel_backend(' . $maker->pid . ')');
cmp_ok($maker->seconds_until_error($since), '<', 1, 'a cancel is answered');
is($watcher->query("SELECT count(*) FROM slm.models WHERE name = 'q4'"), '0', 'no row is left');
is($watcher->query($count_files), $files, 'no file is left');

# dropping the source waits for the one who reads it
$maker->query('BEGIN');
$maker->send("SELECT name FROM slm_quantize_model('smollm2', 'again', 'Q8_0')");
$begin = time();
usleep(20_000) until time() - $begin > 60 || ($watcher->query("SELECT progress FROM slm.model_status WHERE state = 'quantizing'") || 0) > 0;
$watcher->send("SELECT slm_drop_model('smollm2')");
is($maker->wait, 'again', 'the model was made beside a drop of its source');
$maker->query('COMMIT');
$watcher->wait;
is($watcher->query('SELECT string_agg(name, $$ $$ ORDER BY name) FROM slm.models'), 'again f16', 'then the source was dropped');
like($watcher->query("SELECT slm_generate('Hello', model => 'again', max_tokens => 2)"), qr/\w/, 'the new model does not need it');

$maker->quit;
$watcher->quit;
$node->stop;
done_testing();
