"""What import-linter cannot see of the imports. Its contracts are in setup.cfg; `make check` runs them."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = (ROOT / "brokerwatch", ROOT / "actors", ROOT / "messages")
NOT_INSTALLED_WITH_US: Final = {"brokerwatch", "pytest"}
"""`brokerwatch.testing` is for a program that has pytest already."""


def sources() -> list[Path]:
    """Every file of the product, each once: the links to actors/ and messages/ are left out."""
    return [path for folder in FOLDERS for path in folder.rglob("*.py") if path.resolve() == path]


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}, line {node.lineno}: imports are by full path"
            found.add((node.module or "").partition(".")[0])
    return found


def test_every_file_of_the_product_is_read() -> None:
    named = {path.relative_to(ROOT).as_posix() for path in sources()}
    assert {"brokerwatch/health/state_machine.py", "actors/broker.py", "messages/codec.py"} <= named
    assert len(named) > 150


def test_whatever_the_product_imports_is_installed_with_it() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    # What only an extra needs is imported where it is missed in a sentence.
    extras = config["options.extras_require"]
    lines = config["options"]["install_requires"] + extras["notify"] + extras["ray"]
    wanted = {re.split(r"[ ><=\[]", line)[0] for line in lines.split("\n")}
    installed = {{"pyzmq": "zmq"}.get(name, name).replace("-", "_") for name in wanted}
    outside = {name for path in sources() for name in imported(path)} - set(sys.stdlib_module_names)
    assert outside - installed - NOT_INSTALLED_WITH_US == set()


def test_a_module_that_is_imported_by_its_name_in_a_text_is_there() -> None:
    """import-linter does not see these: who adds one keeps to the levels by hand."""
    named = {
        node.args[0].value
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }
    assert {name for name in named if importlib.util.find_spec(name) is None} == set()
    assert {name for name in named if name.startswith("brokerwatch")} == set()


def test_importing_brokerwatch_loads_none_of_its_modules() -> None:
    code = "import sys, brokerwatch; print(*(m for m in sys.modules if m.startswith('brokerwatch.')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == []


def test_the_contracts_of_import_linter_are_kept() -> None:
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("import-linter is not installed here; `make check` installs and runs it")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
