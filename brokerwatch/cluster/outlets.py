"""What a cluster shows and says to people: HTTP. Each outlet is a subscriber, so none reaches an account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from brokerwatch.bus.listener import Listener
from brokerwatch.clock import Clock
from brokerwatch.cluster.account_loops import AccountLoops
from brokerwatch.cluster.control import Command
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.shutdown import Stop
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.health.reading import ttl_s

if TYPE_CHECKING:
    from brokerwatch.web.server import HttpServer

FIRST_WORD_S: Final = 30.0
"""What the supervisor may take to say its first word before the watcher counts as broken."""


class Outlets:
    """The outlets of one cluster. `start` and `stopping` are for the thread that starts and stops it.

    Args:
        settings: which outlets there are.
        clock: the cluster's clock.
        operators: who carries out what a reader of the page commands.
        loops: the event loops of the accounts; where one hangs, the watcher itself is broken.
        heartbeat_s: the seconds between two signs of life.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        clock: Clock,
        operators: Operators,
        loops: AccountLoops,
        heartbeat_s: float,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._operators = operators
        self._loops = loops
        self._ttl_s = ttl_s(heartbeat_s)
        self._http: HttpServer | None = None
        self._began_s = 0.0

    @property
    def http_url(self) -> str:
        """Where the page and the API are; empty where they are not served."""
        return "" if self._http is None else self._http.url

    def start(self, subscribe: Callable[[], Listener]) -> None:
        """Start what is configured. What cannot start is said in the log and tried again."""
        self._began_s = self._clock.up_s()
        if self._settings.http is None:
            return
        from brokerwatch.web.server import HttpServer
        from brokerwatch.web.view import View

        listener = subscribe()
        listener.start()
        view = View(
            settings=self._settings.http,
            listener=listener,
            clock=self._clock,
            operate=self._operate if self._settings.remember else None,
            fault=lambda: self._fault(listener),
        )
        self._http = HttpServer(view)
        self._http.start(insists=False)

    def stopping(self) -> Iterator[tuple[str, Stop]]:
        """Every outlet that ends, by the name that the log gives it."""
        if self._http is not None:
            yield "the page", self._http.stop

    def _operate(self, verb: str, broker: str, why: str, until_us: int | None) -> str:
        return self._operators.answer(Command(verb, broker, why, until_us), "the page")

    def _fault(self, listener: Listener) -> str:
        if why := self._loops.hung:
            return why
        heard_ago_s = listener.heard_ago_s()
        if heard_ago_s is None:
            is_late = self._clock.up_s() - self._began_s > FIRST_WORD_S
            return "the supervisor has said nothing since the start" if is_late else ""
        if heard_ago_s > self._ttl_s:
            return f"the supervisor has said nothing for {heard_ago_s:.0f} s"
        return ""
