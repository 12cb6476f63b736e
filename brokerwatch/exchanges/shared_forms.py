"""The forms of a balance that several ids or account types share, and short words to write any form in."""

from __future__ import annotations

from typing import Final

from brokerwatch.exchanges.row_forms import ITSELF, Form, Forms, Key, Rows


def _keys(text: str) -> tuple[Key, ...]:
    return tuple(text.split())


def rows(at: str, code: Key, free: str = "", used: str = "", total: str = "", **more: object) -> Rows:
    """Rows whose path and keys are written as words; `at` a path with points."""
    path = tuple(int(step) if step.isdigit() else step for step in at.split(".") if step)
    return Rows(at=path, code=code, free=_keys(free), used=_keys(used), total=_keys(total), **more)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - the rest of the fields of Rows


def owing(at: str, code: Key, free: str = "", used: str = "", total: str = "", **more: object) -> Rows:
    """The same where an amount may be less than nothing."""
    return rows(at, code, free, used, total, may_owe=True, **more)


def one_of(*forms: Form) -> Forms:
    return Forms(together=(forms,))


BINANCE: Final = one_of(
    rows("balances.*", "asset", "free", "locked"),
    rows("userAssets.*", "asset", "free", "locked"),
    owing(
        "assets.*", "asset", "availableBalance", "initialMargin", "marginBalance", stale=("updateTime", "0")
    ),
    rows("*", "asset", "free", "freeze locked withdrawing"),
    # Portfolio margin: what ccxt takes for free there is the balance of a wallet, margin and all.
    owing(
        "*",
        "asset",
        total="totalWalletBalance umWalletBalance umUnrealizedPNL cmWalletBalance cmUnrealizedPNL",
        computed=True,
    ),
    owing("*", "asset", "availableBalance", "", "balance", stale=("updateTime", "0")),
)
BINANCE_CROSS: Final = one_of(
    rows("userAssets.*", "asset", "free", "locked"),
    owing("*", "asset", "crossMarginFree", "crossMarginLocked", "crossMarginAsset"),
)
ISOLATED: Final = Forms(
    together=(
        (rows("assets.*.baseAsset", "asset", "free", "locked"),),
        (rows("assets.*.quoteAsset", "asset", "free", "locked"),),
    ),
    adds_up=True,
    in_pairs=True,
)
GATE: Final = Forms(
    together=(
        (
            rows("*", "currency", "available", "locked"),
            rows("*", "currency", "available", "freeze"),
            owing("*", "currency", "available", "", "total"),
            rows("balances.{}", ITSELF, "available", "freeze"),
        ),
    ),
)
HITBTC: Final = one_of(rows("*", "currency", "available", "reserved"))
BYBIT: Final = Forms(
    together=(
        (
            owing("result.list.*.coin.*", "coin", "availableToWithdraw", "", "walletBalance"),
            owing("result.list.*.coin.*", "coin", "free", "", "walletBalance"),
            owing("result.list.*.coin.*", "coin", "", "locked totalPositionIM totalOrderIM", "walletBalance"),
            rows("result.loanAccountList.*", "tokenId", "free", "locked", "total"),
            rows("result.balance.*", "coin", "transferBalance", "", "walletBalance"),
        ),
    ),
)
KUCOIN: Final = Forms(
    together=(
        (
            rows("data.*", "currency", "available", "holds", "balance", only=("type", "trade")),
            owing("data.accounts.*.currencies.*", "currency", "available", "hold", "balance"),
            owing("data.accounts.*.currencies.*", "currency", "available", "hold", "total"),
            owing("data.accounts.*", "currency", "available", "hold", "total"),
            owing("data.accounts.*", "currency", "availableBalance", "holdBalance", "totalBalance"),
            owing("data", "currency", "availableBalance", "", "accountEquity"),
        ),
    ),
)
HOLDING: Final = one_of(owing("holding.*", "token", "", "frozen", "holding"))
