"""The files in deploy/: their configurations load, and what they name is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.cli.main import app
from brokerwatch.config.loader import load
from brokerwatch.gateway.catalogue import Catalogue

yaml: Any = importlib.import_module("yaml")  # it has no annotations
ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
SECRETS: Final = ("page.token", "kraken.key", "kraken.secret", "tls.crt", "tls.key")


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def kinds() -> dict[str, Any]:
    return {each["kind"]: each for each in documents(DEPLOY / "kubernetes" / "brokerwatch.yaml")}


def loads(text: str, folder: Path) -> None:
    """Load a configuration as the container would, with made-up secrets where it looks for them."""
    secrets = folder / "secrets"
    secrets.mkdir()
    for name in SECRETS:
        (secrets / name).write_text("bWFkZSB1cCBmb3IgdGVzdHM=")
        (secrets / name).chmod(0o600)
    text = re.sub(r"/etc/brokerwatch-(keys|tls)", str(secrets), text)
    path = folder / "brokerwatch.toml"
    path.write_text(text)
    settings = load(path, Catalogue(), environment={})
    assert [spec.policy for spec in settings.brokers] == ["guarded"]
    assert settings.cluster.http is not None


def test_the_configuration_of_compose_loads(tmp_path: Path) -> None:
    loads((DEPLOY / "compose" / "brokerwatch.toml").read_text(), tmp_path)


def test_the_configuration_for_kubernetes_loads_and_its_probes_ask_where_it_listens(tmp_path: Path) -> None:
    found = kinds()
    loads(found["ConfigMap"]["data"]["brokerwatch.toml"], tmp_path)
    (container,) = found["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz", "an outage must not restart it"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {each["containerPort"] for each in container["ports"]} == {5572}
    assert found["StatefulSet"]["spec"]["replicas"] == 1, "two processes may not use one API key"


def test_each_volume_that_is_mounted_is_there() -> None:
    spec = kinds()["StatefulSet"]["spec"]
    made = {each["name"] for each in spec["template"]["spec"]["volumes"]}
    made |= {each["metadata"]["name"] for each in spec["volumeClaimTemplates"]}
    (container,) = spec["template"]["spec"]["containers"]
    assert {each["name"] for each in container["volumeMounts"]} == made
    (compose,) = documents(DEPLOY / "compose" / "compose.yaml")
    for service in compose["services"].values():
        for source in (each.partition(":")[0] for each in service["volumes"]):
            named = source in compose["volumes"] or source.startswith("./secrets")
            assert named or (DEPLOY / "compose" / source).exists(), source


COMMANDS: Final = {
    "compose": " ".join(documents(DEPLOY / "compose" / "compose.yaml")[0]["services"]["page"]["command"]),
    "kubernetes": "run --log-format json",
    "Dockerfile": "run --log-format json",
    "systemd": "run --config x --log-format json",
}


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_each_command_is_one_of_the_program(line: str) -> None:
    name, *options = line.split()
    known = {option for each in app.commands[name].params for option in each.opts}
    assert {each.partition("=")[0] for each in options if each.startswith("--")} <= known


def test_the_unit_reloads_and_gives_a_sign_of_life() -> None:
    unit = (DEPLOY / "systemd" / "brokerwatch.service").read_text()
    for line in re.findall(r"^Exec\w+=/opt/brokerwatch/bin/brokerwatch (\w+)", unit, re.MULTILINE):
        assert line in app.commands
    assert "Type=notify" in unit
    assert "WatchdogSec=" in unit
