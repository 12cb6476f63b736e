"""Which currencies may be the cash of an account.

A code that the account never states would make a cash of zero, which is no answer at all. So another spelling
of a currency is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from brokerwatch.money import ALIASES, capitals, common_code, is_money, units


def cash_mistakes(currencies: Sequence[str], *, is_own: bool) -> Iterator[str]:
    """What is wrong with them, as the ends of sentences.

    Args:
        currencies: as they are configured.
        is_own: the balance comes from a callable of the user's program, which names currencies as it likes.
    """
    if not currencies:
        yield "expected at least one currency"
    if len(set(currencies)) < len(currencies):
        yield "expected each currency once"
    misspelt = [code for code in currencies if not _is_code(code) or (not is_own and _is_another_name(code))]
    for code in misspelt:
        meant = common_code(code.strip())
        hint = f"; did you mean {meant}?" if meant != code and _is_code(meant) else ""
        yield f"expected a currency as ccxt writes it, such as USD, not {code!r}{hint}"
    different = units(currencies)
    if len(different) > 1 and not misspelt:
        yield (
            f"expected currencies that are pegged to one unit; these are in {' and '.join(different)}, "
            "and adding them up would be wrong by the exchange rate"
        )


def _is_code(text: str) -> bool:
    return bool(text) and text.isprintable() and not any(letter.isspace() for letter in text)


def _is_another_name(code: str) -> bool:
    """Whether it is a known currency in small letters, or under another name."""
    common = common_code(code)
    return code != common and (is_money(common) or capitals(code) in ALIASES)
