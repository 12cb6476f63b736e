"""How the policy of an account is said before it goes live, and what about it deserves a warning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from brokerwatch.config.broker_spec import BrokerSpec

_CHOOSE: Final = 'write policy = "guarded"'


@dataclass(frozen=True, slots=True)
class PolicyWords:
    """What is said of a policy."""

    text: str
    """Which one it is, and what is wrong with it, if anything."""
    advice: str = ""
    """What to do; empty: nothing is wrong."""


def policy_words(spec: BrokerSpec) -> PolicyWords:
    """The policy of an account; a warning where it may trade and no policy was chosen, or one that trusts it
    before there was any answer."""
    text = f"policy {spec.policy}"
    if not spec.trading:
        return PolicyWords(text)
    if not spec.rules.start_unknown:
        said = f"{text}: with trading = true the account is available before its first answer"
        return PolicyWords(
            said, _CHOOSE if spec.policy == "simple" else "take start_unknown out of its rules"
        )
    if not spec.policy_is_chosen:
        return PolicyWords(
            f"{text}, the default with trading = true; none was chosen", f"{_CHOOSE} to say so"
        )
    return PolicyWords(text)
