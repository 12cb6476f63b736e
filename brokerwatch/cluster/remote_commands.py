"""Operators' commands between processes: a supervisor passes them on, and the node of the account obeys.

What became of a command comes back over the brokers' bus, where a node may speak for its own accounts alone.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from brokerwatch.actors.protocol import Alarms, OperatorCommand
from brokerwatch.bus.command_sender import CommandSender
from brokerwatch.bus.publisher import Publisher
from brokerwatch.clock import Clock
from brokerwatch.cluster.control import Command, checked
from brokerwatch.cluster.operators import Operators
from brokerwatch.errors import ControlError
from brokerwatch.log import logger
from brokerwatch.messages import Envelope, MessageType, Reading, Stamp, next_epoch, topics
from brokerwatch.messages.codec import encode
from brokerwatch.messages.commands import MAX_BY, MAX_SAID, CommandData, CommandDoneData
from brokerwatch.storage.journal import Journal

_log: Final = logger(__name__)

REMOTE_VERBS: Final = frozenset({"hold", "release", "reset"})
"""What an operator elsewhere may want. A reload reads a file of the node's own host."""
ANSWER_S: Final = 4.5
"""How long a node may take; an operator waits for half a second longer."""

AGAIN_S: Final = 0.5
"""Between two sendings of a command that was not answered. A node knows it again by its id."""
MOST_REMEMBERED: Final = 1_000
"""So many commands are known again when they come twice."""


class Obedience:
    """The node's side. `obey` may be called from any thread, and never waits.

    Args:
        operators: who carries out commands here.
        has: whether an account is one of this node.
        clock: the process's clock.
    """

    def __init__(self, operators: Operators, has: Callable[[str], bool], clock: Clock) -> None:
        self._operators = operators
        self._has = has
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, CommandDoneData | None] = OrderedDict()
        """By its id, what became of each of the newest commands; None: it is under way."""
        self._epoch = next_epoch(clock.now().wall_us, "", os.urandom(4).hex())

    def obey(self, asked: CommandData, back: Publisher) -> None:
        """Carry out a command of an operator elsewhere, if its account is here, and answer it over `back`.

        One that was sent again is answered again, and not carried out again.
        """
        if not self._has(asked.broker):
            return  # another node has it
        with self._lock:
            is_known, answer = asked.id in self._answers, self._answers.get(asked.id)
            if not is_known:
                self._answers[asked.id] = None
                if len(self._answers) > MOST_REMEMBERED:
                    self._answers.popitem(last=False)
        if is_known:
            if answer is not None:
                self._send(answer, back)
            return
        try:
            if asked.verb not in REMOTE_VERBS:
                raise ControlError(f"{asked.verb}: expected {', '.join(sorted(REMOTE_VERBS))}")
            command = checked(Command(asked.verb, asked.broker, asked.why, asked.until_us))
        except ControlError as error:
            self._answer(asked, back, str(error), refused=True)
            return

        def done(said: Future[str]) -> None:
            error = said.exception()
            if error is None:
                self._answer(asked, back, said.result(), refused=False)
            elif isinstance(error, ControlError):
                self._answer(asked, back, str(error), refused=True)
            else:
                _log.error("%s of %s: %s", asked.verb, asked.broker, error, exc_info=error)
                self._answer(asked, back, f"the node failed at it: {error}", refused=True)

        # It goes into logs and texts for people, here too.
        by = " ".join("".join(sign if sign.isprintable() else " " for sign in asked.by).split())
        self._operators.ask(command, by or "an operator").add_done_callback(done)

    def _answer(self, asked: CommandData, back: Publisher, said: str, *, refused: bool) -> None:
        data = CommandDoneData(
            id=asked.id,
            exchange=asked.exchange,
            broker=asked.broker,
            refused=refused,
            said=said[:MAX_SAID],
        )
        with self._lock:
            if asked.id in self._answers:
                self._answers[asked.id] = data
        self._send(data, back)

    def _send(self, data: CommandDoneData, back: Publisher) -> None:
        def pack(_topic: str) -> bytes:
            stamp = Stamp(
                src=f"broker/{data.exchange}/{data.broker}",
                epoch=self._epoch,
                seq=1,
                ts_us=self._clock.now().wall_us,
                up_us=0,
                ttl_ms=round(ANSWER_S * 1_000),
            )
            return encode(Envelope(type=MessageType.COMMAND_DONE, stamp=stamp, data=data))

        back.put(topics.command_done(data.exchange, data.broker, data.id), pack, is_once=True)


class Forwarding:
    """The supervisor's side. Any thread may use it.

    Args:
        sender: what reaches the nodes.
        exchange_of: gives the exchange of an account that is expected; None: it is not.
        reported: gives the newest reading of an account that its node reports now; None: none does.
        journal: where it is written down.
        clock: the process's clock.
        alarms: what ends the waiting.
    """

    def __init__(
        self,
        sender: CommandSender,
        exchange_of: Callable[[str], str | None],
        reported: Callable[[str], Reading | None],
        journal: Journal,
        clock: Clock,
        alarms: Alarms,
    ) -> None:
        self._sender = sender
        self._exchange_of = exchange_of
        self._reported = reported
        self._journal = journal
        self._clock = clock
        self._alarms = alarms
        self._lock = threading.Lock()
        self._waiting: dict[str, OperatorCommand] = {}

    def obey(self, command: OperatorCommand) -> bool:
        """Pass a command on to the node that has the account. Its reply says what became of it."""
        name, exchange = command.broker, self._exchange_of(command.broker)
        if not command.reply.set_running_or_notify_cancel():
            return True
        if exchange is None or self._reported(name) is None:
            problem = (
                f"no broker named {name!r} is in the configuration of this supervisor"
                if exchange is None
                else f"no node reports {name} now, so none can obey; start its node and try again"
            )
            command.reply.set_exception(ControlError(problem))
            return True
        command_id = secrets.token_hex(16)
        with self._lock:
            self._waiting[command_id] = command
        asked = CommandData(
            id=command_id,
            verb=command.verb,
            exchange=exchange,
            broker=name,
            by=command.by[:MAX_BY],
            why=command.why,
            until_us=None if command.until is None else command.until.wall_us,
        )
        self._send(asked, self._clock.up_s() + ANSWER_S)
        return True

    def _send(self, asked: CommandData, until_s: float) -> None:
        """Send it until it is answered: its node may have connected a moment ago, and does not hear yet."""
        with self._lock:
            if asked.id not in self._waiting:
                return
        left_s = until_s - self._clock.up_s()
        if left_s <= 0:
            self._give_up(asked.id)
            return
        self._sender.send(asked, left_s)
        self._alarms.after(min(left_s, AGAIN_S), lambda: self._send(asked, until_s))

    def done(self, answer: CommandDoneData) -> None:
        """A node has answered."""
        with self._lock:
            command = self._waiting.get(answer.id)
            if command is None or (answer.exchange, answer.broker) != self._account_of(command):
                return  # too late, or another account's
            del self._waiting[answer.id]
        if answer.refused:
            command.reply.set_exception(ControlError(answer.said))
            return
        _log.warning("%s (%s)", answer.said, command.by)
        reading = self._reported(command.broker)
        if reading is not None:
            self._journal.commanded(command.verb, command.by, reading, answer.said, self._clock.now())
        command.reply.set_result(answer.said)

    def _account_of(self, command: OperatorCommand) -> tuple[str | None, str]:
        return self._exchange_of(command.broker), command.broker

    def _give_up(self, command_id: str) -> None:
        with self._lock:
            command = self._waiting.pop(command_id, None)
        if command is not None:
            command.reply.set_exception(
                ControlError(
                    f"the node of {command.broker} did not answer within {ANSWER_S:g} s; it may still carry "
                    "it out: what holds now is in `brokerwatch status`"
                )
            )
