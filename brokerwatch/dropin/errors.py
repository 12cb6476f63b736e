"""What is raised where no balance was proven: an error of ours that is one of ccxt's as well.

It is `BalanceUnknown` and `CouldNotAsk`, with the fault, and the class that ccxt raised, so that the handlers
of a bot go on working. Where ccxt would have been silent there is no such class, and a bot has no handler for
what never happened; so all faults that pass by themselves can be caught as `ccxt.NetworkError`, "try again
later", as well.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.errors import BalanceUnknown, CouldNotAsk
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.gateway import strict_ccxt
from brokerwatch.messages import FaultKind

CCXT: Final[Any] = sys.modules[cast("Any", strict_ccxt).BadResponse.__module__]
"""ccxt's exception classes. strict.py alone imports them."""


class Unproven(BalanceUnknown, CouldNotAsk):
    """No balance was proven. Each one that is raised derives from one of ccxt's exceptions as well.

    `kind` and `fault` say why; see `CouldNotAsk`.
    """


class Doubted(UnprovenAnswer):
    """An empty answer that may be believed when it comes again."""


class LockedOut(Exception):
    """Nothing was sent: the exchange has shut the key out."""


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
)
"""ccxt's class for what ccxt has none for; all else, such as a secret that cannot sign: ExchangeError."""
_raised_classes: dict[tuple[type[Any], ...], type[Unproven]] = {}


def raised(error: Exception, kind: FaultKind) -> type[Unproven]:
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
    if bases not in _raised_classes:
        named = {"__module__": __name__, "__doc__": Unproven.__doc__}
        _raised_classes[bases] = type(bases[0].__name__, (Unproven, *bases), named)
    return _raised_classes[bases]
