"""What editors, shells and secret stores do to a key on its way here: undone where that is certain.

Blanks and line ends around a key, a byte order mark, quotes, `export NAME=` before it, and line ends of a PEM
that are written out or lost are taken away. What cannot be undone is a mistake, in words that do not repeat
the key: a key that is wrong is refused by the exchange as if it had been revoked.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

FREE_TEXT: Final = frozenset(("password", "login", "twofa"))
"""Credentials that their owner may have chosen: blanks may stand in them, and any letter."""
_INVISIBLE: Final = "\ufeff\ufffe\u200b\u200c\u200d\u200e\u200f\u2060\u00ad\x00"
"""Byte order marks, characters of no width, and the zeros that end a text in C."""
_READ_AS_LATIN: Final = "\u00ef\u00bb\u00bf"
"""A byte order mark of UTF-8 that some program took for three letters."""
_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_ASSIGNED: Final = re.compile(
    r"(?P<word>(?:export|set|setx|declare\s+-x)\s+|\$env:)?(?P<name>[A-Za-z_]\w*)\s*(?:=|:\s)\s*(?P<value>\S.*)",
    re.DOTALL,
)
_NAMES_A_KEY: Final = re.compile(
    r"(?:\w+_)?(?:api_?key|key|api_?secret|secret|secret_?key|api_?passphrase|passphrase|password|private_?key"
    r"|uid|account_?id|login|twofa|wallet_?address|token)",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(
    r"\$\{[^}]*\}|\$\([^)]*\)|\$[A-Za-z_]\w*|\{\{.*\}\}|<[^<>]*>|(?:op|vault|ref\+\w+)://.*|%\w+%"
)
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*)-----END \1-----", re.DOTALL)
PEM_LINE: Final = 64
"""Characters of a line (RFC 7468, section 2)."""


class Cleaned(NamedTuple):
    """A credential as it was meant."""

    value: str
    undone: tuple[str, ...]
    """What was taken away, other than blanks around it."""
    mistake: str
    """What is wrong with what is left; empty when nothing is."""


def decoded(content: bytes) -> str:
    """The text of a file. Windows writes UTF-16 with a byte order mark. Raises UnicodeDecodeError."""
    utf_16 = len(content) > 2 and content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if utf_16 else "utf-8")


def cleaned(credential: str, value: str) -> Cleaned:
    """The credential of this name, in snake_case, as it was meant."""
    undone: dict[str, None] = {}
    left = bare(value)
    for _ in range(4):  # export, quotes, and what stood inside these
        before = left
        assigned = _assignment(credential, left)
        if assigned is not None:
            undone["the assignment before it"] = None
            left = bare(assigned)
        if len(left) > 1 and _QUOTES.get(left[0]) == left[-1]:
            undone["the quotes around it"] = None
            left = bare(left[1:-1])
        if credential not in FREE_TEXT and "-----" not in left and not left.startswith("{"):
            ended = bare(re.sub(r"(?:\\r|\\n)+$", "", left))
            if ended != left:
                undone["the line end written after it"] = None
                left = ended
        if left == before:
            break
    if "-----BEGIN" in left and not left.startswith("{"):
        return Cleaned(_pem(left), tuple(undone), "")
    return Cleaned(left, tuple(undone), _mistake(credential, left))


def bare(text: str) -> str:
    """The text without blanks, line ends and byte order marks around it."""
    before = None
    while text != before:
        before, text = text, text.strip().strip(_INVISIBLE).removeprefix(_READ_AS_LATIN)
    return text


def _assignment(credential: str, text: str) -> str | None:
    """The value in `export NAME=value` and the like; None where it is none."""
    found = _ASSIGNED.fullmatch(text)
    if found is None or not found["value"].strip("="):  # base64 ends with one or two of them
        return None
    named = _NAMES_A_KEY.fullmatch(found["name"]) is not None
    if credential in FREE_TEXT:  # which may begin with `secret=`
        named = named and "_" in found["name"] and found["name"].isupper()
    if not found["word"] and not named:
        return None
    return found["value"].removesuffix(";")


def _pem(text: str) -> str:
    r"""A PEM key with its line ends, which may be written as \n or \r\n, or be lost."""
    text = text.replace("\\r", "").replace("\\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    found = _PEM.search(text)
    if found is None or ":" in found[2]:  # it has headers: whatever it is, it is no key that can be read
        return text
    body = "".join(found[2].replace("\\", "").split())
    lines = [body[start : start + PEM_LINE] for start in range(0, len(body), PEM_LINE)]
    return "\n".join((f"-----BEGIN {found[1]}-----", *lines, f"-----END {found[1]}-----", ""))


def _mistake(credential: str, text: str) -> str:
    if not text:
        return ""
    if credential not in FREE_TEXT and _REFERENCE.fullmatch(text):
        return "expected the credential itself, and this is a place where one is to be put in"
    if text.startswith("{") and (credential in FREE_TEXT or '"privateKey"' in text or text[1:2] != '"'):
        return ""  # a key file that cannot be read is looked at elsewhere
    if text.startswith("{"):  # what a secret store gives as a whole
        return "expected the credential itself, or the JSON file with `name` and `privateKey` of Coinbase"
    if "\n" in text or "\r" in text:
        return "expected the credential alone on one line, and there are several"
    strange = next((one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs")), "")
    if credential not in FREE_TEXT:
        strange = strange or next((one for one in text if one.isspace() or not one.isascii()), "")
    if strange:
        name = unicodedata.name(strange, "a control character").lower()
        return f"expected letters, digits and signs of ASCII, and it has U+{ord(strange):04X} ({name})"
    if credential not in FREE_TEXT and (text[0] in _QUOTES or text[-1] in _QUOTES):
        return "expected the credential without a quote at one of its ends"
    return ""
