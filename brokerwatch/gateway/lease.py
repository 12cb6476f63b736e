"""The right of one event loop to send requests, and its end.

When a loop hangs, its accounts go on on another one. The old one may wake at any later moment, with requests
that it was about to make. Each of them looks here in its signing step, before a number is used up for it, and
once more before it is written to a connection. So a loop that was replaced sends nothing.
"""

from __future__ import annotations

from brokerwatch.gateway.call_thread import NeverStarted


class Revoked(NeverStarted):
    """The request belongs to an event loop that was replaced, so nothing was sent."""


class Lease:
    """Lets the requests of one event loop go out until it is revoked. Any thread may use it."""

    __slots__ = ("revoked",)

    def __init__(self) -> None:
        self.revoked = ""
        """Why nothing may be sent any more; empty: it may."""

    def check(self) -> None:
        """Raise Revoked where nothing may be sent any more."""
        if self.revoked:
            raise Revoked(self.revoked)
