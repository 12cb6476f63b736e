"""What systemd is told, over a real socket."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from brokerwatch.cli.service import STATUS_S, ServiceManager
from tests.support.clusters import PATIENCE_S, until
from tests.support.programs import BROKERWATCH, Program


@contextmanager
def heard_at(address: str) -> Generator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.settimeout(PATIENCE_S)
        ear.bind(address)
        yield ear


def test_it_is_told_when_the_program_is_ready_and_lives_while_nothing_is_wrong(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    wrong = [""]
    with heard_at(address) as ear:
        manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000"})
        with manager.watched(lambda: wrong[0], lambda: "3 accounts"):
            assert ear.recv(4_096).split(b"\n") == [b"READY=1", b"STATUS=3 accounts", b"WATCHDOG=1"]
            assert ear.recv(4_096).split(b"\n") == [b"STATUS=3 accounts", b"WATCHDOG=1"]
            wrong[0] = "a loop hangs"
            while (said := ear.recv(4_096)) != b"STATUS=a loop hangs":
                assert said.endswith(b"WATCHDOG=1"), "what came before it was wrong"
        while not ear.recv(4_096).startswith(b"STOPPING=1"):
            pass


def test_a_file_is_touched_while_nothing_is_wrong_and_is_gone_at_the_end(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    wrong, looks = [""], [0]

    def fault() -> str:
        looks[0] += 1
        return wrong[0]

    def is_touched() -> bool:
        """Whether the file is touched within some looks, after those that were under way."""
        for _ in range(2):
            os.utime(alive, (1, 1))
            enough = looks[0] + 3
            until(lambda enough=enough: looks[0] >= enough)  # type: ignore[misc]  # mypy infers no type of it
        return alive.stat().st_mtime > 1

    with ServiceManager({"WATCHDOG_USEC": "60000"}, alive_file=alive).watched(fault, str):
        assert alive.exists()
        assert is_touched()
        wrong[0] = "a loop hangs"
        assert not is_touched()
        wrong[0] = ""
        assert is_touched()
    assert not alive.exists()
    with ServiceManager({}, alive_file=tmp_path / "missing" / "alive").watched(str, str):
        pass


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, STATUS_S),
        ({"WATCHDOG_USEC": "3000000"}, 1.0),
        ({"WATCHDOG_USEC": "60000000"}, STATUS_S),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, STATUS_S),
        ({"WATCHDOG_USEC": "soon"}, STATUS_S),
        ({"WATCHDOG_USEC": "0"}, STATUS_S),
    ],
)
def test_a_sign_of_life_comes_three_times_within_the_limit(
    environment: dict[str, str], interval_s: float
) -> None:
    assert ServiceManager(environment).interval_s == interval_s


def test_without_a_service_manager_nothing_is_sent_and_nothing_runs(tmp_path: Path) -> None:
    before = threading.active_count()
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "none")}):
        manager = ServiceManager(environment)
        manager.say("READY=1")
    with ServiceManager({}).watched(str, str):
        assert threading.active_count() == before


def test_the_program_says_so_itself(tmp_path: Path) -> None:
    address = "@brokerwatch-test-" + os.urandom(8).hex()
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}
    with heard_at("\0" + address[1:]) as ear:
        command = (*BROKERWATCH, "run", "--demo", "--json")
        with Program(*command, cwd=tmp_path, environment=environment) as program:
            assert ear.recv(4_096).startswith(b"READY=1\nSTATUS=")
            while b"3 accounts, 0 not available" not in ear.recv(4_096):
                pass
            program.send(signal.SIGTERM)
            while not ear.recv(4_096).startswith(b"STOPPING=1"):
                pass
            assert program.end(10.0) == 0
