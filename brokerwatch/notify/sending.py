"""Runs the process that sends, with a limit of time after which it is ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.config.redaction import REDACTED, password_spellings, redacted
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.notify.deliveries import Outcome
from brokerwatch.notify.notices import Notice, Severity

PROGRAM: Final = Path(__file__).with_name("apprise_process.py")
LIMIT_S: Final = 40.0
"""What one message may take over one channel, the start of the process included."""
HOW_TO_INSTALL: Final = (
    "messages to people need apprise, which is not installed: pip install apprise (it is the extra `notify`)"
)
_PASSED_ON: Final = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE"),
    }
)
"""What the process sees of our environment, in which there may be API keys."""
_TYPES: Final[Mapping[Severity, str]] = {
    Severity.CRITICAL: "failure",
    Severity.WARNING: "warning",
    Severity.INFO: "info",
    Severity.RECOVERY: "success",
}
"""apprise's own words for how urgent a message is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one attempt."""

    outcome: Outcome
    words: str = ""
    """Why it failed, without anything of the address."""
    final: bool = False
    """Whether another attempt cannot help: the address itself is wrong."""
    service: str = ""
    """The name of the service, where it was asked for."""


def check_installed(settings: NotifySettings) -> None:
    """Raise ConfigError, which says what to install, where these settings need apprise and it is missing."""
    try:
        is_there = find_spec("apprise") is not None
    except (ImportError, ValueError):
        is_there = False
    if settings.urls and not is_there:
        raise ConfigError((Problem("", "notify.urls", HOW_TO_INSTALL),))


class Sender:
    """Sends over one channel. One thread sends; any thread may call `stop`."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def send(self, url: str, notice: Notice) -> Answer:
        """Send a notice to this address, and wait for the outcome."""
        request = {
            "url": url,
            "title": f"[{notice.severity}] {notice.title}",
            "body": notice.body,
            "type": _TYPES[notice.severity],
        }
        return self._asked(request, url)

    def check(self, url: str) -> Answer:
        """Whether apprise can use this address. Nothing is sent."""
        return self._asked({"url": url, "check": True}, url)

    def call(self, url: str, body: str, limit_s: float) -> Answer:
        """Call this address with POST and a body of JSON."""
        return self._asked({"call": url, "body": body, "limit_s": limit_s}, url)

    def stop(self) -> None:
        """End what is under way, and start nothing any more."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None:
            process.kill()

    def _asked(self, request: Mapping[str, Any], url: str) -> Answer:
        try:
            process = self._started()
        except (OSError, ValueError) as error:
            return Answer(Outcome.FAILED, f"no process could be started: {getattr(error, 'strerror', '')}")
        if process is None:
            return Answer(Outcome.FAILED, "it is being stopped")
        text = json.dumps({**request, "path": [path for path in sys.path if path]})
        try:
            said, _ = process.communicate(text, self._limit_s)
            is_late = False
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            is_late = True
        finally:
            with self._lock:
                self._process = None
        return _answer(said, url, is_late=is_late)

    def _started(self) -> subprocess.Popen[str] | None:
        kept = {name: value for name, value in os.environ.items() if name.upper() in _PASSED_ON}
        with self._lock:
            if self._stopped:
                return None
            self._process = subprocess.Popen(  # noqa: S603 - our own file, with an address on standard input
                (sys.executable, "-I", os.fspath(PROGRAM)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=kept,
                text=True,
                start_new_session=True,  # Ctrl-C in a terminal is for us alone
            )
            return self._process


def _answer(said: str, url: str, *, is_late: bool) -> Answer:
    """What the lines of the process say; the last one counts."""
    lines = [found for line in said.splitlines() if (found := _line(line)) is not None]
    last = next((line for line in reversed(lines) if "outcome" in line), None)
    if last is not None:
        words = without_address(str(last.get("words", "")), url)
        service = str(last.get("service", ""))
        return Answer(Outcome(last["outcome"]), words, bool(last.get("final", False)), service)
    is_written = next((bool(line["written"]) for line in reversed(lines) if "written" in line), False)
    words = "it took too long" if is_late else "the process that sends has ended"
    return Answer(Outcome.UNKNOWN if is_written else Outcome.FAILED, words)


def _line(text: str) -> dict[str, Any] | None:
    try:
        found: object = json.loads(text)
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def without_address(text: str, url: str) -> str:
    """The text without the address, or a part of it that may be a secret."""
    parts = [part for part in url.replace("://", "/").replace("@", "/").replace(":", "/").split("/") if part]
    return redacted(
        text,
        sorted(password_spellings((url, *(p for p in parts if len(p) > 5))), key=len, reverse=True),
        REDACTED,
    )
