"""What brokerwatch raises, as one tree.

    BrokerwatchError
    ├── ConfigError           the configuration cannot be used; lists every problem it has
    ├── BalanceUnknown        this account never answered, so there is no amount to give
    ├── UnknownBroker         no broker of that name in this cluster
    ├── ClusterStopped        asked after the cluster was stopped, or before it was started
    ├── ListenerStopped       a listener was started twice, or after its end
    ├── BlockingCallInLoop    a waiting call was made on a thread that runs an event loop
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
