"""Redelivery within seconds, for a worker that imports this (`--include=tests.support.short_sweep`).

The pinned kombu looks for unacknowledged messages every hundred seconds and has no option for it.
"""

from typing import Any

import kombu.transport
from kombu.transport import redis

SWEEP_SECONDS = 0.2


class QoS(redis.QoS):
    """Every call looks, not every tenth."""

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> Any:
        return super().restore_visible(start, num, 1)


class Channel(redis.Channel):
    """A channel with the impatient QoS."""

    QoS = QoS


class Transport(redis.Transport):
    """The Redis transport, sweeping several times a second."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        assert self.cycle is not None
        loop.call_repeatedly(SWEEP_SECONDS, self.cycle.maybe_restore_messages)


kombu.transport.TRANSPORT_ALIASES["redis"] = f"{__name__}:Transport"
