"""YAML files of sections read into nested dataclasses: complete, strict, with overrides checked alike."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from records.errors import ConfigError

Settings = TypeVar("Settings")

# Ours have four thousand; PyYAML needs ten seconds for a million.
MAX_FILE_BYTES = 1 << 18


def load(path: str, overrides: Sequence[str], kind: type[Settings], *, example: str) -> Settings:
    """Read a file of sections.

    Args:
        path: of a YAML file that names every key.
        overrides: `section.key=value` each, or `section={key: value, ...}`, the value in YAML.
        kind: a dataclass of dataclasses; a section checks its own ranges when it is made. A section whose
            class has `choices`, from names to dataclasses, takes the keys of the one that its `name` chooses.
            A key that is a tuple of dataclasses takes a list of such sections.
        example: of such a file, for the error where there is none.

    Raises:
        ConfigError: with the file, or the override, and the key.
    """
    try:
        values = parse(_read_text(Path(path)))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{path}: can't be read: {reason}; expected a config such as {example}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: no sections; expected {', '.join(_sections(kind))}")
    for override in overrides:
        _override(values, override, kind)
    try:
        return _read(values, kind)
    except ConfigError as error:
        raise ConfigError(f"{_blamed(path, overrides, str(error))}: {error}") from error


def parse(text: str) -> Any:
    """Read YAML of plain values, strictly.

    Raises:
        yaml.YAMLError: it can't be read, a key stands twice, or a value is repeated by an alias.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError:
        raise
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except Exception as error:  # PyYAML lets any kind through, of a value that doesn't fit its tag
        raise yaml.YAMLError(f"a value can't be read: {error}") from error


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise yaml.YAMLError(f"over {MAX_FILE_BYTES:,} bytes")
    return data.decode()


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses what YAML itself would take.

    A key that stands twice, which it takes for the last one; an alias, by which few bytes stand for a text
    without end; a whole number beyond 64 bits, which neither fits a float nor can always be printed.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read the next node, which must be written out."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"the alias `*{self.peek_event().anchor}`; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping whose keys must differ."""
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                raise yaml.YAMLError(f"the key `{key}` stands twice in one section")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """Read a whole number that fits 64 bits, with or without a sign."""
        value = self.construct_yaml_int(node)
        if not -(2**63) <= value < 2**64:
            raise yaml.YAMLError("a whole number beyond 64 bits")
        return value


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_whole_number)


def _blamed(path: str, overrides: Sequence[str], reason: str) -> str:
    """Name the override that a fault comes from, or else the file."""
    for override in reversed(overrides):
        name = override.partition("=")[0]
        section = name.removesuffix(".name")  # that one also says which keys there are
        of_section = "." not in section and (f"{section}." in reason or f"section `{section}`" in reason)
        of_item = f"{name}[" in reason
        if of_section or of_item or reason.startswith((f"{name} ", f"unknown key `{name}`")):
            return f"--set {override}"
    return path


def _read(values: dict[str, Any], kind: type[Settings]) -> Settings:
    sections = _sections(kind)
    _check_keys(values, sections, "")
    return kind(**{name: _read_section(name, section, values[name]) for name, section in sections.items()})


def _read_section(name: str, kind: type, values: Any) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"section `{name}` holds no keys; expected {', '.join(_keys(kind))}")
    kind = _chosen(name, kind, values)
    hints = _keys(kind)
    _check_keys(values, hints, f"{name}.")
    return kind(**{key: _typed(f"{name}.{key}", values[key], hints[key]) for key in hints})


def _chosen(section: str, kind: type, values: dict[Any, Any]) -> type:
    """Return the dataclass that the section's `name` stands for, where its keys depend on that."""
    choices: dict[str, type] | None = getattr(kind, "choices", None)
    if choices is None:
        return kind
    if "name" not in values:
        raise ConfigError(f"no key `{section}.name`; expected one of {', '.join(choices)}")
    if not isinstance(values["name"], str) or values["name"] not in choices:
        found = str(values["name"])
        close = difflib.get_close_matches(found, choices, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else f"expected one of {', '.join(choices)}"
        raise ConfigError(f"{section}.name is `{found}`; {hint}")
    return choices[values["name"]]


def _keys(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _sections(kind: type) -> dict[str, type]:
    return _keys(kind)


def _check_keys(values: dict[str, Any], known: dict[str, Any], prefix: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key `{prefix}{key}`{_nearest(prefix, str(key), known)}")
    missing = [key for key in known if key not in values]
    if missing:
        raise ConfigError(f"no key `{prefix}{missing[0]}`; a config names every key: add it")


def _nearest(prefix: str, key: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean `{prefix}{close[0]}`?" if close else f"; expected one of {', '.join(known)}"


def _override(values: dict[str, Any], override: str, kind: type) -> None:
    name, separator, text = override.partition("=")
    section, dot, key = name.partition(".")
    if not separator or not section:
        raise ConfigError(f"--set {override}: expected section.key=value, such as train.epochs=3")
    sections = _sections(kind)
    if section not in sections:
        raise ConfigError(f"--set {override}: unknown key `{section}`{_nearest('', section, sections)}")
    try:
        value = parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {override}: the value is not YAML: {' '.join(str(error).split())}"
        ) from error
    if not dot:  # a whole section, such as another loss with its own keys
        values[section] = value
        return
    if not isinstance(values.setdefault(section, {}), dict):
        expected = ", ".join(_keys(sections[section]))
        raise ConfigError(f"section `{section}` holds no keys; expected {expected}")
    # What else a section takes is known when its `name` is; that is checked when all overrides stand.
    if not hasattr(sections[section], "choices") and key not in (known := _keys(sections[section])):
        raise ConfigError(f"--set {override}: unknown key `{name}`{_nearest(f'{section}.', key, known)}")
    values[section][key] = value


def _typed(name: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, types.GenericAlias):  # tuple[int, ...]
        if not isinstance(value, list):
            example = _LIST_EXAMPLES.get(typing.get_args(kind)[0], "[{name: ...}, {name: ...}]")
            raise ConfigError(f"{name} is `{value}`; expected a list such as {example}")
        return tuple(
            _item(f"{name}[{place}]", name, item, typing.get_args(kind)[0])
            for place, item in enumerate(value)
        )
    if kind is float:
        return _float(name, value)
    if (kind is int and isinstance(value, bool)) or not isinstance(value, kind):
        raise ConfigError(f"{name} is `{value}`; expected {_KIND_NAMES[kind]}")
    return value


def _item(place: str, name: str, value: Any, kind: Any) -> Any:
    """Read an item of the list `name`, a value or a section; `place` says which one it is."""
    if not dataclasses.is_dataclass(kind):
        return _typed(name, value, kind)
    try:
        return _read_section(place, typing.cast(type, kind), value)
    except ConfigError as error:
        # What a section says when it checks its own values doesn't tell where it stands.
        text = str(error)
        raise ConfigError(text if place in text else f"{place}: {text}") from error


def _float(name: str, value: Any) -> float:
    # YAML 1.1 takes 1e-3 for text because it has no dot.
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is `{value}`; expected a number") from None


_LIST_EXAMPLES = {int: "[128, 64]", float: "[0.001, 0.003]", str: "[first, second]"}
_KIND_NAMES = {int: "a whole number", str: "text", bool: "true or false"}
