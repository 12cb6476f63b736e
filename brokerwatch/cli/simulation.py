"""Simulated exchanges as a program of their own: `brokerwatch simulate`.

It says what a client needs to come here instead of to the real exchange, and serves until it is
stopped. Every mistake in what was asked for is named at once, and then nothing starts.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from brokerwatch.cli.output import LOOK_UP_S, LineWriter, emit_all
from brokerwatch.cli.scenario import balance_mistake, fault_mistake, read_scene, read_script, tell_story
from brokerwatch.cli.signals import Stop, stop_signals
from brokerwatch.cli.simulation_file import Simulation, opened_accounts, read_simulations
from brokerwatch.cli.simulation_log import SimulationLog
from brokerwatch.cli.simulation_words import call_words, in_json, in_words
from brokerwatch.errors import ConfigError, Problem, ReaderGone
from brokerwatch.simulator import (
    EXCHANGES,
    FAULTS,
    BalanceSpec,
    PortUnavailable,
    ServedCall,
    SimulatedExchange,
    serve,
)
from brokerwatch.simulator.faults import Answer, json_answer

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
    fees: bool = False,
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
    keys = opened_accounts(exchange, accounts, port)
    api_keys = [one["api_key"] for one in keys]
    scenes = iter(()) if script is None else read_script(script, exchange, api_keys, problems)
    if problems:
        raise ConfigError(tuple(problems))
    if balance is not None:
        for api_key in api_keys:
            exchange.set_balance(balance, account=api_key)
    if fault is not None:
        exchange.set_fault(fault)
    exchange.charges_fees = fees
    _serve([Simulation(exchange, keys, port, scenes)], as_json=as_json, log=log)


def run_file(path: Path, beside: Sequence[str], *, as_json: bool, log: Path | None = None) -> None:
    """Serve the exchanges of a file until they are stopped. Raises ConfigError when they cannot be.

    Args:
        path: the file of `--config`.
        beside: what else was given on the command line, and belongs into the file.
        as_json: one line of JSON in place of the words.
        log: the file that each call and each scene is added to.
    """
    problems = [Problem("", each, "expected in a section of the file of --config") for each in beside]
    simulations = read_simulations(path, problems)
    if problems:
        raise ConfigError(tuple(problems))
    _serve(simulations, as_json=as_json, log=log)


def _serve(simulations: Sequence[Simulation], *, as_json: bool, log: Path | None) -> None:
    live = sys.stdout.isatty() and not as_json
    by_exchange = {id(one.exchange): one for one in simulations}
    with SimulationLog(log) as written, stop_signals() as stopped, LineWriter(stopped.is_set) as lines:

        def tell(sentence: str, one: Simulation) -> None:
            if live:
                named = f"{one.name}: " if one.name and not sentence.startswith(f"{one.name}: ") else ""
                with contextlib.suppress(ReaderGone):  # the terminal is gone, and a signal comes with that
                    lines.emit(f"{datetime.now().astimezone():%H:%M:%S}  {named}{sentence}")

        def tell_scene(sentence: str, one: Simulation) -> None:
            written.scene(one.exchange.ccxt_id, sentence, one.name)
            tell(sentence, one)

        def tell_call(answered: ServedCall) -> None:
            one = by_exchange[id(answered.exchange)]
            written.call(one.exchange.ccxt_id, answered, one.name)
            tell(call_words(answered), one)

        def obey(exchange: SimulatedExchange, text: str) -> Answer:
            one = by_exchange[id(exchange)]
            mistakes: list[Problem] = []
            scene = read_scene(text, exchange, [keys["api_key"] for keys in one.keys], mistakes)
            if scene is None:
                return json_answer({"mistakes": [str(mistake) for mistake in mistakes]}, 400)
            scene.happen(exchange)
            tell_scene(scene.says, one)
            return json_answer({"scene": scene.says})

        def play(one: Simulation) -> None:
            told = {one.exchange.ccxt_id: one.exchange}
            tell_story(one.scenes, told, stopped, lambda sentence: tell_scene(sentence, one))

        try:
            with serve(
                *(one.exchange for one in simulations),
                ports=[one.port for one in simulations],
                watcher=tell_call,
                operator=obey,
            ):
                for line in [in_json(simulations)] if as_json else in_words(simulations):
                    lines.emit(line)
                for one in simulations:
                    threading.Thread(target=play, args=(one,), name=f"story-{one.label}", daemon=True).start()
                _wait(stopped)
        except PortUnavailable as error:
            raise ConfigError(
                (Problem("", "port" if simulations[0].name else "--port", error.strerror or str(error)),)
            ) from error


def _wait(stopped: Stop) -> None:
    """Wait for the end; the exchanges are served meanwhile."""
    # With a limit: a signal that comes just before a wait without one is not noticed in it.
    while not stopped.wait(LOOK_UP_S):
        pass


def list_faults(*, as_json: bool) -> None:
    """Say every fault there is, with its sentence."""
    width = max(map(len, FAULTS))
    emit_all(
        [json.dumps(dict(FAULTS))]
        if as_json
        else [f"{name:<{width}}  {sentence}" for name, sentence in FAULTS.items()]
    )


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
