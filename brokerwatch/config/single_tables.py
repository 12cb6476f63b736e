"""One table of a configuration alone, for a program that has no accounts and needs no credentials."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from brokerwatch.config.http_settings import HttpSettings, http_of
from brokerwatch.config.loader import content_of
from brokerwatch.config.notify_settings import NotifySettings, notify_settings
from brokerwatch.config.toml_table import TomlTable
from brokerwatch.errors import ConfigError, Problem


def load_http(path: Path, environment: Mapping[str, str] | None = None) -> HttpSettings | None:
    """The [http] table alone, for a program that serves and has no accounts; None where there is none."""
    problems: list[Problem] = []
    content, lines = content_of(path, problems)
    served = TomlTable(str(path), "", content, problems, lines).table("http")
    table = TomlTable(str(path), "http", served, problems, lines)
    http = http_of(table, path.parent, os.environ if environment is None else environment) if served else None
    if problems:
        raise ConfigError(tuple(problems))
    return http


def load_notify(path: Path, *, environment: Mapping[str, str] | None = None) -> NotifySettings:
    """The [notify] table alone: what a watcher from outside needs, without any credentials."""
    problems: list[Problem] = []
    content, lines = content_of(path, problems)
    top = TomlTable(str(path), "", content, problems, lines)
    table = TomlTable(str(path), "notify", top.table("notify"), problems, lines)
    settings = notify_settings(table, path.parent, os.environ if environment is None else environment)
    if problems:
        raise ConfigError(tuple(problems))
    return settings
