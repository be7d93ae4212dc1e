"""Writes a phantom data set: files shaped like the NIH's ChestX-ray14, with findings that can be learned.

    python -m beam_pipelines.synthesize --output data/phantom --patients 240 --seed 7

This module is responsible for the files (pictures, table, lists, boxes) and the command line. Who has which
findings is left to `cohort`, drawing to `phantom`. The same number of patients and the same seed give the
same bytes, whatever the number of processes.

While it works, the folder holds `phantom.partial.json`; as the last step that file becomes `phantom.json`.
Every file appears under its name only when whole, so an interrupted run is completed by a rerun.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np

from beam_pipelines import cohort, phantom
from beam_pipelines.cohort import Picture
from records.errors import CxrError, StorageError, UsageError
from records.labels import BOX_ALIASES, NO_FINDING
from records.machine import usable_cores

# Part of the settings: raise it when the same seed would give other bytes than before.
FORMAT_VERSION = 1
IMAGE_FOLDER = "images_001/images"
TABLE_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
BOX_FINDINGS = frozenset(
    {"Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"}
)

_OTHER = "choose another folder or remove this one"

# --- Files --------------------------------------------------------------------------------------------


def synthesize(output: Path, patients: int, seed: int, workers: int) -> None:
    """Write the whole data set, or complete what an interrupted run left.

    Raises:
        StorageError: the folder holds something else or can't be written.
    """
    settings = {"patients": patients, "seed": seed, "format_version": FORMAT_VERSION}
    pictures, test = cohort.plan(patients, seed)
    if _is_complete(output, settings, pictures):
        print(f"{output}: already there, {len(pictures)} images of {patients} patients, seed {seed}")
        return
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    versions = {"numpy": np.__version__, "opencv": cv2.__version__}
    state = {"settings": settings, "images": len(pictures), "versions": versions}
    _publish(output / "phantom.partial.json", (json.dumps(state, indent=2) + "\n").encode())
    (output / "phantom.json").unlink(missing_ok=True)
    for leftover in output.rglob(".*.partial"):
        leftover.unlink()
    images = output / IMAGE_FOLDER
    images.mkdir(parents=True, exist_ok=True)
    boxes = list(_show_progress(_write_images(images, seed, pictures, test, workers), len(pictures)))
    _write_tables(output, pictures, test, [box for boxes_of_image in boxes for box in boxes_of_image])
    (output / "phantom.partial.json").replace(output / "phantom.json")
    seconds = time.monotonic() - started
    print(f"{output}: {len(pictures)} images of {patients} patients, seed {seed}, in {seconds:.0f} s")


def _is_complete(output: Path, settings: dict[str, int], pictures: Sequence[Picture]) -> bool:
    """Tell a whole data set (True) from none or a part of it (False); refuse anything else."""
    # A run that was killed in its first moment leaves but one unpublished file.
    if not output.exists() or (output.is_dir() and all(p.match(".*.partial") for p in output.iterdir())):
        return False
    for name in ("phantom.json", "phantom.partial.json"):
        try:
            found = json.loads((output / name).read_bytes())["settings"]
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, NotADirectoryError):
            break
        if found != settings:
            raise StorageError(f"{output}: holds a phantom set made with {found}, not {settings}; {_OTHER}")
        return name == "phantom.json" and _has_all(output, pictures)
    raise StorageError(f"{output}: holds something else than a phantom set; {_OTHER}")


def _has_all(output: Path, pictures: Sequence[Picture]) -> bool:
    tables = ("Data_Entry_2017_v2020.csv", "train_val_list.txt", "test_list.txt", "BBox_List_2017.csv")
    folder = output / IMAGE_FOLDER
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return all((output / name).is_file() for name in tables) and present >= {p.name for p in pictures}


def _write_images(
    folder: Path, seed: int, pictures: Sequence[Picture], test: set[int], workers: int
) -> Iterator[list[str]]:
    """Draw and write all pictures; yields the lines of the box list that each gives, in order."""
    tasks = [(folder, seed, picture, picture.patient in test) for picture in pictures]
    if workers == 1:
        _start_worker()
        yield from map(_write_image, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(True,)) as pool:
        try:
            yield from pool.map(_write_image, tasks, chunksize=4)
        except BrokenProcessPool as error:
            raise StorageError(f"{folder}: a worker was killed; run it again with fewer --workers") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker(ignore_interrupts: bool = False) -> None:
    cv2.setNumThreads(1)
    if ignore_interrupts:
        # Ctrl-C reaches the whole group; the parent stops its workers and says one line.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_image(task: tuple[Path, int, Picture, bool]) -> list[str]:
    """Draw one picture and publish it, unless an earlier run did; returns its lines of the box list."""
    folder, seed, picture, in_test = task
    path = folder / picture.name
    boxed = in_test and not BOX_FINDINGS.isdisjoint(picture.findings)
    if path.exists() and not boxed:
        return []
    pixels, boxes = phantom.render(
        seed, picture.patient, picture.number, picture.findings, view=picture.view, sex=picture.sex
    )
    if not path.exists():
        _publish(path, _encode(pixels, picture.rgba))
    return [_box_line(picture, finding, box) for finding, box in boxes if boxed and finding in BOX_FINDINGS]


def _encode(pixels: np.ndarray, rgba: bool) -> bytes:
    """Encode a picture as PNG; a few of the real files are RGBA although they are grey."""
    if rgba:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGRA)
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _box_line(picture: Picture, finding: str, box: phantom.Box) -> str:
    aliases = {table_name: list_name for list_name, table_name in BOX_ALIASES.items()}
    sides = ",".join(f"{side:.6f}" for side in box)
    return f"{picture.name},{aliases.get(finding, finding)},{sides}"


def _write_tables(
    output: Path, pictures: Sequence[Picture], test: set[int], box_lines: Iterable[str]
) -> None:
    rows = [TABLE_HEADER, *map(_table_line, pictures)]
    # The real lists have no final newline, the real tables have one.
    _publish(output / "Data_Entry_2017_v2020.csv", ("\n".join(rows) + "\n").encode())
    for name, wanted in (("train_val_list.txt", False), ("test_list.txt", True)):
        names = [picture.name for picture in pictures if (picture.patient in test) == wanted]
        _publish(output / name, "\n".join(names).encode())
    _publish(output / "BBox_List_2017.csv", ("\n".join([BOX_HEADER, *box_lines]) + "\n").encode())


def _table_line(picture: Picture) -> str:
    width, height, spacing = picture.original
    cell = "|".join(picture.findings) or NO_FINDING
    return (
        f"{picture.name},{cell},{picture.number},{picture.patient},{picture.age_years},{picture.sex},"
        f"{picture.view},{width},{height},{spacing},{spacing}"
    )


def _publish(path: Path, data: bytes) -> None:
    """Write a file so that it appears under its name only when whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_bytes(data)
    temporary.replace(path)


# --- Command line -------------------------------------------------------------------------------------


def _show_progress(items: Iterable[list[str]], total: int) -> Iterator[list[str]]:
    """Pass items on and say on stderr how far it is: often on a terminal, every 10 s in a log."""
    terminal = sys.stderr.isatty()
    started = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= (0.2 if terminal else 10) or done == total:
            rate = done / (now - started)
            line = f"{done}/{total} images, {rate:.1f} a second, {(total - done) / rate:.0f} s left"
            ended = "" if terminal and done < total else "\n"
            print(f"\r{line:<60}" if terminal else line, end=ended, file=sys.stderr, flush=True)
            shown = now


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.synthesize",
        allow_abbrev=False,
        description="Write a phantom data set shaped like the NIH's ChestX-ray14, with learnable findings.",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write; new, empty or begun earlier"
    )
    parser.add_argument(
        "--patients", type=int, default=240, help="about 3.7 images each (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=7, help="same seed, same bytes (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), help="processes (default: CPUs available)"
    )
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for flag, least in (("patients", cohort.MIN_PATIENTS), ("seed", 0), ("workers", 1)):
        value = getattr(arguments, flag)
        if value < least:
            raise UsageError(f"--{flag}={value} is too small; expected {least} or more")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        _check(arguments)
        synthesize(arguments.output, arguments.patients, arguments.seed, arguments.workers)
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename or arguments.output}: {error.strerror}", file=sys.stderr)
        return StorageError.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to complete it", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
