"""A list of keys: what it says now counts, whole, and what cannot be read lets nothing in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from brokerwatch.bus.allow_list import LOOK_S, AllowList, Answer
from tests.support.clusters import until
from tests.support.keys import Keys


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    keys.make("bot")
    keys.make("node")
    keys.let_in(keys.subscribers, "bot")
    return keys


def of(keys: Keys) -> AllowList:
    return AllowList(str(keys.subscribers), keys.own.public)


def asks(keys: Keys, allowed: AllowList, name: str) -> Callable[[], Answer]:
    return lambda: allowed.ask(keys.pairs[name].public)


def test_the_clusters_own_key_is_always_let_in_and_a_listed_one_from_the_start(keys: Keys) -> None:
    allowed, nothing = of(keys), AllowList("", keys.own.public)
    assert allowed.ask(keys.own.public) is nothing.ask(keys.own.public) is Answer.YES
    assert allowed.ask(keys.pairs["bot"].public) is Answer.YES
    assert nothing.ask(keys.pairs["bot"].public) is Answer.NO
    assert allowed.ask("") is Answer.NO


def test_a_change_of_the_file_replaces_the_list_whole_within_a_second(keys: Keys) -> None:
    allowed = of(keys)
    began_s = time.monotonic()
    keys.let_in(keys.subscribers, "node")
    until(lambda: asks(keys, allowed, "node")() is Answer.YES)
    assert asks(keys, allowed, "bot")() is Answer.NO
    assert LOOK_S * 2 < 0.5, "two looks, and the turn of a thread, are within a second"
    assert time.monotonic() >= began_s + LOOK_S, "what was written a moment ago may not be whole yet"


def test_a_revocation_is_said_once_and_only_where_the_key_was_let_in(keys: Keys) -> None:
    keys.make("third")
    keys.let_in(keys.subscribers, "bot", "node")
    allowed = of(keys)
    assert asks(keys, allowed, "bot")() is Answer.YES
    keys.let_in(keys.subscribers, "bot", "third")
    until(lambda: asks(keys, allowed, "third")() is Answer.YES)
    assert not allowed.revoked(), "no connection of it was there"
    keys.let_in(keys.subscribers, "node")
    until(allowed.revoked)
    assert not allowed.revoked()
    assert asks(keys, allowed, "node")() is Answer.YES


@pytest.mark.parametrize("what", ["missing", "writable", "a folder", "not text"])
def test_a_list_that_cannot_be_read_lets_only_the_own_key_in_until_it_can(
    what: str, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = of(keys)
    assert asks(keys, allowed, "bot")() is Answer.YES
    path = keys.subscribers
    match what:
        case "missing":
            path.unlink()
        case "writable":
            path.chmod(0o666)
        case "a folder":
            path.unlink()
            path.mkdir()
        case _:
            path.write_bytes(b"\xff\xfe\x00\xd8")
    until(allowed.revoked)
    assert asks(keys, allowed, "bot")() is Answer.LATER
    assert allowed.ask(keys.own.public) is Answer.YES
    until(lambda: asks(keys, allowed, "bot")() is Answer.LATER)
    assert caplog.text.count("no key but the cluster's own is let in") == 1
    if what == "a folder":
        path.rmdir()
    keys.let_in(path, "bot")
    until(lambda: asks(keys, allowed, "bot")() is Answer.YES)


def test_a_line_that_cannot_be_read_lets_nothing_in_and_the_others_count(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    path = keys.subscribers
    path.write_text(f"node {keys.pairs['node'].public[:-1]}\nbot {keys.pairs['bot'].public}\n")
    allowed = of(keys)
    assert asks(keys, allowed, "bot")() is Answer.YES
    assert asks(keys, allowed, "node")() is Answer.NO
    assert "line 1: expected the public key of node" in caplog.text


def test_a_key_may_speak_for_its_own_brokers_alone_and_at_this_moment(keys: Keys) -> None:
    keys.let_in(keys.brokers, "node", brokers=["a", "b"])
    allowed = AllowList(str(keys.brokers), keys.own.public)
    node = keys.pairs["node"].public
    assert [allowed.may_send(node, broker) for broker in ("a", "b", "c", "")] == [True, True, False, False]
    assert allowed.may_send(keys.own.public, "c")
    assert not allowed.may_send(keys.pairs["bot"].public, "a")
    keys.let_in(keys.brokers, "node", brokers=["b"])
    until(lambda: not allowed.may_send(node, "a"))
    assert allowed.may_send(node, "b")
    os.unlink(keys.brokers)
    until(lambda: not allowed.may_send(node, "b"))
