"""What people read in place of what programs say: a page of HTML as its title, an amount with two digits."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from brokerwatch.money import EXACT, plain

_TITLE: Final = re.compile(r"<title[^>]*>\s*([^<]*)", re.IGNORECASE)
_TAG: Final = re.compile(r"<[!/a-z][^>]*(>|$)", re.IGNORECASE)


def plain_detail(detail: str) -> str:
    """A detail for a line: a page of HTML in it is reduced to its title."""
    begin = re.search(r"<(!doctype|html|head|body|title)\b", detail, re.IGNORECASE)
    if begin is None:
        return " ".join(detail.split())
    title = _TITLE.search(detail)
    words = title.group(1) if title else _TAG.sub(" ", detail[begin.start() :])
    before = detail[: begin.start()].rstrip(" '\"")  # the page was quoted, and its end may be cut
    return " ".join(f"{before} {words}".split())


def rounded(exact: Decimal) -> str:
    """Two digits for people, unless that would show a small amount as zero: then all that count."""
    cents = exact.quantize(Decimal("0.01"), context=EXACT)
    return plain(exact) if exact and not cents else f"{cents:,}"
