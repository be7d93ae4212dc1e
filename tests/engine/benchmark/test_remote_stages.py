"""The stages between a store and the machine."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest

from engine.benchmark import input_diagnosis, remote_stages
from engine.benchmark.ceilings import NETWORK
from engine.benchmark.diagnosis import FETCH, STAGES, WHOLE
from engine.benchmark.diagnosis_options import Options
from engine.input.shard_cache import ShardCache
from records.manifest import Manifest

CACHE_BYTES = 1 << 20


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "user" / "cxr-engine"


@pytest.fixture
def remote(s3: str, write_data_set) -> Manifest:
    return write_data_set(f"{s3}/data")


def test_each_of_them_goes_on_without_end(remote, source) -> None:
    starts = remote_stages.stages(remote, source, CACHE_BYTES)
    assert starts.keys() == {FETCH, WHOLE, NETWORK}
    # Three epochs of 20 records, of which batches of 6 hold 18.
    for start in starts.values():
        with contextlib.closing(start(0)) as stream:
            assert sum(itertools.islice(stream, 9)) >= 3 * 18


def test_fetches_find_no_shard_in_the_cache(remote, source, monkeypatch) -> None:
    opened = []
    fetch = ShardCache.open

    def noted(cache: ShardCache, location: str, *arguments, **settings) -> int:
        opened.append((location, list(cache.folder.path.glob("*.tfrecord"))))
        return fetch(cache, location, *arguments, **settings)

    monkeypatch.setattr(ShardCache, "open", noted)
    monkeypatch.setattr(remote_stages, "_SHARDS_AT_ONCE", 1)
    with contextlib.closing(remote_stages.stages(remote, source, CACHE_BYTES)[FETCH](0)) as stream:
        assert [next(stream) for _ in range(6)] == [7, 7, 6, 7, 7, 6]
    assert not any(found for _, found in opened)


def test_a_data_set_in_a_store_is_measured_from_there(remote, own_cache: Path) -> None:
    found = input_diagnosis.measure(remote, Options(seconds=0.03, batch=6, rounds=1, source="s3", step_ms=1))
    measured = [stage.name for stage in found.stages if not stage.not_measured]
    assert {FETCH, WHOLE} < set(measured)
    assert [ceiling.name for ceiling in found.ceilings if ceiling.not_measured] == []
    assert found.utilisation.first_epoch_goal_share == 0.95
    # Nothing of it went through the user's cache.
    assert not own_cache.exists()


def test_by_default_local_copies_in_the_users_cache_are_measured(remote, own_cache: Path) -> None:
    found = input_diagnosis.measure(remote, Options(seconds=0.03, batch=6, rounds=1))
    reasons = {stage.name: stage.not_measured for stage in found.stages}
    assert reasons[FETCH] == "--from local measures local copies"
    assert len(list(own_cache.glob("*.tfrecord"))) == 3
    assert found.setting.data == remote.location
    assert [stage.name for stage in found.stages] == list(STAGES)
