"""What exchanges answer about prices: every candle whole and in order, or `UnprovenAnswer`.

One bad row makes the answer worthless: who reckons with prices does not see a gap, nor a price of zero.
An empty list in a whole envelope is what it says: there was no trade in that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.errors import NotSupported
from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    kraken_result,
    listing,
    mapping,
    number,
    okx_data,
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

_WORDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        # Minutes. https://docs.kraken.com/api/docs/rest-api/get-ohlc-data
        "kraken": {"1m": "1", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "4h": "240", "1d": "1440"},
        # https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/products/get-product-candles
        "coinbase": {
            "1m": "ONE_MINUTE",
            "5m": "FIVE_MINUTE",
            "15m": "FIFTEEN_MINUTE",
            "30m": "THIRTY_MINUTE",
            "1h": "ONE_HOUR",
            "2h": "TWO_HOUR",
            "4h": "FOUR_HOUR",
            "6h": "SIX_HOUR",
            "1d": "ONE_DAY",
        },
        # From six hours on a span would begin by the clock of Hong Kong if it were not asked for in UTC.
        # https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks
        "okx": {
            "1m": "1m",
            "3m": "3m",
            "5m": "5m",
            "15m": "15m",
            "30m": "30m",
            "1h": "1H",
            "2h": "2H",
            "4h": "4H",
            "6h": "6Hutc",
            "12h": "12Hutc",
            "1d": "1Dutc",
        },
    }
)

OUT_OF_ORDER: Final = "the candles are in no order"
TWICE: Final = "a candle comes twice"
DISORDER: Final = (OUT_OF_ORDER, TWICE)
"""What is said of candles that do not follow one another …"""
NO_PRICE: Final = ("a price ", "a price: ", "a volume ", "a volume: ", "a candle from ", "candles of ")
"""… and so begins what is said of values that cannot be, or are another market's."""

NEWEST_S: Final = 10**11
"""No candle is of a later moment: a number that is larger is no seconds since 1970."""


def kraken_interval(timeframe: str) -> str:
    """Kraken's word for a timeframe: minutes. Raises NotSupported."""
    return _word("kraken", timeframe)


def coinbase_granularity(timeframe: str) -> str:
    """Coinbase's word for a timeframe. Raises NotSupported."""
    return _word("coinbase", timeframe)


def okx_bar(timeframe: str) -> str:
    """OKX's word for a timeframe. Raises NotSupported."""
    return _word("okx", timeframe)


def _word(family: str, timeframe: str) -> str:
    words = _WORDS[family]
    if timeframe not in words:
        raise NotSupported(f"{family} has no candles of {short(timeframe)}; it has: {', '.join(words)}")
    return words[timeframe]


def kraken_candles(answer: object, count: int, pair: str = "") -> tuple[Candle, ...]:
    """The newest `count` candles of an OHLC answer, oldest first. Raises UnprovenAnswer.

    `pair`: the id that was asked for, which the answer must be about; empty: whichever it is about.
    """
    result = kraken_result(answer)
    pairs = [name for name in result if name != "last"]
    if len(pairs) != 1:
        raise UnprovenAnswer(f"candles of {len(pairs)} pairs, not of one")
    if pair and pairs[0] != pair:
        raise UnprovenAnswer(f"candles of {short(pairs[0])}, and {pair} was asked for")
    rows = listing(result[pairs[0]], "the candles")
    # time, open, high, low, close, average, volume, trades
    return _newest([_candle(_row(row, 8), (0, 1, 2, 3, 4, 6), 1) for row in rows], count)


def coinbase_candles(answer: object, count: int) -> tuple[Candle, ...]:
    """The newest `count` candles of a product, oldest first. Raises UnprovenAnswer."""
    keys = ("start", "open", "high", "low", "close", "volume")
    rows = [
        mapping(row, "a candle") for row in listing(mapping(answer, "the answer").get("candles"), "candles")
    ]
    return _newest([_candle([row.get(key) for key in keys], range(6), 1) for row in rows], count)


def okx_candles(answer: object, count: int) -> tuple[Candle, ...]:
    """The newest `count` candles of a spot instrument, oldest first. Raises UnprovenAnswer."""
    # time, open, high, low, close, volume in the base currency, and in others
    return _newest([_candle(_row(row, 6), range(6), 1_000) for row in okx_data(answer)], count)


def unified_candles(rows: object) -> tuple[Candle, ...]:
    """The candles in what ccxt's `fetch_ohlcv` gives, oldest first. Raises UnprovenAnswer."""
    given = [_row(row, 6) for row in listing(rows, "the candles")]
    exact = [[repr(value) if isinstance(value, float) else value for value in row] for row in given]
    return _newest([_candle(row, range(6), 1_000) for row in exact], len(exact))


def _row(value: object, length: int) -> list[Any]:
    row = listing(value, "a candle")
    if len(row) < length:
        raise UnprovenAnswer(f"a candle of {len(row)} values, not of {length}")
    return row


def _candle(row: Sequence[object], at: Sequence[int], units_per_s: int) -> Candle:
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


def _newest(candles: list[Candle], count: int) -> tuple[Candle, ...]:
    """The newest of them, oldest first; UnprovenAnswer if one span comes twice or they are in no order."""
    times = [candle.start_us for candle in candles]
    if times == sorted(times, reverse=True):
        candles = candles[::-1]  # some exchanges begin with the newest
    elif times != sorted(times):
        raise UnprovenAnswer(OUT_OF_ORDER)
    if len(set(times)) < len(times):
        raise UnprovenAnswer(TWICE)
    return tuple(candles[-count:]) if count > 0 else ()
