"""The losses on Keras's NumPy back end, which has no TensorFlow to fall back on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from loss_references import CASES, LABELS, LOGITS, POSITIVES, RECORDS

from engine.losses import build_loss

SCRIPT = """
import json, sys
from engine.config.loss import LossConfig
from engine.losses import build_loss
import keras
import numpy as np
assert keras.backend.backend() == "numpy"
given = json.load(sys.stdin)
labels, logits = (np.array(given[name], np.float32) for name in ("labels", "logits"))
values = {}
for case, keys in given["cases"].items():
    loss = build_loss(LossConfig.choices[keys["name"]](**keys), given["positives"], given["records"])
    values[case] = np.asarray(loss.call(labels, logits)).tolist()
json.dump(values, sys.stdout)
"""


@pytest.mark.slow
def test_every_loss_has_the_same_values_on_the_numpy_back_end():
    given = {
        "labels": LABELS.tolist(),
        "logits": LOGITS.tolist(),
        "positives": POSITIVES,
        "records": RECORDS,
        "cases": {case: asdict(settings) for case, (settings, _) in CASES.items()},
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(given),
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for case, values in json.loads(done.stdout).items():
        expected = build_loss(CASES[case][0], POSITIVES, RECORDS).call(LABELS, LOGITS)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6, err_msg=case)
