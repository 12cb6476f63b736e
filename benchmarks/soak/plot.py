"""The picture of a soak: memory, threads and descriptors, latency, and what was lost, over its minutes."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any, Final

from benchmarks.soak.measured import Measured, Window
from benchmarks.soak.report import quantile_ms
from benchmarks.soak.slope import block_minima
from benchmarks.soak.verdicts import BLOCK_S, WARM_UP_S, growth, slope_words

SIZE_IN: Final = (10.0, 11.0)
WINDOW_S: Final = 5.0
DOWN, STALLED = "#d95f02", "#7570b3"


def plot(measured: Measured, file: Path) -> None:
    """Draw it into a PNG file. ImportError where matplotlib is not installed."""
    # Its parts are named as values: the checkers run where it is not installed.
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(5, 1, sharex=True, figsize=SIZE_IN, layout="constrained")
    began_s = measured.began_s
    for axis, draw in zip(axes, (_memory, _of_listeners, _counts, _latency, _shown), strict=True):
        draw(axis, measured)
    for axis in axes:
        _shade(axis, measured.troubles.down, began_s, DOWN)
        _shade(axis, measured.troubles.stalled, began_s, STALLED)
        axis.grid(visible=True, alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            # Above the curves: inside it would cover the end of one, which is what is looked at.
            axis.legend(
                loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.0, fontsize="x-small", ncols=4
            )
    axes[-1].set_xlabel("seconds; orange: the cluster is restarted, violet: one listener is stopped")
    figure.suptitle(f"brokerwatch, soak of {measured.length_s:.0f} s with seed {measured.seed}")
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _memory(axis: Any, measured: Measured) -> None:
    judged = measured.judged
    for number, life in enumerate(measured.lives, 1):
        memory = life.memory()
        axis.plot(
            [at_s - measured.began_s for at_s, _ in memory],
            [mb for _, mb in memory],
            label=f"{life.program} {number}",
        )
        slope = growth(memory) if life in judged else None
        if slope is not None:
            blocks = block_minima(memory, block_s=BLOCK_S, warm_up_s=WARM_UP_S)
            middle_s = sum(at_s for at_s, _ in blocks) / len(blocks)
            height = sorted(mb - slope.per_s * (at_s - middle_s) for at_s, mb in blocks)[len(blocks) // 2]
            axis.plot(
                [at_s - measured.began_s for at_s, _ in blocks],
                [height + slope.per_s * (at_s - middle_s) for at_s, _ in blocks],
                "k--", linewidth=1.0, label=slope_words(slope),
            )  # fmt: skip
    axis.set_ylabel("cluster, MB")


def _of_listeners(axis: Any, measured: Measured) -> None:
    memory = [(each.at_s, each.memory_mb) for each in measured.listeners]
    slope = growth(measured.memory_of_listeners())
    says = f"six listeners: {slope_words(slope)}" if slope else "six listeners"
    axis.plot([at_s - measured.began_s for at_s, _ in memory], [mb for _, mb in memory], label=says)
    axis.set_ylabel("listeners, MB")


def _counts(axis: Any, measured: Measured) -> None:
    samples = [each for life in measured.lives for each in life.samples]
    at_s = [each.at_s - measured.began_s for each in samples]
    for name, says in (
        ("threads", "threads"),
        ("descriptors", "descriptors"),
        ("to_exchanges", "connections to exchanges"),
        ("from_readers", "connections of readers"),
    ):
        axis.plot(at_s, [getattr(each, name) for each in samples], ".", markersize=2, label=says)
    axis.set_ylabel("of the cluster")
    axis.set_ylim(bottom=0)


def _latency(axis: Any, measured: Measured) -> None:
    windows: dict[int, Counter[int]] = {}
    for second in measured.seconds:
        windows.setdefault(int((second.at_s - measured.began_s) // WINDOW_S), Counter()).update(
            second.latencies
        )
    numbers = [number for number in sorted(windows) if windows[number]]
    for share, name in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
        values = [quantile_ms(windows[number], share) for number in numbers]
        axis.plot([(number + 0.5) * WINDOW_S for number in numbers], values, label=name)
    axis.set_yscale("log")
    axis.set_ylabel("latency, ms")


def _shown(axis: Any, measured: Measured) -> None:
    at_s = [second.at_s - measured.began_s for second in measured.seconds]
    axis.step(at_s, [second.available for second in measured.seconds], label="available accounts")
    axis.set_ylabel("accounts")
    lost = axis.twinx()
    lost.step(at_s, [second.lost for second in measured.seconds], color="black", label="messages lost so far")
    lost.set_ylabel("lost")
    lost.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0, fontsize="x-small")


def _shade(axis: Any, windows: list[Window], began_s: float, colour: str) -> None:
    for from_s, to_s in windows:
        axis.axvspan(from_s - began_s, to_s - began_s, color=colour, alpha=0.25, linewidth=0)
