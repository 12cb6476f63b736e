"""The [http] table: where the page, the API and the metrics are served, and who may see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

from brokerwatch.config.credentials import read_secret, secret_path
from brokerwatch.config.toml_table import TomlTable

DEFAULT_HTTP_PORT: Final = 5572
HTTP_KEYS: Final = ("listen", "token_file", "tls_certificate", "tls_key", "hosts", "proxies")
"""The keys of the table."""
SHORTEST_TOKEN: Final = 16
"""Characters. Each answer to a wrong token is delayed, and still a short one can be guessed."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where and how HTTP is served. The values are checked with those of the cluster."""

    listen: str = ""
    """`127.0.0.1:5572`; `*` or 0 as the port: any free one. Empty: no HTTP is served."""
    token: str = field(default="", repr=False)
    """What a reader has to show; empty: on loopback every reader is let in, and no operator's command is."""
    tls_certificate: str = ""
    """A PEM file with the certificate and its chain …"""
    tls_key: str = ""
    """… and one with its private key. Empty: plain HTTP."""
    hosts: tuple[str, ...] = ()
    """Names by which readers reach it, beside IP addresses and `localhost`; a proxy's name is one."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks of the reverse proxies in front of it; what they forward is believed, and of no
    other sender."""

    @property
    def host(self) -> str:
        """The address part of `listen`."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of `listen`; 0: any free one."""
        port = self.listen.rpartition(":")[2]
        return 0 if port == "*" else int(port)

    @property
    def beyond_loopback(self) -> bool:
        """Whether other machines reach it."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def http_of(table: TomlTable, folder: Path, environment: Mapping[str, str]) -> HttpSettings:
    """What the [http] table says. Paths count from the folder of the configuration."""
    source = table.text("token_file", "")
    certificate, key = table.text("tls_certificate", ""), table.text("tls_key", "")
    http = HttpSettings(
        listen=table.text("listen", ""),
        token=read_secret(secret_path(source, folder, environment), source, "token_file", table)
        if source
        else "",
        # Absolute: a reload reads the file by another path, and what is the same has to look the same.
        tls_certificate=str(folder.absolute() / certificate) if certificate else "",
        tls_key=str(folder.absolute() / key) if key else "",
        hosts=table.texts("hosts", ()),
        proxies=table.texts("proxies", ()),
    )
    table.end(", ".join(HTTP_KEYS))
    for wrong, expected in http_mistakes(http):
        # A token that could not be read is named already.
        if not (wrong == "token_file" and source and not http.token):
            table.wrong(wrong, expected)
    return http


def http_mistakes(http: HttpSettings) -> list[tuple[str, str]]:
    """(key, what was expected) for each value of the [http] table that cannot be."""
    found: list[tuple[str, str]] = []
    if not http.listen:
        return [("listen", f"expected an address, such as 127.0.0.1:{DEFAULT_HTTP_PORT}")]
    if mistake := _listen_mistake(http.listen):
        return [("listen", mistake)]
    if http.token and len(http.token) < SHORTEST_TOKEN:
        found.append(("token_file", f"expected a token of {SHORTEST_TOKEN} characters or more"))
    if http.token and not re.fullmatch(r"[!-~]+", http.token):
        found.append(("token_file", "expected a token of printable ASCII characters without spaces"))
    if bool(http.tls_certificate) != bool(http.tls_key):
        missing = "tls_key" if http.tls_certificate else "tls_certificate"
        found.append((missing, "expected tls_certificate and tls_key together"))
    for key in ("tls_certificate", "tls_key"):
        path: str = getattr(http, key)
        if path and not Path(path).is_file():
            found.append((key, f"expected a PEM file; there is none at {path}"))
    for proxy in http.proxies:
        try:
            ip_network(proxy, strict=False)
        except ValueError:
            found.append(("proxies", f"expected addresses such as 10.0.0.2 or 10.0.0.0/24, not {proxy!r}"))
    for host in http.hosts:
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?", host):
            found.append(("hosts", f"expected names such as watch.example.org, without a port, not {host!r}"))
    if http.beyond_loopback:
        if not http.token:
            found.append(
                ("token_file", f"{http.listen} is reached by other machines; expected a file with a token")
            )
        if not http.tls_certificate and not http.proxies:
            found.append(
                (
                    "tls_certificate",
                    f"{http.listen} is reached by other machines; expected tls_certificate and tls_key, or "
                    "the addresses of the proxies that do TLS, in proxies",
                )
            )
    return found


def _listen_mistake(listen: str) -> str:
    expected = f"expected ADDRESS:PORT, such as 127.0.0.1:{DEFAULT_HTTP_PORT} or [::1]:{DEFAULT_HTTP_PORT}"
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/@?#\s]+)):([0-9]{1,5}|\*)", listen)
    if match is None or (match[3] != "*" and int(match[3]) > 65_535):
        return f"{expected}, not {listen!r}"
    host = match[1] or match[2]
    try:
        ip_address(host)
    except ValueError:
        if host != "localhost":
            return f"{expected}; the address has to be an IP address or localhost, not {host!r}"
    return ""
