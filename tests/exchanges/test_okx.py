"""What is OKX's alone: its one envelope, whatever the answer is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from brokerwatch.exchanges import okx
from brokerwatch.exchanges.envelope import UnprovenAnswer

READERS: Final[dict[str, tuple[Callable[[object], object], list[Any]]]] = {
    "balance": (
        lambda answer: okx.holdings(answer, str),
        [{"details": [{"ccy": "USD", "eq": "1", "availBal": "1", "frozenBal": "0"}]}],
    ),
    "funding": (
        lambda answer: okx.funding_holdings(answer, str),
        [{"ccy": "USD", "bal": "1", "availBal": "1", "frozenBal": "0"}],
    ),
    "rows": (okx.rows_of, [{}]),
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
