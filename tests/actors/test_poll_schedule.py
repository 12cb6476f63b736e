"""When an account is polled next, and that no change of its configuration puts a poll off."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from brokerwatch.actors.poll_schedule import PollSchedule
from brokerwatch.actors.protocol import Fetched, Reconfigured
from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import HealthState, Reason
from tests.support.driven_broker import Driven

NOW: Final = Instant(1_000_000, 100.0)
HEALTH: Final = Health.begin(NOW)


def schedule(**values: float) -> PollSchedule:
    found = PollSchedule(BrokerSpec("a", exchange="kraken", **values), lambda shortest, _longest: shortest)  # type: ignore[arg-type]
    found.number = 1  # the first poll of a start is spread over the interval
    return found


def test_the_usual_poll_keeps_its_interval_however_long_the_fetch_took() -> None:
    ten = schedule(poll_interval_s=10.0)
    asked = Instant(0, NOW.up_s - 3.0)
    assert ten.plan(ten.wait_s(HEALTH, NOW), HEALTH, NOW, asked) == 7.0


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
