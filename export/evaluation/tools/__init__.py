"""Checkers: compilers, runtimes and lists that check a file for a target.

Each module has a function from (path, found, name) to `CheckResult`: `found` are the
file's operators, `name` is the target; those in `WITH_OPTIONS` take more.
"""

from ...targets import get_target
from .integer_scan import check_integers
from .litert_js import check_litert_js
from .micro import check_micro
from .op_list import check_op_list
from .openvino import check_openvino
from .qualcomm import check_qualcomm
from .result import CheckResult as CheckResult
from .result import UnsupportedOp as UnsupportedOp
from .vela import check_vela
from .webgpu import check_webgpu
from .xnnpack import check_xnnpack

CHECKERS = {
    "integer_scan": check_integers,
    "litert_js": check_litert_js,
    "micro": check_micro,
    "op_list": check_op_list,
    "openvino": check_openvino,
    "qualcomm": check_qualcomm,
    "vela": check_vela,
    "webgpu": check_webgpu,
    "xnnpack": check_xnnpack,
}
WITH_OPTIONS = ("qualcomm", "vela", "webgpu")


def run_checker(path, found, name, options=None) -> CheckResult:
    """Check a file with the checker of a target.

    Arguments:
        path: a `.tflite` file.
        found: its operators.
        name: of the target.
        options: of the tool, for those in `WITH_OPTIONS`.

    Raises:
        ValueError: options that the tool does not have.
        MissingDependency: the tool is not installed.
    """
    tool = get_target(name).checker
    if not options:
        return CHECKERS[tool](path, found, name)
    if tool not in WITH_OPTIONS:
        raise ValueError(
            f"`options` are those of {', '.join(WITH_OPTIONS)}; target {name!r} is "
            f"checked by {tool}. Received: {', '.join(options)}"
        )
    return CHECKERS[tool](path, found, name, options)
