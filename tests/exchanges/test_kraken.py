"""What Kraken's answers prove, and what they do not: what is its alone."""

from __future__ import annotations

from typing import Any, cast

import ccxt
import pytest

from brokerwatch.exchanges import kraken as kraken_adapter
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages.trading import Status, StatusWord
from tests.support.answers import (
    KRAKEN,
    as_it_is,
    held,
    kraken,
)


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
    assert {code: int(one.least_total) for code, one in found.items()} == {
        common: number for number, common in enumerate(codes.values())
    }


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
        "AAPL.T": held("6", "0", "6"),
        "NEW.X": held("1", "0", "1"),
    }


def rows(**amounts: str) -> dict[str, Any]:
    result = {code.replace("__", "."): {"balance": it, "hold_trade": "0"} for code, it in amounts.items()}
    return {"error": [], "result": result}


def test_kraken_staking_with_a_term_is_the_coin_and_codes_with_digits_of_their_own_stay() -> None:
    found = kraken(rows(DOT="1.5", DOT28__S="25", SOL03__S="2", ATOM21__B="3", KAVA21__M="4"))
    assert found == {
        "DOT": held("1.5", "25", "26.5", staked="25"),
        "SOL": held("0", "2", "2", staked="2"),
        "ATOM": held("0", "3", "3", staked="3"),
        "KAVA": held("0", "4", "4", staked="4"),
    }
    own = {
        "C98": "1",
        "LUNA2": "2",
        "ETH2": "3",
        "ETH2__S": "4",
        "C98__S": "5",
        "LUNA2__S": "6",
        "DOT28": "7",
    }
    assert {code: str(it.total) for code, it in kraken(rows(**own)).items()} == {
        "C98": "6",
        "LUNA2": "8",
        "ETH2": "7",
        "DOT28": "7",
    }, "a term stands with what is bonded alone"


def test_a_tokenized_stock_of_kraken_is_told_under_its_own_name() -> None:
    found = kraken(rows(AAPLx__T="12.5", AAPLx="1", USD="3"))
    assert found["AAPLx.T"] == held("12.5", "0", "12.5")
    assert found["AAPLx"] == held("1", "0", "1")


@pytest.mark.parametrize(
    "row",
    [
        {"credit": "1", "credit_used": "-1"},
        {"credit": "-1", "credit_used": "0"},
        {"hold_trade": "-1"},
    ],
    ids=repr,
)
def test_less_than_nothing_at_kraken_that_would_make_more_free_proves_nothing(row: dict[str, str]) -> None:
    with pytest.raises(UnprovenAnswer, match="is negative"):
        kraken({"error": [], "result": {"ZUSD": {"balance": "5", "hold_trade": "0", **row}}})


@pytest.mark.parametrize("asset", ["DOT28.S", "USD.F", "ETH2.B"])
def test_what_is_staked_or_earns_at_kraken_cannot_be_owed(asset: str) -> None:
    with pytest.raises(UnprovenAnswer, match="is negative"):
        kraken({"error": [], "result": {asset: {"balance": "-1", "hold_trade": "0"}}})


@pytest.mark.parametrize("asset", ["null", "None", "NaN", "undefined", "null.F", "", ".S"])
def test_an_asset_of_kraken_that_cannot_be_named_proves_nothing(asset: str) -> None:
    with pytest.raises(UnprovenAnswer, match="an asset is"):
        kraken({"error": [], "result": {asset: {"balance": "100", "hold_trade": "0"}}})


def test_pending_money_of_kraken_lies_apart() -> None:
    answer = rows(ZUSD="3", USD__HOLD="50", ETH__HOLD="2")
    assert kraken(answer) == {"ZUSD": held("3", "0", "3")}
    assert kraken_adapter.pending(answer, as_it_is) == {
        "hold": {"USD": held("0", "50", "50"), "ETH": held("0", "2", "2")}
    }
    assert kraken_adapter.pending(rows(ZUSD="3"), as_it_is) == {}


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


# --- what it says of itself: what goes on counts, what is announced only stands beside it ---------------


def status_answer(status: object = "online", **values: object) -> dict[str, Any]:
    return {"error": [], "result": {"status": status, "timestamp": "2023-07-06T18:52:00Z", **values}}


@pytest.mark.parametrize("word", list(StatusWord))
def test_kraken_says_one_of_four_words(word: StatusWord) -> None:
    assert kraken_adapter.status(status_answer(str(word))) == Status(word)


def test_what_kraken_announces_is_told_and_leaves_it_online() -> None:
    said = kraken_adapter.status(
        status_answer(
            upcoming_maintenance=[{"title": "Upgrade\nof spot"}], emergency=[{"name": "Funding is slow"}]
        )
    )
    assert said == Status(StatusWord.ONLINE, "now: Funding is slow; announced: Upgrade of spot")
    assert kraken_adapter.status(status_answer(upcoming_maintenance=[], emergency=None)) == Status(
        StatusWord.ONLINE
    )
    assert kraken_adapter.status(status_answer(upcoming_maintenance="soon")).word is StatusWord.ONLINE
    untitled: list[dict[str, str]] = [{}]
    assert kraken_adapter.status(status_answer(upcoming_maintenance=untitled)).detail == "announced: no title"
    assert len(kraken_adapter.status(status_answer(emergency=["x" * 1_000])).detail) <= 200


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "",
        [],
        {},
        {"error": []},
        {"error": ["EService:Busy"]},
        status_answer("closed"),
        status_answer(None),
        status_answer(""),
        status_answer(["online"]),
    ],
)
def test_a_word_that_nobody_knows_is_no_status(answer: object) -> None:
    with pytest.raises(UnprovenAnswer):
        kraken_adapter.status(answer)
