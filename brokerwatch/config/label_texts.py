"""The labels of a broker, and those that it pins: short printable texts by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

MAX_LABELS: Final = 32
MAX_LABEL_CHARACTERS: Final = 256
"""They are sent with every reading."""


def labels_rule(field: str) -> Callable[[Any], Iterator[str]]:
    """The rule for one field of a broker: it gives what was expected, and nothing where its value can be."""

    def rule(spec: Any) -> Iterator[str]:
        said: Mapping[object, object] = getattr(spec, field)
        if len(said) > MAX_LABELS or not all(map(_is_label, (*said.keys(), *said.values()))):
            yield f"expected up to {MAX_LABELS} printable texts of up to {MAX_LABEL_CHARACTERS} characters"

    return rule


def _is_label(text: object) -> bool:
    # The loader checks labels of a file. Labels from Python come unchecked.
    return isinstance(text, str) and len(text) <= MAX_LABEL_CHARACTERS and text.isprintable()
