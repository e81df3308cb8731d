"""What `model.predict` gives its user, beside what an artefact is compared with.

An artefact holds the layers of a model, as TensorFlow traces them. `model.predict` may
be more: a class with its own `predict_step`, a task with a preprocessor, or, on another
backend, layers that their file did not describe whole.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ParityError
from .parity import Parity, measure_parity
from .reference import UNNAMED

FEW = 4  # images: two functions that differ do so on any
# Another function gives 30 dB at best; GPUs that compute in TF32 have 50 dB and more.
SAME_DB = 40.0
HALF_DB = 20.0  # float16 and bfloat16, which artefacts are not compared with
CAUSES = (
    "Either its class has a `predict` or `predict_step` of its own: put what that does "
    "into layers, or export keras.Model(model.inputs, model.outputs), fed what its "
    "layers take. Or its layers are others once saved and opened on TensorFlow: their "
    "`get_config` leaves something out, or they compute by the backend"
)
# What of Keras' trainers stands between `predict` and the layers.
PREDICTS = ("predict", "predict_step", "predict_on_batch", "make_predict_function")


def predicts_by_itself(model: Any) -> bool:
    """Whether a model's class defines `predict` or a part of it: that of Keras calls
    the layers with training=False."""
    plain = ("keras.src.trainers", "keras.src.backend")
    for name in PREDICTS:
        function = getattr(model, name, None)
        if not getattr(function, "__module__", "").startswith(plain):
            return True
    return False


@dataclasses.dataclass(frozen=True)
class UserPredictions:
    """What `model.predict` gives for a few images.

    Attributes:
        images: (N, H, W, C), as the artefact takes them.
        outputs: {name of the output in a file: float32 (N, ...)}; of a model with one
            "output".
    """

    images: np.ndarray
    outputs: dict[str, np.ndarray]

    @classmethod
    def of(cls, model: Any, images: np.ndarray, meaning: Any) -> "UserPredictions":
        """Run `model.predict` on what its user feeds it.

        Arguments:
            model: the user's Keras model, on any backend.
            images: (N, H, W, C), as the artefact takes them; the first are used.
            meaning: the `ModelInput` of the artefact.

        Raises:
            ValueError: it cannot be called.
        """
        from vit_keras.preprocessing import normalize

        from ..graph.source_model import name_of_output

        images = images[:FEW]
        fed = images.astype("float32")
        if meaning.inside is not None and not meaning.converts:
            fed = normalize(images, meaning.inside)
        try:
            found = model.predict(fed, batch_size=len(fed), verbose=0)
        except Exception as error:  # whatever the user's own code raises
            raise ValueError(
                "`model` must predict what it is exported for: model.predict says, of "
                f"images {fed.shape}: {error}"
            ) from error
        if not isinstance(found, Mapping):
            several = isinstance(found, list | tuple)
            found = dict(enumerate(found)) if several else {UNNAMED: found}
        outputs = {
            name_of_output(key): np.asarray(values, "float32")
            for key, values in found.items()
            if hasattr(values, "shape")
        }
        return cls(images, outputs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` file, for another process."""
        # The names are values: one of them may be "images".
        arrays: dict[str, Any] = {
            f"array_{i}": v for i, v in enumerate(self.outputs.values())
        }
        np.savez(path, images=self.images, names=list(self.outputs), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "UserPredictions":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            names = [str(name) for name in stored["names"]]
            outputs = {name: stored[f"array_{i}"] for i, name in enumerate(names)}
            return cls(stored["images"], outputs)


def check_predictions(inputs: Any, enforce: bool = True) -> tuple[str, ...]:
    """Check that what an artefact is compared with is what `model.predict` gives.

    Arguments:
        inputs: `ExportInputs`.
        enforce: whether another function is refused.

    Returns:
        Notes for the report.

    Raises:
        ParityError: it is another function.
    """
    if inputs.predicted is None:
        return ()
    from ..graph.find_vit import merges_by_similarity
    from ..graph.source_model import computes_in_float32

    by_image = merges_by_similarity(inputs.model)
    least = SAME_DB if computes_in_float32(inputs.model) else HALF_DB
    expected = inputs.references(inputs.predicted.images)
    for name, found in _shared_outputs(inputs).items():
        if found.shape == expected[name].shape:
            parity = measure_parity(found, expected[name], least, by_image=by_image)
            what = f"SQNR {parity.sqnr_db:.1f} dB"
        else:
            nan = math.nan
            parity = Parity(len(found), nan, nan, nan, None, least)
            what = f"of shape {found.shape} in place of {expected[name].shape}"
        if not parity.passed:
            words = f"`model.predict` gives something else than its layers, {what}"
            if enforce:
                raise ParityError(f"no file was written: {words}. {CAUSES}", parity)
            return (f"{words}, which are what is exported",)
    return ()


def _shared_outputs(inputs) -> dict[str, np.ndarray]:
    """{name in the artefact: what `predict` gives for it}, without those of the inside
    of a model, which it does not show."""
    from ..graph.named_outputs import own_name
    from ..graph.source_model import gives_dict

    found, names = inputs.predicted.outputs, inputs.names
    if names is not None:
        if gives_dict(inputs.model):
            return {name: found[name] for name in names if name in found}
        name = own_name(inputs.model)
        return {name: found[UNNAMED]} if name in names else {}
    if len(found) > 1:  # by the name or the index that was given
        found = {key: found[key] for key in _spellings(inputs.output) if key in found}
    return {UNNAMED: next(iter(found.values()))}


def _spellings(output):
    return str(output), f"output_{output}"
