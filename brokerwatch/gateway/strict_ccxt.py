"""A ccxt class that refuses answers which ccxt would call empty, and that keeps what it saw.

For HTML, an empty body, cut JSON or a status that it does not know ccxt gives an empty balance without
an error. Mixed in before any ccxt class, asynchronous or not, this lets nothing pass but whole
JSON under a status of success, with every number as it was written.

It relies on internals of ccxt that no documentation promises. They are as they were seen in ccxt 4.5.90. When
one of them moves, these tests fail:

    what of ccxt                                  used for                     test
    `fetch(url, method, headers, body)`           sees that a request goes     [1] [2]
    `fetch2(path, api, method, params, …)`        our own way of asking        [1]
    `sign`, `prepare_request_headers`             the same                     [1]
    `sign` is called once for each request        nothing is sent of old loops [7]
    `handle_errors` and its eight arguments       every refusal                [1] [2]
    `handle_http_status_code`                     a status of failure          [1]
    `on_json_response`, `on_rest_response`        exact numbers                [1] [2]
    `jwt(request, secret, hash, is_rsa, header)`  ES256, signed more quickly   [3]
    `ec`, `hashes`, `decode_dss_signature`        the same                     [3]
    `throw_exactly_matched_exception`             certain refusals             [6]
    `nonce`                                       numbers that only rise       [4]
    `get_socks_proxy_session(proxy)`              no redirect through a proxy  [8]
    `options["maxRetriesOnFailure"]`              no order is sent twice       [5]
    `enableRateLimit`, `verbose`, `logger`        no second limiter, no log    none of its own

    [1] gateway/test_strict_ccxt: test_our_own_way_of_asking_sees_and_says_what_ccxts_does
    [2] gateway/test_owner_instance: test_a_synchronous_instance_is_read_exactly_and_left_as_it_was
    [3] gateway/test_strict_ccxt: test_a_token_says_what_ccxts_own_says_and_is_signed_with_the_key
    [4] gateway/test_owner_instance: test_calls_of_the_trader_s_own_share_nonces_and_the_lane
    [5] cluster/test_order_entry: test_no_option_of_ccxt_sends_an_order_again
    [6] orders/test_unified_orders: test_what_ccxt_maps_exactly_is_a_refusal_and_nothing_else_is
    [7] gateway/test_strict_ccxt: test_a_request_of_a_loop_that_was_replaced_is_not_signed
    [8] gateway/test_strict_ccxt: test_no_redirect_is_followed_through_a_socks_proxy
"""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import inspect
import json
import logging
import re
import socket
from collections.abc import Awaitable, Generator, Mapping
from typing import Any, Final, TypeVar, cast

from ccxt.base import exchange as base
from ccxt.base.errors import BadResponse, ExchangeError, ExchangeNotAvailable, RequestTimeout

from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.faults import NO_HEADERS
from brokerwatch.exchanges.pauses import RETRY_AFTER, kept
from brokerwatch.gateway.http_sessions import CLIENT_ERROR, CONNECTION_ERROR, Ask, Unredirected
from brokerwatch.gateway.lease import UNDER, KeyLease, LaneLease
from brokerwatch.gateway.nonces import Nonces

T = TypeVar("T")

MAX_SHOWN: Final = 20_000
"""Characters of a broken answer that are looked through for secrets; far more than a fault's text keeps."""

P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""How many points the curve of ES256 has (SEC 2, 2.4.2)."""

CODE_KEY: Final = re.compile("code|label|err", re.IGNORECASE)
"""What the key is called under which an exchange says its code of error."""

QUIET: Final = logging.getLogger("brokerwatch.ccxt")
"""For ccxt's own log: at DEBUG it would print keys and signatures."""
QUIET.setLevel(logging.INFO)


class Rehearsed(Exception):
    """A request was signed, and nothing was sent: what would have gone out."""

    def __init__(self, url: str, method: str, headers: Any, body: Any) -> None:
        super().__init__(f"{method} request, not sent")
        self.url, self.method, self.headers, self.body = url, method, headers, body


WORDS: Final = {
    "hyperliquid": frozenset(
        f'"{word}"' for word in ("unifiedAccount", "portfolioMargin", "disabled", "default", "dexAbstraction")
    )
}
"""Answers that are one word, by ccxt id. By this one ccxt decides which account it asks about."""


class Strict:
    """Mixed into a ccxt class: refuses answers that ccxt would call empty, and keeps what it saw."""

    asked: bool = False
    """Whether a request went out since this was last set to False."""
    last_status: int | None = None
    last_body: str = ""
    last_retry_after: str = ""
    last_headers: Mapping[str, str] = NO_HEADERS
    """The newest answer's headers that say something about a fault, by their names in small letters."""
    exact_code: str = ""
    """What of the newest answer ccxt has in its table of exact codes. Empty: nothing, or an earlier request
    of the call may have changed something."""
    wrote: int = 0
    """How many requests that may change something were answered without an error since `asked` was set to
    False."""
    heard: list[tuple[str, Any]] | None = None
    """The address and the answer of each request, while a call that makes several is held to all of them."""
    rehearses: bool = False
    """Whether a request is signed and then raised as `Rehearsed` in place of being sent."""
    nonces: Nonces | None = None
    """Where the exchange wants them to rise: the key's own, which outlive the process."""

    lease: LaneLease | None = None
    """The lease of the loop that this instance is used on, and of its API key."""

    _signs: tuple[bytes, Any] | None = None
    """A secret and the key made of it; None for the key when it is not of the kind that ES256 needs."""
    ask: Ask | None = None
    """How requests are sent through a session of ours; None: ccxt sends them."""

    def __del__(self) -> None:
        """Nothing. The session has another owner, and ccxt would complain that it was not closed."""

    def nonce(self) -> int:
        return int(cast("Any", super()).nonce()) if self.nonces is None else self.nonces.next()

    def sign(self, *request: Any, **named: Any) -> Any:
        self._check_lease()  # before a number is used up
        signed = cast("Any", super()).sign(*request, **named)
        self._check_lease()  # the loop may have hung in between
        return signed

    def _check_lease(self) -> None:
        if self.lease is not None:
            self.lease.check()

    def fetch(self, *request: Any, **named: Any) -> Any:
        # The answer to the page before must not explain why this one never came.
        self._forget()
        if self.rehearses:
            raise Rehearsed(*_signed(*request, **named))
        self.asked = True
        if not isinstance(self.lease, KeyLease):
            return cast("Any", super()).fetch(*request, **named)
        with _under(self.lease):
            answer = cast("Any", super()).fetch(*request, **named)
        return _awaited_under(self.lease, answer) if inspect.isawaitable(answer) else answer

    def get_socks_proxy_session(self, proxy: Any) -> Any:
        return Unredirected(cast("Any", super()).get_socks_proxy_session(proxy))

    def fetch2(self, *request: Any, **named: Any) -> Any:
        if self.ask is None:
            return cast("Any", super()).fetch2(*request, **named)
        return self._asked(self.ask, *request, **named)

    async def _asked(
        self,
        ask: Ask,
        path: str,
        api: Any = "public",
        method: str = "GET",
        params: Any = None,
        config: object = None,
    ) -> Any:
        """What ccxt's own `fetch2` and `fetch` do for a call that is made once, with no proxy and no log.

        The request is signed, and the answer judged, by the same methods.
        """
        del config  # says only what the call costs ccxt's throttle
        self._forget()
        ccxt = cast("Any", self)
        request = ccxt.sign(path, api, method, {} if params is None else params)
        url, method, body = request["url"], request["method"], request["body"]
        headers = ccxt.last_request_headers = ccxt.prepare_request_headers(request["headers"])
        if self.rehearses:
            raise Rehearsed(url, method, headers, body)
        self.asked = True
        try:
            sent = ask(method, url, body, headers, ccxt.timeout / 1_000)
            if isinstance(self.lease, KeyLease):
                sent = _awaited_under(self.lease, sent)
            code, reason, received, text = await sent
        except TimeoutError as error:
            raise RequestTimeout(f"{ccxt.id} {method} {url}") from error
        except (socket.gaierror, CONNECTION_ERROR) as error:
            raise ExchangeNotAvailable(f"{ccxt.id} {method} {url}") from error
        except CLIENT_ERROR as error:
            raise ExchangeError(f"{ccxt.id} {method} {url}") from error
        text = _whole(text)
        response = ccxt.parse_json(text)
        ccxt.handle_errors(code, reason, url, method, received, text, response, headers, body)
        ccxt.handle_http_status_code(code, reason, url, method, text)
        return text if response is None else response

    def _forget(self) -> None:
        self.last_status, self.last_body, self.last_retry_after = None, "", ""
        self.last_headers, self.exact_code = NO_HEADERS, ""

    def handle_errors(
        self,
        code: int,
        reason: str,
        url: str,
        method: str,
        headers: Any,
        body: str,
        response: Any,
        *rest: Any,
    ) -> Any:
        self.last_status, self.last_body = code, body
        self.last_headers = kept(headers)
        self.last_retry_after = self.last_headers.get(RETRY_AFTER, "")
        if "\ufffd" in body:
            # It stands for bytes that are no text; a currency with one in it would be another currency.
            raise BadResponse(f"HTTP {code} {reason or ''}: not UTF-8: {_shown(body)}")
        is_word = body in WORDS.get(cast("Any", self).id, ())
        if not isinstance(response, dict | list) and not is_word:
            raise BadResponse(f"HTTP {code} {reason or ''}: {_shown(body)}")
        inner = cast("Any", super())
        try:
            found = inner.handle_errors(code, reason, url, method, headers, body, response, *rest)
        except ExchangeError as error:
            # Some exchanges' code in ccxt looks at the words before the code, or at the table by itself.
            self.exact_code = self.exact_code or self._code_in(cast("object", response), type(error))
            raise
        if not 200 <= code < 300:
            # ccxt's own table follows this call; a status it has not would pass as an answer.
            raise ExchangeError(f"HTTP {code} {reason or ''}: {_shown(body)}")
        self.wrote += method != "GET"
        if self.heard is not None:
            self.heard.append((url, cast("object", response)))
        return found

    def _code_in(self, response: object, named: type[Exception]) -> str:
        """The code in an answer that ccxt's exact table has for this class; empty: there is none."""
        exact: dict[str, Any] = cast("Any", self).exceptions.get("exact", {})
        if self.wrote or not isinstance(response, dict):
            return ""
        rows = cast("dict[object, object]", response).items()
        codes = (str(value) for key, value in rows if CODE_KEY.search(str(key)))
        # With the class stands its message at digifinex.
        classes = ((code, exact.get(code)) for code in codes)
        return next((code for code, of in classes if of is named or (type(of) is list and named in of)), "")

    def throw_exactly_matched_exception(self, exact: Any, string: Any, message: Any) -> None:
        """As ccxt does it. What was found is kept: a broad match, or a class for a status, says less."""
        if string is not None and string in exact and not self.wrote:
            self.exact_code = str(string)
        cast("Any", super()).throw_exactly_matched_exception(exact, string, message)

    def jwt(self, request: Any, secret: bytes, *form: Any) -> str:
        """As ccxt makes it; `form` is the hash, whether it is RSA, and what stands in the header.

        For ES256 ccxt parses the key each time, and works out a third number that no JWT has.
        """
        match form:
            case ("sha256", False, {"alg": "ES256", "kid": kid, "nonce": nonce}):
                header = {"alg": "ES256", "typ": "JWT", "kid": kid, "nonce": nonce}
            case _:
                return str(cast("Any", super()).jwt(request, secret, *form))
        key = self._es256_key(secret)
        if key is None:
            return str(cast("Any", super()).jwt(request, secret, *form))
        token = f"{_part(header)}.{_part(request)}"
        way = base.ec.ECDSA(base.hashes.SHA256(), deterministic_signing=True)
        r, s = base.decode_dss_signature(key.sign(token.encode(), way))
        # The lower of the two that are right, as ccxt has it; RFC 7518, 3.4: each in 32 bytes.
        s = min(s, P256_ORDER - s)
        return f"{token}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _es256_key(self, secret: bytes) -> Any:
        if self._signs is None or self._signs[0] != secret:
            self._signs = secret, _es256_key(secret)
        return self._signs[1]

    def on_json_response(self, text: str) -> Any:
        return json_text.parsed(text)

    def on_rest_response(self, *answer: Any) -> str:
        return _whole(answer[5])


@contextlib.contextmanager
def _under(lease: KeyLease) -> Generator[None]:
    """Let the connections know under which lease the request in this block is made."""
    before = UNDER.set(lease)
    try:
        yield
    finally:
        UNDER.reset(before)


async def _awaited_under(lease: KeyLease, answer: Awaitable[T]) -> T:
    with _under(lease):
        return await answer


def _signed(
    url: str, method: str = "GET", headers: Any = None, body: Any = None
) -> tuple[str, str, Any, Any]:
    """What ccxt's `fetch` is given."""
    return url, method, headers, body


def _whole(body: str) -> str:
    # A byte order mark and blanks are no part of the text, and ccxt looks at the first character.
    return body.removeprefix("\ufeff").strip()


def _shown(body: str) -> str:
    # It is cut later to what is shown: redaction would not recognise half a secret.
    return repr(body[:MAX_SHOWN]) if body else "an empty body"


def _es256_key(secret: bytes) -> Any:
    if b"-----BEGIN" not in secret:
        return None
    key = base.load_pem_private_key(secret, None)
    return key if isinstance(getattr(key, "curve", None), base.ec.SECP256R1) else None


def _part(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def mixed(*bases: type[Any]) -> type[Any]:
    """The class of these bases, which goes by the name of the second; the same class at each call.

    A class is made at run time because the ccxt class in it is not known before: each exchange has one, for
    calls that block and for calls that are awaited, and a trader's own subclass is known only when an
    instance of it is given. It is kept because an instance is copied for each call, and a class would
    otherwise be made for each copy.
    """
    return _mixed(bases)


@functools.cache
def _mixed(bases: tuple[type[Any], ...]) -> type[Any]:
    first, named, *_ = bases
    return type(named.__name__, bases, {"__module__": first.__module__, "__doc__": first.__doc__})


def strict_class(of: type[Any]) -> type[Any]:
    """A ccxt class, or a trader's own subclass of one, with the refusals of this module before it."""
    return mixed(Strict, of)


def clone(instance: Any) -> Any:
    """A strict copy of a ccxt instance, which stays as it is: its credentials, addresses and session.

    7 KB and 0.1 ms, where another instance from the constructor takes 85 KB and 1.8 ms.
    """
    found = copy.copy(instance)
    of: type[Any] = instance.__class__
    if not issubclass(of, Strict):
        found.__class__ = strict_class(of)
    # What a call changes must not be shared. Tables that no call changes may be.
    found.options = {
        name: _once(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for name, value in instance.options.items()
    }
    # An order that is sent again by itself is placed twice.
    found.options["maxRetriesOnFailure"] = 0
    found.headers = dict(instance.headers)
    # ccxt's throttle would wait by the wall clock. Calls through a clone have a budget of their own.
    found.enableRateLimit = False
    found.verbose = False
    found.logger = QUIET
    return found


def _once(options: dict[str, Any]) -> dict[str, Any]:
    """Options of one call, without those that would repeat it."""
    if "maxRetriesOnFailure" not in options:
        return options
    return {**options, "maxRetriesOnFailure": 0}
