"""The commands that the supervisor has not answered yet. They outlive a supervisor that dies."""

from __future__ import annotations

import threading
from typing import Final

from brokerwatch.actors.protocol import OperatorCommand
from brokerwatch.errors import ControlError

MOST_COMMANDS: Final = 1_000
"""So many wait at most: a supervisor that hangs for hours must not fill the memory."""


class WaitingCommands:
    """Keeps each command until it is answered. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, OperatorCommand] = {}

    def add(self, command: OperatorCommand) -> bool:
        """Keep this one until it is answered. False when too many wait already."""
        with self._lock:
            if len(self._waiting) >= MOST_COMMANDS:
                return False
            self._waiting[id(command)] = command
        command.reply.add_done_callback(lambda _: self._forget(command))
        return True

    def _forget(self, command: OperatorCommand) -> None:
        with self._lock:
            self._waiting.pop(id(command), None)

    def untouched(self) -> tuple[OperatorCommand, ...]:
        """Those that no supervisor has begun with, in the order in which they were given."""
        with self._lock:
            waiting = tuple(self._waiting.values())
        # A supervisor that died of a command has answered it. The next one is not to die of it too.
        return tuple(each for each in waiting if not each.reply.running() and not each.reply.done())

    def refuse(self, why: str) -> None:
        """Answer all that no supervisor has begun with: no other will come."""
        for command in self.untouched():
            if command.reply.set_running_or_notify_cancel():
                command.reply.set_exception(ControlError(why))
