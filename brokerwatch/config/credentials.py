"""Credentials: where each is found, and whether a PEM key can be used.

ccxt would raise a bare ValueError for a broken PEM, at the first fetch and without naming the credential.
This is the only file that imports cryptography.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, cast

from brokerwatch.config.broker_spec import CREDENTIALS, BrokerSpec, Origin
from brokerwatch.config.credential_text import bare, cleaned, decoded
from brokerwatch.config.redaction import looks_secret
from brokerwatch.config.toml_table import TomlTable, type_name
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.log import logger

_log = logger(__name__)

FOLDER_OF_CREDENTIALS: Final = "credentials"
"""What the units in deploy/systemd call the folder that they load: LoadCredential=credentials:FOLDER."""


def downloaded_key(value: str) -> dict[str, str] | None:
    """The credentials in a key file as Coinbase's portal gives it; None when it is not one."""
    try:
        # A shell may have made a line end of a written one, inside the key.
        found: object = json.loads(value, strict=False) if value.startswith("{") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    parts = cast("dict[str, object]", found)
    name, key = parts.get("name", parts.get("id")), parts.get("privateKey")
    if not isinstance(name, str) or not isinstance(key, str):
        return None
    return {"api_key": name, "secret": key}


def writable_by_others(path: Path) -> bool:
    """Whether others than the owner may change what is in a file of a secret. Raises OSError."""
    return bool(path.stat().st_mode & 0o022)


def secret_file_remark(path: Path) -> str:
    """What is wrong with the permissions of a secret's file, and what to do; empty when nothing is.

    Containers mount secrets 0444, so one that others can read is worth a remark and no refusal. Raises
    OSError.
    """
    if writable_by_others(path):
        return "can be changed by other users of this machine; chmod 600 it"
    if path.stat().st_mode & 0o044:
        return "can be read by other users of this machine; chmod 600 it"
    return ""


def unreadable_pem(value: str) -> str:
    """What is wrong with a PEM private key; empty when nothing is, or when it is no PEM at all."""
    if "-----BEGIN" not in value:
        return ""
    # Imported here: a process that only listens never meets a key, and this costs it 3 MB.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(value.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return (
            "expected a PEM private key without a passphrase, and this one cannot be read; "
            "copy it whole, from -----BEGIN to -----END, with its line ends (or \\n for each)"
        )
    return ""


class Catalogue(Protocol):
    """What is known about exchanges; the gateway answers this."""

    def exchanges(self) -> frozenset[str]:
        """Every exchange id."""
        ...

    def required_credentials(self, exchange: str) -> tuple[str, ...]:
        """The credentials that an exchange cannot do without, in snake_case."""
        ...

    def account_credential(self, exchange: str) -> str:
        """The credential, in snake_case, that may say which account it is; empty: none besides."""
        ...

    def counts_nonces(self, exchange: str) -> bool:
        """Whether an exchange refuses a call whose number is not greater than those before."""
        ...

    def account_mistakes(
        self, exchange: str, credentials: Mapping[str, str], options: object, params: Mapping[str, object]
    ) -> tuple[tuple[str, str], ...]:
        """(key, what was expected) for what an account needs besides, or may not have."""
        ...


_CREDENTIAL_ABOVE: Final = "secrets do not belong in this file; expected <credential>_env or _file above"


NOT_FOR_CCXT: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            (*CREDENTIALS, "apiKey", "accountId", "privateKey", "walletAddress"), _CREDENTIAL_ABOVE
        ),
        "verbose": "ccxt would print keys and signatures; expected without this key",
    }
)
"""Options of ccxt's constructor that would put a secret where it does not belong."""


HIDDEN: Final = "(not shown: it looks like the secret itself)"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


_DEFAULT_VARIABLE: Final = {"api_key": "API_KEY", "secret": "API_SECRET", "password": "API_PASSPHRASE"}


@dataclass(slots=True)
class _Found:
    """The credentials of one broker while they are read."""

    values: dict[str, str] = field(default_factory=lambda: {})
    origins: dict[str, Origin] = field(default_factory=lambda: {})
    missing: set[str] = field(default_factory=lambda: set())
    """Those of which a mistake was noted already."""

    def keep(self, credential: str, value: str, origin: Origin) -> str:
        """One credential, or both where the value is a key file as Coinbase's portal gives it.

        Returns what is wrong with it; empty when nothing is.
        """
        text = cleaned(credential, value)
        if text.undone:
            _log.warning("%s: left out of the %s: %s", origin, credential, " and ".join(text.undone))
        from_json = downloaded_key(text.value)
        if from_json is not None:
            parts = {name: cleaned(name, part).value for name, part in from_json.items()}
            self.values = {**parts, **self.values}
            self.origins = {**dict.fromkeys(parts, origin), **self.origins}
        elif text.value and not text.mistake:
            self.values[credential] = text.value
            self.origins[credential] = origin
        else:
            self.missing.add(credential)
        return text.mistake


def credentials_of(
    name: str,
    exchange: str,
    table: TomlTable,
    folder: Path,
    catalogue: Catalogue,
    environment: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, Origin]]:
    """The credentials that the keys name, or the variables of the usual names; and where they are from."""
    found = _Found()
    for key, source in table.matching(f"({'|'.join(CREDENTIALS)})_(env|file)"):
        _named(found, key, source, table, folder, environment)
    for key, _ in table.matching("|".join(CREDENTIALS)):
        table.wrong(key, f"secrets do not belong in this file; expected {key}_env or {key}_file")
        found.missing.add(key)
    is_known = exchange in catalogue.exchanges()
    needed = catalogue.required_credentials(exchange) if is_known else ()
    besides = catalogue.account_credential(exchange) if is_known else ""
    for credential in dict.fromkeys((*needed, *_DEFAULT_VARIABLE, *([besides] if besides else ()))):
        if credential in found.values or credential in found.missing:
            continue
        variable = _usual_variable(name, credential)
        value = bare(environment.get(variable, ""))
        if value:
            mistake = found.keep(credential, value, Origin("variable", variable))
            if mistake:
                table.wrong(f"{credential}_env", f"in the environment variable {variable}: {mistake}")
        elif credential in needed:
            table.wrong(
                f"{credential}_env",
                f"expected the {credential} of {exchange} in the environment variable {variable}, "
                f"which is not set, or a key {credential}_env or {credential}_file",
            )
    for credential, value in found.values.items():
        mistake = unreadable_pem(value)
        if mistake:
            table.wrong(credential, mistake)
    return found.values, found.origins


def read_again(spec: BrokerSpec) -> Mapping[str, str]:
    """The credentials of a broker, those from files as the files have them now.

    Raises ConfigError, which names each file that cannot be used.
    """
    problems: list[Problem] = []
    table = TomlTable("", f"brokers.{spec.name}", {}, problems)
    found = _Found()
    for credential, origin in spec.origins.items():
        if origin.kind != "file" or credential in found.values:
            continue
        key = f"{credential}_file"
        mistake = found.keep(credential, read_secret(Path(origin.name), origin.name, key, table), origin)
        if mistake:
            table.wrong(key, mistake)
    for credential, value in found.values.items():
        if mistake := unreadable_pem(value):
            table.wrong(credential, mistake)
    if problems:
        raise ConfigError(tuple(problems))
    return MappingProxyType({**spec.credentials, **found.values})


def _named(
    found: _Found, key: str, source: object, table: TomlTable, folder: Path, environment: Mapping[str, str]
) -> None:
    """The credential of a key such as `api_key_env` or `secret_file`."""
    credential, _, kind = key.rpartition("_")
    if not isinstance(source, str) or not source or (kind == "env" and not _VARIABLE.fullmatch(source)):
        # The value is not shown, since it may be the secret itself.
        what = "a variable" if kind == "env" else "a file"
        but = "" if isinstance(source, str) else f", not {type_name(source)}"
        table.wrong(key, f"expected the name of {what}{but}")
        found.missing.add(credential)
        return
    if credential in found.values or credential in found.missing:
        table.wrong(key, f"expected one source of {credential}, and there are two")
    if kind == "env":
        value = bare(environment.get(source, ""))
        if not value:
            name = HIDDEN if looks_secret(source) else source
            table.wrong(
                key, f"expected the {credential} in the environment variable {name}, which is not set"
            )
        mistake = found.keep(credential, value, Origin("variable", source))
    else:
        path = secret_path(source, folder, environment)
        mistake = found.keep(credential, read_secret(path, source, key, table), Origin("file", str(path)))
    if mistake:
        table.wrong(key, mistake)


def _usual_variable(name: str, credential: str) -> str:
    """The variable of a broker's credential where its table names none: KRAKEN_MAIN_API_KEY."""
    prefix = re.sub(r"[^A-Z0-9]", "_", name.upper())
    return f"{prefix}_{_DEFAULT_VARIABLE.get(credential, credential.upper())}"


def secret_path(source: str, folder: Path, environment: Mapping[str, str]) -> Path:
    """Where a secret's file is: beside the configuration, else where systemd puts a service's credentials.

    What systemd loads of a folder, it names after the folder's own name in the unit too.
    """
    path = folder / source
    given = environment.get("CREDENTIALS_DIRECTORY")
    if not given or path.exists():
        return path
    of_folder = Path(given) / f"{FOLDER_OF_CREDENTIALS}_{source}"
    return of_folder if of_folder.exists() else Path(given) / source


def read_secret(path: Path, source: str, key: str, table: TomlTable) -> str:
    """The secret in a file that `source` names; empty with a mistake in `table` when it cannot be had."""
    try:
        value = bare(decoded(path.read_bytes()))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        where = HIDDEN if looks_secret(source) else path
        table.wrong(key, f"expected a readable file at {where}: {reason}")
        return ""
    if not value:
        table.wrong(key, f"expected the secret in {path}, which is empty")
    elif writable_by_others(path):
        table.wrong(key, f"expected {path} to be writable by its owner alone; chmod 600 it")
        return ""
    elif remark := secret_file_remark(path):
        _log.warning("%s %s", path, remark)
    return value
