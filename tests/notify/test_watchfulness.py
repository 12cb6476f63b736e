"""What feeds the dead man's switch: every account that should be asked has an outcome within its bound."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import pytest

from brokerwatch.clock import Instant
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.notify.observations import Observation
from brokerwatch.notify.watchfulness import Heard, watchfulness

NOW: Final = Instant(1_800_000_000_000_000, 1_000.0)
WELL: Final = Observation(
    broker="k",
    exchange="kraken",
    available=True,
    reason=Reason.OK,
    since_us=0,
    as_of=Instant(NOW.wall_us - 2_000_000, 998.0),
    outcome_until_s=1_010.0,
)
OTHER: Final = replace(WELL, broker="c", exchange="coinbase")


def out(reason: Reason, fault: FaultKind | None = None, **values: Any) -> Observation:
    return replace(WELL, available=False, reason=reason, fault=fault, **values)


def gaps(*accounts: Observation, line_down: bool = False) -> tuple[str, ...]:
    heard = Heard(900.0).after(accounts)
    return watchfulness(accounts, heard, NOW, line_down=line_down).gaps


def test_it_is_fed_while_each_account_has_an_outcome_in_time() -> None:
    assert gaps(WELL, OTHER) == ()
    assert gaps(WELL, replace(OTHER, outcome_until_s=997.0)) == ("c: no outcome, 3 s late",)
    assert gaps() == ("no account is heard",)


def test_a_counted_fault_is_an_outcome() -> None:
    before = out(Reason.ERRORS, FaultKind.NETWORK, error_count=3, as_of=None)
    heard = Heard(900.0).after([before])
    assert watchfulness([before], heard, NOW, line_down=False).gaps == ("k: no outcome yet",)
    after = replace(before, error_count=4)
    assert watchfulness([after], heard.after([after]), NOW, line_down=False).gaps == ()


def test_a_balance_from_before_the_start_is_no_outcome() -> None:
    assert gaps(replace(WELL, as_of=Instant(0, 899.0))) == ("k: no outcome yet",)


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        (out(Reason.HELD_OUT), "held_out"),
        (out(Reason.LOCKED_OUT, FaultKind.RATE_LIMITED), "locked_out"),
        (out(Reason.AUTH, FaultKind.AUTH), "auth"),
        (out(Reason.MAINTENANCE, FaultKind.MAINTENANCE), "maintenance"),
        (out(Reason.ERRORS, FaultKind.MAINTENANCE), "maintenance"),
        (out(Reason.CONFIG), "config"),
        (replace(WELL, polled=False), "not_polled"),
        (out(Reason.ERRORS, FaultKind.NETWORK, polled=False), "not_polled"),
    ],
)
def test_an_account_that_is_not_asked_by_design_is_counted_in_the_body(seen: Observation, word: str) -> None:
    late = replace(seen, outcome_until_s=1.0, as_of=None)
    found = watchfulness([late, OTHER], Heard(900.0).after([late, OTHER]), NOW, line_down=False)
    assert found.gaps == ()
    body = json.loads(found.body)
    assert body["not_asked"] == {word: 1}
    assert (body["accounts"], body["asked"]) == (2, 1)


@pytest.mark.parametrize(
    "reason",
    [
        *(Reason.SILENT, Reason.RESTARTING, Reason.FAILED, Reason.LOOP, Reason.BLIND),
        Reason.NOTHING_HEARD,
    ],
)
def test_an_account_that_brokerwatch_does_not_ask_is_a_gap_also_where_it_is_not_polled(
    reason: Reason,
) -> None:
    assert gaps(out(reason), OTHER) == (f"k: {reason}",)
    assert gaps(out(reason, polled=False), OTHER) == (f"k: {reason}",)


def test_an_account_that_left_is_no_gap_until_the_whole_cluster_has_stopped() -> None:
    left = out(Reason.SHUTDOWN)
    assert gaps(left, OTHER) == ()
    found = watchfulness([left, OTHER], Heard(900.0).after([left, OTHER]), NOW, line_down=False)
    assert json.loads(found.body)["accounts"] == 1
    assert gaps(left, replace(left, broker="c")) == ("c: shutdown", "k: shutdown")


def test_while_our_own_line_is_down_it_is_the_switch_that_speaks() -> None:
    assert gaps(WELL, OTHER, line_down=True) == ("our own line is down",)


def test_the_body_says_how_all_accounts_are_and_has_no_amount_in_it() -> None:
    rich = replace(WELL, cash="12345.67", cash_unit="USD", detail="12345.67 USD")
    failing = replace(
        OTHER, available=False, reason=Reason.ERRORS, fault=FaultKind.NETWORK, detail="77.1 USD"
    )
    found = watchfulness([rich, failing], Heard(900.0).after([rich, failing]), NOW, line_down=False)
    assert json.loads(found.body) == {
        "at": "2027-01-15T08:00:00.000Z",
        "accounts": 2,
        "available": 1,
        "asked": 2,
        "not_asked": {},
        "not_available": {"c": "errors"},
    }
