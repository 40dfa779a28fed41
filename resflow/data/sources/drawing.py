"""Drawing flowers and leaves with implicit functions, in numpy alone.

A `Canvas` holds float32 RGB in 0..1 over the square -1..1 (x to the right, y down). A shape is a
signed distance (positive inside, in canvas units) that becomes an opacity through one soft edge, so
that a wider edge is a cheap blur: what lies out of focus is drawn with a large `blur`.

A petal lives in its own coordinates: `t` runs from its base (0) to its tip (1), `s` across it
(-1..1). A whorl of n petals is folded into the two petals between which a pixel lies; each petal lies
over its neighbour, as in a flower bud whose petals are contorted (every one over the next).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]  # float32 in practice
Colour = Array  # shape (3,), or (height, width, 3)
Texture = Callable[[Array, Array], Colour]  # (t, s), each (height, width), to RGB
TAU = 2 * np.pi
SHADOW, LEAF_SHADOW = 0.4, 0.3  # darkness 0..1 that a petal and a leaf cast on what is below them


class Canvas:
    """A square RGB picture: `pixels` float32 (side, side, 3) in 0..1; `x`, `y` its pixels' centres."""

    def __init__(self, side: int) -> None:
        axis = ((np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1).astype(np.float32)
        self.side = side
        self.pixel = 2 / side
        self.x, self.y = axis[None, :], axis[:, None]
        self.pixels = np.zeros((side, side, 3), np.float32)

    def window(self, x: float, y: float, radius: float) -> tuple[slice, slice]:
        """Return rows and columns of the square around (x, y), cut at the canvas; may be empty."""

        def span(middle: float) -> slice:
            low, high = (int(np.floor((middle + sign * radius + 1) / self.pixel)) for sign in (-1, 1))
            return slice(min(max(low, 0), self.side), min(max(high + 1, 0), self.side))

        return span(y), span(x)

    def paint(self, window: tuple[slice, slice], colour: Colour, opacity: Array) -> None:
        """Lay a colour over a window; opacity (height, width) in 0..1."""
        below = self.pixels[window]
        below += opacity[..., None] * (colour - below)

    def shade(self, window: tuple[slice, slice], darkness: Array) -> None:
        """Darken a window by a fraction of 0..1, shape (height, width)."""
        self.pixels[window] *= 1 - darkness[..., None]


def edge(distance: Array, width: float) -> Array:
    """Return the opacity 0..1 of a signed distance, by a linear ramp of `width` around its zero."""
    return np.clip(0.5 + distance / np.float32(width), 0, 1)


def mix(a: Colour, b: Colour, share: Array) -> Colour:
    """Mix colours: `a` where share (height, width) is 0, `b` where it is 1."""
    return a + share[..., None] * (b - a)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return the RGB of a hue in turns, by the usual trapezoids (Smith 1978)."""
    ramp = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return (value * (1 - saturation + saturation * np.clip(ramp, 0, 1))).astype(np.float32)


@dataclass(frozen=True)
class Pose:
    """The place of a flower: centre and radius in canvas units, angles in radians.

    `tilt` is the angle between its axis and the line of sight, towards `azimuth`; `turn` spins it
    about its own axis.
    """

    x: float
    y: float
    radius: float
    turn: float = 0.0
    tilt: float = 0.0
    azimuth: float = 0.0


class Plane:
    """A flower's own plane seen through a canvas: polar `r` (1 is the flower's radius) and `angle`."""

    def __init__(self, canvas: Canvas, pose: Pose, reach: float = 1.0, blur: float = 0.0) -> None:
        self.canvas, self.pose, self.blur = canvas, pose, blur
        self.window = canvas.window(pose.x, pose.y, pose.radius * reach * 1.2 + blur)
        rows, columns = self.window
        x, y = canvas.x[:, columns] - np.float32(pose.x), canvas.y[rows] - np.float32(pose.y)
        cos, sin = np.float32(np.cos(pose.azimuth)), np.float32(np.sin(pose.azimuth))
        across, along = (cos * y - sin * x) / pose.radius, (cos * x + sin * y) / pose.radius
        # A camera at four radii: the near half of a tilted flower looks larger than the far half.
        along = along / np.float32(np.cos(pose.tilt))
        depth = 1 + np.float32(0.25 * np.sin(pose.tilt)) * along
        across, along = across * depth, along * depth
        self.r = np.sqrt(across * across + along * along).astype(np.float32)
        self.angle = (np.arctan2(across, along) - np.float32(pose.turn)).astype(np.float32)
        self.soft = (1.5 * canvas.pixel + blur) / pose.radius

    @property
    def empty(self) -> bool:
        return self.r.size == 0

    def inner(self, reach: float) -> Plane:
        """Return the same plane over the smaller window that holds r < reach."""
        return Plane(self.canvas, self.pose, reach, self.blur)


@dataclass(frozen=True)
class Outline:
    """A petal's outline: half-width `width * sin(pi t^a)^fullness`, with a set by where it is widest.

    A low fullness makes a round tip, a high one a point. `notch` cuts the tip by that share of the
    length, `fringe` by that share in teeth. `width` is in units of half the room that a petal has
    beside its neighbours at its widest point, so above 1 petals overlap.
    """

    width: float
    widest: float
    fullness: float
    notch: float = 0.0
    fringe: float = 0.0


def paint_whorl(plane: Plane, outline: Outline, lengths: Array, turns: Array, tones: Array, texture: Texture) -> None:
    """Paint one ring of petals.

    Args:
        plane: the flower's.
        outline: the shape that all of them share.
        lengths, turns, tones: shape (petals,): length (1 is the flower's radius), angle away from the
            even spacing in radians, brightness as a factor.
        texture: colour at (t, s).
    """
    if plane.empty:
        return
    count = len(lengths)
    step = TAU / count
    phase = plane.angle / np.float32(step)
    lower = np.floor(phase)
    for nearest in (lower + 1, lower):
        which = nearest.astype(np.int32) % count
        local = (phase - nearest) * np.float32(step) - turns[which]
        length = lengths[which]
        along, across = plane.r * np.cos(local), plane.r * np.sin(local)
        inside, t, s = _petal(outline, along, across, length, np.float32(np.sin(step / 2)))
        plane.canvas.shade(plane.window, SHADOW * edge(inside + 0.04, plane.soft + 0.16))
        light = tones[which] * (1.06 - 0.24 * s * s - 0.3 * (1 - t) ** 4)
        colour = texture(t, s) * light[..., None]
        plane.canvas.paint(plane.window, colour, edge(inside, plane.soft))


def _petal(
    outline: Outline, along: Array, across: Array, length: Array, room: np.float32
) -> tuple[Array, Array, Array]:
    """Return signed distance, t and s of a petal along the first axis; `room` is sin(pi / petals)."""
    widest = length * (room * np.float32(outline.width * outline.widest))
    reach = length
    if outline.notch or outline.fringe:
        side = across / widest
        cut = outline.notch * np.exp(-(side * side) * 10)
        teeth = outline.fringe * (0.5 + 0.5 * np.sin(side * 11 + length * 40))
        reach = length * (1 - cut - teeth)
    t = np.clip(along / reach, 1e-3, 1 - 1e-3)
    bend = np.float32(np.log(0.5) / np.log(outline.widest))
    half = widest * np.sin(np.float32(np.pi) * t**bend) ** np.float32(outline.fullness)
    inside = np.minimum(half - np.abs(across), np.minimum(reach - along, along + 0.02))
    return inside, t, np.clip(across / (half + np.float32(1e-3)), -1, 1)


def paint_funnel(plane: Plane, lobes: int, depth: float, texture: Texture) -> None:
    """Paint a corolla whose petals have grown together, with shallow lobes of that relative depth."""
    if plane.empty:
        return
    phase = plane.angle * np.float32(lobes / TAU)
    fold = 2 * (phase - np.round(phase))  # -1..1 across each lobe
    rim = 1 - np.float32(depth) * fold**4
    inside = rim - plane.r
    t = np.clip(plane.r / rim, 0, 1)
    plane.canvas.shade(plane.window, SHADOW * edge(inside + 0.04, plane.soft + 0.16))
    light = (0.62 + 0.48 * np.sqrt(t)) * (1.05 - 0.12 * fold * fold)
    plane.canvas.paint(plane.window, texture(t, fold) * light[..., None], edge(inside, plane.soft))


def paint_disc(plane: Plane, radius: float, colour: Colour, rim: Colour, grain: float = 0.25) -> None:
    """Paint a domed centre of florets: two crossing spirals, darker towards the rim's colour."""
    inner = plane.inner(radius)
    if inner.empty:
        return
    t = np.clip(inner.r / np.float32(radius), 0, 1)
    spiral = np.sin(inner.angle * 13 + t * 16) * np.sin(inner.angle * 8 - t * 14)
    light = (1.1 - 0.35 * t * t) * (1 + np.float32(grain) * spiral)
    inner.canvas.shade(inner.window, 0.35 * edge(radius * 1.15 - inner.r, inner.soft + 0.12))
    inner.canvas.paint(inner.window, mix(colour, rim, t**3) * light[..., None], edge(radius - inner.r, inner.soft))


def paint_ring(plane: Plane, radius: float, colour: Colour, throat: Colour) -> None:
    """Paint a coloured eye around a dark throat."""
    inner = plane.inner(radius)
    if inner.empty:
        return
    inner.canvas.paint(inner.window, colour, edge(radius - inner.r, inner.soft + 0.06))
    inner.canvas.paint(inner.window, throat, edge(radius * 0.45 - inner.r, inner.soft + 0.03))


def paint_stamens(plane: Plane, count: int, radius: float, colour: Colour, anther: Colour) -> None:
    """Paint filaments that end in anthers at that radius, and a pistil."""
    inner = plane.inner(radius + 0.1)
    if inner.empty:
        return
    step = np.float32(TAU / count)
    local = inner.angle - step * np.round(inner.angle / step)
    along, across = inner.r * np.cos(local), inner.r * np.sin(local)
    thread = np.minimum(0.018 - np.abs(across), radius - along)
    inner.canvas.paint(inner.window, colour, edge(thread, inner.soft))
    knob = 0.065 - np.hypot((along - np.float32(radius)) * 0.8, across)
    inner.canvas.shade(inner.window, 0.4 * edge(knob + 0.02, inner.soft + 0.06))
    inner.canvas.paint(inner.window, anther, edge(knob, inner.soft))
    inner.canvas.paint(inner.window, colour * np.float32(0.9), edge(0.07 - inner.r, inner.soft))


@dataclass(frozen=True)
class Leaf:
    """A leaf, a blade of grass or (fullness 0) a stem from base to tip, bent sideways; all in canvas units."""

    base: tuple[float, float]
    tip: tuple[float, float]
    width: float  # half of it, at the widest place
    colour: Colour
    bend: float = 0.0
    fullness: float = 0.9
    veins: float = 0.0  # how far they stand out, 0..1
    blur: float = 0.0


def paint_leaf(canvas: Canvas, leaf: Leaf) -> None:
    """Paint a leaf with its shadow."""
    (x0, y0), (x1, y1) = leaf.base, leaf.tip
    length = float(np.hypot(x1 - x0, y1 - y0))
    window = canvas.window((x0 + x1) / 2, (y0 + y1) / 2, length / 2 + leaf.width + abs(leaf.bend) + leaf.blur)
    rows, columns = window
    x, y = canvas.x[:, columns] - np.float32(x0), canvas.y[rows] - np.float32(y0)
    if x.size == 0 or y.size == 0:
        return
    cos, sin = np.float32((x1 - x0) / length), np.float32((y1 - y0) / length)
    along = (cos * x + sin * y) / np.float32(length)
    t = np.clip(along, 1e-3, 1 - 1e-3)
    across = cos * y - sin * x - np.float32(4 * leaf.bend) * t * (1 - t)
    half = np.float32(leaf.width) * np.sin(np.float32(np.pi) * t) ** np.float32(leaf.fullness)
    inside = np.minimum(half - np.abs(across), np.float32(length) * np.minimum(along, 1 - along))
    soft = 1.5 * canvas.pixel + leaf.blur
    canvas.shade(window, LEAF_SHADOW * edge(inside + 0.03, soft + 0.12))
    s = np.clip(across / (half + np.float32(1e-3)), -1, 1)
    light = 0.92 + 0.2 * s
    if leaf.veins:
        lines = np.exp(-(s * s) * 60) + 0.4 * np.cos(t * 40 - np.abs(s) * 9)
        light = light + np.float32(leaf.veins) * lines
    canvas.paint(window, leaf.colour * light[..., None], edge(inside, soft))
