"""Decides who has what in a phantom data set: its patients, pictures, findings and test list.

Responsible for prevalence, for findings that come together, for visits, and for a test list of whole
patients that shows every finding. Pure functions of number of patients and seed; pixels are left to
`phantom`, files to `synthesize`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from records.labels import FINDINGS

# Below it there are too few patients for every finding to stand in both lists.
MIN_PATIENTS = 40

# --- What the real table looks like (Data_Entry_2017_v2020.csv, 112,120 images) -----------------------

# Images per finding, in the order of `FINDINGS`.
_REAL_IMAGES = (19894, 13317, 11559, 6331, 5782, 5302, 4667, 3385, 2776, 2516, 2303, 1686, 1431, 227)
# Share of the images with the first finding that also have the second, where it is 0.15 or more.
_COMPANIONS = {
    "Infiltration": {"Effusion": 0.20, "Atelectasis": 0.16},
    "Effusion": {"Infiltration": 0.30, "Atelectasis": 0.25},
    "Atelectasis": {"Infiltration": 0.28, "Effusion": 0.28},
    "Nodule": {"Infiltration": 0.24},
    "Mass": {"Infiltration": 0.20, "Effusion": 0.22, "Nodule": 0.16},
    "Pneumothorax": {"Infiltration": 0.18, "Effusion": 0.19, "Atelectasis": 0.15},
    "Consolidation": {"Infiltration": 0.26, "Effusion": 0.28, "Atelectasis": 0.26},
    "Pleural_Thickening": {"Infiltration": 0.22, "Effusion": 0.25, "Atelectasis": 0.15},
    "Cardiomegaly": {"Infiltration": 0.21, "Effusion": 0.38},
    "Emphysema": {"Infiltration": 0.18, "Atelectasis": 0.17, "Pneumothorax": 0.30},
    "Edema": {"Infiltration": 0.43, "Effusion": 0.26},
    "Fibrosis": {"Infiltration": 0.20},
    "Pneumonia": {"Infiltration": 0.42, "Effusion": 0.19, "Atelectasis": 0.18, "Edema": 0.24},
    "Hernia": {"Infiltration": 0.15, "Atelectasis": 0.18},
}
# Share of patients with at most so many images: the median is 1, the mean 3.7. The real tail goes on to
# 184 images of one patient, which would be a fifth of a small set.
_IMAGES_OF_PATIENT = (
    (0.57, 1), (0.70, 2), (0.77, 3), (0.81, 4), (0.84, 5), (0.87, 6), (0.89, 7),
    (0.91, 9), (0.93, 11), (0.95, 14), (0.97, 19), (0.985, 30), (1.0, 36),
)  # fmt: skip
# Share of AP pictures: the bedridden have fluid, the ambulant have scars.
_AP_SHARE = {"Edema": 0.88, "Consolidation": 0.67, "Fibrosis": 0.16, "Hernia": 0.15}
_AP_SHARE_OTHERS = 0.45
# Width, height and pixel spacing in mm of the four commonest originals.
_ORIGINALS = ((2500, 2048, 0.168), (2992, 2991, 0.143), (3056, 2544, 0.139), (2048, 2500, 0.171))

# --- What is lifted, so that a few hundred patients show every finding --------------------------------

_HEALTHY_EVERY = 3
# Prevalences keep their order but move together: Infiltration is 88 times as frequent as Hernia in the
# real table, about 4 times here.
_RARITY_EXPONENT = 0.2
# How often a patient's finding shows in one of the patient's pictures; about 0.25 in the real table.
_PERSISTENCE = 0.7
# A patient with at least so many images has a second main finding, a third, a fourth.
_IMAGES_FOR_MORE = (2, 7, 14)
_TEST_SHARE = 0.22
_RGBA_SHARE = 0.02


@dataclass(frozen=True)
class Picture:
    """One row of the table, and all that a worker needs to draw it."""

    patient: int
    number: int
    findings: tuple[str, ...]
    age_years: int
    sex: str
    view: str
    original: tuple[int, int, float]
    rgba: bool = False

    @property
    def name(self) -> str:
        return f"{self.patient:08d}_{self.number:03d}.png"


# --- Who has what -------------------------------------------------------------------------------------


def plan(patients: int, seed: int) -> tuple[list[Picture], set[int]]:
    """Decide all but the pixels: the pictures, sorted by name, and the patients of the test list."""
    attempt = 0
    while True:
        # Patient numbers start at 1, so key 0 is free for the plan.
        key = np.random.SeedSequence(seed, spawn_key=(0, attempt))
        rng = np.random.Generator(np.random.Philox(key))
        pictures = _draw_cohort(patients, rng)
        test = _test_patients(pictures, rng)
        both = [
            {f for p in pictures if (p.patient in test) == wanted for f in p.findings}
            for wanted in (True, False)
        ]
        if min(map(len, both)) == len(FINDINGS):
            return pictures, test
        # One small set in a thousand can't be divided; the next draw can.
        attempt += 1


def _draw_cohort(patients: int, rng: np.random.Generator) -> list[Picture]:
    counts = _image_counts(patients, rng)
    pictures = []
    for patient, main in _main_findings(counts, rng).items():
        pictures += _pictures_of(patient, counts[patient - 1], main, rng)
    for index in rng.choice(len(pictures), max(1, round(_RGBA_SHARE * len(pictures))), replace=False):
        pictures[index] = replace(pictures[index], rgba=True)
    return pictures


def _main_findings(counts: Sequence[int], rng: np.random.Generator) -> dict[int, list[str]]:
    """Deal findings to patients by their numbers of images; the healthy get none.

    Who comes often gets more of them. Each goes to the finding that is furthest from its share, which
    counts images and, so that no finding is a matter of one or two chests, patients too.
    """
    by_images = sorted(rng.permutation(len(counts)), key=lambda patient: -counts[patient])
    # One in every so many is healthy, among the frequent visitors as among the rest.
    sick = [patient for place, patient in enumerate(by_images) if place % _HEALTHY_EVERY]
    shares = np.array(_REAL_IMAGES) ** _RARITY_EXPONENT
    dealt = np.zeros(len(FINDINGS))
    main: dict[int, list[str]] = {patient: [] for patient in range(1, len(counts) + 1)}
    for patient in sick:
        images = counts[patient]
        for _ in range(1 + sum(images >= least for least in _IMAGES_FOR_MORE)):
            for index in np.argsort(dealt / shares, kind="stable"):
                if FINDINGS[index] not in main[patient + 1]:
                    break
            main[patient + 1].append(FINDINGS[index])
            dealt[index] += min(images, 5) + 3
    return main


def _image_counts(patients: int, rng: np.random.Generator) -> list[int]:
    """Draw skewed numbers of images. Evenly spaced quantiles keep the total the same for every seed."""
    shares = (np.arange(patients) + 0.5) / patients
    limits, counts = zip(*_IMAGES_OF_PATIENT, strict=True)
    return [counts[index] for index in rng.permutation(np.searchsorted(limits, shares))]


def _pictures_of(patient: int, images: int, main: list[str], rng: np.random.Generator) -> list[Picture]:
    """Follow one patient over some visits; the patient's findings come and go."""
    findings = set(main).union(*(_companions(finding, rng) for finding in main))
    sex = "M" if rng.random() < 0.565 else "F"
    age = float(np.clip(rng.normal(46.6, 16.6), 5, 88))
    pictures = []
    for number in range(images):
        shown = {finding for finding in sorted(findings) if rng.random() < _PERSISTENCE}
        # Each main finding shows at least once.
        shown.update(main[number::images])
        ordered = tuple(sorted(shown))
        ap_share = max((_AP_SHARE.get(finding, _AP_SHARE_OTHERS) for finding in ordered), default=0.4)
        view = "AP" if rng.random() < ap_share else "PA"
        original = _ORIGINALS[int(rng.integers(len(_ORIGINALS)))]
        pictures.append(Picture(patient, number, ordered, int(age), sex, view, original))
        age += float(rng.exponential(0.3))
    return pictures


def _companions(main: str, rng: np.random.Generator) -> set[str]:
    return {other for other, share in _COMPANIONS[main].items() if rng.random() < share}


def _test_patients(pictures: Sequence[Picture], rng: np.random.Generator) -> set[int]:
    """Choose whole patients for the test list: first until it shows each finding, then up to its share."""
    counts = _finding_counts(pictures)
    images, has = counts[:, 0], counts[:, 1:] > 0
    wanted_images = min(8, max(1, len(images) // 30))
    wanted_patients = min(3, max(1, len(images) // 60))
    test = np.zeros(len(images), bool)
    order = rng.permutation(len(images))
    while True:
        missing = (has[test].sum(0) < wanted_patients) | (counts[test, 1:].sum(0) < wanted_images)
        allowed = ~test & _spared(counts, test)
        gain = np.where(allowed, (has & missing).sum(1) / np.sqrt(images), 0)[order]
        if not gain.any():
            break
        test[order[np.argmax(gain)]] = True
    for patient in order:
        if not test[patient] and images[test].sum() + images[patient] <= _TEST_SHARE * images.sum():
            test[patient] = _spared(counts, test)[patient]
    return {int(index) + 1 for index in np.flatnonzero(test)}


def _spared(counts: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Tell the patients, (patients,) bool, whom training can spare.

    It keeps half of each finding's images and a third of its patients.
    """
    images, has = counts[:, 1:], counts[:, 1:] > 0
    enough_images = (images[~test].sum(0) - images) * 2 >= images.sum(0)
    enough_patients = (has[~test].sum(0) - has) * 3 >= has.sum(0)
    return (enough_images & enough_patients | ~has).all(1)


def _finding_counts(pictures: Sequence[Picture]) -> np.ndarray:
    """Count images by patient: (patients, 15) int64, all images, then those with each finding."""
    counts = np.zeros((pictures[-1].patient, 1 + len(FINDINGS)), np.int64)
    for picture in pictures:
        counts[picture.patient - 1, 0] += 1
        for finding in picture.findings:
            counts[picture.patient - 1, 1 + FINDINGS.index(finding)] += 1
    return counts
