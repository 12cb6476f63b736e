"""Which kind of call an exception of the trader's own code came from, read from its traceback.

A trader hands over the exception alone: `except ccxt.BaseError as error: broker.observe(error)`. Its
traceback names the methods that were called, and ccxt's unified methods have the same names at every
exchange. The innermost one decides: an order for which ccxt first loads the markets has met the trouble of
the markets.
Any thread may ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import FrameType, MappingProxyType
from typing import Final

from brokerwatch.health.capabilities import DATA, READ, TRADE

MOST_CAUSES: Final = 50
"""So many exceptions beneath the given one are looked at: a chain may lead back to itself."""

_PRIVATE: Final = (
    r"balance(_ws)?|(free|used|total|partial)_balance|accounts?|orders?|order_(status|trades|with_client_order_id)"
    r"|(open|closed|canceled|canceled_and_closed)_orders?|orders_by_status|my_trades|my_liquidations"
    r"|positions?(_.+)?|ledger(_entry)?|deposits?(_.+)?|withdrawals?|transactions?|transfers?|trading_fees?"
    r"|leverages?|margin_modes?|borrow_interest|funding_history|payment_methods|convert_trade(_history)?"
)
_METHODS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        TRADE: re.compile(
            r"(create|edit|cancel)_([a-z_]+_)?orders?(_.+)?|close_(all_)?positions?|cancel_all_orders_after"
        ),
        READ: re.compile(rf"(fetch|watch|load)_({_PRIVATE})(_ws)?"),
    }
)
"""A kind of call to the methods of that kind; a client that is not ccxt often has the same names."""
_PUBLIC: Final = re.compile(r"(fetch|watch)_[a-z0-9_]+|load_markets(_helper)?|load_time_difference")
"""What else ccxt asks is public; a method of this name elsewhere may be anything."""
_TRANSPORT: Final = frozenset({"fetch", "fetch2", "fetch_web_endpoint", "fetch_rest_order_book_safe"})
"""Methods of ccxt beneath the unified ones: they belong to every kind of call."""
_PAGED: Final = re.compile(r"fetch_paginated_call_[a-z]+")

_ORDERS: Final = re.compile(r"order|cancel", re.IGNORECASE)
_QUESTIONS: Final = re.compile(r"open|closed|query|history|info|list|trades|amend-status", re.IGNORECASE)


def capability_of(error: BaseException) -> str | None:
    """The kind of call that raised `error`; None when its traceback does not say."""
    frames = list(_frames(error))
    for frame in frames:
        found = _by_name(frame)
        if found is not None:
            return found
    for frame in frames:
        if frame.f_code.co_name == "fetch2":
            return _by_request(frame.f_locals)
    return None


def symbol_of(error: BaseException) -> str:
    """The market of the order that raised `error`; empty where its traceback does not say."""
    for frame in _frames(error):
        if _is_ccxts(frame) and _METHODS[TRADE].fullmatch(frame.f_code.co_name):
            symbol = frame.f_locals.get("symbol")
            if isinstance(symbol, str):
                return symbol
    return ""


def is_from_ccxt(error: BaseException) -> bool:
    """Whether the exception was raised by a line of ccxt's own."""
    frame = next(_frames(error), None)
    return frame is not None and _is_ccxts(frame)


def _is_ccxts(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "ccxt"


def _frames(error: BaseException) -> Iterator[FrameType]:
    """The frames through which the exception came, then those of what it was raised from; innermost first."""
    current: BaseException | None = error
    for _ in range(MOST_CAUSES):
        if current is None:
            return
        passed: list[FrameType] = []
        trace = current.__traceback__
        while trace is not None:
            passed.append(trace.tb_frame)
            trace = trace.tb_next
        yield from reversed(passed)
        current = current.__cause__ or current.__context__


def _by_name(frame: FrameType) -> str | None:
    method = frame.f_code.co_name
    if method in _TRANSPORT or _PAGED.fullmatch(method):
        return None
    named = next((kind for kind, names in _METHODS.items() if names.fullmatch(method)), None)
    return DATA if named is None and _is_ccxts(frame) and _PUBLIC.fullmatch(method) else named


def _by_request(request: Mapping[str, object]) -> str | None:
    """The kind of one of ccxt's implicit calls, such as `private_post_addorder`, by its request."""
    path, api, method = (request.get(name) for name in ("path", "api", "method"))
    if not isinstance(path, str):
        return None
    if "public" in str(api).lower():
        return DATA
    if method != "GET" and _ORDERS.search(path) and not _QUESTIONS.search(path):
        return TRADE
    return READ
