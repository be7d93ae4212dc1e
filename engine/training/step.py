"""One update of the weights from one global batch, compiled, on one device or shared by several replicas.

The sum of the records' losses is divided by the records of the global batch, and gradients are added up over
micro-batches and replicas before they are clipped or checked. So what a step does depends neither on the
replicas nor on the micro-batches, but for what layers and losses compute of the pictures that they see at
once. Batch normalisation sees those of one replica and micro-batch, its running statistics are the mean of
the replicas'; a loss's ratios and sums are those of a micro-batch on all replicas.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from engine.losses import LogitLoss
from engine.training.optimizers import innermost

_SUM = tf.distribute.ReduceOp.SUM


class Outcome(NamedTuple):
    """What a step gave; reading it waits until the step is done.

    Attributes:
        loss: () float32, mean over the records of the global batch, with the penalties of the weights.
        skipped: () bool, whether the weights stayed, because a gradient overflowed under loss scaling.
        finite: () bool, whether all gradients were numbers, or overflowed where the loss was scaled up.
        leaving: () bool, whether any of the workers is about to leave.
    """

    loss: tf.Tensor
    skipped: tf.Tensor
    finite: tf.Tensor
    leaving: tf.Tensor


class TrainingStep:
    """Calls are steps.

    Made and called within the scope of the strategy that the model and the optimiser were made in.

    Args:
        model: from pictures, or a dict of pictures and transforms, to logits.
        loss: per record.
        optimizer: its variables are made here.
        records: of a global batch.
        micro_batches: that each replica's part is computed in; must divide it.
        compiled: by XLA; on one device only, since replicas exchange gradients within the step.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: LogitLoss,
        optimizer: keras.optimizers.Optimizer,
        *,
        records: int,
        micro_batches: int = 1,
        compiled: bool = False,
    ) -> None:
        self._model, self._loss, self._optimizer = model, loss, optimizer
        self._records, self._micro_batches = records, micro_batches
        self._strategy = tf.distribute.get_strategy()
        self._replicas = self._strategy.num_replicas_in_sync
        # Before the step is traced: variables made meanwhile would have it traced twice, 29 s against 18 s
        # to the first step on two cores.
        optimizer.build(model.trainable_variables)
        if self._replicas > 1:
            # They would be added up a second time; the sum is needed before they are clipped and checked.
            innermost(optimizer)._all_reduce_sum_gradients = lambda pairs: pairs
        self._function = tf.function(self._run, jit_compile=compiled and self._replicas == 1)

    def __call__(self, inputs: Any, labels: Any, *, leaving: bool = False) -> Outcome:
        """Begin a step.

        Args:
            inputs: (B, S, S, C) uint8, or a dict with them and (B, 8) float32 transforms; under a strategy
                its distributed values.
            labels: (B, F) float32.
            leaving: what the other workers are to hear of this one.
        """
        return Outcome(*self._function(inputs, labels, tf.constant(float(leaving))))

    def _run(self, inputs: Any, labels: Any, leaving: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if self._replicas == 1:
            return self._update(inputs, labels, leaving)
        results = self._strategy.run(self._update, (inputs, labels, leaving))
        return tuple(self._strategy.experimental_local_results(result)[0] for result in results)

    def _update(self, inputs: Any, labels: Any, leaving: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if self._micro_batches == 1:
            loss, gradients = self._gradients(inputs, labels)
        elif self._replicas > 1:
            loss, gradients = self._unrolled(inputs, labels)
        else:
            loss, gradients = self._accumulated(inputs, labels)
        if self._replicas > 1:
            context = tf.distribute.get_replica_context()
            loss, leaving, *gradients = context.all_reduce(_SUM, [loss, tf.identity(leaving), *gradients])
        iterations = innermost(self._optimizer).iterations
        before = keras.ops.convert_to_tensor(iterations) + 0
        scale = tf.identity(self._optimizer.scale_loss(tf.constant(1.0)))
        self._optimizer.apply(gradients, self._model.trainable_variables)
        if self._replicas > 1:
            self._share_statistics()
        skipped = keras.ops.equal(before, keras.ops.convert_to_tensor(iterations))
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        # What overflows unscaled is no number, however often the step is left out.
        return loss, skipped, finite | (skipped & (scale >= 1)), leaving > 0

    def _share_statistics(self) -> None:
        """Give every replica the mean of all in what isn't learnt by gradients: the running statistics."""
        held = [v for v in self._model.non_trainable_variables if v.dtype.startswith("float")]
        if not held:
            return
        flat = tf.concat([tf.reshape(keras.ops.convert_to_tensor(variable), [-1]) for variable in held], 0)
        means = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, flat)
        sizes = [variable.shape.num_elements() for variable in (v.value for v in held)]
        for variable, values in zip(held, tf.split(means, sizes), strict=True):
            variable.assign(tf.reshape(values, variable.shape))

    def _gradients(self, inputs: Any, labels: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The share of the global batch's loss that these records have, and its gradients, scaled."""
        with tf.GradientTape() as tape:
            logits = self._model(inputs, training=True)
            loss = tf.reduce_sum(self._loss.call(labels, logits)) / self._records
            if penalties := self._model.losses:
                shares = self._replicas * self._micro_batches
                loss += tf.add_n([tf.cast(penalty, tf.float32) for penalty in penalties]) / shares
            scaled = self._optimizer.scale_loss(loss)
        return loss, tape.gradient(scaled, self._trainable())

    def _parts(self, inputs: Any, labels: Any) -> Any:
        """The micro-batches, along a new first axis."""
        count = self._micro_batches
        return tf.nest.map_structure(
            lambda whole: tf.reshape(whole, [count, whole.shape[0] // count, *whole.shape[1:]]),
            (inputs, labels),
        )

    def _unrolled(self, inputs: Any, labels: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As `_accumulated`, for replicas: they can't exchange a loss's statistics inside a loop."""
        parts = self._parts(inputs, labels)
        results = [
            self._gradients(*tf.nest.map_structure(lambda part, number=number: part[number], parts))
            for number in range(self._micro_batches)
        ]
        losses, gradients = zip(*results, strict=True)
        return tf.add_n(losses), [tf.add_n(same) for same in zip(*gradients, strict=True)]

    def _accumulated(self, inputs: Any, labels: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        count, parts = self._micro_batches, self._parts(inputs, labels)

        def add(number: tf.Tensor, loss: tf.Tensor, sums: list[tf.Tensor]) -> tuple[Any, ...]:
            own_inputs, own_labels = tf.nest.map_structure(lambda part: part[number], parts)
            own_loss, gradients = self._gradients(own_inputs, own_labels)
            return number + 1, loss + own_loss, [a + b for a, b in zip(sums, gradients, strict=True)]

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in self._trainable()]
        _, loss, sums = tf.while_loop(
            lambda number, *_: number < count, add, (0, 0.0, zeros), maximum_iterations=count
        )
        return loss, sums

    def _trainable(self) -> list[tf.Variable]:
        return [variable.value for variable in self._model.trainable_variables]
