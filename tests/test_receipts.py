"""What the answers to orders prove. An order is placed when the exchange names it, and never otherwise."""

from __future__ import annotations

import copy
from typing import Any, Final

import pytest

from brokerwatch.envelopes import NotProof
from brokerwatch.receipts import (
    coinbase_cursor,
    coinbase_found,
    coinbase_placed,
    coinbase_previewed,
    kraken_found,
    kraken_placed,
    kraken_validated,
    okx_found,
    okx_placed,
)
from brokerwatch.refusals import NotTaken

UNREADABLE: Final[tuple[Any, ...]] = (
    None,
    "",
    "placed",
    [],
    {},
    7,
    {"error": None},
    {"result": {}},
    {"code": "0"},
    {"success": None},
)
KRAKEN: Final[dict[str, Any]] = {
    "error": [],
    "result": {"descr": {"order": "buy 1.00000000 XBTUSD @ market"}, "txid": ["OUF4EM-FRGI2-MQMWZD"]},
}
COINBASE: Final[dict[str, Any]] = {
    "success": True,
    "success_response": {
        "order_id": "11111-000000",
        "product_id": "BTC-USD",
        "side": "BUY",
        "client_order_id": "a",
    },
    "order_configuration": {"market_market_ioc": {"quote_size": "100"}},
}
OKX: Final[dict[str, Any]] = {
    "code": "0",
    "msg": "",
    "data": [{"clOrdId": "a", "ordId": "312269865356374016", "tag": "", "sCode": "0", "sMsg": ""}],
}
PREVIEW: Final[dict[str, Any]] = {
    "order_total": "100",
    "errs": [],
    "warning": [],
    "quote_size": "100",
    "base_size": "0.001",
    "preview_id": "b1",
}


def changed(answer: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """The answer with another value at one place; without it, for `...`."""
    found = copy.deepcopy(answer)
    inner: Any = found
    *above, last = path.split(".")
    for key in above:
        inner = inner[int(key)] if key.isdigit() else inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return found


def test_a_placed_order_is_known_by_the_exchanges_id() -> None:
    assert kraken_placed(KRAKEN) == "OUF4EM-FRGI2-MQMWZD"
    assert coinbase_placed(COINBASE) == "11111-000000"
    assert okx_placed(OKX) == "312269865356374016"


@pytest.mark.parametrize(
    "proof", [kraken_placed, kraken_validated, coinbase_placed, coinbase_previewed, okx_placed]
)
@pytest.mark.parametrize("answer", UNREADABLE)
def test_an_answer_that_cannot_be_read_proves_nothing(proof: Any, answer: object) -> None:
    with pytest.raises(NotProof):
        proof(answer)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("result.txid", ...),
        ("result.txid", []),
        ("result.txid", ["O1", "O2"]),
        ("result.txid", [""]),
        ("result.txid", [None]),
        ("result.txid", [7]),
        ("result.txid", "O1"),
        ("result", ...),
        ("error", ...),
        ("error", ["EService:Unavailable"]),
        ("error", ["EOrder:Insufficient funds"]),
        ("error", ["WOrder:Beware"]),
    ],
)
def test_kraken_without_one_id_and_no_error_proves_nothing(path: str, value: object) -> None:
    with pytest.raises(NotProof):
        kraken_placed(changed(KRAKEN, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("success", ...),
        ("success", "true"),
        ("success", None),
        ("success", False),
        ("success_response", ...),
        ("success_response.order_id", ...),
        ("success_response.order_id", ""),
        ("success_response.order_id", None),
    ],
)
def test_coinbase_without_success_and_an_id_proves_nothing(path: str, value: object) -> None:
    with pytest.raises(NotProof):
        coinbase_placed(changed(COINBASE, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("code", "1"),
        ("code", "2"),
        ("code", ...),
        ("data", []),
        ("data", [OKX["data"][0], OKX["data"][0]]),
        ("data", ["x"]),
        ("data.0.sCode", "1"),
        ("data.0.sCode", "51008"),
        ("data.0.sCode", ...),
        ("data.0.ordId", ""),
        ("data.0.ordId", ...),
    ],
)
def test_okx_without_both_codes_and_one_id_proves_nothing(path: str, value: object) -> None:
    with pytest.raises(NotProof):
        okx_placed(changed(OKX, path, value))


def test_a_no_is_told_apart_from_an_answer_that_cannot_be_read() -> None:
    with pytest.raises(NotTaken, match="EOrder:Insufficient funds"):
        kraken_placed({"error": ["EOrder:Insufficient funds"]})
    with pytest.raises(NotTaken, match="Insufficient funds"):
        kraken_validated({"error": ["EOrder:Insufficient funds"]})
    with pytest.raises(NotTaken, match="INSUFFICIENT_FUND: Insufficient balance"):
        coinbase_placed(
            {
                "success": False,
                "error_response": {"error": "INSUFFICIENT_FUND", "message": "Insufficient balance"},
            }
        )
    row = {"clOrdId": "a", "ordId": "", "sCode": "51008", "sMsg": "Insufficient USDT"}
    for code in ("1", "0"):
        with pytest.raises(NotTaken, match="51008: Insufficient USDT"):
            okx_placed({"code": code, "data": [row], "msg": ""})


def test_a_dry_run_of_kraken_is_proven_by_its_description_and_disproven_by_an_order() -> None:
    kraken_validated(changed(KRAKEN, "result.txid", ...))
    kraken_validated(changed(KRAKEN, "result.txid", []))
    with pytest.raises(NotProof, match="answered with an order"):
        kraken_validated(KRAKEN)
    for path in ("result.descr", "result.descr.order"):
        with pytest.raises(NotProof):
            kraken_validated(changed(changed(KRAKEN, "result.txid", ...), path, ...))


def test_a_preview_of_coinbase_is_proven_by_no_errors_and_sizes() -> None:
    coinbase_previewed(PREVIEW)
    with pytest.raises(NotTaken, match="PREVIEW_INSUFFICIENT_FUND"):
        coinbase_previewed(changed(PREVIEW, "errs", ["PREVIEW_INSUFFICIENT_FUND"]))
    for path, value in (
        ("errs", ...),
        ("errs", ""),
        ("base_size", ...),
        ("quote_size", "many"),
        ("base_size", "NaN"),
    ):
        with pytest.raises(NotProof):
            coinbase_previewed(changed(PREVIEW, path, value))


OURS: Final = "d15708c1dbb6465db77d47258319cc90"
NONE_OPEN: Final[dict[str, Any]] = {"error": [], "result": {"open": {}}}
NONE_CLOSED: Final[dict[str, Any]] = {"error": [], "result": {"closed": {}, "count": "0"}}


def kraken_orders(kind: str, **ids: object) -> dict[str, Any]:
    return {"error": [], "result": {kind: {name: {"cl_ord_id": told} for name, told in ids.items()}}}


def test_kraken_finds_an_order_that_is_open_or_closed() -> None:
    assert kraken_found(kraken_orders("open", O1=OURS), NONE_CLOSED, OURS) == "O1"
    assert kraken_found(NONE_OPEN, kraken_orders("closed", O2=OURS), OURS) == "O2"
    assert kraken_found(NONE_OPEN, kraken_orders("closed", O1="x", O2=OURS), OURS) == "O2"
    hyphens = "D15708C1-dbb6-465d-b77d-47258319cc90"
    assert kraken_found(NONE_OPEN, kraken_orders("closed", O2=hyphens), OURS) == "O2"
    assert kraken_found(NONE_OPEN, NONE_CLOSED, OURS) is None


def test_a_short_id_of_kraken_is_compared_letter_by_letter() -> None:
    for ours, told in (("a-b", "ab"), ("AB", "ab")):
        with pytest.raises(NotProof):
            kraken_found(NONE_OPEN, kraken_orders("closed", O2=told), ours)


@pytest.mark.parametrize(
    ("still_open", "closed"),
    [
        (NONE_OPEN, None),
        (None, NONE_CLOSED),
        (NONE_OPEN, {"error": []}),
        (NONE_OPEN, {"error": [], "result": {}}),
        ({"error": [], "result": {"open": []}}, NONE_CLOSED),
        (NONE_OPEN, {"error": ["EService:Busy"], "result": {"closed": {}}}),
        (NONE_CLOSED, NONE_OPEN),
        (NONE_OPEN, kraken_orders("closed", O1="other")),
        (NONE_OPEN, kraken_orders("closed", O1=None)),
        (kraken_orders("open", O1="other"), NONE_CLOSED),
    ],
)
def test_kraken_has_no_such_order_only_if_both_lists_came_whole_and_empty(
    still_open: object, closed: object
) -> None:
    with pytest.raises(NotProof):
        kraken_found(still_open, closed, OURS)


def test_coinbase_finds_an_order_on_a_page_and_says_whether_there_are_more() -> None:
    page: dict[str, Any] = {
        "orders": [{"order_id": "1", "client_order_id": "x"}, {"order_id": "2", "client_order_id": "a"}],
        "has_next": False,
        "cursor": "",
    }
    assert coinbase_found(page, "a") == "2"
    assert coinbase_found(page, "b") is None
    assert coinbase_cursor(page) is None
    assert coinbase_cursor({**page, "has_next": True, "cursor": "789"}) == "789"
    missing: Any = {"orders": []}
    for broken in ({**page, "has_next": "false"}, {**page, "has_next": True}, missing):
        with pytest.raises(NotProof):
            coinbase_cursor(broken)
    for unreadable in (*UNREADABLE, {"orders": ["x"]}, {"orders": [{"client_order_id": "a"}]}):
        with pytest.raises(NotProof):
            coinbase_found(unreadable, "a")


def test_okx_finds_the_one_order_that_was_asked_for() -> None:
    assert okx_found(OKX, "a") == "312269865356374016"
    for broken in (
        *UNREADABLE,
        changed(OKX, "data", []),
        changed(OKX, "data.0.clOrdId", "b"),
        changed(OKX, "data.0.clOrdId", ...),
        changed(OKX, "data.0.ordId", ""),
        changed(OKX, "code", "1"),
    ):
        with pytest.raises(NotProof):
            okx_found(broken, "a")
