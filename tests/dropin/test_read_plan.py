"""When a watched state is read again."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.dropin.read_plan import AGAIN_S, GATHER_S, POLL_S, ReadPlan
from brokerwatch.exchanges.rate_limit import STAND_IN, Budget, RateLimiter
from brokerwatch.health.push import Acknowledged, PushWatch

NEVER: Final = float("-inf")
PLAN: Final = ReadPlan(RateLimiter(STAND_IN))
WANTED: Final = PushWatch().heard(Acknowledged(sets=True), Instant(0, 0.0))


def test_a_read_follows_the_first_frame_and_not_the_last_of_a_flood() -> None:
    plan = PLAN.began(0.0).ended(0.0, 0.1).wanted(WANTED, 5.0).wanted(WANTED, 5.2)
    assert plan.due_s(NEVER, 120.0) == 5.0 + GATHER_S


def test_without_a_frame_it_is_read_now_and_then() -> None:
    assert PLAN.began(0.0).ended(0.0, 0.1).due_s(NEVER, 120.0) == 120.0


def test_a_call_that_nothing_read_before_can_answer_is_read_for_at_once() -> None:
    plan = PLAN.began(0.0).ended(0.0, 0.1)
    assert plan.due_s(7.0, 120.0) == 7.0
    assert plan.due_s(0.1, 120.0) == 0.1 + GATHER_S, "not one read upon the other"


def test_a_read_that_was_behind_is_made_again_a_moment_later() -> None:
    plan = PLAN.began(0.0).ended(0.0, 0.1).again(0.1)
    assert plan.due_s(NEVER, 120.0) == 0.1 + AGAIN_S
    assert not plan.began(1.0).ended(1.0, 1.1).is_behind


def test_reads_that_fail_are_made_less_and_less_often() -> None:
    plan, waits = PLAN, list[float]()
    for _ in range(6):
        plan = plan.began(0.0).ended(None, 0.0)
        waits.append(plan.due_s(0.0, 120.0))
    assert waits == [1.0, 2.0, 4.0, 8.0, POLL_S, POLL_S]
    assert plan.ended(0.0, 0.0).failures == 0


def test_reads_leave_a_part_of_the_budget_to_the_bot() -> None:
    plan = replace(PLAN, limiter=RateLimiter(Budget(burst=6.0, per_s=1.0)))
    plan = plan.began(0.0).ended(0.0, 0.0)
    assert plan.due_s(0.5, 120.0) == 0.5
    plan = plan.took(3, 0.0)
    assert plan.due_s(0.5, 120.0) == 2.0, "three calls of six were made, and four are left to others"


def test_what_the_exchange_says_about_asking_again_is_kept() -> None:
    plan = PLAN.began(0.0).refused(0.0, 30.0).ended(None, 0.0)
    assert plan.due_s(0.0, 120.0) >= 30.0
