"""The commands about the keys that encrypt the bus: `keys make`, `allow`, `list` and `revoke`.

Key pairs are made here alone, in a process that ends: libzmq may end a process that makes keys beside its
connections. Each command imports what it needs by itself, so that `--help` stays quick.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from brokerwatch.cli import exits

if TYPE_CHECKING:
    from brokerwatch.config.curve_keys import ListedKey

_CONFIG: Final = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The cluster's TOML file with [curve]; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml.",
)
_LISTS: Final = click.option(
    "--list",
    "lists",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A list of keys; default: those of the configuration.",
)
LIST_MODE: Final = 0o644
"""Public keys are no secret, and the cluster may run as another user than the one who edits its lists."""


@click.group()
def keys() -> None:
    """Make, list and revoke the keys that encrypt the bus.

    A cluster and each program that listens to it from another machine has a key pair. The cluster lets in the
    public keys on its lists. A change of a list counts within a second, without a restart.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="Where to write them; default: here.",
)
def make(*, name: str, folder: Path) -> None:
    """Make a key pair: NAME.key, which is secret, and NAME.pub for others.

    Files that exist are left alone.
    """
    from brokerwatch.bus.curve import made_pair
    from brokerwatch.config.curve_keys import ListedKey, line_text, pair_text
    from brokerwatch.messages import topics

    if not topics.is_name(name):
        exits.fail(f"expected a name, {topics.NAME_RULE}, not {name!r}")
    secret, public = folder / f"{name}.key", folder / f"{name}.pub"
    for path in (secret, public):
        if os.path.lexists(path):
            exits.fail(f"{path} exists already and was left alone; name another key, or move it away")
    pair = made_pair(name)
    try:
        _write_new(secret, pair_text(pair), 0o600)
        _write_new(public, line_text(ListedKey(name, pair.public)), LIST_MODE)
    except OSError as error:
        exits.fail(f"the keys cannot be written in {folder}: {error.strerror or error}")
    click.echo(f"wrote {secret}, which is secret, and {public}: {pair.public}")


@keys.command()
@click.argument("public", type=click.Path(path_type=Path))
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="BROKER",
    help="It may send the events of this broker, and goes on the list of brokers; may be repeated.",
)
@_LISTS
@_CONFIG
def allow(*, public: Path, brokers: tuple[str, ...], lists: tuple[Path, ...], config: Path | None) -> None:
    """Let in the key in the file PUBLIC, such as bot-1.pub: to listen, or as a broker."""
    from dataclasses import replace

    from brokerwatch.config.curve_keys import line_text
    from brokerwatch.messages import topics

    wrong = [broker for broker in brokers if not topics.is_name(broker)]
    if wrong:
        exits.fail(f"expected the name of a broker, not {wrong[0]!r}")
    found = _read(public)
    if len(found) != 1:
        exits.fail(f"expected one public key in {public}, not {len(found)}")
    key = replace(found[0], brokers=frozenset(brokers))
    configured = lists or _configured(config, "brokers" if brokers else "subscribers")
    if len(configured) != 1:
        exits.fail("expected one list; name it with --list FILE, or in the [curve] table")
    (path,) = configured
    listed = _read(path) if path.exists() else ()
    if any(each.name == key.name or each.public == key.public for each in listed):
        exits.fail(f"{key.name} or its key is in {path} already; revoke it first")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    _write(path, text + ("" if not text or text.endswith("\n") else "\n") + line_text(key))
    click.echo(f"{key.name} is let in by {path}{_for(key)}")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_LISTS
@_CONFIG
def list_keys(*, as_json: bool, lists: tuple[Path, ...], config: Path | None) -> None:
    """Show which keys are let in.

    Status 1: there are none but the cluster's own.
    """
    from brokerwatch.cli import output

    shown: list[str] = []
    for path in lists or _configured(config, "subscribers", "brokers"):
        for key in _read(path):
            entry = {
                "list": str(path),
                "name": key.name,
                "public": key.public,
                "brokers": sorted(key.brokers),
            }
            shown.append(
                json.dumps(entry) if as_json else f"{key.name:<16} {key.public} in {path}{_for(key)}"
            )
    if not shown:
        exits.say("no key is listed")
        sys.exit(exits.NO)
    output.emit_all(shown)


@keys.command()
@click.argument("name")
@_LISTS
@_CONFIG
def revoke(*, name: str, lists: tuple[Path, ...], config: Path | None) -> None:
    """Take the key NAME off the lists. A cluster that runs ends its connections within a second.

    Status 1: it is on none.
    """
    removed: list[Path] = []
    for path in lists or _configured(config, "subscribers", "brokers"):
        if all(key.name != name for key in _read(path)):
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        _write(path, "".join(line for line in lines if line.split()[:1] != [name]))
        removed.append(path)
    if not removed:
        exits.say(f"no key is listed under the name {name}")
        sys.exit(exits.NO)
    click.echo(f"{name} is no more let in by {', '.join(map(str, removed))}")


def _configured(config: Path | None, *names: str) -> tuple[Path, ...]:
    """The lists that the configuration names."""
    from brokerwatch.cli.config_lookup import config_path
    from brokerwatch.config.loader import load_cluster

    path = config_path(config)
    curve = load_cluster(path).curve
    if curve is None:
        exits.fail(f"{path} has no [curve] table; name the list with --list FILE")
    lists = {"subscribers": os.fspath(curve.subscribers), "brokers": os.fspath(curve.brokers)}
    found = tuple(Path(lists[name]) for name in names if lists[name])
    if not found:
        exits.fail(f"{path}: [curve] names no list of {' or '.join(names)}")
    return found


def _read(path: Path) -> tuple[ListedKey, ...]:
    from brokerwatch.config.curve_keys import read_list

    try:
        found, mistakes = read_list(path)
    except ValueError as error:
        exits.fail(str(error))
    for mistake in mistakes:
        exits.say(f"{path}: {mistake}")
    return found


def _write(path: Path, text: str) -> None:
    from brokerwatch.storage.atomic import write_whole

    try:
        write_whole(path.resolve(), text.encode(), mode=LIST_MODE)
    except OSError as error:
        exits.fail(f"{path} cannot be written: {error.strerror or error}")


def _write_new(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)


def _for(key: ListedKey) -> str:
    return f" for {', '.join(sorted(key.brokers))}" if key.brokers else ""
