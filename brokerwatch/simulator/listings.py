"""The markets of a simulated exchange: what they cost, their candles, and whether they are listed and open.

What is listed, what is open, and what a question about candles is answered with are three separate things,
because a real exchange gets them wrong one by one. Everything public may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from brokerwatch.simulator.candles import (
    CandleRow,
    CandleSpan,
    CandleSpec,
    checked_candles,
    chosen_candles,
    made_candles,
)
from brokerwatch.simulator.markets import MARKETS, Market, market_of
from brokerwatch.simulator.trading import positive_amount


@dataclass(frozen=True, slots=True)
class MadeUpTrade:
    """A trade of other people. Every exchange writes it in its own way."""

    id: int
    price: str
    amount: str
    side: str
    """`buy` or `sell`: what the taker did."""
    at_s: float
    """By the exchange's own clock, seconds since 1970."""


RECENT_TRADES = 20
MOST_LEVELS = 25
"""How many prices an order book has on each side."""


@dataclass(frozen=True, slots=True)
class _Swap:
    """Whose candles a market is answered with, and whether the answer says so."""

    other: Market
    disguised: bool


class Listings:
    """The public part of a simulated exchange.

    `clock_skew_s` is how far the exchange's own clock is ahead of this machine's, in seconds, and
    `candle_lag_s` how far its newest candle is behind that clock.
    """

    def __init__(self) -> None:
        self.clock_skew_s = 0.0
        self.candle_lag_s = 0.0
        # One handler may ask for what another thread is setting, and ask twice.
        self._lock = threading.RLock()
        self._prices = {market.symbol: Decimal(market.price) for market in MARKETS}
        self._candles: dict[str, list[CandleRow]] = {}
        self._gaps: dict[str, frozenset[int]] = {}
        self._swaps: dict[str, _Swap] = {}
        self._unlisted: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()
        self._closed: frozenset[str] = frozenset()

    # --- what a test arranges -----------------------------------------------------------------------

    def set_price(self, symbol: str, price: str) -> None:
        """What a market costs from now on. ValueError for an unknown market or no positive decimal."""
        market, amount = market_of(symbol), positive_amount(price)
        if amount is None:
            raise ValueError(f"{symbol}: {price!r} is not a positive decimal string")
        with self._lock:
            self._prices[market.symbol] = amount

    def price_of(self, symbol: str) -> Decimal:
        """What a market costs now."""
        with self._lock:
            return self._prices[market_of(symbol).symbol]

    def set_candles(self, symbol: str, candles: Sequence[CandleSpec] | None) -> None:
        """The candles of a market, whatever timeframe is asked for; None: made from the price again.

        Each is its start in seconds since 1970, then open, high, low, close and volume as strings.
        """
        market = market_of(symbol)
        with self._lock:
            if candles is None:
                self._candles.pop(market.symbol, None)
            else:
                self._candles[market.symbol] = checked_candles(candles)

    def set_candle_gaps(self, symbol: str, missing: Collection[int]) -> None:
        """Leave out candles of a market: 0 is the newest one there is, 1 the span of time before it."""
        with self._lock:
            self._gaps[market_of(symbol).symbol] = frozenset(missing)

    def swap_candles(self, symbol: str, other: str | None, *, disguised: bool = False) -> None:
        """Who asks for the candles of a market gets those of another one from now on; None ends it.

        Kraken's answer names its pair, and so it names the other one, unless `disguised`: then only the
        prices are wrong. Coinbase and OKX name none, so there the two are the same. ValueError for an
        unknown market.
        """
        market = market_of(symbol)
        swap = None if other is None else _Swap(market_of(other), disguised)
        with self._lock:
            if swap is None:
                self._swaps.pop(market.symbol, None)
            else:
                self._swaps[market.symbol] = swap

    def delist(self, *symbols: str, everywhere: bool = False) -> None:
        """Leave markets out of the list of markets, which is then broken: what counts it counts them all.

        With `everywhere` the exchange has dropped them: they are not in the tickers and not in the count
        either. Their candles and orders go on working. A second call adds to the first one. ValueError,
        with nothing left out, if one of them is unknown.
        """
        dropped = frozenset(market_of(symbol).symbol for symbol in symbols)
        with self._lock:
            self._unlisted |= dropped
            if everywhere:
                self._gone |= dropped

    def relist(self) -> None:
        """Every market is listed again."""
        with self._lock:
            self._unlisted = self._gone = frozenset()

    def close_market(self, symbol: str) -> None:
        """Close one market: it is listed as closed, and no new order is taken in it.

        What is open there can be cancelled, and prices and candles are told as ever. ValueError for an
        unknown market.
        """
        market = market_of(symbol)
        with self._lock:
            self._closed |= {market.symbol}

    def open_market(self, symbol: str) -> None:
        """End what `close_market` did; nothing happens to a market that is open."""
        market = market_of(symbol)
        with self._lock:
            self._closed -= {market.symbol}

    # --- what a handler of a subclass uses ----------------------------------------------------------

    def now_s(self) -> float:
        """Seconds since 1970 by the exchange's own clock."""
        return time.time() + self.clock_skew_s

    def listed(self) -> list[Market]:
        """The markets in the list of markets."""
        return [market for market in MARKETS if market.symbol not in self._unlisted]

    def traded(self) -> list[Market]:
        """The markets that the exchange really has: those with a ticker."""
        return [market for market in MARKETS if market.symbol not in self._gone]

    def is_closed(self, market: Market) -> bool:
        """Whether a market takes no new orders."""
        return market.symbol in self._closed

    def candles(self, market: Market, timeframe_s: int, span: CandleSpan) -> list[CandleRow]:
        """The candles that a question about a market is answered with, oldest first."""
        if (swap := self._swaps.get(market.symbol)) is not None:
            market = swap.other
        newest_s = self.now_s() - self.candle_lag_s
        if (given := self._candles.get(market.symbol)) is not None:
            newest_s = given[-1].start_s if given else newest_s
            rows = chosen_candles(given, span)
        else:
            rows = made_candles(market, self._prices[market.symbol], timeframe_s, newest_s, span)
        missing = self._gaps.get(market.symbol, frozenset())
        newest = newest_s // timeframe_s
        return [row for row in rows if newest - row.start_s // timeframe_s not in missing]

    def order_book(self, market: Market, depth: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Bids and asks, the best first, each a price and an amount: one step apart, around the price."""
        price, step = self._prices[market.symbol], Decimal(market.price_step)
        count = range(1, min(depth, MOST_LEVELS) + 1)
        bids = [price - number * step for number in count if price > number * step]
        asks = [price + number * step for number in count]
        return [(market.price_text(each), "1") for each in bids], [
            (market.price_text(each), "1") for each in asks
        ]

    def recent_trades(self, market: Market) -> list[MadeUpTrade]:
        """Some trades of other people, the newest last: one a second, at the price of now."""
        now_s = int(self.now_s())
        price = market.price_text(self._prices[market.symbol])
        return [
            MadeUpTrade(at_s, price, "0.01", "sell" if at_s % 2 else "buy", float(at_s))
            for at_s in range(now_s - RECENT_TRADES + 1, now_s + 1)
        ]

    def named_with_candles(self, market: Market) -> Market:
        """The market that the answer to a question about a market's candles names."""
        swap = self._swaps.get(market.symbol)
        return market if swap is None or swap.disguised else swap.other
