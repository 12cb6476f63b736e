"""How the private stream of an exchange is opened, and what its frames prove: the protocol of the folds.

A fold is pure. It is given each frame as it came, and says what is to be sent, which amounts are stated, and
whether a read is needed. The rules are the same everywhere:

- A snapshot states all that it names, after its last page. What it leaves out is not stated any more.
- An update sets what it names. A change (a delta) sets nothing and asks for a read.
- What is older, by the exchange's own number or time, is dropped.
- A gap and a frame that cannot be read ask for a read, and end the connection: what was known of any currency
  may be out of date, and another connection gives a whole snapshot.

A fold is made anew for each connection, so that nothing of an earlier one can stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

from brokerwatch.clock import Instant
from brokerwatch.exchanges.balances import Code
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages.balance import MAX_CURRENCIES
from brokerwatch.messages.stream import NamedOrder, PushedAmounts


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a REST call has to fetch before a stream can be opened."""

    method: str
    """The implicit method of ccxt."""
    read: Callable[[object], str]
    """What is taken out of the answer. Raises UnprovenAnswer."""
    right: str
    """The right that the key needs, in the exchange's own words."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a new connection begins with."""

    credentials: Mapping[str, str]
    """ccxt's credentials in snake_case."""
    ticket: str
    """What the REST call gave, or the token that was made; empty where none is needed."""
    now: Instant
    code: Code
    """The common code of a currency."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one frame, or the beginning of a connection, leads to."""

    fold: StreamFold
    send: tuple[str, ...] = ()
    """What is to be sent, in this order."""
    amounts: PushedAmounts | None = None
    """What is stated; None: nothing."""
    asks: str = ""
    """Why a read is needed, for people; empty: it is not."""
    orders: tuple[NamedOrder, ...] = ()
    """The orders that the frame is about, where orders are watched; they come with `asks`."""
    acknowledged: bool = False
    """Whether the exchange has accepted the subscription with this frame."""
    refused: str = ""
    """The exchange's words, if it does not let this key have the stream."""
    ended: str = ""
    """Why the connection is of no more use, for people; empty: it is."""


class StreamFold(Protocol):
    """The state of one connection, and what its frames mean. Immutable."""

    family: ClassVar[str]
    hosts: ClassVar[Mapping[str, str]]
    """ccxt id to the exchange's own address of it."""
    url_path: ClassVar[tuple[str, ...]]
    """Where another address stands in the `urls` of ccxt.pro, under `api`."""
    url_end: ClassVar[str]
    """What ccxt.pro adds to that address."""
    ticket: ClassVar[Ticket | None]
    """What is fetched first; None: nothing."""
    ping: ClassVar[str]
    """What is sent to have an answer; empty: frames come each second anyway."""
    sets: ClassVar[bool]
    """Whether its frames state amounts; else each of them only asks for a read."""

    @staticmethod
    def token(instance: Any, credentials: Mapping[str, str], now_s: int) -> str:
        """A token that the ccxt instance makes without asking; empty where none is needed.

        `now_s`: seconds since 1970.
        """
        ...

    @classmethod
    def opened(cls, opening: Opening) -> Step:
        """Begin a connection."""
        ...

    def heard(self, frame: str) -> Step:
        """Take one frame of text."""
        ...


def bounded(currencies: int) -> None:
    """Raise UnprovenAnswer for more currencies than any account holds: a connection keeps their names."""
    if currencies > MAX_CURRENCIES:
        raise UnprovenAnswer(f"{currencies} currencies in one account; the limit is {MAX_CURRENCIES}")


def unreadable(fold: StreamFold, error: ValueError) -> Step:
    """A frame cannot be read. It may have stated anything, so a new connection gives all of it."""
    words = f"a frame cannot be read: {error}"
    return Step(fold, asks=words, ended=words)


def url_of(fold: type[StreamFold], exchange: str, urls: Mapping[str, Any], *, elsewhere: bool) -> str:
    """Where a stream is, by the `urls` of a ccxt instance; empty: it is not known.

    `elsewhere`: whether the account is asked at another address than the exchange's own. Its credentials must
    not go to the exchange's own then.
    """
    found: object = urls.get("api")
    for key in fold.url_path:
        found = cast("Mapping[str, object]", found).get(key) if isinstance(found, Mapping) else None
    if isinstance(found, str) and found:
        return found + fold.url_end
    return "" if elsewhere else fold.hosts.get(exchange, "")
