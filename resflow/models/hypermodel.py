"""resflow's networks as a keras-tuner HyperModel, for searches without resflow's own loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resflow import provenance
from resflow.errors import StudyError, one_of
from resflow.models.build import build_network, initialise
from resflow.quiet_tensorflow import keras
from resflow.study.settings import Head, Network

with provenance.quiet_import():  # it imports parts of TensorFlow that Keras does without
    import keras_tuner

HYPERPARAMETERS = ("learning_rate", "momentum", "weight_decay", "label_smoothing", "dropout", "hidden")


class ResNetHyperModel(keras_tuner.HyperModel):
    """A network of resflow, compiled for stock `fit`: SGD with momentum, decoupled weight decay, label smoothing.

    The model takes float32 images (n, image_size, image_size, 3) that are normalised, and integer labels (n,).
    `network` takes the settings of a study's `network` section; `tune` names the HYPERPARAMETERS that are searched, the
    others keep their default. Raises StudyError for a name or a setting that does not exist.

        keras_tuner.RandomSearch(ResNetHyperModel(64, 10, depth=18), objective="val_accuracy", max_trials=12)
    """

    def __init__(
        self, image_size: int, classes: int, tune: Sequence[str] = ("learning_rate", "weight_decay"), **network: Any
    ) -> None:
        super().__init__(name="resflow")
        for name in tune:
            if name not in HYPERPARAMETERS:
                raise StudyError(f"tune: {one_of(name, HYPERPARAMETERS, 'hyperparameter')}")
        for name in network:
            if name not in Network.model_fields:
                raise StudyError(f"network: {one_of(name, Network.model_fields, 'setting')}")
        self.image_size, self.classes, self.tune = image_size, classes, frozenset(tune)
        self.network = Network(**network)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        arch = self.network.architecture(self.image_size)
        widths = {"none": (), "512": (512,), "2048": (2048,)}
        hidden = hp.Choice("hidden", list(widths), default="none") if "hidden" in self.tune else "none"
        head = Head(hidden=widths[hidden], dropout=self._float(hp, "dropout", 0.0, 0.5, 0.0))
        model = build_network(arch, self.image_size, self.classes, head=head)
        initialise(model, seed=0)
        model.compile(
            optimizer=keras.optimizers.SGD(
                learning_rate=self._log(hp, "learning_rate", 1e-3, 1.0, 0.05),
                momentum=self._float(hp, "momentum", 0.5, 0.99, 0.9),
                weight_decay=self._log(hp, "weight_decay", 1e-6, 1e-2, 1e-4),
            ),
            loss=SmoothedCrossEntropy(self.classes, self._float(hp, "label_smoothing", 0.0, 0.2, 0.0)),
            metrics=["accuracy"],
        )
        model.optimizer.build(model.trainable_variables)  # keras-tuner loads a trained one's state into it
        return model

    def _float(self, hp: Any, name: str, low: float, high: float, default: float) -> float:
        return float(hp.Float(name, low, high, default=default)) if name in self.tune else default

    def _log(self, hp: Any, name: str, low: float, high: float, default: float) -> float:
        if name not in self.tune:
            return default
        return float(hp.Float(name, low, high, sampling="log", default=default))


@keras.saving.register_keras_serializable(package="resflow")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits with integer labels, smoothed (Szegedy et al. 2016, section 7).

    Keras smooths labels that are given as vectors alone. A saved model that was compiled with it loads where
    `resflow.models.hypermodel` is imported.
    """

    def __init__(self, classes: int, smoothing: float, name: str = "cross_entropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.classes, self.smoothing = classes, smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels = keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32")
        targets = keras.ops.one_hot(labels, self.classes) * (1 - self.smoothing) + self.smoothing / self.classes
        return keras.ops.categorical_crossentropy(targets, y_pred, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes, "smoothing": self.smoothing}
