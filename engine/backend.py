"""Loads TensorFlow and Keras: chooses the back end, and keeps TensorFlow's start-up notes off the screen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def load() -> None:
    """Import TensorFlow and Keras for the first time; call it before any module that imports them.

    Variables that the user has set stay. TensorFlow's C++ log is written to descriptor 2 before its own level
    takes effect, so that leads nowhere meanwhile; what fails is raised as an exception.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_descriptor_2():
        import keras
        import tensorflow as tf

        keras.backend.backend()
        tf.config.list_physical_devices()


@contextlib.contextmanager
def _quiet_descriptor_2() -> Iterator[None]:
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
