"""The checklist and the report: points are a sum, a skip is worth none, and nothing is taken on trust."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.verification.checklist import (
    BY_NAME,
    CATEGORIES,
    CHECKLIST,
    MAXIMUM,
    Check,
    CheckOutcome,
    Judgement,
    failed,
    passed,
    skipped,
    warned,
)
from brokerwatch.verification.report import (
    EXIT_STATUS,
    FORMAT,
    LONGEST_EVIDENCE,
    VERSION,
    Finding,
    Report,
    Verdict,
    decoded,
    encoded,
    one_line,
    report,
    schema,
    verdict,
)
from tests.support import strategies as our

jsonschema: Any = importlib.import_module("jsonschema")  # it has no annotations

PUBLISHED: Final = Path(__file__).resolve().parents[2] / "docs" / "verification-report.schema.json"
POINTS: Final = {
    "credentials": 10,
    "connection": 20,
    "balance": 15,
    "health": 10,
    "market_data": 15,
    "symbols": 10,
    "positions": 10,
    "trade": 10,
    "safety": 10,
}
SCHEMA: Final = jsonschema.Draft202012Validator(schema())
"""Built once: `jsonschema.validate` checks the schema itself again for each document."""
NOW_US: Final = 1_800_000_000_123_456
NINE_THOUSAND_YEARS_US: Final = 253_402_300_799_999_999
PASS, WARN, FAIL, SKIP = CheckOutcome.PASS, CheckOutcome.WARN, CheckOutcome.FAIL, CheckOutcome.SKIP
SETS: Final = [set(some) for size in range(1, 5) for some in combinations(CheckOutcome, size)]
"""Every combination of outcomes that can come together."""


def findings_of(outcomes: Sequence[CheckOutcome], evidence: str = "seen") -> list[Finding]:
    return [
        Finding(check, Judgement(outcome, evidence), number)
        for number, (check, outcome) in enumerate(zip(CHECKLIST, outcomes, strict=True))
    ]


def made(findings: Sequence[Finding], started_us: int = NOW_US, ended_us: int = NOW_US + 1_500) -> Report:
    return report(
        findings,
        broker="main",
        exchange="kraken",
        key="0123456789abcdef01234567",
        elsewhere=False,
        started_us=started_us,
        ended_us=ended_us,
        versions={"brokerwatch": "1"},
        policy="guarded",
    )


def outcomes_of(some: set[CheckOutcome]) -> list[CheckOutcome]:
    """As many as there are checks, and each of `some` among them."""
    listed = sorted(some)
    return [listed[number % len(listed)] for number in range(len(CHECKLIST))]


def all_outcomes() -> st.SearchStrategy[list[CheckOutcome]]:
    """Outcomes of all checks; often of few kinds, or a failure would nearly always be among them."""
    kinds = st.sampled_from(SETS).map(lambda some: st.sampled_from(sorted(some)))
    return kinds.flatmap(lambda kind: st.lists(kind, min_size=len(CHECKLIST), max_size=len(CHECKLIST)))


ALL_PASS: Final = made(findings_of([PASS] * len(CHECKLIST)))
AS_JSON: Final[dict[str, Any]] = json.loads(encoded(ALL_PASS))


def edited(*path: str | int, to: object = None, gone: bool = False) -> dict[str, Any]:
    """The JSON of a report in which everything passed, with one value changed or taken away."""
    found: dict[str, Any] = json.loads(encoded(ALL_PASS))
    *way, last = path
    inner: Any = found
    for step in way:
        inner = inner[step]
    if gone:
        del inner[last]
    else:
        inner[last] = to
    return found


# --- the list ---------------------------------------------------------------------------------------


def test_the_points_of_each_category_are_those_that_were_asked_for() -> None:
    found: Counter[str] = Counter()
    for check in CHECKLIST:
        assert check.points > 0
        found[check.category] += check.points
    assert dict(found) == POINTS
    assert sum(POINTS.values()) == MAXIMUM == 110


def test_checks_have_names_of_their_own_and_stand_in_the_order_of_their_categories() -> None:
    names = [check.name for check in CHECKLIST]
    assert len(set(names)) == len({check.title for check in CHECKLIST}) == len(names)
    assert all(re.fullmatch(r"[a-z_]+\.[a-z_]+", name) for name in names)
    assert (
        [name for name, _ in groupby(CHECKLIST, lambda check: check.category)] == [*CATEGORIES] == [*POINTS]
    )
    assert {name: BY_NAME[name] for name in names} == dict(BY_NAME)
    assert tuple(BY_NAME.values()) == CHECKLIST


def test_each_way_to_judge_is_the_outcome_of_its_name() -> None:
    assert [judge("so").outcome for judge in (passed, warned, failed, skipped)] == [PASS, WARN, FAIL, SKIP]
    assert {judge("so").evidence for judge in (passed, warned, failed, skipped)} == {"so"}


# --- points and verdict -----------------------------------------------------------------------------


@given(outcomes=all_outcomes())
@settings(max_examples=our.examples(100))
def test_points_are_summed_and_only_what_was_done_and_is_right_has_any(outcomes: list[CheckOutcome]) -> None:
    found = made(findings_of(outcomes))
    for category in found.categories:
        assert category.points == sum(check.points for check in category.checks)
        assert category.maximum == sum(check.maximum for check in category.checks) == POINTS[category.name]
        assert all(check.name.startswith(f"{category.name}.") for check in category.checks)
    checks = [check for category in found.categories for check in category.checks]
    assert [check.name for check in checks] == [check.name for check in CHECKLIST], "each once, in order"
    for check, outcome in zip(checks, outcomes, strict=True):
        assert check.outcome is outcome
        assert check.maximum == BY_NAME[check.name].points
        assert check.points == {PASS: check.maximum, WARN: check.maximum, FAIL: 0, SKIP: 0}[outcome]
    assert found.points == sum(category.points for category in found.categories)
    assert found.maximum == sum(category.maximum for category in found.categories) == MAXIMUM


def expected(outcomes: set[CheckOutcome]) -> tuple[Verdict, int]:
    """Written down, and not reckoned as the product does."""
    if FAIL in outcomes or outcomes == {SKIP}:
        return Verdict.FAILED, 1
    if outcomes == {PASS}:
        return Verdict.PASSED, 0
    return Verdict.PASSED_WITH_REMARKS, 3


@pytest.mark.parametrize("some", SETS, ids=lambda some: "-".join(sorted(some)))
def test_each_combination_of_outcomes_has_its_verdict_and_exit_status(some: set[CheckOutcome]) -> None:
    found = made(findings_of(outcomes_of(some)))
    assert (found.verdict, found.exit_status) == expected(some)
    assert found.has_passed == (found.verdict is not Verdict.FAILED)


@given(outcomes=all_outcomes())
@settings(max_examples=our.examples(200))
def test_one_outcome_anywhere_decides_as_many_do(outcomes: list[CheckOutcome]) -> None:
    found = made(findings_of(outcomes))
    assert (found.verdict, found.exit_status) == expected(set(outcomes))
    assert found.has_passed == (found.verdict is not Verdict.FAILED)
    assert found.failures() == tuple(
        check.name for check, outcome in zip(CHECKLIST, outcomes, strict=True) if outcome is FAIL
    )
    event(str(found.verdict))


def test_nothing_done_at_all_is_no_pass() -> None:
    assert verdict([]) is Verdict.FAILED
    assert set(EXIT_STATUS) == set(Verdict)
    assert not msgspec.structs.replace(ALL_PASS, categories=()).has_passed
    assert not made(findings_of([SKIP] * len(CHECKLIST))).has_passed


def test_a_report_is_judged_by_its_checks_and_not_by_its_own_words() -> None:
    boasting = {"verdict": Verdict.PASSED, "exit_status": 0, "points": MAXIMUM}
    failing = made(findings_of([PASS] * (len(CHECKLIST) - 1) + [FAIL]))
    assert not msgspec.structs.replace(failing, **boasting).has_passed
    humble = msgspec.structs.replace(ALL_PASS, verdict=Verdict.FAILED, exit_status=1, points=0)
    assert humble.has_passed


def test_a_report_that_lacks_a_check_has_not_passed_and_names_it() -> None:
    for name in BY_NAME:
        found = json.loads(encoded(ALL_PASS))
        for category in found["categories"]:
            category["checks"] = [check for check in category["checks"] if check["name"] != name]
        lacking = decoded(json.dumps(found).encode())
        assert not lacking.has_passed
        assert lacking.failures() == (name,)


WHOLE: Final = findings_of([PASS] * len(CHECKLIST))
FOREIGN: Final = Finding(Check("safety.other", "another one", 1), passed("so"), 1)


@pytest.mark.parametrize(
    "found",
    [
        [],
        WHOLE[:-1],
        WHOLE[1:],
        [*WHOLE, WHOLE[0]],
        [*WHOLE[:5], WHOLE[4], *WHOLE[6:]],
        [WHOLE[1], WHOLE[0], *WHOLE[2:]],
        WHOLE[::-1],
        [*WHOLE, FOREIGN],
        [*WHOLE[:-1], FOREIGN],
    ],
)
def test_findings_that_are_not_the_whole_list_in_its_order_are_no_report(found: list[Finding]) -> None:
    with pytest.raises(ValueError, match="every check, once, in the order"):
        made(found)


# --- JSON ---------------------------------------------------------------------------------------------


@settings(max_examples=our.examples(100))
@given(
    outcomes=all_outcomes(),
    evidence=our.texts(60),
    started_us=st.integers(0, NINE_THOUSAND_YEARS_US),
    took_us=st.integers(-(10**9), 10**13),
)
def test_a_report_is_read_as_it_was_written(
    outcomes: list[CheckOutcome], evidence: str, started_us: int, took_us: int
) -> None:
    ended_us = min(max(0, started_us + took_us), NINE_THOUSAND_YEARS_US)
    found = made(findings_of(outcomes, evidence), started_us, ended_us)
    text = encoded(found)
    assert decoded(text) == found
    assert found.ended_us == ended_us
    assert found.took_ms >= 0
    assert text.endswith(b"}\n")
    SCHEMA.validate(json.loads(text))


def test_a_report_of_before_has_no_policy_and_is_read() -> None:
    text = edited("policy", gone=True)
    assert decoded(json.dumps(text).encode()) == msgspec.structs.replace(ALL_PASS, policy="")
    SCHEMA.validate(text)


def test_moments_are_kept_to_the_microsecond() -> None:
    assert made(WHOLE, ended_us=NOW_US).ended_us == NOW_US
    assert ALL_PASS.started == "2027-01-15T08:00:00.123456Z"
    assert made(WHOLE, NOW_US, NOW_US + 2_999_999).took_ms == 2_999
    assert made(WHOLE, NOW_US, NOW_US - 5_000).took_ms == 0, "the clock was set back meanwhile"


def paths(value: object, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every value of a JSON document; of a list only to the first one."""
    if isinstance(value, dict):
        for key, inner in cast("Mapping[str, object]", value).items():
            yield (*way, key)
            yield from paths(inner, (*way, key))
    elif isinstance(value, list) and value:
        yield (*way, 0)
        yield from paths(cast("list[object]", value)[0], (*way, 0))


WRONG: Final[tuple[Any, ...]] = (None, 1.5, {"a": [1]}, [1], [[]], "no such word\n")
FIELDS: Final = [way for way in paths(AS_JSON) if isinstance(way[-1], str) and "versions" not in way[:-1]]
LATER: Final = ("policy",)
"""What reports of earlier versions do not have."""


@pytest.mark.parametrize("way", FIELDS, ids=str)
def test_a_field_that_is_missing_or_of_another_type_is_no_report(way: tuple[str | int, ...]) -> None:
    assert len(FIELDS) == 16 + 5 + 7
    spoiled = [] if way == LATER else [edited(*way, gone=True)]
    spoiled += [edited(*way, to=value) for value in WRONG]
    for found in spoiled:
        free = way[-1] in ("broker", "exchange", "key", "name", "title", "evidence", "policy")
        if free and found == edited(*way, to="no such word\n"):
            continue  # any text will do
        with pytest.raises(ValueError, match=r"^is "):
            decoded(json.dumps(found).encode())
        if way[-1] in ("started", "ended") and found == edited(*way, to="no such word\n"):
            continue  # `format` is only a remark in a JSON Schema
        with pytest.raises(jsonschema.ValidationError):
            SCHEMA.validate(found)


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("version",), 2),
        (("version",), 0),
        (("version",), True),
        (("format",), "brokerwatch.health"),
        (("format",), ""),
        (("categories", 0, "checks", 0, "outcome"), "ok"),
        (("categories", 0, "checks", 0, "outcome"), "PASS"),
        (("verdict",), "pass"),
        (("elsewhere",), 0),
        (("took_ms",), "1"),
        (("versions",), {"ccxt": 4}),
    ],
)
def test_an_unknown_word_or_version_is_refused_here_and_by_the_schema(
    way: tuple[str | int, ...], value: object
) -> None:
    found = edited(*way, to=value)
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(found)
    with pytest.raises(ValueError, match=r"^is "):
        decoded(json.dumps(found).encode())


@pytest.mark.parametrize(
    "moment", ["2026-11-23T10:00:00", "2026-11-23", "yesterday", "", "2026-13-01T00:00:00Z"]
)
@pytest.mark.parametrize("field", ["started", "ended"])
def test_a_moment_without_its_place_is_none(field: str, moment: str) -> None:
    # Read as local time, a report would be older or younger wherever the machine stands.
    with pytest.raises(ValueError, match="moment"):
        decoded(json.dumps(edited(field, to=moment)).encode())


def test_a_field_that_a_later_version_adds_is_no_hindrance() -> None:
    found = edited("more", to=[1])
    assert decoded(json.dumps(found).encode()) == ALL_PASS
    SCHEMA.validate(found)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"report"',
        b"\x00\xff",
        b'{"format":"\xff"}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"categories":' + b"[" * 200_000,
        b'{"took_ms":' + b"9" * 5_000 + b"}",
        b'{"took_ms":1e999999}',
        b'{"version":NaN}',
        encoded(ALL_PASS) + b"{}",
        b"\xef\xbb\xbf" + encoded(ALL_PASS),
    ],
    ids=range(14),
)
def test_what_is_no_report_is_refused_with_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^is no report of a verification"):
        decoded(text)


def test_a_report_that_was_cut_anywhere_is_none() -> None:
    whole = encoded(ALL_PASS).rstrip()
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"^is no report of a verification"):
            decoded(whole[:length])


@settings(max_examples=our.examples(200))
@given(st.data())
def test_bytes_that_were_changed_are_a_report_or_a_value_error(data: st.DataObject) -> None:
    spoiled = bytearray(encoded(ALL_PASS))
    for _ in range(data.draw(st.integers(1, 3))):
        spoiled[data.draw(st.integers(0, len(spoiled) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decoded(bytes(spoiled))
    except ValueError as error:
        event(str(error)[:40])
    else:
        assert decoded(encoded(found)) == found


# --- the schema and the lines -------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_code() -> None:
    current = json.dumps(schema(), indent=2) + "\n"
    renew = (
        "python -c 'import json; from brokerwatch.verification.report import schema; "
        f"print(json.dumps(schema(), indent=2))' > docs/{PUBLISHED.name}"
    )
    assert PUBLISHED.read_text(encoding="utf-8") == current, f"renew it: {renew}"
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$defs"]["Report"]["properties"]["format"]["const"] == FORMAT
    assert schema()["$id"].endswith(f":{VERSION}")


@given(st.text(max_size=3 * LONGEST_EVIDENCE))
def test_a_line_of_evidence_is_one_line_that_can_be_shown_and_written(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= LONGEST_EVIDENCE
    assert line.encode().decode() == line == one_line(line)


def test_a_line_of_evidence_keeps_its_words() -> None:
    assert one_line(" two\n\twords\x1b[31m\ud800 ") == "two words [31m"
    assert one_line("x" * LONGEST_EVIDENCE) == "x" * LONGEST_EVIDENCE
    assert one_line("x" * (LONGEST_EVIDENCE + 1)) == "x" * (LONGEST_EVIDENCE - 1) + "…"
