"""A small trading bot that survives an outage: it buys only where an account can be trusted.

Run it beside a brokerwatch.toml whose brokers say `trading = true`; Ctrl-C ends it. As it stands its
orders are only checked, which moves no money; with LIVE=yes in the environment they are placed.
"""

import logging
import os
import signal
import time
from decimal import Decimal

from brokerwatch import BrokerwatchError, Change, Cluster, InvalidOrder, Need, OrderStateUnknown

LIVE = os.environ.get("LIVE") == "yes"
PAUSE_S = float(os.environ.get("PAUSE_S", "10"))
SYMBOL, STAKE = "BTC/USD", Decimal("50")
OLDEST_PRICE_S = 180  # a candle of a minute begins at most two minutes ago where prices come

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
log = logging.getLogger("bot")


def tell(change: Change) -> None:
    """An account was lost or is back. Runs on a thread of its own."""
    if change.lost or change.regained:
        log.info("%s is %s: %s", change.broker, "out" if change.lost else "back", change.after.reason)


def advice(cluster: Cluster, *names: str) -> str:
    """Your strategy: "buy", "sell" or "wait". This one follows the price of the last minute."""
    for broker in map(cluster.broker, names):  # the first that has prices
        try:
            candles = broker.get_candles(SYMBOL, "1m", 2, timeout_s=2.0)
        except BrokerwatchError as error:
            log.info("%s: no prices: %s", broker.name, error)
            continue
        if len(candles) < 2:
            log.info("%s: fewer than two prices", broker.name)
        elif (age_s := time.time() - candles[1].start_us / 1e6) >= OLDEST_PRICE_S:
            log.info("%s: the newest price is %.0f s old", broker.name, age_s)
        else:
            return "sell" if candles[1].close < candles[0].close else "buy"
    return "wait"


def enter(cluster: Cluster) -> str | None:
    """Buy, if that is the advice. The account that may hold something now; None when none does."""
    choice = cluster.router.pick(Need(symbol=SYMBOL, side="buy", quote_amount=STAKE))  # from memory
    if choice.broker is None:
        log.info("%s", choice.why())
        return None
    # No order at an exchange without prices: the next best account instead.
    for one in choice.ranked:
        if (advised := advice(cluster, one.broker)) == "buy":
            broker = cluster.broker(one.broker)
            break
        log.info("%s: nothing was bought: the advice is to %s", one.broker, advised)
    else:
        return None
    try:
        order = broker.place_market_order(SYMBOL, "buy", quote_amount=STAKE, validate_only=not LIVE)
    except OrderStateUnknown as error:
        log.warning("%s", error)
        return broker.name  # it may have been bought, so it is not bought again
    except BrokerwatchError as error:
        log.info("%s: nothing was bought: %s", broker.name, error)
        return None  # the next round picks again, perhaps another account
    log.info("%s: buy for %s: %s", broker.name, STAKE, order.state)
    return broker.name if LIVE else None


def leave(cluster: Cluster, name: str) -> str | None:
    """Sell all that the account has, if that is the advice. The account, as long as it may hold something."""
    others = [reading.broker for reading in cluster.readings() if reading.broker != name]
    advised = advice(cluster, name, *others)  # the prices of any exchange will do
    if advised != "sell":
        log.info("%s: nothing was sold: the advice is to %s", name, advised)
        return name
    try:
        order = cluster.broker(name).close_position(SYMBOL, validate_only=not LIVE)
    except InvalidOrder as error:
        log.info("%s: nothing to sell: %s", name, error)
        return None
    except BrokerwatchError as error:
        log.warning("%s: not sold yet: %s", name, error)
        return name  # the next round tries again: an exit is never refused for the account's health
    log.info("%s: sell %s: %s", name, order.base_amount, order.state)
    return None


def main() -> None:
    """Trade until Ctrl-C or SIGTERM."""
    running = True

    def end(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    holder: str | None = None
    with Cluster.from_config("brokerwatch.toml") as cluster:
        cluster.router.on_change(tell)
        next_s = 0.0
        while running:
            time.sleep(0.1)  # short, so that Ctrl-C is noticed soon
            if time.monotonic() < next_s:
                continue
            next_s = time.monotonic() + PAUSE_S
            holder = enter(cluster) if holder is None else leave(cluster, holder)


if __name__ == "__main__":
    main()
