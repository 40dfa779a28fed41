"""The errors that a user can meet.

    ResflowError
     |- StudyError        a study file, a profile or a --set says something impossible
     |- DataError         photos, archives, folders, downloads, the decoded cache
     |- WeightsError      a file of weights does not fit a network
     |- TrainingError     a trial cannot be trained as asked
     |- RecordError       a results folder cannot be read or written
     |- TrackerError      a tracker is none, or has not got all of a run
     `- MissingExtraError an optional part of resflow is not installed

Each message says what was expected, what came, and what to do next. The command line
prints it without a traceback and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ResflowError(Exception):
    """Base of every error that is the user's to mend."""


class StudyError(ResflowError):
    """A study file, a profile or an override says something impossible.

    `settings` names those at fault, the most suspect first, for whoever knows where they are written.
    """

    def __init__(self, message: str, settings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.settings = settings


class DataError(ResflowError):
    """Images, archives, downloads or the decoded cache cannot be used."""


class WeightsError(ResflowError):
    """A file of weights cannot be read, or does not fit the network that it is meant for."""


class TrainingError(ResflowError):
    """A trial cannot be trained as asked."""


class RecordError(ResflowError):
    """A results folder cannot be read or written."""


class TrackerError(ResflowError):
    """A tracker is none that resflow knows, or has not got all of a run."""


class MissingExtraError(ResflowError):
    """An optional part of resflow is not installed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known word, or an empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{match[0]}'?" if match else ""


def one_of(word: str, known: Iterable[str], what: str) -> str:
    """Say that `word` is no `what`, what the known ones are, and which is nearest."""
    names = [str(name) for name in known]
    return f"unknown {what} '{word}': expected one of {', '.join(names)}.{nearest(str(word), names)}"
