"""The parts of the soak that decide: the script, the looks at a listener, the slope, and the verdicts.

`make soak` itself runs for minutes, so it is no part of `make test`.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from benchmarks.soak.measured import Life, Measured, Second
from benchmarks.soak.proc import Sample
from benchmarks.soak.report import WIDTH, as_json, quantile_ms, table
from benchmarks.soak.script import (
    ACCOUNTS,
    BEGINNING,
    CALM_S,
    DRAWN,
    LEAST,
    LEFT_OUT,
    MOST,
    RESTARTS,
    RESTARTS_WITHIN,
    script,
)
from benchmarks.soak.slope import LEAST_BLOCKS, Point, block_minima, slope_of
from benchmarks.soak.subscribers import bucket, bucket_ms
from benchmarks.soak.verdicts import BEHIND_S, BOUND_MB_PER_H, Judgement, longest_unproven_s, verdicts
from benchmarks.soak.watch import LATE_S, LONGEST_GAP_S, TTL_S, Watch, add_seen
from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.clock import ManualClock
from brokerwatch.messages import Reason, Stamp, Verdict
from brokerwatch.simulator import FAULTS
from tests.support.readings import reading

GROWS = f"grows by less than {BOUND_MB_PER_H:g} MB an hour, or by nothing"
SEEDS = range(60)
LENGTH_S = 540


def memory(seed: int, mb_per_h: float, *, length_s: int = LENGTH_S) -> list[Point]:
    """A made-up process: it warms up, its memory leaps and wanders a little, and it may grow."""
    chance = random.Random(seed)
    wander, points = 0.0, list[Point]()
    for at_s in range(length_s):
        wander = 0.9 * wander + chance.gauss(0.0, 0.02)
        leap = chance.choice((0.0, 0.0, 0.0, 4.0))
        warm = 3.0 * (1.0 - math.exp(-at_s / 12.0))
        points.append((float(at_s), 128.0 + warm + wander + leap + mb_per_h / 3_600 * at_s))
    return points


def slope_per_h(points: list[Point]) -> tuple[float, float, float]:
    slope = slope_of(block_minima(points, block_s=10.0, warm_up_s=60.0))
    assert slope is not None
    return slope.per_s * 3_600, slope.low_per_s * 3_600, slope.high_per_s * 3_600


# --- the slope ------------------------------------------------------------------------------------------


def test_memory_that_does_not_grow_is_found_steady_nearly_always() -> None:
    intervals = [slope_per_h(memory(seed, 0.0)) for seed in SEEDS]
    assert all(low <= middle <= high for middle, low, high in intervals)
    assert sum(low <= 0.0 <= high for _, low, high in intervals) >= 0.9 * len(SEEDS)
    assert all(low <= 0.0 or high < BOUND_MB_PER_H for _, low, high in intervals), "a false alarm"


def test_memory_that_grows_is_found_and_measured() -> None:
    for seed in SEEDS:
        middle, low, high = slope_per_h(memory(seed, 30.0))
        assert low > 0.0
        assert high > BOUND_MB_PER_H
        assert middle == pytest.approx(30.0, abs=6.0), f"seed {seed}"


def test_the_interval_holds_the_true_slope_nearly_always() -> None:
    held = 0
    for seed in SEEDS:
        _, low, high = slope_per_h(memory(seed, 12.0))
        held += low <= 12.0 <= high
    assert held >= 0.9 * len(SEEDS)


def test_a_warm_up_is_no_growth_and_a_spike_counts_for_nothing() -> None:
    flat = [(float(at_s), 100.0 + (50.0 if at_s % 7 == 0 else 0.0) + min(at_s, 60)) for at_s in range(300)]
    assert {value for _, value in block_minima(flat, block_s=10.0, warm_up_s=60.0)} == {160.0}


def test_a_block_that_is_not_whole_does_not_count() -> None:
    points = [(float(at_s), 1.0) for at_s in range(96)]
    assert [at_s for at_s, _ in block_minima(points, block_s=10.0, warm_up_s=60.0)] == [65.0, 75.0, 85.0]


def test_nothing_is_said_of_a_series_that_is_too_short() -> None:
    assert slope_of([(float(at_s), 1.0) for at_s in range(LEAST_BLOCKS - 1)]) is None
    assert slope_of([(float(at_s), 1.0) for at_s in range(LEAST_BLOCKS)]) is not None
    assert block_minima([], block_s=10.0, warm_up_s=0.0) == []


# --- the script -----------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_script_again() -> None:
    assert script(7, 600.0) == script(7, 600.0)
    assert script(7, 600.0) != script(8, 600.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_soak_has_every_kind_of_trouble_and_calm_before_it(seed: int) -> None:
    events = script(seed, 600.0)
    assert {event.kind for event in events} == {
        "fault", "mend", "money", "reload", "mistake", "restart", "history", "stall", "go_on", "cut",
        "replace", "hold", "release",
    }  # fmt: skip
    assert [event.at_s for event in events] == sorted(event.at_s for event in events)
    assert events[0].at_s >= CALM_S
    restarts = [event for event in events if event.kind == "restart"]
    assert Counter(event.says for event in restarts) == Counter(RESTARTS)
    assert all(RESTARTS_WITHIN[0] <= event.at_s / 600.0 <= RESTARTS_WITHIN[1] for event in restarts)


def test_every_fault_that_is_not_left_out_is_drawn_some_time() -> None:
    drawn = {event.says for seed in range(10) for event in script(seed, 600.0) if event.kind == "fault"}
    assert drawn == set(DRAWN)
    assert set(DRAWN) | set(LEFT_OUT) == set(FAULTS)


def test_a_reload_changes_one_account_after_all_were_there_once() -> None:
    before: dict[str, dict[str, object]] = {name: {} for name in BEGINNING}
    full = [event for event in script(3, 3_000.0) if event.says == "all"]
    assert [sorted(event.configured or ()) for event in full] == [sorted(ACCOUNTS)]
    for event in script(3, 3_000.0):
        if event.configured is None or event in full:
            continue
        assert LEAST <= len(event.configured) <= MOST
        differs = {
            name
            for name in (*before, *event.configured)
            if before.get(name, "absent") != event.configured.get(name, "absent")
        }
        assert differs <= {event.account}
        before = event.configured


# --- the looks at a listener ----------------------------------------------------------------------------

BEGAN_US = 1_750_000_000_000_000


def heard(name: str, sent_s: float, reason: Reason = Reason.OK) -> ReceivedReading:
    sent_us = BEGAN_US + round(sent_s * 1e6)
    one = msgspec.structs.replace(
        reading(name, clock=ManualClock()), verdict=Verdict(available=reason is Reason.OK, reason=reason)
    )
    return ReceivedReading(
        one, Stamp(src="supervisor/soak", epoch="1", seq=1, ts_us=sent_us, up_us=0, ttl_ms=5_000)
    )


def looked(*looks: tuple[float, list[ReceivedReading], list[str], int]) -> Watch:
    watch = Watch()
    for now_s, news, available, lost in looks:
        watch.look(now_s, BEGAN_US + round(now_s * 1e6), news, available, lost)
    return watch


def test_looks_that_are_far_apart_say_nothing_of_the_time_between() -> None:
    later_s = 0.1 + 2 * LONGEST_GAP_S
    watch = looked(
        (0.0, [], ["k"], 0), (0.1, [], ["k"], 0), (later_s, [], ["k"], 0), (later_s + 0.1, [], [], 0),
        (later_s + 0.2, [], ["k"], 0),
    )  # fmt: skip
    assert watch.shown["k"] == [[0.0, 0.1], [later_s, later_s], [later_s + 0.2, later_s + 0.2]]


def test_what_was_taken_now_and_then_is_put_together_again() -> None:
    watch, record = Watch(), dict[str, Any]()
    for number in range(100):
        now_s = number / 20
        watch.look(now_s, BEGAN_US, [], ["k"] if number < 50 or number >= 60 else [], 0)
        if number % 7 == 0:
            add_seen(record, watch.taken())
    add_seen(record, watch.taken(is_last=True))
    assert record == {"shown": {"k": [[0.0, 2.45], [3.0, 4.95]]}, "behind": [], "losses": []}


def test_a_loss_is_made_up_for_when_every_account_was_heard_of_anew() -> None:
    watch = looked(
        (1.0, [heard("a", 0.9), heard("b", 0.8)], [], 0),
        (1.1, [heard("a", 1.05), heard("b", 0.8)], [], 3),
        (1.5, [heard("a", 1.4), heard("b", 0.8)], [], 3),
        (1.8, [heard("a", 1.4), heard("b", 1.7)], [], 3),
        (1.9, [heard("a", 1.4), heard("b", 1.7)], [], 4),
    )
    assert watch.taken()["losses"] == [[1.1, 1.8, 3]]
    assert watch.taken(is_last=True)["losses"] == [[1.9, None, 1]]


def test_an_account_whose_newest_message_is_old_is_late_unless_it_has_left() -> None:
    old = LATE_S + 0.5
    gone = looked((old, [heard("a", old), heard("b", 0.0, Reason.SHUTDOWN)], [], 0))
    assert gone.behind == []
    late = looked((old, [heard("a", old), heard("b", 0.0)], [], 0), (old + 0.2, [heard("b", 0.0)], [], 0))
    assert [[*span] for span in late.behind] == [[old, old + 0.2, pytest.approx(old + 0.2)]]


# --- the verdicts ---------------------------------------------------------------------------------------


def sample(at_s: float, mb: float, *, threads: int = 31, descriptors: int = 59) -> Sample:
    return Sample(at_s, mb, mb + 28.0, threads, descriptors, 11, 22)


def sound() -> Measured:
    """A soak in which everything holds."""
    points = memory(1, 0.0)
    lives = [Life("cluster", 0.0, 2.0, 60.0, "killed", -9), Life("cluster", 0.0, 2.0, 540.0, "orderly", 0)]
    lives[0].samples = [sample(at_s, mb) for at_s, mb in points[:50]]
    lives[1].samples = [sample(at_s, mb) for at_s, mb in points]
    measured = Measured(seed=1, length_s=600.0, began_s=0.0, lives=lives)
    measured.listeners = [sample(at_s, mb / 5) for at_s, mb in memory(2, 0.0)]
    measured.circumstances = {"machine": "a machine " * 20}
    measured.baseline, measured.rest, measured.recovered_s = sample(10, 128), sample(600, 128), 3.0
    measured.latencies = Counter({bucket(1_000.0): 99, bucket(50_000.0): 1})
    measured.seconds = [Second(1.0, Counter({bucket(1_000.0): 2}), 3, 9)]
    measured.proofs = {"k": [float(at_s) for at_s in range(600)]}
    measured.troubles.cut.append((100.0, 102.0))
    measured.lost = measured.healed = 4
    measured.seats = {
        "plain-0": {"shown": {"k": [[1.5, 400.0]]}, "behind": [], "losses": [[9.0, 9.8, 3]]},
        "cut": {
            "shown": {"k": [[3.0, 90.0]]},
            "behind": [[101.0, 103.0, 3.5]],
            "losses": [[101.5, 103.0, 1]],
        },
    }
    return measured


def broken(found: tuple[Judgement, ...]) -> list[str]:
    return [each.name for each in found if not each.holds]


def test_a_sound_soak_holds() -> None:
    assert broken(verdicts(sound())) == []


def grows(measured: Measured) -> None:
    measured.lives[1].samples = [sample(at_s, mb) for at_s, mb in memory(1, 40.0)]


def listeners_grow(measured: Measured) -> None:
    measured.listeners = [sample(at_s, mb) for at_s, mb in memory(1, 40.0)]


def keeps_a_thread(measured: Measured) -> None:
    measured.rest = sample(600, 128, threads=32)


def keeps_a_descriptor(measured: Measured) -> None:
    measured.rest = sample(600, 128, descriptors=60)


def stays_behind(measured: Measured) -> None:
    measured.seats["plain-0"]["losses"] = [[9.0, 9.0 + LATE_S + 0.1, 3]]


def never_heals(measured: Measured) -> None:
    measured.seats["plain-0"]["losses"] = [[9.0, None, 3]]


def counts_differ(measured: Measured) -> None:
    measured.healed = 3


def is_late_without_a_cause(measured: Measured) -> None:
    measured.seats["plain-0"]["behind"] = [[101.0, 103.0, BEHIND_S + 0.5]]


def is_late_long_after_its_cause(measured: Measured) -> None:
    measured.seats["cut"]["behind"] = [[101.0, 102.0 + BEHIND_S + 0.1, 3.5]]


def shows_what_is_out(measured: Measured) -> None:
    measured.proofs["k"] = [each for each in measured.proofs["k"] if not 200.0 < each < 201.0 + TTL_S]


def does_not_come_back(measured: Measured) -> None:
    measured.recovered_s = None


def ends_with_an_error(measured: Measured) -> None:
    measured.lives[1].status = 5


def logs_a_traceback(measured: Measured) -> None:
    measured.tracebacks = 1


@pytest.mark.parametrize(
    ("break_it", "name"),
    [
        (grows, f"memory of the cluster {GROWS}"),
        (listeners_grow, f"memory of a process with listeners {GROWS}"),
        (keeps_a_thread, "threads return"),
        (keeps_a_descriptor, "descriptors return"),
        (stays_behind, "every loss is made up for within a heartbeat"),
        (never_heals, "every loss is made up for within a heartbeat"),
        (counts_differ, "every loss is made up for within a heartbeat"),
        (is_late_without_a_cause, "no listener is behind"),
        (is_late_long_after_its_cause, "no listener is behind"),
        (shows_what_is_out, "no account is shown as available without proof"),
        (does_not_come_back, "every account came back"),
        (ends_with_an_error, "nothing broke in the cluster"),
        (logs_a_traceback, "nothing broke in the cluster"),
    ],
)
def test_what_is_broken_is_found_and_nothing_else(break_it: Callable[[Measured], None], name: str) -> None:
    measured = sound()
    break_it(measured)
    assert broken(verdicts(measured)) == [name]


def test_a_message_that_came_before_its_trouble_was_over_was_behind_by_nothing() -> None:
    measured = sound()
    measured.seats["cut"]["behind"] = [[100.5, 101.0, 3.5]]
    says = next(each.says for each in verdicts(measured) if each.name == "no listener is behind")
    assert says.startswith("at most 0.0 s after")


def test_a_soak_that_could_not_go_on_holds_in_nothing_that_it_did_not_see() -> None:
    measured = Measured(seed=1, length_s=600.0, began_s=0.0, failure="the cluster did not start")
    found = verdicts(measured)
    assert broken(found)[0] == "the soak ran to its end"
    assert {"threads return", "every account came back"} <= set(broken(found))


def test_an_account_that_was_never_proven_may_not_be_shown() -> None:
    assert longest_unproven_s({"k": [[5.0, 6.0]]}, {}) == math.inf
    assert longest_unproven_s({"k": [[5.0, 6.0]]}, {"k": [5.5]}) == math.inf
    assert longest_unproven_s({"k": [[5.0, 6.0]]}, {"k": [4.0, 5.5, 7.0]}) == 1.5
    assert longest_unproven_s({"k": [[5.0, 9.0]]}, {"k": [4.0, 5.5]}) == 3.5
    assert longest_unproven_s({}, {"k": [1.0]}) == 0.0


# --- the result -----------------------------------------------------------------------------------------


def test_the_table_fits_a_terminal_and_the_file_has_all_of_it() -> None:
    measured = sound()
    found = verdicts(measured)
    assert all(len(line) <= WIDTH for line in table(measured, found).splitlines())
    read = json.loads(as_json(measured, found))
    assert [verdict["holds"] for verdict in read["verdicts"]] == [True] * len(found)
    assert len(read["lives"][1]["samples"]) == LENGTH_S
    assert sum(read["latencies"].values()) == 100


def test_quantiles_are_those_of_the_buckets() -> None:
    latencies = sound().latencies
    assert quantile_ms(latencies, 0.5) == pytest.approx(1.0, rel=0.03)
    assert quantile_ms(latencies, 0.99) == pytest.approx(1.0, rel=0.03)
    assert quantile_ms(latencies, 1.0) == pytest.approx(50.0, rel=0.03)
    assert quantile_ms(Counter(), 0.5) == 0.0
    assert [bucket(bucket_ms(number) * 1_000) for number in range(300)] == list(range(300))
