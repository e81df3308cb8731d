"""Putting a checkpoint into a model: everything is checked before anything changes."""

import dataclasses
import difflib
import os
import warnings

import ml_dtypes
import numpy as np

from ..config import ViTConfig
from .axes import axes_of, shape_of, to_ours
from .download import fetch
from .entry import CheckpointError
from .files import Checkpoint, open_checkpoint
from .own import is_own, load_own_weights, open_own
from .published import PUBLISHED
from .recognise import (
    HEAD,
    Match,
    count_tokens,
    describe,
    find_positions,
    recognise,
)
from .resize import resize_patches, resize_positions

TOKENS = ("class_token", "distillation_token", "register_tokens")  # in the sequence
POSITIONS = "posembed_input/embedding"
# Fields that change the outputs and leave no trace in names and shapes.
SILENT = ("mlp_activation", "norm_epsilon", "pooling", "num_heads")


@dataclasses.dataclass
class LoadReport:
    """What was done with a checkpoint, or what would have to be.

    Arguments:
        path: the file.
        layout: name of its layout.
        loaded: paths of the model's weights that come from it.
        resized: what was resized, in words.
        fresh: weights of the model that keep their values.
        dropped: names in the file that the model has no use for.
        notes: differences that change the outputs.
        missing, unused, misfits: why a strict load is refused.
    """

    path: str
    layout: str
    loaded: list[str] = dataclasses.field(default_factory=list)
    resized: list[str] = dataclasses.field(default_factory=list)
    fresh: list[str] = dataclasses.field(default_factory=list)
    dropped: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    unused: list[str] = dataclasses.field(default_factory=list)
    misfits: list[str] = dataclasses.field(default_factory=list)

    def __str__(self):
        lines = [f"{self.path}: {len(self.loaded)} weights, layout {self.layout}"]
        for title, items in (
            ("resized", self.resized),
            ("left fresh", self.fresh),
            ("not needed", self.dropped),
            ("note", self.notes),
            ("missing from the file", self.missing),
            ("in the file, but not in the model", self.unused),
            ("of another shape", self.misfits),
        ):
            lines += [f"  {title}: {item[:300]}" for item in items[:20]]
            if len(items) > 20:
                lines.append(f"  {title}: {len(items) - 20} more")
        return "\n".join(lines)


def load_weights(model, path, *, strict: bool = True, head: bool = True) -> LoadReport:
    """Load a published or an own checkpoint into a model.

    The layout is recognised from the names. Positions are resized to the model's grid
    and patch kernels to its patch size, as the checkpoint's authors do it. The head is
    loaded when the number of classes fits, else it keeps its values, with a warning.

    Arguments:
        model: a model of `create_model`; unchanged if anything is wrong.
        path: a `.npz`, `.safetensors`, `.pth`, `.pt`, `.bin`, `.h5`, `.keras` file, an
            index of shards, a folder that holds one, or a name in `PUBLISHED`, which
            is downloaded unless the cache has it.
        strict: refuse missing, unused and mis-shaped weights. With False what fits is
            loaded and the rest is in the report.
        head: whether to load the classification head, too.

    Returns:
        A report; printed, it says what was done.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it can not be read, is of no known layout, or does not fit.
        ValueError: `model` is not one of `create_model`.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, ViTConfig):
        raise ValueError(
            "`model` must come from vit_keras.create_model (or from_checkpoint). "
            f"Received: {model!r}"
        )
    if is_own(path):
        load_own_weights(model, path)
        return LoadReport(str(path), "vit_keras", [w.path for w in model.weights])
    match = recognise(find(path))
    return apply(match, model, config, strict=strict, head=head)


def find(weights) -> Checkpoint:
    """Open a file, a folder or a published name; see `load_weights`."""
    if not os.path.exists(weights) and str(weights) in PUBLISHED:
        row = PUBLISHED[str(weights)]
        checkpoint = open_checkpoint(fetch(str(weights)))
        return dataclasses.replace(checkpoint, preprocessing=row.preprocessing)
    if str(weights).endswith(".keras"):
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
    match: Match, model, config: ViTConfig, *, strict=True, head=True, chosen=False
) -> LoadReport:
    """Check a recognised checkpoint against a model, then load it.

    With `chosen` the model was configured for this file, so that a difference between
    them is meant.
    """
    report = LoadReport(str(match.checkpoint.path), match.layout.name)
    if "p" not in match.sizes:  # a flattened patch, cut as the model does
        _cut_patch(match, config)
    variables = {w.path: w for w in model.weights if _known(w.path)}
    _plan(match, variables, config, report, head, model.task)
    if not chosen:
        report.notes += _silent_differences(match, config)
    if strict and (report.missing or report.unused or report.misfits):
        raise CheckpointError(
            f"the checkpoint does not fit the model '{model.name}'; nothing was "
            f"changed. strict=False loads what fits.\n{report}"
        )
    _read_all(match, report)
    _assign(match, variables, config, set(report.loaded))
    fresh = [p for p in report.fresh if p.split("/")[0] in HEAD] if head else []
    said = [f"left fresh: {', '.join(fresh)}"] if fresh else []
    said += [text for text in report.resized if text.startswith("patches")]
    for text in said + report.notes:
        warnings.warn(f"{report.path}: {text}", stacklevel=3)
    return report


def _cut_patch(match, config):
    """Cut a flattened patch as the model does."""
    (p, q), channels = config.patch_size, config.channels
    match.sizes.update({"p": p, "q": q, "C": channels})
    for path in ("embedding/kernel", "embedding/norm_before/gamma"):
        if path in match.weights and match.shape(path)[-1] != p * q * channels:
            for wrong in (path, path.replace("gamma", "beta")):
                match.misfits.setdefault(
                    wrong,
                    f"{match.weights[path]} has patches of {match.shape(path)[-1]} "
                    f"values, not {p} x {q} x {channels}",
                )


def _known(path):
    try:
        return bool(axes_of(path))
    except KeyError:  # a layer that the user added, or random state
        return False


def _plan(match, variables, config, report, head, task):
    """Fill the report: what can be loaded, and what is wrong."""
    heads = match.sizes.get("H", config.num_heads)
    if heads != config.num_heads:
        report.misfits.append(
            f"num_heads: {heads} in the file, {config.num_heads} in the model"
        )
    # Tokens come before pooling, so what reads them is not needed.
    tokens_only = task == "features" or config.pooling is None
    optional = (*HEAD, "pooling", "fc_norm") if tokens_only else HEAD
    fresh = () if _head_fits(match, variables) else HEAD
    fresh = fresh if head else ("head", "head_dist")
    for path, variable in variables.items():
        part = path.split("/")[0]
        if part in fresh:
            report.fresh.append(path)
        elif path in match.misfits:
            report.misfits.append(f"{match.misfits[path]}, for {path}")
        elif path == POSITIONS or part in TOKENS:
            _plan_tokens(match, path, variable, config, report)
        elif path not in match.weights:
            if path != "embedding/bias":  # CLIP has none, which is a bias of zeros
                report.missing.append(f"{path} {tuple(variable.shape)}")
                report.fresh.append(path)
        elif _fits(match, path, variable, report):
            report.loaded.append(path)
    if "embedding/bias" in variables and "embedding/bias" not in match.weights:
        report.loaded.append("embedding/bias")
    used = set(variables)
    for name, (_, paths) in match.arrays.items():
        if used.isdisjoint(paths):
            in_head = all(path.split("/")[0] in optional for path in paths)
            (report.dropped if in_head else report.unused).append(name)
        elif any(p in report.fresh for p in paths) and name not in report.dropped:
            report.dropped.append(name)
    report.unused += match.unused


def _fits(match, path, variable, report):
    expected = shape_of(axes_of(path), match.sizes)
    if path == "embedding/kernel" and expected[2:] == tuple(variable.shape[2:]):
        if expected[:2] != tuple(variable.shape[:2]):
            report.resized.append(
                f"patches from {expected[:2]} to {tuple(variable.shape[:2])} pixels"
            )
        return True
    if expected == tuple(variable.shape):
        return True
    report.misfits.append(
        f"{path}: {expected} in the file, {tuple(variable.shape)} in the model"
    )
    return False


def _head_fits(match, variables):
    """Whether all of the head is there, of the model's classes."""
    ours = {p for p in variables if p.split("/")[0] in HEAD}
    theirs = {p for p in match.weights if p.split("/")[0] in HEAD}
    if ours != theirs:
        return ours <= theirs and not any(p.startswith("head") for p in ours)
    return not any(p in match.misfits for p in ours) and all(
        shape_of(axes_of(p), match.sizes) == tuple(variables[p].shape) for p in ours
    )


def _plan_tokens(match, path, variable, config, report):
    """Class, distillation and register tokens, and positions."""
    if path not in match.weights:
        report.missing.append(f"{path} {tuple(variable.shape)}")
        report.fresh.append(path)
        return
    shape = match.shape(path)
    if path != POSITIONS:
        if (count_tokens(match, path), shape[-1]) != tuple(variable.shape[1:]):
            report.misfits.append(f"{path}: {shape}, not {tuple(variable.shape)}")
            return
    elif shape[-1] != variable.shape[-1]:
        report.misfits.append(f"{path}: {shape}, not {tuple(variable.shape)}")
        return
    else:
        _, grid = find_positions(match, [config.grid])
        if grid != config.grid:
            how = match.layout.resize
            report.resized.append(f"positions from {grid} to {config.grid}, {how}")
    report.loaded.append(path)


def _silent_differences(match, config):
    """What changes the outputs and shows in no shape."""
    p, q = match.sizes["p"], match.sizes["q"]
    heads = {"num_heads": config.num_heads}
    size = {"image_size": (config.grid[0] * p, config.grid[1] * q)}
    # As the file tells it; where it does not, as the model has it.
    for given in ({}, heads, {**heads, **size}):
        try:
            implied = describe(match, **given)
            break
        except ValueError as error:
            unknown = f"what the checkpoint implies can not be told: {error}"
    else:
        return [] if match.misfits else [unknown]  # those are reported anyway
    return [
        f"the checkpoint implies {name}={getattr(implied, name)!r}, the model has "
        f"{getattr(config, name)!r}"
        for name in SILENT
        if getattr(implied, name) != getattr(config, name)
        and (name != "pooling" or config.include_top)
    ]


def _read_all(match, report):
    """Read everything once, so that damage shows before a weight is changed."""
    wanted = set(report.loaded)
    for name, (_, paths) in match.arrays.items():
        if wanted.isdisjoint(paths) and POSITIONS not in paths:
            continue
        dtype = np.dtype(match.checkpoint.entries[name].dtype)
        if dtype.kind != "f" and dtype != ml_dtypes.bfloat16:
            raise CheckpointError(
                f"'{match.checkpoint.path}': {name} has dtype {dtype}; weights must be "
                "floating-point numbers, quantised ones can not be loaded"
            )
        array = match.checkpoint.entries[name].read()
        with np.errstate(over="ignore"):  # what float32 can not hold becomes infinite
            finite = np.isfinite(array.astype("float32", copy=False)).all()
        if not finite:
            raise CheckpointError(
                f"'{match.checkpoint.path}': {name} holds values that are not finite"
            )


def _assign(match, variables, config, wanted):
    """Array by array, so that no second copy of all weights exists."""
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
    if "embedding/bias" in wanted and "embedding/bias" not in match.weights:
        _set(variables["embedding/bias"], np.zeros(config.hidden_size))
    for path, value in sequence.items():
        _set(variables[path], value)


def _set(variable, value):
    variable.assign(np.ascontiguousarray(value, dtype="float32"))


def _token_values(match, variables, config, wanted):
    """Tokens and positions by path, which models add in two orders.

    Where a model adds positions before it prepends the tokens, a position of a token
    is part of the token; in the other order a token without position has position 0.
    """

    def read(path):
        array = match.checkpoint.entries[match.weights[path]].read()
        return array.astype("float32").reshape(-1, array.shape[-1])

    names = [f"{part}/token" for part in TOKENS]
    places = {
        name: np.zeros((count_tokens(match, name), config.hidden_size), "float32")
        for name in names
        if name in match.weights
    }
    grid, values = None, {}
    if POSITIONS in match.weights and POSITIONS not in match.misfits:
        prefix, size = find_positions(match, [config.grid])
        positions = read(POSITIONS)
        start = 0
        for value in places.values():
            if start < prefix:
                value[:] = positions[start : start + len(value)]
                start += len(value)
        grid = positions[prefix:].reshape(*size, -1)
    apart = config.position_prefix and POSITIONS in wanted
    for name in wanted.intersection(places):
        value = read(name) if apart else read(name) + places[name]
        values[name] = value[None]
    if POSITIONS in wanted and grid is not None:
        grid = resize_positions(grid, config.grid, match.layout.resize)
        rows = [grid.reshape(-1, grid.shape[-1])]
        if config.position_prefix:
            ours = [name for name in names if name in variables]
            zeros = {n: np.zeros(variables[n].shape[1:], "float32") for n in ours}
            fitting = {n: places[n] for n in wanted.intersection(places)}
            rows = [*(fitting.get(n, zeros[n]) for n in ours), *rows]
        values[POSITIONS] = np.concatenate(rows)[None]
    return values
