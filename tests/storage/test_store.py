"""The store on real SQLite files and a real PostgreSQL: exact, newest wins, and whole after every outage."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.errors import StoreError
from brokerwatch.messages import Reason
from brokerwatch.storage import store as store_module
from brokerwatch.storage.backlog import Batch
from brokerwatch.storage.health_record import LARGEST_US
from brokerwatch.storage.records import Hold, KeyState, OrderEvent, SentOrder, Transition
from brokerwatch.storage.store import PAGE, Store
from brokerwatch.storage.tables import VERSION
from tests.support.postgres import PostgreSQL
from tests.support.stores import NASTY, Opener, batch, health, life, line, spoilt

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
        newer.setattr(store_module, "SERVES_FROM", VERSION + 1)
        opened(url).open()
    store = opened(url)
    for ask in (store.open, store.load, lambda: store.write(batch(health()))):
        with pytest.raises(StoreError, match=rf"made by a newer brokerwatch \(its schema is {VERSION + 6}"):
            ask()


def test_a_database_that_a_newer_brokerwatch_has_expanded_is_used_by_both(
    url: str, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expand(connection: Any) -> None:
        connection.exec_driver_sql("ALTER TABLE brokerwatch_health ADD COLUMN made_up TEXT DEFAULT 'x'")

    old = opened(url)
    old.write(batch(health(document="old")))
    with monkeypatch.context() as newer:
        newer.setattr(store_module, "VERSION", VERSION + 1)
        newer.setattr(store_module, "MIGRATIONS", {VERSION: expand})
        new = opened(url)
        assert new.load().healths["a"].document == "old"
    old.write(batch(health(epoch=life(2), document="older one goes on")))
    old.close()
    assert opened(url).load().healths["a"].document == "older one goes on", "opened anew"
    new.write(batch(health(epoch=life(3), document="new")))
    assert old.load().healths["a"].document == "new"


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


def test_the_lives_of_orders_are_only_added_to_and_read_like_the_history(url: str, opened: Opener) -> None:
    def event(at_us: int, state: str, broker: str = "a", **values: str) -> OrderEvent:
        return OrderEvent(
            at_us, broker, "kraken", f"id-{broker}", "O-1", "BTC/USD", "sell", "0.5", "", state, **values
        )

    sent, taken = event(1, "sent"), event(2, "accepted")
    filled = event(4, "filled", filled_base="0.5", average_price="6E+4", fee="0.1", fee_currency="USD")
    other = event(3, "refused", "b", detail="why: 'Ω'")
    store = opened(url)
    written = Batch()
    written.order_events.extend((sent, taken, other))
    store.write(written)
    written.order_events.append(filled)
    store.write(written)  # an answer that was lost: the first three are there once
    assert list(store.order_events()) == [sent, taken, other, filled]
    assert list(store.order_events(broker="a", limit=2)) == [taken, filled]
    assert list(opened(url).order_events(since_us=3)) == [other, filled]
    assert list(store.history()) == []


def set_back(url: str, request: pytest.FixtureRequest, *statements: str) -> None:
    """Make the database as an earlier version left it."""
    for statement in statements:
        if url.startswith("sqlite"):
            with (
                contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection,
                connection,
            ):
                connection.execute(statement)
        else:
            request.getfixturevalue("postgresql").execute(statement)


def versioned(version: int) -> tuple[str, ...]:
    """The table with the version as it was before the fourth one."""
    return (
        "DROP TABLE brokerwatch_schema",
        "CREATE TABLE brokerwatch_schema (version INTEGER PRIMARY KEY)",
        f"INSERT INTO brokerwatch_schema (version) VALUES ({version})",
    )


def test_a_database_of_the_second_version_gets_a_place_for_the_lives_of_orders(
    url: str, opened: Opener, request: pytest.FixtureRequest
) -> None:
    opened(url).write(batch(lines=(line(1),)))
    set_back(url, request, "DROP TABLE brokerwatch_order_event", *versioned(2))
    store = opened(url)
    assert (list(store.order_events()), list(store.history())) == ([], [line(1)])


def test_a_database_of_the_first_version_gets_a_place_for_orders_and_keeps_the_rest(
    url: str, opened: Opener, request: pytest.FixtureRequest
) -> None:
    opened(url).write(batch(health(), keys=(KeyState("k", 5, 6),)))
    set_back(url, request, "DROP TABLE brokerwatch_order", *versioned(1))
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
