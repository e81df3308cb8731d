"""Recognition of a file's layout from its names and shapes."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .axes import BLOCK, bind, tokens_of
from .decoder_axes import FIXED
from .entries import CheckpointError, Entry
from .folding import fold_batch_norms
from .formats import Checkpoint
from .layout import LAYOUTS, OWN, Layout, Row
from .refused_networks import REFUSED, refuse_others
from .told import is_readable, read_settings, undecided

# Weights that every supported ViT has.
CORE = ("embedding/kernel", "encoderblock_0/attention/query/kernel")
# Weights that are skipped if the classes differ.
HEAD = ("pre_logits", "head", "head_dist")


def in_head(path) -> bool:
    """Return whether one of our weights is of the head, or of the decoder."""
    part = path.split("/")[0]
    return part in HEAD or part.startswith("decoder_")


@dataclasses.dataclass(frozen=True)
class Match:
    """A checkpoint in the terms of its layout.

    Arguments:
        checkpoint: the open file.
        layout: the layout that fits best.
        arrays: name in the file -> its row, and our weights in it.
        weights: our path -> name in the file.
        sizes: size of each letter of `axes`, and L, the number of blocks.
        misfits: our path -> error of the shape in the file.
        unused: names that the layout does not have.
        zeros: names of arrays that must hold nothing but 0.
        told: fields of `ViTConfig` that the JSON files beside it tell.
        undecided: fields that nothing in it decides.
    """

    checkpoint: Checkpoint
    layout: Layout
    arrays: Mapping[str, tuple[Row, list[str]]]
    weights: Mapping[str, str]
    sizes: dict[str, int]
    misfits: dict[str, str]
    unused: tuple[str, ...]
    zeros: tuple[str, ...] = ()
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    undecided: tuple[str, ...] = ()

    def shape(self, path) -> tuple[int, ...]:
        """Return the shape of the file's array with one of our weights."""
        return self.checkpoint.entries[self.weights[path]].shape


def recognise(checkpoint: Checkpoint, *, accept: bool = False) -> Match:
    """Find the layout of a checkpoint by its names, and read its settings.

    Arguments:
        checkpoint: the open file.
        accept: take names of architectures and settings that are not known.

    Raises:
        CheckpointError: it fits none; the message names the closest one and its
            missing weights. Or its settings are not understood.
    """
    if checkpoint.config is not None:
        return _match(checkpoint, OWN)
    refuse_others(checkpoint.settings)
    layouts = [
        layout
        for layout in LAYOUTS.values()
        if is_readable(layout.settings, checkpoint.settings)
    ]
    best = max((_match(checkpoint, layout) for layout in layouts), key=_rank)
    for name, title in _names_in(REFUSED, best.unused):
        raise CheckpointError(
            f"'{checkpoint.path}' has {name}, {title}: this package has no such network"
        )
    missing = [path for path in CORE if path not in best.weights]
    if missing:
        names = list(checkpoint.entries)
        raise CheckpointError(
            f"'{checkpoint.path}' fits no known layout. The closest is "
            f"{best.layout.name} ({best.layout.title}), by {len(best.arrays)} of its "
            f"{len(names)} names; missing: "
            f"{', '.join(name_of(best.layout, path) for path in missing)}. It holds: "
            f"{_some(names)}. Known layouts: {', '.join(LAYOUTS)}"
        )
    for name, reason in _names_in(best.layout.refused, best.unused):
        raise CheckpointError(f"'{checkpoint.path}' has {name}: {reason}")
    about = checkpoint, best.layout, best.sizes, best.weights
    told = read_settings(*about, accept=accept)
    return dataclasses.replace(best, told=told, undecided=undecided(*about, told))


def _names_in(table, names):
    """Return the names that fit a table's patterns, each with what it says of them."""
    return [
        (name, text)
        for pattern, text in table.items()
        for name in names
        if re.fullmatch(pattern, name)
    ]


def _rank(match):
    """Order matches by their arrays, then by fewer errors, unknown names and rows."""
    wrong = len(match.unused) + len(match.misfits)
    return len(match.arrays), -wrong, -len(match.layout.rows)


def take_classes(match: Match, classes: Sequence[int]) -> Match:
    """Return a match whose heads have only some classes, in another order.

    Arguments:
        classes: their indices in the file.
    """
    entries = dict(match.checkpoint.entries)
    for name, (row, _) in match.arrays.items():
        entry = entries[name]
        axes = tokens_of(row.axes_for(entry.shape))
        if "K" in axes:
            axis = axes.index("K")
            shape = list(entry.shape)
            shape[axis] = len(classes)

            def read(entry=entry, axis=axis):
                return np.take(entry.read(), classes, axis)

            entries[name] = Entry(tuple(shape), entry.dtype, read)
    return dataclasses.replace(
        match,
        checkpoint=dataclasses.replace(match.checkpoint, entries=entries),
        sizes={**match.sizes, "K": len(classes)},
    )


def name_of(layout, path):
    general = re.sub(r"_\d+/", "_{i}/", path)
    return next((r.theirs for r in layout.rows if general in r.ours), path)


def _some(names, most=6):
    names = sorted(name[:80] for name in names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _match(checkpoint, layout):
    found, taken, unused, zeros = {}, set(), [], []
    numbers, steps, blocks = set(), set(), 0
    checkpoint = fold_batch_norms(checkpoint, layout.folded)
    plain = layout.plain_names(checkpoint.entries)
    for name, entry in checkpoint.entries.items():
        if 0 in entry.shape:  # vit-pytorch stores an empty class token
            continue
        if any(re.fullmatch(p, plain[name]) for p in layout.ignored):
            continue
        if any(re.fullmatch(p, plain[name]) for p in layout.zeros):
            zeros.append(name)
            continue
        rows = [row for row in layout.rows if row.pattern.fullmatch(plain[name])]
        number, paths = None, set()
        if rows and "{i}" in rows[0].theirs:
            number = _number(rows[0].pattern.fullmatch(plain[name])["i"])
        if rows:
            row = rows[0]
            paths = {(path, number) for path in row.ours}
        # Not in the layout, an improper block number, or a second name of a weight.
        if not rows or number == -1 or paths & taken:
            unused.append(name)
            continue
        found[name] = (rows, number)
        taken |= paths
        if row.stacked and entry.shape:
            blocks = max(blocks, entry.shape[0])
        elif number is not None:
            (numbers if row.ours[0].startswith(BLOCK) else steps).add(number)
    # A malicious name must not create millions of paths.
    blocks = min(blocks, 1000) if not _unstacked(found) else 0
    blocks = max(blocks, min(max(numbers, default=-1) + 1, len(numbers)))
    arrays, weights, misfits = {}, {}, {}
    sizes = {"L": blocks, **FIXED}
    if steps:
        sizes["S"] = min(max(steps) + 1, len(steps))
    order = {row.theirs: rank for rank, row in enumerate(layout.rows)}
    # Names with several rows come last, when their sizes are known.
    ranks = {n: (len(rows), order[rows[0].theirs]) for n, (rows, _) in found.items()}
    for name in sorted(found, key=lambda n: ranks[n]):
        rows, number = found[name]
        shape = checkpoint.entries[name].shape
        for row in rows:
            paths = row.weights(number, blocks)
            try:
                known = {**sizes, "n": len(paths)}
                sizes |= bind(row.axes_for(shape), shape, known)
                break
            except ValueError as error:
                wrong = str(error)
        else:
            misfits |= dict.fromkeys(paths, f"{name} {wrong}")
        arrays[name] = (row, paths)
        weights |= dict.fromkeys(paths, name)
    if "H" in sizes and "d" in sizes:
        sizes["E"] = sizes["H"] * sizes["d"]
    _tokens_without_reader(weights, arrays)
    for path, method in layout.resize_with.items():
        if path in weights:
            layout = dataclasses.replace(layout, resize=method)
    rest = tuple(unused), tuple(zeros)
    return Match(checkpoint, layout, arrays, weights, sizes, misfits, *rest)


def _number(text):
    """Parse a block number; -1 for text such as "07" or overlong digits."""
    number = int(text) if len(text) < 10 else -1
    return number if str(number) == text else -1


def _unstacked(found):
    return not any(rows[0].stacked for rows, _ in found.values())


def _tokens_without_reader(weights, arrays):
    """Make a distillation token without a head a register token."""
    old, new = "distillation_token/token", "register_tokens/token"
    if old in weights and "head/kernel" in weights:
        if "head_dist/kernel" not in weights:
            name = weights[new] = weights.pop(old)
            arrays[name] = (arrays[name][0], [new])
