"""Published layouts as data: `layouts/*.toml`, read into `Layout`."""

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
        theirs: its name in the file; `{i}` counts the blocks.
        axes: its axes; several patterns if versions differ.
        ours: paths of our weights in it. If there are several, the axis `n` counts
            them. With an axis `L`, all blocks are in one array.
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
        """Regular expression of this row's names; group `i` is the block number."""
        return re.compile(re.escape(self.theirs).replace(r"\{i\}", r"(?P<i>\d+)"))

    def weights(self, block: int | None, blocks: int) -> list[str]:
        """Return our paths in one array, in the order of its counting axis."""
        if self.stacked:
            return [self.ours[0].format(i=i) for i in range(blocks)]
        return [path.format(i=block) for path in self.ours]

    def axes_for(self, shape) -> str:
        """Return the pattern with as many axes as a shape."""
        fitting = [a for a in self.axes if len(tokens_of(a)) == len(shape)]
        return fitting[0] if fitting else self.axes[0]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A published way to name and shape the weights of a ViT.

    Its file may take the rows of other ones, `rows_from`.

    Arguments:
        name: as in `save_checkpoint(layout=...)` and in reports.
        title: libraries that write such files.
        rows: its arrays.
        prefixes: possible prefixes of all names.
        renamed: replacements in names without prefix: regular expression, replacement
            and, optionally, a name that must be in the file.
        ignored: regular expressions of names that are no weights of the network.
        zeros: those of names that must hold nothing but 0, where others would compute
            something that our models do not.
        optional: of our weights the biases that its library can switch off: where a
            file has one in no block, they are zeros.
        refused: {regular expression: why a file with such a name is none of ours}.
        folded: {batch norm: the layer behind it}, which are loaded as one layer.
        resize: how its authors resize positions and patches, see `resize.METHODS`.
        resize_with: {one of our weights: `resize` of files that have it}.
        settings: name of its JSON settings, see `settings.READERS`.
        suffix: of the files that `save_checkpoint` writes; None if it cannot.
        written_prefix: prefix of the backbone's names in written classifiers.
        undecided: fields of `ViTConfig` that its library can set and no array tells.
        decided_by: one of them that its JSON tells just if the network is known there.
        without_positions: `positions` of a file that has none; None if there must be
            some.
        position_tokens: prefix tokens with positions; None if either all or none have
            them.
        defaults: fields of `ViTConfig` that such a file implies without storing them.
        implied: {one of our weights: `defaults` of files that have it}.
        fixed: fields that its library sets by itself; if a written model has another
            value, outputs differ slightly there, and a warning says so.
        needs: {field of `ViTConfig`: values that can be written}.
        needs_with: {one of our weights: `needs` of models that have it}.
        biasless: one of our weights; with it the library's patches have no bias, and a
            written file has it in the positions.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    prefixes: tuple[str, ...] = ()
    renamed: tuple[list[str], ...] = ()
    ignored: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resize: str = "bicubic"
    resize_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: str | None = None
    suffix: str | None = None
    written_prefix: str = ""
    undecided: tuple[str, ...] = ()
    decided_by: str | None = None
    without_positions: str | None = None
    position_tokens: tuple[str, ...] | None = None
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    implied: Mapping[str, dict] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs: Mapping[str, list] = dataclasses.field(default_factory=dict)
    needs_with: Mapping[str, dict] = dataclasses.field(default_factory=dict)
    biasless: str | None = None

    def plain_names(self, names) -> dict[str, str]:
        """Return {name in a file: name in the table}, without prefixes and renamed."""
        plain = {}
        for name in names:
            prefix = next((p for p in self.prefixes if name.startswith(p)), "")
            plain[name] = name[len(prefix) :]
        for pattern, replacement, *needed in self.renamed:
            if not needed or needed[0] in plain.values():
                plain = {n: re.sub(pattern, replacement, p) for n, p in plain.items()}
        return plain

    def implies(self, weights) -> dict[str, Any]:
        """Return the fields of `ViTConfig` that a file with these weights implies."""
        fields = dict(self.defaults)
        for weight, more in self.implied.items():
            fields |= more if weight in weights else {}
        return fields

    def full_name(self, name: str, config) -> str:
        """Return a name as written: in classifiers all but the head has a prefix."""
        head = name.split(".")[0].endswith("classifier")
        return name if head or not config.include_top else self.written_prefix + name


def _parse_rows(text, their_prefix="", our_prefix=""):
    """Parse lines `their name | axes | our path` to rows.

    Braces on both sides make a row for each pair; braces on our side only make one row
    for an array with all of them.
    """
    for line in filter(None, text.splitlines()):
        theirs, axes, ours = (part.strip() for part in line.split("|"))
        theirs, ours = their_prefix + theirs, our_prefix + ours
        axes = tuple(pattern.strip() for pattern in axes.split(";"))
        if "{" in theirs.replace("{i}", ""):
            for pair in zip(_expand(theirs), _expand(ours), strict=True):
                yield Row(pair[0], axes, (pair[1],))
        else:
            yield Row(theirs, axes, tuple(_expand(ours)))


def _expand(text):
    """Expand braces: `a/{x,y}/b` -> `a/x/b`, `a/y/b`; the last ones first."""
    braces = re.search(r"\{([^{}]*,[^{}]*)\}", text)
    if not braces:
        return [text]
    start, end = text[: braces.start()], text[braces.end() :]
    return [
        start + choice + rest
        for choice in braces.group(1).split(",")
        for rest in _expand(end)
    ]


def _read(path):
    data = _load(path)
    rows, ignored = list(_rows_of(data)), list(data.get("ignored", ()))
    for name in data.pop("rows_from", ()):
        more = _load(FOLDER / f"{name}.toml")
        rows += _rows_of(more)
        ignored += more.get("ignored", ()) if name.startswith("parts/") else ()
    data |= {"rows": rows, "ignored": ignored}
    data.pop("weights", None)
    for key, value in data.items():
        if isinstance(value, list):
            data[key] = tuple(value)
    return Layout(name=path.stem, **data)


def _load(path):
    with path.open("rb") as file:
        return tomllib.load(file)


def _rows_of(data):
    """Return the rows of a file: its own table, then that of each block."""
    table = data.get("weights", {"model": ""})
    yield from _parse_rows(table["model"])
    for block in table.get("block", ()):
        ours = block.get("ours", BLOCK + "/")
        yield from _parse_rows(block["rows"], block["prefix"], ours)


FOLDER = pathlib.Path(__file__).parent / "layouts"
LAYOUTS: dict[str, Layout] = {
    path.stem: _read(path) for path in sorted(FOLDER.glob("*.toml"))
}

# The layout of this package's own models, whose names are those of `axes.WEIGHTS`.
OWN = Layout(
    name="vit_keras",
    title="vit_keras (.keras)",
    rows=tuple(Row(path, (axes,), (path,)) for path, axes in AXES.items()),
    resize="bicubic_antialias",
    without_positions="sincos2d",
)
