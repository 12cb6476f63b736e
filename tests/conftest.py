"""What all tests share: no thread may be left behind, and Hypothesis prints what it needs to repeat."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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

THREAD_GRACE_S = 3.0


@pytest.fixture(autouse=True)
def state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the platform keeps state, a test has none but its own, and so have the programs it starts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """A thread that outlives its test is a fault of the code or of the test."""
    before = set(threading.enumerate())
    yield
    until_s = time.monotonic() + THREAD_GRACE_S
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(max(0.0, until_s - time.monotonic()))
    assert [thread.name for thread in left if thread.is_alive()] == []
