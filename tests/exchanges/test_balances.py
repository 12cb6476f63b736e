"""What proves a balance and what does not: an answer is read whole and exactly, or it is refused."""

from __future__ import annotations

import copy
import decimal
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, cast

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.exchanges import balances, json_text
from brokerwatch.exchanges import coinbase as coinbase_adapter
from brokerwatch.exchanges import kraken as kraken_adapter
from brokerwatch.exchanges import okx as okx_adapter
from brokerwatch.exchanges import unified as unified_adapter
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.registry import fault_of
from brokerwatch.health import empty_answers
from brokerwatch.messages import Balance, Fault, FaultKind, Holding, total

_IDS: Final = itertools.count()
"""Every account has an id of its own."""
Read = Callable[[Any], Mapping[str, Holding]]
Path = tuple[str | int, ...]


def held(free: str, used: str, total: str, *, staked: str = "0", earning: str = "0") -> Holding:
    return Holding(
        free=Decimal(free),
        used=Decimal(used),
        total=Decimal(total),
        staked=Decimal(staked),
        earning=Decimal(earning),
    )


def as_it_is(code: str) -> str:
    return code


def kraken(answer: object) -> Mapping[str, Holding]:
    return kraken_adapter.holdings(answer, as_it_is)


def okx(answer: object) -> Mapping[str, Holding]:
    return okx_adapter.holdings(answer, as_it_is)


def coinbase(answer: object) -> Mapping[str, Holding]:
    found: dict[str, Holding] = {}
    assert coinbase_adapter.accounts_page(answer, as_it_is, found, set()) is None
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
    "unified": (
        unified_adapter.holdings,
        UNIFIED,
        {"USD": held("7.5", "0", "7.5"), "BTC": held("1", "0", "1")},
    ),
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
    with pytest.raises(UnprovenAnswer):
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
    except UnprovenAnswer:
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
            with pytest.raises(UnprovenAnswer):
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
        except UnprovenAnswer:
            continue
        assert found == expected or junk in ({}, [])


# --- Kraken --------------------------------------------------------------------------------------


def test_an_empty_kraken_account_is_a_balance() -> None:
    assert kraken({"error": [], "result": {}}) == {}


def test_a_kraken_answer_without_a_result_is_not_an_empty_account() -> None:
    with pytest.raises(UnprovenAnswer, match="result is missing"):
        kraken({"error": []})


@pytest.mark.parametrize(
    "said", [["EService:Busy"], ["WGeneral:Some balances may be delayed"], [""], ["a", "b"]]
)
def test_a_kraken_answer_with_an_error_or_a_warning_beside_the_result_proves_nothing(said: list[str]) -> None:
    with pytest.raises(UnprovenAnswer, match="the answer carries"):
        kraken({**KRAKEN, "error": said})


def test_a_kraken_credit_line_can_be_spent_as_far_as_it_is_not_used() -> None:
    row = {"balance": "100", "credit": "50.5", "credit_used": "20.25", "hold_trade": "10"}
    assert kraken({"error": [], "result": {"ZUSD": row}}) == {"ZUSD": held("120.25", "10", "100")}


@pytest.mark.parametrize("key", ["credit", "credit_used"])
def test_a_kraken_credit_line_that_cannot_be_read_proves_nothing(key: str) -> None:
    row = {"balance": "100", "credit": "50", "credit_used": "20", "hold_trade": "10", key: "n/a"}
    with pytest.raises(UnprovenAnswer, match=f"{key} of ZUSD"):
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
    found = kraken_adapter.holdings(
        {"error": [], "result": result}, cast("Any", ccxt.kraken()).safe_currency_code
    )
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
    assert coinbase_adapter.accounts_page(first, as_it_is, found, seen) == "next"
    last = {"accounts": [coinbase_account("USD", "2", "3")], "has_next": False, "cursor": ""}
    assert coinbase_adapter.accounts_page(last, as_it_is, found, seen) is None
    assert found == {"USD": held("3", "3", "6")}


@pytest.mark.parametrize("cursor", [None, "", 7, []], ids=repr)
def test_a_coinbase_page_that_promises_another_and_does_not_say_where_proves_nothing(cursor: object) -> None:
    with pytest.raises(UnprovenAnswer, match="cursor of the next page"):
        coinbase_adapter.accounts_page({**COINBASE, "has_next": True, "cursor": cursor}, as_it_is, {}, set())


@pytest.mark.parametrize("has_next", [None, "false", 0, 1, []], ids=repr)
def test_a_coinbase_page_that_does_not_say_whether_it_is_the_last_proves_nothing(has_next: object) -> None:
    with pytest.raises(UnprovenAnswer, match="has_next"):
        coinbase_adapter.accounts_page({**COINBASE, "has_next": has_next}, as_it_is, {}, set())


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
    with pytest.raises(UnprovenAnswer, match="USDT"):
        okx({**OKX, "data": [{"details": [okx_detail("USDT", **free)]}]})


def test_several_rows_of_okx_are_one_balance() -> None:
    data = [{"details": [okx_detail("USDT")]}, {"details": [okx_detail("ETH")]}]
    assert okx({**OKX, "data": data}) == {"USDT": held("3", "2", "5"), "ETH": held("3", "2", "5")}
    doubled = [{"details": [okx_detail("USDT")]}, {"details": [okx_detail("USDT")]}]
    with pytest.raises(UnprovenAnswer, match="USDT comes twice"):
        okx({**OKX, "data": doubled})


def test_a_coinbase_account_that_speaks_of_two_currencies_proves_neither() -> None:
    for wrong in ({"currency": "EUR"}, {"hold": {"value": "1", "currency": "EUR"}}):
        account = {**coinbase_account("USD", "1", "1"), **wrong}
        with pytest.raises(UnprovenAnswer, match="an account is in 'EUR' and in USD"):
            coinbase({**COINBASE, "accounts": [account]})


def test_an_okx_balance_with_a_message_beside_it_proves_nothing() -> None:
    answer = {**OKX, "data": [{"details": [okx_detail("USDT")]}]}
    assert okx({**answer, "msg": ""})
    with pytest.raises(UnprovenAnswer, match="carries 'Systems are busy'"):
        okx({**answer, "msg": "Systems are busy"})


@pytest.mark.parametrize(
    ("entry", "free"),
    [
        (
            {
                "balance": "123456789012345678901234567.12",
                "hold_trade": "12345678901234567890123456.123456789012345678",
            },
            "111111110111111111011111110.996543210987654322",
        ),
        (
            {
                "balance": "0",
                "hold_trade": "0",
                "credit": "1",
                "credit_used": "123456789012345678901234567.123456789012345678",
            },
            "-123456789012345678901234566.123456789012345678",
        ),
    ],
)
def test_what_is_taken_away_is_taken_away_to_the_last_digit(entry: object, free: str) -> None:
    """The sign of an amount was once turned round in the context of the thread, which keeps 28 digits."""
    assert kraken({"error": [], "result": {"ZUSD": entry}})["ZUSD"].free == Decimal(free)


def test_a_bound_asset_with_a_broken_credit_proves_nothing() -> None:
    entry = {"balance": "1", "hold_trade": "0", "credit": "x", "credit_used": "0"}
    with pytest.raises(UnprovenAnswer, match="credit"):
        kraken({"error": [], "result": {"DOT.S": entry}})


def test_nobody_holds_less_than_nothing() -> None:
    with pytest.raises(UnprovenAnswer, match="hold_trade of ZUSD is negative"):
        kraken({"error": [], "result": {"ZUSD": {"balance": "10", "hold_trade": "-5"}}})
    with pytest.raises(UnprovenAnswer, match="value of USD is negative"):
        coinbase({**COINBASE, "accounts": [coinbase_account("USD", "1", "-1")]})


def test_okx_data_without_a_row_is_not_an_empty_account() -> None:
    with pytest.raises(UnprovenAnswer, match="data is empty"):
        okx({**OKX, "data": []})


def test_an_okx_row_without_details_is_an_empty_account_and_one_that_lacks_them_is_not() -> None:
    nothing: list[object] = []
    assert okx({**OKX, "data": [{"details": nothing}]}) == {}
    with pytest.raises(UnprovenAnswer, match="details is missing"):
        okx({**OKX, "data": [{"totalEq": "0"}]})


@pytest.mark.parametrize("code", ["2", "1", "50001", "", None, "00", 2], ids=repr)
def test_an_okx_answer_with_another_code_than_0_proves_nothing(code: object) -> None:
    with pytest.raises(UnprovenAnswer, match="the answer's code is"):
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
        (
            unified_adapter.holdings,
            {"free": {"USD": "0"}, "used": {"USD": "0"}, "total": {"USD": "0"}},
            "USD",
        ),
        (balances.own_holdings, {"USD": 0}, "USD"),
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
    with pytest.raises(UnprovenAnswer, match="cannot be told from a broken answer"):
        unified_adapter.holdings({"free": {}, "used": {}, "total": {}})


@pytest.mark.parametrize("missing", ["free", "total"])
def test_a_currency_that_ccxt_knows_only_in_part_proves_nothing(missing: str) -> None:
    structure: dict[str, Any] = {**UNIFIED, missing: {**UNIFIED[missing], "BTC": None}}
    with pytest.raises(UnprovenAnswer, match=f"BTC has no {missing}"):
        unified_adapter.holdings(structure)


def test_what_ccxt_says_is_in_orders_is_used_and_what_it_leaves_out_is_nothing() -> None:
    structure: dict[str, Any] = {**UNIFIED, "total": {"USD": "9.5", "BTC": "1"}}
    for used in ({"USD": "2", "BTC": None}, {"USD": "2"}):
        assert unified_adapter.holdings({**structure, "used": used}) == {
            "USD": held("7.5", "2", "9.5"),
            "BTC": held("1", "0", "1"),
        }


@pytest.mark.parametrize("part", ["free", "used", "total"])
def test_a_part_that_ccxt_could_not_read_is_named_with_its_currency(part: str) -> None:
    structure: dict[str, Any] = {**UNIFIED, part: {**UNIFIED[part], "BTC": "x"}}
    with pytest.raises(UnprovenAnswer, match=f"^{part} of BTC: not an amount: 'x'$"):
        unified_adapter.holdings(structure)


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
    assert balances.own_holdings({"USD": entry}) == {"USD": expected}


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
    with pytest.raises(UnprovenAnswer):
        balances.own_holdings(returned)


def test_an_empty_account_of_a_traders_own_callable_is_a_balance() -> None:
    assert balances.own_holdings({}) == {}


@pytest.mark.parametrize(
    "kind", [None, "", "ACCOUNT_TYPE_UNSPECIFIED", "ACCOUNT_TYPE_NEW", 5, {}, []], ids=repr
)
def test_a_coinbase_account_of_a_type_nobody_knows_proves_nothing(kind: object) -> None:
    with pytest.raises(UnprovenAnswer, match="type"):
        coinbase({"accounts": [coinbase_account("USD", "1", "0", type=kind)], "has_next": False})


def test_a_coinbase_account_that_comes_twice_is_not_counted_twice() -> None:
    account = coinbase_account("USD", "666", "0")
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    first = {"accounts": [account], "has_next": True, "cursor": "next"}
    assert coinbase_adapter.accounts_page(first, as_it_is, found, seen) == "next"
    with pytest.raises(UnprovenAnswer, match="comes twice"):
        coinbase_adapter.accounts_page({"accounts": [account], "has_next": False}, as_it_is, found, seen)


def test_an_okx_currency_that_comes_twice_is_not_counted_twice() -> None:
    with pytest.raises(UnprovenAnswer, match="comes twice"):
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
        with pytest.raises(UnprovenAnswer, match="credit"):
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
        "USD": held("108", "5", "113", staked="3", earning="100"),
        "DOT": held("0", "7", "7", staked="7"),
        "T": held("4", "0", "4"),
        "NEW.X": held("1", "0", "1"),
    }


@pytest.mark.parametrize("code", ["", " ", "x" * 65, "\ud800", "A\nB"], ids=repr)
def test_a_currency_that_cannot_be_named_proves_nothing(code: str) -> None:
    row = {"balance": "1", "hold_trade": "0"}
    with pytest.raises(UnprovenAnswer):
        kraken({"error": [], "result": {code: row}})


def test_an_amount_beyond_all_money_proves_nothing() -> None:
    with pytest.raises(UnprovenAnswer, match="more than 27 digits"):
        kraken({"error": [], "result": {"ZUSD": {"balance": "1" + "0" * 27, "hold_trade": "0"}}})


# --- parts of an asset, and wallets that lie apart -------------------------------------------------


@pytest.mark.parametrize("suffix", ["S", "B", "M"])
def test_what_is_bound_at_kraken_is_used_and_staked_and_never_free(suffix: str) -> None:
    result = {
        "DOT": {"balance": "5", "hold_trade": "1"},
        f"DOT.{suffix}": {"balance": "7", "hold_trade": "0"},
    }
    found = kraken({"error": [], "result": result})["DOT"]
    assert found == held("4", "8", "12", staked="7")
    only = kraken({"error": [], "result": {f"DOT.{suffix}": result[f"DOT.{suffix}"]}})
    assert only == {"DOT": held("0", "7", "7", staked="7")}


def test_what_earns_by_itself_at_kraken_can_be_traded_but_what_an_order_holds() -> None:
    row = {"balance": "100", "hold_trade": "30", "credit": "8", "credit_used": "3"}
    assert kraken({"error": [], "result": {"ZUSD.F": row}}) == {"ZUSD": held("75", "30", "100", earning="75")}


def test_an_answer_of_kraken_without_a_result_is_unstated_and_no_other_is() -> None:
    with pytest.raises(kraken_adapter.Unstated, match="result is missing"):
        kraken({"error": []})
    others: list[dict[str, object]] = [{}, {"error": list[str](), "result": None}]
    for other in (*others, {"error": ["EAPI:Invalid key"]}, {"error": list[str](), "x": 1}):
        with pytest.raises(UnprovenAnswer) as error:
            kraken(other)
        assert not isinstance(error.value, kraken_adapter.Unstated), other
    assert kraken({"error": [], "result": {}}) == {}, "an empty result is stated"


def okx_wallet(*rows: object, code: object = "0") -> Mapping[str, Holding]:
    return okx_adapter.funding_holdings({"code": code, "msg": "", "data": list(rows)}, as_it_is)


def test_a_funding_account_of_okx_states_what_it_has_and_nothing_when_it_has_nothing() -> None:
    usdt = {"ccy": "USDT", "bal": "10.50", "availBal": "8", "frozenBal": "2.50"}
    btc = {"ccy": "BTC", "bal": "0", "availBal": "0", "frozenBal": "0"}
    assert okx_wallet(usdt, btc) == {"USDT": held("8", "2.50", "10.50"), "BTC": held("0", "0", "0")}
    assert okx_wallet(usdt, code=0) == {"USDT": held("8", "2.50", "10.50")}
    assert okx_wallet() == {}
    assert set(okx_adapter.funding_holdings({"code": "0", "data": [usdt]}, str.lower)) == {"usdt"}


@pytest.mark.parametrize("key", ["ccy", "bal", "availBal", "frozenBal"])
@pytest.mark.parametrize(
    "wrong", [None, "", 1.5, [], "NaN\n"], ids=["none", "empty", "float", "list", "text"]
)
def test_a_funding_account_of_okx_that_cannot_be_read_proves_nothing(key: str, wrong: object) -> None:
    row: dict[str, object] = {"ccy": "USDT", "bal": "1", "availBal": "1", "frozenBal": "0"}
    with pytest.raises(UnprovenAnswer):
        okx_wallet({**row, key: wrong})
    with pytest.raises(UnprovenAnswer, match="USDT comes twice"):
        okx_wallet(row, row)
    with pytest.raises(UnprovenAnswer, match="the answer's code is '50011', not 0"):
        okx_wallet(row, code="50011")


@pytest.mark.parametrize("junk", [*NO_ANSWERS, {"code": "0"}, {"code": "0", "data": [1]}], ids=repr)
def test_what_is_no_funding_account_of_okx_proves_nothing(junk: object) -> None:
    with pytest.raises(UnprovenAnswer):
        okx_adapter.funding_holdings(junk, as_it_is)


def test_parts_of_a_traders_own_holdings_are_kept() -> None:
    whole = held("1", "2", "4", staked="2", earning="1")
    assert balances.own_holdings({"USD": whole}) == {"USD": whole}


# --- an answer that states nothing -----------------------------------------------------------------


def asked(seconds: float, *, funds: str = "", stated: bool = True) -> Balance:
    """A balance that was asked for so long after the start."""
    holdings = {"USD": held(funds, "0", funds)} if funds else {}
    return Balance(holdings=holdings, as_of=Instant(1_800_000_000_000_000, 1_000.0 + seconds), stated=stated)


FUNDED: Final = asked(0.0, funds="1")
EMPTY: Final = asked(0.0)


def test_an_account_that_held_something_is_empty_after_three_such_answers_over_half_a_minute() -> None:
    doubts = empty_answers.EmptyAnswers()
    words = "no currency at all, and there were some before; believed after 3 such answers over 30 s"
    told = [doubts.doubt(asked(seconds), FUNDED, funded=True) for seconds in (10.0, 20.0, 39.9, 40.0, 41.0)]
    assert told == [words, words, words, "", ""]
    quick = empty_answers.EmptyAnswers()
    assert all(quick.doubt(asked(1.0), FUNDED, funded=True) for _ in range(50)), (
        "one broken cache is one answer"
    )
    slow = empty_answers.EmptyAnswers()
    assert [bool(slow.doubt(asked(at), FUNDED, funded=True)) for at in (0.0, 500.0, 501.0)] == [
        True,
        True,
        False,
    ]


def test_an_answer_without_any_account_is_believed_only_where_nothing_ever_was_and_when_it_comes_again() -> (
    None
):
    doubts = empty_answers.EmptyAnswers()
    words = "no error and no result; believed after 2 such answers over 30 s"
    told = [
        doubts.doubt(asked(seconds, stated=False), None, funded=False) for seconds in (0.0, 29.9, 30.0, 31.0)
    ]
    assert told == [words, words, "", ""]
    never = "no error and no result, from an account that held something before"
    assert doubts.doubt(asked(99.0, stated=False), EMPTY, funded=True) == never
    assert doubts.doubt(asked(999.0, stated=False), EMPTY, funded=True) == never, "however often"
    assert doubts.doubt(asked(1_000.0, stated=False), None, funded=False) == words, "and it starts anew"


def test_a_balance_that_holds_something_or_was_always_empty_is_believed_at_once() -> None:
    for last in (None, EMPTY, FUNDED):
        for funded in (True, False):
            assert empty_answers.EmptyAnswers().doubt(asked(1.0, funds="0"), last, funded=funded) == ""
    assert empty_answers.EmptyAnswers().doubt(EMPTY, None, funded=False) == ""
    assert empty_answers.EmptyAnswers().doubt(EMPTY, EMPTY, funded=True) == ""


@pytest.mark.parametrize("between", ["a fault", "an answer with money", "a first reading"])
def test_empty_answers_on_both_sides_of_something_else_do_not_agree(between: str) -> None:
    doubts = empty_answers.EmptyAnswers()
    for seconds in (0.0, 20.0):
        assert doubts.doubt(asked(seconds), FUNDED, funded=True)
    if between == "a fault":
        doubts.interrupted()
    elif between == "an answer with money":
        assert doubts.doubt(asked(25.0, funds="1"), FUNDED, funded=True) == ""
    else:
        assert doubts.doubt(asked(25.0), EMPTY, funded=True) == ""
    assert [bool(doubts.doubt(asked(at), FUNDED, funded=True)) for at in (40.0, 50.0, 69.9, 70.0)] == [
        *(True, True, True, False)
    ]


# --- what the exchange says about the next call ----------------------------------------------------

WALL_S: Final = 1_800_000_000.0
"""Fri, 15 Jan 2027 08:00:00 GMT."""


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0.0),
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("3600", 3_600.0),
        ("3601", 3_600.0),
        ("999999999", 3_600.0),
        ("1234567890", 3_600.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        ("٣", 0.0),
        ("soon", 0.0),
        ("NaN", 0.0),
        ("Fri, 15 Jan 2027 08:01:30 GMT", 90.0),
        ("Fri, 15 Jan 2027 07:59:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 09:01:30 +0100", 90.0),
        ("Fri, 15 Jan 2037 08:00:00 GMT", 3_600.0),
        ("Fri, 15 Jan 2027 08:01:30 -0000", 0.0),
        ("Fri, 99 Jan 2027 08:01:30 GMT", 0.0),
        ("Fri, 15 Jan 99999999999 08:01:30 GMT", 0.0),
        ("Fri,", 0.0),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_anything_else_is_nothing(header: str, seconds: float) -> None:
    found = fault_of(Failure(status=429, text="slow down", retry_after=header), WALL_S)
    assert found == Fault(FaultKind.RATE_LIMITED, "slow down", retry_after_s=seconds)


@given(
    header=st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,4} [A-Z][a-z]{2} [0-9]{1,12} .{0,20}")
)
def test_no_header_can_do_more_harm_than_an_hour(header: str) -> None:
    assert 0.0 <= fault_of(Failure(retry_after=header), WALL_S).retry_after_s <= 3_600.0


LOCKOUT: Final = '{"error":["EGeneral:Temporary lockout"]}'


@pytest.mark.parametrize(
    ("family", "body", "seconds"),
    [
        ("kraken", LOCKOUT, 900.0),
        ("kraken", LOCKOUT.lower(), 900.0),
        ("kraken", '{"error":["EGeneral:Too many requests"]}', 0.0),
        ("kraken", f"<html>{LOCKOUT}</html>", 0.0),
        ("kraken", '{"error":["EGeneral:Temporary lockout"', 0.0),
        ("kraken", '{"error":["' + "x" * 20_000 + '","EGeneral:Temporary lockout"]}', 0.0),
        ("kraken", "", 0.0),
        ("okx", LOCKOUT, 0.0),
        ("coinbase", LOCKOUT, 0.0),
        ("", LOCKOUT, 0.0),
    ],
)
def test_only_krakens_own_word_in_its_own_envelope_is_a_lockout(
    family: str, body: str, seconds: float
) -> None:
    found = fault_of(Failure(status=200, body=body, family=family, text="no", retry_after="5"))
    assert found.lockout_s == seconds
    assert found.retry_after_s == 5.0
    assert found.kind is FaultKind.RATE_LIMITED or not seconds


def test_a_lockout_that_somebody_else_quotes_locks_nobody_out() -> None:
    quoted = '{"upstream":["EGeneral:Temporary lockout"],"error":[]}'
    assert fault_of(Failure(status=502, body=quoted, family="kraken")).lockout_s == 0.0


@pytest.mark.parametrize(
    ("said", "header", "seconds"),
    [
        ("EService:Throttled:1800000090", "", 90.0),
        ("EService: Throttled: 1800000090", "", 90.0),
        ("EService:Throttled:1800000090", "7", 7.0),
        ("EService:Throttled:1799999990", "", 0.0),
        ("EService:Throttled:1900000000", "", 3_600.0),
        ("EService:Throttled", "", 0.0),
    ],
)
def test_the_second_that_kraken_names_counts_where_no_header_does(
    said: str, header: str, seconds: float
) -> None:
    body = f'{{"error":["{said}"]}}'
    failure = Failure(status=200, body=body, family="kraken", retry_after=header)
    assert fault_of(failure, WALL_S).retry_after_s == seconds
    assert fault_of(replace(failure, family=""), WALL_S).retry_after_s == (7.0 if header else 0.0)


def test_a_key_that_okx_does_not_know_comes_with_what_to_look_at_first() -> None:
    hint = 'no such key here: an account of OKX Europe has exchange = "myokx", of OKX US "okxus"; '
    failure = Failure(status=401, body='{"code":"50119","msg":"x"}', family="okx", text="API  key\n missing")
    assert fault_of(failure).detail == hint + "API key missing"
    assert fault_of(replace(failure, body='{"code":"50111"}')).detail == "API key missing"
    assert fault_of(replace(failure, family="kraken")).detail == "API key missing"


# --- the text itself -------------------------------------------------------------------------------


def test_numbers_are_kept_as_they_were_written() -> None:
    assert json_text.parsed('{"a": 1.10, "b": -7, "c": [1e2, true, null, "x"]}') == {
        "a": "1.10",
        "b": "-7",
        "c": ["1e2", True, None, "x"],
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": NaN}', "^NaN is no JSON number$"),
        ("[-Infinity]", "^-Infinity is no JSON number$"),
        ('{"a": "1", "b": "2", "a": "3"}', "^a key stands twice$"),
        ('[{"x": {"a": 1, "a": 1}}]', "^a key stands twice$"),
        ("{", "."),
    ],
)
def test_what_json_does_not_say_once_and_clearly_is_no_answer(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        json_text.parsed(text)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (7, "what fetch returned is 7, not a map"),
        ({"USD": {1: 2}}, "the entry of USD has a key that is not text"),
        ({"USD": {}}, "USD has no free"),
        ({"USD": {"free": "1", "used": "x"}}, "used of USD: not an amount: 'x'"),
        ({"USD": {"free": "1", "total": "x"}}, "total of USD: not an amount: 'x'"),
        ({"USD": "x"}, "amount of USD: not an amount: 'x'"),
    ],
)
def test_a_trader_is_told_what_is_wrong_with_what_was_returned(returned: object, words: str) -> None:
    with pytest.raises(UnprovenAnswer) as error:
        balances.own_holdings(returned)
    assert str(error.value) == words


# --- an operator is told what is wrong, word for word ----------------------------------------------

_ACCOUNT: Final = coinbase_account("USD", "1", "0")
_EMPTY: Final[dict[str, object]] = {}
WRONG_AND_WHY: Final[list[tuple[Read, object, str]]] = [
    *((read, 7, "the answer is 7, not a map") for read in (kraken, coinbase, okx)),
    (unified_adapter.holdings, 7, "the balance is 7, not a map"),
    (coinbase, {}, "accounts is missing, not a list"),
    (coinbase, {"accounts": [7]}, "an account is 7, not a map"),
    (coinbase, {"accounts": [{"type": 7}]}, "type of an account is 7, not text"),
    (coinbase, {"accounts": [{"type": "X"}]}, "an account is of a type that we do not know: 'X'"),
    (coinbase, {"accounts": [{}]}, "available_balance is missing, not a map"),
    (
        coinbase,
        {"accounts": [{"available_balance": _EMPTY}]},
        "available_balance.currency is missing, not text",
    ),
    (coinbase, {"accounts": [{"available_balance": {"currency": "USD"}}]}, "USD has no value"),
    (coinbase, {"accounts": [{**_ACCOUNT, "hold": None}]}, "hold of USD is missing, not a map"),
    (coinbase, {"accounts": [{**_ACCOUNT, "hold": _EMPTY}]}, "USD has no value"),
    (coinbase, {"accounts": []}, "has_next is missing, so nobody knows whether this is the last page"),
    (coinbase, {"accounts": [], "has_next": True}, "cursor of the next page is missing, not text"),
    (okx, {"code": "1"}, "the answer's code is '1', not 0"),
    (okx, {}, "the answer's code is missing, not 0"),
    (okx, {"code": "0"}, "data is missing, not a list"),
    (okx, {"code": 0, "data": []}, "data is empty: an account has one row even when it holds nothing"),
    (okx, {"code": "0", "data": [7]}, "a row of data is 7, not a map"),
    (okx, {"code": "0", "data": [{}]}, "details is missing, not a list"),
    (okx, {"code": "0", "data": [{"details": [7]}]}, "a row of details is 7, not a map"),
    (okx, {"code": "0", "data": [{"details": [{}]}]}, "ccy is missing, not text"),
    (okx, {"code": "0", "data": [{"details": [{"ccy": "BTC"}]}]}, "BTC has no eq"),
    (
        okx,
        {"code": "0", "data": [{"details": [okx_detail("BTC", frozenBal="x")]}]},
        "frozenBal of BTC: not an amount: 'x'",
    ),
    (unified_adapter.holdings, {}, "total is missing, not a map"),
    (
        unified_adapter.holdings,
        {"total": _EMPTY},
        "no currency in the answer; an empty account cannot be told from a broken answer",
    ),
    (unified_adapter.holdings, {"total": {"USD": 1}}, "free is missing, not a map"),
    (unified_adapter.holdings, {"total": {"USD": 1}, "free": _EMPTY}, "used is missing, not a map"),
]


@pytest.mark.parametrize(("read", "answer", "why"), WRONG_AND_WHY, ids=[why for _, _, why in WRONG_AND_WHY])
def test_what_proves_nothing_says_what_is_wrong_with_it(read: Read, answer: object, why: str) -> None:
    with pytest.raises(UnprovenAnswer) as error:
        read(answer)
    assert str(error.value) == why


def test_an_okx_code_may_be_a_number() -> None:
    assert okx({**OKX, "code": 0}) == okx(OKX)


def test_a_coinbase_hold_that_names_no_currency_is_in_that_of_its_account() -> None:
    account = coinbase_account("USD", "1", "2", hold={"value": "2"})
    assert coinbase({"accounts": [account], "has_next": False}) == {"USD": held("1", "2", "3")}


def test_coinbase_accounts_without_an_id_are_all_counted() -> None:
    for uuid in ("", None, 7):
        twice = [coinbase_account("USD", "1", "0", uuid=uuid), coinbase_account("USD", "2", "0", uuid=uuid)]
        assert coinbase({"accounts": twice, "has_next": False}) == {"USD": held("3", "0", "3")}


def test_what_an_exception_says_is_its_class_its_words_and_what_came_with_the_answer() -> None:
    plain = Failure.of(KeyError("x"))
    assert (plain.text, plain.body, plain.retry_after, plain.status) == ("KeyError: 'x'", "", "", None)
    assert plain.classes == ("KeyError", "LookupError", "Exception", "BaseException", "object")
    assert Failure.of(KeyError("x"), retry_after="7").retry_after == "7"
