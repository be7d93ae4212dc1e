"""What this machine is, for a report: its processor, the cores a process may use, and its memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from records.machine import usable_cores


def memory_bytes() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe() -> str:
    """Return processor, usable cores and memory in a few words."""
    return f"{_processor()}, {usable_cores()} cores used, {memory_bytes() / 1e9:.0f} GB"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
