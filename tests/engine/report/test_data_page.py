from __future__ import annotations

import base64
import dataclasses
import html
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fabricated import HOSTILE_ID, make_data_set, make_record

from engine import cli
from engine.report import data_counts, data_page, data_plots, plots, record_columns
from records import class_weights, manifest, storage
from records.errors import UsageError
from records.example import Record
from records.labels import FINDINGS
from records.manifest import Manifest
from records.splits import SPLITS

Records = dict[str, list[list[Record]]]
HEADINGS = [
    "Findings",
    "The splits compared",
    "Images and patients",
    "Age, sex and view",
    "Findings that go together",
    "Sample images of the train split",
    "Class weights of the training split",
    "Limits",
    "Where it comes from",
]
PLOTS = [
    "Images per finding",
    "Positives against negatives",
    "Prevalence by split",
    "Findings per image",
    "Images per patient",
    "Age by sex",
    "Sex and view by split",
]


def words(finding: str) -> str:
    return finding.replace("_", " ").capitalize()


def section(source: str, heading: str) -> str:
    return re.search(rf"<section>\n<h2>{heading}</h2>(.*?)</section>", source, re.DOTALL)[1]


def rows(source: str) -> dict[str, list[str]]:
    """Cells of each row of the tables, by the first one."""
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", source):
        first, *others = re.findall(r"<td[^>]*>(.*?)</td>", row) or [""]
        found[first] = others
    return found


@pytest.fixture(scope="module")
def source(data_set: Manifest, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "folder" / "data.html"
    assert data_page.write(manifest.load(data_set.location), path) == path
    assert [entry.name for entry in path.parent.iterdir()] == ["data.html"]
    return path.read_text(encoding="utf-8")


def test_the_page_has_every_section_and_every_plot(source: str) -> None:
    assert re.findall(r"<h2>(.*?)</h2>", source) == HEADINGS
    assert re.findall(r'<figure class="plot"[^>]*><h3>(.*?)</h3><svg', source) == PLOTS
    assert source.count("<svg") == len(PLOTS) + 1
    for label in (
        "images",
        "share of the images, %",
        "share of the split's images, %",
        "age in years",
        "patients (logarithmic)",
        "findings in the image",
    ):
        assert re.search(rf">{re.escape(label)}[^<]*</text>", source), label


def test_the_table_of_findings_holds_the_manifests_numbers(source: str, data_set: Manifest) -> None:
    found = rows(section(source, "Findings"))
    for finding in FINDINGS:
        cells = found[words(finding)]
        for number, name in enumerate(SPLITS):
            split = data_set.splits[name]
            counted = f"{split.positives[finding]:,} / {split.positive_patients[finding]:,}"
            flag = " †" if split.positive_patients[finding] < data_counts.FEW_PATIENTS else ""
            assert cells[2 * number] == counted + flag
            assert cells[2 * number + 1] == f"{100 * split.prevalence[finding]:.2f}"
    assert len(found["No finding"]) == 8


def test_all_images_are_with_or_without_a_finding(source: str, records: Records) -> None:
    every = [record for name in SPLITS for shard in records[name] for record in shard]
    healthy = sum(not record.labels.any() for record in every)
    assert rows(section(source, "Findings"))["No finding"][6] == str(healthy)
    assert f"{100 * healthy / len(every):.1f} %" in source


def test_images_and_patients_of_each_sex_and_view_are_the_records(source: str, records: Records) -> None:
    found = rows(section(source, "Age, sex and view"))
    for name, belongs in (
        ("female", lambda record: record.sex == "F"),
        ("PA view", lambda record: record.view == "PA"),
        ("follow-up visit", lambda record: record.follow_up > 0),
    ):
        for number, split in enumerate(SPLITS):
            held = [record for shard in records[split] for record in shard if belongs(record)]
            patients = {record.patient_id for record in held}
            assert found[name][number] == f"{len(held)} / {len(patients)}"
    assert "other sex" not in found


def test_the_weights_are_those_of_the_training_split(source: str, data_set: Manifest) -> None:
    found = rows(section(source, "Class weights of the training split"))
    train = data_set.splits["train"]
    for finding, weights in class_weights.balanced(train.positives, train.images).items():
        having = train.positives[finding]
        written = [
            "not defined" if weight is None else f"{weight:.4f}"
            for weight in (weights["positive"], weights["negative"])
        ]
        assert found[words(finding)] == [str(having), str(train.images - having), *written]
    assert found["Hernia"][2] == "not defined"


def test_findings_keep_their_order_though_the_file_has_them_by_the_alphabet(
    source: str, data_set: Manifest
) -> None:
    read_back = manifest.load(data_set.location)
    assert list(read_back.splits["train"].positives) == sorted(FINDINGS)
    for heading in ("Findings", "Class weights of the training split"):
        named = [name for name in rows(section(source, heading)) if name not in ("", "No finding")]
        assert named == [words(finding) for finding in FINDINGS]


def test_samples_show_their_finding_and_are_the_same_each_time(
    source: str, records: Records, data_set: Manifest, tmp_path: Path
) -> None:
    written = {record.image_id: record for shard in records["train"] for record in shard}
    shown = section(source, "Sample images of the train split").split('<div class="sample">')[1:]
    assert [re.search("<h3>(.*?)</h3>", row)[1] for row in shown] == [
        words(f) for f in (*FINDINGS, "No Finding")
    ]
    for column, row in enumerate(shown):
        ids = re.findall(r'<span class="id">(.*?)</span>', row)
        samples = [written[image_id] for image_id in ids]
        if column < len(FINDINGS):
            having = [record for record in written.values() if record.labels[column]]
            assert all(record.labels[column] for record in samples)
        else:
            having = [record for record in written.values() if not record.labels.any()]
            assert not any(record.labels.any() for record in samples)
        patients = {record.patient_id for record in having}
        assert len(ids) == len({record.patient_id for record in samples}) == min(4, len(patients))
    assert "no image in this split" in shown[FINDINGS.index("Hernia")]
    again = data_page.write(manifest.load(data_set.location), tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == source


def test_a_sample_is_the_picture_of_its_record(source: str, records: Records) -> None:
    written = {record.image_id: record for shard in records["train"] for record in shard}
    found = re.findall(r'<img src="data:image/jpeg;base64,(.*?)" alt="Chest X-ray (.*?)"', source)
    assert found
    for data, image_id in found:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
        expected = written[image_id].pixels()[..., 0].astype(float)
        assert picture.shape == expected.shape
        assert abs(picture - expected).mean() < 20


@pytest.mark.parametrize(
    ("encoding", "channels"), [("raw", 3), ("png", 1), ("png", 3), ("jpeg", 1), ("jpeg", 3)]
)
def test_pictures_of_every_encoding_are_shown(
    tmp_path: Path, write_data_set, encoding: str, channels: int
) -> None:
    written = write_data_set(tmp_path, encoding=encoding, channels=channels)
    assert "data:image/jpeg" in data_page.write(written, tmp_path / "data.html").read_text(encoding="utf-8")


def test_large_pictures_are_reduced(tmp_path: Path, write_data_set) -> None:
    written = write_data_set(tmp_path, side_px=400, sizes={"train": (1,), "validation": (), "test": ()})
    source = data_page.write(written, tmp_path / "data.html").read_text(encoding="utf-8")
    data = re.search(r"data:image/jpeg;base64,([^\"]*)", source)[1]
    assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 0).shape == (320, 320)


@pytest.mark.parametrize("kept", SPLITS)
def test_a_data_set_of_one_image_without_age_has_a_page(tmp_path: Path, kept: str) -> None:
    record = dataclasses.replace(make_record(1, findings=("Hernia",)), age_years=float("nan"), sex="?")
    shards = {name: [[record]] if name == kept else [] for name in SPLITS}
    source = data_page.write(make_data_set(tmp_path, shards), tmp_path / "data.html").read_text(
        encoding="utf-8"
    )
    assert f"Sample images of the {kept} split" in source
    assert "leaves out: 1." in source
    assert rows(section(source, "Age, sex and view"))["other sex"].count("1 / 1") == 1
    empty = [cell for cell in rows(section(source, "Findings"))["Hernia"] if cell == "–"]
    assert len(empty) == 2


def test_without_an_image_there_is_no_page(tmp_path: Path) -> None:
    empty = make_data_set(tmp_path, {name: [] for name in SPLITS})
    with pytest.raises(UsageError, match="holds no image"):
        data_page.write(empty, tmp_path / "data.html")
    assert not (tmp_path / "data.html").exists()


def test_a_page_that_fails_leaves_the_old_one(tmp_path: Path, records: Records) -> None:
    written = make_data_set(tmp_path, records)
    page = tmp_path / "data.html"
    page.write_text("old")
    Path(written.locate(written.splits["test"].shards[0])).unlink()
    assert cli.main(["inspect", written.location, "--report", str(page)]) == 1
    assert page.read_text() == "old"


def test_the_page_says_where_its_data_come_from(
    tmp_path: Path, source: str, data_set: Manifest, records
) -> None:
    for expected in (
        data_set.sha256,
        "release v2020",
        "stratified, fractions 0.6/0.2/0.2, seed 17",
        "Phantom data: drawn",
    ):
        assert expected in source
    assert "box.com" in source
    real = make_data_set(tmp_path, records, phantom=False)
    text = data_page.write(real, tmp_path / "data.html").read_text(encoding="utf-8")
    assert "Phantom" not in text
    assert "ChestX-ray8" in text
    assert "mined from the text" in text


def test_the_page_of_data_asks_the_network_for_nothing(source: str) -> None:
    assert not re.search(r"<(script|link|iframe|object|embed|form)\b|@import|@font-face|url\((?!#)", source)
    for value in re.findall(r'\bsrc="([^"]*)"', source):
        assert value.startswith("data:image/")
    assert len(re.findall(r'\sid="([^"]*)"', source)) == len(set(re.findall(r'\sid="([^"]*)"', source)))


def test_a_hostile_name_is_shown_and_never_obeyed(tmp_path: Path) -> None:
    record = make_record(1, image_id=HOSTILE_ID)
    written = make_data_set(tmp_path, {"train": [[record]], "validation": [], "test": []})
    source = data_page.write(written, tmp_path / "data.html").read_text(encoding="utf-8")
    assert "<script>" not in source
    assert html.escape("<script>") in source


def test_axes_that_count_images_say_images(data_set: Manifest) -> None:
    splits = record_columns.read(data_set)
    images = data_counts.images_by_finding(splits)
    total = sum(len(columns) for columns in splits.values())
    (ax,) = data_plots.images_per_finding(images, total).axes
    assert ax.get_xlabel() == "images"
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[-1] == "No finding"
    longest = [sum(bar.get_width() for bar in ax.patches[place::15]) for place in range(14)]
    assert longest == sorted(longest, reverse=True)
    assert sum(bar.get_width() for bar in ax.patches) == images.sum()
    (ax,) = data_plots.findings_per_image(np.array([5, 3, 1])).axes
    assert [bar.get_width() for bar in ax.patches] == [5, 3, 1]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("images", "findings in the image")


def test_a_split_without_images_has_no_marks_and_few_patients_are_hollow() -> None:
    shares = np.full((3, 14), 0.1)
    shares[1] = np.nan
    shares[2, 13] = 0
    few = np.zeros((3, 14), bool)
    few[2, 13] = True
    (ax,) = data_plots.prevalence(shares, np.full(14, 0.1), few).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["all", "train", "test"]
    test = ax.collections[3]
    assert test.get_facecolors()[-1][3] == 0
    assert test.get_facecolors()[0][3] == 1
    assert test.get_offsets()[-1][0] == pytest.approx(ax.get_xlim()[0])
    assert "<svg" in plots.to_svg(ax.figure, "a")


def test_the_command_writes_page_and_sheet_and_prints_a_line_for_each(
    tmp_path: Path, data_set: Manifest, capsys: pytest.CaptureFixture
) -> None:
    page, sheet = tmp_path / "new" / "data.html", tmp_path / "sheet.png"
    command = ["inspect", data_set.location, "--json", "--report", str(page), "--png", str(sheet)]
    assert cli.main([*command, "--images", "4"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"{sheet}: 4 images", str(page)]
    assert page.is_file()
    assert sheet.is_file()


def test_the_page_of_a_bucket_is_that_of_the_folder(
    data_set: Manifest, source: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = Path(data_set.location).parent
    for path in folder.rglob("*.*"):
        storage.write_bytes(f"{s3}/data/{path.relative_to(folder)}", path.read_bytes())
    remote = manifest.load(f"{s3}/data/manifest.json")
    assert data_page.write(remote, tmp_path / "data.html").read_text(encoding="utf-8") == source


def test_a_page_of_data_loads_no_tensorflow(tmp_path: Path, data_set: Manifest) -> None:
    code = (
        "import sys; from engine import cli; "
        f"cli.main(['inspect', {data_set.location!r}, '--json', '--report', {str(tmp_path / 'a.html')!r}]); "
        "print(sorted({'tensorflow', 'keras', 'pandas', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
