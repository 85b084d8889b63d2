# Embeddings in pgvector's columns and indexes, where that extension is installed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $minilm = ($ENV{SLM_MODEL_CACHE} || "$ENV{HOME}/.cache/slm_pg") . '/all-MiniLM-L6-v2';
plan(skip_all => "$minilm is absent; models/fetch --default brings it") unless -r "$minilm/config.json";
my $share = `pg_config --sharedir`;
chomp $share;
plan(skip_all => 'pgvector is not installed') unless -e "$share/extension/vector.control";

my $node = slm_cluster('pgvector', empty => 1, conf => "slm.embed_model = 'minilm'\n");
$node->safe_psql('postgres', <<"SQL");
SELECT slm_load_model('minilm', '$minilm');
CREATE TABLE message AS SELECT 'my invoice number ' || i || ' is wrong' AS body FROM generate_series(1, 20) i
  UNION ALL SELECT 'the parcel number ' || i || ' has not arrived' FROM generate_series(1, 20) i;
CREATE EXTENSION vector;
CREATE TABLE stored AS SELECT body, slm_embed(body)::vector(384) AS e FROM message;
CREATE INDEX ON stored USING hnsw (e vector_cosine_ops);
SQL
my $search = q{SELECT body FROM stored ORDER BY e <=> (SELECT slm_embed_query('the bill is not right')::vector) LIMIT 1};
like($node->safe_psql('postgres', "SET enable_seqscan = off; EXPLAIN $search"), qr/Index Scan/, 'the HNSW index is used');
like($node->safe_psql('postgres', "SET enable_seqscan = off; $search"), qr/invoice/, 'and finds the nearest text');

# slm_topk and slm_search take the column as it is, and a real[] by the index on its conversion
$node->safe_psql('postgres', <<'SQL');
ALTER TABLE stored ADD id serial PRIMARY KEY, ADD r real[];
UPDATE stored SET r = e::real[];
CREATE INDEX converted ON stored USING hnsw ((r::vector(384)) vector_cosine_ops);
ANALYZE stored;
SQL
for my $column ('e', 'r') {
    my $index = $column eq 'e' ? 'stored_e_idx' : 'converted';
    my $found = $node->safe_psql('postgres', qq{SET enable_seqscan = off; SET enable_sort = off;
        SELECT string_agg(split_part(s.body, ' ', 2), ' '), bool_and(abs(t.similarity - slm_similarity(s.r, slm_embed_query('the bill is not right'))) < 1e-5)
        FROM slm_topk(slm_embed_query('the bill is not right'), 'stored', '$column', 3) t JOIN stored s ON s.id = t.key::int});
    is($found, 'invoice invoice invoice|t', "slm_topk over $column");
    ok($node->poll_query_until('postgres', "SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = '$index'"), "by $index");
}
like($node->safe_psql('postgres', "SELECT content FROM slm_search('the bill is not right', 'stored', 'body', 'e', 1, config => 'english')"), qr/invoice/, 'slm_search');
$node->stop;
done_testing();
