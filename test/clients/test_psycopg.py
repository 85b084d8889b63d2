"""psycopg 3: text and binary results, client-side lists, prepared statements, errors, notices, cursors, pipelines, COPY."""
import math

import psycopg
from psycopg.types.json import Jsonb

from checks import STILL_BUSY, STORY, check, done

LABELS = ["billing", "delivery", "praise"]


def one(connection, sql, parameters=None, **options):
    return connection.execute(sql, parameters, **options).fetchone()[0]


def error_of(connection, sql, parameters=None):
    try:
        connection.execute(sql, parameters).fetchall()
    except psycopg.Error as e:
        return e
    return None


def test_labels(c):
    check(one(c, "SELECT slm_classify(%s, %s)", ("I was charged twice", LABELS)) == "billing", "labels as a list")
    rows = c.execute("SELECT id, slm_classify(body, %s) FROM tickets WHERE id < 4 ORDER BY id", (LABELS,)).fetchall()
    check(rows == [(1, "billing"), (2, "delivery"), (3, "praise")], f"a table: {rows}")
    rows = c.execute("SELECT slm_classify(body, %s, %s) FROM tickets WHERE id < 3 ORDER BY id", (LABELS, "minilm")).fetchall()
    check(rows == [("billing",), ("delivery",)], "labels and model as parameters")
    for value in (Jsonb({"billing": "charges", "delivery": "parcels"}), '{"billing": "charges", "delivery": "parcels"}'):
        check(one(c, "SELECT slm_classify(%s, descriptions => %s)", ("I was charged twice", value)) == "billing", "descriptions")
    both = ("Where is my parcel?", LABELS, Jsonb({"delivery": "parcels"}))
    check(one(c, "SELECT slm_classify(%s, %s, descriptions => %s)", both) == "delivery", "labels and descriptions")
    check(one(c, "SELECT slm_classify(%s, classifier => %s)", ("Where is my lamp?", "topics")) == "delivery", "a classifier")
    check(one(c, "SELECT slm_classify_enum(%s, NULL::topic)", ("Where is my parcel?",)) == "delivery", "an enum")
    check(one(c, "SELECT slm_classify_multi(%s, %s, threshold => 0)", ("x", LABELS)) == LABELS, "several labels come back as a list")
    check(sorted(one(c, "SELECT slm_classify_scores_json(%s, %s)", ("x", LABELS))) == LABELS, "scores as an object")
    rows = c.execute("SELECT * FROM slm_classify_scores(%s, %s)", ("I was charged twice", LABELS)).fetchall()
    check(rows[0][0] == "billing" and abs(sum(p for _, p in rows) - 1) < 1e-9, "scores as rows")
    details = "SELECT (d).label, (d).margin > 0, (d).error FROM (SELECT slm_classify_details(body, %s) d FROM tickets WHERE id = 1) s"
    check(c.execute(details, (LABELS,)).fetchone() == ("billing", True, None), "details")
    documents = ["the weather", "an invoice", None]
    check(one(c, "SELECT document_no FROM slm_rerank(%s, %s)", ("a bill", documents)) == 2, "documents as a list")


def test_embeddings(c):
    for binary in (False, True):
        e = one(c, "SELECT slm_embed(%s)", ("a parcel",), binary=binary)
        check(len(e) == 384 and abs(math.fsum(x * x for x in e) - 1) < 1e-5, f"an embedding, binary {binary}")
    rows = c.execute("SELECT * FROM slm_embed_many(%s)", (["a parcel", None, "b"],), binary=True).fetchall()
    check(len(rows) == 3 and rows[1][0] is None and rows[0][0] == e, "many embeddings, one of them NULL")
    check(abs(one(c, "SELECT slm_similarity(%s, %s)", ("a parcel", "a parcel")) - 1) < 1e-6, "texts are similar to themselves")
    check(abs(one(c, "SELECT slm_similarity(%s, %s)", (e, e)) - 1) < 1e-6, "and so are vectors")
    with c.transaction():
        c.execute("UPDATE tickets SET e = %s WHERE id = 1", (e,))
        check(abs(one(c, "SELECT slm_similarity(e, %s) FROM tickets WHERE id = 1", (e,)) - 1) < 1e-6, "a stored vector and a parameter")
    check(one(c, "SELECT slm_classify_embedding(%s::real[], %s)", (e, "topics")) == "delivery", "a classifier on a list of floats")
    wrong = error_of(c, "SELECT slm_embed(%s)", (["a", "b"],))
    check(wrong is not None and "array of 2 elements" in str(wrong) and "slm_embed_many" in wrong.diag.message_hint, "a list is no text")
    check(len(one(c, "SELECT slm_embed(%s)", ('{"a": "b, c"}',))) == 384, "JSON is")


def test_statements(c, notices):
    for _ in range(8):
        check(one(c, "SELECT slm_classify(%s, %s)", ("I was charged twice", LABELS), prepare=True) == "billing", "prepared")
    with c.pipeline():
        cursors = [c.execute("SELECT slm_classify(body, %s) FROM tickets WHERE id = %s", (LABELS, i)) for i in (1, 2, 3)]
    check([x.fetchone()[0] for x in cursors] == LABELS, "a pipeline")
    with c.transaction(), c.cursor(name="named") as named:
        named.itersize = 2
        named.execute("SELECT slm_classify(body, %s) FROM tickets WHERE id < 4 ORDER BY id", (LABELS,))
        check([r[0] for r in named] == LABELS, "a named cursor")
    with c.cursor() as cursor, cursor.copy("COPY (SELECT id, slm_embed(body) FROM tickets WHERE id < 4) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "float4[]"])
        check([len(r[1]) for r in copy.rows()] == [384, 384, 384], "COPY in binary")
    e = error_of(c, "SELECT slm_embed(body, truncate => false) FROM tickets ORDER BY id")
    check(isinstance(e, psycopg.errors.ProgramLimitExceeded) and "truncate => true" in e.diag.message_hint, f"a text that is too long: {e}")
    e = error_of(c, "SELECT slm_classify(%s, %s)", ("x", []))
    check(e is not None and e.sqlstate == "22023" and "ARRAY['billing'" in e.diag.message_hint, f"no labels: {e}")
    notices.clear()
    rows = c.execute("SELECT slm_embed(body, truncate => false, on_error => %s) IS NULL FROM tickets ORDER BY id", ("null",)).fetchall()
    check(rows == [(False,), (False,), (False,), (True,)], "on_error => 'null'")
    check(notices == ["1 of 4 rows gave NULL: 1 too long"], f"one warning: {notices}")


def test_streams(c):
    """a first row is there while the others are still being written, in either form and without a cursor on the server"""
    with psycopg.connect(autocommit=True) as other:
        for sql in ("SELECT slm_generate_stream(%s, max_tokens => 200)", "SELECT * FROM slm_generate_stream(%s, max_tokens => 200)",
                    "SELECT id, slm_generate_stream(%s, max_tokens => 200) FROM tickets WHERE id = 1"):
            pieces = c.cursor().stream(sql, (STORY,))
            first = next(pieces)
            busy = one(other, STILL_BUSY)
            check(busy == 1 and len(list(pieces)) > 50, f"{busy} statement under way behind {first}: {sql}")
        with c.cursor() as cursor, cursor.copy("COPY (SELECT slm_generate_stream(%s, max_tokens => 200)) TO STDOUT", (STORY,)) as copy:
            first = copy.read()
            check(one(other, STILL_BUSY) == 1, "COPY")
            check(len(list(copy)) > 50, "and what is left of it")
    both = "SELECT (SELECT string_agg(p, '') FROM slm_generate_stream(%s, max_tokens => 9) p) = slm_generate(%s, max_tokens => 9)"
    check(one(c, both, (STORY, STORY)), "pieces are the answer")


def main():
    with psycopg.connect(autocommit=True) as c:
        notices = []
        c.add_notice_handler(lambda n: notices.append(n.message_primary))
        test_labels(c)
        test_embeddings(c)
        test_statements(c, notices)
        test_streams(c)
    done("psycopg")


main()
