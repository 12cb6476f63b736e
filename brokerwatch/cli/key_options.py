"""Which keys a command listens with: its options `--server-key` and `--key-file`, else the configuration's.

On the machine of the cluster none is needed: the cluster's own key pair may listen to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brokerwatch.cli import exits

if TYPE_CHECKING:
    from brokerwatch.bus.listener import Listener


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """What the options of a command say about keys."""

    server_keys: tuple[str, ...] = ()
    key_file: Path | None = None


def key_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options `--server-key` and `--key-file` of a command that listens.

    The command gets what they say as `keys`, a KeyChoice.
    """

    @functools.wraps(command)
    def with_keys(*, server_keys: tuple[str, ...], key_file: Path | None, **others: Any) -> None:
        command(**others, keys=KeyChoice(server_keys, key_file))

    decorated: Callable[..., None] = with_keys
    for option in (
        click.option(
            "--key-file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="This program's key pair, made by `brokerwatch keys make` and let in by the cluster.",
        ),
        click.option(
            "--server-key",
            "server_keys",
            multiple=True,
            metavar="KEY",
            help="The cluster's public key, or the file that has it; of several endpoints one for each.",
        ),
    ):
        decorated = option(decorated)
    return decorated


def listening(
    endpoints: Sequence[str], config: Path | None, keys: KeyChoice
) -> tuple[Listener, tuple[str, ...]]:
    """A listener to these endpoints, or to the configured one; and the endpoints. Raises ConfigError."""
    from brokerwatch.bus.listener import Listener
    from brokerwatch.cli.config_lookup import configured_curve, health_endpoint

    chosen = tuple(endpoints) or (health_endpoint(config),)
    if len(keys.server_keys) not in (0, 1, len(chosen)):
        exits.fail(f"expected one --server-key, or one for each of the {len(chosen)} endpoints")
    if keys.server_keys:
        each = keys.server_keys * (1 if len(keys.server_keys) == len(chosen) else len(chosen))
        return Listener(
            *chosen, server_key=dict(zip(chosen, each, strict=True)), key_file=keys.key_file
        ), chosen
    own = None if keys.key_file else configured_curve(config, chosen)
    if own is None:
        return Listener(*chosen, key_file=keys.key_file), chosen
    endpoint, pair = own
    return Listener(*chosen, server_key={endpoint: pair.public}, key_file=pair), chosen
