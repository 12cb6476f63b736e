"""The control socket: who reaches it, what it hears, and that nothing said to it stops it."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.actors.protocol import OperatorCommand
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.cli.config_lookup import meant_cluster
from brokerwatch.cluster import control
from brokerwatch.cluster.control import (
    LATEST_US,
    LONGEST_LINE,
    MAX_WHY,
    SOCKET_NAME,
    Command,
    ControlServer,
    ask,
)
from brokerwatch.errors import ControlError
from brokerwatch.gateway.loop import LoopThread
from brokerwatch.messages import Reason
from brokerwatch.storage.state_folder import folder_of
from tests.cluster.test_operators import at_once, own
from tests.support.clusters import PATIENCE_S, Till, cluster_of, until

ME = pwd.getpwuid(os.getuid()).pw_name
HOLD = Command("hold", "k", "why not")


class Desk:
    """A control server that writes down the commands it gets."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / SOCKET_NAME
        self.heard: list[tuple[Command, str]] = []
        self.answer: Callable[[Command], str] = lambda command: f"{command.verb} {command.broker}: done"
        self.silent: asyncio.Future[str] | None = None
        self.hangs = threading.Event()
        self.loop = LoopThread("test-control")
        self.loop.start()
        self.server = ControlServer(self.loop, self.path, self._obey)
        self.server.start()

    async def _obey(self, command: Command, by: str) -> str:
        self.heard.append((command, by))
        if self.hangs.is_set():
            self.silent = asyncio.get_running_loop().create_future()
            return await self.silent
        return self.answer(command)

    def close(self) -> None:
        assert self.server.stop(PATIENCE_S)
        assert self.loop.stop(PATIENCE_S)

    def raw(self, *parts: bytes, hang_up: bool = False) -> dict[str, Any]:
        """What is answered to these very bytes; empty when the connection ends without a word."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE_S)
            line.connect(str(self.path))
            for part in parts:
                line.sendall(part)
            if hang_up:
                line.shutdown(socket.SHUT_WR)
            with line.makefile("rb") as answer:
                said = answer.readline()
            return json.loads(said) if said else {}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def as_line(**parts: Any) -> bytes:
    return json.dumps({"verb": "hold", "broker": "k", "why": "w", **parts}).encode() + b"\n"


def test_a_command_arrives_whole_with_who_gave_it_and_the_answer_comes_back(desk: Desk) -> None:
    command = Command("hold", "kraken-main", "Überweisung → Bank", 1_900_000_000_000_000)
    assert ask(desk.path, command) == "hold kraken-main: done"
    assert desk.heard == [(command, ME)]


def test_an_objection_comes_back_as_an_error(desk: Desk) -> None:
    def refuse(command: Command) -> str:
        raise ControlError(f"{command.broker} is not held out")

    desk.answer = refuse
    with pytest.raises(ControlError, match=r"^k is not held out$"):
        ask(desk.path, Command("release", "k"))


def test_folder_and_socket_are_closed_to_others(tmp_path: Path) -> None:
    with cluster_of(own("k", Till()), state=str(tmp_path / "state")):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        found = (tmp_path / "state" / SOCKET_NAME).stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        for file in (tmp_path / "state").iterdir():
            assert file.stat().st_mode & 0o077 == 0, f"{file.name} is open to others"
    assert not (tmp_path / "state" / SOCKET_NAME).exists(), "it goes with the cluster"


def test_a_folder_that_was_open_before_us_is_said_and_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with cluster_of(own("k", Till()), state=str(tmp_path / "open")):
        assert "is open to other users; chmod 700 it" in caplog.text
        assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o755
        assert stat.S_IMODE((tmp_path / "open" / SOCKET_NAME).stat().st_mode) == 0o600


STRANGER = """
import socket, sys
line = socket.socket(socket.AF_UNIX)
line.settimeout(20)
try:
    line.connect(sys.argv[1])
    line.sendall(b'{"verb": "release", "broker": "k"}\\n')
    print(line.makefile("r").readline().strip())
except OSError as error:
    print(type(error).__name__)
"""


def as_stranger(path: Path) -> str:
    """What a user without privileges gets."""
    stranger = pwd.getpwnam("nobody").pw_uid
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", STRANGER, str(path)],
        user=stranger,
        group=stranger,
        extra_groups=(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def reachable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that other users could read, if nothing in it forbade it."""
    folder = tmp_path_factory.mktemp("reachable")
    for part in (folder, *folder.parents):
        if part == Path("/tmp") or part.stat().st_mode & 0o001:
            break
        part.chmod(part.stat().st_mode | 0o011)
    return folder


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_the_modes_and_by_the_kernels_word(reachable: Path) -> None:
    desk = Desk(reachable)
    try:
        # The mode of the socket alone.
        reachable.chmod(0o711)
        assert as_stranger(desk.path) == "PermissionError"
        # All doors open: the kernel still says who calls.
        desk.path.chmod(0o666)
        assert json.loads(as_stranger(desk.path)) == {"error": "this cluster belongs to another user"}
        # The mode of the folder alone.
        reachable.chmod(0o700)
        assert as_stranger(desk.path) == "PermissionError"
        assert desk.heard == []
        assert ask(desk.path, HOLD) == "hold k: done"
    finally:
        desk.close()


def test_where_the_kernel_names_another_user_nothing_is_carried_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where the tests do not run as root: the owner of the cluster is another user."""

    def named(uid: int) -> Callable[[str, bytes], tuple[int, int, int]]:
        return lambda _form, _bytes: (1, uid, 1)

    monkeypatch.setattr("brokerwatch.cluster.control.os.getuid", lambda: 4_321)
    monkeypatch.setattr("brokerwatch.cluster.control.struct.unpack", named(4_322))
    with pytest.raises(ControlError, match="belongs to another user"):
        ask(desk.path, HOLD)
    assert desk.heard == []
    monkeypatch.setattr("brokerwatch.cluster.control.struct.unpack", named(4_321))
    assert ask(desk.path, HOLD) == "hold k: done"
    assert desk.heard == [(HOLD, "user 4321")], "a user without a name goes by the number"


GARBAGE: dict[str, tuple[bytes, str]] = {
    "an empty line": (b"\n", "expected one line of JSON"),
    "no JSON": (b"hold kraken-main\n", "expected one line of JSON"),
    "bytes": (b"\xff\xfe\x00\n", "expected one line of JSON"),
    "a list": (b"[1]\n", "expected a JSON object"),
    "nesting beyond what Python reads": (b"[" * 8_000 + b"\n", "expected one line of JSON"),
    "a number for a name": (as_line(broker=1), "expected texts"),
    "true for a moment": (as_line(until_us=True), "until_us as a number"),
    "a fraction for a moment": (as_line(until_us=1.5), "until_us as a number"),
    "a moment before all time": (as_line(until_us=-1), "before the year 2100"),
    "a moment after all time": (as_line(until_us=LATEST_US), "before the year 2100"),
    "a moment beyond all numbers": (as_line(until_us=10**400), "before the year 2100"),
    "a reason that is too long": (as_line(why="x" * (MAX_WHY + 1)), f"up to {MAX_WHY} characters"),
    "a line too long": (b"x" * (LONGEST_LINE + 10) + b"\n", "of up to 16,384 bytes"),
    "a line without end": (b"x" * 10 * LONGEST_LINE, "of up to 16,384 bytes"),
}


@pytest.mark.parametrize(("line", "expected"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_answered_in_words_and_the_next_command_is_heard(
    desk: Desk, line: bytes, expected: str
) -> None:
    try:
        said = desk.raw(line)
    except (BrokenPipeError, ConnectionResetError):
        assert len(line) > 2 * LONGEST_LINE, "the server may have stopped listening after so much"
    else:
        assert expected in said["error"]
    assert desk.heard == []
    assert ask(desk.path, HOLD) == "hold k: done"


def test_a_reason_is_one_line_that_everybody_can_print_send_and_store(desk: Desk) -> None:
    desk.raw(as_line(why=" two\nlines\t\x1b[31mred\x00 \udcff half "))
    assert desk.heard[0][0].why == "two lines [31mred half"


def test_half_a_request_is_answered_when_the_other_half_never_comes(desk: Desk) -> None:
    assert "expected one line of JSON" in desk.raw(b'{"verb": "ho', hang_up=True)["error"]
    assert desk.raw(b"", hang_up=True) != {"said": ""}
    assert desk.heard == []


def test_a_request_in_pieces_is_one_request(desk: Desk) -> None:
    line = as_line()
    assert desk.raw(*(line[at : at + 1] for at in range(len(line)))) == {"said": "hold k: done"}


def test_who_says_nothing_is_hung_up_on_and_holds_nobody_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE_S", 3.0)
    with socket.socket(socket.AF_UNIX) as mute, socket.socket(socket.AF_UNIX) as slow:
        for line in (mute, slow):
            line.settimeout(PATIENCE_S)
            line.connect(str(desk.path))
        slow.sendall(b'{"verb"')
        assert ask(desk.path, HOLD) == "hold k: done"
        assert mute.recv(1) == b""
        assert slow.recv(1) == b""


def test_who_asks_and_leaves_does_no_harm(desk: Desk) -> None:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(desk.path))
            line.sendall(as_line())
    assert ask(desk.path, HOLD) == "hold k: done"
    until(lambda: len(desk.heard) == 21)


def test_many_at_once_are_each_answered(desk: Desk) -> None:
    commands = [Command("hold", f"k{number}", "w") for number in range(100)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(partial(ask, desk.path), commands))
    assert answers == [f"hold {command.broker}: done" for command in commands]
    assert sorted(command.broker for command, _ in desk.heard) == sorted(one.broker for one in commands)


def test_an_open_connection_does_not_hold_up_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    monkeypatch.setattr(control, "PATIENCE_S", PATIENCE_S)  # it is not hung up on before
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(desk.path))
        line.sendall(b"{")
        began_s = time.monotonic()
        desk.close()
        assert time.monotonic() - began_s < 20.0
    with pytest.raises(ControlError, match="no cluster listens at"):
        ask(desk.path, HOLD)


def test_who_is_not_answered_is_told_so_and_the_command_is_not_cancelled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE_S", 1.0)
    desk.hangs.set()
    with pytest.raises(ControlError, match="no answer within 1 s; it may still be carried out"):
        ask(desk.path, HOLD)
    assert desk.silent is not None
    assert not desk.silent.cancelled(), "a supervisor that answers late must not find its reply gone"
    answer_late = desk.silent.set_exception
    desk.loop.call(lambda: answer_late(ControlError("too late")))
    desk.hangs.clear()
    assert ask(desk.path, HOLD) == "hold k: done"


LISTENS_AND_HANGS = """
import sys, time
from pathlib import Path
from brokerwatch.cluster.control import ControlServer
from brokerwatch.gateway.loop import LoopThread
loop = LoopThread("x")
loop.start()
ControlServer(loop, Path(sys.argv[1]), None).start()
print("up", flush=True)
time.sleep(60)
"""


def test_a_socket_that_a_killed_process_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_NAME
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS_AND_HANGS, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
        process.wait(PATIENCE_S)
    assert path.exists()
    with pytest.raises(ControlError, match=r"no cluster listens at .*start it with `brokerwatch run`"):
        ask(path, HOLD)
    desk = Desk(tmp_path)
    try:
        assert ask(path, HOLD) == "hold k: done"
    finally:
        desk.close()


def test_a_path_too_long_for_a_socket_is_said_and_the_cluster_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / ("long" * 25)
    with cluster_of(own("k", Till()), state=str(folder)) as cluster:
        assert cluster.broker("k").get_account_balance() == 100
        assert cluster.broker("k").is_available()
        assert "operators' commands are not heard" in caplog.text
        assert "longer than 100 bytes" in caplog.text
        assert cluster.hold("k", "from inside") == "k is held out by this program: from inside"
    with pytest.raises(ControlError):
        ask(folder / SOCKET_NAME, HOLD)


def test_a_socket_that_cannot_be_bound_is_said_and_the_cluster_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state" / SOCKET_NAME).mkdir(parents=True)
    with cluster_of(own("k", Till()), state=str(tmp_path / "state")) as cluster:
        assert "operators' commands are not heard" in caplog.text
        cluster.broker("k").get_account_balance()
        assert cluster.broker("k").is_available()


def test_a_command_is_answered_although_the_supervisor_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before it comes to the command, and the next supervisor obeys."""
    monkeypatch.setattr("brokerwatch.cluster.lives.random.uniform", at_once)
    handle = HealthSupervisor.handle
    dead = threading.Event()

    def dying(supervisor: HealthSupervisor, message: Any) -> None:
        if isinstance(message, OperatorCommand) and not dead.is_set():
            dead.set()
            raise RuntimeError("a bug in the supervisor")
        handle(supervisor, message)

    monkeypatch.setattr(HealthSupervisor, "handle", dying)
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        cluster.broker("k").get_account_balance()
        path = tmp_path / SOCKET_NAME
        assert "k is held out by" in ask(path, Command("hold", "k", "first"))
        assert dead.is_set()
        reading = cluster.broker("k").reading()
        assert (reading.available, reading.reason) == (False, Reason.HELD_OUT)


def test_a_folder_beyond_the_limits_of_sockets_is_said_to_who_asks(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"cannot be asked: .*too long"):
        ask(tmp_path / ("x" * 200) / SOCKET_NAME, HOLD)


def test_the_cluster_that_is_meant_is_checked_before_a_folder_is_made_of_its_name(tmp_path: Path) -> None:
    assert folder_of(meant_cluster(None, name=None, state=tmp_path)) == tmp_path
    assert folder_of(meant_cluster(None, name="demo", state=None)).name == "demo"
    with pytest.raises(Exception, match=r"cluster\.name: expected"):
        meant_cluster(None, name="../../elsewhere", state=None)
