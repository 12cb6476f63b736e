"""Who acts: one Pykka actor a file, each a thin driver around a pure core."""

from __future__ import annotations

if __name__ != "brokerwatch.actors":
    raise ImportError("import brokerwatch.actors; this folder only looks like a package of its own")
