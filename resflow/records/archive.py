"""Archives: the trials of a run in one file, small enough to commit, in place of a folder a trial.

    results/<run>/trials/packed.zip       a ZIP archive, its members compressed by LZMA
        format.json                       the format's version, and how to read it
        records.jsonl                     a line a trial: what its record.json held, with digests of its rows below
        history/, predictions/, diagnostics/
            <column>.npy                  a value a row, as NumPy writes arrays; the rows of a trial follow each other
            <column>.json                 of a column of text: the distinct texts, whose places are in its .npy

The first column, `id`, says whose row it is. All values are those of the trials' own tables but one: `probability_code`
stands for the probability (`rounding`).
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import from_json

from resflow import reading, workspace
from resflow.errors import RecordError
from resflow.records import rounding
from resflow.records.tables import DIAGNOSTIC_KINDS, PREDICTION_KINDS, Kind, check_types

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
ABOUT = (
    "The trials of a run of resflow. records.jsonl has a line a trial. In each folder <column>.npy has a value a row "
    "(numpy.load); where <column>.json is there it lists texts, and the .npy has places in that list. "
    f"probability = 0.5 ** (probability_code / {rounding.STEPS}); {rounding.LAST} stands for 0."
)
HEAD, RECORDS = "format.json", "records.jsonl"
HISTORY, PREDICTIONS, DIAGNOSTICS = TABLES = ("history", "predictions", "diagnostics")
CODE = "probability_code"
KINDS: Mapping[str, Mapping[str, Kind]] = {  # of each table the columns that have to be there
    HISTORY: {"id": "text"},
    PREDICTIONS: {
        "id": "text",
        **{CODE if name == "probability" else name: kind for name, kind in PREDICTION_KINDS.items()},
    },
    DIAGNOSTICS: {"id": "text", **DIAGNOSTIC_KINDS},
}
LARGEST, UNPACKED = 256 * reading.MEGABYTE, 2048 * reading.MEGABYTE  # bytes of an archive, and of what it unpacks to
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no time of day: the same trials give the same bytes

Values = Mapping[str, Any]  # the content of a record.json


class DamagedArchiveError(ValueError):
    """An archive that is none, or that contradicts itself; its text says why."""


@dataclass(frozen=True)
class Archive:
    """What an archive holds: the content of each record by trial id, and tables of all trials' rows as stored."""

    records: Mapping[str, Values]
    tables: Mapping[str, pa.Table]

    def count(self, name: str, trial_id: str) -> int:
        """Return how many rows of a table a trial has."""
        return self._places.get(name, {}).get(trial_id, (0, 0))[1]

    def stored(self, name: str, trial_id: str) -> pa.Table | None:
        """Return a trial's rows of a table as they are stored; None where it has none."""
        place = self._places.get(name, {}).get(trial_id)
        return None if place is None else self.tables[name].slice(*place).drop_columns(["id"])

    def table(self, name: str, trial_id: str) -> pa.Table | None:
        """Return a trial's rows of a table as its own file had them; None where it has none."""
        stored = self.stored(name, trial_id)
        return None if stored is None else _from_stored(stored)

    def joined(self, name: str, trial_ids: Iterable[str]) -> pa.Table:
        """Return the rows of trials that have any, one after the other."""
        import pyarrow as pa

        return _from_stored(pa.concat_tables([table for key in trial_ids if (table := self.stored(name, key))]))

    @cached_property
    def _places(self) -> dict[str, dict[str, tuple[int, int]]]:
        return {name: _find_places(table) for name, table in self.tables.items()}


def make_archive(parts: Iterable[tuple[Values, Mapping[str, pa.Table]]]) -> Archive:
    """Return the archive of some trials: the content of each one's record, and its tables as stored (`to_stored`)."""
    import pyarrow as pa

    records: dict[str, Values] = {}
    rows: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
    for values, tables in parts:
        records[values["id"]] = values
        for name, table in tables.items():
            ids = pa.array([values["id"]] * table.num_rows, pa.string()).dictionary_encode()
            rows[name].append(table.add_column(0, "id", ids))
    joined = {name: pa.concat_tables(parts, promote_options="permissive") for name, parts in rows.items() if parts}
    return Archive(
        records,
        {name: table.unify_dictionaries().combine_chunks() for name, table in joined.items() if table.num_rows},
    )


def to_stored(name: str, table: pa.Table) -> pa.Table:
    """Return a trial's table in the precision in which archives keep it."""
    import pyarrow as pa

    columns = {}
    for column in table.column_names:
        values = table.column(column)
        if name == PREDICTIONS and column == "probability":
            columns[CODE] = pa.chunked_array([rounding.encode(values.to_numpy())])
        elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            columns[column] = values.cast(pa.string()).dictionary_encode()
        elif pa.types.is_floating(values.type):
            columns[column] = values.cast(pa.float64())
        else:
            columns[column] = values.cast(pa.int64())
    return pa.table(columns)


def _from_stored(stored: pa.Table) -> pa.Table:
    import pyarrow as pa

    columns = {}
    for column in stored.column_names:
        values = stored.column(column)
        if column == CODE:
            columns["probability"] = pa.chunked_array([rounding.decode(values.to_numpy())])
        elif pa.types.is_dictionary(values.type):
            columns[column] = values.cast(pa.large_string())
        else:
            columns[column] = values if pa.types.is_floating(values.type) else values.cast(pa.int64())
    return pa.table(columns)


def content_digest(stored: pa.Table) -> str:
    """Return the digest of a trial's rows, whichever numbers' width or order of texts they are stored in."""
    whole = hashlib.sha256()
    for name in sorted(stored.column_names):
        contents = list(_digested(stored.column(name)))
        if contents:
            whole.update(json.dumps([name, stored.num_rows]).encode())
        for content in contents:
            whole.update(content)
    return whole.hexdigest()


def _digested(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """Yield the bytes that stand for the values of a column; none where all are missing, as other trials' columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        texts = column.cast(pa.large_string()).combine_chunks()
        yield pc.binary_length(texts).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
        yield memoryview(texts.buffers()[2] or b"")
    else:
        numbers = column.to_numpy().astype("<f8")
        missing = np.isnan(numbers)
        if not missing.all():
            yield np.where(missing, np.nan, numbers).tobytes()  # one bit pattern for all that are missing


def write(path: Path, archive: Archive) -> None:
    """Write an archive to a path, which is a draft of `atomic`. Raises OSError."""
    lines = [json.dumps(values, separators=(",", ":")) + "\n" for values in archive.records.values()]
    members: dict[str, bytes] = {
        HEAD: (json.dumps({"format": FORMAT, "about": ABOUT}) + "\n").encode(),
        RECORDS: "".join(lines).encode(),
    }
    for name, table in archive.tables.items():
        for column in table.column_names:
            members |= {f"{name}/{column}{suffix}": content for suffix, content in _members(table.column(column))}
    with zipfile.ZipFile(path, "w") as file:
        for member, content in members.items():
            info = zipfile.ZipInfo(member, _EPOCH)
            info.external_attr = 0o644 << 16
            file.writestr(info, content, zipfile.ZIP_LZMA)


def _members(column: pa.ChunkedArray) -> Iterator[tuple[str, bytes]]:
    """Yield the suffix and the content of each member that holds a column."""
    import pyarrow as pa

    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        yield ".json", json.dumps(values.dictionary.to_pylist(), separators=(",", ":")).encode()
        values = values.indices
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind in "iu" and len(numbers):
        numbers = numbers.astype(np.result_type(np.min_scalar_type(numbers.min()), np.min_scalar_type(numbers.max())))
    content = io.BytesIO()
    np.lib.format.write_array(content, numbers.astype(numbers.dtype.newbyteorder("<")), allow_pickle=False)
    yield ".npy", content.getvalue()


def open_archive(run: Path) -> Archive | None:
    """Read the archive of a run's trials; None where it has none. Raises RecordError where it is damaged."""
    path = workspace.archive_path(run)
    if not path.exists():
        return None
    try:
        return read(path)
    except (OSError, DamagedArchiveError) as error:
        raise RecordError(
            f"{path} cannot be read ({error}): it holds trials of this run. Restore it, from version control say; or "
            "remove it and run the study again, which runs its trials again."
        ) from error


def read(path: Path) -> Archive:
    """Read an archive. Raises OSError, DamagedArchiveError; whether its content is as written, digests say."""
    return _parse(reading.read(path, LARGEST))


@lru_cache(maxsize=2)  # a search asks for one record after the other
def _parse(content: bytes) -> Archive:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if sum(member.file_size for member in file.infolist()) > UNPACKED:
                raise DamagedArchiveError(f"it unpacks to more than {UNPACKED:,} bytes")
            version = from_json(file.read(HEAD)).get("format")
            if version != FORMAT:
                raise DamagedArchiveError(f"its format is {version!r}, this resflow reads {FORMAT}: upgrade resflow")
            records = [from_json(line) for line in file.read(RECORDS).splitlines()]
            names = [tuple(name.removesuffix(".npy").split("/")) for name in file.namelist() if name.endswith(".npy")]
            tables = {
                table: _read_table(file, table, [column for one, column in names if one == table])
                for table in TABLES
                if any(one == table for one, _ in names)
            }
        archive = Archive({str(values["id"]): values for values in records}, tables)
        if len(archive.records) < len(records):
            raise DamagedArchiveError("it has a trial twice")
        if odd := [name for name in archive.records if not re.fullmatch(r"\w[\w.-]*", name)]:  # ids become paths
            raise DamagedArchiveError(f"it has a trial that is called {odd[0][:40]!r}")
        if any(trial not in archive.records for places in archive._places.values() for trial in places):
            raise DamagedArchiveError("it has rows of a trial that it has no record of")
        return archive
    except DamagedArchiveError:
        raise
    except (
        *(zipfile.BadZipFile, lzma.LZMAError, EOFError, ValueError, KeyError, TypeError, AttributeError),
        *(RuntimeError, MemoryError, OverflowError, IndexError, SyntaxError),  # zipfile's and NumPy's, of odd headers
    ) as error:
        raise DamagedArchiveError(f"it is no archive of trials: {error}") from error


def _read_table(file: zipfile.ZipFile, table: str, names: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    columns = {}
    for name in names:
        member = f"{table}/{name}.npy"
        numbers = np.lib.format.read_array(io.BytesIO(file.read(member)), allow_pickle=False)
        texts = f"{table}/{name}.json"
        is_text = texts in file.namelist()
        if numbers.ndim != 1 or numbers.dtype.kind not in ("iu" if is_text else "iuf"):
            raise DamagedArchiveError(f"{member} holds no column of numbers")
        if name == CODE and numbers.dtype != np.uint8:
            raise DamagedArchiveError(f"{member} holds {numbers.dtype}, expected bytes")
        if is_text:
            values = pa.array(from_json(file.read(texts)), pa.string())
            columns[name] = pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), values)
        else:
            columns[name] = pa.array(numbers)
    whole = pa.table(columns)  # raises where they differ in length
    check_types(whole.schema, KINDS[table])
    return whole


def _find_places(table: pa.Table) -> dict[str, tuple[int, int]]:
    """Return trial id -> the first of its rows and their number."""
    ids = table.column("id").combine_chunks()
    codes = ids.indices.to_numpy()
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])) if len(codes) else np.array([], dtype=int)
    lengths = np.diff(np.append(starts, len(codes)))
    names = ids.dictionary.to_pylist()
    places = {names[codes[start]]: (int(start), int(length)) for start, length in zip(starts, lengths, strict=True)}
    if len(places) < len(starts):
        raise DamagedArchiveError("the rows of a trial do not follow each other")
    return places
