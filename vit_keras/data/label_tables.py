"""Tables of files and labels: `.csv` and JSON lines (`.jsonl`)."""

import csv
import os
import pathlib

import numpy as np

from ..text_files import MOST_OF_DATA, check_size, parse_json, read_text
from .column_labels import labels_of, values_of_texts
from .dataset import Dataset
from .file_checks import file_problems
from .splits import NAMES, PARTS, Splits, same_classes

# What a column is for, and its names; capitals do not matter.
COLUMNS = {
    "file": ("file", "path", "image", "filename"),
    "label": ("label", "labels", "class", "target", "value"),
    "split": ("split",),
}


def open_table(path: str | os.PathLike[str]) -> Splits:
    """Open a table of files and labels, one image per row.

    The columns are those of `COLUMNS`; `split` (train, val, test) may be missing. Files
    are relative to the table's folder, or absolute. In CSV, `|` or `;` separates
    several labels of an image; in JSON they are a list. What the column of labels holds
    decides what they are for:

    | labels | one per image | several |
    |---|---|---|
    | text | "softmax", classes sorted | "multi_label" |
    | only integers | "softmax", classes sorted by number | "multi_label" |
    | only integers, column `target` or `value` | "regression" | "regression" |
    | numbers, not only integers | "regression" | "regression" |

    In CSV a number is an integer if it is written as one: 3, not 3.0; 03 is text. Notes
    say what was decided.

    Raises:
        ValueError: the table cannot be read, has other columns, or a row is wrong.
    """
    path = pathlib.Path(path)
    rows = list(TABLES[path.suffix.lower()](path))
    if not rows:
        raise ValueError(f"'{path}' must hold a row for each image; it has none")
    columns = _columns(rows[0][1], f"'{path}'")
    lines, files, cells, parts = [], [], [], []
    for line, row in rows:
        where = f"'{path}', line {line}:"
        if _columns(row, where) != columns:
            raise ValueError(f"{where} columns must be those of the first row")
        found = {kind: row[name] for kind, name in columns.items()}
        if not isinstance(found["file"], str) or not found["file"]:
            raise ValueError(f"{where} `{columns['file']}` must be the path of a file")
        part = PARTS.get(str(found.get("split", "train")).lower())
        if part is None:
            raise ValueError(
                f"{where} `{columns['split']}` must be one of {', '.join(PARTS)}. "
                f"Received: {found['split']!r}"
            )
        lines.append(where)
        files.append(path.parent / found["file"])
        cells.append(found["label"])
        parts.append(part)
    if path.suffix.lower() == ".csv":
        cells = values_of_texts(cells, lines)
    header = columns["label"]
    labels, classes, head, words = labels_of(cells, header, lines)
    dataset = Dataset(files, labels, classes, head)
    notes = [f"'{path}': `{header}` holds {words}"]
    parts = {
        name: dataset.take(np.flatnonzero(np.array(parts) == name))
        for name in NAMES
        if name in parts
    }
    if "split" in columns:
        counts = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
        notes.append(f"'{path}' has parts: {counts} images")
    if "train" in parts:
        parts = same_classes({name: _used(part) for name, part in parts.items()})
    problems = file_problems(parts, path.parent)
    return Splits(**parts, unlabelled=(), notes=tuple(notes), problems=problems)


def _read_csv(path):
    """Yield (line number, {header: text}) of the rows."""
    check_size(path, MOST_OF_DATA)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            _columns(reader.fieldnames or (), f"'{path}'")
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(
                        f"'{path}', line {reader.line_num}: a row must have "
                        f"{len(reader.fieldnames or ())} columns, as the first line"
                    )
                yield reader.line_num, {k: text.strip() for k, text in row.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' must be CSV in UTF-8: {error}") from error


def _read_jsonl(path):
    """Yield (line number, {key: value}) of the lines that are not empty."""
    lines = read_text(path, MOST_OF_DATA).split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = parse_json(line, f"'{path}', line {number}:")
        if not isinstance(row, dict):
            raise ValueError(f"'{path}', line {number}: each line must be an object")
        yield number, row


TABLES = {".csv": _read_csv, ".jsonl": _read_jsonl}


def _columns(names, where):
    """Return {kind: name} of the columns."""
    found = {}
    for kind, valid in COLUMNS.items():
        same = [name for name in names if name.strip().lower() in valid]
        if len(same) == 1:
            found[kind] = same[0]
    if len(found) < len(names) or not {"file", "label"} <= set(found):
        table = "; ".join(f"{kind}: {', '.join(v)}" for kind, v in COLUMNS.items())
        raise ValueError(
            f"{where} must have one column of files, one of labels, at most one of "
            f"splits, and no others. Valid names: {table}. "
            f"Received: {', '.join(names)}"
        )
    return found


def _used(part):
    """Drop the classes that no image of a part has."""
    if part.head == "regression":
        return part
    labels = part.labels
    if part.head == "softmax":
        names, numbers = np.unique(labels, return_inverse=True)
        classes = tuple(part.classes[i] for i in names)
        return Dataset(part.images, numbers, classes, part.head)
    names = np.flatnonzero(labels.any(axis=0))
    classes = tuple(part.classes[i] for i in names)
    return Dataset(part.images, labels[:, names], classes, part.head)
