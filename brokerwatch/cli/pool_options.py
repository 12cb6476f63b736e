"""The options of a node that belongs to a pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from brokerwatch.config.node_settings import NodeChoice

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """What the options say."""

    pool: str | None
    capacity: float
    labels: tuple[str, ...]
    egress: str
    calls_per_s: float | None

    def choice(self, name: str, only: tuple[str, ...]) -> NodeChoice:
        """The node that is meant. `name`: empty where it was not named."""
        from brokerwatch.config.node_settings import DEFAULT_NODE, NodeChoice

        if self.pool is None:
            if self.capacity != 1.0 or self.labels or self.egress or self.calls_per_s is not None:
                raise click.UsageError("--capacity, --label, --egress and --calls-per-s are for --pool")
            return NodeChoice(name or DEFAULT_NODE, only)
        labels: dict[str, str] = {}
        for label in self.labels:
            key, sign, value = label.partition("=")
            if not (key.strip() and sign and value.strip()):
                raise click.UsageError(f"--label: expected NAME=VALUE, such as region=tokyo, not {label!r}")
            labels[key.strip()] = value.strip()
        return NodeChoice(
            name,
            only,
            self.pool,
            self.capacity,
            labels,
            self.egress,
            math.inf if self.calls_per_s is None else self.calls_per_s,
        )


def pool_options(command: _F) -> _F:
    """Give a command the options of a pool, which it gets as `pool`."""

    @click.option("--pool", metavar="NAME", help="Share the accounts with the other nodes of this pool.")
    @click.option(
        "--capacity",
        type=click.FloatRange(min=0),
        default=1.0,
        metavar="WEIGHT",
        help="In a pool: its weight; a node of twice the weight gets twice the accounts. Default: 1.",
    )
    @click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="NAME=VALUE",
        help="In a pool: what accounts may pin, such as region=tokyo. May be given several times.",
    )
    @click.option(
        "--egress",
        default="",
        metavar="ADDRESS",
        help="In a pool: the address that exchanges see. Nodes behind one address share its budget.",
    )
    @click.option(
        "--calls-per-s",
        type=click.FloatRange(min=0),
        metavar="N",
        help="In a pool: how many polls a second may leave from that address.",
    )
    @wraps(command)
    def wrapped(
        *args: Any,
        pool: str | None,
        capacity: float,
        labels: tuple[str, ...],
        egress: str,
        calls_per_s: float | None,
        **named: Any,
    ) -> Any:
        chosen = PoolOptions(pool, capacity, labels, egress, calls_per_s)
        return command(*args, pool=chosen, **named)

    return wrapped  # type: ignore[return-value]  # the same command, with other options
