"""The real actors, board, bus and persistence in a world of their own: no thread, no socket, no waiting.

One seed is one history. `world.py` puts the parts together, `script.py` draws what goes wrong, `oracle.py`
holds the invariants, and `__main__.py` runs many seeds or shows one of them.
"""
