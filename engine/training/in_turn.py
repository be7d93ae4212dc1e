"""Several configs trained one after the other, each by a process of its own, which inherits nothing.

What is finished already is recognised by its run directory, so the same command goes on behind a failure. A
training whose parent is killed leaves as on SIGTERM.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.training import parent, train
from records import storage
from records.errors import ConfigError

_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


def run(
    config_paths: Sequence[str], data: str, run_dir: str, overrides: Sequence[str], flags: Sequence[str]
) -> int:
    """Train each config into a folder of its name below `run_dir`.

    Args:
        config_paths: of YAML files; all are checked before the first one is trained.
        data: location of the manifest.
        run_dir: folder of the runs' folders. Copies in a bucket, too, lie in one of each name.
        overrides: `section.key=value` each, for all of them.
        flags: other flags of `engine train`.

    Returns:
        0, or the exit code of the first one that didn't end well, behind which none is begun.

    Raises:
        ConfigError: a config is at fault, or two have one name.
    """
    names = [Path(path).stem for path in config_paths]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two configs are called {twice}, and so would their runs be; rename one")
    settings = [train.checked(path, data, overrides)[0] for path in config_paths]
    for number, (path, name, config) in enumerate(zip(config_paths, names, settings, strict=True), start=1):
        location = config.checkpoint.location
        own = [f"checkpoint.location={storage.join(location, name)}"] if location else []
        print(f"{name} ({number} of {len(names)}):", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "engine.cli", "train", "--config", path, "--data", data, *flags]
        command += ["--run-dir", str(Path(run_dir) / name)]
        command += [part for override in (*overrides, *own) for part in ("--set", override)]
        if code := call(command):
            return code
    return 0


def call(command: Sequence[str]) -> int:
    """Run a command to its end; signals that come for this process go to it."""
    with parent.started(command) as process:
        # The terminal's Ctrl-C goes to both; the child's own answer to it is waited for.
        handlers: dict[signal.Signals, Any] = {signal.SIGINT: lambda *_: None}
        handlers |= dict.fromkeys(_FORWARDED, lambda number, _: process.send_signal(number))
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            code = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code
