"""The documents of the protocol and its test vectors, held to the classes."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from enum import Enum
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given

from brokerwatch import messages
from brokerwatch.messages import Envelope, MessageType
from brokerwatch.messages.codec import words
from brokerwatch.messages.specification import asyncapi, documents, schema
from tests.support import strategies as our
from tests.support import wire_vectors

jsonschema: Any = importlib.import_module("jsonschema")  # it has no annotations
DOCS: Final = Path(__file__).resolve().parents[2] / "docs" / "wire"
VALIDATORS: Final = {kind: jsonschema.Draft202012Validator(schema(kind)) for kind in MessageType}


@pytest.mark.parametrize("path", documents())
def test_a_document_in_the_docs_is_what_the_classes_make(path: str) -> None:
    assert (DOCS / path).read_bytes() == documents()[path], (
        "write it again: python -m brokerwatch.messages.specification docs/wire"
    )


@pytest.mark.parametrize("name", wire_vectors.files())
def test_a_test_vector_is_what_is_sent_and_understood(name: str) -> None:
    assert (wire_vectors.FOLDER / name).read_bytes() == wire_vectors.files()[name], (
        "the protocol has changed; if that is meant: python -m tests.support.wire_vectors"
    )


def test_no_vector_is_left_behind() -> None:
    assert {path.name for path in wire_vectors.FOLDER.iterdir()} == set(wire_vectors.files())


@given(message=our.envelopes())
def test_every_message_keeps_to_its_schema(message: Envelope) -> None:
    said = json.loads(json.dumps(words(message)))
    VALIDATORS[message.type].validate(said)
    for other, validator in VALIDATORS.items():
        assert validator.is_valid(said) is (other is message.type)


def test_what_must_be_accepted_keeps_to_the_schema_and_what_the_codec_refuses_by_its_values_does_not() -> (
    None
):
    for entry in wire_vectors.index():
        if entry["accepted"]:
            VALIDATORS[MessageType(entry["becomes"]["type"])].validate(entry["becomes"])
    accepted = {entry["name"] for entry in wire_vectors.index() if entry["accepted"]}
    assert accepted == {
        *map(str, MessageType),
        "unknown_key",
        "unknown_reason",
        "unknown_state",
        "unknown_fault",
    }


def _growing_lists() -> dict[str, type[Enum]]:
    """Each list of words, or of numbers, of which a receiver takes those that it does not know."""
    found = {
        each.__name__: each
        for module in pkgutil.iter_modules(messages.__path__)
        for each in vars(importlib.import_module(f"{messages.__name__}.{module.name}")).values()
        if isinstance(each, type) and issubclass(each, Enum) and "_missing_" in vars(each)
        if each.__module__.startswith(messages.__name__)
    }
    assert found.keys() >= {
        "Reason",
        "FaultKind",
        "HealthState",
        "CapabilityState",
        "KeyWarning",
        "MoneyAlarm",
    }
    return found


def test_the_schema_takes_words_of_a_later_version_and_names_those_of_this_one() -> None:
    for components in (schema(MessageType.READING)["$defs"], asyncapi()["components"]["schemas"]):
        for name, kind in _growing_lists().items():
            found = components[name]
            assert "enum" not in found, f"{name} is a closed list"
            assert sorted(found["examples"]) == sorted(each.value for each in kind)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi()
    found = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert len(found) > 20
    for reference in found:
        place: Any = document
        for name in reference.split("/"):
            place = place[name]


STORIES: Final = {each["name"]: each for each in wire_vectors.stories()}


@pytest.mark.parametrize(
    ("name", "available", "lost"),
    [
        ("expiry", [True, True, False], 0),
        ("renewal", [True, True, True], 0),
        ("loss", [True, True], 3),
        ("repeated", [True, True, True], 0),
        ("made_up", [True, True, True], 0),
        ("restart", [True, True, True], 0),
        ("farewell", [True, False], 0),
        ("after_farewell", [True, False, False, True], 1),
        ("clock_set_back", [True, True, True], 0),
        ("proof", [True, True, False, True, True, False], 0),
        ("paused", [True, *[False] * 10, True], 0),
        ("made_up_clock", [True, True, *[False] * 10, True], 2**40 - 2),
        ("late", [True, True, False], 0),
        ("far_epoch", [None, True], 0),
        ("long_ttl", [True, True, False], 0),
    ],
)
def test_each_story_ends_as_the_protocol_says(name: str, available: list[bool | None], lost: int) -> None:
    steps = STORIES[name]["steps"]
    found = [step["believed"].get("kraken-main", {}).get("available") for step in steps]
    assert (found, steps[-1]["lost"]) == (available, lost)
    taken = [step["taken"] for step in steps if "taken" in step]
    passed_over = {
        "repeated": [1, 2],
        "restart": [2],
        "after_farewell": [2],
        "clock_set_back": [1],
        "made_up_clock": list(range(2, 12)),
        "far_epoch": [0],
    }.get(name, [])
    assert [place for place, each in enumerate(taken) if not each] == passed_over
