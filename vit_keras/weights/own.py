"""Weights that `save_weights` or `save` of a model of this package wrote."""

import io
import os
import zipfile

import h5py

# Keras files hold these beside the weights of the layers.
NOT_WEIGHTS = ("optimizer/", "seed_generator")


def load_own_weights(model, path):
    """Load a `.weights.h5` or `.keras` file of the same architecture.

    Arguments:
        model: a model of this package; unchanged if the file does not fit.
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another format, or another model's weights.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"`weights` must be an existing file. Received: weights={path!r}"
        )
    if not path.endswith((".weights.h5", ".keras")):
        raise ValueError(
            "`weights` must end in '.weights.h5' or '.keras'. "
            f"Received: weights={path!r}"
        )
    before = model.get_weights()
    try:
        held = _count_weights(path)
        expected = sum(
            not any(part in weight.path for part in NOT_WEIGHTS)
            for weight in model.weights
        )
        # Keras loads what it finds and does not mind what is left over.
        if held != expected:
            raise ValueError(f"it holds {held} weights, not {expected}")
        model.load_weights(path)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        model.set_weights(before)
        raise ValueError(
            f"`weights` must hold the weights of this architecture; {path} does not: "
            f"{error}"
        ) from error


def _count_weights(path):
    """Number of weights in a file, without optimizer and random state."""
    if path.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
    else:
        source = path
    names = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            names.append(name)

    with h5py.File(source) as file:
        file.visititems(visit)
    return sum(not any(part in name for part in NOT_WEIGHTS) for name in names)
