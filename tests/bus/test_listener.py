"""The external subscriber beside a real cluster: joining late, going silent, coming back."""

from __future__ import annotations

import asyncio
import gc
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import pytest
import zmq

from brokerwatch import BalanceUnknown, ConfigError, Listener, ListenerStopped, UnknownBroker
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import ManualClock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.startup import TOKEN_BYTES
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.health.changes import Change
from brokerwatch.messages import Envelope, HealthState, MessageType, Reading, Reason, Stamp, Verdict, topics
from brokerwatch.messages.codec import encode
from tests.support.clusters import (
    HEARTBEAT_S,
    ONLY_WHEN_ASKED,
    PATIENCE_S,
    Till,
    cluster_of,
    until,
    wait_for_reading,
)
from tests.support.ports import free_endpoint


def cluster_at(endpoint: str, name: str = "main", till: Till | None = None) -> Cluster:
    spec = BrokerSpec("a", fetch=till or Till(), poll_interval_s=ONLY_WHEN_ASKED)
    settings = ClusterSettings(name=name, health_endpoint=endpoint, heartbeat_s=HEARTBEAT_S, remember=False)
    return Cluster([spec], settings)


def with_cash(reading: Reading) -> bool:
    return reading.available and reading.cash == Decimal(100)


def test_a_late_joiner_agrees_with_the_cluster() -> None:
    till = Till({"USD": "100", "EUR": "1.50"})
    with cluster_of(
        BrokerSpec("a", fetch=till, poll_interval_s=ONLY_WHEN_ASKED, labels={"desk": "x"})
    ) as cluster:
        broker = cluster.broker("a")
        broker.get_account_balance()
        till.failure = ConnectionError("down")
        for _ in range(3):
            broker.get_account_balance()
        with Listener(cluster.health_endpoint) as listener:
            heard = wait_for_reading(listener, "a", lambda reading: reading.error_count == 3)
            mine = broker.reading()
            assert (heard.state, heard.available, heard.reason) == (mine.state, mine.available, mine.reason)
            assert (heard.cash, heard.balance, heard.labels) == (mine.cash, mine.balance, {"desk": "x"})
            assert (heard.as_of_us, heard.since_us, heard.fault) == (mine.as_of_us, mine.since_us, mine.fault)
            assert listener.complete.wait(PATIENCE_S)
            assert not listener.is_available("a")


def test_a_listener_that_was_there_first_hears_a_cluster_that_starts_later_and_its_successor() -> None:
    endpoint = free_endpoint()
    with Listener(endpoint) as listener:
        with pytest.raises(UnknownBroker):
            listener.reading("a")
        assert not listener.is_available("a")
        with cluster_at(endpoint) as first:
            first.broker("a").get_account_balance()
            epoch = wait_for_reading(listener, "a", with_cash).broker_epoch
        gone = wait_for_reading(listener, "a", lambda reading: not reading.available)
        assert (gone.state, gone.reason) == (HealthState.UNKNOWN, Reason.SHUTDOWN)
        assert gone.cash == Decimal(100)
        with cluster_at(endpoint) as second:
            second.broker("a").get_account_balance()
            again = wait_for_reading(listener, "a", with_cash)
            assert again.broker_epoch > epoch


def test_amounts_stay_inside_when_they_are_not_to_be_published() -> None:
    with cluster_of(
        BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED), publish_balances=False
    ) as cluster:
        assert cluster.broker("a").get_account_balance() == Decimal(100)
        with Listener(cluster.health_endpoint) as listener:
            heard = wait_for_reading(listener, "a", lambda reading: reading.as_of_us is not None)
            assert (heard.cash, heard.balance) == (None, None)
            assert heard.available
            assert not heard.stale


def test_of_two_clusters_with_a_broker_of_one_name_the_worse_one_counts() -> None:
    endpoints = [free_endpoint(), free_endpoint()]
    broken = Till()
    with (
        cluster_at(endpoints[0], "good") as good,
        cluster_at(endpoints[1], "bad", broken) as bad,
        Listener(*endpoints) as listener,
    ):
        for cluster in (good, bad):
            cluster.broker("a").get_account_balance()
        until(lambda: len(listener.heard()) == 2)
        wait_for_reading(listener, "a", with_cash)
        broken.failure = ConnectionError("down")
        for _ in range(3):
            bad.broker("a").get_account_balance()
        wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.ERRORS)
        before = len(listener.heard())
        good.broker("a").get_account_balance()
        newest_us = good.reading("a").as_of_us
        until(lambda: newest_us in {one.reading.as_of_us for one in listener.heard()})
        assert before == 2
        assert not listener.is_available("a")


@pytest.mark.parametrize(
    "endpoint", ["tcp://10.0.0.1:5571", "127.0.0.1:5571", "tcp://*:5571", "tcp://127.0.0.1"]
)
def test_an_endpoint_that_cannot_be_listened_to_is_refused_in_words(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Listener(endpoint)


@pytest.mark.parametrize("kind", ["ipc", "tcp", "inproc"])
def test_the_brokers_bus_may_be_any_transport(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    endpoint = {
        "ipc": f"ipc://{tmp_path_factory.mktemp('bus')}/brokers",
        "tcp": free_endpoint(),
        "inproc": "inproc://brokers",
    }[kind]
    with cluster_of(
        BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED), broker_endpoint=endpoint
    ) as cluster:
        assert cluster.broker("a").is_available()
        cluster.broker("a").get_account_balance()
        with Listener(cluster.health_endpoint) as listener:
            wait_for_reading(listener, "a", with_cash)


def test_who_listens_inside_the_process_needs_no_socket_beyond_it() -> None:
    settings = ClusterSettings(health_endpoint="inproc://health", heartbeat_s=HEARTBEAT_S)
    with Cluster([BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)], settings) as cluster:
        cluster.broker("a").get_account_balance()
        with cluster.listener() as listener:
            wait_for_reading(listener, "a", with_cash)


def test_two_clusters_that_share_even_their_name_are_not_taken_for_one() -> None:
    endpoints = [free_endpoint(), free_endpoint()]
    broken = Till()
    broken.failure = ConnectionError("down")
    with (
        cluster_at(endpoints[0]) as good,
        cluster_at(endpoints[1], till=broken) as bad,
        Listener(*endpoints) as listener,
    ):
        good.broker("a").get_account_balance()
        for _ in range(3):
            with pytest.raises(BalanceUnknown):
                bad.broker("a").get_account_balance()
        assert listener.complete.wait(PATIENCE_S)
        wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.ERRORS)
        assert not listener.is_available("a")
        assert len(listener.heard()) == 2


def test_on_an_open_brokers_bus_a_stranger_cannot_speak_for_a_broker() -> None:
    """His epoch may be as late as he likes: the supervisor knows which life it started."""
    endpoint = free_endpoint()
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)
    bus = Bus()
    with cluster_of(spec, broker_endpoint=endpoint) as cluster, Listener(cluster.health_endpoint) as listener:
        cluster.broker("a").get_account_balance()
        wait_for_reading(listener, "a", with_cash)
        forged = msgspec.structs.replace(
            cluster.broker("a").reading().data(),
            cash="1000000",
            available=False,
            broker_epoch="9999999999999999-ffffffff",
        )
        stamp = Stamp(
            src="broker/custom/a", epoch="9999999999999999-ffffffff", seq=1, ts_us=1, up_us=1, ttl_ms=9_000
        )
        body = encode(Envelope(type=MessageType.BALANCE_SEEN, stamp=stamp, data=forged))
        out = Publisher(bus, endpoint, "stranger", bind=False)
        out.start()
        out.put(topics.balance("custom", "a"), lambda _: body)
        out.put(topics.balance("custom", "missing"), lambda _: b"rubbish")
        inbox = cluster._sockets.inbox  # pyright: ignore[reportPrivateUsage] - to know that he was heard
        until_s = time.monotonic() + PATIENCE_S
        while not inbox.refused:
            assert time.monotonic() < until_s
            threading.Event().wait(0.01)
        cluster.broker("a").get_account_balance()
        since = cluster.broker("a").reading().as_of_us
        wait_for_reading(listener, "a", lambda reading: reading.as_of_us == since)
        assert out.stop(PATIENCE_S)
        assert listener.reading("a").cash == Decimal(100)
        assert listener.is_available("a")
    bus.close()


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_what_the_health_topic_says_of_a_broker_is_not_enough_to_speak_for_it(
    kind: str, tmp_path: Path
) -> None:
    endpoint = free_endpoint() if kind == "tcp" else f"ipc://{tmp_path}/brokers"
    till = Till()
    spec = BrokerSpec("a", fetch=till, poll_interval_s=ONLY_WHEN_ASKED)
    bus = Bus()
    out = bus.socket(zmq.PUB)
    out.connect(endpoint)
    with cluster_of(spec, broker_endpoint=endpoint) as cluster, Listener(cluster.health_endpoint) as listener:
        broker, inbox = cluster.broker("a"), cluster._sockets.inbox  # pyright: ignore[reportPrivateUsage]
        broker.get_account_balance()
        known = wait_for_reading(listener, "a", with_cash)
        till.failure = ConnectionError("down")
        for _ in range(3):
            broker.get_account_balance()
        wait_for_reading(listener, "a", lambda reading: reading.reason is Reason.ERRORS)
        forged = msgspec.structs.replace(known.data(), cash="1000000", version=2**62)
        said = Stamp(
            src="broker/custom/a", epoch=known.broker_epoch, seq=2**62, ts_us=1, up_us=1, ttl_ms=9_000
        )
        topic = topics.balance("custom", "a").encode()
        body = encode(Envelope(type=MessageType.BALANCE_SEEN, stamp=said, data=forged))

        def is_refused(*more: bytes) -> bool:
            before = inbox.refused
            out.send_multipart([topic, body, *more])
            until(lambda: inbox.refused > before)
            return True

        until(lambda: out.send_multipart([topic, body]) or inbox.refused > 0)  # it connects a moment later
        assert is_refused()
        assert is_refused(b"")
        assert is_refused(bytes(TOKEN_BYTES))
        assert is_refused(secrets.token_bytes(TOKEN_BYTES), b"more")
        till.failure = None
        for _ in range(2):  # what the broker itself says is heard beside all of this
            out.send_multipart([topic, body])
            broker.get_account_balance()
        since = broker.reading().as_of_us
        heard = wait_for_reading(listener, "a", lambda reading: reading.as_of_us == since)
        assert heard.cash == Decimal(100)
        assert heard.version < 2**62
    out.close(linger=0)
    bus.close()


def test_a_listener_is_started_once_and_says_so() -> None:
    listener = Listener(free_endpoint())
    listener.start()
    with pytest.raises(ListenerStopped):
        listener.start()
    assert not listener.complete.is_set()
    listener.stop()
    listener.stop()
    with pytest.raises(ListenerStopped):
        listener.start()
    never = Listener(free_endpoint())
    never.stop()
    with pytest.raises(ListenerStopped):
        never.start()


def left_again(cluster: Cluster) -> bool:
    with cluster.listener() as listener:
        return listener.complete.wait(PATIENCE_S)


def test_a_cluster_forgets_the_listeners_that_were_left() -> None:
    with cluster_of(BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)) as cluster:
        for _ in range(5):
            assert left_again(cluster)
        gc.collect()
        assert len(cluster._listeners) == 0  # pyright: ignore[reportPrivateUsage] - nothing else shows a leak


# The order in which a subscriber is told --------------------------------------------------------------

UNSEEN: Final = Verdict(available=False, reason=Reason.NEVER_SEEN)
HELD: Final = Verdict(available=False, reason=Reason.HELD_OUT)


def heard(
    clock: ManualClock, verdict: Verdict, version: int, *, src: str = "supervisor/main"
) -> ReceivedReading:
    """A reading of broker `a` as a station brings it."""
    stamp = Stamp(src=src, epoch="0000000000000001-00000000", seq=version, ts_us=1, up_us=1, ttl_ms=5_000)
    reading = Reading(
        broker="a",
        exchange="custom",
        simulated=True,
        broker_epoch="0000000000000001-00000000",
        version=version,
        state=HealthState.HEALTHY,
        verdict=verdict,
        detail="",
        since_us=version,
        error_count=0,
        fault=None,
        as_of=None,
        cash=None,
        balance=None,
        labels={},
        valid_until_s=clock.up_s() + 5.0,
        clock=clock,
    )
    return ReceivedReading(reading, stamp)


def feed(listener: Listener, endpoint: str, received: ReceivedReading, *, changed: bool) -> None:
    """What the station of an endpoint does on its thread."""
    listener._receive(endpoint, received, changed=changed)  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def fed() -> Iterator[Listener]:
    """A listener that hears only what the test gives it."""
    listener = Listener(free_endpoint())
    yield listener
    listener.stop()


def test_who_saw_a_hold_is_never_told_of_the_time_before_it(fed: Listener) -> None:
    """What waited since before the hold was older than what the readings said already."""
    clock, changes = ManualClock(), fed.changes(wait_s=0.01)
    for version, verdict in enumerate((Verdict(available=True, reason=Reason.OK), HELD), start=1):
        feed(fed, "tcp://one", heard(clock, verdict, version), changed=True)
    assert fed.reading("a").reason is Reason.HELD_OUT
    told = next(changes)
    assert told is not None
    assert told.reading.verdict == HELD
    assert next(changes) is None


def test_a_supervisor_that_begins_anew_takes_no_last_known_balance_away() -> None:
    clock = ManualClock()
    listener = Listener(free_endpoint(), clock=clock)
    knows, begins = heard(clock, Verdict(available=True, reason=Reason.OK), 7), heard(clock, UNSEEN, 0)
    balance = {"as_of": clock.now(), "cash": Decimal(7), "cash_unit": "USD"}
    feed(
        listener,
        "e",
        ReceivedReading(msgspec.structs.replace(knows.reading, **balance), knows.stamp),
        changed=True,
    )
    clock.advance(3.0)
    for _ in range(2):
        feed(listener, "e", begins, changed=True)
        found = listener.reading("a")
        assert (found.available, found.reason, found.cash, found.age_ms) == (
            False,
            Reason.NEVER_SEEN,
            Decimal(7),
            3_000,
        )
    listener.stop()


def test_of_two_supervisors_the_one_that_knew_the_newest_may_begin_anew() -> None:
    """The other one is behind and hears nothing of the account any more."""
    clock = ManualClock()
    listener = Listener(free_endpoint(), clock=clock)
    silent = Verdict(available=False, reason=Reason.SILENT)
    for endpoint, version, verdict in (
        ("one", 9, Verdict(available=True, reason=Reason.OK)),
        ("two", 7, silent),
    ):
        found = heard(clock, verdict, version)
        cash = {"as_of": clock.now(), "cash": Decimal(version), "cash_unit": "USD"}
        reading = msgspec.structs.replace(found.reading, **cash)
        feed(listener, endpoint, ReceivedReading(reading, found.stamp), changed=True)
    begins = heard(clock, UNSEEN, 0)
    reading = msgspec.structs.replace(begins.reading, broker_epoch="", as_of=None, cash=None, balance=None)
    stamp = msgspec.structs.replace(begins.stamp, epoch="0000000000000002-00000000")
    for _ in range(2):
        feed(listener, "one", ReceivedReading(reading, stamp), changed=True)
        shown = listener.reading("a")
        assert (shown.available, shown.cash) == (False, Decimal(9))
    listener.stop()


def test_who_takes_changes_slowly_is_told_the_newest_of_each_cluster_as_it_was_renewed(
    fed: Listener,
) -> None:
    clock, changes = ManualClock(), fed.changes(wait_s=0.01)
    well = Verdict(available=True, reason=Reason.OK)
    feed(fed, "tcp://one", heard(clock, HELD, 1), changed=True)
    feed(fed, "tcp://two", heard(clock, well, 1), changed=True)
    clock.advance(4.0)
    feed(fed, "tcp://two", heard(clock, well, 1), changed=False)
    clock.advance(4.0)
    one, two = next(changes), next(changes)
    assert one is not None
    assert two is not None
    assert (one.reading.verdict, two.reading.available) == (HELD, True)
    feed(fed, "tcp://two", heard(clock, well, 1), changed=False)
    assert next(changes) is None, "a renewal by itself is no change"


def test_changes_begin_with_the_call_and_each_call_is_told_all_of_them(fed: Listener) -> None:
    clock = ManualClock()
    feed(fed, "tcp://one", heard(clock, HELD, 1), changed=True)
    first = fed.changes(wait_s=0.01)
    assert next(first) is None, "what was before the call was told"
    second = fed.changes(wait_s=0.01, known=True)
    told = next(second)
    assert told is not None
    assert told.reading.version == 1
    feed(fed, "tcp://one", heard(clock, HELD, 2), changed=True)
    for changes in (first, second):
        told = next(changes)
        assert told is not None
        assert told.reading.version == 2
        assert next(changes) is None
    fed.stop()
    assert list(first) == list(second) == []


def test_nothing_waits_for_who_has_dropped_his_loop(fed: Listener) -> None:
    changes = fed.changes(wait_s=0.01)
    del changes
    gc.collect()
    assert len(fed._readers) == 0  # pyright: ignore[reportPrivateUsage] - nothing else shows a leak


def test_a_listener_tells_its_changes_in_an_event_loop_as_a_cluster_does() -> None:
    till = Till()

    async def heard_of(listener: Listener, cluster: Cluster) -> Change:
        stream = listener.stream()
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)  # the stream has begun
        till.failure = RuntimeError("the till jams")
        for _ in range(3):
            await asyncio.to_thread(cluster.broker("a").get_account_balance)
        async with asyncio.timeout(PATIENCE_S):
            change = await following
            while not change.lost:
                change = await anext(stream)
        await stream.aclose()
        return change

    with cluster_of(BrokerSpec("a", fetch=till, poll_interval_s=ONLY_WHEN_ASKED)) as cluster:
        cluster.broker("a").get_account_balance()
        with cluster.listener() as listener:
            wait_for_reading(listener, "a", with_cash)
            change = asyncio.run(heard_of(listener, cluster))
    assert (change.broker, change.after.reason) == ("a", Reason.ERRORS)


def test_a_listener_gives_the_changes_that_a_cluster_gives_and_renewals_to_those_that_ask(
    fed: Listener,
) -> None:
    clock, well = ManualClock(), Verdict(available=True, reason=Reason.OK)
    first = heard(clock, well, 1)
    feed(fed, "tcp://one", first, changed=True)
    known = fed.changes(wait_s=0.01, known=True)
    plain, every = fed.changes(wait_s=0.01), fed.changes(wait_s=0.01, renewals=True)
    begun = next(known)
    assert begun is not None
    assert begun == Change(first.reading, first.reading, first.stamp)
    assert not begun.lost
    assert not begun.regained
    clock.advance(0.5)
    again = replace(first, reading=msgspec.structs.replace(first.reading, as_of=clock.now()))
    feed(fed, "tcp://one", again, changed=True)
    assert next(plain) is None, "a poll that found the same is no change"
    assert next(known) is None
    assert next(every) == Change(first.reading, again.reading, again.stamp)
    out = heard(clock, HELD, 2)
    out = replace(out, reading=msgspec.structs.replace(out.reading, as_of=again.reading.as_of))
    feed(fed, "tcp://one", out, changed=True)
    for changes in (known, plain, every):
        change = next(changes)
        assert isinstance(change, Change)
        assert (change.lost, change.before, change.reading, change.stamp) == (
            True,
            again.reading,
            out.reading,
            out.stamp,
        )


def test_what_is_again_as_a_slow_reader_has_it_is_not_given(fed: Listener) -> None:
    clock, well = ManualClock(), Verdict(available=True, reason=Reason.OK)
    first, out = heard(clock, well, 1), heard(clock, HELD, 1)
    feed(fed, "tcp://one", first, changed=True)
    changes = fed.changes(wait_s=0.01)
    for received in (out, first, out, first):
        feed(fed, "tcp://one", received, changed=True)
    assert next(changes) is None
    feed(fed, "tcp://one", out, changed=True)
    change = next(changes)
    assert change is not None
    assert change.lost
