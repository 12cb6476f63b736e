"""How one key of a broker is read from its table: by its type, and with a default where it is not there.

Each takes the table, the key and the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from brokerwatch.config.toml_table import TomlTable


def read_exchange_id(table: TomlTable, key: str, _: object) -> str:
    return table.text(key, "", needed="a ccxt id such as kraken")


def read_policy(table: TomlTable, key: str, _: object) -> str:
    return table.text(key, "")


def read_limit(table: TomlTable, key: str, _: object) -> float | None:
    return table.limit(key)


def read_words_or_none(table: TomlTable, key: str, _: object) -> str | None:
    return table.text(key, "") or None


def read_switch(table: TomlTable, key: str, default: bool) -> bool:  # noqa: FBT001 - as every reader
    return table.switch(key, default=default)


def read_table(table: TomlTable, key: str, _: object) -> Mapping[str, Any]:
    return MappingProxyType(dict(table.table(key)))


def read_texts_by_name(table: TomlTable, key: str, _: object) -> Mapping[str, str]:
    return MappingProxyType(table.texts_by_name(key))
