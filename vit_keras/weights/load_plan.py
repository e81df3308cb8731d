"""Comparison of a checkpoint with a model, without changing anything."""

import dataclasses
import re
from typing import Any

from .axes import axes_of, shape_of
from .decoder_axes import is_dense
from .describe import (
    count_tokens,
    describe,
    find_positions,
    tells_preprocessing,
)
from .recognise import in_head

TOKENS = ("class_token", "distillation_token", "register_tokens")  # sequence order
POSITIONS = "posembed_input/embedding"
MOST_LINES = 10  # of a kind in a report
# Fields that change the outputs but not names and shapes.
SILENT = ("mlp_activation", "norm_epsilon", "pooling", "num_heads", "preprocessing")
SILENT += ("post_norm", "rotary", "rotary_temperature", "rotary_grid", "unit_norm")
SILENT += ("positions", "pool_heads", "pool_prefix", "representation_activation")
# Biases that some libraries do not have: zeros.
OPTIONAL_BIASES = ("embedding/bias", "pre_logits/bias")
# Of models with the same decoder, too.
DECODING = ("tap_blocks", "tap_norm", "activation", "max_depth", "first_with_queries")
DECODING += ("depth_type",)


@dataclasses.dataclass
class LoadReport:
    """The result of loading a checkpoint, or of planning it.

    Arguments:
        path: the file.
        layout: name of its layout.
        loaded: paths of the model's weights that come from it.
        resized: resized weights, in words.
        fresh: weights of the model that keep their values.
        dropped: names in the file that the model does not need.
        notes: differences that change the outputs, and what was assumed because
            nothing in the file tells it.
        missing, unused, misfits: reasons to refuse a strict load.
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
            lines += [f"  {title}: {item[:300]}" for item in items[:MOST_LINES]]
            if len(items) > MOST_LINES:
                lines.append(f"  {title}: and {len(items) - MOST_LINES} more")
        return "\n".join(lines)


def first_names(names: list[str]) -> str:
    """Return names in one line, the first ones and how many more."""
    more = len(names) - MOST_LINES
    return ", ".join(names[:MOST_LINES]) + (f" and {more} more" if more > 0 else "")


def cut_patch(match, config):
    """Split a flattened patch by the model's patch size."""
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


def is_known(path) -> bool:
    """Return whether a path is a weight of this package's models."""
    try:
        return bool(axes_of(path))
    except KeyError:  # a layer of the user, or random state
        return False


def make_plan(match, variables, config, report, head, task):
    """Fill the report: what can be loaded, and what does not fit."""
    heads = match.sizes.get("H", config.num_heads)
    if heads != config.num_heads:
        report.misfits.append(
            f"num_heads: {heads} in the file, {config.num_heads} in the model"
        )
    # Without pooling, weights after the tokens are not needed.
    tokens_only = task != "classify" or config.pooling is None
    optional = ("pooling", "fc_norm") if tokens_only else ()
    if task != "classify" and not config.tap_norm:
        optional += ("encoder_norm",)
    if match.layout.implies(match.weights).get("pooling") == config.pooling:
        optional += ("pooling",)  # in the file, and not read by its classifier
    fits = _head_fits(match, variables)
    for path, variable in variables.items():
        part = path.split("/")[0]
        if in_head(path) and not (fits if head else part == "pre_logits"):
            report.fresh.append(path)
        elif path in match.misfits:
            report.misfits.append(f"{match.misfits[path]}, for {path}")
        elif path == POSITIONS or part in TOKENS:
            _plan_tokens(match, path, variable, config, report)
        elif path not in match.weights:
            if may_lack(match, path):
                report.loaded.append(path)
            else:
                report.missing.append(f"{path} {tuple(variable.shape)}")
                report.fresh.append(path)
        elif _fits(match, path, variable, report):
            report.loaded.append(path)
    used = set(variables)
    for name, (_, paths) in match.arrays.items():
        if used.isdisjoint(paths):
            known = all(in_head(p) or p.split("/")[0] in optional for p in paths)
            (report.dropped if known else report.unused).append(name)
        elif any(p in report.fresh for p in paths) and name not in report.dropped:
            report.dropped.append(name)
    report.unused += match.unused


def may_lack(match, path) -> bool:
    """Return whether a file without one of our weights means zeros."""
    if path in OPTIONAL_BIASES:
        return True
    general = re.sub(r"_\d+/", "_{i}/", path)
    blocks = range(match.sizes["L"])
    return general in match.layout.optional and not any(
        general.format(i=i) in match.weights for i in blocks
    )


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
    """Return whether the file has the whole head, for the model's classes."""
    ours = {p for p in variables if in_head(p)}
    theirs = {p for p in match.weights if in_head(p)}
    ours -= {path for path in ours - theirs if path in OPTIONAL_BIASES}
    if ours != theirs:
        return ours <= theirs and not any(_has_outputs(p) for p in ours)
    return not any(p in match.misfits for p in ours) and all(
        shape_of(axes_of(p), match.sizes) == tuple(variables[p].shape) for p in ours
    )


def _has_outputs(path):
    return path.startswith(("head", "decoder_"))


def _plan_tokens(match, path, variable, config, report):
    """Plan the class, distillation and register tokens, and positions."""
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


def silent_differences(match, config):
    """Return differences that change the outputs but no shapes, one line each."""
    p, q = match.sizes["p"], match.sizes["q"]
    heads: dict[str, Any] = {"num_heads": config.num_heads}
    if POSITIONS not in match.weights:
        names = ("positions", "rotary", "rotary_temperature", "rotary_grid")
        heads |= {name: getattr(config, name) for name in names}
    size = {"image_size": (config.grid[0] * p, config.grid[1] * q)}
    # Fields that the file does not determine are taken from the model.
    for given in ({}, heads, {**heads, **size}):
        try:
            implied = describe(match, **given)
            break
        except ValueError as error:
            unknown = f"what the checkpoint implies cannot be told: {error}"
    else:
        return [] if match.misfits else [unknown]  # misfits are reported anyway
    names, ours = SILENT, (config.head, config.decoder)
    if is_dense(config) and ours == (implied.head, implied.decoder):
        names += DECODING
    return [
        f"the checkpoint implies {name}={getattr(implied, name)!r}, the model has "
        f"{getattr(config, name)!r}"
        for name in names
        if _differs(name, match, implied, config)
    ]


def _differs(name, match, implied, config):
    if name == "preprocessing" and not tells_preprocessing(match):
        # A layout's default only determines the normalisation; resizing is the user's
        # choice.
        ours, theirs = config.preprocessing, implied.preprocessing
        return (ours.mean, ours.std) != (theirs.mean, theirs.std)
    if name == "pooling" and (not config.include_top or is_dense(config)):
        return False
    return getattr(implied, name) != getattr(config, name)
