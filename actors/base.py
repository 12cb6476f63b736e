"""The base of every actor: typed messages, and a `close` that runs once, however the actor ends.

Pykka calls `on_stop` after an orderly stop, `on_failure` after an exception in a handler, and nothing after
an exception in `on_start`. Here all three end in `close`. A `SystemExit` in a handler would stop every actor
of the process, so it is turned into an ordinary failure.

Messages go up and sideways with `tell`. No actor uses `ask`: an ask that races with a stop may never be
answered, and two actors that ask each other are deadlocked.
"""

from __future__ import annotations

import contextlib
import queue
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, cast

import pykka

from brokerwatch.actors.workers import WORKERS, Inbox, TurnOver
from brokerwatch.log import logger

_log: Final = logger(__name__)


STOPPED_FROM_OUTSIDE: Final = (
    "the program around it has stopped it; pykka.ActorRegistry.stop_all() stops the actors of brokerwatch too"
)
_END: Final = object()
"""Comes before the stop that its owner asks for."""


class HandlerExited(Exception):
    """A handler raised SystemExit or KeyboardInterrupt. It ends this actor, and not every actor."""


class Actor(pykka.ThreadingActor):
    """An actor with one handler, one beginning and one end, all of which run on its own thread.

    `on_death` is called on that thread, with the reason, when the actor ends by an exception, or by a stop
    that does not come from `stop_soon` or `wait_for_end`: a program that embeds us may stop every actor.
    """

    # An actor that does not stop in time is logged and left behind; it must not keep the process alive.
    use_daemon_thread = True

    @staticmethod
    def _create_actor_inbox() -> queue.SimpleQueue[Any]:
        # As Pykka's own, without its two locks and three conditions: half the CPU of a `tell`.
        return queue.SimpleQueue()

    def __init__(self, on_death: Callable[[str], None]) -> None:
        super().__init__()
        self._on_death = on_death
        self._closed = False
        self._ends = False
        """Whether it is to end."""

    @abstractmethod
    def begin(self) -> None:
        """Run first."""

    @abstractmethod
    def handle(self, message: Any) -> None:
        """Handle one message. An exception ends the actor. A fault of an exchange is a value."""

    @abstractmethod
    def close(self) -> None:
        """Run last, once, however the actor ends."""

    def on_start(self) -> None:
        try:
            self.begin()
        except BaseException as error:
            self._end(f"could not start: {type(error).__name__}: {error}")
            raise HandlerExited(str(error)) from error

    def on_receive(self, message: Any) -> None:
        if message is _END:
            self._ends = True
            return
        try:
            self.handle(message)
        except BaseException as error:
            self.dismiss(message)
            if isinstance(error, Exception):
                raise
            raise HandlerExited(f"{type(error).__name__} in a handler") from error

    def on_stop(self) -> None:
        if self._ends:
            self._close_once()
        else:
            self._end(STOPPED_FROM_OUTSIDE)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        del exception_type, traceback
        self._end(f"{type(exception_value).__name__}: {exception_value}")

    def dismiss(self, message: Any) -> None:
        """Run for each message that was not handled, or not to its end: a caller may wait for an answer.

        For the message of which the actor dies that is before `close`, and for those behind it after.
        """

    def _actor_loop_teardown(self) -> None:
        waiting: list[Any] = []
        while not self.actor_inbox.empty():
            envelope = self.actor_inbox.get()
            if envelope.reply_to is None:
                if envelope.message is not _END:
                    self.dismiss(envelope.message)
            else:
                waiting.append(envelope)
        for envelope in waiting:
            self.actor_inbox.put(envelope)
        super()._actor_loop_teardown()

    def _end(self, why: str) -> None:
        try:
            self._close_once()
        finally:
            self._on_death(why)

    def _close_once(self) -> None:
        if not self._closed:
            self._closed = True
            self.close()


class SharingActor(Actor):
    """An actor that has its turns on threads that all actors of this kind share: see `workers`.

    Its handler waits for nothing. One that hangs keeps a thread, and the others go on with another one.
    """

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Inbox(WORKERS)

    @property
    def _inbox(self) -> Inbox:
        """The actor's inbox by its own type, which Pykka does not know."""
        made: Any = self.actor_inbox
        return cast("Inbox", made)

    def _start_actor_loop(self) -> None:
        self._has_begun = False
        try:
            self._inbox.begin(self._turn)
        except RuntimeError:
            # It was registered before, and `stop_all` would wait for it for ever.
            self.actor_stopped.set()
            pykka.ActorRegistry.unregister(self.actor_ref)
            raise

    def _turn(self) -> bool:
        """Handle some messages, in Pykka's own loop. Whether another turn may follow."""
        if not self._has_begun:
            self._has_begun = True
            self._actor_loop_setup()
        try:
            self._actor_loop_running()
        except TurnOver:
            return True
        self._inbox.give_all()
        self._actor_loop_teardown()
        return False


def tell(ref: pykka.ActorRef[Any], message: object) -> bool:
    """Send an actor a message. False when the actor has ended, which is no error of the sender."""
    try:
        ref.tell(message)
    except pykka.ActorDeadError:
        return False
    return True


def stop_soon(ref: pykka.ActorRef[Any]) -> None:
    """Ask an actor to stop, without waiting for it."""
    with contextlib.suppress(pykka.ActorDeadError):
        ref.tell(_END)
        ref.stop(block=False)


def wait_for_end(ref: pykka.ActorRef[Any], deadline_s: float) -> bool:
    """Stop an actor and wait. False when it has not ended within `deadline_s`: it is left behind."""
    try:
        ref.tell(_END)
        ref.stop(block=True, timeout=deadline_s)
    except pykka.ActorDeadError:
        return True
    except pykka.Timeout:
        _log.warning("%s did not stop within %g s and is left behind", ref, deadline_s)
        return False
    return True
