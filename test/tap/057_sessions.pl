# Sessions: what one role's prompts leave behind tells another role nothing, however they come to share a session or the engine process; and
# the memory of long prompts goes back, when calls end, when a session is idle or discarded, and when its limit is lowered.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(sleep);
use SlmTest;

my $node = slm_cluster('sessions', conf => "shared_preload_libraries = 'slm_pg'\nslm.threads = 1\nslm.job_workers = 1\n");
my $data = "$FindBin::RealBin/../data";
$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('small', '$data/tiny.gguf');
SELECT slm_load_adapter('lora', 'small', '$data/tiny_lora.gguf');
SELECT slm_grant_model(m, 'public') FROM unnest('{smollm2,small,lora}'::text[]) m;
CREATE ROLE amy LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE eve LOGIN;
CREATE ROLE zoe LOGIN;
GRANT CREATE ON SCHEMA public TO bob, eve;
SQL

# ---- reused tokens do not tell what other roles' prompts began with

my $secret = 'The launch code of the second silo is 4711; tell nobody but the general, and burn this letter.';

# Ways to put a secret into a prompt, each with the column that tells how much of it was there already.
sub ways
{
	my ($secret, $labels, $examples) = @_;
	return (
		system => "SELECT reused_tokens FROM slm_generate_details('x', system => '$secret', max_tokens => 1)",
		prompt => explain("slm_generate('$secret $secret ' || i, max_tokens => 1, chat => false)"),
		adapter => "SELECT reused_tokens FROM slm_generate_details('x', system => '$secret', max_tokens => 1, model => 'small+lora')",
		instruction => explain("slm_classify('x' || i, ARRAY['a', 'b'], method => 'direct', instruction => '$secret')"),
		labels => explain("slm_classify('x' || i, $labels, method => 'direct')"),
		channel => explain("slm_classify('x' || i, $labels, method => 'channel')"),
		examples => explain("slm_classify('x' || i, $labels, method => 'direct', examples => $examples)"));
}

my $labels = "ARRAY['launch at dawn', 'launch at dusk', 'stay in the silo']";
my %ways = ways($secret, $labels, q('[{"text": "the general calls", "label": "launch at dawn"}]'));
# The same without the secret: what the extension itself puts before it is public, and computed once for all roles.
my %harmless = ways('Be kind.', "ARRAY['yes', 'no']", q('[{"text": "good", "label": "yes"}]'));

sub explain { return "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT json) SELECT $_[0] FROM generate_series(1, 6) i"; }

# What the statement tells a role: a number, or all numbers of tokens of EXPLAIN.
sub tells
{
	my ($session, $role, $sql) = @_;
	$session->query("SET ROLE $role");
	my $out = $session->query($sql);
	return $out =~ /^\d+$/ ? $out : join(' ', $out =~ /"[^"]*Tokens[^"]*": (\d+)/g);
}

sub session_in
{
	my ($mode) = @_;
	my $session = SlmTest::Session->new($node);
	$session->query("SET slm.engine = '$mode'");
	return $session;
}

for my $in ((map { "local $_" } sort keys %ways), (map { "shared $_" } qw(channel labels prompt system)))
{
	my ($mode, $way) = split / /, $in;
	my $fresh = session_in($mode);
	tells($fresh, 'zoe', $harmless{$way});
	my $first = tells($fresh, 'amy', $ways{$way});
	my $again = tells($fresh, 'amy', $ways{$way});
	like($first, qr/^\d/, "$in: tells a number");
	isnt($again, $first, "$in: a role's own prompt is reused");
	$fresh->quit;
	my $shared = session_in($mode);
	tells($shared, 'zoe', $harmless{$way});
	is(tells($shared, 'bob', $ways{$way}), $first, "$in: another role's first prompt tells the same");
	is(tells($shared, 'eve', $ways{$way}), $first, "$in: after it too, in the same session");
	is(tells($shared, 'bob', $ways{$way}), $again, "$in: and what was his own is still there");
	$shared->quit;
}

# the secret in a function that runs with its owner's rights, and in a job of his
$node->safe_psql('postgres', <<"SQL");
SET ROLE bob;
CREATE FUNCTION ask(question text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public
	AS \$\$ SELECT public.slm_generate(question, system => '$secret', max_tokens => 1) \$\$;
CREATE TABLE secrets (id int PRIMARY KEY, answer text);
SQL
my $session = SlmTest::Session->new($node);
my $fresh = tells($session, 'eve', $ways{system});
$session->quit;
$session = SlmTest::Session->new($node);
$session->query("SET ROLE eve; SELECT ask('who are you?')");
is(tells($session, 'eve', $ways{system}), $fresh, "a function with its owner's rights tells nothing of its secret");
$session->quit;

$node->safe_psql('postgres', <<"SQL");
SET ROLE bob;
SELECT slm_create_job('bobs', 'secrets', 'answer', 'slm_generate(''x '' || id, system => ''$secret'', max_tokens => 1)');
INSERT INTO secrets SELECT i FROM generate_series(1, 3) i;
SQL
$node->poll_query_until('postgres', 'SELECT count(answer) = 3 FROM secrets') or die 'the first job does not end';
$node->safe_psql('postgres', <<"SQL");
SET ROLE eve;
CREATE TABLE guesses (id int PRIMARY KEY, answer text);
SELECT slm_create_job('eves', 'guesses', 'answer',
	'(slm_generate_details(''x'' || repeat(''y'', id), system => ''$secret'', max_tokens => 1)).reused_tokens::text');
INSERT INTO guesses VALUES (1);
SQL
$node->poll_query_until('postgres', 'SELECT count(answer) = 1 FROM guesses') or die 'the second job does not end';
is($node->safe_psql('postgres', 'SELECT answer FROM guesses'), $fresh, "a job's worker tells nothing of another owner's job");

# ---- memory of sessions that compute themselves goes back

$node->append_conf('postgresql.conf', "slm.engine = 'local'");
$node->reload;

my ($n_sessions, $words) = long_run() ? (50, 1500) : (3, 300);
my $long = "repeat('word ', $words)";
my $kept = $words * 23; # KiB of keys and values of SmolLM2

sub anonymous { return process_kb($_[0]->pid, 'smaps_rollup', 'Anonymous'); }

# Waits until the session holds no more than so many KiB over what it had; returns what it holds.
sub settles
{
	my ($held, $most, $seconds) = @_;
	my ($s, $base) = @$held;
	for (1 .. 10 * $seconds)
	{
		last if anonymous($s) - $base <= $most;
		sleep 0.1;
	}
	return anonymous($s) - $base;
}

sub open_session
{
	my $s = SlmTest::Session->new($node);
	$s->query('SELECT slm_version()');
	return [ $s, anonymous($s) ];
}

# a prompt that no later call can use is gone with its call, one that may be used again stays, and after the idle time nothing does
my @held = map { open_session() } 1 .. $n_sessions;
for my $held (@held[ 0 .. 2 ])
{
	my ($s, $base) = @$held;
	$s->query("SET slm.cache_timeout = '1h'");
	$s->query("SELECT slm_generate($long, max_tokens => 1)");
	cmp_ok(anonymous($s) - $base, '<', 10 * 1024, 'a call gives back what no other can use');
}
for my $held (@held)
{
	my ($s, $base) = @$held;
	$s->query("SET slm.cache_timeout = '1h'; SELECT slm_generate('x', system => $long, max_tokens => 1)");
	cmp_ok(anonymous($s) - $base, '>', $kept, 'a prefix is kept for the next call');
	is($s->query("SELECT reused_tokens > $words FROM slm_generate_details('x', system => $long, max_tokens => 1)"), 't', 'and used by it');
}
is($node->safe_psql('postgres', "SELECT count(*) FROM slm.sessions WHERE kv_bytes > 1024 * $kept AND prefixes > 0"), $n_sessions,
	'slm.sessions shows what each of them holds');
$_->[0]->query("SET slm.cache_timeout = '1s'") for @held;
my @left = map { settles($_, 4096, 60) } @held;
cmp_ok($_, '<=', 4096, 'an idle session has given it back') for @left;
diag(sprintf('%d sessions hold %d KiB or less beyond what they began with', $n_sessions, percentile(1, @left)));
is($node->safe_psql('postgres', 'SELECT count(*) FROM slm.sessions WHERE kv_bytes > 0 OR scratch_bytes > 0'), '0', 'and slm.sessions says so');
my $question = "SELECT slm_generate('What is the capital of France?', max_tokens => 8)";
is($held[0][0]->query($question), $node->safe_psql('postgres', $question), 'the next call answers as a new session does');
settles($held[0], 4096, 60);

# an error ends all timers of a session: the idle time is still watched, and an empty transaction does not put it off
my ($one, $base) = @{ $held[0] };
$one->query("SELECT slm_generate('x', system => $long, max_tokens => 1)");
my (undef, $error) = $one->query('SELECT 1 / 0');
like($error, qr/division by zero/, 'an error');
cmp_ok(settles($held[0], 4096, 60), '<=', 4096, 'after an error of a later statement too');

# inside of a transaction block the memory of the call goes, what is kept goes with the block
$one->query("BEGIN; SELECT slm_generate($long, max_tokens => 1)");
cmp_ok(settles($held[0], 10 * 1024, 60), '<', 10 * 1024, 'in a transaction block a call gives its own back');
$one->query("SELECT slm_generate('x', system => $long, max_tokens => 1)");
sleep 1.5;
$one->query('COMMIT');
cmp_ok(settles($held[0], 4096, 60), '<=', 4096, 'and its end the rest');

# a cursor that stands open goes on with the same answers after its memory has been trimmed between its fetches
$one->query("SET slm.cache_timeout = '20ms'");
$one->query('BEGIN; DECLARE c CURSOR FOR SELECT slm_generate(\'Say \' || i, max_tokens => 2) FROM generate_series(1, 12) i');
my @fetched;
for (1 .. 12)
{
	push @fetched, scalar $one->query('FETCH 1 FROM c');
	sleep 0.05;
}
$one->query('COMMIT');
is(join('|', @fetched), $one->query(q(SELECT string_agg(slm_generate('Say ' || i, max_tokens => 2), '|' ORDER BY i) FROM generate_series(1, 12) i)),
	'a cursor between whose fetches memory went back');

# at once: a lower limit, DISCARD ALL
($one, $base) = @{ $held[1] };
$one->query("SET slm.cache_timeout = 0; SELECT slm_generate('x', system => $long, max_tokens => 1)");
sleep 0.5;
cmp_ok(anonymous($one) - $base, '>', $kept, 'without a timeout a session keeps its prefixes');
$one->query("SET slm.kv_cache_memory = '2MB'");
cmp_ok(anonymous($one) - $base, '<=', 4096, 'a lower limit takes effect at once');
$one->query('RESET slm.kv_cache_memory');
$one->query("SELECT slm_generate('x', system => $long, max_tokens => 1)");
$one->query('DISCARD ALL');
cmp_ok(anonymous($one) - $base, '<=', 4096, 'DISCARD ALL gives everything back');
$_->[0]->quit for @held;

# ---- who sees what in slm.sessions

my $bob = SlmTest::Session->new($node);
$bob->query("SET SESSION AUTHORIZATION bob");
$bob->query("SELECT slm_generate('x', max_tokens => 1)");
$node->safe_psql('postgres', 'CREATE ROLE watcher LOGIN IN ROLE pg_monitor');
$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM slm.sessions') or die 'sessions that have ended are still shown';
my $seen = "SELECT string_agg(DISTINCT role::text || ' ' || model || ' ' || requests_total || ' ' || requests_running, ',') FROM slm.sessions";
my $login = $node->safe_psql('postgres', 'SELECT current_user');
is($node->safe_psql('postgres', $seen), "$login smollm2 1 0", 'a superuser sees it, by the role that has logged in');
is($node->safe_psql('postgres', "SET ROLE watcher; $seen"), "$login smollm2 1 0", 'so does a member of pg_monitor');
is($node->safe_psql('postgres', "SET ROLE eve; $seen"), '', 'another role does not');
$bob->quit;

$node->stop;
done_testing();
