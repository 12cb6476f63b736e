"""Moments of an earlier process in the monotonic seconds of this one. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from brokerwatch.clock import Instant

_Value = TypeVar("_Value")


def rebased(value: _Value, now: Instant) -> _Value:
    """The same value, with every `Instant` in it as far from `now` as its wall clock says.

    Args:
        value: dataclasses, tuples and mappings that hold instants.
        now: the moment, of this process.
    """
    return cast("_Value", _rebased(value, now))


def _rebased(value: object, now: Instant) -> object:
    if isinstance(value, Instant):
        return Instant(value.wall_us, now.up_s + (value.wall_us - now.wall_us) / 1_000_000)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts: dict[str, Any] = {
            each.name: _rebased(getattr(value, each.name), now) for each in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **parts)
    if isinstance(value, tuple):
        return tuple(_rebased(each, now) for each in cast("tuple[object, ...]", value))
    if isinstance(value, Mapping):
        named = cast("Mapping[str, object]", value)
        return {key: _rebased(each, now) for key, each in named.items()}
    return value
