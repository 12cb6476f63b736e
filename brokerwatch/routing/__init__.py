"""Pure: which account can take this order, and why each other one cannot.

Public face: `router.Router`, `selection.Choice`, `selection.Refusal`, `need.Need`.
May import: `exchanges`, `health`, `messages`, `money`, `errors`, `clock`; no time, thread, socket or
chance.
"""
