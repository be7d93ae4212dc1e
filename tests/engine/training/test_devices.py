"""How many devices share a step, and whether it is compiled; more of it in `test_replicas`."""

from __future__ import annotations

import pytest
import tensorflow as tf

from engine.training import devices
from records.errors import ConfigError


@pytest.mark.parametrize(
    ("gpus", "compiled"),
    [
        ([], {"always": True, "never": False, "auto": False}),
        (["one"], {"always": True, "never": False, "auto": True}),
    ],
)
def test_one_gpu_compiles_unless_asked_not_to_and_a_cpu_only_if_asked(monkeypatch, gpus, compiled):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: gpus)
    strategy = tf.distribute.get_strategy()
    assert {kind: devices.is_compiled(kind, strategy) for kind in compiled} == compiled


def test_more_gpus_than_there_are_is_one_line(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["one"])
    with pytest.raises(ConfigError, match=r"train\.replicas is 2, but TensorFlow finds 1 GPUs"):
        devices.strategy_of(2)
