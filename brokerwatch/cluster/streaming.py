"""The private streams of one cluster: one for each account with `push = true` whose exchange has a fold.

What they say goes to the actors of the accounts. Whether there is a stream is no evidence about an account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from brokerwatch.actors.protocol import BrokerMessage, Streamed, Unstreamed
from brokerwatch.actors.push_inbox import PushInbox
from brokerwatch.clock import Clock
from brokerwatch.cluster.wiring import WiredAccount
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.log import logger

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access

_log: Final = logger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How one stream is made."""

    access: Access
    deadline_s: float


class Streaming:
    """The streams of one cluster. `follow` and `stop` are for one thread at a time."""

    def __init__(self, send: Callable[[str, BrokerMessage], bool], clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._streams: dict[str, tuple[_Wanted, Future[Any]]] = {}

    def follow(self, specs: Mapping[str, BrokerSpec], accounts: Mapping[str, WiredAccount]) -> None:
        """Have the streams of these accounts, and no others. One that is there already goes on."""
        wanted = {
            name: _Wanted(account.access, specs[name].fetch_deadline_s)
            for name, account in accounts.items()
            if name in specs and specs[name].push
        }
        for name in tuple(self._streams):
            if wanted.get(name) != self._streams[name][0]:
                self._streams.pop(name)[1].cancel()
                self._send(name, Unstreamed())
        for name, each in wanted.items():
            if name not in self._streams:
                running = self._run(name, specs[name], each)
                try:
                    task = each.access.loop.submit(running)
                except RuntimeError:  # its loop is given up
                    running.close()
                else:
                    self._streams[name] = each, task
                    task.add_done_callback(partial(_ended, name))

    def stop(self) -> None:
        """Have no stream any more."""
        for _, running in self._streams.values():
            running.cancel()
        self._streams.clear()

    async def _run(self, name: str, spec: BrokerSpec, wanted: _Wanted) -> None:
        from brokerwatch.gateway.streams import stream_of

        inbox = PushInbox(partial(self._tell, name))
        await stream_of(spec, wanted.access, self._clock, inbox.put).run()

    def _tell(self, name: str, inbox: PushInbox) -> bool:
        return self._send(name, Streamed(inbox))


def _ended(name: str, running: Future[Any]) -> None:
    if not running.cancelled() and (error := running.exception()) is not None:
        _log.error("%s: its stream has ended for good: %s: %s", name, type(error).__name__, error)
