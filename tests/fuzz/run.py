"""Fuzzes the readers of foreign bytes for as long as one likes.

    python tests/fuzz/run.py --seconds 600 [--target png] [--corpus FOLDER]

The seconds are shared by the targets, each in a process of its own whose memory is limited; an input that
takes 10 s is a fault. atheris leads the bytes by coverage of our code where it is installed (`pip install
atheris`), else seeds are changed at random. An input that is a fault is left in the folder as
`crash-TARGET-...`; exit code 1 says that there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INPUT_S = 10
MAX_INPUT_BYTES = 64 << 10
# Of the process, whose libraries alone take less than half of it.
MEMORY_BYTES = 6 << 30


def main() -> int:
    """Run each target in a process of its own; return 1 if one found a fault."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of foreign bytes.", allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=600, help="for all targets together (%(default)s)")
    parser.add_argument("--target", help="one alone (all)")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="folder (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=time.time_ns() % 2**31, help="of what is drawn (the time)"
    )
    parser.add_argument("--plain", action="store_true", help="without atheris")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    flags.corpus.mkdir(parents=True, exist_ok=True)
    if flags.here:
        return _here(flags)
    from targets import TARGETS

    names = [flags.target] if flags.target else list(TARGETS)
    faults = [name for name in names if _target(name, flags, flags.seconds / len(names))]
    print(f"{len(names)} targets, seed {flags.seed}; faults in: {', '.join(faults) or 'none'}")
    return 1 if faults else 0


def _target(name: str, flags: argparse.Namespace, seconds: float) -> int:
    command = [sys.executable, __file__, "--here", "--target", name, "--seconds", str(seconds)]
    command += ["--corpus", str(flags.corpus), "--seed", str(flags.seed), *["--plain"] * flags.plain]
    print(f"{name}: {seconds:.0f} s ...", flush=True)
    return subprocess.run(command, check=False).returncode


def _here(flags: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="cxr-fuzz-") as folder:
        if flags.plain or importlib.util.find_spec("atheris") is None:
            return _at_random(flags, Path(folder) / "input")
        return _by_coverage(flags, Path(folder) / "input")


def _at_random(flags: argparse.Namespace, scratch: Path) -> int:
    from mutations import mutate
    from targets import TARGETS, run

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _too_slow)
    # What the C libraries say of damaged pictures.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    target, rng = TARGETS[flags.target], random.Random(flags.seed)
    inputs = taken = 0
    # Of a crash of the process, too.
    last = flags.corpus / f"crash-{flags.target}-last"
    end_s = time.monotonic() + flags.seconds
    while time.monotonic() < end_s:
        data = mutate(rng.choice(target.seeds), target.seeds, rng)[:MAX_INPUT_BYTES]
        last.write_bytes(data)
        signal.alarm(INPUT_S)
        try:
            taken += run(target, data, scratch)
        except BaseException as error:
            path = last.rename(flags.corpus / f"crash-{flags.target}-{hashlib.sha256(data).hexdigest()[:16]}")
            print(f"{flags.target}: {type(error).__name__}: {error}: {path}", flush=True)
            return 1
        finally:
            signal.alarm(0)
        inputs += 1
    last.unlink(missing_ok=True)
    print(f"{flags.target}: {inputs:,} inputs, {taken:,} of them taken, no fault")
    return 0


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"an input took {INPUT_S} s")


def _by_coverage(flags: argparse.Namespace, scratch: Path) -> int:
    import atheris

    with atheris.instrument_imports(include=["records", "beam_pipelines", "engine"]):
        from targets import TARGETS, run

    target = TARGETS[flags.target]
    seeds = scratch.parent / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(seed)
    arguments = [
        f"-max_total_time={max(1, round(flags.seconds))}",
        f"-timeout={INPUT_S}",
        f"-rss_limit_mb={MEMORY_BYTES >> 20}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-seed={flags.seed}",
        f"-artifact_prefix={flags.corpus / f'crash-{flags.target}-'}",
        *("-print_final_stats=1", "-verbosity=0", str(seeds)),
    ]
    atheris.Setup([sys.argv[0], *arguments], lambda data: run(target, data, scratch))
    atheris.Fuzz()
    return 0  # not reached: it ends the process


if __name__ == "__main__":
    sys.exit(main())
