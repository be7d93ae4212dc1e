"""Checkpoints appear whole or not at all, the last few stay, and a damaged one is passed over."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from engine.training import checkpoints
from engine.training.checkpoints import Checkpoints
from records.errors import RunError, StorageError

# Writes a small checkpoint, then large ones for ever; `{limit}` bytes at most go into a file.
WRITER = """
import itertools, resource, sys
from pathlib import Path
import numpy as np
from engine.training.checkpoints import Checkpoints
from records.errors import RunError
limit = {limit}
with Checkpoints(Path(sys.argv[1]), 2) as written:
    written.save(1, {{"a": np.arange(3)}}, {{"place": 1}})
    written.wait()
    print("one stands", flush=True)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        for step in itertools.count(2):
            written.save(step, {{"a": np.full(10_000_000, step)}}, {{"place": step}})
    except RunError as error:
        print(error, flush=True)
"""


def _save(folder: Path, *steps: int, keep_last: int = 3) -> None:
    with Checkpoints(folder, keep_last) as written:
        for step in steps:
            written.save(step, {"model/0000/kernel": np.full((2, 3), step, np.float32)}, {"step": step})


def _steps(folder: Path) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in checkpoints.stored(folder)]


def test_arrays_and_state_come_back_bit_for_bit(tmp_path):
    arrays = {
        "model/0000/a/kernel": np.array([[0.1, -0.0], [np.inf, np.nan]], np.float32),
        "optimizer/0000/iteration": np.array(7, np.int64),
        "model/0001/drop/seed_generator_state": np.array([3, 2**32 - 1], np.uint32),
    }
    state = {"place": {"epoch": 1, "loss_sum": 0.1 + 0.2}, "callbacks": {"A": {"best": -float("inf")}}}
    with Checkpoints(tmp_path / "checkpoints", 1) as written:
        written.save(12, arrays, state)
    found = checkpoints.newest(tmp_path / "checkpoints")
    assert found is not None
    assert found.path.name == "step-000000012.npz"
    assert found.state == state
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].tobytes() == array.tobytes()


def test_the_last_few_are_kept_and_no_scratch_file(tmp_path):
    _save(tmp_path, 5, 10, 15, 20, keep_last=2)
    assert _steps(tmp_path) == [20, 15]
    assert len(list(tmp_path.iterdir())) == 2


def test_those_behind_which_the_run_goes_on_make_room_for_the_new_ones(tmp_path):
    _save(tmp_path, 10, 40, 50)
    (tmp_path / ".step-000000045.npz.partial").write_bytes(b"of a killed writer")
    _save(tmp_path, 15, keep_last=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000015.npz"]


def test_a_folder_without_any_has_no_newest(tmp_path):
    assert checkpoints.newest(tmp_path) is None
    assert checkpoints.newest(tmp_path / "missing") is None


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "replaced", "unreadable"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path, capsys, damage):
    _save(tmp_path, 10, 20)
    victim = tmp_path / "step-000000020.npz"
    good = victim.read_bytes()
    place = good.index(np.full(6, 20, np.float32).tobytes())
    flipped = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
    bad = {"cut": good[: len(good) // 2], "empty": b"", "flipped": flipped, "replaced": b"no archive"}
    if damage == "unreadable":
        victim.unlink()
        victim.mkdir()
    else:
        victim.write_bytes(bad[damage])
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.state == {"step": 10}
    printed = capsys.readouterr().err
    assert printed.startswith(f"note: {victim}: not a whole checkpoint (")
    assert printed.count("\n") == 1


def test_where_none_is_whole_the_run_does_not_begin_anew_by_itself(tmp_path):
    _save(tmp_path, 10)
    (tmp_path / "step-000000010.npz").write_bytes(b"no archive")
    with pytest.raises(RunError, match="none of the 1 checkpoints is whole; begin anew with --overwrite"):
        checkpoints.newest(tmp_path)


def test_whatever_byte_is_damaged_either_nothing_is_lost_or_it_is_noticed(tmp_path):
    _save(tmp_path, 20)
    victim = tmp_path / "step-000000020.npz"
    good = victim.read_bytes()
    rng = random.Random(3)
    noticed = 0
    for place in range(0, len(good), 3):
        victim.write_bytes(good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1 :])
        try:
            found = checkpoints.read(victim)
        except RunError:
            noticed += 1
            continue
        for array in found.arrays.values():
            np.testing.assert_array_equal(array, np.full((2, 3), 20))
    assert noticed > len(good) / 6


def test_a_writer_that_is_killed_half_way_leaves_the_one_before(tmp_path):
    command = [sys.executable, "-c", WRITER.format(limit=0), str(tmp_path)]
    for kill_after_s in (0.05, 0.11):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "one stands\n"
            threading.Event().wait(kill_after_s)
            process.send_signal(signal.SIGKILL)
        found = checkpoints.newest(tmp_path)
        assert found is not None
        assert found.state["place"] == (found.arrays["a"][-1] if found.path.name[-5] != "1" else 1)


def test_no_space_left_is_one_line_and_the_one_before_stays(tmp_path):
    command = [sys.executable, "-c", WRITER.format(limit=1_000_000), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        f"{tmp_path}/step-000000002.npz: the checkpoint can't be written: file too large; make room or mend "
        "the folder, and go on with --resume auto"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.npz"]


def test_a_fault_of_the_writing_thread_is_raised_by_the_next_one_or_at_the_end(tmp_path, capsys):
    def fail(path: Path) -> None:
        raise StorageError(f"{path.name}: no such bucket")

    def save(count: int, reason: type[BaseException] | None = None) -> None:
        with Checkpoints(tmp_path, 2, fail) as written:
            for step in range(count):
                written.save(step, {}, {})
            if reason:
                raise reason

    for count in (1, 2):
        with pytest.raises(StorageError, match=r"step-000000000\.npz: no such bucket"):
            save(count)
    assert capsys.readouterr().err == ""
    # Who leaves a run counts on its checkpoint; another fault comes first, and this one is only told.
    for reason, raised in ((KeyboardInterrupt, StorageError), (ZeroDivisionError, ZeroDivisionError)):
        with pytest.raises(raised):
            save(1, reason)
    assert capsys.readouterr().err == "note: step-000000000.npz: no such bucket\n"


def test_a_save_waits_for_the_one_before_and_the_end_for_the_last(tmp_path):
    seen: list[str] = []
    go_on = threading.Event()

    def slowly(path: Path) -> None:
        go_on.wait(10)
        seen.append(path.name)

    with Checkpoints(tmp_path, 2, slowly) as written:
        written.save(1, {}, {})
        assert seen == []  # the loop isn't held up
        go_on.set()
        written.save(2, {}, {})
        assert seen[:1] == ["step-000000001.npz"]
    assert seen == ["step-000000001.npz", "step-000000002.npz"]
