// node-postgres: parameters go without types, arrays as the text {"a","b"}.
const { Client, Query } = require('pg');
const Cursor = require('pg-cursor');

const labels = ['billing', 'delivery', 'praise'];
const counts = { passed: 0, failed: 0 };
const check = (condition, what) => {
    counts[condition ? 'passed' : 'failed']++;
    if (!condition) console.log('FAILED:', what);
};
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const story = 'Tell a very long story about a farm.';
const stillBusy = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%slm_generate_stream%' AND pid <> pg_backend_pid()";

// rows are handed on as they come; while the first one is looked at, the statement goes on
async function streams(c) {
    const other = new Client();
    await other.connect();
    for (const text of ['SELECT slm_generate_stream($1, max_tokens => 200) AS piece', 'SELECT piece FROM slm_generate_stream($1, max_tokens => 200) AS piece']) {
        let rows = 0;
        let busy = null;
        await new Promise((resolve, reject) => {
            const query = c.query(new Query(text, [story]));
            query.on('row', () => { if (rows++ === 0) busy = other.query(stillBusy); });
            query.on('end', resolve);
            query.on('error', reject);
        });
        const { n } = (await busy).rows[0];
        check(n === 1 && rows > 50, `${n} statement under way behind the first of ${rows} rows: ${text}`);
    }
    const cursor = c.query(new Cursor('SELECT slm_generate_stream($1, max_tokens => 200) AS piece', [story]));
    check((await cursor.read(1)).length === 1 && (await cursor.read(2)).length === 2, 'a cursor');
    await cursor.close();
    await other.end();
}

async function main() {
    const c = new Client();
    const notices = [];
    c.on('notice', (n) => notices.push(n.message));
    await c.connect();
    const all = async (text, values) => (await c.query({ text, values, rowMode: 'array' })).rows;
    const one = async (text, values) => (await all(text, values))[0][0];
    const errorOf = (text, values) => c.query(text, values).then(() => null, (e) => e);

    check(await one('SELECT slm_classify($1, $2)', ['I was charged twice', labels]) === 'billing', 'labels as an array');
    check(same((await all('SELECT slm_classify(body, $1) FROM tickets WHERE id < 4 ORDER BY id', [labels])).flat(), labels), 'a table');
    check(same((await all('SELECT slm_classify(body, $1, $2) FROM tickets WHERE id < 4 ORDER BY id', [labels, 'minilm'])).flat(), labels), 'labels and model');
    check(await one('SELECT slm_classify($1, descriptions => $2)', ['I was charged twice', { billing: 'invoices, charges', delivery: 'parcels' }]) === 'billing',
        'descriptions as an object');
    check(await one('SELECT slm_classify($1, classifier => $2)', ['Where is my lamp?', 'topics']) === 'delivery', 'a classifier');
    check(await one('SELECT slm_classify_enum($1, NULL::topic)', ['Where is my parcel?']) === 'delivery', 'an enum');
    check(same(await one('SELECT slm_classify_multi($1, $2, threshold => 0)', ['x', labels]), labels), 'several labels come back as an array');
    check(same(Object.keys(await one('SELECT slm_classify_scores_json($1, $2)', ['x', labels])).sort(), labels), 'scores as an object');
    check((await all('SELECT label, margin > 0, error FROM slm_classify_details($1, $2)', ['I was charged twice', labels])).join() === 'billing,true,', 'details');
    check(await one('SELECT document_no FROM slm_rerank($1, $2)', ['a bill', ['the weather', 'an invoice']]) === 2, 'documents as an array');

    const e = await one('SELECT slm_embed($1)', ['a parcel']);
    check(e.length === 384 && Math.abs(e.reduce((s, x) => s + x * x, 0) - 1) < 1e-5, 'an embedding');
    const many = (await all('SELECT * FROM slm_embed_many($1)', [['a parcel', null, 'b']])).flat(1);
    check(many.length === 3 && many[1] === null && same(many[0], e), 'many embeddings, one of them null');
    check(Math.abs(await one('SELECT slm_similarity($1, $2)', ['a parcel', 'a parcel']) - 1) < 1e-6, 'texts');
    check(Math.abs(await one('SELECT slm_similarity($1::real[], $2)', [e, e]) - 1) < 1e-6, 'vectors');
    check(await one('SELECT slm_classify_embedding($1, $2)', [e, 'topics']) === 'delivery', 'a classifier on numbers');
    let error = await errorOf('SELECT slm_embed($1)', [['a', 'b']]);
    check(error !== null && /array of 2 elements/.test(error.message) && /slm_embed_many/.test(error.hint), 'an array is no text');
    error = await errorOf('SELECT slm_similarity($1, $2)', [e, e]);
    check(error !== null && /array of 384 elements/.test(error.message) && /::real\[\]/.test(error.hint), 'nor are vectors without a type');
    check((await one('SELECT slm_embed($1)', [{ a: 'b, c' }])).length === 384, 'an object is');

    for (let i = 0; i < 9; i++) {
        const named = await c.query({ name: 'label', text: 'SELECT slm_classify(body, $1) AS label FROM tickets WHERE id = $2', values: [labels, 1 + (i % 3)] });
        check(named.rows[0].label === labels[i % 3], 'a named statement');
    }
    const cursor = c.query(new Cursor('SELECT slm_classify(body, $1) AS label FROM tickets WHERE id < 4 ORDER BY id', [labels]));
    check(same((await cursor.read(2)).concat(await cursor.read(2)).map((r) => r.label), labels), 'a cursor');
    await cursor.close();
    error = await errorOf('SELECT slm_embed(body, truncate => false) FROM tickets ORDER BY id');
    check(error !== null && error.code === '54000' && /truncate => true/.test(error.hint), 'a text that is too long');
    error = await errorOf('SELECT slm_classify($1, $2)', ['x', []]);
    check(error !== null && error.code === '22023' && /ARRAY\['billing'/.test(error.hint), 'no labels');
    await c.query('BEGIN');
    notices.length = 0;
    check(same((await all('SELECT slm_embed(body, truncate => false, on_error => $1) IS NULL FROM tickets ORDER BY id', ['null'])).flat(), [false, false, false, true]), 'on_error');
    check(same(notices, ['1 of 4 rows gave NULL: 1 too long']), `one warning, at once: ${notices}`);
    notices.length = 0;
    const portal = c.query(new Cursor('SELECT slm_embed(body, truncate => false, on_error => $1) IS NULL AS n FROM tickets ORDER BY id', ['null']));
    check((await portal.read(3)).length === 3 && notices.length === 0, 'a portal that is not at its end');
    check((await portal.read(3)).length === 1 && same(notices, ['1 of 4 rows gave NULL: 1 too long']), `and at its end: ${notices}`);
    await portal.close();
    await c.query('COMMIT');
    await streams(c);
    await c.end();
    console.log(`node-postgres: ${counts.passed} passed, ${counts.failed} failed`);
    process.exitCode = counts.failed > 0 ? 1 : 0;
}

main().catch((e) => {
    console.log('FAILED:', e);
    process.exitCode = 1;
});
