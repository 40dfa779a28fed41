"""A network with its optimiser, as graphs that serve every trial that shares them."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from resflow.architectures import stages
from resflow.models.build import build_head, build_network, initialise, stage_of
from resflow.models.layers import BatchNorm, Dropout
from resflow.quiet_tensorflow import keras, tf
from resflow.study.settings import BACKBONE, NUMBER, SWITCH, Section
from resflow.study.trial import Trial
from resflow.training.optimizers import make_optimizer
from resflow.training.trial_clock import SharedWork
from resflow.training.whole_epochs import WholeEpochs, switch
from resflow.weights.load import load_weights

HEAD, ALL = "head", "all"  # phases: the head trains alone, or with all that `finetune` unfreezes


class Learner:
    """A network with its optimiser and the functions that compute on it: graphs for any trial that shares them.

    `features` is the shape of one image's features where the backbone is frozen and its outputs are at hand: then the
    network is the head alone. What differs in numbers alone (seed, rates, decay, smoothing, normalisation) is in
    variables that `reset` sets; what makes another graph is in `graph_key`. `work` has the time that the graphs took.
    """

    def __init__(self, trial: Trial, features: tuple[int, ...] | None = None) -> None:
        self.work = SharedWork()
        size, execution = trial.data.image_size, trial.execution
        self.jit = execution.jit is True  # `auto` was settled when the study was expanded
        # For each graph anew: `clear_session` after the one before it put the policy back to float32.
        keras.mixed_precision.set_global_policy(execution.policy)
        head = trial.network.head
        if features is None:
            self.model = build_network(trial.architecture, size, trial.classes, execution.lowering, self.jit, head)
        else:
            self.model = build_head(features, trial.classes, head)
        self.features, self.classes, self.decoupled = features, trial.classes, trial.recipe.optimizer == "adamw"
        self.momentum, self.decay, self.smoothing, self.share = (tf.Variable(0.0, trainable=False) for _ in range(4))
        self.mean, self.deviation = (tf.Variable(tf.zeros(3), trainable=False) for _ in range(2))
        self.seed = tf.Variable(0, trainable=False, dtype=tf.int64)
        unfrozen = _unfrozen(trial)
        self.trained = {
            HEAD: [layer for layer in self.model.layers if stage_of(layer.name) is None],
            ALL: [layer for layer in self.model.layers if unfrozen(stage_of(layer.name))],
        }
        self.decays = trial.recipe.weight_decay > 0
        self.frozen_bn_learns = trial.recipe.bn == "train"
        variables = _variables(self.trained[ALL])
        self.slower = self._slower(trial)
        places = frozenset(place for place, variable in enumerate(variables) if id(variable) in self.slower)
        self.optimizer = make_optimizer(trial.recipe.optimizer, self.momentum, self.share, places)
        self.optimizer.build(variables)
        scalars = [v for v in self.optimizer.variables if len(v.shape) == 0]
        self.counters = [(scalar, scalar.numpy()) for scalar in scalars]  # steps, the loss's scale
        self.slots = [v for v in self.optimizer.variables if len(v.shape) > 0]  # momenta start at zero
        image = tf.TensorSpec((None, size, size, 3), tf.uint8)
        if features is not None:
            image = tf.TensorSpec((None, *features), tf.float32)
        step = [image, tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.bool)]
        self.steps = {
            phase: self._clocked(self._compiled(partial(self.take_step, phase), step)) for phase in (HEAD, ALL)
        }
        self.phase = ALL
        self.kernels = [(layer.name, layer.kernel) for layer in self.trained[ALL] if hasattr(layer, "kernel")]
        self.norms = tf.Variable(tf.zeros(len(self.kernels)), trainable=False)  # by each of `kernels`, as measured last
        self.logits = self._clocked(self._compiled(self.infer, [image]))
        self.whole = WholeEpochs(self, image)

    def _compiled(self, function: Callable[..., Any], signature: list[Any]) -> Callable[..., Any]:
        """Return a function as a graph. Nothing in it needs AutoGraph, which takes a sixth of the time of tracing."""
        return tf.function(function, signature, autograph=False, jit_compile=self.jit)

    def _clocked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose first call, which traces and compiles its graph, counts as work that trials share."""
        built = False

        def call(*arguments: Any) -> Any:
            nonlocal built
            if built:
                return function(*arguments)
            with self.work.computing():
                result = function(*arguments)
            built = True
            return result

        return call

    def _slower(self, trial: Trial) -> set[int]:
        """Return the variables, by `id`, of a backbone with a rate of its own."""
        if trial.recipe.backbone_learning_rate is None:
            return set()
        backbone = [layer for layer in self.model.layers if stage_of(layer.name) is not None]
        return {id(variable) for variable in _variables(backbone)}

    def reset(self, trial: Trial, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Put everything to where a new trial starts; `mean` and `deviation` are float32 (3,), in 0..255."""
        initialise(self.model, trial.init_seed)
        if trial.pretrained is not None and self.features is None:
            load_weights(self.model, trial.pretrained, partial=trial.network.partial_weights)
        for counter, value in self.counters:
            counter.assign(value)
        for slot in self.slots:
            slot.assign(tf.zeros_like(slot))
        recipe = trial.recipe
        self.momentum.assign(recipe.momentum)
        self.decay.assign(recipe.weight_decay)
        self.smoothing.assign(recipe.label_smoothing)
        self.share.assign((recipe.backbone_learning_rate or recipe.learning_rate) / recipe.learning_rate)
        self.mean.assign(mean)
        self.deviation.assign(deviation)
        self.seed.assign(trial.order_seed)
        self.begin(HEAD if recipe.head_epochs else ALL)

    def begin(self, phase: str) -> None:
        """Let `step` train the head alone (HEAD), or all that is unfrozen (ALL)."""
        self.phase = phase

    def step(self, inputs: Any, labels: Any, rate: Any, watched: bool = False) -> Any:
        """Take a step of the present phase, and return the batch's loss; `norms` are its gradients' where `watched`."""
        return self.steps[self.phase](inputs, labels, rate, switch(watched))

    def state(self) -> dict[str, np.ndarray]:
        """Return all that steps change: the network's weights, the optimiser's momenta and counters."""
        return {name: np.asarray(variable.numpy()) for name, variable in self._changing()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Put back a `state`. Raises KeyError or ValueError where it is another network's."""
        for name, variable in self._changing():
            variable.assign(state[name])

    def _changing(self) -> Iterator[tuple[str, Any]]:
        counters = [counter for counter, _ in self.counters]
        for part, variables in (("model", self.model.variables), ("optimizer", [*counters, *self.slots])):
            for number, variable in enumerate(variables):
                yield f"{part}/{number}", variable

    def take_step(self, phase: str, images: Any, labels: Any, rate: Any, watched: Any) -> Any:
        """Take one optimiser step, in a graph; return the batch's cross-entropy, label smoothing included."""
        self.optimizer.learning_rate.assign(rate)
        variables = _variables(self.trained[phase])
        targets = tf.one_hot(labels, self.classes) * (1 - self.smoothing) + self.smoothing / self.classes
        self._set_up_layers(self.trained[phase])
        with tf.GradientTape() as tape:
            logits = self.model(self.prepared(images), training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        self._measure(dict(zip(map(id, variables), gradients, strict=True)), watched)
        if self.decoupled:
            # Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2: apart from the gradient's moments
            for variable in variables:
                if variable.name == "kernel":
                    own = rate * self.share if id(variable) in self.slower else rate
                    variable.assign_sub(own * self.decay * variable)
        elif self.decays:
            # The gradient of decay / 2 |w|^2, as in He et al. Mixed precision unscales inside `apply`, so the term
            # is scaled as the loss is.
            coefficient = self.optimizer.scale_loss(self.decay.value())
            gradients = [
                g + coefficient * v.value if v.name == "kernel" else g
                for g, v in zip(gradients, variables, strict=True)
            ]
        self.optimizer.apply(gradients, variables)
        return loss

    def _measure(self, gradients: Mapping[int, Any], watched: Any) -> None:
        """Keep the gradients' norms where `watched` asks for them; NaN of a kernel that trains in another phase."""

        def norms() -> Any:
            of_kernels = [gradients.get(id(kernel)) for _, kernel in self.kernels]
            sizes = [float("nan") if g is None else tf.norm(tf.cast(g, tf.float32)) for g in of_kernels]
            return tf.stack(sizes) / self.optimizer.scale_loss(tf.constant(1.0))

        self.norms.assign(tf.cond(watched, norms, lambda: self.norms.value()))

    def _set_up_layers(self, trained: Iterable[Any]) -> None:
        """Prepare layers for the graph that is traced next: batch norm of frozen parts, the keys of dropout's masks."""
        learning = set(map(id, trained))
        for layer in self.model.layers:
            if isinstance(layer, BatchNorm):
                layer.frozen = id(layer) not in learning and not self.frozen_bn_learns
            elif isinstance(layer, Dropout):
                layer.drawn_from(self.seed, tf.cast(self.optimizer.iterations.value, tf.int64))

    def infer(self, images: Any) -> Any:
        """Return logits in inference mode, in a graph."""
        return self.model(self.prepared(images), training=False)

    def prepared(self, images: Any) -> Any:
        """Return images as the network takes them; features as they are."""
        if self.features is not None:
            return images
        return (tf.cast(images, tf.float32) - self.mean) / self.deviation

    def predict(self, batches: Iterable[Any], count: int) -> np.ndarray:
        """Return logits of the first `count` images of some batches in inference mode, float32 (count, classes)."""
        return np.concatenate([self.logits(images).numpy() for images in batches])[:count]

    def whole_model(self, trial: Trial) -> keras.Model:
        """Return the network; where it is a head on features, on the backbone that they came from."""
        if self.features is None:
            return self.model
        execution, head = trial.execution, trial.network.head
        size, classes = trial.data.image_size, trial.classes
        whole = build_network(trial.architecture, size, classes, execution.lowering, self.jit, head)
        assert trial.pretrained is not None  # no features without
        initialise(whole, trial.init_seed)
        load_weights(whole, trial.pretrained, partial=trial.network.partial_weights)
        for layer in self.model.layers:
            if layer.weights:
                whole.get_layer(layer.name).set_weights(layer.get_weights())
        return whole


def _unfrozen(trial: Trial) -> Callable[[int | None], bool]:
    """Return what tells whether a layer trains, by its `stage_of`: the head always does."""
    if trial.recipe.finetune == "frozen":
        return lambda stage: stage is None
    first = 0
    if trial.recipe.finetune == "partial":
        count = len(stages(trial.architecture.family, trial.architecture.depth)[1])
        first = count + 1 - trial.recipe.unfrozen_stages
    return lambda stage: stage is None or stage >= first


def _variables(layers: Iterable[Any]) -> list[Any]:
    return [variable for layer in layers for variable in layer.trainable_variables]


def graph_key(trial: Trial, features: tuple[int, ...] | None = None) -> str:
    """Return what trials must share to share a graph: every setting, but for what its marks leave out.

    A setting that nobody marked costs a compilation where trials differ in it, never a wrong network.
    """
    network = trial.network.model_copy(update={"stem": trial.architecture.stem})  # `auto` is no stem of its own
    sections = (network, trial.recipe, trial.data, trial.execution)
    settings = [_settings_of_graph(section, head_alone=features is not None) for section in sections]
    backbone = asdict(trial.architecture) if features is None else None
    return json.dumps([settings, backbone, features, trial.classes])


def _settings_of_graph(section: Section, head_alone: bool) -> dict[str, Any]:
    settings = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if NUMBER in field.metadata or (head_alone and BACKBONE in field.metadata):
            del settings[name]
        elif SWITCH in field.metadata:
            settings[name] = bool(value)
        elif isinstance(value, Section):
            settings[name] = _settings_of_graph(value, head_alone)
    return settings


graphs: dict[str, Learner] = {}  # the graph of this process's last trial: tracing is dear, memory is short


def prepare_learner(
    trial: Trial, mean: np.ndarray, deviation: np.ndarray, features: tuple[int, ...] | None = None
) -> Learner:
    """Return a Learner at the trial's start, with the graph of the trial before it where the two share one."""
    key = graph_key(trial, features)
    if key in graphs:
        graphs[key].work.begin()
    else:
        if graphs:
            forget_graphs()
        start = time.perf_counter()
        graphs[key] = Learner(trial, features)
        graphs[key].work.add(time.perf_counter() - start)
    graphs[key].reset(trial, mean, deviation)
    return graphs[key]


def forget_graphs() -> None:
    """Drop the kept graph and its memory."""
    graphs.clear()
    keras.backend.clear_session()
    gc.collect()
