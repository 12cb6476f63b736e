"""All that is Coinbase's: how it is asked, what its answers prove, and what its words of error mean.

The class is what the rest of the program asks. Above it stand the tables of words and the pure readers of
its answers, which raise `UnprovenAnswer` for what is no proof. (Advanced Trade: docs.cdp.coinbase.com.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar, Final, cast

from brokerwatch.errors import NotSupported
from brokerwatch.exchanges.adapter import (
    ORDERS_PER_PAGE,
    SKEW_US,
    BalanceTurn,
    Caller,
    PrivateQuestion,
    Profile,
    StatedBalance,
)
from brokerwatch.exchanges.balances import Code, FetchedBalance, add, stated_hold
from brokerwatch.exchanges.candles import TIMEFRAMES, candle, newest, word_for
from brokerwatch.exchanges.envelope import (
    UnprovenAnswer,
    listing,
    mapping,
    named,
    number,
    positive,
    short,
    text,
)
from brokerwatch.exchanges.fault_tables import AUTH, BUG, CLOCK, DOWN, MAINTENANCE, PERMISSION, RATE
from brokerwatch.exchanges.faults import FaultWords, word_table
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.market_refusals import GENERIC, MarketWords
from brokerwatch.exchanges.open_orders import Market, OpenOrder, OrdersPage, all_pages, left_of, resting_order
from brokerwatch.exchanges.order_answers import (
    FILLED,
    OPEN,
    OVER,
    FoundOrder,
    Paid,
    PlacedAfterAll,
    only,
    order_of,
)
from brokerwatch.exchanges.order_deadline import OrderDeadline
from brokerwatch.exchanges.order_request import OrderRequest, OrderRules
from brokerwatch.exchanges.positions import Named, position, position_rows, side_of
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.exchanges.refusals import NotTaken, RefusalWords, admit, joined, maps
from brokerwatch.messages import Candle, FaultKind, Holding, Position, Product, amount
from brokerwatch.messages import total as summed
from brokerwatch.messages.balance import NOTHING
from brokerwatch.messages.money import LedgerEntry
from brokerwatch.messages.trading import Status

FAMILY: Final = "coinbase"

MOST_CANDLES: Final = 350
"""Candles of one answer ("Get Product Candles")."""
MOST_PAGES: Final = 50
"""Pages of orders that are looked through for one of ours."""
MOST_ACCOUNT_PAGES: Final = 100
"""Pages of one account list; a cursor that never ends is a broken answer."""

FAULT_WORDS: Final = FaultWords(
    keys=("error", "errors", "error_details", "error_description", "message", "details", "code"),
    kinds=word_table(
        (r"maintenance", MAINTENANCE),
        (r"rate.?limit|RESOURCE_EXHAUSTED|too many requests", RATE),
        (r"timestamp.{0,20}expired|expired.{0,20}timestamp|jwt.{0,20}(expired|not yet valid)", CLOCK),
        (
            r"PERMISSION_DENIED|missing.{0,20}scope|(invalid|insufficient|unauthorized)_scope|two_factor_required",
            PERMISSION,
        ),
        (r"IP.{0,30}(not allowed|whitelist|allowlist)", PERMISSION),
        (
            r"^\s*Unauthorized\s*$|UNAUTHENTICATED|invalid_token|revoked_token|expired_token|authentication_error",
            AUTH,
        ),
        (r'"error"\s*:\s*"(unauthorized|Unauthorized)"|invalid (api key|signature)', AUTH),
        (r"UNAVAILABLE|INTERNAL|internal_server_error|DEADLINE_EXCEEDED", DOWN),
        (r"INVALID_ARGUMENT|invalid_request|validation_error|param_required", BUG),
    ),
    # What it answers to a key or signature it does not accept: not JSON, and its own word all the same.
    bare_refusal=re.compile(r"\s*Unauthorized\s*\Z", re.IGNORECASE),
    ccxt_knows_codes=False,
)
"""The words of its JSON errors, and its bare 401 text."""

REFUSAL_CODES: Final = re.compile(
    r"invalid_argument|permission_denied|unauthenticated|unauthorized|not_found|failed_precondition"
    r"|resource_exhausted|invalid_request|authentication_error|invalid_token|revoked_token|expired_token"
    r"|invalid_scope|two_factor_required|validation_error|param_required|rate_limit_exceeded",
    re.IGNORECASE,
)
"""What its errors with a status of 4xx are called."""

_OF_ONE_PRODUCT: Final = (
    r"^(?:message|error_details)=(?!.*(?:api key|scope|\baccount is|insufficient|minimum|too )).*"
)
MARKET_WORDS: Final = MarketWords(
    rule=re.compile(
        r"^\w+=(?:PREVIEW_)?(?:GEOFENCING_RESTRICTION|INELIGIBLE_PAIR|INVALID_PRODUCT_ID|UNTRADABLE_PRODUCT"
        r"|INVALID_UNSUPPORTED_INSTRUMENT|COMPLIANCE_PURCHASE_LIMIT_EXCEEDED"
        rf"|QUOTE_ORDERS_NOT_ALLOWED_FOR_PRODUCT)$|{_OF_ONE_PRODUCT}(?:{GENERIC.rule.pattern})",
        re.MULTILINE | re.IGNORECASE,
    ),
    mode=re.compile(
        r"^\w+=(?:PREVIEW_)?(?:ORDER_ENTRY_DISABLED|NOT_ALLOWED_BY_MARKET_STATE|PRODUCT_TRADING_HALTED"
        r"|TRADING_DISABLED|CLOSE_ONLY_FAILURE|UNSUPPORTED_ORDER_CONFIGURATION|INVALID_NO_LIQUIDITY"
        r"|MISSING_(?:PRODUCT_PRICE_BOOK|MARKET_TRADE_DATA)|BREACHED_OPEN_INTEREST_LIMIT|NBBO_NOT_PROVIDED"
        r"|INVALID_(?:FCM|EQUITY)_TRADING_SESSION|FUTURES_AFTER_HOUR_INVALID_ORDER_TYPE"
        r"|(?:MARKET|NOTIONAL)_ORDERS_PROHIBITED_DURING_NON_CORE_SESSION)$"
        rf"|{_OF_ONE_PRODUCT}(?:{GENERIC.mode.pattern})",
        re.MULTILINE | re.IGNORECASE,
    ),
    keys=(
        "error",
        "message",
        "error_details",
        "new_order_failure_reason",
        "preview_failure_reason",
        "failure_reason",
        "errs",
    ),
)
"""The reasons of "Create Order" and "Preview Order" that are about the product, and sentences about one."""

_UNSAID: Final = re.compile(r"(?:UNKNOWN.*)?")
"""A reason that is none."""


def refusal(answer: Mapping[str, Any]) -> str:
    """Its own words, if they say for certain that nothing was placed; else empty."""
    if "success" in answer or "error_response" in answer:
        return _order_refusal(answer)
    older = maps(answer.get("errors"))
    words, name = (older[0], "id") if older else (answer, "error")
    kind = words.get(name)
    if not isinstance(kind, str) or not REFUSAL_CODES.fullmatch(kind):
        return ""
    return joined(words, name, "message", "error_details", "error_description")


def _order_refusal(answer: Mapping[str, Any]) -> str:
    """The words of an answer to an order that names no order and says that it failed."""
    response = answer.get("error_response")
    names_one = answer.get("order_id") or answer.get("success_response")
    if answer.get("success") is not False or names_one or not isinstance(response, Mapping):
        return ""
    reasons = ("error", "preview_failure_reason", "new_order_failure_reason")
    row = cast("Mapping[str, Any]", response)
    if all(_UNSAID.fullmatch(str(row.get(reason) or "")) for reason in reasons):
        return ""
    return joined(row, *reasons, "message", "error_details")


COUNTED: Final = frozenset({"ACCOUNT_TYPE_CRYPTO", "ACCOUNT_TYPE_FIAT"})
"""The accounts that can be traded from. An account without a type is one: older answers have none."""

LEFT_OUT: Final[Mapping[str, str]] = MappingProxyType(
    {"ACCOUNT_TYPE_VAULT": "vault", "ACCOUNT_TYPE_PERP_FUTURES": "perpetuals"}
)
"""The accounts that cannot, and the wallet that each is. A type on neither list proves nothing: what it
holds is not known."""

SPOT: Final = frozenset({"ACCOUNT_PLATFORM_CONSUMER", "ACCOUNT_PLATFORM_UNSPECIFIED"})
"""The platforms whose money buys on spot markets. Older answers name none."""

PLATFORMS: Final[Mapping[str, str]] = MappingProxyType(
    {"ACCOUNT_PLATFORM_CFM_CONSUMER": "futures", "ACCOUNT_PLATFORM_INTX": "perpetuals"}
)
"""Those of derivatives, and the wallet that each is. Another platform is a wallet under its own name."""

_TOLD: Final = ("type", "platform")
"""Keys that some accounts of an answer may not lack while others have them."""


def accounts_page(
    answer: object,
    code: Code,
    found: dict[str, Holding],
    seen: set[str],
    apart: dict[str, dict[str, Holding]] | None = None,
) -> str | None:
    """Add one page of accounts to `found`; return the cursor of the next page, None at the end.

    `seen` collects the accounts' ids over all pages: an account that comes twice would count twice.
    `apart` collects what no spot order can spend, by the name of its wallet. An account must state its hold,
    and the page whether it is the last: without them nothing is proven.
    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/accounts/list-accounts
    """
    page = mapping(answer, "the answer")
    rows = [mapping(entry, "an account") for entry in listing(page.get("accounts"), "accounts")]
    before = len(seen)
    for key in _TOLD:
        if len({row.get(key) is None for row in rows}) > 1:
            raise UnprovenAnswer(f"some accounts state their {key}, and some do not")
    for row in rows:
        uuid = row.get("uuid")
        if isinstance(uuid, str) and uuid:
            if uuid in seen:
                raise UnprovenAnswer(f"the account {uuid} comes twice")
            seen.add(uuid)
        wallet = _wallet(row)
        if wallet and apart is None:
            continue
        available = mapping(row.get("available_balance"), "available_balance")
        currency = named(available.get("currency"), "available_balance.currency")
        free = stated_hold(available, "value", currency)
        hold = mapping(row.get("hold"), f"hold of {currency}")
        used = stated_hold(hold, "value", currency)
        for other in (row.get("currency", currency), hold.get("currency", currency)):
            if other != currency:
                raise UnprovenAnswer(f"an account is in {short(other)} and in {currency}")
        # One that is only not ready, and has nothing, states that there is nothing.
        counts = not wallet or apart is None or (wallet in _NOT_READY and not (free or used))
        held = found if counts or apart is None else apart.setdefault(wallet, {})
        add(held, code(currency), free=free, used=used, total=summed((free, used)))
    more = page.get("has_next")
    if not isinstance(more, bool):
        raise UnprovenAnswer("has_next is missing, so it is not known whether this is the last page")
    _hold_against_size(page.get("size"), len(rows), before, more=more)
    if not more and not seen and page.get("cursor") not in (None, ""):
        raise UnprovenAnswer("no account is listed, and there is a cursor of a next page")
    return text(page.get("cursor"), "cursor of the next page") if more else None


def _hold_against_size(size: object, rows: int, before: int, *, more: bool) -> None:
    """Hold the number of accounts that a page states against its list.

    It is that of the page, or of all pages: with a next page only an empty list is denied by it.
    """
    try:
        counted = 0 if size is None else amount(size)
    except ValueError:
        return  # it states no number
    if (counted > 0 and not rows) or (not more and counted > rows + before):
        raise UnprovenAnswer(f"size is {short(size)}, and {rows} accounts are listed")


def _wallet(row: Mapping[str, Any]) -> str:
    """The wallet that an account is which no spot order can spend; empty: it can be traded from."""
    kind = text(row.get("type", "ACCOUNT_TYPE_CRYPTO"), "type of an account")
    if kind in LEFT_OUT:
        return LEFT_OUT[kind]
    if kind not in COUNTED:
        raise UnprovenAnswer(f"an account is of a type that we do not know: {short(kind)}")
    platform = "" if row.get("platform") is None else text(row["platform"], "platform of an account")
    if not platform.startswith(_PLATFORM) and platform:
        raise UnprovenAnswer(f"platform of an account is {short(platform)}")
    if platform and platform not in SPOT:
        return PLATFORMS.get(platform, platform.removeprefix(_PLATFORM).lower())
    for key, wallet in _NOT_READY_BY:
        if not isinstance(row.get(key), bool | None):
            raise UnprovenAnswer(f"{key} of an account is {short(row[key])}")
        if row.get(key) is False:
            return wallet
    deleted = row.get("deleted_at")
    if deleted in (None, ""):
        return ""
    if not isinstance(deleted, str) or not deleted[:4].isdigit():
        raise UnprovenAnswer(f"deleted_at of an account is {short(deleted)}")
    return "deleted"


_PLATFORM: Final = "ACCOUNT_PLATFORM_"

_NOT_READY_BY: Final = (("active", "inactive"), ("ready", "not ready"))
"""Keys that say whether an account may be used and traded from, and the wallet that it is otherwise."""

_NOT_READY: Final = frozenset({"deleted", *(wallet for _, wallet in _NOT_READY_BY)})


OLDER_COUNTED: Final = frozenset({"wallet", "fiat"})
"""The accounts that ccxt adds up."""

OLDER_LEFT_OUT: Final = frozenset({"vault", "multisig", "multisig_vault"})
"""The accounts that cannot be traded from."""


def older_holdings(answer: Any, code: Callable[[str], str]) -> dict[str, Holding]:
    """The holdings of Coinbase's /v2/accounts, which states no holds. Raises UnprovenAnswer.

    ccxt reads its first page alone, so an answer that has a next one is a part of a balance.
    ("List accounts" and "Pagination" of the Coinbase App API.)
    """
    match answer:
        case {"errors": errors} if errors:
            raise UnprovenAnswer("the answer carries errors")
        case {"data": list(), "pagination": {"next_uri": None | ""}}:
            rows: list[Any] = answer["data"]
        case {"data": list(), "pagination": {"next_uri": str()}}:
            raise UnprovenAnswer(
                "this is the first page of the accounts and ccxt reads no further; expected the option "
                "fetchBalance = v3PrivateGetBrokerageAccounts, or params {'v3': True}, which read all"
            )
        case _:
            raise UnprovenAnswer("the answer has no data, or does not say whether it is all of it")
    found: dict[str, Holding] = {}
    for row in rows:
        match row:
            case {"type": str(kind), "balance": {"amount": str(stated), "currency": str(currency)}}:
                pass
            case _:
                raise UnprovenAnswer("an account without type, amount or currency")
        if kind in OLDER_LEFT_OUT:
            continue
        if kind not in OLDER_COUNTED:
            raise UnprovenAnswer(f"an account is of a type that we do not know: {kind[:40]!r}")
        try:
            held = amount(stated)
        except ValueError as error:
            raise UnprovenAnswer(f"amount of {currency[:40]}: {error}") from error
        before = found.get(code(currency))
        held = held if before is None else summed((before.least_total, held))
        found[code(currency)] = Holding(free=held, used=NOTHING, total=held)
    return found


def _take_page(seen: StatedBalance, answer: object, query: Mapping[str, list[str]], code: Code) -> None:
    """See `Profile.balance_answers`."""
    if "cursor" not in query:
        seen.accounts.clear()
        seen.holdings.clear()
        seen.apart.clear()
    seen.goes_on = accounts_page(answer, code, seen.holdings, seen.accounts, seen.apart) is not None


def _take_older(seen: StatedBalance, answer: object, query: object, code: Code) -> None:
    """See `Profile.balance_answers`."""
    del query
    seen.holdings |= older_holdings(answer, code)


def key_facts(answer: object) -> KeyFacts:
    """The facts in a key_permissions answer. Raises UnprovenAnswer.

    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/data-api/get-api-key-permissions
    """
    row = mapping(answer, "the answer")
    flags = {name: _flag(row, name) for name in ("can_view", "can_trade", "can_transfer")}
    portfolio, kind = row.get("portfolio_uuid"), row.get("portfolio_type")
    named = isinstance(portfolio, str) and portfolio
    return KeyFacts(
        account=f"portfolio {portfolio}{f' ({kind})' if kind else ''}" if named else "",
        account_id=str(portfolio) if named else "",
        query=flags["can_view"],
        trade=flags["can_trade"],
        withdraw=flags["can_transfer"],
        rights=", ".join(name for name, may in flags.items() if may) or "nothing",
        named=tuple(name for name, may in flags.items() if may and name != "can_transfer"),
    )


def _flag(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name)
    if not isinstance(value, bool):
        raise UnprovenAnswer(f"{name} is {short(value)}")
    return value


def order_parameters(request: OrderRequest) -> dict[str, Any]:
    """What `v3PrivatePostBrokerageOrders` is called with.

    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/create-order
    """
    return {"client_order_id": request.client_order_id, **preview_parameters(request)}


def preview_parameters(request: OrderRequest) -> dict[str, Any]:
    """What `v3PrivatePostBrokerageOrdersPreview` is called with: the order without an id of ours.

    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/preview-orders
    """
    unit = "quote_size" if request.base_amount is None else "base_size"
    return {
        "product_id": request.product.id,
        "side": str(request.side).upper(),
        "order_configuration": {"market_market_ioc": {unit: request.size}},
    }


_STATES: Final = {
    **dict.fromkeys(("PENDING", "OPEN", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED"), OPEN),
    "FILLED": FILLED,
    **dict.fromkeys(("CANCELLED", "EXPIRED", "FAILED"), OVER),
}

_SIDES: Final = {"BUY": "buy", "SELL": "sell"}


def placed(answer: object, request: OrderRequest) -> str:
    """The id of the order that was created for this request. Raises NotTaken, UnprovenAnswer.

    An id that is sent a second time gives the order of that id, whatever is asked for now. ("Create Order",
    of `client_order_id`: where the id is not unique, no order is created and that of the id is returned.
    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/create-order)
    """
    envelope = _accepted(answer)
    if envelope.get("success") is not True:
        raise UnprovenAnswer(f"success is {short(envelope.get('success'))}")
    row = mapping(envelope.get("success_response"), "success_response")
    expected = {
        "product_id": request.product.id,
        "side": str(request.side).upper(),
        "client_order_id": request.client_order_id,
    }
    for key, value in expected.items():
        if row.get(key) != value:
            raise UnprovenAnswer(f"{key} of the order is {short(row.get(key))}, not {value}")
    sizes = _sizes(envelope).items()
    wanted = {"ordered_base": request.base_amount, "ordered_quote": request.quote_amount}
    if any(number(size, "the size of the order") != wanted[unit] for unit, size in sizes):
        raise UnprovenAnswer(
            f"the order of this id has another size: {short(envelope['order_configuration'])}"
        )
    return text(row.get("order_id"), "order_id")


def previewed(answer: object) -> None:
    """Coinbase would take the order. Raises NotTaken, UnprovenAnswer; PlacedAfterAll."""
    envelope = _accepted(answer)
    for key in ("order_id", "success_response"):
        if envelope.get(key):
            raise PlacedAfterAll(f"a preview was answered with an order: {key} {short(envelope[key])}")
    errors = listing(envelope.get("errs"), "errs")
    if errors:
        raise NotTaken(", ".join(map(str, errors)))
    sizes = [number(envelope.get(key), key) for key in ("base_size", "quote_size")]
    if not any(sizes):
        raise UnprovenAnswer("a preview of nothing: both sizes are zero")


def found_order(page: object, client_order_id: str) -> FoundOrder | None:
    """Our order, on one page of "List Orders"; None if it is not on this page.

    Coinbase does not choose by our id: `cursor_of` says whether there are more. Raises UnprovenAnswer.
    """
    ours: dict[str, FoundOrder] = {}
    for entry in listing(_accepted(page).get("orders"), "orders"):
        row = mapping(entry, "an order")
        stated = row.get("client_order_id")
        if not isinstance(stated, str):
            raise UnprovenAnswer(f"the client_order_id of an order is {short(stated)}")
        if stated == client_order_id:
            order_id = text(row.get("order_id"), "order_id")
            ours[order_id] = _found_order(order_id, row)
    return only(ours, client_order_id)


def _found_order(order_id: str, row: Mapping[str, Any]) -> FoundOrder:
    market = "" if row.get("product_id") is None else text(row["product_id"], "product_id")
    return order_of(
        order_id,
        market,
        _SIDES.get(row["side"], row["side"]) if isinstance(row.get("side"), str) else None,
        _sizes(row),
        row.get("filled_size"),
        (_STATES, row.get("status"), _reasons(row)),
        # "Get Order" states its fees in the quote currency, which stands last in the name of the product.
        Paid(row.get("average_filled_price"), row.get("total_fees"), market.rpartition("-")[2]),
    )


def order_at(answer: object, order_id: str) -> FoundOrder:
    """The order of this id in an answer of "Get Order". Raises UnprovenAnswer.

    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/get-order
    """
    row = mapping(_accepted(answer).get("order"), "order")
    if row.get("order_id") != order_id:
        raise UnprovenAnswer(f"another order than {order_id}: {short(row.get('order_id'))}")
    return _found_order(order_id, row)


def _sizes(row: Mapping[str, Any]) -> dict[str, object]:
    """The size that was asked for, by its currency; empty when it is not said."""
    configuration = mapping(row.get("order_configuration") or {}, "order_configuration")
    if len(configuration) != 1:
        return {}
    (kind,) = configuration.values()
    sizes = mapping(kind, "order_configuration")
    units = {"base_size": "ordered_base", "quote_size": "ordered_quote"}
    found = {unit: sizes[key] for key, unit in units.items() if sizes.get(key)}
    in_quote = row.get("size_in_quote")
    if len(found) > 1 or (
        isinstance(in_quote, bool) and found and in_quote is not ("ordered_quote" in found)
    ):
        raise UnprovenAnswer(f"the size of an order contradicts itself: {short(sizes)}")
    return found


def _reasons(row: Mapping[str, Any]) -> tuple[object, ...]:
    reasons = (row.get("reject_reason"), row.get("reject_message"), row.get("cancel_message"))
    return tuple(reason for reason in reasons if reason != "REJECT_REASON_UNSPECIFIED")


def cursor_of(page: object) -> str | None:
    """The cursor of the next page of "List Orders"; None when this is the last. Raises UnprovenAnswer."""
    envelope = _accepted(page)
    more = envelope.get("has_next")
    if not isinstance(more, bool):
        raise UnprovenAnswer("has_next is missing, so it is not known whether this is the last page")
    return text(envelope.get("cursor"), "cursor of the next page") if more else None


def _accepted(answer: object) -> Mapping[str, Any]:
    admit(PROFILE.refusals, answer)
    return mapping(answer, "the answer")


def open_orders(page: object, market: Market) -> tuple[OpenOrder, ...]:
    """The orders on one page of "List Orders" that asked for open ones. Raises UnprovenAnswer."""
    rows = [mapping(row, "an order") for row in listing(mapping(page, "the answer").get("orders"), "orders")]
    return tuple(_resting_order(row, market) for row in rows)


def _resting_order(row: Mapping[str, Any], market: Market) -> OpenOrder:
    order_id = text(row.get("order_id"), "order_id")
    configuration = mapping(row.get("order_configuration"), f"order_configuration of {order_id}")
    kinds = [(kind, size) for kind, size in configuration.items() if size is not None]
    if len(kinds) != 1:
        raise UnprovenAnswer(f"{order_id} is an order of {len(kinds)} kinds, not of one")
    kind, size = kinds[0][0], mapping(kinds[0][1], f"order_configuration of {order_id}")
    ordered, filled = size.get("base_size"), row.get("filled_size")
    left = None
    if ordered in (None, ""):
        positive(size.get("quote_size"), f"the size of {order_id}")
    else:
        left = left_of(ordered, "0" if filled == "" else filled, order_id)
    return resting_order(
        order_id,
        text(row.get("product_id"), f"product_id of {order_id}"),
        str(row.get("side")).lower(),
        market,
        left,
        size.get("limit_price"),
        plain=kind.startswith("limit_") and row.get("product_type") in (None, "SPOT"),
    )


GRANULARITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1m": "ONE_MINUTE",
        "5m": "FIVE_MINUTE",
        "15m": "FIFTEEN_MINUTE",
        "30m": "THIRTY_MINUTE",
        "1h": "ONE_HOUR",
        "2h": "TWO_HOUR",
        "4h": "FOUR_HOUR",
        "6h": "SIX_HOUR",
        "1d": "ONE_DAY",
    }
)
"""https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/products/get-product-candles"""


def granularity(timeframe: str) -> str:
    """Coinbase's word for a timeframe. Raises NotSupported."""
    return word_for(GRANULARITIES, timeframe, FAMILY)


def candles(answer: object, count: int) -> tuple[Candle, ...]:
    """The newest `count` candles of a product, oldest first. Raises UnprovenAnswer."""
    keys = ("start", "open", "high", "low", "close", "volume")
    rows = [
        mapping(row, "a candle") for row in listing(mapping(answer, "the answer").get("candles"), "candles")
    ]
    return newest([candle([row.get(key) for key in keys], range(6), 1) for row in rows], count)


_NO_FUTURES: Final = re.compile(
    r"\bnot (?:yet )?(?:approved|eligible|enabled|onboarded)\b[^\"]{0,40}\b(?:futures|fcm|cfm)\b",
    re.IGNORECASE,
)
"""Said of the account. That the key lacks a right is said of the key, and is no answer about positions."""


def positions(answer: object, named: Named = str) -> tuple[Position, ...]:
    """The futures positions of Coinbase, counted in contracts. Raises UnprovenAnswer."""
    found: list[Position] = []
    for row in position_rows(mapping(answer, "the answer").get("positions")):
        product = text(row.get("product_id"), "the product of a position")
        contracts = number(row.get("number_of_contracts"), f"number_of_contracts of {product}")
        found += position(named(product), "future", side_of(row.get("side"), product), contracts)
    return tuple(found)


PROFILE: Final = Profile(
    family=FAMILY,
    own_envelope=True,
    fault_words=FAULT_WORDS,
    refusals=RefusalWords(refusal, bare="Unauthorized"),
    market_words=MARKET_WORDS,
    budget=Budget(30.0, 30.0),  # Advanced Trade: 30 private calls a second
    order_rules=OrderRules(
        name=FAMILY,
        # Its documentation names no limit; a UUID is what it shows.
        client_ids=re.compile(r"[A-Za-z0-9._-]{1,64}"),
        expected="1 to 64 letters, digits, dots, hyphens and underscores",
        sells_by_base=True,  # `quote_size` is for buys
    ),
    market_id=lambda base, quote: f"{base}-{quote}",
    well_known=(("BTC", ("USD",)), ("ETH", ("USD",))),
    may_owe=False,
    buys_by_cost=True,
    balance_call=("v3PrivateGetBrokerageAccounts", ({"limit": 250},)),
    balance_answers=MappingProxyType({"/api/v3/brokerage/accounts": _take_page, "/v2/accounts": _take_older}),
    other_accounts="an API key reads all that is in its portfolio; make a key of the other portfolio",
    pages_have_cursors=True,
    # ccxt asks the older API of Coinbase, and the one that is traded through has a clock too.
    second_clock=("v3PublicGetBrokerageTime", "epochMillis"),
)


class Coinbase:
    """Coinbase's Advanced Trade API. It says nothing of itself."""

    profile: ClassVar = PROFILE
    ids_are_final = True
    has_dry_run = True
    needs_markets = False
    find_calls = 1
    prepare_calls = 0
    says_its_status = False
    lists_open_orders = True

    def __init__(self, caller: Caller) -> None:
        self._ask = caller.call
        self._caller = caller

    async def prepare(self) -> str:
        return ""

    async def place(self, request: OrderRequest, deadline: OrderDeadline | None = None) -> str:
        del deadline  # it takes none
        answer = await self._ask("v3PrivatePostBrokerageOrders", order_parameters(request))
        return placed(answer, request)

    async def validate(self, request: OrderRequest) -> None:
        answer = await self._ask("v3PrivatePostBrokerageOrdersPreview", preview_parameters(request))
        previewed(answer)

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        # Nothing can be asked for by our id, so this market's orders are looked through, the newest first.
        # https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/list-orders
        wanted: dict[str, Any] = {"product_ids": [product.id], "limit": ORDERS_PER_PAGE}
        if since_us is not None:
            since = datetime.fromtimestamp((since_us - SKEW_US) // 1_000_000, UTC)
            wanted["start_date"] = f"{since:%Y-%m-%dT%H:%M:%SZ}"
        for _ in range(MOST_PAGES):
            page = await self._ask("v3PrivateGetBrokerageOrdersHistoricalBatch", wanted)
            found = found_order(page, client_order_id)
            cursor = cursor_of(page)
            if found is not None or cursor is None:
                return found
            if cursor == wanted.get("cursor"):
                raise UnprovenAnswer("the list of orders does not go on: a page names itself as the next one")
            wanted["cursor"] = cursor
        raise UnprovenAnswer(
            f"not among the newest {MOST_PAGES * ORDERS_PER_PAGE} in {product.id}, and there are more"
        )

    async def look_at(self, product: Product, order_id: str) -> FoundOrder:
        del product
        wanted = {"order_id": order_id}
        return order_at(await self._ask("v3PrivateGetBrokerageOrdersHistoricalOrderId", wanted), order_id)

    async def positions(self, named: Named) -> tuple[Position, ...]:
        try:
            answer = await self._ask("v3PrivateGetBrokerageCfmPositions")
        except Exception as error:
            fault = self._caller.fault(error)
            if fault.kind is FaultKind.PERMISSION and _NO_FUTURES.search(fault.detail):
                return ()  # an account that is not approved for futures has none
            raise
        return positions(answer, named)

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        span, now_s = granularity(timeframe), now_us // 1_000_000
        count = min(count, MOST_CANDLES)
        wanted = {
            "product_id": product.id,
            "granularity": span,
            "start": str(now_s - count * TIMEFRAMES[timeframe]),
            "end": str(now_s),
            "limit": count,
        }
        answer = await self._ask("v3PublicGetBrokerageMarketProductsProductIdCandles", wanted)
        return candles(answer, count)

    async def status(self, now_us: int) -> Status | None:
        del now_us
        return None

    async def balance(self, turn: BalanceTurn) -> FetchedBalance:
        found: dict[str, Holding] = {}
        apart: dict[str, dict[str, Holding]] = {}
        wanted: dict[str, Any] = {"limit": 250}
        accounts: set[str] = set()
        cursors: set[str] = set()
        for _ in range(MOST_ACCOUNT_PAGES):
            page = await self._ask("v3PrivateGetBrokerageAccounts", wanted)
            if not cursors and turn.known is not None:
                return FetchedBalance(turn.known)
            cursor = accounts_page(page, self._caller.code, found, accounts, apart)
            if cursor is None:
                if not cursors and not apart:
                    turn.keep(found)
                return FetchedBalance(found, apart=MappingProxyType(apart))
            if cursor in cursors:
                raise UnprovenAnswer("the list of accounts comes round to a page that was read already")
            cursors.add(cursor)
            wanted = {"limit": 250, "cursor": cursor}
            await turn.another()
        raise UnprovenAnswer(f"the list of accounts does not end after {MOST_ACCOUNT_PAGES} pages")

    def proves_answered(self, answer: object) -> object:
        return listing(mapping(answer, "the answer").get("accounts"), "accounts")

    async def key_facts(self, ask: PrivateQuestion) -> KeyFacts:
        return await self.stated_key(ask)

    async def stated_key(self, ask: PrivateQuestion) -> KeyFacts:
        return await ask(key_facts, "v3PrivateGetBrokerageKeyPermissions")

    async def ledger(
        self, ask: PrivateQuestion, currencies: tuple[str, ...], since_us: int
    ) -> tuple[LedgerEntry, ...]:
        del ask, currencies, since_us
        raise NotSupported(f"{FAMILY} has no ledger of all accounts")

    async def open_orders(self, ask: PrivateQuestion, market: Market) -> tuple[OpenOrder, ...]:
        def read(page: object) -> OrdersPage:
            return open_orders(page, market), {"cursor": cursor_of(page)}

        return await all_pages(
            lambda wanted: ask(read, "v3PrivateGetBrokerageOrdersHistoricalBatch", wanted),
            {"order_status": ["OPEN"], "limit": 100},
        )

    async def market_ids(self) -> frozenset[str]:
        raise NotSupported(f"{self._caller.instance.id} has no second list")

    async def market_count(self) -> int:
        answer = await self._ask("v3PublicGetBrokerageMarketProducts", {"product_type": "SPOT"})
        page = mapping(answer, "the answer")
        listing(page.get("products"), "products")
        return int(positive(page.get("num_products"), "num_products"))
