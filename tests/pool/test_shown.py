"""What an operator is shown of a pool: by `brokerwatch pool`, by `doctor`, and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from brokerwatch.cli.pool import pool
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.preflight.diagnosis import Line, LineOutcome
from brokerwatch.preflight.pool_checks import pool_lines
from brokerwatch.simulator import SimulatedKraken
from tests.support.clusters import until
from tests.support.pools import PoolDesk, here, pool_spec, until_shared
from tests.support.postgres import PostgreSQL
from tests.support.served import asked


@dataclass(frozen=True)
class Shown:
    """What the command wrote, and its status."""

    status: int
    text: str


Show = Callable[..., Shown]


@pytest.fixture
def show(desk: PoolDesk, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Show:
    """Runs `brokerwatch pool` on a file of this pool."""
    path = tmp_path / "desk.toml"
    path.write_text(
        f'version = 1\n[cluster]\nname = "desk"\nstore = "{desk.url}"\n[pool]\nname = "tests"\n',
        encoding="utf-8",
    )
    path.chmod(0o600)

    def run(*options: str) -> Shown:
        capfd.readouterr()
        status = 0
        try:
            pool.main(["--config", str(path), *options], standalone_mode=False)
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Shown(status, capfd.readouterr().out)

    return run


def test_the_command_says_which_node_has_which_account(
    desk: PoolDesk, kraken: SimulatedKraken, show: Show
) -> None:
    nothing = show()
    assert (nothing.status, nothing.text) == (1, "pool tests: 0 nodes, 0 API keys in use\n")
    specs = [pool_spec(kraken, name) for name in ("a", "b")]
    one = desk.node("one", specs, labels={"region": "tokyo"}, egress="203.0.113.7", capacity=2.0)
    until_shared([one], specs)
    found = show()
    lines = found.text.splitlines()
    assert (found.status, lines[:2]) == (
        0,
        [
            "pool tests: 1 node, 2 API keys in use",
            "node one  2 API keys, capacity 2, region=tokyo, from 203.0.113.7",
        ],
    )
    assert [line.split(",")[0] for line in lines[2:]] == ["a  one  epoch 1", "b  one  epoch 1"]
    objects = [json.loads(line) for line in show("--json").text.splitlines()]
    assert [each.get("accounts") for each in objects] == [None, ["a"], ["b"]]
    one.stop()
    over = show()
    assert over.status == 1
    assert "over since" in over.text


def test_the_doctor_says_what_no_node_takes(desk: PoolDesk, kraken: SimulatedKraken) -> None:
    specs = [pool_spec(kraken, "a"), pool_spec(kraken, "b", pin={"region": "osaka"})]

    def lines() -> dict[str, Line]:
        return {line.check: line for line in pool_lines(desk.settings("look"), specs)}

    assert lines()["nodes"].outcome is LineOutcome.WARN
    one = desk.node("one", specs)
    until(lambda: here(one))
    found = lines()
    assert (found["lease"].outcome, found["nodes"].outcome) == (LineOutcome.OK, LineOutcome.OK)
    assert found["nodes"].evidence == "pool tests: one with 1 API key"
    assert found["placement"].outcome is LineOutcome.FAIL
    assert 'pinned to region = "osaka"' in found["placement"].evidence


def test_nodes_and_claims_are_told_over_http_and_a_database_that_is_away_is_said(
    desk: PoolDesk, kraken: SimulatedKraken, postgresql: PostgreSQL
) -> None:
    spec = pool_spec(kraken, "a")
    one = desk.node("one", [spec], http=HttpSettings(listen="127.0.0.1:0"))
    until_shared([one], [spec])
    found = asked(one.http_url, "/v1/pool")
    assert found.status == 200
    (node,), (claim,) = found.json["nodes"], found.json["claims"]
    assert (node["node"], node["keys"]) == ("one", 1)
    assert (claim["accounts"], claim["node"], claim["epoch"], claim["held"]) == (["a"], "one", 1, True)
    postgresql.kill()
    try:
        until(lambda: asked(one.http_url, "/v1/pool").status == 503)
    finally:
        postgresql.start()
    until(lambda: asked(one.http_url, "/v1/pool").status == 200)


@pytest.mark.parametrize("name", ["", "other"])
def test_another_pool_is_another_pool(show: Show, name: str) -> None:
    options = ("--pool", name) if name else ()
    assert show(*options).text.startswith(f"pool {name or 'tests'}: 0 nodes")
