"""What a verification makes of an outage that it provoked: each way in which a product can be broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.verification import outage_findings
from brokerwatch.verification.checklist import CheckOutcome, Judgement
from brokerwatch.verification.outage_findings import AnswerSeen, Provocation
from tests.support import strategies as our

PASS, FAIL, SKIP = CheckOutcome.PASS, CheckOutcome.FAIL, CheckOutcome.SKIP


def outage(threshold: int, needed: int) -> Provocation:
    """What the right product answers: it counts, flips at the threshold, and comes back when it may."""
    known = AnswerSeen(Decimal("100.5"), 1_000, 0, available=True, fault="")
    during = tuple(
        replace(known, error_count=number, available=number < threshold, fault="network", stale=True)
        for number in range(1, threshold + 1)
    )
    after = tuple(
        replace(known, as_of_us=2_000 + number, available=number >= needed, stale=number < needed)
        for number in range(1, needed + 1)
    )
    return Provocation(threshold, known, during, after, needed)


def test_an_account_of_which_only_totals_are_stated_answers_with_them() -> None:
    seen = outage(3, 1)

    def of_totals(answer: AnswerSeen, totals: str = "9 USDC") -> AnswerSeen:
        return replace(answer, cash=None, totals=totals)

    known = replace(
        seen,
        before=of_totals(seen.before),
        during=tuple(map(of_totals, seen.during)),
        after=tuple(map(of_totals, seen.after)),
    )
    found = outage_findings.fallback(known)
    assert found.outcome is PASS
    assert "the last known 9 USDC" in found.evidence
    assert outage_findings.recovery(known).outcome is PASS
    for totals in ("", "8 USDC"):
        other = replace(known, during=(*known.during[:-1], of_totals(known.during[-1], totals)))
        assert outage_findings.fallback(other).outcome is FAIL


def with_more(seen: Provocation, **values: Any) -> Provocation:
    """With one more error, answered like the last one but for these values."""
    last = replace(seen.during[-1], error_count=len(seen.during) + 1, **values)
    return replace(seen, during=(*seen.during, last))


def counting(seen: Provocation, count: Callable[[int], int]) -> Provocation:
    errors = enumerate(seen.during, 1)
    return replace(seen, during=tuple(replace(each, error_count=count(number)) for number, each in errors))


def flips_later(seen: Provocation) -> Provocation:
    last = replace(seen.during[-1], available=True)
    return with_more(replace(seen, during=(*seen.during[:-1], last)), available=False)


def forgets_late(seen: Provocation) -> Provocation:
    first = replace(seen.after[0], error_count=seen.threshold, available=False, stale=True)
    return replace(seen, after=(first, *seen.after))


def never_comes_back(seen: Provocation) -> Provocation:
    return replace(seen, after=(replace(seen.after[-1], available=False),) * 40)


ALIKE: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "is right": {},
    "does not count": {"during": {"error_count": 0}},
    "had errors before": {"before": {"error_count": 1}},
    "does not forget": {"after": {"error_count": 3}},
    "answers nothing": {"during": {"cash": None}},
    "answers 0": {"during": {"cash": Decimal(0)}},
    "answers a little more": {"during": {"cash": Decimal("100.500000000000000001")}},
    "answers as if of now": {"during": {"as_of_us": 2_000}},
    "does not say stale": {"during": {"stale": False}},
    "does not say why": {"during": {"fault": ""}},
    "always says stale": {"before": {"stale": True}},
    "knew nothing": {"before": {"cash": None}, "during": {"cash": None}},
    "never flips": {"during": {"available": True}},
    "was never available": {"before": {"available": False}},
    "comes back without a balance": {"after": {"cash": None}},
    "comes back stale": {"after": {"stale": True}},
    "the exchange fails by itself": {"after": {"fault": "network", "error_count": 1, "available": False}},
}
"""Products that are wrong in the same way in every answer: in which, and what is wrong."""

ODD: Final[Mapping[str, Callable[[Provocation], Provocation]]] = {
    "counts twice": lambda seen: counting(seen, lambda number: 2 * number),
    "stops counting": lambda seen: counting(with_more(seen), lambda number: min(number, seen.threshold)),
    "forgets late": forgets_late,
    "answers 0 at last": lambda seen: with_more(seen, cash=Decimal(0)),
    "flips later": flips_later,
    "flips back": lambda seen: with_more(with_more(seen, available=True), available=False),
    "meets too few": lambda seen: replace(seen, threshold=seen.threshold + 1),
    "never comes back": never_comes_back,
    "comes back early": lambda seen: replace(seen, needed=seen.needed + 1),
    "nothing afterwards": lambda seen: replace(seen, after=()),
    "nothing at all": lambda seen: replace(seen, during=(), after=()),
}

COUNT, FALLBACK, FLIP, RECOVERY = "counted_errors", "fallback", "flip", "recovery"
FALLS: Final[Mapping[str, frozenset[str]]] = {
    COUNT: frozenset({
        "does not count", "had errors before", "does not forget", "counts twice", "stops counting",
        "forgets late", "meets too few", "the exchange fails by itself", "nothing afterwards",
        "nothing at all",
    }),
    FALLBACK: frozenset({
        "answers nothing", "answers 0", "answers a little more", "answers as if of now", "does not say stale",
        "does not say why", "always says stale", "knew nothing", "answers 0 at last", "nothing at all",
    }),
    FLIP: frozenset({
        "never flips", "was never available", "flips later", "flips back", "meets too few", "nothing at all",
    }),
    RECOVERY: frozenset({
        "comes back without a balance", "comes back stale", "the exchange fails by itself",
        "never comes back", "comes back early", "nothing afterwards",
    }),
}  # fmt: skip
"""For each judgement the products for which it must fail, and for no other."""
NO_OUTAGE: Final = ("never flips", "nothing at all")
"""What was never away cannot come back."""


@pytest.mark.parametrize("kind", [*ALIKE, *ODD])
@settings(max_examples=our.examples(30))
@given(threshold=st.integers(1, 10), needed=st.integers(1, 3))
def test_exactly_the_judgement_falls_that_a_broken_product_breaks(
    kind: str, threshold: int, needed: int
) -> None:
    seen = outage(threshold, needed)
    if kind in ODD:
        seen = ODD[kind](seen)
    wrong = {part: dict(values) for part, values in ALIKE.get(kind, {}).items()}
    seen = replace(
        seen,
        before=replace(seen.before, **wrong.get("before", {})),
        during=tuple(replace(each, **wrong.get("during", {})) for each in seen.during),
        after=tuple(replace(each, **wrong.get("after", {})) for each in seen.after),
    )
    found: dict[str, Judgement] = {name: getattr(outage_findings, name)(seen) for name in FALLS}
    wanted = {name: FAIL if kind in kinds else PASS for name, kinds in FALLS.items()}
    if kind in NO_OUTAGE:
        wanted[RECOVERY] = SKIP
    assert {name: judgement.outcome for name, judgement in found.items()} == wanted, found
    assert all(judgement.evidence for judgement in found.values())


def test_the_evidence_of_an_outage_has_its_numbers() -> None:
    seen = outage(3, 2)
    assert "1, 2, 3" in outage_findings.counted_errors(seen).evidence
    assert "3 fetches made to fail" in outage_findings.fallback(seen).evidence
    assert "100.5" in outage_findings.fallback(seen).evidence
    assert "after 3 errors" in outage_findings.flip(seen).evidence
    assert outage_findings.recovery(seen).evidence.endswith("after 2 successes")
    assert outage_findings.recovery(outage(3, 1)).evidence.endswith("after 1 success")
