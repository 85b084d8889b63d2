"""asyncpg: it asks the server for the types of parameters, so that each has to be what the list in the program is."""
import asyncio
import math
import os

import asyncpg

from checks import STILL_BUSY, STORY, check, done

LABELS = ["billing", "delivery", "praise"]


async def error_of(c, sql, *parameters):
    try:
        await c.fetch(sql, *parameters)
    except asyncpg.PostgresError as e:
        return e
    return None


async def test_labels(c):
    check(await c.fetchval("SELECT slm_classify($1, $2)", "I was charged twice", LABELS) == "billing", "labels as a list")
    rows = await c.fetch("SELECT id, slm_classify(body, $1) AS label FROM tickets WHERE id < 4 ORDER BY id", LABELS)
    check([r["label"] for r in rows] == LABELS, "a table")
    rows = await c.fetch("SELECT slm_classify(body, $1, $2) AS label FROM tickets WHERE id < 4 ORDER BY id", LABELS, "minilm")
    check([r["label"] for r in rows] == LABELS, "labels and model as parameters")
    described = '{"billing": "invoices, charges", "delivery": "parcels"}'
    check(await c.fetchval("SELECT slm_classify($1, descriptions => $2)", "I was charged twice", described) == "billing", "descriptions")
    check(await c.fetchval("SELECT slm_classify($1, classifier => $2)", "Where is my lamp?", "topics") == "delivery", "a classifier")
    check(await c.fetchval("SELECT slm_classify_enum($1, NULL::topic)", "Where is my parcel?") == "delivery", "an enum")
    check(await c.fetchval("SELECT slm_classify_multi($1, $2, 0)", "x", LABELS) == LABELS, "several labels come back as a list")
    rows = await c.fetch("SELECT * FROM slm_classify_scores($1, $2)", "I was charged twice", LABELS)
    check(rows[0]["label"] == "billing" and abs(sum(r["probability"] for r in rows) - 1) < 1e-9, "scores as rows")
    d = await c.fetchrow("SELECT * FROM slm_classify_details($1, $2)", "I was charged twice", LABELS)
    check(d["label"] == "billing" and d["margin"] > 0 and d["error"] is None, "details")
    check(await c.fetchval("SELECT document_no FROM slm_rerank($1, $2)", "a bill", ["the weather", "an invoice"]) == 2, "documents")


async def test_embeddings(c):
    e = await c.fetchval("SELECT slm_embed($1)", "a parcel")
    check(len(e) == 384 and abs(math.fsum(x * x for x in e) - 1) < 1e-5, "an embedding")
    rows = await c.fetch("SELECT * FROM slm_embed_many($1)", ["a parcel", None, "b"])
    check(len(rows) == 3 and rows[1][0] is None and rows[0][0] == e, "many embeddings, one of them NULL")
    check(abs(await c.fetchval("SELECT slm_similarity($1, $2)", "a parcel", "a parcel") - 1) < 1e-6, "texts")
    check(abs(await c.fetchval("SELECT slm_similarity($1::real[], $2)", e, e) - 1) < 1e-6, "vectors")
    check(await c.fetchval("SELECT slm_classify_embedding($1, $2)", e, "topics") == "delivery", "a classifier on a list of floats")
    try:
        await c.fetchval("SELECT slm_embed($1)", ["a", "b"])
        check(False, "a list is no text")
    except asyncpg.DataError as e:
        check("expected str" in str(e), f"a list is no text: {e}")


async def test_statements(c, warnings):
    prepared = await c.prepare("SELECT slm_classify(body, $1) FROM tickets WHERE id = $2")
    for i in range(9):
        check(await prepared.fetchval(LABELS, 1 + i % 3) == LABELS[i % 3], "prepared")
    check([str(t.name) for t in prepared.get_parameters()] == ["text[]", "int4"], "types of parameters")
    async with c.transaction():
        labels = [r[0] async for r in c.cursor("SELECT slm_classify(body, $1) FROM tickets WHERE id < 4 ORDER BY id", LABELS, prefetch=1)]
    check(labels == LABELS, "a cursor")
    e = await error_of(c, "SELECT slm_embed(body, truncate => false) FROM tickets ORDER BY id")
    check(isinstance(e, asyncpg.ProgramLimitExceededError) and "truncate => true" in e.hint, f"a text that is too long: {e}")
    e = await error_of(c, "SELECT slm_classify($1, $2)", "x", [])
    check(e is not None and e.sqlstate == "22023" and "ARRAY['billing'" in e.hint, f"no labels: {e}")
    async with c.transaction(): # the portal stays open after the statement
        warnings.clear()
        rows = await c.fetch("SELECT slm_embed(body, truncate => false, on_error => $1) IS NULL AS n FROM tickets ORDER BY id", "null")
        check([r["n"] for r in rows] == [False, False, False, True], "on_error => 'null'")
        check(warnings == ["1 of 4 rows gave NULL: 1 too long"], f"one warning, at once: {warnings}")


async def test_stream(c):
    other = await asyncpg.connect(host=os.environ["PGHOST"])
    busy = []
    async with c.transaction():
        async for _ in c.cursor("SELECT slm_generate_stream($1, max_tokens => 40)", STORY, prefetch=1):
            busy.append(await other.fetchval(STILL_BUSY.replace("'active'", "'idle in transaction'")))
    check(len(busy) > 20 and busy[0] == 1, f"a cursor with a row at a time: {busy[:3]}")
    await other.close()


async def main():
    c = await asyncpg.connect(host=os.environ["PGHOST"])
    warnings = []
    c.add_log_listener(lambda connection, message: warnings.append(message.message))
    await test_labels(c)
    await test_embeddings(c)
    await test_statements(c, warnings)
    await test_stream(c)
    await c.close()
    done("asyncpg")


asyncio.run(main())
