"""The program: one module per command, and what they show.

Public face: `main.main`, `main.run_alone`, `main.verify_kraken_alone`.
May import: everything, also the simulator; click and rich are imported here.
"""
