"""The NIH's archives -> a folder or a bucket: resumable, checked, several at a time.

    python -m beam_pipelines.download --output nih --archives 1,2

Here are flags, the threads, and the summary. What is done for one archive stands in `obtain`, requests and
ranges in `http_ranges`, the reading of the list of addresses in `archive_list`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from beam_pipelines.archive_list import NIH_LIST, Archive, choose, read_archives
from beam_pipelines.byte_progress import ByteProgress
from beam_pipelines.http_ranges import Client
from beam_pipelines.obtain import Job, bytes_here, obtain
from records import storage
from records.errors import CxrError, StorageError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    flags = _parser().parse_args(argv)
    try:
        _check_flags(flags)
        return run(flags)
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {_one_line(error, flags.output)}", file=sys.stderr)
        return StorageError.exit_code
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def run(flags: argparse.Namespace) -> int:
    """Download as the flags say; return the exit code.

    Raises:
        CxrError: flags, list or output are at fault; of a single archive's fault the summary tells.
    """
    listed = read_archives(flags.urls)
    archives = choose(listed, flags.archives)
    remote = flags.output if storage.is_s3(flags.output) else None
    folder = _scratch_folder(flags) if remote else Path(flags.output)
    # The listing says before the first gigabyte whether there is such a bucket.
    stored = {file.location: file.size_bytes for file in storage.list_files(remote)} if remote else {}
    storage.make_folder(str(folder))
    _check_space(archives, folder, stored, remote, flags.parallel)
    job = Job(
        folder=folder,
        remote=remote,
        stored=stored,
        client=Client(threads=flags.parallel, timeout_s=flags.timeout_s),
        progress=ByteProgress({archive.name: archive.size_bytes for archive in archives}),
        stop=threading.Event(),
        attempts=flags.attempts,
    )
    outcomes = _obtain_all(archives, job, flags.parallel)
    if remote:
        with contextlib.suppress(OSError):  # there is something in it for the next run
            folder.rmdir()
    failed = [archive.name for archive in archives if archive.name not in outcomes]
    for archive in archives:
        print(f"{archive.name}: {outcomes.get(archive.name, 'failed')}")
    if failed:
        print(
            f"error: {len(failed)} of {len(archives)} archives failed ({', '.join(failed)}); "
            "the same command goes on with them",
            file=sys.stderr,
        )
        return 1
    others = [archive.name for archive in listed if archive not in archives]
    whole = all(
        storage.join(remote, name) in stored if remote else (folder / name).exists() for name in others
    )
    _print_next(flags.output, whole=whole)
    return 0


# --- All archives -------------------------------------------------------------------------------------


def _obtain_all(archives: list[Archive], job: Job, parallel: int) -> dict[str, str]:
    """Obtain the archives, some at a time; return what was done for each that didn't fail, by name."""
    outcomes = {}
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="download")
    try:
        with job.progress.shown():
            futures = {pool.submit(obtain, archive, job): archive for archive in archives}
            for future in as_completed(futures):
                try:
                    outcomes[futures[future].name] = future.result()
                except (CxrError, OSError) as error:
                    job.progress.say(f"error: {futures[future].name}: {_one_line(error, job.folder)}")
    finally:
        # After Ctrl-C a thread may still wait for its server; what is here is safe whenever it ends.
        job.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return outcomes


def _check_space(
    archives: list[Archive], folder: Path, stored: dict[str, int], remote: str | None, parallel: int
) -> None:
    """Refuse to begin what can't end for want of room, as far as the sizes are known."""
    missing = [
        max(0, archive.size_bytes - bytes_here(folder, archive.name))
        for archive in archives
        if archive.size_bytes and (not remote or storage.join(remote, archive.name) not in stored)
    ]
    if remote:  # as many at a time as are being put together
        missing = sorted(missing, reverse=True)[:parallel]
    needed, free = sum(missing), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{folder}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free; make room, or ask "
            f"for less with {'--parallel' if remote else '--archives'}"
        )


def _one_line(error: CxrError | OSError, place: str | Path) -> str:
    if isinstance(error, CxrError):
        return str(error)
    return f"{error.filename or place}: {error.strerror or error}"


def _print_next(output: str, *, whole: bool) -> None:
    flag = "" if whole else " --allow_missing_images"
    print(
        f"next: python -m beam_pipelines.convert --images {shlex.quote(output)}"
        " --labels Data_Entry_2017_v2020.csv --split official --train_val_list train_val_list.txt"
        f" --test_list test_list.txt --output shards{flag}"
    )


# --- Command line -------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.download",
        description="Download the twelve archives of NIH ChestX-ray14 images (45 GB). The same command goes "
        "on where an interrupted one stopped.",
        epilog="The table of labels and the split lists are not among the archives; they are at "
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--output", required=True, metavar="DIR_OR_S3", help="folder or s3:// prefix")
    add("--archives", metavar="1,2", help="numbers of the archives wanted (default: all)")
    add(
        "--urls",
        type=Path,
        default=NIH_LIST,
        metavar="FILE",
        help="another list: CSV with columns archive,name,url,size_bytes,md5; the last two may be empty",
    )
    add("--parallel", type=int, default=4, metavar="N", help="archives at a time (default: %(default)s)")
    add(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="s3:// output: where archives are put together, --parallel of them at a time, 4.2 GB each "
        "(default: below the user's cache folder)",
    )
    add(
        "--timeout_s",
        type=float,
        default=60.0,
        metavar="S",
        help="silence of a server that counts as a broken connection (default: %(default)s)",
    )
    add(
        "--attempts",
        type=int,
        default=8,
        metavar="N",
        help="in a row without a new byte, before an archive is given up (default: %(default)s)",
    )
    return parser


def _check_flags(flags: argparse.Namespace) -> None:
    if not flags.output:
        raise UsageError("--output is empty; is a variable of the command line unset?")
    for name in ("parallel", "attempts"):
        if getattr(flags, name) < 1:
            raise UsageError(f"--{name}={getattr(flags, name)}; expected at least 1")
    if not 0 < flags.timeout_s <= 3600:
        raise UsageError(f"--timeout_s={flags.timeout_s:g}; expected seconds, above 0 and at most 3600")
    if flags.scratch and not storage.is_s3(flags.output):
        raise UsageError("--scratch goes with an s3:// output; a folder needs none")


def _scratch_folder(flags: argparse.Namespace) -> Path:
    """Return a folder for this output alone: another list may have other archives of the same names.

    It is not below /tmp, which a restart may empty and which may lie in memory.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cxr-engine" / "downloads"
    output = hashlib.sha256(flags.output.rstrip("/").encode()).hexdigest()[:16]
    return (flags.scratch or cache) / output


if __name__ == "__main__":
    code = main()
    if code:
        # Threads that still wait for a server hold the process no longer.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
