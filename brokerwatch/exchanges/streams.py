"""Which fold speaks to which exchange's private stream. No other module knows the folds by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from brokerwatch.exchanges.coinbase_stream import CoinbaseStream
from brokerwatch.exchanges.kraken_stream import KrakenStream
from brokerwatch.exchanges.okx_stream import OkxStream
from brokerwatch.exchanges.stream import StreamFold

STREAMS: Final[Mapping[str, type[StreamFold]]] = MappingProxyType(
    {fold.family: fold for fold in (KrakenStream, OkxStream, CoinbaseStream)}
)
"""By the name of the exchange's adapter."""
