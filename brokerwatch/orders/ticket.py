"""One order that a caller waits for, and what the caller learns when it stops waiting.

Until the order goes out it is withdrawn then, and the error says that nothing was sent. After that it is not
known what became of it, and the error says that.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from brokerwatch.errors import ClusterStopped, CouldNotAsk, OrderNotSent, OrderStateUnknown
from brokerwatch.exchanges.order_request import ANY_RULES, OrderRules
from brokerwatch.messages import Order


class Ticket:
    """Lets one order either go out or be withdrawn, and never both. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gone = False
        self._withdrawn = False
        self.absent = False
        """Whether the exchange has answered that it has no order of this id."""

    def withdraw(self) -> bool:
        """Take the order back. False: it has gone out already."""
        with self._lock:
            self._withdrawn = self._withdrawn or not self._gone
            return self._withdrawn

    def go(self) -> bool:
        """The order goes out now. False: it was withdrawn, and must not."""
        with self._lock:
            self._gone = self._gone or not self._withdrawn
            return self._gone


class Late(CouldNotAsk):
    """The caller did not wait for the end."""


class Cut(ClusterStopped):
    """The cluster was stopped while it was under way."""


@dataclass(frozen=True, slots=True)
class Ordering:
    """An order that is to be placed by `work`."""

    work: Coroutine[Any, Any, Order]
    client_order_id: str
    ticket: Ticket
    validate_only: bool
    is_known: Callable[[], object] = lambda: None
    """Whether an order of this id was sent before, as far as our own records say."""

    def is_out(self) -> bool:
        """Whether it has gone out; if not it never will."""
        return not self.ticket.withdraw()

    @contextmanager
    def reported(self, broker: str) -> Generator[None]:
        """A caller that stops waiting inside takes the order back, or learns that its outcome is not known.

        Raises OrderNotSent or OrderStateUnknown.
        """
        try:
            yield
        except (Late, Cut) as error:
            if self.validate_only:
                raise
            if self.ticket.withdraw() and not self.is_known():
                raise OrderNotSent(
                    f"{broker}: the order had not gone out and was withdrawn: nothing was sent ({error})"
                ) from error
            raise OrderStateUnknown(
                f"{broker}: the end of an order was not waited for, so it may have been placed ({error}); "
                "look it up with find_order before anything else",
                self.client_order_id,
            ) from error
        except BaseException:
            # Ctrl-C, or a task that was cancelled: what has not gone out yet shall not.
            self.ticket.withdraw()
            raise


def new_order_id(rules: OrderRules = ANY_RULES) -> str:
    """An id for an order that was given none, in the form that its exchange takes."""
    return rules.make_id(uuid.uuid4())


MOST_FRESH: Final = 100_000
"""So many ids that were made and not used yet are known as fresh; older ones are looked up."""


class FreshIds:
    """The ids that this process has made and has not sent an order with. Any thread may call it.

    Under such an id no order can be at an exchange, so nothing has to be looked up before it is sent. That
    holds once: `spend` is called before the order goes out. A process that was forked has none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[str, None] = {}
        self._process = os.getpid()

    def make(self, order_id: str) -> str:
        """The same id, known as fresh from now on."""
        with self._lock:
            self._ids[order_id] = None
            if len(self._ids) > MOST_FRESH:
                del self._ids[next(iter(self._ids))]
        return order_id

    def has(self, order_id: str) -> bool:
        """Whether no order was sent with this id."""
        return order_id in self._ids and self._process == os.getpid()

    def spend(self, order_id: str) -> None:
        """An order goes out with this id."""
        with self._lock:
            self._ids.pop(order_id, None)


FRESH: Final = FreshIds()
"""Those of this process: an id belongs to no account before it is sent."""
