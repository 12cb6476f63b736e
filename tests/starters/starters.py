"""What starts the nodes of a pool, each in the words that the docs or the files in deploy/ have for it."""

from __future__ import annotations

import importlib
import re
import shlex
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from tests.support.programs import BROKERWATCH, ROOT, RUN_CLUSTER, Program
from tests.support.started_pools import POOL, StartedPool

yaml: Any = importlib.import_module("yaml")  # it has no annotations
UNIT: Final = ROOT / "deploy" / "systemd" / "brokerwatch-node@.service"
MANIFEST: Final = ROOT / "deploy" / "kubernetes" / "pool.yaml"
STOP_S: Final = 10.0
"""So soon after a signal all nodes of a starter have ended; what starts them gives them more."""
RAY_STOP_S: Final = 40.0
"""Ray ends its own processes besides."""

Stop = Callable[[], None]
Start = Callable[[StartedPool, int], Stop]
"""Start so many nodes; what is returned stops them in order, as the starter does, and waits for their end."""


def plain(pool: StartedPool, count: int) -> Stop:
    """Programs of a shell."""
    return _stop([pool.plain(f"plain-{number}") for number in range(count)])


def systemd(pool: StartedPool, count: int) -> Stop:
    """The words of the template unit, as instances `u-0`, `u-1`, …; no service manager restarts them."""
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    environment = dict(
        re.findall(r"^Environment=(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    )
    environment = {name: value.replace("/var/lib", str(pool.folder)) for name, value in environment.items()}
    nodes: list[Program] = []
    for number in range(count):
        words = shlex.split(line.replace("%i", f"u-{number}"))
        nodes.append(pool.program(*_here(words, pool.file), environment=environment))
    return _stop(nodes)


def kubernetes(pool: StartedPool, count: int) -> Stop:
    """The arguments of the StatefulSet's container, for the pods `brokerwatch-node-0` and so on."""
    sets = {
        each["metadata"]["name"]: each
        for each in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
        if each["kind"] == "StatefulSet"
    }
    (container,) = sets["brokerwatch-node"]["spec"]["template"]["spec"]["containers"]
    nodes: list[Program] = []
    for number in range(count):
        pod = f"brokerwatch-node-{number}"
        words = [word.replace("$(POD_NAME)", pod) for word in ("brokerwatch", *container["args"])]
        words = [word.replace("/run/brokerwatch/alive", str(pool.folder / f"{pod}-alive")) for word in words]
        nodes.append(pool.program(*_here(words, pool.file)))
    return _stop(nodes)


def ray(pool: StartedPool, count: int) -> Stop:
    """Actors of a Ray of their own, whose driver is the program that is stopped."""
    return _stop([ray_driver(pool, count)], RAY_STOP_S)


def ray_driver(pool: StartedPool, count: int) -> Program:
    """The program that starts nodes by Ray."""
    command = (
        *RUN_CLUSTER,
        "--engine",
        "ray",
        "--pool",
        POOL,
        "--nodes",
        str(count),
        "--config",
        pool.file.name,
    )
    return pool.program(*command, "--json", environment={"TMPDIR": pool.short_folder()})


def _here(words: Iterable[str], file: Path) -> list[str]:
    """The command on this machine: our program, the pool's name, and the file of the test."""
    program, *others = (re.sub(r"(?<![^=])/\S+\.toml$", str(file), word) for word in words)
    assert Path(program).name == "brokerwatch"
    assert any(word.endswith(str(file)) for word in others)
    return [*BROKERWATCH, *others]


def _stop(programs: list[Program], within_s: float = STOP_S) -> Stop:
    def stop() -> None:
        for each in programs:
            each.send(signal.SIGTERM)
        for each in programs:
            assert each.end(within_s) in (0, -signal.SIGKILL), each.errors[-2_000:]

    return stop


STARTERS: Final[dict[str, Start]] = {"plain": plain, "systemd": systemd, "kubernetes": kubernetes, "ray": ray}
STARTS_AGAIN: Final = frozenset({"ray"})
"""Those whose engine runs here too, and starts again what was killed."""
__all__ = ["POOL", "STARTERS", "STARTS_AGAIN", "Start", "Stop"]
