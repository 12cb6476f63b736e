"""Where a cluster keeps its files, and what a user without a home folder needs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import ConfigError
from brokerwatch.simulator import SimulatedKraken, serve
from brokerwatch.storage.locks import HOMELESS
from brokerwatch.storage.state_folder import folder_of, running
from tests.support.clusters import simulated_spec
from tests.support.command import command
from tests.support.homeless import be_homeless

ANY_PORT = "tcp://127.0.0.1:*"


@pytest.fixture(autouse=True)
def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    be_homeless(monkeypatch)


def test_settings_without_a_folder_are_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError) as refused:
        Cluster((), ClusterSettings())
    [problem] = refused.value.problems
    assert (problem.key, problem.expected) == ("cluster.state", f"expected a folder, because {HOMELESS}")
    assert running(ClusterSettings()) == ""


@pytest.mark.parametrize("more", [{"remember": False}, {"state": "state"}], ids=str)
def test_a_cluster_whose_folder_is_named_or_that_remembers_nothing_needs_no_home(
    more: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    kraken = SimulatedKraken()
    settings = ClusterSettings(health_endpoint=ANY_PORT, **more)
    with caplog.at_level(logging.WARNING), serve(kraken), Cluster([simulated_spec(kraken)], settings) as one:
        one.broker("kraken-test").get_account_balance()
    warned = [record.getMessage() for record in caplog.records if HOMELESS in record.getMessage()]
    assert len(warned) == ("state" in more), "a key that another process uses cannot be noticed"
    assert not (tmp_path / "~").exists()


def test_a_folder_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    assert folder_of(ClusterSettings(state=tmp_path)) == tmp_path


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("hold", "k", "--why", "x"), ("release", "k"), ("reset", "k"), ("history",)],
    ids=lambda arguments: arguments[0],
)
def test_a_command_says_that_it_needs_the_name_of_a_folder(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "brokerwatch.toml").write_text(
        'version = 1\n[cluster]\nhealth_endpoint = "tcp://127.0.0.1:*"\n[brokers.k]\nexchange = "kraken"\n'
    )
    keys = {"K_API_KEY": "a" * 56, "K_API_SECRET": "c2VjcmV0"}
    done = command(*arguments, cwd=tmp_path, environment=keys)
    assert (done.status, done.err) == (
        2,
        f"brokerwatch: cluster.state: expected a folder, because {HOMELESS}\n",
    )
