"""Where the time of a file goes on an Ethos-U, by Vela's estimate of each operation."""

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping
from typing import Any

from ..errors import UnsupportedOperators
from ..flatbuffer.operators import read_operators
from .figures import new_figure
from .interpreter import short_name
from .tools.vela_compiler import run_vela, vela_options, vela_targets, vela_tool

# Vela's names of operators that do not become TFLite's by letters alone.
OPERATORS = {"CONCAT": "CONCATENATION", "REDUCESUM": "SUM", "SIGMOID": "LOGISTIC"}
# Name scopes of a ViT, wherever they stand in a tensor's name.
SCOPE = re.compile(r"(?:^|/)(encoderblock_\d+|embedding|taps|top)(?=/|$)")
INPUT, HEAD = "input", "head"
COLOURED = 8  # operators with a colour of their own in the figure


@dataclasses.dataclass(frozen=True)
class LayerCycles:
    """One operation on the NPU; Vela may make several of one operator of the file.

    Attributes:
        name: of the tensor that it computes, without the model's name.
        block: part of the model, as "encoderblock_3", "embedding" or "head".
        operator: that it belongs to, as named in the file.
        cycles: estimate, with waits for memory.
        macs: multiply-accumulates.
    """

    name: str
    block: str
    operator: str
    cycles: int
    macs: int


@dataclasses.dataclass(frozen=True)
class CyclesShare:
    """Operations of one operator or block together.

    Attributes:
        name: of the operator or block.
        operations: their number on the NPU.
        cycles, macs: sums.
        cycles_share, macs_share: fractions of the whole file's.
    """

    name: str
    operations: int
    cycles: int
    macs: int
    cycles_share: float
    macs_share: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """Estimated cycles of a file on an NPU.

    Attributes:
        target: name of the target.
        tool: the compiler and its version.
        accelerator: the hardware.
        estimate_ms: time of one run. Operations overlap, so that their cycles may add
            up to more.
        layers: operations, in order of execution.
    """

    target: str
    tool: str
    accelerator: str
    estimate_ms: float
    layers: tuple[LayerCycles, ...]

    @property
    def operators(self) -> tuple[CyclesShare, ...]:
        """Shares by operator, the slowest first."""
        return self._by("operator")

    @property
    def blocks(self) -> tuple[CyclesShare, ...]:
        """Shares by block, the slowest first."""
        return self._by("block")

    def _by(self, field):
        groups = {}
        for layer in self.layers:
            groups.setdefault(getattr(layer, field), []).append(layer)
        rows = {
            name: (sum(x.cycles for x in layers), sum(x.macs for x in layers))
            for name, layers in groups.items()
        }
        cycles = max(1, sum(layer.cycles for layer in self.layers))
        macs = max(1, sum(layer.macs for layer in self.layers))
        shares = [
            CyclesShare(name, len(groups[name]), c, m, c / cycles, m / macs)
            for name, (c, m) in rows.items()
        ]
        return tuple(sorted(shares, key=lambda share: -share.cycles))

    def __str__(self):
        worst = ", ".join(f"{s.name} {s.cycles_share:.0%}" for s in self.operators[:3])
        return (
            f"{self.target} ({self.accelerator}): {self.estimate_ms:g} ms by "
            f"{self.tool}; most cycles: {worst or 'none, all is on the CPU'}"
        )


def profile(
    path: str | os.PathLike[str],
    target: str = "ethos_u85",
    *,
    options: Mapping[str, Any] | None = None,
) -> Profile:
    """Estimate the cycles of each operation of a file on an Ethos-U.

    Arguments:
        path: a `.tflite` file.
        target: "ethos_u55", "ethos_u65" or "ethos_u85".
        options: of another device than the target's, as for `check`.

    Returns:
        Vela's estimates. Operators that stay on the CPU have no cycles; `check` lists
        them.

    Raises:
        UnsupportedOperators: Vela stops at the file.
        ValueError: the target or an option is unknown, or the path is no TFLite file.
        FileNotFoundError: the file does not exist.
        MissingDependency: Vela is not installed.
    """
    if target not in vela_targets():
        raise ValueError(
            f"`target` must be one of {', '.join(vela_targets())}, whose compiler "
            f"estimates cycles. Received: target={target!r}"
        )
    names = {op.name for op in read_operators(path)}
    tool, chosen = vela_tool(), vela_options(target, options)
    with tempfile.TemporaryDirectory() as folder:
        run = run_vela(path, folder, chosen, "--verbose-performance")
    if run.stopped:
        raise UnsupportedOperators(f"'{path}': Vela stops: {run.stopped}")
    return Profile(
        target=target,
        tool=tool,
        accelerator=chosen["accelerator"],
        estimate_ms=round(float(run.summary["inference_time"]) * 1e3, 3),
        layers=tuple(_layers(run.layers, names)),
    )


def _layers(rows, names):
    """Yield the operations of Vela's table.

    Arguments:
        rows: of the table.
        names: of the operators in the file.
    """
    letters = {name.replace("_", ""): name for name in names}
    block = INPUT
    for row in rows:
        if row["Target"] != "NPU":  # nothing is known of its time
            continue
        word = row["Original Operator"].upper()
        # Vela numbers tensors that the file does not have, and repeats the name of the
        # operator before.
        if not row["Name"].startswith("#"):
            block = block_of(row["Name"])
        yield LayerCycles(
            name=short_name(row["Name"]),
            block=block,
            operator=letters.get(OPERATORS.get(word, word), row["Original Operator"]),
            cycles=int(row["Op Cycles"]),
            macs=int(row["MAC Count"]),
        )


def block_of(name: str) -> str:
    """Return the part of a model that a tensor belongs to, by its name."""
    if scope := SCOPE.search(name.split(";")[0]):
        return HEAD if scope[1] == "top" else scope[1]
    if "/" in name:
        return short_name(name).split("/")[0]
    # The converter names inputs and outputs by the signature.
    return INPUT if name.startswith("serving_default") else HEAD


def plot_profile(found: Profile, path: str | os.PathLike[str]) -> None:
    """Draw the cycles of each block, in order of execution, by operator.

    Arguments:
        found: of `profile`.
        path: of the PNG, PDF or SVG file to write.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = new_figure()
    axes = figure.subplots()
    blocks = list(dict.fromkeys(layer.block for layer in found.layers))
    own = [share.name for share in found.operators[:COLOURED]]
    cycles = {name: dict.fromkeys(blocks, 0) for name in (*own, "others")}
    for layer in found.layers:
        name = layer.operator if layer.operator in own else "others"
        cycles[name][layer.block] += layer.cycles
    below = dict.fromkeys(blocks, 0)
    for name, row in cycles.items():
        heights = [row[block] / 1e6 for block in blocks]
        axes.bar(blocks, heights, bottom=list(below.values()), label=name)
        below = {block: below[block] + row[block] / 1e6 for block in blocks}
    title = f"{found.target} ({found.accelerator}), {found.estimate_ms:g} ms a run"
    axes.tick_params("x", rotation=60, labelsize="small")
    axes.set(ylabel="million cycles", title=title)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path)
