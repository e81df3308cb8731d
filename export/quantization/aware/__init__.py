"""Quantisation-aware training: a model that trains as its integer file will compute.

aware = export.quantize_aware(model, images)
aware.compile(optimizer, loss, metrics=["accuracy"])
aware.fit(images, labels)
export.to_tflite(aware, "m.tflite", scheme="int8")
"""

EXCLUDED = ("embedding", "head", "head_dist")


def quantize_aware(
    model,
    images,
    *,
    target=None,
    weight_bits=8,
    activation_bits=8,
    layer_norm=None,
    exclude=EXCLUDED,
    distillation=4.0,
):
    """A Keras model to `compile` and `fit`, which computes what an int8 file will.

    The graph is the one that `to_tflite` writes, rewrites included; fake quantisation
    (arXiv 1712.05877) stands wherever that file has a scale. The quantisers are those
    of TensorFlow Model Optimization. Inputs and outputs are those of `model`.

    Arguments:
        model: of `vit_keras.create_model`, on the TensorFlow backend; not changed.
        images: a folder of images, a `.npy` file or an array (N, H, W, C) of pixels
            0..255, from which the first ranges come; no labels. 128 are used.
        target: where the file is to run, a name in `TARGETS`; it decides the graph.
        weight_bits: of kernels: 8, 4, 3 or 2.
        activation_bits: 8, what integer kernels compute with.
        layer_norm: "int8", or "float": then norms, softmax and GELU stay in float, and
            linear layers alone are quantised, as target "cpu" has it. None for what
            `target` wants.
        exclude: layers whose kernels have 8 bits in any case: `embedding`, `head`,
            `head_dist`, `pre_logits`, `pooling`, `encoderblock_{i}`.
        distillation: weight of an additional loss that keeps the outputs near those of
            `model` (arXiv 1503.02531); 0 for none. The default weighs more than the
            labels: a model that is good already has little to learn from them.

    Returns:
        A `QuantizedModel`. `ranges()` reports its ranges, `to_float()` gives its
        weights to a plain `VisionTransformer`; open a saved one with `open_quantized`.

    Raises:
        ValueError: an argument cannot be, or another backend.
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


def open_quantized(path):
    """Open a saved model of `quantize_aware`, in safe mode, with its optimizer.

    Arguments:
        path: a `.keras` file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds another model.
    """
    from ...backend import require_tensorflow

    require_tensorflow("open_quantized")
    import keras

    from vit_keras.model_file import open_model

    from .aware_model import QuantizedModel

    model = open_model(path)
    if not isinstance(model, QuantizedModel):
        raise ValueError(f"'{path}' must hold a model of `quantize_aware`")
    return keras.models.load_model(path)
