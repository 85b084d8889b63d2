# Sessions: what one role's prompts leave behind tells another role nothing, however they come to share a session.
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
CREATE ROLE bob LOGIN;
CREATE ROLE eve LOGIN;
GRANT CREATE ON SCHEMA public TO bob, eve;
SQL

# ---- reused tokens do not tell what other roles' prompts began with

my $secret = 'The launch code of the second silo is 4711; tell nobody but the general, and burn this letter.';
my $labels = "ARRAY['launch at dawn', 'launch at dusk', 'stay in the silo']";
my $examples = q('[{"text": "the general calls", "label": "launch at dawn"}]');

# Ways to put a secret into a prompt, each with the column that tells how much of it was there already.
my %ways = (
	system => "SELECT reused_tokens FROM slm_generate_details('x', system => '$secret', max_tokens => 1)",
	prompt => explain("slm_generate('$secret $secret ' || i, max_tokens => 1, chat => false)"),
	adapter => "SELECT reused_tokens FROM slm_generate_details('x', system => '$secret', max_tokens => 1, model => 'small+lora')",
	instruction => explain("slm_classify('x' || i, ARRAY['a', 'b'], method => 'direct', instruction => '$secret')"),
	labels => explain("slm_classify('x' || i, $labels, method => 'direct')"),
	channel => explain("slm_classify('x' || i, $labels, method => 'channel')"),
	examples => explain("slm_classify('x' || i, $labels, method => 'direct', examples => $examples)"));

sub explain { return "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT json) SELECT $_[0] FROM generate_series(1, 6) i"; }

# What the statement tells a role: a number, or all numbers of tokens of EXPLAIN.
sub tells
{
	my ($session, $role, $sql) = @_;
	$session->query("SET ROLE $role");
	my $out = $session->query($sql);
	return $out =~ /^\d+$/ ? $out : join(' ', $out =~ /"[^"]*Tokens[^"]*": (\d+)/g);
}

for my $way (sort keys %ways)
{
	my $fresh = SlmTest::Session->new($node);
	my $first = tells($fresh, 'eve', $ways{$way});
	my $again = tells($fresh, 'eve', $ways{$way});
	like($first, qr/^\d/, "$way: tells a number");
	isnt($again, $first, "$way: a role's own prompt is reused");
	$fresh->quit;
	my $shared = SlmTest::Session->new($node);
	is(tells($shared, 'bob', $ways{$way}), $first, "$way: another role's first prompt tells the same");
	is(tells($shared, 'eve', $ways{$way}), $first, "$way: after it too, in the same session");
	is(tells($shared, 'bob', $ways{$way}), $again, "$way: and what was his own is still there");
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

$node->stop;
done_testing();
