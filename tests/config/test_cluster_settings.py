"""The settings of a whole cluster: endpoints, folders, heartbeats."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.config.cluster_settings import (
    HEARTBEAT_RANGE_S,
    ClusterSettings,
    cluster_mistakes,
    endpoint_mistake,
)
from brokerwatch.config.loader import load_cluster
from tests.support.configurations import SMALLEST, Loader, Mistakes
from tests.support.homeless import be_homeless


def test_a_state_folder_counts_from_the_folder_of_the_file_and_from_nowhere_else(
    loaded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", "/home/trader")
    for written, meant in {
        "memory": f"{tmp_path}/memory",
        "./a/b": f"{tmp_path}/a/b",
        "/srv/memory": "/srv/memory",
        "~/memory": "/home/trader/memory",
        "": "",
    }.items():
        assert loaded(SMALLEST + f'[cluster]\nstate = "{written}"\n').cluster.state == meant
        assert load_cluster(tmp_path / "brokerwatch.toml").state == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sqlite:///watch.db", "sqlite:///{folder}/watch.db"),
        ("sqlite:////srv/watch.db", "sqlite:////srv/watch.db"),
        ("sqlite:///~/watch.db", "sqlite:////home/trader/watch.db"),
        ("postgresql://watch@db/x", "postgresql://watch@db/x"),
        ("postgresql+psycopg://watch:p@[::1]:5432/x?sslmode=require",
         "postgresql+psycopg://watch:p@[::1]:5432/x?sslmode=require"),
        ("postgresql:///x", "postgresql:///x"),
    ],
)  # fmt: skip
def test_a_store_in_a_file_counts_from_the_folder_of_the_configuration_too(
    loaded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", "/home/trader")
    found = loaded(SMALLEST + f'[cluster]\nstore = "{written}"\n').cluster
    assert found.store == meant.format(folder=tmp_path)


# --- endpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5571", "tcp://127.0.0.1:*", "tcp://127.4.5.6:1", "tcp://localhost:65535", "ipc:///run/x",
     "ipc://@abstract", "inproc://brokers"],
)  # fmt: skip
def test_an_endpoint_of_this_machine_is_accepted(endpoint: str) -> None:
    assert endpoint_mistake(endpoint) == ""


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://0.0.0.0:5571", "tcp://*:5571", "tcp://[::]:5571", "tcp://10.0.0.5:5571", "tcp://192.168.1.2:5571",
     "tcp://[2001:db8::1]:5571", "tcp://[fe80::1%eth0]:5571", "tcp://example.com:5571", "tcp://eth0:5571",
     "tcp://localhost.example.com:5571", "tcp://127.0.0.1.example.com:5571", "tcp://127.0.0.1@example.com:5571",
     "tcp://eth0;127.0.0.1:5571", "tcp://LOCALHOST.:5571", "tcp://128.0.0.1:5571", "tcp://0:5571"],
)  # fmt: skip
def test_an_endpoint_that_others_can_reach_is_refused(endpoint: str) -> None:
    assert "can be reached from other machines" in endpoint_mistake(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    ["", "5571", "127.0.0.1:5571", "tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://127.0.0.1:65536",
     "tcp://127.0.0.1:-1", "tcp://127.0.0.1:http", "tcp://:5571", "tcp://::1:5571", "udp://127.0.0.1:5571",
     "pgm://127.0.0.1:5571", "http://127.0.0.1:5571", "tcp://127.0.0.1:5571 ", "tcp://127.0.0.1:5571\n",
     "TCP://127.0.0.1:5571", "ipc://", "inproc://"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused_with_what_was_expected(endpoint: str) -> None:
    assert endpoint_mistake(endpoint).startswith("expected ")


@given(st.text(), st.integers(0, 99_999))
def test_whatever_host_is_named_only_loopback_passes(host: str, port: int) -> None:
    if endpoint_mistake(f"tcp://{host}:{port}") == "":
        assert port <= 65_535
        assert host == "localhost" or host.startswith(("127.", "[127.", "[::1", "[0"))


def test_the_defaults_of_a_cluster_have_no_mistake() -> None:
    assert cluster_mistakes(ClusterSettings()) == []


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0"])
def test_the_brokers_endpoint_cannot_be_any_port(mistakes: Mistakes, endpoint: str) -> None:
    (problem,) = mistakes(SMALLEST + f'[cluster]\nbroker_endpoint = "{endpoint}"\n')
    assert problem.key == "cluster.broker_endpoint"


def test_many_accounts_give_fewer_signs_of_life_unless_the_configuration_says_how_many() -> None:
    unsaid = ClusterSettings()
    assert [unsaid.heartbeat_of(accounts) for accounts in (1, 250, 1_000, 5_000)] == [1.0, 1.0, 4.0, 20.0]
    assert unsaid.heartbeat_of(10**9) == HEARTBEAT_RANGE_S[1]
    assert ClusterSettings(heartbeat_s=1.0).heartbeat_of(5_000) == 1.0


# --- settings that a program makes ----------------------------------------------------------------


def test_a_state_folder_may_be_a_path_and_is_a_text_afterwards(tmp_path: Path) -> None:
    found = ClusterSettings(state=tmp_path / "state")
    assert found.state == str(tmp_path / "state")
    assert cluster_mistakes(found) == []
    assert found == ClusterSettings(state=str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("state", None, "expected text, not NoneType"),
        ("state", b"state", "expected text, not bytes"),
        ("store", Path("watch.db"), "expected text, not PosixPath"),
        ("name", 5, "expected text, not int"),
        ("health_endpoint", 5571, "expected text, not int"),
        ("heartbeat_s", "1", "expected a number of seconds, not str"),
        ("status_interval_s", None, "expected a number of seconds, not NoneType"),
        ("require_verification_max_age_s", True, "expected a number of seconds, not bool"),
        ("history_days", "30", "expected a number of days, not str"),
        ("remember", "false", "expected True or False, not str"),
    ],
)
def test_a_value_of_another_type_is_a_mistake_and_no_traceback(
    key: str, value: object, expected: str
) -> None:
    wrong: dict[str, Any] = {key: value}
    assert cluster_mistakes(ClusterSettings(**wrong)) == [(key, expected)]


def test_the_home_of_a_user_without_one_is_a_mistake(
    mistakes: Mistakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_homeless(monkeypatch)
    (problem,) = mistakes(SMALLEST + '[cluster]\nstate = "~/state"\n')
    assert (problem.key, problem.expected) == (
        "cluster.state",
        "expected a folder, and this user has no home: '~/state'",
    )


@pytest.mark.parametrize("days", [0.0, 0.5, -1.0, math.nan])
def test_a_history_is_kept_for_a_day_at_least(days: float) -> None:
    assert cluster_mistakes(ClusterSettings(history_days=days)) == [
        ("history_days", f"expected 1 day or more, not {days:g}")
    ]
    assert cluster_mistakes(ClusterSettings(history_days=math.inf)) == []
