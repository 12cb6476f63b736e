"""Messages between actors as a trace shows them."""

from __future__ import annotations

from brokerwatch.actors.protocol import Died, Fetched, OperatorCommand
from brokerwatch.health.outcome import FetchOutcome, NotAsked
from brokerwatch.messages import Balance, Fault
from tests.simulation.record import number_in


class Words:
    """A message as it is shown in a trace; its text is made only when it is shown."""

    def __init__(self, message: object) -> None:
        self._message = message

    def __str__(self) -> str:
        match self._message:
            case Fetched(ticket, outcome):
                return f"fetch {ticket} ended: {_outcome(outcome)}"
            case OperatorCommand(verb, broker):
                return f"{verb} {broker}"
            case Died(broker, epoch, why):
                return f"{broker} {epoch[-8:]} died: {why[:60]}"
            case None:
                return "begins"
            case message:
                return str(message)[:80]

    def __format__(self, how: str) -> str:
        return format(str(self), how)


def _outcome(outcome: FetchOutcome) -> str:
    match outcome:
        case Balance():
            return f"answer {number_in(outcome.holdings)}"
        case Fault():
            return str(outcome.kind)
        case NotAsked():
            return "not asked"
