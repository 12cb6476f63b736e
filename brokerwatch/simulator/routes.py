"""Which handler a call goes to: by method and path, where a part in braces stands for any text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Route = tuple[str, str]
"""Method and path: ("GET", "/api/v3/brokerage/orders/historical/{order_id}")."""

H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class MatchedRoute(Generic[H]):
    """A handler, the path as it stands in the table, and what the parts in braces are in this call."""

    handler: H
    pattern: str
    parts: Mapping[str, str]


def find_route(routes: Mapping[Route, H], method: str, path: str) -> MatchedRoute[H] | None:
    """The handler of a call, or None. A path that stands in the table as it is goes before a pattern."""
    if (method, path) in routes:
        return MatchedRoute(routes[method, path], path, {})
    for (route_method, pattern), handler in routes.items():
        if route_method == method and "{" in pattern and (parts := _parts(pattern, path)) is not None:
            return MatchedRoute(handler, pattern, parts)
    return None


def _parts(pattern: str, path: str) -> dict[str, str] | None:
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    parts: dict[str, str] = {}
    for name, text in zip(wanted, given, strict=True):
        if name.startswith("{") and text:
            parts[name.strip("{}")] = text
        elif name != text:
            return None
    return parts
