"""Tiny data and tiny trials: the real code from end to end, in seconds.

`python tiny.py FOLDER OUT [SETTINGS]` trains `trial(FOLDER, **settings)` in a process of its own and pickles the
Outcome into OUT; SETTINGS is a pickle too.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from resflow.data import cache
from resflow.data.dataset import Dataset, fingerprint_of, load_dataset
from resflow.data.decode import Decoded
from resflow.study.arms import Arm
from resflow.study.pretrained import Normalisation, Pretrained
from resflow.study.settings import Data, Execution, Network, Recipe, section_of
from resflow.study.trial import DataFacts, Trial, TrialContext, trial_id
from resflow.study.variation import Streams

SPLIT = "official"
DEFAULTS: dict[str, Any] = {
    "family": "cifar",
    "depth": 8,
    "shortcut": "zero_pad",
    "width": 0.125,
    "learning_rate": 0.05,
    "epochs": 2,
    "batch_size": 8,
    "image_size": 16,
    "source": "synthetic",
}


STUDY: dict[str, Any] = {  # of two arms, as a mapping; its data are named by whoever plans it
    "name": "mine",
    "question": "Does the rate matter?",
    "baseline": "slow",
    "factors": {"learning_rate": {"slow": 0.01, "fast": 0.05}},
    "network": {"family": "cifar", "depth": 8, "width": 0.125},
    "data": {"image_size": 16},
    "recipe": {"epochs": 1, "batch_size": 8},
    "execution": {"device": "cpu"},
    "seeds": 1,
}


def prepare(size: int = 16, counts: tuple[int, int, int] = (28, 12, 18), classes: int = 3) -> Path:
    """Return a cache folder of noisy images, a brightness pattern a class; parts lie interleaved, not in order."""
    parts = [part for part, count in zip(cache.PARTS, counts, strict=True) for _ in range(count)]
    np.random.default_rng(1).shuffle(parts)
    labels = [index % classes for index in range(len(parts))]
    names = [f"picture_{index:03d}" for index in range(len(parts))]

    def images() -> Iterator[Decoded]:
        for index, name in enumerate(names):
            draw = np.random.default_rng([index, size])
            base = np.roll([60, 120, 180], labels[index])
            yield Decoded.drawn(name, (base + draw.integers(-60, 61, (size, size, 3))).astype(np.uint8))

    def contents() -> cache.Contents:
        return cache.Contents(names, labels, tuple("abcdefgh"[:classes]), images(), {SPLIT: parts})

    return cache.build("tiny", f"{counts}-{classes}", size, contents, progress=False)


def photos(folder: Path) -> None:
    """Write ten photos of each of three classes, a folder a class."""
    from PIL import Image

    data = dataset()
    for index in range(30):
        place = folder / data.class_names[data.labels[index]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[index]).save(place / f"{index}.png")


def dataset(**asked: Any) -> Dataset:
    return load_dataset(prepare(**asked))


def trial(
    folder: Path,
    seed: int = 1,
    execution: Execution | None = None,
    pretrained: Pretrained | None = None,
    **settings: Any,
) -> Trial:
    """A trial on a prepared folder; `settings` are any of network, recipe and data by their own names."""
    data = load_dataset(folder)
    flat = {**DEFAULTS, "image_size": data.image_size, **settings}
    sections: dict[str, dict[str, Any]] = {"network": {}, "recipe": {}, "data": {}}
    for name, value in flat.items():
        section = section_of(name)
        assert section, f"no setting is called {name}"
        sections[section][name] = value
    network, recipe = Network(**sections["network"]), Recipe(**sections["recipe"])
    wanted, execution = Data(**sections["data"]), execution or Execution(device="cpu", jit=False)
    fingerprint = fingerprint_of(data.identity, data.image_size, data.split, 0)
    facts = DataFacts(wanted.source, fingerprint, data.classes, data.counts)
    levels = {name: str(value) for name, value in settings.items()}
    named = network.model_copy(update={"weights": pretrained.origin}) if pretrained else network
    arm = Arm("-".join(levels.values()) or "tiny", levels, named, recipe, wanted)
    return Trial(
        id=trial_id(arm, Streams(seed, 0), TrialContext(facts, execution, pretrained)),
        study="tiny",
        arm=arm.name,
        levels=levels,
        seed=seed,
        split_seed=0,
        network=network,
        recipe=recipe,
        data=wanted,
        facts=facts,
        execution=execution,
        pretrained=pretrained,
    )


def pretrained(path: Path, **settings: Any) -> Pretrained:
    """Weights of a net of `trial`'s, drawn from another seed, with moving statistics that are no defaults."""
    from resflow.models.build import build_network, initialise
    from resflow.weights.load import find_weights, save_weights

    flat = {**DEFAULTS, **settings}
    network = Network(**{name: value for name, value in flat.items() if section_of(name) == "network"})
    arch = network.architecture(16)
    model = build_network(arch, 16, 5)
    initialise(model, 99)
    draw = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name.startswith("moving"):
                weight.assign(draw.uniform(0.5, 1.5, weight.shape))
    normalisation = Normalisation((120.0, 110.0, 100.0), (60.0, 61.0, 62.0))
    save_weights(model, path, normalisation=normalisation, architecture=asdict(arch))
    return find_weights(str(path), network.family, network.depth)


def main(folder: str, out: str, settings: str = "") -> None:
    from resflow.training import train

    asked = trial(Path(folder), **(pickle.loads(Path(settings).read_bytes()) if settings else {}))
    train.configure(asked.execution)
    Path(out).write_bytes(pickle.dumps(train.train_trial(asked, Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])
