"""img2dataset on a list of local files, written as WebDataset.

    python img2dataset_local.py WORK.json OUTPUT PROCESSES

As its README advises: as many processes as cores, its default of threads, `border` (which makes a square of
the asked side), area when reducing, JPEG at quality 95, the format that it writes fastest. So what it writes
is lossy, and a quarter of the bytes. It has no place for a decoder of the user's.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from decoders import SIDE_PX, read_command_line
from img2dataset import download

# Its default of 10,000 would leave most processes without work on a small list.
IMAGES_PER_SHARD = 1000


def main() -> int:
    """Convert; print how many images its own counts call successes."""
    work = read_command_line()
    url_list = work.output.with_suffix(".csv")
    with url_list.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["url", "labels"])
        writer.writerows([Path(path).as_uri(), "".join(map(str, labels))] for path, labels in work.rows)
    download(
        url_list=str(url_list),
        input_format="csv",
        url_col="url",
        save_additional_columns=["labels"],
        output_folder=str(work.output),
        output_format="webdataset",
        image_size=SIDE_PX,
        processes_count=work.processes,
        number_sample_per_shard=IMAGES_PER_SHARD,
    )
    counts = [json.loads(path.read_text())["successes"] for path in work.output.glob("*_stats.json")]
    url_list.unlink()
    print(f"images {sum(counts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
