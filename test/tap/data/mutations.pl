# Files of tiny models of every family, changed key by key, read here and by transformers and sentence-transformers (test/mutations): the
# same ids, vectors and logits, or refused.  SLM_TEST_PYTHON names a Python that has them; default: python3.  A part of the cases of two
# families; with SLM_TEST_LONG=1 all (an hour of one core).  test/mutations/report.py makes docs/MODEL_KEYS.md of what is found.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use lib 'test/tap';
use SlmTest;

my $python = $ENV{SLM_TEST_PYTHON} || 'python3';
my $missing = `$python -c 'import sentence_transformers, tokenizers, torch, transformers' 2>&1`;
plan(skip_all => "$python has no transformers and sentence-transformers: " . ((split /\n/, $missing)[-1] || 'it does not start')) if $? != 0;

$ENV{HF_HUB_OFFLINE} = 1;
my $results = "$PostgreSQL::Test::Utils::tmp_check/mutations.jsonl";
my $which = long_run() ? '' : q{--cases '_eps|rope|pooling_mode|add_prefix|max_seq|unk_token' bert/embed qwen3/generate roberta/tokenizer};
my $said = `$python test/mutations/run.py --out $results $which 2>&1`;
note $_ for grep { !/^Ignored/ } split /\n/, $said;
my ($passed, $failed) = $said =~ /^mutations: (\d+) passed, (\d+) failed$/m;
cmp_ok($passed || 0, '>', 50, 'cases were compared');
is($failed, 0, 'none is read otherwise than the reference reads it');
done_testing();
