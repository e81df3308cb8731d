"""Quantisation-aware training: training with the arithmetic of the integer file.

Example:

    aware = export.quantize_aware(model, images)
    aware.compile(optimizer, loss, metrics=["accuracy"])
    aware.fit(images, labels)
    export.to_tflite(aware, "m.tflite", scheme="int8")
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vit_keras import VisionTransformer

    from .aware_model import QuantizedModel

EXCLUDED = ("embedding", "head", "head_dist")


def quantize_aware(
    model: "VisionTransformer",
    images: Any,
    *,
    target: str | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    layer_norm: str | None = None,
    exclude: Sequence[str] = EXCLUDED,
    distillation: float = 4.0,
) -> "QuantizedModel":
    """Convert a Keras model to one that trains with simulated int8 arithmetic.

    The graph is the one that `to_tflite` writes, rewrites included, with fake
    quantisation (arXiv 1712.05877) wherever that file has a scale. The quantisers are
    those of TensorFlow Model Optimization. Inputs and outputs are those of `model`.

    Arguments:
        model: from `vit_keras.create_model`, on the TensorFlow backend; not changed.
        images: a folder of images, a `.npy` file or an array (N, H, W, C) of pixels
            0..255, for the initial ranges; no labels. 128 are used.
        target: device of the file, a name in `TARGETS`; it decides the graph.
        weight_bits: of kernels: 8, 4, 3 or 2.
        activation_bits: 8, the width of integer kernels.
        layer_norm: "int8", or "float": norms, softmax and GELU stay in float, and only
            linear layers are quantised, as for target "cpu". None for the target's
            choice.
        exclude: layers whose kernels keep 8 bits: `embedding`, `head`, `head_dist`,
            `pre_logits`, `pooling`, `encoderblock_{i}`.
        distillation: weight of an additional loss that keeps the outputs near those of
            `model` (arXiv 1503.02531); 0 for none. The default weighs more than the
            labels, from which a trained model has little left to learn.

    Returns:
        A `QuantizedModel` to `compile` and `fit`. `ranges()` returns its ranges,
        `to_float()` a plain `VisionTransformer` with its weights; open a saved one with
        `open_quantized`.

    Raises:
        ValueError: an argument is invalid, or Keras runs on another backend.
        FileNotFoundError: `images` names no file or folder.
        MissingDependency: the extra "qat" is not installed.
    """
    from ...backend import require_tensorflow

    require_tensorflow("quantize_aware")
    from .aware_model import BITS, build_aware

    for name, value, valid in (
        ("weight_bits", weight_bits, BITS),
        ("activation_bits", activation_bits, (8,)),
        ("layer_norm", layer_norm, (None, "int8", "float")),
    ):
        if value not in valid:
            names = ", ".join(repr(v) for v in valid)
            raise ValueError(f"`{name}` must be one of {names}. Received: {value!r}")
    if not 0 <= distillation < float("inf"):
        raise ValueError(f"`distillation` must be at least 0. Received: {distillation}")
    return build_aware(
        model, images, target, weight_bits, layer_norm, exclude, distillation
    )


def open_quantized(path: str | os.PathLike[str]) -> "QuantizedModel":
    """Open a saved `QuantizedModel`, in safe mode, with its optimizer.

    Arguments:
        path: a `.keras` file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file contains another model.
    """
    from ...backend import require_tensorflow

    require_tensorflow("open_quantized")
    import keras

    from vit_keras.model_file import open_model

    from .aware_model import QuantizedModel

    model = open_model(path)
    if not isinstance(model, QuantizedModel):
        raise ValueError(
            f"`path` must hold a model of `quantize_aware`. Received: '{path}', which "
            f"holds a {type(model).__name__}"
        )
    return keras.models.load_model(path)
