"""Access to the LiteRT interpreter and the tensors of a file."""

import os
import pathlib
import re
import warnings
from typing import Any

import numpy as np

from ..errors import missing
from ..flatbuffer.first_run import check_first_run
from ..flatbuffer.objects import pack, unpack


def threads() -> int:
    """Return the number of threads for untimed work: available cores, up to 4."""
    try:
        return min(len(os.sched_getaffinity(0)), 4)
    except AttributeError:  # not on macOS and Windows
        return min(os.cpu_count() or 1, 4)


def new_interpreter(path, content=None, **options) -> Any:
    """Open a file in a LiteRT interpreter and allocate its tensors.

    Arguments:
        path: of the file.
        content: bytes to open instead of the file, derived from it.
        **options: of LiteRT's `Interpreter`.

    Raises:
        MissingDependency: ai-edge-litert is not installed.
        FileNotFoundError: there is no such file.
        ValueError: LiteRT refuses the file, or its first run ends a process.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise missing("ai-edge-litert") from error
    if not content:
        check_first_run(path, "experimental_op_resolver_type" not in options)
    try:
        source = {"model_content": content} if content else {"model_path": str(path)}
        interpreter = Interpreter(**source, **options)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, LookupError) as error:  # by name, those of C++
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise ValueError(f"LiteRT cannot run '{path}': {reason}") from error
    return interpreter


def operators_of(interpreter) -> list[dict[str, Any]]:
    """Return the operators of an open file in order of execution, including DELEGATE:
    `op_name`, and `inputs` and `outputs` as tensor indices."""
    # LiteRT has no public function for this.
    return [
        {
            "op_name": op["op_name"],
            "inputs": [int(index) for index in op["inputs"]],
            "outputs": [int(index) for index in op["outputs"]],
        }
        for op in interpreter._get_ops_details()
    ]


def open_preserving(path):
    """Open a file so that every tensor is kept. Return the interpreter, the input's
    details, and those of all float tensors by index, without kernels' scratch tensors,
    whose values are undefined."""
    from ai_edge_litert.interpreter import OpResolverType

    with warnings.catch_warnings():  # keeping all tensors is intended
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
    """Open a file with additional tensors as outputs, and so with the default kernels:
    the values of `open_preserving` up to rounding, in a fifth of the time."""
    model = unpack(pathlib.Path(path).read_bytes())
    (graph,) = model.subgraphs
    graph.outputs = [*graph.outputs, *(i for i in indices if i not in graph.outputs)]
    return new_interpreter(path, content=pack(model), num_threads=threads())


def short_name(name) -> str:
    """Return a tensor's name without alternatives and the model's name."""
    first = name.split(";")[0]
    return first.split("/", 1)[1] if "/" in first else first


def check_images(images, shape) -> np.ndarray:
    """Return images as an array that fits an input shape, or raise ValueError."""
    images = np.asarray(images)
    if images.shape[1:] != tuple(shape[1:]) or len(images) == 0:
        raise ValueError(
            f"`images` must have the shape (N, {', '.join(map(str, shape[1:]))}) with "
            f"N >= 1. Received: shape={images.shape}"
        )
    return images
