"""What OKX's answers prove, and what they do not: what is its alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.exchanges import okx as okx_adapter
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages import Holding
from brokerwatch.messages.trading import Status, StatusWord
from tests.support.answers import (
    NO_ANSWERS,
    OKX,
    as_it_is,
    held,
    okx,
    okx_detail,
)

READERS: Final[dict[str, tuple[Callable[[object], object], list[Any]]]] = {
    "balance": (
        lambda answer: okx_adapter.holdings(answer, str),
        [{"details": [{"ccy": "USD", "eq": "1", "availBal": "1", "frozenBal": "0"}]}],
    ),
    "funding": (
        lambda answer: okx_adapter.funding_holdings(answer, str),
        [{"ccy": "USD", "bal": "1", "availBal": "1", "frozenBal": "0"}],
    ),
    "rows": (okx_adapter.rows_of, [{}]),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("code", ["0", 0])
def test_an_answer_whose_code_is_zero_is_read(reader: str, code: object) -> None:
    read, data = READERS[reader]
    assert read({"code": code, "msg": "", "data": data})


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("code", [False, 0.0, None, "", "00", "1", 1, [], "50001"])
def test_an_answer_of_any_other_code_proves_nothing_not_even_false(reader: str, code: object) -> None:
    read, data = READERS[reader]
    with pytest.raises(UnprovenAnswer, match="the answer's code is"):
        read({"code": code, "msg": "", "data": data})
    with pytest.raises(UnprovenAnswer, match="not 0, with 'busy'"):
        read({"code": code, "msg": "busy", "data": data})


@pytest.mark.parametrize("reader", READERS)
def test_an_answer_that_says_more_than_its_code_proves_nothing(reader: str) -> None:
    read, data = READERS[reader]
    with pytest.raises(UnprovenAnswer, match="the answer carries 'busy'"):
        read({"code": "0", "msg": "busy", "data": data})


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
    detail = okx_detail("USDT", frozenBal=empty, availEq="", availBal="1")
    assert okx({**OKX, "data": [{"details": [detail]}]}) == {"USDT": held("1", "4", "5")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"frozenBal": "-0.4"},
        {"eq": "-5"},
        {"eq": "-3000", "availBal": "3000", "availEq": ""},
        {"availEq": "-3"},
        {"availEq": "", "availBal": "-3"},
        {"availEq": "5.4", "frozenBal": ""},
        {"eq": "-3000", "availEq": "3000", "liab": "3000"},
    ],
    ids=repr,
)
def test_less_than_nothing_at_okx_without_a_debt_proves_nothing(wrong: dict[str, object]) -> None:
    with pytest.raises(UnprovenAnswer, match="USDT"):
        okx({**OKX, "data": [{"details": [okx_detail("USDT", **{"liab": "0", "cashBal": "5", **wrong})]}]})


@pytest.mark.parametrize(
    "owed", [{"liab": "7"}, {"crossLiab": "7"}, {"upl": "-8"}, {"cashBal": "-2"}], ids=repr
)
def test_a_debt_or_a_loss_that_okx_states_is_read(owed: dict[str, object]) -> None:
    detail = okx_detail("USDT", eq="-2", availEq="0", frozenBal="0", **owed)
    assert okx({**OKX, "data": [{"details": [detail]}]}) == {"USDT": held("0", "0", "-2")}
    detail = okx_detail("USDT", eq="2", availEq="", availBal="3", frozenBal="", **owed)
    assert okx({**OKX, "data": [{"details": [detail]}]})["USDT"].used is None


@pytest.mark.parametrize(
    "more", [{"availEq": "", "availBal": "5.1"}, {"availEq": "50"}, {"eq": "0", "availEq": "3"}], ids=repr
)
def test_more_free_at_okx_than_there_is_proves_nothing_without_a_loss(more: dict[str, object]) -> None:
    detail = okx_detail("USDT", **{"frozenBal": "0", "liab": "0", "cashBal": "5", **more})
    with pytest.raises(UnprovenAnswer, match="states no loss"):
        okx({**OKX, "data": [{"details": [detail]}]})


@pytest.mark.parametrize("name", ["NaN", "null", "", None, 7, {}])
def test_a_row_of_okx_without_a_name_proves_nothing(name: object) -> None:
    with pytest.raises(UnprovenAnswer, match="ccy is"):
        okx({**OKX, "data": [{"details": [okx_detail("USDT"), okx_detail("BTC", ccy=name)]}]})
    with pytest.raises(UnprovenAnswer, match="ccy is"):
        okx_wallet({"ccy": name, "bal": "5", "availBal": "3", "frozenBal": "2"})


def test_what_is_used_at_okx_beside_margin_is_not_what_is_left_of_the_equity() -> None:
    detail = okx_detail("USDT", availEq="1", frozenBal="")
    found = okx({**OKX, "data": [{"adjEq": "9", "details": [detail]}]})["USDT"]
    assert (found.free, found.used) == (Decimal(1), None)


@pytest.mark.parametrize("key", ["bal", "availBal", "frozenBal"])
def test_a_funding_account_of_okx_with_less_than_nothing_proves_nothing(key: str) -> None:
    row = {"ccy": "USDT", "bal": "5", "availBal": "3", "frozenBal": "2", key: "-1"}
    with pytest.raises(UnprovenAnswer, match=f"{key} of USDT is negative"):
        okx_wallet(row)


SUMS: Final = [
    {"totalEq": "43749472.36"},
    {"totalEq": "0.01"},
    {"isoEq": "5"},
    {"adjEq": "7"},
    {"totalEq": "NaN"},
]


@pytest.mark.parametrize("sums", SUMS, ids=repr)
@pytest.mark.parametrize("held_nothing", [False, True])
def test_a_sum_of_okx_denies_a_list_in_which_nothing_is_held(sums: Any, held_nothing: bool) -> None:
    nothing = okx_detail("USDT", eq="0", availEq="0", availBal="0", frozenBal="0")
    with pytest.raises(UnprovenAnswer, match=next(iter(sums))):
        okx({**OKX, "data": [{**sums, "details": [nothing] if held_nothing else []}]})
    zero: list[dict[str, Any]] = [
        {**dict.fromkeys(sums, "0"), "details": []},
        {**dict.fromkeys(sums, ""), "details": []},
    ]
    assert [okx({**OKX, "data": [row]}) for row in zero] == [{}, {}]


@pytest.mark.parametrize("lost", ["", None, "gone"], ids=repr)
@pytest.mark.parametrize(
    ("mode", "of_another"), [({}, {"availEq": "1"}), ({"adjEq": "9"}, {"availEq": ""}), ({"mmr": "0.1"}, {})]
)
def test_what_is_free_at_okx_beside_margin_is_unknown_without_the_available_equity(
    lost: str | None, mode: dict[str, str], of_another: dict[str, str]
) -> None:
    detail = okx_detail("USDT", availEq=lost, availBal="4")
    if lost == "gone":
        del detail["availEq"]
    other = okx_detail("BTC", **{"availEq": "2", **of_another})
    found = okx({**OKX, "data": [{**mode, "details": [detail, other]}]})
    assert found["USDT"].free is None
    assert found["USDT"].total == 5


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


def test_an_okx_balance_with_a_message_beside_it_proves_nothing() -> None:
    answer = {**OKX, "data": [{"details": [okx_detail("USDT")]}]}
    assert okx({**answer, "msg": ""})
    with pytest.raises(UnprovenAnswer, match="carries 'Systems are busy'"):
        okx({**answer, "msg": "Systems are busy"})


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


def test_an_okx_currency_that_comes_twice_is_not_counted_twice() -> None:
    with pytest.raises(UnprovenAnswer, match="comes twice"):
        okx({"code": "0", "data": [{"details": [okx_detail("USDT"), okx_detail("USDT")]}]})


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


def test_an_okx_code_may_be_a_number() -> None:
    assert okx({**OKX, "code": 0}) == okx(OKX)


# --- what it says of itself: what goes on counts, what is announced only stands beside it ---------------


NOW_US: Final = 1_700_000_000_000_000
MINUTE_MS: Final = 60_000


def event(
    state: object = "ongoing", begin_min: int = -5, end_min: int = 60, **values: object
) -> dict[str, Any]:
    begin_ms, end_ms = (NOW_US // 1_000 + minutes * MINUTE_MS for minutes in (begin_min, end_min))
    return {
        "title": "Spot System Upgrade",
        "state": state,
        "begin": str(begin_ms),
        "end": str(end_ms),
        "serviceType": "5",
        "env": "1",
        **values,
    }


def status_of(*events: object) -> Status:
    return okx_adapter.status({"code": "0", "msg": "", "data": list(events)}, NOW_US)


def test_okx_without_events_is_online() -> None:
    assert status_of() == Status(StatusWord.ONLINE)


def test_what_goes_on_is_maintenance_until_okx_says_that_it_is_over() -> None:
    said = status_of(event())
    assert said.word is StatusWord.MAINTENANCE
    assert said.detail == "ongoing, until 2023-11-14 23:13 UTC: Spot System Upgrade"
    assert status_of(event(end_min=-1)).word is StatusWord.MAINTENANCE, "it may take longer than was planned"


def test_what_is_announced_is_told_and_leaves_okx_online() -> None:
    said = status_of(event("scheduled", begin_min=30))
    assert said.word is StatusWord.ONLINE
    assert said.detail == "announced, 2023-11-14 22:43 UTC to 2023-11-14 23:13 UTC: Spot System Upgrade"
    assert status_of(event("scheduled", begin_min=-1)).word is StatusWord.ONLINE, (
        "it has not begun until OKX says so"
    )
    assert status_of(event("scheduled", begin_min=-60, end_min=-1)) == Status(StatusWord.ONLINE), (
        "that is over"
    )


def test_while_only_resting_orders_are_taken_okx_is_post_only() -> None:
    assert status_of(event("pre_open")).word is StatusWord.POST_ONLY
    for events in ((event("pre_open"), event()), (event(), event("pre_open"))):
        assert status_of(*events).word is StatusWord.MAINTENANCE


def test_what_goes_on_is_told_before_what_is_announced() -> None:
    said = status_of(event("scheduled", begin_min=30, title="Later"), event(title="Now"))
    assert said.word is StatusWord.MAINTENANCE
    assert said.detail.index("Now") < said.detail.index("Later")


@pytest.mark.parametrize(
    "values",
    [
        {"state": "completed"},
        {"state": "canceled"},
        {"env": "2"},
        *({"serviceType": number} for number in ("0", "2", "3", "4", "6", "7", "10", "11", "99")),
    ],
)
def test_what_is_over_or_concerns_no_spot_order_is_nothing_to_us(values: dict[str, Any]) -> None:
    assert status_of(event(**values)) == Status(StatusWord.ONLINE)


@pytest.mark.parametrize("service", ["1", "5", "", None])
def test_the_services_that_spot_orders_need_count(service: object) -> None:
    assert status_of(event(serviceType=service)).word is StatusWord.MAINTENANCE
    bare = event()
    del bare["serviceType"], bare["env"]
    assert status_of(bare).word is StatusWord.MAINTENANCE


@pytest.mark.parametrize("service", ["8", "9"])
def test_maintenance_of_a_part_of_the_accounts_is_told_and_stops_nothing(service: str) -> None:
    said = status_of(event(serviceType=service))
    assert said.word is StatusWord.ONLINE
    assert said.detail.startswith("for a part of the accounts or products, until")


@pytest.mark.parametrize(
    "broken",
    [
        "event",
        event("paused"),
        event(None),
        event(begin=""),
        event(end="soon"),
        event(end=None),
        event(end="9" * 20),
        event(begin="-1"),
    ],
)
def test_an_event_that_cannot_be_read_is_no_status(broken: object) -> None:
    with pytest.raises(UnprovenAnswer):
        status_of(broken)


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"code": "1", "msg": "", "data": []}, {"code": "0", "msg": ""}]
)
def test_what_is_no_envelope_of_okx_is_no_status(answer: object) -> None:
    with pytest.raises(UnprovenAnswer):
        okx_adapter.status(answer, NOW_US)
