# Classifiers among several roles and sessions: nobody takes, reads or breaks what is another's; models stay while they are used; a version
# goes live when it is better; nothing in use is pulled away.
use strict;
use warnings;
use lib 'test/tap';
use SlmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";

my $node = slm_cluster('owners', empty => 1, conf => "slm.embed_model = 'minilm'\n");
my $tiny = "$ENV{TESTDIR}/test/data/tiny.gguf";
$node->safe_psql('postgres', "SELECT slm_load_model('minilm', '$minilm'); SELECT slm_grant_model('minilm', 'public')");
$node->safe_psql('postgres', q{
    CREATE TABLE message AS SELECT format(p, w) AS body, label FROM (VALUES ('Where is my %s?', 'delivery'), ('The %s has not arrived', 'delivery'),
        ('The invoice for the %s is wrong', 'billing'), ('I was charged twice for the %s', 'billing')) m(p, label), unnest(ARRAY['lamp', 'phone', 'chair', 'radio']) w;
    GRANT SELECT ON message TO PUBLIC});

# ---- a training keeps its model while the query uses nine others, or drops it
my $other = 0;
for my $format ('chatml', 'raw', 'llama3', 'zephyr')
{
	for my $type ('F32', 'F16', 'Q8_0')
	{
		my ($rc) = $node->psql('postgres',
			qq{SELECT slm_load_model('other$other', '$tiny', '{"quantization": "$type", "chat_format": "$format"}')});
		$other++ if $rc == 0;
	}
}
cmp_ok($other, '>=', 9, 'more models than a session keeps open');
my $crowd = "(SELECT sum(slm_count_tokens(body, model => ''other'' || i)) FROM generate_series(0, " . ($other - 1) . ') i) > 0';
$node->safe_psql('postgres', qq{SELECT version FROM slm_train_classifier('plain', 'SELECT body, label FROM message ORDER BY body')});
my $blobs = q{SELECT count(DISTINCT blob) FROM slm.classifier_registry WHERE name IN ('plain', 'crowded', 'dropped')};
# the session has opened seven of them in the same statement, so that the model of the training is the next to be closed
$node->safe_psql('postgres', qq{DO \$do\$ BEGIN
	PERFORM slm_count_tokens('a', model => 'other' || i) FROM generate_series(0, 6) i;
	PERFORM slm_train_classifier('crowded', 'SELECT body, label FROM message WHERE $crowd ORDER BY body', model => 'minilm');
END \$do\$});
is($node->safe_psql('postgres', $blobs), 1, 'a training whose query uses many models learns from its own');
$node->safe_psql('postgres', qq{SELECT slm_load_model('passing', '$minilm', '{"quantization": "F32"}');
	CREATE FUNCTION drop_passing() RETURNS bool LANGUAGE plpgsql AS \$\$ BEGIN
		IF EXISTS (SELECT FROM slm.models WHERE name = 'passing') THEN PERFORM slm_drop_model('passing'); END IF;
		RETURN slm_count_tokens('a', model => 'other0') > 0;
	END \$\$});
is($node->safe_psql('postgres', qq{SELECT training_rows FROM slm_train_classifier('passed', 'SELECT body, label FROM message WHERE drop_passing()', model => 'passing')}),
	16, 'a training whose query drops the model');
is($node->safe_psql('postgres', q{SELECT count(*) FROM message WHERE drop_passing() AND cardinality(slm_embed(body)) = 384}), 16, 'the session goes on');
is($node->safe_psql('postgres', q{SELECT slm_drop_classifier('passed'); SELECT count(*) FROM slm.models WHERE name = 'passing'}), "\n0", 'the model is gone');

$node->stop;
done_testing();
