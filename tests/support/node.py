"""Node for tests, and the example for it. Debian has it: `apt install nodejs npm`; then `make node`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clusters import PATIENCE_S
from tests.support.programs import ROOT

EXAMPLE: Final = ROOT / "examples" / "node"
ASKED_FOR: Final = "BROKERWATCH_REQUIRE_NODE"
"""Set where Node or a module is a must: without it a test fails in place of being skipped."""


def program() -> str:
    """Node. Where it or a module of the example is missing the test is skipped with what to do, or fails."""
    found = shutil.which("node")
    missing = ""
    if found is None:
        missing = "there is no Node; Debian: apt install nodejs npm"
    elif not all((EXAMPLE / "node_modules" / name).exists() for name in ("zeromq", "@msgpack/msgpack")):
        missing = "the modules of examples/node are not installed; make node"
    if missing and os.environ.get(ASKED_FOR):
        pytest.fail(missing)
    if found is None or missing:
        pytest.skip(missing)
    return found


def received(bodies: Iterable[bytes] = (), stories: Iterable[dict[str, Any]] = ()) -> dict[str, list[Any]]:
    """What the example's receiver makes of bodies and of stories, such as those in docs/wire/vectors."""
    given = {"bodies": [body.hex() for body in bodies], "stories": list(stories)}
    done = subprocess.run(
        (program(), str(Path(__file__).with_name("node_receiver.mjs"))),
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    answered: dict[str, list[Any]] = json.loads(done.stdout)
    return answered
