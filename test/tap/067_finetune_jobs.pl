# Fine-tuning in the background: kill -9 of the worker at any moment, of the server, pause, drop; the result is that of an undisturbed run, bit
# for bit. New rows begin another training. SLM_TEST_LONG=1: twenty kills.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $tiny = "$FindBin::RealBin/../data/tiny.gguf";
my $node = PostgreSQL::Test::Cluster->new('finetune_jobs');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'\nrestart_after_crash = on\nmax_worker_processes = 20\nslm.threads = 1\nslm.job_workers = 2\n");
$node->start;
$node->safe_psql('postgres', <<"SQL");
CREATE EXTENSION slm_pg;
SELECT slm_load_model('small', '$tiny');
CREATE TABLE faq AS SELECT 'ab ' || i AS q, 'cd ' || chr(97 + i % 3) AS a FROM generate_series(1, 60) i;
SQL
my $query = 'SELECT q, a FROM faq';
# so many epochs that there is time to kill, on whatever machine
my $begun = time;
$node->safe_psql('postgres', "SELECT slm_finetune('tried', 'small', '$query', '{\"epochs\": 40, \"step_tokens\": 100}'); SELECT slm_drop_adapter('tried')");
my $epochs = int(40 * (long_run() ? 12 : 5) / (time - $begun));
$epochs = $epochs < 40 ? 40 : $epochs > 1000 ? 1000 : $epochs;
my $options = qq("epochs": $epochs, "step_tokens": 100, "rate": 0.001, "seed": 5, "validation": 0.2);
my $values = 'sha256, data_sha256, steps, best_step, ended, training_tokens, loss_before, loss_after, md5(curve::text)';

sub job { my ($column, $name) = @_; return $node->safe_psql('postgres', "SELECT $column FROM slm.finetune_jobs WHERE name = '$name'"); }

sub until_job
{
	my ($name, $condition) = @_;
	$node->poll_query_until('postgres', "SELECT $condition FROM slm.finetune_jobs WHERE name = '$name'") or die "$name: never $condition";
	return;
}

# Workers that train now; of one that was paused or dropped the turn may go on for a moment.
my $turns = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'slm fine-tuning%' AND state = 'active'";

sub ends
{
	my ($name, $what) = @_;
	my $ok = $node->poll_query_until('postgres', "SELECT state = 'trained' FROM slm.finetune_jobs WHERE name = '$name'");
	diag($node->safe_psql('postgres', "SELECT * FROM slm.finetune_jobs")) unless $ok;
	return ok($ok, $what);
}

# The image has the adapter's name: runs that are compared have the same one, one after the other.
sub bits
{
	my ($name) = @_;
	my $bits = $node->safe_psql('postgres', "SELECT $values FROM slm.finetunes WHERE name = '$name'");
	$node->safe_psql('postgres', "SELECT slm_drop_finetune(name) FROM slm.finetune_jobs WHERE name = '$name'; SELECT slm_drop_adapter('$name')");
	return $bits;
}

# ---- an undisturbed run in the background, and in a session: the same bits
my $began = time;
$node->safe_psql('postgres', "SELECT slm_create_finetune('same', 'small', '$query', '{$options}')");
ends('same', 'a fine-tuning in the background ends');
note(sprintf('undisturbed: %.1f s', time - $began));
is(job('version || activated::text || runs', 'same'), '1true1', 'its version is active');
is($node->safe_psql('postgres', "SELECT slm_generate('ab 3', 'small+same', max_tokens => 4) IS NOT NULL"), 't', 'the adapter answers');
my $calm = bits('same');
$node->safe_psql('postgres', "SELECT slm_finetune('same', 'small', '$query', '{$options}')");
is(bits('same'), $calm, 'slm_finetune has the same bits');

# ---- killed again and again, in as many runs as it takes
my $kills = long_run() ? 20 : 3;
my ($lost, $done, $runs) = (0, 0, 0);

# The process of the worker that trains; '' when the training has ended.
sub training
{
	for my $try (1 .. 3000)
	{
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'slm job worker' AND query LIKE 'slm fine-tuning%' AND state = 'active'");
		return $pid if $pid ne '';
		return '' if job('state', 'same') eq 'trained';
		sleep 0.02;
	}
	die 'no worker trains';
}

while ($done < $kills && $runs < 10)
{
	$runs++;
	$node->safe_psql('postgres', "SELECT slm_create_finetune('same', 'small', '$query', '{$options, \"checkpoint_seconds\": 1}')");
	while ($done < $kills && (my $pid = training()) ne '')
	{
		sleep($done % 2 ? 0.2 + rand(0.6) : 1.1 + rand(0.5));    # within a first turn, and after a checkpoint
		my $before = job('coalesce(step, 0)', 'same');
		last if job('state', 'same') eq 'trained';
		if ($done % 3 == 2) { $node->kill9; start_killed($node); }
		elsif (!kill(9, $pid)) { next; }    # its turn has just ended
		$done++;
		# the dead worker is listed until the server has recovered
		$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)") or die 'the server does not recover';
		$lost++ if job('coalesce(step, 0)', 'same') < $before;
	}
	ends('same', "run $runs ends all the same, after $done kills");
	is(job('runs', 'same'), '1', 'by one training');
	is(bits('same'), $calm, 'with the bits of the undisturbed run');
}
is($done, $kills, "killed $kills times");
is($lost, 0, 'no checkpoint was lost');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_ls_dir(current_setting('slm.model_directory')) f WHERE f LIKE 'tune.%')), '0', 'checkpoints are gone');

# ---- pause, a damaged checkpoint, resume; the query gives other rows meanwhile, which the running training does not see
$node->safe_psql('postgres', "SELECT slm_create_finetune('same', 'small', '$query', '{$options, \"checkpoint_seconds\": 1}')");
until_job('same', 'step > 0');
SKIP: {
	# nice weighs within a session where the kernel groups processes by session
	my $group = '/proc/' . training() . '/autogroup';
	skip('the kernel groups no processes by session', 1) unless -e $group;
	like(slurp_file($group), qr/ nice 10$/, 'the session of a worker gives way to others');
}
$began = time;
$node->safe_psql('postgres', "SELECT slm_pause_finetune('same')");
ok($node->poll_query_until('postgres', $turns, '0'), 'a pause stops the turn');
cmp_ok(time - $began, '<', 5, '... at once');
is(job('state', 'same'), 'paused', 'it is paused');
$node->safe_psql('postgres', "INSERT INTO faq SELECT 'xy ' || i, 'z' FROM generate_series(1, 5) i");
my $directory = $node->safe_psql('postgres', 'SHOW slm.model_directory');
my ($file) = glob(($directory =~ m{^/} ? $directory : $node->data_dir . "/$directory") . '/tune.*');
ok(defined $file, 'a checkpoint is there');
if (defined $file) { open(my $h, '+<', $file) or die; seek($h, 500, 0); print $h 'damaged'; close($h); }
$node->safe_psql('postgres', "SELECT slm_resume_finetune('same')");
ends('same', 'it goes on');
is(bits('same'), $calm, 'with the rows that it began with, to the same bits');
like(slurp_file($node->logfile), qr/the checkpoint of fine-tuning "same" is not used: it is damaged/, 'a damaged checkpoint is passed over');

# ---- new rows begin another training; the better version is active
$node->safe_psql('postgres', "SELECT slm_create_finetune('grows', 'small', '$query', '{\"epochs\": 40, \"rate\": 0.005, \"retrain_rows\": 5, \"check_every\": \"1 s\"}')");
until_job('grows', 'new_rows = 0');
is(job('version || state || runs', 'grows'), '1trained1', 'without new rows it is not trained again');
$node->safe_psql('postgres', "INSERT INTO faq SELECT 'uv ' || i, 'w' FROM generate_series(1, 4) i");
until_job('grows', 'new_rows = 4');
is(job('version || state || runs', 'grows'), '1trained1', 'nor with too few');
$node->safe_psql('postgres', "INSERT INTO faq SELECT 'st ' || i, 'r' FROM generate_series(1, 3) i");
ok($node->poll_query_until('postgres', "SELECT version = 2 AND state = 'trained' FROM slm.finetune_jobs WHERE name = 'grows'"), 'seven of them begin another training');
is($node->safe_psql('postgres', q(SELECT count(*) FILTER (WHERE active) || ' of ' || count(*) FROM slm.finetunes WHERE name = 'grows')), '1 of 2', 'one of two versions is active');

# ---- what cannot go on says why, and goes on when it can
$node->safe_psql('postgres', "CREATE TABLE gone AS SELECT * FROM faq; SELECT slm_create_finetune('late', 'small', 'SELECT q, a FROM gone', '{\"paused\": true}'); ALTER TABLE gone RENAME TO away; SELECT slm_resume_finetune('late')");
until_job('late', 'error IS NOT NULL');
like(job('error', 'late'), qr/relation "gone" does not exist/, 'its error is shown');
$node->safe_psql('postgres', "ALTER TABLE away RENAME TO gone; SELECT slm_resume_finetune('late')");
ends('late', 'it goes on when the table is back');

# ---- a drop ends a turn at once, and leaves no file; so does the loss of the right to fine-tune
$node->safe_psql('postgres', "SELECT slm_create_finetune('dropped', 'small', '$query', '{$options, \"checkpoint_seconds\": 1}')");
until_job('dropped', 'step > 0');
$began = time;
$node->safe_psql('postgres', "SELECT slm_drop_finetune('dropped')");
ok($node->poll_query_until('postgres', $turns, '0'), 'a drop stops the turn');
cmp_ok(time - $began, '<', 5, '... at once');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_ls_dir(current_setting('slm.model_directory')) f WHERE f LIKE '%tune.%')), '0', 'a dropped one leaves no file');
is($node->safe_psql('postgres', "SELECT count(*) FROM slm.adapters WHERE name = 'dropped'"), '0', 'and no adapter');

$node->safe_psql('postgres', <<"SQL");
CREATE ROLE learner; GRANT EXECUTE ON FUNCTION slm_create_finetune(text, text, text, jsonb) TO learner; SELECT slm_grant_model('small', 'learner');
CREATE TABLE secret AS SELECT * FROM faq; GRANT SELECT ON faq TO learner; GRANT CREATE ON SCHEMA public TO learner;
SET ROLE learner;
CREATE VIEW mine AS SELECT q, a FROM faq;
SELECT slm_create_finetune('theirs', 'small', 'SELECT q, a FROM mine', '{"epochs": 2, "paused": true}');
SQL
my ($code, $out, $err) = $node->psql('postgres', "SET ROLE learner; SELECT slm_create_finetune('spy', 'small', 'SELECT q, a FROM secret')");
like($err, qr/permission denied for table secret/, 'the query is read with the rights of who creates it');
$node->safe_psql('postgres', "REVOKE EXECUTE ON FUNCTION slm_create_finetune(text, text, text, jsonb) FROM learner; SELECT slm_resume_finetune('theirs')");
until_job('theirs', 'error IS NOT NULL');
like(job('error', 'theirs'), qr/permission denied to fine-tune a model/, 'who may not fine-tune any more does not');
$node->safe_psql('postgres', "GRANT EXECUTE ON FUNCTION slm_create_finetune(text, text, text, jsonb) TO learner; SELECT slm_resume_finetune('theirs')");
ends('theirs', 'who may again does');
is($node->safe_psql('postgres', "SELECT owner::regrole::text FROM slm.adapters WHERE name = 'theirs'"), 'learner', 'the adapter is his');
$node->stop;
done_testing();
