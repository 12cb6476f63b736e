"""docs/exchanges.md: one row for each exchange, as the code has it."""

from __future__ import annotations

import re
from typing import Final

import ccxt.async_support as ccxt
import pytest

from tests.support.exchange_table import HEAD, PAGE, renewed, row

TEXT: Final = PAGE.read_text(encoding="utf-8")


def test_the_table_is_what_the_code_knows() -> None:
    assert renewed(TEXT) == TEXT, "renew it: make exchanges"


def test_each_exchange_that_has_a_balance_has_one_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", TEXT, re.M)
    assert rows == sorted(name for name in ccxt.exchanges if getattr(ccxt, name)().has["fetchBalance"])


def test_the_legend_explains_every_column_but_the_id() -> None:
    legend = TEXT.partition("| column | means |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([a-z ]+) \|", legend, re.M) == list(HEAD[1:])


@pytest.mark.parametrize(
    ("exchange", "cells"),
    [
        ("kraken", ("adapter", "spot", "yes", "yes", "both", "found")),
        ("okx", ("adapter", "spot", "yes", "no", "both", "found")),
        ("coinbaseexchange", ("FUT", "one", "no", "no", "amount", "found")),
        ("gate", ("FU or FT", "by `symbol`, `type`", "no", "no", "cost", "found")),
        ("paradex", ("T", "one", "no", "no", "no order: it has no spot markets", "–")),
        ("bitbank", ("FUT", "one", "no", "no", "amount", "never")),
    ],
)
def test_a_row_says_what_was_found_by_hand(exchange: str, cells: tuple[str, ...]) -> None:
    assert row(exchange)[2:] == cells
