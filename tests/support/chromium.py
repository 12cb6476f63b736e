"""A real Chromium for tests, driven over its DevTools protocol. Debian has it: `apt install chromium`.

One browser serves all tests of a module; each test opens a page of its own in it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import pytest

from tests.support.clusters import LOOK_S, PATIENCE_S

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
KEYS: Final[Mapping[str, tuple[int, str]]] = {
    "Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, ""), "Space": (32, " "),
    "ArrowLeft": (37, ""), "ArrowRight": (39, ""), "End": (35, ""), "Home": (36, ""),
}  # fmt: skip
"""Key to its code and its text."""
OPTIONS: Final = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
ASKED_FOR: Final = "BROKERWATCH_REQUIRE_CHROMIUM"
"""Set where a missing browser is a failure, and no reason to skip."""


def program() -> str:
    """The browser. Where there is none the test is skipped with what to install, or fails."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        missing = "there is no Chromium; Debian: apt install chromium"
        if os.environ.get(ASKED_FOR):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class Browser:
    """A browser that runs. For one thread; leave it with `close`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            (program(), *OPTIONS, f"--user-data-dir={self._folder.name}", "about:blank"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._folder.name},
        )
        self._runner = asyncio.Runner()
        try:
            self._port = self._listening()
            self._session = self._runner.run(_session())
        except BaseException:
            self._end()
            raise

    def _listening(self) -> int:
        written = Path(self._folder.name) / "DevToolsActivePort"
        for _ in range(round(PATIENCE_S / LOOK_S)):
            if written.exists() and (lines := written.read_text().split()):
                return int(lines[0])
            if self._process.poll() is not None:
                raise AssertionError(f"the browser ended with {self._process.returncode}")
            time.sleep(LOOK_S)
        raise AssertionError("the browser did not start")

    @contextmanager
    def page(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> Generator[Page]:
        """A page of its own, without the cookies of the ones before."""
        page = Page(self._runner, self._session, self._port)
        try:
            page.call("Network.clearBrowserCookies")
            page.look(width=width, height=height, dark=dark)
            yield page
        finally:
            page.close()

    def close(self) -> None:
        """End the browser, and with it every page."""
        try:
            self._runner.run(self._session.close())
        finally:
            self._end()

    def _end(self) -> None:
        self._runner.close()
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Page:
    """One page of a browser: what it shows, and everything that it asked for and complained of."""

    def __init__(self, runner: asyncio.Runner, session: aiohttp.ClientSession, port: int) -> None:
        self._runner = runner
        self._session = session
        self._devtools = f"http://127.0.0.1:{port}"
        self._ids = itertools.count(1)
        self.requests: list[str] = []
        """Every URL that it asked for."""
        self.complaints: list[str] = []
        """Exceptions, errors in the console, and what the Content-Security-Policy refused."""

        async def opened() -> tuple[aiohttp.ClientWebSocketResponse, str]:
            async with session.put(f"{self._devtools}/json/new?about:blank") as made:
                target = await made.json(content_type=None)
            url = str(target["webSocketDebuggerUrl"])
            return await session.ws_connect(url, max_msg_size=0), str(target["id"])

        self._socket, self._target = runner.run(opened())
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Close it."""

        async def closed() -> None:
            await self._socket.close()
            async with self._session.get(f"{self._devtools}/json/close/{self._target}") as answer:
                await answer.read()

        self._runner.run(closed())

    def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its result."""
        number = next(self._ids)

        async def said() -> Any:
            await self._socket.send_str(json.dumps({"id": number, "method": method, "params": params}))
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    told = await self._socket.receive_json()
                    if told.get("id") == number:
                        return told
                    self._note(told)

        told = self._runner.run(said())
        if "error" in told:
            raise AssertionError(f"{method}: {told['error']}")
        return told["result"]

    def _note(self, told: Mapping[str, Any]) -> None:
        params = told.get("params", {})
        match told.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.complaints.append(f"{params['entry'].get('url', '')} {params['entry']['text']}")
            case "Runtime.consoleAPICalled" if params["type"] == "error":
                self.complaints.append(str(params["args"]))
            case _:
                pass

    def look(self, *, width: int, height: int, dark: bool = False) -> None:
        """Be so large, and of this colour scheme."""
        size: dict[str, Any] = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 500,
        }
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go there."""
        self.call("Page.navigate", url=url)

    def find(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, expression: str, patience_s: float = PATIENCE_S) -> None:
        """Until an expression is true."""
        until_s = time.monotonic() + patience_s
        asked = f"(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        while not self.find(asked):
            if time.monotonic() > until_s:
                text = self.find("document.body.innerText")
                raise AssertionError(
                    f"not true within {patience_s:g} s: {expression}\n{text}\n{self.complaints}"
                )
            time.sleep(LOOK_S)

    def text(self, selector: str) -> str:
        """What stands there."""
        return str(self.find(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str, times: int = 1) -> None:
        """Press a key."""
        code, text = KEYS[key]
        named = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
            self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def write(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def tab_to(self, selector: str, most: int = 60) -> None:
        """Press Tab until the focus is there."""
        for _ in range(most):
            if self.find(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise AssertionError(f"the focus never came to {selector}")

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what it shows as a PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()
