"""A published layout as data: the tables in `layouts/*.toml`, read into `Layout`."""

import dataclasses
import functools
import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from .axes import AXES, BLOCK, tokens_of


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of a published file.

    Arguments:
        theirs: its name there; `{i}` counts the blocks.
        axes: its axes there; several patterns where versions differ.
        ours: the weights in it. More than one when the file keeps them in one array;
            then the axis `n` counts them. With an axis `L` the blocks are in one array.
    """

    theirs: str
    axes: tuple[str, ...]
    ours: tuple[str, ...]

    @property
    def stacked(self) -> bool:
        """Whether all blocks are in one array."""
        return "L" in tokens_of(self.axes[0])

    @functools.cached_property
    def pattern(self) -> re.Pattern:
        """Matches the names of this row, `i` being the number of the block."""
        return re.compile(re.escape(self.theirs).replace(r"\{i\}", r"(?P<i>\d+)"))

    def weights(self, block: int | None, blocks: int) -> list[str]:
        """Paths of ours in one array, in the order of its counting axis."""
        if self.stacked:
            return [self.ours[0].format(i=i) for i in range(blocks)]
        return [path.format(i=block) for path in self.ours]

    def axes_for(self, shape) -> str:
        """The pattern with as many axes as an array of this shape."""
        fitting = [a for a in self.axes if len(tokens_of(a)) == len(shape)]
        return fitting[0] if fitting else self.axes[0]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A published way to name and shape the weights of a ViT.

    Arguments:
        name: as `save_checkpoint(layout=...)` and the reports call it.
        title: who writes such files.
        rows: its arrays.
        prefixes: what may stand before every name.
        renamed: what to replace in names then: regular expression, replacement and,
            if it depends on that, a name that must be in the file.
        ignored: regular expressions of names that are no weights of the network.
        resize: how its authors resize positions and patches, see `resize.METHODS`.
        resize_with: the same, for files that hold a certain weight of ours.
        settings: name of the JSON settings that come with it, see `settings.READERS`.
        suffix: of the files that `save_checkpoint` writes; None if it writes none.
        written_prefix: before the names of a classifier's backbone that it writes.
        position_tokens: prefix tokens that have positions; None where all or none
            have.
        defaults: fields of `ViTConfig` that such a file implies and does not tell.
        implied: the same, for files that hold a certain weight of ours.
        fixed: fields that its library sets by itself; a written model with another
            value gives slightly other outputs there, and a warning says so.
        needs: values that a model must have to be written, by field of `ViTConfig`.
        needs_with: the same, for models that hold a certain weight of ours.
        biasless: a weight of ours; with it the library's patches have no bias, and a
            written file has it in the positions.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    prefixes: tuple[str, ...] = ()
    renamed: tuple[list[str], ...] = ()
    ignored: tuple[str, ...] = ()
    resize: str = "bicubic"
    resize_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: str | None = None
    suffix: str | None = None
    written_prefix: str = ""
    position_tokens: tuple[str, ...] | None = None
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    implied: Mapping[str, dict] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs: Mapping[str, list] = dataclasses.field(default_factory=dict)
    needs_with: Mapping[str, dict] = dataclasses.field(default_factory=dict)
    biasless: str | None = None

    def plain_names(self, names) -> dict[str, str]:
        """Each name of a file as the table has it, if it is one of this layout."""
        plain = {}
        for name in names:
            prefix = next((p for p in self.prefixes if name.startswith(p)), "")
            plain[name] = name[len(prefix) :]
        for pattern, replacement, *needed in self.renamed:
            if not needed or needed[0] in plain.values():
                plain = {n: re.sub(pattern, replacement, p) for n, p in plain.items()}
        return plain

    def full_name(self, name: str, config) -> str:
        """A name as written: a classifier's backbone has a prefix, its head not."""
        head = name.split(".")[0].endswith("classifier")
        return name if head or not config.include_top else self.written_prefix + name


def _parse_rows(text, their_prefix="", our_prefix=""):
    """Lines `their name | axes | our path` as rows.

    Braces on both sides make a row for each pair; braces on our side alone make one
    row for an array that holds them all.
    """
    for line in text.strip().splitlines():
        theirs, axes, ours = (part.strip() for part in line.split("|"))
        theirs, ours = their_prefix + theirs, our_prefix + ours
        axes = tuple(pattern.strip() for pattern in axes.split(";"))
        if "{" in theirs.replace("{i}", ""):
            for pair in zip(_expand(theirs), _expand(ours), strict=True):
                yield Row(pair[0], axes, (pair[1],))
        else:
            yield Row(theirs, axes, tuple(_expand(ours)))


def _expand(text):
    """`a/{x,y}/b` -> `a/x/b`, `a/y/b`"""
    braces = re.search(r"\{([^{}]*,[^{}]*)\}", text)
    if not braces:
        return [text]
    return [text.replace(braces.group(0), x) for x in braces.group(1).split(",")]


def _read(path):
    with path.open("rb") as file:
        data = tomllib.load(file)
    table = data.pop("weights")
    rows = [
        *_parse_rows(table["model"]),
        *(
            row
            for block in table["block"]
            for row in _parse_rows(block["rows"], block["prefix"], BLOCK + "/")
        ),
    ]
    for key in ("prefixes", "renamed", "ignored", "position_tokens"):
        if key in data:
            data[key] = tuple(data[key])
    return Layout(name=path.stem, rows=tuple(rows), **data)


LAYOUTS: dict[str, Layout] = {
    path.stem: _read(path)
    for path in sorted((pathlib.Path(__file__).parent / "layouts").glob("*.toml"))
}

# A model of this package is its own layout: its names are those of `axes.WEIGHTS`.
OWN = Layout(
    name="vit_keras",
    title="vit_keras (.keras)",
    rows=tuple(Row(path, (axes,), (path,)) for path, axes in AXES.items()),
    resize="bicubic_antialias",
)
