"""The handler that says who is let in: while it is dead nothing is, and it is started again."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from brokerwatch import Listener
from brokerwatch.bus import turning
from brokerwatch.bus.allow_list import AllowList, Answer
from brokerwatch.bus.curve import CurveServer
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus
from brokerwatch.bus.zap_handler import ZapHandler
from brokerwatch.cluster import part_watch
from brokerwatch.config.broker_spec import BrokerSpec
from tests.support.clusters import ONLY_WHEN_ASKED, PATIENCE_S, Till, cluster_of, until, wait_for_reading
from tests.support.keys import IN, OUT, PATIENCE_MS, Keys, curve, stranger


class Fragile(AllowList):
    """A list that fails once it is told to."""

    broken = False

    def ask(self, key: str) -> Answer:
        if self.broken:
            raise RuntimeError("a bug")
        return super().ask(key)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    keys.make("bot")
    keys.let_in(keys.subscribers, "bot")
    return keys


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus()
    yield bus
    bus.close()


def handler_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "brokerwatch-keys"]


def test_a_handler_that_failed_lets_nothing_in_and_is_started_again(
    keys: Keys, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    def tended() -> list[threading.Thread]:
        handler.tend()
        return handler_threads()

    listed = Fragile(str(keys.subscribers), keys.own.public)
    handler = ZapHandler(bus, {"health": listed})
    handler.start()
    server = CurveServer(keys.own, "health", listed, handler)
    incoming = bus.socket(zmq.XPUB)
    server.secure(incoming)
    incoming.bind("tcp://127.0.0.1:*")
    endpoint = incoming.getsockopt_string(zmq.LAST_ENDPOINT)
    secure = curve(keys.pairs["bot"], keys.own.public)
    try:
        with stranger(zmq.SUB, endpoint, secure) as peer:
            assert peer.outcome() == IN
        listed.broken = True
        with stranger(zmq.SUB, endpoint, secure):
            until(lambda: not handler_threads())
        listed.broken = False
        with stranger(zmq.SUB, endpoint, secure) as peer:
            assert peer.outcome() == OUT
            until(tended)
            until(lambda: peer.outcome() == IN)
        assert handler.starts == 2
        assert "the check of keys has failed" in caplog.text
        assert "is started again" in caplog.text
    finally:
        incoming.close(linger=0)
        assert handler.stop(PATIENCE_S)
    handler.tend()
    assert not handler_threads()


# The test itself ends the thread by an exception.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_cluster_starts_its_handler_again_when_its_thread_was_killed(keys: Keys) -> None:
    own = keys.own.public
    with cluster_of(
        BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED), curve=keys.settings
    ) as cluster:
        cluster.broker("a").get_account_balance()
        endpoint = cluster.health_endpoint
        with Listener(endpoint, server_key=own, key_file=keys.file("bot")) as before:
            wait_for_reading(before, "a", lambda reading: reading.available)
            (thread,) = handler_threads()
            killed = ctypes.c_ulong(thread.ident or 0)
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(killed, ctypes.py_object(SystemExit)) == 1
            with stranger(zmq.SUB, endpoint, curve(keys.pairs["bot"], own)):  # it wakes up for this
                until(lambda: thread not in handler_threads())
            until(handler_threads)
            with Listener(endpoint, server_key=own, key_file=keys.file("bot")) as after:
                wait_for_reading(after, "a", lambda reading: reading.available)
            assert before.is_available("a"), "who is in stays in"


def test_a_handler_that_hangs_is_a_broken_part_of_its_cluster(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    ask = AllowList.ask

    def hangs(self: AllowList, key: str) -> Answer:
        if threading.current_thread().name == "brokerwatch-keys":
            held.wait()
        return ask(self, key)

    monkeypatch.setattr(turning, "HUNG_S", 2.0)
    monkeypatch.setattr(part_watch, "LOOK_S", 0.1)
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)
    with cluster_of(spec, curve=keys.settings) as cluster:
        try:
            monkeypatch.setattr(AllowList, "ask", hangs)
            with stranger(
                zmq.SUB, cluster.health_endpoint, curve(keys.pairs["bot"], keys.own.public)
            ) as peer:
                assert peer.outcome() == OUT
                until(lambda: "the check of keys" in cluster.hung)
        finally:
            held.set()


def test_an_unknown_domain_or_another_mechanism_is_refused(keys: Keys, bus: Bus) -> None:
    handler = ZapHandler(bus, {"health": AllowList(str(keys.subscribers), keys.own.public)})
    handler.start()
    bot = z85.decode(keys.pairs["bot"].public)
    asking = bus.socket(zmq.REQ)
    try:
        asking.connect("inproc://zeromq.zap.01")
        answers: list[bytes] = []
        for domain, *mechanism in (
            (b"health", b"CURVE", bot),
            (b"elsewhere", b"CURVE", bot),
            (b"health", b"NULL"),
            (b"health", b"PLAIN", b"admin", b"admin"),
            (b"health", b"CURVE"),
        ):
            asking.send_multipart([b"1.0", b"1", domain, b"127.0.0.1", b"", *mechanism])
            assert asking.poll(PATIENCE_MS)
            answers.append(asking.recv_multipart()[2])
        assert answers == [b"200", b"400", b"400", b"400", b"400"]
    finally:
        asking.close(linger=0)
        assert handler.stop(PATIENCE_S)


def test_publishers_of_one_context_share_the_handler(keys: Keys, bus: Bus) -> None:
    listed = AllowList(str(keys.subscribers), keys.own.public)
    handler = ZapHandler(bus, {"health": listed})
    handler.start()
    server = CurveServer(keys.own, "health", listed, handler)
    outs = [Publisher(bus, "tcp://127.0.0.1:*", "test", bind=True, curve=server) for _ in range(2)]
    try:
        for out in outs:
            out.start()
            with stranger(zmq.SUB, out.bound_endpoint, curve(keys.pairs["bot"], keys.own.public)) as peer:
                assert peer.outcome() == IN
    finally:
        assert all(out.stop(PATIENCE_S) for out in outs)
        assert handler.stop(PATIENCE_S)
