"""Where a secret comes from: variables, files, key files; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from brokerwatch.config.broker_spec import CREDENTIALS, BrokerSpec, Origin
from brokerwatch.config.cluster_settings import (
    ClusterSettings,
)
from brokerwatch.config.credentials import secret_file_remark, writable_by_others
from brokerwatch.gateway.catalogue import Catalogue
from tests.support.configurations import ENVIRONMENT, KEY, PASSPHRASE, SECRET, SMALLEST, Loader, Mistakes, pem


def test_credentials_come_from_variables_named_after_the_broker_by_default(loaded: Loader) -> None:
    (spec,) = loaded(
        'version = 1\n[brokers.okx-main_2]\nexchange = "okx"\n',
        {
            "OKX_MAIN_2_API_KEY": KEY,
            "OKX_MAIN_2_API_SECRET": SECRET,
            "OKX_MAIN_2_API_PASSPHRASE": PASSPHRASE,
        },
    ).brokers
    assert dict(spec.credentials) == {"api_key": KEY, "secret": SECRET, "password": PASSPHRASE}


def test_an_exchange_with_other_credentials_gets_those(loaded: Loader) -> None:
    (spec,) = loaded(
        'version = 1\n[brokers.h]\nexchange = "hyperliquid"\nprivate_key_env = "MINE"\n',
        {"MINE": SECRET, "H_WALLET_ADDRESS": "0xabc"},
    ).brokers
    assert dict(spec.credentials) == {"wallet_address": "0xabc", "private_key": SECRET}


def test_a_credential_may_stand_in_a_file_beside_the_configuration(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / "kraken.key").write_text(f"{SECRET}\n")
    (spec,) = loaded(SMALLEST + 'secret_file = "kraken.key"\n').brokers
    assert spec.credentials["secret"] == SECRET


def test_a_credential_may_stand_in_a_file_anywhere_that_others_can_read(
    loaded: Loader, tmp_path: Path
) -> None:
    secret = tmp_path / "elsewhere" / "kraken.key"
    secret.parent.mkdir()
    secret.write_text(SECRET)
    secret.chmod(0o444)  # as containers mount them
    (spec,) = loaded(SMALLEST + f'secret_file = "{secret}"\n').brokers
    assert spec.credentials["secret"] == SECRET


def test_a_pem_in_a_variable_may_have_its_line_ends_written_out(loaded: Loader) -> None:
    key = pem()
    (spec,) = loaded(SMALLEST, {**ENVIRONMENT, "K_API_SECRET": key.replace("\n", "\\n")}).brokers
    assert spec.credentials["secret"] == key


def test_a_pem_with_real_line_ends_is_taken_as_it_is(loaded: Loader) -> None:
    key = pem()
    (spec,) = loaded(SMALLEST, {**ENVIRONMENT, "K_API_SECRET": key}).brokers
    assert spec.credentials["secret"] == key


def test_what_is_no_pem_keeps_its_backslashes(loaded: Loader) -> None:
    (spec,) = loaded(SMALLEST, {**ENVIRONMENT, "K_API_SECRET": "a\\nb"}).brokers
    assert spec.credentials["secret"] == "a\\nb"


def test_the_key_file_that_coinbase_gives_is_accepted_as_it_is(loaded: Loader, tmp_path: Path) -> None:
    key = pem()
    file = tmp_path / "cdp_api_key.json"
    file.write_text(json.dumps({"name": "organizations/1/apiKeys/2", "privateKey": key}))
    file.chmod(0o600)
    text = 'version = 1\n[brokers.c]\nexchange = "coinbase"\nsecret_file = "cdp_api_key.json"\n'
    (spec,) = loaded(text, {}).brokers
    assert dict(spec.credentials) == {"api_key": "organizations/1/apiKeys/2", "secret": key}


@pytest.mark.parametrize("other", ["{", "{}", "[1]", '{"name": 1, "privateKey": "x"}', '{"privateKey": "x"}'])
def test_what_only_looks_like_a_key_file_is_a_secret_like_any_other(
    loaded: Loader, tmp_path: Path, other: str
) -> None:
    (tmp_path / "odd.key").write_text(other)
    (tmp_path / "odd.key").chmod(0o600)
    (spec,) = loaded(SMALLEST + 'secret_file = "odd.key"\n').brokers
    assert spec.credentials["secret"] == other


def test_a_secret_may_lie_where_systemd_puts_it(loaded: Loader, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "kraken.key").write_text(SECRET)
    (given / "kraken.key").chmod(0o600)
    environment = {**ENVIRONMENT, "CREDENTIALS_DIRECTORY": str(given)}
    (spec,) = loaded(SMALLEST + 'secret_file = "kraken.key"\n', environment).brokers
    assert spec.credentials["secret"] == SECRET
    (tmp_path / "kraken.key").write_text("nearer")
    (tmp_path / "kraken.key").chmod(0o600)
    (spec,) = loaded(SMALLEST + 'secret_file = "kraken.key"\n', environment).brokers
    assert spec.credentials["secret"] == "nearer", "what lies beside the configuration comes first"


def test_a_secret_of_a_folder_that_systemd_loads_is_found_by_its_own_name(
    loaded: Loader, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    # As LoadCredential=credentials:/etc/brokerwatch/credentials names each file (systemd.exec(5)).
    (given / "credentials_kraken.key").write_text(SECRET)
    (given / "credentials_kraken.key").chmod(0o400)
    environment = {**ENVIRONMENT, "CREDENTIALS_DIRECTORY": str(given)}
    (spec,) = loaded(SMALLEST + 'secret_file = "kraken.key"\n', environment).brokers
    assert spec.credentials["secret"] == SECRET


def test_each_credential_knows_where_it_was_found(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / "kraken.key").write_text(SECRET)
    (tmp_path / "kraken.key").chmod(0o600)
    text = SMALLEST + 'api_key_env = "KRAKEN_MASTER_API_KEY"\nsecret_file = "kraken.key"\n'
    (spec,) = loaded(text).brokers
    assert spec.origins == {
        "api_key": Origin("variable", "KRAKEN_MASTER_API_KEY"),
        "secret": Origin("file", str(tmp_path / "kraken.key")),
    }
    (spec,) = loaded(SMALLEST).brokers
    assert [str(origin) for origin in spec.origins.values()] == ["$K_API_KEY", "$K_API_SECRET"]


def test_both_credentials_of_a_downloaded_key_file_are_from_that_file(loaded: Loader, tmp_path: Path) -> None:
    path = tmp_path / "cdp.json"
    path.write_text(json.dumps({"name": "organizations/1/apiKeys/2", "privateKey": pem()}))
    path.chmod(0o600)
    (spec,) = loaded(
        'version = 1\n[brokers.c]\nexchange = "coinbase"\nsecret_file = "cdp.json"\n', {}
    ).brokers
    assert spec.origins == dict.fromkeys(("api_key", "secret"), Origin("file", str(path)))


def test_where_a_credential_was_found_makes_no_other_account_and_is_not_shown(loaded: Loader) -> None:
    (spec,) = loaded(SMALLEST).brokers
    bare = replace(spec, origins={})
    assert spec == bare
    assert "origins" not in repr(spec)
    assert not BrokerSpec("k", exchange="kraken").origins, "what a program gives is from nowhere"


@pytest.mark.parametrize(
    ("mode", "refused", "word"),
    [
        (0o600, False, ""),
        (0o400, False, ""),
        (0o640, False, "read"),
        (0o444, False, "read"),
        (0o620, True, "changed"),
        (0o602, True, "changed"),
    ],
)
def test_what_the_permissions_of_a_key_file_mean(tmp_path: Path, mode: int, refused: bool, word: str) -> None:
    path = tmp_path / "x.key"
    path.touch()
    path.chmod(mode)
    assert writable_by_others(path) is refused
    assert (word in secret_file_remark(path)) if word else not secret_file_remark(path)


BROKEN_PEMS: Final[Mapping[str, Callable[[str], str]]] = {
    "cut in half": lambda key: key[: len(key) // 2],
    "the middle lost": lambda key: "\n".join((key.splitlines()[0], *key.splitlines()[2:])),
    "only the first line": lambda key: key.splitlines()[0],
    "of another kind": lambda key: key.replace("EC PRIVATE", "RSA PRIVATE"),
}


@pytest.mark.parametrize("spoil", BROKEN_PEMS.values(), ids=BROKEN_PEMS)
def test_a_pem_that_cannot_be_read_is_one_problem_without_the_key_in_it(
    mistakes: Mistakes, spoil: Callable[[str], str]
) -> None:
    key = pem()
    (problem,) = mistakes(SMALLEST, {**ENVIRONMENT, "K_API_SECRET": spoil(key)})
    assert problem.key.startswith("brokers.k.secret")
    assert "expected a PEM private key" in problem.expected
    assert not any(line in str(problem) for line in key.splitlines()[1:-1])


def test_a_pem_with_a_passphrase_is_one_problem_that_says_so(mistakes: Mistakes) -> None:
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush")
    )
    (problem,) = mistakes(SMALLEST, {**ENVIRONMENT, "K_API_SECRET": locked.decode()})
    assert "without a passphrase" in problem.expected


def test_an_unset_variable_and_an_empty_one_are_the_same(mistakes: Mistakes) -> None:
    assert mistakes(SMALLEST, {"K_API_KEY": "", "K_API_SECRET": SECRET}) == mistakes(
        SMALLEST, {"K_API_SECRET": SECRET}
    )


def test_secrets_are_never_shown(loaded: Loader) -> None:
    found = loaded(SMALLEST + f'[brokers.k.ccxt]\nheaders = {{ token = "{PASSPHRASE}" }}\n')
    assert found.brokers[0].credentials["secret"] == SECRET
    assert found.brokers[0].ccxt["headers"] == {"token": PASSPHRASE}
    cluster = ClusterSettings(store=f"postgresql://me:{SECRET}@host/db")
    for shown in (repr(found), str(found), repr(found.brokers[0]), str(found.brokers), repr(cluster)):
        assert not any(secret in shown for secret in (KEY, SECRET, PASSPHRASE))


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_a_credential_in_the_file_is_refused_without_printing_it(mistakes: Mistakes, credential: str) -> None:
    (problem,) = mistakes(SMALLEST + f'{credential} = "{PASSPHRASE}"\n')
    assert problem.key == f"brokers.k.{credential}"
    assert f"expected {credential}_env or {credential}_file" in problem.expected
    assert PASSPHRASE not in str(problem)


def test_every_credential_that_any_exchange_requires_can_be_configured() -> None:
    catalogue = Catalogue()
    required = {one: catalogue.required_credentials(one) for one in catalogue.exchanges()}
    assert {one: names for one, names in required.items() if not set(names) <= set(CREDENTIALS)} == {}
    assert set(required["kraken"]) == {"api_key", "secret"}
    assert set(required["okx"]) == {"api_key", "secret", "password"}


def test_every_credential_that_ccxt_has_can_be_configured() -> None:
    catalogue = Catalogue()
    seen = {name for one in catalogue.exchanges() for name in catalogue.required_credentials(one)}
    assert {"api_key", "secret", "password", "uid", "private_key", "wallet_address"} <= seen


def test_a_secret_that_stands_where_a_variable_should_is_not_repeated(mistakes: Mistakes) -> None:
    (problem,) = mistakes(SMALLEST + 'secret_env = "c2VjcmV0/+aa=="\n')
    assert problem.key == "brokers.k.secret_env"
    assert "c2VjcmV0" not in str(problem)


@pytest.mark.parametrize("key", ["apiKey", "secret", "privateKey", "verbose"])
def test_nothing_secret_and_nothing_that_prints_secrets_goes_to_ccxt_from_the_file(
    mistakes: Mistakes, key: str
) -> None:
    (problem,) = mistakes(SMALLEST + f'[brokers.k.ccxt]\n{key} = "c2VjcmV0"\n')
    assert problem.key == f"brokers.k.ccxt.{key}"
    assert "c2VjcmV0" not in str(problem)


# --- what stands around a key ---------------------------------------------------------------------


@pytest.mark.parametrize("named", ["", 'api_key_env = "K_API_KEY"\nsecret_env = "K_API_SECRET"\n'])
@pytest.mark.parametrize("around", ["{}\n", '"{}"', "\ufeff{}\r\n", "export X_KEY={}"])
def test_a_key_of_the_environment_is_taken_without_what_stands_around_it(
    loaded: Loader, around: str, named: str
) -> None:
    variables = {"K_API_KEY": around.format(KEY), "K_API_SECRET": around.format(SECRET)}
    (spec,) = loaded(SMALLEST + named, variables).brokers
    assert spec.credentials == {"api_key": KEY, "secret": SECRET}


def test_a_key_file_may_be_written_by_windows_and_hold_an_assignment(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / "kraken.key").write_bytes(f'$env:K_SECRET="{SECRET}"\r\n'.encode("utf-16"))
    (tmp_path / "kraken.key").chmod(0o600)
    (spec,) = loaded(SMALLEST + 'secret_file = "kraken.key"\n').brokers
    assert spec.credentials["secret"] == SECRET


def test_the_key_file_that_coinbase_gives_may_stand_in_the_usual_variable(loaded: Loader) -> None:
    key = pem()
    written = json.dumps({"name": "organizations/1/apiKeys/2", "privateKey": key})
    for text in (written, f"'{written}'\n", "\ufeff" + written.replace("\\n", "\n")):
        (spec,) = loaded('version = 1\n[brokers.c]\nexchange = "coinbase"\n', {
            "C_API_SECRET": text, "C_API_KEY": "organizations/1/apiKeys/2"
        }).brokers  # fmt: skip
        assert dict(spec.credentials) == {"api_key": "organizations/1/apiKeys/2", "secret": key}


@pytest.mark.parametrize("named", ["", 'secret_env = "K_API_SECRET"\n'])
def test_a_key_that_cannot_be_one_is_named_once_and_not_repeated(mistakes: Mistakes, named: str) -> None:
    (problem,) = mistakes(SMALLEST + named, {**ENVIRONMENT, "K_API_SECRET": f"{SECRET} {SECRET}"})
    assert problem.key == "brokers.k.secret_env"
    assert "U+0020 (space)" in problem.expected
    assert SECRET not in str(problem)


def test_a_variable_of_blanks_is_one_that_is_not_set(mistakes: Mistakes) -> None:
    (problem,) = mistakes(SMALLEST, {**ENVIRONMENT, "K_API_SECRET": " \n"})
    assert "which is not set" in problem.expected
