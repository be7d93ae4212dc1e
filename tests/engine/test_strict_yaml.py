"""Sections whose keys depend on what their name chooses, lists of them, and overrides of whole sections."""

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

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ConfigError(f"shape.radius is {self.radius}; expected at least 0")


@dataclass(frozen=True)
class Square(Shape):
    """Another one."""

    side: float


Shape.choices = {"circle": Circle, "square": Square}


@dataclass(frozen=True)
class Drawing:
    """A config."""

    shape: Shape


@dataclass(frozen=True)
class Pile:
    """A section with lists."""

    shapes: tuple[Shape, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Room:
    """A config with a list of sections."""

    pile: Pile


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Drawing]:
    """A function that reads a text as a config."""

    def read_text(text: str, overrides: Sequence[str] = (), kind: type = Drawing) -> Drawing:
        path = tmp_path / "drawing.yaml"
        path.write_text(text)
        return strict_yaml.load(str(path), overrides, kind, example="none")

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


def test_a_list_of_sections_takes_for_each_the_keys_that_its_name_chooses(read) -> None:
    text = "pile: {shapes: [{name: square, side: 3}, {name: circle, radius: 2}], weights: [1, 2e-1]}"
    assert read(text, kind=Room) == Room(Pile((Square("square", 3.0), Circle("circle", 2.0)), (1.0, 0.2)))
    assert read(text, ["pile.shapes=[]"], kind=Room) == Room(Pile((), (1.0, 0.2)))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ("{name: circle, radius: 2}", "pile.shapes is `{'name': 'circle', 'radius': 2}`; expected a list"),
        ("[{name: cirkle}]", "pile.shapes[0].name is `cirkle`; did you mean `circle`?"),
        ("[{name: square, side: 1}, {name: square}]", "no key `pile.shapes[1].side`"),
        ("[{name: circle, radius: -1}]", "pile.shapes[0]: shape.radius is -1.0; expected at least 0"),
        ("[circle]", "section `pile.shapes[0]` holds no keys"),
    ],
)
def test_a_section_of_a_list_that_does_not_fit_is_named_by_its_place(
    read, shapes: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(f"pile: {{shapes: {shapes}, weights: []}}", kind=Room)
    assert expected in str(error.value)
    with pytest.raises(ConfigError) as error:
        read("pile: {shapes: [], weights: []}", [f"pile.shapes={shapes}"], kind=Room)
    assert str(error.value).startswith(f"--set pile.shapes={shapes}: {expected}")


def test_a_list_of_numbers_that_is_none_shows_one(read) -> None:
    with pytest.raises(
        ConfigError, match=r"pile\.weights is `3`; expected a list such as \[0\.001, 0\.003\]"
    ):
        read("pile: {shapes: [], weights: 3}", kind=Room)
