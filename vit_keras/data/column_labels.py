"""What the column of labels of a table is for: classes, several classes, numbers."""

import re
from typing import Any

import numpy as np

# Names of a label's column whose integers are numbers, not classes.
TARGETS = ("target", "value")
SEPARATORS = re.compile("[|;]")
INTEGER = re.compile(r"-?(0|[1-9]\d*)")
DIGITS = re.compile(r"[+-]?\d+")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
LARGEST = float(np.finfo("float32").max)


def values_of_texts(cells: list[str], lines: list[str]) -> list[Any]:
    """Convert the texts of a CSV column to JSON's values.

    Arguments:
        cells: texts, with `|` or `;` between several labels.
        lines: where each of them is, for messages.

    Returns:
        Texts, integers or numbers, all of one kind; if a cell has several, lists.

    Raises:
        ValueError: there are decimal numbers and text.
    """
    several = any(SEPARATORS.search(cell) for cell in cells)
    lists = [SEPARATORS.split(cell) for cell in cells]
    lists = [[text.strip() for text in texts if text.strip()] for texts in lists]
    found = [text for texts in lists for text in texts]
    decimals = [t for t in found if NUMBER.fullmatch(t) and not DIGITS.fullmatch(t)]
    kind = str
    if found and all(INTEGER.fullmatch(text) for text in found):
        kind = int
    elif decimals:
        kind = float
        for texts, where in zip(lists, lines, strict=True):
            for text in texts:
                if not NUMBER.fullmatch(text):
                    raise ValueError(
                        f"{where} labels must be all numbers or all text. "
                        f"Received: {text!r}, and {decimals[0]} elsewhere"
                    )
    lists = [[kind(text) for text in texts] for texts in lists]
    return lists if several else [values[0] if values else "" for values in lists]


def labels_of(
    cells: list[Any], header: str, lines: list[str]
) -> tuple[np.ndarray, tuple[str, ...], str, str]:
    """Understand a column of labels.

    Arguments:
        cells: a JSON value or a list of them for each image.
        header: name of the column.
        lines: where each of them is, for messages.

    Returns:
        (labels, classes, head), as in `Dataset`, and in words what was found.

    Raises:
        ValueError: labels are of several kinds, empty, or not equally many numbers.
    """
    several = any(isinstance(cell, list) for cell in cells)
    lists = [cell if isinstance(cell, list) else [cell] for cell in cells]
    kind = _kind(lists, lines)
    if kind is float or (kind is int and header.lower() in TARGETS):
        labels = _numbers(lists, lines)
        words = f"numbers: regression of {labels.shape[1]} per image"
        return labels, target_names(labels.shape[1]), "regression", words
    names = sorted({value for values in lists for value in values})
    if len(names) < 2:
        raise ValueError(
            f"`{header}` must hold two classes at least. Received: {names}"
        )
    words = f"text: {len(names)} classes"
    if kind is int:
        words = f"integers: {len(names)} classes (for regression name it {TARGETS[0]})"
    index = {name: i for i, name in enumerate(names)}
    classes = tuple(map(str, names))
    if not several:
        labels = np.array([index[value] for (value,) in lists])
        return labels, classes, "softmax", words
    labels = np.zeros((len(lists), len(names)), "float32")
    for row, values, where in zip(labels, lists, lines, strict=True):
        if len(set(values)) < len(values):
            raise ValueError(
                f"{where} each label must be given once, by its name. "
                f"Received: {values}"
            )
        row[[index[value] for value in values]] = 1
    return labels, classes, "multi_label", f"lists of {words}, multi-label"


def target_names(number: int) -> tuple[str, ...]:
    """Return the names of the targets of a regression that has none."""
    return ("value",) if number == 1 else tuple(f"value_{i}" for i in range(number))


def _kind(lists, lines):
    """Return the type that all values have; integers may be among floats."""
    kinds = []
    for values, where in zip(lists, lines, strict=True):
        for value in values:
            kind = type(value)
            text = bool(kinds) and kinds[0] is str
            if kind not in (str, int, float) or (kinds and (kind is str) != text):
                raise ValueError(
                    f"{where} labels must be all numbers or all text, or lists of "
                    f"these. Received: {value!r}"
                )
            if value == "":
                raise ValueError(f"{where} a label must not be empty")
            kinds.append(kind)
    if not kinds:
        raise ValueError(f"{lines[0]} an image must have labels, here or below")
    return float if float in kinds else kinds[0]


def _numbers(lists, lines):
    """Return lists of numbers as float32 (N, K)."""
    number = len(lists[0])
    for values, where in zip(lists, lines, strict=True):
        if len(values) != number or not all(abs(v) <= LARGEST for v in values):
            raise ValueError(
                f"{where} labels must be {number} finite numbers, as many as in the "
                f"first row. Received: {values}"
            )
    return np.array(lists, "float32")
