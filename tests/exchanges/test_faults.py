"""Every failure becomes one kind of fault: documented codes, ccxt's classes, causes, pages; and no secret."""

from __future__ import annotations

import builtins
import socket
import ssl
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, Final, cast

import aiohttp
import ccxt
import pytest
from ccxt.base import errors as ccxt_errors
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import SystemClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.exchanges import faults
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.fault_tables import CAUSES, CLASSES, STATUSES
from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.registry import FAMILIES, FAULT_WORDS, fault_of
from brokerwatch.gateway.connection import Connection
from brokerwatch.messages import FaultKind
from brokerwatch.messages.health import MAX_DETAIL

NETWORK, DOWN, MAINTENANCE = FaultKind.NETWORK, FaultKind.EXCHANGE_DOWN, FaultKind.MAINTENANCE
RATE, AUTH, PERMISSION = FaultKind.RATE_LIMITED, FaultKind.AUTH, FaultKind.PERMISSION
CLOCK, BAD, BUG = FaultKind.NONCE_CLOCK, FaultKind.BAD_RESPONSE, FaultKind.CLIENT_BUG

Fabric = Mapping[str, Any]
HTML: Final = "<html><head><title>{}</title></head><body>{}</body></html>"


def kind_of(error: BaseException, **known: Any) -> FaultKind:
    return fault_of(Failure.of(error, **known)).kind


# --- ccxt's classes -------------------------------------------------------------------------------


def hierarchy() -> list[str]:
    """The names of all of ccxt's error classes, as ccxt lists them."""

    def walk(tree: Fabric) -> Iterator[str]:
        for name, below in tree.items():
            yield name
            yield from walk(below)

    return list(walk(cast("Fabric", ccxt_errors.error_hierarchy)))


def ccxt_error(name: str, text: str = "kraken said no") -> Exception:
    return cast("type[Exception]", getattr(ccxt_errors, name))(text)


def test_ccxt_still_has_as_many_error_classes_as_when_the_table_was_written() -> None:
    assert {"BaseError", "ExchangeError", "AuthenticationError", "NetworkError", "InvalidNonce"} <= set(
        hierarchy()
    )
    assert len(hierarchy()) >= 40


@pytest.mark.parametrize("name", hierarchy())
def test_every_error_class_of_ccxt_is_classified_by_a_listed_name(name: str) -> None:
    bases = [base.__name__ for base in type(ccxt_error(name)).__mro__]
    listed = next((base for base in bases if base in CLASSES), None)
    assert listed is not None
    assert listed != "BaseError" or name == "BaseError", "a class of a new branch needs a line of its own"
    assert kind_of(ccxt_error(name)) is CLASSES[listed]


def test_every_listed_class_exists() -> None:
    known = {*hierarchy(), "UnprovenAnswer", "gaierror"}
    assert [name for name in CLASSES if name not in known and not hasattr(builtins, name)] == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AuthenticationError", AUTH), ("PermissionDenied", PERMISSION), ("AccountNotEnabled", PERMISSION),
        ("AccountSuspended", PERMISSION), ("OnMaintenance", MAINTENANCE), ("DDoSProtection", RATE),
        ("RateLimitExceeded", RATE), ("InvalidNonce", CLOCK), ("RequestTimeout", NETWORK),
        ("NetworkError", NETWORK), ("ExchangeNotAvailable", DOWN), ("BadResponse", BAD),
        ("NullResponse", BAD), ("ExchangeError", BAD), ("BadRequest", BUG), ("BadSymbol", BUG),
        ("ArgumentsRequired", BUG),
        ("OrderNotFound", BUG), ("NotSupported", BUG),
        ("OperationRejected", BUG), ("NoChange", BUG), ("RestrictedLocation", FaultKind.BLOCKED),
        ("ChecksumError", BAD),
    ],
)  # fmt: skip
def test_a_class_alone_is_classified_by_its_meaning(name: str, kind: FaultKind) -> None:
    assert kind_of(ccxt_error(name)) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TypeError("x"), BUG), (AttributeError("x"), BUG), (NameError("x"), BUG), (TimeoutError(), NETWORK),
        (ConnectionResetError("x"), NETWORK), (BrokenPipeError("x"), NETWORK),
        (socket.gaierror(-2, "x"), NETWORK), (UnprovenAnswer("x"), BAD), (RuntimeError("x"), BAD),
        (KeyError("x"), BAD), (Exception(), BAD),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)  # fmt: skip
def test_an_exception_of_python_is_classified_by_its_nearest_listed_base(
    error: Exception, kind: FaultKind
) -> None:
    assert kind_of(error) is kind


# --- the documented words of each exchange ---------------------------------------------------------


def kraken(error: str) -> str:
    return f'{{"error":["{error}"]}}'


def okx(code: int) -> str:
    return f'{{"msg":"something","code":"{code}","data":[]}}'


def coinbase(error: str, message: str = "something") -> str:
    return f'{{"error":"{error}","error_details":"{message}","message":"{message}"}}'


DOCUMENTED: Final[tuple[tuple[str, str, int, FaultKind], ...]] = (
    ("kraken", kraken("EService:Unavailable"), 200, DOWN),
    ("kraken", kraken("EService:Busy"), 200, DOWN),
    ("kraken", kraken("EDatabase:Internal error"), 200, DOWN),
    ("kraken", kraken("EGeneral:Internal error"), 500, DOWN),
    ("kraken", kraken("EService:Market in cancel_only mode"), 200, MAINTENANCE),
    ("kraken", kraken("EService:Market in post_only mode"), 200, MAINTENANCE),
    ("kraken", kraken("EAPI:Rate limit exceeded"), 200, RATE),
    ("kraken", kraken("EService:Throttled: 1795360093"), 200, RATE),
    ("kraken", kraken("EGeneral:Too many requests"), 200, RATE),
    ("kraken", kraken("EGeneral:Temporary lockout"), 200, RATE),
    ("kraken", kraken("EAPI:Invalid key"), 200, AUTH),
    ("kraken", kraken("EAPI:Invalid signature"), 200, AUTH),
    ("kraken", kraken("EAuth:Account temporary disabled"), 200, AUTH),
    ("kraken", kraken("EGeneral:Permission denied"), 200, PERMISSION),
    ("kraken", kraken("EAPI:Feature disabled"), 200, PERMISSION),
    ("kraken", kraken("EAPI:Invalid nonce"), 200, CLOCK),
    ("kraken", kraken("EGeneral:Invalid arguments"), 200, BUG),
    ("kraken", kraken("EGeneral:Unknown method"), 200, BUG),
    ("coinbase", coinbase("UNAVAILABLE"), 503, DOWN),
    ("coinbase", coinbase("INTERNAL"), 500, DOWN),
    ("coinbase", coinbase("UNAVAILABLE", "scheduled maintenance"), 503, MAINTENANCE),
    ("coinbase", coinbase("RESOURCE_EXHAUSTED", "Too many requests"), 429, RATE),
    ("coinbase", '{"errors":[{"id":"rate_limit_exceeded","message":"x"}]}', 429, RATE),
    ("coinbase", "Unauthorized", 401, AUTH),
    ("coinbase", "Unauthorized\n", 401, AUTH),
    ("coinbase", coinbase("UNAUTHENTICATED"), 401, AUTH),
    ("coinbase", '{"errors":[{"id":"invalid_token","message":"x"}]}', 401, AUTH),
    ("coinbase", coinbase("PERMISSION_DENIED", "Missing required scopes"), 403, PERMISSION),
    ("coinbase", '{"errors":[{"id":"invalid_scope","message":"x"}]}', 403, PERMISSION),
    ("coinbase", coinbase("x", "IP address is not on the allowlist"), 403, PERMISSION),
    (
        "coinbase",
        '{"errors":[{"id":"authentication_error","message":"request timestamp expired"}]}',
        401,
        CLOCK,
    ),
    ("coinbase", coinbase("INVALID_ARGUMENT"), 400, BUG),
    *(("okx", okx(code), status, DOWN) for code, status in ((50013, 429), (50026, 500), (50004, 400))),
    ("okx", okx(50001), 503, MAINTENANCE),
    *(("okx", okx(code), 429, RATE) for code in (50011, 50040, 50061)),
    *(("okx", okx(code), 401, AUTH) for code in (50111, 50112, 50113, 50114, 50119)),
    *(("okx", okx(code), 401, AUTH) for code in (50100, 50101, 50103, 50104, 50105, 50106, 50107)),
    *(("okx", okx(code), 401, PERMISSION) for code in (50110, 50120)),
    ("okx", okx(50102), 401, CLOCK),
    *(("okx", okx(code), 400, BUG) for code in (50000, 50014, 50015)),
)
"""Family, body, HTTP status and kind: the fault table of the documentation."""


@pytest.mark.parametrize("error", ["ExchangeError", "AuthenticationError", "RateLimitExceeded", "BadRequest"])
@pytest.mark.parametrize(
    ("family", "body", "status", "kind"),
    DOCUMENTED,
    ids=[f"{family}-{kind}-{number}" for number, (family, _, _, kind) in enumerate(DOCUMENTED)],
)
def test_the_exchanges_own_words_decide_whatever_class_ccxt_made_of_them(
    family: str, body: str, status: int, kind: FaultKind, error: str
) -> None:
    assert kind_of(ccxt_error(error), family=family, body=body, status=status) is kind


def test_every_kind_but_the_network_is_documented_for_every_exchange() -> None:
    for family in FAULT_WORDS:
        kinds = {kind for one, _, _, kind in DOCUMENTED if one == family}
        assert kinds == set(FaultKind) - {NETWORK, BAD, FaultKind.BLOCKED, FaultKind.OTHER}


@pytest.mark.parametrize(
    ("family", "body"),
    [
        ("kraken", kraken("EWhat:Never seen")),
        ("okx", okx(59999)),
        ("okx", okx(500011)),
        ("coinbase", coinbase("wat")),
    ],
)
def test_words_that_nobody_listed_are_a_bad_response(family: str, body: str) -> None:
    assert kind_of(ccxt_error("ExchangeError"), family=family, body=body, status=200) is BAD


def test_the_words_of_one_exchange_mean_nothing_at_another() -> None:
    assert (
        kind_of(ccxt_error("ExchangeError"), family="okx", body=kraken("EAPI:Invalid key"), status=200) is BAD
    )
    assert kind_of(ccxt_error("ExchangeError"), family="kraken", body=okx(50111), status=200) is BAD


def test_a_table_of_words_finds_them_in_capitals_and_in_small_letters() -> None:
    # The tables themselves are made while the module is imported, which is before any test.
    ((pattern, kind),) = faults.word_table(("not (here|today)", DOWN))
    assert pattern.search("Closed: NOT TODAY, not tomorrow")
    assert not pattern.search("closed for good")
    assert kind is DOWN


def test_the_words_of_an_exchange_count_in_whatever_case_they_stand() -> None:
    for error in ("EAPI:INVALID KEY", "eapi:invalid key"):
        assert kind_of(ccxt_error("ExchangeError"), family="kraken", body=kraken(error), status=200) is AUTH


def test_a_letter_of_another_alphabet_is_one_letter() -> None:
    """Words are looked for at a distance, which is counted in what the exchange wrote."""
    body = kraken(f"EService: {'å' * 150} maintenance")
    assert kind_of(ccxt_error("ExchangeError"), family="kraken", body=body, status=200) is MAINTENANCE


def test_an_exchange_has_words_exactly_if_we_know_where_it_says_them() -> None:
    assert all(bool(words.keys) == bool(words.kinds) for words in FAULT_WORDS.values())


@pytest.mark.parametrize("family", ["kraken", "coinbase", "okx", ""])
@pytest.mark.parametrize("body", ['["error", "code"]', '"error and code"', "null", "true", "7"])
def test_json_that_is_no_map_is_nobodys_own_word(family: str, body: str) -> None:
    listed_by_a_stranger = not family and body.startswith("[")
    for status, kind in ((401, DOWN), (403, DOWN), (429, RATE), (400, BAD)):
        if listed_by_a_stranger:
            continue  # some exchanges that only ccxt knows write their errors as a list
        assert kind_of(ccxt_error("AuthenticationError"), family=family, body=body, status=status) is kind


# --- pages, statuses and causes --------------------------------------------------------------------


@pytest.mark.parametrize("family", ["kraken", "coinbase", "okx", ""])
@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize(
    "words", ["Unauthorized", "Forbidden", "PERMISSION_DENIED", '"EAPI:Invalid key"', '"code":"50111"']
)
def test_a_refusal_on_a_page_of_html_comes_from_something_before_the_exchange(
    family: str, status: int, words: str
) -> None:
    for page in (HTML.format(words, words), f"\n <!DOCTYPE html>{words}"):
        for error in ("AuthenticationError", "PermissionDenied", "BadResponse"):
            assert kind_of(ccxt_error(error), family=family, body=page, status=status) is DOWN


@pytest.mark.parametrize(("status", "kind"), [(401, AUTH), (403, PERMISSION)])
def test_a_refusal_without_a_page_of_an_exchange_that_we_do_not_know_is_about_the_key(
    status: int, kind: FaultKind
) -> None:
    assert kind_of(ccxt_error("ExchangeError"), body='{"code":-2015}', status=status) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, DOWN), (502, DOWN), (503, DOWN), (504, DOWN), (520, DOWN), (523, DOWN), (529, DOWN),
     (599, DOWN), (408, NETWORK), (418, RATE), (429, RATE), (407, BUG), (511, NETWORK), (400, BAD),
     (302, BAD), (100, BAD)],
)  # fmt: skip
def test_a_status_decides_where_no_word_is_known(status: int, kind: FaultKind) -> None:
    for family in ("kraken", "coinbase", "okx", ""):
        assert kind_of(ccxt_error("ExchangeError"), family=family, body=HTML, status=status) is kind


@pytest.mark.parametrize("status", [200, 201, 204, None])
def test_a_good_status_or_none_says_nothing_about_a_failure(status: int | None) -> None:
    assert kind_of(ccxt_error("InvalidNonce"), status=status) is CLOCK


@pytest.mark.parametrize("status", [199, 300])
def test_only_the_two_hundreds_are_good_statuses(status: int) -> None:
    assert kind_of(ccxt_error("InvalidNonce"), status=status) is BAD


def from_cause(error: Exception, *causes: BaseException) -> Exception:
    """The error as it is when it was raised from these, outermost first."""
    outer: BaseException = error
    for cause in causes:
        outer.__cause__ = cause
        outer = cause
    return error


KEY: Final = cast("Any", SimpleNamespace(host="h", port=1, ssl=True, is_ssl=True, proxy=None))


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ConnectionRefusedError(111, "refused"), NETWORK),
        (ConnectionResetError(104, "reset"), NETWORK),
        (TimeoutError(), NETWORK),
        (socket.gaierror(-2, "unknown name"), NETWORK),
        (aiohttp.ServerDisconnectedError(), NETWORK),
        (aiohttp.ClientPayloadError("cut"), NETWORK),
        (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), NETWORK),
        (aiohttp.ServerTimeoutError(), NETWORK),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("self-signed")), BUG),
        (ssl.SSLCertVerificationError("self-signed"), BUG),
        (aiohttp.ClientProxyConnectionError(KEY, OSError(111, "refused")), BUG),
        (aiohttp.InvalidURL("no url"), BUG),
        (aiohttp.TooManyRedirects(cast("Any", None), ()), BAD),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"), BAD),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
@pytest.mark.parametrize(
    "outer", ["ExchangeNotAvailable", "ExchangeError", "AuthenticationError", "RequestTimeout"]
)
def test_a_cause_goes_before_the_class_that_wraps_it(
    cause: BaseException, kind: FaultKind, outer: str
) -> None:
    assert kind_of(from_cause(ccxt_error(outer), cause)) is kind
    assert kind_of(from_cause(ccxt_error(outer), RuntimeError("between"), cause)) is kind


def test_a_cause_that_says_nothing_leaves_the_class_to_decide() -> None:
    assert kind_of(from_cause(ccxt_error("InvalidNonce"), RuntimeError("x"))) is CLOCK


def test_what_was_being_handled_counts_as_a_cause() -> None:
    def fail() -> None:
        try:
            raise ConnectionResetError
        except ConnectionResetError:
            raise ccxt.ExchangeError("while handling")  # noqa: B904 - a context without a cause is the point

    with pytest.raises(ccxt.ExchangeError) as raised:
        fail()
    assert kind_of(raised.value) is NETWORK


def test_a_circle_of_causes_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert kind_of(first) is BAD


@pytest.mark.parametrize(
    ("errors", "plain", "names", "kind"),
    # Four names each, and three; after 49 of them there is room for one more cause, after 50 there is not.
    [(10, 3, 49 + len(ConnectionResetError.__mro__), NETWORK), (11, 2, 50, BAD)],
)
def test_causes_are_followed_for_fifty_names_and_no_further(
    errors: int, plain: int, names: int, kind: FaultKind
) -> None:
    causes = [*(RuntimeError("x") for _ in range(errors)), *(Exception("x") for _ in range(plain))]
    found = Failure.of(from_cause(Exception("x"), *causes, ConnectionResetError()))
    assert len(found.causes) == names
    assert fault_of(found).kind is kind


@pytest.mark.parametrize(("status", "kind"), [(400, BAD), (401, AUTH), (403, PERMISSION), (503, DOWN)])
def test_an_exception_that_no_table_knows_leaves_the_status_to_decide(status: int, kind: FaultKind) -> None:
    assert kind_of(Exception("x"), body='{"code":1}', status=status) is kind


def test_a_date_to_come_back_at_counts_from_1970_where_nobody_knows_the_time() -> None:
    at_that_minute = Failure(retry_after="Thu, 01 Jan 1970 00:01:00 GMT")
    assert fault_of(at_that_minute).retry_after_s == 60.0
    assert fault_of(at_that_minute, 45.0).retry_after_s == 15.0


def test_the_tables_name_every_kind() -> None:
    named = {*CAUSES.values(), *STATUSES.values(), *CLASSES.values()}
    named |= {kind for words in FAULT_WORDS.values() for _, kind in words.kinds}
    assert named == set(FaultKind) - {FaultKind.OTHER}, "only a receiver says `other`"


@given(
    body=st.text(max_size=60),
    family=st.sampled_from(["", "kraken", "coinbase", "okx", "other"]),
    status=st.none() | st.integers(0, 999),
    classes=st.lists(st.sampled_from([*CLASSES, "Other"]), max_size=4),
    causes=st.lists(st.sampled_from([*CAUSES, "Other"]), max_size=4),
    text=st.text(max_size=600),
)
def test_any_failure_is_one_fault_on_one_line_of_bounded_length(
    body: str, family: str, status: int | None, classes: list[str], causes: list[str], text: str
) -> None:
    fault = fault_of(Failure(tuple(classes), tuple(causes), status, body, family, text))
    assert fault.kind in FaultKind
    assert len(fault.detail) <= MAX_DETAIL
    assert len(fault.detail.splitlines()) <= 1


# --- through the gateway ---------------------------------------------------------------------------


def account(name: str, credentials: Mapping[str, str], instance: object = None) -> Connection:
    """The connection of an account; it makes no request and no ccxt instance before it is used."""
    spec = BrokerSpec("k", exchange=name, credentials=credentials)
    return Connection(spec, FAMILIES.get(name, ""), lambda: instance, SystemClock())


SECRETS: Final[Mapping[str, str]] = {
    "api_key": "organizations/5f/apiKeys/77",
    "secret": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIabc/def+ghi==\n-----END EC PRIVATE KEY-----\n",
    "password": 'Pass"word\\with quotes',
    "uid": "MHcCAQEEI",
}


def shown_as(secret: str) -> tuple[str, ...]:
    """A secret as Python, JSON and people write it."""
    return (secret, repr(secret)[1:-1], secret.replace("\n", "\\n"), f'{{"k":"{secret}"}}')


@pytest.mark.parametrize("name", ["kraken", "coinbase", "okx", "binance"])
@pytest.mark.parametrize("credential", ["api_key", "secret", "uid"])
def test_no_secret_stands_in_a_fault_however_it_was_written(name: str, credential: str) -> None:
    ours = account(name, SECRETS)
    for shown in shown_as(SECRETS[credential]):
        for error in (
            ccxt_error("ExchangeError", f"bad {shown} here"),
            UnprovenAnswer(f"amount {shown}"),
            KeyError(shown),
        ):
            fault = ours.fault(error)
            assert "[redacted]" in fault.detail
            for secret in SECRETS.values():
                assert not any(one in fault.detail for one in shown_as(secret))
            assert "MHcCAQEEI" not in fault.detail


def test_a_secret_with_quotes_is_redacted_in_json_too() -> None:
    ours = account("okx", SECRETS)
    for shown in (SECRETS["password"], 'Pass\\"word\\\\with quotes'):
        assert "word" not in ours.fault(ccxt_error("ExchangeError", f'{{"pass":"{shown}"}}')).detail


def test_an_empty_credential_redacts_nothing() -> None:
    fault = account("kraken", {"api_key": "key-1", "password": ""}).fault(
        ccxt_error("ExchangeError", "as it is")
    )
    assert fault.detail == "ExchangeError: as it is"


@pytest.mark.parametrize(
    ("alias", "parent"),
    [("myokx", "okx"), ("okxus", "okx"), ("coinbaseadvanced", "coinbase"), ("kraken", "kraken")],
)
def test_an_alias_shares_the_table_of_its_parent(alias: str, parent: str) -> None:
    assert FAMILIES[alias] == parent
    assert FAMILIES[parent] == parent
    assert parent in FAULT_WORDS


def test_every_family_that_we_know_has_its_table() -> None:
    assert set(FAMILIES.values()) == set(FAULT_WORDS)
    assert "krakenfutures" not in FAMILIES


def test_what_is_no_proof_is_a_bad_response() -> None:
    fault = account("kraken", {}).fault(UnprovenAnswer("result is missing, not a map"))
    assert (fault.kind, fault.detail) == (BAD, "result is missing, not a map")


@pytest.mark.parametrize(
    ("raised", "status", "expected"),
    [
        ("AuthenticationError", 400, FaultKind.AUTH),
        ("InvalidNonce", 400, FaultKind.NONCE_CLOCK),
        ("AuthenticationError", 500, FaultKind.AUTH),
        ("RateLimitExceeded", 400, FaultKind.RATE_LIMITED),
        ("OnMaintenance", 500, FaultKind.MAINTENANCE),
        ("BadRequest", 400, FaultKind.CLIENT_BUG),
        ("ExchangeError", 502, FaultKind.EXCHANGE_DOWN),
        ("BadResponse", 400, FaultKind.BAD_RESPONSE),
    ],
)
def test_an_exchange_s_own_code_as_ccxt_knows_it_says_more_than_the_status(
    raised: str, status: int, expected: FaultKind
) -> None:
    error = ccxt_error(raised, "what it said")
    own = Failure.of(error, status=status, body='{"code":-1022,"msg":"Signature is not valid."}')
    assert fault_of(own).kind is expected
    listed = Failure.of(error, status=status, body='["error",10100,"apikey: invalid"]')
    assert fault_of(listed).kind is expected, "some exchanges write their errors as a list"
    page = Failure.of(error, status=502, body="<html>Bad Gateway</html>")
    assert fault_of(page).kind is FaultKind.EXCHANGE_DOWN, "a page has no code"


def test_what_a_server_repeats_of_our_request_is_redacted() -> None:
    class Instance:
        last_status, last_body, last_retry_after = 502, "", ""
        last_request_headers: ClassVar = {
            "API-Sign": "c2lnbmF0dXJlLW9mLW91cnM=",
            "Authorization": "Bearer " + "e" * 40,
        }

    ours = account("kraken", {"api_key": "key-1", "secret": "s"}, Instance())
    assert ours.instance is not None, "it is there, as after a request"
    token = "e" * 40
    echoed = f"API-Sign: c2lnbmF0dXJlLW9mLW91cnM= Bearer {token} s=1 &signature=0123456789abcdef01"
    detail = ours.fault(ccxt_error("ExchangeError", echoed)).detail
    assert "c2lnbmF0" not in detail
    assert "eeee" not in detail
    assert "0123456789" not in detail
    assert "API-Sign: [redacted]" in detail, "one character is no secret, and words stay readable"
