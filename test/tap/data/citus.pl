# Distributed tables of Citus, where that extension is installed: models on all nodes by one call, batches on the workers, answers as on one
# node, pinned calls where Citus wants immutable ones, clear refusals elsewhere; rows a second on one, two and three nodes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use SlmTest;

my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";
my $share = `pg_config --sharedir`;
chomp $share;
plan(skip_all => 'Citus is not installed') unless -e "$share/extension/citus.control";

my %node;
for my $name ('coordinator', 'worker1', 'worker2')
{
	my $node = $node{$name} = PostgreSQL::Test::Cluster->new($name, own_host => 1);
	$node->init;
	$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'citus,slm_pg'
citus.node_conninfo = 'sslmode=prefer'
citus.enable_statistics_collection = off
max_connections = 60
slm.threads = 1
jit = off
CONF
	$node->append_conf('pg_hba.conf', 'host all all 127.0.0.0/8 trust');
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION citus');
}
my $on = $node{coordinator};

sub sql { return $on->safe_psql('postgres', $_[0]); }

sub refused
{
	my ($sql, $pattern, $name) = @_;
	my ($rc, $out, $err) = $on->psql('postgres', $sql);
	isnt($rc, 0, "$name: refused");
	like($err, $pattern, "$name: says why");
	return;
}

# ---- the extension and a model on all nodes, by one call

sql("SELECT citus_set_coordinator_host('" . $on->host . "', " . $on->port . ')');
sql("SELECT citus_add_node('" . $node{$_}->host . "', " . $node{$_}->port . ')') for ('worker1', 'worker2');
sql('CREATE EXTENSION slm_pg');
is($node{worker1}->safe_psql('postgres', "SELECT count(*) FROM pg_extension WHERE extname = 'slm_pg'"), '1', 'CREATE EXTENSION reaches the workers');
my $load = "SELECT bool_and(success), count(*) FROM run_command_on_all_nodes(\$\$SELECT (slm_load_model('minilm', '$minilm')).name\$\$)";
is(sql($load), 't|3', 'a model on all nodes by one call');
my $digest = sql("SELECT slm_model_digest('minilm')");
is(sql("SELECT bool_and(result = '$digest') FROM run_command_on_all_nodes(\$\$SELECT slm_model_digest('minilm')\$\$)"), 't', 'with one digest');
sql("ALTER DATABASE postgres SET slm.embed_model = 'minilm'; ALTER DATABASE postgres SET slm.classify_model = 'minilm'");
is($node{worker2}->safe_psql('postgres', 'SHOW slm.embed_model'), 'minilm', 'settings of the database reach the workers');

# ---- answers as on one node, batches on the workers

my $body = q{(ARRAY['the parcel has not arrived', 'I was charged twice', 'the app shows an error', 'thank you for the quick help'])[1 + i % 4] || ', order ' || i};
sql("CREATE TABLE local AS SELECT i AS id, $body AS body FROM generate_series(1, 400) i;
	CREATE TABLE mail (id int PRIMARY KEY, body text, label text, e real[]);
	SELECT create_distributed_table('mail', 'id', shard_count => 8);
	INSERT INTO mail (id, body) SELECT id, body FROM local");
is(sql('SELECT count(DISTINCT nodename) FROM citus_shards'), '2', 'shards on both workers');
my $labels = q{ARRAY['delivery', 'billing', 'technical problem', 'praise']};
my $call = "slm_classify(body, $labels)";
my $plan = sql("SET citus.explain_all_tasks = on; EXPLAIN (COSTS OFF) SELECT $call, count(*) FROM mail GROUP BY 1");
is(() = $plan =~ /SLM Batch/g, 8, 'a batch node in every task');
my $groups = "SELECT $call AS label, count(*) FROM %s GROUP BY 1 ORDER BY 1";
is(sql(sprintf($groups, 'mail')), sql(sprintf($groups, 'local')), 'grouped: as on one node');
my $vectors = 'SELECT md5(string_agg(e::text, \' \' ORDER BY id)) FROM (SELECT id, slm_embed(body) AS e FROM %s) v';
is(sql(sprintf($vectors, 'mail')), sql(sprintf($vectors, 'local')), 'embeddings: the same bits');

# ---- what writes takes immutable functions: the pinned ones; in batches on the workers

refused("UPDATE mail SET label = $call", qr/STABLE functions used in UPDATE queries/, 'a stable call in UPDATE');
my $pinned = "slm_classify_pinned(body, $labels, 'minilm', '$digest')";
like(sql("EXPLAIN (COSTS OFF) UPDATE mail SET label = $pinned"), qr/SLM Batch/, 'a pinned one is batched in the task');
sql("UPDATE mail SET label = $pinned, e = slm_embed_pinned(body, 'minilm', '$digest')");
is(sql("SELECT count(*) FROM mail m JOIN (SELECT id, $call AS label, slm_embed(body) AS e FROM local) l USING (id) WHERE m.label = l.label AND m.e = l.e"),
	'400', 'UPDATE: every row as on one node');
sql("CREATE TABLE labelled (id int, label text); SELECT create_distributed_table('labelled', 'id', colocate_with => 'mail')");
like(sql("EXPLAIN (COSTS OFF) INSERT INTO labelled SELECT id, $pinned FROM mail"), qr/SLM Batch/, 'INSERT .. SELECT is pushed down, in batches');
sql("INSERT INTO labelled SELECT id, $pinned FROM mail");
is(sql('SELECT count(*) FROM labelled l JOIN mail m USING (id) WHERE l.label = m.label'), '400', 'and is right');
sql("CREATE TABLE made (id int, body text, label text GENERATED ALWAYS AS ($pinned) STORED); SELECT create_distributed_table('made', 'id', colocate_with => 'mail');
	INSERT INTO made (id, body) SELECT id, body FROM local WHERE id <= 20");
is(sql('SELECT count(*) FROM made JOIN mail USING (id) WHERE made.label = mail.label'), '20', 'a generated column of a distributed table');
sql(q{SELECT run_command_on_workers($$SELECT slm_rename_model('minilm', 'other', cascade => true)$$)});
refused("UPDATE mail SET label = $pinned", qr/model "minilm" does not exist/, 'a node without the model');
sql(q{SELECT run_command_on_workers($$SELECT slm_rename_model('other', 'minilm', cascade => true)$$)});

# ---- jobs and triggers

for my $statement ("SELECT slm_create_job('labels', 'mail', 'label', \$\$$call\$\$)", "SELECT slm_create_trigger('mail', 'label', \$\$$call\$\$)",
	"CALL slm_update('mail', 'label', \$\$$call\$\$)")
{
	refused($statement, qr/mail is distributed by Citus.*slm_classify_pinned/s, $statement);
}

# ---- how many rows a second, on one node, on two workers, and with the coordinator as a third; one thread a backend

if (long_run())
{
	my $rows = 8000;
	sql("TRUNCATE mail; INSERT INTO mail (id, body) SELECT i, $body || ', please answer soon' FROM generate_series(1, $rows) i; ANALYZE mail;
		CREATE TABLE alone AS SELECT id, body FROM mail; SELECT slm_prewarm('minilm')");
	my $count = 'SET max_parallel_workers_per_gather = 0; SELECT count(slm_embed(body)) FROM %s';
	my %took;
	for my $round (1 .. 2)
	{
		for my $table ('alone', 'mail')
		{
			my $begin = time();
			sql(sprintf($count, $table));
			my $took = time() - $begin;
			$took{$table} = $took if !defined($took{$table}) || $took < $took{$table};
		}
	}
	note sprintf('one node, one backend: %.0f rows/s; two workers: %.0f rows/s, %.2f x', $rows / $took{alone}, $rows / $took{mail}, $took{alone} / $took{mail});
	ok($took{mail} < 1.5 * $took{alone}, 'two workers are not slower than one node');
}

done_testing();
