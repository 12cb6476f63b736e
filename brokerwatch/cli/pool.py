"""`brokerwatch pool`: which nodes a pool has, and which node has which account."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from brokerwatch.cli import exits

if TYPE_CHECKING:
    from brokerwatch.storage.claims import ClaimRow, PoolNode, PoolView

_CONFIG_HELP: Final = "TOML file of the pool; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml."


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_CONFIG_HELP)
@click.option("--pool", "name", metavar="NAME", default="", help="The pool; default: the one of the file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each node and for each claim.")
def pool(*, config: Path | None, name: str, as_json: bool) -> None:
    """Show the nodes of a pool, and which of them has which account.

    It asks the database and no node. Status 0: each claim is held by a live node; 1: one is over, or there is
    none.
    """
    from brokerwatch.cli import output
    from brokerwatch.cli.config_lookup import config_path
    from brokerwatch.config.loader import load_cluster
    from brokerwatch.storage.claims import PoolStore

    settings = load_cluster(config_path(config))
    chosen = name or ("" if settings.pool is None else settings.pool.name)
    if not chosen:
        exits.fail("which pool? Name it with --pool, or as `name` under [pool] in the file")
    store = PoolStore(settings.store, chosen)
    try:
        store.open()
        view = store.view()
    finally:
        store.close()
    output.emit_all(_json_lines(view) if as_json else _lines(chosen, view))
    if not view.claims or not all(row.is_held for row in view.claims):
        sys.exit(exits.NO)


def _lines(name: str, view: PoolView) -> list[str]:
    held = [row for row in view.claims if row.is_held]
    lines = [f"pool {name}: {_many(len(view.nodes), 'node')}, {_many(len(held), 'API key')} in use"]
    width = max((len(node.name) for node in view.nodes), default=0)
    lines += [f"node {node.name:<{width}}  {_of_node(node, held)}" for node in view.nodes]
    wide = max((len(_names(row)) for row in view.claims), default=0)
    for row in sorted(view.claims, key=_names):
        state = f"for {row.left_s:.1f} s more" if row.is_held else f"over since {-row.left_s:.0f} s"
        lines.append(f"{_names(row):<{wide}}  {row.node:<{width}}  epoch {row.epoch}, {state}")
    return lines


def _of_node(node: PoolNode, held: list[ClaimRow]) -> str:
    keys = sum(row.owner == node.owner for row in held)
    said = [_many(keys, "API key"), f"capacity {node.capacity:g}"]
    said += [f"{label}={value}" for label, value in sorted(node.labels.items())]
    if node.egress:
        said.append(f"from {node.egress}")
    return ", ".join(said)


def _names(row: ClaimRow) -> str:
    return ", ".join(row.accounts) or row.key


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _json_lines(view: PoolView) -> list[str]:
    nodes = [
        {
            "node": node.name,
            "incarnation": node.incarnation,
            "capacity": node.capacity,
            "labels": dict(node.labels),
            "egress": node.egress,
            "since_us": node.since_us,
        }
        for node in view.nodes
    ]
    claims = [
        {
            "accounts": list(row.accounts),
            "key": row.key,
            "node": row.node,
            "epoch": row.epoch,
            "left_s": round(row.left_s, 3),
            "held": row.is_held,
        }
        for row in sorted(view.claims, key=_names)
    ]
    return [json.dumps(each) for each in (*nodes, *claims)]
