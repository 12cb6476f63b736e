"""Files of CURVE keys: a key pair, and a list of the public keys that are let in.

Both are text, so an operator can read, copy and edit them. A key pair, which is secret:

    name bot-1
    public <40 characters>
    secret <40 characters>

A list has a line for each key: a name, the public key and, in the list of brokers, the brokers for which it
may speak:

    bot-1 <40 characters>
    node-2 <40 characters> okx-main

A key is 32 bytes in Z85 (ZeroMQ RFC 32), whose alphabet has `#` in it. So only a line that begins with `#` is
a comment. A secret is repeated in no text.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from brokerwatch.messages import topics

KEY_CHARACTERS: Final = 40
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
"""Z85: https://rfc.zeromq.org/spec/32/"""
_GROUP: Final = 5
"""So many characters are four bytes."""
LARGEST_FILE: Final = 1_000_000
"""Bytes. Ten thousand keys have room in it."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What one end of an encrypted connection proves itself with."""

    name: str
    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A public key that is let in."""

    name: str
    public: str
    brokers: frozenset[str] = frozenset()
    """The brokers whose events it may send; only the list of brokers has them."""


def is_key(text: str) -> bool:
    """Whether this is a key in Z85."""
    if len(text) != KEY_CHARACTERS or not set(text) <= set(_ALPHABET):
        return False
    groups = (text[at : at + _GROUP] for at in range(0, KEY_CHARACTERS, _GROUP))
    return all(_number(group) < 1 << 32 for group in groups)


def _number(group: str) -> int:
    number = 0
    for character in group:
        number = number * len(_ALPHABET) + _ALPHABET.index(character)
    return number


def pair_text(pair: KeyPair) -> str:
    """What stands in the file of a key pair."""
    return (
        f"# The key pair of {pair.name}, for CURVE. Who has this file is {pair.name}.\n"
        f"name {pair.name}\npublic {pair.public}\nsecret {pair.secret}\n"
    )


def line_text(key: ListedKey) -> str:
    """One line of a list."""
    return " ".join((key.name, key.public, *sorted(key.brokers))) + "\n"


def read_pair(path: str | os.PathLike[str]) -> KeyPair:
    """The key pair in a file.

    Raises ValueError, in words for the user: it cannot be read, it is none, or other users may read it.
    """
    where = Path(path)
    content, found = _read(where)
    if found.st_mode & 0o077 and not _is_given_by_systemd(where):
        raise ValueError(f"{where} is open to other users of this machine; chmod 600 it")
    words = dict(line.split(maxsplit=1) for line in _lines(content).values() if len(line.split()) == 2)
    pair = KeyPair(words.get("name", ""), words.get("public", ""), words.get("secret", ""))
    if not topics.is_name(pair.name) or not is_key(pair.public) or not is_key(pair.secret):
        raise ValueError(f"{where} is no key pair; `brokerwatch keys make NAME` makes one")
    return pair


def read_list(path: str | os.PathLike[str]) -> tuple[tuple[ListedKey, ...], tuple[str, ...]]:
    """The keys in a list, and what is wrong with the lines that have none.

    Raises ValueError, in words for the user: it cannot be read, or other users may change it.
    """
    where = Path(path)
    content, found = _read(where)
    if found.st_mode & 0o022:
        raise ValueError(f"{where} can be changed by other users of this machine; chmod 644 it")
    return listed(content)


def listed(content: str) -> tuple[tuple[ListedKey, ...], tuple[str, ...]]:
    """The keys of a list's text, and what is wrong with the lines that have none. Pure."""
    keys: dict[str, ListedKey] = {}
    mistakes: list[str] = []
    for number, line in _lines(content).items():
        name, public, *brokers = (*line.split(), "")[: max(2, len(line.split()))]
        if not topics.is_name(name):
            mistakes.append(f"line {number}: expected a name first ({topics.NAME_RULE})")
        elif not is_key(public):
            mistakes.append(f"line {number}: expected the public key of {name}, {KEY_CHARACTERS} characters")
        elif wrong := [broker for broker in brokers if not topics.is_name(broker)]:
            mistakes.append(f"line {number}: expected names of brokers, not {wrong[0]!r}")
        elif name in keys or public in {key.public for key in keys.values()}:
            mistakes.append(f"line {number}: {name} or its key stands in the list twice")
        else:
            keys[name] = ListedKey(name, public, frozenset(brokers))
    return tuple(keys.values()), tuple(mistakes)


def public_key(source: str | os.PathLike[str]) -> str:
    """A public key, given as itself or as the file that has it alone, such as `NAME.pub`.

    Raises ValueError, in words for the user.
    """
    if isinstance(source, str) and is_key(source):
        return source
    path = Path(source)
    if re.fullmatch(r"\S{38,42}", str(source)) and not path.exists():
        raise ValueError(f"expected a public key of {KEY_CHARACTERS} characters, or a file that has it")
    keys, _ = read_list(path)
    if len(keys) != 1:
        raise ValueError(f"expected one public key in {path}, not {len(keys)}")
    return keys[0].public


def _read(path: Path) -> tuple[str, os.stat_result]:
    """The text of a file, and what the system says of just that file. Raises ValueError."""
    try:
        # A pipe in its place would hold up the start for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"expected a file at {path}")
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"expected a readable file at {path}: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{path} is larger than {LARGEST_FILE} bytes")
    try:
        return content.decode("utf-8-sig"), found
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text") from None


def _lines(content: str) -> dict[int, str]:
    """The lines that say something, by their numbers from 1."""
    lines = enumerate((line.strip() for line in content.splitlines()), 1)
    return {number: line for number, line in lines if line and not line.startswith("#")}


def _is_given_by_systemd(path: Path) -> bool:
    """Whether it is a credential of this service: its folder is closed to other users, whatever its mode."""
    given = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return given != "" and path.absolute().parent == Path(given).absolute()
