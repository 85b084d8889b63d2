# The engine process: the same answers as in the session; it is killed, stopped, hung and poisoned while sessions wait, and no statement notices;
# what it refuses it names; it never outlives the server.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use SlmTest;

my $program = "$FindBin::RealBin/../../build/tools/slm_engine_hooks";
plan(skip_all => 'build/tools/slm_engine_hooks is absent; test/run.sh tap builds it') unless -x $program;
my $data = "$FindBin::RealBin/../data";
my $node = slm_cluster('engine', empty => 1, conf => <<"CONF");
shared_preload_libraries = 'slm_pg'
slm.engine = 'shared'
slm.engine_program = '$program'
slm.engine_timeout = '700ms'
slm.threads = 1
slm.max_threads = 1
CONF

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub status { return sql("SELECT $_[0] FROM slm.engine_status"); }

# Waits until a query of the status says so.
sub until_status
{
	my ($what, $wanted) = @_;
	my $got;
	for (1 .. 200) { $got = status($what); return $got if $got eq $wanted; sleep 0.05; }
	return $got;
}

sub engine_pid
{
	my ($not) = @_;
	for (1 .. 400)
	{
		my $pid = status("CASE WHEN state = 'running' THEN pid END");
		return $pid if $pid ne '' && $pid ne ($not // '');
		sleep 0.02;
	}
	return '';
}

# Has the process ended, within a second?  Who has ended may stay in the table of processes until somebody asks for its end.
sub is_gone
{
	my ($pid) = @_;
	for (1 .. 100)
	{
		my $stat = -e "/proc/$pid/stat" ? eval { slurp_file("/proc/$pid/stat") } : undef;
		return 1 if !defined $stat || $stat =~ /\) Z/;
		sleep 0.01;
	}
	return 0;
}

is(status('state, restarts, pid'), 'not started|0|', 'nobody has asked for it yet');
sql(<<"SQL");
SELECT slm_load_model('small', '$data/tiny.gguf');
SELECT slm_load_adapter('lora', 'small', '$data/tiny_lora.gguf');
SELECT slm_grant_model(m, 'public') FROM unnest('{small,lora}'::text[]) m;
ALTER SYSTEM SET slm.generate_model = 'small'; ALTER SYSTEM SET slm.classify_model = 'small';
SELECT pg_reload_conf();
CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN; GRANT ALL ON SCHEMA public TO PUBLIC;
CREATE TABLE ticket AS SELECT i, 'ticket ' || i || ' says ' || repeat(chr(97 + i % 26) || ' ', i % 7 + 1) AS body FROM generate_series(1, 40) i; GRANT SELECT ON ticket TO PUBLIC;
SQL

# ---- the same answers

my %calls = (
	generate => "slm_generate(body, max_tokens => 9)",
	sampled => "slm_generate(body, max_tokens => 9, temperature => 1.2, top_k => 40, seed => i)",
	adapter => "slm_generate(body, max_tokens => 9, model => 'small+lora')",
	stops => "slm_generate(body, max_tokens => 20, stop => ARRAY['e'])",
	matching => "slm_generate_matching(body, '(yes|no|perhaps), [0-9]{1,3}')",
	json => q{slm_generate_json(body, '{"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 99}}, "required": ["n"]}')},
	direct => "slm_classify(body, ARRAY['one', 'two', 'three'], method => 'direct')",
	channel => "slm_classify(body, ARRAY['one', 'two'], method => 'channel')",
	perplexity => "slm_perplexity(body)::text");
for my $call (sort keys %calls)
{
	my $batch = "SELECT md5(string_agg(($calls{$call})::text, '|' ORDER BY i)) FROM ticket";
	my $single = "SELECT md5(string_agg(x, '|' ORDER BY i)) FROM (SELECT i, ($calls{$call})::text AS x FROM ticket LIMIT 8) s";
	my $local = sql("SET slm.engine = 'local'; $batch; $single");
	is(sql("$batch; SET slm.enable_batch = off; $single"), $local, "$call: the same in the process");
}
for my $call ('generate', 'direct', 'perplexity')
{
	my $batch = "SELECT md5(string_agg(($calls{$call})::text, '|' ORDER BY i)) FROM ticket";
	my $both = sql("SET slm.engine = 'local'; $batch; SET slm.kv_type = q8; $batch");

	is(sql("$batch; SET slm.kv_type = q8; $batch"), $both, "$call: the same in the process with either kind of keys and values");
	isnt((split /\n/, $both)[0], (split /\n/, $both)[1], '... which differ') if $call eq 'perplexity';
}
my $stream = "SELECT string_agg(x, '') FROM slm_generate_stream('once upon', max_tokens => 30) x";
is(sql($stream), sql("SET slm.engine = 'local'; $stream"), 'a stream: the same');
my ($rc, $out, $err) = $node->psql('postgres', "SELECT slm_generate(repeat('x y ', 100000), truncate => false)");
my (undef, undef, $local) = $node->psql('postgres', "SET slm.engine = 'local'; SELECT slm_generate(repeat('x y ', 100000), truncate => false)");
like($err, qr/the prompt has \d+ tokens/, 'an error of the request is told');
is($err, $local, '... in the same words');
is(sql("SELECT count(*) FROM (SELECT slm_generate(repeat('x y ', 100000), truncate => false, on_error => 'null') g) s WHERE g IS NULL"), '1', 'and fails alone');
cmp_ok(status('requests'), '>', 300, 'all of that was computed there');
is(status('restarts'), '0', 'by one process');

# ---- cancelled and vanished

my $session = SlmTest::Session->new($node);
$session->query("SET statement_timeout = '200ms'");
my $since = time();
$session->send("SELECT count(slm_generate(body || i || j, max_tokens => 400, chat => false)) FROM ticket, generate_series(1, 50) j");
cmp_ok($session->seconds_until_error($since), '<', 3, 'a timeout is answered at once');
is(until_status('running', 'interactive 0, batch 0, job 0'), 'interactive 0, batch 0, job 0', 'its requests have left the process');
$session->query('RESET statement_timeout');
is($session->query("SELECT slm_generate('x', max_tokens => 3) = slm_generate('x', max_tokens => 3)"), 't', 'the session goes on with its connection');
$session->send("SELECT count(slm_generate(body || i || j, max_tokens => 400, chat => false)) FROM ticket, generate_series(1, 50) j");
until_status("running <> 'interactive 0, batch 0, job 0'", 't');
sql("SELECT pg_terminate_backend($session->{pid})");
is(until_status('running', 'interactive 0, batch 0, job 0'), 'interactive 0, batch 0, job 0', 'requests of a backend that is gone have left too');

# ---- one session with more requests than the process reads at a time

$session = SlmTest::Session->new($node);
$session->query("CREATE TEMP TABLE many AS SELECT array_agg('label number ' || i) AS l FROM generate_series(1, 10000) i");
$session->query("SET statement_timeout = '200ms'");
$session->send("SELECT slm_classify_multi('once upon a time', l) FROM many");
like(($session->wait)[1], qr/statement timeout/, 'ten thousand questions at once are cancelled');
$session->query("SET statement_timeout = '20s'");
like($session->query("SELECT slm_generate('x', max_tokens => 3)"), qr/./, 'and are not computed before the next call');
is(until_status('running', 'interactive 0, batch 0, job 0'), 'interactive 0, batch 0, job 0', 'nothing of them is left');
is($session->query("SELECT md5(slm_classify_multi('once upon a time', l[:4000])::text) FROM many"),
	$session->query("SET slm.engine = 'local'; SELECT md5(slm_classify_multi('once upon a time', l[:4000])::text) FROM many"),
	'four thousand are answered as in the session');
$session->quit;

# ---- what a role's prompts leave behind

my $secret = "SELECT reused_tokens FROM slm_generate_details('x', system => 'the code of the second silo is 4711, burn this', max_tokens => 1)";
my $first = sql("SET ROLE bob; $secret");
cmp_ok(sql("SET ROLE bob; $secret"), '>', $first, 'another session of the role finds its instruction computed');
is(sql("SET ROLE eve; $secret"), $first, 'another role does not');
is(sql("SET ROLE eve; SELECT pid, requests, state FROM slm.engine_status"), '||running', 'and sees no figures');

# ---- what is public: words that come with the extension, and those that a superuser has declared so

my $words = 'Rewrite what follows as a letter from the harbour office to the owner of a vessel, politely, without dates: ';
sql("SELECT slm_set_prompt('letter', '$words\{prompt}', public => true), slm_set_prompt('kept', 'Not for all: $words\{prompt}')");
sql("SET ROLE bob; SELECT slm_set_prompt('of_bob', 'By bob. $words\{prompt}', public => true)");
sub reused
{
	my ($role, $prompt, $text) = @_;
	return sql(($role eq '' ? '' : "SET ROLE $role; ") . "SELECT reused_tokens FROM slm_generate_details('$text', prompt_name => '$prompt', max_tokens => 1)");
}
my $alone = reused('bob', 'letter', 'pin 4711');
my $public = reused('eve', 'letter', 'pin 0815');
cmp_ok($public, '>=', $alone + 60, 'a public prompt that a superuser wrote is computed once for all roles');
is(reused('eve', 'letter', 'pin 0815'), reused('bob', 'letter', 'pin 4711'), '... for whoever said it before, with the rest');
sql('CREATE ROLE mallory LOGIN');
is(reused('mallory', 'letter', 'pin 4711'), $public, '... and who guesses what somebody filled in finds no more');
reused('bob', 'of_bob', 'x');
cmp_ok(reused('eve', 'of_bob', 'x'), '<', 20, 'a prompt that another role made public is not: it is computed for each role');
reused('', 'kept', 'x');
cmp_ok(reused('', 'kept', 'x'), '>', $alone + 60, 'nor one that a superuser keeps to himself,');
cmp_ok(sql("SET ROLE eve; SELECT reused_tokens FROM slm_generate_details('Not for all: ${words}x', max_tokens => 1)"), '<', 20,
	'... whoever says the same words');

# What roles have reused of a built-in function's words, each with a text of its own.
sub reused_of_builtin
{
	my ($role, $text) = @_;
	my $reused = "SELECT coalesce(sum(reused_tokens), 0) FROM slm.usage WHERE role = '$role'";
	my $before = sql($reused);
	sql("SET ROLE $role; SELECT slm_fix_grammar('$text', max_tokens => 1, on_error => 'null')");
	return sql($reused) - $before;
}
my $fresh = reused_of_builtin('bob', 'the secrt is 4711');
my $found = reused_of_builtin('eve', 'some othr text');
cmp_ok($found, '>', $fresh + 40, 'the words of slm_fix_grammar are computed once for all roles');
is(reused_of_builtin('mallory', 'the secrt is 4711'), $found, '... and nothing of a row behind them');

# ---- killed under load

my $postmaster = sql('SELECT pg_postmaster_start_time()');
my $load = "SELECT md5(string_agg(slm_generate(body || j, max_tokens => 24, chat => false), '|' ORDER BY i, j)) FROM ticket, generate_series(1, 4) j";
my $right = sql("SET slm.engine = 'local'; $load");
my @sessions = map { SlmTest::Session->new($node) } 1 .. (long_run() ? 16 : 4);
my ($deaths, $wrong, $failed, $rounds) = (long_run() ? 200 : 6, 0, 0, 0);
$_->query("SET slm.engine = '" . ($_ == $sessions[0] ? 'auto' : 'shared') . "'") for @sessions;
my $done = 0;
while ($done < $deaths)
{
	$_->send($load) for @sessions;
	for (1 .. 2)
	{
		my $pid = engine_pid();
		sleep 0.1 + rand(0.3);
		kill((qw(KILL SEGV STOP))[ $done % 3 ], $pid);
		$done++;
		engine_pid($pid);
	}
	for my $s (@sessions)
	{
		my ($answer, $error) = $s->wait;
		$failed++ if $error =~ /ERROR|FATAL/;
		diag($error) if $error =~ /ERROR|FATAL/;
		$wrong++ unless $answer eq $right;
	}
	$rounds++;
}
is($failed, 0, "$done deaths while " . @sessions . ' sessions computed: no statement failed');
is($wrong, 0, '... nor gave another answer');
cmp_ok(status('restarts'), '>=', $deaths, 'every death was one');
is(status('blamed'), '0', 'none was blamed on a request');
is(sql('SELECT pg_postmaster_start_time()'), $postmaster, 'the server was not restarted');

# ---- poison

$_->send("SELECT md5(string_agg(slm_generate(body || j, max_tokens => 24, chat => false), '|' ORDER BY i, j)) FROM ticket, generate_series(1, 4) j") for @sessions;
sleep 0.1;
($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT slm_generate('slm-test-poison 1')");
like($err, qr/SLM01: the engine process has died of this request twice/, 'a request that kills twice is refused');
$failed = $wrong = 0;
for my $s (@sessions) { my ($answer, $error) = $s->wait; $failed++ if $error =~ /ERROR/; diag($error) if $error =~ /ERROR/; $wrong++ unless $answer eq $right; }
is("$failed $wrong", '0 0', 'all others are answered');
is(status('blamed'), '2', 'two deaths were blamed on it');
my ($name) = $err =~ /names it as ([0-9a-f]{32})/;
like(slurp_file($node->logfile), qr/died of a request twice.*\n.*$name/, 'the log names it as the error does');
($rc, $out, $err) = $node->psql('postgres', "SELECT slm_generate('slm-test-poison 1')");
like($err, qr/died of this request twice/, 'it is refused at once now');
is(status('blamed'), '2', '... without a death');
($rc, $out, $err) = $node->psql('postgres', "SET slm.engine = 'auto'; SELECT slm_generate('slm-test-hang 1')");
like($err, qr/died of this request twice/, 'a request that makes it hang is refused too, and does not run in the session');
like(status('blamed, hangs'), qr/^4\|[2-9]/, 'two hangs were found');
is(sql($load), $right, 'and it goes on');
is(sql("SELECT string_agg(coalesce(slm_generate(t, max_tokens => 2), '-'), '') <> '' FROM (VALUES ('a'), ('b')) v(t)"), 't', 'for everybody');

# ---- where it cannot be had

my $directory = $node->data_dir . '/pgsql_tmp_slm_engine';
is(sprintf('%o %o', (stat $directory)[2] & 07777, (stat "$directory/pgsql_tmp.sock")[2] & 07777), '700 600', 'directory and socket are the server\'s alone');
$_->quit for @sessions;
my $pid = engine_pid();
$node->stop('immediate');
ok(is_gone($pid), 'an immediate stop leaves no process');
$node->start;
is(sql($load), $right, 'nor a socket in the way');
$pid = engine_pid();
my $server = slurp_file($node->data_dir . '/postmaster.pid') =~ s/\n.*//sr;
$node->kill9;
is_gone($server);
ok(is_gone($pid), 'nor does the death of the postmaster');
$node->append_conf('postgresql.conf', "slm.engine_program = '/nowhere/slm_engine'");
ok(start_killed($node), 'the server starts again');
is(sql("SET slm.engine = 'auto'; SET slm.enable_batch = on; $load"), $right, 'auto: computed in the session where it cannot be started');
is(status('state'), 'failing', 'the status says so');
($rc, $out, $err) = $node->psql('postgres', "SET statement_timeout = '500ms'; SELECT slm_generate('x')");
like($err, qr/engine process is not there|statement timeout/, 'shared: an error');
like(slurp_file($node->logfile), qr/slm_engine could not be started: there is no program/, 'the log says why');
$node->stop;
done_testing();
