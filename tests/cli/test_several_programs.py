"""`node` and `supervise` as programs, as docs/processes.md has them: killed, reloaded, given commands."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import PATIENCE_S
from tests.support.command import Done, command
from tests.support.ports import free_endpoint
from tests.support.programs import BROKERWATCH, Program

TOKEN: Final = "0123456789abcdef0123456789abcdef"


class Desk:
    """One file for a supervisor and its nodes, each a program; `listen` says what comes of them."""

    def __init__(self, exchange: SimulatedKraken, folder: Path, stack: ExitStack) -> None:
        self.exchange, self.folder, self._stack = exchange, folder, stack
        self.health, self.brokers = free_endpoint(), free_endpoint()
        self.page = free_endpoint().removeprefix("tcp://")
        self.environment: dict[str, dict[str, str]] = {}
        for name in "abc":
            keys = exchange.add_account()
            self.environment[name] = {
                f"{name.upper()}_API_KEY": keys["api_key"],
                f"{name.upper()}_API_SECRET": keys["secret"],
            }
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        self.writes("a", "b")

    def writes(self, *accounts: str) -> None:
        """Write the file, with these accounts."""
        urls = "\n".join(f'{name} = "{self.exchange.url}"' for name in self.exchange.url_names)
        text = (
            'version = 1\n[cluster]\nname = "desk"\nheartbeat_s = 0.5\nstate = "memory"\n'
            f'health_endpoint = "{self.health}"\nbroker_endpoint = "{self.brokers}"\n'
            f'[http]\nlisten = "{self.page}"\ntoken_file = "token"\n'
        )
        for name in accounts:
            text += f'[brokers.{name}]\nexchange = "kraken"\npoll_interval_s = 0.5\n'
            text += f"[brokers.{name}.ccxt.urls.api]\n{urls}\n"
        (self.folder / "brokerwatch.toml").write_text(text)
        (self.folder / "brokerwatch.toml").chmod(0o600)

    def program(self, *words: str, accounts: str = "") -> Program:
        environment = {name: key for each in accounts for name, key in self.environment[each].items()}
        made = Program(*BROKERWATCH, *words, "--json", cwd=self.folder, environment=environment)
        return self._stack.enter_context(made)

    def supervisor(self) -> Program:
        return self.program("supervise")

    def node(self, name: str, *accounts: str) -> Program:
        return self.program(
            "node",
            "--only",
            ",".join(accounts or (name,)),
            "--name",
            name,
            accounts="".join(accounts or (name,)),
        )

    def says(self, *words: str, keys: str = "") -> Done:
        environment = {name: key for each in keys for name, key in self.environment[each].items()}
        return command(*words, cwd=self.folder, environment=environment)

    def posts(self, path: str, body: dict[str, object]) -> str:
        """A call of the API, as a page or a script makes it."""
        request = urllib.request.Request(
            f"http://{self.page}{path}",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return str(json.load(answer))


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    exchange = SimulatedKraken()
    with serve(exchange), ExitStack() as stack:
        yield Desk(exchange, tmp_path, stack)


def test_nodes_and_a_supervisor_in_any_order_through_kills_reloads_and_commands(desk: Desk) -> None:
    listen = desk.program("listen")
    first = desk.node("a")  # before its supervisor
    first.until(lambda said: said["available"])
    supervisor = desk.supervisor()
    second = desk.node("b")  # after it
    listen.until_each("ab", lambda said: said["available"] and said["cash"] is not None)

    # Commands: at the supervisor, over its API, and beside the node.
    held = desk.says("hold", "a", "--why", "a test")
    assert (held.status, held.out.startswith("a is held out by ")) == (0, True)
    listen.until(lambda said: said["broker"] == "a" and said["reason"] == "held_out")
    assert desk.says("status").status == 1
    assert desk.says("release", "a", "--cluster", "desk-a", "--state", "memory/a").status == 0
    listen.until(lambda said: said["broker"] == "a" and said["available"])
    assert "b is held out by" in desk.posts("/v1/brokers/b/hold", {"why": "over the page"})
    listen.until(lambda said: said["broker"] == "b" and said["reason"] == "held_out")
    desk.posts("/v1/brokers/b/release", {})
    listen.until(lambda said: said["broker"] == "b" and said["available"])
    assert "a is held out by" in desk.says("history").out
    assert "hold by" in desk.says("history", "--state", "memory/a").out

    # A second node of the same name, and a second supervisor, are refused and disturb nothing.
    refused = desk.says("node", "--only", "a", "--name", "a", keys="a")
    assert (refused.status, "or give this node another --name" in refused.err) == (2, True)
    refused = desk.says("supervise")
    assert (refused.status, "runs a cluster on the state folder" in refused.err) == (2, True)

    # A kill of the node; it comes again.
    first.send(signal.SIGKILL)
    first.end()
    gone = listen.until(lambda said: said["broker"] == "a" and said["reason"] == "silent")[-1]
    assert (gone["available"], gone["cash"] is not None) == (False, True), "the last known stays"
    # Another account comes with it: the supervisor expects that after a SIGHUP.
    desk.writes("a", "b", "c")
    supervisor.send(signal.SIGHUP)
    again = desk.node("a", "a", "c")
    listen.until_each("ac", lambda said: said["available"])

    # A kill of the supervisor; the nodes go on, and it comes again.
    supervisor.send(signal.SIGKILL)
    supervisor.end()
    listen.until_each("ab", lambda said: not said["available"])
    supervisor = desk.supervisor()
    listen.until_each("ab", lambda said: said["available"] and said["cash"] is not None)

    # An orderly end of each: said at once, and with status 0.
    for program, name in ((again, "a"), (second, "b")):
        assert program.stopped_by(signal.SIGINT) == 0
        listen.until(lambda said, name=name: said["broker"] == name and said["reason"] == "shutdown")  # type: ignore[misc]
    assert supervisor.stopped_by(signal.SIGTERM) == 0


def test_the_help_of_both_fits_a_terminal_and_mistakes_have_status_2(tmp_path: Path) -> None:
    for words in (("node", "--help"), ("supervise", "--help"), ("--help",)):
        done = command(*words, cwd=tmp_path, environment={"COLUMNS": "80"})
        assert done.status == 0
        assert max(map(len, done.out.splitlines())) <= 80
        assert "…" not in done.out
    (tmp_path / "brokerwatch.toml").write_text('version = 1\n[brokers.a]\nexchange = "kraken"\n')
    (tmp_path / "brokerwatch.toml").chmod(0o600)
    done = command("supervise", cwd=tmp_path)
    assert (done.status, "expected where nodes connect to" in done.err) == (2, True)
    done = command("node", "--only", "z", cwd=tmp_path)
    assert (done.status, "there is no broker named 'z' here; there are: a" in done.err) == (2, True)
