"""Every exception that brokerwatch raises, as one tree.

    BrokerwatchError
    ├── ConfigError           the configuration cannot be used; lists every problem it has
    ├── BalanceUnknown        the amount is unknown, because the account never answered or did not state it
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
    ├── OrderError            an order that was not placed, or whose outcome is not known
    │   ├── TradingDisabled   the configuration does not say `trading = true`; nothing was sent
    │   ├── InvalidOrder      an argument is not possible; names it; nothing was sent (also a ValueError)
    │   ├── ValidationNotSupported  the exchange has no dry run; nothing was sent
    │   ├── EntryRefused      the account is not available, or its balance too old; nothing was sent
    │   │   └── VerificationRequired  its key was not verified, or too long ago
    │   ├── OrderNotSent      its turn did not come, or the connection was never made; nothing was sent
    │   │   ├── ClaimLost     in a pool, another node may use the API key by now; nothing was sent
    │   │   └── EarlierOrderUnknown  the outcome of an earlier order is not known
    │   ├── OrderRefused      the exchange refused it; nothing was placed
    │   └── OrderStateUnknown it was sent, and its outcome is not known: look it up, do not send it again
    ├── EndpointUnavailable   a ZeroMQ endpoint could not be bound
    │   └── TooFewDescriptors this process may not open as many files as it needs
    ├── StoreError            the database that remembers cannot be read or written
    ├── NodeNameTaken         another live node of the pool has this name
    ├── StateFolderTaken      another running cluster has the state folder
    ├── ControlError          an operator's command could not be carried out
    └── CodecError            bytes that are not a message of the protocol (also a ValueError)

`ReaderGone` stands apart: a pipe that was closed is no error.

Faults of an exchange are not here. They are expected, so they are values (`brokerwatch.messages.Fault`), and
during a fault a broker still gives its last known balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class BrokerwatchError(Exception):
    """The base of every exception that brokerwatch raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration."""

    where: str
    """The table or the account, such as `broker 'kraken-1'`; empty for the whole file."""
    key: str
    """The key or the value that is wrong."""
    expected: str
    """What was expected there."""
    line: int = 0
    """The line of the file in which the key stands, from 1; where the key is not in the file, that of the
    table which lacks it. 0: not known, or not from a file."""

    def __str__(self) -> str:
        line = f"line {self.line}" if self.line else ""
        text = ": ".join(part for part in (self.where, self.key, line, self.expected) if part)
        return " ".join(text.split())  # one line, whatever a key or a value contains


class ConfigError(BrokerwatchError):
    """The configuration cannot be used. Correct it and start again.

    Args:
        problems: every mistake in it, not only the first. Kept as `problems`; the text has a line for each.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class BalanceUnknown(BrokerwatchError):
    """The account never answered, or its exchange does not state the amount. That is not the same as zero.

    Wait for the first answer, or ask `is_available` first. `close_position` without an amount raises it too
    where the balance could not be read again after an order.
    """


class UnknownBroker(BrokerwatchError, KeyError):
    """There is no broker of that name. The text lists those that exist, where they are known."""

    def __str__(self) -> str:
        # A KeyError would print the repr of its message.
        return str(self.args[0]) if self.args else "no such broker"


class ClusterStopped(BrokerwatchError):
    """The cluster is not running, so it cannot ask the exchange."""


class ListenerStopped(BrokerwatchError):
    """A listener can be started once, and this one was started or stopped before. Make a new one."""


class BlockingCallInLoop(BrokerwatchError, RuntimeError):
    """A call that waits was made on the thread of a running event loop, and would have stalled it.

    Use the awaited methods (`broker.aio`) there, or call it from another thread.
    """


class CouldNotAsk(BrokerwatchError):
    """A question to an exchange met a fault, so there is no answer. That is not the same as an empty answer.

    Args:
        text: what was asked, and what happened.
        kind: the kind of fault; empty when the exchange was not asked.
        fault: the fault itself; None when the exchange was not asked.
    """

    def __init__(self, text: str, kind: str = "", fault: Any = None) -> None:
        super().__init__(text)
        self.kind = kind
        """The kind of fault, as in `brokerwatch.messages.FaultKind`. Empty: the exchange was not asked."""
        self.fault = fault
        """The `brokerwatch.messages.Fault` itself; None: the exchange was not asked."""


class NotAllowed(CouldNotAsk):
    """The exchange says that this API key may not ask this. Give the key the permission at the exchange."""


class NotSupported(BrokerwatchError):
    """The exchange does not offer this, or the account is read by a callable of your own."""


class SymbolError(BrokerwatchError, ValueError):
    """A symbol that cannot be used."""


class InvalidSymbol(SymbolError):
    """A symbol that cannot be read, or that could mean two markets."""


class UnknownSymbol(SymbolError):
    """A symbol that can be read, but the exchange has no such market."""


class OrderError(BrokerwatchError):
    """An order that was not placed, or whose outcome is not known.

    The subclass says which. Only after `OrderStateUnknown` may the order exist at the exchange.
    """


class TradingDisabled(OrderError):
    """The broker's configuration does not say `trading = true`. Nothing was sent."""


class InvalidOrder(OrderError, ValueError):
    """An argument of an order is not possible. Nothing was sent.

    Args:
        argument: the name of the argument.
        expected: what was expected of it.
    """

    def __init__(self, argument: str, expected: str) -> None:
        super().__init__(f"{argument}: {expected}")
        self.argument = argument
        """The name of the argument."""


class ValidationNotSupported(OrderError):
    """The exchange has no dry run, so the order would have been a real one. Nothing was sent."""


class EntryRefused(OrderError):
    """The account is not available, or its balance is too old to size an entry on. Nothing was sent."""


class VerificationRequired(EntryRefused):
    """The account's entries need a verification, and its key has none that passed and is young enough.

    `require_verification_max_age_s` sets the age. Nothing was sent. `brokerwatch verify BROKER` makes a
    verification. Exits need none.
    """


class OrderNotSent(OrderError):
    """The order's turn did not come, or no connection was made. Nothing was sent; it may be tried again."""


class ClaimLost(OrderNotSent):
    """In a pool, this process may not use the API key any more: another node may have it. Nothing was sent.

    It is raised for exits too. Ask the node that has the account, with the same id where you chose one: this
    process cannot look up what was placed with it before.
    """


class InsideLane(CouldNotAsk, OrderNotSent):
    """A call that needs the lane was made inside `broker.lane()`, and would have waited for itself.

    Nothing was sent. Make the call outside the block; calls of other threads and tasks wait for its end.
    """


class EarlierOrderUnknown(OrderNotSent):
    """The outcome of an earlier order is not known, so this one was not sent: it might buy twice.

    Args:
        text: what is known.
        client_order_id: the id of the earlier order, to look it up with `broker.find_order`.
    """

    def __init__(self, text: str, client_order_id: str) -> None:
        super().__init__(text)
        self.client_order_id = client_order_id
        """The id of the earlier order."""


class OrderRefused(OrderError):
    """The exchange refused the order. Nothing was placed.

    Args:
        text: the exchange's own words.
        kind: the kind of fault.
    """

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        """The kind of fault, as in `brokerwatch.messages.FaultKind`."""


class OrderStateUnknown(OrderError):
    """An order was sent, and its outcome is not known. It may have been placed.

    Look it up with `broker.find_order(symbol, client_order_id)`. Sending another one may buy twice.

    Args:
        text: what is known.
        client_order_id: the id of the order.
    """

    def __init__(self, text: str, client_order_id: str) -> None:
        super().__init__(text)
        self.client_order_id = client_order_id
        """The id of the order."""


class EndpointUnavailable(BrokerwatchError):
    """A ZeroMQ endpoint cannot be used: another process has it, or it cannot exist on this machine."""


class TooFewDescriptors(EndpointUnavailable):
    """This process may not open as many files as it needs. Raise its limit (`ulimit -n`), and start it again.

    Nothing was opened. A cluster that raised it in `start` may be started later.
    """


class NodeNameTaken(BrokerwatchError):
    """Another live process of the pool runs as a node of this name. Give each node a name of its own.

    After a crash the name is free when the time of the process that is gone is over; the text says when.
    """


class KeyInUse(BrokerwatchError):
    """A node of a pool, or another verification, has the claim on the API key. Nothing was asked with it."""


class StateFolderTaken(BrokerwatchError):
    """Another running cluster has the state folder. Two clusters would overwrite each other's records."""


class ControlError(BrokerwatchError):
    """An operator's command could not be carried out, or no cluster received it."""


class StoreError(BrokerwatchError):
    """The database cannot be read or written now. The text says which, why, and what to do about it.

    The call that raised it wrote nothing. The text never holds the password of the database's URL.
    """


class ReaderGone(Exception):
    """The reader of the program's output closed the pipe. The program ends without a message."""


class CodecError(BrokerwatchError, ValueError):
    """These bytes are not a message of this protocol, or break one of its limits."""
