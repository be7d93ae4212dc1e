"""The cores that a process may use, by affinity and by a container's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from records import machine


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def written(folder: Path, files: dict[str, str], own: str) -> tuple[Path, Path]:
    for name, text in files.items():
        (folder / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "groups" / name).write_text(text)
    (folder / "own").write_text(own)
    return folder / "groups", folder / "own"


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({}, "0::/\n", 8),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n"}, "0::/pod/container\n", 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu,cpuacct:/\n", 8),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu,cpuacct:/\n", 1),
        ({"cpu.max": "900000 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "nonsense\n"}, "0::/\n", 8),
    ],
)
def test_a_quota_bounds_the_cores(tmp_path: Path, files: dict[str, str], own: str, cores: int) -> None:
    assert machine.usable_cores(*written(tmp_path, files, own)) == cores


def test_without_control_groups_it_is_the_affinity(tmp_path: Path) -> None:
    assert machine.usable_cores(tmp_path, tmp_path / "missing") == 8
