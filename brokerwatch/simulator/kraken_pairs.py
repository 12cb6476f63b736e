"""What Kraken lists, and how it names it: by tables, never by a rule about the letters X and Z."""

from __future__ import annotations

from collections.abc import Mapping

from brokerwatch.simulator.markets import ASSETS, FIAT, MARKETS, Market

COST_MINIMUM = "0.5"
COST_DECIMALS = 5
# In percent, of the lowest volume: https://www.kraken.com/features/fee-schedule
MAKER_FEE, TAKER_FEE = "0.25", "0.4"

# ccxt's code -> Kraken's asset id, where the two differ.
ASSET_IDS: Mapping[str, str] = {
    "AUD": "ZAUD", "CAD": "ZCAD", "EUR": "ZEUR", "GBP": "ZGBP", "JPY": "ZJPY", "USD": "ZUSD",
    "BTC": "XXBT", "DOGE": "XXDG", "ETC": "XETC", "ETH": "XETH", "LTC": "XLTC", "XLM": "XXLM",
    "XMR": "XXMR", "XRP": "XXRP", "ZEC": "XZEC",
}  # fmt: skip
# ccxt's code -> the short name Kraken uses in pairs and before a suffix such as `.F`.
ALT_NAMES: Mapping[str, str] = {"BTC": "XBT", "DOGE": "XDG"}


def alt_name(code: str) -> str:
    """Kraken's short name of a currency: XBT for BTC, XBT.F for BTC.F."""
    base, dot, suffix = code.partition(".")
    return ALT_NAMES.get(base, base) + dot + suffix


def asset_id(code: str) -> str:
    """Kraken's asset id of a currency; what has a suffix (`BTC.F`, earning) is built on the short name."""
    return alt_name(code) if "." in code else ASSET_IDS.get(code, code)


def pair_alt_name(market: Market) -> str:
    """Kraken's short name of a pair: XBTUSD."""
    return alt_name(market.base) + alt_name(market.quote)


def pair_id(market: Market) -> str:
    """Kraken's id of a pair. The long form only where both sides have one: XXBTZUSD, but XBTUSDC, SOLUSD."""
    # The pair XDGUSD is Kraken's exception.
    both_long = market.base in ASSET_IDS and market.quote in ASSET_IDS and market.base != "DOGE"
    return asset_id(market.base) + asset_id(market.quote) if both_long else pair_alt_name(market)


PAIR_IDS: Mapping[str, str] = {market.symbol: pair_id(market) for market in MARKETS}
"""Symbol as ccxt writes it to Kraken's id."""


def find_pair(name: str) -> Market | None:
    """The market that Kraken knows by this name: XXBTZUSD, XBTUSD or XBT/USD."""
    for market in MARKETS:
        slashed = f"{alt_name(market.base)}/{alt_name(market.quote)}"
        if name in (PAIR_IDS[market.symbol], pair_alt_name(market), slashed):
            return market
    return None


def _asset(code: str) -> Mapping[str, object]:
    decimals, shown = (4, 2) if code in FIAT else (10, 5)
    return {
        "aclass": "currency",
        "altname": alt_name(code),
        "decimals": decimals,
        "display_decimals": shown,
        "status": "enabled",
    }


# What earns (.F), is staked (.S), opted in (.M) or bonded (.B) is an asset of its own, named without the
# X or Z in front: XBT.F. A term may stand before the suffix: DOT28.S is bonded for 28 days.
SUFFIXED = ("BTC.F", "USD.F", "USD.M", "ETH.B", "ETH.F", "DOT.S", "DOT28.S", "SOL.S", "USD.HOLD")
ASSET_LIST: Mapping[str, object] = {asset_id(code): _asset(code) for code in (*ASSETS, *SUFFIXED)}


def _pairs() -> Mapping[str, Mapping[str, object]]:
    pairs: dict[str, Mapping[str, object]] = {}
    for market in MARKETS:
        pairs[PAIR_IDS[market.symbol]] = {
            "altname": pair_alt_name(market),
            "wsname": f"{alt_name(market.base)}/{alt_name(market.quote)}",
            "aclass_base": "currency",
            "base": asset_id(market.base),
            "aclass_quote": "currency",
            "quote": asset_id(market.quote),
            "lot": "unit",
            "pair_decimals": market.price_decimals,
            "cost_decimals": COST_DECIMALS,
            "lot_decimals": market.amount_decimals,
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": [[0, float(TAKER_FEE)]],
            "fees_maker": [[0, float(MAKER_FEE)]],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": market.minimum,
            "costmin": COST_MINIMUM,
            "tick_size": market.price_step,
            "status": "online",
        }
    return pairs


PAIR_LIST = _pairs()
