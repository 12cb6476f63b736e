"""The watch of the parts: what it says, whom it replaces how often, and how its own end is found."""

from __future__ import annotations

import logging
import threading

import pytest

from brokerwatch.cluster import part_watch
from brokerwatch.cluster.part_watch import Part, PartWatch
from brokerwatch.health import restarts
from tests.support.clusters import until


class Planted(Exception):
    """What makes a look fail."""


def test_a_part_that_only_stores_is_told_about_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    wrong = [""]
    watch = PartWatch(look_s=0.01)
    watch.start(Part("the recorder", lambda: wrong[0], is_vital=False))
    with caplog.at_level(logging.WARNING):
        wrong[0] = "the disk hangs"
        until(lambda: caplog.messages == ["the recorder: the disk hangs"])
        assert watch.broken == ""
        wrong[0] = ""
        until(lambda: caplog.messages[1:] == ["the recorder works again"])
    assert watch.stop(10.0)


def test_a_look_that_fails_ends_no_looking(caplog: pytest.LogCaptureFixture) -> None:
    watch = PartWatch(look_s=0.01)
    looks: list[int] = []

    def fault() -> str:
        looks.append(1)
        raise Planted

    watch.start(Part("a part", fault))
    with caplog.at_level(logging.ERROR):
        until(lambda: len(looks) > 3)
    assert watch.broken.startswith("a part: it cannot be looked at")
    assert watch.stop(10.0)


def test_a_part_is_replaced_within_limits_and_then_it_is_broken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restarts, "SHORTEST_RANGE_S", 0.01)
    replaced: list[int] = []
    news: list[str] = []
    out = threading.Event()
    out.set()
    watch = PartWatch(look_s=0.01, on_broken=news.append)
    watch.start(Part("a part", lambda: "it hangs" if out.is_set() else "", mend=lambda: replaced.append(1)))
    with caplog.at_level(logging.WARNING):
        until(lambda: watch.broken)
        assert len(replaced) == restarts.RESTART_LIMIT
        until(lambda: news == ["a part: it hangs, and another one took its place 5 times within 60 s"])
        out.clear()
        until(lambda: not watch.broken)
    assert [each for each in caplog.messages if "for good" in each] == [
        "a part has failed for good: it hangs, and another one took its place 5 times within 60 s"
    ]
    assert caplog.messages[-1] == "a part works again"
    until(lambda: news[-1] == "")
    assert watch.stop(10.0)


def test_a_part_that_a_replacement_mends_is_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "SHORTEST_RANGE_S", 0.01)
    out = threading.Event()
    out.set()
    news: list[str] = []
    looks: list[int] = []

    def fault() -> str:
        looks.append(1)
        return "it hangs" if out.is_set() else ""

    watch = PartWatch(look_s=0.01, on_broken=news.append)
    watch.start(Part("a part", fault, mend=out.clear))
    until(lambda: not out.is_set())
    seen = len(looks)
    until(lambda: len(looks) > seen + 2)
    assert (watch.broken, news) == ("", [])
    assert watch.stop(10.0)


def test_a_watch_that_hangs_itself_is_found_by_whoever_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_watch, "HUNG_S", 0.2)
    monkeypatch.setattr(part_watch, "LATE_S", 0.1)
    held = threading.Event()
    watch = PartWatch(look_s=0.01)

    def fault() -> str:
        held.wait()
        return ""

    watch.start(Part("a part", fault))
    until(lambda: watch.broken == "brokerwatch-parts has not looked for 0.2 s")
    held.set()
    until(lambda: not watch.broken)
    assert watch.stop(10.0)
