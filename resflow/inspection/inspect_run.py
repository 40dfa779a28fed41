"""Pictures of the insides of a run's kept networks: choosing networks and images, writing files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from resflow import atomic, reading, workspace
from resflow.analysis import landscape_table
from resflow.analysis.analyse import Analysis, analyse
from resflow.data.dataset import load_dataset
from resflow.data.decode import Decoded
from resflow.errors import RecordError, WeightsError, one_of
from resflow.records.record import Record
from resflow.study.level_columns import with_levels
from resflow.weights.saved import SavedNetwork, read_network, retrain_command
from resflow.workflow.plan import plan_of_run
from resflow.workspace import network_path

if TYPE_CHECKING:
    from resflow.data.dataset import Dataset


@dataclass(frozen=True)
class ChosenNetworks:
    """Networks of one seed of a run, an arm each, in the order of the study."""

    analysis: Analysis
    seed: int
    networks: list[tuple[Record, SavedNetwork]]

    @property
    def state(self) -> Path:
        """The ignored folder of the run."""
        return workspace.state_folder(self.analysis.run.folder)


def choose_networks(run: Path, arms: Sequence[str] | None, seed: int | None) -> ChosenNetworks:
    """Find the kept networks. Raises RecordError for what the run does not have, WeightsError where none was kept."""
    analysis = analyse(run)
    for arm in arms or ():
        if arm not in analysis.design.arms:
            raise RecordError(f"--arm: {one_of(arm, analysis.design.arms, 'arm')}")
    own = set(analysis.trials["id"])  # of the study's own seeds
    done = [record for record in analysis.records if record.status == "completed" and record.id in own]
    seeds = sorted({record.seed for record in done})
    if not seeds or (seed is not None and seed not in seeds):
        raise RecordError(
            f"no completed trial of seed {seed} in {run}: {', '.join(map(str, seeds)) or 'there is none'}."
        )
    seed, state = seed if seed is not None else seeds[0], workspace.state_folder(run)
    by_arm = {record.arm: record for record in done if record.seed == seed}
    records = [by_arm[arm] for arm in analysis.design.arms if arm in by_arm and (not arms or arm in arms)]
    paths = [(record, path) for record in records if (path := network_path(state, record.id)).is_file()]
    if not paths:
        raise WeightsError(
            f"run {run.name} has kept no network of seed {seed}. Train them again, and keep them, with:\n  "
            f"{retrain_command(analysis.run.study)}\n"
            "What has a record already keeps it: on a CPU the same numbers come out."
        )
    networks = [(record, read_network(path)) for record, path in paths]
    if len({source.network.image_size for _, source in networks}) > 1:
        raise RecordError(f"the arms of {run.name} see images of several sizes: choose those of one with --arm.")
    return ChosenNetworks(analysis, seed, networks)


def check_photos(paths: Sequence[Path]) -> Sequence[Path]:
    """Return the paths. Raises RecordError where one of them is no file."""
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise RecordError(f"no photo at {', '.join(missing)}: --images takes files.")
    return paths


def load_run_dataset(chosen: ChosenNetworks, data_dir: Path | None) -> Dataset:
    """Load the images that the run was trained on, prepared where they are not yet."""
    plan = plan_of_run(chosen.analysis.run.folder, "", data_dir)
    record = chosen.networks[0][0]
    if record.id not in plan.folders:
        raise RecordError(
            f"trial {record.id} is not in the plan of {chosen.analysis.run.folder}: its study was edited."
        )
    trial = next(trial for trial in plan.trials if trial.id == record.id)
    return load_dataset(plan.folders[record.id], trial.data.split, trial.split_seed, trial.data.train)


def draw_maps(
    chosen: ChosenNetworks, photos: Sequence[Path] | int, out: Path | None, data_dir: Path | None, force: bool = False
) -> list[Path]:
    """Write a picture an image, of photos or of so many validation images; return the paths.

    They lie in `out`, where others are replaced with `force` alone, or among the run's own files.
    """
    from resflow.inspection.network import rebuild_network  # first: it keeps TensorFlow off the screen

    # isort: split
    from resflow.figures.maps import maps as draw_image
    from resflow.figures.style import to_file
    from resflow.inspection.activation_maps import compute_maps

    size = chosen.networks[0][1].network.image_size
    decoded = _pick(load_run_dataset(chosen, data_dir), photos) if isinstance(photos, int) else _decode(photos, size)
    folder = out or chosen.state / workspace.MAPS
    # photos of two folders may share a name
    pictures = [folder / f"{place:02d}-{Path(photo.name).stem}.png" for place, photo in enumerate(decoded, start=1)]
    if out is not None:
        atomic.refuse_to_replace(pictures, force)
    images = np.stack([photo.pixels for photo in decoded])
    rows = {}
    for record, source in chosen.networks:
        network = rebuild_network(source)
        rows[record.arm] = (network.classes, compute_maps(network, images))
    for place, (photo, path) in enumerate(zip(decoded, pictures, strict=True)):
        table = {}
        for arm, (classes, maps) in rows.items():
            answer = f"{classes[maps.answer[place]]} {100 * maps.probability[place]:.0f} %"
            stages = [(name, values[place]) for name, values in maps.stages.items()]
            table[chosen.analysis.design.display_name(arm)] = [*stages, (answer, maps.cam[place])]
        atomic.write(path, to_file(draw_image(photo.pixels, table), "png"))
    return pictures


def _decode(paths: Sequence[Path], size: int) -> list[Decoded]:
    from resflow.data import decode

    return list(decode.decode_all(((str(path), partial(reading.read, path, decode.MAX_BYTES)) for path in paths), size))


def _pick(images: Dataset, count: int) -> list[Decoded]:
    """Pick some validation images, training images where there are none, of as many classes as there are of them."""
    part = images.validation if len(images.validation) else images.train
    order = np.argsort(images.labels[part], kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]
    return [Decoded.drawn(images.names[index], images.images[index]) for index in part[picked]]


def measure_landscape(
    chosen: ChosenNetworks, points: int, grid: int, images: int, reach: float, data_dir: Path | None
) -> Path:
    """Measure and write landscape.csv into the run's folder; the rows of other seeds and arms stay."""
    from resflow.inspection.network import rebuild_network  # first: it keeps TensorFlow off the screen

    # isort: split
    from resflow.inspection import loss_landscape

    data = load_run_dataset(chosen, data_dir)
    index = data.train[np.linspace(0, len(data.train) - 1, min(images, len(data.train))).round().astype(int)]
    pictures, labels = data.images[np.sort(index)], data.labels[np.sort(index)]
    steps = loss_landscape.line_steps(points + 1 - points % 2, reach)
    plane = loss_landscape.plane_steps(grid + 1 - grid % 2, reach) if grid else []
    rows = []
    for record, source in chosen.networks:
        network = rebuild_network(source)
        places = [*steps, *plane]
        losses = loss_landscape.compute_losses(network, pictures, labels, places, chosen.seed)
        rows += [
            (record.arm, record.seed, place[0], place[1] if len(place) > 1 else np.nan, loss)
            for place, loss in zip(places, losses, strict=True)
        ]
    table = pd.DataFrame(rows, columns=list(landscape_table.COLUMNS))
    path = chosen.analysis.run.folder / workspace.LANDSCAPE
    before = chosen.analysis.landscape
    if before is not None:
        fresh = set(zip(table["arm"], table["seed"], strict=True))
        stale = [pair in fresh for pair in zip(before["arm"], before["seed"], strict=True)]
        table = pd.concat([before.loc[~np.array(stale, dtype=bool), list(table.columns)], table], ignore_index=True)
    try:
        atomic.write(path, atomic.csv(with_levels(table, chosen.analysis.design.arms)))
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error}. Free space or make the folder writable.") from error
    return path
