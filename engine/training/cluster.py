"""The processes that train one model together, each on a machine of its own, as `TF_CONFIG` names them.

Worker 0 writes the run directory; the others read it to go on, and otherwise leave nothing. All of them take
the same steps, judge the same validation split, and leave at the same step when one of them is asked to.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from records.errors import ConfigError

VARIABLE = "TF_CONFIG"


class Worker(NamedTuple):
    """This process among those of the run.

    Attributes:
        number: of this one, counted from 0; worker 0 writes.
        workers: in all.
    """

    number: int = 0
    workers: int = 1


def this_worker() -> Worker:
    """Return what `TF_CONFIG` says of this process; without it, or with one worker, a run is one process.

    Raises:
        ConfigError: it isn't what TensorFlow expects.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return Worker()
    try:
        known = json.loads(text)
        sizes = {kind: len(known["cluster"].get(kind, ())) for kind in ("chief", "worker")}
        tasks = [(kind, number) for kind, size in sizes.items() for number in range(size)]
        worker = Worker(tasks.index((known["task"]["type"], known["task"]["index"])), len(tasks))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{VARIABLE} is `{text}`; expected "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}} '
            f"({type(error).__name__}: {error})"
        ) from error
    return worker if worker.workers > 1 else Worker()
