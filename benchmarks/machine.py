"""What the numbers were measured on: the processor and its load, and the versions of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.measure import ROOT


def processor() -> str:
    """Its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def load() -> str:
    """The load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def version(library: str) -> str:
    """The version that is installed."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "(missing)"


def revision() -> str:
    """The commit, and whether the code differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        known = git("rev-parse", "--short", "HEAD")
        changed = git("status", "--porcelain", "--", "actors", "brokerwatch", "messages", "benchmarks")
    except OSError:
        return "unknown"
    return f"{known or 'unknown'}{' with changes' if changed else ''}"
