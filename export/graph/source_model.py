"""The user's model as a functional Keras model that is traced as it is.

Nothing is rebuilt from a configuration, which may be incomplete and loses what is no
weight (`Normalization.adapt`): the layers that are traced are the user's own. Under
mixed precision their policies are float32 while they are called.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras


def as_functional(
    model: Any, input_shape: Sequence[int] | None = None, output: Any = None
) -> Any:
    """Return a functional model of the same layers, from one input to one output.

    Arguments:
        model: a Keras model: functional, sequential or subclassed.
        input_shape: (H, W, C), for a subclassed model that was never called.
        output: name or index of the output to take, of a model with several.

    Returns:
        `model` itself where it is one already.

    Raises:
        ValueError: it is no Keras model, is quantised by `model.quantize`, or takes
            anything but one batch of images (N, H, W, C) of a fixed size.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a Keras model. Received: {type(model).__name__}"
        )
    _check_not_quantized(model)
    if not _is_functional(model):
        model = _called(model, input_shape)
    if len(model.inputs) != 1:
        raise ValueError(
            "`model` must have one input, the images. Received: "
            f"{len(model.inputs)} inputs"
        )
    sequential = isinstance(model, keras.Sequential)
    if not sequential and model.input is not model.inputs[0]:  # a dict or list of one
        model = keras.Model(model.inputs[0], model.output, name=model.name)
    shape = model.input_shape
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            "`model` must take images of a fixed size (None, height, width, channels). "
            f"Received: input shape {shape}"
        )
    return _with_one_output(model, output)


def _is_functional(model):
    """Whether the model is a graph of layers."""
    return hasattr(model, "operations") or (
        isinstance(model, keras.Sequential) and bool(model.built and model.inputs)
    )


def _called(model, input_shape):
    """A functional model of one layer, which is the subclassed model."""
    if input_shape is None:
        shapes = (model.get_build_config() or {}).get("input_shape")
        if not isinstance(shapes, tuple | list) or len(shapes) != 4:
            raise ValueError(
                "`input_shape` must be given for a subclassed model that was not "
                "called on images yet: (height, width, channels)"
            )
        input_shape = shapes[1:]
    images = keras.Input(tuple(input_shape), name="images")
    try:
        outputs = model(images, training=False)
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(
            f"`model` cannot be called on images {tuple(input_shape)}: {error}"
        ) from error
    return keras.Model(images, outputs, name=model.name)


def _with_one_output(model, output):
    """The model, or its layers up to the one output that is wanted."""
    found = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    named: dict[Any, Any] = {}
    if isinstance(found, dict):
        named = dict(found)
    elif isinstance(found, list | tuple):
        named = dict(enumerate(found))
    elif output is None:
        return model
    else:
        raise ValueError(
            "`output` is for a model of several outputs; this has one. "
            f"Received: output={output!r}"
        )
    if output is None and len(named) == 1:
        (output,) = named
    key: Any = output
    if str(output).isdigit() and int(str(output)) in named:  # of a command line
        key = int(str(output))
    if key not in named:
        valid = ", ".join(map(repr, named))
        raise ValueError(
            f"`output` must name one of the model's {len(named)} outputs: {valid}. "
            f"Received: output={output!r}"
        )
    return keras.Model(model.inputs[0], named[key], name=model.name)


def nodes_of(model: Any) -> list[Any]:
    """The calls of layers in a functional or sequential model.

    Raises:
        ValueError: it is a subclassed model.
    """
    graph = getattr(model, "_functional", None) or model
    levels = getattr(graph, "_nodes_by_depth", None)
    if levels is None:
        raise ValueError(f"'{model.name}' is a subclassed model without a graph")
    return [node for depth in sorted(levels, reverse=True) for node in levels[depth]]


def _check_not_quantized(model):
    """Refuse integer kernels: they are no float weights to export."""
    for layer in model._flatten_layers():
        policy = getattr(layer, "dtype_policy", None)
        mode = getattr(policy, "quantization_mode", None)
        if mode is not None:
            raise ValueError(
                f"`model` must have float weights; its layer '{layer.name}' was "
                f"quantised to {mode} by `model.quantize`. Export the model as it was "
                "before: the export quantises by itself (`scheme`)"
            )


def computes_in_float32(model: Any) -> bool:
    """Whether no layer of a model computes in half precision."""
    return not _half_layers(model)


def _half_layers(model):
    half = ("float16", "bfloat16")
    return [
        layer
        for layer in model._flatten_layers()
        if getattr(layer, "compute_dtype", None) in half
    ]


class _Float32Policy(keras.DTypePolicy):
    """Computes in float32 with variables of any dtype, which are cast when read."""

    def __init__(self, variable_dtype):
        super().__init__("float32")
        self._variable_dtype = variable_dtype


@contextlib.contextmanager
def float32_policies(model: Any) -> Iterator[None]:
    """Have every layer of a model compute in float32, and restore its policy."""
    layers = [(layer, layer.dtype_policy) for layer in _half_layers(model)]
    try:
        for layer, policy in layers:
            layer.dtype_policy = _Float32Policy(policy.variable_dtype)
        yield
    finally:
        for layer, policy in layers:
            layer.dtype_policy = policy


def in_float32(model: Any) -> Callable[..., Any]:
    """Return the function of images that a model computes, in float32.

    A model trained under mixed precision cannot be converted, and its file would not
    be the better for it.
    """

    def function(*inputs):
        tensors = [keras.ops.convert_to_tensor(value) for value in inputs]
        with float32_policies(model):
            return model(tensors[0] if len(tensors) == 1 else tensors, training=False)

    return function
