"""What the log says of one account: each change once, and not each event."""

from __future__ import annotations

from typing import Final

from brokerwatch.health.plain_words import plain_detail
from brokerwatch.health.state_machine import Health
from brokerwatch.log import about, logger
from brokerwatch.messages import FaultKind, HealthState, Reading, Reason

_log: Final = logger("brokerwatch.actors.broker")

_WITHOUT_A_FAULT: Final = frozenset({Reason.CLAIM, Reason.UNPROVEN})
"""Reasons for which an account is out although its newest calls did not fail."""
_OUT: Final = frozenset({HealthState.UNAVAILABLE, HealthState.RECOVERING, HealthState.MAINTENANCE})


class BrokerLog:
    """Writes the log of one broker actor. Used on the actor's thread alone."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._not_asked = ""
        """Why the newest fetch was not made; empty when it was."""

    def folded(self, before: Health, after: Health, board: Reading) -> None:
        """An outcome was folded: write what it changed. `board`: the reading with the supervisor's vetoes."""
        for reason, veto in after.vetoes.laid.items():
            known = before.vetoes.laid.get(reason)
            if known is None or (reason is Reason.AUTH and known.detail != veto.detail):
                _log.error(
                    "%s is %s: %s",
                    self._name,
                    reason,
                    plain_detail(veto.detail),
                    extra=self._about(board, reason=str(reason), detail=veto.detail),
                )
        mistake = after.fault is not None and after.fault.kind is FaultKind.CLIENT_BUG
        if mistake and (before.fault is None or before.fault.kind is not FaultKind.CLIENT_BUG):
            _log.error(
                "%s: a mistake on our side of the connection, of the configuration or of brokerwatch: %s",
                self._name,
                "" if after.fault is None else plain_detail(after.fault.detail),
                extra=self._about(board, fault=_kind(after)),
            )
        was_out, is_out = before.state in _OUT, after.state in _OUT
        if is_out and not was_out and after.fault is not None:
            _log.warning(
                "%s is %s: %s",
                self._name,
                _why_out(after),
                plain_detail(after.fault.detail),
                extra=self._about(
                    board,
                    status=after.state.name.lower(),
                    available=False,
                    reason=str(board.reason) if not board.available else "errors",
                    error_count=after.error_count,
                    fault=_kind(after),
                    detail=after.fault.detail,
                ),
            )
        elif was_out and not is_out:
            self._again(board)

    def shown(self, before: Reading | None, after: Reading, board: Reading) -> None:
        """A reading was published: write when its proof or its claim has ended, and when it counts again."""
        reason, told = after.verdict.reason, None if before is None else before.verdict.reason
        was = told in _WITHOUT_A_FAULT
        if reason in _WITHOUT_A_FAULT and reason is not told:
            said = self._about(board, available=False, reason=str(after.reason), detail=after.detail)
            _log.warning("%s is not available: %s", self._name, plain_detail(after.detail), extra=said)
        elif was and after.verdict.available:
            self._again(board)

    def _again(self, board: Reading) -> None:
        said = self._about(board)
        if board.available:
            _log.warning("%s is available again", self._name, extra=said)
        else:
            _log.warning("%s answers again, and is not available: %s", self._name, board.reason, extra=said)

    def asked(self) -> None:
        """A fetch was made."""
        self._not_asked = ""

    def not_asked(self, why: str) -> None:
        """A fetch was not made. Written once, until one is made."""
        if not self._not_asked:
            _log.warning("%s: %s", self._name, why, extra=about(self._name, detail=why))
        self._not_asked = why

    def replaced(self, *, left: bool) -> None:
        """A newer incarnation has the place on the board, or none has: the broker `left` the cluster."""
        if not left:
            _log.warning("%s: a replaced actor woke up and ends", self._name, extra=about(self._name))

    def _about(self, board: Reading, **more: object) -> dict[str, object]:
        """What a line says about the account by the names of the wire; `more` is newer than the board."""
        shown: dict[str, object] = {
            "exchange": board.exchange,
            "status": board.status,
            "available": board.available,
            "reason": str(board.reason),
            "error_count": board.error_count,
        }
        return about(self._name, **shown | more)


def _why_out(after: Health) -> str:
    """What the newest fault has made of the account. Announced maintenance is no error."""
    if after.state is HealthState.MAINTENANCE:
        return "in maintenance"
    count = after.error_count
    errors = "error" if count == 1 else "errors"
    return f"{after.state.name.lower()} after {count} consecutive {errors}; the last: {_kind(after)}"


def _kind(health: Health) -> str | None:
    return None if health.fault is None else str(health.fault.kind)
