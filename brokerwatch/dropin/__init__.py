"""`guard()`: a ccxt instance of the trader never gives a false empty balance.

Public face: `guard.guard`, and what it raises in `errors`.
May import: `gateway`, `exchanges`, `health`, `config`, `messages`, `money`, `errors`, `clock`.
"""
