from __future__ import annotations

import subprocess
import sys
from email.message import Message
from importlib import metadata

import licences
import pytest
from licences import Package


class _Distribution(metadata.Distribution):
    """A package that says this of itself, and brings no file."""

    def __init__(self, **headers: str) -> None:
        self._message = Message()
        for name, value in headers.items():
            self._message[name.replace("_", "-")] = value

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        """What it says."""
        return self._message

    def read_text(self, filename: str) -> None:
        """Have no file."""

    def locate_file(self, path: str) -> None:  # type: ignore[override]
        """Have no place."""


def test_what_is_needed_is_listed_and_binds_nobody() -> None:
    ended = subprocess.run([sys.executable, licences.__file__], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    listed = [line.split()[0] for line in ended.stdout.splitlines()]
    assert {"numpy", "tensorflow", "apache-beam", "botocore"} <= set(listed)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"License_Expression": "MIT", "License": "other"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: BSD License", "License": "x" * 99}, "BSD License"),
        ({"License": "Apache\n 2.0"}, "Apache 2.0"),
        ({"License": "word " * 99}, "word " * 12 + "..."),
        ({}, ""),
    ],
)
def test_a_licence_is_read_however_it_is_stated(headers: dict[str, str], expected: str) -> None:
    assert licences.licence(_Distribution(**headers)) == expected


@pytest.mark.parametrize(
    ("stated", "wrong"),
    [
        ("", True),
        ("GPL-3.0-or-later", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("AGPL-3.0", True),
        ("CC-BY-NC (noncommercial)", True),
        ("MIT OR GPL-2.0", False),
        ("BSD License, GNU General Public License v2 (GPLv2)", False),
        ("LGPL-3.0", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", False),
        ("Apache-2.0", False),
    ],
)
def test_a_licence_that_binds_or_is_missing_is_a_fault(stated: str, wrong: bool) -> None:
    assert bool(licences.faults([Package("a", "1", stated)])) is wrong
