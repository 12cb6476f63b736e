"""Too few descriptors: said ahead in a sentence, and never an abort of libzmq."""

from __future__ import annotations

import re

import pytest

from brokerwatch.bus import descriptors
from brokerwatch.errors import TooFewDescriptors
from tests.support.descriptors import child_says


def test_the_sentence_says_how_many_are_needed_and_how_the_limit_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(descriptors, "open_limit", lambda: 1_024)
    monkeypatch.setattr(descriptors, "free", lambda: 7)
    descriptors.require(7, "the cluster")
    with pytest.raises(TooFewDescriptors) as raised:
        descriptors.require(40, "the cluster")
    assert str(raised.value) == (
        "the cluster needs 40 more open files, and this process may open 7 more of its 1024: raise that "
        "limit with `ulimit -n 1057`, or LimitNOFILE=1057 in the systemd unit"
    )


def test_without_a_limit_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "open_limit", lambda: float("inf"))
    descriptors.require(1_000_000, "the cluster")


def test_the_free_ones_are_counted_down_to_the_last() -> None:
    said = child_says("""
        found = []
        for count in range(12):
            leave_free(count)
            counted = round(descriptors.free())
            hogs = []
            try:
                while True:
                    hogs.append(os.dup(0))
            except OSError:
                pass
            found.append((count, counted, len(hogs)))
            empty = descriptors.free()
            for hog in hogs:
                os.close(hog)
            assert empty == 0
        print(found)
    """)
    assert said.strip() == str([(count, count, count) for count in range(12)])


def test_whatever_is_free_a_socket_is_made_or_refused_and_the_process_goes_on() -> None:
    """Below the check of a whole cluster: others may have taken what it had counted."""
    said = child_says("""
        import zmq
        from brokerwatch.bus.publisher import Publisher
        from brokerwatch.bus.sockets import Bus
        from brokerwatch.errors import TooFewDescriptors

        for count in range(24):
            bus = None
            leave_free(count)
            try:
                bus = Bus()
                out = Publisher(bus, "tcp://127.0.0.1:*", "p", bind=True)
                out.start()
            except TooFewDescriptors as error:
                print(count, "refused")
            else:
                print(count, "made")
                assert out.stop(10.0)
            if bus is not None:
                bus.close()
    """)
    outcomes = [line.split()[1] for line in said.splitlines()]
    assert outcomes == sorted(outcomes, key="refused made".index)
    assert set(outcomes) == {"refused", "made"}


def test_a_listener_that_is_refused_may_be_started_when_the_limit_was_raised() -> None:
    said = child_says("""
        from brokerwatch import Listener, TooFewDescriptors

        listener = Listener("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
        refused = 0
        for count in range(64):
            leave_free(count)
            try:
                listener.start()
            except TooFewDescriptors as error:
                refused += 1
                words = str(error)
            else:
                break
        print(refused, count, words)
        listener.stop()
    """)
    refused, count, words = said.split(maxsplit=2)
    assert refused == count
    assert re.match(rf"a listener needs {count} more open files, and this process may open", words)


def test_a_listener_that_finds_no_descriptor_for_a_fresh_socket_hears_again_later() -> None:
    said = child_says("""
        import logging, threading
        from brokerwatch import BrokerSpec, Cluster, ClusterSettings, Listener
        from brokerwatch.bus import station

        class Lines(logging.Handler):
            def emit(self, record):
                lines.append(record.getMessage())

        lines = []
        logging.getLogger("brokerwatch").addHandler(Lines())
        station.NOTHING_HEARD_S, station.SHORTEST_PATIENCE_S = 0.2, 0.2
        station.REOPEN_RANGE_S = (0.05, 0.2)
        pause = threading.Event()

        def until(true):
            while not true():
                pause.wait(0.01)

        async def own():
            return {"USD": "5"}

        def cluster(endpoint):
            settings = ClusterSettings(health_endpoint=endpoint, remember=False, heartbeat_s=0.1)
            return Cluster([BrokerSpec("o", fetch=own)], settings)

        with cluster("tcp://127.0.0.1:*") as first:
            endpoint = first.health_endpoint
            listener = Listener(endpoint)
            listener.start()
            until(lambda: listener.is_available("o"))
        leave_free(0)
        until(lambda: any("it is tried again" in line for line in lines))
        heard_ago_s = listener.heard_ago_s()
        resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
        with cluster(endpoint):
            until(lambda: listener.is_available("o"))
        listener.stop()
        print(sum("it is tried again" in line for line in lines))
    """)
    assert said.strip() == "1"
