"""Opening of labelled data with messages: what was found, left out, and doubtful."""

from typing import Any

from rich.console import Console

from ..data import Splits, open_splits


def open_data(
    data: Any, strict: bool, console: Console, held_out: bool = False
) -> Splits:
    """Open data as `open_splits` does, and print its notes and problems.

    Arguments:
        data, held_out: as for `open_splits`.
        strict: raise for problems instead of printing them.
        console: for messages.

    Raises:
        ValueError: with `strict`, all problems; and those of `open_splits`.
    """
    splits = open_splits(data, held_out)
    if splits.problems and strict:
        raise ValueError(
            "`data` must have no problems when `strict` is set. Received: "
            f"{'; '.join(splits.problems)}"
        )
    notes = list(splits.notes)
    if held_out and len(splits.counts()) > 1:
        notes.append(f"evaluating on the part {splits.name_of_part(held_out)}")
    for line in notes:
        console.print(line, markup=False, soft_wrap=True)
    for line in splits.problems:
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    return splits
