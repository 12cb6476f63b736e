"""A user without a home folder: no HOME, and no line in the list of users. Containers and services run so."""

from __future__ import annotations

import os
import pwd
from typing import NoReturn

import pytest


def be_homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What such a user's process finds, for one test."""
    for variable in tuple(os.environ):
        if variable == "HOME" or variable.startswith("XDG_"):
            monkeypatch.delenv(variable)

    def unknown(uid: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
