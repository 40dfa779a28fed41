"""The tables of a run: what lies beside a record, read with a bound on its size and checked column by column."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import numpy as np

Kind = Literal["text", "whole", "number"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PREDICTION_KINDS: dict[str, Kind] = {
    "image": "text",
    "label": "whole",
    "predicted": "whole",
    "probability": "number",
    "rank": "whole",
}
DIAGNOSTIC_KINDS: dict[str, Kind] = {
    "kind": "text",
    "layer": "text",
    "place": "whole",
    "epoch": "whole",
    "value": "number",
}
LONGEST_TEXT = 4096  # bytes of a cell: no path is longer
MOST_ROWS = 10_000_000  # of a table whose record does not say how many it has


class DamagedTableError(ValueError):
    """A table that is none, or not the one that was expected; its text says why."""


def read_parquet(
    content: bytes, columns: Mapping[str, Kind], most: int = MOST_ROWS, only: Collection[Kind] = KINDS
) -> Any:
    """Return the `columns` of a Parquet file as an Arrow table, or of these those of some kinds alone.

    What the file says of its size is read first: some megabytes may hold hundreds of millions of rows. Raises
    DamagedTableError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [name for name, kind in columns.items() if kind in only]
    texts = [name for name in wanted if columns[name] == "text"]
    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
        _check_sizes(metadata, most)
        check_types(metadata.schema.to_arrow_schema(), columns)
        # As dictionaries: a thousand cells may share one long text, which is then read once.
        file = pq.ParquetFile(pa.BufferReader(content), metadata=metadata, read_dictionary=texts)
        table = file.read(columns=wanted, use_threads=False)
        if texts:
            table.validate(full=True)  # whether text is UTF-8
        for place, name in enumerate(table.column_names):
            if table.column(name).null_count and columns[name] != "number":
                raise DamagedTableError(f"its column {name} has empty cells")
            if columns[name] == "text":
                table = table.set_column(place, name, _plain_text(table.column(name), name))
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise DamagedTableError(f"it is no readable Parquet file: {str(error).splitlines()[0]}") from error
    return table.select(wanted).replace_schema_metadata(None)


def _check_sizes(metadata: Any, most: int) -> None:
    if metadata.num_rows > most:
        raise DamagedTableError(f"it says that it has {metadata.num_rows:,} rows, and at most {most:,} are expected")
    groups = [metadata.row_group(place) for place in range(min(metadata.num_row_groups, 1000))]
    size = sum(group.total_byte_size for group in groups)
    if size > (limit := metadata.num_rows * LONGEST_TEXT + 10_000_000):
        raise DamagedTableError(f"it says that it unpacks to {size:,} bytes, and at most {limit:,} are expected")


def check_types(schema: Any, columns: Mapping[str, Kind]) -> None:
    """Raise DamagedTableError where a table lacks one of the columns, or has another kind of value in it."""
    from pyarrow import types

    wanted = {
        "text": lambda kind: _is_text(kind.value_type if types.is_dictionary(kind) else kind),
        "whole": types.is_integer,
        "number": lambda kind: types.is_floating(kind) or types.is_integer(kind),
    }
    missing = [name for name in columns if schema.names.count(name) != 1]
    if missing:
        raise DamagedTableError(f"it lacks the columns {', '.join(missing)}")
    for name, kind in columns.items():
        found = schema.field(name).type
        if not wanted[kind](found):
            raise DamagedTableError(f"its column {name} holds {found}, expected {_WORDS[kind]}")


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _plain_text(column: Any, name: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    for chunk in column.chunks:
        if len(chunk.dictionary) and pc.max(pc.binary_length(chunk.dictionary)).as_py() > LONGEST_TEXT:
            raise DamagedTableError(f"its column {name} has a cell of more than {LONGEST_TEXT:,} bytes")
    return column.cast(pa.large_string())


_WORDS = {"text": "text", "whole": "whole numbers", "number": "numbers"}


def read_numbers(content: bytes, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the columns of a CSV file that holds numbers alone; an empty cell is NaN. Raises DamagedTableError.

    Those of `columns` have to be there; further ones are read as well.
    """
    header, *lines = content.decode("utf-8", errors="replace").splitlines() or [""]
    names = header.split(",")
    if missing := [name for name in columns if names.count(name) != 1]:
        raise DamagedTableError(f"its first line lacks {', '.join(missing)}")
    rows = [_numbers(line, number, names) for number, line in enumerate(lines, start=2)]
    values = np.array(rows, dtype=float).reshape(len(rows), len(names))
    return {name: values[:, place] for place, name in enumerate(names)}


def _numbers(line: str, number: int, names: list[str]) -> list[float]:
    cells = line.split(",")
    if len(cells) != len(names):
        raise DamagedTableError(f"its line {number} has {len(cells)} cells, expected {len(names)}")
    try:
        if "_" in line:  # which Python takes for a part of a number
            raise ValueError
        return [float(cell) if cell else np.nan for cell in cells]
    except ValueError:
        wrong = next(place for place, cell in enumerate(cells) if not _is_number(cell))
        raise DamagedTableError(
            f"its line {number} has {cells[wrong][:40]!r} for {names[wrong]}, expected a number"
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return "_" not in cell
