"""Saves a model as a `.keras` file that older releases of Keras 3 read too.

Releases since 3.13 write settings that 3.12, the last one for Python 3.10, refuses, also where they are off.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras

# The new settings, and what they are while off; a release that knows them takes them for that when missing.
OFF = {
    "input_axes": None,
    "output_axes": None,
    "quantization_config": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}
CONFIG = "config.json"


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model as `model.save` does, less the settings of `OFF` that are off.

    Args:
        model: any.
        path: ends in `.keras`; written in place and twice, so name a scratch file that is renamed afterwards.

    Raises:
        OSError: it can't be written.
    """
    model.save(path)
    with zipfile.ZipFile(path) as saved:
        members = [(member, saved.read(member)) for member in saved.infolist()]
    with zipfile.ZipFile(path, "w") as rewritten:
        for member, content in members:
            if member.filename == CONFIG:
                content = json.dumps(_without_what_is_off(json.loads(content))).encode()
            rewritten.writestr(member, content)


def _without_what_is_off(config: Any) -> Any:
    if isinstance(config, dict):
        return {
            key: _without_what_is_off(value)
            for key, value in config.items()
            if key not in OFF or value != OFF[key]
        }
    if isinstance(config, list):
        return [_without_what_is_off(value) for value in config]
    return config
