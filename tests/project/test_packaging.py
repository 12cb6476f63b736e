"""What a user gets who installs brokerwatch: a package under its own name, typed, light and quiet."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path
from typing import Final

import pytest

import brokerwatch
from brokerwatch import errors

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 120.0
LEFT_BEHIND: Final = (".*", "build", "dist", "*.egg-info", "__pycache__", "node_modules", "tests")
"""What a build does not need, and what an earlier one may have left."""


def python(
    *arguments: str, cwd: Path, path: tuple[Path, ...] = (), status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run this very Python; assert the status that it ends with."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # What stands before the usual places wins over the editable installation in them.
    before = os.environ.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join((*map(str, path), *([before] if before else [])))
    done = subprocess.run(
        (sys.executable, *arguments),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == status, f"{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}"
    return done


def can_build_a_wheel() -> bool:
    """Whether this environment builds wheels without fetching anything."""
    if importlib.util.find_spec("setuptools") is None:
        return False
    # setuptools has its own since 70.1; before that it was the package `wheel` that brought it.
    return any(importlib.util.find_spec(name) for name in ("setuptools.command.bdist_wheel", "wheel"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built from a copy of it."""
    if not can_build_a_wheel():
        pytest.fail(
            "no wheel can be built here: setuptools 77 or later is missing, the build backend that "
            "pyproject.toml names. It belongs into the extra `test` of setup.cfg and into constraints.txt"
        )
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "tree"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    python(
        "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--wheel-dir", str(folder), str(copy),
        cwd=folder,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which nothing but the wheel is installed."""
    folder = tmp_path_factory.mktemp("site")
    python(
        "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index",
        "--target", str(folder), str(wheel),
        cwd=folder,
    )  # fmt: skip
    return folder


def test_the_wheel_holds_every_module_of_the_tree(wheel: Path) -> None:
    expected = {
        f"brokerwatch/{path.relative_to(folder).as_posix()}"
        for folder in (ROOT / "brokerwatch", ROOT)
        for pattern in (("**/*.py",) if folder != ROOT else ("actors/*.py", "messages/*.py"))
        for path in folder.glob(pattern)
        if path.resolve() == path or folder == ROOT
    }
    with zipfile.ZipFile(wheel) as content:
        packed = {name for name in content.namelist() if name.endswith(".py")}
    assert packed == expected


def test_the_wheel_installs_one_name_and_not_actors_nor_messages(site: Path) -> None:
    installed = {entry.name for entry in site.iterdir() if not entry.name.endswith(".dist-info")}
    assert installed - {"bin", "Scripts", "__pycache__"} == {"brokerwatch"}


def test_the_wheel_says_that_it_is_typed(site: Path) -> None:
    assert (site / "brokerwatch" / "py.typed").is_file()


def test_the_wheel_carries_its_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        (license_file,) = (name for name in content.namelist() if name.endswith("/LICENSE"))
        assert content.read(license_file) == (ROOT / "LICENSE").read_bytes()


def test_a_stranger_keeps_his_own_messages_and_actors(site: Path, tmp_path: Path) -> None:
    (tmp_path / "messages.py").write_text("WHOSE = 'mine'\n")
    (tmp_path / "actors.py").write_text("WHOSE = 'mine'\n")
    (tmp_path / "trader.py").write_text(
        "import actors, messages\n"
        "import brokerwatch, brokerwatch.messages, brokerwatch.actors.broker\n"
        "print(actors.WHOSE, messages.WHOSE)\n"
        "print(brokerwatch.__file__)\n"
        "print(brokerwatch.messages.__file__)\n"
        "print(brokerwatch.actors.broker.BrokerActor.__module__)\n"
    )
    said = python("trader.py", cwd=tmp_path, path=(site,)).stdout.splitlines()
    assert said == [
        "mine mine",
        str(site / "brokerwatch" / "__init__.py"),
        str(site / "brokerwatch" / "messages" / "__init__.py"),
        "brokerwatch.actors.broker",
    ]


def test_the_installed_command_answers(site: Path, tmp_path: Path) -> None:
    command = (
        next(site.glob("*/brokerwatch*"), None) if not (site / "bin").is_dir() else site / "bin/brokerwatch"
    )
    assert command is not None
    assert "Exit statuses" in python(str(command), "--help", cwd=tmp_path, path=(site,)).stdout


@pytest.mark.parametrize("folder", ["actors", "messages"])
def test_who_imports_the_folder_by_its_short_name_is_told_the_right_one(folder: str) -> None:
    failed = python("-c", f"import {folder}", cwd=ROOT, status=1)
    assert f"ImportError: import brokerwatch.{folder}" in failed.stderr


def loaded_by(statement: str, cwd: Path) -> set[str]:
    """The top-level modules that are loaded once a fresh process has run `statement`."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    return set(python("-c", code, cwd=cwd).stdout.split())


def test_importing_brokerwatch_carries_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_by("import brokerwatch", tmp_path)
    assert "brokerwatch" in loaded
    heavy = {
        "ccxt",
        "pykka",
        "zmq",
        "aiohttp",
        "rich",
        "click",
        "msgspec",
        "msgpack",
        "cryptography",
        "asyncio",
    }
    assert loaded & heavy == set()


def test_a_listener_carries_neither_the_exchanges_nor_the_actors(tmp_path: Path) -> None:
    loaded = loaded_by("import brokerwatch\nbrokerwatch.Listener", tmp_path)
    assert "zmq" in loaded
    assert loaded & {"ccxt", "pykka", "aiohttp", "rich", "click", "cryptography", "requests"} == set()


def test_a_notifier_carries_no_exchange_no_actor_and_not_the_services_that_it_sends_over(
    tmp_path: Path,
) -> None:
    loaded = loaded_by("import brokerwatch.notify.notifier, brokerwatch.notify.trial", tmp_path)
    assert "zmq" in loaded
    heavy = {"ccxt", "pykka", "aiohttp", "apprise", "requests", "rich", "click", "cryptography", "sqlalchemy"}
    assert loaded & heavy == set()


def test_a_cluster_that_was_not_started_does_not_carry_the_exchanges(tmp_path: Path) -> None:
    loaded = loaded_by("import brokerwatch\nbrokerwatch.Cluster()", tmp_path)
    assert "pykka" in loaded
    assert loaded & {"ccxt", "aiohttp", "rich", "click"} == set()


def test_every_public_name_resolves_and_is_listed() -> None:
    assert len(brokerwatch.__all__) == len(set(brokerwatch.__all__))
    for name in brokerwatch.__all__:
        value = getattr(brokerwatch, name)
        assert getattr(value, "__name__", name) == name
    assert set(brokerwatch.__all__) <= set(dir(brokerwatch))


def test_every_error_that_we_raise_is_public() -> None:
    ours = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.BrokerwatchError)
    }
    assert ours <= set(brokerwatch.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'brokerwatch' has no attribute 'Brocker'"):
        _ = brokerwatch.Brocker  # type: ignore[attr-defined, unused-ignore]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportAttributeAccessIssue]
    assert not hasattr(brokerwatch, "_HOMELESS")


def test_the_import_says_in_one_sentence_where_it_cannot_run(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['fcntl'] = None\n"  # as on Windows
        "try: import brokerwatch\n"
        "except ImportError as error: print(error)\n"
    )
    [said] = python("-c", code, cwd=tmp_path).stdout.splitlines()
    assert said.startswith("brokerwatch runs on Linux and macOS and not on Windows")


def test_the_library_sets_up_no_logging(tmp_path: Path) -> None:
    code = (
        "import brokerwatch, logging\n"
        "[getattr(brokerwatch, name) for name in brokerwatch.__all__]\n"
        "import brokerwatch.gateway.gateway\n"
        "settings = brokerwatch.ClusterSettings(health_endpoint='tcp://127.0.0.1:*')\n"
        "with brokerwatch.Cluster(settings=settings): pass\n"
        "known = logging.root.manager.loggerDict.items()\n"
        "loggers = {n: l for n, l in known if isinstance(l, logging.Logger)}\n"
        "ours = {n: l for n, l in loggers.items() if (n + '.').startswith('brokerwatch.')}\n"
        "print(logging.root.handlers, logging.root.level)\n"
        "print({n: [type(h).__name__ for h in l.handlers] for n, l in ours.items() if l.handlers})\n"
        "print({n: l.level for n, l in ours.items() if l.level or not l.propagate or l.disabled})\n"
    )
    assert python("-c", code, cwd=tmp_path).stdout.splitlines() == [
        "[] 30",
        "{'brokerwatch': ['NullHandler']}",
        "{'brokerwatch.ccxt': 20}",  # at DEBUG ccxt would print keys; nothing of ours is silenced
    ]


def test_the_ranges_of_the_dependencies_are_ranges() -> None:
    # An exact pin here would reach into the lock file of everybody who embeds us.
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    required = setup["options"]["install_requires"].split("\n")
    assert [line for line in required if "==" in line or "<" in line] == []
