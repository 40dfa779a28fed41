"""Trained networks: `resflow pretrain`, `export` and `predict`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from resflow import atomic
from resflow.architectures import FAMILIES
from resflow.cli import complete
from resflow.cli.options import SOURCE_HELP, DataDir, Force, Set, choice
from resflow.inspection.export.formats import FORMATS

app = typer.Typer()

EXPORTED = Path("exported")  # where `export` writes a folder a trial


@app.command(epilog="Example: resflow pretrain --data synthetic --depth 18 --out backbone.safetensors --set epochs=5")
def pretrain(
    data: Annotated[str, typer.Option("--data", "-d", help=SOURCE_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="the .safetensors file to write")],
    family: Annotated[str | None, choice("--family", of=FAMILIES, note=" [default: imagenet]")] = None,
    depth: Annotated[int, typer.Option("--depth", min=1, help="imagenet 18, 34, 50, 101, 152; cifar 6n+2")] = 18,
    width: Annotated[float | None, typer.Option("--width", help="multiplier of every channel count")] = None,
    data_dir: DataDir = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="initial values, order, augmentation")] = 1,
    set_: Set = None,
    force: Force = False,
) -> None:
    """Train one network for other studies to start from: `weights: FILE`."""
    from resflow import provenance
    from resflow.cli.console import console
    from resflow.cli.progress_view import TerminalReporter
    from resflow.study.yaml_source import parse_settings
    from resflow.weights.saved import is_export
    from resflow.workflow.pretrain import plan_pretraining, run_pretraining

    provenance.require_training()
    atomic.refuse_to_replace([out], force, ours=is_export)
    own = {"network.family": family, "network.width": width}
    settings = {**{key: value for key, value in own.items() if value is not None}, **parse_settings(set_)}
    plan = plan_pretraining(data, data_dir, depth, seed, settings, out)
    record = run_pretraining(plan, out, TerminalReporter())
    scores = {part: record.metrics.get(f"{part}_top1") for part in ("validation", "test")}
    text = ", ".join(f"{part} top-1 {value:.1%}" for part, value in scores.items() if value is not None)
    console.print(
        f"{text[:1].upper()}{text[1:]}. "
        f"Record: {plan.run}/\nWrote {out}. A study starts from it with: --set weights={out}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command(epilog="Example: resflow export depth-cpu-synthetic/1a2b3c4d5e6f --format torch --out model")
def export(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN/TRIAL",
            help="trials that kept their networks, or their .safetensors files",
            autocompletion=complete.networks,
        ),
    ],
    format_: Annotated[str, choice("--format", "-f", of=tuple(FORMATS))] = "both",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="the folder to write; of several trials, one for each in it [default: exported/TRIAL]",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write trained networks as files that other programs open, with class names and a model card."""
    from resflow.weights.saved import locate_run
    from resflow.workspace import RESULTS

    kept = [(_kept(model), locate_run(model, RESULTS)) for model in models]
    from resflow.inspection.export.write import export_network  # TensorFlow takes seconds: what is wrong was told

    for network, run in kept:
        folder = out if out and len(kept) == 1 else (out or EXPORTED) / network.path.stem
        for path in export_network(network, folder, format_, run, force):
            print(f"Wrote {path}")


@app.command(epilog="Example: resflow predict exported/1a2b3c4d5e6f photo.jpg -k 3")
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="an exported folder, a .safetensors file, or RUN/TRIAL",
            autocompletion=complete.networks,
        ),
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="photos: JPEG, PNG, BMP, GIF or WebP")],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="classes to show of each photo")] = 5,
    format_: Annotated[str, choice("--format", "-f", of=("table", "json"))] = "table",
) -> None:
    """Say which classes photos show, with probabilities."""
    from resflow import reading
    from resflow.cli.console import console, table
    from resflow.data import decode

    kept = _kept(model)
    files = ((str(path), partial(reading.read, path, decode.MAX_BYTES)) for path in images)
    decoded = list(decode.decode_all(files, kept.network.image_size))
    from resflow.inspection.network import predict_photos, rebuild_network

    rows = predict_photos(rebuild_network(kept), decoded, top)
    if format_ == "json":
        import json

        print(json.dumps(rows, indent=1))
        return
    cells = [
        [row["image"] if rank == 1 else "", found["class"], f"{found['probability']:.1%}"]
        for row in rows
        for rank, found in enumerate(row["classes"], start=1)
    ]
    console.print(table(("image", "class", "probability"), cells, right=("probability",)))


def _kept(model: str) -> Any:
    """Find a trained network and read what it says of itself; nothing heavy is imported yet."""
    from resflow import provenance
    from resflow.weights import saved as kept
    from resflow.workspace import RESULTS, STATE

    provenance.require_training()
    return kept.read_network(kept.locate_network(model, RESULTS, STATE))
