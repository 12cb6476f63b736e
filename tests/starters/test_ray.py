"""Nodes that Ray starts: its head gone, its driver killed, its doors shut, and no Ray at all."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from unittest import mock

import pytest

from brokerwatch.cli import engine, pool_actor
from brokerwatch.cli.pool_actor import NodeState, PoolActor
from tests.starters.conftest import PoolOf
from tests.starters.starters import RAY_STOP_S, ray_driver
from tests.support.clusters import until
from tests.support.command import command
from tests.support.processes import command_of, descendants, environment_of_process, is_alive, open_to_others
from tests.support.ray import need_ray
from tests.support.started_pools import POOL

OUTAGE_S: Final = float(os.environ.get("BROKERWATCH_HEAD_GONE_S", "4"))
"""How long Ray's head is gone; docs/starters.md has what 60 s showed."""


A_DAY_S: Final = 86_400.0


def until_ended(started: Mapping[int, str]) -> None:
    """Wait until these processes have ended. Ray's agents, which look a minute for their head, are ended."""
    until(lambda: not any(is_alive(pid) and "Agent" not in command_of(pid) for pid in started))
    for pid in started:
        if "Agent" in command_of(pid):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(is_alive, started)))


def test_nodes_go_on_without_the_head_of_ray_and_nobody_else_comes_in(
    pool_of: PoolOf, pytestconfig: pytest.Config
) -> None:
    need_ray(pytestconfig)
    pool = pool_of(8)
    driver = ray_driver(pool, 2)
    before = pool.until_shared(2)
    started = descendants(driver.pid)
    assert not open_to_others({driver.pid, *started})
    (raylet,) = (pid for pid, words in started.items() if "/raylet/raylet " in words)
    known = environment_of_process(raylet)
    assert float(known["RAY_gcs_rpc_server_reconnect_timeout_s"]) > A_DAY_S, "else they end with their head"
    assert known["RAY_AUTH_MODE"] == "token"

    (head,) = (pid for pid, words in started.items() if "/gcs_server " in words)
    os.kill(head, signal.SIGKILL)
    gone_s = time.monotonic()
    until(lambda: pool.asked_of_each_since(gone_s + OUTAGE_S), OUTAGE_S + 60.0)
    longest_s = pool.longest_gap_s(gone_s)
    sys.stdout.write(
        f"the head was gone for {OUTAGE_S:g} s; the longest time without a call: {longest_s:.2f} s\n"
    )
    assert not is_alive(head)
    assert pool.callers_since(gone_s) == set(before.values()), "no process of a node has ended"

    driver.send(signal.SIGINT)
    assert driver.end(RAY_STOP_S) == 0, driver.errors
    assert not [row for row in pool.claims() if row.left_s > 0], "they were not given back"
    until_ended(started)


def test_the_nodes_end_with_the_program_that_started_them_also_when_it_is_killed(
    pool_of: PoolOf, pytestconfig: pytest.Config
) -> None:
    need_ray(pytestconfig)
    pool = pool_of(4)
    driver = ray_driver(pool, 1)
    (pid,) = set(pool.until_shared(1).values())
    started = descendants(driver.pid)
    assert pid in started
    driver.send(signal.SIGKILL)
    other = pool.plain("other")
    until(lambda: not is_alive(pid))
    pool.until_all_with(other.pid)
    assert not pool.overlaps()
    until_ended(started)


def test_what_is_wrong_with_the_words_of_an_engine_is_said(tmp_path: Path) -> None:
    (tmp_path / "brokerwatch.toml").write_text('version = 1\n[brokers.a]\nexchange = "kraken"\n')
    (tmp_path / "brokerwatch.toml").chmod(0o600)
    with mock.patch.dict(sys.modules, {"ray": None}):
        done = command("run", "--engine", "ray", "--pool", "desk", cwd=tmp_path)
    assert (done.status, "pip install 'brokerwatch[ray]'" in done.err) == (2, True)
    for words in (("--engine", "ray"), ("--engine", "ray", "--pool", "desk", "--demo"), ("--nodes", "3")):
        assert command("run", *words, cwd=tmp_path).status == 2


def test_the_driver_of_ray_says_at_once_what_no_node_could_start_with(
    pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    need_ray(pytestconfig)
    (tmp_path / "brokerwatch.toml").write_text('version = 1\n[brokers.a]\nexchange = "kraken"\n')
    (tmp_path / "brokerwatch.toml").chmod(0o600)
    done = command("run", "--engine", "ray", "--pool", "desk", cwd=tmp_path)
    assert (done.status, "A_API_KEY" in done.err) == (2, True)


def test_what_the_driver_shows_is_one_line_or_one_object_for_each_node() -> None:
    runs = NodeState("tokyo-1", "tokyo-1", 4711, 12, 11, "")
    assert engine.text_of(0, runs) == "node 1: tokyo-1 on tokyo-1, process 4711: 12 accounts, 11 available"
    assert engine.text_of(1, "it does not answer") == "node 2: it does not answer"
    cannot = NodeState("", "tokyo-1", 4711, 0, 0, "no file")
    assert engine.text_of(1, cannot) == "node 2: on tokyo-1, process 4711, cannot be started: no file"
    assert engine.text_of(1, cannot._replace(why="")).endswith("process 4711, is being started")
    assert json.loads(engine.object_of(0, runs)) == {"node": 1, **runs._asdict()}
    said = json.loads(engine.object_of(1, "it does not answer"))
    assert (said["node"], said["name"], said["why"]) == (2, "", "it does not answer")


def test_a_node_in_a_process_of_others_is_tried_again_until_it_can_start(
    pool_of: PoolOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(4)
    monkeypatch.setattr(pool_actor, "AGAIN_S", 0.1)
    monkeypatch.chdir(pool.folder)
    for name, value in pool.environment.items():
        monkeypatch.setenv(name, value)
    text = pool.file.read_text()
    pool.file.write_text(text.replace("fetch_deadline_s", "fetch_dedline_s"))
    actor = PoolActor(str(pool.file), POOL)
    until(lambda: "fetch_deadline_s" in actor.state().why)
    assert actor.state().name == ""
    pool.file.write_text(text)
    until(lambda: actor.state().available == len(pool.specs))
    said = actor.state()
    assert (said.pid, said.accounts, said.why) == (os.getpid(), len(pool.specs), "")
    assert actor.stop()
    assert not [row for row in pool.claims() if row.left_s > 0]
    assert json.dumps(actor.state())
