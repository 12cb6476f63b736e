"""What exchanges answer about prices is proven, or it is no answer: one bad row spoils it."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.errors import NotSupported
from brokerwatch.exchanges import coinbase as coinbase_adapter
from brokerwatch.exchanges import kraken as kraken_adapter
from brokerwatch.exchanges import okx as okx_adapter
from brokerwatch.exchanges import unified as unified_adapter
from brokerwatch.exchanges.candles import TIMEFRAMES
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages import Candle
from brokerwatch.simulator.coinbase import GRANULARITIES_S
from brokerwatch.simulator.kraken import INTERVALS_MIN
from brokerwatch.simulator.okx import BARS_S

START_S: Final = 1_700_000_040
PRICES: Final = ("100.5", "101.25", "99.75", "101")
"""Open, high, low, close."""


def candle(number: int) -> Candle:
    opened, high, low, closed = map(Decimal, PRICES)
    start_us = (START_S + 60 * number) * 1_000_000
    return Candle(
        start_us=start_us, open=opened, high=high, low=low, close=closed, volume=Decimal(f"1.{number}")
    )


EXPECTED: Final = tuple(candle(number) for number in range(3))


def kraken(*rows: list[Any]) -> dict[str, Any]:
    return {"error": [], "result": {"XXBTZUSD": list(rows), "last": str(START_S)}}


def coinbase(*rows: list[Any]) -> dict[str, Any]:
    keys = ("start", "open", "high", "low", "close", "volume")
    return {"candles": [dict(zip(keys, row, strict=True)) for row in rows]}


def okx(*rows: list[Any]) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": list(rows)}


def unified(*rows: list[Any]) -> list[Any]:
    return list(rows)


def kraken_row(number: int) -> list[Any]:
    return [str(START_S + 60 * number), *PRICES, "100.1", f"1.{number}", "10"]


def coinbase_row(number: int) -> list[Any]:
    return [str(START_S + 60 * number), *PRICES, f"1.{number}"]


def okx_row(number: int) -> list[Any]:
    return [str((START_S + 60 * number) * 1_000), *PRICES, f"1.{number}", "7", "8", "1"]


def unified_row(number: int) -> list[Any]:
    return [(START_S + 60 * number) * 1_000, *map(float, PRICES), float(f"1.{number}")]


class Exchange:
    """How one exchange writes candles, and how they are read."""

    def __init__(self, envelope: Any, row: Any, read: Any, volume_at: int) -> None:
        self.envelope, self.row, self.volume_at = envelope, row, volume_at
        self._read = read

    def read(self, *rows: list[Any], count: int = 10) -> tuple[Candle, ...]:
        answer = self.envelope(*rows)
        found: tuple[Candle, ...] = (
            self._read(answer) if self._read is unified_adapter.candles else self._read(answer, count)
        )
        return found


EXCHANGES: Final = (
    Exchange(kraken, kraken_row, kraken_adapter.candles, 6),
    Exchange(coinbase, coinbase_row, coinbase_adapter.candles, 5),
    Exchange(okx, okx_row, okx_adapter.candles, 5),
    Exchange(unified, unified_row, unified_adapter.candles, 5),
)
every = pytest.mark.parametrize("exchange", EXCHANGES, ids=["kraken", "coinbase", "okx", "unified"])


@every
def test_candles_are_read_exactly_and_oldest_first_whichever_end_comes_first(exchange: Exchange) -> None:
    rows = [exchange.row(number) for number in range(3)]
    assert exchange.read(*rows) == EXPECTED
    assert exchange.read(*rows[::-1]) == EXPECTED


@every
def test_no_candles_in_a_whole_envelope_are_none(exchange: Exchange) -> None:
    assert exchange.read() == ()


@pytest.mark.parametrize("exchange", EXCHANGES[:3], ids=["kraken", "coinbase", "okx"])
def test_the_newest_are_given_when_fewer_are_asked_for(exchange: Exchange) -> None:
    rows = [exchange.row(number) for number in range(3)]
    assert exchange.read(*rows, count=2) == EXPECTED[1:]
    assert exchange.read(*rows[::-1], count=1) == EXPECTED[2:]
    assert exchange.read(*rows, count=0) == ()


NO_PRICES: Final[tuple[Any, ...]] = ("0", "-1", "NaN", "Infinity", "", None, [], True)
NO_ROWS: Final[tuple[Any, ...]] = ([], None, "row", {})
NO_ENVELOPES: Final[tuple[Any, ...]] = (None, "", [], {}, 7)
BAD_VALUES: Final[list[tuple[int | str, Any]]] = [
    (0, "0"),
    (0, "-60"),
    (0, None),
    (0, "soon"),
    *((place, value) for place in (1, 2, 3, 4) for value in NO_PRICES),
    (2, "100.9"),
    (3, "100.6"),
    ("volume", "-0.1"),
    ("volume", "NaN"),
    ("volume", None),
]


@every
@pytest.mark.parametrize(("at", "value"), BAD_VALUES)
def test_one_bad_row_makes_the_answer_worthless(exchange: Exchange, at: int | str, value: object) -> None:
    row = exchange.row(1)
    row[exchange.volume_at if isinstance(at, str) else at] = value
    with pytest.raises(UnprovenAnswer):
        exchange.read(exchange.row(0), row, exchange.row(2))


@every
def test_a_start_that_is_no_moment_proves_nothing(exchange: Exchange) -> None:
    for start in (f"{exchange.row(0)[0]}.5", f"{exchange.row(0)[0]}00000000"):
        row = exchange.row(0)
        row[0] = start
        with pytest.raises(UnprovenAnswer):
            exchange.read(row)


@every
def test_a_candle_may_stand_still_and_have_no_volume(exchange: Exchange) -> None:
    row = exchange.row(0)
    row[1:5] = ["100"] * 4
    row[exchange.volume_at] = "0"
    (found,) = exchange.read(row)
    assert (found.high, found.low, found.volume) == (Decimal(100), Decimal(100), Decimal(0))


@every
def test_candles_in_no_order_or_twice_prove_nothing(exchange: Exchange) -> None:
    first, second, third = (exchange.row(number) for number in range(3))
    for rows in ((first, third, second), (first, first), (first, second, second), (third, third, first)):
        with pytest.raises(UnprovenAnswer):
            exchange.read(*rows)


@pytest.mark.parametrize(
    "exchange", [EXCHANGES[0], EXCHANGES[2], EXCHANGES[3]], ids=["kraken", "okx", "unified"]
)
def test_a_row_that_is_cut_or_none_proves_nothing(exchange: Exchange) -> None:
    for broken in (exchange.row(0)[:5], *NO_ROWS):
        with pytest.raises(UnprovenAnswer):
            exchange.read(exchange.row(1), broken)


BROKEN: Final[list[tuple[Any, list[Any]]]] = [
    (
        kraken_adapter.candles,
        [
            {"error": []},
            {"error": [], "result": []},
            {"error": [], "result": {}},
            {"error": [], "result": {"last": "1"}},
            {"error": [], "result": {"XXBTZUSD": None, "last": "1"}},
            {"error": [], "result": {"XXBTZUSD": [], "XETHZUSD": [], "last": "1"}},
            {"result": {"XXBTZUSD": [], "last": "1"}},
            {"error": ["EService:Busy"], "result": {"XXBTZUSD": [], "last": "1"}},
            {"error": ["WGeneral:Beware"], "result": {"XXBTZUSD": [], "last": "1"}},
        ],
    ),
    (
        coinbase_adapter.candles,
        [{"candles": None}, {"candles": {}}, {"candles": ["x"]}, {"error": "NOT_FOUND"}],
    ),
    (
        okx_adapter.candles,
        [
            {"code": "0", "msg": ""},
            {"code": "1", "msg": "", "data": []},
            {"code": "0", "msg": "x", "data": []},
        ],
    ),
]


@pytest.mark.parametrize(("read", "answers"), BROKEN, ids=["kraken", "coinbase", "okx"])
def test_an_answer_that_is_no_whole_envelope_proves_nothing(read: Any, answers: list[Any]) -> None:
    for answer in (*NO_ENVELOPES, *answers):
        with pytest.raises(UnprovenAnswer):
            read(copy.deepcopy(answer), 10)


def test_rows_of_ccxt_that_are_no_list_prove_nothing() -> None:
    for rows in NO_ENVELOPES:
        if rows != []:
            with pytest.raises(UnprovenAnswer):
                unified_adapter.candles(rows)


def test_each_exchanges_word_for_a_timeframe_means_the_same_span() -> None:
    for timeframe, seconds in TIMEFRAMES.items():
        if timeframe not in ("3m", "2h", "6h", "12h"):
            interval = kraken_adapter.interval(timeframe)
            assert interval in INTERVALS_MIN
            assert int(interval) * 60 == seconds
        if timeframe not in ("3m", "12h"):
            assert GRANULARITIES_S[coinbase_adapter.granularity(timeframe)] == seconds
        assert BARS_S[okx_adapter.bar(timeframe)] == seconds


def test_a_timeframe_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(
        NotSupported, match="kraken has no candles of '2h'; it has: 1m, 5m, 15m, 30m, 1h, 4h, 1d"
    ):
        kraken_adapter.interval("2h")
    for word in (coinbase_adapter.granularity, okx_adapter.bar, kraken_adapter.interval):
        for text in ("", "1w", "60", "1H", "1D"):
            with pytest.raises(NotSupported):
                word(text)


def test_candles_of_another_pair_than_the_one_that_was_asked_for_are_refused() -> None:
    answer: dict[str, Any] = {"error": [], "result": {"XETHZUSD": [kraken_row(60)], "last": 0}}
    assert len(kraken_adapter.candles(answer, 5)) == len(kraken_adapter.candles(answer, 5, "XETHZUSD")) == 1
    with pytest.raises(UnprovenAnswer, match="XXBTZUSD was asked for"):
        kraken_adapter.candles(answer, 5, "XXBTZUSD")
