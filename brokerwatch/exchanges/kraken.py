"""All that is Kraken's: how it is asked, what its answers prove, and what its words of error mean.

The class is what the rest of the program asks. Above it stand the tables of words and the pure readers of
its answers, which raise `UnprovenAnswer` for what is no proof. (REST API: docs.kraken.com/api.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from types import MappingProxyType
from typing import Any, ClassVar, Final, cast

from brokerwatch.errors import CouldNotAsk, NotAllowed, NotSupported
from brokerwatch.exchanges.adapter import BalanceTurn, Caller, PrivateQuestion, Profile, StatedBalance
from brokerwatch.exchanges.balances import Code, FetchedBalance, add, stated_amount, stated_hold
from brokerwatch.exchanges.candles import candle, newest, row_of, word_for
from brokerwatch.exchanges.clock_skew import NEVER_S
from brokerwatch.exchanges.envelope import (
    SHOWN,
    UnprovenAnswer,
    listing,
    mapping,
    named,
    number,
    short,
    text,
    title,
)
from brokerwatch.exchanges.fault_tables import AUTH, BUG, CLOCK, DOWN, MAINTENANCE, PERMISSION, RATE
from brokerwatch.exchanges.faults import FaultWords, word_table
from brokerwatch.exchanges.key_info import KeyFacts, may_withdraw, staying
from brokerwatch.exchanges.ledgers import kraken_ledger
from brokerwatch.exchanges.market_refusals import MarketWords
from brokerwatch.exchanges.open_orders import Market, OpenOrder, left_of, resting_order
from brokerwatch.exchanges.order_answers import (
    FILLED,
    OPEN,
    OVER,
    FoundOrder,
    Paid,
    PlacedAfterAll,
    canonical_id,
    only,
    order_of,
)
from brokerwatch.exchanges.order_deadline import DeadlineRule, OrderDeadline
from brokerwatch.exchanges.order_request import UUID, OrderRequest, OrderRules
from brokerwatch.exchanges.positions import Named, less_closed, position, position_rows, side_of
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.exchanges.refusals import RefusalWords, admit, items
from brokerwatch.messages import Candle, FaultKind, Holding, Position, Product
from brokerwatch.messages import total as summed
from brokerwatch.messages.balance import NOTHING, less
from brokerwatch.messages.money import LedgerEntry
from brokerwatch.messages.trading import Status, StatusWord
from brokerwatch.money import EXACT

FAMILY: Final = "kraken"

WITHDRAWAL_PROBE: Final = {"asset": "XBT", "key": "brokerwatch verification", "amount": "0.001"}
"""A withdrawal that is only asked about, to an address that does not exist: it can move nothing."""
MAY_WITHDRAW: Final = "EFunding:"
"""So begins what Kraken says to it when the key may withdraw: only the address is not known."""
NO_QUESTION: Final = ("Unknown method", "HTTP 404", "HTTP 405")
"""What is said where Kraken's newer question about a key is not known."""

FAULT_WORDS: Final = FaultWords(
    # The strings of the `error` list.
    keys=("error",),
    kinds=word_table(
        (r'"EAPI:Invalid key', AUTH),
        (r'"EAPI:Invalid signature', AUTH),
        (r'"EAPI:Invalid nonce', CLOCK),
        (
            r'"E(API|Order|General|Service|Auth): ?'
            r"(Rate limit|Too many requests|Throttled|Temporary lockout)",
            RATE,
        ),
        (r'"EService:Market in \w', MAINTENANCE),
        (r'"EService:[^"]{0,200}maintenance', MAINTENANCE),
        (r'"EGeneral:(Permission denied|Feature disabled)', PERMISSION),
        (r'"EAPI:Feature disabled', PERMISSION),
        (r'"EAccount:Invalid permissions', PERMISSION),
        (r'"EAuth:', AUTH),
        (r'"(EService|EDatabase):', DOWN),
        (r'"EGeneral:Internal error', DOWN),
        (r'"E(General:(Invalid arguments|Unknown method)|API:Bad request|Query:)', BUG),
    ),
    # Asking sooner begins the time anew. (Kraken's support pages on rate limits: 15 minutes.)
    lockout=re.compile(r'"EGeneral:Temporary lockout', re.IGNORECASE),
    lockout_s=900.0,
    # It names the second, since 1970, from which on it may be asked again.
    throttled_until=re.compile(r'"EService: ?Throttled: ?([0-9]{9,11})'),
    ccxt_knows_codes=False,
)

REFUSAL_CODES: Final = re.compile(
    r"E(Order|API|Auth|Query):"
    r"|EGeneral:(Invalid arguments|Permission denied|Unknown method|Temporary lockout|Too many requests)"
    r"|EAccount:Invalid permissions"
    r"|ETrade:(User )?Locked"
    r"|EService:Market in \w+"
)
"""https://docs.kraken.com/api/docs/guides/spot-errors. Not EService:Unavailable, Busy, Timeout, Throttled,
nor EGeneral:Internal error: behind those an order was placed now and then."""


MARKET_WORDS: Final = MarketWords(
    # "STBL trading restricted for NL.": an asset or a pair in front. Without one the account is meant.
    rule=re.compile(
        r"^error=(EAccount:Invalid permissions: ?(?!All |Account |User |Trading |Margin |Spot |Key |API )"
        r"[A-Z0-9][A-Za-z0-9.]{0,15}(/[A-Z0-9][A-Za-z0-9.]{0,15})? .*(restrict|not |unavailable|prohibited)"
        r"|EQuery:Unknown asset pair"
        r"|E(Order|Trade|General):.*\b(pair|market|asset)\b.*"
        r"(restricted|not (allowed|permitted|available|supported)|delisted))",
        re.MULTILINE,
    ),
    mode=re.compile(
        r"^error=E(Service|Order|Trade|General):.*(\bMarket in \w+ mode\b|\bin \w+_only\b"
        r"|\b(Market|Pair|Trading)\b.*\b"
        r"(closed|suspended|halted|disabled|offline|paused|maintenance)\b)",
        re.MULTILINE | re.IGNORECASE,
    ),
    keys=("error",),
)
"""The same page, and what accounts of single countries are answered."""


def refusal(answer: Mapping[str, Any]) -> str:
    """Its own words, if they say for certain that nothing was placed; else empty."""
    # Warnings begin with a W and refuse nothing.
    errors = [text for text in map(str, items(answer.get("error"))) if not text.startswith("W")]
    certain = all(map(REFUSAL_CODES.match, errors)) and not answer.get("result")
    return ", ".join(errors) if certain else ""


class Unstated(UnprovenAnswer):
    """Kraken's `{"error": []}`: all is well, and no account is stated. See `health.stated`."""


BOUND: Final = frozenset({"B", "S", "M"})
"""Suffixes of assets that are staked, bonded or opted in: there, and not to be traded."""

PENDING: Final = "HOLD"
"""The suffix of money that is not there yet. It is a wallet of this name in small letters."""

TERM: Final = re.compile(r"(?P<code>[A-Z0-9]*[A-Z]{2})[0-9]{2}")
"""What is bonded may be called by its code and the days that unbonding takes: DOT28. (C98 is a code of its
own, and so are LUNA2 and ETH2.)"""

FEE_CREDITS: Final = "KFEE"


def envelope_of(answer: object) -> Mapping[str, Any]:
    """Kraken's envelope, if it says that all is well; the caller reads `result`. Raises UnprovenAnswer."""
    envelope = mapping(answer, "the answer")
    errors = listing(envelope.get("error"), "error")
    if errors:
        raise UnprovenAnswer(f"the answer carries {short(errors)}")
    return envelope


def result_of(answer: object) -> Mapping[str, Any]:
    """The result in Kraken's envelope. Raises UnprovenAnswer."""
    return mapping(envelope_of(answer).get("result"), "result")


def holdings(answer: object, code: Code) -> dict[str, Holding]:
    """The holdings that a BalanceEx answer states. free = balance + credit - credit_used - hold_trade.

    What earns or is staked stands under a code with a suffix and belongs to the same asset. `.F` earns
    by itself and can be traded, so it is free; the others are bound, so they are used. Both are also
    told apart, as `earning` and `staked`. `.T` is a tokenized stock, which stays apart under its own name.
    """
    envelope = envelope_of(answer)
    if set(envelope) == {"error"}:
        raise Unstated("result is missing")
    found: dict[str, Holding] = {}
    for asset, entry in mapping(envelope.get("result"), "result").items():
        base, _, suffix = asset.partition(".")
        named(base, "an asset")
        if asset == FEE_CREDITS or suffix == PENDING:
            continue
        row = mapping(entry, f"result.{asset}")
        # What is staked or earns cannot be owed.
        total = (stated_hold if suffix else stated_amount)(row, "balance", asset)
        held = stated_hold(row, "hold_trade", asset)
        credit = NOTHING
        if "credit" in row or "credit_used" in row:
            credit = less(stated_hold(row, "credit", asset), stated_hold(row, "credit_used", asset))
        currency = code_of(asset, code)
        if suffix in BOUND:
            add(found, currency, free=NOTHING, used=total, total=total, staked=total)
        else:
            free = less(total, held)
            if credit is not NOTHING:
                free = summed((free, credit))
            earning = free if suffix == "F" else NOTHING
            add(found, currency, free=free, used=held, total=total, earning=earning)
    return found


def code_of(asset: str, code: Code) -> str:
    """The common code of the currency that an asset belongs to; one with a suffix that we do not know stays
    apart, under its own name."""
    base, _, suffix = asset.partition(".")
    term = TERM.fullmatch(base) if suffix in BOUND else None
    if term is not None:
        return code(term["code"])
    return code(base if suffix in {"", "F", PENDING, *BOUND} else asset)


def pending(answer: object, code: Code) -> dict[str, dict[str, Holding]]:
    """The wallet of what a BalanceEx answer states as pending, which no order can spend; none: nothing is."""
    found: dict[str, Holding] = {}
    for asset, entry in result_of(answer).items():
        if asset.partition(".")[2] == PENDING:
            total = stated_hold(mapping(entry, f"result.{asset}"), "balance", asset)
            add(found, code_of(asset, code), free=NOTHING, used=total, total=total)
    return {PENDING.lower(): found} if found else {}


def _take_balance(seen: StatedBalance, answer: object, query: object, code: Code) -> None:
    """See `Profile.balance_answers`."""
    del query
    try:
        seen.holdings |= holdings(answer, code)
    except Unstated:
        seen.stated = False
        return
    assets = list(cast("dict[str, dict[str, Any]]", answer)["result"])
    if len({code(asset) for asset in assets}) < len(assets):
        raise UnprovenAnswer("two assets of one code: ccxt would keep one of them")


_QUERY: Final = frozenset({"query-funds", "query-open-trades"})

_TRADE: Final = frozenset({"modify-trades"})

_LOOK_UP: Final = "query-closed-trades"


def key_facts(answer: object) -> KeyFacts:
    """The facts in a GetApiKeyInfo answer. Raises UnprovenAnswer.

    https://docs.kraken.com/api-reference/account-data/get-api-key-info
    """
    row = result_of(answer)
    rights = [text(each, "a permission") for each in listing(row.get("permissions"), "permissions")]
    allowed = row.get("ipAllowlist")
    name, iban = row.get("apiKeyName"), row.get("iban")
    parts = (
        f"account {iban}" if isinstance(iban, str) and iban else "",
        f"key {name!r}" if isinstance(name, str) and name else "",
    )
    stated_key, ends = row.get("apiKey"), row.get("validUntil")
    # A key that does not end is valid until 0.
    ends_s = number("0" if ends in (None, "") else ends, "validUntil")
    if ends_s < 0:
        raise UnprovenAnswer(f"validUntil is {ends_s}")
    return KeyFacts(
        account=", ".join(part for part in parts if part),
        api_key="" if stated_key in (None, "") else text(stated_key, "apiKey"),
        query=set(rights) >= _QUERY,
        trade=set(rights) >= _TRADE,
        withdraw=may_withdraw(rights),
        rights=", ".join(rights) or "nothing",
        lacks=""
        if _LOOK_UP in rights
        else f"{_LOOK_UP}, without which no order is looked up whose answer was lost",
        addresses=None
        if allowed is None
        else tuple(text(each, "an address") for each in listing(allowed, "ipAllowlist")),
        ends_s=float(ends_s) or None,
        named=staying(rights),
        never_ends=ends not in (None, "") and not ends_s,
    )


def order_parameters(
    request: OrderRequest, *, validate_only: bool, deadline: OrderDeadline | None = None
) -> dict[str, str]:
    """What `privatePostAddOrder` is called with; with `validate_only` Kraken checks and places nothing.

    After `deadline` its matching engine refuses the order: RFC 3339, from 2 to 60 seconds ahead.
    https://docs.kraken.com/api/docs/rest-api/add-order
    """
    found = {
        "pair": request.product.id,
        "type": str(request.side),
        "ordertype": "market",
        "volume": request.size,
        "cl_ord_id": request.client_order_id,
    }
    if request.base_amount is None:
        found["oflags"] = "viqc"  # the volume is in the quote currency
    if validate_only:
        found["validate"] = "true"
    if deadline is not None:
        moment = datetime.fromtimestamp(deadline.at_us / 1_000_000, UTC)
        found["deadline"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return found


def _says(answer: Mapping[str, Any], *words: str) -> bool:
    """Whether these words, and nothing else, are its errors, and no order is named."""
    errors = {str(error) for error in items(answer.get("error"))}
    return bool(errors) and not answer.get("result") and all(error.startswith(words) for error in errors)


ORDER_DEADLINE: Final = DeadlineRule(
    shortest_s=2.0,
    longest_s=60.0,
    clock_step_s=1.0,  # its time is told in whole seconds
    # https://docs.kraken.com/api/docs/guides/spot-errors
    passed=lambda answer: _says(answer, "EService:Deadline elapsed"),
    unusable=lambda answer: _says(answer, "EGeneral:Invalid arguments:deadline"),
)


def placed(answer: object) -> str:
    """The id of the order that AddOrder placed. Raises NotTaken, UnprovenAnswer."""
    placed = listing(_accepted_result(answer).get("txid"), "txid")
    if len(placed) != 1:
        raise UnprovenAnswer(f"the answer to one order names {len(placed)}")
    return text(placed[0], "txid")


def validated(answer: object) -> None:
    """AddOrder would take the order. Raises NotTaken, UnprovenAnswer; PlacedAfterAll."""
    result = _accepted_result(answer)
    if result.get("txid"):
        raise PlacedAfterAll(f"a dry run was answered with an order: {short(result['txid'])}")
    text(mapping(result.get("descr"), "descr").get("order"), "descr.order")


_STATES: Final = {
    "pending": OPEN,
    "open": OPEN,
    "closed": FILLED,
    "canceled": OVER,
    "expired": OVER,
}


def found_order(
    open_answer: object,
    closed_answer: object,
    client_order_id: str,
    product: Product,
    code: Callable[[str], str] = str,
) -> FoundOrder | None:
    """Our order among those that OpenOrders and then ClosedOrders gave for our id; None: there is none.

    `code` gives the common code of a Kraken currency. Raises UnprovenAnswer, also when only others came:
    then they were not chosen by the id, and more of them may stand on further pages.
    """
    ours: dict[str, FoundOrder] = {}
    others = 0
    for answer, name in ((open_answer, "open"), (closed_answer, "closed")):
        result = _accepted_result(answer)
        rows = mapping(result.get(name), name)
        for order_id, value in rows.items():
            row = mapping(value, f"the order {order_id}")
            if _same(row.get("cl_ord_id"), client_order_id):
                # What was open and is closed since stands in both; the later word holds.
                ours[order_id] = _found_order(text(order_id, "the id of an order"), row, product, code)
            else:
                others += 1
        if not rows and result.get("count") is not None and number(result["count"], "count"):
            raise UnprovenAnswer(f"{short(result['count'])} {name} orders are counted, and none is there")
    found = only(ours, client_order_id)
    if found is None and others:
        raise UnprovenAnswer(f"{others} orders that were not asked for, and not {client_order_id}")
    return found


def _found_order(
    order_id: str, row: Mapping[str, Any], product: Product, code: Callable[[str], str]
) -> FoundOrder:
    """https://docs.kraken.com/api/docs/rest-api/get-closed-orders"""
    description = mapping(row.get("descr") or {}, "descr")
    by_cost = "viqc" in str(row.get("oflags") or "").split(",")
    return order_of(
        order_id,
        "" if description.get("pair") is None else _market(text(description["pair"], "pair"), product, code),
        description.get("type"),
        # An order by cost does not say in which currency its `vol` is.
        {} if by_cost else {"ordered_base": row.get("vol")},
        _bought(row) if by_cost else row.get("vol_exec"),
        (_STATES, row.get("status"), (row.get("reason"),)),
        Paid(row.get("price"), row.get("fee"), _fee_currency(row, product)),
    )


def _fee_currency(row: Mapping[str, Any], product: Product) -> str:
    """The currency of an order's fee, by its flags; empty where they do not say."""
    flags = str(row.get("oflags") or "").split(",")
    return product.quote if "fciq" in flags else product.base if "fcib" in flags else ""


def order_at(answer: object, order_id: str, product: Product, code: Callable[[str], str] = str) -> FoundOrder:
    """The order of this id in a QueryOrders answer. Raises UnprovenAnswer.

    https://docs.kraken.com/api/docs/rest-api/get-orders-info
    """
    rows = _accepted_result(answer)
    return _found_order(order_id, mapping(rows.get(order_id), f"the order {order_id}"), product, code)


def _market(pair: str, product: Product, code: Callable[[str], str]) -> str:
    """The id of the market that orders call by its short name: XBTUSD for XXBTZUSD."""
    named = pair.replace("/", "")
    halves = ((code(named[:at]), code(named[at:])) for at in range(1, len(named)))
    return product.id if (product.base, product.quote) in halves else pair


def _bought(row: Mapping[str, Any]) -> Decimal | None:
    """What an order by cost has bought, in the base currency; None where its row leaves that open.

    Kraken's older documentation says that `vol_exec` is in the quote currency then, its newer one that it is
    in the base currency. So the price must say the same, and must not be so near to 1 that it says nothing.
    """
    volume, cost, price = (
        None if row.get(key) is None else number(row[key], key) for key in ("vol_exec", "cost", "price")
    )
    if volume is None or not volume:
        return volume
    if not cost or not price or abs(price - 1) < _NEAR:
        return None
    with localcontext(EXACT):
        return volume if abs(volume * price - cost) <= cost * _NEAR else None


_NEAR: Final = Decimal("0.01")
"""Kraken cuts the digits of a cost and of a price, never by as much as this share."""


def _same(stated: object, ours: str) -> bool:
    """Whether an id in Kraken's answer is ours, which it may write with hyphens or without."""
    return isinstance(stated, str) and canonical_id(stated) == canonical_id(ours)


def _accepted_result(answer: object) -> Mapping[str, Any]:
    admit(PROFILE.refusals, answer)
    return result_of(answer)


def open_orders(answer: object, market: Market) -> tuple[OpenOrder, ...]:
    """The orders of an OpenOrders answer. Raises UnprovenAnswer.

    https://docs.kraken.com/api/docs/rest-api/get-open-orders
    """
    rows = mapping(result_of(answer).get("open"), "open")
    return tuple(_resting_order(order_id, mapping(row, "an order"), market) for order_id, row in rows.items())


def _resting_order(order_id: str, row: Mapping[str, Any], market: Market) -> OpenOrder:
    description = mapping(row.get("descr"), f"descr of {order_id}")
    limit = text(description.get("ordertype"), f"ordertype of {order_id}") == "limit"
    on_credit = description.get("leverage") not in (None, "none", "0", 0)
    in_quote = "viqc" in str(row.get("oflags") or "")
    return resting_order(
        order_id,
        text(description.get("pair"), f"pair of {order_id}"),
        description.get("type"),
        market,
        left_of(row.get("vol"), row.get("vol_exec"), order_id),
        description.get("price"),
        plain=limit and not on_credit and not in_quote,
    )


INTERVALS: Final[Mapping[str, str]] = MappingProxyType(
    {"1m": "1", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "4h": "240", "1d": "1440"}
)
"""Minutes. https://docs.kraken.com/api/docs/rest-api/get-ohlc-data"""


def interval(timeframe: str) -> str:
    """Kraken's word for a timeframe: minutes. Raises NotSupported."""
    return word_for(INTERVALS, timeframe, FAMILY)


def candles(answer: object, count: int, pair: str = "") -> tuple[Candle, ...]:
    """The newest `count` candles of an OHLC answer, oldest first. Raises UnprovenAnswer.

    `pair`: the id that was asked for, which the answer must be about; empty: whichever it is about.
    """
    result = result_of(answer)
    pairs = [name for name in result if name != "last"]
    if len(pairs) != 1:
        raise UnprovenAnswer(f"candles of {len(pairs)} pairs, not of one")
    if pair and pairs[0] != pair:
        raise UnprovenAnswer(f"candles of {short(pairs[0])}, and {pair} was asked for")
    rows = listing(result[pairs[0]], "the candles")
    # time, open, high, low, close, average, volume, trades
    return newest([candle(row_of(row, 8), (0, 1, 2, 3, 4, 6), 1) for row in rows], count)


def positions(answer: object, named: Named = str) -> tuple[Position, ...]:
    """The margin positions of an OpenPositions answer, one for each opening trade. Raises UnprovenAnswer."""
    result = envelope_of(answer).get("result")
    # With consolidation=market it is a list.
    rows = cast("object", result) if isinstance(result, list) else [*mapping(result, "result").values()]
    found: list[Position] = []
    for row in position_rows(rows):
        pair = text(row.get("pair"), "the pair of a position")
        volume, closed = (number(row.get(key), f"{key} of {pair}") for key in ("vol", "vol_closed"))
        found += position(named(pair), "margin", side_of(row.get("type"), pair), less_closed(volume, closed))
    return tuple(found)


def status(answer: object) -> Status:
    """Kraken's SystemStatus. What is announced, or going on beside it, leaves the word as it is.

    Raises UnprovenAnswer. https://docs.kraken.com/api/docs/rest-api/get-system-status
    """
    result = result_of(answer)
    word = text(result.get("status"), "status")
    if word not in {str(each) for each in StatusWord}:
        raise UnprovenAnswer(f"a status that we do not know: {short(word)}")
    notices = [
        f"{about}: {title(notice)}"
        for key, about in (("emergency", "now"), ("upcoming_maintenance", "announced"))
        for notice in _notices(result.get(key))
    ]
    return Status(StatusWord(word), "; ".join(notices)[:SHOWN])


def _notices(value: object) -> list[object]:
    """What is said beside the word; nothing, if it cannot be read: the word stands all the same."""
    return cast("list[object]", value) if isinstance(value, list) else []


SHORT_NAMES: Final[Mapping[str, str]] = MappingProxyType({"BTC": "XBT", "DOGE": "XDG"})
"""Its short names, where they differ (https://docs.kraken.com/api/docs/rest-api/get-asset-info)."""

PROFILE: Final = Profile(
    family=FAMILY,
    own_envelope=True,
    fault_words=FAULT_WORDS,
    refusals=RefusalWords(refusal),
    market_words=MARKET_WORDS,
    # The Starter tier: a counter of 15 that runs down by 0.33 a second; one below it, to be safe.
    budget=Budget(14.0, 0.33),
    rising_nonces=True,
    clock_tolerance_s=NEVER_S,  # its nonce only has to rise, and what it says of that is a word of its own
    order_rules=OrderRules(
        name=FAMILY,
        # https://docs.kraken.com/api/docs/guides/spot-clordid
        client_ids=re.compile(rf"{UUID}|[A-Za-z0-9._-]{{1,18}}"),
        expected="a UUID with or without hyphens, or 1 to 18 letters, digits, dots, hyphens and underscores",
        sells_by_base=True,  # `viqc` is for buys
    ),
    order_deadline=ORDER_DEADLINE,
    market_id=lambda base, quote: SHORT_NAMES.get(base, base) + SHORT_NAMES.get(quote, quote),
    well_known=(("BTC", ("USD",)), ("ETH", ("USD",))),
    may_owe=False,
    balance_call=("privatePostBalanceEx", ()),
    balance_answers=MappingProxyType({"/private/BalanceEx": _take_balance}),
    other_accounts=(
        "its spot balance is read by a call that takes no parameters; its futures are the exchange "
        "krakenfutures, and a sub-account has an API key of its own"
    ),
    ccxt_adds_up=False,  # it keeps the suffixes apart, and we add them up
)


class Kraken:
    """Kraken's spot REST API."""

    profile: ClassVar = PROFILE
    ids_are_final = False
    has_dry_run = True
    needs_markets = False
    find_calls = 2
    prepare_calls = 0
    says_its_status = True
    lists_open_orders = True

    def __init__(self, caller: Caller) -> None:
        self._ask = caller.call
        self._code = caller.code

    async def prepare(self) -> str:
        return ""

    async def place(self, request: OrderRequest, deadline: OrderDeadline | None = None) -> str:
        wanted = order_parameters(request, validate_only=False, deadline=deadline)
        return placed(await self._ask("privatePostAddOrder", wanted))

    async def validate(self, request: OrderRequest) -> None:
        answer = await self._ask("privatePostAddOrder", order_parameters(request, validate_only=True))
        validated(answer)

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        del since_us
        wanted = {"cl_ord_id": client_order_id}
        # In this order: what is filled in between stands in both, and never in none.
        still_open = await self._ask("privatePostOpenOrders", wanted)
        closed = await self._ask("privatePostClosedOrders", wanted)
        return found_order(still_open, closed, client_order_id, product, self._code)

    async def look_at(self, product: Product, order_id: str) -> FoundOrder:
        answer = await self._ask("privatePostQueryOrders", {"txid": order_id})
        return order_at(answer, order_id, product, self._code)

    async def positions(self, named: Named) -> tuple[Position, ...]:
        return positions(await self._ask("privatePostOpenPositions"), named)

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        del now_us
        wanted = {"pair": product.id, "interval": interval(timeframe)}
        return candles(await self._ask("publicGetOHLC", wanted), count, product.id)

    async def status(self, now_us: int) -> Status | None:
        del now_us
        return status(await self._ask("publicGetSystemStatus"))

    async def balance(self, turn: BalanceTurn) -> FetchedBalance:
        answer = await self._ask("privatePostBalanceEx")
        try:
            found = turn.holdings(answer, holdings)
        except Unstated:
            return FetchedBalance({}, stated=False)
        return FetchedBalance(found, apart=pending(answer, self._code))

    def proves_answered(self, answer: object) -> object:
        return envelope_of(answer)

    async def stated_key(self, ask: PrivateQuestion) -> KeyFacts:
        return await ask(key_facts, "privatePostGetApiKeyInfo")

    async def key_facts(self, ask: PrivateQuestion) -> KeyFacts:
        """By what it says of the key; and by a question about a withdrawal, which must be denied."""
        try:
            facts = await self.stated_key(ask)
        except CouldNotAsk as error:
            no_such_question = isinstance(error, NotAllowed) or any(
                word in str(error) for word in NO_QUESTION
            )
            facts = KeyFacts(unsaid="" if no_such_question else str(error))
        try:
            await ask(result_of, "privatePostWithdrawInfo", WITHDRAWAL_PROBE)
        except CouldNotAsk as error:
            if isinstance(error, NotAllowed) and error.kind == FaultKind.PERMISSION:
                return replace(facts, withdraw=bool(facts.withdraw))
            if MAY_WITHDRAW in str(error):
                return replace(facts, withdraw=True)
            if facts.withdraw is not None and any(word in str(error) for word in NO_QUESTION):
                return facts
            return replace(facts, doubt="; ".join(part for part in (str(error), facts.unsaid) if part))
        return replace(facts, withdraw=True)

    async def ledger(
        self, ask: PrivateQuestion, currencies: tuple[str, ...], since_us: int
    ) -> tuple[LedgerEntry, ...]:
        del currencies  # all of them are in one answer

        def read(answer: object) -> tuple[LedgerEntry, ...]:
            return kraken_ledger(result_of(answer), self._code)

        return await ask(read, "privatePostLedgers", {"start": f"{since_us / 1_000_000:.6f}"})

    async def open_orders(self, ask: PrivateQuestion, market: Market) -> tuple[OpenOrder, ...]:
        return await ask(lambda answer: open_orders(answer, market), "privatePostOpenOrders")

    async def market_ids(self) -> frozenset[str]:
        return frozenset(result_of(await self._ask("publicGetTicker")))

    async def market_count(self) -> int:
        raise NotSupported(f"{FAMILY} does not count its markets")
