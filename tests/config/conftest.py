"""Fixtures that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from brokerwatch.config.cluster_settings import (
    Settings,
)
from brokerwatch.config.loader import load
from brokerwatch.errors import ConfigError, Problem
from tests.support.configurations import ENVIRONMENT, Known, Loader, Mistakes


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    """Writes a text to a file and loads it."""

    def write_and_load(
        text: str, environment: Mapping[str, str] = ENVIRONMENT, *, keep_going: bool = False
    ) -> Settings:
        path = tmp_path / "brokerwatch.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, Known(), environment=environment, keep_going=keep_going)

    return write_and_load


@pytest.fixture
def mistakes(loaded: Loader, tmp_path: Path) -> Mistakes:
    """The problems of a text that cannot be loaded; each names the file, and stands on a line of its own."""

    def problems(text: str, environment: Mapping[str, str] = ENVIRONMENT) -> list[Problem]:
        with pytest.raises(ConfigError) as raised:
            loaded(text, environment)
        found = list(raised.value.problems)
        assert {problem.where for problem in found} == {str(tmp_path / "brokerwatch.toml")}
        assert str(raised.value).splitlines() == [str(problem) for problem in found]
        assert all(problem.expected for problem in found)
        return found

    return problems
