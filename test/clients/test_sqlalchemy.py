"""SQLAlchemy 2 on psycopg 3: func with lists, typed columns, a query builder's UPDATE, streaming, errors with their hint."""
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL
from sqlalchemy.exc import DBAPIError

from checks import check, done

LABELS = ["billing", "delivery", "praise"]


def error_of(engine, statement):
    try:
        with engine.connect() as c:
            c.execute(statement).all()
    except DBAPIError as e:
        return e.orig
    return None


def main():
    engine = create_engine("postgresql+psycopg://")
    tickets = Table("tickets", MetaData(), Column("id", Integer, primary_key=True), Column("body", Text), Column("label", Text),
                    Column("e", ARRAY(REAL)))
    first = tickets.c.id < 4
    with engine.begin() as c:
        rows = c.execute(select(tickets.c.id, func.slm_classify(tickets.c.body, LABELS)).where(first).order_by(tickets.c.id)).all()
        check(rows == [(1, "billing"), (2, "delivery"), (3, "praise")], f"func with a list: {rows}")
        bound = text("SELECT slm_classify(:input, descriptions => :labels)").bindparams().columns()
        answer = c.execute(bound, {"input": "I was charged twice", "labels": '{"billing": "charges", "delivery": "parcels"}'}).scalar()
        check(answer == "billing", "text() with JSON")
        described = func.slm_classify_scores_json("x", LABELS, type_=JSONB)
        check(sorted(c.execute(select(described)).scalar()) == LABELS, "a typed result")
        c.execute(update(tickets).where(first).values(label=func.slm_classify(tickets.c.body, LABELS), e=func.slm_embed(tickets.c.body)))
        near = func.slm_similarity(tickets.c.e, func.slm_embed("where is my package"))
        rows = c.execute(select(tickets.c.label).where(first).order_by(near.desc()).limit(1)).all()
        check(rows == [("delivery",)], f"UPDATE by the query builder, then a search: {rows}")
        vector = c.execute(select(tickets.c.e).where(tickets.c.id == 1)).scalar()
        check(len(vector) == 384 and isinstance(vector[0], float), "an embedding is a list of floats")
        again = c.execute(select(func.slm_similarity(func.slm_embed("a", type_=ARRAY(REAL)), func.slm_embed("a")))).scalar()
        check(abs(again - 1) < 1e-6, "calls inside calls")
        plan = "\n".join(r[0] for r in c.execute(text("EXPLAIN SELECT slm_classify(body, ARRAY['a', 'b']) FROM tickets")))
        check("SLM Batch" in plan, "batched")
        c.rollback()
    with engine.connect().execution_options(stream_results=True, max_row_buffer=1) as c:
        pieces = c.execute(text("SELECT slm_generate_stream('Name three fruits.', max_tokens => 8)"))
        first = next(pieces)
        check(first[0] != "" and len(pieces.all()) > 4, "streaming")
    e = error_of(engine, select(func.slm_classify("x", ["billing"], "no_such_model")))
    check(e is not None and "no_such_model" in str(e) and e.diag.message_hint, f"an unknown model: {e}")
    done("sqlalchemy")


main()
