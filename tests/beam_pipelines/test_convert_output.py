"""Whose output it is: recognised, refused, killed, resumed and mended conversions."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conversions import error_of, tree_of

from beam_pipelines import convert, forked_workers
from beam_pipelines import output as outputs
from records import manifest


def test_converting_again_recognises_its_own_output_and_refuses_anothers(drawn, converted, capsys):
    before = tree_of(converted)
    assert convert.main(drawn.arguments(converted)) == 0
    assert "nothing to do" in capsys.readouterr().out
    line = error_of(capsys, drawn.arguments(converted, seed=18), 1)
    assert "holds another data set (seed is 17, asked for is 18)" in line
    assert tree_of(converted) == before


def test_a_folder_with_other_files_is_refused_and_left_alone(drawn, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "holds 1 files that are no data set" in error_of(capsys, drawn.arguments(tmp_path), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_killed_conversion_resumes_to_the_same_bytes(drawn, converted, tmp_path, capsys):
    output = tmp_path / "shards"
    flags = drawn.arguments(output, direct_running_mode=None)
    process = subprocess.Popen(
        [sys.executable, "-m", "beam_pipelines.convert", *flags],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(lambda: any(output.rglob("*.tfrecord")) or process.poll() is not None)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if not (output / manifest.FILE_NAME).exists():
        assert "add --resume" in error_of(capsys, drawn.arguments(output), 1)
        assert "with other inputs or settings" in error_of(
            capsys, drawn.arguments(output, seed=1, resume=True), 1
        )
    assert convert.main(drawn.arguments(output, resume=True)) == 0
    assert tree_of(output) == tree_of(converted)


def _wait_for(condition, limit_s: float = 60.0, every_s: float = 0.01) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(every_s)


def _kill_after_a_new_file(command: list[str], output: Path) -> bool:
    """Start a command, kill it as soon as it has put a file into its output; tell whether it was running."""
    before = {path for path in output.rglob("*") if path.is_file()}

    def more() -> bool:
        return process.poll() is not None or any(
            path.is_file() and path not in before for path in output.rglob("*[!k]")
        )

    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(more, every_s=0.0005)
        finally:
            running = process.poll() is None
            process.kill()
    return running


@pytest.mark.slow
def test_a_conversion_killed_ten_times_over_ends_with_the_bytes_of_an_undisturbed_one(drawn, tmp_path):
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "out"
    assert convert.main(drawn.arguments(undisturbed, records_per_shard=4)) == 0
    flags = drawn.arguments(output, records_per_shard=4, resume=True)
    command = [sys.executable, "-m", "beam_pipelines.convert", *flags]
    kills = [_kill_after_a_new_file(command, output) for _ in range(10)]
    assert kills == [True] * 10
    assert not (output / manifest.FILE_NAME).exists()
    assert convert.main(flags) == 0
    assert tree_of(output) == tree_of(undisturbed)


def test_hidden_files_of_others_are_neither_overlooked_nor_removed(drawn, tmp_path, capsys):
    output = tmp_path / "out"
    (output / ".work").mkdir(parents=True)
    (output / ".work" / ".thesis").write_text("years of work")
    assert "such as .work" in error_of(capsys, drawn.arguments(output), 1)
    (output / ".work" / ".thesis").unlink()
    (output / ".keep.tmp").write_text("years of work")
    assert "such as .keep.tmp" in error_of(capsys, drawn.arguments(output), 1)
    assert (output / ".keep.tmp").exists()


def test_a_second_conversion_into_one_folder_is_refused(drawn, converted, tmp_path, capsys):
    with outputs.locked(str(tmp_path / "out")):
        assert "another conversion is writing here" in error_of(capsys, drawn.arguments(tmp_path / "out"), 1)
    assert convert.main(drawn.arguments(tmp_path / "out")) == 0
    assert tree_of(tmp_path / "out") == tree_of(converted)


def _unfinished(drawn, converted: Path, output: Path) -> None:
    """Lay out what a conversion leaves that was killed just before its end."""
    from beam_pipelines import finish

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "finish", stop)
        assert convert.main(drawn.arguments(output)) == 130


def test_a_shard_that_was_damaged_before_the_resume_is_made_anew(drawn, converted, tmp_path):
    output = tmp_path / "out"
    _unfinished(drawn, converted, output)
    shard = sorted((output / "train").glob("*.tfrecord"))[0]
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data)
    assert convert.main(drawn.arguments(output, resume=True)) == 0
    assert tree_of(output) == tree_of(converted)


def test_a_resumed_conversion_counts_only_what_it_made_itself(drawn, converted, tmp_path):
    output = tmp_path / "out"
    _unfinished(drawn, converted, output)
    assert convert.main(drawn.arguments(output, resume=True)) == 0
    assert json.loads((output / outputs.CONVERSION_NAME).read_text())["images_converted"] == 0


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_resume_mends_a_finished_data_set(drawn, converted, tmp_path, capsys, damage):
    output = Path(shutil.copytree(converted, tmp_path / "out"))
    shard = sorted((output / "train").glob("*.tfrecord"))[0]
    if damage == "missing":
        shard.unlink()
        assert "missing, but the manifest names it" in error_of(capsys, drawn.arguments(output), 1)
    else:
        data = bytearray(shard.read_bytes())
        data[5000] ^= 1
        shard.write_bytes(data)
    assert convert.main(drawn.arguments(output, resume=True)) == 0
    assert tree_of(output) == tree_of(converted)


def _a_worker_of(launcher: int) -> int:
    """Return the process id of one of the launcher's workers: forked ones have no process below them."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if f"{forked_workers.__name__}\0" in (folder / "cmdline").read_text():
                parents[int(folder.name)] = int(fields[1])
    nurseries = [child for child, parent in parents.items() if parent == launcher]
    keepers = [child for child, parent in parents.items() if parent in nurseries]
    return next(child for child, parent in parents.items() if parent in keepers)


def test_a_worker_that_is_killed_ends_the_conversion_with_one_line(drawn, converted, tmp_path, capsys):
    many = tmp_path / "many"
    many.mkdir()
    rows = [drawn.table.read_text().splitlines()[0]]
    source = next((drawn.folder / "images").rglob("00000001_000.png"))
    for patient in range(1, 3001):
        name = f"{patient:08d}_000.png"
        os.link(source, many / name)
        rows.append(f"{name},No Finding,0,{patient},50,M,PA,400,400,0.1,0.1")
    (tmp_path / "many.csv").write_text("\n".join(rows) + "\n")
    flags = drawn.arguments(
        tmp_path / "out", images=many, labels=tmp_path / "many.csv", split="random", fractions="0.6,0.2,0.2",
        train_val_list=None, test_list=None, direct_running_mode=None, direct_num_workers=2,
        allow_duplicates=True,
    )  # fmt: skip
    command = [sys.executable, "-m", "beam_pipelines.convert", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            _wait_for(lambda: any((tmp_path / "out").rglob("*.tfrecord")) or process.poll() is not None)
            os.kill(_a_worker_of(process.pid), signal.SIGKILL)
            error = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 1
    assert "error: a worker process was killed" in error
    assert "Traceback" not in error
    assert convert.main([*flags, "--resume"]) == 0
