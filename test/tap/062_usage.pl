# slm.usage adds up exactly, whoever computes: sessions side by side, parallel workers, jobs, statements that are rolled back, fail or are
# cancelled; over a restart, a crash, and files that are not what was written.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use SlmTest;

my $node = slm_cluster('usage', conf => "shared_preload_libraries = 'slm_pg'\nslm.threads = 1\nslm.usage_rows = 100\nslm.job_workers = 1\n"
	  . "max_parallel_workers_per_gather = 2\nparallel_setup_cost = 0\nparallel_tuple_cost = 0\nmin_parallel_table_scan_size = 0\n"
	  . "log_min_messages = log\n");
my $data = "$FindBin::RealBin/../data";
$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('small', '$data/tiny.gguf');
SELECT slm_grant_model(m, 'public') FROM unnest('{smollm2,small}'::text[]) m;
CREATE TABLE texts (id int PRIMARY KEY, body text, other text);
INSERT INTO texts SELECT i, 'row number ' || (100 + i) FROM generate_series(1, 400) i;
ALTER TABLE texts SET (parallel_workers = 2);
ANALYZE texts;
CREATE ROLE app LOGIN;
GRANT ALL ON texts TO app;
SQL

sub usage { return $node->safe_psql('postgres', "SELECT coalesce(sum($_[0]), 0)::bigint FROM slm.usage WHERE $_[1]"); }
sub application { return $node->connstr('postgres') . " application_name=$_[0]"; }
my $call = "slm_generate(body, max_tokens => 3, model => 'small', chat => false)";

# What a row takes is what it takes alone.
my $alone = $node->safe_psql('postgres', "SELECT slm_generate(body, max_tokens => 3, model => 'small', chat => false) FROM texts WHERE id = 1; "
	  . "SELECT prompt_tokens || ' ' || output_tokens FROM slm.usage WHERE function = 'slm_generate' AND model = 'small'");
$alone =~ s/.*\n//s;
my ($prompt, $output) = split ' ', $alone;
cmp_ok($prompt, '>', 0, "a row's prompt has $prompt tokens");
$node->safe_psql('postgres', 'SELECT slm_reset_usage()');

# ---- sessions and parallel workers
my @sessions = map { SlmTest::Session->new($node) } 1 .. 8;
$_->query("SET application_name = 'eight'; SET slm.batch_size = 16") for @sessions;
$_->send("SELECT count($call) FROM texts") for @sessions;
$_->wait for @sessions;
my $plan = $sessions[0]->query("EXPLAIN (COSTS off) SELECT count($call) FROM texts");
like($plan, qr/Workers Planned/, 'parallel workers had their part');
is(usage('calls', "application_name = 'eight'"), 8 * 400, 'calls of 8 sessions with parallel workers');
is(usage('requests', "application_name = 'eight'"), 8 * 400, 'requests');
is(usage('prompt_tokens', "application_name = 'eight'"), 8 * 400 * $prompt, 'tokens of prompts');
is(usage('output_tokens', "application_name = 'eight'"), 8 * 400 * $output, 'tokens of answers');

# ---- rolled back, failed
$sessions[0]->query("SET application_name = 'undone'; SET max_parallel_workers_per_gather = 0");
$sessions[0]->query("BEGIN");
$sessions[0]->query("SELECT $call FROM texts WHERE id <= 10");
$sessions[0]->query("ROLLBACK");
is(usage('prompt_tokens', "application_name = 'undone'"), 10 * $prompt, 'a statement that was rolled back has computed');
$sessions[0]->query("SELECT $call, 1 / (id - 10) FROM texts WHERE id = 10");
is(usage('prompt_tokens', "application_name = 'undone'"), 11 * $prompt, 'one that failed afterwards, too');

# ---- cancelled: every token that the session has computed is there
my $story = "SELECT count(slm_generate('Tell a story of ' || i, max_tokens => 400)) FROM generate_series(1, 4) i";
$sessions[1]->query("SET application_name = 'cancelled'");
$sessions[1]->send($story);
my ($seen, $tries) = (0, 0);
while ($seen < 200 && $tries++ < 600)
{
	$seen = $node->safe_psql('postgres', "SELECT coalesce(max(tokens), 0) FROM slm.progress WHERE pid = $sessions[1]->{pid}") || 0;
	sleep 0.05;
}
cmp_ok($seen, '>=', 200, 'the statement computes');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($sessions[1]->{pid})");
$sessions[1]->wait;
like($sessions[1]->{error}, qr/cancel/, 'and is cancelled');
cmp_ok(usage('tokens', "application_name = 'cancelled'"), '>=', $seen, 'what it had computed is counted');
is(usage('requests', "application_name = 'cancelled'"), 4, 'with its requests');
is(usage('calls', "application_name = 'cancelled'"), 4, 'and its calls');

# ---- killed: the backend hands over what it has
$sessions[2]->query("SET application_name = 'terminated'; BEGIN");
$sessions[2]->query("SELECT $call FROM texts WHERE id <= 5");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($sessions[2]->{pid}, 5000)");
is(usage('prompt_tokens', "application_name = 'terminated'"), 5 * $prompt, 'a session that was ended has computed');

# ---- a job: its owner pays
$node->safe_psql('postgres', "SELECT slm_create_job('names', 'texts', 'other', \$\$$call\$\$)");
ok($node->poll_query_until('postgres', "SELECT done >= 400 FROM slm.job_status WHERE name = 'names'"), 'the job is done');
ok($node->poll_query_until('postgres',
		"SELECT coalesce(sum(prompt_tokens), 0) = 400 * $prompt FROM slm.usage WHERE role = current_user AND model = 'small' AND application_name NOT IN ('eight', 'undone', 'terminated', '062_usage.pl')"),
	'and counted to its owner');
$node->safe_psql('postgres', "SELECT slm_drop_job('names')");

# ---- who sees what
is($node->safe_psql('postgres', "SELECT count(*) FROM slm.usage", extra_params => [ '-U', 'app' ]), 0, "a role does not see what others did");
$node->safe_psql('postgres', "SELECT $call FROM texts WHERE id <= 3", extra_params => [ '-U', 'app' ]);
is($node->safe_psql('postgres', "SELECT sum(prompt_tokens) FROM slm.usage", extra_params => [ '-U', 'app' ]), 3 * $prompt, 'but its own');

# ---- a restart, and a crash
my $sum = usage('prompt_tokens', 'true');
$node->restart;
is(usage('prompt_tokens', 'true'), $sum, 'a restart forgets nothing');
my $columns = 'day, role, database, application_name, function, model, calls, requests, prompt_tokens, reused_tokens, output_tokens, label_tokens, cpu_seconds';
my $rows = $node->safe_psql('postgres', "SELECT md5(string_agg((u.*)::text, ' ' ORDER BY u.*)) FROM (SELECT $columns FROM slm.usage) u");
$node->restart;
is($node->safe_psql('postgres', "SELECT md5(string_agg((u.*)::text, ' ' ORDER BY u.*)) FROM (SELECT $columns FROM slm.usage) u"), $rows, 'every figure');
$node->stop('immediate');
$node->start;
is(usage('prompt_tokens', 'true'), $sum, 'nor does a crash what had been saved');

# ---- full: rows are folded, none is lost
my $total = usage('prompt_tokens', 'true');
$node->safe_psql('postgres', join(";\n", map { "SET application_name = 'many $_'; SELECT $call FROM texts WHERE id = 1" } 1 .. 150));
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM slm.usage'), '<=', 100, 'a full table stays full');
is(usage('prompt_tokens', 'true'), $total + 150 * $prompt, 'and adds up');
cmp_ok(usage('prompt_tokens', "function = '(other)'"), '>', 0, 'in a row of others');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT role::text, ',' ORDER BY role::text) FROM slm.usage"), 'app,' . $node->safe_psql('postgres', 'SELECT current_user'), 'that has kept whose they were');

# ---- a file is hostile
my $file = $node->data_dir . '/pg_stat/slm_pg_usage';
sub damaged
{
	my ($what, $change) = @_;
	my $before = usage('calls', 'true');
	$node->stop;
	my $bytes = slurp_file($file);
	$change->(\$bytes);
	open(my $f, '>:raw', $file) or die "$file: $!";
	print $f $bytes;
	close $f;
	$node->start;
	is(usage('calls', 'true'), 0, "$what: counted from now on");
	ok(-e "$file.damaged", "$what: the file is kept");
	unlink "$file.damaged";
	$node->safe_psql('postgres', "SELECT $call FROM texts WHERE id <= 2");
	return;
}
damaged('a flipped bit', sub { substr(${ $_[0] }, length(${ $_[0] }) / 2, 1) ^= "\x04" });
damaged('cut short', sub { ${ $_[0] } = substr(${ $_[0] }, 0, -9) });
damaged('longer', sub { ${ $_[0] } .= 'x' });
damaged('empty', sub { ${ $_[0] } = '' });
damaged('another version', sub { substr(${ $_[0] }, 8, 1) = "\x07" });
damaged('four billion rows', sub { substr(${ $_[0] }, 16, 4) = "\xff\xff\xff\xff" });
$node->stop;
done_testing();
