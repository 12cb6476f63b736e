"""JSON is read as it was written, or not at all."""

from __future__ import annotations

import pytest

from brokerwatch.exchanges import json_text


def test_numbers_are_kept_as_they_were_written() -> None:
    assert json_text.parsed('{"a": 1.10, "b": -7, "c": [1e2, true, null, "x"]}') == {
        "a": "1.10",
        "b": "-7",
        "c": ["1e2", True, None, "x"],
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": NaN}', "^NaN is no JSON number$"),
        ("[-Infinity]", "^-Infinity is no JSON number$"),
        ('{"a": "1", "b": "2", "a": "3"}', "^a key stands twice$"),
        ('[{"x": {"a": 1, "a": 1}}]', "^a key stands twice$"),
        ("{", "."),
    ],
)
def test_what_json_does_not_say_once_and_clearly_is_no_answer(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        json_text.parsed(text)
