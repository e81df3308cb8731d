"""Several outputs of one file by name: the model's own, or those inside a ViT."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from vit_keras import VisionTransformer, attention_map

from .find_vit import find_vit
from .model_output import ModelOutput, read_model_output
from .source_model import float32_policies, gives_dict, in_float32

ALL = "all"  # in place of names
ATTENTION, FEATURES, POOLED = "attention", "features", "pooled"


def names_of_outputs(model: Any, outputs: Any) -> tuple[str, ...] | None:
    """The names of a file's outputs, the first one first.

    Arguments:
        model: what `as_functional` returns.
        outputs: what the user wants of it; see `to_tflite`.

    Returns:
        None for one output without a name.

    Raises:
        ValueError: the model does not give them.
    """
    if outputs is None:
        return None
    if gives_dict(model):
        return tuple(model.output)
    valid = names_inside(model)
    if not valid:
        raise ValueError(
            "`outputs` must be None for a model of one output that is no classifier of "
            f"`vit_keras.create_model`. Received: outputs={outputs!r}"
        )
    if outputs == ALL:
        return valid
    wanted = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    if not wanted or not set(wanted) <= set(valid) or len(set(wanted)) < len(wanted):
        raise ValueError(
            f"`outputs` must be different ones of {', '.join(valid)}, or {ALL!r}, for "
            f"this model. Received: outputs={outputs!r}"
        )
    return wanted


def names_inside(model: Any) -> tuple[str, ...]:
    """What a file of a classifier can give, its own output first; else nothing."""
    if find_vit(model) is not model or model.task != "classify":
        return ()
    config = model.config
    if config.pooling is None:
        return ()
    own = own_name(model)
    if config.token_merging or config.tome:  # the others are of all patches
        return (own,) if own == POOLED else (own, POOLED)
    inner = [ATTENTION] if config.fc_norm else [ATTENTION, FEATURES]
    return (own, *inner) if own == POOLED else (own, *inner, POOLED)


def own_name(model: Any) -> str:
    """The name of a classifier's own output."""
    if not model.config.include_top:
        return POOLED
    outputs = read_model_output(model)
    if outputs.head == "regression":
        return "values"
    return "probabilities" if outputs.is_probability else "logits"


def function_by_name(
    model: Any, names: Sequence[str] | None
) -> Callable[[Any], dict[str, Any]]:
    """What Keras computes for the outputs of a file, in float32.

    Arguments:
        model: what `as_functional` returns.
        names: of the outputs, of `names_of_outputs`.

    Returns:
        Function from images as the model takes them to {name: values}; for None, to
        what the model gives.
    """
    if names is None or gives_dict(model):
        return in_float32(model)
    tensors = {own_name(model): model.output}
    if FEATURES in names:
        tensors[FEATURES] = model.get_layer("encoder_norm").output
    if POOLED in names and POOLED not in tensors:
        tensors[POOLED] = model.get_layer("head").input
    run = in_float32(keras.Model(model.input, tensors))
    # Of its own, because what shows attention is kept for each model, as it was traced.
    fresh = {"config": model.config, "task": model.task}
    shown = VisionTransformer(model.inputs[0], model.outputs[0], model.name, **fresh)

    def function(images):
        found = dict(run(images))
        if ATTENTION in names:
            given = keras.ops.convert_to_numpy(images)
            with float32_policies(shown):
                found[ATTENTION] = attention_map(
                    shown, given, "attention", layer=-1, per_patch=True
                )
        return {name: found[name] for name in names}

    return function


def read_named_outputs(
    model: Any, names: tuple[str, ...] | None, head: str | None, labels: Any
) -> tuple[ModelOutput, str | None]:
    """What the outputs of a file mean that has labels and a head.

    That is the first one with classes; with `labels`, with as many classes.

    Arguments:
        model, names: as in `function_by_name`.
        head: what the user says of that output, or None.
        labels: names of classes or values, or None.

    Returns:
        Its meaning, and its name; for one without a name None.

    Raises:
        ValueError: `head` fits none of them.
    """
    if names is None:
        return read_model_output(model, head), None
    if not gives_dict(model):
        if (own := own_name(model)) in names:
            return read_model_output(model, head), own
        shape = function_by_name(model, names[:1])(_grey(model))[names[0]].shape
        return ModelOutput((None, *shape[1:]), None, "linear"), names[0]
    found, refused = {}, None
    for name in names:
        alone = keras.Model(model.inputs[0], model.output[name], name=model.name)
        try:
            found[name] = read_model_output(alone, head)
        except ValueError as error:
            refused = error
    if refused is not None and not found:
        raise refused
    ranked = sorted(found, key=lambda name: not found[name].classifies)
    number = None if labels is None else len(list(labels))
    fits = [name for name in ranked if number in (None, found[name].names)]
    chosen = (fits or ranked)[0]
    return found[chosen], chosen


def _grey(model):
    return np.zeros((1, *model.input_shape[1:]), "float32")
