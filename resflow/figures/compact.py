"""SVG as matplotlib writes it, in half the bytes: the same picture without what nobody sees.

Coordinates keep two decimals of a point, which is finer than a screen; curves go from each point to the next. Ids that
nothing refers to, groups that group nothing and shapes without colour go. A style that many shapes have is said once.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter

_TAG = re.compile(r"<[^>]*>")
_LONG = re.compile(r"-?\d+\.\d{3,}")
_LETTER, _CSS = re.compile(r"\s*([A-Za-z])\s*"), re.compile(r"([;:]) ")
_CURVE = re.compile(r"M[-\d. ]+(?:L[-\d. ]+){3,}")  # of straight lines, four points at least
_LOOK = re.compile(r' (clip-path|style)="([^"]*)"')
_UNSEEN = re.compile(r'<path d="[^"]*"(?: clip-path="[^"]*")? style="fill: ?none"/>')


def compact(svg: str) -> str:
    """Return the same picture in fewer bytes. The text of titles and labels stays as it is."""
    svg = _UNSEEN.sub("", svg)
    if families := set(re.findall(r"font-family: ?([^;\"]*)", svg)):
        family = min(families)  # one in all of a figure's texts, which the whole figure can say once
        svg = re.sub(rf"font-family: ?{re.escape(family)};? ?", "", svg)
        svg = svg.replace("<svg ", f'<svg font-family="{family}" ', 1)
    kept = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", svg))
    parts: list[str] = []
    dropped: list[bool] = []
    last = 0
    for match in _TAG.finditer(svg):
        parts.append(_between(svg[last : match.start()]))
        last, tag = match.end(), match[0]
        if tag.startswith("</g"):
            if not dropped.pop():
                parts.append(tag)
            continue
        tag = _tag(tag, kept)
        if tag.startswith("<g") and not tag.endswith("/>"):
            dropped.append(tag == "<g>")
            if tag == "<g>":
                continue
        parts.append(tag)
    return _share_styles("".join([*parts, _between(svg[last:])]))


def _share_styles(svg: str) -> str:
    """Make classes of the styles and clips that shapes share, where that is shorter, in matplotlib's style sheet.

    Rules hold for the whole page around a figure: a class is called by what it says, so that two never disagree.
    """
    uses = Counter(match.groups() for tag in _TAG.findall(svg) for match in _LOOK.finditer(tag))
    names: dict[tuple[str, ...], str] = {}
    sheet = ""
    for (attribute, value), times in uses.items():
        rule = value if attribute == "style" else f"{attribute}:{value}"
        name = "s" + hashlib.sha256(rule.encode()).hexdigest()[:8]
        whole = f".{name}{{{rule}}}"
        if len(whole) < times * (len(f'{attribute}="{value}"') - len(f'class="{name}"')):
            names[attribute, value] = name
            sheet += whole

    def share(tag: re.Match[str]) -> str:
        shared = [name for match in _LOOK.finditer(tag[0]) if (name := names.get(match.groups()))]
        rest = _LOOK.sub(lambda match: "" if match.groups() in names else match[0], tag[0])
        return re.sub(r"(?=/?>$)", f' class="{" ".join(shared)}"', rest, count=1) if shared else rest

    return _TAG.sub(share, svg).replace("</style>", f"{sheet}</style>", 1) if "</style>" in svg else svg


def _between(text: str) -> str:
    """Drop the white space between tags; text keeps its own."""
    return text if text.strip() else ""


def _tag(tag: str, kept: set[str]) -> str:
    if tag.startswith(("<!", "<?")):
        return tag
    tag = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in kept or "-figure" in match[1] else "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", tag)
    tag = re.sub(r' (d|points|transform)="([^"]*)"', lambda match: f' {match[1]}="{_numbers(match[2])}"', tag)
    tag = re.sub(
        r' d="([^"]*)"', lambda match: f' d="{_steps(match[1])}"' if _CURVE.fullmatch(match[1]) else match[0], tag
    )
    tag = re.sub(r' (x|y|width|height)="(-?\d+\.\d{3,})"', lambda match: f' {match[1]}="{_short(match[2])}"', tag)
    return re.sub(r' style="[^"]*"', lambda match: _CSS.sub(r"\1", match[0]), tag)


def _numbers(text: str) -> str:
    text = _LONG.sub(lambda match: _short(match[0]), text)
    return _LETTER.sub(r"\1", text).strip() if text.startswith("M") else text


def _steps(curve: str) -> str:
    """Return a curve as its first point and the steps to the others, in hundredths: no rounding adds to the next."""
    (x, y), *others = ([round(100 * float(number)) for number in point.split()] for point in curve[1:].split("L"))
    start, steps = f"M{x / 100:g} {y / 100:g}", []
    for next_x, next_y in others:
        steps += [next_x - x, next_y - y]
        x, y = next_x, next_y
    words = (f"{step / 100:g}".replace("0.", "." if abs(step) < 100 else "0.") for step in steps)
    return f"{start}l{' '.join(words)}".replace(" -", "-")


def _short(number: str) -> str:
    text = f"{float(number):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
