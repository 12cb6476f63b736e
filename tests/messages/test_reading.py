"""A reading: its age, its expiry, and what of it stands on the wire."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.messages import (
    Capability,
    CapabilityState,
    Envelope,
    Fault,
    FaultKind,
    HealthState,
    Holding,
    MessageType,
    Reading,
    Reason,
    Roster,
    Verdict,
)
from brokerwatch.messages.codec import decode, encode, words
from brokerwatch.messages.health import MAX_DETAIL
from brokerwatch.messages.key import KeyData, KeyWarning, KeyWarningData
from brokerwatch.messages.lazy_holdings import holding
from brokerwatch.messages.trading import ClosedMarket
from brokerwatch.messages.wire import MAX_CLOSED, HoldingData, ReadingData
from tests.support import strategies as our
from tests.support.wire_examples import NOW, example, reading, stamp


def test_a_fault_keeps_as_much_of_the_exchanges_words_as_a_reading_may_show() -> None:
    assert Fault(FaultKind.NETWORK, "x" * MAX_DETAIL).detail == "x" * 256
    assert Fault(FaultKind.NETWORK, "x" * (MAX_DETAIL + 1)).detail == "x" * 255 + "…"


def test_the_numbers_of_the_states_are_fixed_for_ever() -> None:
    assert {state.name: int(state) for state in HealthState} == {
        "UNKNOWN": 0,
        "HEALTHY": 1,
        "DEGRADED": 2,
        "UNAVAILABLE": 3,
        "RECOVERING": 4,
        "MAINTENANCE": 5,
    }


def test_the_reasons_are_those_of_the_protocol() -> None:
    assert {reason.value for reason in Reason} == {
        *("ok", "errors", "never_seen", "silent", "restarting", "failed", "held_out", "locked_out", "auth"),
        *("maintenance", "recovering", "blind", "local_network", "shutdown", "nothing_heard", "config"),
        *("unproven", "loop", "claim", "other"),
    }


def test_a_reading_that_nobody_renews_turns_unavailable_by_itself() -> None:
    clock = ManualClock()
    kept = reading(clock=clock)
    clock.advance(4.999)
    assert (kept.available, kept.reason, kept.expired) == (True, Reason.OK, False)
    clock.advance(0.001)
    assert (kept.available, kept.reason, kept.expired) == (False, Reason.SILENT, True)
    assert kept.data().available is False
    assert kept.data().reason is Reason.SILENT
    assert kept.available_until_s == 1_005.0
    refused = reading(clock=clock, verdict=Verdict(available=False, reason=Reason.ERRORS))
    assert refused.reason is Reason.ERRORS, "what was wrong before it expired is still what is wrong"
    assert refused.available_until_s == float("-inf")


def test_the_age_of_a_balance_follows_the_monotonic_clock_alone() -> None:
    clock = ManualClock()
    kept = reading(clock=clock)
    clock.jump_wall(-86_400.0)
    clock.advance(1.5)
    assert (kept.age_ms, kept.as_of_us) == (1_500, NOW.wall_us)
    never = reading(as_of=None)
    assert (never.age_ms, never.as_of_us) == (None, None)


@pytest.mark.parametrize(
    ("values", "stale"),
    [
        ({"state": HealthState.HEALTHY}, False),
        ({"state": HealthState.DEGRADED}, True),
        ({"state": HealthState.UNKNOWN}, True),
        ({"state": HealthState.HEALTHY, "as_of": None}, True),
        ({"state": HealthState.HEALTHY, "valid_until_s": 1_000.0}, True),
        ({"state": HealthState.HEALTHY, "verdict": Verdict(available=False, reason=Reason.SILENT)}, True),
        ({"state": HealthState.HEALTHY, "verdict": Verdict(available=False, reason=Reason.HELD_OUT)}, False),
    ],
)
def test_a_balance_is_stale_unless_it_is_the_newest_truth(values: dict[str, Any], stale: bool) -> None:
    assert reading(**values).stale is stale


@pytest.mark.parametrize(("after_s", "stale"), [(0.0, False), (59.999, False), (60.0, False), (60.001, True)])
def test_a_balance_beyond_its_age_is_stale_by_the_monotonic_clock_alone(after_s: float, stale: bool) -> None:
    clock = ManualClock(up_s=NOW.up_s)
    fresh = reading(clock=clock, state=HealthState.HEALTHY, max_age_s=60.0, valid_until_s=1e9)
    boundless = msgspec.structs.replace(fresh, max_age_s=None)
    clock.jump_wall(1e9)
    clock.advance(after_s)
    assert fresh.stale is fresh.data().stale is stale
    assert not boundless.stale
    assert fresh.available, "an old balance is stale; whether the account can be trusted is another matter"


def test_what_a_reading_says_of_other_calls_survives_the_wire_and_stays_out_of_the_roster() -> None:
    limited = Capability(
        state=CapabilityState.LIMITED, reason="cancel_only", detail="the exchange's own words", since_us=7
    )
    told = reading(state=HealthState.HEALTHY, overtaken=True, capabilities={"trade": limited})
    data = told.data()
    again = Reading.received(data, clock=ManualClock(), sent_up_s=1_000.0, valid_until_s=1e9)
    assert again.overtaken
    assert again.stale
    assert again.capabilities == {"trade": limited}
    assert told.data(with_balance=False).capabilities == {}
    assert told.data(with_cash=False).capabilities["trade"].detail == ""


def test_the_limit_of_age_stands_on_the_wire_only_where_there_is_one() -> None:
    assert reading().data().max_age_ms is None
    limited = reading(max_age_s=60.0).data()
    assert limited.max_age_ms == 60_000
    got = Reading.received(limited, clock=ManualClock(), sent_up_s=1_000.0, valid_until_s=1e9)
    assert got.max_age_s == 60.0
    message = Envelope(type=MessageType.READING, stamp=stamp(), data=limited)
    assert words(message)["data"]["max_age_ms"] == 60_000
    assert "max_age_ms" not in words(example(MessageType.READING))["data"]


def test_the_parts_of_a_holding_stand_on_the_wire_only_where_they_are_not_zero() -> None:
    plain_one = Holding(free=Decimal(1), used=Decimal(2), total=Decimal(3), staked=Decimal("0.00"))
    whole = Holding(
        free=Decimal(1), used=Decimal(2), total=Decimal(3), staked=Decimal("1.5"), earning=Decimal("0.50")
    )
    data = reading(balance={"A": plain_one, "B": whole}).data()
    assert data.balance is not None
    message = Envelope(type=MessageType.READING, stamp=stamp(), data=data)
    sent = words(message)["data"]["balance"]
    assert sent["A"] == {"free": "1", "used": "2", "total": "3"}
    assert sent["B"] == {"free": "1", "used": "2", "total": "3", "staked": "1.5", "earning": "0.50"}
    got = Reading.received(data, clock=ManualClock(), sent_up_s=1_000.0, valid_until_s=1e9)
    assert got.balance == {"A": plain_one, "B": whole}


def test_an_amount_that_is_unknown_is_told_and_a_receiver_of_old_spends_nothing_of_it() -> None:
    held = {
        "A": Holding(free=None, used=None, total=Decimal(3)),
        "B": Holding(free=None, used=Decimal(1), total=Decimal(3)),
        "C": Holding(free=Decimal(2), used=Decimal(1), total=Decimal(3)),
        "D": Holding(free=Decimal(2), used=None, total=None),
        "E": Holding(free=None, used=Decimal(1), total=None),
    }
    data = reading(balance=held, cash=None).data()
    sent = words(Envelope(type=MessageType.READING, stamp=stamp(), data=data))["data"]["balance"]
    assert sent["A"] == {
        "free": "0",
        "used": "0",
        "total": "3",
        "free_unknown": True,
        "used_unknown": True,
    }
    assert sent["B"] == {"free": "0", "used": "1", "total": "3", "free_unknown": True}
    assert sent["C"] == {"free": "2", "used": "1", "total": "3"}
    assert sent["D"] == {
        "free": "2",
        "used": "0",
        "total": "2",
        "used_unknown": True,
        "total_unknown": True,
    }, "what is known of the total is no more than the total"
    assert sent["E"] == {
        "free": "0",
        "used": "1",
        "total": "1",
        "free_unknown": True,
        "total_unknown": True,
    }

    class OfOld(msgspec.Struct):
        """What a receiver of an earlier version reads of a holding."""

        free: str
        used: str
        total: str

    of_old = msgspec.convert(sent, dict[str, OfOld])
    assert [one.free for one in of_old.values()] == ["0", "0", "2", "2", "0"]
    for balance in (decode(encode(Envelope(type=MessageType.READING, stamp=stamp(), data=data))).data, data):
        assert isinstance(balance, ReadingData)
        got = Reading.received(balance, clock=ManualClock(), sent_up_s=1_000.0, valid_until_s=1e9)
        assert got.balance == held


def test_what_an_earlier_version_sends_is_read_as_known() -> None:
    sent = {"free": "2", "used": "1", "total": "3"}
    assert holding(msgspec.convert(sent, HoldingData)) == Holding(
        free=Decimal(2), used=Decimal(1), total=Decimal(3)
    )


def test_a_holding_of_which_no_amount_is_known_is_no_message() -> None:
    marks = {"free_unknown": True, "used_unknown": True, "total_unknown": True}
    with pytest.raises(msgspec.ValidationError, match="no amount is known"):
        msgspec.convert({"free": "0", "used": "0", "total": "0", **marks}, HoldingData)


def test_an_unknown_balance_is_null_on_the_wire_and_never_zero() -> None:
    data = reading(as_of=None, cash=None, balance=None).data()
    assert (data.cash, data.balance, data.as_of_us, data.age_ms) == (None, None, None, None)


def test_whoever_keeps_balances_private_shows_neither_cash_nor_holdings() -> None:
    private = reading().data(with_cash=False)
    assert (private.cash, private.balance) == (None, None)
    in_roster = Roster((reading(),)).data().readings[0]
    assert (in_roster.cash, in_roster.balance) == ("1234.56", None)
    assert Roster((reading(),)).data(with_cash=False).readings[0].cash is None


@settings(max_examples=our.examples(60))
@given(said=our.readings(), delay_s=st.floats(0.0, 10.0))
def test_who_receives_a_reading_says_the_same_of_the_broker(said: Reading, delay_s: float) -> None:
    theirs = ManualClock(up_s=5_000.0)
    theirs.advance(delay_s)
    data = said.data()
    got = Reading.received(data, clock=theirs, sent_up_s=5_000.0, valid_until_s=float("inf"))
    again = got.data()
    if data.age_ms is not None:
        assert again.age_ms == pytest.approx(data.age_ms + delay_s * 1_000, rel=1e-9, abs=1.0)
    same = msgspec.structs.replace(again, age_ms=data.age_ms, stale=data.stale)
    assert same == data


# --- markets that are closed for the account ------------------------------------------------------------


def shut(for_s: float) -> ClosedMarket:
    until = Instant(NOW.wall_us + round(for_s * 1_000_000), NOW.up_s + for_s)
    return ClosedMarket(reason="permission", detail="not in NL", since_us=NOW.wall_us, until=until)


def test_a_closed_market_is_open_again_at_its_moment() -> None:
    clock = ManualClock()
    kept = reading(clock=clock, closed_markets={"ETH/USD": shut(300.0)})
    found = kept.closed("ETH/USD")
    assert found is not None
    assert (found.reason, found.detail) == ("permission", "not in NL")
    assert kept.closed("BTC/USD") is None
    clock.advance(300.0)
    assert kept.closed("ETH/USD") is None
    assert kept.data().closed_markets == {}


def test_a_receiver_knows_the_closed_markets_by_its_own_clock() -> None:
    clock, theirs = ManualClock(), ManualClock()
    sent = reading(clock=clock, closed_markets={"ETH/USD": shut(300.0)})
    clock.advance(100.0)
    theirs.jump_wall(86_400.0)
    heard = Reading.received(
        sent.data(), clock=theirs, sent_up_s=theirs.up_s(), valid_until_s=theirs.up_s() + 900.0
    )
    assert heard.closed("ETH/USD") is not None
    theirs.advance(199.9)
    assert heard.closed("ETH/USD") is not None
    theirs.advance(0.2)
    assert heard.closed("ETH/USD") is None


def test_the_words_about_a_closed_market_are_left_out_with_the_amounts() -> None:
    sent = reading(closed_markets={"ETH/USD": shut(300.0)})
    assert sent.data(with_cash=False).closed_markets["ETH/USD"].detail == ""
    assert sent.data(with_balance=False).closed_markets == {}


def test_the_wire_carries_the_markets_that_are_closed_for_longest() -> None:
    sent = reading(closed_markets={f"C{number}/USD": shut(float(number + 1)) for number in range(100)})
    carried = sent.data().closed_markets
    assert len(carried) == MAX_CLOSED
    assert "C99/USD" in carried
    assert "C0/USD" not in carried


def test_what_cannot_be_read_is_said_with_the_balance_and_never_without_it() -> None:
    sent = reading(balance={}, unread=frozenset({"USDT", "BTC"}))
    assert sent.data().unread == ("BTC", "USDT")
    heard = Reading.received(sent.data(), clock=ManualClock(), sent_up_s=1.0, valid_until_s=9.0)
    assert heard.unread == sent.unread
    assert sent.data(with_balance=False).unread == sent.data(with_cash=False).unread == ()


def test_how_long_an_answer_took_survives_the_wire_and_is_left_out_where_it_is_not_known() -> None:
    sent = reading(answer_ms=140)
    heard = Reading.received(sent.data(), clock=ManualClock(), sent_up_s=1.0, valid_until_s=9.0)
    assert heard.answer_ms == sent.data(with_cash=False).answer_ms == 140
    assert b"answer_ms" not in msgspec.json.encode(reading().data()), "an older receiver gets what it knew"


def test_by_when_an_outcome_is_due_survives_the_wire_and_is_left_out_where_none_is() -> None:
    clock = ManualClock()
    sent = reading(clock=clock, outcome_until_s=clock.up_s() + 5.0)
    heard = Reading.received(sent.data(), clock=ManualClock(up_s=70.0), sent_up_s=70.0, valid_until_s=99.0)
    assert heard.outcome_until_s == 75.0
    clock.advance(9.0)
    assert sent.data().outcome_ms == 0, "it is late, and not less than that"
    assert b"outcome_ms" not in msgspec.json.encode(reading().data()), "an older receiver gets what it knew"


# The key --------------------------------------------------------------------------------------------


def test_what_is_stated_of_a_key_crosses_the_wire_and_an_older_receiver_gets_what_it_knew() -> None:
    warning = KeyWarningData(word=KeyWarning.ENDS_IN_7_DAYS, since_us=NOW.wall_us, detail="it ends at …")
    known = KeyData(checked_us=NOW.wall_us, read=True, expires_us=NOW.wall_us + 1, warnings=(warning,))
    sent = reading(key=known)
    envelope = Envelope(type=MessageType.READING, stamp=stamp(), data=sent.data())
    data = decode(encode(envelope)).data
    assert isinstance(data, ReadingData)
    assert data.key == known
    heard = Reading.received(data, clock=ManualClock(), sent_up_s=0.0, valid_until_s=1.0)
    assert heard.key == known
    shown = msgspec.to_builtins(data)["key"]
    assert shown["withdraw"] is None, "not stated is null"
    assert b'"key"' not in msgspec.json.encode(reading().data())


def test_a_warning_of_a_later_version_is_read_as_another_one() -> None:
    later = {"checked_us": 1, "warnings": [{"word": "stolen", "since_us": 2, "more": 3}], "mood": "bad"}
    found = msgspec.convert(later, KeyData)
    assert [each.word for each in found.warnings] == [KeyWarning.OTHER]


def test_without_amounts_no_words_of_an_exchange_about_a_key_are_published() -> None:
    warning = KeyWarningData(word=KeyWarning.CAN_WITHDRAW, since_us=2, detail="it may withdraw")
    known = KeyData(checked_us=1, withdraw=True, warnings=(warning,))
    hidden = reading(key=known).data(with_cash=False).key
    assert hidden is not None
    assert (hidden.withdraw, hidden.warnings[0].word, hidden.warnings[0].detail) == (True, "can_withdraw", "")
