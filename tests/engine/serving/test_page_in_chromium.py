"""The page in a real browser, before a real server process."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_probes as probes
import page_server
import pytest
import served_run as files

from engine.prediction import predict
from records.labels import FINDINGS

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

pytestmark = [
    pytest.mark.skipif(
        page_server.chromium() is None, reason="there is no Chromium; CHROMIUM_BINARY names one"
    ),
    pytest.mark.slow,
]
DESK = {"width": 1280, "height": 800}
UNBOXED = "Edema"
TABS = 30


@pytest.fixture(scope="module")
def address(served_run: Path, served_data: Any, boxes: Path) -> Iterator[str]:
    with page_server.serving(str(served_run), served_data.location, str(boxes)) as found:
        yield found


@pytest.fixture(scope="module")
def first_id(address: str) -> str:
    """The first test image, which has boxes of Mass and Infiltration."""
    return page_server.asked(f"{address}api/samples")["samples"][0]["id"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with page_server.browser() as opened:
        yield opened


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Any]:
    """A function that opens the page; by the test's end none may have complained or asked another server."""
    faults, contexts = [], []

    def heard(message: Any) -> None:
        # What the server refused is said by the page itself.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            faults.append(message.text)

    def sent(request: Any) -> None:
        if not request.url.startswith((address, "blob:", "data:")):
            faults.append(f"asked for {request.url}")

    def start(fragment: str = "", **settings: Any) -> Any:
        contexts.append(browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce"} | settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.on("console", heard)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", sent)
        page.goto(f"{address}#{fragment}")
        page.wait_for_selector(".findings li")
        return page

    yield start
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def page(open_page: Any) -> Any:
    return open_page()


def read(page: Any, file: Path | dict[str, Any]) -> None:
    page.set_input_files("#file", file)
    page.wait_for_selector(".findings.read")


def shown(page: Any) -> dict[str, dict[str, Any]]:
    """What each row shows, from top to bottom."""
    rows = page.locator(".findings li").evaluate_all(probes.ROWS)
    return dict(rows)


def pixels(page: Any) -> str:
    """What the canvas shows, as soon as it is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator("#canvas").evaluate("(canvas) => canvas.toDataURL()")


def predicted(run_dir: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `engine predict --json` says of a file."""
    capsys.readouterr()
    assert predict.run(str(run_dir), [str(file)], as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    return said | said["images"][0]


def assert_same(rows: dict[str, dict[str, Any]], said: dict[str, Any]) -> None:
    assert {name: row["probability"] for name, row in rows.items()} == pytest.approx(
        said["probabilities"], abs=1e-5
    )
    assert {name for name, row in rows.items() if row["called"] == "Yes"} == set(said["called"])
    known = {name: value for name, value in said["threshold_of"].items() if value is not None}
    assert {name: rows[name]["threshold"] for name in known} == pytest.approx(known, abs=1e-5)


def test_an_uploaded_file_shows_what_engine_predict_says_of_it(page, served_run, tmp_path, capsys):
    file = tmp_path / "film.png"
    file.write_bytes(files.png(3))
    read(page, file)
    rows, said = shown(page), predicted(served_run, file, capsys)
    assert_same(rows, said)
    for finding, row in rows.items():
        value = 100 * said["probabilities"][finding]
        assert row["value"] in (f"{value:.1f} %", f"{value:.0f} %", "< 0.1 %")
        assert row["truth"] is None
        low, high = min(row["members"]), max(row["members"])
        assert low - 1e-6 <= row["probability"] <= high + 1e-6
    assert "not of the data set" in page.text_content("#subline")


def test_a_dicom_file_can_be_read(page):
    read(page, {"name": "film.dcm", "mimeType": "application/dicom", "buffer": files.dicom(2)})
    assert len(shown(page)) == len(FINDINGS)


def test_a_test_image_shows_its_truth_beside_what_engine_predict_says(
    open_page, address, first_id, served_run, tmp_path, capsys
):
    file = tmp_path / "stored.png"
    urllib.request.urlretrieve(f"{address}api/samples/{first_id}/picture.png", file)
    page = open_page(f"sample={first_id}")
    page.wait_for_selector(".findings.read")
    assert_same(shown(page), predicted(served_run, file, capsys))
    (sample,) = page_server.asked(f"{address}api/samples?query={first_id}")["samples"]
    present = {name for name, row in shown(page).items() if row["truth"] == "Present"}
    absent = {name for name, row in shown(page).items() if row["truth"] == "Absent"}
    assert present == set(sample["findings"])
    assert present | absent == set(FINDINGS)


def test_findings_stand_by_probability_or_in_the_fixed_order(open_page, first_id):
    page = open_page(f"sample={first_id}")
    page.wait_for_selector(".findings.read")
    values = [row["probability"] for row in shown(page).values()]
    assert values == sorted(values, reverse=True)
    page.get_by_label("Fixed order").check()
    assert tuple(shown(page)) == FINDINGS


def test_a_test_image_is_chosen_by_finding_and_by_id(page, address, first_id):
    finding = page_server.asked(f"{address}api/samples/{first_id}")["boxes"][0]["finding"]
    having = page_server.asked(f"{address}api/samples?finding={finding}")["total"]
    page.click("#browse")
    page.select_option("#samples-finding", finding)
    playwright.expect(page.locator("#samples-list li")).to_have_count(having)
    page.select_option("#samples-finding", "")
    page.fill("#samples-query", first_id)
    playwright.expect(page.locator("#samples-list li")).to_have_count(1)
    page.click("#samples-list button")
    page.wait_for_selector(".findings.read")
    assert page.text_content("#identity") == first_id
    assert page.url.endswith(f"#sample={first_id}")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_taken_by(kind, page):
    page.evaluate(probes.GIVE, [kind, "film.png", list(files.png(5))])
    page.wait_for_selector(".findings.read")
    assert page.text_content("#identity") == "film.png"


def test_the_heat_map_of_the_finding_in_view_appears_and_its_slider_changes_it(open_page, first_id):
    page = open_page(f"sample={first_id}")
    page.wait_for_selector(".findings.read")
    plain = pixels(page)
    page.hover(f"li[data-finding={UNBOXED}]")
    playwright.expect(page.locator("#overlay-name")).to_have_text(UNBOXED)
    page.click(f"li[data-finding={UNBOXED}] button")
    seen = {opacity: page.fill("#opacity", opacity) or pixels(page) for opacity in ("0", "40", "100")}
    assert seen["0"] == plain
    assert len(set(seen.values())) == 3
    page.fill("#opacity", "0")
    page.click("li[data-finding=Mass] button")
    playwright.expect(page.locator("#overlay-name")).to_have_text("Mass")
    assert pixels(page) != plain  # its box
    page.keyboard.press("Escape")
    page.mouse.move(5, 5)
    assert pixels(page) == plain


def test_tone_zoom_and_place_change_the_picture_until_it_is_reset(page):
    read(page, {"name": "film.png", "mimeType": "image/png", "buffer": files.png(1)})
    plain = pixels(page)
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.wheel(0, -300)
    zoomed = pixels(page)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 230)
    page.mouse.up()
    moved = pixels(page)
    page.click("#invert")
    inverted = pixels(page)
    page.fill("#window", "90")
    narrow = pixels(page)
    page.fill("#level", "60")
    assert len({plain, zoomed, moved, inverted, narrow, pixels(page)}) == 6
    page.click("#reset")
    assert pixels(page) == plain


def test_two_fingers_zoom_and_one_finger_then_moves_the_picture(open_page, first_id):
    page = open_page(
        f"sample={first_id}", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page.wait_for_selector(".findings.read")
    stage = page.locator("#stage").bounding_box()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    touch = page.context.new_cdp_session(page)

    def put(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": left, "y": top, "id": number} for number, (left, top) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    whole = float(page.text_content("#scale").split()[0])
    put("touchStart", (x - 20, y), (x + 20, y))
    for reach in (40, 60, 80):
        put("touchMove", (x - reach, y), (x + reach, y))
    put("touchEnd")
    assert float(page.text_content("#scale").split()[0]) > 3 * whole
    zoomed = pixels(page)
    put("touchStart", (x, y))
    put("touchMove", (x + 30, y + 30))
    put("touchEnd")
    assert pixels(page) != zoomed


def test_text_that_is_called_png_is_refused_and_no_old_reading_stays(page):
    read(page, {"name": "film.png", "mimeType": "image/png", "buffer": files.png(1)})
    page.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"not a picture"})
    fault = page.get_by_role("alert")
    playwright.expect(fault).to_contain_text("notes.png: ")
    assert "PNG" in fault.text_content()
    assert page.locator(".findings.read").count() == 0
    assert {row["value"] for row in shown(page).values()} == {"–"}
    read(page, {"name": "film.png", "mimeType": "image/png", "buffer": files.png(1)})
    playwright.expect(fault).to_be_hidden()


def test_a_server_that_is_gone_is_named_as_such(page):
    page.route("**/api/model", lambda route: route.abort())
    page.reload()
    playwright.expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    playwright.expect(page.locator("#choose")).to_be_disabled()


def test_a_busy_server_is_asked_again_and_the_page_says_so(page):
    answers = []

    def answer(route: Any) -> None:
        answers.append(route)
        if len(answers) == 1:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "busy"})
        else:
            route.continue_()

    page.route("**/api/predict", answer)
    page.set_input_files("#file", {"name": "film.png", "mimeType": "image/png", "buffer": files.png(1)})
    playwright.expect(page.locator("#working")).to_contain_text("busy; asking again in 1 s")
    page.wait_for_selector(".findings.read")
    assert len(answers) == 2


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_shows_all_findings_and_scrolls_in_one_direction_only(width, open_page, first_id):
    screen = {"width": width, "height": 844}
    page = open_page(f"sample={first_id}&finding=Mass", viewport=screen, has_touch=True, is_mobile=True)
    page.wait_for_selector(".findings.read")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for row in page.locator(".findings li").all():
        place = row.bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= width
        for part in (".name", ".track", ".value", ".call", ".truth"):
            assert row.locator(part).is_visible()
    page.tap("#browse")
    page.wait_for_selector("#samples-list li")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_keyboard_alone_leads_to_a_reading_and_its_heat_maps(page):
    def tab_to(selector: str) -> None:
        for _ in range(TABS):
            page.keyboard.press("Tab")
            if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
                assert page.evaluate(probes.FOCUS_SEEN)
                return
        pytest.fail(f"{selector} can't be reached")

    tab_to("#random")
    page.keyboard.press("Enter")
    page.wait_for_selector(".findings.read")
    playwright.expect(page.locator("#announcement")).to_contain_text("is read")
    tab_to("#stage")
    plain = pixels(page)
    page.keyboard.press("+")
    assert pixels(page) != plain
    page.keyboard.press("0")
    assert pixels(page) == plain
    tab_to(".findings .name")
    for key, place in (("ArrowDown", 1), ("End", 13), ("ArrowDown", 0)):
        page.keyboard.press(key)
        row = page.locator(".findings li").nth(place)
        playwright.expect(row.locator("button")).to_be_focused()
        playwright.expect(page.locator("#overlay-name")).to_have_text(row.locator("button").text_content())
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#overlay-name")).to_have_text("")


def test_a_screen_reader_finds_names_and_values(open_page, first_id):
    page = open_page(f"sample={first_id}")
    page.wait_for_selector(".findings.read")
    page.click("#browse")
    page.wait_for_selector("#samples-list li")
    assert page.evaluate(probes.UNNAMED) == []
    page.keyboard.press("Escape")
    track = page.locator("li[data-finding=Mass]").get_by_role("meter", name="Mass")
    assert "threshold" in track.get_attribute("aria-valuetext")
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_stand_out_from_their_ground_in(scheme, open_page, first_id):
    page = open_page(f"sample={first_id}&finding=Mass", color_scheme=scheme)
    page.wait_for_selector(".findings.read")
    texts = (
        "h1, h2, h3, .limit, .primary, .subline, .columns span, .findings span:not(:empty), .name, dt, dd, "
        "th, td, li, .legend, #detail, caption, .corner"
    )
    contrasts = page.locator(texts).evaluate_all(probes.CONTRASTS)
    assert min(contrasts) >= 4.5


def test_the_page_says_what_reads_the_picture_how_good_it_is_and_what_it_is_not(page, address):
    model = page_server.asked(f"{address}api/model")
    told = page.text_content("#model-body")
    assert all(line in told for line in model["limits"])
    assert f"{model['macro_auroc']['value']:.3f}" in told
    assert all(member["name"] in told for member in model["members"])
    assert f"{model['split']['images']} images" in told
    assert page.locator("table.judged tbody tr").count() == len(FINDINGS)
    playwright.expect(page.get_by_text("Research only. Not a medical device.")).to_be_in_viewport()
