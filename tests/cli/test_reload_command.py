"""`brokerwatch reload` and SIGHUP: the configuration is read again, by a process that goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import until
from tests.support.command import Done, command
from tests.support.ports import free_endpoint
from tests.support.programs import BROKERWATCH, Program


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


def test_a_new_key_is_taken_by_a_reload_and_the_status_says_when_the_old_one_may_be_deleted(
    desk: Desk,
) -> None:
    """The keys are in files, as an operator rotates them."""
    exchange = desk.exchange
    old = exchange.credentials

    def writes(credentials: dict[str, str]) -> None:
        for name in ("api_key", "secret"):
            (desk.folder / name).write_text(credentials[name])
            (desk.folder / name).chmod(0o600)

    writes(old)
    desk.writes({"a": 'api_key_file = "api_key"\nsecret_file = "secret"\nsame_account = true'})
    with desk.runs() as run:
        run.until(lambda said: said["available"])
        wrong = exchange.add_key()
        exchange.remove_key(wrong["api_key"])
        writes(wrong)
        done = desk.reloads()
        assert (done.status, done.err) == (1, "")
        assert done.out.startswith("a: not taken: the new API key was refused, and the old one stays")
        new = exchange.add_key()
        writes(new)
        done = desk.reloads()
        assert (done.status, done.err) == (0, "")
        assert "a: the new API key was verified and is used, and the old one was dropped" in done.out
        exchange.remove_key(old["api_key"])
        calls = exchange.private_calls_of(new["api_key"])
        until(lambda: exchange.private_calls_of(new["api_key"]) > calls + 2)
        assert command("status", desk.endpoint, "a", cwd=desk.folder).status == 0

        leaked = exchange.add_key(account=new["api_key"])
        writes(leaked)
        done = command("reload", "--force-key", cwd=desk.folder)
        assert (done.status, "the old one was dropped at once" in done.out) == (0, True)
        newest = exchange.add_key(account=new["api_key"])
        writes(newest)
        done = command("reset", "a", cwd=desk.folder)
        assert (done.status, "the new API key was verified and is used" in done.out) == (0, True)
        assert old["secret"] not in run.errors
        assert newest["secret"] not in run.errors
        assert run.stopped_by(signal.SIGTERM) == 0


def test_a_process_that_is_killed_in_a_reload_starts_again_by_the_new_configuration(desk: Desk) -> None:
    desk.writes({"a": ""})
    with desk.runs() as run:
        run.until(lambda said: said["available"])
        desk.writes({"b": "", "a": 'labels = { desk = "x" }'})
        run.send(signal.SIGHUP)
        run.send(signal.SIGKILL)
        run.end()
    with desk.runs() as run:
        run.until(lambda said: said["broker"] == "b" and said["available"])
        heard = run.until(lambda said: said["broker"] == "a" and said["available"])[-1]
        assert (heard["labels"], heard["cash"] is None) == ({"desk": "x"}, False)
        assert run.stopped_by(signal.SIGTERM) == 0


def test_brokers_that_were_wrong_at_the_start_stay_so_and_the_others_are_reloaded(desk: Desk) -> None:
    desk.writes({"a": "", "b": "trading = 1"})
    with Program(
        *BROKERWATCH, "run", "--json", "--keep-going", cwd=desk.folder, environment=desk.environment
    ) as run:
        run.until(lambda said: said["available"])
        desk.writes({"a": 'labels = { desk = "x" }', "b": "\ntrading = 2"})
        done = desk.reloads()
        assert (done.status, done.out) == (0, "a: changed: labels\n")
        desk.writes({"a": "trading = 3", "b": "trading = 2"})
        done = desk.reloads()
        assert (done.status, "brokers.a" in done.err) == (2, True)
        desk.writes({"a": "", "b": ""})
        assert "b: added" in desk.reloads().out
        run.until(lambda said: said["broker"] == "b" and said["available"])
        assert run.stopped_by(signal.SIGTERM) == 0
