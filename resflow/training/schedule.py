"""Learning rates: a function of the step, but for `plateau`, which looks at the validation loss."""

from __future__ import annotations

from math import cos, pi

from resflow.study.settings import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, drops: int = 0) -> float:
    """Return the rate of step 0, 1, … of a trial.

    Warm-up is linear and reaches the peak at its end; cosine (Loshchilov and Hutter 2017, arXiv 1608.03983,
    without restarts) runs from there to zero; `drops` is how often a plateau has been met.
    """
    warmup, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + cos(pi * (step - warmup) / (total - warmup)))
    if recipe.schedule == "step":
        drops = sum(step >= milestone * total for milestone in recipe.milestones)
    elif recipe.schedule == "constant":
        drops = 0
    return float(recipe.learning_rate * recipe.decay_factor**drops)


class Patience:
    """A count of epochs without a lower validation loss."""

    def __init__(self, epochs: int | None) -> None:
        self.epochs, self.best, self.waited = epochs, float("inf"), 0

    def update(self, loss: float) -> bool:
        """Count an epoch by its validation loss; return whether the patience has run out."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return False
        self.waited += 1
        if self.epochs is None or self.waited < self.epochs:
            return False
        self.waited = 0
        return True
