"""The store on real SQLite files and a real PostgreSQL: exact, newest wins, and whole after every outage."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from brokerwatch.errors import StoreError
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.storage import database as database_module
from brokerwatch.storage import store as store_module
from brokerwatch.storage.backlog import Batch
from brokerwatch.storage.health_record import LARGEST_US
from brokerwatch.storage.records import Hold, KeyState, SentOrder, Stored, Transition
from brokerwatch.storage.sqlite_file import SqliteFile
from brokerwatch.storage.store import PAGE, Store
from brokerwatch.storage.tables import VERSION
from tests.support.postgres import PASSWORD, PostgreSQL, frozen, postgresql

__all__ = ["postgresql"]

TABLES: Final = "health hold key order history schema"
NASTY: Final = '{"free": "0.100000000000000000", "n": 1e400, "w": "Ω \\u0000 \\"quoted\\" %s :x \'"}'
Opener = Callable[..., Store]


def life(number: int, entropy: str = "0000000a") -> str:
    """An epoch."""
    return f"{number:016d}-{entropy}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    return emptied(request.getfixturevalue("postgresql"))


def emptied(server: PostgreSQL) -> str:
    """The URL of the server's database, without any of our tables in it."""
    server.execute("DROP TABLE IF EXISTS " + ", ".join(f"brokerwatch_{name}" for name in TABLES.split()))
    return server.url(quote(PASSWORD))


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Makes stores that are closed afterwards."""
    made: list[Store] = []

    def make(url: str, cluster: str = "main") -> Store:
        made.append(Store(url, cluster))
        return made[-1]

    yield make
    for store in made:
        store.close()


def health(broker: str = "a", epoch: str = life(1), version: int = 1, document: str = "{}") -> Stored:
    """A health whose document the test chooses."""
    return Stored(broker, "kraken", "print", epoch, version, 1_800_000_000_000_000, document)


def line(at_us: int, broker: str = "a", detail: str = "") -> Transition:
    """A line of history."""
    return Transition(
        at_us, broker, "kraken", "state", "healthy", "degraded", True, Reason.OK, 2, FaultKind.NETWORK, detail
    )


def batch(
    *healths: Stored,
    lines: tuple[Transition, ...] = (),
    holds: dict[str, Hold | None] | None = None,
    keys: tuple[KeyState, ...] = (),
) -> Batch:
    """What is written in one transaction."""
    made = Batch(healths={one.broker: one for one in healths}, holds=holds or {})
    made.keys = {one.fingerprint: one for one in keys}
    made.transitions.extend(lines)
    return made


# --- both databases -----------------------------------------------------------------------------------


def test_what_is_written_is_read_back_to_the_letter(url: str, opened: Opener) -> None:
    line_of_all = Transition(
        1, "a", "kraken", "operator", "", "hold", False, Reason.HELD_OUT, 2**40, None, "why: 100 % 'Ω'\n"
    )
    held = Hold("a", "ann", "moving house; ' OR 1=1", 5, None)
    timed = Hold("b", "bob", "", 5, LARGEST_US - 1)
    written = batch(
        health(document=NASTY),
        health("b", life(LARGEST_US - 1), 2**62),
        lines=(line_of_all, line(2)),
        holds={"a": held, "b": timed},
        keys=(KeyState("k", 2**63 - 1, LARGEST_US - 1),),
    )
    opened(url).write(written)
    again = opened(url)
    remembered = again.load()
    assert remembered.healths == written.healths
    assert remembered.healths["a"].document == NASTY
    assert remembered.holds == written.holds
    assert remembered.keys == written.keys
    assert list(again.history()) == [line_of_all, line(2)]


def test_an_empty_store_remembers_nothing(url: str, opened: Opener) -> None:
    store = opened(url)
    store.open()
    store.write(Batch())
    remembered = store.load()
    assert (remembered.healths, remembered.holds, remembered.keys) == ({}, {}, {})
    assert list(store.history()) == []
    assert list(store.history(limit=5)) == []


@pytest.mark.parametrize(
    ("epoch", "version", "wins"),
    [
        pytest.param(life(5), 11, True, id="a later version"),
        pytest.param(life(5), 10, False, id="the same again"),
        pytest.param(life(5), 9, False, id="an earlier version"),
        pytest.param(life(6), 1, True, id="a later epoch with a small version"),
        pytest.param(life(4), 99, False, id="an earlier epoch: a process that hung and woke"),
        pytest.param("04", 1, True, id="epochs are text, not numbers"),
        pytest.param(life(5, "a0000000"), 1, True, id="letters come after digits"),
        pytest.param("", 99, False, id="none"),
    ],
)
def test_a_health_gives_way_only_to_a_later_one(
    url: str, opened: Opener, epoch: str, version: int, *, wins: bool
) -> None:
    store = opened(url)
    store.write(batch(health(epoch=life(5), version=10, document="first")))
    store.write(batch(health(epoch=epoch, version=version, document="second")))
    assert store.load().healths["a"].document == ("second" if wins else "first")


def test_epochs_compare_as_python_compares_them_whatever_the_servers_language(
    url: str, opened: Opener
) -> None:
    store = opened(url)
    epochs = sorted(
        f"1{word:0<15}-00000000" for word in ("a", "B", "Z", "_", "é", "10", "9", "a-1", "a1", "A")
    )
    for epoch in (*epochs, *epochs):
        store.write(batch(health(epoch=epoch, document=epoch)))
    with store._database.transaction() as connection:  # pyright: ignore[reportPrivateUsage] - these are no epochs, so `load` hides them
        assert connection.exec_driver_sql("SELECT epoch FROM brokerwatch_health").scalar() == epochs[-1]


def test_the_locale_of_the_tests_own_server_would_have_it_otherwise(postgresql: PostgreSQL) -> None:
    (sorted_by_language,) = postgresql.execute("SELECT 'a' < 'B'")[0]
    if not sorted_by_language:
        pytest.skip("this PostgreSQL was built without ICU, so its default order is that of bytes")


def test_keys_only_grow_and_belong_to_all_clusters(url: str, opened: Opener) -> None:
    store = opened(url)
    store.write(batch(keys=(KeyState("k", 100, 5), KeyState("other", 1, 1))))
    store.write(batch(keys=(KeyState("k", 90, 9),)))
    store.write(batch(keys=(KeyState("k", 95, 0),)))
    assert opened(url, "second").load().keys == {"k": KeyState("k", 100, 9), "other": KeyState("other", 1, 1)}


def test_holds_are_replaced_and_released_and_come_again(url: str, opened: Opener) -> None:
    store = opened(url)
    first, second = Hold("a", "ann", "one", 1), Hold("a", "bob", "two", 2, 3)
    for held in (first, second, None, first):
        store.write(batch(holds={"a": held, "never": None}))
        assert store.load().holds == ({} if held is None else {"a": held})


def test_clusters_share_a_database_and_see_nothing_of_each_other(url: str, opened: Opener) -> None:
    one, two = opened(url, "one"), opened(url, "two")
    one.write(batch(health(document="1"), lines=(line(1),), holds={"a": Hold("a", "ann", "", 1)}))
    two.write(batch(health(epoch=life(0), document="2"), lines=(line(2),), holds={"a": None}))
    assert one.load().healths["a"].document == "1"
    assert two.load().healths["a"].document == "2"
    assert (list(one.history()), list(two.history())) == ([line(1)], [line(2)])
    assert (len(one.load().holds), len(two.load().holds)) == (1, 0)


def test_history_is_oldest_first_by_broker_since_and_the_newest(url: str, opened: Opener) -> None:
    store = opened(url)
    store.write(batch(lines=(line(3), line(1, "b"), line(5))))
    store.write(batch(lines=(line(2), line(4, "b"))))

    def moments(**asked: object) -> list[int]:
        return [one.at_us for one in store.history(**asked)]  # type: ignore[arg-type]  # by name, as a caller would

    assert moments() == [1, 2, 3, 4, 5]
    assert moments(broker="b") == [1, 4]
    assert moments(broker="missing") == []
    assert moments(since_us=3) == [3, 4, 5]
    assert moments(limit=2) == [4, 5]
    assert moments(limit=5) == moments(limit=6) == [1, 2, 3, 4, 5]
    assert moments(limit=0) == []
    assert moments(broker="a", limit=2) == [3, 5]
    assert moments(broker="a", since_us=3, limit=1) == [5]
    assert moments(since_us=10**30) == []


def test_a_long_history_comes_in_pages_while_others_write(url: str, opened: Opener) -> None:
    store = opened(url)
    # Many lines of one moment, over the border between two pages.
    lines = tuple(line(number // 700, f"b{number}") for number in range(2 * PAGE + 5))
    store.write(batch(lines=lines))
    read: list[Transition] = []
    for one in store.history():
        if len(read) == PAGE // 2:
            opened(url).write(batch(health()))
        read.append(one)
    assert read == list(lines)
    assert list(store.history(limit=PAGE + 1)) == list(lines[-PAGE - 1 :])


def test_a_batch_that_is_written_twice_is_there_once(url: str, opened: Opener) -> None:
    store = opened(url)
    twice = batch(health(), lines=(line(1), line(2)), keys=(KeyState("k", 1),))
    store.write(twice)
    store.write(twice)
    assert list(store.history()) == [line(1), line(2)]


def test_words_that_a_database_refuses_do_not_hold_up_the_rest(url: str, opened: Opener) -> None:
    store = opened(url)
    store.write(batch(health(), lines=(line(1, detail="half \ud800, zero \0"),)))
    assert [one.detail for one in store.history()] == ["half ?, zero \ufffd"]
    store.write(batch(holds={"a": Hold("a", "ann", "for ever", 1, 10**30)}))
    assert store.load().holds["a"].until_us is None


def test_a_batch_is_written_whole_or_not_at_all(url: str, opened: Opener) -> None:
    store = opened(url)
    store.write(batch(health(document="before")))
    bad = Transition(2, "a", "kraken", "state", "", "", True, Reason.OK, 0, None, None)  # type: ignore[arg-type]  # refused by the database
    with pytest.raises(StoreError, match=r"(?i)null"):
        store.write(
            batch(health(version=2, document="after"), lines=(line(1), bad), keys=(KeyState("k", 1),))
        )
    assert store.load().healths["a"].document == "before"
    assert (store.load().keys, list(store.history())) == ({}, [])


def test_many_writers_on_one_database_lose_nothing(url: str) -> None:
    writers, rounds = 4, 15
    failures: list[BaseException] = []

    def write(number: int) -> None:
        store = Store(url, "main")
        try:
            for version in range(1, rounds + 1):
                keys = (
                    KeyState("k", version * writers + number),
                    KeyState("z", 1),
                    KeyState(f"k{number}", version),
                )
                lines = (line(version, f"b{number}"),)
                store.write(batch(health("same", life(1), version, f"{version}"), lines=lines, keys=keys))
        except BaseException as error:  # noqa: BLE001 - told to the test, which fails
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = Store(url, "main")
    remembered = store.load()
    assert remembered.healths["same"].version == rounds
    assert remembered.keys["k"].nonce_ceiling == rounds * writers + writers - 1
    assert len(list(store.history())) == writers * rounds
    store.close()


def test_one_store_may_be_called_by_several_threads(url: str, opened: Opener) -> None:
    store = opened(url)
    seen: list[int] = []

    def read() -> None:
        seen.extend(len(list(store.history())) for _ in range(20))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(20):
        store.write(batch(lines=(line(number),)))
    thread.join()
    assert seen == sorted(seen)
    assert len(list(store.history())) == 20


def test_a_database_of_a_newer_brokerwatch_is_refused_and_left_alone(
    url: str, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(store_module, "VERSION", VERSION + 6)
        opened(url).open()
    store = opened(url)
    for ask in (store.open, store.load, lambda: store.write(batch(health()))):
        with pytest.raises(StoreError, match=rf"made by a newer brokerwatch \(its schema is {VERSION + 6}"):
            ask()


def test_an_older_database_is_migrated_once_and_keeps_what_it_holds(
    url: str, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(url)
    first.write(batch(health(document="old")))
    first.close()
    ran: list[int] = []

    def step(version: int) -> Callable[[Any], None]:
        def migrate(connection: Any) -> None:
            ran.append(version)
            connection.exec_driver_sql(f"ALTER TABLE brokerwatch_health ADD COLUMN made_up_{version} TEXT")

        return migrate

    monkeypatch.setattr(store_module, "VERSION", VERSION + 2)
    monkeypatch.setattr(store_module, "MIGRATIONS", {at: step(at) for at in (VERSION, VERSION + 1)})
    for _ in range(2):
        store = opened(url)
        assert store.load().healths["a"].document == "old"
        store.close()
    assert ran == [VERSION, VERSION + 1]


def test_orders_are_remembered_until_it_is_known_what_became_of_them(url: str, opened: Opener) -> None:
    first, second = SentOrder("k", "one", 20, NASTY), SentOrder("k", "two", 10, "{}")
    others = SentOrder("other", "one", 30, "{}")
    store = opened(url)
    store.write(
        Batch(orders={(one.fingerprint, one.client_order_id): one for one in (first, second, others)})
    )
    assert opened(url, "elsewhere").load().orders == {"k": (second, first), "other": (others,)}, (
        "all clusters"
    )
    again = replace(first, sent_us=40)
    store.write(Batch(orders={("k", "one"): again, ("k", "two"): None, ("k", "unheard of"): None}))
    assert store.load().orders == {"k": (again,), "other": (others,)}


def test_a_database_of_the_first_version_gets_a_place_for_orders_and_keeps_the_rest(
    url: str, opened: Opener, request: pytest.FixtureRequest
) -> None:
    opened(url).write(batch(health(), keys=(KeyState("k", 5, 6),)))
    back = (
        "DROP TABLE brokerwatch_order",
        "DELETE FROM brokerwatch_schema",
        "INSERT INTO brokerwatch_schema (version) VALUES (1)",
    )
    for statement in back:
        if url.startswith("sqlite"):
            with (
                contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection,
                connection,
            ):
                connection.execute(statement)
        else:
            request.getfixturevalue("postgresql").execute(statement)
    store = opened(url)
    found = store.load()
    assert (set(found.healths), set(found.keys), found.orders) == ({"a"}, {"k"}, {})
    sent = SentOrder("k", "one", 1, "{}")
    store.write(Batch(orders={("k", "one"): sent}))
    assert opened(url).load().orders == {"k": (sent,)}


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    url: str, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(url).write(batch(health(document="old")))

    def fail(connection: Any) -> None:
        connection.exec_driver_sql("DROP TABLE brokerwatch_health")
        connection.exec_driver_sql("SELECT * FROM nowhere")

    with monkeypatch.context() as newer:
        newer.setattr(store_module, "VERSION", VERSION + 1)
        newer.setattr(store_module, "MIGRATIONS", {VERSION: fail})
        with pytest.raises(StoreError, match="nowhere"):
            opened(url).open()
    assert opened(url).load().healths["a"].document == "old"


# --- rows that were spoilt ----------------------------------------------------------------------------


def spoilt(path: Path, *statements: str) -> None:
    """Run these as a stranger would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


HEALTH_A: Final = health(document="a's own")
HOLD_A: Final = Hold("a", "ann", "why", 5, 6)
KEY_A: Final = KeyState("a", 7, 8)


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [
        ("health", "epoch = 'zzz'", replace(HEALTH_A, epoch="")),
        ("health", "epoch = 'zzzzzzzzzzzzzzzz-00000000'", replace(HEALTH_A, epoch="")),
        ("health", "epoch = '9999999999999999-00000000'", replace(HEALTH_A, epoch="")),
        ("health", "epoch = '0000000000000001-0000000a' || char(10)", replace(HEALTH_A, epoch="")),
        ("health", "epoch = x'ff'", replace(HEALTH_A, epoch="")),
        ("health", "version = 'abc', saved_us = -1", replace(HEALTH_A, version=0, saved_us=0)),
        ("health", "version = 1.5", replace(HEALTH_A, version=0)),
        ("health", "saved_us = 4102444800000000", replace(HEALTH_A, saved_us=0)),
        ("health", "document = x'ff7b'", replace(HEALTH_A, document="\ufffd{")),
        ("health", "exchange = x'6b72616b656e'", HEALTH_A),
        ("hold", "until_us = 'w'", replace(HOLD_A, until_us=None)),
        ("hold", "until_us = 9223372036854775807", replace(HOLD_A, until_us=None)),
        ("hold", "until_us = -1", replace(HOLD_A, until_us=None)),
        ("hold", "until_us = x'00'", replace(HOLD_A, until_us=None)),
        ("hold", "since_us = 'z', until_us = 'w', why = x'41ff'", Hold("a", "ann", "A\ufffd", 0)),
        ("key", "nonce_ceiling = 'abc'", KeyState("a", 0, 8)),
        ("key", "nonce_ceiling = -5", KeyState("a", 0, 8)),
        ("key", "locked_until_us = 'x'", KeyState("a", 7, 0)),
        ("key", "locked_until_us = 4611686018427387904", KeyState("a", 7, 0)),
    ],
)
def test_what_cannot_be_in_a_row_is_left_aside_and_hides_nothing_else(
    tmp_path: Path,
    opened: Opener,
    caplog: pytest.LogCaptureFixture,
    table: str,
    change: str,
    expected: object,
) -> None:
    path = tmp_path / "state.db"
    written = batch(
        HEALTH_A,
        health("b"),
        holds={"a": HOLD_A, "b": Hold("b", "bob", "", 1)},
        keys=(KEY_A, KeyState("b", 1, 1)),
    )
    store = opened(f"sqlite:///{path}")
    store.write(written)
    owner = "fingerprint" if table == "key" else "broker"
    spoilt(path, f"UPDATE brokerwatch_{table} SET {change} WHERE {owner} = 'a'")
    found = store.load()
    written_tables: dict[str, Any] = {"health": written.healths, "hold": written.holds, "key": written.keys}
    written_tables[table]["a"] = expected
    assert {"health": found.healths, "hold": found.holds, "key": found.keys} == written_tables
    (said,) = caplog.records
    assert said.levelname == "ERROR"
    assert f"brokerwatch_{table} of 'a'" in said.getMessage()


def test_a_row_of_nobody_is_left_out(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    written = batch(health("b"), holds={"b": Hold("b", "bob", "", 1)}, keys=(KeyState("b", 1),))
    store.write(written)
    spoilt(
        path,
        "INSERT INTO brokerwatch_health VALUES ('main', 'No Name!', '', '', '', 1, 1, '')",
        "INSERT INTO brokerwatch_hold VALUES ('main', x'ff', '', '', 1, 1)",
        "INSERT INTO brokerwatch_key VALUES (x'ff', 1, 1)",
    )
    found = store.load()
    assert (found.healths, found.holds, found.keys) == (written.healths, written.holds, written.keys)
    assert len(caplog.records) == 3


def test_a_spoilt_order_hides_no_other_and_one_without_an_id_is_left_out(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    whole = SentOrder("k", "whole", 5, "{}")
    store.write(Batch(orders={("k", "whole"): whole}))
    spoilt(
        path,
        "INSERT INTO brokerwatch_order VALUES ('k', 'cut', 6, x'7bff')",
        "INSERT INTO brokerwatch_order VALUES ('k', 'when', 'yesterday', '{}')",
        "INSERT INTO brokerwatch_order VALUES ('k', x'ff', 1, '{}')",
        "INSERT INTO brokerwatch_order VALUES (x'ff', 'missing', 1, '{}')",
    )
    found = store.load().orders
    assert set(found) == {"k"}
    assert set(found["k"]) == {whole, SentOrder("k", "cut", 6, "{\ufffd"), SentOrder("k", "when", 0, "{}")}
    assert len(caplog.records) == 4
    store.write(Batch(orders={("k", "cut"): None, ("k", "when"): None}))
    assert store.load().orders == {"k": (whole,)}


def test_half_a_character_in_one_row_hides_no_other(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(health(), health("b")))
    spoilt(path, "UPDATE brokerwatch_health SET document = CAST(x'ff7b' AS TEXT) WHERE broker = 'a'")
    assert {name: one.document for name, one in store.load().healths.items()} == {"a": "\ufffd{", "b": "{}"}


@pytest.mark.parametrize("epoch", ["'zzz'", "'9999999999999999-00000000'", "'3'", "x'ff'"])
def test_what_is_no_epoch_gives_way_to_the_next_writing(tmp_path: Path, opened: Opener, epoch: str) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(health()))
    spoilt(path, f"UPDATE brokerwatch_health SET epoch = {epoch}")
    new = health(epoch=life(1_800_000_000_000_000), document="new")
    store.write(batch(new))
    assert store.load().healths == {"a": new}


def test_what_is_no_number_of_a_key_gives_way_to_the_next_writing(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(keys=(KeyState("k", 1, 1),)))
    spoilt(path, "UPDATE brokerwatch_key SET nonce_ceiling = 'abc', locked_until_us = 9223372036854775807")
    store.write(batch(keys=(KeyState("k", 5, 6),)))
    assert store.load().keys == {"k": KeyState("k", 5, 6)}


@pytest.mark.parametrize(
    "change",
    [
        "reason = 'full_moon'",
        "fault = 'gremlins'",
        "at_us = 'yesterday'",
        "at_us = 9223372036854775807",
        "error_count = 'many'",
        "detail = x'ff'",
    ],
)
def test_a_line_that_this_version_does_not_understand_is_left_out_and_said_once(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(lines=(line(1), line(2), line(3), line(4))))
    spoilt(path, f"UPDATE brokerwatch_history SET {change} WHERE id IN (2)")
    assert [one.at_us for one in store.history()] == [1, 3, 4]
    spoilt(path, "UPDATE brokerwatch_history SET reason = 'full_moon' WHERE id = 3")
    caplog.clear()
    assert [one.at_us for one in store.history()] == [1, 4]
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert "is of 'a'" in said.getMessage()


@pytest.mark.parametrize("version", ["-1", "0", "'new'", "x'ff'", "1.5"])
def test_a_schema_that_no_brokerwatch_wrote_is_said(tmp_path: Path, opened: Opener, version: str) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.open()
    store.close()
    spoilt(
        path, "DROP TABLE brokerwatch_schema", "CREATE TABLE brokerwatch_schema (version)",
        f"INSERT INTO brokerwatch_schema VALUES ({version})",
    )  # fmt: skip
    for ask in (store.load, lambda: store.write(batch(health()))):
        with pytest.raises(StoreError, match=r"its schema is .*, which no brokerwatch wrote"):
            ask()


def test_a_mistake_of_ours_is_a_sentence_too_with_its_cause(
    url: str, opened: Opener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(url)
    mistake = KeyError("what we forgot")
    with monkeypatch.context() as broken:
        broken.setattr(database_module, "inspect", raiser(mistake))
        with pytest.raises(
            StoreError, match="KeyError: 'what we forgot'; this is a mistake of bro"
        ) as caught:
            store.load()
    assert caught.value.__cause__ is mistake
    assert caplog.records[0].exc_info is not None
    assert store.load().healths == {}


def raiser(error: Exception) -> Callable[..., Any]:
    """Raises it when it is called."""

    def raises(*_: object) -> None:
        raise error

    return raises


# --- URLs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is not one"),
        ("state.db", "is not one"),
        ("postgresql://ann:topsecret@host:topsecret/x", "is not one"),
        ("mysql://ann:topsecret@host/x", "begins with mysql://"),
        ("postgresql+psycopg2://ann:topsecret@host/x", r"begins with postgresql\+psycopg2://"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///x.db?mode=ro", "more than a file"),
        ("sqlite://ann:topsecret@host/x.db", "more than a file"),
        ("sqlite:///a\0b", "a file that cannot be"),
        ("sqlite:///~no-user-of-this-name/x.db", "a file that cannot be"),
    ],
)
def test_a_url_that_can_never_work_is_refused_with_what_to_write(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        Store(url, "main")
    assert "write sqlite:///folder/file.db or postgresql+psycopg://" in str(caught.value)
    assert "topsecret" not in "".join(traceback.format_exception(caught.value))


def test_a_relative_file_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///sub/state.db", "main")
    monkeypatch.chdir("/")
    store.open()
    store.close()
    assert (tmp_path / "sub" / "state.db").is_file()
    assert store.where == str(tmp_path.resolve() / "sub" / "state.db")


def test_the_missing_driver_is_named_with_how_to_install_it(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from brokerwatch.storage.store import Store\n"
        "from brokerwatch.errors import StoreError\n"
        "try: Store('postgresql://ann:topsecret@host/x', 'main').open()\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == (
        'postgresql://ann@host/x: the driver is missing; pip install "brokerwatch[postgresql]"\n'
    )


# --- SQLite files -------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, int]:
    """The permissions of everything in a folder."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_folder_and_files_are_nobody_elses_to_read(tmp_path: Path, opened: Opener) -> None:
    before = os.umask(0)
    try:
        store = opened(f"sqlite:///{tmp_path}/deep/er/state.db")
        store.write(batch(health()))
        assert modes(tmp_path) | modes(tmp_path / "deep") == {"deep": 0o700, "er": 0o700}
        assert modes(tmp_path / "deep" / "er") == {
            "state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600
        }  # fmt: skip
    finally:
        os.umask(before)


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "state.db").touch(mode=0o644)
    store = opened(f"sqlite:///{tmp_path}/state.db")
    store.write(batch(health()))
    assert set(modes(tmp_path).values()) == {0o600}


def test_writes_are_synchronous_and_in_a_log(tmp_path: Path, opened: Opener) -> None:
    store = opened(f"sqlite:///{tmp_path}/state.db")
    store.write(batch(health()))
    with store._database.transaction() as connection:  # pyright: ignore[reportPrivateUsage] - nothing else shows it
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def garbage(path: Path) -> None:
    """Not a database at all."""
    path.write_bytes(random.Random(1).randbytes(20_000))


def cut(path: Path) -> None:
    """The second half is gone."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def scribbled(path: Path) -> None:
    """Whole in length and in its first page, and nonsense from there on."""
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * (path.stat().st_size - 4_096))


def header_only(path: Path) -> None:
    """A hundred bytes of a database."""
    with path.open("r+b") as file:
        file.truncate(100)


def scribble(path: Path, tables: str) -> None:
    """Spoil the pages of some tables, and no others."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name LIKE ?"
        pages = connection.execute(query, (tables,)).fetchall()
    with path.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * 4_096)
            file.write(b"\xff" * 4_096)


def healths_alone(path: Path) -> None:
    """Nothing is wrong but what is remembered of the brokers."""
    scribble(path, "%brokerwatch_health%")


@pytest.mark.parametrize("spoil", [garbage, cut, scribbled, header_only, healths_alone])
def test_a_damaged_file_is_set_aside_and_a_new_one_begins(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "state.db"
    first = opened(f"sqlite:///{path}")
    first.write(batch(*(health(f"b{number}", document="x" * 3_000) for number in range(20))))
    first.close()
    spoil(path)
    spoilt = path.read_bytes()
    store = opened(f"sqlite:///{path}")
    store.open()
    assert store.load().healths == {}
    store.write(batch(health()))
    (aside,) = tmp_path.glob("state.db.corrupt-*Z")
    assert aside.read_bytes() == spoilt
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"it was set aside as {aside}" in caplog.text
    assert opened(f"sqlite:///{path}").load().healths.keys() == {"a"}


def test_the_log_of_a_damaged_file_is_not_taken_for_the_new_ones(tmp_path: Path, opened: Opener) -> None:
    living = opened(f"sqlite:///{tmp_path}/living/state.db")
    living.write(batch(health(document="old")))
    left = tmp_path / "left" / "state.db"
    shutil.copytree(tmp_path / "living", left.parent)  # as a killed process leaves it, its log not merged
    assert (left.parent / "state.db-wal").stat().st_size > 0
    garbage(left)
    (left.parent / "state.db-wal").write_bytes((tmp_path / "living" / "state.db-wal").read_bytes()[:5_000])
    store = opened(f"sqlite:///{left}")
    assert store.load().healths == {}
    store.write(batch(health(document="new")))
    store.close()
    assert store.load().healths["a"].document == "new"
    assert len(list(left.parent.glob("state.db.corrupt-*Z"))) == 1


def test_twice_damaged_in_a_second_both_are_kept(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "state.db"
    for number in range(3):
        path.write_bytes(b"%d" % number * 5_000)
        store = opened(f"sqlite:///{path}")
        store.open()
        store.close()
    kept = {one.read_bytes()[:1] for one in tmp_path.glob("state.db.corrupt-*")}
    assert kept == {b"0", b"1", b"2"}


def test_a_file_that_is_damaged_while_in_use_is_set_aside_at_the_next_call(
    tmp_path: Path, opened: Opener
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(lines=tuple(line(number, detail="x" * 200) for number in range(500))))
    store.close()
    store.open()
    scribble(path, "%history%")
    with pytest.raises(StoreError, match=r"malformed.*set aside"):
        list(store.history())
    store.write(batch(health()))
    assert store.load().healths.keys() == {"a"}
    assert len(list(tmp_path.glob("state.db.corrupt-*Z"))) == 1


def test_a_file_of_no_bytes_is_an_empty_database(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "state.db").touch()
    store = opened(f"sqlite:///{tmp_path}/state.db")
    store.write(batch(health()))
    assert store.load().healths.keys() == {"a"}
    assert list(tmp_path.glob("*corrupt*")) == []


def test_a_file_that_is_taken_away_while_in_use_is_missed(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(health()))
    shutil.rmtree(tmp_path)
    store.write(batch(health("b")))
    assert opened(f"sqlite:///{path}").load().healths.keys() == {"b"}, "what write returned for is there"
    assert "was taken away while it was in use" in caplog.text


def test_a_locked_file_is_an_error_within_seconds_and_works_when_it_is_let_go(
    tmp_path: Path, opened: Opener
) -> None:
    path = tmp_path / "state.db"
    store = opened(f"sqlite:///{path}")
    store.write(batch(health(version=1)))
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        begun_s = time.monotonic()
        with pytest.raises(StoreError, match=r"locked; another program holds it"):
            store.write(batch(health(version=2)))
        assert 1.0 < time.monotonic() - begun_s < 6.0
        assert store.load().healths["a"].version == 1, "reading goes on"
        other.execute("ROLLBACK")
        store.write(batch(health(version=2)))
        assert store.load().healths["a"].version == 2
    finally:
        other.close()


@pytest.mark.parametrize("place", ["a folder", "under a file", "a pipe", "in /proc", "a link to itself"])
def test_a_place_where_no_file_can_be_is_said_and_works_once_it_is_mended(
    tmp_path: Path, opened: Opener, place: str
) -> None:
    path = tmp_path / "state.db"
    if place == "a folder":
        path.mkdir()
    elif place == "under a file":
        (tmp_path / "state.db").touch()
        path = tmp_path / "state.db" / "inner.db"
    elif place == "a pipe":
        os.mkfifo(path)
    elif place == "a link to itself":
        path.symlink_to(path)
    else:
        path = Path("/proc/brokerwatch/state.db")
    store = opened(f"sqlite:///{path}")
    for ask in (store.open, lambda: store.write(batch(health()))):
        with pytest.raises(StoreError, match=rf"{path}( is|: ).*(name|another)"):
            ask()
    if place == "in /proc":
        return
    blocker = tmp_path / "state.db"
    blocker.rmdir() if blocker.is_dir() else blocker.unlink()
    store.write(batch(health()))
    assert store.load().healths.keys() == {"a"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(folder)),
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(
            "no disk can be mounted here (it takes root); the limit on a file's size is tested anyway"
        )
    yield folder
    subprocess.run(("umount", "--lazy", str(folder)), check=True)


def fill(file: Path) -> None:
    """Leave no room on the disk of this file."""
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4_096)


def test_a_full_disk_is_said_nothing_is_half_written_and_it_works_when_there_is_room(
    small_disk: Path, opened: Opener
) -> None:
    store = opened(f"sqlite:///{small_disk}/state.db")
    store.write(batch(health(version=1), lines=(line(1),)))
    filler = small_disk / "filler"
    fill(filler)
    with pytest.raises(StoreError, match=r"; (make room|look after its disk)"):
        store.write(batch(health(version=2, document="x" * 50_000), lines=(line(2),)))
    filler.unlink()
    assert (store.load().healths["a"].version, list(store.history())) == (1, [line(1)])
    store.write(batch(health(version=2), lines=(line(2),)))
    assert (store.load().healths["a"].version, len(list(store.history()))) == (2, 2)


def test_a_disk_that_is_read_only_is_said_and_works_when_it_is_mended(
    small_disk: Path, opened: Opener
) -> None:
    store = opened(f"sqlite:///{small_disk}/state.db")
    store.write(batch(health(version=1)))
    store.close()
    subprocess.run(("mount", "-o", "remount,ro", str(small_disk)), check=True)
    for ask in (store.open, lambda: store.write(batch(health(version=2)))):
        with pytest.raises(StoreError, match="writable for this user"):
            ask()
    subprocess.run(("mount", "-o", "remount,rw", str(small_disk)), check=True)
    store.write(batch(health(version=2)))
    assert store.load().healths["a"].version == 2


def killed_writer(path: Path) -> None:
    """Write some batches, and die as by kill -9: what was written is in the log, and not in the file."""
    with subprocess.Popen(
        (sys.executable, "-c", WRITER, f"sqlite:///{path}", "1"), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 7:
            pass
        process.kill()
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


@pytest.mark.parametrize("killed", [True, False])
def test_on_a_full_disk_everything_is_read_although_nothing_can_be_written(
    small_disk: Path, opened: Opener, *, killed: bool
) -> None:
    path = small_disk / "state.db"
    if killed:
        killed_writer(path)
    else:
        first = opened(f"sqlite:///{path}")
        first.write(batch(health(version=7), lines=(line(1),), keys=(KeyState("k", 7),)))
        first.close()
    path.with_name("state.db-shm").unlink(missing_ok=True)  # as after a restart of the machine
    fill(small_disk / "filler")
    store = opened(f"sqlite:///{path}")
    newest = 0
    for _ in range(3):
        found = store.load()
        newest = found.keys["k"].nonce_ceiling
        assert newest == found.healths["a"].version >= 7
        assert len(list(store.history())) == (newest if killed else 1)
        with pytest.raises(StoreError, match=r"; (make room|look after its disk)"):
            store.write(batch(keys=(KeyState("k", newest + 1),)))
    (small_disk / "filler").unlink()
    store.write(batch(keys=(KeyState("k", newest + 1),)))
    found = store.load()
    assert (found.keys["k"].nonce_ceiling, found.healths["a"].version) == (newest + 1, newest)
    assert len(list(store.history())) == (newest if killed else 1)
    assert list(small_disk.glob("*corrupt*")) == []


@pytest.mark.parametrize("killed", [True, False])
def test_on_a_read_only_disk_everything_is_read(small_disk: Path, opened: Opener, *, killed: bool) -> None:
    path = small_disk / "state.db"
    if killed:
        killed_writer(path)
    else:
        first = opened(f"sqlite:///{path}")
        first.write(batch(health(version=7), keys=(KeyState("k", 7),)))
        first.close()
    path.with_name("state.db-shm").unlink(missing_ok=True)
    subprocess.run(("mount", "-o", "remount,ro", str(small_disk)), check=True)
    store = opened(f"sqlite:///{path}")
    try:
        for _ in range(2):
            found = store.load()
            assert found.keys["k"].nonce_ceiling == found.healths["a"].version >= 7
            with pytest.raises(StoreError, match="writable for this user"):
                store.write(batch(health(version=2)))
    finally:
        subprocess.run(("mount", "-o", "remount,rw", str(small_disk)), check=True)
    store.write(batch(health(epoch=life(2), document="new")))
    assert store.load().healths["a"].document == "new"


def test_while_another_program_has_the_file_of_a_full_disk_the_first_error_is_said(
    small_disk: Path, opened: Opener
) -> None:
    path = small_disk / "state.db"
    opened(f"sqlite:///{path}").write(batch(health()))  # and has it open
    store = opened(f"sqlite:///{path}")
    full = sqlite3.OperationalError("disk I/O error")
    full.sqlite_errorcode = sqlite3.SQLITE_IOERR
    with pytest.MonkeyPatch.context() as no_room:
        no_room.setattr(SqliteFile, "connect", raiser(full))
        with pytest.raises(StoreError, match="look after its disk"):
            store.load()
    assert store.load().healths.keys() == {"a"}


def test_a_file_that_may_not_grow_is_said_and_works_when_it_may(tmp_path: Path, opened: Opener) -> None:
    store = opened(f"sqlite:///{tmp_path}/state.db")
    store.write(batch(health(version=1)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"; (make room|look after its disk)"):
            store.write(batch(health(version=2, document="x" * 1_000_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.load().healths["a"].version == 1
    store.write(batch(health(version=2, document="x" * 1_000_000)))
    assert store.load().healths["a"].version == 2


WRITER: Final = """
import sys
from brokerwatch.storage.backlog import Batch
from brokerwatch.storage.records import KeyState, Stored, Transition
from brokerwatch.messages import Reason
from brokerwatch.storage.store import Store
store, first = Store(sys.argv[1], "main"), int(sys.argv[2])
store.open()
for number in range(first, first + 100_000):
    batch = Batch(keys={"k": KeyState("k", number)})
    batch.healths["a"] = Stored("a", "x", "", "0000000000000001-0000000a", number, 0, str(number))
    batch.transitions.append(Transition(number, "a", "x", "state", "", "", True, Reason.OK, 0, None, ""))
    store.write(batch)
    print(number, flush=True)
"""


@pytest.mark.timeout(120)
def test_what_write_returned_for_is_there_after_the_process_was_killed_at_any_moment(url: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - repeats a failure
    chance = random.Random(seed)
    told = 0
    for _ in range(6):
        with subprocess.Popen(
            (sys.executable, "-c", WRITER, url, str(told + 1)), stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 40)):
                told = int(process.stdout.readline())
            spin_until_s = time.perf_counter() + chance.uniform(0, 0.003)
            while time.perf_counter() < spin_until_s:
                pass
            process.kill()
            told = int((process.stdout.read().splitlines() or [b"%d" % told])[-1])
        store = Store(url, "main")
        found = store.load()
        moments = [one.at_us for one in store.history()]
        store.close()
        newest = found.healths["a"].version
        assert newest in (told, told + 1), f"seed {seed}: told {told}, found {newest}"
        assert found.healths["a"].document == str(newest) == str(found.keys["k"].nonce_ceiling)
        assert moments == list(range(1, newest + 1)), f"seed {seed}"
        told = newest


# --- PostgreSQL ---------------------------------------------------------------------------------------


@pytest.fixture
def server(postgresql: PostgreSQL) -> PostgreSQL:
    """The server without any of our tables."""
    emptied(postgresql)
    return postgresql


@pytest.mark.parametrize(
    ("password", "database", "port", "said"),
    [
        ("wrong-topsecret", "brokerwatch_tests", None, "password authentication failed"),
        (quote(PASSWORD), "no_such", None, "does not exist"),
        ("topsecret", "x", 1, "refused"),
    ],
)
def test_a_server_that_lets_us_not_in_is_said_without_the_password(
    server: PostgreSQL, opened: Opener, password: str, database: str, port: int | None, said: str
) -> None:
    url = server.url(password, database)
    store = opened(url if port is None else url.replace(f":{server.port}/", f":{port}/"))
    with pytest.raises(StoreError, match=f"{said}.*check that the server runs") as caught:
        store.open()
    shown = "".join(traceback.format_exception(caught.value)) + store.where
    assert "topsecret" not in shown
    assert PASSWORD not in shown
    assert quote(PASSWORD) not in shown


def test_a_server_without_an_encoding_keeps_every_letter(server: PostgreSQL, opened: Opener) -> None:
    # What initdb makes under LC_ALL=C.
    provider = "LOCALE_PROVIDER libc" if server.execute("SHOW server_version_num")[0][0] >= "150000" else ""
    server.execute("DROP DATABASE IF EXISTS bare")
    server.execute(
        f"CREATE DATABASE bare TEMPLATE template0 ENCODING 'SQL_ASCII' {provider} LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    url = server.url(quote(PASSWORD), "bare")
    store = opened(url)
    store.write(batch(health(document=NASTY), lines=(line(1, detail="Ω"),)))
    store.close()
    again = opened(url)
    assert again.load().healths == {"a": health(document=NASTY)}
    assert list(again.history()) == [line(1, detail="Ω")]


def test_a_drivers_own_words_are_repeated_without_the_password() -> None:
    store = Store("postgresql://ann:top%23secret@host/x", "main")
    with pytest.raises(StoreError) as caught, store._database._explained():  # pyright: ignore[reportPrivateUsage] - no driver says it today
        raise ConnectionError("cannot use postgresql://ann:top%23secret@host/x, password=top#secret")
    assert "secret" not in str(caught.value)
    assert "cannot use postgresql://ann:***@host/x" in str(caught.value)


def test_a_server_that_is_killed_costs_errors_and_nothing_that_was_written(
    server: PostgreSQL, opened: Opener
) -> None:
    store = opened(server.url(quote(PASSWORD)))
    store.write(batch(health(version=1), lines=(line(1),)))
    server.kill()
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="check that the server runs"):
                store.write(batch(health(version=2), lines=(line(2),)))
    finally:
        server.start()
    store.write(batch(health(version=2), lines=(line(2),)))
    assert (store.load().healths["a"].version, list(store.history())) == (2, [line(1), line(2)])


def test_a_connection_that_died_unnoticed_is_replaced_without_a_word(
    server: PostgreSQL, opened: Opener
) -> None:
    store = opened(server.url(quote(PASSWORD)))
    store.write(batch(health(version=1)))
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    store.write(batch(health(version=2)))
    assert store.load().healths["a"].version == 2


def test_a_statement_that_waits_for_a_strangers_lock_ends_within_seconds(
    server: PostgreSQL, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "STATEMENT_MS", 300)
    one, two = opened(server.url(quote(PASSWORD))), opened(server.url(quote(PASSWORD)))
    one.write(batch(health(version=1)))
    with two._database.transaction() as connection:  # pyright: ignore[reportPrivateUsage] - to hold a lock
        connection.exec_driver_sql("LOCK TABLE brokerwatch_health")
        with pytest.raises(StoreError, match="statement timeout"):
            one.write(batch(health(version=2)))
    one.write(batch(health(version=2)))
    assert one.load().healths["a"].version == 2


def test_a_server_that_freezes_is_hung_up_on(
    server: PostgreSQL, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(server.url(quote(PASSWORD)))
    store.write(batch(health(version=1)))
    monkeypatch.setattr(database_module, "TRANSACTION_S", 0.5)
    thaw = frozen(server)
    try:
        store.write(batch(health(version=2)))  # over a new connection
    finally:
        thaw()
    assert store.load().healths["a"].version == 2


def test_a_server_that_freezes_inside_a_transaction_is_hung_up_on(
    server: PostgreSQL, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "TRANSACTION_S", 1.0)
    store = opened(server.url(quote(PASSWORD)))
    store.write(batch(health(version=1)))
    thaw: list[Callable[[], None]] = []

    def freeze(*_: object) -> None:
        thaw.append(frozen(server))

    monkeypatch.setattr(Store, "_write_keys", freeze)
    try:
        with pytest.raises(StoreError, match="connection"):
            store.write(batch(health(version=2), lines=(line(1),)))
    finally:
        thaw[0]()
    assert store.load().healths["a"].version == 1


def test_machines_that_start_together_make_the_tables_once(server: PostgreSQL) -> None:
    failures: list[BaseException] = []
    together = threading.Barrier(6)

    def start(number: int) -> None:
        store = Store(server.url(quote(PASSWORD)), f"c{number}")
        together.wait()
        try:
            store.open()
        except BaseException as error:  # noqa: BLE001 - told to the test, which fails
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert server.execute("SELECT version FROM brokerwatch_schema") == [(VERSION,)]
