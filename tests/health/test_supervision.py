"""What the supervisor knows of a broker: newest wins in any order, and silence is its own finding."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Final

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from brokerwatch.bus.reception import Receiver
from brokerwatch.clock import Instant, ManualClock
from brokerwatch.config.policy import Rules
from brokerwatch.health.reading import comparison_key, composed, heartbeat_s, ttl_s
from brokerwatch.health.state_machine import NO_VETOES, OWN_VETOES, PRECEDENCE, Health, Vetoes, verdict
from brokerwatch.health.supervision import TICK_GRACE_S, Round, View, cut_off, look_round
from brokerwatch.messages import (
    Envelope,
    FaultKind,
    HealthState,
    MessageType,
    Reading,
    Reason,
    Stamp,
    Verdict,
)
from tests.support import strategies as our

LIMIT_S: Final = 5.0
EPOCHS: Final = ("0000000000000001-00000000", "0000000000000001-00000001", "0000000000000002-00000000")
CLOCK: Final = ManualClock()
START: Final = CLOCK.now()


def at(seconds: float) -> Instant:
    """So long after the start."""
    return Instant(START.wall_us + round(seconds * 1e6), START.up_s + seconds)


def evidence(
    version: int = 1, *, epoch: str = EPOCHS[0], state: HealthState = HealthState.HEALTHY, broker: str = "a"
) -> Reading:
    return Reading(
        broker=broker,
        exchange="kraken",
        simulated=True,
        broker_epoch=epoch,
        version=version,
        state=state,
        verdict=verdict(state),
        detail="the broker's own",
        since_us=START.wall_us + version,
        error_count=0,
        fault=None,
        as_of=None,
        cash=None,
        balance=None,
        labels={},
        valid_until_s=float("inf"),
        clock=CLOCK,
    )


def heard(version: int = 1, *, after_s: float = 0.0, broker: str = "a") -> View:
    """A view that heard its broker once, so long after the start."""
    blank = View(evidence(0, epoch="", broker=broker), START.up_s)
    return blank.heard(evidence(version, broker=broker), at(after_s))


def never_heard(broker: str = "a") -> View:
    return View(evidence(0, epoch="", broker=broker), START.up_s).vetoed(
        Reason.NEVER_SEEN, "no message yet", START
    )


def look(
    views: dict[str, View], seconds: float, *, late_s: float = 0.0, exempt: frozenset[str] = frozenset()
) -> Round:
    """One tick so long after the start."""
    return look_round(views, at(seconds), due_s=START.up_s + seconds - late_s, limit_s=LIMIT_S, exempt=exempt)


# The merge ------------------------------------------------------------------------------------------


@st.composite
def messages(draw: st.DrawFn) -> list[Reading]:
    """Some messages of one broker over several lives; the same (epoch, version) is the same message."""
    orders = draw(
        st.lists(st.tuples(st.sampled_from(EPOCHS), st.integers(0, 5)), min_size=1, max_size=6, unique=True)
    )
    return [
        evidence(version, epoch=epoch, state=draw(st.sampled_from(HealthState))) for epoch, version in orders
    ]


def fed(view: View, said: list[Reading]) -> View:
    for number, message in enumerate(said):
        view = view.heard(message, at(number))
    return view


def order(message: Reading) -> tuple[str, int]:
    return (message.broker_epoch, message.version)


@settings(max_examples=our.examples(100))
@given(said=messages(), data=st.data())
def test_any_shuffling_and_doubling_of_the_same_messages_ends_in_the_same_view(
    said: list[Reading], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(said + data.draw(st.lists(st.sampled_from(said), max_size=4))))
    in_order = fed(never_heard(), sorted(said, key=order))
    anyhow = fed(never_heard(), list(shuffled))
    assert anyhow.newest is in_order.newest is max(said, key=order)
    assert dict(anyhow.vetoes.laid) == dict(in_order.vetoes.laid) == {}


@settings(max_examples=our.examples(100))
@given(said=messages(), data=st.data())
def test_any_part_of_the_messages_that_holds_the_newest_is_as_good_as_all(
    said: list[Reading], data: st.DataObject
) -> None:
    newest = max(said, key=order)
    part = [*data.draw(st.lists(st.sampled_from(said), max_size=3)), newest]
    assert fed(never_heard(), part).newest is fed(never_heard(), said).newest


@settings(max_examples=our.examples(100))
@given(said=messages(), after_s=our.steps_s())
def test_a_message_that_is_old_or_doubled_gives_the_very_same_view(
    said: list[Reading], after_s: float
) -> None:
    view = fed(never_heard(), said)
    for message in said:
        assert view.heard(message, at(100.0 + after_s)) is view


@settings(max_examples=our.examples(60))
@given(said=messages())
def test_the_order_of_a_view_never_falls(said: list[Reading]) -> None:
    view = never_heard()
    for message in said:
        before, view = view.order, view.heard(message, START)
        assert view.order == max(before, order(message))


@settings(max_examples=our.examples(60))
@given(one=messages(), two=messages(), three=messages())
def test_merging_is_associative(one: list[Reading], two: list[Reading], three: list[Reading]) -> None:
    # What a receiver keeps of a list is its newest; merging those in any grouping is the same.
    def newest(said: list[Reading]) -> Reading:
        return fed(never_heard(), said).newest

    left = newest([newest([newest(one), newest(two)]), newest(three)])
    right = newest([newest(one), newest([newest(two), newest(three)])])
    assert order(left) == order(right) == max(order(message) for message in (*one, *two, *three))


def test_a_later_life_wins_with_a_smaller_version() -> None:
    view = heard(900)
    again = evidence(1, epoch=EPOCHS[1], state=HealthState.UNKNOWN)
    assert view.heard(again, START).newest is again
    assert view.heard(again, START).heard(evidence(901), START).newest is again


def test_a_lost_recovery_between_errors_does_not_flip_a_healthy_broker() -> None:
    # Counting error messages at the far end would convict here: error, error, OK (lost), error.
    said = [evidence(1, state=HealthState.DEGRADED), evidence(2, state=HealthState.DEGRADED)]
    view = fed(never_heard(), said).heard(evidence(4, state=HealthState.DEGRADED), START)
    assert view.reading.available


def test_a_new_view_is_blank_and_its_broker_was_never_seen() -> None:
    assert never_heard().order == ("", 0)
    assert never_heard().reading.verdict.reason is Reason.NEVER_SEEN
    assert heard().reading.verdict.reason is Reason.OK


# What hearing lifts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", PRECEDENCE)
def test_only_what_hearing_can_disprove_is_lifted_by_it(reason: Reason) -> None:
    view = heard().vetoed(reason, "laid", START).heard(evidence(2), at(1.0))
    gone = reason not in view.vetoes.laid
    assert gone is (reason in {Reason.SILENT, Reason.NEVER_SEEN, Reason.BLIND})


@pytest.mark.parametrize("reason", PRECEDENCE)
def test_a_new_life_ends_the_restart_too_and_nothing_else(reason: Reason) -> None:
    view = heard().vetoed(reason, "laid", START).heard(evidence(1, epoch=EPOCHS[1]), at(1.0))
    gone = reason not in view.vetoes.laid
    assert gone is (reason in {Reason.SILENT, Reason.NEVER_SEEN, Reason.BLIND, Reason.RESTARTING})


def test_an_old_message_lifts_no_silence() -> None:
    silent = heard(5).vetoed(Reason.SILENT, "laid", START)
    assert silent.heard(evidence(4), at(1.0)).reading.reason is Reason.SILENT


def test_laying_twice_and_lifting_nothing_give_the_same_view() -> None:
    view = heard().vetoed(Reason.SILENT, "once", START)
    assert view.vetoed(Reason.SILENT, "twice", at(1.0)) is view
    assert view.released(at(1.0), Reason.BLIND, Reason.FAILED) is view
    assert view.released(at(1.0), Reason.SILENT).vetoes.strongest is None


# Silence --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ttl", "heartbeat"), [(5.0, 1.0), (41.0, 10.0), (3.0, 0.5), (1.0, 0.0), (0.5, 0.0)])
def test_the_heartbeat_behind_a_time_to_live_is_a_fourth_of_what_the_second_leaves(
    ttl: float, heartbeat: float
) -> None:
    assert heartbeat_s(ttl) == heartbeat


def test_the_time_to_live_is_four_heartbeats_and_a_second() -> None:
    assert [ttl_s(every_s) for every_s in (0.1, 1.0, 10.0)] == [1.4, 5.0, 41.0]


@pytest.mark.parametrize(
    ("seconds", "silent"), [(0.0, False), (4.999, False), (5.0, False), (5.001, True), (99.0, True)]
)
def test_a_broker_is_silent_only_past_the_limit(seconds: float, silent: bool) -> None:
    found = look({"a": heard(), "b": heard(broker="b", after_s=seconds)}, seconds)
    assert (found.views["a"].reading.reason is Reason.SILENT) is silent
    assert found.to_replace == (("a",) if silent else ())
    assert found.views["b"].reading.available


@settings(max_examples=our.examples(100))
@given(quiet_s=our.steps_s(), late_s=our.steps_s(), other_s=our.steps_s())
def test_silence_is_found_exactly_past_the_limit_and_only_on_time(
    quiet_s: float, late_s: float, other_s: float
) -> None:
    now_s = max(quiet_s, other_s) + 1.0
    views = {"a": heard(after_s=now_s - quiet_s), "b": heard(broker="b", after_s=now_s - other_s)}
    found = look(views, now_s, late_s=late_s)
    # What the product computes from instants, so that rounding does not decide the test.
    gone = {name: (at(now_s).up_s - view.heard_s) for name, view in views.items()}
    quiet = [name for name, gone_s in gone.items() if gone_s > LIMIT_S]
    on_time = at(now_s).up_s - (START.up_s + now_s - late_s) <= TICK_GRACE_S
    assert found.on_time is on_time
    laid = [name for name, view in found.views.items() if view.vetoes.laid]
    assert laid == (quiet if on_time else [])
    assert found.to_replace == (tuple(quiet) if on_time and len(quiet) < 2 else ())


def test_half_of_the_limit_is_when_a_broker_is_asked_to_report() -> None:
    views = {"a": heard(), "b": heard(broker="b", after_s=0.1)}
    assert look(views, 2.5).to_ask == ()
    assert look(views, 2.55).to_ask == ("a",)
    assert look(views, 2.7).to_ask == ("a", "b")
    assert look(views, 2.7).views == views
    assert look(views, 2.7, exempt=frozenset("a")).to_ask == ("b",)


def test_who_was_heard_of_never_is_never_seen_and_not_silent() -> None:
    found = look({"a": View(evidence(0, epoch=""), START.up_s), "b": heard(broker="b", after_s=6.0)}, 6.0)
    assert found.views["a"].reading.reason is Reason.NEVER_SEEN
    assert found.to_replace == ("a",)


def test_silence_says_for_how_long_and_ends_with_the_next_word() -> None:
    found = look({"a": heard(), "b": heard(broker="b", after_s=6.0)}, 6.5)
    assert found.views["a"].reading.detail == "nothing heard for 6.5 s"
    assert found.views["a"].reading.since_us == at(6.5).wall_us
    assert found.views["a"].newest.error_count == 0, "silence is no error"
    back = found.views["a"].heard(evidence(2), at(7.0))
    assert back.reading.available
    assert back.reading.since_us == at(7.0).wall_us
    assert back.reading.detail == "the broker's own"


def test_a_second_round_finds_nothing_new() -> None:
    first = look({"a": heard(), "b": heard(broker="b", after_s=7.0)}, 6.0)
    second = look(first.views, 7.0)
    assert all(second.views[name] is view for name, view in first.views.items())


def test_a_watcher_that_slept_convicts_nobody_and_starts_counting_again() -> None:
    silent = heard(broker="c").vetoed(Reason.SILENT, "before", START)
    views = {"a": heard(), "b": heard(broker="b"), "c": silent}
    found = look(views, 600.0, late_s=TICK_GRACE_S + 0.001)
    assert not found.on_time
    assert (found.to_ask, found.to_replace) == ((), ())
    assert all(found.views[name].vetoes is view.vetoes for name, view in views.items())
    # What waited in the queue meanwhile gets its time to be heard, and no more than that.
    assert look(found.views, 604.9).views["a"].reading.available
    after = look(found.views, 605.1)
    assert {view.reading.reason for view in after.views.values()} == {Reason.BLIND}


def test_a_tick_that_is_a_little_late_still_judges() -> None:
    found = look({"a": heard()}, 6.0, late_s=TICK_GRACE_S)
    assert found.on_time
    assert found.views["a"].reading.reason is Reason.SILENT
    assert TICK_GRACE_S == 5.0


# Blind ----------------------------------------------------------------------------------------------


def test_when_all_of_two_are_silent_it_is_the_watcher_who_is_blind_and_nobody_is_replaced() -> None:
    found = look({"a": heard(), "b": heard(broker="b", after_s=0.5)}, 6.0)
    assert {view.reading.reason for view in found.views.values()} == {Reason.BLIND}
    assert not any(view.reading.available for view in found.views.values())
    assert found.to_replace == ()
    assert found.to_ask == ("a", "b")
    assert found.views["b"].reading.detail == "nothing heard for 5.5 s, nor from any other broker"


def test_a_single_broker_is_never_a_reason_to_call_oneself_blind() -> None:
    found = look({"a": heard()}, 6.0)
    assert found.views["a"].reading.reason is Reason.SILENT
    assert found.to_replace == ("a",)


def test_who_is_exempt_is_neither_silent_nor_a_witness() -> None:
    views = {"a": heard(), "b": heard(broker="b"), "c": heard(broker="c", after_s=6.0)}
    found = look(views, 6.0, exempt=frozenset("c"))
    assert [view.reading.reason for view in found.views.values()] == [Reason.BLIND, Reason.BLIND, Reason.OK]
    alone = look(views, 6.0, exempt=frozenset("bc"))
    assert [view.reading.reason for view in alone.views.values()] == [Reason.SILENT, Reason.OK, Reason.OK]
    assert alone.views["b"] is views["b"]
    assert (alone.to_replace, alone.to_ask) == (("a",), ("a",))
    exempted = look(views, 6.0, exempt=frozenset("abc"))
    assert (exempted.views, exempted.to_ask, exempted.to_replace) == (views, (), ())


def test_back_from_blind_who_spoke_is_well_and_who_did_not_is_silent() -> None:
    blind = look({"a": heard(), "b": heard(broker="b")}, 6.0).views
    heard_a = {**blind, "a": blind["a"].heard(evidence(2), at(6.5))}
    assert heard_a["a"].reading.available
    assert heard_a["b"].reading.reason is Reason.BLIND
    after = look(heard_a, 7.0)
    assert after.views["a"].reading.available
    assert after.views["b"].reading.reason is Reason.SILENT
    assert Reason.BLIND not in after.views["b"].vetoes.laid
    assert after.to_replace == ("b",)
    both = look({"a": heard_a["a"], "b": blind["b"].heard(evidence(2, broker="b"), at(6.6))}, 7.0)
    assert all(view.reading.available for view in both.views.values())


def test_one_who_was_silent_before_the_rest_is_blind_with_them_and_silent_after_them() -> None:
    first = look({"a": heard(), "b": heard(broker="b", after_s=4.0)}, 6.0).views
    assert first["a"].reading.reason is Reason.SILENT
    blind = look(first, 10.0)
    assert {view.reading.reason for view in blind.views.values()} == {Reason.BLIND}
    assert blind.to_replace == ()
    after = look({**blind.views, "b": blind.views["b"].heard(evidence(2, broker="b"), at(10.5))}, 11.0)
    assert after.views["a"].reading.reason is Reason.SILENT
    assert after.views["b"].reading.available


# Evidence under vetoes ------------------------------------------------------------------------------


@settings(max_examples=our.examples(60))
@given(reading=our.readings(), reasons=st.lists(st.sampled_from(PRECEDENCE), max_size=3))
def test_the_verdict_is_composed_anew_and_the_evidence_is_not_touched(
    reading: Reading, reasons: list[Reason]
) -> None:
    vetoes: Vetoes = NO_VETOES
    for number, reason in enumerate(reasons):
        vetoes = vetoes.lay(reason, f"no {number}", at(number))
    shown = composed(reading, vetoes)
    # The broker's own veto stands in its verdict; all vetoes together are asked for the strongest.
    said = reading.verdict.reason
    assume(said not in (Reason.LOCAL_NETWORK, Reason.OTHER))
    own = [said] if said in PRECEDENCE and said is not verdict(reading.state).reason else []
    strongest = min((*own, *reasons), key=PRECEDENCE.index, default=None)
    if own and strongest is own[0] and own[0] not in reasons:
        assert shown is reading
        return
    assert shown.verdict == verdict(reading.state, vetoes)
    assert strongest is None or shown.verdict == Verdict(available=False, reason=strongest)
    names = set(reading.__struct_fields__) - {"verdict", "since_us", "detail"}
    assert {name: getattr(shown, name) for name in names} == {name: getattr(reading, name) for name in names}
    if not reasons:
        assert (shown.since_us, shown.detail) == (reading.since_us, reading.detail)


def refused(reason: Reason, *, since_s: float = 2.0) -> Reading:
    """What a broker says of itself when private calls have stopped."""
    own = Verdict(available=False, reason=reason)
    return msgspec.structs.replace(
        evidence(), verdict=own, since_us=at(since_s).wall_us, detail="its own veto"
    )


@pytest.mark.parametrize("own", sorted(OWN_VETOES))
def test_a_brokers_own_veto_is_shown_as_it_says_it_when_nobody_laid_a_stronger_one(own: Reason) -> None:
    said = refused(own)
    assert composed(said, NO_VETOES) is said
    # Lifting something else does not move the beginning of what holds.
    assert composed(said, NO_VETOES.lay(Reason.SILENT, "", START).lift(at(9.0), Reason.SILENT)) is said
    assert not composed(said, NO_VETOES).verdict.available


@pytest.mark.parametrize("own", sorted(OWN_VETOES))
@pytest.mark.parametrize("laid", [reason for reason in PRECEDENCE if reason not in OWN_VETOES])
def test_the_supervisors_vetoes_are_stronger_than_the_brokers_own_and_leave_it_as_it_was(
    own: Reason, laid: Reason
) -> None:
    view = View(refused(own), START.up_s)
    vetoed = view.vetoed(laid, "by another", at(3.0))
    assert vetoed.reading.verdict == Verdict(available=False, reason=laid)
    assert (vetoed.reading.detail, vetoed.reading.since_us) == ("by another", at(3.0).wall_us)
    assert vetoed.released(at(4.0), laid).reading == view.reading


def test_a_refused_key_is_weaker_than_a_lockout_that_somebody_else_laid() -> None:
    shown = composed(refused(Reason.AUTH), NO_VETOES.lay(Reason.LOCKED_OUT, "told by another", at(3.0)))
    assert shown.verdict.reason is Reason.LOCKED_OUT
    said = refused(Reason.LOCKED_OUT)
    assert composed(said, NO_VETOES.lay(Reason.AUTH, "told by another", at(3.0))) is said
    twice = composed(said, NO_VETOES.lay(Reason.LOCKED_OUT, "told by another", at(3.0)))
    assert twice.detail == "told by another"


@settings(max_examples=our.examples(100))
@given(
    history=our.histories(6),
    rules=our.rules(),
    others=st.lists(
        st.sampled_from([reason for reason in PRECEDENCE if reason not in OWN_VETOES]), max_size=2
    ),
)
def test_held_out_is_out_whatever_the_broker_says_and_the_end_of_the_hold_leaves_no_trace(
    history: list[our.Step], rules: Rules, others: list[Reason]
) -> None:
    health, now = Health.begin(START, rules=rules), START
    view = View(evidence(0, epoch=""), START.up_s)
    for reason in others:
        view = view.vetoed(reason, "", START)
    held = view.vetoed(Reason.HELD_OUT, "by hand", START)
    for number, (step, moment) in enumerate(our.moments(history, START), 1):
        health, now = our.fold(health, step, moment), moment
        said = msgspec.structs.replace(
            evidence(number), state=health.state, verdict=verdict(health.state, health.vetoes)
        )
        view, held = view.heard(said, now), held.heard(said, now)
        assert not held.reading.available
        assert held.reading.verdict.reason in (Reason.HELD_OUT, Reason.CONFIG, Reason.SHUTDOWN)
        released = held.released(now, Reason.HELD_OUT)
        would_be = view.reading if Reason.HELD_OUT not in others else released.reading
        assert released.reading.verdict == would_be.verdict
        # Only evidence restores (17): what a view calls available is what the broker itself does.
        assert not view.reading.verdict.available or verdict(health.state, health.vetoes).available


@pytest.mark.parametrize("state", [HealthState.RECOVERING, HealthState.MAINTENANCE])
def test_a_broker_that_recovers_or_is_in_maintenance_is_not_available_and_says_so(state: HealthState) -> None:
    view = heard().heard(evidence(2, state=state), at(1.0))
    assert not view.reading.available
    assert view.reading.verdict.reason.value == state.name.lower()
    restarting = view.vetoed(Reason.RESTARTING, "it died", at(2.0))
    assert restarting.released(at(3.0), Reason.RESTARTING).reading.verdict == view.reading.verdict


def test_under_a_veto_the_verdict_began_with_it_and_its_words_are_shown() -> None:
    vetoes = NO_VETOES.lay(Reason.SILENT, "quiet", at(3.0)).lay(Reason.HELD_OUT, "", at(4.0))
    shown = composed(evidence(), vetoes)
    assert shown.since_us == at(4.0).wall_us
    assert shown.detail == "the broker's own", "a veto without words leaves those of the broker"
    weaker = composed(evidence(), vetoes.lift(at(5.0), Reason.HELD_OUT))
    assert weaker.detail == "quiet"
    assert not weaker.verdict.available


def test_after_a_veto_the_verdict_began_when_it_was_lifted_or_when_the_evidence_changed() -> None:
    lifted = NO_VETOES.lay(Reason.SILENT, "quiet", at(3.0)).lift(at(5.0), Reason.SILENT)
    assert composed(evidence(), lifted).since_us == at(5.0).wall_us
    later = msgspec.structs.replace(evidence(), since_us=at(9.0).wall_us)
    assert composed(later, lifted).since_us == at(9.0).wall_us


def test_ages_versions_and_details_are_not_worth_telling_and_everything_else_is() -> None:
    reading = evidence()
    quiet: dict[str, object] = {"version": 9, "detail": "other", "valid_until_s": 1.0, "labels": {"x": "y"}}
    for name, value in quiet.items():
        assert comparison_key(msgspec.structs.replace(reading, **{name: value})) == comparison_key(reading), (
            name
        )
    loud: dict[str, object] = {
        "broker_epoch": EPOCHS[1],
        "state": HealthState.DEGRADED,
        "verdict": verdict(HealthState.UNAVAILABLE),
        "since_us": 1,
        "error_count": 1,
        "fault": "network",
        "as_of": START,
        "cash": 1,
        "balance": {},
    }
    for name, value in loud.items():
        assert comparison_key(msgspec.structs.replace(reading, **{name: value})) != comparison_key(reading), (
            name
        )


def test_all_orders_of_three_messages_end_alike() -> None:
    said = [evidence(1), evidence(2, state=HealthState.UNAVAILABLE), evidence(1, epoch=EPOCHS[2])]
    ends = [fed(never_heard(), list(some)) for some in permutations(said)]
    assert {end.order for end in ends} == {(EPOCHS[2], 1)}
    assert all(replace(end, heard_s=0.0, vetoes=NO_VETOES) == View(said[2], 0.0) for end in ends)


def test_the_words_of_a_veto_are_cut_to_what_receivers_accept() -> None:
    now = ManualClock().now()
    laid = NO_VETOES.lay(Reason.FAILED, "\ud800" + "x" * 1_000, now).laid[Reason.FAILED]
    assert len(laid.detail) == 256
    laid.detail.encode()


@pytest.mark.parametrize(
    ("faults", "ours"),
    [
        ([], False),
        ([FaultKind.NETWORK], False),
        ([FaultKind.NETWORK, None], False),
        ([FaultKind.NETWORK, FaultKind.EXCHANGE_DOWN], False),
        ([FaultKind.NETWORK, FaultKind.NETWORK], True),
    ],
)
def test_it_is_our_own_network_only_when_at_least_two_and_all_cannot_be_reached(
    faults: list[FaultKind | None], ours: bool
) -> None:
    views = {
        str(n): View(msgspec.structs.replace(evidence(), fault=fault), 0.0) for n, fault in enumerate(faults)
    }
    assert cut_off(views) is ours


@pytest.mark.parametrize("state", list(HealthState))
def test_being_cut_off_changes_the_reason_of_errors_and_never_the_answer(state: HealthState) -> None:
    plain, cut = verdict(state), verdict(state, replace(NO_VETOES, cut_off=True))
    assert plain.available == cut.available
    expected = Reason.LOCAL_NETWORK if plain.reason is Reason.ERRORS else plain.reason
    assert cut.reason is expected


def test_who_hears_nothing_from_a_cluster_any_more_says_so() -> None:
    ear = Receiver(CLOCK)
    stamp = Stamp(src="supervisor/main", epoch=EPOCHS[0], seq=1, ts_us=0, up_us=0, ttl_ms=0)
    said = Envelope(type=MessageType.READING, stamp=stamp, data=evidence().data())
    assert ear.take("health/1/state/kraken/a/", said) is not None
    turned = ear.expire()
    assert [one.reading.detail for one in turned] == ["nothing heard from the cluster"]
    assert turned[0].reading.verdict == Verdict(available=False, reason=Reason.NOTHING_HEARD)
    assert turned[0].reading.since_us == CLOCK.now().wall_us
