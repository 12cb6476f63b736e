"""What `brokerwatch simulate` says: how a client comes to a simulated exchange, and what it was asked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from brokerwatch.cli.simulation_file import Simulation
from brokerwatch.config.broker_spec import CCXT_NAMES
from brokerwatch.simulator import Broken, ServedCall
from brokerwatch.simulator.ccxt_config import ccxt_config

_VARIABLES: Final = {"api_key": "API_KEY", "secret": "API_SECRET", "password": "API_PASSPHRASE"}


def call_words(answered: ServedCall) -> str:
    """A call in a line of a terminal."""
    answer = answered.answer
    what = "no whole answer" if isinstance(answer, Broken) else str(answer.status)
    met = f"  ({answered.trouble.fault})" if answered.trouble.fault else ""
    # As it was sent: decoded, it could hold what a terminal obeys.
    return f"{answered.call.method} {answered.call.target.partition('?')[0]}  {what}{met}"


def in_json(simulations: Sequence[Simulation]) -> str:
    """What scripts read: one object, or a list of them where there is a file with sections."""
    objects = [_object(one) for one in simulations]
    return json.dumps({"exchanges": objects} if simulations[0].name else objects[0])


def in_words(simulations: Sequence[Simulation]) -> list[str]:
    """What people read: Python and TOML to copy."""
    if not simulations[0].name:
        return _said(simulations[0])
    shown = [
        f"{len(simulations)} simulated exchanges. Their keys and their money are made up. Ctrl-C ends them."
    ]
    for one in simulations:
        shown += ["", f"--- {one.name} ---", "", *_said(one)]
    return shown


def _object(one: Simulation) -> dict[str, object]:
    return {
        **({"name": one.name} if one.name else {}),
        "exchange": one.exchange.ccxt_id,
        "url": one.exchange.url,
        "credentials": one.keys[0],
        "ccxt": ccxt_config(one.exchange, one.keys[0]),
        "accounts": list(one.keys),
    }


def _said(one: Simulation) -> list[str]:
    exchange, keys, name = one.exchange, one.keys, one.exchange.ccxt_id
    broker = f"{one.label}-simulated"
    variable = broker.upper().replace("-", "_")
    end = "" if one.name else " Ctrl-C ends it."
    shown = [
        f"A simulated {name} is at {exchange.url}; its keys and its money are made up.{end}",
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
        f"    [brokers.{broker}]",
        f'    exchange = "{name}"',
        "",
        *_toml(f"brokers.{broker}.ccxt", exchange.ccxt_options()),
        "",
        "and this in the shell that runs it:",
        "",
        *(
            # One line, also for a PEM key: the configuration reads \n as the end of a line.
            f"    export {variable}_{_VARIABLES[key]}=" + shlex.quote(value.replace("\n", "\\n"))
            for key, value in keys[0].items()
        ),
    ]
    for number, each in enumerate(keys[1:], 2):
        named = {CCXT_NAMES.get(key, key): value for key, value in each.items()}
        shown += ["", f"account {number} has these keys:", ""]
        shown += [f"    {key!r}: {value!r}," for key, value in named.items()]
    return shown


def _toml(path: str, options: Mapping[str, Any]) -> list[str]:
    """A table of texts and tables in TOML."""
    texts = [f'    {key} = "{value}"' for key, value in options.items() if isinstance(value, str)]
    inner = [_toml(f"{path}.{key}", value) for key, value in options.items() if not isinstance(value, str)]
    return [*([f"    [{path}]", *texts] if texts else []), *(line for table in inner for line in table)]
