"""The [http] table: what may be served where, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.config.http_settings import HttpSettings, http_mistakes
from brokerwatch.config.loader import load_cluster
from brokerwatch.config.single_tables import load_http
from brokerwatch.errors import ConfigError

TOKEN = "a-token-made-up-for-tests"


def wrong(**values: object) -> list[str]:
    return [key for key, _ in http_mistakes(HttpSettings(**{"listen": "127.0.0.1:0", **values}))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:5572", "[::1]:5572", "localhost:0", "127.0.0.1:*", "127.9.9.9:80", "[::1]:*"]
)
def test_on_loopback_nothing_else_is_needed(listen: str) -> None:
    assert http_mistakes(HttpSettings(listen=listen)) == []


@pytest.mark.parametrize(
    "listen",
    ["", "5572", ":5572", "127.0.0.1", "127.0.0.1:70000", "http://127.0.0.1:1", "::1:5572", "a.example:1",
     "127.0.0.1:-1", "127.0.0.1:1/x", "127.0.0.1 :1", "127.0.0.1:1\n"],
)  # fmt: skip
def test_an_address_that_cannot_be_is_named(listen: str) -> None:
    assert wrong(listen=listen) == ["listen"]


@pytest.mark.parametrize("listen", ["0.0.0.0:5572", "[::]:5572", "10.0.0.1:5572"])
def test_beyond_loopback_it_needs_a_token_and_tls_or_a_proxy(listen: str, tmp_path: Path) -> None:
    assert wrong(listen=listen) == ["token_file", "tls_certificate"]
    assert wrong(listen=listen, token=TOKEN) == ["tls_certificate"]
    assert wrong(listen=listen, token=TOKEN, proxies=("10.0.0.2",)) == []
    pem = tmp_path / "x.pem"
    pem.touch()
    assert wrong(listen=listen, token=TOKEN, tls_certificate=str(pem), tls_key=str(pem)) == []


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    assert wrong(token="short") == ["token_file"]
    assert wrong(token="with spaces in it, and many") == ["token_file"]
    assert wrong(tls_certificate=str(tmp_path / "none")) == ["tls_key", "tls_certificate"]
    assert wrong(proxies=("proxy.example",), hosts=("a.example:80", "https://a")) == [
        "proxies",
        "hosts",
        "hosts",
    ]


def test_the_table_is_read_from_a_file_with_every_mistake_at_once(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text('version = 1\n[http]\nlisten = "0.0.0.0:1"\ntoken_fil = "x"\nproxies = "10.0.0.1"\n')
    with pytest.raises(ConfigError) as caught:
        load_http(path)
    said = str(caught.value)
    assert "did you mean token_file?" in said
    assert "http.proxies" in said
    assert "0.0.0.0:1 is reached by other machines; expected a file with a token" in said


def test_the_token_is_read_from_a_file_beside_the_configuration_and_shown_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text('version = 1\n[http]\nlisten = "127.0.0.1:0"\ntoken_file = "token"\n')
    with pytest.raises(ConfigError, match="readable file") as caught:
        load_http(path)
    assert str(caught.value).count("token_file") == 1, "one mistake is named once"
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    http = load_http(path)
    assert http is not None
    assert http.token == TOKEN
    assert TOKEN not in repr(http)
    assert load_http(_empty(tmp_path)) is None


def test_paths_are_the_same_by_whichever_path_the_configuration_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b.toml"
    for name in ("cert.pem", "key.pem", "curve.key"):
        (tmp_path / name).touch()
    path.write_text(
        'version = 1\n[http]\nlisten = "127.0.0.1:0"\ntls_certificate = "cert.pem"\ntls_key = "key.pem"\n'
        '[curve]\nkey_file = "curve.key"\nsubscribers = "listeners"\nbrokers = "brokers"\n'
    )
    monkeypatch.chdir(tmp_path)
    assert load_http(Path("b.toml")) == load_http(path), "else a reload finds that it was changed"
    assert load_cluster(Path("b.toml")) == load_cluster(path)


def _empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.toml"
    path.write_text("version = 1\n")
    return path


def test_a_cluster_with_settings_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cluster\.http\.token_file"):
        Cluster((), ClusterSettings(http=HttpSettings(listen="0.0.0.0:1")))
