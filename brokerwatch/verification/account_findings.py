"""What the answers to a verification prove: each judgement takes what was seen, and says it in one line.

Nothing here asks an exchange. A judgement passes only on what it was given; what an exchange does not say is
said to be unknown and never taken for good.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Final

from brokerwatch.clock import NO_DATE, utc_text
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.open_orders import OpenOrder, held_by
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import DetailedBalance, Holding, Position, Product
from brokerwatch.messages import total as summed
from brokerwatch.messages.balance import known_total
from brokerwatch.messages.trading import Status, StatusWord
from brokerwatch.money import is_money, plain, plain_or_unknown
from brokerwatch.verification.checklist import Judgement, failed, passed, skipped, warned

SKEW_FAILS_MS: Final = 2_000.0
"""Coinbase refuses what was signed 2 minutes off, OKX 30 s; a clock that is kept by NTP is off by 0.05 s."""
SKEW_WARNS_MS: Final = 1_000.0
WHOLE_SECOND_MS: Final = 1_000.0
"""Kraken and Coinbase tell whole seconds: the moment may be up to so much later."""

HELD_SHARE: Final = Decimal("0.999")
"""Exchanges round what an order holds, never by so much."""
SHOWN_MS: Final = 50.0
"""A smaller difference of clocks is shown as none."""
KEY_ENDS_S: Final = 7 * 86_400.0
"""A key that ends sooner is worth a remark."""


def moment(wall_s: float) -> str:
    """A moment in words, in UTC; one that no calendar has, as a number."""
    try:
        shown = utc_text(int(wall_s * 1_000_000))
    except (ValueError, OverflowError):  # no number, or one without an end
        shown = NO_DATE
    return f"{wall_s:g} s after 1970" if shown == NO_DATE else shown


def money(amounts: Mapping[str, Decimal]) -> str:
    """Amounts in words: `1.5 BTC, 100 USD`."""
    return ", ".join(f"{plain(amount)} {code}" for code, amount in amounts.items()) or "nothing"


# --- connection and safety ------------------------------------------------------------------------


def skew_ms(sent_ms: float, theirs_ms: float, received_ms: float) -> float:
    """How far the exchange's clock is ahead of ours at the least, in milliseconds; negative: behind.

    The answer was written at some moment between the question and its arrival, and whole seconds may be
    cut: only what both cannot explain is a difference of the clocks.
    """
    whole = theirs_ms % WHOLE_SECOND_MS == 0
    lowest = theirs_ms - received_ms
    highest = theirs_ms + (WHOLE_SECOND_MS if whole else 0.0) - sent_ms
    return max(lowest, min(highest, 0.0))


def clock(skew: float, took_ms: float) -> Judgement:
    """Whether the clocks agree; `skew` as from `skew_ms`, by a question that took so long."""
    side = "ahead of" if skew < 0 else "behind"
    text = f"this machine's clock is {abs(skew) / 1_000:.1f} s {side} the exchange's"
    if not abs(skew) <= SKEW_FAILS_MS:  # what is no number has not passed
        return failed(f"{text}: let NTP set it")
    if abs(skew) > SKEW_WARNS_MS:
        return warned(f"{text}: let NTP set it")
    if took_ms > SKEW_FAILS_MS:
        return warned(f"the answer took {took_ms / 1_000:.1f} s: a difference below that cannot be seen")
    seen = "no difference to be seen" if abs(skew) < SHOWN_MS else text
    return passed(f"{seen}, by a question that took {took_ms:.0f} ms")


def opened(exchange: str, status: Status | None, market: Product | None) -> Judgement:
    """Whether trading is open, by the exchange's word about itself and about the market BTC is traded in."""
    words: list[str] = []
    if status is not None:
        if status.word is not StatusWord.ONLINE:
            statement = f"{status.word}: {status.detail}" if status.detail else str(status.word)
            return failed(f"{exchange} says of itself: {statement}")
        words.append(f"it says that it is online{f', and {status.detail}' if status.detail else ''}")
    if market is not None:
        if not market.active:
            return failed(f"{market.symbol} is closed for trading")
        words.append(f"{market.symbol} is open for trading")
    if not words:
        return skipped(f"{exchange} has no word about itself, and no market was found to go by")
    if status is not None and status.detail:
        return warned("; ".join(words))
    return passed("; ".join(words))


def withdraw(exchange: str, facts: KeyFacts) -> Judgement:
    """Whether the key can withdraw. What is not known has not passed."""
    if facts.withdraw:
        rights = f" (it may: {facts.rights})" if facts.rights else ""
        return failed(
            f"the key CAN WITHDRAW{rights}: a stolen key empties the account; "
            f"make one at {exchange} that cannot"
        )
    if facts.withdraw is None:
        return failed(
            f"it is not known whether the key can withdraw: {facts.doubt or 'the exchange did not say'}"
        )
    if facts.doubt:
        return warned(f"the exchange says that it may not, and did not deny it one: {facts.doubt}")
    return passed(f"it may not; it may: {facts.rights}" if facts.rights else "a withdrawal is denied to it")


def rights(facts: KeyFacts, *, trading: bool, dry_run: bool | None, now_s: float, exchange: str) -> Judgement:
    """Whether the key may do what it is for, and from where. `dry_run`: whether one was accepted, or None."""
    if facts.query is False:
        return failed(f"the key may not read all that is needed; it may: {facts.rights}")
    if facts.ends_s is not None and facts.ends_s < now_s:
        return failed(f"the key has ended at {moment(facts.ends_s)}")
    may_trade = facts.trade if facts.trade is not None else dry_run
    if trading and may_trade is False:
        return failed(
            f"trading is on, and the key may not trade{f'; it may: {facts.rights}' if facts.rights else ''}"
        )
    if trading and may_trade is None:
        return warned("whether the key may trade is known only once it does")
    if trading and facts.unsupported:
        return failed(f"trading is on, and no order can be placed: {facts.unsupported}")
    if trading and facts.borrows:
        return warned(facts.borrows)
    if trading and facts.lacks:
        return warned(f"the key has no {facts.lacks}")
    statement = "it may read" if facts.query else "it could read the balance"
    if may_trade:
        statement += " and trade" if facts.query else ", and may trade"
    if facts.ends_s is not None and facts.ends_s - now_s < KEY_ENDS_S:
        return warned(f"{statement}; the key ends at {moment(facts.ends_s)}")
    if facts.addresses is None:
        return passed(f"{statement}; {exchange} does not say which addresses it is bound to")
    if not facts.addresses:
        return warned(f"{statement}, from any address: bind it to this machine's")
    return passed(f"{statement}, from {', '.join(facts.addresses)} only")


# --- balance --------------------------------------------------------------------------------------


def detailed(
    balance: DetailedBalance, simple: Decimal | None, cash: Collection[str], *, may_owe: bool
) -> Judgement:
    """Whether every currency adds up, and their cash is what `get_account_balance()` answered.

    `simple`: what it answered; None where the exchange does not state how much of the cash is free.
    `may_owe`: whether the account may hold less than nothing of a currency.
    """
    for code, held in balance.holdings.items():
        if held.least_total < 0 and not may_owe:
            return failed(f"{code}: less than nothing, {plain(held.least_total)}")
        for part, what in ((held.used, "held"), (held.staked, "staked")):
            if part is not None and part < 0:
                return failed(f"{code}: {plain(part)} is {what}, which cannot be")
    unknown = sorted(code for code, held in balance.holdings.items() if held.free is None)
    free = known_total(held.free for code, held in balance.holdings.items() if code in cash)
    if free != balance.cash:
        return failed(
            f"the cash is {plain_or_unknown(balance.cash)}, and its currencies add up to "
            f"{plain_or_unknown(free)}"
        )
    if balance.cash is None and simple is not None:
        return failed(
            f"the cash is unknown: the exchange does not say how much of {', '.join(unknown)} is free"
        )
    apart = [
        code
        for code, held in balance.holdings.items()
        if held.total is not None and known_total((held.free, held.used)) not in (None, held.total)
    ]
    shown = f"{len(balance.holdings)} currencies: {_holdings(balance.holdings)}"
    if not balance.holdings:
        shown = "the account is empty: nothing could be added up"
    if balance.cash != simple:
        return warned(
            f"{shown}; the cash was {plain_or_unknown(simple)} a moment before and is "
            f"{plain_or_unknown(balance.cash)}: does "
            "another program trade with this account?"
        )
    if not balance.holdings:
        return warned(shown)
    if unknown:
        return warned(f"{shown}; how much is free of {', '.join(unknown)} is unknown")
    owing = [code for code, held in balance.holdings.items() if (held.free or 0) < 0 or held.least_total < 0]
    if owing:
        return warned(f"{shown}; less than nothing is there or free of {', '.join(sorted(owing))}")
    if apart:
        return warned(f"{shown}; free and held do not add up to the total of {', '.join(sorted(apart))}")
    return passed(f"{shown}; cash {plain_or_unknown(balance.cash)}")


def _holdings(holdings: Mapping[str, Holding]) -> str:
    shown = [_stated(code, held) for code, held in holdings.items()]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


def _stated(code: str, held: Holding) -> str:
    if held.total is not None:
        return f"{plain(held.total)} {code}"
    return f"{plain(held.free)} {code} free" if held.free is not None else f"{code} held by orders alone"


def held(balance: DetailedBalance, orders: Sequence[OpenOrder]) -> Judgement:
    """Whether the balance says that what open orders hold is held."""
    statement = {
        code: summed((found.used, found.staked.copy_negate()))
        for code, found in balance.holdings.items()
        if found.used is not None
    }
    needed = held_by(orders)
    unknown = sorted(code for code in needed if code in balance.holdings and code not in statement)
    if unknown:
        return warned(f"how much of {', '.join(unknown)} is held is unknown: the exchange does not say it")
    for code, amount in needed.items():
        if statement.get(code, Decimal(0)) < amount * HELD_SHARE:
            return failed(
                f"open orders hold {plain(amount)} {code}, and the balance says that "
                f"{plain(statement.get(code, Decimal(0)))} is held: money that is bound would be spent again"
            )
    shown = money({code: amount for code, amount in statement.items() if amount})
    if not orders:
        return passed(f"no order is open; held: {shown}")
    unclear = sum(order.holds is None for order in orders)
    aside = f"; of {unclear} what they hold cannot be told" if unclear else ""
    judge = warned if unclear else passed
    hold = f" hold {money(needed)}" if needed else ""
    return judge(f"{len(orders)} open orders{hold}{aside}; held: {shown}")


# --- positions -------------------------------------------------------------------------------------


def positions(
    found: Sequence[Position], holdings: Mapping[str, Holding], listed: Products, cash: Collection[str]
) -> Judgement:
    """Whether the positions are whole, and the coins among them what the balance says is held."""
    coins: dict[str, Position] = {}
    for each in found:
        if each.base_amount <= 0 or (each.free or 0) < 0:
            return failed(
                f"a position in {each.symbol} of {plain(each.base_amount)}, "
                f"{plain_or_unknown(each.free)} free"
            )
        if each.side not in ("long", "short"):
            return failed(f"a position in {each.symbol} on no side: {each.side}")
        if each.kind != "spot":
            continue
        code = _coin(each, listed)
        if code in coins:
            return failed(f"{code} is a position twice")
        if is_money(code):
            return failed(f"{code} is money, and a position")
        if each.side != "long":
            return failed(f"{code} is held, which is long, and is a position that is {each.side}")
        if code not in holdings or holdings[code].least_total <= 0:
            return failed(f"a position of {plain(each.base_amount)} {code}, and none is held")
        coins[code] = each
    for code, holding in holdings.items():
        if holding.total is None or holding.total <= 0 or is_money(code) or code in cash:
            continue
        if code not in coins:
            return failed(f"{plain(holding.total)} {code} is held, and is no position")
    for code, each in coins.items():
        if each.base_amount != holdings[code].total:
            return failed(
                f"{code}: a position of {plain(each.base_amount)}, and "
                f"{plain_or_unknown(holdings[code].total)} is held"
            )
    open_ = [each for each in found if each.kind != "spot"]
    statement = f"{len(coins)} coins held" + (f": {', '.join(sorted(coins))}" if coins else "")
    return passed(
        f"{statement}; {len(open_)} derivatives open" if open_ else f"{statement}; nothing else open"
    )


def _coin(position: Position, listed: Products) -> str:
    """The currency of a coin that is held."""
    product = listed.by_symbol.get(position.symbol)
    return position.symbol if product is None else product.base


def against_orders(found: Sequence[Position], listed: Products, orders: Sequence[OpenOrder]) -> Judgement:
    """Whether the positions agree with the open orders: what is being sold is there, and is not free."""
    strange = sorted({order.market for order in orders if not order.listed})
    if strange:
        return failed(f"orders are open in {', '.join(strange)}, which is in no list of markets")
    coins = {_coin(each, listed): each for each in found if each.kind == "spot"}
    sells = [order for order in orders if order.side == "sell"]
    for code, amount in held_by(sells).items():
        if not amount or is_money(code):
            continue  # filled whole just now; and money that is sold for other money is no position
        position = coins.get(code)
        if position is None or position.base_amount < amount * HELD_SHARE:
            have = Decimal(0) if position is None else position.base_amount
            return failed(f"{plain(amount)} {code} is being sold, and {plain(have)} is held")
        if position.free is None:
            return warned(f"{plain(amount)} {code} is being sold, and how much of it is free is unknown")
        bound = summed((position.base_amount, position.free.copy_negate()))
        if bound < amount * HELD_SHARE:
            return failed(f"{plain(amount)} {code} is being sold, and only {plain(bound)} of it is not free")
    if not orders:
        return passed("no order is open, so nothing of the positions is bound by one")
    unclear = sum(order.holds is None for order in sells)
    if unclear:
        return warned(f"{len(orders)} open orders; of {unclear} what they sell cannot be told")
    return passed(f"{len(orders)} open orders, and what they sell is held")
