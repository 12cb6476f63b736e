"""Commands that wait for a supervisor: kept until they are answered, and each is answered once."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from brokerwatch.actors.protocol import OperatorCommand
from brokerwatch.cluster.waiting_commands import MOST_COMMANDS, WaitingCommands
from brokerwatch.errors import ControlError


def command(broker: str = "k") -> OperatorCommand:
    return OperatorCommand("release", broker, "an operator", "", None, Future())


def test_a_command_waits_until_it_is_answered_in_the_order_in_which_it_came() -> None:
    waiting, first, second = WaitingCommands(), command("a"), command("b")
    assert waiting.add(first)
    assert waiting.add(second)
    assert waiting.untouched() == (first, second)
    first.reply.set_result("done")
    assert waiting.untouched() == (second,)


def test_a_command_that_a_supervisor_has_begun_with_is_given_to_no_other() -> None:
    waiting, begun = WaitingCommands(), command()
    waiting.add(begun)
    begun.reply.set_running_or_notify_cancel()
    assert waiting.untouched() == ()
    waiting.refuse("no supervisor is left")
    assert not begun.reply.done()


def test_a_command_that_is_refused_says_why_and_one_that_was_cancelled_is_left_alone() -> None:
    waiting, refused, cancelled = WaitingCommands(), command(), command()
    waiting.add(refused)
    waiting.add(cancelled)
    cancelled.reply.cancel()
    waiting.refuse("no supervisor is left")
    with pytest.raises(ControlError, match="no supervisor is left"):
        refused.reply.result(timeout=0)
    assert cancelled.reply.cancelled()


def test_no_more_commands_wait_than_the_limit() -> None:
    waiting = WaitingCommands()
    kept = [command() for _ in range(MOST_COMMANDS)]
    assert all(waiting.add(each) for each in kept)
    assert not waiting.add(command())
    kept[0].reply.set_result("done")
    assert waiting.add(command())
