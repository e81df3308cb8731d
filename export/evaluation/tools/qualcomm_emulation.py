"""Runs what Qualcomm's compiler made on this CPU, in Qualcomm's emulation of the NPU.

ONNX Runtime is the host: LiteRT's own needs a library that exists for devices only.
"""

import pathlib
import re
import tempfile
from typing import Any

import numpy as np

from ...child_process import answer, run_check
from ...errors import missing
from ...flatbuffer.objects import names_of
from .qualcomm import qualcomm_unsupported
from .qualcomm_compiler import compile_qualcomm, package_folder

PROVIDER = "QNNExecutionProvider"
NEEDED = ("onnxruntime_qnn", "onnxruntime", "onnx")
CONTEXT, MODEL = "context.bin", "context.onnx"


def run_emulated(path, soc, inputs) -> list[np.ndarray]:
    """Compile a file for a SoC and run it in the emulation.

    Arguments:
        path: a `.tflite` file.
        soc: name in `qualcomm_socs.SOCS`.
        inputs: (N, batch, H, W, C) in the file's own dtype.

    Returns:
        Each output's values as stored, (N, ...), in the file's order.

    Raises:
        MissingDependency: the extra "qualcomm" is not installed.
        ValueError: the NPU does not take the file whole.
        RuntimeError: the emulation fails.
    """
    for package in NEEDED:
        if package_folder(package) is None:
            raise missing(package, "qualcomm")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        result = compile_qualcomm(path, folder / "compiled.tflite", soc)
        if not result.whole:
            reasons = "; ".join(map(str, qualcomm_unsupported(result)))
            raise ValueError(
                f"`path` must be a file that {soc} takes whole. '{path}': {reasons}"
            )
        np.save(folder / "inputs.npy", inputs)
        # It writes to stdout, and could end the process; an image may take a minute.
        said, log = run_check(f"{__name__}:run_context", folder, timeout=None)
        if not said:
            lines = " ".join(log.strip().splitlines()[-3:])
            raise RuntimeError(f"the emulation of {soc} stops: {lines}")
        files = [folder / f"output{i}.npy" for i in range(said["outputs"])]
        return [np.load(file) for file in files]


def run_context(folder):
    """Run the compiled file of a folder on its inputs; called in the child process."""
    import onnxruntime

    folder, libraries = pathlib.Path(folder), package_folder("onnxruntime_qnn") or ""
    entry, exits = write_onnx((folder / "compiled.tflite").read_bytes(), folder)
    provider = pathlib.Path(libraries, "libonnxruntime_providers_qnn.so")
    onnxruntime.register_execution_provider_library(PROVIDER, str(provider))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == PROVIDER]
    htp = {"backend_path": str(provider.with_name("libQnnHtp.so"))}
    options.add_provider_for_devices(devices, htp)
    session = onnxruntime.InferenceSession(str(folder / MODEL), options)
    results = [
        session.run(exits, {entry: one}) for one in np.load(folder / "inputs.npy")
    ]
    for i, values in enumerate(zip(*results, strict=True)):
        np.save(folder / f"output{i}.npy", np.stack(values))
    answer(outputs=len(exits))


def write_onnx(content, folder):
    """Write the context of a compiled `.tflite` file, and an ONNX model that runs it.

    Arguments:
        content: bytes of the file, whose one operator is DISPATCH_OP.
        folder: where to write both.

    Returns:
        (name of the input, names of the outputs).
    """
    import onnx
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import flexbuffers

    types = names_of(schema.TensorType)
    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    (dispatch,) = graph.operators
    where: Any = flexbuffers.Loads(bytes(dispatch.customOptions))
    start, name = where["bytecode_offset"], where["name"]
    (folder / CONTEXT).write_bytes(content[start : start + where["bytecode_size"]])

    def value(index):
        tensor = graph.tensors[index]
        dtype = types[tensor.type].lower()
        known = re.sub(r"\W", "_", tensor.name.decode())  # as the plugin renames it
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return onnx.helper.make_tensor_value_info(known, kind, tensor.shape.tolist())

    inputs, outputs = map(value, dispatch.inputs), map(value, dispatch.outputs)
    inputs, outputs = list(inputs), list(outputs)
    node = onnx.helper.make_node(
        "EPContext",
        [end.name for end in inputs],
        [end.name for end in outputs],
        domain="com.microsoft",
        name=name,
        main_context=1,
        embed_mode=0,
        ep_cache_context=CONTEXT,
        partition_name=name,
        source=PROVIDER,
    )
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "npu", inputs, outputs),
        opset_imports=[
            onnx.helper.make_opsetid("", 18),
            onnx.helper.make_opsetid("com.microsoft", 1),
        ],
        ir_version=10,  # the newest would need the newest ONNX Runtime
    )
    onnx.save(model, folder / MODEL)
    names = {int(i): end.name for i, end in zip(dispatch.outputs, outputs, strict=True)}
    return inputs[0].name, [names[int(i)] for i in graph.outputs]
