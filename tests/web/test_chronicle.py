"""The chronicle over a real cluster: what is heard is written down, and nothing that fails ends anything."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.health.timeline import Span
from brokerwatch.health.uptime import Kind, kind
from brokerwatch.messages import Reason
from brokerwatch.storage.chronicle import DAY_US, HOUR_US, ChronicleStore, chronicle_url
from brokerwatch.web.chronicle import LOCK_NAME, Chronicle
from tests.support.clusters import PATIENCE_S, Till, cluster_of, until, wait_for_reading
from tests.web.test_routes import spec_of

CLOCK = SystemClock()


@contextmanager
def heard(cluster: Cluster) -> Generator[Listener]:
    with Listener(cluster.health_endpoint) as listener:
        assert listener.complete.wait(PATIENCE_S)
        yield listener


def chronicle_of(listener: Listener, folder: Path | None, clock: Clock = CLOCK, **values: Any) -> Chronicle:
    store = None if folder is None else ChronicleStore(chronicle_url(folder), "main")
    return Chronicle(listener, clock, store, keep_days=lambda: 400.0, **values)


def spans_of(chronicle: Chronicle, name: str = "a") -> list[Span]:
    return chronicle.spans(0, CLOCK.now().wall_us).get(name, [])


def kinds_of(chronicle: Chronicle) -> list[Kind]:
    found: list[Kind] = []
    for span in spans_of(chronicle):
        what = kind(span.available, span.reason)
        if what not in found[-1:]:
            found.append(what)
    return found


def fall(cluster: Cluster, till: Till) -> None:
    till.failure = ConnectionError("down")
    for _ in range(3):
        cluster.broker("a").get_account_balance()


def test_an_outage_and_its_end_are_written_down_with_amounts_and_answer_times(tmp_path: Path) -> None:
    till = Till({"USD": "100.50"})
    with cluster_of(spec_of(till)) as cluster, heard(cluster) as listener:
        chronicle = chronicle_of(listener, tmp_path)
        chronicle.start()
        cluster.broker("a").get_account_balance()
        until(lambda: kinds_of(chronicle)[-1:] == [Kind.OK])
        fall(cluster, till)
        until(lambda: kinds_of(chronicle)[-2:] == [Kind.OK, Kind.ERRORS])
        till.failure, till.balance = None, {"USD": "99.00"}
        cluster.broker("a").get_account_balance()
        until(lambda: kinds_of(chronicle)[-3:] == [Kind.OK, Kind.ERRORS, Kind.OK])
        assert [each.cash for each in chronicle.cash(0)["a"]] == ["100.50"], "once a minute at most"
        assert chronicle.stop(PATIENCE_S)
        again = ChronicleStore(chronicle_url(tmp_path), "main")
        now_us = CLOCK.now().wall_us
        (stored,) = again.spans(0).values()
        assert {kind(one.available, one.reason) for one in stored} >= {Kind.OK, Kind.ERRORS}
        assert [(one.cash, one.unit) for one in again.cash(0)["a"]] == [("100.50", "USD")]
        for length_us in (HOUR_US, DAY_US):
            assert sum(again.answers(now_us, length_us)["a"].counts.values()) >= 1
        again.close()


def test_without_a_folder_it_is_kept_in_memory(tmp_path: Path) -> None:
    with cluster_of(spec_of(Till({"USD": "1"}))) as cluster, heard(cluster) as listener:
        chronicle = chronicle_of(listener, None)

        def ask() -> None:
            cluster.broker("a").get_account_balance()
            as_of_us = cluster.broker("a").reading().as_of_us
            wait_for_reading(listener, "a", lambda reading: reading.as_of_us == as_of_us)
            chronicle.look()

        ask()
        ask()
        chronicle.save()
        assert kinds_of(chronicle)[-1] is Kind.OK
        assert chronicle.cash(0)["a"][0].cash == "1"
        assert sum(chronicle.answers(0, DAY_US)["a"].counts.values()) == 1
        assert list(tmp_path.iterdir()) == []


def test_time_between_two_watchers_is_a_gap(tmp_path: Path) -> None:
    with cluster_of(spec_of()) as cluster:

        def watched() -> list[Span]:
            began_us = CLOCK.now().wall_us
            with heard(cluster) as listener:
                chronicle = chronicle_of(listener, tmp_path)
                chronicle.start()
                until(lambda: any(one.until_us > one.from_us >= began_us for one in spans_of(chronicle)))
                assert chronicle.stop(PATIENCE_S)
                return spans_of(chronicle)

        watched()
        found = watched()
        assert any(one.until_us < two.from_us for one, two in itertools.pairwise(found))


def test_a_database_that_cannot_be_written_is_said_once_and_what_waits_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file where the folder should be")
    with cluster_of(spec_of()) as cluster, heard(cluster) as listener:
        chronicle = chronicle_of(listener, folder)
        chronicle.look()
        for _ in range(3):
            chronicle._attempt(1.0)  # pyright: ignore[reportPrivateUsage] - what the thread does
        said = [one for one in caplog.records if "cannot be written" in one.getMessage()]
        assert len(said) == 1
        folder.unlink()
        chronicle._attempt(1.0)  # pyright: ignore[reportPrivateUsage] - what the thread does
        assert "written again" in caplog.text
        assert chronicle.stop(PATIENCE_S)
        assert (folder / "chronicle.db").stat().st_mode & 0o077 == 0


def test_one_of_two_processes_on_a_folder_writes_and_the_other_one_takes_over(tmp_path: Path) -> None:
    lock = tmp_path / LOCK_NAME
    with cluster_of(spec_of()) as cluster, heard(cluster) as listener:
        one, two = (chronicle_of(listener, tmp_path, lock=lock) for _ in range(2))
        assert one._has_store()  # pyright: ignore[reportPrivateUsage] - what the thread does
        assert not two._has_store()  # pyright: ignore[reportPrivateUsage] - what the thread does
        one.stop(PATIENCE_S)
        assert two._has_store()  # pyright: ignore[reportPrivateUsage] - what the thread does
        two.stop(PATIENCE_S)


def test_no_amount_is_written_down_where_none_is_published(tmp_path: Path) -> None:
    till = Till({"USD": "31415.92"})
    with cluster_of(spec_of(till), publish_balances=False) as cluster, heard(cluster) as listener:
        cluster.broker("a").get_account_balance()
        wait_for_reading(listener, "a", lambda reading: reading.as_of_us is not None)
        chronicle = chronicle_of(listener, tmp_path)
        chronicle.look()
        chronicle.save()
        assert chronicle.cash(0) == {}
        chronicle.stop(PATIENCE_S)
        assert b"31415" not in (tmp_path / "chronicle.db").read_bytes()


def test_a_cluster_that_is_stopped_is_heard_no_more_and_no_thread_is_left() -> None:
    with cluster_of(spec_of()) as cluster, heard(cluster) as listener:
        chronicle = chronicle_of(listener, None)
        chronicle.start()
        until(lambda: spans_of(chronicle))
        cluster.stop()
        wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.SHUTDOWN)
        chronicle.look()
        ended = spans_of(chronicle)[-1]
        assert ended.reason is not Reason.SHUTDOWN
        chronicle.look()
        assert spans_of(chronicle)[-1] == ended
        assert chronicle.stop(PATIENCE_S)
    assert not [one for one in threading.enumerate() if "chronicle" in one.name]
