"""The [curve] table: what it needs, and what it opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokerwatch import Cluster, ClusterSettings, ConfigError, CurveSettings
from brokerwatch.cli.config_lookup import meant_cluster
from brokerwatch.config.cluster_settings import cluster_mistakes, endpoint_mistake, reachable
from brokerwatch.config.curve_settings import curve_mistakes
from brokerwatch.config.loader import examine
from brokerwatch.gateway.catalogue import Catalogue
from tests.support.keys import Keys


def toml(folder: Path, curve: str, endpoint: str = "tcp://0.0.0.0:5571") -> Path:
    path = folder / "b.toml"
    path.write_text(f'version = 1\n[cluster]\nhealth_endpoint = "{endpoint}"\n{curve}\n')
    return path


def problems(path: Path) -> str:
    found = examine(path, Catalogue()).problems
    return "\n".join(str(problem) for problem in found if problem.key != "brokers")


def test_beyond_loopback_a_cluster_needs_curve_and_an_ip_address() -> None:
    curve = CurveSettings("own.key")
    for key in ("health_endpoint", "broker_endpoint"):
        for endpoint in (
            "tcp://0.0.0.0:5571",
            "tcp://10.0.0.1:1",
            "tcp://[::]:5571",
            "tcp://[2001:db8::1]:1",
        ):
            bare = ClusterSettings(**{key: endpoint})  # type: ignore[arg-type]
            (mistake,) = cluster_mistakes(bare)
            assert mistake[0] == key
            assert "[curve]" in mistake[1]
            assert cluster_mistakes(ClusterSettings(**{key: endpoint}, curve=curve)) == []  # type: ignore[arg-type]
    for endpoint in ("tcp://watch.example.org:1", "tcp://*:5571", "tcp://eth0:5571"):
        assert "IP address" in endpoint_mistake(endpoint, encrypted=True)
    assert endpoint_mistake("tcp://watch.example.org:1", encrypted=True, connects=True) == ""
    for endpoint in ("tcp://127.0.0.1:1", "ipc:///tmp/x", "inproc://x"):
        assert endpoint_mistake(endpoint) == endpoint_mistake(endpoint, encrypted=True) == ""


def test_what_is_bound_to_every_address_is_reached_over_loopback() -> None:
    assert reachable("tcp://0.0.0.0:5571") == "tcp://127.0.0.1:5571"
    assert reachable("tcp://[::]:5571") == "tcp://[::1]:5571"
    assert reachable("tcp://10.0.0.0:5571") == "tcp://10.0.0.0:5571"


def test_the_table_is_read_with_every_mistake_at_once(tmp_path: Path) -> None:
    Keys(tmp_path)
    path = toml(tmp_path, '[curve]\nkey_file = "own.key"\nsubscribers = "subscribers.keys"')
    assert problems(path) == ""
    found = examine(path, Catalogue()).cluster
    assert found is None or found.curve == CurveSettings(tmp_path / "own.key", tmp_path / "subscribers.keys")
    (tmp_path / "own.key").chmod(0o644)
    (tmp_path / "subscribers.keys").write_text("lonely\n")
    (tmp_path / "brokers.keys").unlink()
    said = problems(
        toml(
            tmp_path,
            '[curve]\nkey_file = "own.key"\nsubscribers = "subscribers.keys"\nbrokers = "brokers.keys"',
        )
    )
    assert "curve.key_file: line 5" in said
    assert "chmod 600" in said
    assert "line 1: expected the public key of lonely" in said
    assert "curve.brokers" in said
    assert "did you mean subscribers?" in problems(
        toml(tmp_path, '[curve]\nkey_file = "x"\nsubscriber = "y"')
    )
    assert "`brokerwatch keys make NAME` makes one" in problems(toml(tmp_path, "[curve]"))
    assert "expected text" in problems(toml(tmp_path, "[curve]\nkey_file = 1"))


def test_a_key_of_a_broker_must_say_for_which_brokers_it_speaks(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.make("node")
    keys.let_in(keys.brokers, "node")
    ((key, expected),) = curve_mistakes(keys.settings)
    assert key == "brokers"
    assert "the brokers that node may speak for" in expected
    keys.let_in(keys.brokers, "node", brokers=["a"])
    assert curve_mistakes(keys.settings) == []


def test_settings_made_in_python_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"curve\.key_file: expected a readable file"):
        Cluster(settings=ClusterSettings(curve=CurveSettings(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"curve\.brokers: expected the name of a file"):
        Cluster(settings=ClusterSettings(curve=CurveSettings("x", brokers=5)))  # type: ignore[arg-type]


def test_a_command_of_an_operator_needs_no_key(tmp_path: Path) -> None:
    path = toml(tmp_path, '[curve]\nkey_file = "none.key"')
    assert meant_cluster(path, name=None, state=None).health_endpoint == "tcp://0.0.0.0:5571"
