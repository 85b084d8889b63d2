# Databases that are not UTF-8: what the model says is converted, what cannot be said there becomes a question mark, and bytes that are
# no text are refused.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SlmTest;

my $path = model_path();
my $node = slm_cluster('encodings');
my %encoding = (latin1 => 'LATIN1', ascii => 'SQL_ASCII', japanese => 'EUC_JP');
for my $name (sort keys %encoding)
{
	$node->safe_psql('postgres', "CREATE DATABASE $name ENCODING '$encoding{$name}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$node->safe_psql($name, "CREATE EXTENSION slm_pg; SELECT slm_load_model('smollm2', '$path')");
}

# the same characters are the same tokens, whatever the bytes of the database
my $tokens = $node->safe_psql('postgres', q{SELECT slm_tokenize(U&'caf\00E9 \00FC\00DF')});
is($node->safe_psql('latin1', q{SELECT slm_tokenize(convert_from('\x636166e920fcdf', 'LATIN1'))}), $tokens, 'LATIN1: same tokens');
is($node->safe_psql('ascii', q{SELECT slm_tokenize(E'caf\xC3\xA9 \xC3\xBC\xC3\x9F')}), $tokens, 'SQL_ASCII: bytes are UTF-8');
is($node->safe_psql('latin1', q{SELECT encode(slm_detokenize(slm_tokenize(convert_from('\xe9fcdf', 'LATIN1')))::bytea, 'hex')}), 'e9fcdf', 'LATIN1: and back');
my $kana = $node->safe_psql('postgres', q{SELECT slm_tokenize(U&'\65E5\672C')});
is($node->safe_psql('japanese', q{SELECT slm_tokenize(convert_from('\xe697a5e69cac', 'UTF8'))}), $kana, 'EUC_JP: same tokens');
is($node->safe_psql('japanese', q{SELECT slm_detokenize(slm_tokenize(convert_from('\xe697a5e69cac', 'UTF8'))) = convert_from('\xe697a5e69cac', 'UTF8')}), 't', 'EUC_JP: and back');

# an answer with a letter that the database does not have
my $euro = $node->safe_psql('postgres', q{SELECT slm_tokenize(U&'5 \20AC, \+01F600!')});
is($node->safe_psql('latin1', "SELECT slm_detokenize('$euro')"), '5 ?, ?!', 'LATIN1: a letter that it lacks becomes a question mark');
my $long = "SELECT slm_detokenize(array_agg(t ORDER BY i, n)) = repeat('5 ?, ?!', 30000) "
  . "FROM generate_series(1, 30000) i, unnest('$euro'::int[]) WITH ORDINALITY u(t, n)";
is($node->safe_psql('latin1', $long), 't', 'LATIN1: also far into a long text');

# labels and options are converted too
is($node->safe_psql('latin1', q{SELECT slm_classify('Wo ist mein Paket?', ARRAY[convert_from('\x4cfc6765', 'LATIN1')], method => 'channel') = convert_from('\x4cfc6765', 'LATIN1')}),
	't', 'LATIN1: a label comes back as it went in');

# bytes that are no text
for my $call ("slm_tokenize(E'\\xE9')", "slm_generate(E'caf\\xE9')", "slm_classify('x', ARRAY[E'\\xFF', 'b'])", "slm_generate('x', system => E'\\xC3')")
{
	my ($rc, $out, $err) = $node->psql('ascii', "SELECT $call");
	isnt($rc, 0, "SQL_ASCII: $call is refused");
	like($err, qr/invalid byte sequence for encoding "UTF8"/, "SQL_ASCII: $call: says why");
}
is($node->safe_psql('ascii', q{SELECT count(slm_generate(E'caf\xC3\xA9', max_tokens => 3))}), '1', 'SQL_ASCII: generates');

$node->stop;
done_testing();
