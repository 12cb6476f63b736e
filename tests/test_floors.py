"""Who may import whom: the floors of docs/architecture.md, read from the sources.

A module imports only from its own floor or below, never in a circle, and a third-party library only
where its gate is. Imports inside functions count like all others; those under TYPE_CHECKING count
too, except for circles, since they never run.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
US: Final = "brokerwatch"

FLOORS: Final[Mapping[int, str]] = {
    0: "errors",
    1: "amounts messages messages.* clock policy config section configfile moments currencies credentials",
    2: "health capabilities evidence backoff memory pace view totals reception restarts faults selection "
    "need objections "
    "envelopes answers proof products symbols candles positions status orders receipts refusals unlisted "
    "checklist report findings marketfindings provocation keyfacts openorders traces examination",
    3: "board router changes backlog journal ordering",
    4: "exchange strict sessions connection dialects venue desk ledger lookup account lane laneturn "
    "callthread borrowed instances lent unproven lastknown question source dropin loop "
    "store database sqlitefile claims holdfile verified control bus voice inbox listener inspection "
    "storelook",
    5: "actors actors.*",
    6: "broker aio calls observation statuswatch state operators restoration cluster "
    "sight rehearsal examiner verify premises reachability",
    7: "cli program simulation scenes testing demo screen lines table signals template whereabouts "
    "verification scorecard doctor __main__ run_cluster brokerwatch",
}
"""The modules of each floor, without the leading `brokerwatch.`; `brokerwatch` is the package itself."""

PURE: Final = 2
DOORS: Final = 7
NOT_PURE: Final = frozenset(("time", "threading", "random", "socket", "os", "asyncio", "queue"))
"""What pure thought may not touch: there `now` and chance are arguments."""

APART: Final = "simulator"
"""Imports none of us, so that a mistake of ours is not repeated there; only a door may start it."""

LEAVES: Final = frozenset(("signals", "template"))
"""Doors that need nobody."""

GATES: Final[Mapping[str, str]] = {
    "aiohttp": "sessions simulator.*",
    "ccxt": "exchange strict",
    "certifi": "sessions",
    "click": "cli",
    "cryptography": "credentials simulator.*",
    "msgpack": "messages.codec",
    "msgspec": "messages.* config memory view reception board actors.* cluster lines ledger report",
    "pykka": "actors.* cluster state",
    "pytest": "testing",
    "rich": "table scorecard",
    "platformdirs": "claims",
    "sqlalchemy": "store database storelook",
    "zmq": "bus",
}
"""Each third-party library and the only modules that may import it."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import as it stands in a source."""

    target: str
    line: int
    type_only: bool


def _short(module: str) -> str:
    return module.removeprefix(f"{US}.")


def _stands_in(module: str, names: str) -> bool:
    """Whether a table's entry names this module; `messages.*` are all modules of that folder."""
    short = _short(module)
    return any(
        short == name or (name.endswith(".*") and f"{short}.".startswith(name.removesuffix("*")))
        for name in names.split()
    )


def _is_ours(module: str) -> bool:
    return module == "run_cluster" or f"{module}.".startswith(f"{US}.")


def _is_apart(module: str) -> bool:
    return _stands_in(module, f"{APART}.*")


def floor_of(module: str) -> int | None:
    """The floor of one of our modules; None when it stands on none."""
    if _is_apart(module):
        return DOORS
    return next((number for number, names in FLOORS.items() if _stands_in(module, names)), None)


def _statements(tree: ast.AST, *, type_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it stands under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        yield node, type_only
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                yield child, True
                yield from _statements(child, type_only=True)
            for child in node.orelse:
                yield child, type_only
                yield from _statements(child, type_only=type_only)
        else:
            yield from _statements(node, type_only=type_only)


def imports_of(module: str, source: str, known: Mapping[str, str]) -> list[Import]:
    """Everything that a source imports, at any depth; `known` are all of our modules."""
    found: list[Import] = []
    is_package = any(other.startswith(f"{module}.") for other in known)
    package = module if is_package else module.rpartition(".")[0]
    for node, type_only in _statements(ast.parse(source)):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                above = above[: len(above) - node.level + 1]
                base = ".".join((*above, base)).rstrip(".")
            # `from brokerwatch import screen` imports the module of that name, if there is one.
            targets = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names
            ]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            targets = [node.args[0].value]
        found += [
            Import(target, getattr(node, "lineno", 0), type_only)
            for target in dict.fromkeys(targets)
            if target != "__future__"
        ]
    return found


def complaints(sources: Mapping[str, str]) -> list[str]:
    """Every breach of the rules, as a sentence each; `sources` is module name to source text."""
    found: list[str] = []
    edges: dict[str, set[str]] = {}
    for module, source in sources.items():
        floor = floor_of(module)
        if floor is None:
            found.append(
                f"{module} stands on no floor; decide what it may import and add it to FLOORS in "
                "tests/test_floors.py, and to the table in docs/architecture.md"
            )
            continue
        for one in imports_of(module, source, sources):
            where = f"{module}, line {one.line}: "
            if _is_ours(one.target):
                mistake = _upward(module, floor, one.target)
                if not one.type_only:
                    edges.setdefault(module, set()).update(_runs(module, one.target, sources))
            else:
                mistake = _outside(module, floor, one.target.partition(".")[0])
            if mistake:
                found.append(where + mistake)
    return found + [f"a circle of imports: {' -> '.join(circle)}" for circle in _circles(edges)]


def _upward(module: str, floor: int, target: str) -> str:
    if _is_apart(module):
        return "" if _is_apart(target) else f"the simulator imports none of us, and this is {target}"
    if _short(module) in LEAVES:
        return f"{module} is a leaf and imports none of us, and this is {target}"
    above = floor_of(target)
    if above is None or above <= floor:
        return ""  # a target on no floor is complained about where it stands
    return f"an upward import: {target} is on floor {above}, and this is floor {floor}"


def _outside(module: str, floor: int, library: str) -> str:
    if library in sys.stdlib_module_names:
        if floor == PURE and library in NOT_PURE:
            return f"pure thought may not import {library}; take what you need as an argument"
        return ""
    gate = GATES.get(library)
    if gate is None:
        return f"{library} has no gate; if we shall depend on it, add it to GATES here and to setup.cfg"
    if not _stands_in(module, gate):
        return f"{library} may be imported in {' and '.join(gate.split())} alone"
    return ""


def _runs(module: str, target: str, known: Mapping[str, str]) -> set[str]:
    """What is run by an import: the module, and the packages around it that do not contain the importer."""
    parts = target.split(".")
    names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return {name for name in names if name in known and not f"{module}.".startswith(f"{name}.")}


def _circles(edges: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """One circle for each import that closes one."""
    found: list[tuple[str, ...]] = []
    finished: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        if module in path:
            found.append((*path[path.index(module) :], module))
            return
        if module in finished:
            return
        path.append(module)
        for target in sorted(edges.get(module, ())):
            visit(target)
        path.pop()
        finished.add(module)

    for module in sorted(edges):
        visit(module)
    return found


def product_sources() -> dict[str, str]:
    """Every product module by its import name."""
    found: dict[str, str] = {}
    folders = ((ROOT / US, US), (ROOT / "actors", f"{US}.actors"), (ROOT / "messages", f"{US}.messages"))
    for folder, name in folders:
        for path in sorted(folder.rglob("*.py")):
            if not path.resolve().is_relative_to(folder):
                continue  # through one of the two links; its folder is read by its own name
            inner = path.relative_to(folder).with_suffix("").parts
            parts = inner[:-1] if inner[-1] == "__init__" else inner
            found[".".join((name, *parts))] = path.read_text(encoding="utf-8")
    found["run_cluster"] = (ROOT / "run_cluster.py").read_text(encoding="utf-8")
    return found


def test_every_import_of_the_product_goes_down_or_sideways_in_no_circle_and_through_its_gate() -> None:
    assert complaints(product_sources()) == []


def test_every_module_of_the_product_is_read() -> None:
    read = product_sources()
    assert {
        "brokerwatch",
        "brokerwatch.__main__",
        "brokerwatch.actors.broker",
        "brokerwatch.health",
        "brokerwatch.messages",
        "brokerwatch.messages.codec",
        "brokerwatch.simulator.kraken",
        "run_cluster",
    } <= read.keys()
    assert len(read) == len(set(read.values())), "a file was read under two names"


def test_every_name_in_the_tables_is_a_module_that_exists() -> None:
    modules = product_sources()
    named = " ".join((*FLOORS.values(), *GATES.values(), *LEAVES, APART)).split()
    gone = [name for name in named if not any(_stands_in(module, name) for module in modules)]
    assert gone == [], "take what is gone out of the tables"


def test_every_gate_is_used() -> None:
    modules = product_sources()
    imported = {
        one.target.partition(".")[0]
        for module, source in modules.items()
        for one in imports_of(module, source, modules)
    }
    assert GATES.keys() - imported == set(), "a library that nobody imports needs no gate"


def test_the_package_itself_imports_none_of_us_when_it_is_imported() -> None:
    modules = product_sources()
    ours = [one for one in imports_of(US, modules[US], modules) if _is_ours(one.target)]
    assert ours, "the package names its exports for type checkers"
    assert [one.target for one in ours if not one.type_only] == []


# --- the checker itself can fail ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param(
            {"brokerwatch.health": "from brokerwatch.board import Slot", "brokerwatch.board": ""},
            "brokerwatch.health, line 1: an upward import: brokerwatch.board is on floor 3, and this is",
            id="upward",
        ),
        pytest.param(
            {"brokerwatch.health": "def f():\n    import brokerwatch.board", "brokerwatch.board": ""},
            "brokerwatch.health, line 2: an upward import",
            id="upward inside a function",
        ),
        pytest.param(
            {
                "brokerwatch.health": "if TYPE_CHECKING:\n    from brokerwatch import board",
                "brokerwatch.board": "",
            },
            "brokerwatch.health, line 2: an upward import",
            id="upward for types only",
        ),
        pytest.param(
            {"brokerwatch.health": "from . import board", "brokerwatch.board": ""},
            "brokerwatch.health, line 1: an upward import: brokerwatch.board",
            id="upward and relative",
        ),
        pytest.param(
            {"brokerwatch.actors.broker": "from ..cli import app", "brokerwatch.cli": ""},
            "an upward import: brokerwatch.cli is on floor 7, and this is floor 5",
            id="upward and relative from a folder",
        ),
        pytest.param(
            {
                "brokerwatch.health": 'import importlib\nimportlib.import_module("brokerwatch.bus")',
                "brokerwatch.bus": "",
            },
            "brokerwatch.health, line 2: an upward import: brokerwatch.bus",
            id="upward by import_module",
        ),
        pytest.param(
            {"brokerwatch.board": "from brokerwatch import Cluster", "brokerwatch": ""},
            "an upward import: brokerwatch is on floor 7, and this is floor 3",
            id="through the package",
        ),
        pytest.param(
            {"brokerwatch.errors": "import brokerwatch.clock", "brokerwatch.clock": ""},
            "brokerwatch.clock is on floor 1, and this is floor 0",
            id="the errors import nobody",
        ),
        pytest.param(
            {
                "brokerwatch.bus": "from brokerwatch.voice import Voice",
                "brokerwatch.voice": "from brokerwatch.bus import Bus",
            },
            "a circle of imports: brokerwatch.bus -> brokerwatch.voice -> brokerwatch.bus",
            id="circle",
        ),
        pytest.param(
            {
                "brokerwatch.bus": "from brokerwatch.voice import Voice",
                "brokerwatch.voice": "from brokerwatch.loop import X",
                "brokerwatch.loop": "def f():\n    from brokerwatch import bus",
            },
            "circle of imports: brokerwatch.bus -> brokerwatch.voice -> brokerwatch.loop -> brokerwatch.bus",
            id="circle of three, one inside a function",
        ),
        pytest.param(
            {
                "brokerwatch.clock": "from brokerwatch.messages.codec import decode",
                "brokerwatch.messages": "from brokerwatch.clock import Clock",
                "brokerwatch.messages.codec": "",
            },
            "a circle of imports: brokerwatch.clock -> brokerwatch.messages -> brokerwatch.clock",
            id="circle through the package around the module",
        ),
        pytest.param(
            {"brokerwatch.cluster": "import ccxt.async_support as ccxt"},
            "brokerwatch.cluster, line 1: ccxt may be imported in exchange and strict alone",
            id="library outside its gate",
        ),
        pytest.param(
            {"brokerwatch.cluster": "def f():\n    from ccxt.base import errors"},
            "brokerwatch.cluster, line 2: ccxt may be imported in exchange and strict alone",
            id="library inside a function",
        ),
        pytest.param(
            {"brokerwatch.listener": "if typing.TYPE_CHECKING:\n    import pykka"},
            "brokerwatch.listener, line 2: pykka may be imported in actors.* and cluster and state alone",
            id="library for types only",
        ),
        pytest.param(
            {"brokerwatch.messages.balance": "import msgpack"},
            "msgpack may be imported in messages.codec alone",
            id="msgpack beside the codec",
        ),
        pytest.param(
            {"brokerwatch.config": "import cryptography.hazmat"},
            "cryptography may be imported in credentials and simulator.* alone",
            id="cryptography in the configuration",
        ),
        pytest.param({"brokerwatch.cli": "import requests"}, "requests has no gate", id="unknown library"),
        *(
            pytest.param(
                {"brokerwatch.restarts": f"import {name}"},
                f"pure thought may not import {name}",
                id=f"{name} in pure thought",
            )
            for name in sorted(NOT_PURE)
        ),
        pytest.param(
            {"brokerwatch.answers": "def f():\n    from os.path import join"},
            "brokerwatch.answers, line 2: pure thought may not import os",
            id="os.path in pure thought",
        ),
        pytest.param(
            {"brokerwatch.simulator.kraken": "from brokerwatch.messages import amount"},
            "the simulator imports none of us, and this is brokerwatch.messages",
            id="the simulator imports us",
        ),
        pytest.param(
            {"brokerwatch.cluster": "from brokerwatch.simulator import serve", "brokerwatch.simulator": ""},
            "brokerwatch.simulator is on floor 7, and this is floor 6",
            id="the simulator outside the doors",
        ),
        pytest.param(
            {"brokerwatch.signals": "from brokerwatch.errors import ConfigError", "brokerwatch.errors": ""},
            "brokerwatch.signals is a leaf and imports none of us, and this is brokerwatch.errors",
            id="a leaf that imports",
        ),
        pytest.param(
            {"brokerwatch.newcomer": ""},
            "brokerwatch.newcomer stands on no floor; decide what it may import and add it to FLOORS",
            id="no floor",
        ),
    ],
)
def test_the_checker_finds_this_breach(sources: Mapping[str, str], expected: str) -> None:
    assert any(expected in one for one in complaints(sources)), complaints(sources)


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param(
            {"brokerwatch.board": "from brokerwatch.health import Health", "brokerwatch.health": ""},
            id="downward",
        ),
        pytest.param(
            {"brokerwatch.view": "from brokerwatch import health", "brokerwatch.health": "import re"},
            id="sideways",
        ),
        pytest.param(
            {
                "brokerwatch.bus": "if TYPE_CHECKING:\n    from brokerwatch.voice import Voice",
                "brokerwatch.voice": "from brokerwatch.bus import Bus",
            },
            id="a circle that exists for types only",
        ),
        pytest.param(
            {
                "brokerwatch.messages": "from brokerwatch.messages.codec import decode",
                "brokerwatch.messages.codec": "from brokerwatch.messages.health import X\nimport msgpack",
                "brokerwatch.messages.health": "import msgspec",
            },
            id="the order inside a package",
        ),
        pytest.param({"brokerwatch.sessions": "import aiohttp, certifi, ssl"}, id="the gate itself"),
        pytest.param({"brokerwatch.bus": "import os, threading, time, zmq"}, id="time outside pure thought"),
        pytest.param(
            {
                "brokerwatch.simulator.okx": "import aiohttp\nfrom brokerwatch.simulator import account",
                "brokerwatch.simulator.account": "",
                "brokerwatch.demo": "from brokerwatch.simulator import serve",
                "brokerwatch.simulator": "",
            },
            id="a door starts the simulator",
        ),
        pytest.param(
            {"run_cluster": "from brokerwatch.cli import run_alone", "brokerwatch.cli": "import click"},
            id="the program",
        ),
    ],
)
def test_the_checker_lets_this_pass(sources: Mapping[str, str]) -> None:
    assert complaints(sources) == []


def test_what_stands_beside_a_type_checking_block_still_runs() -> None:
    source = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\nimport c"
    found = imports_of("brokerwatch.health", source, {})
    assert sorted({(one.target, one.type_only) for one in found}) == [("a", True), ("b", False), ("c", False)]
