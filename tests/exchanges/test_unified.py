"""What ccxt's own structures prove, and what they do not."""

from __future__ import annotations

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
