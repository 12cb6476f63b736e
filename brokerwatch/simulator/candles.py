"""Candles: made from a price so that the same question has the same answer, or set row by row by a test.

A candle belongs to the interval that its start and the timeframe make, counted from 1970. So two overlapping
answers agree on their common candles, except the newest one, which always closes at the price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from brokerwatch.simulator.markets import Market

CandleSpec = tuple[int, str, str, str, str, str]
"""Start in seconds since 1970; open, high, low, close and volume as decimal strings."""

# More than any exchange answers in one page; a client that asks since 1970 must not fill the memory.
MOST_CANDLES = 2_000


@dataclass(frozen=True, slots=True)
class CandleRow:
    """One candle as every exchange writes it, each in its own order."""

    start_s: int
    open: str
    high: str
    low: str
    close: str
    volume: str


@dataclass(frozen=True, slots=True)
class CandleSpan:
    """Which candles are asked for: the newest `most` that begin in the span, both ends included."""

    most: int
    since_s: float | None = None
    until_s: float | None = None


def checked_candles(rows: Sequence[CandleSpec]) -> list[CandleRow]:
    """The rows a test gave, in the order of time. Any text may stand for a price: broken data exists."""
    return sorted((CandleRow(*row) for row in rows), key=lambda row: row.start_s)


def made_candles(
    market: Market, price: Decimal, timeframe_s: int, newest_s: float, span: CandleSpan
) -> list[CandleRow]:
    """The candles of a span, oldest first; `newest_s` is a moment in the newest one that there is."""
    newest = int(newest_s // timeframe_s)
    last = newest if span.until_s is None else min(newest, int(span.until_s // timeframe_s))
    first = last - min(span.most, MOST_CANDLES) + 1
    if span.since_s is not None:
        # The first one that begins at `since_s` or later.
        first = max(first, -int(-span.since_s // timeframe_s))
    return [
        _candle(market, price, timeframe_s, number, is_newest=number == newest)
        for number in range(max(first, 1), last + 1)
    ]


def chosen_candles(rows: Sequence[CandleRow], span: CandleSpan) -> list[CandleRow]:
    """Those of the rows that a test set that belong to the span."""
    inside = [
        row
        for row in rows
        if (span.since_s is None or row.start_s >= span.since_s)
        and (span.until_s is None or row.start_s <= span.until_s)
    ]
    return inside[-span.most :] if span.most else []


def _candle(market: Market, price: Decimal, timeframe_s: int, number: int, *, is_newest: bool) -> CandleRow:
    opened = price * _wave(number - 1)
    closed = price if is_newest else price * _wave(number)
    prices = (opened, max(opened, closed), min(opened, closed), closed)
    texts = [f"{each:.{market.price_decimals}f}" for each in prices]
    volume = f"{1 + number % 7}.{number % 10}0000000"
    return CandleRow(number * timeframe_s, texts[0], texts[1], texts[2], texts[3], volume)


def _wave(number: int) -> Decimal:
    # Within 1 % of the price, and different from one candle to the next.
    return 1 + Decimal(number * 7 % 21 - 10) / 1_000
