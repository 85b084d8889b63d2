-- How texts that are longer than an encoder reads are best read: long tickets with one message of Banking77 among sentences about other
-- things, at the beginning, in the middle or at the end; docs/LONG_TEXTS.md says what follows from the figures.  Prints CSV lines
-- "task,way,beginning,middle,end,all" in percent right.  For run_bench.sh; psql variables: train_file, test_file (banking77_train.csv,
-- banking77_test.csv), messages (how many; 100), and a model loaded as minilm.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ','
\set QUIET on
SET client_min_messages = error;
SET slm.embed_model = 'minilm';
SET slm.classify_model = 'minilm';

CREATE TEMP TABLE train (id serial, text text, category text);
CREATE TEMP TABLE test (id serial, text text, category text);
COPY train (text, category) FROM :'train_file' (FORMAT csv, HEADER);
COPY test (text, category) FROM :'test_file' (FORMAT csv, HEADER);
CREATE TEMP TABLE padding (sentence text);
-- what letters are full of, and what customers of a bank say beside what they want
INSERT INTO padding VALUES
('I hope this message finds you well.'), ('I am writing from the office because the connection at home is slow today.'), ('It has been a long week and the weather has not helped.'),
('My neighbour gave me your address and said that you answer quickly.'), ('I have been with you for several years and was always content.'), ('Yesterday we walked along the river and watched the boats.'),
('The children are on holiday and the house is never quiet.'), ('Please excuse the length of this letter, I am not used to writing them.'), ('My sister visited us last month and stayed for ten days.'),
('We are planning to paint the kitchen in a light green.'), ('The train was late again this morning and I missed the first meeting.'), ('I usually write in the evening, when everybody is asleep.'),
('Our dog has learned to open the garden door by himself.'), ('The bakery around the corner has changed its opening hours.'), ('I read about your company in a magazine at the hairdresser.'),
('It rained for three days and the cellar is still wet.'), ('My father used to say that patience is the better part of wisdom.'), ('We had a very good dinner at the Italian restaurant near the station.'),
('I grew up in a small village where everyone knew each other.'), ('The library has a new section with travel books.'), ('Last summer we drove to the coast and stayed in a small hotel.'),
('I have attached nothing to this message, so please do not look for a file.'), ('You can reach me in the afternoon, but not on Wednesdays.'), ('My colleague at the next desk is humming a song that I cannot name.'),
('The concert in the park was cancelled because of the storm.'), ('I am learning to play the piano, which my family bears with patience.'), ('The tomatoes on the balcony are finally turning red.'),
('There was a long queue at the museum, but the exhibition was worth it.'), ('My grandmother turned ninety in March and still bakes every Sunday.'), ('I prefer tea to coffee, especially in winter.'),
('The new season of that series has been a disappointment.'), ('We are looking for a larger flat with two bedrooms and a view.'), ('The bus stop was moved to the other side of the street.'),
('I went for a run in the forest and saw two deer.'), ('The school play was a great success and the costumes were lovely.'), ('Somebody left an umbrella in the waiting room.'),
('The mountains were covered with snow when we arrived.'), ('I should have started with the garden earlier this year.'), ('The lecture on the history of bridges was longer than announced.'),
('My cousin has opened a shop for used bicycles.'), ('The football match ended without a goal.'), ('We adopted a cat from the shelter and named her Olive.'),
('I am told that the old cinema will be renovated next spring.'), ('The recipe needs two eggs, some flour and a little patience.'), ('The lift in our building has been out of order since Monday.'),
('On Saturdays there is a market with flowers and cheese.'), ('I like the smell of the sea in the early morning.'), ('My handwriting is so bad that I type everything.'),
('We watched the stars from the roof and counted satellites.'), ('The choir is looking for a second tenor.'), ('A friend of mine repairs clocks and never arrives on time.'),
('The path around the lake is closed because of fallen trees.'), ('I found an old photograph of our first house.'), ('There is a lot of construction work in our street.'),
('With kind regards and best wishes to your colleagues.'), ('This message and its attachments are intended for the named addressee only.'), ('If you have received it in error, please delete it and tell the sender.'),
('Please consider the environment before you print this message.'), ('Sent from my phone, please excuse typing errors.'), ('Our office is open from Monday to Friday between nine and five.'),
('The registered seat of the company is in the old town hall.'), ('Looking forward to hearing from you.'), ('Thank you in advance for the time that you take.'), ('Have a pleasant day and a restful weekend.'),
('I have had my account with you since I finished school.'), ('I always recommend your bank to my friends.'), ('The branch in our town closed two years ago and is a bakery now.'),
('I keep a small notebook of what I spend each month.'), ('My card has a picture of a sailing boat on it.'), ('Your app is usually the first thing that I open in the morning.'),
('My parents were customers of yours before me.'), ('I moved my savings to you because of the friendly service.'), ('Your colleague on the phone was very kind last time.'),
('I do most of my shopping in the small stores around here.'), ('At the end of the month I sit down and look at my statements.'), ('My brother works for another bank and we often joke about it.'),
('I pay the rent on the first day of every month.'), ('We save a little every month for a journey to Norway.'), ('My employer sends my wages on the twenty-fifth.'),
('I am not very good with money, but I am learning.'), ('The letter that you sent at New Year was nicely designed.'), ('I saw your advertisement at the railway station.'),
('I have two accounts, one for the household and one for myself.'), ('My wife uses the same app and likes it as well.'), ('Last year I travelled a lot and your card was with me everywhere.'),
('I grew up with cash and still like the feeling of coins.'), ('The security of my account is important to me.'), ('I once visited your head office with a group of students.'),
('Online banking has made my life easier.'), ('I usually pay for lunch for the whole team.'), ('My daughter would like to open an account when she is older.'),
('I have read the terms and conditions, all forty pages.'), ('The queue at the counter was always long in the old days.'), ('I bought a new phone and installed your app on it.');

-- sentences of a ticket, in an order of its own, with the message after so many of them
CREATE FUNCTION pg_temp.ticket(message text, seed text, sentences int, after int) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(s, ' ' ORDER BY n) FROM (
    SELECT n, sentence AS s FROM (SELECT row_number() OVER (ORDER BY md5(seed || sentence)) AS n, sentence FROM padding) p WHERE n <= sentences
    UNION ALL SELECT after + 0.5, message) x $$;
CREATE TEMP TABLE ticket AS
SELECT row_number() OVER (ORDER BY m.id, p.after) AS id, m.id AS message, m.text AS point, replace(m.category, '_', ' ') AS label, p.position, pg_temp.ticket(m.text, m.id::text, 60, p.after) AS text
FROM (SELECT * FROM test ORDER BY md5('x' || id::text) LIMIT :messages) m, (VALUES ('beginning', 0), ('middle', 30), ('end', 60)) p(position, after);
CREATE TEMP TABLE label AS SELECT replace(category, '_', ' ') AS label FROM train GROUP BY 1;
CREATE TEMP TABLE label_vector AS SELECT label, slm_embed(label) AS e FROM label;
SELECT array_agg(label ORDER BY label) AS labels FROM label \gset
SELECT accuracy FROM slm_train_classifier('short', 'SELECT text, replace(category, ''_'', '' '') FROM train') \gset
ANALYZE;

-- windows as slm_chunk makes them, and their vectors; 0: the whole text as slm_embed reads it, -1: cut
CREATE TEMP TABLE piece AS SELECT t.id, w.tokens, c.no, c.content FROM ticket t, (VALUES (256), (128), (64), (32), (16)) w(tokens), slm_chunk(t.text, w.tokens, 0, 'minilm') c;
CREATE TEMP TABLE vector AS SELECT id, tokens, no, slm_embed(content) AS e FROM piece;
INSERT INTO vector SELECT id, 0, 1, slm_embed(text) FROM ticket;
INSERT INTO vector SELECT id, -1, 1, slm_embed(text, truncate => true) FROM ticket;
ANALYZE vector;
CREATE TEMP TABLE point AS SELECT id, message, position, slm_embed(point) AS e FROM ticket;

CREATE TEMP TABLE answer (task text, way text, id bigint, good boolean);
-- labels by their names
CREATE TEMP TABLE cosine AS SELECT v.id, v.tokens, v.no, l.label, slm_similarity(v.e, l.e) AS c FROM vector v, label_vector l;
INSERT INTO answer SELECT 'labels by name', 'best window of ' || tokens, id, label = (SELECT label FROM ticket t WHERE t.id = s.id)
FROM (SELECT DISTINCT ON (id, tokens) id, tokens, label FROM (SELECT id, tokens, label, max(c) AS c FROM cosine WHERE tokens > 0 GROUP BY 1, 2, 3) b ORDER BY id, tokens, c DESC) s;
INSERT INTO answer SELECT 'labels by name', 'mean of probabilities of windows of ' || tokens, id, label = (SELECT label FROM ticket t WHERE t.id = s.id)
FROM (SELECT DISTINCT ON (id, tokens) id, tokens, label FROM (SELECT id, tokens, label, avg(p) AS p FROM
        (SELECT id, tokens, no, label, exp(20 * c) / sum(exp(20 * c)) OVER (PARTITION BY id, tokens, no) AS p FROM cosine WHERE tokens IN (256, 128)) q GROUP BY 1, 2, 3) b ORDER BY id, tokens, p DESC) s;
INSERT INTO answer SELECT 'labels by name', CASE tokens WHEN 0 THEN 'vector of slm_embed (mean of windows)' ELSE 'vector of slm_embed, truncate => true' END, id, label = (SELECT label FROM ticket t WHERE t.id = s.id)
FROM (SELECT DISTINCT ON (id, tokens) id, tokens, label FROM cosine WHERE tokens <= 0 ORDER BY id, tokens, c DESC) s;
INSERT INTO answer SELECT 'labels by name', 'slm_classify', id, label = slm_classify(text, :'labels'::text[]) FROM ticket;
INSERT INTO answer SELECT 'labels by name', 'slm_classify, truncate => true', id, label = slm_classify(text, :'labels'::text[], truncate => true) FROM ticket;
INSERT INTO answer SELECT 'labels by name', 'the message alone', id, label = slm_classify(point, :'labels'::text[]) FROM ticket;

-- a classifier that was trained on messages
CREATE TEMP TABLE probability AS SELECT v.id, v.tokens, v.no, p.label, p.probability AS p FROM vector v, slm_classify_embedding_scores(v.e, 'short') p;
INSERT INTO answer SELECT 'trained classifier', 'highest probability of a window of ' || tokens, id, label = (SELECT label FROM ticket t WHERE t.id = s.id)
FROM (SELECT DISTINCT ON (id, tokens) id, tokens, label FROM probability WHERE tokens > 0 ORDER BY id, tokens, p DESC) s;
INSERT INTO answer SELECT 'trained classifier', 'mean of probabilities of windows of ' || tokens, id, label = (SELECT label FROM ticket t WHERE t.id = s.id)
FROM (SELECT DISTINCT ON (id, tokens) id, tokens, label FROM (SELECT id, tokens, label, avg(p) AS p FROM probability WHERE tokens IN (256, 128) GROUP BY 1, 2, 3) b ORDER BY id, tokens, p DESC) s;
INSERT INTO answer SELECT 'trained classifier', CASE tokens WHEN 0 THEN 'vector of slm_embed (mean of windows)' ELSE 'vector of slm_embed, truncate => true' END, id, label = (SELECT label FROM ticket t WHERE t.id = s.id)
FROM (SELECT DISTINCT ON (id, tokens) id, tokens, label FROM probability WHERE tokens <= 0 ORDER BY id, tokens, p DESC) s;
INSERT INTO answer SELECT 'trained classifier', 'slm_classify', id, label = slm_classify(text, classifier => 'short') FROM ticket;
INSERT INTO answer SELECT 'trained classifier', 'slm_classify, truncate => true', id, label = slm_classify(text, classifier => 'short', truncate => true) FROM ticket;
INSERT INTO answer SELECT 'trained classifier', 'the message alone', id, label = slm_classify(point, classifier => 'short') FROM ticket;

-- search: is the ticket of a message found first among those with the point at the same place?
INSERT INTO answer SELECT 'search', CASE tokens WHEN 0 THEN 'vectors of slm_embed (mean of windows)' WHEN -1 THEN 'vectors of slm_embed, truncate => true' ELSE 'best window of ' || tokens END, query, id = query
FROM (SELECT DISTINCT ON (tokens, query) tokens, query, id FROM
        (SELECT v.tokens, p.id AS query, t.id, max(slm_similarity(p.e, v.e)) AS s FROM point p JOIN ticket t USING (position) JOIN vector v ON v.id = t.id GROUP BY 1, 2, 3) x ORDER BY tokens, query, s DESC) y;
INSERT INTO answer SELECT 'search', 'slm_rerank', p.id, (SELECT ids[document_no] FROM slm_rerank(p.point, texts) LIMIT 1) = p.id
FROM ticket p JOIN (SELECT position, array_agg(text ORDER BY id) AS texts, array_agg(id ORDER BY id) AS ids FROM ticket GROUP BY 1) d USING (position) WHERE p.message IN (SELECT message FROM ticket GROUP BY 1 ORDER BY md5(message::text) LIMIT 5);

-- trained on tickets: ten a label, the point anywhere
CREATE TABLE long_training AS SELECT label, pg_temp.ticket(text, id || ' t', 45, id * 7919 % 46) AS text
FROM (SELECT id, text, replace(category, '_', ' ') AS label, row_number() OVER (PARTITION BY category ORDER BY md5(id::text)) AS r FROM train) t WHERE r <= 10;
SELECT version FROM slm_train_classifier('long', 'SELECT text, label FROM long_training') \gset
SELECT version FROM slm_train_classifier('long_cut', 'SELECT slm_embed(text, truncate => true), label FROM long_training') \gset
INSERT INTO answer SELECT 'trained on tickets', 'slm_train_classifier (mean of windows), slm_classify', id, label = slm_classify(text, classifier => 'long') FROM ticket;
INSERT INTO answer SELECT 'trained on tickets', 'cut in training and after it', id, label = slm_classify_embedding(slm_embed(text, truncate => true), 'long_cut') FROM ticket;
INSERT INTO answer SELECT 'trained on tickets', 'mean of windows in training and after it', id, label = slm_classify_embedding(slm_embed(text), 'long') FROM ticket;
DROP TABLE long_training;

SELECT '"' || task || '"', '"' || way || '"', round(100 * avg(good::int) FILTER (WHERE position = 'beginning'), 1), round(100 * avg(good::int) FILTER (WHERE position = 'middle'), 1),
       round(100 * avg(good::int) FILTER (WHERE position = 'end'), 1), round(100 * avg(good::int), 1)
FROM answer JOIN ticket USING (id) GROUP BY task, way ORDER BY array_position(ARRAY['labels by name', 'trained classifier', 'trained on tickets', 'search'], task), avg(good::int) DESC, way;
SELECT '"tokens of a ticket"', '"mean"', round(avg(slm_count_tokens(text, 'minilm')) FILTER (WHERE position = 'beginning')), round(avg(slm_count_tokens(text, 'minilm')) FILTER (WHERE position = 'middle')),
       round(avg(slm_count_tokens(text, 'minilm')) FILTER (WHERE position = 'end')), round(avg(slm_count_tokens(text, 'minilm'))) FROM ticket;
SELECT count(slm_drop_classifier(name)) AS dropped FROM unnest(ARRAY['short', 'long', 'long_cut']) name \gset
