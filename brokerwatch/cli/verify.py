"""The commands `verify` and `verify_kraken`. What they do is in `cli/verification.py`, which loads ccxt."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from brokerwatch.cli import exits
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.verification.checklist import CHECKLIST, MAXIMUM

_VERIFY_CONFIG: Final = "TOML file; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml."
_JSON_FILE: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


_VERIFY_HELP: Final = f"""Verify BROKER before it goes live: {len(CHECKLIST)} checks, {MAXIMUM} points.

Each check does what it says, with real questions to the exchange: balances, positions, candles, an outage
that is provoked on this side, orders in the exchange's dry run, and what the key may do. Nothing is ever
placed. An account at an exchange without a dry run cannot reach every point.
"""


@click.command(help=_VERIFY_HELP, epilog=exits.VERIFY_STATUSES)
@click.argument("broker")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_VERIFY_CONFIG)
@click.option(
    "--json", "json_file", type=_JSON_FILE, metavar="FILE",
    help="Write the report there; - is standard output.",
)  # fmt: skip
@click.option("--demo", is_flag=True, help="Verify a simulated account: BROKER is kraken, coinbase or okx.")
def verify(*, broker: str, config: Path | None, json_file: Path | None, demo: bool) -> None:
    with _unfinished():
        from brokerwatch.cli import verification

        _nothing_beside(demo, {"--config": config})
        if demo:
            with verification.of_demo(broker) as subject:
                sys.exit(verification.run(subject, json_file))
        sys.exit(verification.run(verification.of_config(broker, config), json_file))


def _nothing_beside(demo: bool, options: Mapping[str, object]) -> None:  # noqa: FBT001 - as click gives it
    """Raise ConfigError where an option stands beside --demo that says something of a real account."""
    expected = "expected without --demo: the demo is of a simulated account and reads no configuration"
    given = [name for name, value in options.items() if value is not None]
    if demo and given:
        raise ConfigError(tuple(Problem("", name, expected) for name in given))


@contextmanager
def _unfinished() -> Generator[None]:
    """Ctrl-C before there is anything to stop in order: not status 1, which says that something failed."""
    try:
        yield
    except KeyboardInterrupt:
        exits.fail("stopped before the end; there is no report")


MASTER_REPORT: Final = Path("kraken_e2e_verification_report.json")


@click.command(epilog=exits.VERIFY_STATUSES)
@click.option(
    "--json", "json_file", type=_JSON_FILE, default=MASTER_REPORT, show_default=True, metavar="FILE",
    help="Where the report is written.",
)  # fmt: skip
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of the cluster that shall let entries through.",
)
@click.option("--url", metavar="URL", help="Another address than Kraken's own, such as a simulator's.")
@click.option("--demo", is_flag=True, help="Verify a simulated account.")
def verify_kraken(*, json_file: Path, config: Path | None, url: str | None, demo: bool) -> None:
    """Verify Kraken's master account end to end, as `brokerwatch verify` does.

    Its keys are in the environment: KRAKEN_MASTER_API_KEY and KRAKEN_MASTER_API_SECRET.
    """
    with _unfinished():
        from brokerwatch.cli import verification

        _nothing_beside(demo, {"--config": config, "--url": url})
        if demo:
            # Not over the report of a real account.
            shown = json_file.with_suffix(".demo.json") if json_file == MASTER_REPORT else json_file
            with verification.of_demo("kraken") as subject:
                sys.exit(verification.run(subject, shown))
        sys.exit(verification.run(verification.of_master(config, url), json_file))
