"""What a soak found: a table for the terminal, and all of it as JSON."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from benchmarks.soak.measured import Life, Measured
from benchmarks.soak.subscribers import bucket_ms
from benchmarks.soak.verdicts import Judgement, growth, slope_words

WIDTH: Final = 80
QUANTILES: Final = ((0.5, "p50"), (0.99, "p99"), (1.0, "max"))
WORDS: Final = {True: "holds", False: "BROKEN", None: "unknown"}


def quantile_ms(latencies: Counter[int], share: float) -> float:
    """The latency in ms that so large a share does not exceed; 0 without any."""
    wanted, seen = share * sum(latencies.values()), 0
    for number in sorted(latencies):
        seen += latencies[number]
        if seen >= wanted:
            return bucket_ms(number)
    return 0.0


def table(measured: Measured, verdicts: Sequence[Judgement]) -> str:
    """The result in lines of at most 80 columns."""
    return "\n".join(line for row in _rows(measured, verdicts) for line in _wrapped(*row))


def _wrapped(name: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - 20) or [""]
    return [f"{name if number == 0 else '':<20}{line}".rstrip() for number, line in enumerate(lines)]


def _rows(measured: Measured, verdicts: Sequence[Judgement]) -> Iterator[tuple[str, str]]:
    yield from measured.circumstances.items()
    early = ", ended early" if measured.ended_early else ""
    yield "seed, length", f"{measured.seed}, {measured.length_s:.0f} s{early}"
    yield "what happened", ", ".join(f"{count} × {kind}" for kind, count in sorted(measured.done.items()))
    broken = sum(measured.met.values())
    yield (
        "calls",
        f"{measured.calls:,} at the exchanges, {broken:,} of them met one of {len(measured.met)} faults",
    )
    for number, life in enumerate(measured.lives, 1):
        yield f"life {number}", f"{life.program}, {_life_words(life)}"
    quantiles = ", ".join(
        f"{name} {quantile_ms(measured.latencies, share):.1f} ms" for share, name in QUANTILES
    )
    yield "latency", f"{quantiles} over {sum(measured.latencies.values()):,} messages"
    yield "", ""
    for verdict in verdicts:
        yield WORDS[verdict.holds], f"{verdict.name}: {verdict.says}"


def _life_words(life: Life) -> str:
    words = f"ready in {life.start_took_s:.1f} s, {life.length_s:.0f} s long, ended: {life.ended}"
    memory, slope = life.memory(), growth(life.memory())
    if memory:
        words += f"; memory {memory[0][1]:.1f} to {memory[-1][1]:.1f} MB"
    return f"{words}, {slope_words(slope)}" if slope else words


def as_json(measured: Measured, verdicts: Sequence[Judgement]) -> str:
    """All that was measured."""
    plain = [replace(second, latencies=Counter()) for second in measured.seconds]
    found = asdict(replace(measured, done=Counter(), latencies=Counter(), seconds=plain))
    found["done"] = dict(measured.done)
    found["latency_ms"] = {name: quantile_ms(measured.latencies, share) for share, name in QUANTILES}
    found["latencies"] = {
        f"{bucket_ms(number):.3f}": count for number, count in sorted(measured.latencies.items())
    }
    for second, counted in zip(found["seconds"], measured.seconds, strict=True):
        second["latencies"] = sum(counted.latencies.values())
    found["verdicts"] = [asdict(verdict) for verdict in verdicts]
    return json.dumps(found, indent=1)


def write(measured: Measured, verdicts: Sequence[Judgement], folder: Path) -> Path:
    """Write the JSON file. Returns where it is."""
    file = folder / "soak.json"
    file.write_text(as_json(measured, verdicts) + "\n")
    return file
