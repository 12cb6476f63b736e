"""The doors, as a shell meets them: whole processes, their lines, their exit statuses and their signals.

Every wait is on a pipe or on the end of a process, with a limit. Exchanges are simulated ones of this
test's own process, and all traffic stays on loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

from brokerwatch import BalanceUnknown, Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.loader import load
from brokerwatch.gateway import catalogue
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import ONLY_WHEN_ASKED, Till, cluster_of

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 25.0
"""A busy machine may be slow; a broken product is never done."""
STOP_S: Final = 5.0
"""What an operator was promised."""
MIB: Final = 1_024
"""Kilobytes, which is what Linux counts the resident size in."""
LIMIT_MIB: Final = 60

WIRE_KEYS: Final = frozenset(
    ("broker", "exchange", "simulated", "broker_epoch", "version", "state", "status", "available", "reason",
     "detail", "since_us", "error_count", "fault", "as_of_us", "age_ms", "stale", "cash", "balance", "labels",
     "capabilities")
)  # fmt: skip
STAMP_KEYS: Final = frozenset(("src", "epoch", "seq", "ts_us"))

Said = dict[str, Any]
"""One JSON object of a line."""

BROKERWATCH: Final = (sys.executable, "-m", "brokerwatch")
RUN_CLUSTER: Final = (sys.executable, str(ROOT / "run_cluster.py"))


def environment_of(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would change a door's mind or its looks."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BROKERWATCH", "PYTHONUNBUFFERED", "COLUMNS", "FORCE_COLOR"))
    }
    return {**inherited, "TERM": "dumb", "NO_COLOR": "1", **extra}


class Door:
    """One door as a process. Reads its standard output line by line; standard error goes to a file."""

    def __init__(
        self,
        *command: str,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        output: int | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the door
        self._unread = b""
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment_of(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output is None else output,
            stderr=self._errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
        self.close_pipe()
        self._errors.close()

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        # Not read(): the child writes at the same position, and seeking would move it.
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close_pipe(self) -> None:
        """Read no more."""
        if self._process.stdout is not None:
            self._process.stdout.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def line(self, until_s: float) -> str | None:
        """The next line, None at the end of the output; fails when neither comes by then."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))
            assert ready, f"no line came in time; standard error: {self.errors[-2_000:]}"
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                assert self._unread == b"", f"half a line at the end: {self._unread!r}"
                return None
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def objects(self, patience_s: float = PATIENCE_S) -> Iterator[Said]:
        """Each line as a JSON object, until the output ends; fails when they stop coming for good."""
        until_s = time.monotonic() + patience_s
        while (line := self.line(until_s)) is not None:
            said = json.loads(line)
            assert isinstance(said, dict), line
            yield said

    def until(self, wanted: Callable[[Said], bool], patience_s: float = PATIENCE_S) -> list[Said]:
        """The objects up to and including the first that is as wanted."""
        heard: list[Said] = []
        for said in self.objects(patience_s):
            heard.append(said)
            if wanted(said):
                return heard
        raise AssertionError(f"it ended; the last was {heard[-1:]}; standard error: {self.errors[-2_000:]}")

    def until_each(
        self, brokers: Iterable[str], wanted: Callable[[Said], bool], patience_s: float = PATIENCE_S
    ) -> list[Said]:
        """The objects up to where each of these brokers has been heard as wanted."""
        missing = set(brokers)

        def last_one(said: Said) -> bool:
            if wanted(said):
                missing.discard(said["broker"])
            return not missing

        return self.until(last_one, patience_s)

    def stopped_by(self, number: signal.Signals) -> int:
        """Send a signal and read on to the end, within what was promised; its exit status."""
        until_s = time.monotonic() + STOP_S
        self.send(number)
        while self.line(until_s) is not None:
            pass
        return self.end(max(0.0, until_s - time.monotonic()))

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for its end; its exit status."""
        return self._process.wait(patience_s)


@dataclass(frozen=True, slots=True)
class Done:
    """A door that has ended."""

    status: int
    out: str
    err: str


def run_door(
    *command: str, cwd: Path, environment: Mapping[str, str] | None = None, patience_s: float = PATIENCE_S
) -> Done:
    """Run a door to its end."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment_of(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience_s,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def free_endpoint() -> str:
    """An endpoint on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


# --- help, usage and configuration ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "status"),
        (("run",), "--keep-going"),
        (("listen",), "--count"),
        (("status",), "--timeout"),
        (("init",), "PATH"),
        (("history",), "--since"),
        (("hold",), "--until"),
        (("release",), "--cluster"),
        (("reset",), "lockout"),
        (("simulate",), "--fault"),
    ],
    ids=["brokerwatch", "run", "listen", "status", "init", "history", "hold", "release", "reset", "simulate"],
)
def test_every_command_explains_itself(arguments: tuple[str, ...], word: str, tmp_path: Path) -> None:
    done = run_door(*BROKERWATCH, *arguments, "--help", cwd=tmp_path)
    assert done.status == 0
    assert word in done.out
    assert done.err == ""


def test_the_program_of_its_own_explains_itself(tmp_path: Path) -> None:
    done = run_door(*RUN_CLUSTER, "--help", cwd=tmp_path)
    assert done.status == 0
    assert "--demo" in done.out
    assert "--config" in done.out


@pytest.mark.parametrize(
    "arguments",
    [("walk",), ("run", "--wat"), ("run", "--duration", "-1"), ("listen", "--count", "0"),
     ("status", "--timeout", "0")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_door(*BROKERWATCH, *arguments, cwd=tmp_path)
    assert done.status == 2
    assert "Error" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "door", [(*BROKERWATCH, "run"), RUN_CLUSTER], ids=["brokerwatch run", "run_cluster.py"]
)
def test_without_a_configuration_it_says_how_to_get_one_and_simulates_nothing(
    door: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_door(*door, cwd=tmp_path)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert "--demo" in line
    assert "`brokerwatch init`" in line
    assert done.out == ""


def test_the_option_goes_before_the_variable_and_the_variable_before_the_file_that_lies_here(
    tmp_path: Path,
) -> None:
    for name in ("option", "variable", "brokerwatch"):
        (tmp_path / f"{name}.toml").write_text("version = 3\n")
    variable = {"BROKERWATCH_CONFIG": "variable.toml"}
    said = {
        "option.toml": run_door(
            *BROKERWATCH, "run", "--config", "option.toml", cwd=tmp_path, environment=variable
        ),
        "variable.toml": run_door(*RUN_CLUSTER, cwd=tmp_path, environment=variable),
        "brokerwatch.toml": run_door(*BROKERWATCH, "run", cwd=tmp_path),
    }
    for name, done in said.items():
        assert done.status == 2
        assert all(line.startswith(f"brokerwatch: {name}: ") for line in done.err.splitlines()), done.err


def test_a_bad_file_ends_with_status_2_and_one_line_for_each_mistake(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        'version = 1\nwat = 1\n[cluster]\nhealth_endpoint = "tcp://0.0.0.0:5571"\n'
        '[brokers.k]\nexchange = "krakken"\npoll_interval_s = 0\n'
    )
    done = run_door(*RUN_CLUSTER, "--config", "bad.toml", cwd=tmp_path)
    assert done.status == 2
    assert done.out == ""
    lines = done.err.splitlines()
    assert len(lines) == 4
    for key, expected in (
        ("wat", "unknown key"),
        ("cluster.health_endpoint", "can be reached from other machines"),
        ("brokers.k.exchange", "did you mean kraken"),
        ("brokers.k.poll_interval_s", "above 0"),
    ):
        (line,) = [line for line in lines if line.startswith(f"brokerwatch: bad.toml: {key}: ")]
        assert expected in line


def test_malformed_toml_and_a_missing_file_end_with_status_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.toml").write_text("version = 1\n[brokers.k\n")
    for name, expected in (("cut.toml", "line 2"), ("gone.toml", "No such file")):
        done = run_door(*BROKERWATCH, "run", "--config", name, cwd=tmp_path)
        assert done.status == 2
        (line,) = done.err.splitlines()
        assert name in line
        assert expected in line


@pytest.mark.parametrize("command", ["listen", "status"])
def test_who_would_listen_beyond_loopback_is_refused(command: str, tmp_path: Path) -> None:
    done = run_door(*BROKERWATCH, command, "tcp://192.0.2.1:5571", cwd=tmp_path)
    assert done.status == 2
    assert "can be reached from other machines" in done.err


def lonely_config(folder: Path, endpoint: str) -> Path:
    """A configuration of one account whose exchange is a port on which nobody listens."""
    nobody = free_endpoint().replace("tcp", "http")
    path = folder / "lonely.toml"
    path.write_text(
        f'version = 1\n[cluster]\nhealth_endpoint = "{endpoint}"\n[brokers.k]\nexchange = "kraken"\n'
        f'poll_interval_s = inf\n[brokers.k.ccxt.urls.api]\npublic = "{nobody}"\nprivate = "{nobody}"\n'
    )
    return path


LONELY_KEYS: Final = {"K_API_KEY": "key", "K_API_SECRET": "c2VjcmV0"}


def test_an_endpoint_in_use_ends_with_status_2_and_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        config = lonely_config(tmp_path, endpoint)
        done = run_door(*BROKERWATCH, "run", "--config", str(config), cwd=tmp_path, environment=LONELY_KEYS)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert f"{endpoint} is in use" in line
    assert "health_endpoint" in line


# --- init ----------------------------------------------------------------------------------------


def test_init_writes_a_file_that_loads_once_its_variables_are_set(tmp_path: Path) -> None:
    done = run_door(*BROKERWATCH, "init", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert "brokerwatch run" in done.out

    unset = run_door(*BROKERWATCH, "run", cwd=tmp_path)
    assert unset.status == 2
    variables = ("KRAKEN_MAIN_API_KEY", "KRAKEN_MAIN_API_SECRET")
    assert [name for name in variables if name in unset.err] == list(variables)
    assert len(unset.err.splitlines()) == 2

    found = load(
        tmp_path / "brokerwatch.toml", catalogue.Catalogue(), environment=dict.fromkeys(variables, "x")
    )
    assert [spec.name for spec in found.brokers] == ["kraken-main"]


def test_init_leaves_a_file_that_exists_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("mine")
    done = run_door(*BROKERWATCH, "init", "mine.toml", cwd=tmp_path)
    assert done.status == 2
    assert "mine.toml exists already and was left alone" in done.err
    assert (tmp_path / "mine.toml").read_text() == "mine"


def test_init_says_why_it_cannot_write_and_how_to_run_what_it_wrote(tmp_path: Path) -> None:
    nowhere = run_door(*BROKERWATCH, "init", "no/such/folder.toml", cwd=tmp_path)
    assert nowhere.status == 2
    assert "no/such/folder.toml cannot be written: No such file or directory" in nowhere.err
    elsewhere = run_door(*BROKERWATCH, "init", "desk.toml", cwd=tmp_path)
    assert "brokerwatch run --config desk.toml" in elsewhere.out


# --- the demo ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Three seconds of the demo as JSON lines, as `make run` starts it."""
    folder = tmp_path_factory.mktemp("demo")
    return run_door(*RUN_CLUSTER, "--demo", "--duration", "3", "--json", cwd=folder)


def test_the_demo_ends_by_itself_with_status_0(demo: Done) -> None:
    assert demo.status == 0


def test_every_line_of_the_demo_is_a_reading_as_on_the_wire_with_its_stamp(demo: Done) -> None:
    objects: list[Said] = [json.loads(line) for line in demo.out.splitlines()]
    assert len(objects) > 6
    for said in objects:
        assert said.keys() == WIRE_KEYS | STAMP_KEYS
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
    with Door(*BROKERWATCH, "run", "--demo", "--json", cwd=tmp_path) as door:
        door.until_each(("kraken-demo", "coinbase-demo", "okx-demo"), lambda said: said["available"])
        assert door.stopped_by(number) == 0
        assert "Traceback" not in door.errors
        assert "left behind" not in door.errors


def test_a_reader_who_has_enough_ends_it_without_a_fuss(tmp_path: Path) -> None:
    with Door(*BROKERWATCH, "run", "--demo", "--json", cwd=tmp_path) as door:
        assert door.line(time.monotonic() + PATIENCE_S) is not None
        door.close_pipe()
        assert door.end() == 0
        assert "Traceback" not in door.errors
        assert "BrokenPipe" not in door.errors


def test_a_full_disk_is_said_once_and_does_not_stop_the_watch(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = (*BROKERWATCH, "run", "--demo", "--json", "--duration", "2")
        with Door(*command, cwd=tmp_path, output=full.fileno()) as door:
            assert door.end() == 0
            assert door.errors.count("lines are lost") == 1
            assert "simulation: " in door.errors, "it went on to the end of its time"


def test_a_signal_ends_it_although_nobody_reads_its_lines(tmp_path: Path) -> None:
    """A pipe that is full blocks who writes to it, and a program that is blocked hears no signal."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b" " * 4_096)
    os.set_blocking(theirs, True)
    try:
        with Door(*BROKERWATCH, "run", "--demo", "--json", cwd=tmp_path, output=theirs) as door:
            os.close(theirs)
            until_s = time.monotonic() + PATIENCE_S
            while "simulation:" not in door.errors:
                assert time.monotonic() < until_s, door.errors
                select.select([], [], [], 0.02)
            door.send(signal.SIGTERM)
            assert door.end(5.0) == 0
    finally:
        os.close(ours)


def test_without_a_terminal_the_demo_prints_a_line_for_each_change(tmp_path: Path) -> None:
    done = run_door(*BROKERWATCH, "run", "--demo", "--duration", "1", cwd=tmp_path)
    assert done.status == 0
    title, *lines = done.out.splitlines()
    assert "SIMULATED" in title
    assert any("kraken-demo" in line and "healthy" in line and "12,500.00" in line for line in lines)


def test_on_a_terminal_the_demo_shows_a_live_table(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    seen = b""
    try:
        command = (*RUN_CLUSTER, "--demo", "--duration", "1.5")
        environment = {"TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
        with Door(*command, cwd=tmp_path, environment=environment, output=theirs) as door:
            os.close(theirs)
            until_s = time.monotonic() + PATIENCE_S
            with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
                while select.select([ours], [], [], max(0.0, until_s - time.monotonic()))[0]:
                    if not (chunk := os.read(ours, 65_536)):
                        break
                    seen += chunk
            assert door.end() == 0
            assert "Traceback" not in door.errors
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
        text = f'version = 1\n[cluster]\nname = "sim"\nhealth_endpoint = "{endpoint}"\nheartbeat_s = 0.2\n'
        names = {"api_key": "API_KEY", "secret": "API_SECRET", "password": "API_PASSPHRASE"}
        for name, simulated in self.exchanges.items():
            for credential, value in simulated.credentials.items():
                variable = f"{name.upper().replace('-', '_')}_{names[credential]}"
                self.environment[variable] = value.replace("\n", "\\n")
            urls = "\n".join(f'{one} = "{simulated.url}"' for one in simulated.url_names)
            text += (
                f'[brokers.{name}]\nexchange = "{simulated.ccxt_id}"\npoll_interval_s = 0.2\n'
                f"fetch_deadline_s = 1\n[brokers.{name}.ccxt.urls.api]\n{urls}\n"
            )
        path = folder / "sim.toml"
        path.write_text(text + extra)
        return path


@pytest.fixture
def venue() -> Iterator[Venue]:
    made = Venue()
    with serve(*made.exchanges.values()):
        yield made


def test_another_process_hears_unavailable_after_the_third_error_and_healthy_after_the_first_success(
    venue: Venue, tmp_path: Path
) -> None:
    endpoint = free_endpoint()
    config = venue.config(tmp_path, endpoint)
    with (
        Door(*RUN_CLUSTER, "--config", str(config), cwd=tmp_path, environment=venue.environment) as run,
        Door(*BROKERWATCH, "listen", endpoint, "--json", cwd=tmp_path) as door,
    ):
        first = door.until_each(venue.exchanges, lambda said: said["cash"] is not None and not said["stale"])
        assert not any(said["simulated"] for said in first), "the configuration names them as real ones"
        money = {said["broker"]: said["balance"] for said in first if said["balance"]}

        faults = dict(zip(venue.exchanges, ("reset", "exchange_down", "hang"), strict=True))
        for name, fault in faults.items():
            venue.exchanges[name].set_fault(fault)
        down = door.until_each(venue.exchanges, lambda said: said["state"] == 3)
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
        back = door.until_each(venue.exchanges, lambda said: said["state"] == 1)
        for said in back:
            assert said["available"] is (said["state"] == 1), (
                "one success makes it available, and nothing else"
            )
            assert said["state"] != 1 or said["error_count"] == 0
        assert run.stopped_by(signal.SIGTERM) == 0
        farewell = door.until_each(venue.exchanges, lambda said: said["reason"] == "shutdown")
        for said in farewell:
            assert said["reason"] != "shutdown" or (said["state"], said["available"]) == (0, False)
        assert door.stopped_by(signal.SIGTERM) == 0


def test_a_killed_cluster_leaves_nothing_heard_of_each_broker_that_was_known(
    venue: Venue, tmp_path: Path
) -> None:
    endpoint = free_endpoint()
    config = venue.config(tmp_path, endpoint)
    with (
        Door(
            *BROKERWATCH, "run", "--config", str(config), cwd=tmp_path, environment=venue.environment
        ) as run,
        Door(*BROKERWATCH, "listen", endpoint, "--json", cwd=tmp_path) as door,
    ):
        door.until_each(venue.exchanges, lambda said: said["available"] and said["cash"] is not None)
        run.send(signal.SIGKILL)
        began_s = time.monotonic()
        heard = door.until_each(venue.exchanges, lambda said: said["reason"] == "nothing_heard")
        assert time.monotonic() - began_s < 4 * 0.2 + 1.0 + 2.0, (
            "the time to live, and a little for a busy machine"
        )
        silent = [said for said in heard if said["reason"] == "nothing_heard"]
        assert sorted(said["broker"] for said in silent) == sorted(venue.exchanges)
        for said in silent:
            assert (said["state"], said["status"], said["available"]) == (0, "unknown", False)
            assert said["cash"] is not None, "the last known amount is still the last known"
            assert said.keys() == WIRE_KEYS | STAMP_KEYS


def test_keep_going_starts_the_sound_brokers_and_shows_the_broken_one(venue: Venue, tmp_path: Path) -> None:
    config = venue.config(
        tmp_path, free_endpoint(), '[brokers.sick]\nexchange = "okx"\npoll_interval_s = 0\n'
    )
    venue.environment.update(dict.fromkeys(("SICK_API_KEY", "SICK_API_SECRET", "SICK_API_PASSPHRASE"), "x"))
    command = (*BROKERWATCH, "run", "--config", str(config), "--json")
    refused = run_door(*command, cwd=tmp_path, environment=venue.environment)
    assert refused.status == 2
    (line,) = refused.err.splitlines()
    assert "brokers.sick.poll_interval_s" in line

    with Door(*command, "--keep-going", cwd=tmp_path, environment=venue.environment) as run:
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


@dataclass(frozen=True, slots=True)
class Beside:
    """A running cluster of one sound, one unreliable and one failed broker, and one of a sound one alone."""

    mixed: Cluster
    sound: Cluster


def own(name: str, till: Till) -> BrokerSpec:
    return BrokerSpec(name, fetch=till, poll_interval_s=ONLY_WHEN_ASKED)


@pytest.fixture(scope="module")
def beside() -> Iterator[Beside]:
    shaky, down = Till(), Till()
    with (
        cluster_of(own("fine", Till()), own("shaky", shaky), own("down", down), name="mixed") as mixed,
        cluster_of(own("fine", Till()), name="sound") as sound,
    ):
        for cluster, name in ((mixed, "fine"), (mixed, "shaky"), (sound, "fine")):
            cluster.broker(name).get_account_balance()
        shaky.failure = down.failure = ConnectionError("refused")
        mixed.broker("shaky").get_account_balance()
        for _ in range(3):
            with pytest.raises(BalanceUnknown):
                mixed.broker("down").get_account_balance()
        yield Beside(mixed, sound)


def test_listen_prints_so_many_objects_as_were_asked_for(beside: Beside, tmp_path: Path) -> None:
    endpoint = beside.mixed.health_endpoint
    done = run_door(*BROKERWATCH, "listen", endpoint, "--json", "--count", "3", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    objects: list[Said] = [json.loads(line) for line in done.out.splitlines()]
    assert {said["broker"]: (said["status"], said["available"]) for said in objects} == {
        "fine": ("healthy", True),
        "shaky": ("degraded", True),
        "down": ("unavailable", False),
    }
    assert len(objects) == 3
    assert all(said.keys() == WIRE_KEYS | STAMP_KEYS for said in objects)
    assert not any(said["simulated"] for said in objects)


def test_listen_hears_several_clusters_at_once(beside: Beside, tmp_path: Path) -> None:
    endpoints = (beside.mixed.health_endpoint, beside.sound.health_endpoint)
    with Door(*BROKERWATCH, "listen", *endpoints, "--json", cwd=tmp_path) as door:
        missing = {("supervisor/mixed", "down"), ("supervisor/sound", "fine"), ("supervisor/mixed", "fine")}

        def last_one(said: Said) -> bool:
            missing.discard((said["src"], said["broker"]))
            return not missing

        door.until(last_one)


def test_listen_prints_lines_for_people_without_json(beside: Beside, tmp_path: Path) -> None:
    endpoint = beside.mixed.health_endpoint
    done = run_door(*BROKERWATCH, "listen", endpoint, "--count", "3", cwd=tmp_path)
    assert done.status == 0
    title, *lines = done.out.splitlines()
    assert endpoint in title
    assert len(lines) == 3
    assert any("down" in line and "unavailable" in line and "cash unknown" in line for line in lines)


def test_listen_says_after_five_seconds_that_nobody_is_there(tmp_path: Path) -> None:
    began_s = time.monotonic()
    done = run_door(*BROKERWATCH, "listen", free_endpoint(), "--json", "--count", "1", cwd=tmp_path)
    took_s = time.monotonic() - began_s
    assert done.status == 4
    (line,) = done.out.splitlines()
    said = json.loads(line)
    assert said["broker"] is None
    assert (said["state"], said["available"], said["reason"]) == (0, False, "nothing_heard")
    assert 5.0 <= took_s < 5.0 + STOP_S


STATUSES: Final = {
    "all available": ("sound", (), 0),
    "one that is available": ("mixed", ("fine",), 0),
    "one that is down": ("mixed", ("down",), 1),
    "all, and one is down": ("mixed", (), 1),
    "one that is degraded": ("mixed", ("shaky",), 3),
    "one that does not exist": ("mixed", ("nobody",), 2),
}


@pytest.mark.parametrize(("cluster", "broker", "expected"), STATUSES.values(), ids=STATUSES)
def test_status_answers_with_its_exit_status(
    beside: Beside, tmp_path: Path, cluster: str, broker: tuple[str, ...], expected: int
) -> None:
    endpoint = getattr(beside, cluster).health_endpoint
    done = run_door(*BROKERWATCH, "status", endpoint, *broker, cwd=tmp_path)
    assert done.status == expected, f"{done.out}{done.err}"
    if expected == 2:
        assert "publishes no broker named 'nobody'; there are: down, fine, shaky" in done.err
    else:
        assert len(done.out.splitlines()) == (1 if broker or cluster == "sound" else 3)


def test_status_as_json_is_one_object_for_each_broker(beside: Beside, tmp_path: Path) -> None:
    done = run_door(*BROKERWATCH, "status", beside.mixed.health_endpoint, "--json", cwd=tmp_path)
    assert done.status == 1
    objects: list[Said] = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(said["broker"] for said in objects) == ["down", "fine", "shaky"]
    assert all(said.keys() == WIRE_KEYS | STAMP_KEYS for said in objects)


@pytest.mark.parametrize("arguments", [(), ("kraken-main",)], ids=["all", "one"])
def test_status_where_nobody_is_ends_with_4(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_door(
        *BROKERWATCH, "status", free_endpoint(), *arguments, "--timeout", "0.3", "--json", cwd=tmp_path
    )
    assert done.status == 4
    said = json.loads(done.out)
    assert (said["broker"], said["available"], said["reason"]) == (None, False, "nothing_heard")


def told_where(folder: Path, endpoint: str) -> Path:
    """A configuration that says where its cluster publishes."""
    config = folder / "brokerwatch.toml"
    config.write_text(f'version = 1\n[cluster]\nhealth_endpoint = "{endpoint}"\n')
    return config


@pytest.mark.parametrize("way", ["here", "variable", "option"])
def test_status_and_listen_find_the_cluster_where_run_finds_its_configuration(
    beside: Beside, tmp_path: Path, way: str
) -> None:
    config = told_where(tmp_path, beside.sound.health_endpoint)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cwd = tmp_path if way == "here" else elsewhere
    environment = {"BROKERWATCH_CONFIG": str(config)} if way == "variable" else {}
    options = ("--config", str(config)) if way == "option" else ()
    status = run_door(*BROKERWATCH, "status", *options, cwd=cwd, environment=environment)
    assert status.status == 0, status.err
    of_one = run_door(*BROKERWATCH, "status", "nobody", *options, cwd=cwd, environment=environment)
    assert (of_one.status, "no broker named 'nobody'" in of_one.err) == (2, True)
    listened = ("listen", *options, "--json", "--count", "1")
    heard = run_door(*BROKERWATCH, *listened, cwd=cwd, environment=environment)
    assert heard.status == 0, heard.err
    assert json.loads(heard.out)["src"] == f"supervisor/{beside.sound.name}"


def test_an_endpoint_that_is_named_goes_before_the_configuration(beside: Beside, tmp_path: Path) -> None:
    told_where(tmp_path, free_endpoint())
    named = run_door(*BROKERWATCH, "status", beside.sound.health_endpoint, cwd=tmp_path)
    assert named.status == 0, named.err


@pytest.mark.parametrize("command", ["status", "listen"])
def test_a_configuration_that_does_not_say_where_is_status_2_and_one_sentence(
    command: str, tmp_path: Path
) -> None:
    config = told_where(tmp_path, "tcp://127.0.0.1:*")
    done = run_door(*BROKERWATCH, command, cwd=tmp_path)
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert "name the endpoint that `brokerwatch run` shows" in done.err
    gone = run_door(*BROKERWATCH, command, "--config", str(config / "gone"), cwd=tmp_path)
    assert (gone.status, "cannot be read" in gone.err) == (2, True)


# --- what a door costs ---------------------------------------------------------------------------


LAUNCHER: Final = (
    "import resource, subprocess, sys\n"
    "done = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL)\n"
    "open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
    "sys.exit(done.returncode)\n"
)
"""A process of its own that waits for the measured one: a child begins with the peak of its parent."""


def cost_of(*arguments: str, cwd: Path) -> tuple[set[str], float]:
    """The top-level modules that a door imports, and its largest resident size in MiB."""
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
