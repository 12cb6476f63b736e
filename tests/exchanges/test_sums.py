"""A sum over all currencies that agrees with their list proves that the list is whole."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.exchanges.sums import STATED_SUMS, summed
from brokerwatch.simulator import SimulatedOkx, serve
from tests.support.answers import as_it_is, okx_detail
from tests.support.clusters import cluster_of, simulated_spec


def okx(total: object, **worths: object) -> dict[str, Any]:
    rows = [okx_detail(code, eqUsd=worth) for code, worth in worths.items()]
    return {"code": "0", "msg": "", "data": [{"uTime": "1", "totalEq": total, "details": rows}]}


def of(answer: object) -> frozenset[str] | None:
    return summed(STATED_SUMS["okx"], answer, as_it_is)


@pytest.mark.parametrize(
    ("total", "worths", "counted"),
    [
        ("110", {"USDT": "100", "BTC": "10"}, {"USDT", "BTC"}),
        ("110.009", {"USDT": "100", "BTC": "10"}, {"USDT", "BTC"}),
        ("110.02", {"USDT": "100", "BTC": "10"}, None),
        ("210", {"USDT": "100", "BTC": "10"}, None),
        ("-90", {"USDT": "-100", "BTC": "10"}, {"USDT", "BTC"}),
        ("100", {"USDT": "100", "DUST": "0.001"}, {"USDT"}),
        ("100", {"USDT": "100", "XYZ": ""}, {"USDT"}),
        ("100000000", {"USDT": "99999910", "BTC": "0.5"}, {"USDT"}),
        ("", {"USDT": "100"}, None),
        (None, {"USDT": "100"}, None),
        ("NaN", {"USDT": "100"}, None),
        ("100", {"USDT": "n/a"}, None),
        ("0", {}, set[str]()),
    ],
)
def test_what_a_sum_counts_is_what_it_would_differ_without(
    total: object, worths: dict[str, object], counted: set[str] | None
) -> None:
    assert of(okx(total, **worths)) == counted


BARE: Final[list[Any]] = json.loads(
    '[null, [], {}, {"data": []}, {"data": [{}]}, {"data": [{"totalEq": "1"}]}]'
)


@pytest.mark.parametrize("answer", BARE)
def test_an_answer_without_a_list_or_a_sum_counts_nothing(answer: object) -> None:
    assert of(answer) is None
    assert summed(None, answer, as_it_is) is None


def test_a_coin_that_is_gone_from_the_list_and_from_the_sum_is_not_doubted() -> None:
    exchange = SimulatedOkx()
    path = "/api/v5/account/balance"
    with serve(exchange), cluster_of(simulated_spec(exchange, "a", read_funding=False)) as cluster:
        broker = cluster.broker("a")

        def say(total: str, **worths: str) -> None:
            exchange.mend()
            exchange.set_answer(json.dumps(okx(total, **worths)), path=path)

        say("110", USDT="100", BTC="10")
        cash = broker.get_account_balance()
        say("100", USDT="100")
        assert broker.get_account_balance() == cash
        held = broker.reading().balance
        assert held is not None
        assert "BTC" not in held
        say("110", USDT="100", BTC="10")
        broker.get_account_balance()
        say("110", USDT="100")
        broker.get_account_balance()
        held = broker.reading().balance
        assert held is not None
        assert (held["BTC"].total, held["BTC"].free) == (Decimal(5), None), "by the sum something is there"
