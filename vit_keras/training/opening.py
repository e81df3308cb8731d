"""Opening of labelled data with messages: what was found, left out, and doubtful."""

from typing import Any

from rich.console import Console

from ..data import Splits, open_splits
from ..heads import HEADS


def open_data(
    data: Any,
    strict: bool,
    console: Console,
    held_out: bool = False,
    task: str | None = None,
    part: str | None = None,
) -> Splits:
    """Open data as `open_splits` does, and print its notes and problems.

    Arguments:
        data, held_out: as for `open_splits`.
        strict: raise for problems instead of printing them.
        console: for messages.
        task: of the model, see `create_model`; None is that of the data.
        part: name of the part that is used; None as `Splits.part` chooses.

    Raises:
        ValueError: with `strict`, all problems; those of `open_splits`; or the labels
            are of another task.
    """
    splits = open_splits(data, held_out, task or "classify")
    own = HEADS[splits.part(held_out, part).head].task
    if task is not None and own != task:
        raise ValueError(
            f"`data` must have labels for task={task!r}. Received: labels for the task "
            f"{own!r}"
        )
    if splits.problems and strict:
        raise ValueError(
            "`data` must have no problems when `strict` is set. Received: "
            f"{'; '.join(splits.problems)}"
        )
    notes = list(splits.notes)
    if held_out and len(splits.counts()) > 1:
        notes.append(f"evaluating on the part {splits.name_of_part(held_out, part)}")
    for line in notes:
        console.print(line, markup=False, soft_wrap=True)
    for line in splits.problems:
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    return splits
