"""Reference: what the Keras model computes, in float32."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .interpreter import check_images

UNNAMED = "output"  # name in the signature of a file of one output


def predict(model, images, *, preprocessing=None, batch_size: int = 32) -> np.ndarray:
    """Return the Keras model's outputs on what its user feeds it, in float32.

    Half precision would be an error of the reference, not of the artefact: the layers
    of a model trained under mixed precision compute in float32 for this.

    Arguments:
        model: a functional Keras model.
        images: (N, H, W, C), pixels 0..255, or what else the model takes.
        preprocessing: the `vit_keras.Preprocessing` of what the user feeds; None means
            that of a ViT that reads the model's input, and without one, the images are
            passed as they are.

    Returns:
        float32 array (N, ...).
    """
    from ..graph.model_input import read_model_input

    if preprocessing is None:
        preprocessing = read_model_input(model).inside
    return reference_outputs(model, images, preprocessing, batch_size)


def references(
    model: Any,
    images: Any,
    preprocessing: Any,
    batch_size: int = 32,
    *,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Return the `reference_outputs` by name, also that of a file of one output."""
    options = {"batch_size": batch_size, "names": names}
    found: Any = reference_outputs(model, images, preprocessing, **options)
    return {UNNAMED: found} if names is None else found


def reference_outputs(
    model: Any,
    images: Any,
    preprocessing: Any,
    batch_size: int = 32,
    names: Sequence[str] | None = None,
) -> Any:
    """Return the outputs that an artefact is compared with; arguments as `predict`'s,
    but for `preprocessing`: None means that the model gets the images as they are.
    With `names`, of `graph.named_outputs`, a dict of several."""
    import keras

    from vit_keras.preprocessing import normalize

    from ..graph.named_outputs import function_by_name
    from ..graph.source_model import computes_in_float32, gives_dict

    images = check_images(images, model.input_shape)
    # A file of another maker runs as it is.
    outputs, run = [], getattr(model, "reference", None)
    run = run or function_by_name(model, names)
    # Compiling pays on other backends only.
    if keras.backend.backend() != "tensorflow" and computes_in_float32(model):
        if names is None or gives_dict(model):
            run = model.predict_on_batch
    for start in range(0, len(images), batch_size):  # never all images as float32
        chunk = images[start : start + batch_size]
        # Padded, so that the model is traced for one shape only.
        filled = np.resize(chunk, (batch_size, *chunk.shape[1:])).astype("float32")
        if preprocessing is not None:
            filled = normalize(filled, preprocessing)
        found = keras.tree.map_structure(keras.ops.convert_to_numpy, run(filled))
        outputs.append(_first(found, len(chunk)))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *outputs)


def _first(outputs, number):
    if isinstance(outputs, dict):
        return {name: _first(values, number) for name, values in outputs.items()}
    return np.asarray(outputs, "float32")[:number]
