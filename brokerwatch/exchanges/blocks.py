"""A page that something between us and the exchange answers, because it does not let this address through.

Exchanges stand behind a content delivery network with a firewall, and serve no country that they may not.
Such an answer says nothing of the key, the account or the exchange's health. Asking again from the same
address does not help. It is told apart by the page's own words, by headers of the network, and by the status
451 (RFC 7725: unavailable for legal reasons).

Sources: Cloudflare's "1xxx errors" and the header cf-mitigated; CloudFront's "Troubleshooting distributions"
(HTTP 403); the pages of Akamai ("Access Denied … Reference #"), Imperva, Sucuri, F5, DDoS-Guard and the
AWS WAF; Binance's answer 451 to an address in a restricted location.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from brokerwatch.exchanges.pauses import MAX_SEARCHED

LEGAL: Final = 451
_STATUSES: Final = frozenset({None, 401, 403, 405, 406, 409, 429, 451, 503})
"""Statuses under which a firewall refuses. None: the status of the answer is not known. A page with another
status, such as Cloudflare's 520, is about a server behind it that does not answer."""
_ALWAYS: Final = frozenset({401, 403, 405, 406, 409, 451})
"""Those under which the name of the network on a page is enough."""

_OF_JSON: Final = frozenset({200, 400})
"""Some exchanges say under these, in their own envelope, that they do not serve a country."""
UNSERVED: Final = "the exchange does not serve the country or region of this address"

_NETWORKS: Final = (
    ("Cloudflare", r"cloudflare|\bcf-(?:ray|chl|wrapper|error)|error code: ?10(?:0[5-9]|1[0-4]|20)\b"),
    ("CloudFront", r"cloudfront|the request could not be satisfied"),
    (
        "Akamai",
        r"edgesuite\.net|akamai|access denied[\s\S]{0,400}?(?:don.t|do not) have permission to access"
        r"[\s\S]{0,300}?reference(?:&#\d+;|\W){1,8}[0-9a-f][0-9a-f.&#;]{5,}",
    ),
    ("Imperva", r"incapsula|imperva"),
    ("Sucuri", r"sucuri"),
    ("DDoS-Guard", r"ddos-guard"),
    ("F5", r"the requested url was rejected[\s\S]{0,200}?support id"),
    ("AWS WAF", r"x-amzn-waf|awswaf|aws waf"),
    ("Azure", r"azure front door|azure waf|x-azure-ref"),
)
NETWORKS: Final = tuple((name, re.compile(words, re.IGNORECASE)) for name, words in _NETWORKS)
"""The name of a network to what stands on its pages."""
_SERVERS: Final = (
    ("Cloudflare", re.compile("cloudflare", re.IGNORECASE)),
    ("CloudFront", re.compile("cloudfront", re.IGNORECASE)),
    ("Akamai", re.compile("akamai", re.IGNORECASE)),
    ("Imperva", re.compile("imperva|incapsula", re.IGNORECASE)),
    ("Sucuri", re.compile("sucuri", re.IGNORECASE)),
    ("DDoS-Guard", re.compile("ddos-guard", re.IGNORECASE)),
)
_CHALLENGE: Final = re.compile(
    r"just a moment|checking your browser|attention required|you have been blocked|captcha"
    r"|enable javascript and cookies|verify (?:that )?you are (?:a )?human|ddos protection by"
    r"|error code: ?10(?:0[5-9]|1[0-4]|20)\b",
    re.IGNORECASE,
)
"""What a page says that wants a browser, or that has blocked this one."""
_COUNTRY: Final = re.compile(
    r"block access from your country|unavailable for legal reasons|restricted (?:location|region|country"
    r"|jurisdiction|territor|area\b)|geo-?(?:block|restrict|fenc)\w*|unsupported_country"
    r"|\b(?:services?|access|api|website|platform|exchange|ip)\b[^.{}]{0,80}\b(?:not|un|restricted|prohibited"
    r"|blocked|denied)\w*\b[^.{}]{0,60}\b(?:country|region|location|jurisdiction|territory)"
    r"|\b(?:not|cannot|can.?t|unable to) (?:\w+ ){0,2}?(?:provide|offer|serve)\w*[^.{}]{0,60}"
    r"\b(?:country|region|location|jurisdiction|territory|area|state)\b"
    r"|\bnot (?:available|supported|permitted|allowed) (?:in|for|from) (?:your|this) (?:country|region"
    r"|location|jurisdiction|territory|area|state)\b"
    r"|\bservices? (?:are|is) (?:currently )?(?:un|not )available (?:in|for|to)\b"
    r"|\byour (?:country|region|location|jurisdiction)\b[^.{}]{0,60}\b(?:not supported|unsupported|restricted"
    r"|prohibited|blocked)",
    re.IGNORECASE,
)
"""What is said of the place that a request comes from."""
_ONE_MARKET: Final = re.compile(
    r"(?:\b|_)(?:symbol|pair|market|instrument|product|contract|coin|token|crypto|currency|asset)s?(?:\b|_)",
    re.IGNORECASE,
)
"""What says that a part of the exchange is meant, and not all of it."""


def blocked(status: int | None, body: str, headers: Mapping[str, str]) -> str:
    """What blocks this address, in words; empty when the answer is none of that kind."""
    text = body[:MAX_SEARCHED]
    is_json = text.lstrip().startswith(("{", "["))
    if status not in _STATUSES and not (is_json and status in _OF_JSON):
        return ""
    of_a_part = (is_json or status is None) and bool(_ONE_MARKET.search(text))
    if _COUNTRY.search(text) and not of_a_part:
        return f"{UNSERVED}{_by(text, headers)}"
    if status == LEGAL and not of_a_part:
        return f"the exchange does not serve this address for legal reasons{_by(text, headers)}"
    if is_json or not text:
        return ""
    challenged = "challenge" in headers.get("cf-mitigated", "") or bool(_CHALLENGE.search(text))
    if not challenged and status not in _ALWAYS:
        return ""  # most failures end here, before many more patterns
    named = _network(text, headers)
    if challenged or named:
        return f"{named or 'a firewall before the exchange'} blocks this address"
    return ""


def _by(text: str, headers: Mapping[str, str]) -> str:
    named = _network(text, headers)
    return f" ({named})" if named else ""


def _network(text: str, headers: Mapping[str, str]) -> str:
    """The content delivery network that wrote a page; empty where it does not show."""
    for name, words in NETWORKS:
        if words.search(text):
            return name
    server = headers.get("server", "")
    return next((name for name, words in _SERVERS if words.search(server)), "")
