"""Which stream an account has: one of ours where its exchange has a fold, else that of ccxt.pro."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.exchanges.stream import url_of
from brokerwatch.exchanges.streams import STREAMS
from brokerwatch.gateway.gateway import Access
from brokerwatch.gateway.pro_stream import ProStream, WatchedBalance
from brokerwatch.gateway.stream import AccountStream
from brokerwatch.health.push import StreamEvent


def stream_of(
    spec: BrokerSpec, access: Access, clock: Clock, say: Callable[[StreamEvent], object]
) -> AccountStream | ProStream:
    """The stream of one account, not begun yet. Called on the account's loop, where `say` is called too."""
    connection, lane = access.connection, access.lane
    fold = STREAMS.get(connection.family)
    if fold is None:
        addresses: Any = spec.ccxt.get("urls") or {}
        known = not access.elsewhere or "ws" in (addresses.get("api") or {})
        watched = WatchedBalance(spec, connection, lane, access.venue.lend_markets)
        return ProStream(watched, connection, lane, clock, say, has_address=known)
    url = url_of(fold, spec.exchange, connection.instance.urls, elsewhere=access.elsewhere)
    return AccountStream(fold, url, spec.credentials, connection, lane, clock, say, spec.fetch_deadline_s)
