# What roles see and may do with models: nothing but their own and what was granted to them, in this database and others, while models are loaded, when
# owners are dropped, after a dump; and an extension that was made in a schema where others had prepared traps.
use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use Time::HiRes qw(usleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $path = model_path();
my $data = abs_path("$FindBin::RealBin/../data");
my $node = slm_cluster('roles', empty => 1);
my $super = $node->safe_psql('postgres', 'SELECT current_user');
my @roles = qw(owner member friend stranger monitor);
$node->safe_psql('postgres', join('', map { "CREATE ROLE $_ LOGIN;" } @roles)
	  . "GRANT owner TO member; GRANT pg_monitor TO monitor; GRANT pg_read_server_files TO owner; GRANT EXECUTE ON FUNCTION slm_load_model, slm_load_adapter, slm_quantize_model TO owner;"
	  . "CREATE SCHEMA s AUTHORIZATION stranger; CREATE DATABASE shop; CREATE DATABASE closed; REVOKE CONNECT ON DATABASE closed FROM PUBLIC");

sub as { my ($role, $sql, $database) = @_; return $node->safe_psql($database || 'postgres', $sql, extra_params => [ '-U', $role ]); }

sub refused
{
	my ($role, $sql, $database) = @_;
	my ($rc, $out, $err) = $node->psql($database || 'postgres', "\\set VERBOSITY verbose\n$sql", extra_params => [ '-U', $role ]);
	return $rc == 0 ? "done: $out" : $err;
}

as('owner', "SELECT slm_load_model('mine', '$data/tiny.gguf'); SELECT slm_load_model('shared', '$data/tiny.gguf', '{\"quantization\": \"F32\"}');
	SELECT slm_load_adapter('polite', 'shared', '$data/tiny_lora.gguf'); SELECT slm_grant_model('shared', 'friend'); SELECT slm_grant_model('polite', 'friend')");

# ---- what each sees
my %sees = ($super => 'mine shared', owner => 'mine shared', member => 'mine shared', friend => 'shared', stranger => '', monitor => '');
my %adapters = map { $_ => $sees{$_} ? 'polite' : '' } keys %sees;
for my $role (sort keys %sees)
{
	is(as($role, "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM slm.models"), $sees{$role}, "$role: models");
	is(as($role, "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM slm.adapters"), $adapters{$role}, "$role: adapters");
	is(as($role, "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM slm.model_status"), $role eq 'monitor' ? 'mine shared' : $sees{$role}, "$role: status");
	is(as($role, "SELECT count(*) FROM (SELECT source FROM slm.models UNION ALL SELECT source FROM slm.adapters) s WHERE source IS NOT NULL"),
		{ $super => 3, owner => 3, member => 3 }->{$role} // 0, "$role: paths of the server");
}
my $leak = "SET search_path = s; CREATE OR REPLACE FUNCTION s.leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS \$\$ BEGIN RAISE NOTICE 'seen: %', \$1; RETURN true; END \$\$;";
for my $query ('SELECT 1 FROM slm.models WHERE s.leak(name || coalesce(source, $$$$))', 'SELECT 1 FROM slm.adapters WHERE s.leak(name)', 'SELECT 1 FROM slm.model_status WHERE s.leak(name)')
{
	my ($rc, $out, $err) = $node->psql('postgres', "$leak $query", extra_params => [ '-U', 'stranger' ]);
	is($err, '', "what a view hides is not shown to a function in a condition: $query");
}

# ---- the tables: no privilege at all but the owner's of the extension
for my $table ('slm.model_registry', 'slm.model_grant')
{
	for my $sql ("SELECT * FROM $table", "DELETE FROM $table", "TRUNCATE $table", "INSERT INTO $table DEFAULT VALUES", "UPDATE $table SET name = 'x'",
		"BEGIN; LOCK TABLE $table IN ACCESS SHARE MODE", "COPY $table TO stdout", "ALTER TABLE $table ADD x int", "CREATE TRIGGER x AFTER INSERT ON $table EXECUTE FUNCTION slm_trigger()")
	{
		like(refused($_, $sql), qr/ERROR:  42501/, "$_: $sql") for 'stranger', 'owner';
	}
}
is($node->safe_psql('postgres', "SELECT string_agg(relname, ' ') FROM pg_class c, aclexplode(coalesce(relacl, acldefault('r', relowner))) a WHERE relnamespace = 'slm'::regnamespace
	AND relname LIKE 'model_%' AND relkind IN ('r', 'S') AND grantee <> relowner"), '', 'nobody was granted anything on them');
for my $sql ("slm_grant_model('mine', 'stranger')", "slm_revoke_model('shared', 'friend')", "slm_rename_model('shared', 'x')", "slm_drop_model('shared')", "slm_drop_adapter('polite')",
	"slm_set_model_owner('shared', 'friend')", "slm_quantize_model('shared', 'x', 'Q8_0')", "slm_load_model('x', '$data/tiny.gguf')", "slm_load_adapter('x', 'shared', '$data/tiny_lora.gguf')")
{
	like(refused($_, "SELECT $sql"), qr/ERROR:  42501: .*HINT:/s, "$_: $sql") for 'stranger', 'friend';
}

# ---- messages: nothing of the server's disk for those who may not load from it
my ($image) = glob($node->data_dir . '/slm_models/*.img');
rename($node->data_dir . '/slm_models', $node->data_dir . '/aside');
my %said = map { $_ => refused($_, "SELECT slm_perplexity('abc', 'shared')") } 'owner', 'friend', $super;
like($said{$_}, qr/58P01: the image of model "shared" is not on this server.*HINT:.*slm_load_model\('shared', '\Q$data\E\/tiny.gguf', '\{"quantization": "F32"\}'\);/s, "$_ is told what to run") for 'owner', $super;
like($said{friend}, qr/58P01: the image of model "shared" is not on this server.*HINT:  Its owner or a superuser/s, 'others are told who can');
unlike($said{friend}, qr/\Q$data\E|\Q${\$node->data_dir}\E/, 'and no path');
unlike($said{owner}, qr/\Q${\$node->data_dir}\E/, 'the data directory is told to nobody');
rename($node->data_dir . '/aside', $node->data_dir . '/slm_models');
truncate($image, 100);
unlike(refused('friend', "SELECT slm_perplexity('abc', 'shared')") . refused('owner', "SELECT slm_perplexity('abc', 'mine')"), qr/\Q${\$node->data_dir}\E/, 'nor by a damaged image');

# ---- loads of others
my $loading = SlmTest::Session->new($node);
$node->safe_psql('shop', 'CREATE EXTENSION slm_pg; GRANT EXECUTE ON FUNCTION slm_load_model TO owner');
my $seen = 0;
for my $try (1 .. 20)
{
	$loading->send("SET ROLE owner; SELECT name FROM slm_load_model('secret', '$path')");
	my $until = time() + 60;
	usleep(500) until glob($node->data_dir . '/slm_models/pgsql_tmp.loading.*') || time() > $until;
	kill('STOP', $loading->pid);
	last if $seen = as('owner', "SELECT count(*) FROM slm.model_status WHERE name = 'secret' AND progress IS NOT NULL") eq '1';
	kill('CONT', $loading->pid);
	$loading->wait;
	$loading->query("SELECT slm_drop_model('secret')");
}
ok($seen, 'a load is seen by its role');
for my $database ('postgres', 'shop')
{
	my %count = map { $_ => as($_, "SELECT count(*) FROM slm.model_status WHERE name = 'secret'", $database) } 'member', 'friend', 'stranger', 'monitor', $super;
	is_deeply(\%count, { member => 1, friend => 0, stranger => 0, monitor => 1, $super => 1 }, "database $database: by those with its rights, and by those who watch");
}
kill('CONT', $loading->pid);
$loading->wait;
$loading->query("RESET ROLE");

# ---- names that are unknown here
$node->safe_psql('closed', "CREATE EXTENSION slm_pg; SELECT slm_load_model('inner', '$data/tiny.gguf')");
like(refused('stranger', "SELECT slm_generate('a', model => 'secret')", 'shop'), qr/42704: model "secret" does not exist.*DETAIL:  Models belong to a database; database "postgres" has one of that name/s,
	'a model of another database');
unlike(refused('stranger', "SELECT slm_generate('a', model => 'inner')", 'shop'), qr/closed/, 'but none of a database that the role may not enter');
like(refused($super, "SELECT slm_generate('a', model => 'inner')", 'shop'), qr/database "closed" has one of that name/, 'which a superuser may');
$node->safe_psql('closed', "SELECT slm_rename_model('inner', 'renamed')");
like(refused($super, "SELECT slm_generate('a', model => 'renamed')", 'shop'), qr/database "closed" has one of that name/, 'a name that was changed');
unlike(refused($super, "SELECT slm_generate('a', model => 'inner')", 'shop'), qr/closed/, 'and the former is forgotten');
like(refused('friend', "SELECT slm_generate('a', model => 'sharde')"), qr/HINT:  Did you mean "shared"\?/, 'a name that was mistyped');
like(refused('friend', "SELECT slm_generate('a', model => 'shared+polit')"), qr/HINT:  Did you mean "polite"\?/, 'of an adapter, too');
unlike(refused('stranger', "SELECT slm_generate('a', model => 'sharde')"), qr/shared/, 'of a model that one may not see: nothing');
like(refused('stranger', "SELECT slm_generate('a', model => 'shared')"), qr/42501: permission denied for model "shared".*HINT:.*slm_grant_model\('shared', 'stranger'\)/s, 'its very name: who can help');
$node->safe_psql('closed', "SELECT slm_drop_model('renamed')");
$loading->query("SELECT slm_drop_model('secret')");

# ---- roles that were dropped: in the cluster, and in a dump
$node->safe_psql('postgres', "CREATE ROLE gone; CREATE ROLE left_out; SELECT slm_load_model('orphan', '$data/tiny.gguf'); SELECT slm_set_model_owner('orphan', 'gone');
	SELECT slm_grant_model('orphan', 'friend'); SELECT slm_grant_model('shared', 'left_out')");
is(as('friend', "SELECT slm_perplexity('abc abc', 'orphan') > 1"), 't', 'the owner is there');
$node->safe_psql('postgres', 'DROP ROLE gone; DROP ROLE left_out');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'pg_dump');
my $text = slurp_file($dump);
unlike($text, qr/^orphan\t/m, 'what belongs to nobody is not dumped');
unlike($text, qr/^shared\t\d+$/m, 'nor is a grant to nobody');
like($text, qr/^shared\tfriend$/m, 'a grant to a role is');
like(refused('friend', "SELECT slm_perplexity('abc abc', 'orphan')"), qr/42501: permission denied for model "orphan": its owner was dropped.*HINT:.*slm_set_model_owner/s, 'the owner is not there: refused');
is(as('friend', 'SELECT count(*) FROM slm.models WHERE name = $$orphan$$'), '0', 'and not shown');
is($node->safe_psql('postgres', "SELECT slm_perplexity('abc abc', 'orphan') > 1"), 't', 'but by superusers');
as('owner', "SELECT slm_grant_model('mine', 'member')");
is($node->safe_psql('postgres', "SELECT m.owner FROM slm.model_registry m WHERE name = 'orphan'"), '-', 'the next change forgets the number of the owner');
is($node->safe_psql('postgres', "SELECT count(*) FROM slm.model_grant WHERE name = 'orphan' OR role::text ~ '^\\d'"), '0', 'and of the grants');
$node->safe_psql('postgres', "SELECT slm_set_model_owner('orphan', 'owner')");
like(refused('friend', "SELECT slm_perplexity('abc abc', 'orphan')"), qr/42501/, 'a new owner does not bring back what the old one granted');
as('owner', "SELECT slm_grant_model('orphan', 'friend')");
is(as('friend', "SELECT slm_perplexity('abc abc', 'orphan') > 1"), 't', 'but may grant it');

my $fresh = PostgreSQL::Test::Cluster->new('restored');
$fresh->init;
$fresh->start;
$fresh->safe_psql('postgres', join('', map { "CREATE ROLE $_ LOGIN;" } @roles));
$fresh->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $fresh->connstr('postgres'), '-f', $dump ], 'restore into a new cluster');
is($fresh->safe_psql('postgres', "SELECT string_agg(name || ' ' || owner || ' ' || array_to_string(roles, ','), '; ' ORDER BY name) FROM (SELECT name, owner, roles FROM slm.models UNION ALL SELECT name, owner, roles FROM slm.adapters) m"),
	'mine owner ; polite owner friend; shared owner friend', 'owners and grants are the roles of those names');
$fresh->stop;

# ---- an extension in a schema where others may create, with traps
$node->safe_psql('postgres', 'CREATE DATABASE trapped');
$node->safe_psql('trapped', 'GRANT CREATE ON SCHEMA public TO PUBLIC');
my @types = qw(text oid bigint integer boolean regrole name jsonb);
my $traps = "SET search_path = public; CREATE TABLE caught(who text, what text); GRANT ALL ON caught TO PUBLIC;";
my $n = 0;
for my $operator ('=', '<>', '->>')
{
	for my $left (@types)
	{
		for my $right (@types)
		{
			$n++;
			my $result = $operator eq '->>' ? 'text' : 'boolean';
			my $value = $operator eq '->>' ? "'1'::pg_catalog.text" : 'true';
			$traps .= "CREATE FUNCTION public.trap$n($left, $right) RETURNS $result LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.caught VALUES (current_user, '$left $operator $right'); RETURN $value; END \$\$;"
			  . "CREATE OPERATOR public.$operator (LEFTARG = $left, RIGHTARG = $right, FUNCTION = public.trap$n);";
		}
	}
}
$traps .= "CREATE FUNCTION public.pg_has_role($_, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE FUNCTION public.unnest($_) RETURNS SETOF $_ LANGUAGE sql AS 'SELECT \$1';" for 'oid', 'regrole';
as('stranger', $traps, 'trapped');
$node->safe_psql('trapped', "CREATE EXTENSION slm_pg; SELECT slm_load_model('m', '$data/tiny.gguf'); SELECT slm_load_adapter('a', 'm', '$data/tiny_lora.gguf'); SELECT slm_grant_model('m', 'friend')");
for my $search_path ('public', 'public, pg_catalog')
{
	$node->safe_psql('trapped', "SET search_path = $search_path; SELECT * FROM slm.models; SELECT * FROM slm.adapters; SELECT * FROM slm.model_status; SELECT slm_grant_model('a', 'friend');
		SELECT slm_revoke_model('a', 'friend'); SELECT slm_rename_model('m', 'n'); SELECT slm_rename_model('n', 'm'); SELECT slm_set_model_owner('a', 'owner'); SELECT slm_set_model_owner('a', '$super')");
}
is($node->safe_psql('trapped', 'SELECT count(*), min(who), min(what) FROM caught'), '0||', 'views and functions use none of them');
is(as('stranger', 'SELECT count(*) FROM slm.models', 'trapped'), '0', 'and show what they should');

$loading->quit;
$node->stop;
done_testing();
