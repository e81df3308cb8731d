"""Check whether a target supports a `.tflite` file or SavedModel."""

import collections
import dataclasses
import importlib.metadata
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import MissingDependency
from ..flatbuffer.op_versions import version_key
from ..flatbuffer.operators import minimum_runtime, read_operators
from ..targets import ANY, TARGETS, get_target
from .interpreter import new_interpreter
from .tools import CheckResult, UnsupportedOp, run_checker
from .tools.result import is_list
from .tools.tf_serving import check_saved_model
from .verify import read_sidecar

SERVING = "tf-serving"  # the target of SavedModel directories
# Operators with state, outside the stateless builtin set: a file must not have them.
STATEFUL = ("READ_VARIABLE", "ASSIGN_VARIABLE", "VAR_HANDLE", "CALL_ONCE")

MADE_SO = (
    "the file was exported for it already: compute it with other operators in the "
    "model, or export for target='cpu', which has it in float"
)


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Result of a check: whether a target supports a file.

    Attributes:
        target: name of the target.
        tool: the compiler, runtime or list that checked, with version or date.
        operators: count of each operator in the file.
        unsupported: unsupported operators, with reason and fix; empty if the check
            passed.
        facts: measurements or estimates of the tool.
        runtime: first release of TensorFlow Lite that can open the file.
    """

    target: str
    tool: str
    operators: dict[str, int]
    unsupported: tuple[UnsupportedOp, ...]
    facts: dict[str, Any]
    runtime: str

    @property
    def passed(self) -> bool:
        """Whether the target supports the whole file."""
        return not self.unsupported

    @property
    def problems(self) -> tuple[str, ...]:
        """Unsupported operators, one line each."""
        return tuple(map(str, self.unsupported))

    def __str__(self):
        total = sum(self.operators.values())
        by = self.tool if is_list(self.tool) else f"by {self.tool}"
        if not self.passed:
            lines = [f"{self.target}: unsupported, {by}", *self.problems]
            return "\n".join(lines)
        facts = "".join(f"; {k}: {v}" for k, v in self.facts.items() if v)
        if not self.operators:
            return f"{self.target}: supported, {by}{facts}"
        return (
            f"{self.target}: all {total} operators supported, {by}{facts}; "
            f"opens in TensorFlow Lite {self.runtime} and later"
        )


def check(
    path: str | os.PathLike[str],
    target: str = "npu",
    runtime: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    made: dict[str, Any] | None = None,
) -> CheckReport:
    """Check a file for a target, with its real compiler or runtime if there is one.

    The tool of each target and its options are in `TARGETS`.

    Arguments:
        path: a `.tflite` file; or a SavedModel directory, with target "tf-serving".
        target: a name in `TARGETS`.
        runtime: oldest TensorFlow Lite release that must open the file, as "2.14".
        options: of the tool. For Ethos-U, to compile for another device than the one
            in `TARGETS`: "accelerator", such as "ethos-u55-128", "system_config",
            "memory_mode", and "vela_ini", a configuration file of Vela's. For "gpu",
            "images" (N, H, W, C), on which the file must fit into float16; without,
            random pixels. For "qualcomm", "socs", the chips to compile for: names in
            `evaluation/tools/qualcomm_socs.py`.
        made: how the file was made, the `plan` of its report; None reads the one in
            the JSON beside it.

    Raises:
        ValueError: the target or an option is unknown, or the path is no TFLite file.
        FileNotFoundError: the file does not exist.
        MissingDependency: the tool is not installed; the message has the pip command.
    """
    if (target == SERVING) != os.path.isdir(path):
        raise ValueError(
            f"`target` must be {SERVING!r} for a SavedModel directory, and for nothing "
            f"else. Received: target={target!r}, path='{path}'"
        )
    if target == SERVING:
        if options:
            raise ValueError(f"`options` must be None for target {SERVING!r}")
        problems, facts = check_saved_model(path)
        tool = f"TensorFlow {importlib.metadata.version('tensorflow')}'s loader"
        return CheckReport(target, tool, {}, problems, facts, "")
    get_target(target)
    found = read_operators(path)
    counts = collections.Counter(op.name for op in found)
    first = minimum_runtime(found)
    problems = [*_not_builtin(counts), *_not_loaded(path), *_too_late(found, runtime)]
    result = CheckResult("LiteRT")
    if not problems:  # tools may crash on unsupported files
        result = run_checker(path, found, target, options)
    made = read_sidecar(path).get("plan") if made is None else made
    unsupported = tuple(_other_fix(op, made) for op in (*problems, *result.unsupported))
    return CheckReport(
        target, result.tool, dict(counts), unsupported, result.facts, first
    )


def check_all(
    path: str | os.PathLike[str],
    runtime: str | None = None,
    targets: Sequence[str] | None = None,
) -> dict[str, CheckReport | MissingDependency]:
    """Check a file for several target devices; None is all.

    Returns:
        {target: report, or `MissingDependency` if its tool is not installed}.
    """
    reports: dict[str, CheckReport | MissingDependency] = {}
    for name in (n for n in TARGETS if n != ANY) if targets is None else targets:
        try:
            reports[name] = check(path, name, runtime)
        except MissingDependency as error:
            reports[name] = error
    return reports


def _other_fix(problem: UnsupportedOp, made) -> UnsupportedOp:
    """A problem whose fix is not the very call that made the file.

    Arguments:
        problem: perhaps with a fix that names options, as "target='npu'".
        made: the plan of the file, or None.
    """
    options = dict(re.findall(r"(\w+)='(\w+)'", problem.fix))
    if not options or made is None:
        return problem
    if "scheme" in options and TARGETS[made["target"]].int8_operators is None:
        options.pop("target", None)  # all targets but these quantise the same operators
    if any(made[name] != value for name, value in options.items()):
        return problem
    return dataclasses.replace(problem, fix=MADE_SO)


def _not_builtin(counts):
    for name, count in counts.items():
        if name in STATEFUL or name.startswith("CUSTOM"):
            reason = "it is not a stateless builtin operator"
            yield UnsupportedOp(name, count, reason)


def _not_loaded(path):
    try:
        new_interpreter(path)
    except ValueError as error:
        yield UnsupportedOp("", 0, str(error))


def _too_late(found, runtime):
    """Yield operators newer than a release of TensorFlow Lite."""
    if runtime is None:
        return
    try:
        demanded = version_key(runtime)
    except ValueError as error:
        raise ValueError(
            f"`runtime` must be a release such as '2.14'. Received: runtime={runtime!r}"
        ) from error
    first = minimum_runtime(found)
    if demanded >= version_key(first):
        return
    late = {op.name for op in found if minimum_runtime([op]) == first}
    reason = f"it needs TensorFlow Lite {first}, later than {runtime}"
    yield UnsupportedOp("", 0, f"{reason}, for {', '.join(sorted(late))}")
