"""Pure: which node of a pool watches which account.

Public face: `assignment.placed`, `assignment.why_not`, `assignment.PlacedAccount`, `assignment.PlacedNode`.
May import: `messages`, `money`, `errors`, `clock`; no time, thread, socket or chance.
"""
