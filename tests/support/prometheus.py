"""A Prometheus of the tests' own: real, on a free port of 127.0.0.1, in a folder that is gone afterwards.

Where Prometheus is not installed its tests are skipped, and the summary says so aloud. Under
BROKERWATCH_REQUIRE_PROMETHEUS=1, as in CI, they fail instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import pytest

from tests.support.clusters import PATIENCE_S, until
from tests.support.served import asked

MISSING: Final = (
    "Prometheus is not installed, so the metrics were NOT scraped by it "
    "(Debian and Ubuntu: apt install prometheus)"
)


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is. Skips the test where it is not, or fails it."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("BROKERWATCH_REQUIRE_PROMETHEUS") == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return found


def promtool(*arguments: str | Path, reads: bytes = b"") -> str:
    """What promtool says, which `reads` this from its input; it has to be content."""
    done = subprocess.run(
        (program("promtool"), *map(str, arguments)),
        input=reads,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


class Prometheus:
    """One server that runs from `with` to its end.

    Args:
        folder: where it keeps its data; the configuration stands there too.
        configuration: the text of its configuration, in YAML.
    """

    def __init__(self, folder: Path, configuration: str) -> None:
        self._program = program("prometheus")
        self._folder = folder
        (folder / "prometheus.yml").write_text(configuration, encoding="utf-8")
        self._said: list[str] = []
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            (
                self._program,
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--log.level=info",
            ),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            until(self._is_ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._said.append(line)
                # It is told the port 0, and says which one it was given.
                found = re.search(r'msg="Listening on".* address=(127\.0\.0\.1:\d+)', line)
                if found is not None:
                    self.url = f"http://{found[1]}"

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, "".join(self._said[-20:])
        return bool(self.url) and asked(self.url, "/-/ready").status == 200

    def api(self, path: str) -> Any:
        """The data that its API answers."""
        answered = asked(self.url, f"/api/v1/{path}")
        assert answered.json["status"] == "success", answered.body
        return answered.json["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What an expression is now: the labels and the value of each series."""
        data = self.api(f"query?query={quote(expression)}")
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def value(self, expression: str) -> float | None:
        """The value of the one series that an expression has; None: it has none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None
