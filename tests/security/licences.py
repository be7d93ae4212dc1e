"""Lists the licences of all packages that this project needs, as they state them.

    python tests/security/licences.py [--extras engine,beam,serve]

Exit code 1: one of them states none, or one that binds whoever passes the program on (GPL, AGPL) without
offering another. What is read are the metadata of the installed packages; nothing is fetched.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import metadata
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "cxr-engine"
# Weak copyleft (LGPL, MPL) binds changes of the package itself alone.
_BINDING = re.compile(r"(?<![A-Z])A?GPL|GNU (?:AFFERO )?GENERAL PUBLIC|SSPL|NON-?COMMERCIAL", re.IGNORECASE)
_CLASSIFIER = "License :: "
_SHOWN_CHARACTERS = 60


class Package(NamedTuple):
    """One installed package, and what it says of its licence; empty: nothing."""

    name: str
    version: str
    licence: str


def needed(project: str, extras: set[str]) -> list[Package]:
    """Return the installed packages that a project needs with these extras, and those that they need."""
    found: dict[str, Package] = {}
    waiting = [(project, frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # needed on another system, or an extra that isn't installed
            continue
        if name != project:
            found[name] = Package(name, distribution.version, licence(distribution))
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if _applies(requirement, wanted):
                step = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if step not in seen:
                    seen.add(step)
                    waiting.append(step)
    return sorted(found.values())


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""})


def licence(distribution: metadata.Distribution) -> str:
    """Return what a package says of its licence, the newest way of saying it first."""
    told = distribution.metadata
    if expression := told.get("License-Expression"):
        return expression
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in told.get_all("Classifier") or ()
        if value.startswith(_CLASSIFIER) and not value.endswith("OSI Approved")
    ]
    # Some have the whole text there.
    text = " ".join((told.get("License") or _first_words(distribution)).split())
    return ", ".join(classifiers) or (
        text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    )


def _first_words(distribution: metadata.Distribution) -> str:
    """Return how the licence file begins that a package brings."""
    files = (file for file in distribution.files or () if file.name.upper().startswith("LICEN"))
    return next((file.read_text() for file in files), "")


def faults(packages: list[Package]) -> list[str]:
    """Return what is wrong with the licences."""
    unstated = [f"{package.name}: states no licence" for package in packages if not package.licence]
    binding = [
        f"{package.name}: {package.licence}"
        for package in packages
        if _BINDING.search(package.licence) and not _has_choice(package.licence)
    ]
    return unstated + binding


def _has_choice(stated: str) -> bool:
    """Tell whether one of several licences that one may choose from doesn't bind."""
    return any(not _BINDING.search(one) for one in re.split(r"\s+OR\s+|,\s*", stated))


def main() -> int:
    """Print the list; return 1 if something is wrong with it."""
    parser = argparse.ArgumentParser(description="List the licences of what is needed.", allow_abbrev=False)
    parser.add_argument("--extras", default="engine,beam,serve", help="of the project (%(default)s)")
    extras = set(parser.parse_args().extras.split(","))
    packages = needed(PROJECT, extras)
    width = max(len(package.name) for package in packages)
    for package in packages:
        print(f"{package.name:{width}}  {package.version:14}  {package.licence or '?'}")
    wrong = faults(packages)
    for fault in wrong:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
