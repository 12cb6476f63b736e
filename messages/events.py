"""A broker's own word, each with the broker's whole state.

Whole state makes loss harmless: whoever missed ten events and gets the eleventh knows all. So a
receiver keeps the newest by (epoch, version) and never counts. The class says what happened last.
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
    """Nothing happened, and the broker is there to say so."""

    reading: Reading


BrokerEvent = BalanceSeen | FetchFailed | BrokerAlive
