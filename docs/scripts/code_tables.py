"""Tables of the reference, from the tables in the code."""

import dataclasses
import re

from export.schemes import SCHEMES
from export.targets import TARGETS, GraphOptions
from vit_keras.heads import HEADS
from vit_keras.presets import PRESETS
from vit_keras.training.recipe import Recipe
from vit_keras.training.recipes import RECIPES
from vit_keras.weights.layout import LAYOUTS
from vit_keras.weights.published import PUBLISHED


def markdown_table(header, rows) -> str:
    """Return a table in Markdown, of anything that has a text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def schemes() -> str:
    """All schemes, in the order of `export.SCHEMES`."""
    rows = [
        (
            *(f"`{name}`", s.summary, s.weights, s.activations),
            "yes" if s.needs_calibration else "no",
            *(f"{s.min_sqnr_db:g} dB", s.reason),
        )
        for name, s in SCHEMES.items()
    ]
    header = ("scheme", "use", "weights", "activations", "calibration images")
    return markdown_table((*header, "least SQNR", "why this threshold"), rows)


def targets() -> str:
    """All targets, with what is written otherwise than for "any"."""
    rows = [
        (
            *(f"`{name}`", t.summary, ", ".join(f"`{s}`" for s in t.schemes)),
            *(f"`{t.checker}`", t.fallback, _changes(t.graph) or "as it is"),
        )
        for name, t in TARGETS.items()
    ]
    header = ("target", "device", "schemes, the recommended one first", "checker")
    return markdown_table((*header, "falls back to", "graph"), rows)


def graph_options() -> str:
    """The fields of `GraphOptions`, from its docstring."""
    return _fields(GraphOptions)


def presets() -> str:
    """All presets: the fields that differ, and the number of weights."""
    rows = []
    for name, preset in PRESETS.items():
        c = preset.config
        sizes = (c.patch_size[0], c.hidden_size, c.num_layers, c.num_heads, c.mlp_dim)
        known = ("patch_size", "hidden_size", "num_layers", "num_heads", "mlp_dim")
        rest = _changes(c, without=known)
        rows.append(
            (f"`{name}`", *sizes, f"{preset.parameters:,}", rest, _source(preset.paper))
        )
    header = ("preset", "patch", "width", "blocks", "heads", "MLP", "weights")
    return markdown_table((*header, "other fields", "source"), rows)


def recipes() -> str:
    """All recipes with their reference results."""
    rows = []
    for name, recipe in RECIPES.items():
        r = recipe.reference
        rows.append(
            (
                *(f"`{name}`", f"`{recipe.preset}`" if recipe.preset else ""),
                *(r.data, r.accuracy, r.hardware),
                _source(f"arXiv {r.paper}" if r.paper else ""),
            )
        )
    header = ("recipe", "preset", "data", "accuracy in %", "hardware", "source")
    return markdown_table(header, rows)


def recipe_commands() -> str:
    """The command of each recipe's result."""
    commands = (recipe.reference.command for recipe in RECIPES.values())
    return "```text\n" + "\n".join(commands) + "\n```"


def recipe_fields() -> str:
    """The fields of a recipe with their defaults."""
    return _fields(Recipe)


def layouts() -> str:
    """All layouts that are read, and which of them are written."""
    rows = [
        (f"`{name}`", row.title, f"`layout={name!r}`" if row.suffix else "")
        for name, row in LAYOUTS.items()
    ]
    return markdown_table(("layout", "files of", "written by `save_checkpoint`"), rows)


def published() -> str:
    """The published files that are downloaded by name."""
    rows = [
        (
            *(f"`{name}`", f"`{p.preset}`", p.image_size, p.classes),
            *("" if p.top1 is None else f"{p.top1:.2f}", p.top1_source or ""),
            *(p.licence, _source(f"arXiv {p.paper}")),
        )
        for name, p in PUBLISHED.items()
    ]
    header = ("name", "preset", "pixels", "classes", "published top-1", "from")
    return markdown_table((*header, "licence", "source"), rows)


def heads() -> str:
    """What outputs can mean."""
    return markdown_table(
        ("`head`", "outputs"), [(f"`{n}`", h.summary) for n, h in HEADS.items()]
    )


def _cell(value):
    return str(value).replace("|", "\\|").replace("\n", " ")


def _changes(value, without=()):
    """The fields of a dataclass that differ from its defaults, as code."""
    default = type(value)()
    changed = (
        (f.name, getattr(value, f.name))
        for f in dataclasses.fields(value)
        if f.name not in without and getattr(value, f.name) != getattr(default, f.name)
    )
    return "<br>".join(f"`{name}={v!r}`" for name, v in changed)


def _fields(described):
    """A table of a dataclass: its fields, defaults and the words of its docstring."""
    text = described.__doc__.split("Arguments:\n", 1)[1].split("\n\n")[0]
    entries = re.split(r"\n {4,8}(?=\w[\w, ]*: )", f"\n{text}")
    words = {}
    for entry in filter(str.strip, entries):
        names, _, meaning = entry.partition(": ")
        for name in names.split(","):
            words[name.strip()] = " ".join(meaning.split())
    rows = []
    for field in dataclasses.fields(described):
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory()
        if field.name in words and not dataclasses.is_dataclass(default):
            rows.append((f"`{field.name}`", f"`{default!r}`", words[field.name]))
    return markdown_table(("field", "default", "meaning"), rows)


def _source(text):
    """arXiv numbers as links; they are looked at on demand, never at build time."""
    return re.sub(
        r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text
    )
