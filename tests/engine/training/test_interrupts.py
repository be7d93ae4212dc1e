"""Signals: noted while a step runs, raised between steps, obeyed at once when they come twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from engine.training.interrupts import SIGNALS, Interrupts

# Ends by the handler itself, so it needs a process of its own.
TWICE = """
import os, signal, sys
from engine.training.interrupts import Interrupts
with Interrupts(lambda: print("left", flush=True)) as interrupts:
    {before}
    os.kill(os.getpid(), signal.SIGTERM)
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("never")
"""


def refuse() -> None:
    raise AssertionError("left")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised_between_steps_and_not_before(number: signal.Signals, capfd) -> None:
    with Interrupts(refuse) as interrupts:
        interrupts.check()
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert capfd.readouterr().err == "stopping after this step; once more: at once\n"


def test_the_signals_are_given_back_at_the_end() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts(refuse):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(
    ("before", "printed"), [("interrupts.check()", "goes on\nleft\n"), ("pass", "left\n")]
)
def test_a_second_signal_or_one_before_the_first_step_ends_the_process(before: str, printed: str) -> None:
    program = TWICE.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, printed)
