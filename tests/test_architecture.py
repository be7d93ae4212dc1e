"""Holds who may import whom, by reading the imports of every module without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"records", "beam_pipelines", "engine"}
FORBIDDEN = {
    "records": {"beam_pipelines", "engine", "tensorflow", "keras", "apache_beam"},
    "beam_pipelines": {"engine", "tensorflow", "keras"},
    "engine": {"beam_pipelines", "apache_beam"},
}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "registry"}
MAX_FILE_LINES = 400


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_packages(source: str) -> Iterator[str]:
    """Yield the top-level package of each absolute import, wherever in the source it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value.partition(".")[0]


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__", "importorskip"}


def outward_relative_imports(source: str, depth: int) -> list[int]:
    """Return the lines whose relative import climbs out of the package; depth = folders below its root."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level > depth + 1
    ]


@pytest.mark.parametrize("package", sorted(OURS))
def test_each_package_imports_only_what_it_may(package: str) -> None:
    assert package == "engine" or modules(package), f"{package} has no modules to read"
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in modules(package)
        for name in imported_packages(path.read_text(encoding="utf-8"))
        if name in FORBIDDEN[package]
    }
    assert not found


@pytest.mark.parametrize("package", sorted(OURS))
def test_no_relative_import_leaves_its_package(package: str) -> None:
    found = [
        (str(path), line)
        for path in modules(package)
        for line in outward_relative_imports(
            path.read_text(encoding="utf-8"), len(path.relative_to(ROOT / package).parts) - 1
        )
    ]
    assert not found


def test_every_package_of_ours_has_its_import_rules() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= OURS
    assert set(FORBIDDEN) == OURS


def test_no_module_has_a_name_that_says_nothing() -> None:
    paths = [path for package in sorted(OURS) for path in (ROOT / package).rglob("*")]
    assert not [str(path) for path in paths if path.stem.strip("_") in VAGUE_NAMES]


def test_no_source_file_is_longer_than_its_limit() -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for package in [*sorted(OURS), "tests"]
        for path in modules(package)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    }
    assert not too_long


@pytest.mark.parametrize(
    "source",
    [
        "import tensorflow",
        "import numpy, tensorflow as tf",
        "import tensorflow.io",
        "from tensorflow import io",
        "from tensorflow.io import gfile",
        "def late():\n    import tensorflow",
        "if False:\n    import tensorflow",
        "import importlib\nimportlib.import_module('tensorflow.io')",
        "__import__('tensorflow')",
    ],
)
def test_an_import_is_found_however_it_is_written(source: str) -> None:
    assert "tensorflow" in set(imported_packages(source))


def test_words_that_are_no_import_are_not_taken_for_one() -> None:
    source = '"""import tensorflow"""\n# import tensorflow\nname = "tensorflow"\nfrom .tensorflow import x\n'
    assert list(imported_packages(source)) == []


def test_a_relative_import_that_climbs_out_is_found() -> None:
    assert outward_relative_imports("from ..engine import cli", depth=0) == [1]
    assert outward_relative_imports("from . import a\nfrom ..b import c", depth=1) == []
