"""The simulated exchanges in a process of their own, so that their work is not counted as brokerwatch's.

The first request, `{"accounts": {"kraken": 10, ...}}`, is answered with the addresses and the credentials.
Each later one is answered with the CPU seconds used so far, the number of private calls, and the moment in
monotonic seconds, which are those of all processes. `fixed` replaces what an exchange answers to a path, and
`do` calls a method of an exchange, or of its websockets. Signatures and nonces are checked as always.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from benchmarks.elsewhere import answer, heard
from benchmarks.measure import run
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.simulator import (
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
    streams,
)

KINDS: Final[Mapping[str, type[SimulatedExchange]]] = {
    "kraken": SimulatedKraken,
    "okx": SimulatedOkx,
    "coinbase": SimulatedCoinbase,
}
PAIRS: Final = 1_100
"""About what Kraken lists."""


def spec(exchange: str, place: Mapping[str, Any], number: int = 0, **values: Any) -> BrokerSpec:
    """One of the accounts at an exchange that was told of."""
    return BrokerSpec(
        f"{exchange}-{number}",
        exchange=exchange,
        credentials=MappingProxyType(dict(place["credentials"][number])),
        ccxt=MappingProxyType(dict(place["options"])),
        simulated=True,
        **values,
    )


def serve_here(arguments: list[str]) -> None:
    """The other process."""
    del arguments
    told = heard()
    wanted: Mapping[str, int] = next(told)["accounts"]
    exchanges = {name: KINDS[name]() for name in wanted}
    keys = {
        name: [exchange.credentials, *(exchange.add_account() for _ in range(wanted[name] - 1))]
        for name, exchange in exchanges.items()
    }
    with serve(*exchanges.values()):
        answer(
            {
                name: {"options": exchange.ccxt_options(), "credentials": keys[name], "url": exchange.url}
                for name, exchange in exchanges.items()
            }
        )
        for words in told:
            if "fixed" in words:
                exchanges[words["fixed"]].set_answer(words["body"], path=words["path"], public=True)
            if "many_pairs" in words:
                list_many_pairs(exchanges["kraken"])
            if "look_s" in words:
                # A thousand connections that are each looked at a hundred times a second fill a core.
                streams.LOOK_S = words["look_s"]  # type: ignore[misc] # pyright: ignore[reportConstantRedefinition, reportAttributeAccessIssue] - for this process
            if "do" in words:
                place: Any = exchanges[words["exchange"]]
                place = place.streams if words.get("streams") else place
                getattr(place, words["do"])(*words.get("values", ()), **words.get("named", {}))
            answer(
                {
                    "cpu_s": time.process_time(),
                    "calls": sum(exchange.private_calls for exchange in exchanges.values()),
                    "at_s": time.monotonic(),
                }
            )


def list_many_pairs(kraken: SimulatedExchange) -> None:
    """Let it list as many markets as the real one: made up, each in the form of the ones that it has."""
    for path, key in (("/0/public/Assets", "ZUSD"), ("/0/public/AssetPairs", "XXBTZUSD")):
        with urllib.request.urlopen(kraken.url + path) as page:
            listed = json.load(page)
        for number in range(PAIRS):
            name = f"MADE{number:04d}"
            if path.endswith("Assets"):
                listed["result"][name] = {**listed["result"][key], "altname": name}
            else:
                named = {"altname": f"{name}USD", "wsname": f"{name}/USD", "base": name}
                listed["result"][f"{name}ZUSD"] = {**listed["result"][key], **named}
        kraken.set_answer(json.dumps(listed), path=path, public=True)


if __name__ == "__main__":
    run(lambda quick: {}, {"serve": serve_here})  # noqa: ARG005 - this module measures nothing
