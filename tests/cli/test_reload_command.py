"""`brokerwatch reload` and SIGHUP: the configuration is read again, by a process that goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import until
from tests.support.command import Done, command
from tests.support.programs import BROKERWATCH, Program, free_endpoint


class Desk:
    """A configuration of simulated accounts, and the commands of its operator."""

    def __init__(self, exchange: SimulatedKraken, folder: Path) -> None:
        self.exchange, self.folder, self.endpoint = exchange, folder, free_endpoint()
        self.environment: dict[str, str] = {}
        for name in ("A", "B"):
            credentials = exchange.add_account()
            self.environment[f"{name}_API_KEY"] = credentials["api_key"]
            self.environment[f"{name}_API_SECRET"] = credentials["secret"]

    def writes(self, brokers: dict[str, str], cluster: str = "") -> None:
        """Write the configuration: of each broker its own lines, and lines of the cluster."""
        urls = "\n".join(f'{name} = "{self.exchange.url}"' for name in self.exchange.url_names)
        text = f'version = 1\n[cluster]\nhealth_endpoint = "{self.endpoint}"\nstate = "memory"\n'
        text += f"{cluster}\n"
        for name, lines in brokers.items():
            text += f'[brokers.{name}]\nexchange = "kraken"\npoll_interval_s = 0.1\n{lines}\n'
            text += f"[brokers.{name}.ccxt.urls.api]\n{urls}\n"
        (self.folder / "brokerwatch.toml").write_text(text)

    def runs(self) -> Program:
        return Program(*BROKERWATCH, "run", "--json", cwd=self.folder, environment=self.environment)

    def reloads(self) -> Done:
        return command("reload", cwd=self.folder)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    exchange = SimulatedKraken()
    with serve(exchange):
        yield Desk(exchange, tmp_path)


def test_a_reload_adds_changes_and_removes_or_with_a_mistake_does_nothing(desk: Desk) -> None:
    desk.writes({"a": ""})
    with desk.runs() as run:
        run.until(lambda said: said["available"])
        assert (desk.reloads().status, desk.reloads().out) == (0, "nothing has changed\n")

        desk.writes({"a": 'labels = { desk = "x" }', "b": ""})
        done = desk.reloads()
        assert (done.status, done.err) == (0, "")
        assert done.out == "b: added; it is available after its first success\na: changed: labels\n"
        heard = run.until(lambda said: said["broker"] == "b" and said["available"])
        first_of_b = next(said for said in heard if said["broker"] == "b")
        assert (first_of_b["available"], first_of_b["status"]) == (False, "unknown")

        desk.writes({"a": "max_consecutive_errors = 0", "b": "trading = 1"}, "what = 1")
        done = desk.reloads()
        assert (done.status, done.out) == (2, "")
        for words in ("nothing was changed", "from 1 to 1,000", "trading", "what"):
            assert words in done.err

        desk.writes({"a": "", "b": ""}, "heartbeat_s = 9")
        done = desk.reloads()
        assert (done.status, "cluster.heartbeat_s: cannot be changed" in done.err) == (2, True)

        desk.writes({"b": ""}, "")
        run.send(signal.SIGHUP)
        gone = run.until(lambda said: said["broker"] == "a" and said["reason"] == "shutdown")[-1]
        assert (gone["available"], gone["detail"]) == (False, "it was removed from the cluster")
        until(lambda: "reload (SIGHUP): a: removed" in run.errors)
        assert run.stopped_by(signal.SIGTERM) == 0
    told = command("history", cwd=desk.folder).out
    for words in ("reload by SIGHUP  (not available: shutdown)  removed", "  added;", "  changed: labels"):
        assert words in told


def test_a_reload_without_a_cluster_says_where_it_looked(desk: Desk) -> None:
    desk.writes({"a": ""})
    done = desk.reloads()
    assert (done.status, done.out) == (2, "")
    assert "no cluster listens at" in done.err
