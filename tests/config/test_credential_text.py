"""What editors, shells and secret stores do to a key is undone, and what cannot be undone is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.credential_text import cleaned, decoded
from brokerwatch.errors import ConfigError
from tests.support.configurations import KEY, pem

BASE64 = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
WAYS = {
    "a line end": "{}\n",
    "a line end of Windows": "{}\r\n",
    "several line ends": "\n{}\n\n",
    "blanks": "  {}\t",
    "a blank that does not break": "\u00a0{}\u00a0",
    "no width": "\u200b{}\u200b",
    "a byte order mark": "\ufeff{}",
    "a byte order mark in three letters": "\u00ef\u00bb\u00bf{}",
    "the end of a text in C": "{}\0",
    "double quotes": '"{}"',
    "single quotes": "'{}'",
    "quotes of a word processor": "\u201c{}\u201d",
    "quotes in quotes": "'\"{}\"'\n",
    "blanks in quotes": '" {} "',
    "an export": "export K_API_KEY={}",
    "an export with quotes": 'export K_API_KEY="{}"; \n',
    "an assignment": "K_API_KEY={}",
    "an assignment of TOML": 'api_key = "{}"',
    "a line of YAML": "apiKey: {}",
    "PowerShell": '$env:K_API_KEY="{}"',
    "cmd": "set K_API_KEY={}",
    "a written line end": "{}\\n",
    "a written line end in quotes": '"{}\\r\\n"',
    "a mark and Windows": '\ufeff"{}"\r\n',
}


@pytest.mark.parametrize("key", [KEY, BASE64, "organizations/1/apiKeys/2", "0xAbCd12"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_stands_around_a_key_is_left_out(way: str, key: str) -> None:
    found = cleaned("api_key", way.format(key))
    assert (found.value, found.mistake) == (key, "")


@given(st.text("abcXYZ0189+/_-=.", min_size=1), st.sampled_from(["api_key", "secret", "private_key", "uid"]))
def test_a_key_as_exchanges_give_it_stays_as_it_is(key: str, credential: str) -> None:
    first = cleaned(credential, key)
    if not key.strip("="):
        return
    assert cleaned(credential, first.value).value == first.value
    if "=" not in key.rstrip("="):
        assert (first.value, first.undone, first.mistake) == (key, (), "")


@pytest.mark.parametrize(
    "passphrase", ["Two words!", "pa$$w0rd", "$Abcdefg1", "secret=Sesame", "Schlüssel9!", "a\\nb", "x;y"]
)
def test_a_passphrase_that_was_chosen_stays_as_it_is(passphrase: str) -> None:
    assert cleaned("password", f"{passphrase}\n") == (passphrase, (), "")
    assert cleaned("password", f'export OKX_API_PASSPHRASE="{passphrase}"').value == passphrase


PEMS: Final[Mapping[str, Callable[[str], str]]] = {
    "Windows": lambda key: key.replace("\n", "\r\n"),
    "written": lambda key: key.replace("\n", "\\n"),
    "written for Windows": lambda key: key.replace("\n", "\\r\\n"),
    "written twice": lambda key: key.replace("\n", "\\\\n"),
    "blanks": lambda key: key.replace("\n", " "),
    "one line": lambda key: key.replace("\n", ""),
    "indented": lambda key: key.replace("\n", "\n    "),
    "quotes": lambda key: f'"{key}"',
    "written in quotes": lambda key: "'" + key.replace("\n", "\\n") + "'",
    "an export": lambda key: 'export K_API_SECRET="' + key.replace("\n", "\\n") + '"\n',
    "a byte order mark": lambda key: "\ufeff" + key.strip(),
}


@pytest.mark.parametrize("way", PEMS.values(), ids=PEMS)
def test_a_pem_has_its_lines_again(way: Callable[[str], str]) -> None:
    key = pem()
    assert cleaned("secret", way(key)).value == key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abc\ndef", "several"),
        ("A_KEY=abc\nA_SECRET=def", "several"),
        ("abc def", r"U\+0020 \(space\)"),
        ("abc\u2026", r"U\+2026 \(horizontal ellipsis\)"),
        ("abc\u200bdef", r"U\+200B \(zero width space\)"),
        ("abc\x1b[0m", r"U\+001B \(a control character\)"),
        ('"abc', "without a quote"),
        ("${K_API_KEY}", "a place where one is to be put in"),
        ("$K_API_KEY", "a place where one is to be put in"),
        ("$(cat key)", "a place where one is to be put in"),
        ("<your key>", "a place where one is to be put in"),
        ("op://vault/kraken/key", "a place where one is to be put in"),
        ("{{ k_api_key }}", "a place where one is to be put in"),
        ('{"key": "abc", "secret": "def"}', "the JSON file with `name` and `privateKey` of Coinbase"),
    ],
)
def test_what_cannot_be_undone_is_named_and_not_repeated(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        BrokerSpec("k", exchange="kraken", credentials={"api_key": text, "secret": BASE64})
    assert text not in str(refused.value)
    assert BASE64 not in str(refused.value)


def test_a_program_may_hand_over_what_stands_in_the_environment() -> None:
    spec = BrokerSpec(
        "k", exchange="kraken", credentials={"api_key": f"{KEY}\n", "secret": f'"{BASE64}"\r\n'}
    )
    assert spec.credentials == {"api_key": KEY, "secret": BASE64}


def test_a_variable_that_is_not_set_is_a_mistake_of_the_program() -> None:
    unset: dict[str, str] = {"api_key": None}  # type: ignore[dict-item]  # pyright: ignore[reportAssignmentType]
    with pytest.raises(ConfigError, match="api_key: expected text, not NoneType"):
        BrokerSpec("k", exchange="kraken", credentials=unset)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_that_windows_wrote_is_read(encoding: str) -> None:
    assert cleaned("api_key", decoded(f"{KEY}\r\n".encode(encoding))).value == KEY
