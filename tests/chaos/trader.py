"""A trading program with a cluster of its own, which means to place each order once.

`python -m tests.chaos.trader CONFIG JOURNAL`. It buys a little at each account now and then, each on a thread
of its own. The id and the size of an order are in its journal before it is sent. After a start it sends each
order whose outcome it does not know again, with the same id, as docs/embed.md says.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from brokerwatch import BrokerwatchError, Cluster, EntryRefused, OrderNotSent, OrderRefused, OrderStateUnknown
from brokerwatch.cluster.broker import Broker
from tests.chaos.lines import LineFile, lines_of

PAUSE_S: Final = 0.5
SYMBOLS: Final = {"kraken": "BTC/USD", "coinbase": "BTC/USD", "okx": "BTC/USDT"}
SMALLEST: Final = Decimal(50)
STEP: Final = Decimal(1)
PLACED, NOT_PLACED, UNKNOWN = "placed", "not placed", ""


@dataclass(frozen=True, slots=True)
class Order:
    """One order that is meant to be placed once."""

    account: str
    order_id: str
    size: str


class Journal:
    """What was meant and what became of it, before and after each attempt."""

    def __init__(self, path: Path) -> None:
        self._unknown: dict[str, Order] = {}
        self._sizes: dict[str, Decimal] = {}
        """The size of the newest order of each account."""
        for line in lines_of(path):
            if "meant" in line:
                order = Order(*line["meant"])
                self._unknown[order.order_id] = order
                self._sizes[order.account] = Decimal(order.size)
            elif line.get("end"):
                self._unknown.pop(line["order"], None)
        self._file = LineFile(path)

    def unknown(self, account: str) -> deque[Order]:
        """The orders of an account whose outcome was unknown when the program began."""
        return deque(order for order in self._unknown.values() if order.account == account)

    def mean(self, account: str, order_id: str) -> Order:
        """A new order, of a size of its own. Raises OSError, and is none, where it cannot be written."""
        size = self._sizes[account] = self._sizes.get(account, SMALLEST) + STEP
        order = Order(account, order_id, f"{size:.2f}")
        self._file.write(meant=[order.account, order.order_id, order.size])
        return order

    def end(self, order: Order, end: str, why: str) -> None:
        """What became of an attempt. What cannot be written down stays unknown to the next life."""
        with contextlib.suppress(OSError):
            self._file.write(order=order.order_id, end=end, why=why[:200])


def attempt(broker: Broker, order: Order) -> tuple[str, str]:
    """Send an order, or ask for it when it was sent before."""
    try:
        broker.place_market_order(
            SYMBOLS[broker.exchange],
            "buy",
            quote_amount=Decimal(order.size),
            validate_only=False,
            client_order_id=order.order_id,
        )
    except OrderStateUnknown as error:
        return UNKNOWN, str(error)
    except (EntryRefused, OrderNotSent, OrderRefused) as error:
        return NOT_PLACED, f"{type(error).__name__}: {error}"
    except BrokerwatchError as error:  # the documentation promises that nothing was sent
        return NOT_PLACED, f"{type(error).__name__}: {error}"
    return PLACED, ""


def trade(broker: Broker, journal: Journal, begun: threading.Event) -> None:
    """Place orders at one account for ever."""
    chance, unknown = random.Random(), journal.unknown(broker.name)
    begun.wait()
    pause = threading.Event()
    while not pause.wait(PAUSE_S * chance.uniform(0.5, 1.5)):
        if unknown and chance.random() < 0.7:
            order = unknown.popleft()
        elif broker.is_available():
            try:
                order = journal.mean(broker.name, broker.new_order_id())
            except OSError:
                continue  # its disk is full
        else:
            continue
        end, why = attempt(broker, order)
        journal.end(order, end, why)
        if end == UNKNOWN:
            unknown.append(order)


def main() -> None:
    """Trade until the process is ended."""
    config, path = sys.argv[1:]
    journal, begun = Journal(Path(path)), threading.Event()
    with Cluster.from_config(config) as cluster:
        for reading in cluster.readings():
            broker = cluster.broker(reading.broker)
            threading.Thread(target=trade, args=(broker, journal, begun), daemon=True).start()
        begun.set()
        threading.Event().wait()


if __name__ == "__main__":
    main()
