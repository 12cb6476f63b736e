"""What operators say to a running cluster, from this program or from a terminal beside it.

A command goes to the supervisor, since a hold is a veto like any other, and its answer comes back in
words. From outside it arrives through a socket in the state folder.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from brokerwatch.actors.protocol import OperatorCommand
from brokerwatch.clock import Clock, moment
from brokerwatch.cluster.control import PATIENCE_S, SOCKET_NAME, Command, ControlServer, checked
from brokerwatch.errors import ConfigError, ControlError, UnknownBroker
from brokerwatch.gateway.loop import LoopThread
from brokerwatch.log import logger

_log: Final = logger(__name__)


READS_FILES: Final = frozenset({"reload", "reset"})
"""Commands that read files, and so wait."""


class Reload(Protocol):
    """Reads the configuration again; see `ChangeableCluster.reload_for`."""

    def __call__(self, by: str, *, force_key: bool) -> str:
        """What has changed, in words. Raises ControlError."""
        ...


class Operators:
    """Hands operators' commands to the supervisor. Any thread may call it.

    `obey` hands one over, and is False when there is no supervisor.
    """

    def __init__(self, obey: Callable[[OperatorCommand], bool], clock: Clock) -> None:
        self._obey = obey
        self.reload: Reload = _no_reload
        """Reads the configuration again, and says what has changed. Raises ControlError."""
        self.renew: Callable[[str], str] = lambda _broker: ""
        """Reads the files of a broker's API key again, and says what has changed; empty: nothing. Raises
        ConfigError and UnknownBroker."""
        self._clock = clock
        self._control: ControlServer | None = None
        self._folder: Path | None = None
        """Where commands are heard; None: they are not."""
        self._logged = ""

    def hold(self, broker: str, why: str, until: datetime | None) -> str:
        """Hold a broker out. Returns what was done, in words.

        Raises ControlError, and ValueError for an end without a time zone: read as the machine's own, it
        would be another moment on another machine.
        """
        if until is not None and until.utcoffset() is None:
            raise ValueError(
                "until: expected a moment with its time zone, such as datetime.now(UTC) + timedelta(hours=2),"
                f" not {until!r}"
            )
        until_us = None if until is None else round(until.timestamp() * 1_000_000)
        return self.answer(Command("hold", broker, why, until_us))

    def release(self, broker: str) -> str:
        """End a hold. Raises ControlError."""
        return self.answer(Command("release", broker))

    def reset(self, broker: str) -> str:
        """Say that what was final is mended. Raises ControlError."""
        return self.answer(Command("reset", broker))

    def listen(self, loop: LoopThread, folder: Path | None) -> None:
        """Hear commands from outside, through a socket in this folder. Without one none is heard."""
        if folder is not None:
            self._listen(loop, folder)

    def _listen(self, loop: LoopThread, folder: Path) -> None:
        async def obey(command: Command, by: str) -> str:
            return await asyncio.wrap_future(self.ask(command, by))

        control = ControlServer(loop, folder / SOCKET_NAME, obey)
        try:
            control.start()
        except OSError as error:
            _log.error("operators' commands are not heard: %s: %s", folder / SOCKET_NAME, error)
            return
        self._control, self._folder = control, folder

    def move_to(self, loop: LoopThread) -> ControlServer | None:
        """Hear commands on another loop, in place of one that hangs or has ended, where they were heard.

        Returns what is left on the old one.
        """
        before = self._control
        if before is not None:
            before.give_up()
        if self._folder is not None:
            self._listen(loop, self._folder)
        return before

    def listen_again(self) -> None:
        """Make the socket anew where it is gone, as long as commands are heard. It touches the disk."""
        control = self._control
        if control is None or control.is_there():
            return
        try:
            control.start()
        except (OSError, RuntimeError) as error:
            if str(error) != self._logged:
                _log.error("operators' commands are not heard, and the socket is gone: %s", error)
            self._logged = str(error)
        else:
            self._logged = ""

    def stop(self, deadline_s: float) -> bool:
        """Close the socket. False when that took too long."""
        return self._control is None or self._control.stop(deadline_s)

    def answer(self, command: Command, by: str = "this program") -> str:
        """Carry out a command, and wait for what became of it, in words. Raises ControlError."""
        known = checked(command)
        if known.verb in READS_FILES:
            return self._carried_out(known, by)
        return self._waited_for(self._asked(known, by), known)

    def ask(self, command: Command, by: str) -> Future[str]:
        """Have a command carried out that was checked. Never waits; the future is what became of it."""
        if command.verb in READS_FILES:
            return self._aside(partial(self._carried_out, command, by))
        return self._asked(command, by)

    @staticmethod
    def _waited_for(asked: Future[str], command: Command) -> str:
        try:
            return asked.result(PATIENCE_S)
        except TimeoutError:
            raise ControlError(
                f"{command.verb} {command.broker}: the supervisor did not answer; it may still be carried out"
            ) from None

    @staticmethod
    def _aside(work: Callable[[], str]) -> Future[str]:
        """Do this on a thread of its own: it reads files, and asks exchanges."""
        said: Future[str] = Future()

        def run() -> None:
            said.set_running_or_notify_cancel()
            try:
                said.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where the command came from
                said.set_exception(error)

        threading.Thread(target=run, name="brokerwatch-reload", daemon=True).start()
        return said

    def _carried_out(self, command: Command, by: str) -> str:
        """Carry out a command that reads files. Raises ControlError."""
        if command.verb == "reload":
            return self.reload(by, force_key=command.force_key)
        try:
            renewed = self.renew(command.broker)
        except UnknownBroker:
            renewed = ""  # the supervisor says so, and which there are
        except ConfigError as error:
            renewed = f"its API key was not read again: {error}"
        said = self._waited_for(self._asked(command, by), command)
        return f"{said}; {renewed}" if renewed else said

    def _asked(self, command: Command, by: str) -> Future[str]:
        """Hand a command to the supervisor; the future is what it says."""
        until = moment(command.until_us, self._clock.now())
        asked = OperatorCommand(command.verb, command.broker, by, command.why, until, Future())
        if not self._obey(asked):
            asked.reply.set_exception(ControlError("the supervisor is not running; try again"))
        return asked.reply


def _no_reload(by: str, *, force_key: bool) -> str:
    del by, force_key
    raise ControlError("this cluster cannot be reloaded")
