"""The data set that a run directory is of, wherever it lies now, for the commands behind training."""

from __future__ import annotations

import sys
from typing import Any

from records import manifest
from records.errors import CxrError, RunError


def find(known: dict[str, Any], data: str | None) -> manifest.Manifest:
    """Load a run's data set; its files are not looked at.

    Args:
        known: what `run.json` says.
        data: location of the manifest, where it isn't where the run found it.

    Raises:
        CxrError: it isn't there, or is another one than the run's.
    """
    told = known["manifest"]
    try:
        found = manifest.load(data or told["location"])
    except CxrError as error:
        if data:
            raise
        raise type(error)(f"{error}; if the data set has moved, say where with --data") from error
    if found.sha256 != told["sha256"]:
        raise RunError(
            f"{found.location}: not the data set of this run (manifest {found.sha256[:12]}, "
            f"the run's is {told['sha256'][:12]}); name the right one with --data"
        )
    return found


def jpeg_quality(known: dict[str, Any], data: str | None = None) -> int | None:
    """Return the quality of JPEG that a run's pictures were stored in, None for another encoding.

    Where neither the run nor its data set tells, a note says so and None is returned. Arguments are `find`'s.
    """
    image = known["manifest"].get("image")
    if image is None:
        try:
            image = find(known, data).image
        except CxrError as error:
            print(f"note: pictures are taken as stored without loss: {error}", file=sys.stderr, flush=True)
            image = {}
    return image.get("jpeg_quality")
