"""The command `doctor`. What it does is in `cli/diagnostics.py`, which loads ccxt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from brokerwatch.cli import exits

_CONFIG_HELP: Final = "TOML file; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml."


@click.command(epilog=exits.DOCTOR_STATUSES)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_CONFIG_HELP)
@click.option("--only", metavar="A,B", default="", help="The accounts of a node: as for `node`.")
@click.option("--supervisor", "supervises", is_flag=True, help="For `supervise`: the accounts run elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def doctor(*, config: Path | None, only: str, supervises: bool, as_json: bool) -> None:
    """Look at a whole configuration, and change nothing.

    Keys and who may read them, the state folder, the store, the endpoints, this machine's clock, and
    whether each exchange can be reached: a line for each, with what to do. No exchange is asked with a key.
    """
    from brokerwatch.cli import diagnostics

    if only and supervises:
        exits.fail("--only names accounts that run here, and with --supervisor none does; give one of them")
    names = tuple(dict.fromkeys(part.strip() for part in only.split(",") if part.strip()))
    sys.exit(diagnostics.run(config, as_json=as_json, only=names, supervises=supervises))
