"""The parts of a data source: for training, validation and test."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from .dataset import Dataset, match_classes

NAMES = ("train", "validation", "test")
# Their names in folders and tables; capitals do not matter.
PARTS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
# So many examples are named in a line.
SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Splits:
    """The parts of a data source, all with the same classes.

    Attributes:
        train, validation, test: the parts; None for one that the source does not have,
            or that was not opened.
        notes: lines that say what was found, and how it was understood.
        problems: lines that name and count what was left out, or is doubtful.
        unlabelled: names of parts that the source has without labels.
    """

    train: Dataset | None = None
    validation: Dataset | None = None
    test: Dataset | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()

    def part(self, held_out: bool, chosen: str | None = None) -> Dataset:
        """Return the part to train on, or to evaluate on.

        Arguments:
            held_out: the test part if there is one, else the validation part; all of
                a source that has no parts.
            chosen: name of the part to return instead.

        Raises:
            ValueError: there is nothing to train on, or no part `chosen`; or the part
                to evaluate on has no labels, where another one would take its place.
        """
        return getattr(self, self.name_of_part(held_out, chosen))

    def name_of_part(self, held_out: bool, chosen: str | None = None) -> str:
        """Return the name of what `part` returns."""
        there = self.counts()
        if chosen is not None:
            if chosen not in there:
                raise ValueError(
                    f"`part` must be one of {', '.join(there)}, which have labels. "
                    f"Received: part={chosen!r}"
                )
            return chosen
        wanted = ("test", "validation", "train") if held_out else ("train",)
        for name in wanted:
            if name in there:
                return name
            if held_out and name in self.unlabelled:
                others = ", ".join(f"{n} ({number})" for n, number in there.items())
                raise ValueError(
                    f"`data` must have labels in its part {name}, to be evaluated on. "
                    f"There are labels in {others}: `part` (--part) chooses one"
                )
        raise ValueError(
            f"`data` must hold images to train on. Received only: {', '.join(there)}"
        )

    def counts(self) -> dict[str, int]:
        """Return {name of the part: number of images} of those that there are."""
        parts = ((name, getattr(self, name)) for name in NAMES)
        return {name: len(part) for name, part in parts if part is not None}


def same_classes(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Number the classes of all parts as those of "train".

    Raises:
        ValueError: "train" lacks a class that another part has.
    """
    names = parts["train"].classes
    for name, part in parts.items():
        unknown = [k for k in part.classes if k not in names]
        if unknown:
            raise ValueError(
                "`data` must have each class in its training part. "
                f"train lacks: {', '.join(unknown)} (of {name})"
            )
    return {name: match_classes(part, names) for name, part in parts.items()}


def summary(words: str, examples: Iterable[object]) -> str:
    """Count examples and name the first of them: "words: 5 (a, b, c, ...)"."""
    examples = [str(example) for example in examples]
    more = ["..."] if len(examples) > SHOWN else []
    return f"{words}: {len(examples)} ({', '.join(examples[:SHOWN] + more)})"


def summaries(found: Mapping[str, Sequence[object]]) -> tuple[str, ...]:
    """Return the lines of {words: examples} that have examples."""
    return tuple(summary(words, given) for words, given in found.items() if given)
