"""What ccxt's own structures prove, and what they do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from brokerwatch.exchanges import unified as unified_adapter
from brokerwatch.exchanges.envelope import UnprovenAnswer
from tests.support.answers import (
    UNIFIED,
    held,
)


def test_an_empty_structure_of_ccxt_proves_nothing() -> None:
    with pytest.raises(UnprovenAnswer, match="cannot be told from a broken answer"):
        unified_adapter.holdings({"free": {}, "used": {}, "total": {}})


def test_a_currency_without_a_total_proves_nothing_and_without_a_free_amount_it_is_unknown() -> None:
    structure: dict[str, Any] = {**UNIFIED, "total": {**UNIFIED["total"], "BTC": None}}
    with pytest.raises(UnprovenAnswer, match="BTC has no total"):
        unified_adapter.holdings(structure)
    structure = {**UNIFIED, "free": {**UNIFIED["free"], "BTC": None}}
    assert unified_adapter.holdings(structure)["BTC"].free is None
    of_no_table = SimpleNamespace(id="unknown", options={})
    structure = {**UNIFIED, "total": {**UNIFIED["total"], "BTC": None}}
    found = unified_adapter.stated(of_no_table, structure, str)
    assert found.unread == {"BTC"}
    assert set(found.holdings) == {"USD"}


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
