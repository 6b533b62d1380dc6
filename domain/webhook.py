"""Outgoing webhooks by the rules of Standard Webhooks 1.0.0: what is told, signed how, tried again when."""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from domain.errors import FieldError, InvalidJob
from domain.job import canonical
from domain.state import State

ACCEPTED = "refund.accepted"
# `pending` is all that has no outcome yet; what exactly, `data.state` says.
TYPES: dict[State, str] = {
    State.AWAITING_APPROVAL: ACCEPTED,
    State.QUEUED: "refund.pending",
    State.SENDING: "refund.sent",
    State.UNKNOWN: "refund.pending",
    State.PENDING: "refund.pending",
    State.SUCCEEDED: "refund.succeeded",
    State.FAILED: "refund.failed",
    State.CANCELLED: "refund.cancelled",
    State.REVERSED: "refund.reversed",
    State.REVIEW: "refund.needs_review",
    State.SETTLED: "refund.settled_manually",
}
EVENT_TYPES = tuple(dict.fromkeys((ACCEPTED, *TYPES.values())))


def event_type(state: State, version: int) -> str:
    """What a change of state is called; the first one of a refund is that it was accepted."""
    return ACCEPTED if version == 1 else TYPES[state]


def payload(kind: str, at: str, data: Mapping[str, Any]) -> str:
    """The body of a delivery, the same bytes at every attempt."""
    return canonical({"type": kind, "timestamp": at, "data": data}).decode()


# -- signing ---------------------------------------------------------------------------------------------------------

PREFIX = "whsec_"


def as_secret(random: bytes) -> str:
    """A secret as the receiver gets to see it, of 24 to 64 random bytes."""
    return PREFIX + base64.b64encode(random).decode()


def signed(secrets: Sequence[str], message_id: str, now: float, body: bytes) -> dict[str, str]:
    """The three headers of an attempt at `now`, with a signature for each secret."""
    stamp = str(int(now))
    content = b".".join((message_id.encode(), stamp.encode(), body))
    signatures = (
        hmac.digest(base64.b64decode(secret.removeprefix(PREFIX)), content, hashlib.sha256) for secret in secrets
    )

    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
    }


# -- where to --------------------------------------------------------------------------------------------------------

Network = IPv4Network | IPv6Network
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[\x21-\x22\x24-\x5b\x5d-\x7e]*)?(\?[\x21-\x22\x24-\x5b\x5d-\x7e]*)?")
_PORTS = (80, 443)
_FIRST_FREE_PORT = 1024
# Addresses that lead to others, or to a cloud's own services, under a global mask.
_DETOURS = tuple(
    ip_network(each)
    for each in (
        "100.64.0.0/10",  # carrier-grade NAT
        "168.63.129.16/32",  # a cloud's host
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "2001::/23",  # Teredo, ORCHID
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local
    )
)


def check_url(url: str, *, allow_http: bool, allowed: Sequence[Network] = ()) -> None:
    """Raises InvalidJob where an endpoint's address breaks a rule. A name is judged when it is connected to."""
    rule = _broken(url, allow_http=allow_http, allowed=allowed)
    if rule is not None:
        raise InvalidJob(FieldError("#/url", rule, "url-invalid"))


def _broken(url: str, *, allow_http: bool, allowed: Sequence[Network]) -> str | None:
    if not _URL.fullmatch(url) or len(url) > 2048:  # noqa: PLR2004 - the column's length
        return (
            "expected an address such as https://shop.example/refunds, without user name, fragment, blanks or backslash"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "expected a host and a port that can be"
    if not host:
        return "expected a host"
    if parts.scheme == "http" and not allow_http:
        return "expected https (or [webhooks] allow_http = true)"
    if port is not None and port not in _PORTS and port < _FIRST_FREE_PORT:
        return "expected port 80, 443, or 1024 and above"

    return _unreachable(host, allowed)


def _unreachable(host: str, allowed: Sequence[Network]) -> str | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None

    return None if may_connect(address, allowed) else f"{address} is no public address (see [webhooks] allow_networks)"


def may_connect(address: IPv4Address | IPv6Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether a webhook may go there: a public unicast address, or one of a network that is allowed by name."""
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in allowed):
        return True
    refused = address.is_multicast or address.is_reserved or any(address in network for network in _DETOURS)

    return address.is_global and not refused


# -- what an answer means --------------------------------------------------------------------------------------------

GONE = 410
_OVERLOADED = frozenset({429, 502, 504})
_LONGEST_PAUSE = 86_400.0
_SLOW = 30.0
_PROBE_EVERY = 60.0


class Told(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one attempt: a status, or an error in its place. `answer`: the head of the body."""

    at: float
    ms: int
    status: int | None = None
    retry_after: float | None = None
    error: str | None = None
    answer: bytes = b""

    @property
    def good(self) -> bool:
        """Only 2xx is; a redirect is a failure."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004

    @property
    def pause(self) -> float:
        """Seconds for which the receiver wants to be left alone; never more than a day."""
        asked = min(self.retry_after or 0.0, _LONGEST_PAUSE)

        return max(asked, _SLOW if self.status in _OVERLOADED and self.retry_after is None else 0.0)


def after_attempt(reply: Reply, attempts: int, schedule: Sequence[float], jitter: float) -> tuple[Told, float]:
    """How a delivery stands after that many attempts, and when it is due again; `jitter` is in [0, 1)."""
    if reply.good:
        return Told.DELIVERED, reply.at
    if attempts >= len(schedule):
        return Told.UNDELIVERED, reply.at
    wait = schedule[attempts] * (1 + 0.1 * jitter)

    return Told.WAITING, reply.at + max(wait, reply.pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How an endpoint does. `recovered_at` is set while what waited for its return is caught up.

    `disabled`: why it is to be switched off.
    """

    failing_since: float | None = None
    recovered_at: float | None = None
    paused_until: float = 0.0
    disabled: str | None = None


def after_reply(health: Health, reply: Reply, *, disable_after: float, first_wait: float) -> Health:
    """How an endpoint does after one more answer. The longer it has failed, the rarer it is tried.

    A success ends a failure; one that has lasted less than the `first_wait` of the schedule leaves nothing to catch up.
    """
    if reply.good:
        back = health.failing_since is not None and reply.at - health.failing_since >= first_wait
        return replace(
            health, failing_since=None, recovered_at=reply.at if back else health.recovered_at, paused_until=0.0
        )
    since = reply.at if health.failing_since is None else health.failing_since
    failed_for = max(0.0, reply.at - since)
    gone = "the receiver answered 410 Gone" if reply.status == GONE else None
    dead = f"every attempt of {failed_for / 3600:.0f} h has failed" if failed_for >= disable_after else None

    return replace(
        health,
        failing_since=since,
        paused_until=reply.at + max(reply.pause, min(failed_for / 10, _PROBE_EVERY)),
        disabled=gone or dead,
    )
