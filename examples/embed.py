"""A small trading loop that survives an outage: it buys only where the account can be trusted.

Run it beside a brokerwatch.toml whose brokers say `trading = true`; Ctrl-C ends it. As it stands it only
has its orders checked (DRY_RUN), at the exchanges that can do that.
"""

from __future__ import annotations

import signal
import threading
from decimal import Decimal

from brokerwatch import Change, Cluster, CouldNotAsk, Need, OrderError, OrderStateUnknown

DRY_RUN = True
SYMBOL, STAKE = "BTC/USD", Decimal("50")

stop = threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
signal.signal(signal.SIGTERM, lambda *_: stop.set())


def tell(change: Change) -> None:
    """Somebody has become available, or is not any more. Runs on a thread of its own."""
    if change.lost or change.regained:
        print(f"{change.broker}: {change.after.reason}: {change.after.detail}", flush=True)


def prices_say_buy(cluster: Cluster, broker: str) -> bool:
    """Your strategy. This one buys whenever it can see the last two closes."""
    closes = [candle.close for candle in cluster.broker(broker).get_candles(SYMBOL, "1m", 2)]
    return len(closes) == 2


with Cluster.from_config("brokerwatch.toml") as cluster:
    cluster.router.on_change(tell)
    while not stop.wait(0.5):
        # From memory: nobody is asked, and nothing waits.
        choice = cluster.router.pick(Need(symbol=SYMBOL, side="buy", quote_amount=STAKE))
        if choice.broker is None:
            print(choice.why(), flush=True)
            continue
        broker = cluster.broker(choice.broker)
        try:
            if not prices_say_buy(cluster, broker.name):
                continue
            order = broker.place_market_order(SYMBOL, "buy", quote_amount=STAKE, validate_only=DRY_RUN)
        except OrderStateUnknown as unknown:
            # Sent, and nobody knows. The next order looks it up first, and none goes out until it is found.
            print(f"{broker.name}: {unknown}", flush=True)
        except (OrderError, CouldNotAsk) as error:
            # Nothing was placed: the next round picks again, perhaps somebody else.
            print(f"{broker.name}: {error}", flush=True)
        else:
            print(f"{broker.name}: {order.state}: {order.quote_amount} {SYMBOL}", flush=True)
