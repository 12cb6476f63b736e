"""The frames of orders: which orders they name, and what ends a connection."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.clock import Instant
from brokerwatch.exchanges.order_streams import (
    ORDER_STREAMS,
    CoinbaseOrderStream,
    KrakenOrderStream,
    OkxOrderStream,
)
from brokerwatch.exchanges.stream import Opening, Step, StreamFold
from brokerwatch.messages.stream import NamedOrder

KEYS: Final = {"api_key": "k", "secret": "c2VjcmV0", "password": "p"}
OPENING: Final = Opening(KEYS, "ticket", Instant(1_000_000_000, 5.0), str)


def opened(fold: type[StreamFold]) -> Step:
    return fold.opened(OPENING)


def heard(fold: StreamFold, *frames: Any) -> Step:
    step = Step(fold)
    for frame in frames:
        step = step.fold.heard(frame if isinstance(frame, str) else json.dumps(frame))
    return step


def executions(sequence: int, *rows: dict[str, Any], kind: str = "update") -> dict[str, Any]:
    return {"channel": "executions", "type": kind, "data": list(rows), "sequence": sequence}


def user(sequence: int, *rows: dict[str, Any], kind: str = "update") -> dict[str, Any]:
    return {"channel": "user", "sequence_num": sequence, "events": [{"type": kind, "orders": list(rows)}]}


FILL: Final = {
    "order_id": "O1",
    "symbol": "BTC/USD",
    "exec_type": "trade",
    "order_status": "filled",
    "cum_qty": 0.5,
}


def test_kraken_is_asked_for_executions_with_the_token() -> None:
    (text,) = opened(KrakenOrderStream).send
    assert json.loads(text)["params"] == {
        "channel": "executions",
        "token": "ticket",
        "snap_orders": True,
        "snap_trades": False,
    }


def test_a_fill_at_kraken_names_its_order_and_what_is_filled() -> None:
    step = heard(opened(KrakenOrderStream).fold, executions(1, kind="snapshot"), executions(2, FILL))
    assert step.orders == (NamedOrder(id="O1", market="BTC/USD", has_ended=True, filled=Decimal("0.5")),)
    assert step.asks
    assert step.amounts is None


def test_a_delta_at_kraken_that_says_little_names_its_order() -> None:
    step = heard(opened(KrakenOrderStream).fold, executions(1, {"order_id": "O1", "exec_type": "amended"}))
    assert step.orders == (NamedOrder(id="O1"),)


def test_a_gap_in_the_frames_of_kraken_ends_the_connection_and_one_that_comes_twice_does_not() -> None:
    fold = heard(opened(KrakenOrderStream).fold, executions(1), executions(2, FILL)).fold
    assert not heard(fold, executions(2, FILL)).ended
    assert heard(fold, executions(2, FILL)).fold == fold
    assert heard(fold, executions(4, FILL)).ended == "1 frames are missing"


def test_numbers_of_kraken_that_begin_anew_hide_no_order() -> None:
    fold = heard(opened(KrakenOrderStream).fold, executions(1), executions(2), executions(3)).fold
    step = heard(fold, executions(1, FILL))
    assert (step.asks, step.ended, step.orders) == (step.ended, "the frame 1 came after 3", ())
    first = heard(opened(KrakenOrderStream).fold, executions(1)).fold
    assert [each.id for each in heard(first, executions(1, FILL)).orders] == ["O1"]


def test_numbers_of_coinbase_that_begin_anew_end_the_connection() -> None:
    fold = heard(opened(CoinbaseOrderStream).fold, user(0, kind="snapshot"), user(1), user(2)).fold
    step = heard(fold, user(0, {"order_id": "o", "status": "OPEN"}))
    assert (step.asks, step.ended, step.orders) == (step.ended, "the frame 0 came after 2", ())


@pytest.mark.parametrize(
    "frame", ["{", executions(1, {"order_id": ""}), {"channel": "executions", "data": []}]
)
def test_a_frame_of_kraken_that_cannot_be_read_ends_the_connection(frame: Any) -> None:
    step = heard(opened(KrakenOrderStream).fold, frame)
    assert step.ended
    assert step.asks


def test_kraken_acknowledges_and_refuses_as_for_balances() -> None:
    fold = opened(KrakenOrderStream).fold
    assert heard(fold, {"method": "subscribe", "success": True, "result": {}}).acknowledged
    refusal = {"method": "subscribe", "success": False, "error": "EAccount:Invalid permissions"}
    assert heard(fold, refusal).refused == "EAccount:Invalid permissions"
    assert isinstance(heard(fold, {"channel": "heartbeat"}).fold, KrakenOrderStream)


def test_okx_subscribes_to_orders_of_every_kind_after_its_login() -> None:
    fold = opened(OkxOrderStream).fold
    step = heard(fold, {"event": "login", "code": "0"})
    assert json.loads(step.send[0])["args"] == [{"channel": "orders", "instType": "ANY"}]
    assert isinstance(step.fold, OkxOrderStream)
    assert heard(step.fold, {"event": "subscribe", "arg": {"channel": "orders"}}).acknowledged
    assert heard(step.fold, "pong") == Step(step.fold)
    assert heard(step.fold, {"event": "error", "code": "60005", "msg": "no"}).refused


@pytest.mark.parametrize("state", ["live", "canceled", "mmp_canceled"])
def test_an_order_of_okx_is_named(state: str) -> None:
    row = {"ordId": "7", "instId": "BTC-USDT", "state": state, "accFillSz": "0.25"}
    frame = {"arg": {"channel": "orders", "instType": "ANY"}, "data": [row]}
    step = heard(opened(OkxOrderStream).fold, frame)
    filled = Decimal("0.25")
    assert step.orders == (NamedOrder(id="7", market="BTC-USDT", has_ended=state != "live", filled=filled),)


def test_an_order_of_okx_without_an_id_ends_the_connection() -> None:
    frame = {"arg": {"channel": "orders"}, "data": [{"instId": "BTC-USDT"}]}
    assert heard(opened(OkxOrderStream).fold, frame).ended


def test_an_order_of_coinbase_is_named_and_a_gap_ends_the_connection() -> None:
    row = {"order_id": "o", "product_id": "BTC-USD", "status": "FILLED", "cumulative_quantity": "1"}
    fold = opened(CoinbaseOrderStream).fold
    step = heard(fold, user(0, kind="snapshot"), user(1, row))
    assert step.orders == (NamedOrder(id="o", market="BTC-USD", has_ended=True, filled=Decimal(1)),)
    assert heard(step.fold, user(1, row)).asks == ""
    assert heard(step.fold, user(3, row)).ended == "1 frames are missing"


def test_there_is_one_for_each_exchange_with_a_stream_of_ours() -> None:
    assert set(ORDER_STREAMS) == {"kraken", "okx", "coinbase"}
