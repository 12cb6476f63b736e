"""A broker's events. Each carries the broker's whole state; its class says what happened last.

Whole state makes loss harmless: a receiver that missed ten events and gets the eleventh has everything. It
keeps the newest by (epoch, version).
"""

from __future__ import annotations

import msgspec

from brokerwatch.messages.reading import Reading


class BalanceSeen(msgspec.Struct, frozen=True):
    """A fetch succeeded."""

    reading: Reading


class FetchFailed(msgspec.Struct, frozen=True):
    """A fetch met a fault."""

    reading: Reading


class BrokerAlive(msgspec.Struct, frozen=True):
    """A heartbeat: nothing happened, and the broker is alive."""

    reading: Reading


BrokerEvent = BalanceSeen | FetchFailed | BrokerAlive
