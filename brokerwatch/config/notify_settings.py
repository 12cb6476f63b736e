"""The [notify] table: where messages to people go, and the dead man's switch.

The address of a channel is a secret, since it holds a token or a password. So it may come from a file or an
environment variable, as a credential does, and no value of it is ever shown: a mistake names the key and the
place of the address in the list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, cast

from brokerwatch.config.credential_text import bare, decoded
from brokerwatch.config.credentials import secret_file_remark, secret_path, writable_by_others
from brokerwatch.config.redaction import looks_secret
from brokerwatch.config.toml_table import TomlTable
from brokerwatch.log import logger

_log: Final = logger(__name__)

MOST_CHANNELS: Final = 50
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,31})://\S+")
_WEB: Final = re.compile(r"https?://[^/\s]\S*", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HIDDEN: Final = "(not shown: it looks like the address itself)"
HEARTBEAT_RANGE_S: Final = (1.0, 86_400.0)


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Who is told what happens, and how. Each field stands below with its unit.

    The values are checked when a `Cluster` is made with them, which raises ConfigError.
    """

    urls: tuple[str, ...] = field(default=(), repr=False)
    """One address for each channel, as apprise writes them: `tgram://…`, `mailto://…`, `json://…`. Never
    shown: there are tokens in them."""
    heartbeat_url: str = field(default="", repr=False)
    """The dead man's switch: an address that is called with POST as long as all is watched. Empty: none."""
    heartbeat_interval_s: float = 60.0
    """Seconds between two calls of `heartbeat_url`."""
    flapping_outages: int = 4
    """An account that goes out so many times within `flapping_window_s` flaps: it gets a digest in place of
    single messages."""
    flapping_window_s: float = 600.0
    """Seconds. An account that has not changed for so long flaps no more."""
    digest_interval_s: float = 900.0
    """Seconds between two digests of an account that flaps."""

    def __post_init__(self) -> None:
        urls: object = self.urls
        if isinstance(urls, list):
            object.__setattr__(self, "urls", tuple(self.urls))

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.urls or self.heartbeat_url)


_DEFAULT: Final = NotifySettings()
KEYS: Final = (
    *("urls", "urls_file", "urls_env", "heartbeat_url", "heartbeat_url_file", "heartbeat_url_env"),
    *(each.name for each in fields(NotifySettings) if each.name not in ("urls", "heartbeat_url")),
)
"""Every key of the table."""


def notify_settings(table: TomlTable, folder: Path, environment: Mapping[str, str]) -> NotifySettings:
    """What the [notify] table says. Mistakes go on the table's list, and none of them shows an address.

    Args:
        table: the table.
        folder: paths count from here.
        environment: the environment variables.
    """
    urls = _listed(table, "urls")
    if urls and (remark := _remark(Path(table.where))):
        _log.warning(
            "[notify] urls: %s, and addresses stand in it; urls_file names a file of their own", remark
        )
    urls += _addresses(_secret(table, "urls", folder, environment))
    single = _text(table, "heartbeat_url") or _secret(table, "heartbeat_url", folder, environment).strip()
    settings = NotifySettings(
        urls=tuple(dict.fromkeys(urls)),
        heartbeat_url=single,
        heartbeat_interval_s=table.number("heartbeat_interval_s", _DEFAULT.heartbeat_interval_s),
        flapping_outages=table.whole("flapping_outages", _DEFAULT.flapping_outages),
        flapping_window_s=table.number("flapping_window_s", _DEFAULT.flapping_window_s),
        digest_interval_s=table.number("digest_interval_s", _DEFAULT.digest_interval_s),
    )
    table.end(", ".join(KEYS))
    for key, expected in notify_mistakes(settings):
        table.wrong(key, expected)
    return settings


def notify_mistakes(settings: NotifySettings) -> list[tuple[str, str]]:
    """(key, what was expected) for each value that cannot be. No text repeats an address."""
    return [*_type_mistakes(settings)] or [*_address_mistakes(settings), *_number_mistakes(settings)]


def _type_mistakes(settings: NotifySettings) -> Iterator[tuple[str, str]]:
    for name, types, expected in (
        ("urls", tuple, "a list of texts"),
        ("heartbeat_url", str, "text"),
        ("heartbeat_interval_s", (int, float), "a number of seconds"),
        ("flapping_window_s", (int, float), "a number of seconds"),
        ("digest_interval_s", (int, float), "a number of seconds"),
        ("flapping_outages", int, "a whole number"),
    ):
        value: object = getattr(settings, name)
        if not isinstance(value, types) or isinstance(value, bool):
            yield name, f"expected {expected}, not {type(value).__name__}"
        elif isinstance(value, tuple) and not all(
            isinstance(url, str) for url in cast("tuple[object, ...]", value)
        ):
            yield name, f"expected {expected}"


def _address_mistakes(settings: NotifySettings) -> Iterator[tuple[str, str]]:
    if len(settings.urls) > MOST_CHANNELS:
        yield "urls", f"expected up to {MOST_CHANNELS} addresses, not {len(settings.urls)}"
    wrong = [str(number) for number, url in enumerate(settings.urls, start=1) if not _SCHEME.fullmatch(url)]
    if wrong:
        example = "expected addresses of apprise, such as tgram://TOKEN/CHAT or json://HOST/PATH"
        yield "urls", f"{example}; not one: number {', '.join(wrong)} of the list (not shown)"
    if settings.heartbeat_url and not _WEB.fullmatch(settings.heartbeat_url):
        yield "heartbeat_url", "expected an address that begins with https:// or http:// (not shown)"


def _number_mistakes(settings: NotifySettings) -> Iterator[tuple[str, str]]:
    shortest, longest = HEARTBEAT_RANGE_S
    if not shortest <= settings.heartbeat_interval_s <= longest:
        expected = f"expected from {shortest:g} to {longest:g} seconds, not {settings.heartbeat_interval_s:g}"
        yield "heartbeat_interval_s", expected
    if not 2 <= settings.flapping_outages <= 1_000:
        yield "flapping_outages", f"expected from 2 to 1000, not {settings.flapping_outages}"
    for name in ("flapping_window_s", "digest_interval_s"):
        value: float = getattr(settings, name)
        if not 0 < value < math.inf:
            yield name, f"expected a number of seconds above 0, and an end, not {value:g}"


def _listed(table: TomlTable, key: str) -> tuple[str, ...]:
    """The texts of a list, of which no mistake shows a value."""
    value = table.take(key)
    if value is None:
        return ()
    listed = cast("list[object]", value) if isinstance(value, list) else [None]
    if all(isinstance(each, str) and each for each in listed):
        return tuple(str(each).strip() for each in listed)
    table.wrong(key, "expected a list of texts (not shown)")
    return ()


def _text(table: TomlTable, key: str) -> str:
    value = table.take(key)
    if value is None or isinstance(value, str):
        return (value or "").strip()
    table.wrong(key, "expected text (not shown)")
    return ""


def _addresses(text: str) -> tuple[str, ...]:
    """The addresses of a file or a variable: one a line, or with blanks between. A line with # is none."""
    lines = [line.strip() for line in text.splitlines()]
    return tuple(url for line in lines if not line.startswith("#") for url in line.split())


def _secret(table: TomlTable, name: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What stands in the file of `<name>_file` and the variable of `<name>_env`; empty where neither is
    named."""
    found: list[str] = []
    for kind, what in (("file", "a file"), ("env", "a variable")):
        key = f"{name}_{kind}"
        source = table.take(key)
        if source is None:
            continue
        if not isinstance(source, str) or not source or (kind == "env" and not _VARIABLE.fullmatch(source)):
            table.wrong(key, f"expected the name of {what} (not shown: it may be the address itself)")
        elif kind == "env":
            value = bare(environment.get(source, ""))
            if not value:
                named = _HIDDEN if looks_secret(source) else source
                table.wrong(
                    key, f"expected the addresses in the environment variable {named}, which is not set"
                )
            found.append(value)
        else:
            found.append(_read(table, key, source, folder, environment))
    return "\n".join(found)


def _read(table: TomlTable, key: str, source: str, folder: Path, environment: Mapping[str, str]) -> str:
    if "://" in source:
        table.wrong(key, "expected the name of a file (not shown: it is an address)")
        return ""
    path = secret_path(source, folder, environment)
    shown = _HIDDEN if looks_secret(source) else str(path)
    try:
        text = bare(decoded(path.read_bytes()))
        if writable_by_others(path):
            table.wrong(key, f"expected {shown} to be writable by its owner alone; chmod 600 it")
            return ""
        remark = secret_file_remark(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        table.wrong(key, f"expected a readable file at {shown}: {reason}")
        return ""
    if not text:
        table.wrong(key, f"expected the addresses in {shown}, which is empty")
    elif remark:
        _log.warning("%s %s", shown, remark)
    return text


def _remark(path: Path) -> str:
    try:
        remark = secret_file_remark(path)
    except OSError:
        return ""
    return f"{path} {remark.partition(';')[0]}" if remark else ""
