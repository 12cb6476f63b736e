"""The [curve] table: the key pair of a cluster, and whom it lets in. It encrypts both endpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from brokerwatch.config.credentials import secret_path
from brokerwatch.config.curve_keys import read_list, read_pair
from brokerwatch.config.toml_table import TomlTable

CURVE_KEYS: Final = ("key_file", "subscribers", "brokers")
"""The keys of the table."""


@dataclass(frozen=True, slots=True)
class CurveSettings:
    """Which keys an encrypted cluster uses. The files are read when it starts; no secret is kept here."""

    key_file: str | os.PathLike[str]
    """The key pair of the cluster, which `brokerwatch keys make` has made."""
    subscribers: str | os.PathLike[str] = ""
    """The list of the public keys that may listen to the health topic; empty: only the cluster's own."""
    brokers: str | os.PathLike[str] = ""
    """The list of those that may send events of brokers, each with its brokers; empty: only its own."""

    def __post_init__(self) -> None:
        for key in CURVE_KEYS:
            value: str | os.PathLike[str] = getattr(self, key)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, key, os.fsdecode(value))


def curve_of(table: TomlTable, folder: Path, environment: Mapping[str, str]) -> CurveSettings:
    """What the [curve] table says. Paths count from the folder of the configuration; no file is read."""
    key_file = table.text("key_file", "")
    lists = {key: table.text(key, "") for key in ("subscribers", "brokers")}
    table.end(", ".join(CURVE_KEYS))
    folder = folder.absolute()  # a reload reads the configuration by another path
    return CurveSettings(
        str(secret_path(key_file, folder, environment)) if key_file else "",
        **{key: str(folder / path) if path else "" for key, path in lists.items()},
    )


def curve_mistakes(curve: CurveSettings) -> list[tuple[str, str]]:
    """(key, what was expected) for each value of the [curve] table that cannot be. It reads the files."""
    found = [
        (key, f"expected the name of a file, not {type(value).__name__}")
        for key in CURVE_KEYS
        if not isinstance(value := getattr(curve, key), str)
    ]
    if found:
        return found
    if not curve.key_file:
        found.append(("key_file", "expected the file of a key pair; `brokerwatch keys make NAME` makes one"))
    else:
        try:
            read_pair(curve.key_file)
        except ValueError as error:
            found.append(("key_file", str(error)))
    for key in ("subscribers", "brokers"):
        path: str = getattr(curve, key)
        if not path:
            continue
        try:
            keys, mistakes = read_list(path)
        except ValueError as error:
            found.append((key, str(error)))
            continue
        found += [(key, f"{path}: {mistake}") for mistake in mistakes]
        if key == "brokers":
            found += [
                (key, f"{path}: expected the brokers that {each.name} may speak for, after its key")
                for each in keys
                if not each.brokers
            ]
    return found
