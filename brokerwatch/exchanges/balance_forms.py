"""Where each exchange that only ccxt knows states the amounts of a balance, and under which keys.

The keys are those that `fetch_balance` and the parsers of each exchange read in ccxt 4.5.90, whose comments
quote the exchange's own documentation. Of an exchange that is not in the table, ccxt's amounts are taken as
they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from brokerwatch.exchanges.row_forms import EACH, ITSELF, NAMED, Columns, Flat, Form, Forms, Key, Rows, Typed


def _keys(text: str) -> tuple[Key, ...]:
    return tuple(text.split())


def _rows(at: str, code: Key, free: str = "", used: str = "", total: str = "", **more: object) -> Rows:
    """Rows whose path and keys are written as words; `at` a path with points."""
    path = tuple(int(step) if step.isdigit() else step for step in at.split(".") if step)
    return Rows(at=path, code=code, free=_keys(free), used=_keys(used), total=_keys(total), **more)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - the rest of the fields of Rows


def _owing(at: str, code: Key, free: str = "", used: str = "", total: str = "", **more: object) -> Rows:
    """The same where an amount may be less than nothing."""
    return _rows(at, code, free, used, total, may_owe=True, **more)


def _one_of(*forms: Form) -> Forms:
    return Forms(together=(forms,))


_BINANCE: Final = _one_of(
    _rows("balances.*", "asset", "free", "locked"),
    _rows("userAssets.*", "asset", "free", "locked"),
    _owing("assets.*", "asset", "availableBalance", "initialMargin", "marginBalance"),
    _rows("*", "asset", "free", "freeze locked withdrawing"),
    _rows("*", "asset", "crossMarginFree", "crossMarginLocked", "crossMarginAsset"),
    _owing("*", "asset", "availableBalance", "", "balance"),
)
_GATE: Final = Forms(
    together=(
        (
            _rows("*", "currency", "available", "locked"),
            _rows("*", "currency", "available", "freeze"),
            _owing("*", "currency", "available", "", "total"),
            _rows("balances.{}", ITSELF, "available", "freeze"),
        ),
    ),
)
_HITBTC: Final = _one_of(_rows("*", "currency", "available", "reserved"))
_BYBIT: Final = Forms(
    together=(
        (
            _owing("result.list.*.coin.*", "coin", "availableToWithdraw", "", "walletBalance"),
            _owing("result.list.*.coin.*", "coin", "free", "", "walletBalance"),
            _owing(
                "result.list.*.coin.*", "coin", "", "locked totalPositionIM totalOrderIM", "walletBalance"
            ),
            _rows("result.loanAccountList.*", "tokenId", "free", "locked", "total"),
            _rows("result.balance.*", "coin", "transferBalance", "", "walletBalance"),
        ),
    ),
)
_KUCOIN: Final = Forms(
    together=(
        (
            _rows("data.*", "currency", "available", "holds", "balance", only=("type", "trade")),
            _owing("data.accounts.*.currencies.*", "currency", "available", "hold", "balance"),
            _owing("data.accounts.*.currencies.*", "currency", "available", "hold", "total"),
            _owing("data.accounts.*", "currency", "available", "hold", "total"),
            _owing("data.accounts.*", "currency", "availableBalance", "holdBalance", "totalBalance"),
            _owing("data", "currency", "availableBalance", "", "accountEquity"),
        ),
    ),
)
_HOLDING: Final = _one_of(_owing("holding.*", "token", "", "frozen", "holding"))


FORMS: Final[Mapping[str, Forms]] = MappingProxyType(
    {
        "alpaca": Forms(
            together=(
                (_owing("account", "currency", "cash", "", "equity position_market_value", computed=True),),
                (_rows("positions.*", "symbol", "qty_available", "", "qty"),),
            ),
            leaves_out=True,
        ),
        "apex": _one_of(_owing("", ITSELF, "availableBalance", "", "totalEquityValue", always="USDT")),
        "aster": _one_of(
            _rows("*", "asset", "free", "locked"),
            _owing("*", "asset", "availableBalance", "", "balance"),
        ),
        "backpack": Forms(together=((_rows("{}", ITSELF, "available", "locked staked"),),), from_body=True),
        "bequant": _HITBTC,
        "bigone": _one_of(_rows("data.*", "asset_symbol", "", "locked_balance", "balance")),
        "binance": _BINANCE,
        "binancecoinm": _BINANCE,
        "binanceus": _BINANCE,
        "binanceusdm": _BINANCE,
        "bingx": _one_of(
            _rows("data.balances.*", "asset", "free", "locked"),
            _rows("data.assets.*", "asset", "free", "locked"),
            _owing("data.*", "asset", "availableMargin", "usedMargin"),
            _owing("data.*", "asset", "availableBalance", "", "maxWithdrawAmount"),
        ),
        "bit2c": _one_of(Flat(free="AVAILABLE_{}", total="{}")),
        "bitbank": _one_of(_rows("data.assets.*", "asset", "free_amount", "locked_amount", "onhand_amount")),
        "bitbns": _one_of(Flat(at=("data",), free="availableorder{}", used="inorder{}")),
        "bitfinex": _one_of(
            Rows(at=(EACH,), code=1, free=(4,), total=(2,), only=(0, "exchange"), may_owe=True)
        ),
        "bitflyer": _one_of(_rows("*", "currency_code", "available", "", "amount")),
        "bitget": _one_of(
            _rows("*", "coin", "available", "frozen locked"),
            _owing("*", "coin", "transferable", "", "totalAmount"),
            _owing("*", "coin", total="totalAmount"),  # as it is documented
            _owing("*", "marginCoin", "maxTransferOut", "", "accountEquity"),
            _owing("data.assets.*", "coin", "available", "locked", "equity"),
            _owing("data.assets.*", "coin", "available", "locked", "balance"),
            _rows("data.*", "coin", "available", "frozen", "balance"),
        ),
        "bithumb": _one_of(
            _rows("*", "currency", "balance", "locked"),
            Flat(at=("data",), free="available_{}", used="in_use_{}", total="total_{}"),
        ),
        "bitopro": _one_of(_rows("*", "currency", "available", "", "amount", tradable=("tradable", "true"))),
        "bitrue": _one_of(
            _rows("balances.*", "asset", "free", "locked"),
            _rows("account.*", "marginCoin", "accountNormal", "accountLock"),
        ),
        "bitso": _one_of(_rows("payload.balances.*", "currency", "available", "locked", "total")),
        "bitstamp": _one_of(_rows("*", "currency", "available", "reserved", "total")),
        "bitteam": _one_of(
            Rows(
                at=("result", NAMED),
                free=("free",),
                used=("used",),
                total=("total",),
                beside=frozenset({"free", "used", "total"}),
            )
        ),
        "bittrade": _one_of(Typed(at=("data", "list", EACH), tradable=("/data.state", "working"))),
        "bitvavo": _one_of(_rows("*", "symbol", "available", "inOrder")),
        "blockchaincom": _one_of(_rows("primary.*", "currency", "available", "", "balance")),
        "blofin": _one_of(
            _owing("data.details.*", "currency", "available", "", "equity"),
            _rows("data.*", "currency", "available", "frozen", "balance"),
        ),
        "btcbox": _one_of(Flat(free="{}_balance", used="{}_lock")),
        "btcmarkets": _one_of(_rows("*", "assetName", "", "locked", "balance")),
        "btcturk": _one_of(_rows("data.*", "asset", "free", "locked", "balance")),
        "btse": Forms(
            together=(
                (
                    _rows("*", "asset", "availableAmount", "", "totalAmount"),
                    _rows("*", "currency", "available", "", "total"),
                ),
            ),
            adds_up=True,
        ),
        "bullish": _one_of(_rows("*", "assetSymbol", "", "lockedQuantity", "availableQuantity")),
        "bybit": _BYBIT,
        "bybiteu": _BYBIT,
        "bybitid": _BYBIT,
        "bydfi": _one_of(
            _rows("*", "asset", "available", "", "total"),
            _owing("*", "asset", "availableBalance", "", "balance"),
        ),
        "cex": _one_of(_rows("{}", ITSELF, "", "balanceOnHold", "balance")),
        "coinbaseexchange": _one_of(
            _rows("*", "currency", "available", "hold", "balance", tradable=("trading_enabled", "true"))
        ),
        "coinbaseinternational": _one_of(
            _owing("*", "currency", "available_funds", "", "margin_balance"),
            _owing("summaries.*", "currency", "available_funds", "", "equity"),
        ),
        "coincheck": _one_of(Flat(free="{}", used="{}_reserved")),
        "coinmate": _one_of(_rows("data.{}", ITSELF, "available", "reserved", "balance")),
        "coinone": _one_of(
            Rows(
                at=(NAMED,),
                free=("avail",),
                total=("balance",),
                beside=frozenset({"errorCode", "result", "normalWallets"}),
            )
        ),
        "coinsph": _one_of(_rows("balances.*", "asset", "free", "locked")),
        "coinspot": _one_of(
            _rows("balances.*.{}", ITSELF, total="balance"),
            _rows("balance.*.{}", ITSELF, total="balance"),
            Rows(at=("balance", NAMED), total=(ITSELF,)),
        ),
        "cryptocom": _one_of(
            _owing("result.data.0.position_balances.*", "instrument_name", "", "reserved_qty", "quantity")
        ),
        "cryptomus": _one_of(_rows("*", "ticker", "available", "held")),
        "deepcoin": _one_of(_rows("data.*", "ccy", "availBal", "frozenBal", "bal")),
        "delta": _one_of(_owing("result.*", "asset_id", "available_balance", "", "balance")),
        "deribit": _one_of(
            _owing("summaries.*", "currency", "available_funds", "maintenance_margin", "equity"),
            _owing("", "currency", "available_funds", "maintenance_margin", "equity"),
        ),
        # Its margins are negative numbers; all that they hold is held in USDC.
        "derive": Forms(
            together=(
                (_owing("*.collaterals.*", "currency", total="amount"),),
                (
                    _rows(
                        "*",
                        ITSELF,
                        "",
                        "positions_initial_margin open_orders_margin",
                        always="USDC",
                        signed=True,
                        computed=True,
                    ),
                ),
            ),
            adds_up=True,
        ),
        "digifinex": _one_of(
            _rows("*", "currency", "free", "", "total"),
            _owing("*", "currency", "avail_balance", "", "equity"),
        ),
        "dydx": _one_of(_owing("", ITSELF, "freeCollateral", always="USDC")),
        "extended": _one_of(_rows("*", "asset", "availableToWithdraw", "", "balance")),
        "fmfwio": _HITBTC,
        "foxbit": _one_of(
            _rows("data.*", "currency_symbol", "balance_available", "balance_locked", "balance")
        ),
        "gate": _GATE,
        "gateeu": _GATE,
        "gemini": _one_of(_rows("*", "currency", "available", "", "amount")),
        # What is free there is that of the whole account, and ccxt gives it to each currency.
        "grvt": _one_of(
            _rows("spot_balances.*", "currency", "/available_balance", "", "balance", may_owe=True, sole=True)
        ),
        "hashkey": _one_of(
            _rows("balances.*", "asset", "free", "locked", "total"),
            _owing("", "asset", "", "positionMargin orderMargin", "balance"),
        ),
        "hibachi": _one_of(_owing("", ITSELF, "maximalWithdraw", "", "balance", always="USDT")),
        "hitbtc": _HITBTC,
        "hollaex": _one_of(Flat(free="{}_available", total="{}_balance")),
        "htx": _one_of(
            Typed(at=("data", "list", EACH), tradable=("/data.state", "working")),
            _owing("data.details.*", "currency", "available_margin", "", "equity"),
            _owing("data.*", "symbol", "margin_available", "margin_frozen"),
        ),
        "hyperliquid": _one_of(
            _owing("balances.*", "coin", "", "hold", "total"),
            _owing("marginSummary", ITSELF, "", "totalMarginUsed", "accountValue", always="USDC"),
        ),
        "independentreserve": _one_of(
            _rows(
                "*",
                "CurrencyCode",
                "AvailableBalance",
                "",
                "TotalBalance",
                tradable=("AccountStatus", "Active"),
            )
        ),
        "indodax": _one_of(Columns(free=("return", "balance"), used=("return", "balance_hold"))),
        "krakenfutures": _one_of(
            _owing("accounts.flex.currencies.{}", ITSELF, "available", "", "quantity"),
            Rows(at=("accounts", "cash", "balances", NAMED), free=(ITSELF,), total=(ITSELF,)),
        ),
        "kucoin": _KUCOIN,
        "kucoinfutures": _KUCOIN,
        "latoken": _one_of(
            _rows(
                "*",
                "currency",
                "available",
                "blocked",
                only=("type", "ACCOUNT_TYPE_SPOT"),
                tradable=("status", "ACCOUNT_STATUS_ACTIVE"),
            )
        ),
        "lbank": _one_of(
            _rows("data.*", "coin", "usableAmt", "freezeAmt"),
            _rows("data.balances.*", "asset", "free", "locked"),
            Columns(free=("data", "free"), used=("data", "freeze")),
        ),
        "lighter:spot": Forms(
            together=((_rows("accounts.*.assets.*", "symbol", "", "locked_balance", "balance"),),),
            adds_up=True,
        ),
        "lighter": Forms(
            together=((_owing("accounts.*", ITSELF, "available_balance", "", "collateral", always="USDC"),),),
            adds_up=True,
        ),
        "luno": Forms(
            together=((_rows("balance.*", "asset", "", "reserved unconfirmed", "balance unconfirmed"),),),
            adds_up=True,
        ),
        "mercado": _one_of(_rows("response_data.balance.{}", ITSELF, "available", "", "total")),
        "mexc": _one_of(
            _rows("balances.*", "asset", "free", "locked"),
            _owing("data.*", "currency", "availableBalance", "frozenBalance"),
        ),
        "modetrade": _HOLDING,
        "mudrex": _one_of(
            _rows("", "currency", "data.balance", "data.locked_amount"),
            _rows("", "currency", "data.withdrawable", "", "data.total"),
        ),
        "nado": _one_of(
            _owing("spot_balances.*", "product_id", "balance.amount", "", "balance.amount", computed=True)
        ),
        "ndax": Forms(together=((_rows("*", "ProductId", "", "Hold", "Amount"),),), leaves_out=True),
        "onetrading": _one_of(_rows("balances.*", "currency_code", "available", "locked")),
        "p2b": _one_of(_rows("{}", ITSELF, "available", "freeze")),
        "pacifica": Forms(
            together=(
                (_owing("", ITSELF, "", "total_margin_used", "balance", always="USDC"),),
                (_owing("spot_balances.*", "symbol", "available_to_withdraw", "", "amount"),),
            ),
            adds_up=True,
        ),
        "paradex": _one_of(_owing("*", "token", total="size")),
        "paymium": _one_of(Flat(free="balance_{}", used="locked_{}")),
        "phemex": _one_of(
            _rows(
                "data.*",
                "currency",
                "",
                "lockedTradingBalanceEv lockedWithdrawEv",
                "balanceEv",
                computed=True,
            ),
            _owing("data.account", "currency", "", "totalUsedBalanceEv", "accountBalanceEv", computed=True),
            _owing("data.account", "currency", "", "totalUsedBalanceRv", "accountBalanceRv"),
        ),
        "poloniex": _one_of(
            _rows("*.balances.*", "currency", "available", "hold"),
            _owing("details.*", "ccy", "", "im", "avail"),
        ),
        "polymarket": _one_of(
            _owing(
                "margin",
                ITSELF,
                "available_order_margin",
                "total_initial_margin",
                "total_account_value",
                always="PUSD",
            )
        ),
        "revolutx": _one_of(
            _rows("*", "currency", "available", "reserved staked", "total"),
            _rows("*", "currency", "available", "", "total"),
            _rows("data.*", "currency", "available", "reserved staked", "total"),
            _rows("data.*", "currency", "available", "", "total"),
        ),
        "tokocrypto": _one_of(_rows("data.accountAssets.*", "asset", "free", "locked")),
        "toobit": _one_of(
            _rows("balances.*", "asset", "free", "locked", "total"),
            _owing("*", "asset", "availableBalance", "", "balance"),
        ),
        "upbit": _one_of(_rows("*", "currency", "balance", "locked")),
        "weex": _one_of(
            _rows("balances.*", "asset", "free", "locked"),
            _owing("*", "asset", "availableBalance", "frozen", "balance"),
        ),
        "whitebit": Forms(
            together=(
                (
                    _rows("{}", ITSELF, "available", "freeze"),
                    _rows("{}", ITSELF, "main_balance", "", "main_balance"),
                    Rows(at=(NAMED,), total=(ITSELF,), may_owe=True),
                ),
            ),
            from_body=True,
        ),
        "woo": _one_of(_owing("holding.*", "token", "availableBalance", "", "holding")),
        "woofipro": _HOLDING,
        "xt": _one_of(
            _rows("*", "currency", "availableAmount", "frozenAmount", "totalAmount"),
            _owing(
                "*",
                "coin",
                "availableBalance",
                "openOrderMarginFrozen crossedMargin isolatedMargin",
                "walletBalance",
            ),
        ),
        "zaif": _one_of(Columns(free=("return", "funds"), total=("return", "deposit"))),
        "zebpay": _one_of(_rows("data.*", "currency", "free", "used", "total")),
    }
)
