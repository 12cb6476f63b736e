"""The programs as a shell meets them: processes, their lines, their signals, and what they import.

Exchanges are simulated ones of this test's own process, and all traffic stays on loopback.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.cli.main import YOUNG
from brokerwatch.cli.verification import of_demo
from brokerwatch.errors import ConfigError
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.cli.conftest import Beside, told_where
from tests.support.clusters import PATIENCE_S, until
from tests.support.command import Done, command, environment_of
from tests.support.homeless import be_homeless
from tests.support.ports import free_endpoint
from tests.support.programs import (
    BROKERWATCH,
    ROOT,
    RUN_CLUSTER,
    SOMETIMES,
    STAMP_KEYS,
    WIRE_KEYS,
    Program,
    Said,
    run_program,
)

MIB: Final = 1_024
"""Kilobytes, which is what Linux counts the resident size in."""
LIMIT_MIB: Final = 60


def test_the_program_of_its_own_explains_itself(tmp_path: Path) -> None:
    done = run_program(*RUN_CLUSTER, "--help", cwd=tmp_path)
    assert done.status == 0
    assert "--demo" in done.out
    assert "--config" in done.out


@pytest.mark.parametrize(
    "program", [(*BROKERWATCH, "run"), RUN_CLUSTER], ids=["brokerwatch run", "run_cluster.py"]
)
def test_without_a_configuration_it_says_how_to_get_one_and_simulates_nothing(
    program: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_program(*program, cwd=tmp_path)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert "--demo" in line
    assert "`brokerwatch init`" in line
    assert done.out == ""


# --- the demo ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The demo as JSON lines, as `make run` starts it, until its first glitch is over."""
    folder = tmp_path_factory.mktemp("demo")
    lines: list[str] = []
    errors = 0
    with Program(*RUN_CLUSTER, "--demo", "--json", cwd=folder) as program:
        until_s = time.monotonic() + PATIENCE_S
        while (line := program.line(until_s)) is not None:
            lines.append(line)
            said = json.loads(line)
            if said["broker"] == "kraken-demo":
                if errors and not said["error_count"]:
                    break
                errors = said["error_count"]
        status = program.stopped_by(signal.SIGTERM)
        return Done(status, "\n".join(lines), program.errors)


def test_the_demo_ends_by_itself_with_status_0(tmp_path: Path) -> None:
    done = run_program(*RUN_CLUSTER, "--demo", "--duration", "1", "--json", cwd=tmp_path)
    assert done.status == 0


def test_every_line_of_the_demo_is_a_reading_as_on_the_wire_with_its_stamp(demo: Done) -> None:
    objects: list[Said] = [json.loads(line) for line in demo.out.splitlines()]
    assert len(objects) > 6
    for said in objects:
        assert said.keys() - SOMETIMES == WIRE_KEYS | STAMP_KEYS
        assert ("proof_ms" in said) is said["available"]
        assert said["simulated"] is True
        assert said["src"] == "supervisor/demo"
    assert {said["broker"] for said in objects} == {"kraken-demo", "coinbase-demo", "okx-demo"}


def test_the_numbers_of_a_topic_rise_by_one_in_the_demo(demo: Done) -> None:
    objects: list[Said] = [json.loads(line) for line in demo.out.splitlines()]
    assert len({said["epoch"] for said in objects}) == 1
    for broker in {said["broker"] for said in objects}:
        numbers = [said["seq"] for said in objects if said["broker"] == broker]
        assert numbers == sorted(set(numbers))


def test_the_demo_shows_a_glitch_and_keeps_the_money_through_it(demo: Done) -> None:
    kraken = [said for line in demo.out.splitlines() if (said := json.loads(line))["broker"] == "kraken-demo"]
    (glitch,) = [said for said in kraken if said["error_count"]]
    assert (glitch["state"], glitch["status"], glitch["available"]) == (2, "degraded", True)
    assert (glitch["cash"], glitch["stale"]) == ("12500.00", True)
    assert kraken[-1]["error_count"] == 0


def test_the_demo_says_first_of_all_that_it_is_one(demo: Done) -> None:
    assert "SIMULATED" in demo.err.splitlines()[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_demo_in_order_and_in_time(number: signal.Signals, tmp_path: Path) -> None:
    with Program(*BROKERWATCH, "run", "--demo", "--json", cwd=tmp_path) as program:
        program.until_each(("kraken-demo", "coinbase-demo", "okx-demo"), lambda said: said["available"])
        assert program.stopped_by(number) == 0
        assert "Traceback" not in program.errors
        assert "left behind" not in program.errors


def test_a_reader_who_has_enough_ends_it_without_a_fuss(tmp_path: Path) -> None:
    with Program(*BROKERWATCH, "run", "--demo", "--json", cwd=tmp_path) as program:
        assert program.line(time.monotonic() + PATIENCE_S) is not None
        program.close_pipe()
        assert program.end() == 0
        assert "Traceback" not in program.errors
        assert "BrokenPipe" not in program.errors


def test_a_full_disk_is_said_once_and_does_not_stop_the_watch(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        line = (*BROKERWATCH, "run", "--demo", "--json")
        with Program(*line, cwd=tmp_path, output=full.fileno()) as program:
            until(lambda: "lines are lost" in program.errors)
            until(lambda: "simulation: " in program.errors)  # it goes on
            program.send(signal.SIGTERM)
            assert program.end() == 0
            assert program.errors.count("lines are lost") == 1


def test_a_signal_ends_it_although_nobody_reads_its_lines(tmp_path: Path) -> None:
    """A pipe that is full blocks who writes to it, and a program that is blocked hears no signal."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b" " * 4_096)
    os.set_blocking(theirs, True)
    try:
        with Program(*BROKERWATCH, "run", "--demo", "--json", cwd=tmp_path, output=theirs) as program:
            os.close(theirs)
            until_s = time.monotonic() + PATIENCE_S
            while "simulation:" not in program.errors:
                assert time.monotonic() < until_s, program.errors
                select.select([], [], [], 0.02)
            program.send(signal.SIGTERM)
            assert program.end(5.0) == 0
    finally:
        os.close(ours)


def test_on_a_terminal_the_demo_shows_a_live_table(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    seen = b""
    try:
        command = (*RUN_CLUSTER, "--demo", "--duration", "6")
        environment = {"TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
        with Program(*command, cwd=tmp_path, environment=environment, output=theirs) as program:
            os.close(theirs)
            until_s = time.monotonic() + PATIENCE_S
            with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
                while select.select([ours], [], [], max(0.0, until_s - time.monotonic()))[0]:
                    if not (chunk := os.read(ours, 65_536)):
                        break
                    seen += chunk
            assert program.end() == 0
            assert "Traceback" not in program.errors
    finally:
        os.close(ours)
    shown = seen.decode()
    for word in (
        "SIMULATED",
        "broker",
        "status",
        "reason",
        "since",
        "errors",
        "cash",
        "age",
        "kraken-demo",
        "healthy",
    ):
        assert word in shown
    assert "brokerwatch listen tcp://127.0.0.1:" in shown


# --- real accounts, on the simulators ----------------------------------------------------------------


class Venue:
    """Three simulated exchanges, and a configuration that takes them for real ones."""

    def __init__(self) -> None:
        self.exchanges: dict[str, SimulatedExchange] = {
            "kraken-sim": SimulatedKraken(),
            "coinbase-sim": SimulatedCoinbase(),
            "okx-sim": SimulatedOkx(),
        }
        self.environment: dict[str, str] = {}

    def config(self, folder: Path, endpoint: str, extra: str = "") -> Path:
        """Write a configuration with every account, its keys in the environment."""
        text = f'version = 1\n[cluster]\nname = "sim"\nhealth_endpoint = "{endpoint}"\nheartbeat_s = 0.5\n'
        names = {"api_key": "API_KEY", "secret": "API_SECRET", "password": "API_PASSPHRASE"}
        for name, simulated in self.exchanges.items():
            for credential, value in simulated.credentials.items():
                variable = f"{name.upper().replace('-', '_')}_{names[credential]}"
                self.environment[variable] = value.replace("\n", "\\n")
            urls = "\n".join(f'{one} = "{simulated.url}"' for one in simulated.url_names)
            text += (
                f'[brokers.{name}]\nexchange = "{simulated.ccxt_id}"\npoll_interval_s = 0.2\n'
                f"fetch_deadline_s = 2\n[brokers.{name}.ccxt.urls.api]\n{urls}\n"
            )
        path = folder / "sim.toml"
        path.write_text(text + extra)
        return path


@pytest.fixture
def venue() -> Iterator[Venue]:
    made = Venue()
    with serve(*made.exchanges.values()):
        yield made


HANGS: Final = """
import threading
from brokerwatch.cli.main import run_alone

begin, begun = threading.Thread.start, []

def start(thread):
    if thread.name == "brokerwatch-exchanges" and begun:
        raise RuntimeError("can't start new thread")
    begin(thread)
    if thread.name == "brokerwatch-exchanges":
        begun.append(thread)
        thread._target.__self__.asyncio_loop.call_soon_threadsafe(threading.Event().wait)

threading.Thread.start = start
run_alone()
"""
"""The program, whose loop for the exchanges hangs on a system that gives no other thread for it."""


def test_run_ends_with_a_status_of_its_own_when_a_loop_hangs_and_cannot_be_replaced(
    venue: Venue, tmp_path: Path
) -> None:
    config = venue.config(tmp_path, free_endpoint())
    config.write_text(config.read_text().replace("heartbeat_s = 0.5", "heartbeat_s = 0.05"))
    done = run_program(
        sys.executable,
        "-c",
        HANGS,
        "--config",
        str(config),
        cwd=tmp_path,
        environment={**venue.environment, "PYTHONPATH": str(ROOT)},
    )
    assert done.status == 5
    assert "brokerwatch: ended, because some accounts can be asked no more" in done.err


def test_another_process_hears_unavailable_after_the_third_error_and_healthy_after_the_first_success(
    venue: Venue, tmp_path: Path
) -> None:
    endpoint = free_endpoint()
    config = venue.config(tmp_path, endpoint)
    command = (*RUN_CLUSTER, "--config", str(config), "--log-format", "json", "--log-file", "run.log")
    with (
        Program(*command, cwd=tmp_path, environment=venue.environment) as run,
        Program(*BROKERWATCH, "listen", endpoint, "--json", cwd=tmp_path) as program,
    ):
        first = program.until_each(
            venue.exchanges, lambda said: said["cash"] is not None and not said["stale"]
        )
        assert not any(said["simulated"] for said in first), "the configuration names them as real ones"
        money = {said["broker"]: said["balance"] for said in first if said["balance"]}

        faults = dict(zip(venue.exchanges, ("reset", "exchange_down", "hang"), strict=True))
        for name, fault in faults.items():
            venue.exchanges[name].set_fault(fault)
        down = program.until_each(venue.exchanges, lambda said: said["state"] == 3)
        for said in down:
            assert said["available"] is (said["error_count"] < 3), (
                "available until the third error, and not after"
            )
            assert (said["state"] == 3) is (said["error_count"] >= 3)
            assert said["balance"] == money[said["broker"]], "the last known is kept through every fault"
        for name, fault in (
            ("kraken-sim", "network"),
            ("coinbase-sim", "exchange_down"),
            ("okx-sim", "network"),
        ):
            last = [said for said in down if said["broker"] == name][-1]
            assert (last["fault"], last["reason"]) == (fault, "errors")

        for simulated in venue.exchanges.values():
            simulated.mend()
        back = program.until_each(venue.exchanges, lambda said: said["state"] == 1)
        for said in back:
            assert said["available"] is (said["state"] == 1), (
                "one success makes it available, and nothing else"
            )
            assert said["state"] != 1 or said["error_count"] == 0
        assert run.stopped_by(signal.SIGTERM) == 0
        farewell = program.until_each(venue.exchanges, lambda said: said["reason"] == "shutdown")
        for said in farewell:
            assert said["reason"] != "shutdown" or (said["state"], said["available"]) == (0, False)
        assert program.stopped_by(signal.SIGTERM) == 0
    logged = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    for name, fault in (("kraken-sim", "network"), ("coinbase-sim", "exchange_down")):
        (out,) = [each for each in logged if each.get("broker") == name and each.get("error_count") == 3]
        assert (out["available"], out["reason"], out["fault"]) == (False, "errors", fault)
        assert (out["exchange"], out["status"], out["level"]) == (name[:-4], "unavailable", "warning")
        (back_again,) = [each for each in logged if each["message"] == f"{name} is available again"]
        assert back_again["available"] is True, "one line for each transition"


def test_a_killed_cluster_leaves_nothing_heard_of_each_broker_that_was_known(
    venue: Venue, tmp_path: Path
) -> None:
    endpoint = free_endpoint()
    config = venue.config(tmp_path, endpoint)
    with (
        Program(
            *BROKERWATCH, "run", "--config", str(config), cwd=tmp_path, environment=venue.environment
        ) as run,
        Program(*BROKERWATCH, "listen", endpoint, "--json", cwd=tmp_path) as program,
    ):
        program.until_each(venue.exchanges, lambda said: said["available"] and said["cash"] is not None)
        run.send(signal.SIGKILL)
        heard = program.until_each(venue.exchanges, lambda said: said["reason"] == "nothing_heard")
        silent = [said for said in heard if said["reason"] == "nothing_heard"]
        assert sorted(said["broker"] for said in silent) == sorted(venue.exchanges)
        for said in silent:
            assert (said["state"], said["status"], said["available"]) == (0, "unknown", False)
            assert said["cash"] is not None, "the last known amount is still the last known"
            assert said.keys() - SOMETIMES == WIRE_KEYS | STAMP_KEYS


def test_keep_going_starts_the_sound_brokers_and_shows_the_broken_one(venue: Venue, tmp_path: Path) -> None:
    config = venue.config(
        tmp_path, free_endpoint(), '[brokers.sick]\nexchange = "okx"\npoll_interval_s = 0\n'
    )
    venue.environment.update(dict.fromkeys(("SICK_API_KEY", "SICK_API_SECRET", "SICK_API_PASSPHRASE"), "x"))
    arguments = ("run", "--config", str(config), "--json")
    refused = command(*arguments, cwd=tmp_path, environment=venue.environment)
    assert refused.status == 2
    (line,) = refused.err.splitlines()
    assert "brokers.sick.poll_interval_s" in line

    with Program(
        *BROKERWATCH, *arguments, "--keep-going", cwd=tmp_path, environment=venue.environment
    ) as run:
        heard = run.until_each(
            (*venue.exchanges, "sick"), lambda said: said["available"] or said["reason"] == "config"
        )
        sick = [said for said in heard if said["broker"] == "sick"]
        assert sick
        for said in sick:
            assert (said["state"], said["available"], said["reason"]) == (0, False, "config")
            assert (said["exchange"], said["cash"]) == ("okx", None)
            assert "poll_interval_s" in said["detail"]
        assert run.stopped_by(signal.SIGINT) == 0


# --- listen and status, beside clusters of this process ----------------------------------------------


def test_listen_hears_several_clusters_at_once(beside: Beside, tmp_path: Path) -> None:
    endpoints = (beside.mixed.health_endpoint, beside.sound.health_endpoint)
    with Program(*BROKERWATCH, "listen", *endpoints, "--json", cwd=tmp_path) as program:
        missing = {("supervisor/mixed", "down"), ("supervisor/sound", "fine"), ("supervisor/mixed", "fine")}

        def last_one(said: Said) -> bool:
            missing.discard((said["src"], said["broker"]))
            return not missing

        program.until(last_one)


# --- what a program costs ---------------------------------------------------------------------------


LAUNCHER: Final = (
    "import resource, subprocess, sys\n"
    "done = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL)\n"
    "open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
    "sys.exit(done.returncode)\n"
)
"""A process of its own that waits for the measured one: a child begins with the peak of its parent."""


def cost_of(*arguments: str, cwd: Path) -> tuple[set[str], float]:
    """The top-level modules that a program imports, and its largest resident size in MiB."""
    measured = cwd / "peak"
    done = subprocess.run(
        (sys.executable, "-c", LAUNCHER, str(measured), sys.executable, "-X", "importtime", *arguments),
        cwd=cwd,
        env=environment_of({}),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    return imported, int(measured.read_text()) / MIB


HEAVY: Final = frozenset(("ccxt", "pykka", "aiohttp", "cryptography", "requests"))


def test_help_imports_neither_exchanges_nor_actors_and_stays_small(tmp_path: Path) -> None:
    imported, peak_mib = cost_of("-m", "brokerwatch", "--help", cwd=tmp_path)
    assert "click" in imported
    assert imported & (HEAVY | {"zmq", "rich", "msgspec"}) == set()
    assert peak_mib < LIMIT_MIB


def test_listen_imports_neither_exchanges_nor_actors_and_stays_small(beside: Beside, tmp_path: Path) -> None:
    endpoint = beside.mixed.health_endpoint
    imported, peak_mib = cost_of(
        "-m", "brokerwatch", "listen", endpoint, "--json", "--count", "3", cwd=tmp_path
    )
    assert "zmq" in imported
    assert imported & HEAVY == set()
    assert peak_mib < LIMIT_MIB


def test_status_imports_neither_exchanges_nor_actors_and_stays_small(beside: Beside, tmp_path: Path) -> None:
    told_where(tmp_path, beside.sound.health_endpoint)
    imported, peak_mib = cost_of("-m", "brokerwatch", "status", cwd=tmp_path)
    assert "zmq" in imported
    assert imported & HEAVY == set()
    assert peak_mib < LIMIT_MIB


@pytest.mark.parametrize("home", [{}, {"HOME": "/proc/no-home"}], ids=["none", "one that cannot be made"])
def test_a_demo_needs_no_home_folder(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_homeless(monkeypatch)
    for arguments in (("run", "--demo", "--duration", "0.5"), ("verify", "--demo", "kraken")):
        done = command(*arguments, cwd=tmp_path, environment={**home, "XDG_STATE_HOME": ""})
        assert done.status == 0, done.err
        assert "cannot be used" not in done.err
        assert "recorded" not in done.err


def test_a_demo_says_where_it_can_make_no_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(ConfigError, match=r"--demo: expected a folder for temporary files, such as \$TMPDIR"):
        of_demo("kraken").__enter__()


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_a_demo_is_verified_whatever_the_umask(umask: int) -> None:
    before = os.umask(umask)
    try:
        with of_demo("kraken") as subject:
            assert subject.spec.name == "kraken"
    finally:
        os.umask(before)


ALONE = """
import gc, os, sys
from brokerwatch.cli.main import main
print(gc.get_threshold())
os._exit = lambda _: print(gc.get_threshold())
sys.argv = ["brokerwatch", "--version"]
main()
"""


def test_a_program_of_ours_looks_less_often_for_garbage(tmp_path: Path) -> None:
    said = run_program(sys.executable, "-c", ALONE, cwd=tmp_path).out.splitlines()
    loaded, ended = ast.literal_eval(said[0]), ast.literal_eval(said[-1])
    assert loaded[0] < YOUNG, "a process that only loads ours keeps its setting"
    assert ended == (YOUNG, *loaded[1:])
