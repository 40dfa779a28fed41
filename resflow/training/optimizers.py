"""Keras' optimisers, each update in one pass over memory, with a rate of its own for the backbone."""

from __future__ import annotations

from typing import Any

from resflow.quiet_tensorflow import keras, tf


class Momentum(keras.optimizers.SGD):
    """Keras' SGD with momentum, its velocity and weight updated in one pass over memory; no Nesterov.

    The variables at the places `slower` take `share` of the rate.
    """

    def __init__(self, coefficient: tf.Variable, share: tf.Variable, slower: frozenset[int]) -> None:
        super().__init__(learning_rate=0.0, momentum=0.9)  # any momentum but 0: Keras makes the velocities for it
        self.coefficient, self.share, self.slower = coefficient, share, slower

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        place = self._get_variable_index(variable)
        rate = learning_rate * self.share if place in self.slower else learning_rate
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[place].value.handle,
            lr=tf.cast(rate, variable.dtype),
            grad=gradient,
            momentum=self.coefficient,
        )


class Adam(keras.optimizers.Adam):
    """Keras' Adam, its moments and weight updated in one pass over memory: another rounding wants an ADAM_VERSION.

    The variables at the places `slower` take `share` of the rate.
    """

    def __init__(self, share: tf.Variable, slower: frozenset[int]) -> None:
        super().__init__(learning_rate=0.0)
        self.share, self.slower = share, slower

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        place, kind = self._get_variable_index(variable), variable.dtype
        rate = learning_rate * self.share if place in self.slower else learning_rate
        step = tf.cast(self.iterations.value + 1, kind)
        first, second = (tf.constant(beta, kind) for beta in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=first**step,
            beta2_power=second**step,
            lr=tf.cast(rate, kind),
            beta1=first,
            beta2=second,
            epsilon=tf.constant(self.epsilon, kind),
            grad=gradient,
        )


def make_optimizer(
    name: str, momentum: tf.Variable, share: tf.Variable, slower: frozenset[int]
) -> keras.optimizers.Optimizer:
    """Return the optimiser `sgd`, `adam` or `adamw`, with a scaled loss where networks compute in float16.

    `adamw` is Adam here: the learner decays the weights itself. The arguments are those of Momentum.
    """
    inner = Momentum(momentum, share, slower) if name == "sgd" else Adam(share, slower)
    if keras.mixed_precision.global_policy().compute_dtype == "float16":
        return keras.optimizers.LossScaleOptimizer(inner)
    return inner
