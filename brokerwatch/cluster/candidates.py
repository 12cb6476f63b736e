"""What the router knows of each broker of a cluster at this moment: from memory, without a wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from brokerwatch.actors.board import Board
from brokerwatch.cluster.exchange_watch import ExchangeWatch
from brokerwatch.cluster.wiring import WiredAccount
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.routing.objections import Candidate


def candidates(
    specs: Mapping[str, BrokerSpec],
    board: Board,
    accounts: Mapping[str, WiredAccount],
    watch: ExchangeWatch,
) -> Iterator[Candidate]:
    """Each broker in the order of the configuration. What is not known yet is asked for meanwhile."""
    for place, (name, spec) in enumerate(specs.items()):
        account, slot = accounts.get(name), board.find(name)
        if slot is None:
            continue  # it is leaving
        markets = None if account is None else account.access.venue.known
        if account is not None and markets is None:
            watch.want_markets(account)
        if account is not None and spec.trading:
            account.entry.look_up_verification()
        yield Candidate(
            reading=slot.reading,
            products=markets,
            listed=place,
            # Without `trading` the trader places orders by other means: there is nothing to refuse here.
            trading=spec.trading or None,
            unaccounted="" if account is None else account.executor.unaccounted,
            unverified="" if account is None or not spec.trading else account.entry.unverified,
            knowable=spec.fetch is None,
        )
