"""The files in deploy/: their configurations load, and what they name is there."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.bus.curve import made_pair
from brokerwatch.cli.main import app
from brokerwatch.config.credentials import FOLDER_OF_CREDENTIALS
from brokerwatch.config.curve_keys import pair_text, read_list
from brokerwatch.config.loader import load, load_supervised
from brokerwatch.config.node_settings import NodeChoice, load_node
from brokerwatch.gateway.catalogue import Catalogue
from tests.support.programs import STOP_S

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


def of_pool() -> tuple[dict[str, Any], dict[str, str]]:
    """The StatefulSets of the manifest of a pool, and the files of its ConfigMap."""
    found = documents(DEPLOY / "kubernetes" / "pool.yaml")
    sets = {each["metadata"]["name"]: each for each in found if each["kind"] == "StatefulSet"}
    (files,) = (each["data"] for each in found if each["kind"] == "ConfigMap")
    return sets, files


def test_the_files_of_a_pool_in_kubernetes_load_for_a_node_and_for_its_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets, files = of_pool()
    keys = tmp_path / "keys"
    keys.mkdir()
    pairs = {name: made_pair(name) for name in ("desk", "node")}
    for name, pair in pairs.items():
        (keys / f"{name}.key").write_text(pair_text(pair))
    for name in SECRETS:
        (keys / name).write_text("bWFkZSB1cCBmb3IgdGVzdHM=")
    for path in keys.iterdir():
        path.chmod(0o440)  # as the pod has them
    for name, text in files.items():
        filled = re.sub(r"REPLACE-BY-THE-KEY-IN-(\w+)\.pub", lambda found: pairs[found[1]].public, text)
        (tmp_path / name).write_text(filled.replace("/etc/brokerwatch-tls", str(keys)))
    (node,) = sets["brokerwatch-node"]["spec"]["template"]["spec"]["containers"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(keys))
    assert {"name": "CREDENTIALS_DIRECTORY", "value": "/etc/brokerwatch-keys"} in node["env"]
    choice = NodeChoice("brokerwatch-node-0", pool="")
    found = load_node(tmp_path / "node.toml", Catalogue(), choice)
    assert [spec.policy for spec in found.brokers] == ["guarded"]
    assert found.cluster.pool is not None
    assert found.cluster.pool.name == "desk"
    supervised = load_supervised(tmp_path / "supervisor.toml")
    assert [spec.name for spec in supervised.brokers] == [spec.name for spec in found.brokers]
    ports = re.findall(r"_endpoint = .*:(\d+)\"", files["node.toml"] + files["supervisor.toml"])
    assert sorted(ports) == ["5571", "5571", "5573", "5573"]
    listed, mistakes = read_list(tmp_path / "brokers.txt")
    assert (mistakes, [one.brokers for one in listed]) == (
        (),
        [frozenset(spec.name for spec in found.brokers)],
    )


def test_a_pod_of_a_pool_is_named_as_its_node_and_has_time_to_give_its_claims_back() -> None:
    sets, _ = of_pool()
    pod = sets["brokerwatch-node"]["spec"]["template"]["spec"]
    (node,) = pod["containers"]
    assert "--name=$(POD_NAME)" in node["args"]
    assert pod["terminationGracePeriodSeconds"] > 2 * STOP_S
    (alive,) = (word.partition("=")[2] for word in node["args"] if word.startswith("--alive-file"))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert alive in " ".join(node[probe]["exec"]["command"])


@pytest.mark.parametrize("age_s", [0.0, 120.0, None])
def test_the_probe_of_a_node_looks_at_the_age_of_its_file(tmp_path: Path, age_s: float | None) -> None:
    sets, _ = of_pool()
    (node,) = sets["brokerwatch-node"]["spec"]["template"]["spec"]["containers"]
    alive = tmp_path / "alive"
    if age_s is not None:
        alive.touch()
        then_s = time.time() - age_s
        os.utime(alive, (then_s, then_s))
    command = node["livenessProbe"]["exec"]["command"]
    words = [word.replace("/run/brokerwatch/alive", str(alive)) for word in command]
    assert (subprocess.run(words, check=False, capture_output=True).returncode == 0) is (age_s == 0.0)


@pytest.mark.parametrize("each", [kinds()["StatefulSet"], *of_pool()[0].values()])
def test_each_volume_that_is_mounted_in_a_pod_is_there(each: dict[str, Any]) -> None:
    spec = each["spec"]
    made = {one["name"] for one in spec["template"]["spec"]["volumes"]}
    made |= {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", ())}
    (container,) = spec["template"]["spec"]["containers"]
    assert {one["name"] for one in container["volumeMounts"]} == made


def test_each_volume_of_compose_is_there() -> None:
    (compose,) = documents(DEPLOY / "compose" / "compose.yaml")
    for service in compose["services"].values():
        for source in (each.partition(":")[0] for each in service["volumes"]):
            named = source in compose["volumes"] or source.startswith("./secrets")
            assert named or (DEPLOY / "compose" / source).exists(), source


COMMANDS: Final = {
    "compose": " ".join(documents(DEPLOY / "compose" / "compose.yaml")[0]["services"]["page"]["command"]),
    "kubernetes": "run --log-format json",
    **{
        name: " ".join(each["spec"]["template"]["spec"]["containers"][0]["args"])
        for name, each in of_pool()[0].items()
    },
    "Dockerfile": "run --log-format json",
    "systemd": "run --config x --log-format json",
}


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_each_command_is_one_of_the_program(line: str) -> None:
    name, *options = line.split()
    known = {option for each in app.commands[name].params for option in each.opts}
    assert {each.partition("=")[0] for each in options if each.startswith("--")} <= known


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_each_unit_reloads_and_gives_a_sign_of_life(path: Path) -> None:
    unit = path.read_text()
    commands = re.findall(r"^Exec\w+=/opt/brokerwatch/bin/brokerwatch (.*)", unit, re.MULTILINE)
    assert commands
    for words in map(shlex.split, commands):
        known = {option for each in app.commands[words[0]].params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= known
    assert "ExecReload=" in unit
    assert "Type=notify" in unit
    assert "WatchdogSec=" in unit
    assert f"LoadCredential={FOLDER_OF_CREDENTIALS}:" in unit
    assert float(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > 2 * STOP_S
