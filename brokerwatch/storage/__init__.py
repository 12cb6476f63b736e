"""What outlives the process: the store, the files beside it, and the locks on both.

Public face: `store.Store`, `journal.Journal`, `records`, `state_folder`, `locks.claim`,
`hold_file.HoldFile`.
May import: `health`, `config`, `messages`, `money`, `errors`, `clock`; SQLAlchemy is imported here.
"""
