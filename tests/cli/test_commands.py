"""What each command says and with which status it ends, run in this process.

All traffic stays on loopback. What needs a process of its own is in test_processes.py.
"""

from __future__ import annotations

import errno
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Final

import click
import pytest

from brokerwatch.cli import demo
from brokerwatch.cli import main as command_line
from brokerwatch.cli.main import run_alone
from brokerwatch.config.loader import load
from brokerwatch.gateway import catalogue
from brokerwatch.simulator import SimulatedKraken
from tests.cli.conftest import Beside, told_where
from tests.support.command import command
from tests.support.ports import free_endpoint
from tests.support.programs import SOMETIMES, STAMP_KEYS, STOP_S, WIRE_KEYS, Said

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
    done = command(*arguments, "--help", cwd=tmp_path)
    assert done.status == 0
    assert word in done.out
    assert done.err == ""


@pytest.mark.parametrize(
    "arguments",
    [("walk",), ("run", "--wat"), ("run", "--duration", "-1"), ("listen", "--count", "0"),
     ("status", "--timeout", "0")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.status == 2
    assert "Error" in done.err
    assert done.out == ""


def test_the_option_goes_before_the_variable_and_the_variable_before_the_file_that_lies_here(
    tmp_path: Path,
) -> None:
    for name in ("option", "variable", "brokerwatch"):
        (tmp_path / f"{name}.toml").write_text("version = 3\n")
    variable = {"BROKERWATCH_CONFIG": "variable.toml"}
    said = {
        "option.toml": command("run", "--config", "option.toml", cwd=tmp_path, environment=variable),
        "variable.toml": command(cwd=tmp_path, environment=variable, entry=run_alone),
        "brokerwatch.toml": command("run", cwd=tmp_path),
    }
    for name, done in said.items():
        assert done.status == 2
        assert all(line.startswith(f"brokerwatch: {name}: ") for line in done.err.splitlines()), done.err


def test_a_bad_file_ends_with_status_2_and_one_line_for_each_mistake(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        'version = 1\nwat = 1\n[cluster]\nhealth_endpoint = "tcp://0.0.0.0:5571"\n'
        '[brokers.k]\nexchange = "krakken"\npoll_interval_s = 0\n'
    )
    done = command("--config", "bad.toml", cwd=tmp_path, entry=run_alone)
    assert done.status == 2
    assert done.out == ""
    lines = done.err.splitlines()
    assert len(lines) == 6
    for key, expected in (
        ("wat", "unknown key"),
        ("cluster.health_endpoint", "can be reached from other machines"),
        ("brokers.k.exchange", "did you mean kraken"),
        ("brokers.k.api_key_env", "expected the api_key of kraken"),
        ("brokers.k.secret_env", "expected the secret of kraken"),
        ("brokers.k.poll_interval_s", "above 0"),
    ):
        (line,) = [line for line in lines if line.startswith(f"brokerwatch: bad.toml: {key}: ")]
        assert expected in line


def test_malformed_toml_and_a_missing_file_end_with_status_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.toml").write_text("version = 1\n[brokers.k\n")
    for name, expected in (("cut.toml", "line 2"), ("gone.toml", "No such file")):
        done = command("run", "--config", name, cwd=tmp_path)
        assert done.status == 2
        (line,) = done.err.splitlines()
        assert name in line
        assert expected in line


@pytest.mark.parametrize("verb", ["listen", "status"])
def test_an_endpoint_beyond_loopback_is_refused(verb: str, tmp_path: Path) -> None:
    done = command(verb, "tcp://192.0.2.1:5571", cwd=tmp_path)
    assert done.status == 2
    assert "can be reached from other machines" in done.err


def lonely_config(folder: Path, endpoint: str) -> Path:
    """A configuration of one account whose exchange is a port without a listener."""
    nowhere = free_endpoint().replace("tcp", "http")
    path = folder / "lonely.toml"
    path.write_text(
        f'version = 1\n[cluster]\nhealth_endpoint = "{endpoint}"\n[brokers.k]\nexchange = "kraken"\n'
        f'poll_interval_s = inf\n[brokers.k.ccxt.urls.api]\npublic = "{nowhere}"\nprivate = "{nowhere}"\n'
    )
    return path


LONELY_KEYS: Final = {"K_API_KEY": "key", "K_API_SECRET": "c2VjcmV0"}


def test_an_endpoint_in_use_ends_with_status_2_and_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        config = lonely_config(tmp_path, endpoint)
        done = command("run", "--config", str(config), cwd=tmp_path, environment=LONELY_KEYS)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert f"{endpoint} is in use" in line
    assert "health_endpoint" in line


# --- init ----------------------------------------------------------------------------------------


def test_init_writes_a_file_that_loads_once_its_variables_are_set(tmp_path: Path) -> None:
    done = command("init", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert "brokerwatch run" in done.out

    unset = command("run", cwd=tmp_path)
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
    done = command("init", "mine.toml", cwd=tmp_path)
    assert done.status == 2
    assert "mine.toml exists already and was left alone" in done.err
    assert (tmp_path / "mine.toml").read_text() == "mine"


def test_init_says_why_it_cannot_write_and_how_to_run_what_it_wrote(tmp_path: Path) -> None:
    nowhere = command("init", "no/such/folder.toml", cwd=tmp_path)
    assert nowhere.status == 2
    assert "no/such/folder.toml cannot be written: No such file or directory" in nowhere.err
    elsewhere = command("init", "desk.toml", cwd=tmp_path)
    assert "brokerwatch run --config desk.toml" in elsewhere.out


def test_without_a_terminal_the_demo_prints_a_line_for_each_change(tmp_path: Path) -> None:
    done = command("run", "--demo", "--duration", "6", cwd=tmp_path)
    assert done.status == 0
    title, topic, *lines = done.out.splitlines()
    assert "SIMULATED" in title
    assert topic.startswith("health topic tcp://"), "a line of its own"
    assert any("kraken-demo" in line and "healthy" in line and "12,500.00" in line for line in lines)


def late_kraken(monkeypatch: pytest.MonkeyPatch, times: int | None) -> None:
    """Let the demo's Kraken leave its first requests without an answer, as on a busy machine."""

    class Late(SimulatedKraken):
        def __init__(self) -> None:
            super().__init__()
            self.set_fault("http_502_html", times=times)

    monkeypatch.setattr(demo, "SimulatedKraken", Late)


def test_the_demo_asks_an_account_again_that_does_not_answer_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_kraken(monkeypatch, times=6)
    begun: list[str] = []

    def begin(*_: object) -> None:
        begun.append("the story")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    monkeypatch.setattr(demo, "tell_story", begin)
    done = command("run", "--demo", cwd=tmp_path)
    assert (done.status, begun) == (0, ["the story"])
    assert "has never answered" not in done.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--config", "brokerwatch.toml"), ["--config"]),
        (("--config", "gone.toml", "--json"), ["--config"]),
        (("--keep-going",), ["--keep-going"]),
        (("--keep-going", "--config", "gone.toml"), ["--config", "--keep-going"]),
    ],
)
def test_a_demo_beside_a_configuration_is_refused_since_it_would_not_be_read(
    tmp_path: Path, options: tuple[str, ...], named: list[str]
) -> None:
    done = command("run", "--demo", "--duration", "0", *options, cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    lines = done.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == named
    assert all("the demo runs on simulated exchanges and reads no configuration" in line for line in lines)


def test_the_demo_can_be_stopped_before_every_account_has_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_kraken(monkeypatch, times=None)
    done = command("run", "--demo", "--duration", "1.5", cwd=tmp_path)
    assert done.status == 0
    assert "simulation" not in done.err, "the story has not begun"


# --- listen and status, beside clusters of this process ----------------------------------------------


def test_listen_prints_so_many_objects_as_were_asked_for(beside: Beside, tmp_path: Path) -> None:
    endpoint = beside.mixed.health_endpoint
    done = command("listen", endpoint, "--json", "--count", "3", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    objects: list[Said] = [json.loads(line) for line in done.out.splitlines()]
    assert {said["broker"]: (said["status"], said["available"]) for said in objects} == {
        "fine": ("healthy", True),
        "shaky": ("degraded", True),
        "down": ("unavailable", False),
    }
    assert len(objects) == 3
    assert all(said.keys() - SOMETIMES == WIRE_KEYS | STAMP_KEYS for said in objects)
    assert not any(said["simulated"] for said in objects)


def test_listen_prints_lines_for_people_without_json(beside: Beside, tmp_path: Path) -> None:
    endpoint = beside.mixed.health_endpoint
    done = command("listen", endpoint, "--count", "3", cwd=tmp_path)
    assert done.status == 0
    title, *lines = done.out.splitlines()
    assert endpoint in title
    assert len(lines) == 3
    assert any("down" in line and "unavailable" in line and "cash unknown" in line for line in lines)


def test_listen_says_after_five_seconds_that_nobody_is_there(tmp_path: Path) -> None:
    began_s = time.monotonic()
    done = command("listen", free_endpoint(), "--json", "--count", "1", cwd=tmp_path)
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
    "one that does not exist": ("mixed", ("missing",), 2),
}


@pytest.mark.parametrize(("cluster", "broker", "expected"), STATUSES.values(), ids=STATUSES)
def test_status_answers_with_its_exit_status(
    beside: Beside, tmp_path: Path, cluster: str, broker: tuple[str, ...], expected: int
) -> None:
    endpoint = getattr(beside, cluster).health_endpoint
    done = command("status", endpoint, *broker, cwd=tmp_path)
    assert done.status == expected, f"{done.out}{done.err}"
    if expected == 2:
        assert "publishes no broker named 'missing'; there are: down, fine, shaky" in done.err
    else:
        assert len(done.out.splitlines()) == (1 if broker or cluster == "sound" else 3)


def test_status_as_json_is_one_object_for_each_broker(beside: Beside, tmp_path: Path) -> None:
    done = command("status", beside.mixed.health_endpoint, "--json", cwd=tmp_path)
    assert done.status == 1
    objects: list[Said] = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(said["broker"] for said in objects) == ["down", "fine", "shaky"]
    assert all(said.keys() - SOMETIMES == WIRE_KEYS | STAMP_KEYS for said in objects)


@pytest.mark.parametrize("arguments", [(), ("kraken-main",)], ids=["all", "one"])
def test_status_where_nobody_is_ends_with_4(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = command("status", free_endpoint(), *arguments, "--timeout", "0.3", "--json", cwd=tmp_path)
    assert done.status == 4
    said = json.loads(done.out)
    assert (said["broker"], said["available"], said["reason"]) == (None, False, "nothing_heard")


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
    status = command("status", *options, cwd=cwd, environment=environment)
    assert status.status == 0, status.err
    of_one = command("status", "missing", *options, cwd=cwd, environment=environment)
    assert (of_one.status, "no broker named 'missing'" in of_one.err) == (2, True)
    listened = ("listen", *options, "--json", "--count", "1")
    heard = command(*listened, cwd=cwd, environment=environment)
    assert heard.status == 0, heard.err
    assert json.loads(heard.out)["src"] == f"supervisor/{beside.sound.name}"


def test_an_endpoint_that_is_named_goes_before_the_configuration(beside: Beside, tmp_path: Path) -> None:
    told_where(tmp_path, free_endpoint())
    named = command("status", beside.sound.health_endpoint, cwd=tmp_path)
    assert named.status == 0, named.err


@pytest.mark.parametrize("verb", ["status", "listen"])
def test_a_configuration_that_does_not_say_where_is_status_2_and_one_sentence(
    verb: str, tmp_path: Path
) -> None:
    config = told_where(tmp_path, "tcp://127.0.0.1:*")
    done = command(verb, cwd=tmp_path)
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert "name the endpoint that `brokerwatch run` shows" in done.err
    gone = command(verb, "--config", str(config / "gone"), cwd=tmp_path)
    assert (gone.status, "cannot be read" in gone.err) == (2, True)


def test_top_needs_a_terminal_and_names_what_does_not(tmp_path: Path) -> None:
    done = command("top", cwd=tmp_path)
    assert done.status == 2
    assert "`brokerwatch listen`" in done.err


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_is_a_sentence_that_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    @click.command()
    def needs_many() -> None:
        raise OSError(number, "Too many open files")

    monkeypatch.setattr(command_line, "run", needs_many)
    done = command(cwd=tmp_path, entry=command_line.run_alone)
    assert done.status == 2
    assert "raise that, such as with `ulimit -n`" in done.err
