# Models that travel with the data: what a standby, a restored dump and an upgraded cluster answer when the image is not there, damage,
# and an image that goes to another server as a file.
use strict;
use warnings;
use File::Path qw(remove_tree);
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $data = "$FindBin::RealBin/../data";
my $node = PostgreSQL::Test::Cluster->new('origin');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "max_wal_senders = 4\nslm.generate_model = 'stored'\n");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub store { return $_[0]->data_dir . '/slm_models'; }

sub fails_with
{
	my ($on, $sql, $pattern, $name) = @_;
	my ($rc, $out, $err) = $on->psql('postgres', $sql);
	isnt($rc, 0, "$name: refused");
	like($err, $pattern, "$name: says why");
	return;
}

my $questions = "SELECT slm_generate('abc', max_tokens => 6), slm_perplexity('abc abc', 'stored'), slm_perplexity('abc abc', 'stored+lora')";
my $standby = PostgreSQL::Test::Cluster->new('standby');
$node->backup('empty');
$standby->init_from_backup($node, 'empty', has_streaming => 1);
$standby->start;

sql(qq{CREATE EXTENSION slm_pg;
	CREATE ROLE other LOGIN;
	SELECT slm_load_model('stored', '$data/tiny.gguf', '{"stored": true, "quantization": "F32"}');
	SELECT slm_load_adapter('lora', 'stored', '$data/tiny_lora.gguf');
	SELECT slm_store_model('lora')});
my $expected = sql($questions);
is(sql("SELECT string_agg(format('%s %s', s.name, s.bytes = m.image_bytes), ', ' ORDER BY s.name) FROM slm.stored_models s JOIN slm.model_registry m USING (name)"),
	'lora t, stored t', 'rows hold what the images are');
is($node->safe_psql('postgres', "SET ROLE other; SELECT count(*) FROM slm.stored_models"), '0', 'others do not see them');
fails_with($node, "SET ROLE other; SELECT slm_store_model('stored')", qr/permission denied|owner/, 'storing as somebody else');
fails_with($node, "SET ROLE other; SELECT * FROM slm.image_part", qr/permission denied/, 'reading the rows');

# ---- a standby that has never seen the files, in parallel workers too
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
ok(!-e store($standby), 'the standby has no images');
is($standby->safe_psql('postgres', $questions), $expected, 'a standby makes them and answers alike');
is(scalar(my @images = glob(store($standby) . '/*.img')), 2, 'both are files now');
remove_tree(store($standby));
is($standby->safe_psql('postgres', "SET max_parallel_workers_per_gather = 2; SET force_parallel_mode = on; $questions"), $expected, 'and again, in a worker')
  if $node->pg_version < 16;

# ---- a dump, restored where the source is unknown
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$node->{_basedir}/shop.dump", $node->connstr('postgres') ], 'a dump');
my $elsewhere = PostgreSQL::Test::Cluster->new('elsewhere');
$elsewhere->init;
$elsewhere->append_conf('postgresql.conf', "slm.generate_model = 'stored'\n");
$elsewhere->start;
$elsewhere->command_ok([ 'pg_restore', '--no-owner', '-d', $elsewhere->connstr('postgres'), "$node->{_basedir}/shop.dump" ], 'restored on another server');
is($elsewhere->safe_psql('postgres', $questions), $expected, 'answers alike');

# ---- pg_upgrade leaves the image directory behind
my $upgraded = PostgreSQL::Test::Cluster->new('upgraded');
$upgraded->init;
$upgraded->append_conf('postgresql.conf', "slm.generate_model = 'stored'\n");
sql(qq{SELECT slm_load_model('plain', '$data/tiny.gguf')});
$node->backup('old');
my $old = PostgreSQL::Test::Cluster->new('old');
$old->init_from_backup($node, 'old');
$old->start;
$old->stop;
my $bin = $node->config_data('--bindir');
$upgraded->command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $upgraded->data_dir, '-b', $bin, '-B', $bin, '-s', $upgraded->host,
	'-p', $old->port, '-P', $upgraded->port ], 'pg_upgrade');
$upgraded->start;
is($upgraded->safe_psql('postgres', $questions), $expected, 'the upgraded cluster answers alike, without hand work');
fails_with($upgraded, "SELECT slm_generate('abc', 'plain')", qr/HINT: .*copy the directory "slm_models" of the old cluster.*slm_store_model/,
	'a model that is not stored');
ok(system('cp', '-a', glob(store($old) . '/*.img'), store($upgraded)) == 0, 'as the hint says');
isnt($upgraded->safe_psql('postgres', "SELECT slm_generate('abc', 'plain', max_tokens => 2)"), '', 'then it answers');

# ---- damage
remove_tree(store($elsewhere));
$elsewhere->safe_psql('postgres', "UPDATE slm.image_part SET bytes = overlay(bytes PLACING '\\x00ff00' FROM octet_length(bytes) - 100) WHERE part = 0");
fails_with($elsewhere, "SELECT slm_generate('abc')", qr/could not use the stored image of "stored"/, 'other bytes');
$elsewhere->safe_psql('postgres', "UPDATE slm.image_part SET bytes = substr(bytes, 1, 1000)");
fails_with($elsewhere, "SELECT slm_generate('abc')", qr/could not use the stored image of "stored"/, 'fewer bytes');
$elsewhere->safe_psql('postgres', "INSERT INTO slm.image_part SELECT image, part + 1, bytes FROM slm.image_part WHERE part = 0");
fails_with($elsewhere, "SELECT slm_generate('abc')", qr/stored image of "stored" is not whole/, 'a part too many');
is(join(' ', map { s!.*/!!r } glob(store($elsewhere) . '/{*.img,pgsql_tmp.*}')), '', 'nothing half-written is left');
$elsewhere->safe_psql('postgres', "DELETE FROM slm.image_part");
fails_with($elsewhere, "SELECT slm_generate('abc')", qr/is not on this server/, 'no rows');

# ---- a file for another server
my $file = "$node->{_basedir}/stored.slm";
is(sql("SELECT slm_export_model('stored', '$file') = image_bytes FROM slm.models WHERE name = 'stored'"), 't', 'exported');
fails_with($node, "SELECT slm_export_model('stored', '$file')", qr/could not create.*File exists.*Nothing is overwritten/s, 'a file that is there');
fails_with($node, "SELECT slm_export_model('stored', 'relative.slm')", qr/not an absolute path/, 'a relative path');
fails_with($node, "SET ROLE other; SELECT slm_export_model('stored', '/tmp/other.slm')", qr/permission denied/, 'as somebody else');
fails_with($node, "SELECT slm_export_model('lora', '$file.2')", qr/is an adapter/, 'an adapter');
$elsewhere->safe_psql('postgres', "SELECT slm_drop_model('stored', cascade => true); SELECT slm_load_model('stored', '$file')");
is($elsewhere->safe_psql('postgres', "SELECT slm_perplexity('abc abc', 'stored')"), (split /\|/, $expected)[1], 'loaded elsewhere, it answers alike');
fails_with($elsewhere, qq{SELECT slm_load_model('other', '$file', '{"quantization": "Q8_0"}')}, qr/as it is: without options/, 'with options');
substr(my $bytes = slurp_file($file), -2000, 1) ^= "\xff";
append_to_file("$file.damaged", $bytes);
fails_with($elsewhere, "SELECT slm_load_model('damaged', '$file.damaged')", qr/damaged|checksum/, 'a damaged file');

# ---- dropped with the model
sql("SELECT slm_store_model('lora', stored => false)");
is(sql("SELECT string_agg(name, ' ') FROM slm.stored_models"), 'stored', 'no longer stored');
sql("SELECT slm_drop_model('stored', cascade => true)");
is(sql("SELECT count(*) FROM slm.image_part"), '0', 'no rows outlive the last model of the image');

done_testing();
