"""`zero_shot`: a classifier whose head is made of words, without training."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .heads import HEADS
from .labels import check_labels
from .network import VisionTransformer, build_network

# Heads by which similarities were trained: among all texts (CLIP), or each alone
# (SigLIP).
ZERO_SHOT_HEADS = ("softmax", "multi_label")


def zero_shot(
    image_model: VisionTransformer,
    text_embeddings: Any,
    labels: Sequence[str],
    logit_scale: float,
    logit_bias: float | None = None,
    *,
    head: str | None = None,
    activation: str | None = None,
    name: str | None = None,
) -> VisionTransformer:
    """Build the zero-shot classifier of an image model and of embedded texts.

    The logit of a label is the cosine of image and text, times `logit_scale`, plus
    `logit_bias` (CLIP, arXiv 2103.00020, section 3.1.4; SigLIP, arXiv 2303.15343,
    section 3.2). The texts become the kernel of an ordinary head behind a `UnitNorm`:
    the result is saved, trained and exported as any other classifier.

    Arguments:
        image_model: from `from_checkpoint(folder, include_top=False)`: images
            (N, H, W, C) to one vector (N, D) each. CLIP's projection is a part of it
            (`representation_size`). Its weights are copied.
        text_embeddings: (K, D) numbers, one row for each label, of any length: each
            is divided by its own. `text_embeddings(...).embeddings` gives them.
        labels: K different names, in the order of the rows.
        logit_scale: the factor itself, above 0. Files of CLIP and SigLIP store its
            logarithm: CLIP's 4.6052 is 100.
        logit_bias: added to each logit, as in SigLIP; None for none.
        head: "softmax" for one label of K per image, as CLIP was trained, or
            "multi_label" for the probability of each label on its own, as SigLIP was;
            None for "multi_label" with a `logit_bias`, else "softmax".
        activation: "linear" for logits; None for the head's probabilities, "softmax" or
            "sigmoid".
        name: of the model; None for that of `image_model`.

    Returns:
        A classifier, float32 (N, K), with the labels in its `config`.

    Raises:
        ValueError: `image_model` gives no vector per image, or was changed by hand;
            shapes, labels or numbers do not fit.
    """
    config = _checked_config(image_model)
    names = check_labels(labels)
    if head is None:
        head = "softmax" if logit_bias is None else "multi_label"
    if head not in ZERO_SHOT_HEADS:
        raise ValueError(
            f"`head` must be one of {', '.join(ZERO_SHOT_HEADS)}. "
            f"Received: head={head!r}"
        )
    if head == "softmax" and len(names) == 1:
        raise ValueError(
            "`labels` must be at least two for head='softmax', which gives one alone "
            f"the probability 1. Received: {names}"
        )
    valid = ("linear", str(HEADS[head].probability))
    activation = valid[1] if activation is None else activation
    if activation not in valid:
        raise ValueError(
            f"`activation` must be one of {', '.join(valid)} for head={head!r}. "
            f"Received: activation={activation!r}"
        )
    width = int(image_model.output_shape[-1])
    texts = _unit_rows(text_embeddings, len(names), width)
    scale = _number("logit_scale", logit_scale)
    if scale <= 0:
        raise ValueError(
            "`logit_scale` must be above 0: the factor, not its logarithm. "
            f"Received: logit_scale={scale}"
        )
    bias = 0.0 if logit_bias is None else _number("logit_bias", logit_bias)

    changes: dict[str, Any] = {"classes": len(names), "labels": tuple(names)}
    changes |= {"head": head, "activation": activation}
    config = config.replace(include_top=True, unit_norm=True, **changes)
    model = build_network(config, "classify", name or image_model.name)
    _copy_weights(image_model, model)
    model.get_layer("head").set_weights([scale * texts.T, np.full(len(names), bias)])
    return model


def _checked_config(image_model):
    """Return the configuration of a model that gives one vector per image."""
    config = getattr(image_model, "config", None)
    if config is None or not isinstance(image_model, VisionTransformer):
        raise ValueError(
            "`image_model` must be a VisionTransformer of this package with its "
            f"config. Received: {type(image_model).__name__}"
        )
    found = {"task": image_model.task, "include_top": config.include_top}
    found["pooling"] = config.pooling
    wrong = found["task"] != "classify" or config.include_top or config.pooling is None
    if wrong or config.distillation_token:
        found["distillation_token"] = config.distillation_token
        raise ValueError(
            "`image_model` must give one vector per image, as from "
            "from_checkpoint(..., include_top=False). Received: "
            + ", ".join(f"{key}={value!r}" for key, value in found.items())
        )
    return config


def _unit_rows(embeddings, rows, width):
    """Return embeddings (K, D) in float64, each of length 1."""
    found = np.asarray(embeddings).astype("float64")
    if found.shape != (rows, width):
        raise ValueError(
            f"`text_embeddings` must have the shape ({rows}, {width}): a row for each "
            "of the labels, as wide as the vectors of the image model. Received: "
            f"{found.shape}"
        )
    lengths = np.linalg.norm(found, axis=-1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        raise ValueError(
            "`text_embeddings` must be finite, and no row all zeros. Received such "
            f"values in {bad.size} rows, the first is {bad[0]}"
        )
    return found / lengths


def _number(name, value):
    """Return a finite number, also of an array of one, as files store it."""
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise ValueError(f"`{name}` must be a finite number. Received: {name}={value}")
    return float(found.reshape(()))


def _copy_weights(source, model):
    """Copy all weights by path; only the head of `model` stays as it is."""
    ours = {w.path: w for w in model.weights if not w.path.startswith("head/")}
    theirs = {w.path: w for w in source.weights}
    wrong = sorted(set(ours) ^ set(theirs))
    wrong += [p for p in ours if p in theirs and ours[p].shape != theirs[p].shape]
    if wrong:
        raise ValueError(
            "`image_model` must have the weights that its config tells. Others are: "
            f"{', '.join(wrong[:5])}{', ...' if len(wrong) > 5 else ''}"
        )
    for path, variable in ours.items():
        # JAX would give both models one buffer, which training in one of them frees.
        variable.assign(np.array(keras.ops.convert_to_numpy(theirs[path].value)))
