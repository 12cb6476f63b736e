"""What an account has that is no cash: everything that is open, or an error, and never a part of it."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.exchanges import coinbase as coinbase_adapter
from brokerwatch.exchanges import kraken as kraken_adapter
from brokerwatch.exchanges import okx as okx_adapter
from brokerwatch.exchanges import unified as unified_adapter
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.positions import held_positions
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import Holding, Position, Product
from brokerwatch.simulator import SimulatedCoinbase, SimulatedKraken, SimulatedOkx

KRAKEN_ROW: Final = dict(SimulatedKraken.example_position)
COINBASE_ROW: Final = dict(SimulatedCoinbase.example_position)
OKX_ROW: Final = dict(SimulatedOkx.example_position)
NO_ENVELOPES: Final[tuple[Any, ...]] = (None, "", "none", {}, 7)
UNIFIED_ROW: Final = {"symbol": "BTC/USDT:USDT", "side": "long", "contracts": 0.1}


def position(symbol: str, kind: str, side: str, amount: str, free: str | None = None) -> Position:
    size = Decimal(amount)
    return Position(
        symbol=symbol, kind=kind, side=side, base_amount=size, free=size if free is None else Decimal(free)
    )


def kraken(**values: object) -> dict[str, Any]:
    return {"error": [], "result": {"TXID": {**KRAKEN_ROW, **values}}}


def coinbase(**values: object) -> dict[str, Any]:
    return {"positions": [{**COINBASE_ROW, **values}]}


def okx(**values: object) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": [{**OKX_ROW, **values}]}


def unified(**values: object) -> list[dict[str, Any]]:
    return [{**UNIFIED_ROW, **values}]


def held(total: str, free: str | None = None) -> Holding:
    return Holding(free=Decimal(total if free is None else free), used=Decimal(0), total=Decimal(total))


def spot(symbol: str) -> Product:
    base, _, quote = symbol.partition("/")
    return Product(symbol=symbol, base=base, quote=quote, id=symbol)


LISTED: Final = Products(map(spot, ("BTC/EUR", "BTC/USDT", "BTC/USD", "ETH/USDT", "SOL/EUR", "USDT/USD")))


def test_held_coins_are_named_by_their_first_market_in_our_cash() -> None:
    holdings = {"BTC": held("0.5", "0.4"), "ETH": held("2"), "SOL": held("7"), "FOO": held("1")}
    assert held_positions(holdings, LISTED, ("USD", "USDT")) == (
        position("BTC/USD", "spot", "long", "0.5", "0.4"),
        position("ETH/USDT", "spot", "long", "2"),
        position("SOL", "spot", "long", "7"),
        position("FOO", "spot", "long", "1"),
    )
    (found,) = held_positions({"BTC": held("1")}, LISTED, iter(("USDT", "USD")))
    assert found.symbol == "BTC/USDT"


def test_money_and_what_is_not_there_are_no_positions() -> None:
    holdings = {"USD": held("5"), "USDT": held("5"), "EUR": held("5"), "BTC": held("0"), "ETH": held("-1")}
    assert held_positions(holdings, LISTED, ("USD",)) == ()
    assert held_positions({}, LISTED, ("USD",)) == ()


def test_a_coin_of_which_less_than_nothing_is_free_has_nothing_to_sell() -> None:
    (found,) = held_positions({"BTC": held("1", "-0.5")}, LISTED, ("USD",))
    assert found.free == 0
    unknown = Holding(free=None, used=None, total=Decimal(5))
    [found] = held_positions({"BTC": unknown}, LISTED, ("USD",))
    assert found.base_amount == 5
    assert found.free is None, "what is unknown is not nothing"


def test_kraken_tells_what_is_left_of_a_margin_position() -> None:
    assert kraken_adapter.positions(kraken(vol="0.5", vol_closed="0.2")) == (
        position("XETHZUSD", "margin", "long", "0.3"),
    )
    assert kraken_adapter.positions(kraken(type="sell"))[0].side == "short"
    assert kraken_adapter.positions(kraken(), {"XETHZUSD": "ETH/USD"}.__getitem__)[0].symbol == "ETH/USD"
    assert kraken_adapter.positions({"error": [], "result": [KRAKEN_ROW]}) == kraken_adapter.positions(
        kraken()
    )


def test_what_is_left_is_exact_however_many_digits_it_has() -> None:
    (found,) = kraken_adapter.positions(
        kraken(vol="123456789012345678.123456789012345678", vol_closed="0.000000000000000001")
    )
    assert found.base_amount == Decimal("123456789012345678.123456789012345677")


def test_coinbase_counts_contracts() -> None:
    assert coinbase_adapter.positions(coinbase()) == (position("BIT-26APR24-CDE", "future", "long", "2"),)
    assert coinbase_adapter.positions(coinbase(side="SHORT"))[0].side == "short"
    assert (
        coinbase_adapter.positions(coinbase(), lambda _: "BTC/USD:USD-240426")[0].symbol
        == "BTC/USD:USD-240426"
    )


@pytest.mark.parametrize(
    ("values", "kind", "side", "size", "free"),
    [
        ({}, "swap", "long", "1", "1"),
        ({"pos": "3", "availPos": "2"}, "swap", "long", "3", "2"),
        ({"pos": "3", "availPos": ""}, "swap", "long", "3", "3"),
        ({"posSide": "short"}, "swap", "short", "1", "1"),
        ({"posSide": "net", "pos": "-2", "availPos": ""}, "swap", "short", "2", "2"),
        ({"posSide": "net", "pos": "2", "availPos": ""}, "swap", "long", "2", "2"),
        ({"instType": "FUTURES"}, "future", "long", "1", "1"),
        ({"instType": "OPTION"}, "option", "long", "1", "1"),
        (
            {"instType": "MARGIN", "instId": "BTC-USDT", "posSide": "net", "posCcy": "BTC"},
            "margin",
            "long",
            "1",
            "1",
        ),
        (
            {"instType": "MARGIN", "instId": "BTC-USDT", "posSide": "net", "posCcy": "USDT"},
            "margin",
            "short",
            "1",
            "1",
        ),
    ],
)
def test_okx_tells_kind_and_side_in_its_own_way(
    values: dict[str, object], kind: str, side: str, size: str, free: str
) -> None:
    symbol = str(values.get("instId", OKX_ROW["instId"]))
    assert okx_adapter.positions(okx(**values)) == (position(symbol, kind, side, size, free),)


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        ("BTC/USDT:USDT", "swap"),
        ("BTC/USDT:USDT-260327", "future"),
        ("BTC/USD:BTC-260327-100000-C", "option"),
        ("BTC/USDT", "margin"),
    ],
)
def test_the_kind_of_a_position_is_in_ccxts_symbol(symbol: str, kind: str) -> None:
    assert unified_adapter.positions(unified(symbol=symbol)) == (position(symbol, kind, "long", "0.1"),)
    assert unified_adapter.positions(unified(side="short", contracts="-2"))[0] == position(
        "BTC/USDT:USDT", "swap", "short", "2"
    )


def test_what_is_closed_is_no_position() -> None:
    assert kraken_adapter.positions(kraken(vol="1", vol_closed="1")) == ()
    assert coinbase_adapter.positions(coinbase(number_of_contracts="0")) == ()
    assert okx_adapter.positions(okx(pos="0", posSide="net", availPos="")) == ()
    assert unified_adapter.positions(unified(contracts=0, side=None)) == ()


def test_nothing_open_in_a_whole_envelope_is_none() -> None:
    assert kraken_adapter.positions({"error": [], "result": {}}) == ()
    assert kraken_adapter.positions({"error": [], "result": []}) == ()
    assert coinbase_adapter.positions({"positions": []}) == ()
    assert okx_adapter.positions({"code": "0", "msg": "", "data": []}) == ()
    assert unified_adapter.positions([]) == ()


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        *((kraken_adapter.positions, kraken(**{key: None})) for key in ("pair", "type", "vol", "vol_closed")),
        (kraken_adapter.positions, kraken(type="hold")),
        (kraken_adapter.positions, kraken(vol="NaN")),
        (kraken_adapter.positions, kraken(vol="1", vol_closed="2")),
        (kraken_adapter.positions, {"error": []}),
        (kraken_adapter.positions, {"error": ["EService:Busy"], "result": {}}),
        (kraken_adapter.positions, {"result": {}}),
        (kraken_adapter.positions, {"error": [], "result": {"TXID": None}}),
        (kraken_adapter.positions, {"error": [], "result": "none"}),
        *(
            (coinbase_adapter.positions, coinbase(**{key: None}))
            for key in ("product_id", "side", "number_of_contracts")
        ),
        (coinbase_adapter.positions, coinbase(side="UNKNOWN")),
        (coinbase_adapter.positions, coinbase(number_of_contracts="-1")),
        (coinbase_adapter.positions, {"positions": None}),
        (coinbase_adapter.positions, {"positions": ["x"]}),
        *((okx_adapter.positions, okx(**{key: None})) for key in ("instId", "instType", "pos", "posSide")),
        (okx_adapter.positions, okx(posSide="up")),
        (okx_adapter.positions, okx(instType="BOND")),
        (okx_adapter.positions, okx(availPos="some")),
        (okx_adapter.positions, okx(instType="MARGIN", instId="BTC-USDT", posSide="net", posCcy="")),
        (okx_adapter.positions, {"code": "1", "msg": "", "data": []}),
        (okx_adapter.positions, {"code": "0", "msg": "", "data": {}}),
        *((unified_adapter.positions, unified(**{key: None})) for key in ("symbol", "side", "contracts")),
        (unified_adapter.positions, ["x"]),
    ],
)
def test_a_position_that_cannot_be_read_makes_the_answer_worthless(read: Any, answer: Any) -> None:
    with pytest.raises(UnprovenAnswer):
        read(copy.deepcopy(answer))


@pytest.mark.parametrize(
    "read",
    [kraken_adapter.positions, coinbase_adapter.positions, okx_adapter.positions, unified_adapter.positions],
)
def test_what_is_no_envelope_proves_nothing(read: Any) -> None:
    for answer in NO_ENVELOPES:
        with pytest.raises(UnprovenAnswer):
            read(answer)
