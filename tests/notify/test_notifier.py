"""The notifier end to end: a real cluster, real HTTP and SMTP on loopback, and what arrives there."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.clock import ManualClock, SystemClock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.errors import BalanceUnknown, ClusterStopped, StateFolderTaken
from brokerwatch.notify import deliveries
from brokerwatch.notify.notifier import Notifier
from brokerwatch.notify.outage_state import Rules
from brokerwatch.notify.record_file import RECORD_NAME, read_record
from brokerwatch.notify.silence_file import SilenceFile
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import Till, cluster_of, simulated_spec, until
from tests.support.receivers import Received, web_receiver
from tests.support.watching import silence


def watched(till: Till, name: str = "till-1", **values: Any) -> BrokerSpec:
    chosen: dict[str, Any] = {"poll_interval_s": float("inf"), **values}
    return BrokerSpec(name, fetch=till, **chosen)


def fail(cluster: Cluster, till: Till, name: str = "till-1", words: str = "the till is stuck") -> None:
    """Three faults in a row."""
    till.failure = ValueError(words)
    for _ in range(3):
        with contextlib.suppress(BalanceUnknown):
            cluster.broker(name).get_account_balance()


def recover(cluster: Cluster, till: Till, name: str = "till-1") -> None:
    till.failure = None
    cluster.broker(name).get_account_balance()


def notifying(received: Received, *specs: BrokerSpec, state: Path, **values: Any) -> Cluster:
    return cluster_of(*specs, state=state, notify=NotifySettings(urls=(received.url(),), **values))


def test_one_outage_is_one_message_and_its_end_is_another(tmp_path: Path) -> None:
    till = Till()
    with web_receiver() as received, notifying(received, watched(till), state=tmp_path) as cluster:
        recover(cluster, till)
        fail(cluster, till)
        [outage] = received.has(1)
        recover(cluster, till)
        received.has(2)
    titles = received.titles
    assert titles[0] == "[critical] till-1 is not available: errors, bad_response"
    assert titles[1].startswith("[recovery] till-1 is available again after ")
    assert re.search(
        r"Last known cash there: 100\.00 USD, as of \d s before this message\.", outage["message"]
    )
    assert len(titles) == 2


def notifier_of(cluster: Cluster) -> Notifier:
    """The one that runs inside the cluster."""
    notifier = cluster._outlets._notifier  # pyright: ignore[reportPrivateUsage] - it shows nowhere else
    assert notifier is not None
    return notifier


def heard_available(notifier: Notifier) -> set[str]:
    """The accounts that are available by what it heard last."""
    newest = [each.seen for each in notifier.seen.values() if each.seen is not None]
    return {seen.broker for seen in newest if seen.available and not seen.of_orders}


QUICK: Final = Rules(line_settled_s=0.2, line_doubt_s=30.0)


@contextmanager
def outside(cluster: Cluster, received: Received, folder: Path, **values: Any) -> Generator[Notifier]:
    """A notifier that listens to a cluster from outside."""
    settings = NotifySettings(urls=(received.url(),), **values)
    with Listener(cluster.health_endpoint) as listener:
        notifier = Notifier(listener, settings, folder, rules=QUICK)
        notifier.start()
        try:
            yield notifier
        finally:
            assert notifier.stop(10.0)


def test_a_restart_repeats_nothing_and_says_the_end_once(tmp_path: Path) -> None:
    till = Till()
    with web_receiver() as received:
        with notifying(received, watched(till), state=tmp_path) as cluster:
            recover(cluster, till)
            fail(cluster, till)
            received.has(1)
        with notifying(received, watched(till), state=tmp_path) as cluster:
            fail(cluster, till)
            recover(cluster, till)
            received.has(2)
    assert [title.partition(" ")[0] for title in received.titles] == ["[critical]", "[recovery]"]
    assert received.url() not in (tmp_path / RECORD_NAME).read_text()


def test_a_definite_failure_is_tried_again_and_an_unknown_outcome_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deliveries, "FIRST_WAIT_S", 0.05)
    till = Till()
    with web_receiver() as received:
        settings = NotifySettings(urls=(received.url(path="s3cr3t", rto="3"),))
        received.answers = [500, 503]
        with cluster_of(watched(till), state=tmp_path, notify=settings) as cluster:
            recover(cluster, till)
            fail(cluster, till)
            received.has(1)
            received.hold = threading.Event()
            recover(cluster, till)
            received.has(2)
            until(lambda: "not known whether this was sent" in caplog.text)
            received.hold.set()
            received.hold = None
            fail(cluster, till)
            received.has(3)
    assert len(received.refused) == 2
    assert [title.partition(" ")[0] for title in received.titles] == [
        "[critical]",
        "[recovery]",
        "[critical]",
    ]
    assert "channel 1 (json): not sent, tried again in 0.05 s" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_a_channel_that_hangs_delays_no_other(tmp_path: Path) -> None:
    till = Till()
    with web_receiver() as slow, web_receiver() as quick:
        slow.hold = threading.Event()
        settings = NotifySettings(urls=(slow.url(rto="60"), quick.url()))
        with cluster_of(watched(till), state=tmp_path, notify=settings) as cluster:
            recover(cluster, till)
            fail(cluster, till)
            slow.has(1)
            recover(cluster, till)
            quick.has(2)  # and the slow one has not answered yet


def test_no_amount_is_in_a_message_where_none_is_published(tmp_path: Path) -> None:
    till = Till({"USD": "31337.25"})
    with web_receiver() as received, web_receiver() as switch:
        settings = NotifySettings(urls=(received.url(),), heartbeat_url=switch.url("http"))
        values: dict[str, Any] = {"publish_balances": False, "state": tmp_path, "notify": settings}
        with cluster_of(watched(till), **values) as cluster:
            recover(cluster, till)
            fail(cluster, till, words="you have 31337.25 USD")
            received.has(1)
            recover(cluster, till)
            received.has(2)
            switch.has(1)
    assert "31337" not in json.dumps([*received.bodies, *switch.bodies])


def test_our_own_line_is_one_message_from_outside_too(tmp_path: Path) -> None:
    tills = {"till-1": Till(), "till-2": Till()}
    specs = [watched(till, name, poll_interval_s=0.2) for name, till in tills.items()]
    with web_receiver() as received, cluster_of(*specs) as cluster:
        for name, till in tills.items():
            recover(cluster, till, name)
        with outside(cluster, received, tmp_path) as notifier:
            until(lambda: tills.keys() <= notifier.seen.keys())
            for till in tills.values():
                till.failure = ConnectionError("no route to host")
            until(lambda: not any(cluster.reading(name).available for name in tills))
            until(lambda: notifier.line_is_down)
            # The second account may be heard of only after the line was found to be down.
            until(lambda: heard_available(notifier) == set())
            for name, till in tills.items():
                recover(cluster, till, name)
            received.has(1)
            until(lambda: not notifier.line_is_down)
    assert [title.partition(" for ")[0] for title in received.titles] == ["[info] our own line was down"]
    assert "Behind it: till-1, till-2." in received.bodies[0]["message"]


def test_a_silence_of_the_state_folder_mutes_and_its_end_speaks(tmp_path: Path) -> None:
    till = Till()
    with web_receiver() as received, cluster_of(watched(till)) as cluster:
        recover(cluster, till)
        clock = ManualClock(wall_us=SystemClock().now().wall_us)
        SilenceFile(tmp_path).add(silence(clock, 3_600))
        with outside(cluster, received, tmp_path) as notifier:
            fail(cluster, till)
            until(lambda: any(each.outage is not None for each in notifier.seen.values()))
            assert received.bodies == []
            SilenceFile(tmp_path).end("quiet", clock.now().wall_us)
            received.has(1)


def test_two_notifiers_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        web_receiver() as received,
        cluster_of(watched(Till())) as cluster,
        outside(cluster, received, tmp_path),
        cluster.listener() as listener,
    ):
        second = Notifier(listener, NotifySettings(urls=(received.url(),)), tmp_path)
        with pytest.raises(StateFolderTaken, match="sends messages with the state folder"):
            second.start()
        assert second.stop()


def test_the_switch_is_fed_while_all_is_watched_and_says_who_is_not_asked(tmp_path: Path) -> None:
    tills = {"till-1": Till(), "till-2": Till()}
    specs = [watched(till, name, poll_interval_s=0.2) for name, till in tills.items()]
    with web_receiver() as switch:
        settings = NotifySettings(heartbeat_url=switch.url("http"), heartbeat_interval_s=1)
        with cluster_of(*specs, state=tmp_path, notify=settings) as cluster:
            switch.has(1)
            tills["till-1"].failure = ValueError("the till is stuck")
            cluster.hold("till-2", "a test")
            until(lambda: switch.bodies[-1]["not_asked"] == {"held_out": 1})
            until(lambda: switch.bodies[-1]["not_available"] == {"till-1": "errors", "till-2": "held_out"})
            assert switch.bodies[-1]["accounts"] == 2


def test_the_switch_is_not_fed_while_our_own_line_is_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tills = {"till-1": Till(), "till-2": Till()}
    specs = [watched(till, name, poll_interval_s=0.2) for name, till in tills.items()]
    with web_receiver() as switch:
        settings = NotifySettings(heartbeat_url=switch.url("http"), heartbeat_interval_s=1)
        with cluster_of(*specs, state=tmp_path, notify=settings):
            switch.has(1)
            for till in tills.values():
                till.failure = ConnectionError("no route to host")
            until(lambda: "the dead man's switch is not fed: our own line is down" in caplog.text)
            fed = len(switch.bodies)
            threading.Event().wait(1.5)  # more than the interval
            assert len(switch.bodies) == fed


def test_without_a_state_folder_the_switch_is_fed_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    with web_receiver() as switch:
        settings = NotifySettings(heartbeat_url=switch.url("http"))
        with cluster_of(watched(Till(), poll_interval_s=0.2), notify=settings):
            switch.has(1)
    assert "nothing is remembered of what was said" in caplog.text


def test_a_channel_whose_address_is_wrong_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    settings = NotifySettings(urls=("tgrm://123456789:AAbbCCdd/42",))
    with cluster_of(watched(Till()), state=tmp_path, notify=settings):
        until(lambda: "channel 1 (tgrm): apprise cannot use this address" in caplog.text)
    assert "AAbb" not in caplog.text


def test_the_switch_is_not_fed_while_an_account_waits_for_its_turn_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("300", "0")})
    with serve(exchange), web_receiver() as switch:
        settings = NotifySettings(heartbeat_url=switch.url("http"), heartbeat_interval_s=1)
        spec = simulated_spec(exchange, "k", poll_interval_s=0.5, fetch_deadline_s=1.0)
        with cluster_of(spec, state=tmp_path, notify=settings) as cluster:
            switch.has(1)
            with cluster.broker("k").lane():
                until(lambda: "the dead man's switch is not fed: k: no outcome" in caplog.text)
            until(lambda: "the dead man's switch is fed again" in caplog.text)


def test_many_accounts_that_go_out_together_are_one_message_after_the_first(tmp_path: Path) -> None:
    tills = {f"till-{number}": Till() for number in range(8)}
    specs = [watched(till, name) for name, till in tills.items()]
    with web_receiver() as received:
        received.hold = threading.Event()
        with notifying(received, *specs, state=tmp_path) as cluster:
            for name, till in tills.items():
                recover(cluster, till, name)
            # As long as it has not heard of the others, nothing else can be traded: that would be critical.
            until(lambda: heard_available(notifier_of(cluster)) == set(tills))
            for name, till in tills.items():
                fail(cluster, till, name)
                received.has(1)

            def waiting() -> int:
                return sum(map(len, read_record(tmp_path / RECORD_NAME).queues.values()))

            until(lambda: waiting() == len(tills))
            received.hold.set()
            first, second = received.has(2)
            until(lambda: waiting() == 0)
    assert first["title"].startswith("[warning] till-")
    assert second["title"].startswith("[critical] 7 messages at once: till-")
    said = first["title"] + second["message"]
    assert [name for name in tills if f"{name} is not available" not in said] == []
    assert len(received.bodies) == 2


def test_other_channels_are_used_after_a_reload_and_what_was_said_is_not_said_again(tmp_path: Path) -> None:
    till = Till()
    spec = watched(till)
    with (
        web_receiver() as first,
        web_receiver() as second,
        cluster_of(spec, state=tmp_path) as cluster,
    ):
        settings = cluster._members.configured  # pyright: ignore[reportPrivateUsage] - what holds
        recover(cluster, till)
        for received, title in ((first, "[critical]"), (second, "[recovery]")):
            chosen = replace(settings.cluster, notify=NotifySettings(urls=(received.url(),)))
            assert cluster.reload(replace(settings, cluster=chosen)).cluster == ("notify",)
            if received is first:
                fail(cluster, till)
            else:
                recover(cluster, till)
            assert [str(body["title"]).partition(" ")[0] for body in received.has(1)] == [title]
        cluster.reload(settings)
        fail(cluster, till)
    assert (len(first.bodies), len(second.bodies)) == (1, 1)
    with pytest.raises(ClusterStopped):
        cluster.reload(settings)
