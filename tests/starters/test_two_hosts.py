"""The two hosts of docs/operate.md, from its own files and commands: a folder for each, on loopback."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import until
from tests.support.command import Done, command
from tests.support.ports import free_endpoint
from tests.support.postgres import PostgreSQL
from tests.support.programs import BROKERWATCH, ROOT, Program
from tests.support.stores import emptied

PAGE: Final = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
SECTION: Final = PAGE.partition("## Two hosts in ten minutes\n")[2].partition("\n## ")[0]
ACCOUNTS: Final = ("kraken-main", "kraken-second")


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
    return found


class Hosts:
    """Both folders, with what the page says and simulated accounts."""

    def __init__(self, folder: Path, url: str, exchange: SimulatedKraken, stack: ExitStack) -> None:
        self._stack = stack
        node, supervisor = blocks("toml")
        places = {
            "tcp://10.0.0.5:5571": free_endpoint(),
            "tcp://10.0.0.5:5573": free_endpoint(),
            "postgresql+psycopg://brokerwatch@10.0.0.5/brokerwatch": url,
        }
        for said, here in places.items():
            node, supervisor = node.replace(said, here), supervisor.replace(said, here)
        urls = "\n".join(f'{name} = "{exchange.url}"' for name in exchange.url_names)
        for name in ACCOUNTS:
            node += f"[brokers.{name}.ccxt.urls.api]\n{urls}\n"
        keys = {name: exchange.add_account() for name in ACCOUNTS}
        self.folders = {name: folder / name for name in "ab"}
        for name, host in self.folders.items():
            host.mkdir()
            files = {"node.toml": node.replace("node-a.key", f"node-{name}.key")}
            for account, key in keys.items():
                files |= {f"{account}.key": key["api_key"], f"{account}.secret": key["secret"]}
            if name == "a":
                files["supervisor.toml"] = supervisor
            for file, text in files.items():
                (host / file).write_text(text)
                (host / file).chmod(0o600)

    def says(self, host: str, line: str) -> Done:
        return command(*self._words(line), cwd=self.folders[host], environment=self._environment(host))

    def program(self, host: str, line: str) -> Program:
        made = Program(
            *BROKERWATCH, *self._words(line), "--json",
            cwd=self.folders[host], environment=self._environment(host), output=subprocess.DEVNULL,
        )  # fmt: skip
        return self._stack.enter_context(made)

    def _environment(self, host: str) -> dict[str, str]:
        return {"XDG_STATE_HOME": str(self.folders[host] / "state"), "PYTHONDONTWRITEBYTECODE": ""}

    def _words(self, line: str) -> list[str]:
        program, *words = shlex.split(line)
        assert program == "brokerwatch"
        return words


def test_two_hosts_share_the_accounts_from_the_page_alone(postgresql: PostgreSQL, tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), ExitStack() as stack:
        hosts = Hosts(tmp_path, emptied(postgresql), exchange, stack)
        _, on_b, on_a, run, check = blocks("sh")
        assert hosts.says("b", on_b.strip()).status == 0
        shutil.copy(hosts.folders["b"] / "node-b.pub", hosts.folders["a"])
        for line in on_a.splitlines():
            done = hosts.says("a", line)
            assert done.status == 0, (line, done)
        shutil.copy(hosts.folders["a"] / "desk.pub", hosts.folders["b"])

        (supervise,) = re.findall(r"`(brokerwatch supervise .*?)`", SECTION)
        supervisor = hosts.program("a", supervise)
        nodes = {host: hosts.program(host, f"{run.strip()} --name node-{host}") for host in "ab"}
        doctor, pool, status = check.splitlines()
        until(lambda: (done := hosts.says("b", pool)).status == 0 and "2 nodes, 2 API keys" in done.out)
        until(lambda: hosts.says("a", status).status == 0)
        said = hosts.says("b", doctor)
        assert said.status in (0, 3), said
        for account in ACCOUNTS:
            assert account in hosts.says("a", status).out

        nodes["a"].send(signal.SIGINT)
        assert nodes["a"].end() == 0
        until(lambda: "1 node, 2 API keys" in hosts.says("b", pool).out)
        supervisor.send(signal.SIGTERM)
        assert supervisor.end() == 0
