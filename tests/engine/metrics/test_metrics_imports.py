"""Metrics are judged apart from TensorFlow."""

import subprocess
import sys


def test_the_metrics_import_neither_tensorflow_nor_keras():
    script = (
        "import sys, engine.metrics\n"
        "from engine.metrics import bootstrap, calibration, prevalence_shift, thresholds\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
