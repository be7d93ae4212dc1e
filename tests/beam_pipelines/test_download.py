"""Archives are fetched whole or not at all, by range after any interruption, and never mixed."""

from __future__ import annotations

import fcntl
import hashlib
import io
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import Served, Site, serve

from beam_pipelines import archive_list, download, http_ranges
from records import storage

ONE, TWO = "images_001.tar.gz", "images_002.tar.gz"
HEADER = ",".join(archive_list.COLUMNS)
CHUNK = http_ranges.CHUNK_BYTES


def archive_of(seed: int, content_bytes: int = 300_000) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"images/{seed}.png")
        member.size = content_bytes
        tar.addfile(member, io.BytesIO(random.Random(seed).randbytes(content_bytes)))
    return file.getvalue()


FIRST, SECOND = archive_of(1), archive_of(2)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("FIRST_WAIT_S", "LONGEST_WAIT_S"):
        monkeypatch.setattr(http_ranges, name, 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as running:
        running.files = {"/1": Served(FIRST), "/2": Served(SECOND)}
        yield running


class Command:
    """The command with a list of its own and a folder to download to."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder, self.output = site, folder, folder / "nih"
        self.list = folder / "list.csv"
        self.sizes = {1: str(len(FIRST)), 2: str(len(SECOND))}
        self.sums = {1: hashlib.md5(FIRST).hexdigest(), 2: hashlib.md5(SECOND).hexdigest()}

    def arguments(self, *flags: str, archives: str = "1", output: str | None = None) -> list[str]:
        rows = [
            f"{number},images_00{number}.tar.gz,{self.site.address}/{number},{size},{self.sums[number]}"
            for number, size in self.sizes.items()
        ]
        self.list.write_text("\n".join([HEADER, *rows]) + "\n")
        place = ["--output", output or str(self.output), "--urls", str(self.list)]
        return [*place, "--archives", archives, *flags]

    def __call__(self, *flags: str, **changes: str) -> int:
        return download.main(self.arguments(*flags, **changes))

    def forget(self) -> None:
        """Leave size and checksum of the first archive unknown."""
        self.sizes[1] = self.sums[1] = ""

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.output.iterdir())

    @property
    def first(self) -> bytes:
        return (self.output / ONE).read_bytes()


@pytest.fixture
def command(site: Site, tmp_path: Path) -> Command:
    return Command(site, tmp_path)


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that says why an archive failed."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: images")]
    assert len(lines) == 1
    return lines[0]


# --- Going on by range --------------------------------------------------------------------------------


def test_a_dropped_connection_is_gone_on_from_by_range(command, site):
    site.files["/1"].cuts = [100_000, 70_000, 0, 0]
    assert command() == 0
    assert site.ranges("/1") == [None, "bytes=100000-", *["bytes=170000-"] * 3]
    assert {condition for _, _, condition in site.asked[1:]} == {'"one"'}
    assert command.first == FIRST
    assert command.names == [ONE]


def test_a_stalled_server_is_a_dropped_connection(command, site):
    site.files["/1"].stall_after = 2 * CHUNK
    assert command("--timeout_s=0.2", "--attempts=1") == 1
    site.files["/1"].stall_after = None
    assert command() == 0
    assert site.ranges("/1") == [None, f"bytes={2 * CHUNK}-"]
    assert command.first == FIRST


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_killed_command_leaves_what_the_next_one_goes_on_with(command, site, number, code):
    site.files["/1"].stall_after = 2 * CHUNK
    partial = command.output / f".{ONE}.partial"
    arguments = [sys.executable, "-m", "beam_pipelines.download", *command.arguments()]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not (partial.exists() and partial.stat().st_size == 2 * CHUNK):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors.decode() == ("interrupted; run the same command again to go on\n" if code == 130 else "")
    assert not (command.output / ONE).exists()
    site.files["/1"].stall_after = None
    assert command() == 0
    assert site.ranges("/1") == [None, f"bytes={2 * CHUNK}-"]
    assert command.first == FIRST
    assert command.names == [ONE]


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(command, site):
    site.files["/1"].ranges = False
    site.files["/1"].cuts = [100_000]
    assert command() == 0
    assert site.ranges("/1") == [None, "bytes=100000-"]
    assert command.first == FIRST


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_a_file_that_changed_at_the_server_is_fetched_anew(command, site, knows_if_range):
    command.forget()
    site.files["/1"].cuts = [100_000]
    assert command("--attempts=1") == 1
    site.files["/1"] = Served(SECOND, etag='"two"', if_range=knows_if_range)
    assert command() == 0
    assert site.asked[1] == ("/1", "bytes=100000-", '"one"')
    assert command.first == SECOND


def test_without_an_etag_the_date_of_the_file_is_the_condition(command, site):
    site.files["/1"] = Served(
        FIRST, etag='W/"weak"', last_modified="Mon, 02 Jan 2017 00:00:00 GMT", cuts=[100_000]
    )
    assert command() == 0
    assert site.asked[1] == ("/1", "bytes=100000-", "Mon, 02 Jan 2017 00:00:00 GMT")


@pytest.mark.parametrize(("checksum", "asked"), [(True, "bytes=100000-"), (False, None)])
def test_without_any_condition_a_range_is_asked_for_only_if_a_checksum_is_known(
    command, site, checksum, asked
):
    if not checksum:
        command.forget()
    site.files["/1"] = Served(FIRST, etag=None, cuts=[100_000])
    assert command() == 0
    assert site.ranges("/1") == [None, asked]
    assert command.first == FIRST


def test_another_address_of_an_archive_is_fetched_from_its_beginning(command, site):
    site.files["/1"].cuts = [100_000]
    assert command("--attempts=1") == 1
    site.files["/2"] = Served(FIRST)
    command.list.write_text(f"{HEADER}\n1,{ONE},{site.address}/2,,\n")
    assert download.main(["--output", str(command.output), "--urls", str(command.list)]) == 0
    assert site.ranges("/2") == [None]


def test_a_range_that_begins_elsewhere_is_refused(command, site, capsys):
    site.files["/1"].cuts = [100_000]
    site.files["/1"].content_range = f"bytes 5-{len(FIRST) - 1}/{len(FIRST)}"
    assert command() == 1
    assert "Content-Range `bytes 5-" in error_of(capsys)
    assert (command.output / f".{ONE}.partial").stat().st_size == 100_000


def test_a_range_that_the_server_does_not_have_begins_anew(command, site):
    command.forget()
    site.files["/1"].cuts = [100_000]
    assert command("--attempts=1") == 1
    site.files["/1"] = Served(short := archive_of(3, 9_000), if_range=False)
    assert command() == 0
    assert site.ranges("/1") == [None, "bytes=100000-", None]
    assert command.first == short


def test_a_redirect_is_followed_at_every_attempt(command, site):
    site.files["/1"].location = "/signed"
    site.files["/signed"] = Served(FIRST, cuts=[100_000])
    assert command() == 0
    assert site.ranges("/1") == site.ranges("/signed") == [None, "bytes=100000-"]


def test_the_proxy_that_the_environment_names_is_used(command, site, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", site.address)
    far = "http://archives.invalid/1"
    site.files[far] = Served(FIRST, cuts=[100_000])
    command.list.write_text(f"{HEADER}\n1,{ONE},{far},,\n")
    assert download.main(["--output", str(command.output), "--urls", str(command.list)]) == 0
    assert site.ranges(far) == [None, "bytes=100000-"]


# --- What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "line"),
    [
        (Served(b"no", status=404), "answered 404 Not Found"),
        (Served(b"no", status=403), "answered 403 Forbidden"),
        (Served(b"<html>gone</html>", kind="text/html"), "answered with text/html that begins with b'<html>"),
        (Served(SECOND + b"!"), "the list says"),
    ],
)
def test_a_wrong_answer_is_one_clear_line_and_not_asked_for_again(command, site, capsys, served, line):
    site.files["/1"] = served
    assert command() == 1
    assert line in error_of(capsys)
    assert len(site.asked) == 1
    assert not (command.output / ONE).exists()


def test_a_page_instead_of_the_rest_leaves_what_is_here(command, site):
    site.files["/1"].cuts = [100_000]
    assert command("--attempts=1") == 1
    site.files["/1"] = Served(b"<html>too many downloads</html>", kind="text/html", ranges=False)
    assert command() == 1
    site.files["/1"] = Served(FIRST)
    assert command() == 0
    assert site.ranges("/1")[-1] == "bytes=100000-"


def test_a_server_that_is_busy_is_asked_again(command, site):
    site.files["/1"].status, site.files["/1"].times = 503, 3
    assert command() == 0
    assert len(site.asked) == 4
    assert command.first == FIRST


def test_an_archive_is_given_up_after_as_many_attempts_as_bring_nothing(command, site, capsys):
    site.files["/1"].cuts = [50_000, 50_000, 0, 0, 0]
    assert command("--attempts=3") == 1
    assert "gave up after 3 attempts without a new byte, with 100,000 bytes here" in error_of(capsys)
    assert len(site.asked) == 4


def test_a_wrong_checksum_removes_what_was_fetched(command, capsys):
    command.sums[1] = "0" * 32
    assert command() == 1
    assert "the list says 00000000000000000000000000000000" in error_of(capsys)
    assert command.names == []


def test_a_file_cut_short_is_known_without_a_checksum(command, site, capsys):
    command.forget()
    site.files["/1"] = Served(FIRST, declared_bytes=len(FIRST) - 1000)
    assert command() == 1
    assert "not a whole gzip archive" in error_of(capsys)
    assert command.names == []


def test_a_length_that_is_never_reached_is_given_up(command, site, capsys):
    command.forget()
    site.files["/1"] = Served(FIRST, declared_bytes=len(FIRST) + 1000)
    assert command("--attempts=2") == 1
    assert "gave up" in error_of(capsys)
    assert not (command.output / ONE).exists()


def test_a_second_download_of_the_same_archive_is_refused(command, site, capsys):
    command.output.mkdir()
    with (command.output / f".{ONE}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert command() == 1
    assert "another download is writing it" in error_of(capsys)
    assert not site.asked
    assert command() == 0


def test_too_little_room_is_said_before_anything_is_asked_for(command, site, capsys, monkeypatch):
    usage = shutil.disk_usage(command.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert command() == 1
    assert "make room" in capsys.readouterr().err
    assert not site.asked


# --- What is there already ----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_a_whole_archive_is_not_asked_for_again(command, site, capsys, known):
    if not known:
        command.forget()
    assert command() == 0
    assert command() == 0
    assert len(site.asked) == 1
    assert f"{ONE}: already there, {len(FIRST):,} bytes" in capsys.readouterr().out


@pytest.mark.parametrize("other", [SECOND, FIRST[:-1], FIRST[:-9] + b"x" + FIRST[-8:]])
@pytest.mark.parametrize("known", [True, False])
def test_another_file_in_its_place_is_refused_and_kept(command, site, capsys, other, known):
    if not known:
        command.forget()
        other = other[:-2]
    command.output.mkdir()
    (command.output / ONE).write_bytes(other)
    assert command() == 1
    assert "delete it" in error_of(capsys)
    assert command.first == other
    assert not site.asked


def test_a_download_that_ended_before_its_check_is_not_asked_for_again(command, site):
    site.files["/1"].cuts = [len(FIRST) - 1]
    assert command("--attempts=1") == 1
    with (command.output / f".{ONE}.partial").open("ab") as file:
        file.write(FIRST[-1:])
    assert command() == 0
    assert len(site.asked) == 1
    assert command.first == FIRST


# --- Several archives, buckets ------------------------------------------------------------------------


def test_one_archive_that_fails_leaves_the_other_whole(command, site, capsys):
    site.files["/2"] = Served(b"no", status=404)
    assert command("--parallel=2", archives="1,2") == 1
    output = capsys.readouterr()
    assert output.out == f"{ONE}: downloaded, {len(FIRST):,} bytes, MD5 checked\n{TWO}: failed\n"
    assert output.err.splitlines()[-1].startswith(f"error: 1 of 2 archives failed ({TWO})")
    assert len(output.err.splitlines()) == 2
    assert command.names == [ONE]


def test_two_archives_are_fetched_at_once_and_the_next_command_is_named(command, site, capsys):
    site.files["/1"].gate = site.files["/2"].gate = threading.Barrier(2)
    assert command("--parallel=2", "--attempts=1", archives="1,2") == 0
    assert command.names == [ONE, TWO]
    assert f"next: python -m beam_pipelines.convert --images {command.output} " in capsys.readouterr().out


def test_the_next_command_allows_for_archives_that_are_not_there(command, capsys):
    assert command() == 0
    assert capsys.readouterr().out.rstrip().endswith("--allow_missing_images")
    assert command(archives="2") == 0
    assert capsys.readouterr().out.rstrip().endswith("--output shards")


def test_a_bucket_gets_the_checked_archive_and_the_scratch_folder_is_cleared(command, site, s3, tmp_path):
    site.files["/1"].cuts = [100_000]
    scratch, flags = tmp_path / "scratch", {"output": f"{s3}/nih"}
    assert command(f"--scratch={scratch}", "--attempts=1", **flags) == 1
    assert storage.list_files(s3) == []
    assert command(f"--scratch={scratch}", **flags) == 0
    assert site.ranges("/1") == [None, "bytes=100000-"]
    assert storage.read_bytes(f"{s3}/nih/{ONE}") == FIRST
    assert list(scratch.iterdir()) == []
    assert command(f"--scratch={scratch}", **flags) == 0
    assert len(site.asked) == 2


def test_an_object_of_another_size_is_refused(command, site, s3, capsys, tmp_path):
    storage.write_bytes(f"{s3}/{ONE}", FIRST[:-1])
    assert command(f"--scratch={tmp_path}", output=s3) == 1
    assert "delete it" in error_of(capsys)
    assert not site.asked


def test_a_bucket_that_is_not_there_is_said_before_anything_is_asked_for(command, site, s3, capsys):
    assert command(output=f"{s3}-not") == 1
    assert "NoSuchBucket" in capsys.readouterr().err
    assert not site.asked
