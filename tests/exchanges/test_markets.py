"""What ccxt makes of an exchange's list of markets is read exactly, or it is no answer."""

from __future__ import annotations
