"""The ZeroMQ ends on real sockets: late joiners, backlogs, endpoints that are taken."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus, Waker
from brokerwatch.bus.subscriber import Subscriber
from brokerwatch.errors import EndpointUnavailable
from tests.support.clusters import PATIENCE_S


def saying(text: str) -> Callable[[str], bytes]:
    """A body that a publisher packs when it sends."""
    return lambda topic: f"{topic}={text}".encode()


@pytest.fixture
def bus() -> Generator[Bus]:
    bus = Bus()
    yield bus
    bus.close()


@contextmanager
def publisher(
    bus: Bus, endpoint: str = "tcp://127.0.0.1:*", *, gather_s: float = 0.0
) -> Generator[Publisher]:
    out = Publisher(bus, endpoint, "test-publisher", bind=True, gather_s=gather_s)
    out.start()
    try:
        yield out
    finally:
        assert out.stop(PATIENCE_S)


@contextmanager
def subscriber(bus: Bus, endpoint: str, *prefixes: str) -> Generator[Subscriber]:
    waker = Waker()
    incoming = Subscriber(bus, [endpoint], prefixes, waker)
    try:
        yield incoming
    finally:
        incoming.close()
        waker.close()


def take(incoming: Subscriber, *topics: str) -> dict[str, list[bytes]]:
    """All that comes, until each of these topics has."""
    found: dict[str, list[bytes]] = {}
    for _ in range(round(PATIENCE_S / 0.05)):
        for topic, bodies in incoming.take(0.05).items():
            found.setdefault(topic, []).extend(bodies)
        if found.keys() >= set(topics):
            return found
    raise AssertionError(f"heard only {sorted(found)} of {topics}")


def test_who_subscribes_late_hears_the_newest_of_each_topic_he_asked_for(bus: Bus) -> None:
    with publisher(bus) as out:
        for text in ("old", "new"):
            out.put("a/one/", saying(text))
        out.put("a/two/", saying("only"))
        out.put("b/", saying("other"))
        with subscriber(bus, out.bound_endpoint, "a/") as incoming:
            found = take(incoming, "a/one/", "a/two/")
            assert found["a/one/"][-1] == b"a/one/=new"
            assert found["a/two/"][-1] == b"a/two/=only"
            assert "b/" not in found


def test_a_second_subscriber_to_the_same_topic_hears_it_too(bus: Bus) -> None:
    with publisher(bus) as out:
        out.put("a/", saying("x"))
        with subscriber(bus, out.bound_endpoint, "a/") as first:
            take(first, "a/")
            with subscriber(bus, out.bound_endpoint, "a/") as second:
                assert take(second, "a/")["a/"] == [b"a/=x"]


def test_a_storm_of_subscriptions_is_answered_together(bus: Bus) -> None:
    with publisher(bus, gather_s=0.3) as out, subscriber(bus, out.bound_endpoint, "a/") as watching:
        out.put("a/", saying("first"))
        take(watching, "a/")
        waker = Waker()
        crowd = [Subscriber(bus, [out.bound_endpoint], ["a/"], waker) for _ in range(20)]
        try:
            for one in crowd:
                take(one, "a/")
            out.put("a/end/", saying("end"))
            repeats = len(take(watching, "a/end/").get("a/", []))
            assert repeats < len(crowd) / 2
        finally:
            for one in crowd:
                one.close()
            waker.close()


def test_what_was_not_sent_yet_is_replaced_by_what_is_newer(bus: Bus) -> None:
    packed: list[str] = []

    def pack(text: str) -> Callable[[str], bytes]:
        def packing(topic: str) -> bytes:
            packed.append(text)
            return text.encode()

        return packing

    with publisher(bus) as out, subscriber(bus, out.bound_endpoint, "a/") as incoming:
        out.put("a/hello/", saying("hello"))
        take(incoming, "a/hello/")
        for n in range(1_000):
            out.put("a/busy/", pack(str(n)), gap_s=0.2)
        found: list[bytes] = []
        while not found or found[-1] != b"999":
            found += take(incoming, "a/busy/")["a/busy/"]
        assert len(packed) < 20, "a topic with a gap is packed when it is sent, not when it is put"


def test_a_taken_port_is_an_error_that_says_what_to_do(bus: Bus) -> None:
    with publisher(bus) as out, pytest.raises(EndpointUnavailable, match="is in use: another cluster"):
        Publisher(bus, out.bound_endpoint, "second", bind=True).start()


def test_an_ipc_path_in_use_is_not_stolen(bus: Bus, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/health"
    with publisher(bus, endpoint) as out, subscriber(bus, endpoint, "") as incoming:
        out.put("a/", saying("x"))
        take(incoming, "a/")
        with pytest.raises(EndpointUnavailable, match="another process holds"):
            Publisher(bus, endpoint, "thief", bind=True).start()
    with publisher(bus, endpoint):  # and it is free again afterwards
        pass


def test_a_folder_that_does_not_exist_is_an_error_and_no_crash(bus: Bus, tmp_path: Path) -> None:
    with pytest.raises(EndpointUnavailable, match="cannot be used"):
        Publisher(bus, f"ipc://{tmp_path}/nowhere/health", "lost", bind=True).start()


def test_a_closing_publisher_still_says_what_waits(bus: Bus) -> None:
    with publisher(bus) as out, subscriber(bus, out.bound_endpoint, "a/") as incoming:
        out.put("a/", saying("first"))
        take(incoming, "a/")
        out.put("a/", saying("farewell"), gap_s=60.0)
        assert out.stop(PATIENCE_S)
        assert take(incoming, "a/")["a/"] == [b"a/=farewell"]


def test_a_waker_can_be_woken_by_anybody_at_any_time() -> None:
    waker = Waker()
    for _ in range(100_000):
        waker.wake()
    waker.clear()
    waker.close()
    waker.wake()


def test_a_message_that_cannot_be_packed_does_not_silence_the_others(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(topic: str) -> bytes:
        raise UnicodeError(f"{topic} has no spelling")

    with publisher(bus) as out, subscriber(bus, out.bound_endpoint, "a/") as incoming:
        out.put("a/broken/", broken)
        out.put("a/sound/", saying("x"))
        take(incoming, "a/sound/")
        out.put("a/broken/", saying("mended"))
        assert take(incoming, "a/broken/")["a/broken/"] == [b"a/broken/=mended"]
    assert "a message on a/broken/ was not sent" in caplog.text
