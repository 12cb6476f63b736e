"""A cluster on simulated exchanges, and a story that breaks them one after the other.

Nothing of it touches a real account: the exchanges are HTTP servers on this machine that check
real signatures, ccxt is the real one, and every reading says `simulated`.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from brokerwatch.cli.scenario import MEND, Scene, tell_story
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.errors import ConfigError
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.storage.locks import private_folder
from brokerwatch.storage.state_folder import folder_of

POLL_S: Final = 0.5
DEADLINE_S: Final = 1.0
HEARTBEAT_S: Final = 0.5

PROPER: Final = {"kraken": "Kraken", "coinbase": "Coinbase", "okx": "OKX"}
OPENING: Final = (
    Scene(2.0, "kraken", "http_502_html", "Kraken answers one request with 502: a glitch", times=1),
    Scene(1.0, "coinbase", "exchange_down", "Coinbase is down"),
    Scene(0.5, "okx", "hang", "OKX accepts requests and never answers"),
    Scene(4.5, "coinbase", MEND, "Coinbase is back"),
    Scene(1.5, "okx", MEND, "OKX is back"),
)
"""Within 15 s: a glitch, an outage with its recovery, and a hang with its recovery."""

OUTAGES: Final = (
    (
        "kraken",
        "empty_body",
        "Kraken answers 200 with an empty body: ccxt alone would call it an empty account",
    ),
    ("coinbase", "html_200", "Coinbase answers 200 with an HTML page"),
    ("okx", "cut_json", "OKX answers with half of its JSON"),
    ("kraken", "rate_limited", "Kraken says that the key asks too often"),
    ("coinbase", "permission", "Coinbase says that the key may not read balances"),
    ("okx", "maintenance", "OKX is in maintenance"),
    ("kraken", "nan_amount", "Kraken states an amount of NaN"),
    ("okx", "reset", "OKX resets every connection"),
)


def scenes() -> Iterator[Scene]:
    """The opening, and then one outage after the other for ever."""
    yield from OPENING
    for exchange, fault, says in itertools.cycle(OUTAGES):
        yield Scene(4.0, exchange, fault, says)
        yield Scene(4.0, exchange, MEND, f"{PROPER[exchange]} is back")


@contextmanager
def simulated_settings(tell: Callable[[str], None]) -> Generator[tuple[Settings, Callable[[], None]]]:
    """Settings for three simulated accounts, served until the block is left; and what begins their troubles.

    `tell` is given each sentence of the story, on the story's own thread.
    """
    exchanges: dict[str, SimulatedExchange] = {
        "kraken": SimulatedKraken(),
        "coinbase": SimulatedCoinbase(),
        "okx": SimulatedOkx(),
    }
    exchanges["kraken"].set_balance({"USD": ("12500.00", "250.00"), "BTC": ("0.75", "0.10")})
    exchanges["coinbase"].set_balance({"USD": ("3100.55", "0"), "USDC": ("900.00", "100.00")})
    exchanges["okx"].set_balance({"USDT": ("7421.1834", "0"), "ETH": ("4.2", "0")})
    ended = threading.Event()
    with serve(*exchanges.values()):
        story = threading.Thread(
            target=tell_story, args=(scenes(), exchanges, ended, tell), name="story", daemon=True
        )
        settings = Settings(
            _cluster(),
            tuple(_spec(name, exchange) for name, exchange in exchanges.items()),
        )
        try:
            yield settings, story.start
        finally:
            ended.set()
            if story.ident is not None:
                story.join()


def _cluster() -> ClusterSettings:
    """The settings of the demo. It needs no state folder, so it runs where the user has no home."""
    settings = ClusterSettings(name="demo", heartbeat_s=HEARTBEAT_S)
    try:
        usable = os.access(private_folder(folder_of(settings)), os.W_OK)
    except (ConfigError, OSError):
        usable = False
    return settings if usable else replace(settings, remember=False)


def _spec(name: str, exchange: SimulatedExchange) -> BrokerSpec:
    return BrokerSpec(
        f"{name}-demo",
        exchange=exchange.ccxt_id,
        poll_interval_s=POLL_S,
        fetch_deadline_s=DEADLINE_S,
        credentials=MappingProxyType(dict(exchange.credentials)),
        ccxt=MappingProxyType(exchange.ccxt_options()),
        simulated=True,
    )
