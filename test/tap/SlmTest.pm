# What the TAP tests share: a cluster with SmolLM2 loaded, and sessions that stay open while others act.
package SlmTest;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run qw(start pump finish);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(model_file model_path slm_cluster load_model start_killed banking77_cluster long_run percentile process_kb);

sub model_file { return ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/SmolLM2-135M-Instruct.Q4_1.gguf'; }

# The GGUF file of the model cache, or the whole test file is skipped.
sub model_path
{
	my $path = model_file();
	plan(skip_all => "$path is absent; models/fetch --default brings it") unless -r $path;
	return $path;
}

sub long_run { return $ENV{SLM_TEST_LONG} ? 1 : 0; }

# A started cluster with the extension and, unless told otherwise, the model "smollm2" as the default of all tasks.
sub slm_cluster
{
	my ($name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', "max_connections = 60\nrestart_after_crash = on\n" . ($option{conf} || ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION slm_pg');
	load_model($node) unless $option{empty};
	return $node;
}

sub load_model
{
	my ($node) = @_;
	my $path = model_path();
	$node->safe_psql('postgres', "SELECT slm_load_model('smollm2', '$path')");
	$node->append_conf('postgresql.conf', "slm.generate_model = 'smollm2'\nslm.classify_model = 'smollm2'");
	$node->reload;
}

# Starts a server that was killed (kill9), as soon as its orphans let go of its memory.
sub start_killed
{
	my ($node) = @_;
	for my $try (1 .. 120)
	{
		return 1 if $node->start(fail_ok => 1);
		$node->{_pid} = undef;    # the dead server's file
		sleep(0.5);
	}
	die 'the server does not start again';
}

# A cluster with MiniLM as the default encoder, and Banking77 in the tables train and test (id, body, label, e real[], which is NULL); or the
# whole test file is skipped.
sub banking77_cluster
{
	my ($name) = @_;
	my $data = $ENV{SLM_TEST_DATA} || '';
	my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
	my @files = map { "$data/banking77_$_.csv" } qw(train test);
	plan(skip_all => 'SLM_TEST_DATA names no folder with banking77_train.csv and banking77_test.csv') if grep { !-r $_ } @files;
	plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";

	my $node = slm_cluster($name, empty => 1, conf => "slm.embed_model = 'minilm'\n");
	$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('minilm', '$minilm');
CREATE TABLE train (id serial PRIMARY KEY, body text, label text, e real[]);
CREATE TABLE test (id serial PRIMARY KEY, body text, label text, e real[]);
\\copy train (body, label) FROM '$files[0]' (FORMAT csv, HEADER)
\\copy test (body, label) FROM '$files[1]' (FORMAT csv, HEADER)
SQL
	return $node;
}

# The value below which the given share of the values lies.
sub percentile
{
	my ($share, @values) = @_;
	@values = sort { $a <=> $b } @values;
	my $i = int($share * @values);
	return $values[ $i > $#values ? $#values : $i ];
}

# A field of /proc/PID/smaps_rollup or status, in KiB.
sub process_kb
{
	my ($pid, $file, $field) = @_;
	open(my $f, '<', "/proc/$pid/$file") or return undef;
	while (my $line = <$f>)
	{
		return $1 if $line =~ /^$field:\s+(\d+) kB/;
	}
	return undef;
}

package SlmTest::Session;

use strict;
use warnings;
use IPC::Run qw(start pump finish timer);
use Time::HiRes qw(time);

# A psql that stays open.
sub new
{
	my ($class, $node, $database) = @_;
	my $self = bless { in => '', out => '', err => '', n => 0 }, $class;
	my $connection = $node->connstr($database || 'postgres');
	$self->{timer} = timer(300);
	$self->{run} = start([ 'psql', '-X', '-A', '-t', '-q', '-d', $connection ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timer});
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	return $self;
}

sub pid { return $_[0]->{pid}; }

# Sends a statement and returns at once.
sub send
{
	my ($self, $sql) = @_;
	$self->{out} = '';
	$self->{err} = '';
	$self->{n}++;
	$self->{in} .= "$sql\n;\n\\echo :done$self->{n}:\n\\warn :done$self->{n}:\n";
	$self->{run}->pump_nb;
	return;
}

# Waits for the statement sent last; in list context its errors too.
sub wait
{
	my ($self) = @_;
	my $mark = ":done$self->{n}:";
	$self->{timer}->start(300);
	$self->{run}->pump until index($self->{out}, $mark) >= 0 && index($self->{err}, $mark) >= 0;
	my ($out, $err) = ($self->{out}, $self->{err});
	s/\n?\Q$mark\E\n?// for $out, $err;
	$self->{error} = $err;
	return wantarray ? ($out, $err) : $out;
}

sub query
{
	my ($self, $sql) = @_;
	$self->send($sql);
	return $self->wait;
}

# Waits until the session has failed and says after how many seconds from the given time.
sub seconds_until_error
{
	my ($self, $since) = @_;
	$self->{timer}->start(300);
	$self->{run}->pump until $self->{err} =~ /(ERROR|FATAL)|:done$self->{n}:/;
	my $seconds = time() - $since;
	$self->wait;
	return $seconds;
}

sub quit
{
	my ($self) = @_;
	$self->{in} .= "\\q\n";
	eval { $self->{run}->finish };
	return;
}

1;
