"""How long the intervals of an evaluation take, beside a loop of scikit-learn calls over the same draws.

    python tests/benchmarks/evaluation_speed.py --cores 0,1      (`make bench-evaluate`)

Protocol. Predictions are made up, as many as the official test split has: 25,596 images of 2,797 patients, 14
findings as frequent as there, scores of two normal distributions rounded to float32. Judged is what `engine
evaluate` asks of them: AUROC and AUPRC of each finding, macro and micro, with intervals from 1,000 draws of
patients. Ours runs `--repeats` times whole, in a fresh process each that has imported all and made the
predictions before the clock starts; the median counts, and lowest and highest stand beside it. The loop takes
the rows of a drawn patient as often as it was drawn, and asks scikit-learn for the 30 numbers; it does
`--draws` draws, in one thread, as such loops are written, and its time is extrapolated to 1,000. Before that,
the intervals of those few draws must be the same from both, to 1e-9. CPU seconds are the process's own; the
peak is that of its resident memory (VmHWM), and what it was with libraries and predictions alone stands
beside it. The paired gain of one model over another is timed alike, and all of it on the whole
data set's 112,120 images of 30,805 patients.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import measured
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from engine import metrics
from engine.metrics import bootstrap, intervals

HERE = Path(__file__).parent
DRAWS = 1000
IMAGES, PATIENTS = 25_596, 2_797
# Images with each finding in the official test split, in the order of `records.labels.FINDINGS`.
POSITIVES = (6112, 4658, 3279, 1623, 1748, 2665, 1815, 1143, 1069, 1093, 925, 435, 555, 86)
SIZES = {"official test split": (IMAGES, PATIENTS), "all images": (112_120, 30_805)}

Predictions = tuple[np.ndarray, np.ndarray, np.ndarray]


def main() -> int:
    """Run the benchmark; return the exit code."""
    flags = _parse()
    os.sched_setaffinity(0, {int(core) for core in flags.cores.split(",")})
    if flags.task:
        print(json.dumps(_timed(flags.task, flags.size)))
        return 0
    print(f"{measured.machine()}; cores {flags.cores}; Python {platform.python_version()}, ", end="")
    print(f"NumPy {np.__version__}; commit {measured.commit(HERE.parents[1])}; {DRAWS:,} draws")
    _check(flags.draws)
    for size, (images, patients) in SIZES.items():
        print(f"\n{size}: {images:,} images of {patients:,} patients, {len(POSITIVES)} findings")
        for task in TASKS:
            _print(task, [_in_own_process(task, size, flags.cores) for _ in range(flags.repeats)])
        if size == "official test split":
            _print_loop(flags.draws)
    return 0


def _predictions(size: str) -> Predictions:
    """Labels, scores and patients; some patients have many images, most few."""
    images, patients = SIZES[size]
    rng = np.random.default_rng(1)
    more = rng.choice(patients, images - patients, p=rng.dirichlet(np.full(patients, 0.5)))
    patient_ids = np.sort(np.concatenate([np.arange(patients), more]))
    labels = rng.random((images, len(POSITIVES))) < np.array(POSITIVES) / IMAGES
    scores = rng.normal(1.2 * labels - 3).astype(np.float32)
    return labels.astype(np.uint8), scores, patient_ids


def _intervals(labels: np.ndarray, scores: np.ndarray, patient_ids: np.ndarray) -> None:
    bootstrap.ranking_intervals(labels, scores, patient_ids, draws=DRAWS)


def _gain(labels: np.ndarray, scores: np.ndarray, patient_ids: np.ndarray) -> None:
    bootstrap.paired_macro_gain(labels, scores, scores[:, ::-1] * labels, patient_ids, draws=DRAWS)


TASKS: dict[str, Callable[..., None]] = {"intervals": _intervals, "paired gain": _gain}


def _timed(task: str, size: str) -> dict[str, float]:
    predictions = _predictions(size)
    before_mb = _peak_mb()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    TASKS[task](*predictions)
    taken = {"s": time.perf_counter() - start_s, "cpu_s": time.process_time() - start_cpu_s}
    return {**taken, "peak_mb": _peak_mb(), "before_mb": before_mb}


def _peak_mb() -> float:
    # Not ru_maxrss, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line for line in status if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024 / 1e6


def _in_own_process(task: str, size: str, cores: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--task", task, "--size", size, "--cores", cores]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    taken: dict[str, float] = json.loads(done.stdout)
    return taken


def _print(task: str, taken: list[dict[str, float]]) -> None:
    seconds = sorted(each["s"] for each in taken)
    cpu_s = statistics.median(each["cpu_s"] for each in taken)
    peak_mb, before_mb = (max(each[name] for each in taken) for name in ("peak_mb", "before_mb"))
    print(
        f"  {task:<22}{statistics.median(seconds):9.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})"
        f"{cpu_s:9.2f} CPU-s{peak_mb:8.0f} MB peak, {before_mb:.0f} before"
    )


def _print_loop(draws: int) -> None:
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    _loop(_predictions("official test split"), draws)
    scale = DRAWS / draws
    seconds, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    print(
        f"  {'scikit-learn in a loop':<22}{scale * seconds:9.0f} s (from {draws} draws)"
        f"{scale * cpu_s:9.0f} CPU-s"
    )


def _loop(predictions: Predictions, draws: int) -> np.ndarray:
    """(2, F + 1, D): AUROC and average precision of each finding and of all as one list, on each draw."""
    labels, scores, patient_ids = predictions
    drawn = bootstrap.PatientDraws(patient_ids, draws)
    images = np.argsort(drawn.of_image, kind="stable")
    of_patient = np.split(images, np.cumsum(np.bincount(drawn.of_image))[:-1])
    values = np.empty((2, labels.shape[1] + 1, draws))
    for number, counts in enumerate(drawn.counts(0, draws).T):
        rows = np.concatenate(
            [of_patient[patient] for patient in np.repeat(np.arange(drawn.patients), counts)]
        )
        lists = [
            *zip(labels[rows].T, scores[rows].T, strict=True),
            (labels[rows].ravel(), scores[rows].ravel()),
        ]
        values[0, :, number] = [roc_auc_score(*pair) for pair in lists]
        values[1, :, number] = [average_precision_score(*pair) for pair in lists]
    return values


def _check(draws: int) -> None:
    """Check that both give the same intervals.

    Raises:
        SystemExit: they don't.
    """
    labels, scores, patient_ids = predictions = _predictions("official test split")
    found = bootstrap.ranking_intervals(labels, scores, patient_ids, draws=draws)
    auroc, precision = _loop(predictions, draws)
    exact = np.append(metrics.auroc(labels, scores), metrics.micro_auroc(labels, scores))
    exact_precision = np.append(
        metrics.average_precision(labels, scores), metrics.micro_average_precision(labels, scores)
    )
    for ours, values, drawn in (
        ([*found.auroc, found.micro_auroc], exact, auroc),
        ([*found.auprc, found.micro_auprc], exact_precision, precision),
    ):
        theirs = [intervals.of_draws(value, of_list) for value, of_list in zip(values, drawn, strict=True)]
        if not np.allclose(ours, theirs, rtol=0, atol=1e-9):
            raise SystemExit("error: the loop's intervals are others; nothing was timed")
    print(f"the intervals of {draws} draws are those of the loop, to 1e-9")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cores", default="0,1", help="that it may use (default: 0,1)")
    parser.add_argument("--repeats", type=int, default=5, help="of ours (default: 5)")
    parser.add_argument("--draws", type=int, default=5, help="of the loop (default: 5)")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=SIZES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
