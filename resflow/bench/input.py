"""The speed of augmented batches: resflow's pipeline from the decoded cache beside Keras' ImageDataGenerator.

On a GPU resflow's batches are counted when they have come there. That is the way of images that do not fit into its
memory; for those that fit, `epoch` measures.
"""

from __future__ import annotations

import math
from typing import Any

from resflow import provenance
from resflow.bench import device as devices
from resflow.bench.contest import Contender, Say, ask_in_turn, list_rounds, median, ratio
from resflow.bench.step import STUDY
from resflow.study.load import load_study
from resflow.workflow.plan import make_plan

# Rotation and shear of Keras' generator are degrees, resflow's shear is the angle's tangent.
ARTICLE = {"rotation_range": 30, "shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True, "fill_mode": "nearest"}
ARTICLE_HERE = {"rotation": 30.0, "shear": math.tan(math.radians(0.2)), "zoom": 0.2, "flip": True}


def run(
    image_size: int, batch_size: int, threads: int, seconds: float, rounds: int, say: Say, device: str = "cpu"
) -> dict[str, Any]:
    """Measure both, and how many images a ResNet-18 consumes at this size, in bfloat16 on a GPU."""
    settings: dict[str, Any] = {"data.image_size": image_size, "recipe.batch_size": batch_size}
    settings |= {"execution.threads": threads, "execution.precision": devices.default_precision(device)}
    settings |= devices.execution(device)
    plan = make_plan(load_study(STUDY, settings=settings))
    trial = plan.trials[0]
    spec = {
        "folder": str(plan.folders[trial.id]),
        "batch_size": batch_size,
        "threads": threads,
        "device": device,
        "seconds": seconds,
    }
    net = {**spec, "job": "step", "study": str(STUDY), "settings": settings}
    answers = ask_in_turn(
        [
            Contender("keras", "keras_input", {**spec, "augmentation": ARTICLE}),
            Contender("resnet18", "resflow_jobs", net),
            Contender("resflow", "resflow_jobs", {**spec, "job": "input", "augmentation": ARTICLE_HERE}),
        ],
        rounds,
        say,
    )
    speeds = {name: median(its_rounds, "images_per_s") for name, its_rounds in answers.items()}
    consumption = speeds.pop("resnet18")
    return {
        "benchmark": "input",
        "images_per_s": {name: round(speed, 1) for name, speed in speeds.items()},
        "ratio_vs_keras": ratio(speeds["resflow"], speeds["keras"]),
        "resnet18_images_per_s": round(consumption, 2),
        "ratio_vs_resnet18": ratio(speeds["resflow"], consumption),
        "input_wait": round(max(0.0, 1 - speeds["resflow"] / consumption), 3),
        "rounds": list_rounds(answers, "images_per_s"),
        "settings": {
            "image_size": image_size,
            "batch_size": batch_size,
            "threads": threads,
            **devices.describe(device),
            "training_images": trial.counts[0],
            "augmentation": ARTICLE,
            "execution": answers["resnet18"][0]["execution"],
            "rounds": rounds,
            "least_seconds": seconds,
        },
        "versions": provenance.environment()["versions"],
    }
