"""The README's code runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_a_shard_is_read_by_the_readmes_code_without_this_project(write_data_set, tmp_path):
    data_set = write_data_set(tmp_path / "shards")
    (tmp_path / "shards" / "train").mkdir()
    for shard in data_set.splits["train"].shards:
        path = Path(data_set.locate(shard))
        path.rename(path.parent / "train" / path.name)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    check = (
        "\nimport sys"
        "\nassert image.shape == (32, 32, 1) and record['labels'].shape == (14,)"
        "\nassert not {'records', 'engine', 'beam_pipelines'} & set(sys.modules)"
        "\nprint('read')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + check], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "read\n"
