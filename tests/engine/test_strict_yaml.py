"""Sections whose keys depend on what their name chooses, and overrides of whole sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from engine import strict_yaml
from records.errors import ConfigError


@dataclass(frozen=True)
class Shape:
    """A section that is one of several."""

    choices: ClassVar[dict[str, type[Shape]]]
    name: str


@dataclass(frozen=True)
class Circle(Shape):
    """A choice with a key of its own."""

    radius: float


@dataclass(frozen=True)
class Square(Shape):
    """Another one."""

    side: float


Shape.choices = {"circle": Circle, "square": Square}


@dataclass(frozen=True)
class Drawing:
    """A config."""

    shape: Shape


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Drawing]:
    """A function that reads a text as a config."""

    def read_text(text: str, overrides: Sequence[str] = ()) -> Drawing:
        path = tmp_path / "drawing.yaml"
        path.write_text(text)
        return strict_yaml.load(str(path), overrides, Drawing, example="none")

    return read_text


def test_a_section_takes_the_keys_of_the_choice_that_its_name_is(read) -> None:
    assert read("shape: {name: circle, radius: 2}") == Drawing(Circle("circle", 2.0))
    assert read("shape: {name: square, side: 3}") == Drawing(Square("square", 3.0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shape: {radius: 2}", "no key `shape.name`; expected one of circle, square"),
        ("shape: {name: cirkle, radius: 2}", "shape.name is `cirkle`; did you mean `circle`?"),
        ("shape: {name: 7}", "shape.name is `7`; expected one of circle, square"),
        ("shape: {name: circle, side: 2}", "unknown key `shape.side`; expected one of name, radius"),
        ("shape: {name: circle}", "no key `shape.radius`"),
        ("shape: circle", "section `shape` holds no keys; expected name"),
    ],
)
def test_a_choice_that_does_not_fit_is_named(read, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(text)
    assert expected in str(error.value)


def test_an_override_replaces_a_key_or_a_whole_section(read) -> None:
    circle = "shape: {name: circle, radius: 2}"
    assert read(circle, ["shape.radius=5"]) == Drawing(Circle("circle", 5.0))
    assert read(circle, ["shape={name: square, side: 1}"]) == Drawing(Square("square", 1.0))
    assert read(circle, ["shape={name: square, side: 1}", "shape.side=4"]) == Drawing(Square("square", 4.0))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "shape={name: square, radius: 1}",
            "--set shape={name: square, radius: 1}: unknown key `shape.radius`",
        ),
        ("shape.side=1", "--set shape.side=1: unknown key `shape.side`"),
        ("shape.name=square", "--set shape.name=square: unknown key `shape.radius`"),
        ("shape=square", "--set shape=square: section `shape` holds no keys"),
        ("shape", "--set shape: expected section.key=value"),
    ],
)
def test_an_override_that_does_not_fit_is_named(read, override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        read("shape: {name: circle, radius: 2}", [override])
    assert str(error.value).startswith(expected)
