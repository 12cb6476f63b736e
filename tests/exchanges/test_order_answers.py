"""What the answers to orders prove. An order is placed when the exchange names it, and never otherwise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.exchanges import coinbase, kraken, okx, unified_orders
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.order_answers import FoundOrder, PlacedAfterAll
from brokerwatch.exchanges.order_request import OrderRequest, requested
from brokerwatch.exchanges.refusals import NotTaken
from brokerwatch.messages import Product, Side

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


MARKET: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="BTC-USD")
NOTHING: Final[dict[str, Any]] = {}
BOUGHT: Final = requested(MARKET, "buy", None, Decimal(100), "a")


def by_coinbase(answer: object, request: OrderRequest = BOUGHT) -> str:
    return coinbase.placed(answer, request)


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
    assert kraken.placed(KRAKEN) == "OUF4EM-FRGI2-MQMWZD"
    assert by_coinbase(COINBASE) == "11111-000000"
    assert okx.placed(OKX) == "312269865356374016"


@pytest.mark.parametrize(
    "proof", [kraken.placed, kraken.validated, by_coinbase, coinbase.previewed, okx.placed]
)
@pytest.mark.parametrize("answer", UNREADABLE)
def test_an_answer_that_cannot_be_read_proves_nothing(proof: Any, answer: object) -> None:
    with pytest.raises(UnprovenAnswer):
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
    with pytest.raises(UnprovenAnswer):
        kraken.placed(changed(KRAKEN, path, value))


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
    with pytest.raises(UnprovenAnswer):
        by_coinbase(changed(COINBASE, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((f"success_response.{key}", ...) for key in ("product_id", "side", "client_order_id")),
        ("success_response.product_id", "ETH-USD"),
        ("success_response.side", "SELL"),
        ("success_response.client_order_id", "b"),
        ("order_configuration.market_market_ioc.quote_size", "101"),
        ("order_configuration.market_market_ioc.quote_size", "many"),
        ("order_configuration.market_market_ioc", {"base_size": "100"}),
    ],
)
def test_another_order_that_coinbase_has_under_the_id_is_not_the_one_that_was_sent(
    path: str, value: object
) -> None:
    with pytest.raises(UnprovenAnswer):
        by_coinbase(changed(COINBASE, path, value))


def test_coinbase_may_write_the_size_in_its_own_way_or_not_at_all() -> None:
    for path, value in (
        ("order_configuration.market_market_ioc.quote_size", "100.00"),
        ("order_configuration.market_market_ioc", NOTHING),
        ("order_configuration", None),
        ("order_configuration", ...),
    ):
        assert by_coinbase(changed(COINBASE, path, value)) == "11111-000000"


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
    with pytest.raises(UnprovenAnswer):
        okx.placed(changed(OKX, path, value))


def test_a_no_is_told_apart_from_an_answer_that_cannot_be_read() -> None:
    with pytest.raises(NotTaken, match="EOrder:Insufficient funds"):
        kraken.placed({"error": ["EOrder:Insufficient funds"]})
    with pytest.raises(NotTaken, match="Insufficient funds"):
        kraken.validated({"error": ["EOrder:Insufficient funds"]})
    with pytest.raises(NotTaken, match="INSUFFICIENT_FUND: Insufficient balance"):
        by_coinbase(
            {
                "success": False,
                "error_response": {"error": "INSUFFICIENT_FUND", "message": "Insufficient balance"},
            }
        )
    row = {"clOrdId": "a", "ordId": "", "sCode": "51008", "sMsg": "Insufficient USDT"}
    for code in ("1", "0"):
        with pytest.raises(NotTaken, match="51008: Insufficient USDT"):
            okx.placed({"code": code, "data": [row], "msg": ""})


def test_a_dry_run_of_kraken_is_proven_by_its_description_and_disproven_by_an_order() -> None:
    kraken.validated(changed(KRAKEN, "result.txid", ...))
    kraken.validated(changed(KRAKEN, "result.txid", []))
    with pytest.raises(PlacedAfterAll, match="answered with an order"):
        kraken.validated(KRAKEN)
    for path in ("result.descr", "result.descr.order"):
        with pytest.raises(UnprovenAnswer):
            kraken.validated(changed(changed(KRAKEN, "result.txid", ...), path, ...))


def test_a_preview_of_coinbase_is_proven_by_no_errors_and_sizes() -> None:
    coinbase.previewed(PREVIEW)
    with pytest.raises(NotTaken, match="PREVIEW_INSUFFICIENT_FUND"):
        coinbase.previewed(changed(PREVIEW, "errs", ["PREVIEW_INSUFFICIENT_FUND"]))
    for path, value in (
        ("errs", ...),
        ("errs", ""),
        ("base_size", ...),
        ("quote_size", "many"),
        ("base_size", "NaN"),
    ):
        with pytest.raises(UnprovenAnswer):
            coinbase.previewed(changed(PREVIEW, path, value))


OURS: Final = "d15708c1dbb6465db77d47258319cc90"
NONE_OPEN: Final[dict[str, Any]] = {"error": [], "result": {"open": {}}}
NONE_CLOSED: Final[dict[str, Any]] = {"error": [], "result": {"closed": {}, "count": "0"}}


KRAKEN_ROW: Final[dict[str, Any]] = {
    "status": "closed",
    "reason": None,
    "cl_ord_id": OURS,
    "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "market"},
    "vol": "0.50000000",
    "vol_exec": "0.50000000",
    "cost": "30000.00000",
    "price": "60000.00000",
    "oflags": "fciq",
}
BITCOIN: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="XXBTZUSD")
CODES: Final = {"XBT": "BTC", "XDG": "DOGE", "ZUSD": "USD", "XXBT": "BTC", "LUNA": "LUNC", "LUNA2": "LUNA"}


def code(currency: str) -> str:
    return CODES.get(currency, currency)


def kraken_orders(kind: str, **rows: dict[str, Any]) -> dict[str, Any]:
    return {"error": [], "result": {kind: rows}}


def kraken_row(told: object = OURS, **values: object) -> dict[str, Any]:
    row = {**KRAKEN_ROW, "cl_ord_id": told, **values}
    return {key: value for key, value in row.items() if value is not ...}


def of_kraken(still_open: object, closed: object, ours: str = OURS) -> FoundOrder | None:
    return kraken.found_order(still_open, closed, ours, BITCOIN, code)


def closed_at_kraken(**values: object) -> FoundOrder:
    found = of_kraken(NONE_OPEN, kraken_orders("closed", O1=kraken_row(**values)))
    assert found is not None
    return found


FILLED: Final = FoundOrder("O1", "XXBTZUSD", Side.BUY, Decimal("0.5"), None, Decimal("0.5"), "")


def test_kraken_finds_an_order_that_is_open_or_closed() -> None:
    still = {"status": "open", "vol_exec": "0.00000000"}
    opened = of_kraken(kraken_orders("open", O1=kraken_row(**still)), NONE_CLOSED)
    assert opened == FoundOrder("O1", "XXBTZUSD", Side.BUY, Decimal("0.5"), None, Decimal(0), "")
    for told in (OURS, "D15708C1-dbb6-465d-b77d-47258319cc90"):
        closed = kraken_orders("closed", O2=kraken_row("x"), O1=kraken_row(told))
        assert of_kraken(NONE_OPEN, closed) == FILLED
        # It was filled between the two questions.
        assert of_kraken(kraken_orders("open", O1=kraken_row(**still)), closed) == FILLED
    assert of_kraken(NONE_OPEN, NONE_CLOSED) is None


def test_a_short_id_of_kraken_is_compared_letter_by_letter() -> None:
    for ours, told in (("a-b", "ab"), ("AB", "ab")):
        with pytest.raises(UnprovenAnswer):
            of_kraken(NONE_OPEN, kraken_orders("closed", O2=kraken_row(told)), ours)


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
        (NONE_OPEN, kraken_orders("closed", O1=kraken_row("other"))),
        (NONE_OPEN, kraken_orders("closed", O1=kraken_row(None))),
        (kraken_orders("open", O1=kraken_row("other")), NONE_CLOSED),
        (NONE_OPEN, changed(NONE_CLOSED, "result.count", 3)),
        (NONE_OPEN, kraken_orders("closed", O1=kraken_row(), O2=kraken_row())),
        (kraken_orders("open", O1=kraken_row(status="open")), kraken_orders("closed", O2=kraken_row())),
    ],
)
def test_kraken_has_no_such_order_only_if_both_lists_came_whole_and_empty(
    still_open: object, closed: object
) -> None:
    with pytest.raises(UnprovenAnswer):
        of_kraken(still_open, closed)


def test_kraken_says_why_it_ended_an_order_and_what_was_filled_of_it() -> None:
    ended = closed_at_kraken(status="canceled", reason="Insufficient margin", vol_exec="0.125")
    assert ended.ended == "canceled: Insufficient margin"
    assert ended.filled_base == Decimal("0.125")
    assert closed_at_kraken(status="expired", vol_exec="0").ended == "expired"


def test_what_a_row_of_kraken_does_not_say_is_not_made_up() -> None:
    bare = closed_at_kraken(descr=..., vol=..., vol_exec=..., cost=..., price=..., oflags=..., reason=...)
    assert bare == FoundOrder("O1", "", None, None, None, None, "")


@pytest.mark.parametrize(
    ("pair", "product_id", "symbol", "is_same"),
    [
        ("XBTUSD", "XXBTZUSD", "BTC/USD", True),
        ("XBT/USD", "XXBTZUSD", "BTC/USD", True),
        ("XXBTZUSD", "XXBTZUSD", "BTC/USD", True),
        ("XDGUSD", "XDGUSD", "DOGE/USD", True),
        ("XTZUSD", "XTZUSD", "XTZ/USD", True),
        ("USDTUSD", "USDTZUSD", "USDT/USD", True),
        ("LUNAUSD", "LUNAUSD", "LUNC/USD", True),
        ("ETHUSD", "XXBTZUSD", "BTC/USD", False),
        ("XBTUSDT", "XXBTZUSD", "BTC/USD", False),
        ("LUNA2USD", "LUNAUSD", "LUNC/USD", False),
    ],
)
def test_kraken_calls_a_market_by_its_short_name(
    pair: str, product_id: str, symbol: str, *, is_same: bool
) -> None:
    base, _, quote = symbol.partition("/")
    product = Product(symbol=symbol, base=base, quote=quote, id=product_id)
    closed = kraken_orders("closed", O1=kraken_row(descr={"pair": pair}))
    found = kraken.found_order(NONE_OPEN, closed, OURS, product, code)
    assert found is not None
    assert found.market == (product_id if is_same else pair)


@pytest.mark.parametrize(
    ("values", "filled"),
    [
        ({}, Decimal("0.5")),
        ({"vol_exec": "0.00000000"}, Decimal(0)),
        # In the quote currency, as the older documentation has it.
        ({"vol_exec": "30000", "cost": "0.5"}, None),
        ({"vol_exec": "30000"}, None),
        # Near to 1 the price cannot tell the two currencies apart.
        ({"vol_exec": "100", "cost": "100.2", "price": "1.002"}, None),
        ({"price": ...}, None),
        ({"cost": ...}, None),
        ({"cost": "0.00000"}, None),
        ({"vol_exec": ...}, None),
    ],
)
def test_an_order_by_cost_says_what_it_bought_only_where_kraken_leaves_no_doubt_of_the_currency(
    values: dict[str, Any], filled: Decimal | None
) -> None:
    words = {"oflags": "fciq,viqc", "status": "canceled", "vol": "30000.00000000"}
    found = closed_at_kraken(**words, **values)
    assert (found.ordered_base, found.ordered_quote, found.filled_base) == (None, None, filled)


COINBASE_ROW: Final[dict[str, Any]] = {
    "order_id": "2",
    "client_order_id": "a",
    "product_id": "BTC-USD",
    "side": "BUY",
    "status": "FILLED",
    "filled_size": "0.001",
    "size_in_quote": True,
    "order_configuration": {"market_market_ioc": {"quote_size": "100.00", "rfq_disabled": True}},
    "reject_reason": "REJECT_REASON_UNSPECIFIED",
    "reject_message": "",
    "cancel_message": "",
}


def coinbase_row(**values: object) -> dict[str, Any]:
    return {key: value for key, value in {**COINBASE_ROW, **values}.items() if value is not ...}


def at_coinbase(**values: object) -> FoundOrder:
    found = coinbase.found_order({"orders": [coinbase_row(**values)]}, "a")
    assert found is not None
    return found


BY_BASE: Final = {"market_market_ioc": {"base_size": "0.5"}}


def test_coinbase_finds_an_order_on_a_page_and_says_whether_there_are_more() -> None:
    rows = [coinbase_row(order_id="1", client_order_id="x", status="?"), COINBASE_ROW]
    page: dict[str, Any] = {"orders": rows, "has_next": False, "cursor": ""}
    expected = FoundOrder("2", "BTC-USD", Side.BUY, None, Decimal(100), Decimal("0.001"), "")
    assert coinbase.found_order(page, "a") == expected
    assert coinbase.found_order(page, "b") is None
    assert coinbase.cursor_of(page) is None
    assert coinbase.cursor_of({**page, "has_next": True, "cursor": "789"}) == "789"
    missing: Any = {"orders": []}
    for broken in ({**page, "has_next": "false"}, {**page, "has_next": True}, missing):
        with pytest.raises(UnprovenAnswer):
            coinbase.cursor_of(broken)
    for unreadable in (
        *UNREADABLE,
        {"orders": ["x"]},
        {"orders": [{"client_order_id": "a"}]},
        {"orders": [coinbase_row(client_order_id=...)]},
        {"orders": [coinbase_row(client_order_id=None), COINBASE_ROW]},
        {"orders": [coinbase_row(order_id="")]},
        {"orders": [COINBASE_ROW, coinbase_row(order_id="3")]},
    ):
        with pytest.raises(UnprovenAnswer):
            coinbase.found_order(unreadable, "a")


def test_coinbase_says_why_it_ended_an_order_and_what_was_filled_of_it() -> None:
    failed = at_coinbase(status="FAILED", filled_size="0", reject_reason="INSUFFICIENT_FUND")
    assert (failed.ended, failed.filled_base) == ("FAILED: INSUFFICIENT_FUND", Decimal(0))
    half = at_coinbase(status="CANCELLED", cancel_message="Internal error")
    assert (half.ended, half.filled_base) == ("CANCELLED: Internal error", Decimal("0.001"))
    assert at_coinbase(status="EXPIRED").ended == "EXPIRED"
    for still in ("PENDING", "OPEN", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED"):
        assert at_coinbase(status=still, filled_size="0").ended == ""


def test_what_a_row_of_coinbase_does_not_say_is_not_made_up() -> None:
    unsaid = dict.fromkeys(("product_id", "side", "filled_size", "order_configuration", "size_in_quote"), ...)
    assert at_coinbase(**unsaid) == FoundOrder("2", "", None, None, None, None, "")
    sold = at_coinbase(side="SELL", order_configuration=BY_BASE, size_in_quote=False, filled_size="0.50")
    assert (sold.side, sold.ordered_base, sold.ordered_quote) == (Side.SELL, Decimal("0.5"), None)


OKX_ROW: Final[dict[str, Any]] = {
    "ordId": "7",
    "clOrdId": "a",
    "instId": "BTC-USD",
    "side": "sell",
    "state": "filled",
    "sz": "0.5",
    "tgtCcy": "base_ccy",
    "accFillSz": "0.5",
}


def at_okx(**values: object) -> FoundOrder:
    row = {key: value for key, value in {**OKX_ROW, **values}.items() if value is not ...}
    return okx.found_order({"code": "0", "msg": "", "data": [row]}, "a")


def test_okx_finds_the_one_order_that_was_asked_for() -> None:
    assert at_okx() == FoundOrder("7", "BTC-USD", Side.SELL, Decimal("0.5"), None, Decimal("0.5"), "")
    answer: dict[str, Any] = {"code": "0", "msg": "", "data": [OKX_ROW]}
    for broken in (
        *UNREADABLE,
        changed(answer, "data", []),
        changed(answer, "data", [OKX_ROW, OKX_ROW]),
        changed(answer, "data.0.clOrdId", "b"),
        changed(answer, "data.0.clOrdId", ...),
        changed(answer, "data.0.ordId", ""),
        changed(answer, "code", "1"),
    ):
        with pytest.raises(UnprovenAnswer):
            okx.found_order(broken, "a")


def test_okx_says_why_it_ended_an_order_and_what_was_filled_of_it() -> None:
    reason = "The order was canceled by the system."
    ended = at_okx(state="canceled", accFillSz="0.125", cancelSourceReason=reason)
    assert (ended.ended, ended.filled_base) == (f"canceled: {reason}", Decimal("0.125"))
    assert at_okx(state="mmp_canceled", accFillSz="0").ended == "mmp_canceled"
    for still in ("live", "partially_filled"):
        assert at_okx(state=still, accFillSz="0").ended == ""


def test_what_a_row_of_okx_does_not_say_is_not_made_up() -> None:
    by_cost = at_okx(side="buy", sz="100", tgtCcy="quote_ccy")
    assert (by_cost.ordered_base, by_cost.ordered_quote) == (None, Decimal(100))
    for unit in (..., "", None):
        # What a size without its unit means depends on the side and the kind of order.
        bare = at_okx(tgtCcy=unit, instId=..., side=..., accFillSz="")
        assert bare == FoundOrder("7", "", None, None, None, None, "")


UNIFIED_ROW: Final[dict[str, Any]] = {
    "id": "9",
    "clientOrderId": "a",
    "symbol": "BTC/USD",
    "side": "buy",
    "status": "closed",
    "amount": 0.1,
    "filled": "0.1",
}


def unified_row(**values: object) -> dict[str, Any]:
    return {key: value for key, value in {**UNIFIED_ROW, **values}.items() if value is not ...}


def listed(*rows: object, page: int = 10) -> tuple[list[object], int]:
    return list(rows), page


def at_unified(**values: object) -> FoundOrder:
    found = unified_orders.found_order([listed(unified_row(**values))], "a", MARKET)
    assert found is not None
    return found


def test_ccxt_finds_an_order_in_a_list_of_the_market() -> None:
    whole = FoundOrder("9", "BTC-USD", Side.BUY, Decimal("0.1"), None, Decimal("0.1"), "")
    other = unified_row(id="8", clientOrderId="x")
    still = unified_row(status="open", filled="0")
    assert unified_orders.found_order([listed(other), listed(other, UNIFIED_ROW)], "a", MARKET) == whole
    # It was filled between the two questions; a page that is full is no doubt of what stands on it.
    assert unified_orders.found_order([listed(still), listed(UNIFIED_ROW, page=1)], "a", MARKET) == whole
    assert unified_orders.found_order([listed(other), listed()], "a", MARKET) is None
    bare = at_unified(symbol=..., side=None, amount=None, filled=...)
    assert bare == FoundOrder("9", "", None, None, None, None, "")
    for word in ("canceled", "expired", "rejected"):
        ended = at_unified(status=word, filled=0.05)
        assert (ended.ended, ended.filled_base) == (word, Decimal("0.05"))


@pytest.mark.parametrize(
    "lists",
    [
        [listed(unified_row(clientOrderId="x"), page=1)],
        [listed(), listed(*(unified_row(clientOrderId="x") for _ in range(11)))],
        [listed(unified_row(clientOrderId=None))],
        [listed(unified_row(clientOrderId=""), unified_row(clientOrderId="x"))],
        [listed(unified_row(clientOrderId=...)), listed()],
        [listed(unified_row(clientOrderId="x", symbol="ETH/USD"))],
        [listed(unified_row(symbol="ETH/USD"))],
        [listed(UNIFIED_ROW, unified_row(id="10"))],
        [listed(UNIFIED_ROW), listed(unified_row(id="10"))],
        [listed("x")],
        [(None, 10)],
        [(NOTHING, 10)],
    ],
)
def test_a_list_of_ccxt_that_is_full_or_says_no_ids_proves_the_absence_of_nothing(lists: Any) -> None:
    with pytest.raises(UnprovenAnswer):
        unified_orders.found_order(lists, "a", MARKET)


def of_row_of_kraken(word: str, done: object, size: object = "0.5", side: str = "buy") -> FoundOrder:
    return closed_at_kraken(status=word, vol_exec=done, vol=size, descr={"type": side})


def of_row_of_coinbase(word: str, done: object, size: object = "0.5", side: str = "BUY") -> FoundOrder:
    sizes = {"market_market_ioc": {"base_size": size}}
    return at_coinbase(
        status=word, filled_size=done, order_configuration=sizes, size_in_quote=False, side=side
    )


def of_row_of_okx(word: str, done: object, size: object = "0.5", side: str = "buy") -> FoundOrder:
    return at_okx(state=word, accFillSz=done, sz=size, side=side)


def of_row_of_ccxt(word: str, done: object, size: object = "0.5", side: str = "buy") -> FoundOrder:
    return at_unified(status=word, filled=done, amount=size, side=side)


ROWS: Final = [
    (of_row_of_kraken, "closed", "canceled", "open"),
    (of_row_of_coinbase, "FILLED", "CANCELLED", "OPEN"),
    (of_row_of_okx, "filled", "canceled", "live"),
    (of_row_of_ccxt, "closed", "canceled", "open"),
]


@pytest.mark.parametrize(("row", "filled", "ended", "still"), ROWS)
def test_a_row_that_contradicts_itself_or_cannot_be_read_proves_nothing(
    row: Callable[..., FoundOrder], filled: str, ended: str, still: str
) -> None:
    assert row(filled, "0.50").filled_base == Decimal("0.5")
    assert row(ended, "0.25").filled_base == row(still, "0.25").filled_base == Decimal("0.25")
    for word, done in (
        (filled, "0"),
        (filled, "0.49999999"),
        (filled, "0.50000001"),
        (ended, "0.6"),
        (still, "0.6"),
        (still, "-0.1"),
        (filled, "NaN"),
        (filled, "many"),
        ("", "0.5"),
        ("unheard_of", "0.5"),
        (None, "0.5"),
        (7, "0.5"),
    ):
        with pytest.raises(UnprovenAnswer):
            row(word, done)
    with pytest.raises(UnprovenAnswer):
        row(filled, "0", size=None)
    with pytest.raises(UnprovenAnswer):
        row(still, "0", "0.0")
    for size in ("many", "-1", "NaN", ["0.5"]):
        with pytest.raises(UnprovenAnswer):
            row(filled, "0.5", size)
    with pytest.raises(UnprovenAnswer, match="side"):
        row(filled, "0.5", side="hold")


def test_a_size_of_coinbase_that_contradicts_its_currency_proves_nothing() -> None:
    both = {"market_market_ioc": {"base_size": "0.5", "quote_size": "100"}}
    for configuration, in_quote in ((both, True), (both, ...), (BY_BASE, True)):
        with pytest.raises(UnprovenAnswer, match="contradicts itself"):
            at_coinbase(order_configuration=configuration, size_in_quote=in_quote)
    for unreadable in ("x", ["x"], {"market_market_ioc": "x"}):
        with pytest.raises(UnprovenAnswer):
            at_coinbase(order_configuration=unreadable)


# --- how far it is, at which price, and for which fee -------------------------------------------------


@pytest.mark.parametrize(
    ("found", "state", "price", "fee"),
    [
        (closed_at_kraken(price="60000.1", fee="12.5", oflags="fciq"), "filled", "60000.1", "12.5 USD"),
        (closed_at_kraken(price="60000.1", fee="0.0001", oflags="fcib"), "filled", "60000.1", "0.0001 BTC"),
        (closed_at_kraken(price="0", fee="1", oflags="post"), "filled", None, "None "),
        (closed_at_kraken(status="open", vol_exec="0.2"), "partially_filled", "60000.00000", "None "),
        (closed_at_kraken(status="canceled", vol_exec="0.2", price="1"), "cancelled", "1", "None "),
        (closed_at_kraken(status="open", vol_exec="0", price="5"), "accepted", None, "None "),
        (at_coinbase(average_filled_price="60000", total_fees="0.6"), "filled", "60000", "0.6 USD"),
        (at_coinbase(average_filled_price="?", total_fees=""), "filled", None, "None "),
        (at_okx(avgPx="60000", fee="-0.0003", feeCcy="USD"), "filled", "60000", "0.0003 USD"),
        (at_okx(fee="0.1", feeCcy="BTC"), "filled", None, "-0.1 BTC"),
        (at_okx(fee="0", feeCcy="BTC"), "filled", None, "0 BTC"),
        (at_okx(fee="-1", feeCcy=""), "filled", None, "None "),
        (at_okx(state="partially_filled", accFillSz="0.1"), "partially_filled", None, "None "),
        (
            at_unified(average=60000.5, fee={"cost": 0.25, "currency": "USD"}),
            "filled",
            "60000.5",
            "0.25 USD",
        ),
        (at_unified(fee={"cost": 1}), "filled", None, "None "),
        (at_unified(fee=None, status="open", filled="0.05"), "partially_filled", None, "None "),
    ],
)
def test_an_order_says_how_far_it_is_at_which_price_and_for_which_fee(
    found: FoundOrder, state: str, price: str | None, fee: str
) -> None:
    assert found.state == state
    assert found.average_price == (None if price is None else Decimal(price))
    assert f"{found.fee} {found.fee_currency}" == fee
    assert found.is_over == (state in ("filled", "cancelled"))


def test_an_order_is_read_by_the_exchange_s_own_id_of_it() -> None:
    row = kraken_row()
    assert kraken.order_at({"error": [], "result": {"O1": row}}, "O1", BITCOIN, code) == FILLED
    assert coinbase.order_at({"order": COINBASE_ROW}, "2").order_id == "2"
    assert okx.order_at({"code": "0", "msg": "", "data": [OKX_ROW]}, "7").order_id == "7"
    assert unified_orders.order_at(unified_row(), "9", MARKET).order_id == "9"
    with pytest.raises(UnprovenAnswer):
        kraken.order_at({"error": [], "result": {}}, "O1", BITCOIN, code)
    with pytest.raises(UnprovenAnswer):
        kraken.order_at({"error": [], "result": {"O2": row}}, "O1", BITCOIN, code)
    for answer in ({"order": {**COINBASE_ROW, "order_id": "3"}}, {}):
        with pytest.raises(UnprovenAnswer):
            coinbase.order_at(answer, "2")
    with pytest.raises(UnprovenAnswer):
        okx.order_at({"code": "0", "msg": "", "data": [OKX_ROW]}, "8")
    for answer in (unified_row(id="8"), {}):
        with pytest.raises(UnprovenAnswer):
            unified_orders.order_at(answer, "9", MARKET)
