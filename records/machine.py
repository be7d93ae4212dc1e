"""What this process may use of the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the CPUs that the process may keep busy: all, or those that `taskset` or a container left it.

    Args:
        cgroups: where control groups are mounted.
        own: the file that lists this process's groups.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (quota for folder in _group_folders(cgroups, own) if (quota := _quota(folder)))
    # A quota of one and a half cores keeps two threads busy, if not all of the time.
    return max(1, min([cores, *map(math.ceil, quotas)]))


def _group_folders(cgroups: Path, own: Path) -> list[Path]:
    """Return the folders of the groups that bound this process's time, and of those around them."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            # Version 2 has one tree; version 1 has one for each controller.
            root = cgroups / "cpu" if controllers else cgroups
            group = root / path.lstrip("/")
            folders += [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return folders


def _quota(folder: Path) -> float | None:
    """Return how many CPUs' time a group may use; None: it isn't bounded, or doesn't say."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
