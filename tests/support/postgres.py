"""A PostgreSQL of the tests' own: real, on a free port of 127.0.0.1, in a folder that is gone afterwards.

Where PostgreSQL is not installed its tests are skipped, and the summary says so aloud. Under
BROKERWATCH_REQUIRE_POSTGRESQL=1, as in CI, they fail instead.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.support.ports import free_port

USER: Final = "keeper"
PASSWORD: Final = "made-up-0!pässword"
DATABASE: Final = "brokerwatch_tests"
PATIENCE_S: Final = 60.0
MISSING: Final = (
    "PostgreSQL is not installed, so the store was NOT tested with it "
    "(Debian and Ubuntu: apt install postgresql)"
)


def folder_of_programs() -> Path | None:
    """Where initdb and postgres are: on the PATH, else Debian's newest."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(debian, key=lambda place: float(place.parent.name), reverse=True)
    return next(
        (place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None
    )


class PostgreSQL:
    """One server with one database; it can be killed and started again on the same port."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # initdb refuses to work for root. The folder stands where that other user may come.
        self._as: dict[str, Any] = {"user": _unprivileged(), "extra_groups": []} if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="brokerwatch-pg-"))
        self._process: subprocess.Popen[Any] | None = None
        self.port = free_port()
        secret = self._folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        if self._as:
            for path in (self._folder, secret):
                shutil.chown(path, self._as["user"])
        self._run(
            "initdb", "--pgdata", str(self._data), "--username", USER, "--pwfile", str(secret),
            "--auth", "scram-sha-256", "--encoding", "UTF8", *_locale(programs), "--no-sync",
        )  # fmt: skip

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def url(self, password: str = PASSWORD, database: str = DATABASE) -> str:
        """What a store is given."""
        return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return when it answers."""
        until_s = time.monotonic() + PATIENCE_S
        while True:
            if self._process is None or self._process.poll() is not None:
                # After a kill the old children may hold its memory for a moment; then it ends at once.
                self._process = self._spawn()
            try:
                self.execute("SELECT 1", database="postgres")
            except psycopg.OperationalError:
                if time.monotonic() > until_s:
                    log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
                    raise AssertionError(f"PostgreSQL does not start: {log[-2_000:]}") from None
                time.sleep(0.02)  # between two questions, each of which decides by itself
            else:
                return

    def execute(self, statement: str, *, database: str = DATABASE) -> list[Any]:
        """Run one statement as a stranger would; its rows, if it has any."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database,
            autocommit=True, connect_timeout=5,
        ) as connection:  # fmt: skip
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def sessions(self) -> list[int]:
        """The processes that answer a client, by id; not the one that answers this, which ends now."""
        rows = self.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return [row[0] for row in rows]

    def kill(self) -> None:
        """As when the power fails: no client is told, and nothing of it goes on."""
        # A child that has not noticed the end of its parent yet would still answer.
        children: list[int] = []
        with contextlib.suppress(psycopg.Error):
            children = self.sessions()
        self._signal(signal.SIGKILL)
        for pid in children:
            _signal_if_there(pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(PATIENCE_S)

    def remove(self) -> None:
        """Stop it, at once, and leave nothing."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGQUIT)
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _spawn(self) -> subprocess.Popen[Any]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "20",
        }
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                (
                    str(self._programs / "postgres"), "-D", str(self._data),
                    *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
                ),
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as,
            )  # fmt: skip

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            (str(self._programs / program), *arguments),
            cwd=self._folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


def _unprivileged() -> str:
    """A user who is not root: PostgreSQL's own, else the system's unprivileged one."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def _locale(programs: Path) -> tuple[str, ...]:
    """A locale that sorts "a" before "B" where there is one: what a stranger's server may do."""
    said = subprocess.run(
        (str(programs / "initdb"), "--help"), capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    if "--icu-locale" in said.stdout:
        return ("--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8")
    return ("--locale=C.UTF-8",)


class _Aloud:
    """Says at the end of the run what was not tested."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("NOT TESTED", sep="!", red=True)
        terminalreporter.line(MISSING)


@pytest.fixture(scope="session")
def postgresql(request: pytest.FixtureRequest) -> Iterator[PostgreSQL]:
    """A running PostgreSQL with an empty database."""
    programs = folder_of_programs()
    if programs is None:
        if os.environ.get("BROKERWATCH_REQUIRE_POSTGRESQL") == "1":
            pytest.fail(MISSING)
        if not request.config.pluginmanager.has_plugin("brokerwatch-not-tested"):
            request.config.pluginmanager.register(_Aloud(), "brokerwatch-not-tested")
        pytest.skip(MISSING)
    with started(programs) as server:
        yield server


@contextlib.contextmanager
def started(programs: Path) -> Generator[PostgreSQL]:
    """A server of these programs that runs, with an empty database."""
    server = PostgreSQL(programs)
    try:
        server.start()
        server.execute(f"CREATE DATABASE {DATABASE}", database="postgres")
        yield server
    finally:
        server.remove()


def frozen(server: PostgreSQL) -> Callable[[], None]:
    """Stop the server's processes where they stand; what is returned lets them go on."""
    pids = server.sessions()
    for pid in pids:
        _signal_if_there(pid, signal.SIGSTOP)

    def thaw() -> None:
        for pid in pids:
            _signal_if_there(pid, signal.SIGCONT)

    return thaw


def _signal_if_there(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
