"""The kinds of synthetic flowers, and the scenes they stand in.

A `Kind` is a structure: how many petals, of what outline, in how many whorls, around what centre.
Everything else (colour, texture, pose, light, clutter) is drawn from the same distributions for every
kind, so that a class is a matter of shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from resflow.data.sources import drawing
from resflow.data.sources.drawing import TAU, Array, Canvas, Colour, Leaf, Outline, Plane, Pose, Texture, edge, hsv, mix


@dataclass(frozen=True)
class Kind:
    """One class: `petals` is the smallest and largest count of a whorl, `centres` what may fill it."""

    name: str
    petals: tuple[int, int]
    outline: Outline
    centres: tuple[str, ...]
    whorls: tuple[float, ...] = (1.0,)  # radii, outermost first
    fused: bool = False


KINDS = (
    Kind("trillium", (3, 3), Outline(0.82, 0.42, 0.85), ("stamens", "eye")),
    Kind("crosswort", (4, 4), Outline(0.98, 0.58, 0.45), ("stamens", "disc", "eye")),
    Kind("buttercup", (5, 5), Outline(1.12, 0.62, 0.45), ("stamens", "disc", "eye")),
    Kind("primrose", (5, 5), Outline(1.12, 0.66, 0.45, notch=0.36), ("stamens", "disc", "eye")),
    Kind("pink", (5, 5), Outline(1.25, 0.74, 0.4, fringe=0.3), ("stamens", "disc", "eye")),
    Kind("bindweed", (5, 5), Outline(1, 0.5, 0.5), ("stamens", "eye"), fused=True),
    Kind("lily", (6, 6), Outline(0.72, 0.45, 0.95), ("stamens", "eye")),
    Kind("daisy", (13, 20), Outline(0.8, 0.6, 0.3), ("disc",)),
    Kind("camellia", (5, 7), Outline(1.25, 0.62, 0.45), ("bud",), whorls=(1, 0.76, 0.54, 0.34)),
    Kind("dahlia", (9, 12), Outline(1.05, 0.5, 0.9), ("bud",), whorls=(1, 0.74, 0.5)),
)

# Hue in turns, saturation, value: the middle of each of the palettes that all kinds share.
PETAL_COLOURS = (
    (0.00, 0.02, 0.97),
    (0.14, 0.75, 0.97),
    (0.08, 0.80, 0.95),
    (0.92, 0.45, 0.95),
    (0.97, 0.75, 0.80),
    (0.83, 0.55, 0.75),
    (0.74, 0.50, 0.80),
    (0.63, 0.60, 0.85),
    (0.03, 0.50, 0.95),
)
TEXTURES = ("plain", "gradient", "veins", "stripe", "spots", "picotee", "blotch")


@dataclass(frozen=True)
class Pattern:
    """A petal's markings: a second colour that shows instead of the first at places of the petal's t and s."""

    style: str
    second: Colour | None  # None: the first colour, darkened
    darkening: float
    strength: float
    repeats: float
    phase: float

    @classmethod
    def random(cls, rng: Generator) -> Pattern:
        """Choose markings; every kind of flower may have any of them."""
        style, second, contrast = TEXTURES[rng.integers(len(TEXTURES))], pick_petal_colour(rng), rng.random() < 0.5
        low, high = (0.45, 0.5, 2, 0), (0.75, 1, 4, 6)
        return cls(style, second if contrast else None, *(float(value) for value in rng.uniform(low, high)))

    def share(self, t: Array, s: Array) -> Array:
        """Return the second colour's share 0..1 at (t, s)."""
        match self.style:
            case "plain":
                return 0.25 * t
            case "gradient":
                return 1 - t
            case "veins":
                return 0.8 * (0.5 + 0.5 * np.cos(s * (6 * self.repeats))) ** 3 * (1 - 0.6 * t)
            case "stripe":
                return np.exp(-14 * s * s) * (1 - t**4)
            case "spots":
                rows, columns = t * (7 * self.repeats) + self.phase, s * (1.7 * self.repeats) + self.phase
                return edge(np.sin(rows) * np.sin(columns) - 0.45, 0.3)
            case "picotee":
                return edge(np.maximum(np.abs(s) - 0.7, t - 0.86), 0.15)
            case "blotch":
                return edge(0.42 - t, 0.2)
        raise ValueError(f"unknown texture {self.style!r}")

    def on(self, colour: Colour) -> Texture:
        """Return the texture of a petal whose main colour this is."""
        second = colour * np.float32(self.darkening) if self.second is None else self.second
        return lambda t, s: mix(colour, second, self.strength * self.share(t, s))


def draw(label: int, rng: Generator, canvas: Canvas) -> None:
    """Draw one scene with a flower of KINDS[label]; every draw of `rng` is independent of the size."""
    draw_background(canvas, rng)
    if rng.random() < 0.35:
        draw_distractor(canvas, rng)
    pose = Pose(
        x=rng.uniform(-0.15, 0.15),
        y=rng.uniform(-0.15, 0.15),
        radius=rng.uniform(0.65, 0.95),
        turn=rng.uniform(0, TAU),
        tilt=0.95 * rng.uniform(0, 1) ** 2,
        azimuth=rng.uniform(0, TAU),
    )
    green = pick_leaf_colour(rng)
    foot = (pose.x + rng.uniform(-0.5, 0.5), 1.3)
    stem = Leaf(foot, (pose.x, pose.y), 0.03, green, bend=rng.uniform(-0.1, 0.1), fullness=0.0)
    drawing.paint_leaf(canvas, stem)
    draw_flower(canvas, KINDS[label], pose, rng)
    occlude(canvas, pose, rng)
    illuminate(canvas, rng)


def pick_leaf_colour(rng: Generator) -> Colour:
    """Draw the colour of a leaf: mostly greens, at times dry or dark."""
    return hsv(rng.uniform(0.18, 0.4), rng.uniform(0.3, 0.75), rng.uniform(0.15, 0.55))


def pick_petal_colour(rng: Generator) -> Colour:
    """Draw the colour of a petal, spread around one of PETAL_COLOURS."""
    hue, saturation, value = PETAL_COLOURS[rng.integers(len(PETAL_COLOURS))]
    return hsv(
        hue + rng.normal(0, 0.03),
        float(np.clip(saturation + rng.normal(0, 0.12), 0, 1)),
        float(np.clip(value + rng.normal(0, 0.1), 0.3, 1)),
    )


def draw_background(canvas: Canvas, rng: Generator) -> None:
    """Fill the canvas: a two-coloured ground, blurred blobs, then leaves and blades of grass."""
    ground = [hsv(rng.uniform(0.05, 0.6), rng.uniform(0.1, 0.6), rng.uniform(0.08, 0.5)) for _ in "ab"]
    angle = rng.uniform(0, TAU)
    share = 0.5 + 0.35 * (np.float32(np.cos(angle)) * canvas.x + np.float32(np.sin(angle)) * canvas.y)
    canvas.pixels[:] = mix(ground[0], ground[1], np.clip(share, 0, 1))
    everywhere = (slice(None), slice(None))
    for _ in range(rng.integers(3, 7)):
        x, y, width = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.12, 0.4)
        colour = pick_petal_colour(rng) * np.float32(0.7) if rng.random() < 0.3 else pick_leaf_colour(rng)
        across = np.exp(-(((canvas.x - np.float32(x)) / np.float32(width)) ** 2))
        down = np.exp(-(((canvas.y - np.float32(y)) / np.float32(width)) ** 2))
        canvas.paint(everywhere, colour, np.float32(rng.uniform(0.4, 0.9)) * across * down)
    grassy = rng.random()
    for _ in range(rng.integers(5, 15)):
        angle, blade = rng.uniform(0, TAU), rng.random() < grassy
        x, y = rng.uniform(-1.2, 1.2, 2)
        length = rng.uniform(0.8, 1.8) if blade else rng.uniform(0.4, 1.1)
        leaf = Leaf(
            (x, y),
            (x + length * np.cos(angle), y + length * np.sin(angle)),
            rng.uniform(0.02, 0.06) if blade else rng.uniform(0.1, 0.28),
            pick_leaf_colour(rng),
            bend=rng.uniform(-0.12, 0.12),
            veins=rng.uniform(0, 0.3),
            blur=rng.uniform(0, 0.12),
        )
        drawing.paint_leaf(canvas, leaf)


def draw_distractor(canvas: Canvas, rng: Generator) -> None:
    """Draw a smaller, unsharp flower of any kind that the frame cuts."""
    angle, distance = rng.uniform(0, TAU), rng.uniform(1.3, 1.7)
    pose = Pose(
        x=float(np.clip(distance * np.cos(angle), -1, 1)),
        y=float(np.clip(distance * np.sin(angle), -1, 1)),
        radius=rng.uniform(0.25, 0.42),
        turn=rng.uniform(0, TAU),
        tilt=rng.uniform(0, 1.0),
        azimuth=rng.uniform(0, TAU),
    )
    draw_flower(canvas, KINDS[rng.integers(len(KINDS))], pose, rng, blur=rng.uniform(0.02, 0.08))


def draw_flower(canvas: Canvas, kind: Kind, pose: Pose, rng: Generator, blur: float = 0.0) -> None:
    """Draw one flower of a kind at a pose, with its own colours, texture and small irregularities."""
    outline = replace(
        kind.outline,
        width=kind.outline.width * rng.uniform(0.92, 1.08),
        widest=kind.outline.widest * rng.uniform(0.95, 1.05),
        notch=kind.outline.notch * rng.uniform(0.8, 1.2),
        fringe=kind.outline.fringe * rng.uniform(0.8, 1.2),
    )
    colour, pattern = pick_petal_colour(rng), Pattern.random(rng)
    petals = int(rng.integers(kind.petals[0], kind.petals[1] + 1))
    around = np.arange(petals) * (TAU / petals) + rng.uniform(0, TAU)
    lit = 1 + 0.12 * np.cos(around).astype(np.float32)
    for number, radius in enumerate(kind.whorls):
        turn = pose.turn + number * (np.pi / petals + 0.15)
        plane = Plane(canvas, replace(pose, turn=turn), radius, blur)
        tint = colour * np.float32(1 - 0.06 * number)
        if kind.fused:
            drawing.paint_funnel(plane, petals, rng.uniform(0.04, 0.12), pattern.on(tint))
            continue
        spread = rng.normal(0, 1, (3, petals)).astype(np.float32)
        drawing.paint_whorl(
            plane,
            outline,
            lengths=np.float32(radius) * np.clip(1 + 0.05 * spread[0], 0.85, 1.1),
            turns=spread[1] * np.float32(0.22 / petals),
            tones=lit + 0.05 * spread[2],
            texture=pattern.on(tint),
        )
    draw_centre(Plane(canvas, pose, 0.6, blur), kind.centres[rng.integers(len(kind.centres))], colour, rng)


def draw_centre(plane: Plane, sort: str, petal: Colour, rng: Generator) -> None:
    """Draw what a flower has in its middle: `disc`, `eye`, `stamens` or `bud`."""
    warm = hsv(rng.uniform(0.07, 0.17), rng.uniform(0.5, 0.95), rng.uniform(0.6, 1.0))
    dark = hsv(rng.uniform(0, 1), rng.uniform(0.3, 0.8), rng.uniform(0.12, 0.4))
    size = rng.uniform(0.85, 1.2)
    if sort == "disc":
        pair = (warm, dark) if rng.random() < 0.65 else (dark, warm)
        drawing.paint_disc(plane, 0.25 * size, *pair)
    elif sort == "eye":
        drawing.paint_ring(plane, 0.24 * size, warm if rng.random() < 0.5 else pick_petal_colour(rng), dark)
    elif sort == "stamens":
        pale = hsv(0.2, 0.25, 0.9)
        drawing.paint_stamens(plane, int(rng.integers(5, 11)), 0.3 * size, pale, warm if rng.random() < 0.6 else dark)
    else:
        drawing.paint_disc(plane, 0.12 * size, petal * np.float32(0.85), petal * np.float32(0.55), grain=0.4)


def occlude(canvas: Canvas, pose: Pose, rng: Generator) -> None:
    """Draw up to two leaves or stems across the rim of the flower."""
    for _ in range(rng.choice(3, p=(0.5, 0.35, 0.15))):
        angle, heading = rng.uniform(0, TAU), rng.uniform(0, TAU)
        distance, half = pose.radius * rng.uniform(0.5, 1.0), rng.uniform(0.25, 0.5)
        x, y = pose.x + distance * np.cos(angle), pose.y + distance * np.sin(angle)
        stem = rng.random() < 0.4
        half *= 2 if stem else 1
        dx, dy = half * np.cos(heading), half * np.sin(heading)
        leaf = Leaf(
            (x - dx, y - dy),
            (x + dx, y + dy),
            rng.uniform(0.02, 0.045) if stem else rng.uniform(0.08, 0.16),
            pick_leaf_colour(rng),
            bend=rng.uniform(-0.1, 0.1),
            fullness=0.2 if stem else 0.9,
            veins=rng.uniform(0, 0.25),
            blur=rng.uniform(0, 0.05),
        )
        drawing.paint_leaf(canvas, leaf)


def illuminate(canvas: Canvas, rng: Generator) -> None:
    """Light the scene: a gradient, at times the edge of a shadow, contrast, brightness, white balance."""
    angle, slope = rng.uniform(0, TAU), rng.uniform(0, 0.35)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    canvas.pixels *= (1 + np.float32(slope) * (cos * canvas.x + sin * canvas.y))[..., None]
    angle, offset, soft, depth = rng.uniform((0, -0.6, 0.1, 0.2), (TAU, 0.6, 0.5, 0.55))
    if rng.random() < 0.25:
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        everywhere = (slice(None), slice(None))
        band = edge(cos * canvas.x + sin * canvas.y - np.float32(offset), soft)
        canvas.shade(everywhere, np.float32(depth) * band)
    gain, contrast = rng.uniform(0.8, 1.2), rng.uniform(0.75, 1.15)
    balance = rng.uniform(0.92, 1.08, 3)
    canvas.pixels -= np.float32(0.45)
    canvas.pixels *= (contrast * gain * balance).astype(np.float32)
    canvas.pixels += (0.45 * gain * balance).astype(np.float32)
