# Rows fail alone: random statements with on_error => 'null' over texts of which 9 % are too long, 1 % empty and some invalid.  No
# statement ends, the WARNING counts what went wrong, and the batch node says the same as one row at a time.  Then what only several
# processes or other encodings show: parallel workers, jobs, triggers, invalid bytes.
#
# SLM_TEST_SEED chooses other statements, SLM_TEST_LONG=1 more of them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $tiny = "$FindBin::RealBin/../data/tiny.gguf";
my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";

my $seed = $ENV{SLM_TEST_SEED} || 7;
my $count = long_run() ? 10000 : 2000;
my $state = $seed;
sub rnd { my ($n) = @_; $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $n; }
sub pick { return $_[ rnd(scalar @_) ]; }

my $node = PostgreSQL::Test::Cluster->new('on_error');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'slm_pg'\nmax_connections = 40\nmax_worker_processes = 16\nslm.generate_model = 'tiny'\n"
	  . "slm.classify_model = 'tiny'\nslm.embed_model = 'minilm'\nslm.threads = 1\nslm.on_error = 'null'\nclient_min_messages = warning\n");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION slm_pg; SELECT slm_load_model('tiny', '$tiny'); SELECT slm_load_model('minilm', '$minilm')");

# Kinds of rows by their number; what is too long for the tiny model is so for the encoder.
sub kind { my ($i) = @_; return $i % 11 == 0 ? 'long' : $i == 7 ? 'empty' : $i % 20 == 5 ? 'null' : $i % 50 == 3 ? 'invalid' : 'fine'; }
$node->safe_psql('postgres', q{
	CREATE TABLE mail (id int PRIMARY KEY, body text, messages jsonb, tokens int[], pad text) WITH (parallel_workers = 2);
	INSERT INTO mail SELECT i, CASE k WHEN 'long' THEN 'Mail ' || i || repeat(' long', 3000) WHEN 'empty' THEN '' WHEN 'null' THEN NULL ELSE 'mail ' || i % 13 END,
		CASE k WHEN 'long' THEN jsonb_build_array(jsonb_build_object('role', 'user', 'content', repeat('long ', 3000))) WHEN 'invalid' THEN '{"role": "user"}'
			WHEN 'null' THEN NULL ELSE '[{"role": "user", "content": "hi"}]' END,
		CASE k WHEN 'invalid' THEN '{-1}' WHEN 'null' THEN NULL ELSE '{65, 66}'::int[] END, repeat('x', 400)
	FROM generate_series(1, 100) i, LATERAL (SELECT CASE WHEN i % 11 = 0 THEN 'long' WHEN i = 7 THEN 'empty' WHEN i % 20 = 5 THEN 'null' WHEN i % 50 = 3 THEN 'invalid'
		ELSE 'fine' END AS k) s;
	CREATE TABLE made (id int, v text);
	ANALYZE});

# expression, the kinds that it takes as long, empty and invalid, and how many statements of a hundred have it
my @calls = (
	[ 'slm_generate(body, max_tokens => 1)', 'long', '', '' ],
	[ 'slm_summarize(body, 1, truncate => false)', 'long', '', '' ],
	[ 'round(slm_perplexity(body)::numeric, 3)', 'long', '', '' ],
	[ "slm_classify(body, ARRAY['a', 'b'], truncate => false)", 'long', 'empty', '' ],
	[ "slm_classify(body, ARRAY['a', 'b'], method => 'direct', truncate => false)", 'long', 'empty', '' ],
	[ "slm_classify_scores_json(body, descriptions => '{\"a\": \"x\", \"b\": null}', truncate => false)", 'long', 'empty', '' ],
	[ "slm_classify_multi(body, ARRAY['a', 'b'], threshold => 0, truncate => false)", 'long', 'empty', '' ],
	[ "slm_classify(body, ARRAY['a', 'b'], 'minilm', truncate => false)", 'long', 'empty', '' ],
	[ "slm_filter('mail', body, threshold => 0.5, truncate => false)", 'long', 'empty', '' ],
	[ "slm_decide(body, '[{\"type\": \"yes_no\", \"question\": \"mail\"}]', truncate => false)", 'long', 'empty', '' ],
	[ 'slm_similarity(\'mail\', body, truncate => false)', 'long', '', '' ],
	[ '(slm_embed(body, truncate => false))[1]', 'long', '', '' ],
	[ 'slm_chat(messages, max_tokens => 1)', 'long', '', 'invalid' ],
	[ 'slm_detokenize(tokens)', '', '', 'invalid' ],
	[ 'slm_count_tokens(body)', '', '', '' ]);

# A condition on id and the ids that it takes.
sub rows
{
	my $from = 1 + rnd(95);
	my $n = rnd(12) == 0 ? 100 : 1 + rnd(12);
	my @ids = grep { $_ <= 100 } $from .. $from + $n - 1;
	return ("id BETWEEN $from AND " . ($from + $n - 1), @ids);
}

# What the WARNING must say, or the empty string.
sub warning_of
{
	my ($call, @ids) = @_;
	my ($n, $long, $empty, $invalid) = (0, 0, 0, 0);
	for my $id (@ids)
	{
		my $k = kind($id);
		$n++;
		$long++ if $k eq $call->[1];
		$empty++ if $k eq $call->[2];
		$invalid++ if $k eq $call->[3];
	}
	my @kinds = (($long ? "$long too long" : ()), ($empty ? "$empty empty" : ()), ($invalid ? "$invalid invalid" : ()));
	return @kinds ? sprintf('%d of %d row%s gave NULL: %s', $long + $empty + $invalid, $n, $n == 1 ? '' : 's', join(', ', @kinds)) : '';
}

# A statement around a call and the ids of the rows that it computes.
sub statement
{
	my ($call) = @_;
	my ($where, @ids) = rows();
	my $k = rnd(15);
	return ("SELECT id, $call FROM mail WHERE $where ORDER BY id", @ids) if $k < 3;
	return ("SELECT count($call) FROM mail WHERE $where", @ids) if $k == 3;
	return ("SELECT id FROM mail WHERE $where AND ($call) IS NULL ORDER BY id", @ids) if $k == 4;
	return ("SELECT id, CASE WHEN id % 2 = 0 THEN $call END FROM mail WHERE $where ORDER BY id", grep { $_ % 2 == 0 } @ids) if $k == 5;
	return ("UPDATE mail SET pad = left(pad, 400 - length(left(($call)::text, 0))) WHERE $where", @ids) if $k == 6;
	return ("INSERT INTO made SELECT id, $call FROM mail WHERE $where", @ids) if $k == 7;
	return ("COPY (SELECT $call FROM mail WHERE $where ORDER BY id) TO STDOUT", @ids) if $k == 8;
	return ("DO \$\$ DECLARE r record; BEGIN FOR r IN SELECT $call AS v FROM mail WHERE $where LOOP END LOOP; END \$\$", @ids) if $k == 9;
	if ($k == 10)
	{
		my $limit = 1 + rnd(scalar @ids);
		return ("SELECT id, $call FROM mail WHERE $where ORDER BY id LIMIT $limit", @ids[ 0 .. $limit - 1 ]);
	}
	return ("SELECT count(*) FILTER (WHERE ($call) IS NULL) FROM mail WHERE $where", @ids) if $k == 13;
	return ("SELECT id, row_number() OVER (ORDER BY id) FROM mail WHERE $where ORDER BY ($call)::text, id", @ids) if $k == 14;
	return ("WITH m AS MATERIALIZED (SELECT id, $call AS v FROM mail WHERE $where) SELECT count(v), count(*) FROM m", @ids) if $k == 11;
	return ("SELECT m.id, x.v FROM mail m, LATERAL (SELECT $call AS v FROM mail i WHERE i.id = m.id) x WHERE m.$where ORDER BY 1", @ids);
}

# ---- 2,000 statements
my $session = SlmTest::Session->new($node);
my (@ended, @miscounted, @different, %of_kind);
for my $i (1 .. $count / 2)
{
	my $call = $calls[ rnd(scalar @calls) ];
	my ($sql, @ids) = statement($call->[0]);
	my $wanted = warning_of($call, @ids);
	my @answers;
	for my $batch ('on', 'off')
	{
		my ($out, $err) = do { $session->send("SET slm.enable_batch = $batch;\n$sql"); $session->wait; };
		my @warnings = $err =~ /WARNING:\s+(.*gave NULL.*)/g;
		push @ended, "$sql: $err" if $err =~ /ERROR|FATAL/;
		push @miscounted, "$sql ($batch): '@warnings', not '$wanted'" if "@warnings" ne $wanted;
		$err =~ s/DETAIL:.*//; # which texts are the first depends on workers, and on where an UPDATE has moved the rows
		push @answers, join("\n", grep { $_ ne '' } split(/\n/, "$out\n$err"));
	}
	push @different, "$sql: $answers[0] --- $answers[1]" if $answers[0] ne $answers[1];
	$of_kind{ $wanted eq '' ? 'none' : $wanted =~ /empty|invalid/ ? 'others' : 'long' }++;
}
is(scalar @ended, 0, "no statement of $count ends with an error");
is(scalar @miscounted, 0, 'each WARNING counts right');
is(scalar @different, 0, 'the batch node gives the same rows and the same WARNING');
diag($_) for grep { defined } @ended[ 0 .. 2 ], @miscounted[ 0 .. 2 ], @different[ 0 .. 2 ];
cmp_ok($of_kind{$_} || 0, '>', $count / 80, "statements with: $_") for qw(none long others);

# ---- parallel workers: one WARNING with the sum
my $classify = "slm_classify(body, ARRAY['a', 'b'], truncate => false)";
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;'
  . ' SET parallel_leader_participation = off;';
$node->safe_psql('postgres', 'CREATE TABLE wide (id int, body text, pad char(1500) DEFAULT repeat(\'x\', 1500)) WITH (parallel_workers = 2);'
	  . ' INSERT INTO wide SELECT id, body FROM mail; ANALYZE wide');
for my $batch ('on', 'off')
{
	$session->query("$parallel SET slm.enable_batch = $batch");
	like($session->query("EXPLAIN (ANALYZE, COSTS OFF) SELECT count($classify) FROM wide"), qr/Workers Launched: 2/, "in two workers, node $batch");
	my ($out, $err) = do { $session->send("SELECT count($classify) FROM wide"); $session->wait; };
	is($out, '85', "in parallel workers, node $batch: rows");
	is(join('|', $err =~ /WARNING:\s+(.*)/g), '10 of 100 rows gave NULL: 9 too long, 1 empty', "in parallel workers, node $batch: one WARNING, and the sum");
	($out, $err) = do { $session->send("SELECT count($classify) / 0 FROM wide"); $session->wait; };
	like($err, qr/division by zero/, 'a statement that fails after its workers');
	unlike($err, qr/gave NULL/, 'says nothing of them');
	($out, $err) = do { $session->send("SELECT count($classify) FROM wide WHERE id < 3"); $session->wait; };
	is($err, '', 'and leaves nothing behind');
}
$session->query('RESET ALL');

# ---- a job: the rows are done, the log has the WARNING
my $offset = -s $node->logfile;
$node->safe_psql('postgres', "ALTER TABLE mail ADD label text;"
	  . "SELECT slm_create_job('labels', 'mail', 'label', 'slm_classify(body, ARRAY[''a'', ''b''], truncate => false, on_error => ''null'')')");
$node->poll_query_until('postgres', "SELECT pending = 0 AND running = 0 AND state = 'idle' FROM slm.job_status") or die 'the job does not end';
is($node->safe_psql('postgres', 'SELECT done, failed FROM slm.job_status'), '100|0', 'a job: no row fails');
is($node->safe_psql('postgres', 'SELECT count(label) FROM mail'), '85', 'a job: NULL where there is no answer');
my ($faults, $log) = (0, slurp_file($node->logfile, $offset));
$faults += $1 while $log =~ /WARNING:\s+(\d+) of \d+ rows? gave NULL/g;
is($faults, 10, 'a job: the server log counts them');
$node->safe_psql('postgres', "SELECT slm_drop_job('labels')");

# ---- bytes that are no text of the engine's encoding
for my $case ([ 'ascii', 'SQL_ASCII', "E'caf\\xE9 au lait'", 'caf. au lait' ], [ 'windows', 'WIN1252', "'x' || chr(129)", 'x.' ])
{
	my ($db, $encoding, $text, $shown) = @$case;
	$node->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$node->safe_psql($db, "CREATE EXTENSION slm_pg; SELECT slm_load_model('tiny', '$tiny'); CREATE TABLE t (body text);"
		  . "INSERT INTO t VALUES ('fine'), ($text), ('fine too')");
	for my $call ('slm_generate(body, max_tokens => 1)', "slm_classify(body, ARRAY['a', 'b'], truncate => false)", 'slm_count_tokens(body)', 'slm_perplexity(body)')
	{
		my ($rc, $out, $err) = $node->psql($db, "SET client_encoding = 'UTF8'; SELECT count($call) FROM t");
		is($out, '2', "$encoding: $call");
		like($err, qr/WARNING:  1 of 3 rows gave NULL: 1 invalid\nDETAIL:  "$shown" \(invalid\)/, "$encoding: $call: the WARNING");
	}
	my ($rc, $out, $err) = $node->psql($db, "SELECT count(slm_generate('x', system => body)) FROM t");
	isnt($rc, 0, "$encoding: an instruction that is no text is no error of the input");
}

# ---- without preloading each worker has a WARNING of its own
$session->quit;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nslm.engine = 'auto'");
$node->restart;
my ($rc, $out, $err) = $node->psql('postgres', "$parallel SELECT count($classify) FROM wide");
$faults = 0;
$faults += $1 while $err =~ /WARNING:\s+(\d+) of \d+ rows? gave NULL/g;
is($out, '85', 'not preloaded: rows');
is($faults, 10, 'not preloaded: the WARNINGs of the workers add up');

$node->stop;
done_testing();
