"""JSON that may come from anywhere: whatever is wrong with it is a ValueError."""

from __future__ import annotations

import json
from typing import Any


def parse(data: bytes | str) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none, no text in UTF-8, holds a number of thousands of digits, or nests too deeply,
            for which Python's own reader has another kind of error.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
