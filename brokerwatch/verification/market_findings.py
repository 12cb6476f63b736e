"""What answers about markets prove: the list of them, their candles, and how they are named.

See account_findings.py; this is the part about what is public.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Final

from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import Candle, Product
from brokerwatch.money import is_money, plain
from brokerwatch.verification.checklist import Judgement, failed, passed, warned

CANDLE_US: Final = 60_000_000
"""The verification looks at candles of a minute."""
STALE_S: Final = 300.0
"""BTC trades many times a minute on any exchange that is worth a strategy."""
FUTURE_S: Final = 60.0
GAPS_FAIL: Final = Decimal("0.1")
"""So much of the minutes may lack a candle: some exchanges have none for a minute without a trade."""
JUMP: Final = Decimal("0.2")
"""From one minute to the next a price does not move by so much, nor within one."""
APART: Final = Decimal("0.05")
"""So far a price may be from what another answer says of the same market."""

MOST_NAMED: Final = 3
"""So many of what is wrong are named."""
MISSING_SHARE: Final = Decimal("0.05")
"""So many markets of a second list may be absent in the first: what is just being delisted is in one only."""


def products(
    exchange: str,
    well_known: Sequence[tuple[str, tuple[str, ...]]],
    found: Products,
    *,
    holdings: Iterable[str],
    second: Collection[str] | None,
    counted: int | None,
    unlisted: Collection[str],
    doubled: Collection[str] = (),
) -> Judgement:
    """Whether the list of markets is whole: by the markets that every exchange has, by what the account
    holds, by the exchange's own count, and by a second list of it, each where there is one.

    `well_known`: markets that must be listed, see `Profile.well_known`; `second`: ids of spot markets from
    another answer; `unlisted`: markets of open orders that it lacks; `doubled`: symbols that name two markets
    of the exchange.
    """
    spot = [each for each in found if each.kind == "spot"]
    gone = [
        f"{base}/{quotes[0]}"
        for base, quotes in well_known
        if not any(found.pair(base, quote) for quote in quotes)
    ]
    if not len(found):
        return failed(f"{exchange} lists no market at all")
    if gone:
        return failed(f"{len(spot)} spot markets, and {', '.join(gone)} is not among them")
    if unlisted:
        return failed(
            f"{len(spot)} spot markets, and none is called {', '.join(sorted(unlisted))}, "
            "where orders are open"
        )
    if doubled:
        return failed(f"{len(spot)} spot markets, and {', '.join(sorted(doubled)[:4])} is there twice")
    traded = {code for each in spot for code in (each.base, each.quote)}
    strange = sorted(code for code in holdings if code not in traded and "." not in code)
    coins = [code for code in strange if not is_money(code)]
    if counted is not None and counted != len(spot):
        return failed(f"{exchange} counts {counted} spot markets, and its list has {len(spot)}")
    missing: list[str] = []
    if second:
        missing = sorted(set(second) - {each.id for each in spot})
        if len(missing) > len(second) * MISSING_SHARE:
            return failed(
                f"the list has {len(spot)} spot markets; {exchange} quotes prices of {len(missing)} others, "
                f"such as {', '.join(missing[:4])}"
            )
    closed = sum(not each.active for each in spot)
    shown = f"{len(found)} markets, {len(spot)} of them spot{f', {closed} closed' if closed else ''}"
    if coins:
        return warned(f"{shown}; the account holds {', '.join(coins)}, which is traded in none of them")
    witnesses: list[str] = []
    if second:
        witnesses.append(f"it has {len(second) - len(missing)} of {len(second)} that are quoted a price")
    if counted is not None:
        witnesses.append(f"{exchange} counts {counted}")
    # Without a witness it stands on the markets that every exchange has, and on what the account holds.
    return passed(f"{shown}; {' and '.join(witnesses) or 'nothing else says how many there are'}")


def candles_fresh(candles: Sequence[Candle], now_s: float, symbol: str) -> Judgement:
    """Whether the newest candle is of now; `now_s` by the exchange's clock, seconds since 1970."""
    if not candles:
        return failed(f"no candle of {symbol} at all")
    age_s = now_s - candles[-1].start_us / 1_000_000
    if age_s < -FUTURE_S:
        return failed(f"the newest candle of {symbol} begins {-age_s:.0f} s in the future")
    text = f"the newest candle of {symbol} began {max(0.0, age_s):.0f} s ago"
    if age_s > STALE_S:
        return failed(f"{text}: prices are stale")
    return passed(text)


def candles_ordered(candles: Sequence[Candle], asked: int) -> Judgement:
    """Whether they follow one another, minute by minute."""
    starts = [candle.start_us for candle in candles]
    if len(starts) < 2:
        return failed(f"{len(starts)} candles, of {asked} that were asked for: no order can be seen")
    if any(start % CANDLE_US for start in starts):
        return failed("a candle of a minute does not begin with one")
    if any(after <= before for before, after in pairwise(starts)):
        return failed("the candles are in no order")
    span = (starts[-1] - starts[0]) // CANDLE_US + 1
    missing = span - len(starts)
    if missing > span * GAPS_FAIL:
        return failed(f"{missing} of {span} minutes have no candle")
    if missing:
        return warned(f"{missing} of {span} minutes have no candle")
    return passed(f"{len(starts)} candles of a minute, none missing between them")


def candles_plausible(candles: Sequence[Candle], symbol: str, other: tuple[str, Decimal] | None) -> Judgement:
    """Whether the prices can be; `other`: what another answer says a price is, and what that answer is."""
    if not candles:
        return failed(f"no candle of {symbol} at all")
    for candle in candles:
        low, high = sorted((candle.open, candle.close))
        if not 0 < candle.low <= low <= high <= candle.high or candle.volume < 0:
            return failed(
                f"no candle can go from {plain(candle.open)} to {plain(candle.close)} between "
                f"{plain(candle.low)} and {plain(candle.high)}, with {plain(candle.volume)} traded"
            )
        if candle.high > candle.low * (1 + JUMP):
            return failed(f"within one minute from {plain(candle.low)} to {plain(candle.high)}")
    for before, after in pairwise(candles):
        if abs(after.open - before.close) > before.close * JUMP:
            return failed(f"from {plain(before.close)} to {plain(after.open)} between two minutes")
    last = candles[-1].close
    if other is None:
        return warned(f"{symbol} at {plain(last)}; nothing else says what it costs, so that is not confirmed")
    name, price = other
    if abs(price - last) > last * APART:
        return failed(f"{symbol} at {plain(last)} by its candles, and at {plain(price)} by {name}")
    if not any(candle.volume for candle in candles):
        return warned(f"{symbol} at {plain(last)}, and nothing was traded in {len(candles)} minutes")
    return passed(f"{symbol} at {plain(last)}; {name} says {plain(price)}")


def spellings(product: Product) -> tuple[str, ...]:
    """How people and exchanges write a market."""
    base, quote = product.base, product.quote
    old = {"BTC": "XBT", "DOGE": "XDG"}.get(base, base)
    return tuple(
        dict.fromkeys(
            (
                f"{base}/{quote}",
                f"{base}-{quote}",
                f"{base}_{quote}",
                f"{base}{quote}",
                f"{base.lower()}-{quote.lower()}",
                f"{old}/{quote}",
                f"{old}{quote}",
                product.id,
            )
        )
    )


def normalised(product: Product, read: Mapping[str, str], wrong_names: Sequence[str]) -> Judgement:
    """Whether every spelling was read as this market, and no market has the name of another one.

    `read`: spelling to symbol, or to what went wrong; `wrong_names` as from `misnamed`.
    """
    if not read:
        return failed(f"no spelling of {product.symbol} was read")
    wrong = [f"{text} as {meant}" for text, meant in read.items() if meant != product.symbol]
    if wrong:
        return failed(f"{product.symbol}: read {', '.join(wrong)}")
    if wrong_names:
        return failed("; ".join(wrong_names[:MOST_NAMED]))
    return passed(f"{', '.join(read)} are all {product.symbol}")


def refused(product: Product | None, meant: str, why: str) -> Judgement:
    """Whether BTC/BUSD is refused.

    `meant`: what it was read as, which is `product` where it is listed; empty: it was refused, for `why`.
    """
    if not meant:
        return passed(f"refused: {why}")
    if product is not None and (product.base, product.quote) == ("BTC", "BUSD") and not product.active:
        return warned(f"{meant} is still listed, and closed for trading")
    return failed(f"BTC/BUSD is read as {meant}: BUSD is not paid out any more")


def misnamed(listed: Products, code: Callable[[str], str]) -> tuple[str, ...]:
    """The spot markets whose id is the name of another one that is listed, in words.

    `code` gives the common code of a currency in the exchange's own: Kraken's LUNAUSD is LUNC/USD. An id that
    cannot be read, such as a number, says nothing.
    """
    found: list[str] = []
    for each in listed:
        if each.kind != "spot" or "." in each.id:
            continue
        parts = re.split(r"[-/_]", each.id)
        cuts = [(each.id[:cut], each.id[cut:]) for cut in range(1, len(each.id))]
        halves = [(parts[0], parts[1])] if len(parts) == 2 else cuts if len(parts) == 1 else []
        pairs = {(code(base), code(quote)) for base, quote in halves}
        if (each.base, each.quote) in pairs:
            continue
        others = [pair for pair in sorted(pairs) if listed.pair(*pair) is not None]
        if others:
            found.append(
                f"{each.symbol} would be traded in {each.id}, which is the name of {'/'.join(others[0])}"
            )
    return tuple(found)
