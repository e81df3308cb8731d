"""Outputs at each pixel: their size, and files that end in classes."""

import dataclasses
import pathlib
import shutil

import numpy as np

from ..errors import UnsupportedOperators
from ..evaluation import runners
from ..flatbuffer.graph_editor import GraphEditor
from ..flatbuffer.quantizer_fixes import set_operator_versions
from ..inputs import ExportInputs
from ..plan import ExportPlan
from ..targets import get_target


def sized(inputs: ExportInputs, plan: ExportPlan) -> tuple[ExportInputs, ExportPlan]:
    """Return the inputs with the model of the outputs' size, and the decided plan.

    Raises:
        ValueError: the plan is of outputs that the model does not have.
    """
    from ..graph.up_to_decoder import up_to_decoder

    shape = inputs.outputs.shape
    if plan.class_map is not None and not inputs.outputs.segments:
        raise ValueError(
            "`decode='classes'` needs a model with classes at each pixel, of "
            "task='segment' or with head='segmentation'. Received: outputs "
            f"{shape}, head={inputs.outputs.head!r}"
        )
    inner = up_to_decoder(inputs.model)
    if inner is None:
        if plan.output_size is None:
            return inputs, plan
        raise ValueError(
            "`output_size` must be None for a model that is none of vit_keras for "
            f"task='segment' or 'depth'. Received: output_size={plan.output_size!r}"
        )
    size = plan.output_size or get_target(plan.target).output_size
    if size == "decoder":
        outputs = dataclasses.replace(inputs.outputs, shape=inner.output_shape)
        inputs = dataclasses.replace(inputs, model=inner, outputs=outputs)
    return inputs, dataclasses.replace(plan, output_size=size)


def size_note(inputs: ExportInputs, plan: ExportPlan) -> tuple[str, ...]:
    """What the user should know of outputs that are smaller than the image."""
    shape = inputs.outputs.shape
    if plan.output_size != "decoder" or shape[1:3] == inputs.model.input_shape[1:3]:
        return ()
    height, width = inputs.outputs.shape[1:3]
    return (
        f"the outputs have the decoder's size, {height}x{width}: enlarge them by "
        "bilinear interpolation before the argmax, or give output_size='image'",
    )


def end_in_classes(path: pathlib.Path, dtype: str, pixels) -> pathlib.Path:
    """Let a file end in the class of each pixel, by ARG_MAX over the last axis.

    Arguments:
        path: of a `.tflite` file with outputs (N, h, w, C), which is changed to
            (N, h, w).
        dtype: of the classes, "int32" or "uint8".
        pixels: (N, H, W, C), of which the first are tried.

    Returns:
        The path of a copy of the file as it was, beside it.

    Raises:
        UnsupportedOperators: LiteRT finds other classes than the greatest outputs.
    """
    whole = shutil.copyfile(path, path.with_name(f"{path.name}.scores"))
    editor = GraphEditor(path.read_bytes())
    (scores,) = editor.graph.outputs
    axis = editor.new_constant(np.array([3], "int32"), "classes/axis")
    classes = editor.new_tensor(editor.shape(scores)[:-1], "int32", "classes")
    op = editor.insert_before(
        None, "ARG_MAX", [scores, axis], [classes], "ArgMaxOptions"
    )
    op.builtinOptions.outputType = editor.graph.tensors[classes].type
    if dtype != "int32":
        wide, classes = classes, editor.new_tensor(editor.shape(classes), dtype, dtype)
        op = editor.insert_before(None, "CAST", [wide], [classes], "CastOptions")
        op.builtinOptions.inDataType = editor.graph.tensors[wide].type
        op.builtinOptions.outDataType = editor.graph.tensors[classes].type
    editor.graph.outputs = [classes]
    for signature in editor.model.signatureDefs or ():
        for end in signature.outputs:
            end.tensorIndex = classes
    path.write_bytes(set_operator_versions(editor.content()))
    found, expected = (runners.load(file)(pixels[:1]) for file in (path, whole))
    if not np.array_equal(found, expected.argmax(-1)):
        raise UnsupportedOperators("LiteRT finds other classes than the greatest")
    return whole
