"""The loop: section `train`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config.checks import at_least, between, choice

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
MONITORS = ("val_macro_auroc", "val_loss")
# Not on and off, which YAML takes for true and false.
COMPILATIONS = ("auto", "always", "never")


@dataclass(frozen=True)
class TrainConfig:
    """The loop.

    Attributes:
        seed: of initial weights, dropout and record order.
        epochs: at most.
        global_batch: records a step, over all devices.
        micro_batches: parts that each device's share of a batch is computed in, one after the other, so that
            large batches fit into its memory; one update of the weights for all of them. Batch normalisation
            and the losses that depend on a whole batch see one part, and `running_weighted_bce` follows each.
        replicas: devices that share each batch; 0: all GPUs, or one CPU.
        precision: Keras's dtype policy; logits and losses are float32 under each.
        compilation: of the step by XLA: `auto` where one GPU trains, `always` or `never`.
        deterministic: whether TensorFlow's operations must repeat their results bit for bit.
        threshold: of the probability from which on a finding is called present in validation.
        monitor: decides on checkpoint, rate and stopping.
        early_stopping_patience: epochs without a better value before the run ends.
        early_stopping_min_delta: by which a value must be better to count.
    """

    seed: int
    epochs: int
    global_batch: int
    micro_batches: int
    replicas: int
    precision: str
    compilation: str
    deterministic: bool
    threshold: float
    monitor: str
    early_stopping_patience: int
    early_stopping_min_delta: float

    def __post_init__(self) -> None:
        between("train.seed", self.seed, 0, 2**32 - 1)
        at_least("train.epochs", self.epochs, 1)
        at_least("train.global_batch", self.global_batch, 1)
        at_least("train.micro_batches", self.micro_batches, 1)
        at_least("train.replicas", self.replicas, 0)
        choice("train.precision", self.precision, PRECISIONS)
        choice("train.compilation", self.compilation, COMPILATIONS)
        between("train.threshold", self.threshold, 0, 1)
        choice("train.monitor", self.monitor, MONITORS)
        at_least("train.early_stopping_patience", self.early_stopping_patience, 1)
        at_least("train.early_stopping_min_delta", self.early_stopping_min_delta, 0)

    @property
    def monitor_mode(self) -> str:
        """Whether the monitored value is better when it is smaller (`min`) or larger (`max`)."""
        return "min" if self.monitor == "val_loss" else "max"
