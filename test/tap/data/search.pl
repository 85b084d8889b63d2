# Searching and sorting out on real messages to a bank: how often what is found has the intent of what was asked.
#
# Banking77 (Casanueva et al. 2020, CC BY 4.0): banking77_train.csv and banking77_test.csv in $SLM_TEST_DATA.  The figures of docs/SEARCH.md.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SlmTest;

my $node = banking77_cluster('search');
$node->safe_psql('postgres', <<'SQL');
UPDATE train SET e = slm_embed(body);
UPDATE test SET e = slm_embed(body) WHERE id % 8 = 0;
CREATE INDEX ON train USING gin (to_tsvector('english', body));
ANALYZE;
-- of the ten first rows for every 20th test message: does the first one have its intent, how many have, and the discounted gain
CREATE TABLE found AS
SELECT m.method, q.id, f.place, (t.label = q.label)::int AS hit FROM (VALUES ('words', NULL::name), ('both', 'e')) m(method, vector), (SELECT * FROM test WHERE id % 20 = 0) q,
  LATERAL (SELECT key, row_number() OVER () AS place FROM slm_search(q.body, 'train', 'body', m.vector, 10, config => 'english')) f JOIN train t ON t.id = f.key::int
UNION ALL
SELECT 'meaning', q.id, f.place, (t.label = q.label)::int FROM (SELECT * FROM test WHERE id % 20 = 0) q,
  LATERAL (SELECT key, row_number() OVER () AS place FROM slm_topk(slm_embed_query(q.body), 'train', 'e', 10)) f JOIN train t ON t.id = f.key::int;
SQL
my $figures = $node->safe_psql('postgres', q{SELECT method, round(avg(hit) FILTER (WHERE place = 1), 3), round(avg(hit), 3),
    round((sum(hit / log(2, place + 1)) / count(DISTINCT id) / (SELECT sum(1 / log(2, n + 1)) FROM generate_series(1, 10) n))::numeric, 3)
    FROM found GROUP BY 1 ORDER BY 1});
note "method, first right, share of ten right, nDCG of ten\n$figures";
my %first = map { (split /\|/)[0, 1] } split /\n/, $figures;
cmp_ok($first{meaning}, '>=', 0.88, 'the first row by meaning has the intent of nine messages of ten');
cmp_ok($first{both}, '>=', $first{words}, 'words and meaning together find more than words');

my $matched = $node->safe_psql('postgres', q{SELECT round(avg((a.label = b.label)::int), 3) FROM slm_match('SELECT e, body, id FROM test WHERE e IS NOT NULL ORDER BY id',
    'SELECT e, body, id FROM train ORDER BY id') m JOIN test a ON a.id = m.key::int JOIN train b ON b.id = m.match_key::int});
cmp_ok($matched, '>=', 0.9, "matched with a message of its intent: $matched");
my $same = $node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', t, n, same), '; ' ORDER BY t DESC) FROM unnest('{0.95,0.9,0.8}'::float8[]) t,
    LATERAL (SELECT count(*) n, round(avg((a.label = b.label)::int), 3) same FROM slm_duplicates('SELECT e, body, id FROM train ORDER BY id', t) d JOIN train a ON a.id = d.key::int JOIN train b ON b.id = d.of_key::int) x});
note "duplicates by threshold, and the share with the intent of their original: $same";
cmp_ok((split / /, $same)[2] =~ s/;//r, '>=', 0.95, 'duplicates have the intent of their original');
my $nmi = $node->safe_psql('postgres', <<'SQL');
WITH r AS (SELECT t.topic, b.label FROM slm_topic_rows('SELECT e, body, id FROM train ORDER BY id', 77) t JOIN train b ON b.id = t.key::int),
  j AS (SELECT label, topic, count(*)::float8 c FROM r GROUP BY 1, 2), n AS (SELECT sum(c) n FROM j), l AS (SELECT label, sum(c) c FROM j GROUP BY 1), t AS (SELECT topic, sum(c) c FROM j GROUP BY 1)
SELECT (SELECT sum(j.c / n * ln(j.c * n / (l.c * t.c))) FROM j JOIN l USING (label) JOIN t USING (topic), n) /
  (((SELECT -sum(c / n * ln(c / n)) FROM l, n) + (SELECT -sum(c / n * ln(c / n)) FROM t, n)) / 2)
SQL
cmp_ok($nmi, '>=', 0.72, "topics beside the intents that people gave, normalized mutual information: $nmi");

# answers: twenty questions that a sentence of a shop's pages answers, and twelve that none does
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE manual (title text PRIMARY KEY, body text, e real[]);
INSERT INTO manual (title, body) VALUES
 ('shipping', 'Parcels leave our house on the day of the order. They take three days within the country. Abroad it takes a week. Large goods are brought by a carrier, who calls before he comes.'),
 ('refunds', 'Money is returned within five days. You need the number of your order. Shipping is not refunded. A refund goes to the card that was charged.'),
 ('account', 'You change your password on the page Settings. An account is deleted after two years without a login. Several people may share one account.'),
 ('warranty', 'Lamps have a warranty of three years. Broken glass is not covered. Send the receipt with the lamp. We repair it or send another one.'),
 ('payment', 'We take cards, bank transfers and invoices. Companies pay within thirty days. Cheques are not accepted. A payment that fails is tried again after one day.'),
 ('opening', 'The shop in Kiel is open from nine to six. On Sundays it is closed. The telephone is answered until eight in the evening.'),
 ('lamp care', 'Clean the shade with a dry cloth. Never put the lamp into water. Use bulbs of at most forty watts. Let the bulb cool before you change it.'),
 ('newsletter', 'The newsletter comes once a month. Every issue has a link to leave it. Subscribers get a voucher of ten euros.'),
 ('privacy', 'We keep addresses for ten years because the tax office wants it. Nothing is sold to others. You may ask for a copy of your data by e-mail.'),
 ('jobs', 'We look for a carpenter and a bookkeeper. Applications go to the office in Kiel. Trainees begin in August.');
UPDATE manual SET e = slm_embed(body);
CREATE TABLE asked (question text, title text, quote text);
INSERT INTO asked VALUES
 ('How long does a parcel to another country take?', 'shipping', 'Abroad it takes a week.'),
 ('When will my order be sent?', 'shipping', 'Parcels leave our house on the day of the order.'),
 ('How fast do I get my money back?', 'refunds', 'Money is returned within five days.'),
 ('Do you refund the shipping costs?', 'refunds', 'Shipping is not refunded.'),
 ('Where can I change my password?', 'account', 'You change your password on the page Settings.'),
 ('When is an unused account deleted?', 'account', 'An account is deleted after two years without a login.'),
 ('How long is the warranty of a lamp?', 'warranty', 'Lamps have a warranty of three years.'),
 ('Is broken glass covered by the warranty?', 'warranty', 'Broken glass is not covered.'),
 ('Can I pay by cheque?', 'payment', 'Cheques are not accepted.'),
 ('What happens when a payment fails?', 'payment', 'A payment that fails is tried again after one day.'),
 ('Are you open on Sunday?', 'opening', 'On Sundays it is closed.'),
 ('Until when can I call you?', 'opening', 'The telephone is answered until eight in the evening.'),
 ('How do I clean the lampshade?', 'lamp care', 'Clean the shade with a dry cloth.'),
 ('What is the strongest bulb that I may use?', 'lamp care', 'Use bulbs of at most forty watts.'),
 ('How often do you send the newsletter?', 'newsletter', 'The newsletter comes once a month.'),
 ('What do I get for subscribing?', 'newsletter', 'Subscribers get a voucher of ten euros.'),
 ('How long do you store my address?', 'privacy', 'We keep addresses for ten years because the tax office wants it.'),
 ('Do you sell my data?', 'privacy', 'Nothing is sold to others.'),
 ('Which people are you hiring?', 'jobs', 'We look for a carpenter and a bookkeeper.'),
 ('When do trainees start?', 'jobs', 'Trainees begin in August.'),
 ('Who painted the ceiling of the chapel?', NULL, NULL), ('What is the price of the blue chair?', NULL, NULL), ('Do you have a shop in Madrid?', NULL, NULL),
 ('Is the founder still alive?', NULL, NULL), ('Can I bring my dog?', NULL, NULL), ('How do I cook rice?', NULL, NULL), ('What is the weather tomorrow?', NULL, NULL),
 ('Who won the election?', NULL, NULL), ('Does the lamp work with a smartphone app?', NULL, NULL), ('How many employees do you have?', NULL, NULL),
 ('Is there a discount for students?', NULL, NULL), ('Which wood are your tables made of?', NULL, NULL);
SQL
my $answers = $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE a.quote = q.quote), count(*) FILTER (WHERE a.quote <> q.quote), count(*) FILTER (WHERE q.title IS NULL AND a.quote IS NOT NULL)
    FROM asked q, LATERAL slm_answer(q.question, 'SELECT e, body, title FROM manual ORDER BY title') a});
note "right sentence, another sentence, invented: $answers";
my ($right, $other, $invented) = split /\|/, $answers;
cmp_ok($right, '>=', 15, 'three of four questions are answered by the right sentence');
is($invented, 0, 'and what no sentence answers is not answered');
my @source = map { $node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE s.key = q.title) FROM asked q LEFT JOIN LATERAL slm_search(q.question, 'manual', 'body', $_, 1, config => 'english') s ON true WHERE q.title IS NOT NULL") } ('NULL', q{'e'});
push @source, $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE a.source = q.title) FROM asked q, LATERAL slm_answer(q.question, 'SELECT e, body, title FROM manual ORDER BY title', threshold => -1) a});
note "right page of twenty by words, by words and meaning, by slm_answer: @source";
cmp_ok($source[2], '>=', $source[0], 'more right pages than by words');
done_testing();
