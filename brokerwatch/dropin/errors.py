"""What is raised where no balance was proven: an error of ours that is one of ccxt's as well.

It is `BalanceUnknown` and `CouldNotAsk`, with the fault, and the class that ccxt raised, so that the handlers
of a bot go on working. Where plain ccxt would not have raised at all, there is no such class, and a bot has
no handler for it. So every fault that passes by itself can also be caught as `ccxt.NetworkError`, which
means "try again later".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.errors import BalanceUnknown, CouldNotAsk, NotSupported
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.gateway import strict_ccxt
from brokerwatch.messages import Fault, FaultKind

CCXT: Final[Any] = sys.modules[cast("Any", strict_ccxt).BadResponse.__module__]
"""ccxt's exception classes. strict_ccxt.py alone imports them."""


class Unproven(BalanceUnknown, CouldNotAsk):
    """No balance was proven. Each one that is raised derives from one of ccxt's exceptions as well.

    `kind` and `fault` say why; see `CouldNotAsk`.
    """


class OrdersUnknown(CouldNotAsk):
    """Orders could not be read. Each one that is raised derives from one of ccxt's exceptions as well."""


class Unfound(Exception):
    """Of an order it is not known how it ended."""


class Doubted(UnprovenAnswer):
    """An empty answer that may be believed when it comes again."""


class NotConfirmed(UnprovenAnswer):
    """An empty answer of an account of which nothing is known yet: no error, and no success."""


class LockedOut(Exception):
    """Nothing was sent: the exchange has shut the key out."""


class StreamLost(Exception):
    """The private stream cannot be had."""


_ALSO: Final[Mapping[FaultKind, str]] = MappingProxyType(
    {
        FaultKind.AUTH: "AuthenticationError",
        FaultKind.PERMISSION: "PermissionDenied",
        FaultKind.CLIENT_BUG: "ExchangeError",
    }
)
"""ccxt's class for a kind of fault; all others pass by themselves: NetworkError."""
_STAND_INS: Final = (
    (UnprovenAnswer, "BadResponse"),
    (TimeoutError, "RequestTimeout"),
    (LockedOut, "RateLimitExceeded"),
    (StreamLost, "NetworkError"),
    (Unfound, "BadResponse"),
)
"""ccxt's class for what ccxt has none for; all else, such as a secret that cannot sign: ExchangeError."""


def raised(error: Exception, kind: FaultKind, ours: type[CouldNotAsk] = Unproven) -> type[CouldNotAsk]:
    """The class to raise: ours, the one of ccxt that `error` is, and the one that its kind means."""
    stand_in = next((name for of, name in _STAND_INS if isinstance(error, of)), "ExchangeError")
    theirs: type[Any] = next(
        (of for of in type(error).__mro__ if of.__module__ == CCXT.__name__), getattr(CCXT, stand_in)
    )
    meant: type[Any] = getattr(CCXT, _ALSO.get(kind, "NetworkError"))
    bases: tuple[type[Any], ...] = (theirs, meant)
    if issubclass(theirs, meant):
        bases = (theirs,)
    elif issubclass(meant, theirs):
        bases = (meant,)
    return strict_ccxt.mixed(ours, *bases)


def unproven(
    exchange: str, error: Exception, fault: Fault, ours: type[CouldNotAsk] = Unproven
) -> CouldNotAsk:
    """The exception to raise for an error: with the fault that it is."""
    text = f"{exchange}: {fault.kind}: {fault.detail}"
    return raised(error, fault.kind, ours)(text, str(fault.kind), fault)


def not_supported(text: str) -> Exception:
    """The exception for what cannot be promised: ours, and ccxt's of the same name."""
    found: Exception = strict_ccxt.mixed(NotSupported, CCXT.NotSupported)(text)
    return found


def again(error: CouldNotAsk) -> Callable[[], CouldNotAsk]:
    """Make the same error for each call that it is raised to: one that is raised twice has both traces."""
    kind, text, of, fault = type(error), str(error), error.kind, error.fault
    return lambda: kind(text, of, fault)
