"""One order that a caller waits for, and what the caller learns when it stops waiting.

Until the order goes out it is withdrawn then, and the error says that nothing was sent. After that it is not
known what became of it, and the error says that.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from brokerwatch.errors import ClusterStopped, CouldNotAsk, OrderNotSent, OrderStateUnknown
from brokerwatch.messages import Order


class Ticket:
    """Lets one order either go out or be withdrawn, and never both. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gone = False
        self._withdrawn = False

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
            if self.ticket.withdraw():
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


def new_order_id() -> str:
    """An id for an order that was given none: 32 hexadecimal digits suit every exchange that knows ids."""
    return uuid.uuid4().hex
