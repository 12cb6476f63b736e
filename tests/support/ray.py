"""Whether Ray is here. Where it is not, its tests are skipped, and the summary says so aloud.

Under BROKERWATCH_REQUIRE_RAY=1, as in CI, they fail instead.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Final

import pytest

ASKED_FOR: Final = "BROKERWATCH_REQUIRE_RAY"
MISSING: Final = "Ray is not installed, so nodes were NOT tested with it (`make ray` installs it)"


class _Aloud:
    """Says at the end of the run what was not tested."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("NOT TESTED", sep="!", red=True)
        terminalreporter.line(MISSING)


def need_ray(config: pytest.Config) -> None:
    """Skip the test where Ray is not installed; fail it where that was asked for."""
    if importlib.util.find_spec("ray") is not None:
        return
    if os.environ.get(ASKED_FOR) == "1":
        pytest.fail(MISSING)
    if not config.pluginmanager.has_plugin("brokerwatch-no-ray"):
        config.pluginmanager.register(_Aloud(), "brokerwatch-no-ray")
    pytest.skip(MISSING)
