# What depends on the machine and never on answers: the file that keeps how the CPU likes to read, and huge pages.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $node = slm_cluster('machine');
my $store = $node->data_dir . '/slm_models';
my $file = "$store/tuning";
my $question = "SELECT slm_perplexity('The quick brown fox', 'smollm2') || slm_generate('Hello', max_tokens => 6)";
my $answer = $node->safe_psql('postgres', $question);

# What a new session says of an item after it has used the model.
sub info
{
	my ($item, $before) = @_;
	return (split /\n/, $node->safe_psql('postgres', ($before || '') . "; $question; SELECT value FROM slm_system_info() WHERE item = '$item'"))[-1];
}

sub put
{
	my ($bytes) = @_;
	unlink($file);
	open(my $f, '>:raw', $file) or die;
	print $f $bytes;
	close $f;
	return;
}

# ---- the file
ok(-f $file, 'the first use measures, and keeps it');
my $cpu = $node->safe_psql('postgres', "SELECT value FROM slm_system_info() WHERE item = 'cpu'");
like(slurp_file($file), qr/\A(0|4096|8192|16384) \d+\.\d \Q$cpu\E\n\z/, 'in one line for this CPU');
my $written = (stat $file)[1] . slurp_file($file);
like(info('weights fetched ahead'), qr/^\d+ bytes \(measured at \d+\.\d GB\/s a core\)$/, 'which is shown');
is((stat $file)[1] . slurp_file($file), $written, 'and not measured again');
put("4096 11.5 Another CPU, family 1 model 2\n8192 20.5 $cpu\n");
is(info('weights fetched ahead'), '8192 bytes (measured at 20.5 GB/s a core)', 'what is kept is taken');
is($node->safe_psql('postgres', $question), $answer, 'with the same answers');

my $other = '4096 11.5 Another CPU, family 1 model 2';
for my $hostile (
	[ 'nothing', '' ], [ 'no end', "8192 20.5 $cpu" ], [ 'a number beyond all', "99999999999 20.5 $cpu\n" ], [ 'too far', "70000 20.5 $cpu\n" ],
	[ 'negative', "-4096 20.5 $cpu\n" ], [ 'no number', "x y $cpu\n" ], [ 'no speed', "8192 nan $cpu\n" ], [ 'endless', "8192 inf $cpu\n" ],
	[ 'zero bytes', "\0" x 5000 ], [ 'zero bytes inside', "8192 20\0.5 $cpu\n" ], [ 'noise', join('', map { chr(($_ * 7919) % 256) } 1 .. 20000) ],
	[ 'long lines', ('8192 20.5 ' . 'x' x 100_000 . "\n") x 3 ])
{
	my ($name, $bytes) = @$hostile;
	put("$other\n$bytes");
	is(info('weights fetched ahead') =~ /^(0|4096|8192|16384) bytes \(measured/ ? 'measured' : 'believed', 'measured', "$name: measured anew");
	my @lines = split /\n/, slurp_file($file);
	is(scalar(grep { /^(0|4096|8192|16384) \d+\.\d \Q$cpu\E$/ } @lines), 1, "$name: and kept");
	is($lines[0], $other, "$name: beside what is good");
}

# a link is not followed, a directory in its place is left
my $victim = $node->basedir . '/victim';
append_to_file($victim, "8192 20.5 $cpu\n");
unlink($file);
symlink($victim, $file) or die;
like(info('weights fetched ahead'), qr/measured/, 'a link: measured anew');
is(slurp_file($victim), "8192 20.5 $cpu\n", 'what it leads to stays');
ok(!-l $file, 'and it is none any more');
unlink($file);
mkdir($file) or die;
append_to_file("$file/x", 'x');
is($node->safe_psql('postgres', $question), $answer, 'a directory in its place: the same answers');
is(scalar(grep { /pgsql_tmp/ } glob("$store/*")), 0, 'and nothing is left');
unlink("$file/x");
rmdir($file) or die;
chmod(0500, $store) or die;
is(info('weights fetched ahead'), '0 bytes (not measured)', 'a directory that cannot be written to: not measured');
chmod(0700, $store) or die;

# ---- huge pages
is(info('huge pages'), 'try', 'huge pages are tried');
like(info('weights in huge pages'), qr/^\d+ of \d\d+ MB that this session has mapped$/, 'and it is shown how many there are');
like(info('weights in huge pages', 'SET slm.huge_pages = off'), qr/^0 of \d\d+ MB/, 'off');
my ($rc, $out, $err) = $node->psql('postgres', "SET slm.huge_pages = on; $question; SELECT value FROM slm_system_info() WHERE item = 'weights in huge pages'");
if ($rc == 0)
{
	like($out, qr/\n[1-9]\d* of \d\d+ MB/, 'on: they are there');
}
else
{
	like($err, qr/ERROR: .*cannot be had in huge pages of 2 MiB\nHINT: .*large folios/s, 'on: says why they cannot be had');
}
isnt(($node->psql('postgres', "LOAD 'slm_pg'; SET slm.huge_pages = sometimes"))[0], 0, 'another value is refused');
$node->safe_psql('postgres', 'CREATE ROLE somebody LOGIN');
like(($node->psql('postgres', "LOAD 'slm_pg'; SET ROLE somebody; SET slm.huge_pages = off"))[2], qr/permission denied/, 'for superusers alone');
$node->stop;
done_testing();
