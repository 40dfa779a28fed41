"""Looking inside trained networks: `resflow maps` and `resflow landscape`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resflow.cli import complete
from resflow.cli.options import DataDir, Force

app = typer.Typer()
Arms = Annotated[
    list[str] | None,
    typer.Option(
        "--arm", "-a", help="an arm; repeatable [default: all that kept networks]", autocompletion=complete.arms
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="whose networks [default: the run's first seed]")]


@app.command(epilog="Example: resflow maps depth-demo-synthetic --count 2")
def maps(
    run: Annotated[
        str,
        typer.Argument(
            help="a run's name or folder, whose networks were kept (keep_weights)", autocompletion=complete.runs
        ),
    ],
    images: Annotated[
        list[Path] | None, typer.Option("--images", "-i", help="photos; repeatable [default: of the run's own data]")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="validation images, without --images")] = 4,
    arms: Arms = None,
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="[default: .resflow/RUN/maps, outside git]")
    ] = None,
    data_dir: DataDir = None,
    force: Force = False,
) -> None:
    """Draw activation maps by stage and Grad-CAM, arm beneath arm, for some images."""
    from resflow import provenance
    from resflow.inspection.inspect_run import check_photos, choose_networks, draw_maps
    from resflow.workspace import run_folder

    provenance.require_training()
    chosen = choose_networks(run_folder(run), arms, seed)
    photos = check_photos(images) if images else None
    for path in draw_maps(chosen, photos or count, out, data_dir, force):
        print(f"Wrote {path}")


@app.command(epilog="Example: resflow landscape depth-demo-synthetic --points 21")
def landscape(
    run: Annotated[
        str,
        typer.Argument(
            help="a run's name or folder, whose networks were kept (keep_weights)", autocompletion=complete.runs
        ),
    ],
    points: Annotated[int, typer.Option("--points", min=3, max=201, help="along the line, an odd number")] = 21,
    grid: Annotated[int, typer.Option("--grid", min=0, max=101, help="a side of the plane; 0: no plane")] = 9,
    images: Annotated[int, typer.Option("--images", min=16, help="training images that the loss is of")] = 256,
    reach: Annotated[float, typer.Option("--reach", min=0.01, help="how far: 1 is as long as the weights")] = 1.0,
    arms: Arms = None,
    seed: Seed = None,
    data_dir: DataDir = None,
) -> None:
    """Measure the loss around trained networks, along one direction and over two; the report then shows it."""
    from resflow import provenance
    from resflow.inspection.inspect_run import choose_networks, measure_landscape
    from resflow.report.formatting import count
    from resflow.workspace import run_folder

    provenance.require_training()
    chosen = choose_networks(run_folder(run), arms, seed)
    passes = len(chosen.networks) * (points + grid**2) * images
    work = sum(record.network.get("multiply_adds") or 0 for record, _ in chosen.networks) * (points + grid**2) * images
    print(f"{len(chosen.networks)} networks, {passes:,} forward passes, {count(work)} multiply-adds.")
    print(f"Wrote {measure_landscape(chosen, points, grid, images, reach, data_dir)}")
