"""The assets and markets that the simulated exchanges list: few, but the awkward ones among them.

Each exchange writes them in its own codes. XTZ and ZRX are here because they begin with the letters
that Kraken puts before older codes, so whoever strips letters instead of using a table gets them wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

FIAT = ("USD", "EUR", "GBP")


@dataclass(frozen=True, slots=True)
class Market:
    """One spot market: prices and amounts in decimal places, the smallest order in the base currency."""

    base: str
    quote: str
    price_decimals: int
    amount_decimals: int
    minimum: str

    @property
    def price_step(self) -> str:
        """The smallest change of a price, as a decimal string."""
        return f"{10**-self.price_decimals:.{self.price_decimals}f}"

    @property
    def amount_step(self) -> str:
        """The smallest change of an amount, as a decimal string."""
        return f"{10**-self.amount_decimals:.{self.amount_decimals}f}"


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
    Market("BTC", "USD", 1, 8, "0.00005"),
    Market("BTC", "USDC", 2, 8, "0.00005"),
    Market("BTC", "USDT", 1, 8, "0.00005"),
    Market("BTC", "EUR", 1, 8, "0.00005"),
    Market("ETH", "USD", 2, 8, "0.001"),
    Market("ETH", "USDC", 2, 8, "0.001"),
    Market("ETH", "USDT", 2, 8, "0.001"),
    Market("ETH", "EUR", 2, 8, "0.001"),
    Market("SOL", "USD", 2, 8, "0.02"),
    Market("SOL", "USDT", 2, 8, "0.02"),
    Market("XRP", "USD", 5, 8, "2"),
    Market("XRP", "USDT", 5, 8, "2"),
    Market("ADA", "USD", 6, 8, "5"),
    Market("ADA", "USDT", 6, 8, "5"),
    Market("DOGE", "USD", 7, 8, "20"),
    Market("USDC", "USD", 4, 8, "5"),
    Market("USDT", "USD", 5, 8, "5"),
)
