"""S10: what providers told us, and what endpoints were told."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from console.pages import go, page
from console.screens.recon import named
from console.session import Signed, TheEngine
from domain.errors import Conflict, Forbidden, InvalidJob, Refused
from domain.webhook import EVENT_TYPES, Told
from engine import notifications, webhooks
from engine.bootstrap import Engine
from ledger import journal, notification

router = APIRouter()

PAGE = 50
DAY = 86_400.0
#: So many in a day that are not shown to be the provider's are no accident: a secret may have been changed there.
SPIKE = 20
AGES = {"1h": 3600.0, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
OVERLAPS = {"0": "not at all: others know it", "3600": "for 1 h", "86400": "for 24 h", "604800": "for 7 d"}
Chosen = Annotated[list[str], Form()]
_NONE: Chosen = []
Reason = Annotated[str, Form(max_length=500)]


# -- received --------------------------------------------------------------------------------------------------------


@router.get("/webhooks")
def show(
    request: Request,
    engine: TheEngine,
    _signed: Signed,
    account: str = "",
    only: str = "",
    at: float | None = None,
    before: str = "",
) -> Response:
    with engine.ledger.read() as connection:
        found = notification.listed(
            connection,
            limit=PAGE + 1,
            account=account or None,
            unmatched=only == "unmatched",
            unverified=only == "unverified",
            before=None if at is None else (at, before),
        )
        refused = notification.refused_since(connection, engine.clock() - DAY)
    onward: dict[str, Any] = {"account": account, "only": only}
    if len(found) > PAGE:
        onward |= {"at": repr(found[PAGE - 1]["last_at"]), "before": found[PAGE - 1]["id"]}

    return page(
        request,
        "received.html",
        live="5" if at is None else False,
        given={"account": account, "only": only},
        narrowed=bool(account or only),
        accounts=list(engine.accounts),
        rows=found[:PAGE],
        refused=sorted(refused.items()),
        spikes=[name for name, count in sorted(refused.items()) if count >= SPIKE],
        older=f"/webhooks?{urlencode(onward)}" if "at" in onward else "",
    )


@router.get("/webhooks/received/{notification_id}")
def show_received(request: Request, engine: TheEngine, _signed: Signed, notification_id: str) -> Response:
    return _show_received(request, engine, notification_id)


def _show_received(request: Request, engine: Engine, notification_id: str, error: str = "") -> Response:
    found = notifications.unsealed(engine, notification_id)
    with engine.ledger.read() as connection:
        history = journal.story(connection, f"notification/{notification_id}")[::-1]

    return page(
        request,
        "notification.html",
        status=422 if error else 200,
        live="5" if found["due_at"] is not None and not error else False,
        row=found,
        unmatched=found["state"] in ("parked", "unmatched"),
        history=history,
        error=error,
    )


@router.post("/webhooks/received/{notification_id}/replay")
def replay(engine: TheEngine, signed: Signed, notification_id: str) -> Response:
    notifications.replay(engine, signed.actor, notification_id)

    return go(f"/webhooks/received/{notification_id}", "It is looked at again: the provider is asked once more.")


@router.post("/webhooks/received/{notification_id}/link")
def link(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    notification_id: str,
    refund: Annotated[str, Form(max_length=255)] = "",
    reason: Reason = "",
) -> Response:
    try:
        found = named(engine, refund.strip())
        notifications.link(engine, signed.actor, notification_id, found, reason=reason)
    except (Conflict, Forbidden):
        raise
    except Refused as error:
        return _show_received(request, engine, notification_id, str(error))

    return go(f"/webhooks/received/{notification_id}", f"The provider is asked about {found}.")


# -- sent ------------------------------------------------------------------------------------------------------------


@router.get("/webhooks/sent")
def show_sent(
    request: Request,
    engine: TheEngine,
    _signed: Signed,
    endpoint: str = "",
    state: str = "",
    refund: str = "",
    before: str | None = None,
) -> Response:
    given = {"endpoint": endpoint, "state": state, "refund": refund.strip()}
    found = webhooks.sent(
        engine,
        endpoint=endpoint or None,
        state=state or None,
        refund_id=refund.strip() or None,
        limit=PAGE + 1,
        before=before,
    )
    more = len(found) > PAGE

    return page(
        request,
        "sent.html",
        live="5" if before is None else False,
        given=given,
        narrowed=any(given.values()),
        states=list(Told),
        endpoints=webhooks.endpoints(engine),
        rows=found[:PAGE],
        older=f"/webhooks/sent?{urlencode({**given, 'before': found[PAGE - 1]['id']})}" if more else "",
    )


@router.get("/webhooks/sent/{delivery_id}")
def show_delivery(request: Request, engine: TheEngine, _signed: Signed, delivery_id: str) -> Response:
    return page(request, "delivery.html", live="5", view=webhooks.delivery(engine, delivery_id))


@router.post("/webhooks/sent/{delivery_id}/resend")
def resend(engine: TheEngine, signed: Signed, delivery_id: str) -> Response:
    webhooks.resend(engine, signed.actor, delivery_id)

    return go(f"/webhooks/sent/{delivery_id}", "It is sent once more, under the webhook-id that it had.")


# -- endpoints -------------------------------------------------------------------------------------------------------


@router.get("/webhooks/endpoints")
def show_endpoints(request: Request, engine: TheEngine, _signed: Signed) -> Response:
    return _show_endpoints(request, engine)


def _show_endpoints(request: Request, engine: Engine, error: str = "", url: str = "") -> Response:
    return page(
        request,
        "endpoints.html",
        status=422 if error else 200,
        live=False if error else "5",
        rows=webhooks.endpoints(engine),
        types=EVENT_TYPES,
        accounts=list(engine.accounts),
        error=error,
        url_given=url,
    )


@router.post("/webhooks/endpoints")
def create(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    url: Annotated[str, Form(max_length=2048)] = "",
    type_: Annotated[list[str], Form(alias="type")] = _NONE,
    account: Chosen = _NONE,
) -> Response:
    """The answer itself shows the secret, once: it has no address."""
    try:
        made, secret = webhooks.create(engine, signed.actor, url.strip(), types=type_, accounts=account)
    except InvalidJob as error:
        return _show_endpoints(request, engine, str(error), url)

    return _show_endpoint(request, engine, made.id, secret)


@router.get("/webhooks/endpoints/{name}")
def show_endpoint(request: Request, engine: TheEngine, _signed: Signed, name: str) -> Response:
    return _show_endpoint(request, engine, name)


def _show_endpoint(request: Request, engine: Engine, name: str, secret: str = "") -> Response:
    view = webhooks.endpoint(engine, name)
    with engine.ledger.read() as connection:
        history = journal.story(connection, f"endpoint/{name}")[::-1][:20]

    return page(
        request,
        "endpoint.html",
        live=False if secret else "5",
        view=view,
        secret=secret,
        ages=[(age, f"the last {age}") for age in AGES],
        overlaps=list(OVERLAPS.items()),
        states=[("", "all"), *((each, each) for each in Told)],
        history=history,
    )


@router.post("/webhooks/endpoints/{name}/rotate")
def rotate(
    request: Request, engine: TheEngine, signed: Signed, name: str, overlap: Annotated[str, Form()] = "86400"
) -> Response:
    """The answer itself shows the secret, once."""
    if overlap not in OVERLAPS:
        raise Refused("overlap-invalid", f"overlap: expected one of {', '.join(OVERLAPS)} seconds")
    secret = webhooks.rotate(engine, signed.actor, name, overlap=float(overlap))

    return _show_endpoint(request, engine, name, secret)


@router.post("/webhooks/endpoints/{name}/resend")
def resend_since(
    engine: TheEngine,
    signed: Signed,
    name: str,
    since: Annotated[str, Form()] = "24h",
    state: Annotated[str, Form()] = "",
) -> Response:
    if since not in AGES:
        raise Refused("since-invalid", f"since: expected one of {', '.join(AGES)}")
    told = Told(state) if state in set(Told) else None
    count = webhooks.resend_range(engine, signed.actor, name, since=engine.clock() - AGES[since], state=told)

    return go(f"/webhooks/endpoints/{name}", f"{count} deliveries are sent once more.")


@router.post("/webhooks/endpoints/{name}/disable")
def disable(engine: TheEngine, signed: Signed, name: str, reason: Reason = "") -> Response:
    if not reason.strip():
        raise Refused("reason-required", "a reason is required")
    webhooks.disable(engine, signed.actor, name, reason=reason.strip())

    return go(f"/webhooks/endpoints/{name}", "Nothing is sent to it. What happens meanwhile is kept.")


@router.post("/webhooks/endpoints/{name}/enable")
def enable(engine: TheEngine, signed: Signed, name: str) -> Response:
    webhooks.enable(engine, signed.actor, name)

    return go(f"/webhooks/endpoints/{name}", "It is sent to again, all that has waited first.")


@router.post("/webhooks/endpoints/{name}/delete")
def delete(engine: TheEngine, signed: Signed, name: str) -> Response:
    webhooks.remove(engine, signed.actor, name)

    return go("/webhooks/endpoints", "Deleted, with its secrets.")
