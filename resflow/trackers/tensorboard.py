"""TensorBoard: a folder a trial, which TensorBoard shows as a run, and one of the study.

Events are written with TensorBoard's own messages and file format, without TensorFlow: a process beside the trials has
no use for a second one. What a folder has is read from its event files; each process adds one of its own.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.compat.tensorflow_stub import errors, pywrap_tensorflow
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams.metadata import NULL_TENSOR, SESSION_END_INFO_TAG, create_summary_metadata
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from resflow import workspace
from resflow.trackers.tracker import Row, Seen, StudyEnd, TrialEnd, TrialStart

FOLDER = "tensorboard"
EPOCH = "epoch/"  # before the name of an epoch's figure
STATUS, REASON, REPORT = "status", "reason", "report"  # texts


class EventFile:
    """An event file of this process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.resflow"  # later files are read later
        self.writer = RecordWriter((folder / name).open("xb"))
        self._write(file_version="brain.Event:2")

    def write(self, summary: Any, step: int = 0) -> None:
        """Write a summary; whoever reads the file has it at once."""
        self._write(summary=summary, step=step)

    def close(self) -> None:
        self.writer.close()

    def _write(self, **event: Any) -> None:
        self.writer.write(event_pb2.Event(wall_time=time.time(), **event).SerializeToString())
        self.writer.flush()


class TensorBoard:
    """Event files below `state`."""

    def __init__(self, state: Path) -> None:
        self.folder = state / FOLDER
        self.destination = str(self.folder)
        self.files: dict[str, EventFile] = {}  # by id of an open trial

    def find(self, trial: TrialStart) -> Seen:
        last, status = 0, ""
        for event in _read_events(self._place(trial)):
            for value in event.summary.value:
                if value.tag.startswith(EPOCH):
                    last = max(last, event.step)
                elif value.tag == STATUS:
                    status = value.tensor.string_val[0].decode()
        return Seen(last, status)

    def begin(self, trial: TrialStart) -> None:
        place = self._place(trial)
        is_new = not place.exists()
        self.files[trial.id] = EventFile(place)
        if is_new:
            self.files[trial.id].write(hparams_pb({**trial.tags, **trial.parameters}, trial_id=trial.id))

    def log_epochs(self, trial: TrialStart, rows: Sequence[Row]) -> None:
        for row in rows:
            figures = {f"{EPOCH}{name}": value for name, value in row.items() if name != "epoch"}
            self.files[trial.id].write(_scalars(figures), int(row["epoch"]))

    def end(self, trial: TrialStart, end: TrialEnd) -> None:
        parts = [_scalars(end.metrics), _session_end(end.is_good), text_pb(STATUS, end.status)]
        parts += [text_pb(REASON, end.reason)] if end.reason else []
        file = self.files.pop(trial.id)
        file.write(summary_pb2.Summary(value=[value for part in parts for value in part.value]))  # whole or not at all
        file.close()

    def log_study(self, study: StudyEnd) -> None:
        place = self.folder / study.run
        texts = {value.tag: value.tensor for event in _read_events(place) for value in event.summary.value}
        if REPORT in texts and texts[REPORT].string_val[0].decode() == study.digest:
            return
        shutil.rmtree(place, ignore_errors=True)  # an older report, of fewer trials
        file = EventFile(place)
        for name, path in study.files.items():
            if name == workspace.README:
                file.write(text_pb(name, path.read_text(encoding="utf-8")))
            elif path.suffix == ".png":
                file.write(_picture(name, path))
        file.write(text_pb(REPORT, study.digest))
        file.close()

    def close(self) -> None:
        """Do nothing: each event is on the disk."""

    def _place(self, trial: TrialStart) -> Path:
        """Return a trial's folder, whatever its arm is called now: the id stands last in its name."""
        known = next(self.folder.glob(f"*-{trial.id}"), None)
        arm = re.sub(r"[^\w.-]+", "_", trial.arm)[:80]
        return known or self.folder / f"{arm}-seed{trial.seed}-{trial.id}"


def _scalars(values: Mapping[str, float]) -> Any:
    return summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    )


def _picture(name: str, path: Path) -> Any:
    with Image.open(path) as opened:
        width, height = opened.size
    image = summary_pb2.Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=path.read_bytes())
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=name, image=image)])


def _session_end(is_good: bool) -> Any:
    """Return what tells the table of hyperparameters how a trial ended."""
    status = api_pb2.STATUS_SUCCESS if is_good else api_pb2.STATUS_FAILURE
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    metadata = create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=info))
    value = summary_pb2.Summary.Value(tag=SESSION_END_INFO_TAG, metadata=metadata, tensor=NULL_TENSOR)
    return summary_pb2.Summary(value=[value])


def _read_events(folder: Path) -> Iterator[Any]:
    """Yield the events in a folder, file by file; one ends where a killed process left half an event."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        reader = pywrap_tensorflow.PyRecordReader_New(str(path))
        try:
            while True:
                reader.GetNext()
                yield event_pb2.Event.FromString(reader.record())
        except (errors.OutOfRangeError, errors.DataLossError):
            continue
