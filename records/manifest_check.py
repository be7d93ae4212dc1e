"""The keys of a manifest and what each may hold, checked once, before anything relies on them.

A manifest may come from anywhere, so its paths are held inside its folder. Whether it tells the truth about
the records is the audit's question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from records.labels import FINDINGS
from records.splits import SPLITS

_LARGEST = 2**63 - 1
_SHOWN_CHARACTERS = 60


class ManifestKeyError(ValueError):
    """The message names the key, what was found and what was expected."""


class _Value(NamedTuple):
    expected: str
    holds: Callable[[Any], bool]


class _Object(NamedTuple):
    """Keys that must be there, keys that may be, and whether others may stand beside them."""

    keys: Mapping[str, Any]
    optional: Mapping[str, Any] = {}
    open: bool = False


class _List(NamedTuple):
    of: Any


_Rule = _Value | _Object | _List


def is_inside(path: Any) -> bool:
    """Tell whether a path is relative, names no folder above and can be a file's name on any system."""
    return (
        isinstance(path, str)
        and path.isprintable()  # neither control characters nor half of a surrogate pair
        and "\\" not in path
        and not {"", ".", ".."} & set(path.split("/"))
    )


def _is_number(value: Any) -> bool:
    # Written so that NaN and infinity fail; JSON as Python reads it has both.
    return type(value) in (int, float) and -1e300 < value < 1e300


def _whole(least: int) -> _Value:
    return _Value(
        f"a whole number of at least {least}", lambda value: type(value) is int and least <= value <= _LARGEST
    )


_ANYTHING = _Value("anything", lambda _: True)
_TEXT = _Value("text", lambda value: isinstance(value, str))
_COUNT = _whole(0)
_SHARE = _Value("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
_MEAN = _Value(
    "a number, or null where nothing was counted", lambda value: value is None or _is_number(value)
)
_PATH = _Value("a relative path inside the data set's folder, without `..`", is_inside)
_CRC32C = _Value(
    "8 hexadecimal digits",
    lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{8}", value) is not None,
)
_FILE = {"path": _PATH, "size_bytes": _COUNT, "crc32c": _CRC32C}
_LEFT_OUT = _Object({"image_id": _TEXT, "reason": _TEXT})
_SPLIT = _Object(
    {
        "images": _COUNT,
        "patients": _COUNT,
        "positives": _Object(dict.fromkeys(FINDINGS, _COUNT)),
        "positive_patients": _Object(dict.fromkeys(FINDINGS, _COUNT)),
        "prevalence": _Object(dict.fromkeys(FINDINGS, _SHARE)),
        "shards": _List(_Object({**_FILE, "records": _COUNT})),
        "index": _Object(_FILE),
    }
)
_MANIFEST = _Object(
    {
        "schema_version": _ANYTHING,  # the reader compares it
        "findings": _List(_TEXT),
        "source": _Object({}, optional={"rows": _COUNT, "missing": _COUNT}, open=True),
        "split": _Object({"strategy": _TEXT, "seed": _COUNT}, open=True),
        "image": _Object({"side_px": _whole(1), "stored_channels": _whole(1), "encoding": _TEXT}, open=True),
        "statistics": _Object({"mean": _MEAN, "deviation": _MEAN, "pixels": _COUNT}, open=True),
        "splits": _Object(dict.fromkeys(SPLITS, _SPLIT)),
        "patients_in_two_splits": _COUNT,
        "quarantined": _List(_LEFT_OUT),
        "versions": _Object({}, open=True),
        "request_sha256": _TEXT,
    },
    optional={
        "licence": _TEXT,
        "citation": _TEXT,
        "excluded": _List(_LEFT_OUT),
        "oddities": _Object({}, open=True),
        "class_weights": _Object(
            {}, optional=dict.fromkeys(FINDINGS, _Object({"positive": _MEAN, "negative": _MEAN}))
        ),
    },
)


def check_key(values: Any, key: str) -> None:
    """Check one key of a manifest's values.

    Raises:
        ManifestKeyError: the values are no object, the key is missing, or it holds something else.
    """
    _check(values, _Object({key: _MANIFEST.keys[key]}, open=True), "")


def check(values: Any) -> None:
    """Check all keys of a manifest's values.

    Raises:
        ManifestKeyError: the first key that is missing, unknown, or holds something else.
    """
    _check(values, _MANIFEST, "")


def _check(value: Any, rule: _Rule, where: str) -> None:
    if isinstance(rule, _Value):
        if not rule.holds(value):
            raise ManifestKeyError(f"{_named(where)} is {_shown(value)}; expected {rule.expected}")
    elif isinstance(rule, _List):
        if not isinstance(value, list):
            raise ManifestKeyError(f"{_named(where)} is {_shown(value)}; expected a list")
        for number, entry in enumerate(value):
            _check(entry, rule.of, f"{where}[{number}]")
    else:
        _check_object(value, rule, where)


def _check_object(value: Any, rule: _Object, where: str) -> None:
    if not isinstance(value, dict):
        raise ManifestKeyError(f"{_named(where)} is {_shown(value)}; expected an object with named keys")
    inside = f"{where}." if where else ""
    for key in rule.keys:
        if key not in value:
            raise ManifestKeyError(f"`{inside}{key}` is missing")
    known = {**rule.keys, **rule.optional}
    for key, entry in value.items():
        if key in known:
            _check(entry, known[key], inside + key)
        elif not rule.open:
            raise ManifestKeyError(f"unknown key `{inside}{key}`; expected {', '.join(known)}")


def _named(where: str) -> str:
    return f"`{where}`" if where else "the whole"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
