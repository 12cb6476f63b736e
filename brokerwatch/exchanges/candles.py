"""What exchanges answer about prices: every candle whole and in order, or `UnprovenAnswer`.

One bad row makes the answer worthless: a program that calculates with prices sees neither a gap nor a price
of zero.
An empty list in a whole envelope is what it says: there was no trade in that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.errors import NotSupported
from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    listing,
    number,
    positive,
    short,
)
from brokerwatch.messages import Candle

TIMEFRAMES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "1m": 60,
        "3m": 180,
        "5m": 300,
        "15m": 900,
        "30m": 1_800,
        "1h": 3_600,
        "2h": 7_200,
        "4h": 14_400,
        "6h": 21_600,
        "12h": 43_200,
        "1d": 86_400,
    }
)
"""Our words for spans of time, and their seconds. No weeks: where one begins differs by exchange."""


OUT_OF_ORDER: Final = "the candles are in no order"
TWICE: Final = "a candle comes twice"
DISORDER: Final = (OUT_OF_ORDER, TWICE)
"""What is said of candles that do not follow one another …"""
NO_PRICE: Final = ("a price ", "a price: ", "a volume ", "a volume: ", "a candle from ", "candles of ")
"""… and so begins what is said of values that cannot be, or are another market's."""


def word_for(words: Mapping[str, str], timeframe: str, exchange: str) -> str:
    """An exchange's word for a timeframe. Raises NotSupported."""
    if timeframe not in words:
        raise NotSupported(f"{exchange} has no candles of {short(timeframe)}; it has: {', '.join(words)}")
    return words[timeframe]


NEWEST_S: Final = 10**11
"""No candle is of a later moment: a number that is larger is no seconds since 1970."""


def row_of(value: object, length: int) -> list[Any]:
    row = listing(value, "a candle")
    if len(row) < length:
        raise UnprovenAnswer(f"a candle of {len(row)} values, not of {length}")
    return row


def candle(row: Sequence[object], at: Sequence[int], units_per_s: int) -> Candle:
    """One candle; `at` says where in a row are its start, open, high, low, close and volume."""
    start = positive(row[at[0]], "the start of a candle")
    if start != start.to_integral_value() or start >= NEWEST_S * units_per_s:
        raise UnprovenAnswer(f"the start of a candle is {start}")
    opened, high, low, closed = (positive(row[place], "a price") for place in at[1:5])
    volume = number(row[at[5]], "a volume")
    if high < max(opened, closed) or low > min(opened, closed):
        raise UnprovenAnswer(f"a candle from {low} to {high} opens at {opened} and closes at {closed}")
    if volume < 0:
        raise UnprovenAnswer(f"a volume is negative: {volume}")
    start_us = int(start) * (1_000_000 // units_per_s)
    return Candle(start_us=start_us, open=opened, high=high, low=low, close=closed, volume=volume)


def newest(candles: list[Candle], count: int) -> tuple[Candle, ...]:
    """The newest of them, oldest first; UnprovenAnswer if one span comes twice or they are in no order."""
    times = [candle.start_us for candle in candles]
    if times == sorted(times, reverse=True):
        candles = candles[::-1]  # some exchanges begin with the newest
    elif times != sorted(times):
        raise UnprovenAnswer(OUT_OF_ORDER)
    if len(set(times)) < len(times):
        raise UnprovenAnswer(TWICE)
    return tuple(candles[-count:]) if count > 0 else ()
