"""What each reason means and what helps, in plain words: for terminal, page and messages to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from brokerwatch.messages import Reason

MEANING: Final[Mapping[Reason, str]] = {
    Reason.OK: "it answers",
    Reason.ERRORS: "its last calls failed",
    Reason.NEVER_SEEN: "it has not answered yet",
    Reason.SILENT: "its watcher sends no sign of life",
    Reason.RESTARTING: "its watcher is started again",
    Reason.FAILED: "its watcher failed too often and is not started again",
    Reason.HELD_OUT: "an operator holds it out",
    Reason.LOCKED_OUT: "the exchange has locked the key out for a time",
    Reason.AUTH: "the exchange refuses the key",
    Reason.MAINTENANCE: "the exchange is under maintenance",
    Reason.RECOVERING: "it answers again and is being confirmed",
    Reason.BLIND: "the cluster itself hears no account",
    Reason.LOCAL_NETWORK: "this machine has no network",
    Reason.SHUTDOWN: "the cluster was stopped",
    Reason.NOTHING_HEARD: "nothing was heard from the cluster",
    Reason.CONFIG: "its configuration is wrong",
    Reason.UNPROVEN: "its last success is too old to prove anything",
    Reason.LOOP: "the event loop that asks it hangs",
    Reason.CLAIM: "this node does not hold the pool's claim of its key",
    Reason.OTHER: "for a reason that this version does not know",
}
"""The reason as the end of a sentence about an account."""

HELPS: Final[Mapping[Reason, str]] = {
    Reason.CONFIG: "brokerwatch doctor says what is wrong",
    Reason.SHUTDOWN: "the cluster has stopped",
    Reason.HELD_OUT: "brokerwatch release {broker} ends it",
    Reason.FAILED: "mend the cause, then: brokerwatch reset {broker}",
    Reason.NEVER_SEEN: "it is asked",
    Reason.BLIND: "the program itself hears no account; if it stays so, start it again",
    Reason.SILENT: "its actor is started again",
    Reason.RESTARTING: "its actor is started again",
    Reason.LOOP: "what blocks the event loop? another one takes its place",
    Reason.CLAIM: "the node that holds the claim asks it; does the pool's database answer?",
    Reason.LOCKED_OUT: "it ends by itself",
    Reason.AUTH: "check the key, then: brokerwatch reset {broker}",
    Reason.ERRORS: "it is asked again",
    Reason.LOCAL_NETWORK: "check this machine's network",
    Reason.MAINTENANCE: "it is asked again each minute",
    Reason.RECOVERING: "one more success is needed",
    Reason.UNPROVEN: "it is asked again",
    Reason.NOTHING_HEARD: "does the cluster run?",
}
"""What helps an account that is not available for this reason; `{broker}` is its name."""


def meaning(reason: Reason) -> str:
    """Why an account is, or is not, available, as the end of a sentence about it."""
    return MEANING[reason]


def what_helps(reason: Reason, broker: str) -> str:
    """What helps an account that is not available for this reason; empty where nothing is needed."""
    return HELPS.get(reason, "").format(broker=broker)
