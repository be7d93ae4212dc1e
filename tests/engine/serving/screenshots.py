"""Writes screenshots of the page that serves a run: desk and phone, light and dark, and each of its states.

    .venv/bin/python tests/engine/serving/screenshots.py --run-dir build/demo/ensemble \
        --data build/demo/shards/manifest.json --boxes build/demo/phantom/BBox_List_2017.csv

They are to be looked at; nothing compares them.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import page_server

SCREENS = {
    "desk": {"viewport": {"width": 1280, "height": 800}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "is_mobile": True,
        "has_touch": True,
        "device_scale_factor": 2,
    },
}
SCHEMES = ("dark", "light")
# Test images that are looked through for one with a box.
LOOKED_THROUGH = 60
TEXT = {"name": "notes.png", "mimeType": "image/png", "buffer": b"This is text.\n"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", default="build/demo/ensemble", help="run or ensemble")
    parser.add_argument("--data", default="build/demo/shards/manifest.json", help="its data set's manifest")
    parser.add_argument("--boxes", default="", help="BBox_List_2017.csv")
    parser.add_argument("--sample", help="test image to show; one with boxes unless it is named")
    parser.add_argument("--finding", help="whose heat map is shown; one with a box unless it is named")
    parser.add_argument("--output", type=Path, default=Path("build/screenshots"), help="folder")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with page_server.serving(given.run_dir, given.data, given.boxes) as address:
        sample, finding = _chosen(address, given.sample, given.finding)
        with page_server.browser() as browser:
            for screen, scheme in itertools.product(SCREENS, SCHEMES):
                for path in _shoot(browser, address, screen, scheme, sample, finding, given.output):
                    print(path)


def _chosen(address: str, sample: str | None, finding: str | None) -> tuple[str, str]:
    """Return an image and a finding; if there is a choice, the most probable one that has a box."""
    listed = page_server.asked(f"{address}api/samples?limit={LOOKED_THROUGH}")["samples"]
    for image_id in [sample] if sample else [one["id"] for one in listed]:
        answer = page_server.asked(f"{address}api/samples/{image_id}")
        boxed = {box["finding"] for box in answer["boxes"]}
        ranked = sorted(answer["findings"], key=lambda one: -one["probability"])
        having = [one["finding"] for one in ranked if one["finding"] in boxed and one["called"]]
        if having or sample:
            return image_id, finding or next(iter(having), ranked[0]["finding"])
    return listed[0]["id"], finding or listed[0]["findings"][0]


def _shoot(
    browser: Any, address: str, screen: str, scheme: str, sample: str, finding: str, folder: Path
) -> Iterator[Path]:
    def taken(page: Any, state: str, *, full: bool = False) -> Path:
        path = folder / f"{screen}-{scheme}-{state}.png"
        page.screenshot(path=path, full_page=full)
        return path

    with _page(browser, address, "", screen, scheme) as page:
        yield taken(page, "empty")
        page.set_input_files("#file", TEXT)
        page.wait_for_selector(".fault:not(:empty)")
        yield taken(page, "error")
    with _page(browser, address, f"sample={sample}&finding={finding}", screen, scheme) as page:
        page.wait_for_selector(".findings.read")
        # Without the dots that it has while its heat map is awaited.
        page.wait_for_selector(f"#overlay-name:text-is('{finding.replace('_', ' ')}')")
        yield taken(page, "reading")
        yield taken(page, "whole", full=True)
        page.click("#browse")
        page.wait_for_selector("#samples-list li")
        page.wait_for_load_state("networkidle")
        yield taken(page, "samples")


@contextmanager
def _page(browser: Any, address: str, fragment: str, screen: str, scheme: str) -> Iterator[Any]:
    with browser.new_context(color_scheme=scheme, reduced_motion="reduce", **SCREENS[screen]) as context:
        page = context.new_page()
        page.goto(f"{address}#{fragment}")
        page.wait_for_selector(".findings li")
        yield page


if __name__ == "__main__":
    main()
