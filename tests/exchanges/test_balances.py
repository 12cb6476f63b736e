"""What proves a balance and what does not: an answer is read whole and exactly, or it is refused."""

from __future__ import annotations

import copy
import decimal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.exchanges import balances, unified_balance
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.registry import fault_of
from brokerwatch.messages import Fault, FaultKind, Holding, total
from tests.support.answers import (
    COINBASE,
    KRAKEN,
    NO_ANSWERS,
    OKX,
    UNIFIED,
    coinbase,
    coinbase_account,
    held,
    kraken,
    okx,
    okx_detail,
)

Read = Callable[[Any], Mapping[str, Holding]]
Path = tuple[str | int, ...]


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
        unified_balance.holdings,
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


def says_the_same(found: Mapping[str, Holding], expected: Mapping[str, Holding]) -> bool:
    """Whether the holdings are the same; what is free may be unknown, which ccxt's structure allows."""
    known = [
        msgspec.structs.replace(one, free=expected[code].free, used=expected[code].used)
        if one.free is None and code in expected
        else one
        for code, one in found.items()
    ]
    return dict(zip(found, known, strict=True)) == expected


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
    assert says_the_same(found, expected), f"{changed} was read as {found}"


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
        assert says_the_same(found, expected) or junk in ({}, [])


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
            unified_balance.holdings,
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


def test_no_digit_is_lost_in_a_sum() -> None:
    stated = "123456789012.123456789012345678"
    found = kraken({"error": [], "result": {"PEPE": {"balance": stated, "hold_trade": "0"}}})
    assert str(found["PEPE"].free) == stated
    with decimal.localcontext(decimal.Context(prec=4)):
        again = kraken({"error": [], "result": {"PEPE": {"balance": stated, "hold_trade": "0"}}})
        assert str(again["PEPE"].free) == stated
        assert str(total([Decimal("12500.00"), Decimal("0.01")])) == "12500.01"


@pytest.mark.parametrize("code", ["", " ", "x" * 65, "\ud800", "A\nB"], ids=repr)
def test_a_currency_that_cannot_be_named_proves_nothing(code: str) -> None:
    row = {"balance": "1", "hold_trade": "0"}
    with pytest.raises(UnprovenAnswer):
        kraken({"error": [], "result": {code: row}})


def test_an_amount_beyond_all_money_proves_nothing() -> None:
    with pytest.raises(UnprovenAnswer, match="more than 27 digits"):
        kraken({"error": [], "result": {"ZUSD": {"balance": "1" + "0" * 27, "hold_trade": "0"}}})


# --- parts of an asset, and wallets that lie apart -------------------------------------------------


def test_parts_of_a_traders_own_holdings_are_kept() -> None:
    whole = held("1", "2", "4", staked="2", earning="1")
    assert balances.own_holdings({"USD": whole}) == {"USD": whole}


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
        ("86401", 86_400.0),
        ("999999999", 86_400.0),
        ("1234567890", 86_400.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        ("٣", 0.0),
        ("soon", 0.0),
        ("NaN", 0.0),
        ("Fri, 15 Jan 2027 08:01:30 GMT", 90.0),
        ("Fri, 15 Jan 2027 07:59:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 09:01:30 +0100", 90.0),
        ("Fri, 15 Jan 2037 08:00:00 GMT", 86_400.0),
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
        ("EService:Throttled:1900000000", "", 86_400.0),
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
    (unified_balance.holdings, 7, "the balance is 7, not a map"),
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
    (coinbase, {"accounts": []}, "has_next is missing, so it is not known whether this is the last page"),
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
    (unified_balance.holdings, {}, "total is missing, not a map"),
    (
        unified_balance.holdings,
        {"total": _EMPTY},
        "no currency in the answer; an empty account cannot be told from a broken answer",
    ),
    (unified_balance.holdings, {"total": {"USD": 1}}, "free is missing, not a map"),
    (unified_balance.holdings, {"total": {"USD": 1}, "free": _EMPTY}, "used is missing, not a map"),
]


@pytest.mark.parametrize(("read", "answer", "why"), WRONG_AND_WHY, ids=[why for _, _, why in WRONG_AND_WHY])
def test_what_proves_nothing_says_what_is_wrong_with_it(read: Read, answer: object, why: str) -> None:
    with pytest.raises(UnprovenAnswer) as error:
        read(answer)
    assert str(error.value) == why


def test_what_an_exception_says_is_its_class_its_words_and_what_came_with_the_answer() -> None:
    plain = Failure.of(KeyError("x"))
    assert (plain.text, plain.body, plain.retry_after, plain.status) == ("KeyError: 'x'", "", "", None)
    assert plain.classes == ("KeyError", "LookupError", "Exception", "BaseException", "object")
    assert Failure.of(KeyError("x"), retry_after="7").retry_after == "7"
