"""The file of `brokerwatch simulate --config`: several exchanges, each with a section of its own.

Every mistake in it is noted and not only the first.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from brokerwatch.cli.scenario import (
    Scene,
    fault_mistake,
    read_script,
    scenes_of,
    take_balance,
    take_prices,
)
from brokerwatch.config.toml_lines import TomlLines, key_path
from brokerwatch.config.toml_table import TomlTable, typed
from brokerwatch.errors import Problem
from brokerwatch.simulator import EXCHANGES, SimulatedExchange, steady_credentials
from brokerwatch.simulator.account import BalanceSpec
from brokerwatch.simulator.credentials import secret_mistake

MOST_ACCOUNTS: Final = 10_000

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_KEYS: Final = "exchange, port, accounts, balance, credentials, fees, prices, fault, script, repeat, scene"


@dataclass(frozen=True, slots=True)
class Simulation:
    """One exchange that is to be served, with all that was asked for already arranged in it."""

    exchange: SimulatedExchange
    keys: Sequence[Mapping[str, str]]
    """The credentials of each account, the first one first."""
    port: int
    """0: any that is free."""
    scenes: Iterator[Scene] = field(default_factory=lambda: iter(()))
    name: str = ""
    """The name of its section; empty for an exchange that the command line asks for."""

    @property
    def label(self) -> str:
        """What it is called where there are several."""
        return self.name or self.exchange.ccxt_id


def opened_accounts(
    exchange: SimulatedExchange, accounts: int, port: int, given: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """Open so many accounts; returns their credentials. A port that was chosen has the same ones again.

    `given` are those of the first account.
    """
    keys = [exchange.credentials, *(exchange.add_account() for _ in range(accounts - 1))]
    if port:
        keys = [
            exchange.add_account(steady_credentials(exchange.ccxt_id, f"{port}/{number}"))
            for number in range(1, accounts + 1)
        ]
    if given is not None:
        keys[0] = exchange.add_account(given)
    exchange.credentials = keys[0]
    return keys


def read_simulations(path: Path, problems: list[Problem]) -> list[Simulation]:
    """The exchanges of a TOML file, in its order. Mistakes go on `problems`; then none is to be served."""
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content, lines = tomllib.loads(text), TomlLines(text)
    except OSError as error:
        problems.append(Problem(where, "", f"cannot be read: {error.strerror}"))
        return []
    except (ValueError, RecursionError) as error:
        problems.append(Problem(where, "", f"is not TOML: {error}"))
        return []
    top = TomlTable(where, "", content, problems, lines)
    sections = top.table("exchanges")
    top.end("[exchanges.NAME]", ("exchanges",))
    if not sections and not problems:
        top.wrong("exchanges", "expected at least one section, such as [exchanges.kraken]")
    found: list[Simulation] = []
    for name, values in sections.items():
        if not isinstance(values, dict):
            wanted = "expected a section, such as [exchanges.kraken]"
            top.wrong(key_path("exchanges", name), f"{wanted}, not {typed(cast('object', values))}")
            continue
        section = cast("dict[str, Any]", values)
        table = TomlTable(where, key_path("exchanges", name), section, problems, lines)
        simulation = _simulation(name, table, section, path.parent)
        if simulation is not None:
            found.append(simulation)
    _check_ports(found, top)
    return found


def _check_ports(found: Sequence[Simulation], top: TomlTable) -> None:
    users: dict[int, str] = {}
    for one in found:
        if one.port and one.port in users:
            first = users[one.port]
            top.wrong(key_path("exchanges", one.name, "port"), f"{first!r} has port {one.port} already")
        users.setdefault(one.port, one.name)


def _simulation(name: str, table: TomlTable, section: Mapping[str, Any], folder: Path) -> Simulation | None:
    ccxt_id = table.text("exchange", name if name in EXCHANGES else "")
    port, accounts = table.whole("port", 0), table.whole("accounts", 1)
    if not _NAME.fullmatch(name):
        table.wrong("", "expected a name of letters, digits, _ and -")
    if not 0 <= port <= 65_535:
        table.wrong("port", f"expected 1 to 65535, or 0 for any that is free, not {port}")
        port = 0
    if not 1 <= accounts <= MOST_ACCOUNTS:
        table.wrong("accounts", f"expected 1 to {MOST_ACCOUNTS}, not {accounts}")
        accounts = 1
    known = ccxt_id in EXCHANGES
    if not known:
        asked = f"no exchange {ccxt_id!r} is simulated" if ccxt_id else "expected an exchange"
        table.wrong("exchange", f"{asked}; there are: {', '.join(EXCHANGES)}")
    # Of another exchange only what depends on its kind is not looked at.
    exchange = EXCHANGES[ccxt_id if known else "kraken"]()
    given = _credentials(table, section, ccxt_id) if known else None
    if not known:
        table.take("credentials")
    keys = opened_accounts(exchange, accounts, port, given)
    api_keys = [one["api_key"] for one in keys]
    balance = take_balance(table) if "balance" in section else None
    prices = take_prices(table, "prices")
    exchange.charges_fees = table.switch("fees", default=False)
    fault = table.text("fault", "")
    if fault and (mistake := fault_mistake(fault)):
        table.wrong("fault", mistake)
        fault = ""
    script, repeat = table.text("script", ""), table.switch("repeat", default=False)
    tables = table.take("scene")
    table.end(_KEYS)
    if not known:
        return None
    inline = "scene" in section or "repeat" in section
    if script and inline:
        table.wrong("script", "expected either a script or [[scene]] tables here, and there are both")
    scenes: Iterator[Scene] = iter(())
    if inline:
        scenes = scenes_of(table, tables, exchange, api_keys, repeat=repeat)
    elif script:
        # As seen from the file that names it.
        scenes = read_script(folder / script, exchange, api_keys, table.problems)
    _arrange(exchange, api_keys, balance, prices, fault)
    return Simulation(exchange, keys, port, scenes, name)


def _arrange(
    exchange: SimulatedExchange,
    api_keys: Sequence[str],
    balance: BalanceSpec | None,
    prices: Mapping[str, str],
    fault: str,
) -> None:
    for symbol, price in prices.items():
        exchange.set_price(symbol, price)
    try:
        for api_key in api_keys if balance is not None else ():
            exchange.set_balance(balance or {}, account=api_key)
    except ValueError:
        return  # it was noted as a mistake, and nothing starts
    if fault:
        exchange.set_fault(fault)


def _credentials(table: TomlTable, section: Mapping[str, Any], ccxt_id: str) -> dict[str, str] | None:
    """The credentials of the first account, where they are given."""
    if "credentials" not in section:
        return None
    before = len(table.problems)
    found = table.texts_by_name("credentials")
    names = tuple(steady_credentials(ccxt_id, "any"))
    for name in names:
        if not found.get(name):
            table.wrong(key_path("credentials", name), f"expected a text; {ccxt_id} has {', '.join(names)}")
    for name in found:
        if name not in names:
            table.wrong(key_path("credentials", name), f"unknown key; known are: {', '.join(names)}")
    if len(table.problems) == before and (mistake := secret_mistake(ccxt_id, found["secret"])):
        table.wrong("credentials.secret", mistake)
    return found if len(table.problems) == before else None
