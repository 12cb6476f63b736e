"""What all tests share: folders with short paths, no thread left behind, and the order of a parallel run."""

from __future__ import annotations

import functools
import gc
import itertools
import logging
import os
import shutil
import ssl
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from brokerwatch.actors.workers import NAME, WORKERS

# The same examples on every run, so that a red build is the change's fault. The nightly profile
# draws new ones and prints the blob that repeats a failure.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, database=None)
settings.register_profile(
    "nightly",
    max_examples=5_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
if settings.get_current_profile_name() == "ci":
    # Hypothesis also draws constants that it finds in the source of the modules that are loaded. So the
    # examples of a test would depend on which tests the same worker ran before it, and change in mid-run.
    providers._get_local_constants = Constants  # pyright: ignore[reportPrivateUsage] - no setting

THREAD_GRACE_S = 10.0

GROUPS: Final = {
    "tests/dropin/": "guarded bots",
    "tests/integration/test_fault_matrix.py": "fault matrix",
    "tests/cli/test_processes.py": "demo",
    "tests/project/test_packaging.py": "wheel",
    "tests/web/test_page_in_chromium.py": "browser",
}
"""Files whose tests share what is costly to set up: one worker runs them, one after the other. The longest
comes first."""
LONG: Final = (
    "every_transition",
    "every_small_world",
    "no_history_breaks",
    "test_guarded_is_never_laxer",
    "as_the_whole_history_says",
    "test_every_sequence_of_outcomes",
    "tests/project/test_benchmarks.py",
    "tests/integration/test_restart.py",
    "tests/integration/test_node_example.py",
    "tests/cluster/test_operators.py",
    "tests/cluster/test_totals.py",
    "tests/project/test_docs.py",
    "tests/simulator/test_testing.py",
    "tests/cli/test_verify_command.py",
)
"""What takes long begins first, or one worker would still be at it when the others have ended."""
TOGETHER: Final = 8
"""So many tests of a file follow each other, with what they share."""


# The tests that were found stay until the end. The garbage collector would look through them again and again:
# a third of the time until the first test, and more than that of many tests.
gc.disable()


def pytest_collection_finish() -> None:
    """Let the collector go on, and look at what the tests make alone."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say to a parallel run what belongs together, and in which order to run.

    The groups, which mostly wait, and what takes long, which mostly computes, begin in turns. Of the others a
    few tests of a file follow each other, and the files are mixed for the same reason.
    """
    groups: dict[str, str] = {}
    for item in items:
        group = next((name for path, name in GROUPS.items() if item.nodeid.startswith(path)), "")
        if "postgresql" in getattr(item, "fixturenames", ()) or "postgresql" in item.name:
            group = "postgresql"  # one server for all
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
            groups[item.nodeid] = group
    if "PYTEST_XDIST_WORKER" in os.environ:
        begin = list(dict.fromkeys(["postgresql", *GROUPS.values()]))
        places = {item.nodeid: place for place, item in enumerate(items)}

        def turn(item: pytest.Item) -> tuple[int, int]:
            name, place = item.nodeid, places[item.nodeid]
            if name in groups:
                return 2 * begin.index(groups[name]), place
            long = next((number for number, words in enumerate(LONG) if words in name), None)
            if long is not None:
                return 2 * long + 1, place
            few = f"{item.location[0]} {place // TOGETHER}"
            return 2 * len(LONG) + 2 + zlib.crc32(few.encode()), place

        items.sort(key=turn)


@pytest.fixture(scope="session", autouse=True)
def short_base() -> Iterator[Path]:
    """The folder of all folders of this worker.

    Its path is short: the path of a Unix socket has 107 bytes at most, and pytest's own folders have the
    user, the worker and the test in theirs. A fixture of a module, which is made before the test's own,
    finds its state folder here and not in the home folder.
    """
    base = Path(tempfile.mkdtemp(prefix="bw-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(base / "state"))
        yield base
    shutil.rmtree(base, ignore_errors=True)


_numbers: Final = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def one_tls_context() -> Iterator[None]:
    """One context for TLS in place of one for each ccxt instance.

    To read the certificates takes 20 ms, which was a tenth of the time of all tests; and simulated exchanges
    speak plain HTTP.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


@pytest.fixture
def tmp_path(short_base: Path) -> Iterator[Path]:
    """A folder for one test, with a short path; it is removed afterwards."""
    folder = short_base / str(next(_numbers))
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def state_of_its_own(short_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the platform keeps state, a test has none but its own, and so have the programs it starts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(short_base / f"s{next(_numbers)}"))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """A thread that outlives its test is a fault of the code or of the test."""
    before = set(threading.enumerate())
    yield
    until_s = time.monotonic() + THREAD_GRACE_S
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        if not _is_shared(thread):
            thread.join(max(0.0, until_s - time.monotonic()))
    assert [thread.name for thread in left if thread.is_alive() and not _is_shared(thread)] == []


def _is_shared(thread: threading.Thread) -> bool:
    """Whether actors of a cluster that outlives this test have turns on it. More may start at any time."""
    return WORKERS.is_used and thread.name.startswith(NAME)


@pytest.fixture
def patient_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow leaves nothing unwritten that the next cluster has to know."""
    monkeypatch.setattr("brokerwatch.cluster.cluster.STOP_S", 60.0)


@pytest.fixture(autouse=True)
def logging_left_as_it_was() -> Iterator[None]:
    """No test changes what another one logs: which runs before which differs between parallel runs."""
    before = _logging()
    yield
    assert _logging() == before


def _logging() -> tuple[object, ...]:
    root, ours = logging.getLogger(), logging.getLogger("brokerwatch")
    mine = [handler for handler in root.handlers if not type(handler).__module__.startswith("_pytest")]
    return mine, root.level, root.disabled, ours.handlers, ours.level, ours.propagate, root.manager.disable
