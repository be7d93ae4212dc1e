"""A store that is silent is told of once, and one that answers isn't."""

from __future__ import annotations

import time

from records import silence


def test_a_silent_store_is_told_of_once(capsys):
    with silence.told("s3://bucket/key", 95, after_s=0.05):
        time.sleep(0.4)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("note: s3://bucket/key: no answer from the store for 0.05 s")


def test_a_store_that_answers_is_not_told_of(capsys):
    for _ in range(20):
        with silence.told("s3://bucket/key", 95, after_s=0.2):
            pass
    time.sleep(0.4)
    assert not capsys.readouterr().err
