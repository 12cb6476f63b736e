"""What an exchange says about a key: read whole, or `UnprovenAnswer`; and what it does not say is None."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.exchanges import coinbase, kraken, okx
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.key_info import KeyFacts

# https://docs.kraken.com/api-reference/account-data/get-api-key-info
KRAKEN: Final[dict[str, Any]] = {
    "apiKeyName": "watcher",
    "apiKey": "AbCdEf0123456789",
    "nonce": "1800000000000",
    "nonceWindow": 0,
    "permissions": ["query-funds", "query-open-trades", "query-closed-trades", "modify-trades"],
    "iban": "AA00 N00G TEST 0001",
    "validUntil": "0",
    "queryFrom": "0",
    "queryTo": "0",
    "createdTime": "1790000000",
    "modifiedTime": "1790000001",
    "ipAllowlist": ["203.0.113.7", "2001:db8::/32"],
    "lastUsed": "1799999999",
}
# https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/data-api/get-api-key-permissions
COINBASE: Final[dict[str, Any]] = {
    "can_view": True,
    "can_trade": True,
    "can_transfer": False,
    "portfolio_uuid": "11111111-2222-3333-4444-555555555555",
    "portfolio_type": "DEFAULT",
}
# https://www.okx.com/docs-v5/en/#trading-account-rest-api-get-account-configuration
OKX: Final[dict[str, Any]] = {
    "acctLv": "1",
    "uid": "4400001",
    "mainUid": "4400000",
    "label": "watcher",
    "perm": "read_only,trade",
    "ip": "203.0.113.7,198.51.100.9",
}

READ: Final[Mapping[str, Callable[[Any], KeyFacts]]] = {
    "kraken": lambda row: kraken.key_facts({"error": [], "result": row}),
    "coinbase": coinbase.key_facts,
    "okx": lambda row: okx.key_facts({"code": "0", "msg": "", "data": [row]}),
}
ROWS: Final = {"kraken": KRAKEN, "coinbase": COINBASE, "okx": OKX}
GONE: Final = object()


def facts(family: str, **changes: object) -> KeyFacts:
    """What is read of the documented answer with these values changed or gone."""
    row = {**copy.deepcopy(ROWS[family]), **changes}
    return READ[family]({name: value for name, value in row.items() if value is not GONE})


def test_the_documented_answers_are_read_whole() -> None:
    assert facts("kraken") == KeyFacts(
        account="account AA00 N00G TEST 0001, key 'watcher'",
        api_key="AbCdEf0123456789",
        query=True,
        trade=True,
        withdraw=False,
        rights="query-funds, query-open-trades, query-closed-trades, modify-trades",
        addresses=("203.0.113.7", "2001:db8::/32"),
    )
    assert facts("coinbase") == KeyFacts(
        account="portfolio 11111111-2222-3333-4444-555555555555 (DEFAULT)",
        account_id="11111111-2222-3333-4444-555555555555",
        query=True,
        trade=True,
        withdraw=False,
        rights="can_view, can_trade",
    )
    assert facts("okx") == KeyFacts(
        account="account 4400001, a sub-account of 4400000, key 'watcher'",
        account_id="4400001",
        query=True,
        trade=True,
        withdraw=False,
        rights="read_only, trade",
        addresses=("203.0.113.7", "198.51.100.9"),
    )


KRAKENS: Final = ("query-funds", "query-open-trades", "modify-trades", "withdraw-funds", "earn-funds")


@given(st.sets(st.sampled_from(KRAKENS)))
def test_krakens_rights_are_what_its_list_has(rights: set[str]) -> None:
    found = facts("kraken", permissions=sorted(rights))
    assert found.query is ({"query-funds", "query-open-trades"} <= rights)
    assert found.trade is ("modify-trades" in rights)
    assert found.withdraw is ("withdraw-funds" in rights)
    assert found.rights == (", ".join(sorted(rights)) or "nothing")


@given(view=st.booleans(), trade=st.booleans(), transfer=st.booleans())
def test_coinbases_rights_are_its_flags(view: bool, trade: bool, transfer: bool) -> None:
    found = facts("coinbase", can_view=view, can_trade=trade, can_transfer=transfer)
    assert (found.query, found.trade, found.withdraw) == (view, trade, transfer)
    assert (found.rights == "nothing") is not (view or trade or transfer)


OKXS: Final = ("read_only", "trade", "withdraw", "other")


@given(st.sets(st.sampled_from(OKXS), min_size=1), st.sampled_from((",", ", ", ",,")))
def test_okxs_rights_are_the_words_of_its_text(rights: set[str], comma: str) -> None:
    found = facts("okx", perm=comma.join(sorted(rights)))
    assert found.query is bool({"read_only", "trade"} & rights)
    assert found.trade is ("trade" in rights)
    assert found.withdraw is ("withdraw" in rights)
    assert found.rights == ", ".join(sorted(rights))


@pytest.mark.parametrize(
    ("changes", "unsupported", "borrows"),
    [
        ({"acctLv": "2"}, "", ""),
        ({"acctLv": GONE}, "", ""),
        ({"acctLv": "3", "autoLoan": False}, "", ""),
        ({"acctLv": "4", "autoLoan": True}, "", "portfolio margin mode with autoLoan"),
        ({"acctLv": "1", "enableSpotBorrow": True}, "", "spot mode with enableSpotBorrow"),
        ({"acctLv": "9"}, "acctLv '9'", ""),
    ],
)
def test_okx_says_in_which_mode_the_account_is(
    changes: dict[str, object], unsupported: str, borrows: str
) -> None:
    found = facts("okx", **changes)
    assert unsupported in found.unsupported
    assert borrows in found.borrows
    assert (bool(found.unsupported), bool(found.borrows)) == (bool(unsupported), bool(borrows))


@pytest.mark.parametrize(
    ("family", "field", "value", "addresses"),
    [
        ("kraken", "ipAllowlist", [], ()),
        ("kraken", "ipAllowlist", GONE, None),
        ("kraken", "ipAllowlist", None, None),
        ("okx", "ip", "", ()),
        ("okx", "ip", " ", ()),
        ("okx", "ip", "203.0.113.7", ("203.0.113.7",)),
        ("okx", "ip", GONE, None),
        ("okx", "ip", None, None),
    ],
)
def test_from_anywhere_is_another_thing_than_not_said(
    family: str, field: str, value: object, addresses: tuple[str, ...] | None
) -> None:
    assert facts(family, **{field: value}).addresses == addresses


@pytest.mark.parametrize("value", [GONE, None, "", "0", 0, "0.0"])
def test_a_key_of_kraken_without_an_end_has_none(value: object) -> None:
    assert facts("kraken", validUntil=value).ends_s is None


@pytest.mark.parametrize("value", ["1800000000", 1_800_000_000])
def test_a_key_of_kraken_with_an_end_has_it_in_seconds(value: object) -> None:
    assert facts("kraken", validUntil=value).ends_s == 1_800_000_000.0


@pytest.mark.parametrize(
    ("family", "changes", "account"),
    [
        ("kraken", {"apiKeyName": GONE, "iban": GONE}, ""),
        ("kraken", {"apiKeyName": "", "iban": None}, ""),
        ("kraken", {"iban": GONE}, "key 'watcher'"),
        ("kraken", {"apiKeyName": GONE}, "account AA00 N00G TEST 0001"),
        ("coinbase", {"portfolio_uuid": GONE}, ""),
        ("coinbase", {"portfolio_uuid": ""}, ""),
        ("coinbase", {"portfolio_type": GONE}, "portfolio 11111111-2222-3333-4444-555555555555"),
        ("okx", {"uid": GONE}, ""),
        ("okx", {"uid": ""}, ""),
        ("okx", {"mainUid": "4400001", "label": ""}, "account 4400001"),
        ("okx", {"mainUid": GONE, "label": GONE}, "account 4400001"),
    ],
)
def test_an_account_that_is_not_named_has_no_name(
    family: str, changes: Mapping[str, object], account: str
) -> None:
    assert facts(family, **changes).account == account


def test_a_key_that_is_not_told_is_empty() -> None:
    assert [facts("kraken", apiKey=value).api_key for value in (GONE, None, "")] == [""] * 3


NO_LIST: Final[tuple[Any, ...]] = ("query-funds", 5, {}, True, [5], [None], [""], [["withdraw-funds"]])
SPOILED: Final[Mapping[str, Mapping[str, tuple[Any, ...]]]] = {
    "kraken": {
        "permissions": (GONE, None, *NO_LIST),
        "ipAllowlist": NO_LIST,
        "validUntil": ("soon", "NaN", "Infinity", "-1", -1, True, False, ["0"], {}, 1.5e9, "1_0"),
        "apiKey": (5, ["x"], {}, True),
    },
    "coinbase": {
        name: (GONE, None, "true", "", 1, 0, [], {}) for name in ("can_view", "can_trade", "can_transfer")
    },
    "okx": {
        "perm": (GONE, None, "", " ", ",", " , ", 5, ["trade"], {}, True),
        "ip": (5, ["203.0.113.7"], {}, True),
    },
}


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        pytest.param(family, field, value, id=f"{family}-{field}-{number}")
        for family, fields in SPOILED.items()
        for field, values in fields.items()
        for number, value in enumerate(values)
    ],
)
def test_a_part_that_cannot_be_read_is_no_proof(family: str, field: str, value: object) -> None:
    with pytest.raises(UnprovenAnswer):
        facts(family, **{field: value})


NO_ANSWERS: Final[tuple[Any, ...]] = (None, "", [], {}, 5, {5: 1})


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (kraken.key_facts, {"error": ["EGeneral:Unknown method"]}),
        (kraken.key_facts, {"error": ["EGeneral:Internal error"], "result": KRAKEN}),
        (kraken.key_facts, {"error": []}),
        (kraken.key_facts, {"error": [], "result": [KRAKEN]}),
        (kraken.key_facts, {"result": KRAKEN}),
        (kraken.key_facts, KRAKEN),
        (coinbase.key_facts, {"error": "unauthorized"}),
        (coinbase.key_facts, [COINBASE]),
        (okx.key_facts, {"code": "50000", "msg": "", "data": [OKX]}),
        (okx.key_facts, {"code": "0", "msg": "no", "data": [OKX]}),
        (okx.key_facts, {"code": "0", "msg": "", "data": []}),
        (okx.key_facts, {"code": "0", "msg": "", "data": [OKX, OKX]}),
        (okx.key_facts, {"code": "0", "msg": "", "data": [None]}),
        (okx.key_facts, {"code": "0", "msg": "", "data": OKX}),
        *(
            (read, answer)
            for read in (kraken.key_facts, coinbase.key_facts, okx.key_facts)
            for answer in NO_ANSWERS
        ),
    ],
)
def test_an_answer_without_its_envelope_is_no_proof(
    read: Callable[[object], KeyFacts], answer: object
) -> None:
    with pytest.raises(UnprovenAnswer):
        read(answer)


def test_nothing_is_known_of_a_key_that_nobody_spoke_of() -> None:
    known = KeyFacts()
    assert (known.query, known.trade, known.withdraw, known.addresses, known.ends_s) == (None,) * 5


def test_a_kraken_key_that_may_not_look_orders_up_lacks_that_and_may_still_read() -> None:
    rights = [right for right in KRAKEN["permissions"] if right != "query-closed-trades"]
    found = facts("kraken", permissions=rights)
    assert found.query is True
    assert found.lacks.startswith("query-closed-trades")
    assert facts("kraken").lacks == ""


@pytest.mark.parametrize("right", ["withdraw-funds", "Withdraw-Crypto", "WITHDRAW"])
def test_every_right_to_withdraw_is_one_whatever_it_is_called(right: str) -> None:
    assert facts("kraken", permissions=[*KRAKEN["permissions"], right]).withdraw is True
    assert facts("okx", perm=f"read_only,{right}").withdraw is True
