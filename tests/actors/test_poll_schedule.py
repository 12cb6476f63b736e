"""When an account is polled next, and that no change of its configuration puts a poll off."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from brokerwatch.actors.poll_schedule import UNASKED_AGAIN_S, PollSchedule
from brokerwatch.actors.protocol import Fetched, Poll, Reconfigured
from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.outcome import NotAsked
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import Fault, FaultKind, HealthState, Reason
from tests.support.driven_broker import Driven

NOW: Final = Instant(1_000_000, 100.0)
HEALTH: Final = Health.begin(NOW)


def schedule(**values: float) -> PollSchedule:
    found = PollSchedule(BrokerSpec("a", exchange="kraken", **values), lambda shortest, _longest: shortest)  # type: ignore[arg-type]
    found.plan(
        found.wait_s(HEALTH, NOW), HEALTH, NOW, NOW
    )  # the first poll of a start is spread over the interval
    return found


def test_the_usual_poll_keeps_its_interval_however_long_the_fetch_took() -> None:
    ten = schedule(poll_interval_s=10.0)
    asked = Instant(0, NOW.up_s - 3.0)
    assert ten.plan(ten.wait_s(HEALTH, NOW), HEALTH, NOW, asked) == 7.0


def test_an_account_whose_poll_did_not_go_out_is_asked_soon_and_not_an_interval_later() -> None:
    desk = Driven(poll_interval_s=300.0)
    unasked = NotAsked("not asked: 30 s in the queue of this process, which is too busy")
    desk.hear(Fetched(1, unasked))
    assert 0 < desk.waits_s[-1] <= UNASKED_AGAIN_S
    desk.hear(Poll(1))
    desk.hear(Fetched(2, desk.balance()))
    assert UNASKED_AGAIN_S < desk.waits_s[-1] <= 300.0, "the first usual poll is spread over the interval"
    desk.hear(Poll(2))
    desk.hear(Fetched(3, Fault(FaultKind.RATE_LIMITED, "too often", retry_after_s=20.0)))
    desk.hear(Poll(3))
    desk.hear(Fetched(4, unasked))
    assert desk.waits_s[-1] >= 20.0, "what an exchange asks for is kept"


def test_a_poll_that_did_not_go_out_keeps_an_interval_that_is_shorter() -> None:
    often = schedule(poll_interval_s=1.0)
    assert often.unasked_wait_s(HEALTH, NOW) == 1.0
    assert schedule(poll_interval_s=float("inf")).unasked_wait_s(HEALTH, NOW) == float("inf")


def test_only_a_poll_that_comes_sooner_is_planned_anew() -> None:
    ten = schedule(poll_interval_s=10.0)
    ten.plan(10.0, HEALTH, NOW, NOW)
    later = Instant(0, NOW.up_s + 4.0)
    for interval_s, sooner in ((60.0, False), (10.0, False), (5.0, True), (1.0, True), (float("inf"), True)):
        ten.spec = BrokerSpec("a", exchange="kraken", poll_interval_s=interval_s)
        assert ten.is_sooner(HEALTH, later, NOW) is sooner, interval_s


def test_a_thousand_changes_of_the_configuration_put_no_poll_off() -> None:
    desk = Driven(poll_interval_s=10.0)
    desk.hear(Fetched(1, desk.balance()))
    spec = desk.actor._spec  # pyright: ignore[reportPrivateUsage] - what it was made with
    planned = len(desk.waits_s)
    for number in range(1_000):
        taken: Future[None] = Future()
        desk.hear(Reconfigured(replace(spec, labels={"round": str(number)}), taken), after_s=0.001)
        assert taken.done()
    assert len(desk.waits_s) == planned, "nothing was planned anew"
    desk.hear(Reconfigured(replace(spec, poll_interval_s=0.5), Future()))
    assert len(desk.waits_s) == planned + 1, "but what comes sooner is"


def test_a_changed_account_goes_on_in_the_same_life_with_all_that_it_knew() -> None:
    desk = Driven(max_consecutive_errors=3)
    spec = desk.actor._spec  # pyright: ignore[reportPrivateUsage] - what it was made with
    desk.hear(desk.seen())
    before = desk.reading
    desk.hear(Reconfigured(replace(spec, max_consecutive_errors=1), Future()))
    after = desk.reading
    assert (after.state, after.reason) == (HealthState.HEALTHY, Reason.OK)
    assert (after.broker_epoch, after.cash, after.version) == (
        before.broker_epoch,
        before.cash,
        before.version + 1,
    )
