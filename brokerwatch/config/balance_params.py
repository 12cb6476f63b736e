"""Parameters of `fetch_balance`: which account of an API key a broker is, checked before they are sent.

They are written in the configuration, so they may hold no secret. They go to the exchange, so they may
hold nothing that JSON has no word for.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

MOST_PARAMETERS: Final = 32
MAX_DEPTH: Final = 4
"""Lists and tables inside of each other; ccxt reads none that is deeper."""
MAX_CHARACTERS: Final = 256
SHORTEST_SECRET: Final = 6
"""A shorter credential, such as a number of a user, may stand in a parameter by chance."""

SECRET_NAMES: Final = frozenset(
    {
        "apikey", "secret", "apisecret", "secretkey", "password", "passphrase", "privatekey", "token",
        "authtoken", "accesstoken", "signature", "sign", "twofa", "otp", "seed", "seeds", "mnemonic",
    }
)  # fmt: skip
"""Names of parameters that would hold a secret, in lower case and without signs between the words."""
UNSPENDABLE: Final = frozenset(
    {
        "funding", "main", "savings", "earn", "staking", "swap", "future", "futures", "delivery", "option",
        "options", "contract", "perpetual", "linear", "inverse", "margin", "cross", "isolated", "papi",
    }
)  # fmt: skip
"""Wallets, by the words of exchanges for them, from which no spot order is paid."""
WALLET_NAMES: Final = ("type", "account", "accounttype", "marginmode")
"""Parameters that name such a wallet."""
ACCOUNT_OPTIONS: Final = (
    "defaultType", "defaultSubType", "defaultMarginMode", "defaultAccount", "fetchBalance", "accountId",
    "account", "accounts", "portfolio", "subaccountNumber", "subaccount_id", "subaccountId", "accountIndex",
    "tradingAccountId", "deriveWalletAddress", "vaultAddress", "marginMode", "portfolioMargin",
)  # fmt: skip
"""Options of ccxt that say which account is read, as parameters of one call do."""


def parameter_mistakes(
    params: object, secrets: Iterable[str], *, trading: bool, is_own: bool = False
) -> Iterator[str]:
    """What is wrong with parameters, in words that repeat no value.

    Args:
        params: the parameters, as they were given.
        secrets: credentials, which may not stand among them.
        trading: whether orders may be placed by this account.
        is_own: whether the balance comes from a callable of the trader's, which takes no parameters.
    """
    if not isinstance(params, Mapping):
        yield f"expected a table of parameters, not {type(params).__name__}"
        return
    given = cast("Mapping[object, object]", params)
    if given and is_own:
        yield "expected none beside a callable of your own, which asks for its balance itself"
    if len(given) > MOST_PARAMETERS:
        yield f"expected up to {MOST_PARAMETERS} parameters, not {len(given)}"
    given_secrets = cast("Iterable[object]", secrets)  # callers err
    hidden = [each for each in given_secrets if isinstance(each, str) and len(each) >= SHORTEST_SECRET]
    for name, value in given.items():
        yield from _mistakes(name, value, hidden, 1)
    for name, value in given.items():
        wallet = isinstance(name, str) and _bare(name) in WALLET_NAMES
        if trading and wallet and isinstance(value, str) and value.lower() in UNSPENDABLE:
            yield (
                f"{name}: orders are spot orders, and are paid from no {value.lower()} account; expected "
                "trading = false, or another account"
            )


def _mistakes(name: object, value: object, secrets: Iterable[str], depth: int) -> Iterator[str]:
    if not isinstance(name, str) or not name or len(name) > MAX_CHARACTERS or not name.isprintable():
        yield "expected printable names of parameters"
        return
    if _bare(name) in SECRET_NAMES:
        yield f"{name}: secrets do not belong here; expected <credential>_env or _file in the broker's table"
        return
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        for key, inner in cast("Mapping[object, object]", value).items():
            yield from (f"{name}.{text}" for text in _mistakes(key, inner, secrets, depth + 1))
    elif isinstance(value, list | tuple) and depth < MAX_DEPTH:
        for inner in cast("Iterable[object]", value):
            yield from _mistakes(name, inner, secrets, depth + 1)
    elif isinstance(value, str):
        if any(secret in value for secret in secrets):
            yield f"{name}: has a credential in it; secrets do not belong here"
        elif len(value) > MAX_CHARACTERS or not value.isprintable():
            yield f"{name}: expected printable text of up to {MAX_CHARACTERS} characters"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name}: expected a finite number"
    elif not isinstance(value, bool | int | float):
        what = "nothing deeper" if isinstance(value, Mapping | list | tuple) else type(value).__name__
        yield f"{name}: expected text, a number, true, false, or a list or a table of them, not {what}"


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def thawed(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters for one call: ccxt may change what it is given."""
    return {name: copy.deepcopy(value) for name, value in params.items()}


def shown(params: Mapping[str, Any]) -> str:
    """The parameters for people: `type = "swap", subType = "linear"`."""
    return ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in params.items())


def account_choice(params: Mapping[str, Any], options: object) -> str:
    """A name for the account of a key that parameters and ccxt's options choose; empty: the usual one."""
    chosen: dict[str, object] = {"params": dict(params)} if params else {}
    if isinstance(options, Mapping):
        given = cast("Mapping[str, object]", options)
        named = {name: given[name] for name in ACCOUNT_OPTIONS if given.get(name) is not None}
        chosen |= {"options": named} if named else {}
    if not chosen:
        return ""
    text = json.dumps(chosen, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=12, person=b"brokerwatch").hexdigest()
