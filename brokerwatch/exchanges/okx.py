"""All that is OKX's: how it is asked, what its answers prove, and what its codes of error mean.

The class is what the rest of the program asks. Above it stand the tables of codes and the pure readers of
its answers, which raise `UnprovenAnswer` for what is no proof. (API version 5: okx.com/docs-v5/en.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar, Final

from brokerwatch.errors import NotSupported
from brokerwatch.exchanges.adapter import BalanceTurn, Caller, PrivateQuestion, Profile, StatedBalance
from brokerwatch.exchanges.balances import (
    Code,
    FetchedBalance,
    add,
    held_against,
    stated_amount,
    stated_hold,
)
from brokerwatch.exchanges.candles import candle, newest, row_of, word_for
from brokerwatch.exchanges.envelope import (
    SHOWN,
    UnprovenAnswer,
    listing,
    mapping,
    named,
    number,
    positive,
    short,
    text,
    title,
)
from brokerwatch.exchanges.fault_tables import AUTH, BUG, CLOCK, DOWN, MAINTENANCE, PERMISSION, RATE
from brokerwatch.exchanges.faults import Failure, FaultWords, word_table
from brokerwatch.exchanges.key_info import KeyFacts, may_withdraw, staying
from brokerwatch.exchanges.ledgers import okx_bills
from brokerwatch.exchanges.market_refusals import MarketWords
from brokerwatch.exchanges.okx_account_mode import (
    CASH,
    AccountMode,
    account_mode,
    refuses_mode,
    trade_quote,
)
from brokerwatch.exchanges.open_orders import Market, OpenOrder, OrdersPage, all_pages, left_of, resting_order
from brokerwatch.exchanges.order_answers import FILLED, OPEN, OVER, FoundOrder, Paid, order_of
from brokerwatch.exchanges.order_deadline import DeadlineRule, OrderDeadline
from brokerwatch.exchanges.order_request import ANY_RULES, OrderRequest
from brokerwatch.exchanges.positions import Named, position
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.exchanges.refusals import (
    NotTaken,
    RefusalWords,
    admit,
    is_refused,
    joined,
    maps,
    trusted_answer,
)
from brokerwatch.exchanges.sums import STATED_SUMS, summed
from brokerwatch.messages import Candle, Holding, Position, Product
from brokerwatch.messages.balance import less
from brokerwatch.messages.money import LedgerEntry
from brokerwatch.messages.trading import Status, StatusWord

FAMILY: Final = "okx"

OPEN_ORDERS_PAGE: Final = 100
"""Open orders on a page that is full."""

FAULT_WORDS: Final = FaultWords(
    keys=("code",),
    kinds=word_table(
        (r'"code"\s*:\s*"?50001"?\b', MAINTENANCE),
        (r'"code"\s*:\s*"?(50011|50040|50061)"?\b', RATE),
        (r'"code"\s*:\s*"?50102"?\b', CLOCK),
        (r'"code"\s*:\s*"?(50007|50010|50012|50027|50028|50030|50035|50110|50120|50121)"?\b', PERMISSION),
        (r'"code"\s*:\s*"?(50008|5010[01345678]|5011[1-4]|50119)"?\b', AUTH),
        (r'"code"\s*:\s*"?(50004|50005|50013|50026)"?\b', DOWN),
        (
            r'"code"\s*:\s*"?(50000|50002|50006|50014|50015|50016|50024|50025|50036|50037|50038|50039|50115|51000)"?\b',
            BUG,
        ),
    ),
    address_refused=re.compile(r'"code"\s*:\s*"?50110"?\b'),
    hint_words=re.compile(r'"code"\s*:\s*"?50119"?\b'),
    hint='no such key here: an account of OKX Europe has exchange = "myokx", of OKX US "okxus"; ',
    ccxt_knows_codes=False,
)
"""The numbers of its `code`."""

REFUSAL_CODES: Final = re.compile(
    r"500(0[26-9]|1[0-24-6]|2[4578]|3[05]|4[04]|61)"  # what was sent, the account, how often it asks
    r"|501(0[0-9]|1[0-59]|20)"  # the key, the signature, the clock
    r"|51[0-3][0-9]{2}"  # this one order
)
"""Not 50001, 50005, 50013 and 50026, its own trouble, nor 50004: a time-out, after which it says itself that
the request may have succeeded. https://www.okx.com/docs-v5/en/#error-code"""

MARKET_WORDS: Final = MarketWords(
    # 51001 and others: there is no such instrument. 51155, 51734 and 51773: local rules. 51763: the product
    # wants more of the account. 54000: no margin there.
    rule=re.compile(
        r"^s?[cC]ode=(51001|51002|51012|51014|51015|51026|51087|51088|51155|51166|51734|51763|51773|54000|54072)$",
        re.MULTILINE,
    ),
    # To be listed, suspended, expired, being delivered or settled; frozen by liquidation; an auction;
    # depegging; before delivery only to be reduced.
    mode=re.compile(
        r"^s?[cC]ode=(50017|50018|50020|50021|50023|51021|51022|51027|51028|51029|51030|51110|51111|51124"
        r"|51404|51508|54011|54073)$",
        re.MULTILINE,
    ),
    keys=("code", "sCode"),
)
"""https://www.okx.com/docs-v5/en/#error-code"""

_DOUBTFUL: Final = frozenset({"51016", "51054", "51149"})
"""An order of this id exists already; and two time-outs."""


def refusal(answer: Mapping[str, Any]) -> str:
    """Its own words, if they say for certain that nothing was placed; else empty."""
    data, rows = answer.get("data"), maps(answer.get("data"))
    if not data:
        return joined(answer, "code", "msg") if _is_refusal(answer.get("code")) else ""
    # A row that names an order has placed it, whatever else it says.
    certain = all(not row.get("ordId") and _is_refusal(row.get("sCode")) for row in rows)
    return "; ".join(joined(row, "sCode", "sMsg") for row in rows) if certain else ""


def _is_refusal(code: object) -> bool:
    return bool(REFUSAL_CODES.fullmatch(str(code))) and str(code) not in _DOUBTFUL


def no_such_order(failure: Failure) -> bool:
    """Whether OKX answers that it has no order of the id that was asked for."""
    answer = trusted_answer(failure)
    return failure.family == FAMILY and str(answer.get("code")) == "51603"


def rows_of(answer: object) -> list[Mapping[str, Any]]:
    """The rows in OKX's envelope, each a map. Raises UnprovenAnswer."""
    return [mapping(row, "a row of data") for row in data_of(answer)]


def data_of(answer: object) -> list[Any]:
    """The data in OKX's envelope. Raises UnprovenAnswer."""
    envelope = mapping(answer, "the answer")
    code, message = envelope.get("code"), envelope.get("msg")
    if str(code) != "0":
        also = f", with {short(message)}" if message else ""
        raise UnprovenAnswer(f"the answer's code is {short(code)}, not 0{also}")
    if message:
        raise UnprovenAnswer(f"the answer carries {short(message)}")
    return listing(envelope.get("data"), "data")


SUMS: Final = ("totalEq", "isoEq", "adjEq", "availEq", "imr", "mmr", "notionalUsd", "ordFroz", "upl")
"""Keys of an account that state a sum over its currencies."""

MARGIN_MODE: Final = ("adjEq", "imr", "mmr", "isoEq")
"""Keys of an account that are empty in spot mode."""

DEBTS: Final = ("liab", "crossLiab", "isoLiab", "interest", "borrowFroz")
LOSSES: Final = ("cashBal", "upl", "isoUpl")
"""Keys of a currency that say how there can be less than nothing of it: a debt, or what is below zero."""


def holdings(answer: object, code: Code) -> dict[str, Holding]:
    """The holdings that a trading account's balance states. free is `availEq`, else `availBal`.

    `availEq` is empty in spot mode. In another mode what is free is unknown without it: `availBal` may be
    more. Less than nothing is an amount only where the currency states a debt or a loss.
    https://www.okx.com/docs-v5/en/#trading-account-rest-api-get-balance
    """
    rows = rows_of(answer)
    if not rows:
        raise UnprovenAnswer("data is empty: an account has one row even when it holds nothing")
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    for row in rows:
        details = [mapping(entry, "a row of details") for entry in listing(row.get("details"), "details")]
        by_equity = any(_stated(row, key) for key in MARGIN_MODE) or any(
            _stated(detail, "availEq") for detail in details
        )
        for detail in details:
            currency = named(detail.get("ccy"), "ccy")
            if currency in seen:
                raise UnprovenAnswer(f"{currency} comes twice in one account")
            seen.add(currency)
            add(found, code(currency), **_amounts(detail, currency, by_equity=by_equity))
    for row in rows:
        held_against(row, SUMS, found.values(), "no currency is held")
    return found


def _amounts(detail: Mapping[str, Any], currency: str, *, by_equity: bool) -> dict[str, Any]:
    total = stated_amount(detail, "eq", currency)
    used = stated_hold(detail, "frozenBal", currency) if _stated(detail, "frozenBal") else None
    free = stated_amount(detail, "availEq" if _stated(detail, "availEq") else "availBal", currency)
    owes = any(_stated(detail, key) and stated_amount(detail, key, currency) for key in DEBTS)
    loses = any(_stated(detail, key) and stated_amount(detail, key, currency) < 0 for key in LOSSES)
    left = less(total, free) if used is None else used
    if min(free, total, left) < 0 and (not (owes or loses) or total < 0 < free):
        raise UnprovenAnswer(f"{currency} has {free} free of a total of {total}, and states no debt")
    if free > total and not (owes or loses):
        raise UnprovenAnswer(f"{currency} has {free} free of a total of {total}, and states no loss")
    if by_equity and (used is None or not _stated(detail, "availEq")):
        # Beside margin the one is not what the other leaves.
        return {"free": free if _stated(detail, "availEq") else None, "used": used, "total": total}
    return {"free": free, "used": left if left >= 0 else None, "total": total}


def _stated(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) not in (None, "")


def funding_holdings(answer: object, code: Code) -> dict[str, Holding]:
    """The holdings of a funding account, which states only what it has ("Get Balance" of Funding Account)."""
    found: dict[str, Holding] = {}
    seen: set[str] = set()
    for entry in data_of(answer):
        row = mapping(entry, "a row of data")
        currency = named(row.get("ccy"), "ccy")
        if currency in seen:
            raise UnprovenAnswer(f"{currency} comes twice in one account")
        seen.add(currency)
        total, free = stated_hold(row, "bal", currency), stated_hold(row, "availBal", currency)
        add(found, code(currency), free=free, used=stated_hold(row, "frozenBal", currency), total=total)
    return found


def _take_trading(seen: StatedBalance, answer: object, query: object, code: Code) -> None:
    """See `Profile.balance_answers`."""
    del query
    seen.holdings |= holdings(answer, code)


def _take_funding(seen: StatedBalance, answer: object, query: object, code: Code) -> None:
    """See `Profile.balance_answers`."""
    del query
    seen.holdings |= funding_holdings(answer, code)


def key_facts(answer: object) -> KeyFacts:
    """The facts in an account/config answer. Raises UnprovenAnswer.

    https://www.okx.com/docs-v5/en/#trading-account-rest-api-get-account-configuration
    """
    rows = rows_of(answer)
    if len(rows) != 1:
        raise UnprovenAnswer(f"the configuration of {len(rows)} accounts, not of one")
    row = rows[0]
    perm = text(row.get("perm"), "perm")
    rights = [part.strip() for part in perm.split(",") if part.strip()]
    if not rights:
        raise UnprovenAnswer(f"perm is {short(perm)}")
    uid, main, label = row.get("uid"), row.get("mainUid"), row.get("label")
    bound = row.get("ip")
    if not isinstance(bound, str | None):
        raise UnprovenAnswer(f"ip is {short(bound)}, not text")
    mode = account_mode(row)
    of_main = f", a sub-account of {main}" if isinstance(main, str) and main and main != uid else ""
    return KeyFacts(
        account=f"account {uid}{of_main}{f', key {label!r}' if label else ''}" if uid else "",
        account_id=uid if isinstance(uid, str) else "",
        query=bool({"read_only", "trade"} & set(rights)),
        trade="trade" in rights,
        withdraw=may_withdraw(rights),
        rights=", ".join(rights),
        unsupported=mode.unsupported,
        borrows=mode.borrows,
        named=staying(rights),
        addresses=None if bound is None else tuple(part.strip() for part in bound.split(",") if part.strip()),
    )


def order_parameters(
    request: OrderRequest, trade_mode: str = CASH, trade_quote_currency: str = ""
) -> dict[str, str]:
    """What `privatePostTradeOrder` is called with. `trade_mode`: as the mode of the account wants it.

    https://www.okx.com/docs-v5/en/#order-book-trading-trade-post-place-order
    """
    return {
        "instId": request.product.id,
        "tdMode": trade_mode,
        "side": str(request.side),
        "ordType": "market",
        "sz": request.size,
        # Never left to OKX: without it a buy is by the quote currency and a sell by the base currency.
        "tgtCcy": "quote_ccy" if request.base_amount is None else "base_ccy",
        "clOrdId": request.client_order_id,
        **({"tradeQuoteCcy": trade_quote_currency} if trade_quote_currency else {}),
    }


def _says(answer: Mapping[str, Any], *codes: str) -> bool:
    """Whether the answer, or each row of it, has one of these codes, and no order is named."""
    rows = maps(answer.get("data"))
    if not answer.get("data"):
        return str(answer.get("code")) in codes
    return bool(rows) and all(str(row.get("sCode")) in codes and not row.get("ordId") for row in rows)


ORDER_DEADLINE: Final = DeadlineRule(
    # The header `expTime`, in milliseconds: a request is not processed after it.
    # https://www.okx.com/docs-v5/en/#overview-transaction-timeouts
    clock_step_s=0.001,
    passed=lambda answer: _says(answer, "50036", "50037"),  # before it came; while it waited
    unusable=lambda answer: _says(answer, "51000") and "expTime" in str(answer),
)


def placed(answer: object) -> str:
    """The id of the order that was placed. Raises NotTaken, UnprovenAnswer."""
    row = _the_row(answer)
    if str(row.get("sCode")) != "0":
        raise UnprovenAnswer(f"sCode is {short(row.get('sCode'))}")
    return text(row.get("ordId"), "ordId")


_STATES: Final = {
    "live": OPEN,
    "partially_filled": OPEN,
    "filled": FILLED,
    "canceled": OVER,
    "mmp_canceled": OVER,
}

_UNITS: Final = {"base_ccy": "ordered_base", "quote_ccy": "ordered_quote"}


def found_order(answer: object, client_order_id: str) -> FoundOrder:
    """The order that was asked for by our id. Raises UnprovenAnswer.

    That there is none OKX says by an error; see `no_such_order`.
    https://www.okx.com/docs-v5/en/#order-book-trading-trade-get-order-details
    """
    row = _the_row(answer)
    if row.get("clOrdId") != client_order_id:
        raise UnprovenAnswer(f"another order than {client_order_id}")
    return _found_order(row)


def order_at(answer: object, order_id: str) -> FoundOrder:
    """The order that was asked for by OKX's id of it. Raises UnprovenAnswer."""
    row = _the_row(answer)
    if row.get("ordId") != order_id:
        raise UnprovenAnswer(f"another order than {order_id}")
    return _found_order(row)


def _found_order(row: Mapping[str, Any]) -> FoundOrder:
    unit = _UNITS.get(str(row.get("tgtCcy")))
    return order_of(
        text(row.get("ordId"), "ordId"),
        "" if row.get("instId") is None else text(row["instId"], "instId"),
        row.get("side"),
        {} if unit is None else {unit: row.get("sz")},
        row.get("accFillSz") or None,
        (_STATES, row.get("state"), (row.get("cancelSourceReason"),)),
        # A fee that is charged is negative.
        Paid(row.get("avgPx"), _negated(row.get("fee")), str(row.get("feeCcy") or "")),
    )


def _negated(fee: object) -> object:
    return fee[1:] if isinstance(fee, str) and fee.startswith("-") else f"-{fee}" if fee else fee


def _the_row(answer: object) -> Mapping[str, Any]:
    """The one row of an answer about one order."""
    admit(PROFILE.refusals, answer)
    rows = rows_of(answer)
    if len(rows) != 1:
        raise UnprovenAnswer(f"the answer to one order has {len(rows)} rows")
    return rows[0]


def open_orders(answer: object, market: Market) -> tuple[OpenOrder, ...]:
    """The orders of one page of "Order List". Raises UnprovenAnswer."""
    return tuple(_resting_order(row, market) for row in rows_of(answer))


_RESTING: Final = frozenset({"limit", "post_only"})


def _resting_order(row: Mapping[str, Any], market: Market) -> OpenOrder:
    order_id = text(row.get("ordId"), "ordId")
    resting = text(row.get("ordType"), f"ordType of {order_id}") in _RESTING
    return resting_order(
        order_id,
        text(row.get("instId"), f"instId of {order_id}"),
        row.get("side"),
        market,
        left_of(row.get("sz"), row.get("accFillSz"), order_id),
        row.get("px"),
        plain=resting and row.get("tdMode") in (None, "cash"),
    )


BARS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1m": "1m",
        "3m": "3m",
        "5m": "5m",
        "15m": "15m",
        "30m": "30m",
        "1h": "1H",
        "2h": "2H",
        "4h": "4H",
        "6h": "6Hutc",
        "12h": "12Hutc",
        "1d": "1Dutc",
    }
)
"""From six hours on a span would begin by the clock of Hong Kong if it were not asked for in UTC.
https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks"""


def bar(timeframe: str) -> str:
    """OKX's word for a timeframe. Raises NotSupported."""
    return word_for(BARS, timeframe, FAMILY)


def candles(answer: object, count: int) -> tuple[Candle, ...]:
    """The newest `count` candles of a spot instrument, oldest first. Raises UnprovenAnswer."""
    # time, open, high, low, close, volume in the base currency, and in others
    return newest([candle(row_of(row, 6), range(6), 1_000) for row in data_of(answer)], count)


_KINDS: Final = {"MARGIN": "margin", "SWAP": "swap", "FUTURES": "future", "OPTION": "option"}


def positions(answer: object, named: Named = str) -> tuple[Position, ...]:
    """The margin and derivative positions of OKX, in what OKX counts them in. Raises UnprovenAnswer."""
    found: list[Position] = []
    for row in rows_of(answer):
        instrument = text(row.get("instId"), "the instrument of a position")
        kind = _KINDS.get(str(row.get("instType")))
        if kind is None:
            raise UnprovenAnswer(
                f"{instrument} is of a type that we do not know: {short(row.get('instType'))}"
            )
        size = number(row.get("pos"), f"pos of {instrument}")
        side = row.get("posSide")
        if side == "net" and kind == "margin":
            # It is counted in what it consists of. In the quote currency, the base currency is owed.
            base, _, quote = instrument.partition("-")
            side = {base: "long", quote: "short"}.get(str(row.get("posCcy")), "net")
        elif side == "net":
            side = "long" if size > 0 else "short"
        if side not in ("long", "short"):
            raise UnprovenAnswer(f"the side of {instrument} is {short(side)}")
        free = row.get("availPos")
        closable = size if free in (None, "") else number(free, f"availPos of {instrument}")
        found += position(named(instrument), kind, side, size.copy_abs(), closable.copy_abs())
    return tuple(found)


_ALL_TRADING: Final = frozenset({"1", "5", ""})
"""OKX's numbers for the service that spot orders need: spot of old, the trading service, or not said."""

_SOME_TRADING: Final = frozenset({"8", "9"})
"""The trading service for some accounts, or for some products: whether for ours is not known."""

LATEST_S: Final = 10**11
"""No moment is later than this many seconds since 1970."""


def status(answer: object, now_us: int) -> Status:
    """OKX's "Get Status": maintenance that goes on, as against what is announced for later than `now_us`.

    While only resting orders are taken (`pre_open`) it is post-only. Raises UnprovenAnswer.
    https://www.okx.com/docs-v5/en/#status-get-status
    """
    word, notices = StatusWord.ONLINE, list[str]()
    for row in rows_of(answer):
        state, service = text(row.get("state"), "state"), str(row.get("serviceType") or "")
        is_ours = str(row.get("env") or "1") == "1" and service in _ALL_TRADING | _SOME_TRADING
        if not is_ours or state in ("completed", "canceled"):
            continue
        if state not in ("scheduled", "ongoing", "pre_open"):
            raise UnprovenAnswer(f"a state that we do not know: {short(state)}")
        begin_us, end_us = (_moment_us(row.get(key), key) for key in ("begin", "end"))
        if state == "scheduled":
            if end_us > now_us:
                notices.append(f"announced, {_clock(begin_us)} to {_clock(end_us)}: {title(row)}")
        elif service in _SOME_TRADING:
            notices.append(f"for a part of the accounts or products, until {_clock(end_us)}: {title(row)}")
        else:
            # What goes on stands before what is announced.
            notices.insert(0, f"{state}, until {_clock(end_us)}: {title(row)}")
            if state == "ongoing":
                word = StatusWord.MAINTENANCE
            elif word is StatusWord.ONLINE:
                word = StatusWord.POST_ONLY
    return Status(word, "; ".join(notices)[:SHOWN])


def _moment_us(value: object, what: str) -> int:
    """A moment that is written in milliseconds, as µs."""
    moment = positive(value, what)
    if moment >= LATEST_S * 1_000:
        raise UnprovenAnswer(f"{what} is no moment: {moment}")
    return int(moment) * 1_000


def _clock(moment_us: int) -> str:
    return f"{datetime.fromtimestamp(moment_us // 1_000_000, UTC):%Y-%m-%d %H:%M} UTC"


PROFILE: Final = Profile(
    family=FAMILY,
    own_envelope=True,
    fault_words=FAULT_WORDS,
    refusals=RefusalWords(refusal),
    market_words=MARKET_WORDS,
    budget=Budget(10.0, 5.0),  # Get Balance: 10 in 2 seconds for each user
    # It takes an amount in either currency for both sides, and of ids what all exchanges take.
    # https://www.okx.com/docs-v5/en/#order-book-trading-trade-post-place-order
    order_rules=ANY_RULES,
    order_deadline=ORDER_DEADLINE,
    market_id=lambda base, quote: f"{base}-{quote}",
    well_known=(("BTC", ("USDT", "USDC", "USD")), ("ETH", ("USDT", "USDC", "USD"))),
    balance_call=("privateGetAccountBalance", ()),
    other_accounts=(
        "its trading account is read whole, with margin and futures; read_funding = true reads the funding "
        "account beside it, and a sub-account has an API key of its own"
    ),
    balance_answers=MappingProxyType(
        {"/api/v5/account/balance": _take_trading, "/api/v5/asset/balances": _take_funding}
    ),
)


class Okx:
    """OKX's API, version 5. There is no dry run: it would ignore the wish and place a real order."""

    profile: ClassVar = PROFILE
    ids_are_final = False
    has_dry_run = False
    needs_markets = False
    find_calls = 1
    says_its_status = True
    lists_open_orders = True

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._ask = caller.call
        self._mode: AccountMode | None = None
        """As OKX has stated it; None: not yet."""

    @property
    def prepare_calls(self) -> int:
        # An account that is switched while `cash` is said has its orders refused; `cross` is asked for anew.
        return 1 if self._mode is None or self._mode.trade_mode != CASH else 0

    async def prepare(self) -> str:
        if self.prepare_calls:
            self._mode = None
            await self._read_mode()
        return "" if self._mode is None else self._mode.borrows

    async def _read_mode(self) -> AccountMode:
        rows = rows_of(await self._ask("privateGetAccountConfig"))
        if len(rows) != 1:
            raise UnprovenAnswer(f"the configuration of {len(rows)} accounts, not of one")
        self._mode = account_mode(rows[0])
        if self._mode.unsupported:
            raise NotSupported(self._mode.unsupported)
        return self._mode

    async def place(self, request: OrderRequest, deadline: OrderDeadline | None = None) -> str:
        said = CASH if self._mode is None else self._mode.trade_mode
        try:
            return await self._placed(request, said, deadline)
        except Exception as error:
            # Refused for certain, so the same order may be sent in the mode that the account has now.
            failure = self._caller.failure(error)
            if not (is_refused(failure, PROFILE.refusals) and refuses_mode(failure.body)):
                raise
            words = refusal(trusted_answer(failure))
            try:
                now = (await self._read_mode()).trade_mode
            except Exception:  # noqa: BLE001 - whatever it is, the refusal stands
                now = said
            if now == said:
                raise NotTaken(words) from None
        return await self._placed(request, now, deadline)

    async def _placed(self, request: OrderRequest, trade_mode: str, deadline: OrderDeadline | None) -> str:
        paid_in = trade_quote(self._caller.instance.options, request.product.quote)
        wanted = order_parameters(request, trade_mode, paid_in)
        if deadline is None:
            return placed(await self._ask("privatePostTradeOrder", wanted))
        headers = {"expTime": str(deadline.at_us // 1_000)}
        return placed(await self._ask("privatePostTradeOrder", wanted, headers=headers))

    async def validate(self, request: OrderRequest) -> None:
        raise AssertionError(f"there is no dry run of {request}")

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        del since_us
        wanted = {"instId": product.id, "clOrdId": client_order_id}
        try:
            answer = await self._ask("privateGetTradeOrder", wanted)
        except Exception as error:
            if no_such_order(self._caller.failure(error)):
                return None
            raise
        return found_order(answer, client_order_id)

    async def look_at(self, product: Product, order_id: str) -> FoundOrder:
        wanted = {"instId": product.id, "ordId": order_id}
        return order_at(await self._ask("privateGetTradeOrder", wanted), order_id)

    async def positions(self, named: Named) -> tuple[Position, ...]:
        return positions(await self._ask("privateGetAccountPositions"), named)

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        del now_us
        wanted = {"instId": product.id, "bar": bar(timeframe), "limit": min(count, 300)}
        return candles(await self._ask("publicGetMarketCandles", wanted), count)

    async def status(self, now_us: int) -> Status | None:
        return status(await self._ask("publicGetSystemStatus"), now_us)

    async def balance(self, turn: BalanceTurn) -> FetchedBalance:
        answer = await self._ask("privateGetAccountBalance")
        found = turn.holdings(answer, holdings)
        whole = summed(STATED_SUMS["okx"], answer, self._caller.code)
        if not turn.wants_funding:
            return FetchedBalance(found, summed=whole)
        funding = await turn.aside("privateGetAssetBalances", funding_holdings)
        return FetchedBalance(found, MappingProxyType({"funding": funding}), summed=whole)

    def proves_answered(self, answer: object) -> object:
        return [listing(row.get("details"), "details") for row in rows_of(answer) or [{"details": None}]]

    async def key_facts(self, ask: PrivateQuestion) -> KeyFacts:
        return await self.stated_key(ask)

    async def stated_key(self, ask: PrivateQuestion) -> KeyFacts:
        return await ask(key_facts, "privateGetAccountConfig")

    async def ledger(
        self, ask: PrivateQuestion, currencies: tuple[str, ...], since_us: int
    ) -> tuple[LedgerEntry, ...]:
        del currencies  # all of them are in one answer

        def read(wallet: str) -> Callable[[object], tuple[LedgerEntry, ...]]:
            return lambda answer: okx_bills(rows_of(answer), self._caller.code, wallet=wallet)

        since = {"begin": str(since_us // 1_000)}
        traded = await ask(read(""), "privateGetAccountBills", since)
        return (*traded, *await ask(read("funding"), "privateGetAssetBills", {"limit": "100"}))

    async def open_orders(self, ask: PrivateQuestion, market: Market) -> tuple[OpenOrder, ...]:
        def read(page: object) -> OrdersPage:
            orders = open_orders(page, market)
            return orders, {"after": orders[-1].order_id if len(orders) >= OPEN_ORDERS_PAGE else None}

        return await all_pages(lambda wanted: ask(read, "privateGetTradeOrdersPending", wanted), {})

    async def market_ids(self) -> frozenset[str]:
        rows = rows_of(await self._ask("publicGetMarketTickers", {"instType": "SPOT"}))
        return frozenset(text(row.get("instId"), "instId") for row in rows)

    async def market_count(self) -> int:
        raise NotSupported(f"{self._caller.instance.id} does not count its markets")
