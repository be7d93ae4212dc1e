"""The flags of the conversion; Beam's own are passed on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from records import example, splits
from records.errors import UsageError

# The side of the NIH's originals.
MAX_SIDE_PX = 1024
MIN_SIDE_PX = 8
_DEFAULT_JPEG_QUALITY = 95


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the conversion's flags, checked against each other, and those that are left for Beam.

    Raises:
        UsageError: flags that don't go together, or a value out of range.
        SystemExit: what argparse itself refuses.
    """
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.convert",
        description="Convert NIH ChestX-ray14 PNGs to sharded TFRecords. Beam's own flags are passed on.",
        allow_abbrev=False,
    )
    _add_inputs(parser.add_argument_group("inputs"))
    _add_split(parser.add_argument_group("split"))
    _add_records(parser.add_argument_group("records"))
    _add_checks(parser.add_argument_group("checks"))
    found, beam_flags = parser.parse_known_args(argv)
    if found.encoding == "jpeg" and found.jpeg_quality is None:
        found.jpeg_quality = _DEFAULT_JPEG_QUALITY
    _check_locations(found)
    _check_split(found)
    _check_records(found)
    return found, beam_flags


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--images",
        action="append",
        required=True,
        metavar="SRC",
        help="a folder, s3:// or gs:// prefix of any depth that holds PNGs, zips or the NIH's tar.gz "
        "archives, or one such archive; may be repeated",
    )
    group.add_argument(
        "--labels", required=True, metavar="CSV", help="Data_Entry_2017.csv or _v2020.csv, gzipped or plain"
    )
    group.add_argument(
        "--output", required=True, metavar="OUT", help="folder or s3:// prefix of the data set"
    )
    group.add_argument(
        "--allow_missing_images", action="store_true", help="convert the images that are there"
    )
    group.add_argument(
        "--exclude_list",
        action="append",
        default=[],
        metavar="F",
        help="leave these images out: a CSV of names with reasons as columns of 0 and 1, or one name a line; "
        "may be repeated",
    )
    group.add_argument("--resume", action="store_true", help="go on with an unfinished conversion")


def _add_split(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--split", choices=splits.STRATEGIES, required=True)
    group.add_argument("--train_val_list", metavar="F", help="official: the published training list")
    group.add_argument("--test_list", metavar="F", help="official: the published test list")
    group.add_argument(
        "--validation_fraction", type=float, default=0.1, help="official: of train_val's images (%(default)s)"
    )
    group.add_argument(
        "--fractions",
        type=_fractions,
        metavar="T,V,T",
        help="stratified, random: train,validation,test; random cuts 0.6,0.2,0.2 by 0.2, then by 0.26",
    )
    group.add_argument("--seed", type=int, default=17, help="of split and spreading (%(default)s)")


def _add_records(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--image_side", type=int, default=320, metavar="PX", help="of the stored pictures (%(default)s)"
    )
    group.add_argument(
        "--encoding",
        choices=example.ENCODINGS,
        default="raw",
        help="of the stored pictures (%(default)s, which training reads fastest)",
    )
    group.add_argument(
        "--jpeg_quality", type=int, metavar="Q", help=f"jpeg: 1 to 100 ({_DEFAULT_JPEG_QUALITY})"
    )
    group.add_argument(
        "--stored_channels",
        type=int,
        choices=(1, 3),
        default=1,
        help="1, since R = G = B; 3 for readers that ask for colour (%(default)s)",
    )
    group.add_argument(
        "--records_per_shard", type=int, default=512, metavar="N", help="at most (%(default)s)"
    )


def _add_checks(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max_quarantined",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of the images that may fail the checks; more stop the conversion (%(default)s)",
    )
    group.add_argument(
        "--allow_duplicates",
        action="store_true",
        help="keep images that are pixel for pixel another one's copy",
    )


def _fractions(text: str) -> tuple[float, ...]:
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}`; expected three numbers such as 0.9,0.05,0.05") from None
    return train, validation, test


def _check_locations(found: argparse.Namespace) -> None:
    named = (found.labels, found.output, found.train_val_list, found.test_list)
    if "" in (*found.images, *found.exclude_list, *named):
        raise UsageError("an empty location; is a variable of the command line unset?")


def _check_split(found: argparse.Namespace) -> None:
    if found.split == "official" and found.fractions is not None:
        raise UsageError("--fractions goes with --split stratified or random, not official")
    if found.split != "official" and (found.train_val_list or found.test_list):
        raise UsageError("--train_val_list and --test_list go with --split official")
    if found.split == "official" and not (found.train_val_list and found.test_list):
        raise UsageError("--split official needs --train_val_list and --test_list")
    if found.split != "official" and found.fractions is None:
        raise UsageError(f"--split {found.split} needs --fractions, such as 0.9,0.05,0.05")
    if not 0 <= found.seed < 2**32:
        raise UsageError(f"--seed={found.seed}; expected 0 to {2**32 - 1}")


def _check_records(found: argparse.Namespace) -> None:
    if found.records_per_shard < 1:
        raise UsageError(f"--records_per_shard={found.records_per_shard}; expected at least 1")
    if not MIN_SIDE_PX <= found.image_side <= MAX_SIDE_PX:
        raise UsageError(f"--image_side={found.image_side}; expected {MIN_SIDE_PX} to {MAX_SIDE_PX}")
    if found.jpeg_quality is not None and found.encoding != "jpeg":
        raise UsageError("--jpeg_quality goes with --encoding jpeg")
    if found.jpeg_quality is not None and not 1 <= found.jpeg_quality <= 100:
        raise UsageError(f"--jpeg_quality={found.jpeg_quality}; expected 1 to 100")
    if not 0 <= found.max_quarantined <= 1:
        raise UsageError(f"--max_quarantined={found.max_quarantined}; expected a share, 0 to 1")
