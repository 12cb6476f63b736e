"""Encryption on real sockets: who is let in, who is not, and what each may say."""

from __future__ import annotations

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
from tests.support.clusters import ONLY_WHEN_ASKED, PATIENCE_S, Till, cluster_of, until, wait_for_reading
from tests.support.keys import IN, OUT, PATIENCE_MS, Keys, curve, null, plain, stranger


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    for name in ("bot", "other", "unlisted"):
        keys.make(name)
    keys.let_in(keys.subscribers, "bot", "other")
    return keys


@pytest.fixture
def door(keys: Keys) -> Iterator[Publisher]:
    """A health topic with one message, behind CURVE."""
    with_handler = Encryption(bus := Bus(), keys.settings)
    with_handler.start()
    endpoint = "tcp://127.0.0.1:*"
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
            keys.let_in(keys.subscribers, "bot")
            wait_for_reading(revoked, "a", lambda reading: not reading.available)
            assert honest.is_available("a")
            assert inside.is_available("a")
            assert not plain_listener.readings()


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_the_brokers_bus_is_encrypted_too(kind: str, keys: Keys) -> None:
    endpoint = {"ipc": f"ipc://{keys.folder}/brokers", "tcp": free_endpoint()}[kind]
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)
    with cluster_of(spec, curve=keys.settings, broker_endpoint=endpoint) as cluster:
        assert cluster.broker("a").is_available()
        for secure in (null, curve(keys.pairs["bot"], keys.own.public)):
            with stranger(zmq.PUB, endpoint, secure) as peer:
                assert peer.outcome() == OUT


def free_endpoint() -> str:
    with zmq.Context() as context, context.socket(zmq.PUB) as probe:
        probe.bind("tcp://127.0.0.1:*")
        return str(probe.getsockopt_string(zmq.LAST_ENDPOINT))


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
