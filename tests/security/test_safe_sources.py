"""Holds what no module may call, by reading every call without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("records", "beam_pipelines", "engine")
# Work items, from this process to its workers, by a folder or a job that nobody else can write to.
MAY_PICKLE = {"beam_pipelines/work_folder.py", "beam_pipelines/pipeline.py"}
MAY_LOAD_YAML = {"engine/strict_yaml.py"}
RUN_DATA = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "jsonpickle",
    "telnetlib",
}
NEVER_CALLED = {
    *("eval", "exec", "compile", "os.system", "os.popen", "tempfile.mktemp", "yaml.unsafe_load"),
    *("yaml.full_load", "keras.config.enable_unsafe_deserialization", "ssl._create_unverified_context"),
}
UNPACKS_TO_DISK = {"extractall", "unpack_archive"}


def modules() -> list[tuple[str, ast.Module]]:
    return [
        (str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8")))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


MODULES = modules()


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with its function as it is written, such as `np.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def places(wanted) -> list[str]:
    """Return where calls stand that `wanted`, from module, name and call, picks out."""
    return [
        f"{module}:{call.lineno}: {name}"
        for module, tree in MODULES
        for name, call in calls(tree)
        if wanted(module, name, call)
    ]


def argument(call: ast.Call, name: str) -> object:
    """Return a keyword's constant, None where there is none."""
    return next((ast.literal_eval(word.value) for word in call.keywords if word.arg == name), None)


def test_nothing_is_evaluated_or_run_by_a_shell() -> None:
    assert not places(lambda _module, name, _call: name in NEVER_CALLED)
    assert not places(lambda _m, _n, call: any(word.arg == "shell" for word in call.keywords))


def test_only_work_items_are_pickled() -> None:
    found = {
        module
        for module, tree in MODULES
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
        if name and name.partition(".")[0] in RUN_DATA
    }
    assert found == MAY_PICKLE


def test_every_array_is_loaded_without_pickle_and_says_so() -> None:
    loads = {"np.load", "numpy.load"}
    assert places(lambda _m, name, _c: name in loads)
    assert not places(lambda _m, name, call: name in loads and argument(call, "allow_pickle") is not False)
    assert not places(lambda _m, name, _c: name in {"np.fromfile", "np.genfromtxt", "np.loadtxt"})


def test_yaml_is_read_by_the_strict_loader_alone() -> None:
    loads = {"yaml.load", "yaml.load_all"}
    assert {place.partition(":")[0] for place in places(lambda _m, name, _c: name in loads)} == MAY_LOAD_YAML


def test_the_strict_loader_is_a_safe_one() -> None:
    import yaml

    from engine import strict_yaml

    assert issubclass(strict_yaml._StrictLoader, yaml.SafeLoader)
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        strict_yaml.parse("!!python/object/apply:os.getcwd []")


def test_models_are_never_loaded_without_keras_safe_mode() -> None:
    def unsafe(_module: str, name: str, call: ast.Call) -> bool:
        return name.endswith("saving.load_model") and argument(call, "safe_mode") is False

    assert not places(unsafe)
    assert not [
        module for module, tree in MODULES if "Lambda" in {_attribute(node) for node in ast.walk(tree)}
    ]


def _attribute(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ""


def test_archives_are_never_unpacked_to_disk() -> None:
    assert not places(lambda _m, name, _c: name.rpartition(".")[2] in UNPACKS_TO_DISK)


def test_no_fixed_name_stands_below_the_systems_temporary_folder() -> None:
    found = [
        f"{module}:{node.lineno}"
        for module, tree in MODULES
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(("/tmp", "/var/tmp", "/dev/shm"))
    ]
    assert not found
    assert not places(lambda _m, name, _c: name == "tempfile.gettempdir")


def test_pages_are_made_with_escapes() -> None:
    environments = [
        (name, call)
        for _, tree in MODULES
        for name, call in calls(tree)
        if name.rpartition(".")[2] == "Environment"
    ]
    assert environments
    assert all(argument(call, "autoescape") is True for _, call in environments)


@pytest.mark.parametrize(
    "source", ["eval('1')", "os.system('ls')", "subprocess.run('ls', shell=True)", "np.load(path)"]
)
def test_a_forbidden_call_is_found(source: str) -> None:
    ((name, call),) = calls(ast.parse(source))
    shell = any(word.arg == "shell" for word in call.keywords)
    assert name in NEVER_CALLED or shell or argument(call, "allow_pickle") is not False
