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

my $node = slm_cluster('owners', empty => 1, conf => "slm.embed_model = 'minilm'\nslm.job_workers = 0\n");
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
		IF EXISTS (SELECT FROM slm.models WHERE name = 'passing') THEN PERFORM slm_drop_model('passing', cascade => true); END IF;
		RETURN slm_count_tokens('a', model => 'other0') > 0;
	END \$\$});
my ($said, $refused) = ('', '');
$node->psql('postgres', q{SELECT slm_train_classifier('passed', 'SELECT body, label FROM message WHERE drop_passing()', model => 'passing')},
	stdout => \$said, stderr => \$refused);
like($refused, qr/in a read-only transaction/, 'a training whose query drops the model is refused');
is($node->safe_psql('postgres', q{SELECT count(*) FROM slm.models WHERE name = 'passing'}), 1, 'the model is there');
is($node->safe_psql('postgres', q{SELECT count(*) FROM message WHERE drop_passing() AND cardinality(slm_embed(body)) = 384}), 16,
	'a statement drops one and goes on');
is($node->safe_psql('postgres', q{SELECT count(*) FROM slm.models WHERE name = 'passing'}), 0, 'the model is gone');

# ---- M2: nobody writes, locks or reads the tables; the owner of the name is asked, whoever writes the row
$node->safe_psql('postgres', q{CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN; CREATE ROLE team; CREATE ROLE carol LOGIN IN ROLE team;
	CREATE SCHEMA eve AUTHORIZATION eve});

# Statements as a role that has logged in itself: output, errors.
sub as_role
{
	my ($role, $sql, $db) = @_;
	my ($out, $err) = ('', '');
	$node->psql($db || 'postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ], on_error_stop => 0);
	return wantarray ? ($out, $err) : $out;
}

my $superuser = $node->safe_psql('postgres', 'SELECT current_user');

sub error_of { my ($out, $err) = as_role(@_); return $err; }

like(as_role('bob', q{SELECT version FROM slm_train_classifier('bobc', 'SELECT body, label FROM message WHERE ''secret'' <> body')}), qr/^1$/, 'bob trains');
for my $table ('slm.classifier_registry', 'slm.classifier_grant')
{
	for my $statement ("SELECT * FROM $table", "INSERT INTO $table SELECT * FROM $table", "UPDATE $table SET name = name", "DELETE FROM $table",
		"TRUNCATE $table", "BEGIN; LOCK TABLE $table IN ACCESS SHARE MODE", "COPY $table TO STDOUT", "CREATE TRIGGER t BEFORE INSERT ON $table EXECUTE FUNCTION now()")
	{
		like(error_of('eve', $statement), qr/permission denied/, "eve: $statement");
	}
}
like(error_of('eve', q{SELECT slm_train_classifier('bobc', 'SELECT body, label FROM message')}), qr/must be owner of classifier "bobc"/, 'eve adds no version');
like(error_of('eve', "SELECT slm_$_"), qr/must be owner of classifier "bobc"/, "eve: $_")
  for "restore_classifier('bobc', 1)", "drop_classifier('bobc')", "rename_classifier('bobc', 'evec')", "grant_classifier('bobc', 'eve')", "revoke_classifier('bobc', 'bob')",
  "set_classifier_owner('bobc', 'eve')";
like(error_of('bob', q{SELECT slm_set_classifier_owner('bobc', 'eve')}), qr/must be a member of role "eve"/, 'nor is a classifier given to one who did not ask');
like(as_role('bob', q{SELECT version FROM slm_train_classifier('bobc', 'SELECT body, label FROM message')}), qr/^2$/, 'bob trains it again');
is($node->safe_psql('postgres', q{SELECT version FROM slm_train_classifier('bobc', 'SELECT body, label FROM message');
	SELECT DISTINCT owner FROM slm.classifiers WHERE name = 'bobc'}), "3\nbob", 'a version by a superuser is the owner\'s as well');

# names that are trained at the same time do not wait for each other
my $busy = SlmTest::Session->new($node);
$busy->query(q{BEGIN; SELECT slm_train_classifier('busy', 'SELECT body, label FROM message')});
is(as_role('bob', q{SET statement_timeout = '20s'; SELECT version FROM slm_train_classifier('bobc', 'SELECT body, label FROM message')}), "4", 'another training is open');
$busy->query('ROLLBACK');
$busy->quit;

# ---- what is whose: queries and figures of others never; use by grant
my $view = q{SELECT count(*), count(query) FROM slm.classifiers WHERE name = 'bobc'};
is(as_role('eve', $view), '0|0', 'eve sees nothing of it');
is(as_role('bob', $view), '4|4', 'bob sees it');
like(error_of('eve', q{CREATE FUNCTION eve.leak(text, text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'seen %', $1; RETURN true; END $$;
	SELECT count(*) FROM slm.classifiers WHERE eve.leak(name, query)}), qr/^(?!.*bobc)/s, 'nor does a function of hers');
my $use = q{SELECT slm_classify('Where is my chair?', classifier => 'bobc')};
like(error_of('eve', $use), qr/permission denied for classifier "bobc".*slm_grant_classifier\('bobc', 'eve'\)/s, 'nor may she use it');
like(error_of('eve', q{SELECT slm_classify_embedding(slm_embed('x'), classifier => 'bobc')}), qr/permission denied for classifier "bobc"/, 'nor with an embedding');
like(error_of('eve', q{SELECT slm_classify('x', classifier => 'bobb')}), qr/classifier "bobb" does not exist\nHINT:  The view/, 'its name is not suggested to her');
like(error_of('bob', q{SELECT slm_classify('x', classifier => 'bobb')}), qr/Did you mean "bobc"\?/, 'but to bob');
as_role('bob', q{SELECT slm_grant_classifier('bobc', 'team')});
is(as_role('carol', $use), 'delivery', 'a member of a role that was granted it uses it');
is(as_role('carol', $view), '4|0', 'and sees its figures, not its query');
like(error_of('eve', $use), qr/permission denied/, 'eve still does not');
as_role('bob', q{SELECT slm_grant_classifier('bobc', 'public')});
is(as_role('eve', $use), 'delivery', 'PUBLIC');
is(as_role('bob', q{SELECT DISTINCT roles FROM slm.classifiers WHERE name = 'bobc'}), '{PUBLIC,team}', 'the view shows the grants');
as_role('bob', q{SELECT slm_revoke_classifier('bobc', 'public'); SELECT slm_rename_classifier('bobc', 'bobd')});
like(error_of('eve', $use), qr/classifier "bobc" does not exist/, 'revoked and renamed');
is(as_role('carol', q{SELECT slm_classify('Where is my chair?', classifier => 'bobd')}), 'delivery', 'grants go with the name');
as_role('bob', q{SELECT slm_rename_classifier('bobd', 'bobc')});
my $switch = q{SET SESSION AUTHORIZATION carol; SELECT slm_classify('Where is my chair?', classifier => 'bobc'); SET SESSION AUTHORIZATION eve; } . $use;
like(error_of($superuser, $switch), qr/permission denied for classifier/, 'a session that changes its role is asked again');

# ---- S10: a row that was restored or edited is hostile
# the header of a classifier of two labels, a and b, and n numbers, all of whose weights are 0: n, length and checksum in hex
sub made_blob
{
	my ($n, $dims, $length, $checksum) = @_;
	return join('', '736c6d5f636c6600', '01000000', '04030201', '02000000', $dims, '0000000000000000', '0000803f', '04000000', $length, $checksum,
		'0000000000000000', '00000000', '01000000', '02000000', '61620000', '00' x (8 * $n + 8));
}
my %blob = (
	400 => made_blob(400, '90010000', 'd80c000000000000', 'c3cc3a5306f14511'),
	100 => made_blob(100, '64000000', '7803000000000000', '48580fcb02552598'),
	384 => made_blob(384, '80010000', '580c000000000000', 'b674d90891b7d81e'));
for my $n (sort keys %blob)
{
	$node->safe_psql('postgres', qq{INSERT INTO slm.classifier_registry SELECT 'made$n', 1, true, owner, image, labels, training_rows, accuracy, macro_f1, log_loss, ece,
		temperature, l2, confusion, options, query, by_names, seconds, now(), decode('$blob{$n}', 'hex') FROM slm.classifier_registry WHERE name = 'plain'});
}
is($node->safe_psql('postgres', q{SELECT label FROM slm_classify_scores('hello', classifier => 'made384') ORDER BY 1}), "a\nb", 'a blob that fits is used');
for my $n (400, 100)
{
	like(error_of($superuser, "SELECT $_"), qr/does not fit its model: it takes embeddings of $n numbers, "minilm" makes 384/, "embeddings of $n numbers: $_")
	  for "slm_classify('hello', classifier => 'made$n')", "slm_classify_scores('hello', classifier => 'made$n')", "slm_classify_details('hello', classifier => 'made$n')";
	like(error_of($superuser, "SELECT $_"), qr/takes embeddings of $n numbers, not 384/, "embeddings of $n numbers: $_")
	  for "slm_classify_embedding(slm_embed('hello'), classifier => 'made$n')", "slm_classify_embedding_scores(slm_embed('hello'), classifier => 'made$n')";
}
$node->safe_psql('postgres', q{UPDATE slm.classifier_registry SET blob = substr(blob, 1, 1000) WHERE name = 'made400'; UPDATE slm.classifier_registry SET blob = '' WHERE name = 'made100'});
like(error_of($superuser, qq{SELECT slm_classify('hello', classifier => 'made$_')}), qr/could not open classifier "made$_"/, 'a blob that was cut') for 400, 100;
is($node->safe_psql('postgres', q{SELECT slm_classify('Where is my chair?', classifier => 'plain')}), 'delivery', 'the server goes on');
$node->safe_psql('postgres', qq{SELECT slm_drop_classifier('made$_')}) for keys %blob;

# ---- S16: an owner who is dropped takes nothing along into another cluster
$node->safe_psql('postgres', q{CREATE ROLE gone LOGIN; CREATE ROLE guest});
as_role('gone', q{SELECT slm_train_classifier('orphan', 'SELECT body, label FROM message'); SELECT slm_grant_classifier('orphan', 'team'); SELECT slm_grant_classifier('orphan', 'guest')});
as_role('bob', q{SELECT slm_grant_classifier('bobc', 'guest')});
$node->safe_psql('postgres', 'DROP OWNED BY gone; DROP ROLE gone; DROP ROLE guest');
like(error_of('carol', q{SELECT slm_classify('x', classifier => 'orphan')}), qr/permission denied for classifier "orphan"/, 'a classifier whose owner is gone is disabled');
like(error_of('bob', q{SELECT slm_drop_classifier('orphan')}), qr/must be owner.*A superuser can run: SELECT slm_set_classifier_owner\('orphan', 'bob'\)/s, 'for all but superusers');
my $dump = $node->backup_dir . '_dump.sql';
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-f', $dump ], 'dump');
unlike(slurp_file($dump), qr/orphan\t1/, 'it is not dumped');
my @grants = slurp_file($dump) =~ /^COPY slm\.classifier_grant [^\n]*\n(.*?)^\\\.$/ms;
is($grants[0], "bobc\tteam\norphan\tteam\n", 'nor are grants to roles that are gone');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'restored', '-f', $dump ], 'restore');
is(as_role('carol', $use, 'restored'), 'delivery', 'what was granted is granted there');
like(error_of('eve', $use, 'restored'), qr/permission denied/, 'and nothing more');
as_role('eve', q{SELECT slm_train_classifier('orphan', 'SELECT body, label FROM message')}, 'restored');
is($node->safe_psql('restored', q{SELECT owner, roles FROM slm.classifiers WHERE name = 'orphan'}), 'eve|{}', 'a new classifier of that name has no grants of the old one');
$node->safe_psql('postgres', q{SELECT slm_set_classifier_owner('orphan', 'carol')});
is(as_role('carol', q{SELECT slm_classify('Where is my chair?', classifier => 'orphan')}), 'delivery', 'a superuser gives it to another role');

# ---- A3: a worse version does not go live; the comparison is on the same rows, none of which either has learned from
$node->safe_psql('postgres', q{CREATE TABLE truth AS SELECT row_number() OVER () AS id, format(p, w) AS body, label FROM (VALUES
		('Where is my %s?', 'delivery'), ('The %s has not arrived', 'delivery'), ('When will the %s be delivered?', 'delivery'), ('The courier lost my %s', 'delivery'),
		('The invoice for the %s is wrong', 'billing'), ('I was charged twice for the %s', 'billing'), ('Please send the receipt for the %s', 'billing'), ('Why does the %s cost more?', 'billing')) m(p, label),
		unnest(ARRAY['lamp', 'phone', 'chair', 'radio', 'kettle', 'bicycle', 'table', 'mirror', 'carpet', 'camera']) w;
	CREATE VIEW wrong AS SELECT id, body, CASE WHEN id % 5 = 0 THEN CASE label WHEN 'billing' THEN 'delivery' ELSE 'billing' END ELSE label END AS label FROM truth});

# What a training answers, and its notices.
sub train
{
	my ($name, $query, %option) = @_;
	my $json = join(', ', map { qq("$_": ) . ($option{$_} =~ /^\d+|true$/ ? $option{$_} : qq("$option{$_}")) } grep { $_ ne 'model' } keys %option);
	my $model = $option{model} ? ", model => '$option{model}'" : '';
	my ($out, $err) = as_role($superuser, qq{SELECT active, accuracy, previous_accuracy FROM slm_train_classifier('$name', '$query', options => '{$json}'$model)});
	my ($active, $accuracy, $previous) = split(/\|/, $out);
	return { active => $active, accuracy => $accuracy, previous => $previous, says => $err };
}

my ($good, $bad) = ('SELECT body, label FROM truth ORDER BY id', 'SELECT body, label FROM wrong ORDER BY id');
my $t = train('topic', $good);
is_deeply([ $t->{active}, $t->{previous}, $t->{says} ], [ 't', '', '' ], 'the first version is active');
$t = train('topic', $bad);
is($t->{active}, 'f', 'a worse version is not activated');
cmp_ok($t->{previous}, '>', $t->{accuracy}, 'the active one is better on the same rows');
like($t->{says}, qr/version 2 of classifier "topic" was not activated: accuracy 0\.\d{4}, that of version 1 0\.\d{4} on the same 80 held-out rows\n.*slm_restore_classifier\('topic', 2\)/s, 'a notice says so');
# the labels of the rows are the judge, so a version that was trained on bad ones is no better by having seen them
cmp_ok($t->{previous}, '<', 0.9, 'rows with bad labels are held against the active one too');
$t = train('topic', $bad, activate => 'always');
is($t->{active}, 't', 'unless it is wanted');
like($t->{says}, qr/version 3 .* is active now: .*To go back: SELECT slm_restore_classifier\('topic', 1\)/s, 'which is said too');
$t = train('topic', $bad);
is_deeply([ $t->{active}, abs($t->{accuracy} - $t->{previous}) < 1e-9 ? 'equal' : "$t->{accuracy} $t->{previous}" ], [ 'f', 'equal' ],
	'the same rows again are neither better nor judged more kindly by the version that has learned from them');
$t = train('topic', $good);
is($t->{active}, 't', 'a better version is activated');
cmp_ok($t->{accuracy}, '>', $t->{previous}, 'because it is better');
is($node->safe_psql('postgres', q{SELECT version FROM slm.classifiers WHERE name = 'topic' AND active}), '5', 'one version is active');
$t = train('topic', 'SELECT body, label FROM truth UNION ALL SELECT upper(body) || id, label FROM truth', activate => 'never');
is_deeply([ $t->{active}, $t->{says} =~ /on the same (\d+) held-out rows/ ? $1 : '' ], [ 'f', 160 ], 'old rows and new ones are judged, and nothing is activated');
# another model, n-grams, embeddings
$node->safe_psql('postgres', q{SELECT slm_quantize_model('minilm', 'small', 'Q4_0')});
$t = train('topic', $bad, model => 'small');
is($t->{active}, 'f', 'a version of another model is compared by the texts');
like($t->{says}, qr/on the same 80 held-out rows/, 'all of them');
$t = train('topic', q{SELECT slm_embed(body, model => ''small''), label FROM truth}, model => 'small');
like($t->{says}, qr/was not activated: version 5 could not be compared.*belongs to another model/s, 'without texts it is not, and not activated');
$t = train('topic', $bad, ngrams => 'true');
is($t->{active}, 'f', 'n-grams');
$t = train('topic', 'SELECT slm_embed(body), label FROM wrong ORDER BY id');
is_deeply([ $t->{active}, $t->{says} =~ /on the same (\d+)/ ], [ 'f', 80 ], 'embeddings');
# an active version that cannot answer is no reason to keep it
$node->safe_psql('postgres', q{SELECT slm_train_classifier('lost', 'SELECT body, label FROM truth', model => 'small'); DELETE FROM slm.model_registry WHERE name = 'small'});
$t = train('lost', $bad);
is($t->{active}, 't', 'a version whose model is gone is replaced');
like($t->{says}, qr/version 1 cannot be used any more/, 'which is said');
# rows that were edited
$node->safe_psql('postgres', q{UPDATE slm.classifier_registry SET trial_rows = substr(trial_rows, 1, 8) || '\x07' || substr(trial_rows, 10) WHERE name = 'topic' AND active});
$t = train('topic', $good);
like($t->{says}, qr/was not activated: version 5 could not be compared.*damaged/s, 'what does not hold together is not compared');
$node->safe_psql('postgres', q{UPDATE slm.classifier_registry SET trials[2] = '\x00', trial_rows = '' WHERE name = 'topic' AND active});
$t = train('topic', $good);
like($t->{says}, qr/could not be compared.*damaged/s, 'nor are trials');
$node->safe_psql('postgres', q{UPDATE slm.classifier_registry SET blob = '\x00' WHERE name = 'topic' AND active});
$t = train('topic', $good);
is($t->{active}, 't', 'a version that is damaged is replaced');
like(error_of($superuser, q{BEGIN READ ONLY; SELECT slm_train_classifier('topic', 'SELECT body, label FROM truth')}), qr/read-only transaction/, 'a read-only transaction trains nothing');

# ---- B8: rows of jobs know the version that they were computed with
$node->safe_psql('postgres', q{CREATE TABLE inbox (id int PRIMARY KEY, body text, label text); GRANT ALL ON inbox TO bob; ALTER TABLE inbox OWNER TO bob;
	INSERT INTO inbox SELECT row_number() OVER (), body FROM message});
as_role('bob', q{SELECT slm_train_classifier('routes', 'SELECT body, label FROM message'); SELECT slm_create_job('routing', 'inbox', 'label', 'slm_classify(body, classifier => ''routes'')'); CALL slm_run_job('routing')});
my $state = q{SELECT done, stale, (SELECT notice FROM slm.jobs j WHERE j.name = s.name) FROM slm.job_status s WHERE name = 'routing'};
is(as_role('bob', $state), '16|0|', 'rows of a job');
is($node->safe_psql('postgres', q{SELECT count(*) FROM slm.job_done WHERE models @> ARRAY['routes@1']}), '16', 'record the version of their classifier');
my ($seen, $told) = as_role('bob', q{SELECT active FROM slm_train_classifier('routes', 'SELECT body, upper(label) FROM message')});
is($seen, 't', 'another version becomes active');
like($told, qr/NOTICE:  rows of job "routing" were computed with another version of classifier "routes"\nHINT:.*SELECT slm_alter_job\('routing'\);/, 'a notice names the job');
is(as_role('bob', $state), q{0|16|rows were computed with another version of classifier "routes"; to compute them again: SELECT slm_alter_job('routing');}, 'its rows are stale, and slm.jobs says so');
as_role('bob', q{INSERT INTO inbox VALUES (17, 'The invoice is wrong'); CALL slm_run_job('routing')});
like(as_role('bob', $state), qr/^1\|16\|rows were/, 'new rows are not');
as_role('bob', q{SELECT slm_alter_job('routing'); CALL slm_run_job('routing')});
is(as_role('bob', $state), '17|0|', 'until they are computed again');
is($node->safe_psql('postgres', q{SELECT DISTINCT label FROM inbox ORDER BY 1}), "BILLING\nDELIVERY", 'with it');
like(error_of('bob', q{SELECT slm_restore_classifier('routes', 1)}), qr/rows of job "routing" were computed/, 'the same when an earlier version comes back');
like(as_role('bob', $state), qr/^0\|17\|/, 'they are stale');
is($node->safe_psql('postgres', q{SELECT count(*) FROM slm.job_done WHERE models @> ARRAY['routes@2']}), '17', 'whatever else is recorded');
unlike(error_of($superuser, q{SET ROLE carol; SELECT slm_train_classifier('mine', 'SELECT body, label FROM message', options => '{"activate": "always"}')}), qr/routing/, 'nobody is told of jobs of others');
as_role('bob', q{SELECT slm_drop_job('routing'); SELECT slm_drop_classifier('routes')});

# ---- A4: nothing in use is pulled away
$node->safe_psql('postgres', q{
	CREATE TABLE docs (id int PRIMARY KEY, body text, e text, l text, n int DEFAULT slm_count_tokens('x', model => 'minilm'));
	CREATE SCHEMA hidden;
	SELECT slm_train_classifier('theme', 'SELECT body, label FROM message');
	SELECT slm_create_job('labels', 'docs', 'l', 'slm_classify(body, classifier => ''theme'')', '{"paused": true}');
	SELECT slm_create_job('vectors', 'docs', 'e', 'slm_embed(body)::text', '{"paused": true}')} =~ s/SELECT slm_create_job\('vectors'/SET slm.embed_model = 'minilm'; $&/r);
$node->safe_psql('postgres', $_) for
  q{CREATE TRIGGER embed BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION slm_trigger('e', 'slm_embed(body, model => ''minilm'')::text')},
  q{CREATE FUNCTION by_text(text) RETURNS text LANGUAGE sql AS 'SELECT slm_classify($1, classifier => ''theme'')'},
  q{CREATE FUNCTION by_body(b text) RETURNS text LANGUAGE sql RETURN slm_classify(b, classifier => 'theme')},
  q{CREATE FUNCTION by_setting() RETURNS int LANGUAGE plpgsql SET slm.embed_model = 'minilm' AS 'BEGIN RETURN 1; END'},
  q{CREATE FUNCTION unrelated() RETURNS text LANGUAGE sql AS 'SELECT ''theme''::text'},
  q{CREATE PROCEDURE hidden.p() LANGUAGE plpgsql AS 'BEGIN PERFORM slm_classify(''x'', classifier => $$theme$$); END'},
  q{CREATE VIEW labelled AS SELECT id, slm_classify(body, classifier => 'theme') FROM docs},
  q{CREATE MATERIALIZED VIEW stored AS SELECT id, slm_classify(body, classifier => 'theme') FROM docs},
  q{CREATE VIEW vectors AS SELECT slm_embed(body, 'minilm') FROM docs},
  q{CREATE RULE r AS ON DELETE TO docs DO ALSO INSERT INTO docs (id, l) VALUES (-old.id, slm_classify('x', classifier => 'theme'))},
  q{ALTER TABLE docs ADD CHECK (slm_classify(l, classifier => 'theme') <> '')},
  q{CREATE POLICY p ON docs USING (slm_classify(l, classifier => 'theme') <> '')},
  q{ALTER DATABASE postgres SET slm.classify_model = 'minilm'}, q{ALTER ROLE bob SET slm.embed_model = 'minilm'};
$node->safe_psql('postgres', q{SELECT slm_load_model('halves', '} . $minilm . q{', '{"quantization": "F16"}'); SELECT slm_train_classifier('halved', 'SELECT body, label FROM message', model => 'halves')});

my $users = qr/in use by 1 job, 2 functions, 1 procedure, 1 materialized view, 1 rule, 1 view, 1 constraint and 1 policy\n/;
my $names = qr/job labels\nfunction public.by_body\(text\)\nfunction public.by_text\(text\)\nprocedure hidden.p\(\)\nmaterialized view public.stored\nrule r on public.docs\nview public.labelled\n/;
sub state_of
{
	my ($role, $sql) = @_;
	my ($out, $err) = ('', '');
	$node->psql('postgres', "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ], on_error_stop => 0);
	return $err =~ /ERROR:  (\w{5}):/ ? $1 : 'ok';
}
my $refused = error_of($superuser, q{SELECT slm_drop_classifier('theme')});
like($refused, qr/ERROR:  cannot drop classifier "theme": $users/, 'a classifier in use is not dropped');
like($refused, qr/DETAIL:  $names.*HINT:.*SELECT slm_drop_classifier\('theme', cascade => true\);/s, 'its users are named');
is(state_of($superuser, q{SELECT slm_drop_classifier('theme')}), '2BP01', 'SQLSTATE');
is(state_of($superuser, q{SELECT slm_rename_classifier('theme', 'subject')}), '2BP01', 'nor renamed');
$refused = error_of($superuser, q{SELECT slm_drop_model('minilm')});
like($refused, qr/cannot drop model "minilm": in use by 1 job, 1 trigger, \d classifiers, 2 settings, 1 function, 1 view and 1 default\n/, 'nor is a model');
like($refused, qr/job vectors\ntrigger embed on public.docs\nclassifier bobc\n.*classifier theme\n.*setting slm.classify_model of database postgres\nsetting slm.embed_model of role bob\n.*public.by_setting\(\)\nview public.vectors\ndefault of column n of public.docs/s, 'with its users');
unlike($refused, qr/halved/, 'a classifier of another model is none');
is(state_of($superuser, q{SELECT slm_rename_model('minilm', 'm')}), '2BP01', 'nor renamed');
# what another role must not see is counted
$node->safe_psql('postgres', q{SELECT slm_set_classifier_owner('theme', 'bob'); REVOKE USAGE ON SCHEMA hidden FROM PUBLIC});
$refused = error_of('bob', q{SELECT slm_drop_classifier('theme')});
like($refused, qr/cannot drop classifier "theme": $users/, 'the owner is told how many');
like($refused, qr/^and 2 that you may not see/m, 'not what he may not see');
unlike($refused, qr/job labels|hidden/, 'by no name');
$node->safe_psql('postgres', qq{SELECT slm_set_classifier_owner('theme', '$superuser')});
# the same name as a part of a longer one, or of another text, is none
$node->safe_psql('postgres', q{SELECT slm_train_classifier('the', 'SELECT body, label FROM message'); SELECT slm_drop_classifier('the')});
pass('a name within a name is not in use');
# cascade
my $said = error_of($superuser, q{SELECT slm_rename_model('minilm', 'm', cascade => true)});
like($said, qr/NOTICE:  model "minilm" is still named by 1 job, 1 trigger, 2 settings, 1 function, 1 view and 1 default, which cannot be changed/, 'cascade renames and says what misses the name');
is($node->safe_psql('postgres', q{SELECT slm_classify('Where is my chair?', classifier => 'theme')}), 'delivery', 'classifiers go along');
$node->safe_psql('postgres', q{SELECT slm_rename_model('m', 'minilm')});
# a statement that runs goes on
my $reader = SlmTest::Session->new($node);
$reader->query(q{BEGIN; DECLARE c CURSOR FOR SELECT slm_classify(body, classifier => 'halved') FROM message ORDER BY body; FETCH 1 FROM c});
$said = error_of($superuser, q{SELECT slm_drop_model('halves', cascade => true)});
like($said, qr/NOTICE:  drop cascades to 1 classifier\nDETAIL:  classifier halved/, 'cascade drops the classifiers of a model');
like($reader->query('FETCH ALL FROM c'), qr/^(billing|delivery)(\n(billing|delivery)){14}$/, 'a statement that uses it goes on');
$reader->query('COMMIT');
$reader->quit;
is($node->safe_psql('postgres', q{SELECT count(*) FROM slm.classifiers WHERE name = 'halved'}), '0', 'they are gone');
$said = error_of($superuser, q{SELECT slm_drop_classifier('theme', cascade => true)});
like($said, qr/NOTICE:  classifier "theme" is still named by 1 job, .*DETAIL:  $names/s, 'cascade drops a classifier and says what misses it');
like(error_of($superuser, q{SELECT * FROM labelled; SELECT slm_classify('x', classifier => 'theme')}), qr/classifier "theme" does not exist/, 'it is gone');

$node->stop;
done_testing();
