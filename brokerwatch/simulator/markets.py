"""The assets and markets that the simulated exchanges list: few, but the awkward ones among them.

Each exchange writes them in its own codes. XTZ and ZRX are here because they begin with the letters
that Kraken puts before older codes, so a client that strips letters instead of using a table gets them wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

FIAT = ("USD", "EUR", "GBP")


@dataclass(frozen=True, slots=True)
class Market:
    """One spot market: prices and amounts in decimal places, the smallest order in the base currency.

    `price` is what it costs until a test sets another price.
    """

    base: str
    quote: str
    price_decimals: int
    amount_decimals: int
    minimum: str
    price: str

    @property
    def symbol(self) -> str:
        """As ccxt writes it: BTC/USD."""
        return f"{self.base}/{self.quote}"

    @property
    def price_step(self) -> str:
        """The smallest change of a price, as a decimal string."""
        return f"{10**-self.price_decimals:.{self.price_decimals}f}"

    @property
    def amount_step(self) -> str:
        """The smallest change of an amount, as a decimal string."""
        return f"{10**-self.amount_decimals:.{self.amount_decimals}f}"

    def price_text(self, price: Decimal) -> str:
        """A price with the decimal places of this market; more of them where the price has more."""
        step = Decimal(self.price_step)
        return f"{price.quantize(step):f}" if price == price.quantize(step) else f"{price:f}"


ASSETS: dict[str, str] = {
    "USD": "US Dollar",
    "EUR": "Euro",
    "GBP": "British Pound",
    "USDT": "Tether",
    "USDC": "USD Coin",
    "BTC": "Bitcoin",
    "ETH": "Ethereum",
    "SOL": "Solana",
    "XRP": "XRP",
    "ADA": "Cardano",
    "DOT": "Polkadot",
    "DOGE": "Dogecoin",
    "LTC": "Litecoin",
    "XLM": "Stellar Lumens",
    "XTZ": "Tezos",
    "ZRX": "0x",
}

MARKETS: tuple[Market, ...] = (
    Market("BTC", "USD", 1, 8, "0.00005", "60000"),
    Market("BTC", "USDC", 2, 8, "0.00005", "60000"),
    Market("BTC", "USDT", 1, 8, "0.00005", "60000"),
    Market("BTC", "EUR", 1, 8, "0.00005", "55000"),
    Market("ETH", "USD", 2, 8, "0.001", "3000"),
    Market("ETH", "USDC", 2, 8, "0.001", "3000"),
    Market("ETH", "USDT", 2, 8, "0.001", "3000"),
    Market("ETH", "EUR", 2, 8, "0.001", "2750"),
    Market("SOL", "USD", 2, 8, "0.02", "150"),
    Market("SOL", "USDT", 2, 8, "0.02", "150"),
    Market("XRP", "USD", 5, 8, "2", "0.5"),
    Market("XRP", "USDT", 5, 8, "2", "0.5"),
    Market("ADA", "USD", 6, 8, "5", "0.4"),
    Market("ADA", "USDT", 6, 8, "5", "0.4"),
    Market("DOGE", "USD", 7, 8, "20", "0.1"),
    Market("USDC", "USD", 4, 8, "5", "1"),
    Market("USDT", "USD", 5, 8, "5", "1"),
)

BY_SYMBOL: dict[str, Market] = {market.symbol: market for market in MARKETS}


def market_of(symbol: str) -> Market:
    """The market of a symbol; ValueError, with the symbols there are, for one that is not listed."""
    if symbol not in BY_SYMBOL:
        raise ValueError(f"no market {symbol!r} is simulated; there are: {', '.join(BY_SYMBOL)}")
    return BY_SYMBOL[symbol]
