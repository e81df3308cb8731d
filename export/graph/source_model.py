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
    model: Any,
    input_shape: Sequence[int] | None = None,
    output: Any = None,
    outputs: Any = None,
) -> Any:
    """Return a functional model of the same layers, from one input to one output.

    Arguments:
        model: a Keras model: functional, sequential or subclassed.
        input_shape: (H, W, C), for a subclassed model that was never called.
        output: name or index of the output to take, of a model with several.
        outputs: names or indices of those to take, or "all", instead.

    Returns:
        `model` itself where it is one already. With `outputs`, of a model with several,
        it gives a dict of them.

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
    if output is not None and outputs is not None:
        raise ValueError(
            "Give `output` for one output without a name, or `outputs`, not both. "
            f"Received: output={output!r}, outputs={outputs!r}"
        )
    named = _named_outputs(model)
    if outputs is None or not named:
        return _with_one_output(model, named, output)
    return keras.Model(model.inputs[0], _several(named, outputs), name=model.name)


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


def gives_dict(model: Any) -> bool:
    """Whether a functional model gives {name: output}."""
    sequential = isinstance(model, keras.Sequential)
    return not sequential and isinstance(model.output, dict)


def _named_outputs(model) -> dict[Any, Any]:
    """{name or index: output}, empty for a model whose output is one tensor."""
    found = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    if isinstance(found, dict):
        return dict(found)
    return dict(enumerate(found)) if isinstance(found, list | tuple) else {}


def _with_one_output(model, named, output):
    """The model, or its layers up to the one output that is wanted."""
    if not named:
        if output is None:
            return model
        raise ValueError(
            "`output` is for a model of several outputs; this has one. "
            f"Received: output={output!r}"
        )
    if output is None and len(named) == 1:
        (output,) = named
    key = _key(named, output)
    if key is None:
        raise ValueError(
            f"`output` must name one of the model's {len(named)} outputs: "
            f"{', '.join(map(repr, named))}; or give `outputs` for several. "
            f"Received: output={output!r}"
        )
    return keras.Model(model.inputs[0], named[key], name=model.name)


def _several(named, outputs) -> dict[str, Any]:
    """{name in the file: output} of those that are wanted, in their order."""
    wanted = [outputs] if isinstance(outputs, str | int) else list(outputs)
    keys = list(named) if outputs == "all" else [_key(named, name) for name in wanted]
    if not keys or None in keys or len(set(keys)) < len(keys):
        raise ValueError(
            f"`outputs` must be different ones of the model's {len(named)} outputs: "
            f'{", ".join(map(repr, named))}; or "all". Received: outputs={outputs!r}'
        )
    found = {name_of_output(key): named[key] for key in keys}
    nested = [name for name, end in found.items() if not hasattr(end, "shape")]
    if nested:
        raise ValueError(
            "`outputs` must be tensors, each with a name of its own. Received: "
            f"{nested[0]!r}, a {type(found[nested[0]]).__name__}"
        )
    return found


def name_of_output(key: str | int) -> str:
    """The name in a file of the output of a model that gives a dict or a list."""
    return key if isinstance(key, str) else f"output_{key}"


def _key(named, output) -> Any:
    """The key of an output by its name or index, also as a command line gives it, or
    by its name in a file; None if there is none."""
    words = {name: key for key in named for name in (str(key), name_of_output(key))}
    return words.get(str(output))


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
