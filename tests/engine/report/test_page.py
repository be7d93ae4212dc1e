from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fabricated import HOSTILE_ID, make_data_set, write_run

from engine.report import page
from records import manifest
from records.errors import RunError
from records.manifest import Manifest

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Reader(HTMLParser):
    """Collects text and addresses; notes every tag that isn't closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[tuple[str, str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [(tag, name, value or "") for name, value in attrs if name in ("src", "href")]
        self.addresses += [(tag, name, value or "") for name, value in attrs if name == "xlink:href"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader


@pytest.fixture
def metrics(run_dir: Path) -> dict:
    return json.loads((run_dir / "evaluation/test/metrics.json").read_text())


def test_the_page_is_well_formed(run_dir: Path, data_set: Manifest) -> None:
    found = read(page.write(run_dir, data_set))
    assert not found.faults
    assert not found.open


def test_the_page_holds_the_numbers_of_the_evaluation(
    run_dir: Path, data_set: Manifest, metrics: dict
) -> None:
    source = page.write(run_dir, data_set).read_text(encoding="utf-8")
    assert f"<b>{metrics['macro_auroc']:.3f}</b>" in source
    rows = dict(re.findall(r"<tr><td>([A-Z][a-z ]+?)(?: †)?</td>(.*?)</tr>", source))
    for finding, values in metrics["findings"].items():
        row = rows[finding.replace("_", " ").capitalize()]
        assert f"<td>{values['positives']} / {values['positive_patients']}</td>" in row
        assert f">{100 * values['prevalence']:.2f}</td>" in row
        for name in ("auroc", "auprc"):
            said = "not defined" if values[name] is None else f"{values[name]:.3f}"
            assert f">{said}</td>" in row
    for name, label in (("recall", "Recall"), ("hamming_loss", "Hamming loss")):
        cells = re.search(rf"<tr><td>{label}</td>.*?</tr>", source)[0]
        assert f">{metrics['counts_at_threshold'][name]:.3f}</td>" in cells
        assert f">{metrics['all_negative_baseline'][name]:.3f}</td>" in cells


def test_a_finding_without_positives_is_not_defined_rather_than_zero(
    run_dir: Path, data_set: Manifest, metrics: dict
) -> None:
    assert metrics["findings"]["Hernia"]["auroc"] is None
    assert "not defined" in read(page.write(run_dir, data_set)).text


def test_the_page_asks_the_network_for_nothing(run_dir: Path, data_set: Manifest) -> None:
    path = page.write(run_dir, data_set)
    found = read(path)
    assert found.addresses
    for tag, name, value in found.addresses:
        assert value.startswith(("data:image/", "#")) or (tag, name) == ("a", "href"), (tag, name, value)
    assert not found.tags & {"script", "link", "iframe", "object", "embed", "form"}
    assert not re.search(r"@import|@font-face|url\((?!#)", path.read_text(encoding="utf-8"))


def test_hostile_text_is_shown_and_never_obeyed(
    tmp_path: Path, run_dir: Path, data_set: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PICTURES", 1000)
    run = json.loads((run_dir / "run.json").read_text())
    run["command"] = "engine train <img src=x onerror=alert(1)>"
    (run_dir / "run.json").write_text(json.dumps(run))
    (run_dir / "config.yaml").write_text("model:\n  name: '<b onclick=alert(2)>'\n")
    path = page.write(run_dir, data_set, tmp_path / "page.html")
    found = read(path)
    assert HOSTILE_ID in found.text
    assert "<img src=x onerror=alert(1)>" in found.text
    assert "<b onclick=alert(2)>" in found.text
    assert "script" not in found.tags
    assert html.escape("<script>", quote=False) in path.read_text(encoding="utf-8")


def test_the_page_says_what_was_trained_on_what_and_where_it_comes_from(
    run_dir: Path, data_set: Manifest
) -> None:
    text = read(page.write(run_dir, data_set)).text
    for expected in (
        "8,228,081",
        "1 h 2 min",
        "stratified split by patient",
        "learning_rate",
        "128, 64",
        data_set.sha256,
        "0123456789abcdef",
        "python 3.11.9, keras 3.15.1",
        "0 patients stand in two splits",
        "This is no medical device.",
        f"engine evaluate --run-dir {run_dir} --split test",
    ):
        assert expected in text


def test_phantom_data_carry_a_banner_and_real_data_their_citation(
    tmp_path: Path, records: dict, data_set: Manifest, run_dir: Path
) -> None:
    banner = (
        "Phantom data: drawn, not patients. The numbers say that the machinery works, nothing about medicine."
    )
    assert banner in read(page.write(run_dir, data_set)).text
    real = make_data_set(tmp_path / "real", records, phantom=False)
    judged = [record for shard in records["test"] for record in shard]
    text = read(page.write(write_run(tmp_path / "real-run", real, judged), real)).text
    assert banner not in text
    assert "ChestX-ray8" in text
    assert "mined from the text" in text
    assert "Chest drains give pneumothorax away." in text
    assert banner.split(":")[0] not in text


def test_few_patients_are_flagged(run_dir: Path, data_set: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Mass †" in read(page.write(run_dir, data_set)).text
    monkeypatch.setattr(page, "FEW_PATIENTS", 0)
    assert "†" not in read(page.write(run_dir, data_set)).text


def test_an_unfinished_run_and_another_split_than_test_carry_a_warning(
    tmp_path: Path, records: dict, data_set: Manifest
) -> None:
    run_dir = write_run(tmp_path / "run", data_set, records["validation"][0], split="validation", epochs=1)
    run = json.loads((run_dir / "run.json").read_text()) | {"state": "interrupted"}
    (run_dir / "run.json").write_text(json.dumps(run))
    text = read(page.write(run_dir, data_set, split="validation")).text
    assert "This run did not finish." in text
    assert "The best epoch was chosen on these images" in text


def test_a_run_that_recorded_little_still_has_a_page(run_dir: Path, data_set: Manifest) -> None:
    kept = {"manifest": {"location": data_set.location, "sha256": data_set.sha256}, "state": "finished"}
    (run_dir / "run.json").write_text(json.dumps(kept))
    assert "not recorded" in read(page.write(run_dir, data_set)).text


def test_a_benchmark_is_shown_where_there_is_one(run_dir: Path, data_set: Manifest) -> None:
    assert "Speed of the input" not in page.write(run_dir, data_set).read_text()
    rates = [
        {"name": "engine", "images_per_s": 32000.0, "cpu_s_per_1000": 0.041, "not_measured": ""},
        {"name": "the usual way", "images_per_s": 16000.0, "cpu_s_per_1000": 0.1, "not_measured": ""},
        {"name": "PNG loop", "images_per_s": 0.0, "cpu_s_per_1000": 0.0, "not_measured": "no PNGs here"},
    ]
    (run_dir / "benchmark.json").write_text(json.dumps({"rates": rates}))
    text = page.write(run_dir, data_set).read_text()
    assert "32,000" in text
    assert "0.041" in text
    assert "2.0" in text
    assert "PNG loop" not in text


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("run.json", "`engine train`"),
        ("config.yaml", "expected the run directory of `engine train`"),
        ("history.csv", "make it with `engine train`"),
        ("evaluation/test/metrics.json", "evaluate with `engine evaluate --run-dir"),
        ("evaluation/test/predictions.csv", "make them with `engine evaluate`"),
    ],
)
def test_a_missing_part_is_one_line_with_the_command_that_makes_it(
    run_dir: Path, data_set: Manifest, missing: str, reason: str
) -> None:
    (run_dir / missing).unlink()
    with pytest.raises(RunError) as error:
        page.write(run_dir, data_set)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_parts_that_do_not_belong_together_are_refused(
    tmp_path: Path, run_dir: Path, records: dict, data_set: Manifest, metrics: dict
) -> None:
    other = make_data_set(tmp_path / "other", records, phantom=False)
    with pytest.raises(RunError, match="not the data set of this run"):
        page.write(run_dir, other)
    path = run_dir / "evaluation/test/metrics.json"
    path.write_text(json.dumps(metrics | {"images": 7}))
    with pytest.raises(RunError, match="30 predictions beside metrics of 7 images"):
        page.write(run_dir, data_set)
    path.write_text(json.dumps(metrics | {"manifest_sha256": other.sha256}))
    with pytest.raises(RunError, match="not the data set of this evaluation"):
        page.write(run_dir, data_set)


def test_the_command_prints_where_the_page_is(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert page.run(str(run_dir), "test") == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == run_dir / "report.html"
    assert path.is_file()


def test_a_run_whose_data_set_moved_is_reported_with_its_new_place(
    run_dir: Path, data_set: Manifest, capsys: pytest.CaptureFixture
) -> None:
    run = json.loads((run_dir / "run.json").read_text())
    run["manifest"]["location"] = "/nowhere/manifest.json"
    (run_dir / "run.json").write_text(json.dumps(run))
    assert page.run(str(run_dir), "test", data_set.location) == 0
    assert manifest.load(data_set.location).sha256[:12] in Path(capsys.readouterr().out.strip()).read_text()
