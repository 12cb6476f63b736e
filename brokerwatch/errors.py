"""What brokerwatch raises, as one tree.

    BrokerwatchError
    ├── ConfigError           the configuration cannot be used; lists every problem it has
    ├── BalanceUnknown        this account never answered, so there is no amount to give
    ├── UnknownBroker         no broker of that name in this cluster
    ├── ClusterStopped        asked after the cluster was stopped, or before it was started
    ├── ListenerStopped       a listener was started twice, or after its end
    ├── BlockingCallInLoop    a waiting call was made on a thread that runs an event loop
    ├── CouldNotAsk           a question to an exchange met a fault, so there is no answer
    │   ├── NotAllowed        the exchange says that this key may not ask it
    │   └── InsideLane        called inside `broker.lane()`: it would wait for itself (also an OrderNotSent)
    ├── NotSupported          this exchange, or a callable of your own, has no such thing
    ├── SymbolError           a symbol that cannot be used (also a ValueError)
    │   ├── InvalidSymbol     it cannot be read
    │   └── UnknownSymbol     it can be read, and this exchange has no such market
    ├── OrderError            an order that was not placed, or of which nobody knows
    │   ├── TradingDisabled   the configuration does not say `trading = true`; nothing was sent
    │   ├── InvalidOrder      an argument cannot be; names it; nothing was sent (also a ValueError)
    │   ├── ValidationNotSupported  the exchange has no dry run; nothing was sent
    │   ├── EntryRefused      the account is not available, or its balance too old; nothing was sent
    │   │   └── VerificationRequired  its key was not verified, or too long ago
    │   ├── OrderNotSent      its turn did not come, or the connection was never made; nothing was sent
    │   ├── OrderRefused      the exchange said no; nothing was placed
    │   └── OrderStateUnknown sent, and nobody knows what became of it: look it up, do not send it again
    ├── EndpointUnavailable   a ZeroMQ endpoint could not be bound
    ├── StoreError            the database that remembers cannot be read or written
    ├── StateFolderTaken      another running cluster has the state folder
    ├── ControlError          an operator's command could not be carried out
    └── CodecError            bytes that are not a message of ours (also a ValueError)

`ReaderGone` stands apart: a pipe that was closed is no error.

Faults of an exchange are not here: they are expected, so they are values
(`brokerwatch.messages.Fault`), and a broker answers through them with its last known balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class BrokerwatchError(Exception):
    """Any error that brokerwatch raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration: where, which key, and what was expected."""

    where: str
    key: str
    expected: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.where, self.key, self.expected) if part)
        return " ".join(text.split())  # one line, whatever a key or a value contains


class ConfigError(BrokerwatchError):
    """The configuration cannot be used. `problems` holds every problem, not only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class BalanceUnknown(BrokerwatchError):
    """The account never answered, so its balance is unknown, which is not the same as zero."""


class UnknownBroker(BrokerwatchError, KeyError):
    """There is no broker of that name."""

    def __str__(self) -> str:
        # A KeyError would print the repr of its message.
        return str(self.args[0]) if self.args else "no such broker"


class ClusterStopped(BrokerwatchError):
    """The cluster is not running, so nobody could ask the exchange."""


class ListenerStopped(BrokerwatchError):
    """A listener is started once; this one was, or has ended."""


class BlockingCallInLoop(BrokerwatchError, RuntimeError):
    """A call that waits was made inside a running event loop and would have stalled it."""


class CouldNotAsk(BrokerwatchError):
    """A question to an exchange met a fault: there is no answer, which is not the same as an empty one."""

    def __init__(self, text: str, kind: str = "", fault: Any = None) -> None:
        super().__init__(text)
        self.kind = kind
        """The kind of fault; see `brokerwatch.messages.FaultKind`. Empty: the exchange was not asked."""
        self.fault = fault
        """The `brokerwatch.messages.Fault` itself; None: the exchange was not asked."""


class NotAllowed(CouldNotAsk):
    """The exchange says that this API key may not ask this."""


class NotSupported(BrokerwatchError):
    """This exchange has no such thing, or the account is read by a callable of your own."""


class SymbolError(BrokerwatchError, ValueError):
    """A symbol that cannot be used."""


class InvalidSymbol(SymbolError):
    """A symbol that cannot be read, or that could mean two markets."""


class UnknownSymbol(SymbolError):
    """A symbol that can be read, and that this exchange does not have."""


class OrderError(BrokerwatchError):
    """An order that was not placed, or of which nobody knows."""


class TradingDisabled(OrderError):
    """The broker's configuration does not say `trading = true`. Nothing was sent."""


class InvalidOrder(OrderError, ValueError):
    """An argument that cannot be. Nothing was sent."""

    def __init__(self, argument: str, expected: str) -> None:
        super().__init__(f"{argument}: {expected}")
        self.argument = argument
        """The name of the argument."""


class ValidationNotSupported(OrderError):
    """The exchange has no dry run: any order would be a real one. Nothing was sent."""


class EntryRefused(OrderError):
    """The account is not available, or its balance is too old to size an entry on. Nothing was sent."""


class VerificationRequired(EntryRefused):
    """Entries need a verification (`require_verification_max_age_s`), and there is none of this key that
    passed and is young enough.

    Nothing was sent. `brokerwatch verify BROKER` makes one; exits pass without.
    """


class OrderNotSent(OrderError):
    """The order's turn did not come, or no connection was made. Nothing was sent; it may be tried again."""


class InsideLane(CouldNotAsk, OrderNotSent):
    """A call that needs the lane was made inside `broker.lane()`, and would have waited for its own end.

    Nothing was sent. Make it outside the block; other threads and tasks wait for the end of the turn.
    """


class EarlierOrderUnknown(OrderNotSent):
    """Nobody knows what became of an earlier order, so this one was not sent: it might buy twice."""

    def __init__(self, text: str, client_order_id: str) -> None:
        super().__init__(text)
        self.client_order_id = client_order_id
        """The earlier one's."""


class OrderRefused(OrderError):
    """The exchange said no, in its own words. Nothing was placed."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        """The kind of fault; see `brokerwatch.messages.FaultKind`."""


class OrderStateUnknown(OrderError):
    """An order was sent, and nobody knows what became of it.

    Look it up with `broker.find_order(symbol, client_order_id)`; sending another one may buy twice.
    """

    def __init__(self, text: str, client_order_id: str) -> None:
        super().__init__(text)
        self.client_order_id = client_order_id


class EndpointUnavailable(BrokerwatchError):
    """A ZeroMQ endpoint could not be bound: somebody else has it, or it cannot exist here."""


class StateFolderTaken(BrokerwatchError):
    """Another cluster that runs has the state folder; two would overwrite what the other remembers."""


class ControlError(BrokerwatchError):
    """An operator's command could not be carried out, or nobody was there to hear it."""


class StoreError(BrokerwatchError):
    """The database that remembers cannot be read or written just now: which, why, and what to do about it.

    Nothing was written by the call that raised it. It never holds the password of the database's URL.
    """


class ReaderGone(Exception):
    """Whoever read our lines has enough of them: no error, and nothing to say about it."""


class CodecError(BrokerwatchError, ValueError):
    """These bytes are not a message of this protocol, or break one of its limits."""
