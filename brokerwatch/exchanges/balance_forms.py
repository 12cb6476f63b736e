"""Where each exchange that only ccxt knows states the amounts of a balance, and under which keys.

The keys are those that `fetch_balance` and the parsers of each exchange read in ccxt 4.5.90, whose comments
quote the exchange's own documentation. Of an exchange that is not in the table, ccxt's amounts are taken as
they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from brokerwatch.exchanges.row_forms import EACH, ITSELF, NAMED, Columns, Flat, Forms, Rows, Typed
from brokerwatch.exchanges.shared_forms import (
    BINANCE,
    BINANCE_CROSS,
    BYBIT,
    GATE,
    HITBTC,
    HOLDING,
    ISOLATED,
    KUCOIN,
    one_of,
    owing,
    rows,
)

FORMS: Final[Mapping[str, Forms]] = MappingProxyType(
    {
        "alpaca": Forms(
            together=(
                (owing("account", "currency", "cash", "", "equity position_market_value", computed=True),),
                (rows("positions.*", "symbol", "qty_available", "", "qty"),),
            ),
            leaves_out=True,
        ),
        "apex": one_of(owing("", ITSELF, "availableBalance", "", "totalEquityValue", always="USDT")),
        "aster": one_of(
            rows("*", "asset", "free", "locked"),
            owing("*", "asset", "availableBalance", "", "balance"),
        ),
        "backpack": Forms(together=((rows("{}", ITSELF, "available", "locked staked"),),), from_body=True),
        "bequant": HITBTC,
        "bigone": one_of(rows("data.*", "asset_symbol", "", "locked_balance", "balance")),
        "binance": BINANCE,
        "binance:cross": BINANCE_CROSS,
        "binance:isolated": ISOLATED,
        "binance:margin": BINANCE_CROSS,
        "binancecoinm": BINANCE,
        "binanceus": BINANCE,
        "binanceusdm": BINANCE,
        "bingx": one_of(
            rows("data.balances.*", "asset", "free", "locked"),
            rows("data.assets.*", "asset", "free", "locked"),
            owing("data.*", "asset", "availableMargin", "usedMargin"),
            owing("data.*", "asset", "availableBalance", "", "maxWithdrawAmount"),
        ),
        "bit2c": one_of(Flat(free="AVAILABLE_{}", total="{}")),
        "bitbank": one_of(rows("data.assets.*", "asset", "free_amount", "locked_amount", "onhand_amount")),
        "bitbns": one_of(Flat(at=("data",), free="availableorder{}", used="inorder{}")),
        "bitfinex": one_of(
            Rows(at=(EACH,), code=1, free=(4,), total=(2,), only=(0, "exchange"), may_owe=True)
        ),
        "bitflyer": one_of(rows("*", "currency_code", "available", "", "amount")),
        "bitget": one_of(
            rows("*", "coin", "available", "frozen locked"),
            owing("*", "coin", "transferable", "", "totalAmount"),
            owing("*", "coin", total="totalAmount"),  # as it is documented
            owing("*", "marginCoin", "maxTransferOut", "", "accountEquity"),
            owing("data.assets.*", "coin", "available", "locked", "equity"),
            owing("data.assets.*", "coin", "available", "locked", "balance"),
            rows("data.*", "coin", "available", "frozen", "balance"),
        ),
        "bithumb": one_of(
            rows("*", "currency", "balance", "locked"),
            Flat(at=("data",), free="available_{}", used="in_use_{}", total="total_{}"),
        ),
        "bitopro": one_of(rows("*", "currency", "available", "", "amount", tradable=("tradable", "true"))),
        "bitrue": one_of(
            rows("balances.*", "asset", "free", "locked"),
            rows("account.*", "marginCoin", "accountNormal", "accountLock"),
        ),
        "bitso": one_of(rows("payload.balances.*", "currency", "available", "locked", "total")),
        "bitstamp": one_of(rows("*", "currency", "available", "reserved", "total")),
        "bitteam": one_of(
            Rows(
                at=("result", NAMED),
                free=("free",),
                used=("used",),
                total=("total",),
                beside=frozenset({"free", "used", "total"}),
            )
        ),
        "bittrade": one_of(Typed(at=("data", "list", EACH), tradable=("/data.state", "working"))),
        "bitvavo": one_of(rows("*", "symbol", "available", "inOrder")),
        "blockchaincom": one_of(rows("primary.*", "currency", "available", "", "balance")),
        "blofin": one_of(
            owing("data.details.*", "currency", "available", "", "equity"),
            rows("data.*", "currency", "available", "frozen", "balance"),
        ),
        "btcbox": one_of(Flat(free="{}_balance", used="{}_lock")),
        "btcmarkets": one_of(rows("*", "assetName", "", "locked", "balance")),
        "btcturk": one_of(rows("data.*", "asset", "free", "locked", "balance")),
        "btse": Forms(
            together=(
                (
                    rows("*", "asset", "availableAmount", "", "totalAmount"),
                    rows("*", "currency", "available", "", "total"),
                ),
            ),
            adds_up=True,
        ),
        "bullish": one_of(rows("*", "assetSymbol", "", "lockedQuantity", "availableQuantity")),
        "bybit": BYBIT,
        "bybiteu": BYBIT,
        "bybitid": BYBIT,
        "bydfi": one_of(
            rows("*", "asset", "available", "", "total"),
            owing("*", "asset", "availableBalance", "", "balance"),
        ),
        "cex": one_of(rows("{}", ITSELF, "", "balanceOnHold", "balance")),
        "coinbaseexchange": one_of(
            rows("*", "currency", "available", "hold", "balance", tradable=("trading_enabled", "true"))
        ),
        "coinbaseinternational": one_of(
            owing("*", "currency", "available_funds", "", "margin_balance"),
            owing("summaries.*", "currency", "available_funds", "", "equity"),
        ),
        "coincheck": one_of(Flat(free="{}", used="{}_reserved")),
        "coinmate": one_of(rows("data.{}", ITSELF, "available", "reserved", "balance")),
        "coinone": one_of(
            Rows(
                at=(NAMED,),
                free=("avail",),
                total=("balance",),
                beside=frozenset({"errorCode", "result", "normalWallets"}),
            )
        ),
        "coinsph": one_of(rows("balances.*", "asset", "free", "locked")),
        "coinspot": one_of(
            rows("balances.*.{}", ITSELF, total="balance"),
            rows("balance.*.{}", ITSELF, total="balance"),
            Rows(at=("balance", NAMED), total=(ITSELF,)),
        ),
        "cryptocom": one_of(
            owing("result.data.0.position_balances.*", "instrument_name", "", "reserved_qty", "quantity")
        ),
        "cryptomus": one_of(rows("*", "ticker", "available", "held")),
        "deepcoin": one_of(rows("data.*", "ccy", "availBal", "frozenBal", "bal")),
        "delta": one_of(owing("result.*", "asset_id", "available_balance", "", "balance")),
        "deribit": one_of(
            owing("summaries.*", "currency", "available_funds", "maintenance_margin", "equity"),
            owing("", "currency", "available_funds", "maintenance_margin", "equity"),
        ),
        # Its margins are negative numbers; all that they hold is held in USDC.
        "derive": Forms(
            together=(
                (owing("*.collaterals.*", "currency", total="amount"),),
                (
                    rows(
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
        "digifinex": one_of(
            rows("*", "currency", "free", "", "total"),
            owing("*", "currency", "avail_balance", "", "equity"),
        ),
        "dydx": one_of(owing("", ITSELF, "freeCollateral", always="USDC")),
        "extended": one_of(rows("*", "asset", "availableToWithdraw", "", "balance")),
        "fmfwio": HITBTC,
        "foxbit": one_of(rows("data.*", "currency_symbol", "balance_available", "balance_locked", "balance")),
        "gate": GATE,
        "gateeu": GATE,
        "gemini": one_of(rows("*", "currency", "available", "", "amount")),
        # What is free there is that of the whole account, and ccxt gives it to each currency.
        "grvt": one_of(
            rows("spot_balances.*", "currency", "/available_balance", "", "balance", may_owe=True, sole=True)
        ),
        "hashkey": one_of(
            rows("balances.*", "asset", "free", "locked", "total"),
            owing("", "asset", "", "positionMargin orderMargin", "balance"),
        ),
        "hibachi": one_of(owing("", ITSELF, "maximalWithdraw", "", "balance", always="USDT")),
        "hitbtc": HITBTC,
        "hollaex": one_of(Flat(free="{}_available", total="{}_balance")),
        "htx": one_of(
            Typed(at=("data", "list", EACH), tradable=("/data.state", "working")),
            owing("data.details.*", "currency", "available_margin", "", "equity"),
            owing("data.*", "symbol", "margin_available", "margin_frozen"),
        ),
        "hyperliquid": one_of(
            owing("balances.*", "coin", "", "hold", "total"),
            owing("marginSummary", ITSELF, "", "totalMarginUsed", "accountValue", always="USDC"),
        ),
        "independentreserve": one_of(
            rows(
                "*",
                "CurrencyCode",
                "AvailableBalance",
                "",
                "TotalBalance",
                tradable=("AccountStatus", "Active"),
            )
        ),
        "indodax": one_of(Columns(free=("return", "balance"), used=("return", "balance_hold"))),
        "krakenfutures": one_of(
            owing("accounts.flex.currencies.{}", ITSELF, "available", "", "quantity"),
            Rows(at=("accounts", "cash", "balances", NAMED), free=(ITSELF,), total=(ITSELF,)),
        ),
        "krakenfutures:cash": one_of(
            Rows(at=("accounts", "cash", "balances", NAMED), free=(ITSELF,), total=(ITSELF,))
        ),
        "kucoin": KUCOIN,
        "kucoinfutures": KUCOIN,
        "latoken": one_of(
            rows(
                "*",
                "currency",
                "available",
                "blocked",
                only=("type", "ACCOUNT_TYPE_SPOT"),
                tradable=("status", "ACCOUNT_STATUS_ACTIVE"),
            )
        ),
        "lbank": one_of(
            rows("data.*", "coin", "usableAmt", "freezeAmt"),
            rows("data.balances.*", "asset", "free", "locked"),
            Columns(free=("data", "free"), used=("data", "freeze")),
        ),
        "lighter:spot": Forms(
            together=((rows("accounts.*.assets.*", "symbol", "", "locked_balance", "balance"),),),
            adds_up=True,
        ),
        "lighter": Forms(
            together=((owing("accounts.*", ITSELF, "available_balance", "", "collateral", always="USDC"),),),
            adds_up=True,
        ),
        "luno": Forms(
            together=((rows("balance.*", "asset", "", "reserved unconfirmed", "balance unconfirmed"),),),
            adds_up=True,
        ),
        "mercado": one_of(rows("response_data.balance.{}", ITSELF, "available", "", "total")),
        "mexc": one_of(
            rows("balances.*", "asset", "free", "locked"),
            owing("data.*", "currency", "availableBalance", "frozenBalance"),
        ),
        "mexc:margin": ISOLATED,
        "modetrade": HOLDING,
        "mudrex": one_of(
            rows("", "currency", "data.balance", "data.locked_amount"),
            rows("", "currency", "data.withdrawable", "", "data.total"),
        ),
        "nado": one_of(
            owing("spot_balances.*", "product_id", "balance.amount", "", "balance.amount", computed=True)
        ),
        "ndax": Forms(together=((rows("*", "ProductId", "", "Hold", "Amount"),),), leaves_out=True),
        "onetrading": one_of(rows("balances.*", "currency_code", "available", "locked")),
        "p2b": one_of(rows("{}", ITSELF, "available", "freeze")),
        "pacifica": Forms(
            together=(
                (owing("", ITSELF, "", "total_margin_used", "balance", always="USDC"),),
                (owing("spot_balances.*", "symbol", "available_to_withdraw", "", "amount"),),
            ),
            adds_up=True,
        ),
        "paradex": one_of(owing("*", "token", total="size")),
        "paymium": one_of(Flat(free="balance_{}", used="locked_{}")),
        "phemex": one_of(
            rows(
                "data.*",
                "currency",
                "",
                "lockedTradingBalanceEv lockedWithdrawEv",
                "balanceEv",
                computed=True,
            ),
            owing("data.account", "currency", "", "totalUsedBalanceEv", "accountBalanceEv", computed=True),
            owing("data.account", "currency", "", "totalUsedBalanceRv", "accountBalanceRv"),
        ),
        "poloniex": one_of(
            rows("*.balances.*", "currency", "available", "hold"),
            owing("details.*", "ccy", "", "im", "avail"),
        ),
        "polymarket": one_of(
            owing(
                "margin",
                ITSELF,
                "available_order_margin",
                "total_initial_margin",
                "total_account_value",
                always="PUSD",
            )
        ),
        "revolutx": one_of(
            rows("*", "currency", "available", "reserved staked", "total"),
            rows("*", "currency", "available", "", "total"),
            rows("data.*", "currency", "available", "reserved staked", "total"),
            rows("data.*", "currency", "available", "", "total"),
        ),
        "tokocrypto": one_of(rows("data.accountAssets.*", "asset", "free", "locked")),
        "toobit": one_of(
            rows("balances.*", "asset", "free", "locked", "total"),
            owing("*", "asset", "availableBalance", "", "balance"),
        ),
        "upbit": one_of(rows("*", "currency", "balance", "locked")),
        "weex": one_of(
            rows("balances.*", "asset", "free", "locked"),
            owing("*", "asset", "availableBalance", "frozen", "balance"),
        ),
        "whitebit": Forms(
            together=(
                (
                    rows("{}", ITSELF, "available", "freeze"),
                    rows("{}", ITSELF, "main_balance", "", "main_balance"),
                    Rows(at=(NAMED,), total=(ITSELF,), may_owe=True),
                ),
            ),
            from_body=True,
        ),
        "woo": one_of(owing("holding.*", "token", "availableBalance", "", "holding")),
        "woofipro": HOLDING,
        "xt": one_of(
            rows("*", "currency", "availableAmount", "frozenAmount", "totalAmount"),
            owing(
                "*",
                "coin",
                "availableBalance",
                "openOrderMarginFrozen crossedMargin isolatedMargin",
                "walletBalance",
            ),
        ),
        "zaif": one_of(Columns(free=("return", "funds"), total=("return", "deposit"))),
        "zebpay": one_of(rows("data.*", "currency", "free", "used", "total")),
    }
)
