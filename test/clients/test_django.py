"""Django on psycopg 3: functions of the ORM with lists and vectors, filters, annotations, update, explain, errors."""
import os

import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["django.contrib.postgres"], USE_TZ=True, DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ.get("PGDATABASE", "postgres"), "HOST": os.environ.get("PGHOST", ""),
    "PORT": os.environ.get("PGPORT", ""), "USER": os.environ.get("PGUSER", "")}})
django.setup()

# pylint: disable=wrong-import-position
from django.contrib.postgres.fields import ArrayField
from django.db import DataError, connection, models, transaction
from django.db.models import F, FloatField, Func, TextField, Value

from checks import STORY, check, done

LABELS = ["billing", "delivery", "praise"]


class Ticket(models.Model):
    id = models.IntegerField(primary_key=True)
    body = models.TextField()
    label = models.TextField(null=True)
    e = ArrayField(models.FloatField(), null=True)

    class Meta:
        app_label = "clients"
        managed = False
        db_table = "tickets"


class Classify(Func):
    function = "slm_classify"
    output_field = TextField()


class Embed(Func):
    function = "slm_embed"
    output_field = ArrayField(FloatField())


def main():
    first = Ticket.objects.filter(id__lt=4)
    label = Classify(F("body"), Value(LABELS))
    rows = list(first.order_by("id").annotate(topic=label).values_list("id", "topic"))
    check(rows == [(1, "billing"), (2, "delivery"), (3, "praise")], f"Value with a plain list: {rows}")
    typed = Classify(F("body"), Value(LABELS, output_field=ArrayField(TextField())))
    check(first.annotate(topic=typed).filter(topic="delivery").count() == 1, "a filter on an annotation")
    with transaction.atomic():
        first.update(label=label, e=Embed(F("body")))
        near = Func(F("e"), Embed(Value("where is my package")), function="slm_similarity", output_field=FloatField())
        best = first.order_by(near.desc()).values_list("label", flat=True)[:1].get()
        check(best == "delivery", f"update() and a search: {best}")
        check(len(Ticket.objects.get(id=1).e) == 384, "a vector is a list of floats")
        transaction.set_rollback(True)
    check("SLM Batch" in Ticket.objects.annotate(topic=label).explain(), "explain() shows the node")
    with connection.cursor() as c:
        c.execute("SELECT slm_classify(%s, %s)", ["I was charged twice", LABELS])
        check(c.fetchone() == ("billing",), "a cursor with a list")
        pieces = c.stream("SELECT slm_generate_stream(%s, max_tokens => 200)", [STORY])
        next(pieces)
        busy = connection.connection.info.transaction_status.name
        check(busy == "ACTIVE" and len(list(pieces)) > 50, f"a stream: {busy} behind its first piece")
    try:
        with transaction.atomic():
            list(first.annotate(topic=Classify(F("body"), Value([], output_field=ArrayField(TextField())))))
        check(False, "no labels")
    except DataError as e:
        check("ARRAY['billing'" in e.__cause__.diag.message_hint, f"no labels: {e}")
    done("django")


main()
