"""The tables by which a failure becomes a kind of fault; the words of one exchange are in its adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from brokerwatch.messages import FaultKind

NETWORK, DOWN, MAINTENANCE = FaultKind.NETWORK, FaultKind.EXCHANGE_DOWN, FaultKind.MAINTENANCE
RATE, AUTH, PERMISSION = FaultKind.RATE_LIMITED, FaultKind.AUTH, FaultKind.PERMISSION
CLOCK, BAD, BUG = FaultKind.NONCE_CLOCK, FaultKind.BAD_RESPONSE, FaultKind.CLIENT_BUG
BLOCKED: Final = FaultKind.BLOCKED

CAUSES: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        # The whole body came and is not encoded as it says; what wraps this is an error of the network.
        "ContentEncodingError": BAD,
        # The certificate comes before its bases, which are connection errors too.
        "ClientConnectorCertificateError": BUG,
        "SSLCertVerificationError": BUG,
        "ClientProxyConnectionError": BUG,
        "ClientHttpProxyError": BUG,
        "InvalidURL": BUG,
        "ClientPayloadError": NETWORK,
        "ClientConnectionError": NETWORK,
        "ConnectionError": NETWORK,
        "gaierror": NETWORK,
        "TimeoutError": NETWORK,
        "ClientResponseError": BAD,
        "UnicodeDecodeError": BAD,
    }
)
"""What lies beneath: aiohttp's and Python's own classes."""

STATUSES: Final[Mapping[int, FaultKind]] = MappingProxyType(
    {
        407: BUG,
        408: NETWORK,
        418: RATE,
        429: RATE,
        # A refusal that is not in the exchange's envelope comes from something that stands before it.
        401: DOWN,
        403: DOWN,
        404: DOWN,
        409: DOWN,
        410: DOWN,
        451: BLOCKED,
        511: NETWORK,  # a portal on our side that wants a login
    }
)
"""HTTP statuses; 5xx that are not listed are `exchange_down`, all others `bad_response`."""

REFUSALS: Final = frozenset({400, 401, 403})
"""Statuses under which some exchanges and their proxies say that they are asked too often."""
OF_ENVELOPES: Final = frozenset({None, 200})
"""Those under which some say it in their own envelope, with a code that ccxt does not know."""

CLASSES: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        "UnprovenAnswer": BAD,
        "AccountNotEnabled": PERMISSION,
        "PermissionDenied": PERMISSION,
        "AccountSuspended": PERMISSION,
        "AuthenticationError": AUTH,
        "RestrictedLocation": BLOCKED,
        "ManualInteractionNeeded": PERMISSION,
        "OnMaintenance": MAINTENANCE,
        "DDoSProtection": RATE,
        "RateLimitExceeded": RATE,
        "ChecksumError": BAD,
        "InvalidNonce": CLOCK,
        "RequestTimeout": NETWORK,
        "ExchangeNotAvailable": DOWN,
        "NullResponse": BAD,
        "BadResponse": BAD,
        "CancelPending": BAD,
        "NetworkError": NETWORK,
        "OperationFailed": NETWORK,
        "MarketClosed": DOWN,
        "ArgumentsRequired": BUG,
        "BadRequest": BUG,
        "OperationRejected": BUG,
        "InsufficientFunds": BUG,
        "InvalidAddress": BUG,
        "InvalidOrder": BUG,
        "NotSupported": BUG,
        "InvalidProxySettings": BUG,
        "ExchangeClosedByUser": BUG,
        "UnsubscribeError": BUG,
        "ExchangeError": BAD,
        "BaseError": BAD,
        "TimeoutError": NETWORK,
        "ConnectionError": NETWORK,
        "gaierror": NETWORK,
        "TypeError": BUG,
        "AttributeError": BUG,
        "NameError": BUG,
    }
)
"""Exception classes by name, ccxt's and Python's; a subclass is classified as its nearest listed base."""

UNSPECIFIC: Final = frozenset(
    {
        "ExchangeError",
        "BaseError",
        "NetworkError",
        "OperationFailed",
        "BadResponse",
        "NullResponse",
        "UnprovenAnswer",
    }
    | {"TypeError", "AttributeError", "NameError"}
)
"""Classes that say no more than that something went wrong."""

BANNED: Final = 418
"""The HTTP status under which an exchange says that it has banned the address of the caller."""
ADDRESS_BAN: Final = re.compile(
    r"\bIP\b[^.{}<>]{0,60}\b(auto-?)?bann?(ed)?\b|\bbann?ed\b[^.{}<>]{0,40}\bIP\b"
    r"|\baccess too frequent|\berror code:? ?1015\b"
    r"|\bIP\b[^.{}<>]{0,40}\b(?:(?:temporarily|blocked|locked|suspended|blacklisted)\b[^{}<>]{0,60}?"
    r"\b(?:excessive|too (?:many|much|often)|frequen\w*|temporar\w*|until|for [0-9]+|try again|retry)"
    r"|exceeded (?:the|its|your) (?:\w+ )?limit)\b",
    re.IGNORECASE,
)
"""Its words for that."""
ADDRESS_REFUSED: Final = re.compile(
    r"\b(?:unmatched|invalid) IP\b|\bno_authorization_ip\b|\bNotAllowIP\b|\bIP_FORBIDDEN\b"
    r"|\bIP(?: addres\w+)?\b[^{}<>]{0,60}?\bnot (?:in|on|included|part of|listed|found in)\b[^{}<>]{0,60}?"
    r"\b(?:white|allow)[- _]?list",
    re.IGNORECASE,
)
"""How exchanges say that a key is bound to addresses and this one is not among them: Bybit 10010, Bitget
40018, KuCoin 400006, MEXC 700006, Gate, Upbit, Bithumb."""
TOO_OFTEN: Final = re.compile(
    ADDRESS_BAN.pattern + r"|\btoo many requests\b|\brate.?limit(ed| exceeded)\b|\btoo much request weight",
    re.IGNORECASE,
)
"""What says, under a status of refusal, that the caller asks too often and may ask again later."""
