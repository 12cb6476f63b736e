"""A simulated exchange as a program of its own: `brokerwatch simulate`.

It says what a client needs to come here instead of to the real exchange, and serves until it is
stopped. Every mistake in what was asked for is named at once, and then nothing starts.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from brokerwatch.cli.output import LOOK_UP_S, LineWriter, emit_all
from brokerwatch.cli.scenario import balance_mistake, fault_mistake, read_script, tell_story
from brokerwatch.cli.signals import stop_signals
from brokerwatch.cli.simulation_log import SimulationLog
from brokerwatch.config.broker_spec import CCXT_NAMES
from brokerwatch.errors import ConfigError, Problem, ReaderGone
from brokerwatch.simulator import (
    EXCHANGES,
    FAULTS,
    BalanceSpec,
    Broken,
    PortUnavailable,
    ServedCall,
    SimulatedExchange,
    serve,
    steady_credentials,
)
from brokerwatch.simulator.ccxt_config import ccxt_config

_VARIABLES: Final = {"api_key": "API_KEY", "secret": "API_SECRET", "password": "API_PASSPHRASE"}
_BALANCE: Final = re.compile(r"([^=]*)=([^:]*)(?::(.*))?")


def run(
    name: str | None,
    *,
    port: int,
    fault: str | None,
    script: Path | None,
    balances: Sequence[str],
    accounts: int,
    as_json: bool,
    log: Path | None = None,
) -> None:
    """Serve one simulated exchange until it is stopped. Raises ConfigError when it cannot be."""
    problems: list[Problem] = []
    balance = _balance(balances, problems)
    if fault is not None and (mistake := fault_mistake(fault)):
        problems.append(Problem("", "--fault", mistake))
    if name is None or name not in EXCHANGES:
        asked = "expected an exchange" if name is None else f"no exchange {name!r} is simulated"
        first = Problem("", "", f"{asked}; there are: {', '.join(EXCHANGES)}")
        raise ConfigError((first, *problems))
    exchange = EXCHANGES[name]()
    keys = _opened(exchange, accounts, port)
    api_keys = [one["api_key"] for one in keys]
    scenes = iter(()) if script is None else read_script(script, exchange, api_keys, problems)
    if problems:
        raise ConfigError(tuple(problems))
    if balance is not None:
        for api_key in api_keys:
            exchange.set_balance(balance, account=api_key)
    if fault is not None:
        exchange.set_fault(fault)
    live = sys.stdout.isatty() and not as_json
    with SimulationLog(log) as written, stop_signals() as stopped, LineWriter(stopped.is_set) as lines:

        def tell(sentence: str) -> None:
            if live:
                with contextlib.suppress(ReaderGone):  # the terminal is gone, and a signal comes with that
                    lines.emit(f"{datetime.now().astimezone():%H:%M:%S}  {sentence}")

        def tell_scene(sentence: str) -> None:
            written.scene(exchange.ccxt_id, sentence)
            tell(sentence)

        def tell_call(answered: ServedCall) -> None:
            written.call(exchange.ccxt_id, answered)
            tell(_call_words(answered))

        def play() -> None:
            tell_story(scenes, {exchange.ccxt_id: exchange}, stopped, tell_scene)
            stopped.wait()

        try:
            with serve(exchange, ports=[port], watcher=tell_call):
                for line in [_said_json(exchange, keys)] if as_json else _said(exchange, keys):
                    lines.emit(line)
                story = threading.Thread(target=play, name="story", daemon=True)
                story.start()
                # With a limit: a signal that comes just before a wait without one is not noticed in it.
                while story.is_alive():
                    story.join(LOOK_UP_S)
        except PortUnavailable as error:
            raise ConfigError((Problem("", "--port", error.strerror or str(error)),)) from error


def list_faults(*, as_json: bool) -> None:
    """Say every fault there is, with its sentence."""
    width = max(map(len, FAULTS))
    emit_all(
        [json.dumps(dict(FAULTS))]
        if as_json
        else [f"{name:<{width}}  {sentence}" for name, sentence in FAULTS.items()]
    )


def _opened(exchange: SimulatedExchange, accounts: int, port: int) -> list[dict[str, str]]:
    """The credentials of so many accounts. A port that was chosen has the same ones next time."""
    if port:
        keys = [
            exchange.add_account(steady_credentials(exchange.ccxt_id, f"{port}/{number}"))
            for number in range(1, accounts + 1)
        ]
        exchange.credentials = keys[0]
        return keys
    return [exchange.credentials, *(exchange.add_account() for _ in range(accounts - 1))]


def _balance(texts: Sequence[str], problems: list[Problem]) -> BalanceSpec | None:
    balance: dict[str, tuple[str, str]] = {}
    for text in texts:
        found = _BALANCE.fullmatch(text)
        if found is None:
            problems.append(
                Problem("", "--balance", f"expected CURRENCY=FREE or CURRENCY=FREE:HELD, not {text!r}")
            )
            continue
        one = {found[1]: (found[2], found[3] or "0")}
        mistake = balance_mistake(one)
        if found[1] in balance:
            mistake = f"expected {found[1]} once, and it is there twice"
        if mistake:
            problems.append(Problem("", "--balance", mistake))
        balance |= one
    return balance if texts else None


def _call_words(answered: ServedCall) -> str:
    answer = answered.answer
    what = "no whole answer" if isinstance(answer, Broken) else str(answer.status)
    met = f"  ({answered.trouble.fault})" if answered.trouble.fault else ""
    # As it was sent: decoded, it could hold what a terminal obeys.
    return f"{answered.call.method} {answered.call.target.partition('?')[0]}  {what}{met}"


def _said_json(exchange: SimulatedExchange, keys: Sequence[Mapping[str, str]]) -> str:
    return json.dumps(
        {
            "exchange": exchange.ccxt_id,
            "url": exchange.url,
            "credentials": keys[0],
            "ccxt": ccxt_config(exchange, keys[0]),
            "accounts": list(keys),
        }
    )


def _said(exchange: SimulatedExchange, keys: Sequence[Mapping[str, str]]) -> list[str]:
    """What people read: Python and TOML to copy."""
    name = exchange.ccxt_id
    shown = [
        f"A simulated {name} is at {exchange.url}; its keys and its money are made up. Ctrl-C ends it.",
        "",
        "ccxt comes here with:",
        "",
        "    import ccxt",
        "",
        f"    exchange = ccxt.{name}({{",
        *(f"        {key!r}: {value!r}," for key, value in ccxt_config(exchange, keys[0]).items()),
        "    })",
        "",
        "brokerwatch comes here with this in its configuration:",
        "",
        f"    [brokers.{name}-simulated]",
        f'    exchange = "{name}"',
        "",
        *_toml(f"brokers.{name}-simulated.ccxt", exchange.ccxt_options()),
        "",
        "and this in the shell that runs it:",
        "",
        *(
            # One line, also for a PEM key: the configuration reads \n as the end of a line.
            f"    export {name.upper()}_SIMULATED_{_VARIABLES[key]}="
            + shlex.quote(value.replace("\n", "\\n"))
            for key, value in keys[0].items()
        ),
    ]
    for number, one in enumerate(keys[1:], 2):
        named = {CCXT_NAMES.get(key, key): value for key, value in one.items()}
        shown += ["", f"account {number} has these keys:", ""]
        shown += [f"    {key!r}: {value!r}," for key, value in named.items()]
    return shown


def _toml(path: str, options: Mapping[str, Any]) -> list[str]:
    """A table of texts and tables in TOML."""
    texts = [f'    {key} = "{value}"' for key, value in options.items() if isinstance(value, str)]
    inner = [_toml(f"{path}.{key}", value) for key, value in options.items() if not isinstance(value, str)]
    return [*([f"    [{path}]", *texts] if texts else []), *(line for table in inner for line in table)]
