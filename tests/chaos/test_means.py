"""What a round acts with does what it says: the plan, the links, the clocks, the full disk, the files."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.clocks import Offsets
from tests.chaos.disk import SizeLimit
from tests.chaos.lines import LineFile, lines_of
from tests.chaos.links import DOWN, UP, Links
from tests.chaos.periods import Period
from tests.chaos.plan import Targets, kinds, plan
from tests.chaos.results import held_on
from tests.chaos.stage import newest_shown
from tests.support.clusters import PATIENCE_S
from tests.support.programs import ROOT

TARGETS: Final = Targets(
    processes=("left", "first"),
    supervisors=("first",),
    subscribers=("near", "far"),
    links=("far-first", "left-first"),
    exchanges=("kraken", "okx"),
    disks=("left",),
    clocks=("left", "near"),
)


def test_a_seed_gives_one_plan() -> None:
    assert plan(7, 60.0, TARGETS, 3.0) == plan(7, 60.0, TARGETS, 3.0) != plan(8, 60.0, TARGETS, 3.0)


def test_plans_have_every_kind_of_action_and_never_two_that_exclude_each_other() -> None:
    drawn = Counter[str]()
    for seed in range(30):
        actions = plan(seed, 60.0, TARGETS, 3.0)
        drawn.update(action.kind for action in actions)
        for number, action in enumerate(actions):
            lives = {"kill", "stop", "sleep"}
            assert not [
                each
                for each in actions[:number]
                if each.end_s > action.begin_s
                and each.target == action.target
                and {each.kind, action.kind} <= lives
            ]
    assert drawn.keys() == kinds(TARGETS).keys()


@contextmanager
def echoing() -> Generator[int]:
    """A server that sends back what it gets; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    while (chunk := received(peer)) != b"":
                        peer.sendall(chunk)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE_S)


def received(peer: socket.socket) -> bytes:
    """What comes next; nothing where the connection has ended."""
    try:
        return peer.recv(100)
    except ConnectionError:
        return b""


def test_a_link_carries_and_holds_and_delays_and_cuts() -> None:
    with echoing() as port, Links() as links:
        link = links.add(port)
        with socket.create_connection(("127.0.0.1", link.port), PATIENCE_S) as peer:
            peer.sendall(b"one")
            assert received(peer) == b"one"
            for way in (UP, DOWN):
                links.do(link.set, held=frozenset((way,)))
                peer.sendall(b"two")
                peer.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    peer.recv(100)
                peer.settimeout(PATIENCE_S)
                links.do(link.set)
                assert received(peer) == b"two", "what was held comes later"
            links.do(link.set, late_s=0.2)
            began_s = time.monotonic()
            peer.sendall(b"three")
            assert received(peer) == b"three"
            assert time.monotonic() - began_s >= 0.4, "it is late in both directions"
            links.do(link.set, cut=True)
            assert received(peer) == b""
        with (
            contextlib.suppress(ConnectionError),  # it may end while it is made
            socket.create_connection(("127.0.0.1", link.port), PATIENCE_S) as peer,
        ):
            assert received(peer) == b"", "no new connection is carried either"
        links.do(link.set)
        with socket.create_connection(("127.0.0.1", link.port), PATIENCE_S) as peer:
            peer.sendall(b"four")
            assert received(peer) == b"four"


CLOCKED: Final = """
import sys, time
for _ in sys.stdin:
    now_s = time.perf_counter()
    clocks = time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    print(*(each - now_s for each in clocks))
    sys.stdout.flush()
"""


def test_a_clock_is_set_while_its_program_runs(tmp_path: Path) -> None:
    (tmp_path / "clocked.py").write_text(CLOCKED)
    offsets = Offsets(tmp_path / "clock")
    command = [sys.executable, "-m", "tests.chaos.clocks", str(tmp_path / "clock"), "clocked"]
    path = f"{ROOT}:{tmp_path}"
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        ahead: list[list[float]] = []
        for wall_s, slept_s in ((0.0, 0.0), (100.0, 0.0), (-50.0, 20.0)):
            offsets.write(wall_s, slept_s)
            program.stdin.write("\n")
            program.stdin.flush()
            ahead.append([float(word) for word in program.stdout.readline().split()])
        program.stdin.close()
    changed = [[round(now - first) for now, first in zip(each, ahead[0], strict=True)] for each in ahead]
    assert changed == [[0, 0, 0], [100, 0, 0], [-50, -20, 0]]


def test_a_disk_that_is_full_takes_nothing_until_it_is_free(tmp_path: Path) -> None:
    code = f"""
import sys
for _ in sys.stdin:
    try:
        with open({str(tmp_path / "file")!r}, "a") as file:
            file.write("x")
        print("written", flush=True)
    except OSError as error:
        print("refused", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        running: list[int] = []
        disk = SizeLimit(lambda: running[0] if running else None)
        disk.fill()
        disk.free()  # neither needs a process
        running.append(program.pid)
        said: list[str] = []
        for change in (disk.free, disk.fill, disk.free):
            change()
            program.stdin.write("\n")
            program.stdin.flush()
            said.append(program.stdout.readline().strip())
        program.stdin.close()
    assert said == ["written", "refused", "written"]


def test_a_line_that_a_kill_cut_off_spoils_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    first = LineFile(path)
    first.write(1.0, number=1)
    first.close()
    with path.open("a") as file:
        file.write(json.dumps({"at_s": 2.0})[:7])
    second = LineFile(path)
    second.write(3.0, number=3)
    second.close()
    assert [line["at_s"] for line in lines_of(path)] == [1.0, 3.0]
    assert path.read_text().count("\n\n") == 0


def test_one_that_writes_changes_down_shows_the_newest_until_its_next_word(tmp_path: Path) -> None:
    path = tmp_path / "said"
    file = LineFile(path)
    file.write(0.0, began=True)
    for at_s, available in ((1.0, True), (3.0, False)):
        said = json.dumps({"broker": "a", "available": available, "reason": "r"})
        file.write(at_s, said=said)
    file.write(4.0, ended=True)
    file.close()
    shown = [(each.at_s, each.available) for each in held_on(path, (Period(1.4, 2.2),))]
    assert shown == [(1.0, True), (2.5, True), (3.0, False), (3.5, False)]
    assert newest_shown(path, 0.0)["a"][:2] == (False, None)
