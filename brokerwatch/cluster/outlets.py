"""What a cluster shows and says to people: HTTP and messages. Each is a subscriber and reaches no account."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from brokerwatch.bus.listener import Listener
from brokerwatch.clock import Clock
from brokerwatch.cluster.control import Command
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.shutdown import Stop, at_once
from brokerwatch.config.cluster_settings import ClusterSettings, is_in_a_file
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.errors import ConfigError, StateFolderTaken, StoreError
from brokerwatch.health.reading import ttl_s
from brokerwatch.log import logger
from brokerwatch.storage.claims import PoolStore, pool_store
from brokerwatch.storage.records import Transition
from brokerwatch.storage.state_folder import folder_of, stored_history
from brokerwatch.tally import Tally

if TYPE_CHECKING:
    from brokerwatch.notify.notifier import Notifier
    from brokerwatch.web.chronicle import Chronicle
    from brokerwatch.web.server import HttpServer

_log: Final = logger(__name__)

FIRST_WORD_S: Final = 30.0
"""What the supervisor may take to say its first word before the watcher counts as broken."""


class Outlets:
    """The outlets of one cluster. `start` and `stopping` are for the thread that starts and stops it.

    Args:
        settings: which outlets there are.
        clock: the cluster's clock.
        operators: who carries out what a reader of the page commands.
        hung: why accounts are watched no more; empty where they are.
        heartbeat_s: the seconds between two signs of life.
        current: the settings of now, which a reload may have changed.

    Raises:
        ConfigError: something has to be installed first.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        clock: Clock,
        operators: Operators,
        hung: Callable[[], str],
        heartbeat_s: float,
        current: Callable[[], ClusterSettings],
    ) -> None:
        self._settings = settings
        self._current = current
        self._clock = clock
        self._operators = operators
        self._hung = hung
        self._ttl_s = ttl_s(heartbeat_s)
        self._http: HttpServer | None = None
        self._notifier: Notifier | None = None
        self._chronicle: Chronicle | None = None
        self._pool: PoolStore | None = None
        self.tally: Final = Tally()
        """Where the parts of the cluster count what its metrics show."""
        self._began_s = 0.0
        self._lock = threading.Lock()
        """Held while outlets are started, exchanged or stopped."""
        self._notified = settings.notify
        """The channels that are in use, and the dead man's switch."""
        self._subscribe: Callable[[], Listener] | None = None
        """What makes a listener; None: the cluster does not run."""
        self._listener: Listener | None = None
        self.check(settings)

    @staticmethod
    def check(settings: ClusterSettings) -> None:
        """Raise ConfigError where something has to be installed first."""
        if settings.notify:
            from brokerwatch.notify.sending import check_installed

            check_installed(settings.notify)

    @property
    def http_url(self) -> str:
        """Where the page and the API are; empty where they are not served."""
        return "" if self._http is None else self._http.url

    def start(self, subscribe: Callable[[], Listener]) -> None:
        """Start what is configured. What cannot start is said in the log and tried again."""
        self._began_s = self._clock.up_s()
        with self._lock:
            self._subscribe = subscribe
            if self._notified:
                self._start_notifier(self._shared_listener())
            if self._settings.http is not None:
                self._start_page(self._settings.http, self._shared_listener())

    def follow(self, settings: ClusterSettings) -> None:
        """Send messages to people by other settings from now on. What waits is sent over the new channels."""
        with self._lock:
            if self._subscribe is None or settings.notify == self._notified:
                return
            if self._notifier is not None and not self._notifier.stop():
                _log.warning("a channel for messages to people did not end in time")
            self._notifier, self._notified = None, settings.notify
            if self._notified:
                self._start_notifier(self._shared_listener())

    def _shared_listener(self) -> Listener:
        """One for all outlets: reading the messages is most of what an outlet costs."""
        if self._listener is None:
            if self._subscribe is None:
                raise ValueError("the cluster does not run")
            self._listener = self._subscribe()
            self._listener.start()
        return self._listener

    def _start_page(self, http: HttpSettings, listener: Listener) -> None:
        from brokerwatch.web.server import HttpServer
        from brokerwatch.web.view import View

        self._chronicle, self._pool = self._begun_chronicle(listener), pool_store(self._settings)
        view = View(
            settings=http,
            listener=listener,
            clock=self._clock,
            operate=self._operate if self._settings.remember else None,
            fault=lambda: self._fault(listener),
            chronicle=self._chronicle,
            transitions=self._transitions if self._settings.remember else None,
            tally=self.tally,
            pool=None if self._pool is None else self._pool.view,
        )
        self._http = HttpServer(view)
        self._http.start(insists=False)

    def stopping(self) -> Iterator[tuple[str, Stop]]:
        """Every outlet that ends, by the name that the log gives it."""
        with self._lock:
            self._subscribe = None
        if self._http is not None:
            yield "the page", self._http.stop
        if self._chronicle is not None:
            yield "the chronicle", self._chronicle.stop
        if self._pool is not None:
            yield "the look at the pool", at_once(self._pool.close)
        if self._notifier is not None:
            yield "the messages to people", self._notifier.stop

    def _start_notifier(self, listener: Listener) -> None:
        from brokerwatch.notify.notifier import Notifier

        folder = folder_of(self._settings) if self._settings.remember else None
        notifier = Notifier(listener, self._notified, folder, clock=self._clock, ends_with_cluster=True)
        try:
            notifier.start()
        except StateFolderTaken as error:
            _log.error("no messages are sent: %s", error)
        else:
            self._notifier = notifier

    def _begun_chronicle(self, listener: Listener) -> Chronicle:
        from brokerwatch.storage.chronicle import ChronicleStore, chronicle_url
        from brokerwatch.web.chronicle import LOCK_NAME, Chronicle

        settings, store, lock = self._settings, None, None
        if settings.remember:
            try:
                folder = folder_of(settings)
                on_server = not is_in_a_file(settings)
                store = ChronicleStore(settings.store if on_server else chronicle_url(folder), settings.name)
                lock = None if on_server else folder / LOCK_NAME
            except (ConfigError, StoreError) as error:
                _log.error("what the page shows of the past ends with this process: %s", error)
        chronicle = Chronicle(
            listener, self._clock, store, keep_days=lambda: self._current().history_days, lock=lock
        )
        chronicle.start()
        return chronicle

    def _transitions(self, broker: str | None, since_us: int | None, limit: int) -> list[Transition]:
        lines = stored_history(self._settings, broker, since_us, limit)
        if self._current().publish_balances:
            return lines
        return [replace(line, detail="") for line in lines]  # an exchange's own words may hold amounts

    def _operate(self, verb: str, broker: str, why: str, until_us: int | None) -> str:
        return self._operators.answer(Command(verb, broker, why, until_us), "the page")

    def _fault(self, listener: Listener) -> str:
        running_s = self._clock.up_s() - self._began_s
        return watcher_fault(self._hung(), listener.heard_ago_s(), running_s, self._ttl_s)


def watcher_fault(hung: str, heard_ago_s: float | None, running_s: float, ttl_s: float) -> str:
    """What is wrong with the watcher itself; empty where nothing is. Exchanges are none of it.

    Args:
        hung: why accounts are asked no more; empty where they are.
        heard_ago_s: how long ago the supervisor was heard; None: never.
        running_s: for how long the cluster has run.
        ttl_s: how long a reading stays true that is not renewed.
    """
    if hung:
        return hung
    if heard_ago_s is None:
        return "the supervisor has said nothing since the start" if running_s > FIRST_WORD_S else ""
    return f"the supervisor has said nothing for {heard_ago_s:.0f} s" if heard_ago_s > ttl_s else ""
