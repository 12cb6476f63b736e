"""What people read in place of what programs say: a page of HTML as its title, an amount with two digits."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from brokerwatch.money import EXACT, plain

_TITLE: Final = re.compile(r"<title[^>]*>\s*([^<]*)", re.IGNORECASE)
_PAGE: Final = re.compile(
    r"\s*['\"]?<(?:!doctype|html|head|body|title)\b.*?(?:</html>(?:\s|\\[nrt])*['\"]?|$)",
    re.IGNORECASE | re.DOTALL,
)
"""A page, which may be quoted, up to its end or to where it was cut."""
_TAG: Final = re.compile(r"<[!/a-z][^>]*(>|$)", re.IGNORECASE)


def plain_detail(detail: str) -> str:
    """A detail for a line: each page of HTML in it is reduced to its title."""
    return " ".join(_PAGE.sub(_of_page, detail).split())


def _of_page(found: re.Match[str]) -> str:
    page = found[0].strip(" '\"")
    title = _TITLE.search(page)
    return f" {title.group(1) if title else _TAG.sub(' ', page)}"


def rounded(exact: Decimal) -> str:
    """Two digits for people, unless that would show a small amount as zero: then all that count."""
    cents = exact.quantize(Decimal("0.01"), context=EXACT)
    return plain(exact) if exact and not cents else f"{cents:,}"
