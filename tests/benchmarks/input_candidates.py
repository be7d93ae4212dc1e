"""The candidates of the input benchmark: programs, environments, and the settings that are tried for each."""

from __future__ import annotations

from dataclasses import dataclass

OURS, TUNED, PNG_LOOP = "this engine", "TFRecordDataset, tuned", "PNG loop"
NUMPY_TAKE, LIBJPEG_TURBO, PLAIN_READ = "NumPy take", "libjpeg-turbo", "plain read, in order"
# What a candidate reads: our shards, the plain arrays, or files of its own that it writes first.
SHARDS, SOURCE, OWN = "shards", "source", "own"
ENCODINGS = ("raw", "jpeg")
# The third part of the results: raw pictures whose files have left the page cache.
COLD = "cold"

Choices = tuple[str, ...]
_WORKERS: Choices = ("workers=0", "workers=1", "workers=2")


@dataclass(frozen=True)
class Candidate:
    """One way to read.

    Attributes:
        name: as the table shows it.
        program: `peers/input_<program>.py`.
        environment: folder below .venv-peers, or None for this program's own interpreter.
        reads: `SHARDS`, `SOURCE` or `OWN`.
        choices: for each encoding that it can read the settings to choose from, each a line of NAME=VALUE.
        shuffles: how, in a few words.
        streams: True for a peer that streams or shuffles from files of its own.
        cold: whether it is measured on cold files, too.
        exact: whether its pictures are the stored ones.
        shuffled: False for one that reads in order.
        limit: True for what nothing can be much faster than; it does no more than the inner work.
    """

    name: str
    program: str
    environment: str | None
    reads: str
    choices: dict[str, Choices]
    shuffles: str
    streams: bool = False
    cold: bool = True
    exact: bool = True
    shuffled: bool = True
    limit: bool = False


def _both(*choices: str) -> dict[str, Choices]:
    return dict.fromkeys(ENCODINGS, choices)


CANDIDATES = (
    Candidate(OURS, "tf_data", None, SHARDS, _both("way=engine"), "all records"),
    Candidate(TUNED, "tf_data", None, SHARDS, _both("way=tuned"), "among 1,024"),
    # Its tuner keeps a good part of an epoch ready, so there is no measuring it on cold files.
    Candidate(
        "TFRecordDataset, usual", "tf_data", None, SHARDS, _both("way=usual"), "among 1,024", cold=False
    ),
    Candidate(
        "Hugging Face datasets",
        "hf_datasets",
        "input_readers",
        OWN,
        {"raw": ("",), "jpeg": ("threads=1", "threads=2")},
        "all records",
        streams=True,
    ),
    Candidate(
        "Grain, ArrayRecord",
        "grain",
        "input_readers",
        OWN,
        _both("threads=0 buffer=0", "threads=1 buffer=4", "threads=2 buffer=4"),
        "all records",
        streams=True,
    ),
    Candidate(
        "LitData", "litdata", "torch_writers", OWN, _both(*_WORKERS), "chunks, in chunks", streams=True
    ),
    Candidate(
        "WebDataset",
        "webdataset",
        "torch_writers",
        OWN,
        _both(*(f"{workers} shuffle=1024" for workers in _WORKERS)),
        "shards, among 1,024",
        streams=True,
    ),
    Candidate(
        "MosaicML Streaming", "mosaicml", "torch_writers", OWN, _both(*_WORKERS), "all records", streams=True
    ),
    Candidate(
        "PyTorch DataLoader, memory map",
        "torch_map",
        "torch_writers",
        SOURCE,
        {"raw": _WORKERS, "jpeg": ("workers=0 threads=2", "workers=1 threads=1", "workers=2 threads=1")},
        "all records",
    ),
    Candidate(NUMPY_TAKE, "numpy_take", "input_readers", SOURCE, {"raw": ("",)}, "all records", limit=True),
    Candidate(
        LIBJPEG_TURBO,
        "libjpeg_turbo",
        "input_readers",
        SOURCE,
        {"jpeg": ("threads=2", "threads=3")},
        "all records",
        limit=True,
    ),
    Candidate(PNG_LOOP, "png_loop", None, SOURCE, {"raw": ("",)}, "all records", cold=False, exact=False),
    Candidate(PLAIN_READ, "plain_read", None, SOURCE, {"raw": ("",)}, "nothing", shuffled=False),
)
