"""Which adapter speaks to which exchange, and what an adapter of words alone changes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from brokerwatch.exchanges import registry
from brokerwatch.exchanges.adapter import Profile
from brokerwatch.exchanges.faults import Failure, FaultWords, classify, word_table
from brokerwatch.exchanges.registry import ADAPTERS, FAMILIES, adapter_for, fault_of, profile_of, refusal
from brokerwatch.exchanges.unified import Unified
from brokerwatch.messages import FaultKind

WORDS = FaultWords(
    keys=("retCode",), kinds=word_table((r'"retCode"\s*:\s*"?10016"?\b', FaultKind.MAINTENANCE))
)


class Bybit(Unified):
    """An adapter as CONTRIBUTING.md shows it: words of error, and nothing else."""

    profile: ClassVar[Profile] = replace(Unified.profile, family="bybit", fault_words=WORDS)


def failed(code: int, error: str, *, family: str = "") -> Failure:
    body = f'{{"retCode":{code},"retMsg":"what it says"}}'
    return Failure(classes=(error, "ExchangeError"), status=200, body=body, family=family)


@pytest.fixture
def _bybit_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    known: Any = {**registry._BY_FAMILY, "bybit": Bybit}  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(registry, "_BY_FAMILY", known)


@pytest.mark.parametrize("exchange", ADAPTERS)
def test_each_exchange_is_asked_by_its_own_adapter(exchange: str) -> None:
    caller: Any = SimpleNamespace(family=FAMILIES[exchange], call=None, code=None, failure=None)
    expected: Any = ADAPTERS[exchange]
    assert type(adapter_for(caller)) is expected
    assert profile_of(FAMILIES[exchange]) is ADAPTERS[exchange].profile


@pytest.mark.parametrize("family", ["", "bybit", "krakenfutures"])
def test_an_exchange_without_an_adapter_is_asked_by_ccxts_unified_calls(family: str) -> None:
    caller: Any = SimpleNamespace(family=family, call=None)
    assert type(adapter_for(caller)) is Unified
    assert profile_of(family) is Unified.profile
    assert refusal(family, {"error": ["EOrder:Insufficient funds"]}) == ""


def test_the_name_of_an_adapter_is_one_of_the_ids_that_it_is_entered_under() -> None:
    for adapter in ADAPTERS.values():
        assert ADAPTERS[adapter.profile.family] is adapter


@pytest.mark.usefixtures("_bybit_is_known")
def test_a_word_of_an_adapter_of_words_alone_decides_and_everything_else_stays_unified() -> None:
    maintenance = failed(10016, "ExchangeError", family="bybit")
    assert fault_of(maintenance).kind is FaultKind.MAINTENANCE
    assert fault_of(replace(maintenance, family="")).kind is FaultKind.BAD_RESPONSE
    caller: Any = SimpleNamespace(family="bybit", call=None)
    assert type(adapter_for(caller)) is Bybit
    assert replace(profile_of("bybit"), family="", fault_words=Unified.profile.fault_words) == Unified.profile


@pytest.mark.parametrize(
    ("error", "kind"),
    [("AuthenticationError", FaultKind.AUTH), ("RateLimitExceeded", FaultKind.RATE_LIMITED)],
)
def test_a_code_that_its_words_do_not_name_is_what_ccxt_takes_it_for(error: str, kind: FaultKind) -> None:
    assert classify(failed(10003, error), WORDS).kind is kind
    assert classify(replace(failed(10003, error), status=401), WORDS).kind is kind
    own_words = replace(WORDS, ccxt_knows_codes=False)
    assert classify(replace(failed(10003, error), status=401), own_words).kind is FaultKind.EXCHANGE_DOWN
