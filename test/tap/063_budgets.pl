# Budgets hold whoever spends from them: sessions side by side, parallel workers, jobs, over a restart.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use SlmTest;

my $node = slm_cluster('budgets', empty => 1, conf => "shared_preload_libraries = 'slm_pg'\nslm.threads = 1\nslm.generate_model = 'small'\n"
	  . "max_parallel_workers_per_gather = 2\nparallel_setup_cost = 0\nparallel_tuple_cost = 0\nmin_parallel_table_scan_size = 0\n");
my $data = "$FindBin::RealBin/../data";
$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('small', '$data/tiny.gguf');
SELECT slm_grant_model('small', 'public');
CREATE TABLE texts (id int PRIMARY KEY, body text, other text);
-- rows that take as much each, and begin too differently to share a beginning
INSERT INTO texts SELECT row_number() OVER (), body
	FROM (SELECT left(md5(i::text), 14) AS body FROM generate_series(1, 2000) i) b,
		slm_generate_details(body, model => 'small', max_tokens => 3, chat => false)
	WHERE prompt_tokens = 14 AND output_tokens = 3 LIMIT 400;
ALTER TABLE texts SET (parallel_workers = 2);
ANALYZE texts;
CREATE ROLE app LOGIN;
ALTER TABLE texts OWNER TO app;
SQL
my $call = "slm_generate(body, max_tokens => 3, chat => false)";
sub used { return $node->safe_psql('postgres', "SELECT coalesce(sum(tokens), 0) FROM slm.usage WHERE $_[0]"); }

$node->safe_psql('postgres', "SET application_name = 'ten'; SELECT count($call) FROM texts WHERE id <= 10");
my $row = used("application_name = 'ten'") / 10;
cmp_ok($row, '>', 1, "a row takes $row tokens");

# ---- parallel workers share the limit of their statement
my $limit = 100 * $row;
my ($status, $out, $err) = $node->psql('postgres', "SET application_name = 'parallel'; SET slm.max_tokens_per_statement = $limit; SELECT count($call) FROM texts");
like($err, qr/more than the $limit tokens/, 'a statement with parallel workers ends at its limit');
cmp_ok(used("application_name = 'parallel'"), '<=', $limit, 'and not a token beyond');

# ---- and one that fits is not refused, though each worker may need more at once than is left
$limit = 400 * $row;
is($node->safe_psql('postgres', "SET application_name = 'fits'; SET slm.max_tokens_per_statement = $limit; SELECT count($call) FROM texts"), 400, 'a statement with parallel workers that takes just its limit is computed');
is(used("application_name = 'fits'"), $limit, 'to the last token');

# ---- eight sessions of a role
my $budget = 1000 * $row;
$node->safe_psql('postgres', "SELECT slm_set_budget('app', $budget)");
my @sessions = map { SlmTest::Session->new($node) } 1 .. 8;
$_->query("SET ROLE app; SET application_name = 'eight'") for @sessions;
$_->send("SELECT count($call) FROM texts") for @sessions;
$_->wait for @sessions;
cmp_ok(scalar(grep { $_->{error} =~ /used up its budget/ } @sessions), '>=', 5, 'sessions that share a budget end when it does');
cmp_ok(used("role = 'app'"), '<=', $budget, 'not a token beyond');
my $left = $budget - used("role = 'app'");
$sessions[0]->query("SELECT $call FROM texts WHERE id <= $left / $row");
is($sessions[0]->{error}, '', 'what they gave back can be spent');
$sessions[0]->query("SELECT count($call) FROM texts");
cmp_ok(used("role = 'app'"), '<=', $budget, 'to the last token');
cmp_ok(used("role = 'app'"), '>', $budget - $row, 'which is near');
is($node->safe_psql('postgres', "SELECT used FROM slm.budgets"), used("role = 'app'"), 'slm.budgets says so');
$_->quit for @sessions;

# ---- over a restart
$node->restart;
($status, $out, $err) = $node->psql('postgres', "SET ROLE app; SELECT count($call) FROM texts");
like($err, qr/used up its budget/, 'a restart gives nobody a new budget');
cmp_ok(used("role = 'app'"), '<=', $budget, 'nor a token more');

# ---- a job of the role waits, and goes on
$node->safe_psql('postgres', "SET ROLE app; SELECT slm_create_job('names', 'texts', 'other', \$\$$call\$\$)");
ok($node->poll_query_until('postgres', "SELECT error LIKE '%used up its budget%' FROM slm.jobs WHERE name = 'names'"), 'a job says why it waits');
is($node->safe_psql('postgres', "SELECT count(*) FROM slm.job_failures"), 0, 'no row is at fault');
$node->safe_psql('postgres', "SELECT slm_set_budget('app', NULL)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 400 FROM texts WHERE other IS NOT NULL"), 'and it goes on when there is one again');
$node->stop;
done_testing();
