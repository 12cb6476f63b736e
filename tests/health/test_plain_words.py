"""What people read in place of what programs say."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brokerwatch.health.plain_words import plain_detail, rounded


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("down", "down"),
        ("HTTP 403: <html><head><title>Just a moment...</title>", "HTTP 403: Just a moment..."),
        ("HTTP 502: '<html><head><title>502 Bad Gateway</title>", "HTTP 502: 502 Bad Gateway"),
        ("HTTP 403: <!DOCTYPE html><html><body><h1>Blocked</h1> by us", "HTTP 403: Blocked by us"),
        ("HTTP 403: <HTML><TITLE>\n Cut off in the ti", "HTTP 403: Cut off in the ti"),
        (
            "nothing placed: '<html><head><title>502 Bad Gateway</title></head>\\r\\n</html>\\r\\n'; "
            'looked up: "<!DOCTYPE html><html><body>no</body></html>" (twice)',
            "nothing placed: 502 Bad Gateway; looked up: no (twice)",
        ),
        ("HTTP 502: '<html><body></body></html>'", "HTTP 502:"),
        ("amount < 5 and price > 3", "amount < 5 and price > 3"),
    ],
)
def test_a_page_in_a_detail_is_reduced_to_its_title(detail: str, shown: str) -> None:
    assert plain_detail(detail) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("8370.63000000", "8,370.63"), ("0", "0.00"), ("0.00000001", "0.00000001"), ("-0.001", "-0.001")],
)
def test_an_amount_has_two_digits_unless_it_would_read_zero(amount: str, shown: str) -> None:
    assert rounded(Decimal(amount)) == shown
