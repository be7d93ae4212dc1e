"""The list of archives to download: a small CSV of addresses, read strictly.

`nih_archives.csv` beside this module holds the twelve of the NIH: the addresses of its
`batch_download_zips.py`, the MD5 sums of its FAQ, and the sizes that its server declares.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from records.errors import ConfigError, UsageError

NIH_LIST = Path(__file__).with_name("nih_archives.csv")
COLUMNS = ("archive", "name", "url", "size_bytes", "md5")


@dataclass(frozen=True)
class Archive:
    """One line of the list; what isn't known is None."""

    number: int
    name: str
    url: str
    size_bytes: int | None
    md5: str | None


def read_archives(path: Path) -> list[Archive]:
    """Read a list, in its order.

    Raises:
        ConfigError: it can't be read, or a line of it is not what it must be; says which and why.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(reader.line_num, row) for reader in [csv.reader(file, strict=True)] for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    if not rows or tuple(rows[0][1]) != COLUMNS:
        found = ",".join(rows[0][1]) if rows else "nothing"
        raise ConfigError(f"{path}: its first line is `{found}`; expected `{','.join(COLUMNS)}`")
    archives: list[Archive] = []
    for line, row in rows[1:]:
        archive = _read_row(row, f"{path}, line {line}")
        for earlier in archives:
            for field in ("number", "name", "url"):
                if getattr(archive, field) == getattr(earlier, field):
                    raise ConfigError(
                        f"{path}, line {line}: {field} {getattr(archive, field)} stands in an earlier line; "
                        "expected each archive once"
                    )
        archives.append(archive)
    if not archives:
        raise ConfigError(f"{path}: names no archive; expected a line for each")
    return archives


def _read_row(row: list[str], place: str) -> Archive:
    if len(row) != len(COLUMNS):
        raise ConfigError(f"{place}: {len(row)} fields; expected {len(COLUMNS)}: {','.join(COLUMNS)}")
    number, name, url, size, md5 = row
    # Hidden names are those of unfinished files.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tar\.gz", name):
        raise ConfigError(f"{place}: name `{name}`; expected a plain file name such as images_001.tar.gz")
    if not _is_http(url):
        raise ConfigError(f"{place}: url `{url}`; expected http:// or https:// and a host")
    if md5 and not re.fullmatch(r"[0-9a-f]{32}", md5):
        raise ConfigError(f"{place}: md5 `{md5}`; expected 32 digits of 0-9 and a-f, or nothing")
    return Archive(
        number=_positive(number, "archive", place),
        name=name,
        url=url,
        size_bytes=_positive(size, "size_bytes", place) if size else None,
        md5=md5 or None,
    )


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", url)
    except ValueError:
        return False


def _positive(text: str, column: str, place: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise ConfigError(f"{place}: {column} `{text}`; expected a whole number above 0")
    return int(text)


def choose(archives: list[Archive], wanted: str | None) -> list[Archive]:
    """Return the archives whose numbers `wanted` names (`1,2`), all of them where it is None.

    Raises:
        UsageError: it names none, or one that isn't in the list.
    """
    if wanted is None:
        return archives
    known = {str(archive.number): archive for archive in archives}
    names = [part.strip() for part in wanted.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(
            f"--archives {wanted}: no archive `{unknown[0]}`; expected some of {','.join(known)}, "
            "separated by commas"
        )
    return [archive for number, archive in known.items() if number in names]
