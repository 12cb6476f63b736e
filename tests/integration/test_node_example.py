"""The example for Node: it decides as the receiver in Python does, and hears a real cluster with CURVE.

What runs it is Node itself, with the two modules that the example's lock file names.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.simulator import SimulatedKraken, serve
from tests.support import node, wire_vectors
from tests.support.clusters import until
from tests.support.command import command
from tests.support.ports import free_endpoint
from tests.support.programs import BROKERWATCH, Program, Said, run_program

MOST_LINES: Final = 99
SEED: Final = 20_261_129
USED: Final = ("broker", "available", "reason", "cash", "age_ms")
"""The keys of a reading that the example uses, and so checks."""
CONFIG: Final = """
version = 1
[cluster]
health_endpoint = "{endpoint}"
heartbeat_s = 0.2
[curve]
key_file = "cluster.key"
subscribers = "subscribers.keys"
[brokers.kraken-main]
exchange = "kraken"
poll_interval_s = 0.2
fetch_deadline_s = 1
[brokers.kraken-main.ccxt.urls.api]
public = "{url}"
private = "{url}"
"""


def test_the_example_is_short_and_its_modules_are_pinned() -> None:
    lines = [line for path in node.EXAMPLE.glob("*.mjs") for line in path.read_text().splitlines()]
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 125
    wanted = json.loads((node.EXAMPLE / "package.json").read_text())["dependencies"]
    locked = json.loads((node.EXAMPLE / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all("integrity" in found for path, found in locked.items() if path)
    assert not any("resolved" in found for found in locked.values()), "a lock file names no registry"


BETWEEN_PROCESSES: Final = ("command", "command_done", "supervisor_alive")


# It decides as Python does ------------------------------------------------------------------------


def test_it_takes_and_refuses_the_bodies_that_the_protocol_says() -> None:
    bodies = wire_vectors.bodies()
    found = node.received(bodies=(body for body, _ in bodies.values()))["bodies"]
    for entry, answer in zip(wire_vectors.index(), found, strict=True):
        became = answer["becomes"]
        # What operators and nodes say to each other is no type that a listener knows.
        is_for_it = entry["accepted"] and entry["becomes"]["type"] not in BETWEEN_PROCESSES
        assert (became is not None) is is_for_it, (entry["name"], answer.get("why"))
        if became is None:
            continue
        assert (became["type"], became["epoch"], became["seq"]) == tuple(
            entry["becomes"][key] for key in ("type", "epoch", "seq")
        )
        for ours, its in zip(_readings(entry["becomes"]), _readings(became), strict=True):
            assert {key: its[key] for key in USED} == {key: ours[key] for key in USED}


def _readings(message: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = message["data"].get("readings", [message["data"]])
    return found


def test_it_believes_in_each_story_what_the_protocol_says() -> None:
    _agrees(wire_vectors.stories())


def test_it_believes_in_random_stories_what_the_receiver_in_python_believes() -> None:
    chance = random.Random(SEED)
    stories = [_random_story(chance, number) for number in range(60)]
    _agrees(stories)
    steps = [step for story in stories for step in story["steps"] if "body" in step]
    believed = [said["available"] for story in stories for said in story["steps"][-1]["believed"].values()]
    assert {step["taken"] for step in steps} == {True, False}
    assert set(believed) == {True, False}


def _random_story(chance: random.Random, number: int) -> dict[str, Any]:
    """No two times in it are equal but for a rounding, on which the two languages might differ."""
    story = wire_vectors.Story(str(number), "")
    at_ms, seq, epochs = 0, 0, [f"180000000000000{digit}-0000abcd" for digit in range(3)]
    for _ in range(chance.randint(5, 40)):
        at_ms += chance.choice((0, 3, 700, 3_000, 8_000))
        seq += chance.choice((-2, 0, 1, 1, 1, 5))
        if chance.random() < 0.2:
            story.waits(at_ms)
            continue
        story.hears(
            at_ms,
            seq=max(1, seq),
            epoch=epochs[min(chance.choice((0, 0, 0, 1, 2)), at_ms // 20_000)],
            up_ms=max(0, at_ms - chance.choice((0, 0, 0, 3, 400, 4_000, 9_000))),
            ttl_ms=chance.choice((*[5_017] * 4, 0, 2**53)),
            proof_ms=chance.choice((None, None, 0, 2_011, 60_013)),
        )
    return story.told


def _agrees(stories: list[dict[str, Any]]) -> None:
    found = node.received(stories=stories)["stories"]
    for story, answers in zip(stories, found, strict=True):
        for step, answer in zip(story["steps"], answers, strict=True):
            for key in ("taken", "believed", "lost"):
                assert answer.get(key) == step.get(key), (SEED, story["name"], step["at_ms"], key)


# It hears a cluster -------------------------------------------------------------------------------


def test_it_hears_a_cluster_with_curve_through_an_outage_a_kill_and_a_restart(tmp_path: Path) -> None:
    kraken, endpoint = SimulatedKraken(), free_endpoint()
    for name in ("cluster", "bot-1", "other"):
        assert command("keys", "make", name, cwd=tmp_path).status == 0
    config, run = ("--config", "brokerwatch.toml"), (*BROKERWATCH, "run", "--config", "brokerwatch.toml")
    listen = (node.program(), str(node.EXAMPLE / "listen.mjs"), endpoint, "cluster.pub")
    with (
        serve(kraken),
        (tmp_path / "heard").open("wb") as heard,
        Program(*listen, "bot-1.key", cwd=tmp_path) as listener,
        Program(*listen, "other.key", cwd=tmp_path, output=heard.fileno()) as other,
    ):
        (tmp_path / "brokerwatch.toml").write_text(CONFIG.format(endpoint=endpoint, url=kraken.url))
        assert command("keys", "allow", "bot-1.pub", *config, cwd=tmp_path).status == 0
        environment = {
            "KRAKEN_MAIN_API_KEY": kraken.credentials["api_key"],
            "KRAKEN_MAIN_API_SECRET": kraken.credentials["secret"],
        }
        with Program(*run, cwd=tmp_path, environment=environment) as cluster:
            first = listener.until(lambda said: said["available"] and said["cash"] is not None)[-1]
            assert (first["broker"], first["reason"], first["src"]) == (
                "kraken-main",
                "ok",
                "supervisor/main",
            )
            kraken.set_fault("reset")
            out = listener.until(lambda said: said["reason"] == "errors")[-1]
            assert (out["available"], out["cash"]) == (False, first["cash"])
            kraken.mend()
            listener.until(_is_available)
            cluster.send(signal.SIGKILL)
            silent = listener.until(lambda said: said["reason"] == "nothing_heard")[-1]
            assert (silent["available"], silent["cash"]) == (False, first["cash"])
            assert silent["age_ms"] >= 4 * 200 + 1_000, "it was believed for its time to live"
            cluster.end()
        with Program(*run, cwd=tmp_path, environment=environment) as cluster:
            back = listener.until(_is_available)
            assert [said["available"] for said in back] == [*[False] * (len(back) - 1), True]
            assert (tmp_path / "heard").read_bytes() == b"", "a key that is not listed hears nothing"
            assert command("keys", "allow", "other.pub", *config, cwd=tmp_path).status == 0
            until(lambda: b"kraken-main" in (tmp_path / "heard").read_bytes())
            assert cluster.stopped_by(signal.SIGTERM) == 0
            listener.until(lambda said: said["reason"] == "shutdown" and not said["available"])
        for program in (listener, other):
            program.send(signal.SIGINT)
            assert (program.end(), program.errors) == (0, "")


def _is_available(said: Said) -> bool:
    return bool(said["available"])


# It says what is wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give tcp://HOST:PORT"),
        (("tcp://127.0.0.1:5571", "bot-1.key"), "its NAME.pub and your own NAME.key"),
        (("tcp://127.0.0.1:5571", "--server-key"), "give tcp://HOST:PORT"),
        (("tcp://127.0.0.1:5571", "cluster.pub", "none.key"), "no such file or directory"),
        (("tcp://127.0.0.1:5571", "cluster.pub", "open.key"), "chmod 600"),
        (("tcp://127.0.0.1:5571", "none.pub", "bot-1.key"), "no such file or directory"),
        (("tcp://127.0.0.1:5571", "empty.pub", "bot-1.key"), "no key is in empty.pub"),
        (("tcp://nowhere",), "Invalid argument"),
    ],
)
def test_it_says_what_is_wrong_in_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    for name in ("cluster", "bot-1", "open"):
        command("keys", "make", name, cwd=tmp_path)
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "empty.pub").write_text("# nothing\n")
    done = run_program(node.program(), str(node.EXAMPLE / "listen.mjs"), *arguments, cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert words in done.err
    (line,) = done.err.splitlines()
    assert line.startswith("listen.mjs: ")


def test_without_its_modules_it_says_how_to_get_them(tmp_path: Path) -> None:
    for name in ("listen.mjs", "receiver.mjs"):
        shutil.copy(node.EXAMPLE / name, tmp_path)
    done = run_program(node.program(), "listen.mjs", "tcp://127.0.0.1:5571", cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert "run `npm ci` in the folder of this program" in done.err
