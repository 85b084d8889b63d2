# A random walk of an unprivileged role over everything that the extension offers, beside administrators who use it, too.
#
# mallory owns two schemas and fills them with traps: functions, operators, casts, aggregates, views, triggers, rules, domains, index
# expressions, column defaults and policies that have the names and shapes of what the extension's own statements use.  Each trap
# writes current_user to the server log.  The walk runs random statements as her (also through SET ROLE and under search_paths of her
# choice), makes jobs and triggers, and lets a superuser and another role look at, run, alter and drop what she made; the job worker
# works all the time.  In the end the log may name nobody but mallory (and roles that she belongs to), she may have gained no right,
# and the server may not have restarted.
#
# Everything follows from the seed: SLM_TEST_SEED chooses another, SLM_TEST_COUNT another number of statements; SLM_TEST_LONG=1: 20,000.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $seed = $ENV{SLM_TEST_SEED} || 59;
my $count = $ENV{SLM_TEST_COUNT} || (long_run() ? 20000 : 1500);
my $tiny = "$FindBin::RealBin/../data/tiny.gguf";

my $state = $seed;
sub rnd { my ($n) = @_; $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $n; }
sub pick { return $_[ rnd(scalar @_) ]; }
sub chance { return rnd(100) < $_[0]; }
sub quote { my ($s) = @_; $s =~ s/'/''/g; return "'$s'"; }

my $node = slm_cluster('walk', empty => 1, conf => "shared_preload_libraries = 'slm_pg'\nslm.threads = 1\nstatement_timeout = '5s'\n"
	. "log_min_messages = warning\nmax_worker_processes = 20\n");
$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('tiny', '$tiny'); SELECT slm_grant_model('tiny', 'PUBLIC');
CREATE ROLE team; CREATE ROLE mallory LOGIN IN ROLE team; CREATE ROLE bob LOGIN; CREATE ROLE boss LOGIN SUPERUSER;
GRANT CREATE ON DATABASE postgres TO mallory;
ALTER DATABASE postgres SET slm.generate_model = 'tiny'; ALTER DATABASE postgres SET slm.classify_model = 'tiny';
CREATE SCHEMA mal AUTHORIZATION mallory; CREATE SCHEMA bob AUTHORIZATION bob; GRANT USAGE ON SCHEMA bob TO PUBLIC; ALTER ROLE mallory SET search_path = mal, public, pg_catalog;
CREATE TABLE bob.t (id int PRIMARY KEY, body text, out text);
INSERT INTO bob.t SELECT i, 'text ' || i FROM generate_series(1, 20) i;
ALTER TABLE bob.t OWNER TO bob; GRANT ALL ON bob.t TO mallory;
SET SESSION AUTHORIZATION bob;
SELECT public.slm_create_job('bobs', 'bob.t', 'out', 'upper(body) || ''secret of bob''');
SQL

# ---- the traps; each leaves a line "trap NAME ran as ROLE" in the log

my @types = qw(text int4 int8 numeric jsonb timestamptz oid name bool float8 interval _text _jsonb _int8);
my @operators = qw(= <> < > <= >= + - * / || ->> -> ~ ~~ @> && %);
my @functions = qw(unnest array_agg count min max md5 format quote_literal quote_ident clock_timestamp now statement_timestamp round power
	jsonb_hash_extended jsonb_array_elements jsonb_each_text jsonb_build_array jsonb_object_keys string_agg array_to_string coalesce_it
	pg_has_role has_table_privilege pg_notify pg_try_advisory_xact_lock_shared set_config current_setting extract date_part make_interval
	octet_length row_number to_jsonb length record_image_eq greatest_it least_it int4 int8 text jsonb regclass regrole name slm_embed
	slm_classify slm_generate slm_summarize slm_chunk job_claim job_enqueue pg_sleep concat substr left lower upper);
my @relations = qw(slm_new slm_old slm_due slm_tried job_definition job_queue job_done model_registry classifier_registry jobs job_status
	pg_class pg_proc pg_trigger pg_attribute pg_roles pg_database pg_locks slm_target slm_u slm_s);

my $traps = <<'SQL';
SET search_path = mal, public;
CREATE FUNCTION mal.note(what text) RETURNS int LANGUAGE plpgsql VOLATILE COST 0.000001 AS $$ BEGIN
  IF pg_catalog.current_setting('slm_walk.me', true) IS DISTINCT FROM 'x' THEN NULL; END IF;
  RAISE WARNING 'trap % ran as % of %', what, current_user, session_user;
  BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'GRANT bob TO mallory'; EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN 1; END $$;
CREATE FUNCTION mal.inote(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN mal.note(what); END $$;
CREATE FUNCTION mal.leak(a anyelement) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN
  RAISE NOTICE 'leaked %', a; IF a::text LIKE '%secret of bob%' THEN RAISE WARNING 'trap LEAK ran as postgres of nobody'; END IF; RETURN true; END $$;
CREATE FUNCTION mal.row_trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.note('trigger ' || TG_NAME); RETURN coalesce(NEW, OLD); END $$;
SQL
# Each of these schemas holds the traps of one kind, so that a statement that meets one goes on and may meet another.  Where the server
# has a function or operator of the name, the trap has its signature and does what it does.
$traps .= <<'SQL';
CREATE SCHEMA evil_functions; CREATE SCHEMA evil_operators; CREATE SCHEMA evil_any; CREATE SCHEMA evil_types; CREATE SCHEMA evil_relations; CREATE SCHEMA evil_aggregates;
DO $do$
DECLARE
  f record;
  body pg_catalog.text;
BEGIN
  FOR f IN SELECT p.*, pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
      (SELECT string_agg('$' || i, ', ') FROM generate_series(1, p.pronargs) i) AS pass
    FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0 AND p.proargmodes IS NULL AND p.proname = ANY (string_to_array(:'functions', ' '))
  LOOP
    body := CASE WHEN f.proretset THEN format('RETURN QUERY SELECT pg_catalog.%I(%s);', f.proname, f.pass) ELSE format('RETURN pg_catalog.%I(%s);', f.proname, f.pass) END;
    BEGIN
      EXECUTE format('CREATE FUNCTION evil_functions.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM mal.note(%L); %s END $f$', f.proname, f.arguments, f.result, 'function ' || f.proname, body);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  FOR f IN SELECT o.*, row_number() OVER (ORDER BY o.oid) AS n FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
      AND (SELECT t.typname FROM pg_type t WHERE t.oid = o.oprleft) = ANY (string_to_array(:'types', ' ')) AND o.oprname = ANY (string_to_array(:'operators', ' '))
  LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION evil_operators.o%s(a %s, b %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM mal.note(%L); RETURN a OPERATOR(pg_catalog.%s) b; END $f$',
        f.n, f.oprleft::regtype, f.oprright::regtype, f.oprresult::regtype, 'operator ' || f.oprname, f.oprname);
      EXECUTE format('CREATE OPERATOR evil_operators.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil_operators.o%s)', f.oprname, f.oprleft::regtype, f.oprright::regtype, f.n);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
END $do$;
CREATE FUNCTION evil_aggregates.step(pg_catalog.int8) RETURNS pg_catalog.int8 LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.note('count'); RETURN $1 + 1; END $$;
CREATE AGGREGATE evil_aggregates.count(*) (SFUNC = evil_aggregates.step, STYPE = pg_catalog.int8, INITCOND = '0');
CREATE FUNCTION evil_aggregates.append(anyarray, anyelement) RETURNS anyarray LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.note('array_agg'); RETURN pg_catalog.array_append($1, $2); END $$;
CREATE AGGREGATE evil_aggregates.array_agg(anyelement) (SFUNC = evil_aggregates.append, STYPE = anyarray, INITCOND = '{}');
CREATE FUNCTION evil_aggregates.least(anyelement, anyelement) RETURNS anyelement LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.note('min'); RETURN CASE WHEN $2 < $1 THEN $2 ELSE $1 END; END $$;
CREATE AGGREGATE evil_aggregates.min(anyelement) (SFUNC = evil_aggregates.least, STYPE = anyelement);
CREATE AGGREGATE evil_aggregates.max(anyelement) (SFUNC = evil_aggregates.least, STYPE = anyelement);
SQL
$traps =~ s/:'functions'/"'" . join(' ', @functions) . "'"/e;
$traps =~ s/:'types'/"'" . join(' ', @types) . "'"/e;
$traps =~ s/:'operators'/"'" . join(' ', @operators) . "'"/e;
my $n = 0;
for my $o (@operators)
{
	$n++;
	$traps .= "CREATE FUNCTION evil_any.opa_$n(a anyelement, b anynonarray) RETURNS bool LANGUAGE plpgsql AS \$\$ BEGIN PERFORM mal.note('operator $o any'); RETURN true; END \$\$;\n"
		. "CREATE OPERATOR evil_any.$o (LEFTARG = anyelement, RIGHTARG = anynonarray, FUNCTION = evil_any.opa_$n);\n";
	for my $pair ([ 'int8', 'numeric' ], [ 'text', 'int4' ], [ 'numeric', 'int4' ], [ 'timestamptz', 'interval' ], [ 'name', 'text' ], [ 'jsonb', 'int4' ], [ 'float8', 'int8' ], [ 'text', 'text' ])
	{
		my ($a, $b) = @$pair;
		$traps .= "CREATE FUNCTION evil_any.opx_${a}_${b}_$n(a pg_catalog.$a, b pg_catalog.$b) RETURNS pg_catalog.$a LANGUAGE plpgsql AS \$\$ BEGIN PERFORM mal.note('operator $o $a $b'); RETURN a; END \$\$;\n"
			. "CREATE OPERATOR evil_any.$o (LEFTARG = pg_catalog.$a, RIGHTARG = pg_catalog.$b, FUNCTION = evil_any.opx_${a}_${b}_$n);\n";
	}
}
for my $f (@functions)
{
	for my $arguments ('a anyelement', 'a pg_catalog.text', 'a anyelement, b anynonarray', 'VARIADIC a pg_catalog.text[]', '')
	{
		$traps .= "CREATE FUNCTION evil_any.$f($arguments) RETURNS pg_catalog.text LANGUAGE plpgsql AS \$\$ BEGIN PERFORM mal.note('function $f of any'); RETURN NULL; END \$\$;\n";
	}
}
for my $r (@relations)
{
	$traps .= "CREATE VIEW evil_relations.$r AS SELECT mal.note('view $r') AS id, 'x'::pg_catalog.text AS name, '[1]'::pg_catalog.jsonb AS key, 1 AS job_id, 'a'::pg_catalog.text AS body, false AS failed;\n";
}
$traps .= "CREATE TYPE evil_types.text AS ENUM ('a', 'b'); CREATE DOMAIN evil_types.jsonb AS pg_catalog.jsonb CHECK (mal.inote('domain jsonb') = 1);\n"
	. "CREATE DOMAIN evil_types.int8 AS pg_catalog.int8 CHECK (mal.inote('domain int8') = 1); CREATE DOMAIN evil_types.regclass AS pg_catalog.regclass CHECK (mal.inote('domain regclass') = 1);\n";
$traps .= <<'SQL';
CREATE DOMAIN mal.checked AS pg_catalog.text CHECK (mal.inote('domain check') = 1);
CREATE TYPE mal.pair AS (a int, b pg_catalog.text);
CREATE FUNCTION mal.to_pair(pg_catalog.text) RETURNS mal.pair LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.note('cast to pair'); RETURN ROW(1, $1)::mal.pair; END $$;
CREATE CAST (pg_catalog.text AS mal.pair) WITH FUNCTION mal.to_pair(pg_catalog.text) AS ASSIGNMENT;
CREATE TYPE mal.mood AS ENUM ('good', 'bad');
CREATE FUNCTION mal.mood_text(mal.mood) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$ BEGIN PERFORM mal.note('cast of mood'); RETURN 'm'; END $$;
CREATE CAST (mal.mood AS pg_catalog.text) WITH FUNCTION mal.mood_text(mal.mood) AS IMPLICIT;
SQL
my @tables;
my %table_sql = (
	plain => 'id int PRIMARY KEY, body pg_catalog.text, out pg_catalog.text',
	defaulted => "id int PRIMARY KEY, body pg_catalog.text, out pg_catalog.text, x int DEFAULT mal.inote('default')",
	generated => "id int PRIMARY KEY, body pg_catalog.text, out pg_catalog.text, x int GENERATED ALWAYS AS (mal.inote('generated')) STORED",
	checked => "id int PRIMARY KEY, body pg_catalog.text, out mal.checked CHECK (mal.inote('check') = 1)",
	keyed => 'id mal.mood PRIMARY KEY, body pg_catalog.text, out pg_catalog.text',
	paired => 'id int PRIMARY KEY, body pg_catalog.text, out mal.pair',
	textkey => 'id pg_catalog.text PRIMARY KEY, body pg_catalog.text, out pg_catalog.text');
for my $name (sort keys %table_sql)
{
	$traps .= "CREATE TABLE mal.$name ($table_sql{$name});\n";
	push @tables, "mal.$name";
}
$traps .= "CREATE TABLE mal.parted (id int PRIMARY KEY, body pg_catalog.text, out pg_catalog.text) PARTITION BY RANGE (id); CREATE TABLE mal.part PARTITION OF mal.parted DEFAULT;\n";
push @tables, 'mal.parted';
$traps .= <<'SQL';
CREATE INDEX ON mal.plain ((mal.inote('index' || body)));
CREATE TRIGGER a BEFORE INSERT OR UPDATE ON mal.defaulted FOR EACH ROW EXECUTE FUNCTION mal.row_trap();
CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE ON mal.generated FOR EACH ROW EXECUTE FUNCTION mal.row_trap();
CREATE CONSTRAINT TRIGGER c AFTER UPDATE ON mal.textkey DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mal.row_trap();
ALTER TABLE mal.paired ENABLE ROW LEVEL SECURITY; ALTER TABLE mal.paired FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON mal.paired USING (mal.inote('policy') = 1);
CREATE VIEW mal.v AS SELECT id, body, out FROM mal.plain WHERE mal.note('view v') = 1;
GRANT USAGE ON SCHEMA mal TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA mal TO PUBLIC;
SQL

my ($out, $err);
my $mallory = $node->connstr('postgres') . ' user=mallory';
$node->psql('postgres', $traps, connstr => $mallory, on_error_stop => 0, stderr => \$err);
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM pg_proc WHERE pronamespace::regnamespace::text LIKE 'evil%'"), '>', 500, 'the traps are set');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE (relnamespace = 'mal'::regnamespace OR relnamespace = 'evil_relations'::regnamespace) AND relkind IN ('r', 'p', 'v')"), '>=', 20,
	'tables and views as well');

# ---- what the extension offers, from the catalog

my @callable = map { [ split /\t/ ] } split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT pg_catalog.quote_ident(p.pronamespace::regnamespace::text) || '.' || p.proname || E'\t' || p.prokind::text || E'\t' || coalesce((SELECT string_agg(format_type(t, NULL), ';' ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u(t, n)), '')
  || E'\t' || p.pronargdefaults
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'slm_pg' WHERE p.prorettype <> 'trigger'::regtype ORDER BY 1
SQL
my @members = split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'slm_pg' WHERE c.relkind IN ('r', 'v', 'S') ORDER BY 1
SQL
cmp_ok(scalar @callable, '>=', 40, 'functions of the extension');
cmp_ok(scalar @members, '>=', 8, 'relations of the extension');

# ---- random statements

my @names = qw(j1 j2 j3 j4 bobs bobs tiny mine c1 nothing);
my @expressions = ('upper(body)', "body || '!'", 'to_jsonb(t)::text', "set_config('search_path', 'evil_functions, mal, pg_catalog', false)",
	"set_config('role', 'postgres', false)", "set_config('slm.generate_model', 'x', false)", "mal.note('expression')::text", '1) --', '1); SELECT (2', '1) AS x FROM mal.t, (SELECT (2',
	"slm_classify(body, ARRAY['a', 'b'])", 'slm_generate(body, max_tokens => 1)', 'id::text', 'out', '(SELECT string_agg(name, \'\') FROM slm.jobs)', 'mal.v.body', 'count(*)::text',
	"(SELECT pg_sleep(0.01))::text", "'a'::mal.mood::text", 'NULL', "(SELECT mal.note('sub'))::text", 'body::text', "md5(body)");
my @options = ('{}', '{"paused": true}', '{"overwrite": true}', '{"batch_size": 1}', '{"max_attempts": 1, "retry_delay": "1 ms"}', '{"owner": "postgres"}', '{"owner": "team"}', '{"owner": "bob"}',
	'{"target": "mal.defaulted"}', '{"target": "bob.t"}', '{"target": "mal.generated", "overwrite": true}', '{"backfill": "newest"}', '[]', 'null', '{"x": 1}');
my @evil = map { "evil_$_" } qw(functions operators any types relations aggregates);
sub path { return pick(pick(@evil) . ', mal, public, pg_catalog', pick(@evil) . ', pg_catalog, mal, public', pick(@evil) . ', mal, public', 'pg_catalog, ' . pick(@evil) . ', mal', 'mal, public', '', 'pg_temp, mal, public, pg_catalog'); }

sub value
{
	my ($type) = @_;
	return 'NULL' if chance(6);
	return quote(pick(@expressions)) . '::pg_catalog.text' if $type eq 'text' && chance(15);
	return quote(pick(@names, @names, 'a b c', 'x' x 300, 'postgres', 'mallory', 'PUBLIC')) . '::pg_catalog.text' if $type eq 'text';
	return quote(pick(@names)) . '::pg_catalog.name' if $type eq 'name';
	return quote(pick(@tables, 'bob.t', 'slm.jobs', 'pg_authid', 'mal.v')) . '::pg_catalog.regclass' if $type eq 'regclass';
	return pick('0', '1', '2', '-1', '2147483647') if $type =~ /^(integer|bigint|smallint|oid)$/;
	return pick('0', '0.5', '-1', "'NaN'::pg_catalog.float8") if $type =~ /double|real$|numeric/;
	return pick('true', 'false') if $type eq 'boolean';
	return quote(pick(@options, '[{"role": "user", "content": "x"}]', '{"a": "b"}', '["a"]')) . '::pg_catalog.jsonb' if $type eq 'jsonb';
	return pick("ARRAY['a','b']", "'{}'::pg_catalog.text[]", "ARRAY['a', NULL]") . '::pg_catalog.text[]' if $type eq 'text[]';
	return pick("'{1,2,3}'", "'{}'", "'{NULL}'") . "::pg_catalog.$1\[]" if $type =~ /^(\w+)\[\]$/;
	return "'{1,2,3}'::pg_catalog.float8[]" if $type eq 'double precision[]';
	return 'NULL::mal.mood' if $type =~ /^any/;
	return "'1 s'::pg_catalog.interval" if $type eq 'interval';
	return 'NULL';
}

sub any_call
{
	my ($name, $kind, $types, $defaults) = @{ pick(@callable) };
	my @types = split /;/, $types;
	my $n = @types - ($defaults > 0 ? rnd($defaults + 1) : 0);
	my $call = "$name(" . join(', ', map { value($_) } @types[ 0 .. $n - 1 ]) . ')';
	return $kind eq 'p' ? "CALL $call" : chance(30) ? "SELECT $call FROM " . pick(@tables) . ' LIMIT 2' : "SELECT * FROM $call x LIMIT 3";
}

sub job_statement
{
	my ($job, $table) = (pick(qw(j1 j2 j3 j4)), pick(@tables, 'bob.t'));
	my $sound = quote(pick('upper(body)', "pg_catalog.set_config('search_path', '" . pick(@evil) . ", mal, pg_catalog', false)", "mal.note('expression')::pg_catalog.text || body", 'id::pg_catalog.text',
		"pg_catalog.set_config('slm.generate_model', 'mine', false)", "pg_catalog.set_config('default_transaction_read_only', 'on', false)"));
	my $own = pick(@tables);
	return "SELECT public.slm_create_job('$job', '$own', 'out', $sound, " . quote(pick('{}', '{"overwrite": true}', '{"paused": true}')) . ')' if chance(35);
	return "CALL public.slm_run_job('$job')" if chance(25);
	return pick(
		"SELECT public.slm_create_job('$job', '$table', 'out', " . quote(pick(@expressions)) . ', ' . quote(pick(@options)) . ')',
		"SELECT public.slm_create_job('$job', '$table', 'out', " . quote(pick(@expressions)) . ')',
		"SELECT public.slm_alter_job('$job', " . quote(pick(@expressions)) . ')',
		"SELECT public.slm_alter_job('$job', options => " . quote(pick(@options)) . ')',
		"SELECT public.slm_drop_job('$job', drop_values => " . pick('true', 'false') . ')', "CALL public.slm_run_job('$job')", "CALL public.slm_run_job('bobs')", "SELECT public.slm_pause_job('$job')",
		"SELECT public.slm_resume_job('$job')", "SELECT public.slm_retry_failed('$job')");
}

sub write_own
{
	my ($t, $i) = (pick(@tables), 1 + rnd(9));
	my $key = $t eq 'mal.keyed' ? pick("'good'", "'bad'") : $t eq 'mal.textkey' ? "'$i'" : $i;
	return pick("INSERT INTO $t (id, body) VALUES ($key, 'x$i') ON CONFLICT DO NOTHING", "UPDATE $t SET body = body || 'y' WHERE id = $key", "DELETE FROM $t WHERE id = $key",
		"UPDATE bob.t SET body = body WHERE id = $i", 'TRUNCATE ' . $t);
}

sub against_members
{
	my ($r, $v) = (pick(@members), pick('mal.leak(x::pg_catalog.text)', "mal.leak(x) AND mal.note('where') = 1"));
	return pick("SELECT 1 FROM $r x WHERE $v", "SELECT * FROM $r LIMIT 5", "UPDATE $r SET name = 'x'", "DELETE FROM $r", "INSERT INTO $r SELECT * FROM $r", "LOCK TABLE $r", "TRUNCATE $r",
		"SELECT nextval('$r')", "ALTER TABLE $r OWNER TO mallory", "CREATE TRIGGER t BEFORE INSERT ON $r FOR EACH ROW EXECUTE FUNCTION mal.row_trap()", "COMMENT ON TABLE $r IS 'x'",
		"CREATE RULE x AS ON INSERT TO $r DO INSTEAD NOTHING", "GRANT ALL ON $r TO mallory", "COPY $r TO STDOUT", "CREATE POLICY q ON $r USING (true)");
}

sub own_object
{
	my ($t, $job) = (pick(@tables), pick(qw(j1 j2 j3)));
	my $enqueue = "EXECUTE FUNCTION slm.job_enqueue('" . rnd(6) . "')";
	return pick(
		"CREATE TEMP VIEW " . pick(@relations) . " AS SELECT mal.note('temp view') AS id, 'x' AS name", "DROP VIEW IF EXISTS pg_temp." . pick(@relations),
		"CREATE TRIGGER w" . rnd(5) . " AFTER INSERT ON $t REFERENCING NEW TABLE AS other FOR EACH STATEMENT $enqueue",
		"CREATE TRIGGER w" . rnd(5) . " AFTER UPDATE ON $t REFERENCING OLD TABLE AS slm_new NEW TABLE AS slm_old FOR EACH STATEMENT $enqueue",
		"CREATE TRIGGER w" . rnd(5) . " BEFORE INSERT OR UPDATE ON $t FOR EACH ROW $enqueue", "DROP TRIGGER IF EXISTS w" . rnd(5) . " ON $t",
		"CREATE TRIGGER s" . rnd(3) . " BEFORE INSERT OR UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION public.slm_trigger('out', " . quote(pick(@expressions)) . ')',
		"DROP TRIGGER IF EXISTS s" . rnd(3) . " ON $t", "ALTER TABLE $t ADD COLUMN IF NOT EXISTS c" . rnd(3) . " pg_catalog.text DEFAULT mal.note('added')::pg_catalog.text",
		"ALTER TABLE $t DROP COLUMN IF EXISTS c" . rnd(3), "CREATE SCHEMA slm", "ALTER SCHEMA evil_types RENAME TO slm", "ALTER ROLE mallory SET search_path = mal, public, " . pick(@evil),
		"ALTER TABLE $t OWNER TO team", "ALTER TABLE $t OWNER TO mallory", "GRANT TRIGGER ON $t TO bob", "GRANT SELECT ON $t TO bob",
		"CREATE RULE r" . rnd(3) . " AS ON UPDATE TO $t DO ALSO SELECT mal.note('rule')", "DROP RULE IF EXISTS r" . rnd(3) . " ON $t");
}

my $inside = 0;
sub statement
{
	my $k = rnd(100);
	return any_call() if $k < 25;
	return job_statement() if $k < 50;
	return write_own() if $k < 65;
	return against_members() if $k < 77;
	return own_object() if $k < 88;
	return 'SET search_path = ' . quote(path()) if $k < 90;
	return 'SELECT ' . "set_config('search_path', " . quote(path()) . ', false)' if $k < 92;
	return pick('SET ROLE team', 'RESET ROLE', 'SET ROLE bob', 'SET ROLE postgres') if $k < 95;
	return join(";\n", 'BEGIN', (map { statement() } 1 .. 2 + rnd(3)), pick('COMMIT', 'ROLLBACK', "SAVEPOINT a;\nROLLBACK TO a;\nCOMMIT")) if $k < 97 && !$inside++;
	return 'RESET ROLE' if $k < 98;
	return "SET slm." . pick('on_error', 'threads', 'kv_cache_memory', 'generate_model', 'isa', 'job_workers') . ' = ' . pick("'null'", "'1'", "'tiny'", "'ref'");
}

# What an administrator does: only through the extension, under paths of his own.
sub administration
{
	my $job = pick(qw(j1 j2 j3 j4));
	return pick('SELECT * FROM slm.job_status', 'SELECT * FROM slm.jobs', 'SELECT * FROM slm.job_failures', 'SELECT * FROM slm.models', 'SELECT * FROM slm.classifiers', 'SELECT * FROM slm.progress',
		'SELECT * FROM slm.model_status', "CALL public.slm_run_job('$job')", "SELECT public.slm_drop_job('$job', drop_values => true)", "SELECT public.slm_drop_job('$job')", "SELECT public.slm_pause_job('$job')", "SELECT public.slm_resume_job('$job')",
		"SELECT public.slm_retry_failed('$job')", "SELECT public.slm_alter_job('$job')", "SELECT public.slm_alter_job('$job', options => '{\"overwrite\": true}')",
		"SELECT slm_create_job('admins', '" . pick(@tables) . "', 'out', 'upper(body)')", "SELECT slm_drop_job('admins', drop_values => true)", "CALL slm_run_job('admins')",
		"CALL slm_update('" . pick(@tables) . "', 'out', 'upper(body)')", 'SELECT * FROM slm.sessions', 'SELECT * FROM slm.adapters');
}

my $before = $node->safe_psql('postgres', "SELECT pg_postmaster_start_time()");
my $log_begin = -s $node->logfile;
my ($done, $restarts, %kinds) = (0, 0);
while ($done < $count)
{
	my $n = 250;
	$n = $count - $done if $n > $count - $done;
	my $sql = join(";\n", map { $inside = 0; statement() } 1 .. $n) . ";\n";
	$node->psql('postgres', "$sql", connstr => $mallory, on_error_stop => 0, stderr => \$err, stdout => \$out);
	$kinds{$1}++ while $err =~ /ERROR:\s+([^\n"']{5,60})/g;
	if ($err =~ /server closed the connection|terminating connection because of crash/)
	{
		$restarts++;
		diag('a statement ended the server: the last of ' . substr($sql, 0, 200));
		last;
	}
	for my $who (qw(boss bob))
	{
		my $admin = join(";\n", map { administration() } 1 .. 6) . ";\n";
		$node->psql('postgres', $admin, connstr => $node->connstr('postgres') . " user=$who", on_error_stop => 0, stderr => \$err, stdout => \$out);
	}
	$node->psql('postgres', 'SELECT pg_sleep(0.5)'); # the workers' turn
	$done += $n;
}
my $errors = 0;
$errors += $_ for values %kinds;
note("$kinds{$_} x $_") for (sort { $kinds{$b} <=> $kinds{$a} } keys %kinds)[ 0 .. 24 ];
is($restarts, 0, "$done statements, $errors errors, no crash");
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $before, 'the server has not restarted');

my $log = substr(slurp_file($node->logfile), $log_begin);
my (%as, @foreign);
while ($log =~ /trap ([^\n]*?) ran as (\w+) of (\w+)/g)
{
	$as{$2}++;
	push @foreign, "$1 ran as $2 (session of $3)" unless $2 eq 'mallory' || $2 eq 'team';
}
cmp_ok($as{mallory} || 0, '>', 10, 'traps were met: ' . join(', ', map { "$as{$_} as $_" } sort keys %as));
is(scalar @foreign, 0, 'none of them as another role') or diag(join("\n", @foreign[ 0 .. ($#foreign > 15 ? 15 : $#foreign) ]));
unlike($log, qr/server process .* was terminated by signal/, 'no process died');
is($node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', 'mallory is no superuser');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_auth_members WHERE member = 'mallory'::regrole AND roleid <> 'team'::regrole"), '0', 'and has joined no role');
is($node->safe_psql('postgres', "SELECT owner FROM slm.jobs WHERE name = 'bobs'"), 'bob', q(bob's job is his));
$node->stop;
done_testing();
