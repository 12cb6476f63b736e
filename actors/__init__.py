"""The Pykka actors: one per file, each a thin driver around a pure core.

Public face: `broker.BrokerActor`, `supervisor.HealthSupervisor`, `recorder.Recorder`, `board.Board`, and the
messages in `protocol`.
May import: `storage`, `health`, `config`, `messages`, `money`, `errors`, `clock`; no exchange and no socket.
"""

from __future__ import annotations

if __name__ != "brokerwatch.actors":
    raise ImportError("import brokerwatch.actors; this folder only looks like a package of its own")
