"""A Django shop that refunds through Refundry and loses no refund: a transactional outbox and a relay.

The return and the refund job are written in one transaction of the shop's own database. The relay sends what lies in
the outbox until Refundry has it. It may be killed at any moment and run twice: the `reference` makes a repeat safe.

    DATABASE=shop.db REFUNDRY_API=http://127.0.0.1:8080 REFUNDRY_KEY=rk_… python examples/django_shop.py
"""

import os
import time

import django
import httpx
from django.conf import settings
from django.db import connection, models, transaction

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DATABASE", "shop.db")}},
    USE_TZ=True,
)
django.setup()


class Return(models.Model):
    """A customer's return, as the shop knows it."""

    number = models.CharField(max_length=32, unique=True)
    payment = models.CharField(max_length=128)
    paid = models.BigIntegerField()
    amount = models.BigIntegerField()
    refund = models.CharField(max_length=32, blank=True)
    problem = models.TextField(blank=True)

    class Meta:
        app_label = "shop"


class Outbox(models.Model):
    """Refund jobs that Refundry does not have yet. A row is only ever deleted after its answer."""

    job = models.JSONField()

    class Meta:
        app_label = "shop"


def accept_return(number: str, *, payment: str, paid: int, amount: int) -> None:
    """The shop's own business. No HTTP in here: either both rows are there, or neither."""
    with transaction.atomic():
        Return.objects.create(number=number, payment=payment, paid=paid, amount=amount)
        Outbox.objects.create(
            job={
                "reference": number,
                "account": "jp-store",
                "payment": {"id": payment, "amount": paid, "currency": "JPY"},
                "amount": amount,
                "currency": "JPY",
            }
        )


def relay(client: httpx.Client) -> int:
    """Send what waits, oldest first; answers how much is left. Call it again and again, from cron or a loop."""
    for row in Outbox.objects.order_by("id")[:100]:
        answer = ask(client, row.job)
        if answer is None:
            break  # unreachable, or asked to come back later: the row stays
        with transaction.atomic():
            mine = Return.objects.filter(number=row.job["reference"])
            if answer.status_code == httpx.codes.ACCEPTED:
                mine.update(refund=answer.json()["id"])
            else:
                mine.update(problem=answer.text)  # a person reads it: the same job will not be accepted later either
            row.delete()

    return Outbox.objects.count()


def ask(client: httpx.Client, job: dict[str, object]) -> httpx.Response | None:
    """The final answer for this job, or None where it must be sent again."""
    try:
        answer = client.post("/v1/refunds", json=job)
    except httpx.TransportError:
        return None
    if answer.status_code == httpx.codes.ACCEPTED:
        return answer
    wrong_key = answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)

    return None if wrong_key or problem(answer).get("retryable", True) else answer


def problem(answer: httpx.Response) -> dict[str, object]:
    """What Refundry says is wrong; nothing where it was a proxy that answered."""
    if answer.headers.get("content-type") != "application/problem+json":
        return {}
    found: dict[str, object] = answer.json()

    return found


def make_tables() -> None:
    """What `manage.py migrate` does in a real project."""
    known = connection.introspection.table_names()
    with connection.schema_editor() as editor:
        for model in (Return, Outbox):
            if model._meta.db_table not in known:
                editor.create_model(model)


def main() -> None:
    """One return, relayed until it is accepted."""
    make_tables()
    accept_return(f"RMA-{time.time_ns()}", payment=f"payment_{time.time_ns()}", paid=2100, amount=1000)
    key = {"Authorization": f"Bearer {os.environ['REFUNDRY_KEY']}"}
    with httpx.Client(base_url=os.environ["REFUNDRY_API"], headers=key, timeout=30) as client:
        while relay(client):
            time.sleep(1)
    last = Return.objects.latest("id")
    print(last.number, last.refund or last.problem)


if __name__ == "__main__":
    main()
