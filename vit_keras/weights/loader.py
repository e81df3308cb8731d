"""Loading of checkpoints into models; everything is checked before any change."""

import dataclasses
import difflib
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from ..config import ViTConfig
from .axes import config_of, to_ours
from .describe import count_tokens, find_positions
from .download import fetch
from .entries import CheckpointError
from .formats import Checkpoint, open_checkpoint
from .formats.keras_archive import is_keras_hub
from .formats.keras_file import is_own, load_own_weights, open_own
from .load_plan import (
    POSITIONS,
    TOKENS,
    LoadReport,
    cut_patch,
    first_names,
    is_known,
    make_plan,
    silent_differences,
)
from .published import PUBLISHED
from .recognise import Match, in_head, recognise
from .resize import resize_patches, resize_positions

if TYPE_CHECKING:
    import keras


def load_weights(
    model: "keras.Model",
    path: str | os.PathLike[str],
    *,
    strict: bool = True,
    head: bool = True,
) -> LoadReport:
    """Load a published checkpoint, or one of this package, into a model.

    The layout is recognised from the names. Positions are resized to the model's grid
    and patch kernels to its patch size, as the checkpoint's authors do it. The head is
    loaded if the number of classes fits; otherwise it keeps its values, with a warning.

    Arguments:
        model: from `create_model`; unchanged if an error is raised.
        path: a `.npz`, `.safetensors`, `.pth`, `.pt`, `.bin`, `.h5`, `.keras` file (of
            this package or of keras-hub), an index of shards, a folder with one of
            these or with `model.keras`, or a name in `PUBLISHED`, which is downloaded
            unless it is in the cache.
        strict: refuse missing, unused and mis-shaped weights, and architectures and
            settings with unknown names. With False all weights that fit are loaded, and
            the report lists the others.
        head: whether to load the classification head, or the decoder, too.

    Returns:
        A report, which can be printed.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: it cannot be read, has no known layout, or does not fit.
        ValueError: `model` is not from `create_model`.
    """
    config = config_of(model)
    if is_own(path):
        load_own_weights(model, path)
        return LoadReport(str(path), "vit_keras", [w.path for w in model.weights])
    match = recognise(find(path), accept=not strict)
    return apply(match, model, config, strict=strict, head=head)


def find(weights) -> Checkpoint:
    """Open a file, a folder or a published name; see `load_weights`."""
    if not os.path.exists(weights) and str(weights) in PUBLISHED:
        row = PUBLISHED[str(weights)]
        checkpoint = open_checkpoint(fetch(str(weights)))
        return dataclasses.replace(checkpoint, preprocessing=row.preprocessing)
    if os.path.isfile(os.path.join(weights, "model.keras")):  # a run of `train`
        weights = os.path.join(weights, "model.keras")
    if str(weights).endswith(".keras") and not is_keras_hub(weights):
        return open_own(weights)
    if not os.path.exists(weights):
        close = difflib.get_close_matches(str(weights), PUBLISHED, n=3)
        hint = f", such as {', '.join(close)}" if close else ""
        raise FileNotFoundError(
            f"`weights` must be an existing file or a published name{hint}. "
            f"Received: weights={str(weights)!r}"
        )
    return open_checkpoint(weights)


def apply(
    match: Match,
    model,
    config: ViTConfig,
    *,
    strict=True,
    head=True,
    chosen=False,
    notes: Sequence[str] = (),
) -> LoadReport:
    """Check a recognised checkpoint against a model, then load it.

    With `chosen` the model was configured for this file, and differences between them
    are intended. `notes` are what was assumed in doing so.
    """
    report = LoadReport(str(match.checkpoint.path), match.layout.name)
    report.notes += notes
    if "p" not in match.sizes:  # a flattened patch, cut as the model does
        cut_patch(match, config)
    variables = {w.path: w for w in model.weights if is_known(w.path)}
    make_plan(match, variables, config, report, head, model.task)
    if not chosen:
        report.notes += silent_differences(match, config)
    if strict and (report.missing or report.unused or report.misfits):
        raise CheckpointError(
            f"the checkpoint does not fit the model '{model.name}'; nothing was "
            f"changed. strict=False loads what fits.\n{report}"
        )
    _read_all(match, report)
    _check_zeros(match)
    _assign(match, variables, config, set(report.loaded))
    fresh = [p for p in report.fresh if in_head(p)] if head else []
    said = [f"left fresh: {first_names(fresh)}"] if fresh else []
    said += [text for text in report.resized if text.startswith("patches")]
    for text in said + report.notes:
        warnings.warn(f"{report.path}: {text}", stacklevel=3)
    return report


def _read_all(match, report):
    """Read all arrays once, so that damage is found before a weight is changed."""
    wanted = set(report.loaded)
    for name, (_, paths) in match.arrays.items():
        if wanted.isdisjoint(paths) and POSITIONS not in paths:
            continue
        dtype = np.dtype(match.checkpoint.entries[name].dtype)
        if dtype.kind != "f" and dtype != ml_dtypes.bfloat16:
            raise CheckpointError(
                f"'{match.checkpoint.path}': {name} has dtype {dtype}; weights must be "
                "floating-point numbers, quantised ones cannot be loaded"
            )
        array = match.checkpoint.entries[name].read()
        with np.errstate(over="ignore"):  # too large for float32: infinity
            finite = np.isfinite(array.astype("float32", copy=False)).all()
        if not finite:
            raise CheckpointError(
                f"'{match.checkpoint.path}': {name} holds values that are not finite"
            )


def _check_zeros(match):
    """Check that there is no part that our models do not compute."""
    for name, entry in match.checkpoint.entries.items():
        if name in match.zeros and np.any(entry.read()):
            raise CheckpointError(
                f"'{match.checkpoint.path}': {name} must be 0: with other values the "
                f"network of {match.layout.title} computes something that the models "
                "of this package do not"
            )


def _assign(match, variables, config, wanted):
    """Assign array by array, so that no second copy of all weights exists."""
    sizes = {**match.sizes, "H": config.num_heads}
    sequence = _token_values(match, variables, config, wanted)
    for name, (row, paths) in match.arrays.items():
        if (wanted - sequence.keys()).isdisjoint(paths):
            continue
        array = match.checkpoint.entries[name].read()
        axes = row.axes_for(array.shape)
        for path, value in zip(paths, to_ours(array, axes, paths, sizes), strict=True):
            if path not in wanted:
                continue
            if path == "embedding/kernel":
                size = variables[path].shape[:2]
                value = resize_patches(value, size, match.layout.resize)
            _set(variables[path], value)
    for path in wanted - match.weights.keys():  # biases that are zero there
        _set(variables[path], np.zeros(variables[path].shape))
    for path, value in sequence.items():
        _set(variables[path], value)


def _set(variable, value):
    variable.assign(np.ascontiguousarray(value, dtype="float32"))


def _token_values(match, variables, config, wanted):
    """Return values of tokens and positions by path, for the model's order.

    If a model adds positions before it prepends the tokens, a token's position is
    added to the token; in the other order a token without position has position 0.
    """

    def read(path):
        array = match.checkpoint.entries[match.weights[path]].read()
        return array.astype("float32").reshape(-1, array.shape[-1])

    names = [f"{part}/token" for part in TOKENS]
    token_positions = {
        name: np.zeros((count_tokens(match, name), config.hidden_size), "float32")
        for name in names
        if name in match.weights
    }
    grid, values = None, {}
    if POSITIONS in match.weights and POSITIONS not in match.misfits:
        prefix, size = find_positions(match, [config.grid])
        positions = read(POSITIONS)
        start = 0
        for value in token_positions.values():
            if start < prefix:
                value[:] = positions[start : start + len(value)]
                start += len(value)
        grid = positions[prefix:].reshape(*size, -1)
    apart = config.position_prefix and POSITIONS in wanted
    for name in wanted.intersection(token_positions):
        value = read(name) if apart else read(name) + token_positions[name]
        values[name] = value[None]
    if POSITIONS in wanted and grid is not None:
        grid = resize_positions(grid, config.grid, match.layout.resize)
        rows = [grid.reshape(-1, grid.shape[-1])]
        if config.position_prefix:
            ours = [name for name in names if name in variables]
            zeros = {n: np.zeros(variables[n].shape[1:], "float32") for n in ours}
            fitting = {
                n: token_positions[n] for n in wanted.intersection(token_positions)
            }
            rows = [*(fitting.get(n, zeros[n]) for n in ours), *rows]
        values[POSITIONS] = np.concatenate(rows)[None]
    return values
