"""What proves a balance and what does not: an answer is read whole and exactly, or it is refused."""

from __future__ import annotations

import copy
import decimal
import itertools
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, cast

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch import answers
from brokerwatch.answers import NotProof
from brokerwatch.messages import Holding, total

_IDS: Final = itertools.count()
"""Every account has an id of its own."""
Read = Callable[[Any], Mapping[str, Holding]]
Path = tuple[str | int, ...]


def held(free: str, used: str, total: str) -> Holding:
    return Holding(free=Decimal(free), used=Decimal(used), total=Decimal(total))


def as_it_is(code: str) -> str:
    return code


def kraken(answer: object) -> Mapping[str, Holding]:
    return answers.kraken(answer, as_it_is)


def okx(answer: object) -> Mapping[str, Holding]:
    return answers.okx(answer, as_it_is)


def coinbase(answer: object) -> Mapping[str, Holding]:
    found: dict[str, Holding] = {}
    assert answers.coinbase_page(answer, as_it_is, found, set()) is None
    return found


def coinbase_account(currency: str, free: str, used: str, **values: object) -> dict[str, object]:
    return {
        "uuid": f"8bfc20d7-{next(_IDS)}",
        "name": f"{currency} wallet",
        "type": "ACCOUNT_TYPE_CRYPTO",
        "available_balance": {"value": free, "currency": currency},
        "hold": {"value": used, "currency": currency},
        **values,
    }


def okx_detail(currency: str, **values: object) -> dict[str, object]:
    return {
        "ccy": currency,
        "eq": "5",
        "availEq": "3",
        "availBal": "3",
        "frozenBal": "2",
        "uTime": "1",
        **values,
    }


KRAKEN: Final[dict[str, Any]] = {
    "error": [],
    "result": {
        "ZUSD": {"balance": "1250.5000", "hold_trade": "250.2500"},
        "XXBT": {"balance": "0.7500000001", "hold_trade": "0"},
        "USDT": {"balance": "0", "hold_trade": "0.0"},
    },
}
COINBASE: Final[dict[str, Any]] = {
    "accounts": [
        coinbase_account("USD", "3100.55", "12", type="ACCOUNT_TYPE_FIAT"),
        coinbase_account("BTC", "0.00000001", "0"),
    ],
    "has_next": False,
    "cursor": "",
    "size": 2,
}
OKX: Final[dict[str, Any]] = {
    "code": "0",
    "msg": "",
    "data": [{"uTime": "1", "totalEq": "9", "details": [okx_detail("USDT"), okx_detail("BTC", eq="5.0")]}],
}
UNIFIED: Final[dict[str, Any]] = {
    "info": {"whatever": 1},
    "free": {"USD": "7.5", "BTC": "1"},
    "used": {"USD": "0", "BTC": "0"},
    "total": {"USD": "7.5", "BTC": "1"},
}
ANSWERS: Final[Mapping[str, tuple[Read, dict[str, Any], Mapping[str, Holding]]]] = {
    "kraken": (
        kraken,
        KRAKEN,
        {
            "ZUSD": held("1000.2500", "250.2500", "1250.5000"),
            "XXBT": held("0.7500000001", "0", "0.7500000001"),
            "USDT": held("0", "0", "0"),
        },
    ),
    "coinbase": (
        coinbase,
        COINBASE,
        {"USD": held("3100.55", "12", "3112.55"), "BTC": held("0.00000001", "0", "0.00000001")},
    ),
    "okx": (okx, OKX, {"USDT": held("3", "2", "5"), "BTC": held("3", "2", "5.0")}),
    "unified": (answers.unified, UNIFIED, {"USD": held("7.5", "0", "7.5"), "BTC": held("1", "0", "1")}),
}

every_exchange = pytest.mark.parametrize(("read", "answer", "expected"), ANSWERS.values(), ids=list(ANSWERS))


@every_exchange
def test_a_whole_answer_is_read_exactly(
    read: Read, answer: dict[str, Any], expected: Mapping[str, Holding]
) -> None:
    assert read(answer) == expected


@every_exchange
def test_reading_changes_nothing_in_the_answer(
    read: Read, answer: dict[str, Any], expected: Mapping[str, Holding]
) -> None:
    before = copy.deepcopy(answer)
    read(answer)
    assert answer == before


NO_ANSWERS: Final = [None, "", "ok", 0, 1.5, True, [], [1], {}, {"status": "ok"}, {"error": "x"}, {1: 2}]


@every_exchange
@pytest.mark.parametrize("junk", NO_ANSWERS, ids=repr)
def test_what_is_not_the_envelope_of_the_exchange_proves_nothing(
    read: Read, answer: dict[str, Any], expected: Mapping[str, Holding], junk: object
) -> None:
    with pytest.raises(NotProof):
        read(junk)


# --- one node of a good answer spoiled --------------------------------------------------------------


def nodes(value: object, path: Path = ()) -> Iterator[Path]:
    """The path of every node below the top."""
    inner: list[tuple[str | int, object]]
    if isinstance(value, dict):
        inner = [*cast("dict[str, object]", value).items()]
    elif isinstance(value, list):
        inner = [*enumerate(cast("list[object]", value))]
    else:
        return
    for key, child in inner:
        yield (*path, key)
        yield from nodes(child, (*path, key))


def parent_of(answer: Any, path: Path) -> Any:
    for step in path[:-1]:
        answer = answer[step]
    return answer


# An amount, a currency or a flag that cannot be read; an amount that can be read would be another truth.
JUNK: Final[list[object]] = [
    None,
    "",
    "NaN",
    "-Infinity",
    "n/a",
    "1,5",
    "0x10",
    "1" * 31,
    1.5,
    True,
    [],
    {},
    [[]],
    {"a": {}},
]
NAMES: Final = ("currency", "ccy")
FLAGS: Final = ("has_next",)
COLLECTIONS: Final = ("result", "accounts", "details")


def spoilings(answer: dict[str, Any]) -> list[tuple[Path, object]]:
    """Every way to spoil one node. Left out is only what makes another good answer."""
    found: list[tuple[Path, object]] = []
    for path in nodes(answer):
        last, value = path[-1], parent_of(answer, path)[path[-1]]
        listed = isinstance(last, int) or (len(path) > 1 and path[-2] in ("result", "free", "used", "total"))
        if not listed:
            found.append((path, DELETED))  # a row less is an account that holds less
        for junk in JUNK:
            fine = (
                (last in NAMES and isinstance(junk, str) and junk)  # a currency may have any name
                or (last in FLAGS and isinstance(junk, bool))
                or (last in COLLECTIONS and isinstance(junk, type(value)) and not junk)  # an empty account
                or last == "type"  # which accounts count has its own tests
            )
            if not fine:
                found.append((path, junk))
    return found


class Deleted:
    def __repr__(self) -> str:
        return "deleted"


DELETED: Final = Deleted()


def spoiled(answer: dict[str, Any], path: Path, junk: object) -> dict[str, Any]:
    changed = copy.deepcopy(answer)
    try:
        parent = parent_of(changed, path)
        if junk is DELETED:
            del parent[path[-1]]
        else:
            parent[path[-1]] = copy.deepcopy(junk)
    except (KeyError, IndexError, TypeError):
        pass  # an earlier spoiling took this node away
    return changed


@every_exchange
@given(data=st.data())
def test_a_spoiled_answer_is_refused_or_says_the_same_and_is_never_partial_or_empty(
    read: Read, answer: dict[str, Any], expected: Mapping[str, Holding], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(spoilings(answer)), min_size=1, max_size=3))
    changed = answer
    for path, junk in chosen:
        changed = spoiled(changed, path, junk)
    try:
        found = read(changed)
    except NotProof:
        return
    assert found == expected, f"{changed} was read as {found}"


UNREADABLE: Final[list[object]] = ["NaN", "Infinity", "n/a", 1.5, True, [], {}]


@every_exchange
def test_every_single_amount_that_cannot_be_read_refuses_the_whole_answer(
    read: Read, answer: dict[str, Any], expected: Mapping[str, Holding]
) -> None:
    amounts = [
        path
        for path in nodes(answer)
        if path[-1] in ("balance", "hold_trade", "value", "eq", "availEq")
        or (path[0] in ("free", "total") and len(path) == 2)
    ]
    assert len(amounts) >= 4
    for path in amounts:
        for junk in UNREADABLE:
            with pytest.raises(NotProof):
                read(spoiled(answer, path, junk))


@every_exchange
@given(junk=st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
))  # fmt: skip
def test_any_json_is_read_or_is_no_proof_and_nothing_else(
    read: Read, answer: dict[str, Any], expected: Mapping[str, Holding], junk: object
) -> None:
    for key in answer:
        try:
            found = read({**answer, key: junk})
        except NotProof:
            continue
        assert found == expected or junk in ({}, [])


# --- Kraken --------------------------------------------------------------------------------------


def test_an_empty_kraken_account_is_a_balance() -> None:
    assert kraken({"error": [], "result": {}}) == {}


def test_a_kraken_answer_without_a_result_is_not_an_empty_account() -> None:
    with pytest.raises(NotProof, match="result is missing"):
        kraken({"error": []})


@pytest.mark.parametrize(
    "said", [["EService:Busy"], ["WGeneral:Some balances may be delayed"], [""], ["a", "b"]]
)
def test_a_kraken_answer_with_an_error_or_a_warning_beside_the_result_proves_nothing(said: list[str]) -> None:
    with pytest.raises(NotProof, match="the answer carries"):
        kraken({**KRAKEN, "error": said})


def test_a_kraken_credit_line_can_be_spent_as_far_as_it_is_not_used() -> None:
    row = {"balance": "100", "credit": "50.5", "credit_used": "20.25", "hold_trade": "10"}
    assert kraken({"error": [], "result": {"ZUSD": row}}) == {"ZUSD": held("120.25", "10", "100")}


@pytest.mark.parametrize("key", ["credit", "credit_used"])
def test_a_kraken_credit_line_that_cannot_be_read_proves_nothing(key: str) -> None:
    row = {"balance": "100", "credit": "50", "credit_used": "20", "hold_trade": "10", key: "n/a"}
    with pytest.raises(NotProof, match=f"{key} of ZUSD"):
        kraken({"error": [], "result": {"ZUSD": row}})


def test_more_may_be_held_than_kraken_states_as_balance() -> None:
    row = {"balance": "1", "hold_trade": "1.5"}
    assert kraken({"error": [], "result": {"XXBT": row}}) == {"XXBT": held("-0.5", "1.5", "1")}


def test_kraken_codes_go_through_the_table_of_ccxt_and_not_by_stripping_letters() -> None:
    codes = {
        "ZUSD": "USD",
        "ZEUR": "EUR",
        "XXBT": "BTC",
        "XETH": "ETH",
        "XTZ": "XTZ",
        "ZRX": "ZRX",
        "USDC": "USDC",
    }
    result = {code: {"balance": str(number), "hold_trade": "0"} for number, code in enumerate(codes)}
    found = answers.kraken({"error": [], "result": result}, cast("Any", ccxt.kraken()).safe_currency_code)
    assert {code: int(one.total) for code, one in found.items()} == {
        common: number for number, common in enumerate(codes.values())
    }


# --- Coinbase ------------------------------------------------------------------------------------


def test_a_coinbase_vault_is_no_money_to_trade_with() -> None:
    vault = coinbase_account("BTC", "5", "0", type="ACCOUNT_TYPE_VAULT")
    assert coinbase({**COINBASE, "accounts": [vault, coinbase_account("BTC", "1", "0")]}) == {
        "BTC": held("1", "0", "1")
    }


def test_a_coinbase_account_without_a_type_counts() -> None:
    account = coinbase_account("BTC", "1", "0")
    del account["type"]
    assert coinbase({**COINBASE, "accounts": [account]}) == {"BTC": held("1", "0", "1")}


def test_two_coinbase_accounts_in_one_currency_are_added_up() -> None:
    accounts = [coinbase_account("USDC", "1.5", "0.5"), coinbase_account("USDC", "2", "1")]
    assert coinbase({**COINBASE, "accounts": accounts}) == {"USDC": held("3.5", "1.5", "5.0")}


def test_the_pages_of_coinbase_are_one_balance() -> None:
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    first = {"accounts": [coinbase_account("USD", "1", "0")], "has_next": True, "cursor": "next"}
    assert answers.coinbase_page(first, as_it_is, found, seen) == "next"
    last = {"accounts": [coinbase_account("USD", "2", "3")], "has_next": False, "cursor": ""}
    assert answers.coinbase_page(last, as_it_is, found, seen) is None
    assert found == {"USD": held("3", "3", "6")}


@pytest.mark.parametrize("cursor", [None, "", 7, []], ids=repr)
def test_a_coinbase_page_that_promises_another_and_does_not_say_where_proves_nothing(cursor: object) -> None:
    with pytest.raises(NotProof, match="cursor of the next page"):
        answers.coinbase_page({**COINBASE, "has_next": True, "cursor": cursor}, as_it_is, {}, set())


@pytest.mark.parametrize("has_next", [None, "false", 0, 1, []], ids=repr)
def test_a_coinbase_page_that_does_not_say_whether_it_is_the_last_proves_nothing(has_next: object) -> None:
    with pytest.raises(NotProof, match="has_next"):
        answers.coinbase_page({**COINBASE, "has_next": has_next}, as_it_is, {}, set())


def test_an_empty_coinbase_account_is_a_balance() -> None:
    assert coinbase({**COINBASE, "accounts": []}) == {}


# --- OKX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", None], ids=repr)
def test_okx_in_spot_mode_leaves_the_equity_empty_and_the_balance_is_what_is_free(empty: object) -> None:
    detail = okx_detail("USDT", availEq=empty, availBal="2.5")
    assert okx({**OKX, "data": [{"details": [detail]}]}) == {"USDT": held("2.5", "2", "5")}


def test_okx_in_margin_mode_counts_the_equity_as_free() -> None:
    detail = okx_detail("USDT", availEq="1.25", availBal="3")
    assert okx({**OKX, "data": [{"details": [detail]}]}) == {"USDT": held("1.25", "2", "5")}


def test_okx_that_states_an_equity_of_zero_means_zero() -> None:
    detail = okx_detail("USDT", availEq="0", availBal="3")
    assert okx({**OKX, "data": [{"details": [detail]}]})["USDT"].free == 0


@pytest.mark.parametrize("empty", ["", None], ids=repr)
def test_okx_without_a_frozen_amount_holds_what_is_not_free(empty: object) -> None:
    detail = okx_detail("USDT", frozenBal=empty, availEq="1")
    assert okx({**OKX, "data": [{"details": [detail]}]}) == {"USDT": held("1", "4", "5")}


@pytest.mark.parametrize(
    "free", [{"availEq": "", "availBal": ""}, {"availEq": None, "availBal": None}], ids=repr
)
def test_okx_that_states_nothing_as_free_proves_nothing(free: dict[str, object]) -> None:
    with pytest.raises(NotProof, match="USDT"):
        okx({**OKX, "data": [{"details": [okx_detail("USDT", **free)]}]})


def test_several_rows_of_okx_are_one_balance() -> None:
    data = [{"details": [okx_detail("USDT")]}, {"details": [okx_detail("USDT"), okx_detail("ETH")]}]
    assert okx({**OKX, "data": data}) == {"USDT": held("6", "4", "10"), "ETH": held("3", "2", "5")}


def test_okx_data_without_a_row_is_not_an_empty_account() -> None:
    with pytest.raises(NotProof, match="data is empty"):
        okx({**OKX, "data": []})


def test_an_okx_row_without_details_is_an_empty_account_and_one_that_lacks_them_is_not() -> None:
    nothing: list[object] = []
    assert okx({**OKX, "data": [{"details": nothing}]}) == {}
    with pytest.raises(NotProof, match="details is missing"):
        okx({**OKX, "data": [{"totalEq": "0"}]})


@pytest.mark.parametrize("code", ["2", "1", "50001", "", None, "00", 2], ids=repr)
def test_an_okx_answer_with_another_code_than_0_proves_nothing(code: object) -> None:
    with pytest.raises(NotProof, match="the answer's code is"):
        okx({**OKX, "code": code})


# --- zero, digits, and the rest of the world ------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "answer", "currency"),
    [
        (kraken, {"error": [], "result": {"ZUSD": {"balance": "0.0000", "hold_trade": "0.0000"}}}, "ZUSD"),
        (coinbase, {**COINBASE, "accounts": [coinbase_account("USD", "0", "0")]}, "USD"),
        (
            okx,
            {**OKX, "data": [{"details": [okx_detail("USD", eq="0", availEq="0", frozenBal="0")]}]},
            "USD",
        ),
        (answers.unified, {"free": {"USD": "0"}, "used": {"USD": "0"}, "total": {"USD": "0"}}, "USD"),
        (answers.own_holdings, {"USD": 0}, "USD"),
    ],
    ids=[*ANSWERS, "own"],
)
def test_a_zero_that_is_stated_stays_a_zero(read: Read, answer: dict[str, Any], currency: str) -> None:
    found = read(answer)[currency]
    assert [found.free, found.used, found.total] == [Decimal(0)] * 3


def test_every_digit_of_an_amount_is_kept() -> None:
    row = {"balance": "1234567890.123456789012345678", "hold_trade": "0.000000000000000001"}
    found = kraken({"error": [], "result": {"X": row}})["X"]
    assert str(found.total) == row["balance"]
    assert str(found.used) == "1E-18"
    assert str(found.free) == "1234567890.123456789012345677"


def test_an_empty_structure_of_ccxt_proves_nothing() -> None:
    with pytest.raises(NotProof, match="cannot be told from a broken answer"):
        answers.unified({"free": {}, "used": {}, "total": {}})


@pytest.mark.parametrize("missing", ["free", "total"])
def test_a_currency_that_ccxt_knows_only_in_part_proves_nothing(missing: str) -> None:
    structure: dict[str, Any] = {**UNIFIED, missing: {**UNIFIED[missing], "BTC": None}}
    with pytest.raises(NotProof, match=f"BTC has no {missing}"):
        answers.unified(structure)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("1.50", held("1.50", "0", "1.50")),
        (7, held("7", "0", "7")),
        (Decimal("0.1"), held("0.1", "0", "0.1")),
        (held("1", "2", "4"), held("1", "2", "4")),
        ({"free": "1"}, held("1", "0", "1")),
        ({"free": "1", "used": 2}, held("1", "2", "3")),
        ({"free": "1", "used": "2", "total": Decimal(4)}, held("1", "2", "4")),
    ],
    ids=str,
)
def test_a_traders_own_callable_may_state_a_holding_in_this_form(entry: object, expected: Holding) -> None:
    assert answers.own_holdings({"USD": entry}) == {"USD": expected}


NO_HOLDINGS: Final[list[object]] = [
    None,
    5,
    "100",
    [("USD", "1")],
    {5: "1"},
    {"USD": "1", "EUR": None},
    *({"USD": entry} for entry in (None, 1.5, True, "n/a", "NaN", Decimal("Infinity"), ["1"])),
    *({"USD": entry} for entry in ({}, {"total": "1"}, {"free": None}, {"free": "1", "used": 0.5})),
]


@pytest.mark.parametrize("returned", NO_HOLDINGS, ids=str)
def test_what_a_traders_own_callable_returns_otherwise_proves_nothing(returned: object) -> None:
    with pytest.raises(NotProof):
        answers.own_holdings(returned)


def test_an_empty_account_of_a_traders_own_callable_is_a_balance() -> None:
    assert answers.own_holdings({}) == {}


@pytest.mark.parametrize(
    "kind", [None, "", "ACCOUNT_TYPE_UNSPECIFIED", "ACCOUNT_TYPE_NEW", 5, {}, []], ids=repr
)
def test_a_coinbase_account_of_a_type_nobody_knows_proves_nothing(kind: object) -> None:
    with pytest.raises(NotProof, match="type"):
        coinbase({"accounts": [coinbase_account("USD", "1", "0", type=kind)], "has_next": False})


def test_a_coinbase_account_that_comes_twice_is_not_counted_twice() -> None:
    account = coinbase_account("USD", "666", "0")
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    first = {"accounts": [account], "has_next": True, "cursor": "next"}
    assert answers.coinbase_page(first, as_it_is, found, seen) == "next"
    with pytest.raises(NotProof, match="comes twice"):
        answers.coinbase_page({"accounts": [account], "has_next": False}, as_it_is, found, seen)


def test_an_okx_currency_that_comes_twice_is_not_counted_twice() -> None:
    with pytest.raises(NotProof, match="comes twice"):
        okx({"code": "0", "data": [{"details": [okx_detail("USDT"), okx_detail("USDT")]}]})


def test_no_digit_is_lost_in_a_sum() -> None:
    stated = "123456789012.123456789012345678"
    found = kraken({"error": [], "result": {"PEPE": {"balance": stated, "hold_trade": "0"}}})
    assert str(found["PEPE"].free) == stated
    with decimal.localcontext(decimal.Context(prec=4)):
        again = kraken({"error": [], "result": {"PEPE": {"balance": stated, "hold_trade": "0"}}})
        assert str(again["PEPE"].free) == stated
        assert str(total([Decimal("12500.00"), Decimal("0.01")])) == "12500.01"


def test_half_a_kraken_credit_line_proves_nothing() -> None:
    for half in ("credit", "credit_used"):
        with pytest.raises(NotProof, match="credit"):
            kraken({"error": [], "result": {"ZUSD": {"balance": "1", "hold_trade": "0", half: "50"}}})


def test_what_earns_or_is_staked_at_kraken_belongs_to_its_asset() -> None:
    row = {"hold_trade": "0"}
    found = kraken(
        {
            "error": [],
            "result": {
                "USD": {"balance": "10", "hold_trade": "2"},
                "USD.F": {"balance": "100", **row},
                "DOT.S": {"balance": "7", **row},
                "USD.M": {"balance": "3", **row},
                "USD.HOLD": {"balance": "50", **row},
                "KFEE": {"balance": "999", **row},
                "T": {"balance": "4", **row},
                "AAPL.T": {"balance": "6", **row},
                "NEW.X": {"balance": "1", **row},
            },
        }
    )
    assert found == {
        "USD": held("108", "5", "113"),
        "DOT": held("0", "7", "7"),
        "T": held("4", "0", "4"),
        "NEW.X": held("1", "0", "1"),
    }


@pytest.mark.parametrize("code", ["", " ", "x" * 65, "\ud800", "A\nB"], ids=repr)
def test_a_currency_that_cannot_be_named_proves_nothing(code: str) -> None:
    row = {"balance": "1", "hold_trade": "0"}
    with pytest.raises(NotProof):
        kraken({"error": [], "result": {code: row}})


def test_an_amount_beyond_all_money_proves_nothing() -> None:
    with pytest.raises(NotProof, match="more than 27 digits"):
        kraken({"error": [], "result": {"ZUSD": {"balance": "1" + "0" * 27, "hold_trade": "0"}}})
