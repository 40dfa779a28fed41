"""What a study's factors, levels and arms are called in sentences: by its `titles`, else by their own names."""

from __future__ import annotations

import re
from typing import Any

from resflow.analysis.design import BASE, Design
from resflow.study.contrast_families import TUNED, TUNING, UNTUNED

OF_TUNING = {TUNED: "the tuned recipe", UNTUNED: "the recipe as written"}
WHERE_TUNING = {TUNED: "once tuned", UNTUNED: "as written"}


class Prose:
    """The words of one study. `titles` is that of its study.yaml, and is followed as far as it makes sense."""

    def __init__(self, design: Design, titles: Any) -> None:
        self.design = design
        self._titles = titles if isinstance(titles, dict) else {}

    def factor(self, factor: str) -> str:
        """Call a factor by its title, else by its name with spaces."""
        return self._text(factor, "title") or factor.replace("_", " ")

    def more(self, factor: str) -> str:
        """Say what higher numbers of a factor make, such as deeper nets; empty where the study does not say."""
        return self._text(factor, "more")

    def level(self, factor: str, label: str) -> str:
        """Call a level: residual nets, 18 layers, head 512."""
        if name := self._level(factor, label).get("name"):
            return str(name)
        if factor == TUNING:
            return OF_TUNING.get(label, label)
        unit = self._text(factor, "unit")
        return f"{label} {unit}" if unit else f"{self.factor(factor)} {label}"

    def where(self, factor: str, label: str) -> str:
        """Say where a level holds: at 18 layers, without shortcuts, with head 512."""
        if where := self._level(factor, label).get("where"):
            return str(where)
        if factor == TUNING:
            return WHERE_TUNING.get(label, label)
        number = self.has_unit(factor) or label.replace(".", "", 1).isdecimal()
        return f"{'at' if number else 'with'} {self.level(factor, label)}"

    def has_unit(self, factor: str) -> bool:
        """Tell whether a factor's levels are numbers of something."""
        return bool(self._text(factor, "unit"))

    def context(self, arm: str, factors: tuple[str, ...]) -> str:
        """Say where an arm's levels of some factors hold."""
        return ", ".join(self.where(factor, self.design.arms[arm][factor]) for factor in factors)

    def arm(self, arm: str) -> str:
        """Call an arm: by what it changes where arms are changes, else by its varied levels."""
        design = self.design
        name = design.display_name(arm)
        if name == BASE:
            return "the baseline"
        changed = design.changed(arm) if design.one_at_a_time else design.varied
        if arm not in design.arms or not changed:
            return name
        return ", ".join(self.level(factor, design.arms[arm][factor]) for factor in changed)

    def _level(self, factor: str, label: str) -> dict[str, Any]:
        titles = self._titles.get(factor)
        levels = titles.get("levels") if isinstance(titles, dict) else None
        value = levels.get(label) if isinstance(levels, dict) else None
        return value if isinstance(value, dict) else {"name": value} if isinstance(value, str) else {}

    def _text(self, factor: str, key: str) -> str:
        titles = self._titles.get(factor)
        value = titles.get(key) if isinstance(titles, dict) else None
        return value if isinstance(value, str) else ""


def sentence(text: str) -> str:
    """Return text as a sentence: with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def be(noun: str) -> str:
    """Return the verb that goes with a noun: heads are, a head is."""
    last = re.split(" (?:at|of|on|with) ", noun)[0].split(" ")[-1]
    return "are" if last.endswith("s") and not last.endswith(("ss", "us")) else "is"
