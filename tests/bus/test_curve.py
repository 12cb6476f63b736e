"""Encryption on real sockets: who is let in, who is not, and what each may say."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from brokerwatch import ConfigError, Listener
from brokerwatch.bus.curve import Encryption, clients_of, made_pair, pair_mistake
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.curve_keys import KeyPair, pair_text
from brokerwatch.errors import Problem
from brokerwatch.health.changes import Change
from brokerwatch.messages import Envelope, MessageType, Reason, Stamp, Verdict, topics
from brokerwatch.messages.codec import encode
from tests.support.clusters import ONLY_WHEN_ASKED, PATIENCE_S, Till, cluster_of, until, wait_for_reading
from tests.support.keys import IN, OUT, PATIENCE_MS, Keys, curve, null, plain, stranger
from tests.support.ports import free_endpoint
from tests.support.wire_examples import reading


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    for name in ("bot", "other", "unlisted"):
        keys.make(name)
    keys.let_in(keys.subscribers, "bot", "other")
    return keys


@pytest.fixture(params=["tcp", "ipc"])
def door(keys: Keys, request: pytest.FixtureRequest) -> Iterator[Publisher]:
    """A health topic with one message, behind CURVE."""
    with_handler = Encryption(bus := Bus(), keys.settings)
    with_handler.start()
    endpoint = "tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{keys.folder}/health"
    out = Publisher(
        bus, endpoint, "test", bind=True, gather_s=0.0, curve=with_handler.server("health", endpoint)
    )
    out.start()
    out.put("a/", lambda _: b"x")
    yield out
    assert out.stop(PATIENCE_S)
    assert with_handler.stop(PATIENCE_S)
    bus.close()


def test_a_listed_key_hears_and_no_other_peer_is_let_in(keys: Keys, door: Publisher) -> None:
    endpoint = door.bound_endpoint
    for secure in (
        null,
        plain,
        curve(keys.pairs["unlisted"], keys.own.public),
        curve(keys.pairs["bot"], keys.pairs["other"].public),
    ):
        with stranger(zmq.SUB, endpoint, secure) as peer:
            assert peer.outcome() == OUT
            assert not peer.socket.poll(0)
    for pair in (keys.pairs["bot"], keys.own):
        with stranger(zmq.SUB, endpoint, curve(pair, keys.own.public)) as peer:
            assert peer.outcome() == IN
            assert peer.socket.poll(PATIENCE_MS)
            assert peer.socket.recv_multipart() == [b"a/", b"x"]


def test_without_a_handler_nothing_is_let_in(keys: Keys) -> None:
    bus = Bus()
    encryption = Encryption(bus, keys.settings)
    out = Publisher(
        bus, "tcp://127.0.0.1:*", "test", bind=True, curve=encryption.server("health", "tcp://127.0.0.1:*")
    )
    out.start()
    try:
        with stranger(zmq.SUB, out.bound_endpoint, curve(keys.pairs["bot"], keys.own.public)) as peer:
            assert peer.outcome() == OUT
            assert peer.outcome() == OUT
            encryption.start()
            until(lambda: peer.outcome() == IN)
    finally:
        assert out.stop(PATIENCE_S)
        assert encryption.stop(PATIENCE_S)
        bus.close()


def test_a_key_of_one_endpoint_is_unknown_at_the_other(keys: Keys) -> None:
    keys.make("node")
    keys.let_in(keys.brokers, "node", brokers=["a"])
    encryption = Encryption(bus := Bus(), keys.settings)
    encryption.start()
    endpoint = "tcp://127.0.0.1:*"
    outs = {
        domain: Publisher(bus, endpoint, domain, bind=True, curve=encryption.server(domain, endpoint))
        for domain in ("health", "brokers")
    }
    try:
        for domain, out in outs.items():
            out.start()
            for name, home in (("bot", "health"), ("node", "brokers")):
                pair = keys.pairs[name]
                with stranger(zmq.SUB, out.bound_endpoint, curve(pair, keys.own.public)) as peer:
                    assert peer.outcome() == (IN if domain == home else OUT)
    finally:
        assert all(out.stop(PATIENCE_S) for out in outs.values())
        assert encryption.stop(PATIENCE_S)
        bus.close()


def test_a_revoked_subscriber_is_thrown_out_and_an_honest_one_hears_on(keys: Keys, door: Publisher) -> None:
    endpoint, own = door.bound_endpoint, keys.own.public
    with (
        stranger(zmq.SUB, endpoint, curve(keys.pairs["bot"], own)) as honest,
        stranger(zmq.SUB, endpoint, curve(keys.pairs["other"], own)) as revoked,
    ):
        for peer in (honest, revoked):
            assert peer.outcome() == IN
            assert peer.socket.poll(PATIENCE_MS)
            peer.socket.recv_multipart()
        keys.let_in(keys.subscribers, "bot")
        revoked.is_thrown_out()
        honest.is_thrown_out()
        door.put("a/", lambda _: b"y")
        assert honest.outcome() == IN
        while honest.socket.poll(PATIENCE_MS):
            if honest.socket.recv_multipart() == [b"a/", b"y"]:
                break
        assert revoked.outcome() == OUT
        while revoked.socket.poll(0):
            assert revoked.socket.recv_multipart() == [b"a/", b"x"], "what was sent before"


def test_a_key_that_is_let_in_later_disturbs_no_connection(keys: Keys, door: Publisher) -> None:
    own = keys.own.public
    with stranger(zmq.SUB, door.bound_endpoint, curve(keys.pairs["bot"], own)) as honest:
        assert honest.outcome() == IN
        keys.let_in(keys.subscribers, "bot", "unlisted")  # "other" is gone too, and was never connected

        def is_let_in() -> bool:
            with stranger(zmq.SUB, door.bound_endpoint, curve(keys.pairs["unlisted"], own)) as peer:
                return peer.outcome() == IN

        until(is_let_in)
        door.put("a/later/", lambda _: b"z")
        while honest.socket.recv_multipart() != [b"a/later/", b"z"]:
            pass
        assert not honest.has_events()


def test_a_cluster_is_heard_by_listeners_with_a_key_and_turns_unknown_to_one_whose_key_is_revoked(
    keys: Keys,
) -> None:
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)
    own = keys.own.public
    with cluster_of(spec, curve=keys.settings) as cluster:
        cluster.broker("a").get_account_balance()
        endpoint = cluster.health_endpoint
        with (
            cluster.listener() as inside,
            Listener(endpoint, server_key=own, key_file=keys.file("bot")) as honest,
            Listener(endpoint, server_key=own, key_file=keys.file("other")) as revoked,
            Listener(endpoint) as plain_listener,
        ):
            for listener in (inside, honest, revoked):
                wait_for_reading(listener, "a", lambda reading: reading.available)
            changes: list[Change] = []
            for listener in (inside, honest):
                listener.router.on_change(changes.append)
            keys.let_in(keys.subscribers, "bot")
            wait_for_reading(revoked, "a", lambda reading: not reading.available)
            assert honest.is_available("a")
            assert inside.is_available("a")
            assert not [change for change in changes if not change.after.available], (
                "nor was it out meanwhile"
            )
            assert not plain_listener.readings()


def test_a_cluster_cannot_speak_for_another_one_whose_key_it_does_not_have(tmp_path: Path) -> None:
    """It may send what it likes in the other's name, epoch and all: the worse of the two counts."""
    honest, hostile = (Keys(tmp_path / name) for name in ("honest", "hostile"))
    for keys in (honest, hostile):
        keys.pairs["bot"] = honest.pairs.get("bot") or honest.make("bot")
        keys.let_in(keys.subscribers, "bot")
    doors = [_Door(keys) for keys in (honest, hostile)]
    said, forged = doors
    named = {each.endpoint: each.keys.own.public for each in doors}
    try:
        with Listener(*named, server_key=named, key_file=honest.file("bot")) as listener:
            said.says(version=1, available=False)
            wait_for_reading(listener, "a", lambda reading: not reading.available)
            forged.says(version=99, available=True)
            until(lambda: len(listener.heard()) == 2)
            assert not listener.is_available("a")
        same = {each.endpoint: honest.own.public for each in doors}
        with Listener(*same, server_key=same, key_file=honest.file("bot")) as listener:
            wait_for_reading(listener, "a", lambda reading: not reading.available)
            assert len(listener.heard()) == 1, "with another key than the honest one's it is not even heard"
    finally:
        for each in doors:
            each.close()


class _Door:
    """A health topic that says what a test wants."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._bus = Bus()
        self._encryption = Encryption(self._bus, keys.settings)
        self._encryption.start()
        endpoint = "tcp://127.0.0.1:*"
        curve = self._encryption.server("health", endpoint)
        self._out = Publisher(self._bus, endpoint, "test", bind=True, curve=curve)
        self._out.start()
        self.endpoint = self._out.bound_endpoint

    def says(self, *, version: int, available: bool) -> None:
        verdict = Verdict(available=available, reason=Reason.OK if available else Reason.ERRORS)
        epoch = "1800000000000000-0000abcd"
        stamp = Stamp(src="supervisor/main", epoch=epoch, seq=version, ts_us=1, up_us=1, ttl_ms=600_000)
        data = reading(broker="a", version=version, verdict=verdict).data()
        body = encode(Envelope(type=MessageType.READING, stamp=stamp, data=data))
        self._out.put(topics.state("kraken", "a"), lambda _: body)

    def close(self) -> None:
        assert self._out.stop(PATIENCE_S)
        assert self._encryption.stop(PATIENCE_S)
        self._bus.close()


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" + b"\0" * 8 + b"\x7f\x03"])
def test_a_raw_connection_that_knows_no_protocol_gets_nothing_and_disturbs_no_subscriber(
    first: bytes, keys: Keys
) -> None:
    door = _Door(keys)
    door.says(version=1, available=True)
    host, port = door.endpoint.removeprefix("tcp://").split(":")
    try:
        with socket.create_connection((host, int(port)), PATIENCE_S) as raw:
            raw.sendall(first)
            with stranger(zmq.SUB, door.endpoint, curve(keys.pairs["bot"], keys.own.public)) as peer:
                assert peer.outcome() == IN
                assert peer.socket.poll(PATIENCE_MS)
            heard = b""
            with contextlib.suppress(ConnectionResetError):
                while part := raw.recv(4_096):  # until the handshake has taken too long
                    heard += part
        assert b"kraken" not in heard
    finally:
        door.close()


def test_a_pair_whose_halves_do_not_belong_together_starts_no_cluster(keys: Keys) -> None:
    mixed = KeyPair("own", keys.own.public, keys.pairs["bot"].secret)
    keys.file("own").write_text(pair_text(mixed))
    with pytest.raises(ConfigError, match=r"curve\.key_file.*does not belong to its secret"):
        cluster_of(curve=keys.settings)


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_the_brokers_bus_is_encrypted_too(kind: str, keys: Keys) -> None:
    endpoint = {"ipc": f"ipc://{keys.folder}/brokers", "tcp": free_endpoint()}[kind]
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)
    with cluster_of(spec, curve=keys.settings, broker_endpoint=endpoint) as cluster:
        assert cluster.broker("a").is_available()
        for secure in (null, curve(keys.pairs["bot"], keys.own.public)):
            with stranger(zmq.PUB, endpoint, secure) as peer:
                assert peer.outcome() == OUT


def test_what_is_missing_or_wrong_is_said_in_words_without_a_secret(keys: Keys, tmp_path: Path) -> None:
    secret = keys.pairs["bot"].secret
    own, file = keys.own.public, keys.file("bot")
    with pytest.raises(ConfigError, match="key_file: expected it beside server_key"):
        Listener(server_key=own)
    with pytest.raises(ConfigError, match="server_key: expected it beside key_file"):
        Listener(key_file=file)
    with pytest.raises(ConfigError, match="none of the endpoints"):
        Listener("tcp://127.0.0.1:1", server_key={"tcp://127.0.0.1:2": own}, key_file=file)
    with pytest.raises(ConfigError, match="readable file") as caught:
        Listener("tcp://10.0.0.1:1", server_key="nonsense", key_file=tmp_path / "none")
    assert "server_key" in str(caught.value)
    assert "key_file" in str(caught.value)
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Listener(server_key=own, key_file=file)
    file.chmod(0o600)
    file.write_text(pair_text(KeyPair("bot", own, secret)))
    with pytest.raises(ConfigError, match="does not belong to its secret") as caught:
        Listener(server_key=own, key_file=file)
    assert secret not in str(caught.value) + repr(keys.pairs["bot"])


def test_beyond_this_machine_a_listener_needs_keys() -> None:
    pair = made_pair("bot")
    for endpoint in ("tcp://10.0.0.1:5571", "tcp://watch.example.org:5571", "tcp://[2001:db8::1]:5571"):
        with pytest.raises(ConfigError, match="server_key and key_file"):
            Listener(endpoint)
        Listener(endpoint, server_key=made_pair("own").public, key_file=pair).stop()
    with pytest.raises(ConfigError, match="IP address"):
        Listener("tcp://a b:5571", server_key=pair.public, key_file=pair)


def test_each_endpoint_has_the_key_of_its_own_cluster() -> None:
    pair, first, second = (made_pair(name) for name in ("bot", "first", "second"))
    problems: list[Problem] = []
    named = {"tcp://10.0.0.1:1": first.public, "tcp://10.0.0.2:1": second.public}
    found = clients_of([*named, "tcp://127.0.0.1:1"], named, pair, problems)
    assert {endpoint: client.server_key for endpoint, client in found.items()} == named
    assert problems == []
    assert pair_mistake(pair) == ""
