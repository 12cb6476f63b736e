"""The command `simulate`. What it does is in `cli/simulation.py`, which loads the simulators."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

_OF_ONE: Final = {
    "exchange": "EXCHANGE",
    "port": "--port",
    "fault": "--fault",
    "script": "--script",
    "balances": "--balance",
    "accounts": "--accounts",
    "fees": "--fees",
}
"""What is said of one exchange on the command line, and of each one in the file of --config."""


@click.command()
@click.argument("exchange", required=False)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, metavar="N",
    help="On this port of 127.0.0.1, with the same keys every time; default: any port that is free.",
)  # fmt: skip
@click.option("--fault", metavar="NAME", help="Break it from the beginning.")
@click.option("--faults", is_flag=True, help="List all faults, and end.")
@click.option(
    "--script", type=click.Path(path_type=Path), metavar="FILE", help="TOML file that says what happens when."
)
@click.option(
    "--balance", "balances", multiple=True, metavar="CUR=FREE[:HELD]",
    help="What is in the account, such as USD=100.00:5; once for each currency.",
)  # fmt: skip
@click.option(
    "--accounts", type=click.IntRange(1, 10_000), default=1, metavar="N",
    help="So many accounts, up to 10000; default: 1.",
)  # fmt: skip
@click.option(
    "--log", type=click.Path(path_type=Path), metavar="FILE",
    help="Add each call and each scene to this file, one JSON object a line.",
)  # fmt: skip
@click.option("--fees", is_flag=True, help="Each fill costs the fee that the exchange documents.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE",
    help="Several exchanges in place of one: a TOML file with a section for each.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of the words.")
def simulate(
    *,
    exchange: str | None,
    port: int,
    fault: str | None,
    faults: bool,
    script: Path | None,
    balances: tuple[str, ...],
    accounts: int,
    log: Path | None,
    fees: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Be a kraken, coinbase or okx on this machine, for a bot to meet.

    It prints what ccxt, or brokerwatch, needs to come here instead of to the real exchange, and serves
    until Ctrl-C. Keys and money are made up.
    """
    from brokerwatch.cli import simulation

    if faults:
        simulation.list_faults(as_json=as_json)
        return
    if config is not None:
        source = click.get_current_context().get_parameter_source
        beside = [said for name, said in _OF_ONE.items() if source(name) is ParameterSource.COMMANDLINE]
        simulation.run_file(config, beside, as_json=as_json, log=log)
        return
    simulation.run(
        exchange,
        port=port,
        fault=fault,
        script=script,
        balances=balances,
        accounts=accounts,
        as_json=as_json,
        log=log,
        fees=fees,
    )
