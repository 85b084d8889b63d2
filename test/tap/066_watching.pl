# What somebody who watches a server sees: lines in its log, calls of batches in pg_stat_user_functions, the queries of the exporter's file.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $data = "$FindBin::RealBin/../data";
my $node = slm_cluster('watched', empty => 1, conf => "shared_preload_libraries = 'slm_pg'\ntrack_functions = 'all'\nmax_parallel_workers_per_gather = 0\n");

sub sql { return $node->safe_psql('postgres', $_[0]); }

# ---- the log: who did what; not what was refused

sql(qq{CREATE ROLE ana LOGIN; CREATE ROLE prometheus LOGIN IN ROLE pg_monitor;
	SELECT slm_load_model('tiny', '$data/tiny.gguf');
	SELECT slm_load_adapter('lora', 'tiny', '$data/tiny_lora.gguf');
	SELECT slm_grant_model('tiny', 'ana'), slm_revoke_model('tiny', 'ana'), slm_grant_model('tiny', 'public');
	SELECT slm_rename_model('tiny', 'small'), slm_set_model_owner('small', 'ana'), slm_drop_adapter('lora')});
like(($node->psql('postgres', "SET ROLE prometheus; SELECT slm_drop_model('small')"))[2], qr/must be owner of model/, 'refused');
my $log = slurp_file($node->logfile);
for my $line (qr{model "tiny" loaded from "[^"]*tiny\.gguf" by role}, qr{adapter "lora" loaded from}, qr{model "tiny" granted to "ana" by role},
	qr{model "tiny" revoked from "ana"}, qr{model "tiny" granted to "public"}, qr{model "tiny" renamed to "small"}, qr{model "small" given to "ana"},
	qr{adapter "lora" dropped by role})
{
	like($log, qr{LOG:  slm_pg: $line}, "logged: $line");
}
unlike($log, qr{slm_pg: model "small" dropped}, 'a refusal is no change');
sql("SELECT slm_set_model_owner('small', current_user); SELECT slm_store_model('small')");

# ---- track_functions: calls of a batch node and single ones, equal texts too

sql("CREATE TABLE note AS SELECT i AS id, 'note ' || i % 5 AS body FROM generate_series(1, 40) i; ALTER TABLE note ADD PRIMARY KEY (id), ADD n text;
	ALTER DATABASE postgres SET slm.generate_model = 'small'");
like(sql('EXPLAIN SELECT slm_generate(body, max_tokens => 2) FROM note'), qr/SLM Batch/, 'in a node');
sql('SELECT slm_generate(body, max_tokens => 2) FROM note');
sql("SELECT slm_generate('x', max_tokens => 2)");
is(sql("SELECT calls, total_time > 0, self_time > 0 FROM pg_stat_user_functions WHERE funcname = 'slm_generate'"), '41|t|t', 'every call was counted');
sql('SET track_functions = none; SELECT slm_generate(body, max_tokens => 2) FROM note');
is(sql("SELECT calls FROM pg_stat_user_functions WHERE funcname = 'slm_generate'"), '41', 'none where it is off');

# ---- the exporter's file

sql("ALTER TABLE note OWNER TO ana; GRANT ana TO prometheus; SET SESSION AUTHORIZATION ana; SELECT slm_create_job('notes', 'note', 'n', 'slm_generate(body, max_tokens => 2)')");
$node->poll_query_until('postgres', "SELECT state = 'idle' AND done = 40 FROM slm.job_status") or die 'the job does not end';
my ($name, %rows);
for (split /\n/, slurp_file("$FindBin::RealBin/../../packaging/prometheus/slm_pg.yaml"))
{
	$name = $1 if /^(\w+):/;
	next unless /^  query: "(.*)"$/;
	my $query = $1;
	my ($rc, $out, $err) = $node->psql('postgres', "SET ROLE prometheus; SELECT count(*) FROM ($query) q");
	is("$rc$err", '0', "$name runs");
	$rows{$name} = $out;
}
cmp_ok($rows{slm_usage}, '>=', 1, 'usage is seen');
is($rows{slm_engine}, '1', 'the engine, which has not been asked');
is($rows{slm_jobs}, '1', 'a job, of a role whose rights it has');
is(join(' ', sort keys %rows), 'slm_engine slm_jobs slm_sessions slm_usage', 'all of them');

done_testing();
