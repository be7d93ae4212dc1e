"""Configs and overrides that are wrong; all are refused before TensorFlow is started."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from cases import Attempt, Case, Ground, engine

SOUND = (Path(__file__).parents[2] / "configs" / "demo.yaml").read_text(encoding="utf-8")


def _config(what: str, spoil: Callable[[str], str | bytes], line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        path = ground.write("config.yaml", spoil(SOUND))
        return engine(
            "train", "--config", path, "--data", ground.data_set(), "--run-dir", ground.folder / "run"
        )

    return Case("config", what, write, "engine train", r"\S+config\.yaml: " + line, 2)


def _set(key: str, value: str) -> Callable[[str], str]:
    """Return what gives a key of the file another value."""
    return lambda text: re.sub(rf"(?m)^(  {key}:).*$", lambda found: f"{found[1]} {value}", text, count=1)


def _override(what: str, override: str, line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        path = ground.write("config.yaml", SOUND)
        flags = ["--data", ground.data_set(), "--run-dir", ground.folder / "run", "--set", override]
        return engine("train", "--config", path, *flags)

    return Case("override", what, write, "engine train --set", line, 2)


def _laughs(text: str) -> str:
    """Let a few lines stand for 10 ** 9 words, by aliases of aliases."""
    levels = ["x0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    for level in range(1, 9):
        levels.append(f"x{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(levels) + "\n" + _set("epochs", "*a8")(text)


CONFIGS = [
    _config("empty", lambda _: "", r"no sections; expected model"),
    _config("a list", lambda _: "- 1\n", r"no sections; expected model"),
    _config("not UTF-8", lambda _: b"\xff\xfe\xfd", r"can't be read: 'utf-8' codec"),
    _config("control characters", lambda _: "\x00", r"not YAML: unacceptable character"),
    _config("open bracket", lambda _: "model: [", r"not YAML: while parsing"),
    _config("tabs", lambda _: "model:\n\tname: x\n", r"not YAML: while scanning"),
    _config("too long", lambda text: text + "#" * 300_000, r"not YAML: over 262,144 bytes"),
    _config("nested without end", lambda _: "[" * 5000, r"not YAML: nested too deeply"),
    _config("aliases of aliases", _laughs, r"not YAML: the alias `\*a0`; write the value out"),
    _config(
        "Python object",
        _set("epochs", "!!python/object/apply:os.getcwd []"),
        r"not YAML: could not determine",
    ),
    _config("date that is none", _set("epochs", "2001-99-99"), r"not YAML: a value can't be read: month"),
    _config(
        "tag that doesn't fit", _set("epochs", "!!int many"), r"not YAML: a value can't be read: invalid"
    ),
    _config("endless number", _set("epochs", "9" * 400), r"not YAML: a whole number beyond 64 bits"),
    _config(
        "section missing",
        lambda text: text.replace("train:", "trains:"),
        r"unknown key `trains`; did you mean",
    ),
    _config(
        "section without keys",
        lambda text: "model: 3\n" + _without(text, "model"),
        r"section `model` holds no",
    ),
    _config("key missing", lambda text: re.sub(r"(?m)^  epochs:.*\n", "", text), r"no key `train\.epochs`"),
    _config("unknown key", _set("epochs", "1\n  epoch: 2"), r"unknown key `train\.epoch`; did you mean"),
    _config("key twice", _set("epochs", "1\n  epochs: 2"), r"not YAML: the key `epochs` stands twice"),
    _config(
        "key that is a list", _set("epochs", "1\n  ? [a]\n  : 1"), r"not YAML: while constructing a mapping"
    ),
    _config("word for a number", _set("epochs", "many"), r"train\.epochs is `many`; expected a whole number"),
    _config(
        "truth for a number", _set("epochs", "true"), r"train\.epochs is `True`; expected a whole number"
    ),
    _config(
        "no number", _set("learning_rate", ".nan"), r"optimizer\.learning_rate is `nan`; expected a number"
    ),
    _config("out of range", _set("epochs", "0"), r"train\.epochs is 0; expected at least 1"),
    _config("list for a name", _set("name", "[a]"), r"model\.name is `"),
]
OVERRIDES = [
    _override("no value", "train.epochs", r"--set train\.epochs: expected section\.key=value"),
    _override(
        "unknown section", "trian.epochs=1", r"--set trian\.epochs=1: unknown key `trian`; did you mean"
    ),
    _override("unknown key", "train.epoch=1", r"--set train\.epoch=1: unknown key `train\.epoch`; did you"),
    _override("not YAML", "train.epochs={", r"--set train\.epochs=\{: the value is not YAML"),
    _override("alias", "train.epochs=[&a x, *a]", r"--set \S+ x, \*a\]: the value is not YAML: the alias"),
]


def _without(text: str, section: str) -> str:
    return re.sub(rf"(?m)^{section}:\n(?:  .*\n|\n)*", "", text, count=1)


CASES = [*CONFIGS, *OVERRIDES]
