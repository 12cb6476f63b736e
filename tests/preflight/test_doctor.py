"""`brokerwatch doctor`: each planted fault makes its own line not ok, and nothing is ever changed.

Exchanges are simulated ones, asked through real ccxt and HTTP.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import pty
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pytest

from brokerwatch.cli import exits
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.fingerprint import key_fingerprint
from brokerwatch.config.loader import examine
from brokerwatch.errors import ConfigError
from brokerwatch.gateway.catalogue import Catalogue, order_traits
from brokerwatch.messages import Fault, FaultKind
from brokerwatch.preflight.diagnosis import (
    LEAST_ROOM_BYTES,
    ExchangeFacts,
    Line,
    LineOutcome,
    count,
    exchange,
    fail,
    ok,
    open_files,
    room,
    skip,
    trading,
    warn,
    written,
)
from brokerwatch.preflight.doctor import Diagnostics
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.storage.locks import Claim, claim, holder, state_root
from brokerwatch.storage.state_folder import KEYS_NAME, store_of
from brokerwatch.storage.tables import VERSION
from tests.support.clusters import PATIENCE_S
from tests.support.command import Done, command, environment_of
from tests.support.configurations import pem
from tests.support.homeless import be_homeless
from tests.support.ports import free_endpoint
from tests.support.postgres import PASSWORD, USER, PostgreSQL, postgresql
from tests.support.programs import BROKERWATCH, Program, drawn_on, run_program

__all__ = ["postgresql"]

STOP_S: Final = 5.0
WRONG: Final = (LineOutcome.WARN, LineOutcome.FAIL)


@dataclass
class World:
    """A configuration with its secrets in files, in a folder of its own, and the exchange that it names."""

    folder: Path
    kraken: SimulatedKraken
    cluster: dict[str, Any] = field(default_factory=dict[str, Any])
    brokers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    more: str = ""
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.cluster |= {"state": "state", "health_endpoint": "tcp://127.0.0.1:*"}
        self.account("main", self.kraken)

    def account(self, name: str, at: SimulatedExchange) -> dict[str, Any]:
        """Another broker, with key files of its own."""
        table: dict[str, Any] = {"exchange": at.ccxt_id, "poll_interval_s": float("inf")}
        for credential, value in at.credentials.items():
            path = self.folder / f"{name}.{credential}"
            path.touch(mode=0o600)
            path.write_text(value, encoding="utf-8")
            table[f"{credential}_file"] = path.name
        table["ccxt"] = {"urls": {"api": dict.fromkeys(at.url_names, at.url)}}
        self.brokers[name] = table
        return table

    @property
    def path(self) -> Path:
        """The configuration as it is now."""
        path = self.folder / "brokerwatch.toml"
        lines = ["version = 1", f"cluster = {_toml(self.cluster)}"]
        lines += [f"brokers.{name} = {_toml(table)}" for name, table in self.brokers.items()]
        path.write_text("\n".join((*lines, self.more)), encoding="utf-8")
        return path

    @property
    def state(self) -> Path:
        """The state folder, made."""
        path = self.folder / "state"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def looked(self) -> list[Line]:
        """Every line of a look at it."""
        with Diagnostics(self.path, examine(self.path, Catalogue(), environment=self.environment)) as looks:
            return list(looks.lines())


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in pairs.items()) + " }"
    return str(value) if isinstance(value, float) else json.dumps(value)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    kraken = SimulatedKraken()
    folder = tmp_path / "home"
    folder.mkdir()
    with serve(kraken):
        yield World(folder, kraken)


Said = tuple[str, str, str]


def wrong(lines: list[Line]) -> list[Said]:
    """What is not ok, without the addresses: outcome, subject, check."""
    found = [line for line in lines if line.outcome in WRONG]
    assert all(line.advice for line in lines if line.outcome is not LineOutcome.OK), "it says what to do"
    assert not any(line.advice for line in lines if line.outcome is LineOutcome.OK)
    return [(str(line.outcome), line.subject.partition(" at ")[0], line.check) for line in found]


def evidence(lines: list[Line], subject: str, check: str) -> str:
    (found,) = [line for line in lines if line.subject.startswith(subject) and line.check == check]
    return found.evidence


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: mode, when it was changed, and what is in it."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def listening() -> socket.socket:
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.listen()
    return held


# --- what is well --------------------------------------------------------------------------------------


def test_a_sound_configuration_is_ok_in_every_line_and_in_order(world: World) -> None:
    okx, coinbase = SimulatedOkx(), SimulatedCoinbase()
    with serve(okx, coinbase):
        world.account("second", okx)
        world.account("third", coinbase)
        lines = world.looked()
    assert {line.outcome for line in lines} == {LineOutcome.OK}
    assert exits.of_lines(lines) == 0
    subjects = list(dict.fromkeys(line.subject.partition(" at ")[0] for line in lines))
    assert subjects == [
        "configuration",
        "broker main",
        "broker second",
        "broker third",
        "state folder",
        "store",
        "health_endpoint",
        "broker_endpoint",
        "exchange kraken",
        "exchange okx",
        "exchange coinbase",
        "versions",
        "open files",
    ]


def test_nothing_is_changed_on_disk_and_no_exchange_is_asked_with_a_key(world: World, tmp_path: Path) -> None:
    before = tree(tmp_path / "home")
    world.looked()
    (tmp_path / "home" / "brokerwatch.toml").unlink()
    assert tree(tmp_path / "home") == before
    assert not (tmp_path / "state").exists(), "where the platform keeps state, nothing was made"
    assert world.kraken.private_calls == 0


def test_nothing_is_changed_in_what_a_cluster_has_left_behind(world: World, tmp_path: Path) -> None:
    with Cluster.from_config(world.path) as cluster:
        cluster.broker("main").get_account_balance()
    asked = world.kraken.private_calls
    before = tree(tmp_path)
    lines = world.looked()
    assert wrong(lines) == []
    assert "is a database of ours" in evidence(lines, "store", "file")
    after = tree(tmp_path)
    for name in ("home", "home/brokerwatch.toml"):  # this test itself wrote it once more
        before.pop(name)
        after.pop(name)
    assert after == before
    assert world.kraken.private_calls == asked


def test_a_log_beside_the_database_is_read_and_left_as_it_is(world: World) -> None:
    left = world.state / "left.db"
    connection = sqlite3.connect(left, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE brokerwatch_schema (version INTEGER)")
        connection.execute("INSERT INTO brokerwatch_schema VALUES (?)", (VERSION + 1,))
        for suffix in ("", "-wal"):  # as a killed process leaves them
            (world.state / f"brokerwatch.db{suffix}").write_bytes(Path(f"{left}{suffix}").read_bytes())
    finally:
        connection.close()
    left.unlink()
    before = tree(world.state)
    lines = world.looked()
    assert wrong(lines) == [("fail", "store", "file")]
    assert "newer brokerwatch" in evidence(lines, "store", "file"), "what only the log has is seen"
    assert tree(world.state) == before


def test_what_our_own_running_cluster_has_is_rightly_taken(world: World) -> None:
    world.cluster |= {"health_endpoint": free_endpoint()}
    world.cluster |= {"broker_endpoint": f"ipc://{world.folder}/brokers"}
    with Cluster.from_config(world.path):
        lines = world.looked()
    assert wrong(lines) == []
    us = f"process {os.getpid()}"
    for subject, check in (
        ("health_endpoint", "free"),
        ("broker_endpoint", "free"),
        ("state folder", "cluster"),
        ("broker main", "key used by"),
    ):
        assert us in evidence(lines, subject, check)


def test_an_endpoint_that_a_stranger_has_is_not_our_own_clusters(world: World) -> None:
    with listening() as held:
        port = held.getsockname()[1]
        with Cluster.from_config(world.path):
            # The configuration was edited since that cluster was started.
            world.cluster |= {"health_endpoint": f"tcp://127.0.0.1:{port}", "heartbeat_s": 0.1}
            lines = world.looked()
    assert wrong(lines) == [("fail", "health_endpoint", "free")]
    assert "not by the cluster" in evidence(lines, "health_endpoint", "free")


def test_brokers_at_one_address_share_the_line_of_their_exchange(world: World) -> None:
    other = world.account("second", world.kraken)
    (world.folder / other["api_key_file"]).write_text("another key")
    lines = world.looked()
    assert len([line for line in lines if line.check == "reachable"]) == 1
    assert world.kraken.calls_to("/0/public/Time") == 1


def test_nothing_needs_to_be_there_for_a_cluster_that_remembers_nothing(world: World) -> None:
    world.cluster |= {"remember": False}
    (world.folder / "state").write_text("a file")
    lines = world.looked()
    assert wrong(lines) == []
    assert "remember = false" in evidence(lines, "store", "file")


def test_trading_is_said(world: World) -> None:
    assert evidence(world.looked(), "broker main", "trading").startswith("off")
    world.brokers["main"] |= {"trading": True, "policy": "guarded", "poll_interval_s": 5.0}
    world.cluster |= {"require_verification_max_age_s": 60.0}
    said = evidence(world.looked(), "broker main", "trading")
    assert said.startswith("on")
    assert "brokerwatch verify" in said


@pytest.mark.parametrize(
    ("values", "outcome", "words"),
    [
        ({"policy": "guarded"}, "ok", "on; policy guarded"),
        ({}, "warn", "policy guarded, the default with trading = true; none was chosen"),
        ({"policy": "simple"}, "warn", "policy simple: with trading = true the account is available before"),
        ({"policy": "simple", "poll_interval_s": math.inf}, "warn", "not polled"),
    ],
)
def test_the_policy_of_an_account_that_may_trade_is_named_and_warned_of(
    values: dict[str, Any], outcome: str, words: str
) -> None:
    spec = BrokerSpec("b", exchange="kraken", credentials={"api_key": "k"}, trading=True, **values)
    line = trading(spec, verified=False)
    assert line.outcome == outcome
    assert words in line.evidence
    assert f"policy {spec.policy}" in line.evidence
    assert ('policy = "guarded"' in line.advice) is (outcome == "warn")


@pytest.mark.parametrize(
    ("exchange", "options", "outcome", "words"),
    [
        ("gate", {}, "warn", "on; gate: it buys by quote_amount alone"),
        ("btse", {}, "warn", "does not list its orders of every state"),
        ("bitbank", {}, "warn", "an order there has no id of ours"),
        ("gemini", {}, "fail", "no market order can be placed at gemini: it takes limit orders alone"),
        ("bitvavo", {}, "fail", "takes ccxt's option operatorId"),
        ("bitvavo", {"operatorId": 7}, "warn", "buys by base_amount alone"),
        ("binance", {}, "ok", "on"),
        ("kraken", {}, "ok", "on"),
    ],
)
def test_what_cannot_be_done_at_an_exchange_is_said_where_orders_are_on(
    exchange: str, options: dict[str, object], outcome: str, words: str
) -> None:
    spec = BrokerSpec(
        "b",
        exchange=exchange,
        credentials={"api_key": "k"},
        trading=True,
        policy="guarded",
        ccxt={"options": options},
    )
    traits = order_traits(spec)
    line = trading(spec, verified=False, shortcomings=() if traits is None else traits.shortcomings())
    assert (line.outcome, line.check) == (outcome, "trading")
    assert words in line.evidence


@pytest.mark.parametrize(
    ("polls", "warned"),
    [
        ({"poll_interval_s": math.inf}, True),
        ({"poll_interval_s": math.inf, "max_proof_age_s": 60.0}, False),
        ({"poll_interval_s": 5.0}, False),
    ],
)
def test_a_trading_account_without_a_longest_age_of_proof_is_warned_of(
    world: World, polls: dict[str, float], warned: bool
) -> None:
    world.brokers["main"] |= {"trading": True, "policy": "guarded", **polls}
    lines = world.looked()
    assert ("stays available with no answer" in evidence(lines, "broker main", "trading")) is warned
    assert bool(wrong(lines)) is warned


# --- one fault, one line -------------------------------------------------------------------------------


CONFIGURATION: Final = "configuration"


def a_missing_variable(world: World) -> None:
    del world.brokers["main"]["secret_file"]
    world.brokers["main"]["secret_env"] = "NOBODY_SET_THIS"


def a_key_file_that_is_gone(world: World) -> None:
    (world.folder / "main.secret").unlink()


def a_key_file_that_is_a_folder(world: World) -> None:
    (world.folder / "main.secret").unlink()
    (world.folder / "main.secret").mkdir()


def an_empty_key_file(world: World) -> None:
    (world.folder / "main.secret").write_text("")


def a_key_file_that_others_can_write(world: World) -> None:
    (world.folder / "main.secret").chmod(0o622)


def a_key_file_that_others_can_read(world: World) -> None:
    (world.folder / "main.secret").chmod(0o644)


def a_broken_pem(world: World) -> None:
    whole = pem()
    (world.folder / "main.secret").write_text(whole[: len(whole) // 2])


def a_secret_that_was_cut(world: World) -> None:
    path = world.folder / "main.secret"
    path.write_text(path.read_text()[:-3])


def an_unknown_exchange(world: World) -> None:
    world.brokers["main"]["exchange"] = "krakken"


def an_unknown_key(world: World) -> None:
    world.brokers["main"]["pol_interval_s"] = 3


def a_wrong_key_in_the_cluster(world: World) -> None:
    world.cluster["hearbeat_s"] = 3


def an_endpoint_for_everybody(world: World) -> None:
    world.cluster["health_endpoint"] = "tcp://0.0.0.0:5571"


def no_brokers(world: World) -> None:
    world.brokers.clear()


def a_file_in_the_place_of_the_state_folder(world: World) -> None:
    (world.folder / "state").write_text("a file")


def a_file_above_the_state_folder(world: World) -> None:
    (world.folder / "above").write_text("a file")
    world.cluster["state"] = "above/state"


def an_open_state_folder(world: World) -> None:
    world.state.chmod(0o755)


def a_state_folder_that_others_may_write(world: World) -> None:
    world.state.chmod(0o770)


def a_database_that_is_none(world: World) -> None:
    (world.state / "brokerwatch.db").write_text("this is a letter, and no database at all\n" * 100)


def a_damaged_database(world: World) -> None:
    with Cluster.from_config(world.path) as cluster:
        cluster.broker("main").get_account_balance()
    path = world.state / "brokerwatch.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def a_database_with_a_damaged_table(world: World) -> None:
    path = world.state / "brokerwatch.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE brokerwatch_health (document TEXT)")
    connection.execute("CREATE TABLE brokerwatch_schema (version INTEGER)")
    connection.execute("INSERT INTO brokerwatch_schema VALUES (?)", (VERSION,))
    connection.executemany("INSERT INTO brokerwatch_health VALUES (?)", [("x" * 1_000,)] * 100)
    connection.close()
    damaged = bytearray(path.read_bytes())
    # How many rows are on the eleventh page (https://sqlite.org/fileformat2.html#b_tree_pages): no reader
    # complains, and three of them are gone.
    damaged[4_096 * 10 + 3 : 4_096 * 10 + 5] = b"\0\1"
    path.write_bytes(damaged)


def a_folder_in_the_place_of_the_database(world: World) -> None:
    (world.state / "brokerwatch.db").mkdir()


def a_database_of_a_newer_version(world: World) -> None:
    with sqlite3.connect(world.state / "brokerwatch.db") as connection:
        connection.execute("CREATE TABLE brokerwatch_schema (version INTEGER)")
        connection.execute("INSERT INTO brokerwatch_schema VALUES (99)")
    connection.close()


def a_database_where_none_can_be_made(world: World) -> None:
    (world.folder / "above").write_text("a file")
    world.cluster["store"] = "sqlite:///above/x.db"


def a_postgresql_that_is_down(world: World) -> None:
    with listening() as held:
        port = held.getsockname()[1]
    world.cluster["store"] = f"postgresql+psycopg://{USER}:planted-pass@127.0.0.1:{port}/x"


def a_folder_in_the_place_of_an_ipc_endpoint(world: World) -> None:
    (world.folder / "topic").mkdir()
    world.cluster["health_endpoint"] = f"ipc://{world.folder}/topic"


def an_ipc_endpoint_in_no_folder(world: World) -> None:
    world.cluster["health_endpoint"] = f"ipc://{world.folder}/none/topic"


def an_exchange_that_is_down(world: World) -> None:
    with listening() as held:
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
    world.brokers["main"]["ccxt"] = {"urls": {"api": {"public": address, "private": address}}}


def an_exchange_that_hangs(world: World) -> None:
    world.brokers["main"]["fetch_deadline_s"] = 0.3
    world.kraken.set_fault("hang", public=True)


def an_exchange_behind_a_page(world: World) -> None:
    world.kraken.set_fault("html_200", public=True)


def an_exchange_that_says_that_it_is_down(world: World) -> None:
    world.kraken.set_fault("exchange_down", public=True)


def an_exchange_in_maintenance(world: World) -> None:
    world.kraken.set_status("maintenance")


def an_exchange_whose_every_answer_is_maintenance(world: World) -> None:
    world.kraken.set_fault("maintenance", public=True)


def a_clock_that_is_far_behind(world: World) -> None:
    world.kraken.clock_skew_s = 30.0


def a_clock_that_is_far_ahead(world: World) -> None:
    world.kraken.clock_skew_s = -30.0


def a_clock_that_is_no_clock(world: World) -> None:
    world.kraken.set_answer('{"error":[],"result":{"unixtime":"noon"}}', path="/0/public/Time", public=True)


def two_brokers_with_one_key(world: World) -> None:
    world.account("second", world.kraken)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (a_missing_variable, ("fail", CONFIGURATION, "brokers.main.secret_env")),
        (a_key_file_that_is_gone, ("fail", CONFIGURATION, "brokers.main.secret_file")),
        (a_key_file_that_is_a_folder, ("fail", CONFIGURATION, "brokers.main.secret_file")),
        (an_empty_key_file, ("fail", CONFIGURATION, "brokers.main.secret_file")),
        (a_key_file_that_others_can_write, ("fail", CONFIGURATION, "brokers.main.secret_file")),
        (a_key_file_that_others_can_read, ("warn", "broker main", "key file")),
        (a_broken_pem, ("fail", CONFIGURATION, "brokers.main.secret")),
        (a_secret_that_was_cut, ("fail", "broker main", "keys present")),
        (an_unknown_exchange, ("fail", CONFIGURATION, "brokers.main.exchange")),
        (an_unknown_key, ("fail", CONFIGURATION, "brokers.main.pol_interval_s")),
        (a_wrong_key_in_the_cluster, ("fail", CONFIGURATION, "cluster.hearbeat_s")),
        (an_endpoint_for_everybody, ("fail", CONFIGURATION, "cluster.health_endpoint")),
        (no_brokers, ("fail", CONFIGURATION, "brokers")),
        (a_file_in_the_place_of_the_state_folder, ("fail", "state folder", "folder")),
        (a_file_above_the_state_folder, ("fail", "state folder", "folder")),
        (an_open_state_folder, ("warn", "state folder", "folder")),
        (a_state_folder_that_others_may_write, ("fail", "state folder", "folder")),
        (a_database_that_is_none, ("fail", "store", "file")),
        (a_damaged_database, ("fail", "store", "file")),
        (a_database_with_a_damaged_table, ("fail", "store", "file")),
        (a_folder_in_the_place_of_the_database, ("fail", "store", "file")),
        (a_database_of_a_newer_version, ("fail", "store", "file")),
        (a_database_where_none_can_be_made, ("fail", "store", "file")),
        (a_postgresql_that_is_down, ("fail", "store", "database")),
        (a_folder_in_the_place_of_an_ipc_endpoint, ("fail", "health_endpoint", "free")),
        (an_ipc_endpoint_in_no_folder, ("fail", "health_endpoint", "free")),
        (an_exchange_that_is_down, ("fail", "exchange kraken", "reachable")),
        (an_exchange_that_hangs, ("fail", "exchange kraken", "reachable")),
        (an_exchange_behind_a_page, ("fail", "exchange kraken", "reachable")),
        (an_exchange_that_says_that_it_is_down, ("fail", "exchange kraken", "reachable")),
        (an_exchange_in_maintenance, ("warn", "exchange kraken", "status")),
        (an_exchange_whose_every_answer_is_maintenance, ("warn", "exchange kraken", "status")),
        (a_clock_that_is_far_behind, ("fail", "exchange kraken", "clock")),
        (a_clock_that_is_far_ahead, ("fail", "exchange kraken", "clock")),
        (a_clock_that_is_no_clock, ("fail", "exchange kraken", "clock")),
        (two_brokers_with_one_key, ("warn", "broker second", "key used by")),
    ],
)
def test_this_fault_makes_its_own_line_not_ok_and_no_other(
    world: World, plant: Callable[[World], None], expected: Said
) -> None:
    plant(world)
    secrets = [path.read_text() for path in world.folder.glob("main.*") if path.is_file()]
    before = tree(world.folder)
    lines = world.looked()
    assert wrong(lines) == [expected]
    assert exits.of_lines(lines) == (1 if expected[0] == "fail" else 3)
    after = tree(world.folder)
    assert {name: after[name] for name in before if name != "brokerwatch.toml"} == {
        name: before[name] for name in before if name != "brokerwatch.toml"
    }
    assert after.keys() - before.keys() <= {"brokerwatch.toml"}
    for secret in (*secrets, "planted-pass"):
        assert not secret or not any(secret in f"{line}" for line in lines)


@pytest.mark.parametrize("name", ["health_endpoint", "broker_endpoint"])
def test_a_port_that_another_program_has_is_not_free(world: World, name: str) -> None:
    with listening() as held:
        world.cluster[name] = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        assert wrong(world.looked()) == [("fail", name, "free")]
    assert wrong(world.looked()) == []


def test_a_path_at_which_another_program_answers_is_not_free(world: World) -> None:
    where = f"{world.folder}/topic"
    world.cluster["health_endpoint"] = f"ipc://{where}"
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(where)
        assert wrong(world.looked()) == [], "a socket without a server is in the way of none"
        held.listen()
        assert wrong(world.looked()) == [("fail", "health_endpoint", "free")]


def test_a_key_that_another_process_uses_is_a_warning(world: World) -> None:
    name = key_fingerprint("kraken", world.kraken.credentials)
    claimed = claim(state_root() / KEYS_NAME / f"{name}.lock")
    assert isinstance(claimed, Claim)
    lines = world.looked()
    claimed.release()
    assert wrong(lines) == [("warn", "broker main", "key used by")]
    assert f"process {os.getpid()}" in evidence(lines, "broker main", "key used by")
    assert wrong(world.looked()) == []


def test_a_user_without_a_home_is_told_what_that_costs_and_needs_a_folder(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_homeless(monkeypatch)
    key = ("warn", "broker main", "key used by")
    assert wrong(world.looked()) == [key]
    del world.cluster["state"]
    assert sorted(wrong(world.looked())) == [("fail", "state folder", "folder"), key]


def test_the_sound_brokers_are_looked_at_beside_a_broken_one(world: World) -> None:
    okx = SimulatedOkx()
    with serve(okx):
        world.account("second", okx)
        a_key_file_that_is_gone(world)
        lines = world.looked()
    assert wrong(lines) == [("fail", CONFIGURATION, "brokers.main.secret_file")]
    assert {line.subject for line in lines if line.subject.startswith("broker ")} == {"broker second"}
    assert evidence(lines, "exchange okx", "reachable").startswith("answered")


def test_every_problem_of_a_configuration_is_a_line_of_its_own(world: World) -> None:
    an_unknown_key(world)
    a_key_file_that_is_gone(world)
    a_wrong_key_in_the_cluster(world)
    assert [check for _, subject, check in wrong(world.looked()) if subject == CONFIGURATION] == [
        "cluster.hearbeat_s",
        "brokers.main.secret_file",
        "brokers.main.pol_interval_s",
    ]


def test_all_exchanges_are_asked_at_once(world: World) -> None:
    """Each hangs until its deadline: one after the other they would take longer than this test may."""
    exchanges = [SimulatedOkx() for _ in range(20)]
    with serve(*exchanges):
        for number, each in enumerate(exchanges):
            each.set_fault("hang", public=True)
            world.account(f"b{number}", each)["fetch_deadline_s"] = 2.0
        lines = world.looked()
    assert (
        len([line for line in lines if line.check == "reachable" and line.outcome is LineOutcome.FAIL]) == 20
    )


# --- PostgreSQL ----------------------------------------------------------------------------------------


def database(postgresql: PostgreSQL, name: str) -> str:
    """A new and empty database, whose name it is."""
    postgresql.execute(f"DROP DATABASE IF EXISTS {name}", database="postgres")
    postgresql.execute(f"CREATE DATABASE {name}", database="postgres")
    return name


def test_a_postgresql_is_ok_before_and_after_our_tables_are_made(
    world: World, postgresql: PostgreSQL
) -> None:
    name = database(postgresql, "doctor_sound")
    world.cluster["store"] = postgresql.url(database=name)
    lines = world.looked()
    assert wrong(lines) == []
    assert "can be made" in evidence(lines, "store", "database")
    assert postgresql.execute(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=name
    ) == [(0,)]
    examined = examine(world.path, Catalogue()).cluster
    assert examined is not None
    store = store_of(examined)
    store.open()
    store.close()
    lines = world.looked()
    assert wrong(lines) == []
    assert "can be written" in evidence(lines, "store", "database")


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (("REVOKE CREATE ON SCHEMA public FROM PUBLIC",), "may make no tables"),
        (("CREATE TABLE brokerwatch_schema (version int)",), "may not write brokerwatch_schema"),
        (("ALTER DATABASE doctor_rights SET default_transaction_read_only = on",), "is read-only"),
    ],
)
def test_a_postgresql_in_which_we_may_not_write_fails(
    world: World, postgresql: PostgreSQL, statements: tuple[str, ...], said: str
) -> None:
    name = database(postgresql, "doctor_rights")
    postgresql.execute("DROP ROLE IF EXISTS guest", database="postgres")
    postgresql.execute("CREATE ROLE guest LOGIN PASSWORD 'planted-pass'", database="postgres")
    for statement in statements:
        postgresql.execute(statement, database=name)
    world.cluster["store"] = f"postgresql://guest:planted-pass@127.0.0.1:{postgresql.port}/{name}"
    lines = world.looked()
    assert wrong(lines) == [("fail", "store", "database")]
    assert said in evidence(lines, "store", "database")


def test_a_wrong_password_of_a_postgresql_is_not_repeated(world: World, postgresql: PostgreSQL) -> None:
    world.cluster["store"] = postgresql.url(password=f"{PASSWORD}-wrong")
    lines = world.looked()
    assert wrong(lines) == [("fail", "store", "database")]
    assert "authentication failed" in evidence(lines, "store", "database")
    assert PASSWORD not in str(lines)


def test_a_server_that_takes_the_call_and_says_nothing_is_not_waited_for_for_ever(world: World) -> None:
    with listening() as held:
        port = held.getsockname()[1]
        world.cluster["store"] = f"postgresql://{USER}:planted-pass@127.0.0.1:{port}/x"
        lines = world.looked()
    assert wrong(lines) == [("fail", "store", "database")]
    assert "planted-pass" not in str(lines)


# --- the lines -----------------------------------------------------------------------------------------


def test_a_line_says_what_to_do_at_its_end_and_stands_on_one_line() -> None:
    line = fail("store", "file", "bad\nnews\x1b[31m", "mend it")
    assert written(line, 8) == "FAIL  store     file: bad news [31m -> mend it"
    assert written(ok("store", "file", "good"), 5) == "ok    store  file: good"
    page = fail("store", "file", "no: '<html><head><title>502</title></head></html>'", "look")
    assert written(page, 5) == "FAIL  store  file: no: 502 -> look"


def test_the_count_and_the_status_are_those_of_the_lines() -> None:
    good, bad = ok("a", "b", "c"), fail("a", "b", "c", "d")
    odd, aside = warn("a", "b", "c", "d"), skip("a", "b", "c", "d")
    assert count([good, good, odd, bad]) == "2 ok, 1 warning, 1 failure"
    assert count([good, bad, bad, aside]) == "1 ok, 0 warnings, 2 failures, 1 skipped"
    assert [exits.of_lines(lines) for lines in ([good], [good, odd], [odd, bad], [good, aside])] == [
        0,
        3,
        1,
        0,
    ]


def test_a_disk_that_is_nearly_full_is_a_warning() -> None:
    assert room("/x", LEAST_ROOM_BYTES - 1).outcome is LineOutcome.WARN
    assert room("/x", LEAST_ROOM_BYTES).outcome is LineOutcome.OK


def test_too_few_open_files_are_a_warning() -> None:
    assert open_files(255 + 4 * 10, 10).outcome is LineOutcome.WARN
    assert open_files(256 + 4 * 10, 10).outcome is LineOutcome.OK
    assert open_files(None, 10_000).outcome is LineOutcome.OK


@pytest.mark.parametrize(
    ("skew_ms", "outcome", "side"),
    [
        (0.0, "ok", "no difference"),
        (1_000.0, "ok", "no difference"),
        (1_001.0, "warn", "1.0 s behind"),
        (-2_000.0, "warn", "2.0 s ahead"),
        (2_001.0, "fail", "2.0 s behind"),
        (-90_000.0, "fail", "90.0 s ahead"),
    ],
)
def test_how_far_the_clocks_may_be_apart(skew_ms: float, outcome: str, side: str) -> None:
    line = exchange(ExchangeFacts("kraken", skew_ms, 20.0, None))[1]
    assert (str(line.outcome), line.check) == (outcome, "clock")
    if outcome != "ok" or skew_ms == 0.0:
        assert side in line.evidence


def test_an_exchange_that_is_not_reached_beside_a_proxy_that_is_not_taken_has_that_as_advice() -> None:
    fault = Fault(FaultKind.NETWORK, "refused")
    line = exchange(ExchangeFacts("kraken", fault, 0.0, None, unused_proxies=("HTTPS_PROXY",)))[0]
    assert "the proxy of HTTPS_PROXY is not taken: set aiohttp_trust_env" in line.advice
    assert "HTTPS_PROXY" not in exchange(ExchangeFacts("kraken", fault, 0.0, None))[0].advice


def test_a_clock_that_cannot_be_asked_has_not_passed() -> None:
    lines = exchange(ExchangeFacts("rare", None, 0.0, None, markets=12))
    assert [str(line.outcome) for line in lines] == ["ok", "warn", "ok"]


def test_an_exchange_that_asks_us_to_wait_was_reached_and_has_not_passed() -> None:
    fault = Fault(FaultKind.RATE_LIMITED, "429")
    lines = exchange(ExchangeFacts("kraken", fault, 0.0, fault))
    assert [str(line.outcome) for line in lines] == ["warn", "skip", "skip"]


def test_who_only_looks_at_a_claim_neither_makes_nor_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "one.lock"
    assert holder(path) == ""
    assert not path.parent.exists()
    first = claim(path)
    assert isinstance(first, Claim)
    assert holder(path) == f"process {os.getpid()}"
    first.release()
    assert holder(path) == ""
    second = claim(path)
    assert isinstance(second, Claim)
    second.release()


def test_who_only_looks_keeps_nobody_from_claiming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.lock"
    path.touch()
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)

    def looks_no_more(_: float) -> None:
        os.close(looking)

    monkeypatch.setattr("brokerwatch.storage.locks.time.sleep", looks_no_more)
    claimed = claim(path)
    assert isinstance(claimed, Claim)
    claimed.release()


# --- as a shell meets it -------------------------------------------------------------------------------


def doctor(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Done:
    done = command("doctor", *arguments, cwd=folder, environment=environment)
    assert "Traceback" not in done.err + done.out
    return done


def test_a_sound_configuration_is_status_0_and_is_counted_last(world: World) -> None:
    done = doctor(world.path.parent)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[-1] == f"{len(lines) - 1} ok, 0 warnings, 0 failures"
    assert all(line.startswith("ok    ") for line in lines[:-1])


def test_secrets_from_variables_are_named_by_their_variable_and_never_shown(world: World) -> None:
    for name in ("api_key", "secret"):
        del world.brokers["main"][f"{name}_file"]
    secrets = world.kraken.credentials
    environment = {"MAIN_API_KEY": secrets["api_key"], "MAIN_API_SECRET": secrets["secret"]}
    world.path.touch()
    for arguments in ((), ("--json",)):
        done = doctor(world.folder, *arguments, environment=environment)
        assert done.status == 0
        assert "api_key from $MAIN_API_KEY, secret from $MAIN_API_SECRET" in done.out
        assert not any(secret in done.out + done.err for secret in secrets.values())


def test_the_file_of_a_supervisor_and_of_a_node_needs_no_credentials_of_accounts_that_run_elsewhere(
    tmp_path: Path,
) -> None:
    (tmp_path / "brokerwatch.toml").write_text(
        'version = 1\n[cluster]\nstate = "state"\n'
        '[brokers.a]\nexchange = "kraken"\n[brokers.b]\nexchange = "okx"\npol_interval_s = 5\n'
    )
    done = doctor(tmp_path, "--supervisor")
    assert (done.status, done.err) == (0, "")
    assert "brokerwatch.toml is read: cluster main, 2 accounts of nodes" in done.out
    of_a_node = doctor(tmp_path, "--only", "a")
    assert of_a_node.status == 1
    assert "brokers.a.api_key" in of_a_node.out
    assert "brokers.b" not in of_a_node.out
    assert "there is no broker named 'z' here; there are: a, b" in doctor(tmp_path, "--only", "z").out
    both = doctor(tmp_path, "--only", "a", "--supervisor")
    assert (both.status, both.out) == (exits.USAGE, "")
    (tmp_path / "brokerwatch.toml").write_text("version = 1\n[cluster]\nhearbeat_s = 1\n")
    assert "cluster.hearbeat_s" in doctor(tmp_path, "--supervisor").out


def test_a_secret_that_an_exchange_repeats_is_not_shown(world: World) -> None:
    secret = world.kraken.credentials["api_key"]
    world.kraken.set_answer(
        json.dumps({"error": [], "result": {"status": "maintenance", "upcoming_maintenance": [secret]}}),
        path="/0/public/SystemStatus",
        public=True,
    )
    done = doctor(world.path.parent)
    assert done.status == 3
    assert "[redacted]" in done.out
    assert secret not in done.out


def test_a_warning_is_status_3_and_a_failure_is_status_1(world: World) -> None:
    a_key_file_that_others_can_read(world)
    done = doctor(world.path.parent)
    assert done.status == 3
    (line,) = [line for line in done.out.splitlines() if line.startswith("warn  ")]
    assert line.endswith("main.secret can be read by other users of this machine -> chmod 600 it")
    assert done.err == "", "what the loader would log stands in the line"
    a_clock_that_is_far_behind(world)
    done = doctor(world.folder, "--json")
    assert done.status == 1
    objects = [json.loads(line) for line in done.out.splitlines()]
    assert {tuple(said) for said in objects} == {("outcome", "subject", "check", "evidence", "advice")}
    assert [said["check"] for said in objects if said["outcome"] == "fail"] == ["clock"]


def test_no_configuration_is_status_2(tmp_path: Path) -> None:
    done = doctor(tmp_path)
    assert (done.status, done.out) == (2, "")
    assert "no configuration" in done.err
    for text in ("this is = = no TOML", None):
        path = tmp_path / "other.toml"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        done = doctor(tmp_path, "--config", str(path))
        assert (done.status, done.out) == (2, "")
        assert "other.toml" in done.err


def test_what_is_no_toml_raises_and_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[[")
    with pytest.raises(ConfigError):
        examine(tmp_path / "x.toml", Catalogue())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_an_exchange_lets_it_wait(world: World, number: signal.Signals) -> None:
    world.kraken.set_fault("hang", public=True)
    with Program(*BROKERWATCH, "doctor", cwd=world.path.parent) as program:
        assert (program.line(time.monotonic() + PATIENCE_S) or "").startswith("ok    configuration")
        assert program.stopped_by(number) == 2
        assert "stopped before the end" in program.errors


def in_a_terminal(folder: Path, columns: int = 80) -> tuple[int, str]:
    """Run it in a terminal of this width: status, and all that was drawn."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        (*BROKERWATCH, "doctor"), cwd=folder, env=environment_of({"TERM": "xterm"}),
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        drawn = drawn_on(ours)
        return process.wait(PATIENCE_S), drawn


def test_a_terminal_is_shown_that_it_works_and_keeps_nothing_of_it(world: World) -> None:
    world.kraken.set_fault("hang", public=True)
    world.brokers["main"]["fetch_deadline_s"] = 1.0
    status, drawn = in_a_terminal(world.path.parent)
    assert status == 1
    assert "looking: 1 exchange" in drawn
    # What stands on the screen in the end is what was written last on each line.
    shown = [line.rpartition("\r")[2] for line in drawn.replace("\r\n", "\n").split("\n")]
    assert not any("looking" in line for line in shown)
    assert shown[-2].endswith("1 failure, 2 skipped")


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal_is_shown_whole_words_however_narrow_it_is(world: World, columns: int) -> None:
    world.account("a-long-name-of-an-account-that-has-48-characters", world.kraken)
    _, drawn = in_a_terminal(world.path.parent, columns)
    lines = [line.rpartition("\r")[2].rstrip() for line in drawn.replace("\r\n", "\n").split("\n")]
    assert max(map(len, lines)) < columns
    begins = [line for line in lines if line and not line.startswith(" ")]
    piped = run_program(*BROKERWATCH, "doctor", cwd=world.path.parent).out.splitlines()
    assert len(begins) == len(piped), "what goes on below is indented"
    assert " ".join(" ".join(lines).split()).count("a request can be signed with them") == 2


def test_a_reader_who_has_enough_is_no_error(world: World) -> None:
    command = f"{sys.executable} -m brokerwatch doctor | head -1"
    done = run_program("sh", "-c", command, cwd=world.path.parent)
    assert done.out.startswith("ok    configuration")
    assert done.err == ""


def test_the_help_does_not_pay_for_ccxt(tmp_path: Path) -> None:
    code = "import sys; from brokerwatch.cli.main import app; "
    code += "app(['doctor', '--help'], standalone_mode=False); "
    done = subprocess.run(
        (sys.executable, "-c", code + "sys.exit('ccxt' in sys.modules)"),
        cwd=tmp_path,
        env=environment_of({}),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0
