"""The LiteRT interpreter: the one place that opens it and looks inside."""

import os
import pathlib
import re
import warnings
from typing import Any

import numpy as np

from ..errors import missing
from ..flatbuffer.objects import pack, unpack


def threads() -> int:
    """Threads for work whose time is not measured: the cores that are ours, up to 4."""
    try:
        return min(len(os.sched_getaffinity(0)), 4)
    except AttributeError:  # not on macOS and Windows
        return min(os.cpu_count() or 1, 4)


def new_interpreter(path, content=None, **options) -> Any:
    """A LiteRT interpreter with its tensors allocated.

    Arguments:
        path: of the file.
        content: bytes to open instead, made of that file.
        **options: of LiteRT's `Interpreter`.

    Raises:
        MissingDependency: ai-edge-litert is not installed.
        ValueError: LiteRT refuses the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise missing("ai-edge-litert") from error
    try:
        source = {"model_content": content} if content else {"model_path": str(path)}
        interpreter = Interpreter(**source, **options)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise ValueError(f"LiteRT cannot run '{path}': {reason}") from error
    return interpreter


def operators_of(interpreter) -> list[dict[str, Any]]:
    """The operators of an open file in order of execution, DELEGATE among them:
    `op_name`, and `inputs` and `outputs` as indices of tensors."""
    # LiteRT has no public way.
    return [
        {
            "op_name": op["op_name"],
            "inputs": [int(index) for index in op["inputs"]],
            "outputs": [int(index) for index in op["outputs"]],
        }
        for op in interpreter._get_ops_details()
    ]


def open_preserving(path):
    """An interpreter that keeps every tensor, the input's details, and those of all
    float tensors by index. Kernels' own scratch is left out: it may hold anything."""
    from ai_edge_litert.interpreter import OpResolverType

    with warnings.catch_warnings():  # keeping all tensors is what we want here
        warnings.simplefilter("ignore", UserWarning)
        interpreter = new_interpreter(
            path,
            # A delegate would hide the tensors inside it.
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
    (entry,) = interpreter.get_input_details()
    used = {entry["index"]}
    for op in operators_of(interpreter):
        used.update(op["inputs"], op["outputs"])
    details = interpreter.get_tensor_details()
    floats = [t for t in details if t["dtype"] == np.float32 and t["index"] in used]
    return interpreter, entry, {tensor["index"]: tensor for tensor in floats}


def open_with_outputs(path, indices):
    """An interpreter with some tensors as outputs of the file, and so with the default
    kernels: values as of `open_preserving` but for rounding, in a fifth of the time."""
    model = unpack(pathlib.Path(path).read_bytes())
    (graph,) = model.subgraphs
    graph.outputs = [*graph.outputs, *(i for i in indices if i not in graph.outputs)]
    return new_interpreter(path, content=pack(model), num_threads=threads())


def short_name(name) -> str:
    """The name of a tensor: its first origin, without the model's name."""
    first = name.split(";")[0]
    return first.split("/", 1)[1] if "/" in first else first


def check_images(images, shape) -> np.ndarray:
    """Images as an array that fits an input shape, or a ValueError."""
    images = np.asarray(images)
    if images.shape[1:] != tuple(shape[1:]) or len(images) == 0:
        raise ValueError(
            f"`images` must have the shape (N, {', '.join(map(str, shape[1:]))}) with "
            f"N >= 1. Received: shape={images.shape}"
        )
    return images
