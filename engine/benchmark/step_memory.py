"""The most memory that was held since a moment: the GPU's, or, where none is, this process's.

A GPU's is what TensorFlow's allocator handed out, so neither what it keeps in reserve nor the driver's own.
A process's is its resident memory (VmHWM), on Linux.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

_DEVICE = "GPU:0"
# Written to clear_refs, it sets the high-water mark back to what is resident now; see proc(5).
_FORGET_PEAK = "5"


def forget_peak() -> None:
    """Begin anew; where the system doesn't let a process do so, peaks count from its start."""
    if has_gpu():
        tf.config.experimental.reset_memory_stats(_DEVICE)
        return
    try:
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
    except OSError:
        return


def held_bytes() -> int | None:
    """Return what is held now; None where it can't be known."""
    return _gpu_bytes("current") if has_gpu() else _resident_bytes("VmRSS:")


def peak_bytes() -> int | None:
    """Return the most that was held since `forget_peak`; None where it can't be known."""
    return _gpu_bytes("peak") if has_gpu() else _resident_bytes("VmHWM:")


def has_gpu() -> bool:
    """Tell whether memory is a GPU's."""
    return bool(tf.config.list_physical_devices("GPU"))


def _gpu_bytes(name: str) -> int:
    return int(tf.config.experimental.get_memory_info(_DEVICE)[name])


def _resident_bytes(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
