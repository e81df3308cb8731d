"""Whether a target takes a `.tflite` file, and what it says of it."""

import collections
import dataclasses
import importlib.metadata
import os
from typing import Any

from ..errors import MissingDependency
from ..flatbuffer.op_versions import order
from ..flatbuffer.operators import Operator as Operator
from ..flatbuffer.operators import minimum_runtime
from ..flatbuffer.operators import operators as operators
from ..targets import TARGETS, get_target
from . import runners, tools
from .tools import tf_serving

SERVING = "tf-serving"  # the target of SavedModel directories
# Operators that keep state or leave the builtin set: a file must not hold them.
STATEFUL = ("READ_VARIABLE", "ASSIGN_VARIABLE", "VAR_HANDLE", "CALL_ONCE")


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Whether a target takes a file.

    Attributes:
        target: name of the target.
        tool: what judged: a compiler, a runtime or a list, with version or date.
        operators: how many of each operator the file has.
        refusals: what the target does not take, with reason and cure; empty is good.
        facts: what the tool measured or estimated.
        runtime: first release of TensorFlow Lite that can open the file.
    """

    target: str
    tool: str
    operators: dict[str, int]
    refusals: tuple[tools.Refusal, ...]
    facts: dict[str, Any]
    runtime: str

    @property
    def passed(self) -> bool:
        return not self.refusals

    @property
    def problems(self) -> tuple[str, ...]:
        """The refusals, one line each."""
        return tuple(map(str, self.refusals))

    def __str__(self):
        total = sum(self.operators.values())
        if not self.passed:
            return "\n".join([f"{self.target}: refused by {self.tool}", *self.problems])
        facts = "".join(f"; {k}: {v}" for k, v in self.facts.items() if v)
        if not self.operators:
            return f"{self.target}: accepted by {self.tool}{facts}"
        return (
            f"{self.target}: all {total} operators accepted by {self.tool}{facts}; "
            f"opens in TensorFlow Lite {self.runtime} and later"
        )


def check(path, target="npu", runtime=None) -> CheckReport:
    """Judge a file for a target, by its real compiler or runtime where there is one.

    The tool of each target and what it is told stand in `TARGETS`.

    Arguments:
        path: a `.tflite` file; or a SavedModel directory, with target "tf-serving".
        target: a name in `TARGETS`.
        runtime: release of TensorFlow Lite that must open the file, as "2.14".

    Raises:
        ValueError: unknown target, or no TFLite file.
        FileNotFoundError: there is no such file.
        MissingDependency: the tool is not installed; the message has the pip line.
    """
    if (target == SERVING) != os.path.isdir(path):
        raise ValueError(
            f"`target` must be {SERVING!r} for a SavedModel directory, and for nothing "
            f"else. Received: target={target!r}, path='{path}'"
        )
    if target == SERVING:
        refused, facts = tf_serving.contract(path)
        tool = f"TensorFlow {importlib.metadata.version('tensorflow')}'s loader"
        return CheckReport(target, tool, {}, refused, facts, "")
    get_target(target)
    found, refusals = operators(path), []
    counts = collections.Counter(op.name for op in found)
    for name, count in counts.items():
        if name in STATEFUL or name.startswith("CUSTOM"):
            reason = "it is not a stateless builtin operator"
            refusals.append(tools.Refusal(name, count, reason))
    try:
        runners.new_interpreter(path)
    except ValueError as error:
        refusals.append(tools.Refusal("", 0, str(error)))
    first = minimum_runtime(found)
    if runtime is not None and order(_release(runtime)) < order(first):
        late = sorted(
            {o.name for o in found if order(minimum_runtime([o])) == order(first)}
        )
        reason = f"it needs TensorFlow Lite {first}, later than {runtime}"
        reason += f", for {', '.join(late)}"
        refusals.append(tools.Refusal("", 0, reason))
    verdict = tools.Verdict("LiteRT")
    if not refusals:  # a tool may crash on what is refused already
        verdict = tools.judge(path, found, target)
    refusals += verdict.refusals
    return CheckReport(
        *(target, verdict.tool, dict(counts), tuple(refusals), verdict.facts, first)
    )


def check_all(path, runtime=None) -> dict[str, CheckReport | MissingDependency]:
    """Judge a file for every target.

    Returns:
        {target: report, or the error that names a tool which is not installed}.
    """
    reports: dict[str, CheckReport | MissingDependency] = {}
    for name in TARGETS:
        try:
            reports[name] = check(path, name, runtime)
        except MissingDependency as error:
            reports[name] = error
    return reports


def _release(text):
    try:
        order(text)
    except ValueError as error:
        raise ValueError(
            f"`runtime` must be a release such as '2.14'. Received: runtime={text!r}"
        ) from error
    return text
