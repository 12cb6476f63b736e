"""How a market is named: every spelling that people and exchanges use, read to one symbol, or refused.

The markets that the exchange lists decide, never a rule about letters. A joined text is split where
both halves are currencies of a listed market, so `XTZUSD` is no `TZ`, and `BTCBUSD` is nothing at all where
there is no BUSD: a currency is never put in the place of another one, or a trader would buy what was
not asked for. What could mean two markets is an error that names both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NoReturn, TypeVar, cast

from brokerwatch.errors import InvalidSymbol, SymbolError, UnknownSymbol
from brokerwatch.messages import Product
from brokerwatch.money import ALIASES, capitals, common_code, is_money

SPOT: Final = "spot"
LONGEST: Final = 64
"""Characters of the longest text that is read as a symbol."""
EXPECTED: Final = "expected a pair such as BTC/USD"
NEAR: Final = 6
"""So many markets are named where one was asked for that is not there."""

_PARTS: Final = re.compile(r"([^-/_:]+)[-/_]([^-/_:]+)(?::(.+))?")
"""A pair, and behind a colon what makes it a derivative."""
_SEPARATORS: Final = re.compile(r"[-/_:]")


class Products:
    """The markets of one exchange, by every name they have. It never changes.

    ValueError for a symbol that comes twice.
    """

    def __init__(self, products: Iterable[Product], exchange: str = "this exchange") -> None:
        self._all = tuple(products)
        self._exchange = exchange
        self.by_symbol: Mapping[str, Product] = MappingProxyType({each.symbol: each for each in self._all})
        """The markets by their symbols, in the exchange's order."""
        if len(self.by_symbol) < len(self._all):
            raise ValueError("a symbol comes twice in the list of markets")
        self._ids = _grouped((each.id, each) for each in self._all)
        self._any_case = _grouped(
            (capitals(name), each) for each in self._all for name in dict.fromkeys((each.symbol, each.id))
        )
        # A market that is spot and is not named after its pair is something else that ccxt has no word for.
        self._pairs = {
            (each.base, each.quote): each
            for each in self._all
            if each.kind == SPOT and each.symbol == f"{each.base}/{each.quote}"
        }
        self._codes = _grouped(
            (capitals(code), code) for code in dict.fromkeys(code for pair in self._pairs for code in pair)
        )

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Product]:
        return iter(self._all)

    def __contains__(self, text: object) -> bool:
        """Whether `text` names a market, in any spelling."""
        try:
            self.product(cast("str", text))
        except SymbolError:
            return False
        return True

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol, in the exchange's order."""
        return tuple(self.by_symbol)

    def pair(self, base: str, quote: str) -> Product | None:
        """The spot market of two currency codes; None when it is not listed."""
        return self._pairs.get((base, quote))

    def named(self, product_id: str) -> str:
        """The symbol of the exchange's own id; the id itself where it is not listed, or names two."""
        found = self._ids.get(product_id, ())
        return found[0].symbol if len(found) == 1 else product_id

    def symbol(self, text: str) -> str:
        """The symbol that `text` means: `BTC/USD` for `BTC-USD`, `btc_usd`, `XBTUSD` or `XXBTZUSD`.

        Raises InvalidSymbol for what cannot be read or could mean two markets, UnknownSymbol for
        what the exchange does not list.
        """
        return self.product(text).symbol

    def product(self, text: str) -> Product:
        """The market that `text` means. Raises as `symbol` does."""
        found = self.meant(text)
        if not found:
            self._refuse(text)
        first, *others = found
        if others:
            raise ambiguous(text, [each.symbol for each in found])
        return first

    def meant(self, text: str) -> tuple[Product, ...]:
        """Every market that `text` may mean, maybe none. Raises InvalidSymbol for what cannot be read.

        A spot market goes before a derivative, also where the text is the derivative's own id and only reads
        as the spot pair: htx names its perpetual `BTC-USDT` and its spot market `btcusdt`. The symbol with
        its settlement currency, `BTC/USDT:USDT`, names the derivative.
        """
        text = _legible(text)
        exact = self.by_symbol.get(text)
        if exact is not None:
            return (exact,)
        named = self._ids.get(text) or self._any_case.get(capitals(text)) or ()
        if spot := _of_spot(named):
            return spot
        read = self._read(text)
        if not named:
            return _of_spot(read) or read
        currencies = {(each.base, each.quote) for each in named}
        spot = _of_spot(read)
        # Two other currencies, written together by chance, do not outweigh an id; nor does the id them.
        return spot if currencies >= {(each.base, each.quote) for each in spot} and spot else (*spot, *named)

    def _read(self, text: str) -> tuple[Product, ...]:
        """The markets that a text can be read as, which is no name of any."""
        if not _SEPARATORS.search(text):
            # The exchange's own codes first: where it lists XT, an alias must not make XT/USD of XTZUSD.
            return self._split(text, aliases=False) or self._split(text, aliases=True)
        parts = _PARTS.fullmatch(text)
        if parts is None:
            return ()
        base, quote, settled = parts[1], parts[2], parts[3]
        if settled is None:
            return self._paired(base, quote)
        # Derivatives have codes of their own, so only the aliases are of use here.
        canonical = ":".join(
            ("/".join(map(common_code, (base, quote))), "-".join(map(common_code, settled.split("-"))))
        )
        return self._any_case.get(canonical, ())

    def _paired(self, base: str, quote: str, *, aliases: bool = True) -> tuple[Product, ...]:
        quotes = self._currencies(quote, aliases=aliases)
        pairs = ((left, right) for left in self._currencies(base, aliases=aliases) for right in quotes)
        return tuple(self._pairs[pair] for pair in pairs if pair in self._pairs)

    def _split(self, text: str, *, aliases: bool) -> tuple[Product, ...]:
        """Every listed market whose two currencies, written together, are this text."""
        cuts = range(1, len(text))
        found = (self._paired(text[:cut], text[cut:], aliases=aliases) for cut in cuts)
        return tuple({each.symbol: each for markets in found for each in markets}.values())

    def _currencies(self, text: str, *, aliases: bool = True) -> tuple[str, ...]:
        """The listed currencies of this name: in this very case, else in any, else what it is an alias of."""
        folded = capitals(text)
        listed = self._codes.get(folded, ())
        if text in listed:
            return (text,)
        return listed or (self._codes.get(ALIASES.get(folded, ""), ()) if aliases else ())

    def _is_listed(self, code: str) -> bool:
        return bool(self._currencies(code))

    def _refuse(self, text: str) -> NoReturn:
        """Say what is wrong with a text that names no market."""
        pair = self._supposed(text)
        if pair is None:
            raise UnknownSymbol(f"{self._exchange} lists no market {_shown(text)}")
        base, quote = pair
        why = f"{self._exchange} lists no {base}/{quote}"
        for code in (quote, base):
            if not self._is_listed(code):
                why = (
                    f"{self._exchange} has no {code} in any spot market, and nothing else is put in its place"
                )
                break
        raise UnknownSymbol(f"{_shown(text)}: {why}{self._near(base, quote)}")

    def _supposed(self, text: str) -> tuple[str, str] | None:
        """The pair that a text seems to be; None for a name of another kind. Raises InvalidSymbol."""
        if _SEPARATORS.search(text):
            if not all(part.isalnum() for part in re.split(r"[-/_:.]", text)):
                raise InvalidSymbol(f"{_shown(text)} cannot be read: {EXPECTED}")
            parts = _PARTS.fullmatch(text)
            return None if parts is None or parts[3] else (common_code(parts[1]), common_code(parts[2]))
        if self._is_currency(text):
            raise InvalidSymbol(f"{_shown(text)} is one currency: {EXPECTED}")
        halves = ((common_code(text[:cut]), common_code(text[cut:])) for cut in range(1, len(text)))
        pairs = [pair for pair in halves if self._is_currency(pair[1]) and pair[0].isalnum()]
        if not pairs:
            raise InvalidSymbol(f"{_shown(text)} cannot be told apart into two currencies: {EXPECTED}")
        # The first is the one with the longest quote. BTCBUSD is BTC and BUSD, unless there is a BTCB here.
        return next((pair for pair in pairs if self._is_listed(pair[0])), pairs[0])

    def _is_currency(self, code: str) -> bool:
        return self._is_listed(code) or _is_known(common_code(code))

    def _near(self, base: str, quote: str) -> str:
        """What is listed of the base, as words to end a sentence with."""
        same = [each.symbol for each in self._pairs.values() if each.base in self._currencies(base)]
        if same:
            others = f" and {len(same) - NEAR} more" if len(same) > NEAR else ""
            return f". Of {base} it lists {', '.join(same[:NEAR])}{others}"
        alike = difflib.get_close_matches(
            f"{base}/{quote}", [each.symbol for each in self._pairs.values()], 3
        )
        return f". Similar names: {', '.join(alike)}" if alike else ""


def _of_spot(found: Iterable[Product]) -> tuple[Product, ...]:
    return tuple(each for each in found if each.kind == SPOT)


def ambiguous(text: str, symbols: Iterable[str]) -> InvalidSymbol:
    """What is raised for a text that could mean each of these."""
    return InvalidSymbol(f"{_shown(text)} could mean {' or '.join(symbols)}; write which one")


def currency(text: object, stated: Collection[str]) -> str:
    """The currency that a text means in an account that states these: `USD` for `usd`, `BTC` for `XBT`.

    What the account does not state keeps its common name. Raises InvalidSymbol for what is no currency, or
    could be two of those.
    """
    expected = "expected one currency, such as USD"
    if not isinstance(text, str):
        raise InvalidSymbol(f"a currency is text, not {type(text).__name__}: {expected}")
    if text in stated:
        return text
    if not text or "/" in text or not text.isprintable() or any(letter.isspace() for letter in text):
        raise InvalidSymbol(f"{_shown(text)}: {expected}")
    for folded in (capitals(text), common_code(text)):
        alike = [code for code in stated if capitals(code) == folded]
        if len(alike) > 1:
            raise ambiguous(text, alike)
        if alike:
            return alike[0]
    return common_code(text)


def checked(text: str) -> tuple[str, ...]:
    """The parts of a text that may name a spot market somewhere: two, or one where it is written joined.

    Raises InvalidSymbol for what no list of markets could make one of.
    """
    text = _legible(text)
    if _SEPARATORS.search(text):
        parts = _PARTS.fullmatch(text)
        if parts is None or parts[3] is not None:
            raise InvalidSymbol(f"{_shown(text)} cannot be read as a spot market: {EXPECTED}")
        return parts[1], parts[2]
    if _is_known(common_code(text)):
        raise InvalidSymbol(f"{_shown(text)} is one currency: {EXPECTED}")
    return (text,)


def supposed(text: str) -> tuple[str, str]:
    """The pair that a text seems to be, by its letters alone: for where the markets are not known.

    Raises InvalidSymbol for what could be two pairs, or none.
    """
    parts = checked(text)
    if len(parts) == 2:
        return common_code(parts[0]), common_code(parts[1])
    halves = ((common_code(text[:cut]), common_code(text[cut:])) for cut in range(1, len(text)))
    pairs = [pair for pair in halves if _is_known(pair[1]) and pair[0].isalnum() and pair[0] != pair[1]]
    if not pairs:
        raise InvalidSymbol(f"{_shown(text)} cannot be told apart into two currencies: {EXPECTED}")
    # XBTUSD is BTC and USD, and no XB and TUSD.
    likely = [pair for pair in pairs if _is_known(pair[0])] or pairs
    if len(likely) > 1:
        raise ambiguous(text, [f"{base}/{quote}" for base, quote in likely])
    return likely[0]


_WELL_KNOWN: Final = frozenset({"BTC", "ETH", "BNB", "SOL", "XRP", "DOGE", "KRW", "INR", "RUB", "UAH", "HKD"})
"""Currencies that are no money by our list and that a text may end with all the same."""


def _is_known(code: str) -> bool:
    """Whether everybody knows a currency of this common name, wherever it is listed."""
    return is_money(code) or code in _WELL_KNOWN


def _legible(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidSymbol(f"a symbol is text, not {type(text).__name__}: {EXPECTED}")
    if not text:
        raise InvalidSymbol(f"an empty symbol: {EXPECTED}")
    if len(text) > LONGEST:
        raise InvalidSymbol(f"{_shown(text)}… has more than {LONGEST} characters: {EXPECTED}")
    if not text.isprintable() or any(letter.isspace() for letter in text):
        raise InvalidSymbol(f"{_shown(text)} has a space or a character that cannot be seen: {EXPECTED}")
    return text


def _shown(text: str) -> str:
    return repr(text[:40])


T = TypeVar("T")


def _grouped(rows: Iterable[tuple[str, T]]) -> Mapping[str, tuple[T, ...]]:
    found: dict[str, tuple[T, ...]] = {}
    for name, value in rows:
        found[name] = (*found.get(name, ()), value)
    return found
