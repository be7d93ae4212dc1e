"""Signals: noted while a step runs, raised between steps, obeyed at once when they come twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from engine.training.interrupts import SIGNALS, Interrupts

# Ends by the handler itself, so it needs a process of its own.
TWICE = """
import os, signal, sys, time
from engine.training.interrupts import Interrupts
with Interrupts(lambda: "left") as interrupts:
    {before}
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
    print("never")
"""


def refuse() -> str:
    raise AssertionError("left")


def until_raised(interrupts: Interrupts) -> None:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        interrupts.check()
        time.sleep(0.01)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised_between_steps_and_not_before(number: signal.Signals, capfd) -> None:
    with Interrupts(refuse) as interrupts:
        interrupts.check()
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            until_raised(interrupts)
    assert interrupts.exit_code == (75 if number == signal.SIGTERM else 130)
    assert capfd.readouterr().err == "stopping after this step; once more: at once\n"


def test_a_notice_is_raised_between_steps_and_says_why(capfd) -> None:
    with Interrupts(refuse) as interrupts:
        interrupts.check()
        notice = threading.Thread(target=interrupts.ask, args=("the machine goes down",))
        notice.start()
        notice.join()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert interrupts.exit_code == 75
    assert capfd.readouterr().err == "the machine goes down; stopping after this step\n"


def test_the_first_signal_behind_a_notice_is_only_noted(capfd) -> None:
    with Interrupts(refuse) as interrupts:
        interrupts.check()
        interrupts.ask("the machine goes down")
        os.kill(os.getpid(), signal.SIGTERM)
        deadline_s = time.monotonic() + 10
        while interrupts._told and time.monotonic() < deadline_s:
            time.sleep(0.01)
    assert interrupts.exit_code == 75
    assert "stopping after this step; once more: at once" in capfd.readouterr().err


def test_a_signal_that_a_parent_passes_on_counts_once(capfd) -> None:
    with Interrupts(refuse) as interrupts:
        interrupts.check()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert capfd.readouterr().err.count("stopping after this step") == 1


def test_the_signals_are_given_back_at_the_end() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts(refuse):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(
    ("before", "code", "printed"), [("interrupts.check()", 130, "goes on\n"), ("pass", 75, "")]
)
def test_a_second_signal_or_one_before_the_first_step_ends_the_process_with_its_own_code(
    before: str, code: int, printed: str
) -> None:
    program = TWICE.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, printed)
    assert done.stderr.endswith("left\n")


def test_signals_are_heard_while_the_main_thread_is_inside_a_c_library() -> None:
    # `ctypes.PyDLL` keeps the interpreter's lock, so this releases it as TensorFlow does and runs no handler.
    program = (
        "import ctypes, os, signal, subprocess, sys\n"
        "from engine.training.interrupts import Interrupts\n"
        "with Interrupts(lambda: 'left') as interrupts:\n"
        "    interrupts.check()\n"
        "    kill = f'sleep 0.5; kill {os.getpid()}; sleep 0.5; kill {os.getpid()}'\n"
        "    subprocess.Popen(['sh', '-c', kill])\n"
        "    for _ in range(3): ctypes.CDLL(None).poll(None, 0, 20_000)\n"
    )
    start_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 75
    assert done.stderr.endswith("left\n")
    assert time.monotonic() - start_s < 15


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(refuse) as interrupts:
            interrupts.check()
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
            interrupts.check()
    finally:
        signal.signal(signal.SIGHUP, before)
