"""What is special about a server: refusals, kills, freezes, locks."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from urllib.parse import quote

import pytest

from brokerwatch.errors import StoreError
from brokerwatch.storage import database as database_module
from brokerwatch.storage.database import Database
from brokerwatch.storage.store import Store
from brokerwatch.storage.tables import VERSION
from tests.support.postgres import PASSWORD, PostgreSQL, frozen
from tests.support.stores import NASTY, Opener, batch, health, line


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
    one, two = opened(server.url(quote(PASSWORD))), opened(server.url(quote(PASSWORD)))
    one.write(batch(health(version=1)))
    with two._database.transaction() as connection:  # pyright: ignore[reportPrivateUsage] - to hold a lock
        connection.exec_driver_sql("LOCK TABLE brokerwatch_health")
        with monkeypatch.context() as soon:
            soon.setattr(database_module, "STATEMENT_MS", 300)
            with pytest.raises(StoreError, match="statement timeout"):
                one.write(batch(health(version=2)))
    one.write(batch(health(version=2)))
    assert one.load().healths["a"].version == 2


def test_a_process_that_freezes_inside_a_transaction_is_hung_up_on_by_the_server(
    server: PostgreSQL, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = opened(server.url(quote(PASSWORD))), opened(server.url(quote(PASSWORD)))
    one.write(batch(health(version=1)))
    assert two.load().healths["a"].version == 1

    def hang_up(_database: Database) -> None:
        """What is frozen hangs up on nothing."""

    monkeypatch.setattr(Database, "_hang_up", hang_up)

    def stands_still_with_a_lock() -> None:
        with two._database.transaction(writes=True, limit_s=1.0) as connection:  # pyright: ignore[reportPrivateUsage] - to hold a lock
            connection.exec_driver_sql("LOCK TABLE brokerwatch_health")
            one.write(batch(health(version=2)))  # waits for the lock
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(StoreError, match="idle-in-transaction"):
        stands_still_with_a_lock()
    assert one.load().healths["a"].version == 2


def test_a_server_that_freezes_is_hung_up_on(
    server: PostgreSQL, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(server.url(quote(PASSWORD)))
    store.write(batch(health(version=1)))
    thaw = frozen(server)
    try:
        with monkeypatch.context() as soon:
            soon.setattr(database_module, "TRANSACTION_S", 2.0)
            store.write(batch(health(version=2)))  # over a new connection
    finally:
        thaw()
    assert store.load().healths["a"].version == 2


def test_a_server_that_freezes_inside_a_transaction_is_hung_up_on(
    server: PostgreSQL, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(server.url(quote(PASSWORD)))
    store.write(batch(health(version=1)))
    thaw: list[Callable[[], None]] = []

    def freeze(*_: object) -> None:
        thaw.append(frozen(server))

    monkeypatch.setattr(Store, "_write_keys", freeze)
    try:
        with monkeypatch.context() as soon:
            soon.setattr(database_module, "TRANSACTION_S", 1.0)
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
