# The engine process dies over and over while applications, statements over many rows, triggers and a job compute: nobody notices.  Every
# statement ends well and with the answers that the session computes alone, every row is written once.
# Where the test runs in a memory cgroup that it may limit (SLM_TEST_OOM=1 test/run.sh), the kernel takes the process too, for want of
# memory of the whole group, server and sessions included: that it chooses this one is what its oom_score_adj is for.
# SLM_TEST_LONG=1: sixteen sessions and 200 deaths (SLM_DEATHS).
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use SlmTest;

my $data = "$FindBin::RealBin/../data";
my $deaths = $ENV{SLM_DEATHS} || (long_run() ? 200 : 9);
my $group = $ENV{SLM_TEST_CGROUP} // '';
my ($apps, $statements, $writers) = long_run() ? (5, 5, 6) : (1, 1, 2);
my $node = slm_cluster('engine_deaths', empty => 1, conf => <<"CONF");
shared_preload_libraries = 'slm_pg'
slm.engine = 'shared'
slm.threads = 1
slm.max_threads = 1
slm.job_max_load = 0
CONF

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub engine_pid
{
	my ($not) = @_;
	for (1 .. 800)
	{
		my $pid = sql("SELECT CASE WHEN state = 'running' THEN pid END FROM slm.engine_status");
		return $pid if $pid ne '' && $pid ne ($not // '');
		sleep 0.02;
	}
	return '';
}

# What the kernel has killed in the group.
sub oom_kills
{
	my ($file) = grep { -e } "$group/memory.oom_control", "$group/memory.events";
	return slurp_file($file) =~ /^oom_kill (\d+)/m ? $1 : 0;
}

# Fills the group's memory until the kernel takes a process; was it this one, and alone?
sub want_memory
{
	my ($pid) = @_;
	my ($limit) = grep { -e } "$group/memory.limit_in_bytes", "$group/memory.max";
	my ($usage) = grep { -e } "$group/memory.usage_in_bytes", "$group/memory.current";
	my ($before, $file, $megabyte) = (oom_kills(), "/dev/shm/slm_deaths.$$", 'x' x (1 << 20));
	return 0 if slurp_file("/proc/$pid/oom_score_adj") != 500;
	append_to_file($limit, slurp_file($usage) + (64 << 20));
	open(my $fill, '>', $file) or die "$file: $!";
	for (1 .. 2000)
	{
		last if oom_kills() > $before || !kill(0, $pid);
		syswrite($fill, $megabyte) or last;
	}
	unlink $file;
	close $fill;
	append_to_file($limit, 1 << 50);
	return oom_kills() == $before + 1;
}

my $answer = 'slm_generate(body, max_tokens => 12, chat => false)';
sql(<<"SQL");
SELECT slm_load_model('small', '$data/tiny.gguf');
ALTER SYSTEM SET slm.generate_model = 'small';
SELECT pg_reload_conf();
CREATE TABLE ticket AS SELECT i, 'ticket ' || i || ' says ' || repeat(chr(97 + i % 26) || ' ', i % 7 + 1) AS body FROM generate_series(1, 60) i;
ALTER TABLE ticket ADD COLUMN "right" text;
UPDATE ticket SET "right" = (SELECT $answer) WHERE set_config('slm.engine', 'local', false) <> '';
CREATE TABLE note (id int PRIMARY KEY, body text, reply text);
SELECT slm_create_trigger('note', 'reply', 'slm_generate(body, max_tokens => 12, chat => false)');
CREATE TABLE doc (id int PRIMARY KEY, body text, reply text);
SELECT slm_create_job('replies', 'doc', 'reply', 'slm_generate(body, max_tokens => 12, chat => false)');
SQL
is(sql('SELECT count(*) FROM ticket WHERE "right" <> \'\''), '60', 'what is right is known from the session');

my $postmaster = sql('SELECT pg_postmaster_start_time()');
my $digest = "SELECT md5(string_agg(%s, '|' ORDER BY i)) FROM ticket";
my $right = sql(sprintf $digest, '"right"');
my @sessions = map { SlmTest::Session->new($node) } 1 .. $apps + $statements + $writers;
$_->query('SET slm.enable_batch = off') for @sessions[ 0 .. $apps - 1 ];
my ($done, $round, $failed, $wrong, $written) = (0, 0, 0, 0, 0);
my @ways = (qw(KILL SEGV STOP ABRT BUS TERM), $group eq '' ? () : 'OOM');
my $ooms = 0;
my $since = time();
while ($done < $deaths)
{
	for my $n (0 .. $#sessions)
	{
		my $at = 10000 * $round + 100 * $n;
		$sessions[$n]->send($n < $apps + $statements ? sprintf $digest, $answer : "INSERT INTO note SELECT $at + i, body FROM ticket WHERE i <= 30");
		$written += 30 if $n >= $apps + $statements;
	}
	sql("INSERT INTO doc SELECT 100 * $round + i, body FROM ticket WHERE i <= 20");
	for (1 .. 3)
	{
		my $pid = engine_pid();
		sleep 0.02 + rand(0.2);
		my $way = $ways[ $done++ % @ways ];
		if ($way eq 'OOM') { $ooms += want_memory($pid); }
		else { kill($way, $pid); }
		engine_pid($pid);
	}
	for my $n (0 .. $#sessions)
	{
		my ($got, $error) = $sessions[$n]->wait;
		$failed++ if $error =~ /ERROR|FATAL|PANIC|closed/;
		diag($error) if $error =~ /ERROR|FATAL|PANIC|closed/;
		$wrong++ if $n < $apps + $statements && $got ne $right;
	}
	$round++;
}
my $docs = 20 * $round;
my $left = 'SELECT count(*) FROM doc WHERE reply IS NULL';
for (1 .. 600) { last if sql($left) eq '0'; sleep 0.1; }
note(sprintf '%d deaths, %d rounds, %.0f s', $done, $round, time() - $since);

is($failed, 0, "$done deaths under " . @sessions . ' sessions and a job: no statement failed');
is($wrong, 0, '... nor gave another answer');
is(sql('SELECT count(*) FROM note'), $written, 'triggers: no row is lost or doubled');
is(sql('SELECT count(*) FROM note JOIN ticket ON i = id % 100 WHERE reply IS DISTINCT FROM "right"'), '0', '... and all are right');
is(sql($left), '0', 'the job fills every row');
is(sql("SELECT count(*), count(*) FILTER (WHERE reply = \"right\") FROM doc JOIN ticket ON i = id % 100"), "$docs|$docs", '... rightly');
is(sql('SELECT count(*) FROM slm.jobs WHERE error IS NOT NULL'), '0', '... and without an error');
cmp_ok(sql('SELECT restarts FROM slm.engine_status'), '>=', $deaths, 'every death was one');
is(sql('SELECT blamed FROM slm.engine_status'), $ooms, "$ooms were for want of memory; none else was blamed on a request");
is($ooms, $group eq '' ? 0 : grep({ $ways[ $_ % @ways ] eq 'OOM' } 0 .. $done - 1), 'want of memory took the engine each time');
is(sql('SELECT pg_postmaster_start_time()'), $postmaster, 'the server was not restarted');
$_->quit for @sessions;
$node->stop;
done_testing();
