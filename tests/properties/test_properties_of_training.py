"""Properties of the order of records and of configs, for whatever hypothesis draws."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine import config as configs
from engine import strict_yaml
from engine.input.order import EpochOrder, Part
from records.errors import ConfigError

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.yaml"
SECTIONS = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
KEYS = [(section, key) for section, keys in SECTIONS.items() for key in keys]
shard_sizes = st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(any).map(tuple)


@st.composite
def orders(draw: st.DrawFn) -> EpochOrder:
    sizes = draw(shard_sizes)
    repeats = st.lists(st.integers(0, 3), min_size=sum(sizes), max_size=sum(sizes))
    drawn = draw(st.one_of(st.none(), repeats))
    return EpochOrder(
        sizes,
        seed=draw(st.integers(0, 2**64 - 1)),
        shuffle_block_shards=draw(st.integers(0, 12)),
        repeats=None if drawn is None else np.array(drawn),
    )


@given(order=orders(), epoch=st.integers(0, 2**32))
@settings(max_examples=100)
def test_each_record_and_each_repeat_stands_once_in_each_epoch(order: EpochOrder, epoch: int) -> None:
    rows, repeats = order.positions(epoch)
    expected = [
        (row, repeat)
        for row in range(order.records)
        for repeat in range(1 + (0 if order.repeats is None else int(order.repeats[row])))
    ]
    assert sorted(zip(rows.tolist(), repeats.tolist(), strict=True)) == expected


@given(order=orders(), epoch=st.integers(0, 99), world=st.integers(1, 8), share=st.integers(1, 6))
@settings(max_examples=100)
def test_workers_of_any_number_see_each_position_once_and_the_batches_of_one(
    order: EpochOrder, epoch: int, world: int, share: int
) -> None:
    batch = world * share
    assume(order.batch_records(batch) % world == 0)
    alone, together = [], []
    for step in range(order.steps_per_epoch(batch)):
        alone.append(order.batch(epoch, step, batch).rows)
        parts = [order.batch(epoch, step, batch, Part(worker, world)).rows for worker in range(world)]
        assert len({len(part) for part in parts}) == 1
        together.append(np.concatenate(parts))
    np.testing.assert_array_equal(np.concatenate(together), np.concatenate(alone))
    left_out = order.positions_per_epoch - sum(map(len, alone))
    assert 0 <= left_out < batch
    np.testing.assert_array_equal(
        np.concatenate(alone), order.positions(epoch).rows[: len(np.concatenate(alone))]
    )


@given(order=orders(), epoch=st.integers(0, 9))
@settings(max_examples=100)
def test_a_record_stays_in_the_block_of_its_shard(order: EpochOrder, epoch: int) -> None:
    shard_of_row = np.repeat(np.arange(len(order.shard_sizes)), order.shard_sizes)
    blocks = order.blocks(epoch)
    assert sorted(shard for block in blocks for shard in block) == list(range(len(order.shard_sizes)))
    block_of_shard = {shard: number for number, block in enumerate(blocks) for shard in block}
    of_position = [block_of_shard[shard] for shard in shard_of_row[order.positions(epoch).rows].tolist()]
    assert of_position == sorted(of_position)


@given(place=st.sampled_from(KEYS), removed=st.booleans(), name=st.text("abcdefgh_", min_size=1, max_size=9))
@settings(max_examples=60)
def test_a_key_that_is_missing_or_unknown_is_named(place: tuple[str, str], removed: bool, name: str) -> None:
    section, key = place
    values = {name: dict(keys) for name, keys in SECTIONS.items()}
    if removed:
        del values[section][key]
        expected = f"no key `{section}.{key}`"
    else:
        assume(name not in SECTIONS[section])
        values[section][name] = 1
        expected = f"unknown key `{section}.{name}`"
    with pytest.raises(ConfigError) as raised:
        load(yaml.safe_dump(values))
    assert expected in str(raised.value)


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
values_of_yaml = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(plain, inner, max_size=2)),
    max_leaves=4,
)


@given(place=st.sampled_from(KEYS), value=values_of_yaml)
@settings(max_examples=150)
def test_any_value_is_taken_and_reads_back_as_itself_or_is_refused_in_one_line(
    place: tuple[str, str], value: object
) -> None:
    values = {name: dict(keys) for name, keys in SECTIONS.items()}
    values[place[0]][place[1]] = value
    config, said = tried(lambda: load(yaml.safe_dump(values)))
    assert said.isprintable()
    assert said or load(config.to_yaml()) == config


@given(text=st.text(max_size=60))
@settings(max_examples=100)
def test_any_override_is_taken_or_refused_in_one_line(text: str) -> None:
    config, said = tried(lambda: configs.load(str(DEMO), [text]))
    assert said.isprintable()
    assert bool(said) != bool(config)


@given(text=st.text("abc: \n-[]{}&*!?|>'\"#%@`,0123456789.", max_size=60))
@settings(max_examples=150)
def test_any_text_is_yaml_or_is_refused_as_such(text: str) -> None:
    with contextlib.suppress(yaml.YAMLError):
        strict_yaml.parse(text)


@given(values=st.dictionaries(st.text(max_size=5), plain.filter(lambda value: value == value), max_size=4))
@settings(max_examples=60)
def test_what_yaml_writes_of_plain_values_is_read_as_it_was(values: dict) -> None:
    assume(all(not isinstance(value, int) or abs(value) < 2**63 for value in values.values()))
    assert strict_yaml.parse(yaml.safe_dump(values)) == values


def test_every_section_of_a_config_is_frozen() -> None:
    config = configs.load(str(DEMO))
    for section in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(
                getattr(config, section.name), dataclasses.fields(getattr(config, section.name))[0].name, 1
            )


def tried(call: Callable[[], configs.Config]) -> tuple[configs.Config | None, str]:
    """Return what a call gives, or the line of the error that it raises."""
    try:
        return call(), ""
    except ConfigError as error:
        return None, str(error)


def load(text: str) -> configs.Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return configs.load(str(path))
