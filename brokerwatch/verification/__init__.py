"""Pure: what the answers before go-live prove, and how many points they are worth.

Public face: `report.Report`, `encoded` and `decoded`; `checklist.Check` and `Judgement`; the functions of
the four `*_findings` modules.
May import: `exchanges`, `messages`, `money`, `errors`, `clock`; no time, thread, socket or chance.
"""
