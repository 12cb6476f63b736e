"""What can go wrong with an answer, exchange by exchange, and which kind of fault it is.

Written from the exchanges' documentation and from the rules of HTTP, not from what the product says: where
the two differ, one of them is wrong. The exchanges' words count only in their own envelope: the same
words on a proxy's page prove nothing. Of a stranger's answer only the status says something.

Kraken: docs.kraken.com/api/docs/guides/spot-errors. OKX: okx.com/docs-v5/en/#error-code. Coinbase:
docs.cdp.coinbase.com, "HTTP response errors" of Advanced Trade (gRPC's names) and of the older v2.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from brokerwatch.messages import FaultKind
from brokerwatch.simulator import Broken, Ending, SimulatedCoinbase, SimulatedExchange

NETWORK, DOWN, MAINTENANCE = FaultKind.NETWORK, FaultKind.EXCHANGE_DOWN, FaultKind.MAINTENANCE
RATE, AUTH, PERMISSION = FaultKind.RATE_LIMITED, FaultKind.AUTH, FaultKind.PERMISSION
CLOCK, BAD, BUG = FaultKind.NONCE_CLOCK, FaultKind.BAD_RESPONSE, FaultKind.CLIENT_BUG

KRAKEN, COINBASE, OKX = EXCHANGES = ("kraken", "coinbase", "okx")
JSON_TYPE: Final = "application/json; charset=utf-8"
HTML_TYPE: Final = "text/html; charset=utf-8"

Arrange = Callable[[SimulatedExchange], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One way to fail: on which exchange, how it is brought about, and the kind that it is."""

    exchange: str
    name: str
    kind: FaultKind
    arrange: Arrange
    after_money_only: bool = False
    """An account that never held anything may be as empty as this answer says: it is no error there."""

    @property
    def id(self) -> str:
        return f"{self.exchange}: {self.name}"


# --- how a row is brought about -----------------------------------------------------------------------


def answers(
    body: bytes | str | Broken,
    status: int = 200,
    content_type: str = JSON_TYPE,
    page: int | None = None,
    **headers: str,
) -> Arrange:
    """The exchange answers so; header names are given with underscores."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}

    def arrange(exchange: SimulatedExchange) -> None:
        exchange.set_answer(body, status, content_type, named, page=page)

    return arrange


def has_fault(name: str) -> Arrange:
    """The exchange has one of the simulator's named faults."""

    def arrange(exchange: SimulatedExchange) -> None:
        exchange.set_fault(name)

    return arrange


def clock_is_off(seconds: float) -> Arrange:
    """The exchange's clock differs from ours, and it checks timestamps for real."""

    def arrange(exchange: SimulatedExchange) -> None:
        exchange.clock_skew_s = seconds

    return arrange


def credentials_changed(name: str) -> Arrange:
    """The account has another secret or passphrase now, and the exchange checks it for real."""

    def arrange(exchange: SimulatedExchange) -> None:
        exchange.add_account({**exchange.credentials, name: exchange.new_credentials()[name]})

    return arrange


def second_page(then: Arrange) -> Arrange:
    """One account a page, so that there is a second page for it to go wrong on."""

    def arrange(exchange: SimulatedExchange) -> None:
        assert isinstance(exchange, SimulatedCoinbase)
        exchange.page_size = 1
        then(exchange)

    return arrange


# --- healthy answers, to be spoiled -------------------------------------------------------------------


def kraken_answer(amount: str = '"777.50"', asset: str = "USDC", field: str = "balance") -> str:
    """A healthy answer of Kraken; `amount` is JSON text and stands in `field`."""
    fields = {"balance": '"777.50"', "hold_trade": '"0"', field: amount}
    return f'{{"error":[],"result":{{"{asset}":{_object(fields)}}}}}'


def coinbase_answer(
    amount: str = '"777.50"', field: str = "available_balance", currency: str = "USDC", **further: str
) -> str:
    """A healthy answer of Coinbase; `amount` is JSON text and stands in the value of `field`."""
    values = {"available_balance": '"777.50"', "hold": '"0"', field: amount}
    account = {
        "uuid": '"6cf1b1d2-0000-4000-8000-000000000001"',
        "type": '"ACCOUNT_TYPE_CRYPTO"',
        **{name: f'{{"value":{value},"currency":"{currency}"}}' for name, value in values.items()},
        **further,
    }
    return coinbase_page(_object(account))


def coinbase_page(*accounts: str, has_next: str = "false", cursor: str = '""') -> str:
    """A page of accounts, each as JSON text."""
    return f'{{"accounts":[{",".join(accounts)}],"has_next":{has_next},"cursor":{cursor}}}'


def okx_answer(
    amount: str = '"777.50"', field: str = "availBal", currency: str = "USDC", code: str = '"0"'
) -> str:
    """A healthy answer of OKX; `amount` is JSON text and stands in `field`."""
    fields = {"eq": '"777.50"', "availBal": '"777.50"', "availEq": '""', "frozenBal": '"0"', field: amount}
    detail = _object({"ccy": json.dumps(currency), **fields})
    return f'{{"code":{code},"data":[{{"uTime":"1","details":[{detail}]}}],"msg":""}}'


def _object(fields: Mapping[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


HEALTHY: Final[Mapping[str, str]] = {
    KRAKEN: kraken_answer(),
    COINBASE: coinbase_answer(),
    OKX: okx_answer(),
}
"""A whole answer that says 777.50 USDC."""

_WITH_AMOUNT: Final[Mapping[str, Mapping[str, Callable[[str], str]]]] = {
    KRAKEN: {
        "balance": lambda amount: kraken_answer(amount),
        "hold_trade": lambda amount: kraken_answer(amount, field="hold_trade"),
    },
    COINBASE: {
        "available": lambda amount: coinbase_answer(amount),
        "hold": lambda amount: coinbase_answer(amount, "hold"),
    },
    OKX: {
        "availBal": lambda amount: okx_answer(amount),
        "eq": lambda amount: okx_answer(amount, "eq"),
    },
}


# --- what any exchange may answer ---------------------------------------------------------------------

STATUSES: Final[Mapping[int, FaultKind]] = {
    **dict.fromkeys((400, 402, 405, 406, 411, 412, 413, 414, 415, 421, 422, 423, 424, 425, 426), BAD),
    **dict.fromkeys((428, 431, 444, 494, 499), BAD),
    # A wall in front of the exchange, or a wrong turn behind it: neither knows anything of the key.
    **dict.fromkeys((401, 403, 404, 409, 410), DOWN),
    451: FaultKind.BLOCKED,  # for legal reasons: the exchange does not serve this place
    407: BUG,  # our own proxy wants a login
    511: NETWORK,  # our own network does
    408: NETWORK,
    **dict.fromkeys((418, 429), RATE),
    **dict.fromkeys((500, 501, 502, 503, 504, 505, 507, 508, 509, 510), DOWN),
    **dict.fromkeys((520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 598, 599), DOWN),
}
"""What the status alone says when the body says nothing."""

_STRANGER: Final = '{"detail":"not what you asked for","request_id":"c0ffee"}'


def _statuses(exchange: str) -> Iterator[Row]:
    for status, kind in STATUSES.items():
        title = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
        yield Row(exchange, f"{status} with HTML", kind, answers(title, status, HTML_TYPE))
        yield Row(exchange, f"{status} with a stranger's JSON", kind, answers(_STRANGER, status))
        yield Row(exchange, f"{status} without a body", kind, answers("", status))
    for status in (201, 202, 203, 206, 226, 300, 305, 306):
        yield Row(exchange, f"{status} with a stranger's JSON", BAD, answers(_STRANGER, status))
    for status in (204, 205, 304):
        yield Row(exchange, f"{status}, which has no body", BAD, answers("", status))
    # An answer that looks whole is none under a status that says it failed.
    for status, kind in ((404, DOWN), (422, BAD), (429, RATE), (500, DOWN), (502, DOWN), (529, DOWN)):
        yield Row(exchange, f"{status} with a whole balance", kind, answers(HEALTHY[exchange], status))


def _redirects(exchange: str) -> Iterator[Row]:
    targets = {"a page": "/login", "itself for ever": "/moved", "another host": "https://example.invalid/"}
    for status in (301, 302, 303, 307, 308):
        for name, target in targets.items():
            row = f"{status} to {name}"
            yield Row(exchange, row, BAD, answers("", status, HTML_TYPE, Location=target))
        yield Row(exchange, f"{status} to nowhere", BAD, answers("", status, HTML_TYPE))


def _bodies(exchange: str) -> Iterator[Row]:
    whole = HEALTHY[exchange]
    bodies: Mapping[str, bytes | str] = {
        "nothing": "",
        "blanks": " \r\n\t ",
        "null": "null",
        "true": "true",
        "a number": "12.5",
        "zero": "0",
        "text": '"ok"',
        "an empty list": "[]",
        "a list of a whole balance": f"[{whole}]",
        "an empty map": "{}",
        "another service's JSON": '{"status":"ok","service":"gateway"}',
        "HTML": "<html><body>Please wait</body></html>",
        "HTML after a byte order mark": "\ufeff<html></html>",
        "XML": '<?xml version="1.0"?><error/>',
        "a bare word": "OK",
        "a byte of zero": b"\x00",
        "a whole balance and a zero byte": whole.encode() + b"\x00",
        "two answers in a row": whole + whole,
        "one bracket too many": whole + "}",
        "one bracket too few": whole[:-1],
        "half of a balance": whole[: len(whole) // 2],
        "the other half of a balance": whole[len(whole) // 2 :],
        "a trailing comma": whole[:-1] + ",}",
        "single quotes": whole.replace('"', "'"),
        "JSONP": f"callback({whole})",
        "a comment": f"/* cached */{whole}",
        "bytes that are no text": b"\xff\xfe\xfa" * 20,
        "a currency with a broken byte": whole.encode().replace(b"USDC", b"USD\xff"),
        "UTF-16 that calls itself UTF-8": whole.encode("utf-16"),
        "a hundred thousand brackets": "[" * 100_000,
        "a hundred thousand maps": '{"a":' * 100_000,
        "a key that stands twice at the top": whole[:-1] + ",".join(("", *_members(whole))) + "}",
        "more than four megabytes": whole[:-1] + ',"padding":"' + "x" * (5 << 20) + '"}',
        "words about the key on no page of the exchange": '{"text":"EAPI:Invalid key 50111 Unauthorized"}',
    }
    for name, body in bodies.items():
        yield Row(exchange, f"200 with {name}", BAD, answers(body))


def _members(whole: str) -> list[str]:
    return [f'"{name}":{json.dumps(value)}' for name, value in json.loads(whole).items()]


UNREADABLE: Final[Mapping[str, str]] = {
    **{name: name for name in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "null", "true", "false")},
    **{f"the text {text!r}": json.dumps(text) for text in ("NaN", "sNaN", "Infinity", "-inf", "", "n/a")},
    **{f"the text {text!r}": json.dumps(text) for text in ("null", "-", "+", ".", "--5", "-n/a", "1e", "e5")},
    **{f"the text {text!r}": json.dumps(text) for text in ("1,000.00", "1_000", "0x10", "5 USD", "$5", "5%")},
    **{f"the text {text!r}": json.dumps(text) for text in ("5.5.5", "１２３", "٣", "1e400", "-1e400", "½")},
    "a list": "[]",
    "a list with the amount in it": '["777.50"]',
    "a map": "{}",
    "a map with the amount in it": '{"value":"777.50"}',
    "forty digits": f'"{"9" * 40}"',
    "five thousand digits": "9" * 5_000,
}
"""What stands where an amount should, as JSON text."""


def _amounts(exchange: str) -> Iterator[Row]:
    for field, answer in _WITH_AMOUNT[exchange].items():
        for name, text in UNREADABLE.items():
            yield Row(exchange, f"{field} is {name}", BAD, answers(answer(text)))
    for fault in ("nan_amount", "infinite_amount", "text_amount", "missing_amount"):
        yield Row(exchange, f"the first of several: {fault}", BAD, has_fault(fault))


_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _connections(exchange: str) -> Iterator[Row]:
    whole = HEALTHY[exchange].encode()
    length = f"Content-Length: {len(whole)}\r\n".encode()
    for fault in ("reset", "closed", "cut_body", "cut_chunks", "reset_in_body"):
        yield Row(exchange, fault, NETWORK, has_fault(fault))
    for fault in ("not_http", "bad_chunks"):
        yield Row(exchange, fault, BAD, has_fault(fault))
    sent: Mapping[str, tuple[bytes, FaultKind]] = {
        "only a status line": (b"HTTP/1.1 200 OK\r\n", NETWORK),
        "headers that are cut": (_HEAD + b"Content-Le", NETWORK),
        "headers without their body": (_HEAD + length + b"\r\n", NETWORK),
        "a body short of its last byte": (_HEAD + length + b"\r\n" + whole[:-1], NETWORK),
        "a status that is no number": (b"HTTP/1.1 abc OK\r\n\r\n" + whole, BAD),
        "no status at all": (b"HTTP/1.1\r\n\r\n" + whole, BAD),
        "the banner of a mail server": (b"220 mail ESMTP\r\n", BAD),
        "the banner of a shell": (b"SSH-2.0-OpenSSH_9.6\r\n", BAD),
        "JSON without HTTP": (whole + b"\r\n\r\n", BAD),
        "a length that is no number": (_HEAD + b"Content-Length: many\r\n\r\n" + whole, BAD),
        "a negative length": (_HEAD + b"Content-Length: -5\r\n\r\n" + whole, BAD),
        "a length that is too small": (_HEAD + b"Content-Length: 9\r\n\r\n" + whole, BAD),
        "a header without a name": (_HEAD + b": unnamed\r\n" + length + b"\r\n" + whole, BAD),
        "a header of a megabyte": (_HEAD + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n" + whole, BAD),
    }
    for name, (content, kind) in sent.items():
        yield Row(exchange, name, kind, answers(Broken(content, Ending.CLOSE)))
    packed = gzip.compress(whole)
    encoded: Mapping[str, tuple[str, bytes]] = {
        "plain text that calls itself gzip": ("gzip", whole),
        "plain text that calls itself deflate": ("deflate", whole),
        "gzip that is cut": ("gzip", packed[: len(packed) // 2]),
        "gzip with a wrong byte in it": ("gzip", packed[:15] + b"\x00\x00" + packed[17:]),
        "gzip in gzip": ("gzip", gzip.compress(packed)),
        "gzip that calls itself deflate": ("deflate", packed),
        "a bomb in gzip": ("gzip", gzip.compress(b" " * (32 << 20))),
    }
    for name, (encoding, content) in encoded.items():
        yield Row(exchange, name, BAD, answers(content, Content_Encoding=encoding))


OWN_ERRORS: Final[Mapping[str, tuple[str, ...]]] = {
    KRAKEN: ('{"error":["EAPI:Invalid key"]}', '{"error":["EGeneral:Permission denied"]}'),
    COINBASE: ('{"error":"UNAUTHENTICATED","message":"x"}', '{"error":"PERMISSION_DENIED","message":"x"}'),
    OKX: ('{"code":"50111","msg":"x"}', '{"code":"50110","msg":"x"}'),
}
"""An exchange's own errors, which count only as a whole answer."""


def _envelopes_of_others(exchange: str) -> Iterator[Row]:
    for other in EXCHANGES:
        if other != exchange:
            yield Row(exchange, f"the balance in {other}'s envelope", BAD, answers(HEALTHY[other]))
    # An error in another exchange's words is a stranger's: only the status counts.
    errors: Mapping[str, str] = {
        KRAKEN: '{"error":["EAPI:Invalid key"]}',
        OKX: '{"code":"50111","msg":"Invalid OK-ACCESS-KEY"}',
    }
    for other, body in errors.items():
        if other != exchange:
            yield Row(exchange, f"an error in {other}'s envelope", BAD, answers(body))
    page = "<html><body>{}</body></html>"
    for words in ("EAPI:Invalid key", "50113 Invalid Sign", "Unauthorized", "Temporary lockout", "50011"):
        name = f"a page that says {words!r}"
        yield Row(exchange, name, BAD, answers(page.format(words), 200, HTML_TYPE))
        yield Row(exchange, f"502 and {name}", DOWN, answers(page.format(words), 502, HTML_TYPE))
    for status, kind in ((200, BAD), (400, BAD), (403, DOWN), (502, DOWN), (503, DOWN)):
        for error in OWN_ERRORS[exchange]:
            shown = page.format(f"<pre>{error}</pre> We are in maintenance")
            yield Row(
                exchange, f"{status} and a page that shows {error}", kind, answers(shown, status, HTML_TYPE)
            )
            yield Row(exchange, f"{status} and {error} short of its end", kind, answers(error[:-1], status))


QUOTED: Final[Mapping[str, tuple[str, ...]]] = {
    KRAKEN: ('{"upstream":"EAPI:Invalid key"}', '{"body":{"error":["EGeneral:Permission denied"]}}'),
    COINBASE: ('{"upstream":"UNAUTHENTICATED"}', '{"reason":"the proxy is in maintenance"}'),
    OKX: ('{"upstream":{"code":"50111"}}', '{"body":{"code":"50001","msg":"unavailable"}}'),
}
"""A proxy's own JSON that quotes the exchange: not in the exchange's envelope, so it is not its word."""


def _quotations(exchange: str) -> Iterator[Row]:
    for body in QUOTED[exchange]:
        yield Row(exchange, f"502 and a stranger's {body}", DOWN, answers(body, 502))
        yield Row(exchange, f"200 and a stranger's {body}", BAD, answers(body))


def _proxies(exchange: str) -> Iterator[Row]:
    told: Mapping[str, tuple[int, str, FaultKind]] = {
        "Envoy cannot connect": (503, "upstream connect error or disconnect/reset before headers", DOWN),
        "Envoy has no upstream": (503, "no healthy upstream", DOWN),
        "Cloudflare's wall": (403, "error code: 1020", FaultKind.BLOCKED),
        "Cloudflare's limit": (429, "error code: 1015", RATE),
        "Cloudflare finds no origin": (530, "error code: 1033", DOWN),
        "a web server's word": (429, "Too Many Requests", RATE),
        "a tunnel's word": (502, "Bad Gateway", DOWN),
    }
    for name, (status, words, kind) in told.items():
        yield Row(exchange, name, kind, answers(words, status, "text/plain"))


# --- Kraken -------------------------------------------------------------------------------------------

KRAKEN_ERRORS: Final[Mapping[str, FaultKind]] = {
    "EAPI:Invalid key": AUTH,
    "EAPI:Invalid signature": AUTH,
    "EAPI:Invalid nonce": CLOCK,
    "EAPI:Rate limit exceeded": RATE,
    "EAPI:Bad request": BUG,
    "EAuth:Account temporary disabled": AUTH,
    "EAuth:Account unconfirmed": AUTH,
    "EAuth:Rate limit exceeded": RATE,
    "EAuth:Too many requests": RATE,
    "EDatabase:Internal error": DOWN,
    "EGeneral:Internal error": DOWN,
    "EGeneral:Invalid arguments": BUG,
    "EGeneral:Invalid arguments:Index unavailable": BUG,
    "EGeneral:Permission denied": PERMISSION,
    "EGeneral:Unknown method": BUG,
    "EOrder:Rate limit exceeded": RATE,
    "EService:Busy": DOWN,
    "EService:Deadline elapsed": DOWN,
    "EService:Timeout": DOWN,
    "EService:Unavailable": DOWN,
    "EService:Market in cancel_only mode": MAINTENANCE,
    "EService:Market in limit_only mode": MAINTENANCE,
    "EService:Market in post_only mode": MAINTENANCE,
    "EService: Throttled: 1500000000": RATE,  # until a moment that is long over
    "ENew:Never heard of before": BAD,
    "nothing that looks like one": BAD,
    "": BAD,
}
"""Kraken's own words; nearly all of them come with HTTP 200."""


def _kraken() -> Iterator[Row]:
    for words, kind in KRAKEN_ERRORS.items():
        error = json.dumps([words])
        yield Row(KRAKEN, f"{words!r}", kind, answers(f'{{"error":{error}}}'))
        yield Row(KRAKEN, f"{words!r} and a null", kind, answers(f'{{"error":{error},"result":null}}'))
    for words, status in (
        ("EAPI:Invalid key", 401),
        ("EGeneral:Permission denied", 403),
        ("EAPI:Rate limit exceeded", 429),
        ("EGeneral:Internal error", 500),
        ("EService:Busy", 502),
        ("EService:Unavailable", 503),
        ("EService:Timeout", 504),
        ("EDatabase:Internal error", 520),
    ):
        body = json.dumps({"error": [words]})
        yield Row(KRAKEN, f"{status} and {words!r}", KRAKEN_ERRORS[words], answers(body, status))
    whole = kraken_answer()
    told: Mapping[str, tuple[str, FaultKind]] = {
        "an error beside a balance": (whole.replace("[]", '["EService:Busy"]'), DOWN),
        "an error after a warning": ('{"error":["WApi:Old","EService:Busy"]}', DOWN),
        "a warning beside a balance": (whole.replace("[]", '["WGeneral:Delayed"]'), BAD),
        "a warning alone": ('{"error":["WGeneral:Delayed"]}', BAD),
        "error null": (whole.replace("[]", "null"), BAD),
        "error a map": (whole.replace("[]", "{}"), BAD),
        "error a text": (whole.replace("[]", '""'), BAD),
        "error left out": (whole.replace('"error":[],', ""), BAD),
        "error in capitals": (whole.replace('"error"', '"ERROR"'), BAD),
        "result null": ('{"error":[],"result":null}', BAD),
        "result a list": ('{"error":[],"result":[]}', BAD),
        "result a text": ('{"error":[],"result":"ok"}', BAD),
        "result a number": ('{"error":[],"result":0}', BAD),
        "an asset that is null": ('{"error":[],"result":{"ZUSD":null}}', BAD),
        "the plain form of Balance": ('{"error":[],"result":{"ZUSD":"777.50"}}', BAD),
        "an asset that is a list": ('{"error":[],"result":{"ZUSD":[]}}', BAD),
        "an asset without amounts": ('{"error":[],"result":{"ZUSD":{}}}', BAD),
        "an asset without a hold": ('{"error":[],"result":{"ZUSD":{"balance":"1"}}}', BAD),
        "an asset twice": ('{"error":[],"result":{"ZUSD":{},"ZUSD":{}}}', BAD),
        "an amount twice": (whole.replace('"balance"', '"balance":"1","balance"'), BAD),
        "an asset without a name": (kraken_answer(asset=""), BAD),
        "an asset of a line end": (kraken_answer(asset="\\n"), BAD),
        "an asset with a long name": (kraken_answer(asset="A" * 100), BAD),
        "a credit that is a word": (kraken_answer('"n/a"', field="credit"), BAD),
        "credit used without a credit": (kraken_answer('"1"', field="credit_used"), BAD),
    }
    for name, (text, kind) in told.items():
        yield Row(KRAKEN, name, kind, answers(text))
    yield Row(KRAKEN, "an empty result", BAD, answers('{"error":[],"result":{}}'), after_money_only=True)
    yield Row(KRAKEN, "no result", BAD, answers('{"error":[]}'), after_money_only=True)
    yield Row(KRAKEN, "a real wrong signature", AUTH, credentials_changed("secret"))
    for fault, kind in NAMED_FAULTS.items():
        yield Row(
            KRAKEN, f"its own {fault}", kind, has_fault(fault), after_money_only=fault == "empty_result"
        )


NAMED_FAULTS: Final[Mapping[str, FaultKind]] = {
    "http_500_json": DOWN,
    "exchange_down": DOWN,
    "maintenance": MAINTENANCE,
    "rate_limited": RATE,
    "bad_key": AUTH,
    "bad_signature": AUTH,
    "bad_nonce": CLOCK,
    "permission": PERMISSION,
    "empty_result": BAD,
    "wrong_envelope": BAD,
    "cut_json": BAD,
}
"""The simulator's own words for what each exchange refuses."""


# --- Coinbase -----------------------------------------------------------------------------------------

COINBASE_ERRORS: Final[tuple[tuple[str, int, FaultKind], ...]] = (
    ("UNAUTHENTICATED", 401, AUTH),
    ("PERMISSION_DENIED", 403, PERMISSION),
    ("RESOURCE_EXHAUSTED", 429, RATE),
    ("INTERNAL", 500, DOWN),
    ("UNKNOWN", 500, DOWN),
    ("DATA_LOSS", 500, DOWN),
    ("UNIMPLEMENTED", 501, DOWN),
    ("UNAVAILABLE", 503, DOWN),
    ("DEADLINE_EXCEEDED", 504, DOWN),
    ("INVALID_ARGUMENT", 400, BUG),
    ("NOT_FOUND", 404, DOWN),
    ("ABORTED", 409, DOWN),
)
"""Advanced Trade: gRPC's names, with the status that belongs to each."""

COINBASE_OLDER_ERRORS: Final[tuple[tuple[str, int, FaultKind], ...]] = (
    ("authentication_error", 401, AUTH),
    ("invalid_token", 401, AUTH),
    ("revoked_token", 401, AUTH),
    ("expired_token", 401, AUTH),
    ("two_factor_required", 402, PERMISSION),
    ("invalid_scope", 403, PERMISSION),
    ("rate_limit_exceeded", 429, RATE),
    ("internal_server_error", 500, DOWN),
    ("param_required", 400, BUG),
    ("validation_error", 400, BUG),
    ("invalid_request", 400, BUG),
    ("not_found", 404, DOWN),
)
"""The v2 interface, whose words older paths still use."""


def _coinbase() -> Iterator[Row]:
    for code, status, kind in COINBASE_ERRORS:
        body = {"error": code, "error_details": "told in words", "message": "told in words"}
        yield Row(COINBASE, f"{status} {code}", kind, answers(json.dumps(body), status))
    for code, status, kind in COINBASE_OLDER_ERRORS:
        older = {"errors": [{"id": code, "message": "told in words"}]}
        yield Row(COINBASE, f"{status} {code}", kind, answers(json.dumps(older), status))
    for words in ("Unauthorized", "Unauthorized\n"):
        yield Row(COINBASE, f"401 {words!r}", AUTH, answers(words, 401, "text/plain; charset=utf-8"))
    account = json.dumps(json.loads(coinbase_answer())["accounts"][0])
    told: Mapping[str, tuple[str, FaultKind]] = {
        "an error under 200": ('{"error":"INTERNAL","message":"Internal server error"}', DOWN),
        "a refusal under 200": ('{"error":"PERMISSION_DENIED","message":"Missing scopes"}', PERMISSION),
        "an error beside a balance": (coinbase_answer()[:-1] + ',"error":"INTERNAL"}', DOWN),
        "no accounts": ('{"has_next":false,"cursor":""}', BAD),
        "accounts null": ('{"accounts":null,"has_next":false,"cursor":""}', BAD),
        "accounts a map": ('{"accounts":{},"has_next":false,"cursor":""}', BAD),
        "accounts a text": ('{"accounts":"","has_next":false,"cursor":""}', BAD),
        "an account that is null": (coinbase_page("null"), BAD),
        "an account that is a list": (coinbase_page("[]"), BAD),
        "an account that is empty": (coinbase_page("{}"), BAD),
        "an account twice": (coinbase_page(account, account), BAD),
        "an account of an unknown type": (coinbase_answer(type='"ACCOUNT_TYPE_NEW"'), BAD),
        "an account whose type is a number": (coinbase_answer(type="1"), BAD),
        "available_balance null": (coinbase_answer(available_balance="null"), BAD),
        "available_balance a text": (coinbase_answer(available_balance='"777.50"'), BAD),
        "available_balance without currency": (coinbase_answer(available_balance='{"value":"1"}'), BAD),
        "available_balance without value": (coinbase_answer(available_balance='{"currency":"USDC"}'), BAD),
        "hold null": (coinbase_answer(hold="null"), BAD),
        "hold a text": (coinbase_answer(hold='"0"'), BAD),
        "hold without value": (coinbase_answer(hold='{"currency":"USDC"}'), BAD),
        "a currency without a name": (coinbase_answer(currency=""), BAD),
        "a currency with a long name": (coinbase_answer(currency="A" * 100), BAD),
        "has_next left out": (f'{{"accounts":[{account}],"cursor":""}}', BAD),
        "has_next null": (coinbase_page(account, has_next="null"), BAD),
        "has_next a text": (coinbase_page(account, has_next='"false"'), BAD),
        "has_next a number": (coinbase_page(account, has_next="0"), BAD),
        "has_next without a cursor": (coinbase_page(account, has_next="true"), BAD),
        "has_next with cursor null": (coinbase_page(account, has_next="true", cursor="null"), BAD),
        "has_next with cursor a number": (coinbase_page(account, has_next="true", cursor="7"), BAD),
        "a cursor that leads to the same page": (coinbase_page(has_next="true", cursor='"Mg"'), BAD),
    }
    for name, (text, kind) in told.items():
        yield Row(COINBASE, name, kind, answers(text))
    yield Row(COINBASE, "an empty list of accounts", BAD, answers(coinbase_page()), after_money_only=True)
    yield Row(COINBASE, "a real wrong signature", AUTH, credentials_changed("secret"))
    # Coinbase answers a token of another time with the same bare 401 as a wrong key.
    for skew_s in (-3_600.0, -60.0, 300.0, 86_400.0):
        yield Row(COINBASE, f"a clock {skew_s:+g} s off", CLOCK, clock_is_off(skew_s))
    for fault, kind in NAMED_FAULTS.items():
        yield Row(COINBASE, f"its own {fault}", kind, has_fault(fault))
    for row in _second_pages(account):
        yield Row(COINBASE, f"page 2: {row.name}", row.kind, second_page(row.arrange))


def _second_pages(account: str) -> Iterator[Row]:
    def row(name: str, kind: FaultKind, body: bytes | str | Broken, *more: int | str) -> Row:
        status, content_type = (*more, *(200, JSON_TYPE)[len(more) :])
        return Row(COINBASE, name, kind, answers(body, int(status), str(content_type), page=2))

    def named(fault: str, kind: FaultKind) -> Row:
        return Row(COINBASE, fault, kind, lambda exchange: exchange.set_fault(fault, page=2))

    def again(exchange: SimulatedExchange) -> None:
        exchange.set_answer(coinbase_page(account, has_next="true", cursor='"MQ"'), page=1)
        exchange.set_answer(coinbase_page(account), page=2)

    for status, kind in ((400, BAD), (401, DOWN), (403, DOWN), (429, RATE), (500, DOWN), (502, DOWN)):
        yield row(f"{status} with HTML", kind, "<html></html>", status, HTML_TYPE)
        yield row(f"{status} without a body", kind, "", status)
    yield row("529 with HTML", DOWN, "<html></html>", 529, HTML_TYPE)
    yield row("200 with HTML", BAD, "<html></html>", 200, HTML_TYPE)
    for name in ("null", "[]", "{}", '"ok"', "0", ""):
        yield row(f"200 with {name or 'nothing'}", BAD, name)
    yield row("half of a page", BAD, coinbase_answer()[:60])
    yield row("the balance in Kraken's envelope", BAD, kraken_answer())
    yield row("no accounts", BAD, '{"has_next":false,"cursor":""}')
    yield row("has_next left out", BAD, '{"accounts":[]}')
    yield row("has_next without a cursor", BAD, coinbase_page(has_next="true"))
    yield row("a cursor that comes round", BAD, coinbase_page(has_next="true", cursor='"MQ"'))
    for text in ("NaN", "1e400", '"n/a"', "null", "[]"):
        yield row(f"an amount that is {text}", BAD, coinbase_answer(text))
        yield row(f"a hold that is {text}", BAD, coinbase_answer(text, "hold"))
    yield row("an account of an unknown type", BAD, coinbase_answer(type='"ACCOUNT_TYPE_NEW"'))
    yield row("Unauthorized", AUTH, "Unauthorized", 401, "text/plain")
    yield row("the key may not", PERMISSION, '{"error":"PERMISSION_DENIED","message":"scopes"}', 403)
    yield row("too often", RATE, '{"error":"RESOURCE_EXHAUSTED","message":"slow down"}', 429)
    yield row("internal", DOWN, '{"error":"INTERNAL","message":"error"}', 500)
    for fault in ("reset", "closed", "cut_body", "cut_chunks", "reset_in_body"):
        yield named(fault, NETWORK)
    yield named("not_http", BAD)
    yield named("redirect", BAD)
    yield Row(COINBASE, "the account of page 1 again", BAD, again)


# --- OKX ----------------------------------------------------------------------------------------------

OKX_ERRORS: Final[tuple[tuple[int, int, FaultKind, str], ...]] = (
    (50000, 400, BUG, "Body for POST request cannot be empty."),
    (50001, 503, MAINTENANCE, "Service temporarily unavailable. Try again later."),
    (50002, 400, BUG, "JSON syntax error"),
    (50004, 400, DOWN, "API endpoint request timeout (does not indicate success or failure of order)."),
    (50005, 410, DOWN, "API is offline or unavailable."),
    (50006, 400, BUG, 'Invalid Content-Type. Please use "application/json".'),
    (50007, 200, PERMISSION, "Account blocked."),
    (50008, 200, AUTH, "User does not exist."),
    (50009, 200, PERMISSION, "Account is suspended due to ongoing liquidation."),
    (50011, 429, RATE, "Too Many Requests"),
    (50013, 429, DOWN, "Systems are busy. Please try again later."),
    (50014, 400, BUG, "Parameter ccy can not be empty."),
    (50015, 400, BUG, "Either parameter ccy or instId is required."),
    (50016, 400, BUG, "Parameter ccy and instId is an invalid pair."),
    (50024, 400, BUG, "Parameter ccy and instId can not exist at the same time."),
    (50026, 500, DOWN, "System error. Try again later."),
    (50027, 200, PERMISSION, "The account is restricted from trading."),
    (50030, 200, PERMISSION, "You don't have permission to use this API endpoint"),
    (50035, 403, PERMISSION, "This endpoint requires that APIKey must be bound to IP."),
    (50040, 200, RATE, "Too frequent operations, please try again later."),
    (50061, 200, RATE, "Sub-account rate limit exceeded."),
    (50100, 400, AUTH, "API frozen, please contact customer service."),
    (50101, 401, AUTH, "APIKey does not match current environment."),
    (50102, 401, CLOCK, "Timestamp request expired."),
    (50103, 401, AUTH, 'Request header "OK-ACCESS-KEY" can not be empty.'),
    (50104, 401, AUTH, 'Request header "OK-ACCESS-PASSPHRASE" can not be empty.'),
    (50105, 401, AUTH, 'Request header "OK-ACCESS-PASSPHRASE" incorrect.'),
    (50106, 401, AUTH, 'Request header "OK-ACCESS-SIGN" can not be empty.'),
    (50107, 401, AUTH, 'Request header "OK-ACCESS-TIMESTAMP" can not be empty.'),
    (50110, 401, PERMISSION, "Your IP is not included in your API key's IP whitelist."),
    (50111, 401, AUTH, "Invalid OK-ACCESS-KEY."),
    (50112, 401, AUTH, "Invalid OK-ACCESS-TIMESTAMP."),
    (50113, 401, AUTH, "Invalid Sign."),
    (50114, 401, AUTH, "Invalid Authorization."),
    (50115, 405, BUG, "Invalid request method."),
    (50119, 401, AUTH, "API key doesn't exist."),
    (50120, 401, PERMISSION, "This API key doesn't have permission to use this function."),
    (1, 200, BAD, "Operation failed."),
    (59998, 200, BAD, "A code that is not in the documentation."),
)
"""OKX: code, the status that its documentation lists beside it, the kind, its words."""


def _okx() -> Iterator[Row]:
    for code, status, kind, words in OKX_ERRORS:
        body = json.dumps({"code": str(code), "data": [], "msg": words})
        yield Row(OKX, f"{code} under {status}", kind, answers(body, status))
        if status != 200:
            yield Row(OKX, f"{code} under 200", kind, answers(body))
        else:
            bare = json.dumps({"msg": words, "code": str(code)})
            yield Row(OKX, f"{code} without data", kind, answers(bare))
    detail = json.dumps(json.loads(okx_answer())["data"][0]["details"][0])
    told: Mapping[str, tuple[str, FaultKind]] = {
        "an error beside a balance": (okx_answer(code='"50013"'), DOWN),
        "code 2, done in part": (okx_answer(code='"2"'), BAD),
        "code 1 beside a balance": (okx_answer(code='"1"'), BAD),
        "code null": (okx_answer(code="null"), BAD),
        "code true": (okx_answer(code="true"), BAD),
        "code false": (okx_answer(code="false"), BAD),
        "code empty": (okx_answer(code='""'), BAD),
        "code a list": (okx_answer(code='["0"]'), BAD),
        "code left out": (okx_answer().replace('"code":"0",', ""), BAD),
        "no data": ('{"code":"0","msg":""}', BAD),
        "data null": ('{"code":"0","data":null,"msg":""}', BAD),
        "data a map": ('{"code":"0","data":{},"msg":""}', BAD),
        "data a text": ('{"code":"0","data":"","msg":""}', BAD),
        "data empty": ('{"code":"0","data":[],"msg":""}', BAD),
        "a row that is null": ('{"code":"0","data":[null],"msg":""}', BAD),
        "a row that is empty": ('{"code":"0","data":[{}],"msg":""}', BAD),
        "a row that is a list": ('{"code":"0","data":[[]],"msg":""}', BAD),
        "details null": ('{"code":"0","data":[{"details":null}],"msg":""}', BAD),
        "details a map": ('{"code":"0","data":[{"details":{}}],"msg":""}', BAD),
        "a detail that is null": ('{"code":"0","data":[{"details":[null]}],"msg":""}', BAD),
        "a detail that is empty": ('{"code":"0","data":[{"details":[{}]}],"msg":""}', BAD),
        "a currency twice": (f'{{"code":"0","data":[{{"details":[{detail},{detail}]}}],"msg":""}}', BAD),
        "a currency without a name": (okx_answer(currency=""), BAD),
        "a currency of a line end": (okx_answer(currency="\n"), BAD),
        "a currency with a long name": (okx_answer(currency="A" * 100), BAD),
        "availEq a word": (okx_answer('"n/a"', "availEq"), BAD),
        "availEq a list": (okx_answer("[]", "availEq"), BAD),
        "frozenBal a word": (okx_answer('"n/a"', "frozenBal"), BAD),
        "frozenBal a list": (okx_answer("[]", "frozenBal"), BAD),
        "an amount twice": (okx_answer().replace('"eq":', '"eq":"1","eq":'), BAD),
    }
    for name, (text, kind) in told.items():
        yield Row(OKX, name, kind, answers(text))
    nothing = '{"code":"0","data":[{"details":[]}],"msg":""}'
    yield Row(OKX, "an empty list of details", BAD, answers(nothing), after_money_only=True)
    yield Row(OKX, "a real wrong signature", AUTH, credentials_changed("secret"))
    yield Row(OKX, "a real wrong passphrase", AUTH, credentials_changed("password"))
    for skew_s in (-3_600.0, -40.0, 40.0, 86_400.0):
        yield Row(OKX, f"a clock {skew_s:+g} s off", CLOCK, clock_is_off(skew_s))
    yield Row(OKX, "code 2 beside a balance", BAD, has_fault("warning_beside_result"))
    for fault, kind in NAMED_FAULTS.items():
        yield Row(OKX, f"its own {fault}", kind, has_fault(fault))


# --- all of them --------------------------------------------------------------------------------------


def _rows() -> Iterator[Row]:
    own = {KRAKEN: _kraken, COINBASE: _coinbase, OKX: _okx}
    for exchange in EXCHANGES:
        yield from _statuses(exchange)
        yield from _redirects(exchange)
        yield from _bodies(exchange)
        yield from _amounts(exchange)
        yield from _connections(exchange)
        yield from _envelopes_of_others(exchange)
        yield from _quotations(exchange)
        yield from _proxies(exchange)
        yield from own[exchange]()


ROWS: Final = tuple(_rows())
"""Every fault that lasts until it is mended and needs no deadline to show."""

DISPUTED: Final[Mapping[str, str]] = {}
"""Rows on which the product says something else: a pattern of their ids, and why we think it is wrong."""


def dispute(row: Row) -> str:
    """Why the product's word on this row is disputed; empty when it is not."""
    return next((reason for pattern, reason in DISPUTED.items() if re.search(pattern, row.id)), "")


SETTLED: Final = tuple(row for row in ROWS if not dispute(row))
"""The rows on which table and product agree."""

ENDLESS: Final = ("hang", "stalled", "stalled_body", "drip")
"""Faults of the simulator that only a deadline ends; all of them are the network's."""

HARMLESS: Final[Mapping[str, Callable[[str], Arrange]]] = {
    "a byte order mark": lambda whole: answers("\ufeff" + whole),
    "blanks around": lambda whole: answers(f"\r\n\t {whole} \n"),
    "room between": lambda whole: answers(json.dumps(json.loads(whole), indent=4)),
    "text/plain": lambda whole: answers(whole, content_type="text/plain"),
    "text/html": lambda whole: answers(whole, content_type="text/html"),
    "no type at all": lambda whole: answers(whole, content_type=""),
    "an unknown charset": lambda whole: answers(whole, content_type="application/json; charset=klingon"),
    "gzip": lambda whole: answers(gzip.compress(whole.encode()), Content_Encoding="gzip"),
    "deflate": lambda whole: answers(zlib.compress(whole.encode()), Content_Encoding="deflate"),
    "a further field": lambda whole: answers(whole[:-1] + ',"new_in_2027":{"a":[1,null,true]}}'),
    "a number for a text": lambda whole: answers(whole.replace('"777.50"', "777.50")),
    "an exponent": lambda whole: answers(whole.replace('"777.50"', '"7.7750e2"')),
    "a cookie": lambda whole: answers(whole, Set_Cookie="session=1"),
    "201 Created": lambda whole: answers(whole, 201),
    "two whole answers at once": lambda whole: answers(
        Broken(2 * (_HEAD + f"Content-Length: {len(whole)}\r\n\r\n{whole}".encode()), Ending.SILENCE)
    ),
    "no length, then the end": lambda whole: answers(
        Broken(_HEAD + b"Connection: close\r\n\r\n" + whole.encode(), Ending.CLOSE)
    ),
}
"""What looks odd and is a whole balance all the same: a parser that refuses it is too strict."""
