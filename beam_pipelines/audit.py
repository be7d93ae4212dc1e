"""Proof that a data set is what its manifest says: every record of every shard is read again.

Checked are sizes and CRC32C of all files, both checksums of each record, the fields of each record, the
index, the counts by split, finding and patient, the pixel statistics, that no image is there twice and that
no patient stands in two splits. Needs no Beam and no TensorFlow. Here are command line and printed table;
the checks stand in `audit_checks`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from beam_pipelines.audit_checks import Audit
from beam_pipelines.progress import watch
from records import manifest
from records.errors import CxrError
from records.labels import FINDINGS
from records.manifest import Manifest
from records.splits import SPLITS
from records.table import ImageTable, read_table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.audit",
        description="Read every record of a data set again and hold it against its manifest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "data", metavar="OUT", help="folder or s3:// prefix of the data set, or its manifest.json"
    )
    parser.add_argument(
        "--labels", metavar="CSV", help="hold what each record says of its image against this table, too"
    )
    flags = parser.parse_args(argv)
    try:
        data, table = manifest.load(flags.data), read_table(flags.labels) if flags.labels else None
        if table is not None and table.sha256 != data.source.get("table_sha256"):
            _note_other_table(data, table)
        audit = Audit(data, table)
        total = sum(split.images for split in audit.data.splits.values())
        with watch("auditing", total, lambda: audit.records_read):
            audit.run()
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    _print_table(audit)
    for fault in audit.faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if audit.faults else 0


def _note_other_table(data: Manifest, table: ImageTable) -> None:
    """Say that the labels are held against another table than the data set was made from."""
    own = f"{data.source.get('table')}, release {data.source.get('release')}"
    print(
        f"note: {table.name}, release {table.release}, is not the table that the data set was made from "
        f"({own})",
        file=sys.stderr,
    )


def _print_table(audit: Audit) -> None:
    table = Table(title=f"{audit.data.location}: {audit.records_read:,} records read")
    for column, justify in (("", "left"), *((split, "right") for split in SPLITS)):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    columns = [(audit.data.splits[split], audit.accounts[split]) for split in SPLITS]
    table.add_row("shards", *(f"{len(split.shards):,}" for split, _ in columns))
    table.add_row("images", *(f"{len(account.labels):,}" for _, account in columns))
    table.add_row("patients", *(f"{len(set(account.patient_ids)):,}" for _, account in columns))
    table.add_section()
    for number, finding in enumerate(FINDINGS):
        table.add_row(
            finding, *(f"{sum(int(row[number]) for row in account.labels):,}" for _, account in columns)
        )
    Console().print(table)
    print(f"patients in two splits: {audit.patients_in_two_splits}; faults: {len(audit.faults)}")


if __name__ == "__main__":
    sys.exit(main())
