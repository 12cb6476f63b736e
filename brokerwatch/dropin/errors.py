"""What is raised where no balance was proven: an error of ours that is one of ccxt's as well.

It is `BalanceUnknown` and `CouldNotAsk`, with the fault, and the class that ccxt raised, so that the handlers
of a bot go on working. Where plain ccxt would not have raised at all, there is no such class, and a bot has
no handler for it. So every fault that passes by itself can also be caught as `ccxt.NetworkError`, which
means "try again later".
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
"""ccxt's exception classes. strict_ccxt.py alone imports them."""


class Unproven(BalanceUnknown, CouldNotAsk):
    """No balance was proven. Each one that is raised derives from one of ccxt's exceptions as well.

    `kind` and `fault` say why; see `CouldNotAsk`.
    """


class Doubted(UnprovenAnswer):
    """An empty answer that may be believed when it comes again."""


class NotConfirmed(UnprovenAnswer):
    """An empty answer of an account of which nothing is known yet: no error, and no success."""


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
    return strict_ccxt.mixed(Unproven, *bases)
