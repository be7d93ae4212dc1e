"""The list of archives and the flags that choose from it are read strictly; progress is told in bytes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from beam_pipelines import archive_list, download
from beam_pipelines.byte_progress import ByteProgress
from records.errors import ConfigError

ONE, TWO = "images_001.tar.gz", "images_002.tar.gz"
HEADER = ",".join(archive_list.COLUMNS)


def test_the_list_of_the_nih_has_twelve_sound_lines():
    archives = archive_list.read_archives(archive_list.NIH_LIST)
    assert [archive.number for archive in archives] == list(range(1, 13))
    assert [archive.name for archive in archives] == [f"images_{n:03d}.tar.gz" for n in range(1, 13)]
    assert all(archive.url.startswith("https://nihcc.box.com/shared/static/") for archive in archives)
    assert len({archive.md5 for archive in archives} - {None}) == 12
    assert sum(archive.size_bytes or 0 for archive in archives) == pytest.approx(45e9, rel=0.01)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "its first line is `nothing`"),
        (f"{HEADER}\n", "names no archive"),
        (f"{HEADER},sha1\n", "sha1`; expected `archive,name,url"),
        (f"{HEADER}\n1,{ONE},http://h/1\n", "line 2: 3 fields"),
        (f"{HEADER}\n1,{ONE},ftp://h/1,,\n", "line 2: url `ftp://h/1`"),
        (f"{HEADER}\n1,../{ONE},http://h/1,,\n", "line 2: name"),
        (f"{HEADER}\n1,.{ONE},http://h/1,,\n", "line 2: name"),
        (f"{HEADER}\n0,{ONE},http://h/1,,\n", "line 2: archive `0`"),
        (f"{HEADER}\n1,{ONE},http://h/1,many,\n", "line 2: size_bytes `many`"),
        (f"{HEADER}\n1,{ONE},http://h/1,,abc\n", "line 2: md5 `abc`"),
        (f"{HEADER}\n1,{ONE},http://h/1,,\n1,{TWO},http://h/2,,\n", "line 3: number 1 stands"),
        (f"{HEADER}\n1,{ONE},http://h/1,,\n2,{ONE},http://h/2,,\n", f"line 3: name {ONE} stands"),
        (f"{HEADER}\n1,{ONE},http://h/1,,\n2,{TWO},http://h/1,,\n", "line 3: url http://h/1 stands"),
    ],
)
def test_a_list_is_read_strictly(tmp_path, text, line):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        archive_list.read_archives(path)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--archives=13"], "no archive `13`; expected some of 1,2,3,4,5,6,7,8,9,10,11,12"),
        (["--archives=1-3"], "no archive `1-3`"),
        (["--archives="], "no archive ``"),
        (["--urls=nowhere.csv"], "nowhere.csv: can't be read: No such file"),
        (["--parallel=0"], "--parallel=0"),
        (["--attempts=0"], "--attempts=0"),
        (["--timeout_s=nan"], "--timeout_s=nan"),
        (["--scratch=x"], "--scratch goes with"),
        (["--output="], "--output is empty"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path, capsys, flags, line):
    assert download.main(["--output", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert line in error
    assert not (tmp_path / "out").exists()


def test_the_command_loads_neither_beam_nor_boto3():
    code = "import sys, beam_pipelines.download; print({'apache_beam', 'boto3'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


def test_progress_counts_only_what_was_fetched_by_this_run():
    progress = ByteProgress({ONE: 4_000_000_000, TWO: None})
    progress.report(ONE, 1_000_000_000, 4_000_000_000)
    progress.report(ONE, 2_000_000_000, 4_000_000_000)
    assert progress.line(10) == "downloading: 2.00 GB, 100.0 MB/s"
    progress.report(TWO, 0, 1_000_000_000)
    assert progress.line(10) == "downloading: 2.00 of 5.00 GB, 100.0 MB/s, 0 min left"
