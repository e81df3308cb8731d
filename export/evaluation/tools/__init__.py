"""What judges a file for a target: real compilers and runtimes where there are any.

Each module has `judge(path, found, name) -> Verdict`: `found` are the file's operators,
`name` is that of the target.
"""

from ...targets import get_target
from . import micro, op_list, openvino, scan, vela, web, webgpu, xnnpack
from .result import Refusal as Refusal
from .result import Verdict as Verdict

TOOLS = {
    "micro": micro.judge,
    "op_list": op_list.judge,
    "openvino": openvino.judge,
    "scan": scan.judge,
    "vela": vela.judge,
    "web": web.judge,
    "webgpu": webgpu.judge,
    "xnnpack": xnnpack.judge,
}


def judge(path, found, name) -> Verdict:
    """Ask the tool of a target.

    Arguments:
        path: a `.tflite` file.
        found: its operators.
        name: of the target.

    Raises:
        MissingDependency: the tool is not installed.
    """
    return TOOLS[get_target(name).tool](path, found, name)
