"""The counts of one cluster: buckets, words, and what is forgotten with an account."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerwatch.messages import FaultKind
from brokerwatch.tally import BUCKETS_S, ORDER_ENDS, Counts, Histogram, Tally


@pytest.mark.parametrize(
    ("seconds", "place"),
    [(-1.0, 0), (0.0, 0), (0.05, 0), (0.0501, 1), (0.1, 1), (30.0, 8), (30.1, 9), (float("inf"), 9)],
)
def test_a_duration_falls_into_the_first_bucket_whose_bound_is_not_below_it(
    seconds: float, place: int
) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    counted = histogram.durations()
    assert [number for number, count in enumerate(counted.counts) if count] == [place]
    assert counted.sum_s == max(0.0, seconds)
    assert len(counted.counts) == len(BUCKETS_S) + 1


def test_many_threads_count_and_nothing_is_lost() -> None:
    counts, histogram = Counts(("a",)), Histogram()

    def count(number: int) -> None:
        for _ in range(1_000):
            counts.add("ab"[number % 2])
            histogram.observe(0.2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert counts.counts() == {"a": 4_000, "b": 4_000}
    assert (counts.total, sum(histogram.durations().counts)) == (8_000, 8_000)
    counts.counts()["a"] = 0
    assert counts.counts()["a"] == 4_000, "what was read is a copy"


def test_two_tallies_count_apart() -> None:
    one, other = Tally(), Tally()
    one.account("a").faults.add(FaultKind.NETWORK)
    assert one.account("a").faults.counts() == {"network": 1}
    assert other.account("a").faults.counts() == {}
    assert one.account("a").ended.counts() == dict.fromkeys(ORDER_ENDS, 0)


def test_an_account_that_was_removed_is_counted_no_more_and_not_kept() -> None:
    tally = Tally()
    known = tally.account("a")
    assert tally.of("a") is known
    tally.forget("a")
    known.sent.add()
    tally.of("a").sent.add()
    assert dict(tally.accounts()) == {}
    assert tally.account("a").sent.total == 0, "one that comes under its name begins anew"
    tally.forget("b")


def test_the_lane_of_a_key_stands_under_the_first_account_that_is_left() -> None:
    tally = Tally()
    lane = tally.key("k", "a")
    assert tally.key("k", "b") is lane
    assert tally.key("k", "a") is lane, "the same account on another loop"
    other = tally.key("l", "c")
    assert dict(tally.keys()) == {"a": lane, "c": other}
    tally.forget("a")
    assert dict(tally.keys()) == {"b": lane, "c": other}
    tally.forget("b")
    assert dict(tally.keys()) == {"c": other}
    new = tally.key("m", "c")
    assert dict(tally.keys()) == {"c": other}, "the new key is tried while the old one is in use"
    tally.leave("l", "c")
    tally.leave("l", "c")
    assert dict(tally.keys()) == {"c": new}
