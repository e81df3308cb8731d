"""What the Keras model gives for the reported images, at each size of outputs."""

import math
from typing import Any

import numpy as np

from ..evaluation.reference import UNNAMED, references
from ..graph.up_to_decoder import up_to_decoder
from ..inputs import ExportInputs
from .reported_images import ReportedImages
from .scores import Scored, score_outputs


class KerasReference:
    """The Keras model on the reported images; each size of outputs is computed once.

    Arguments:
        subject: the opened model.
        images: the reported images.
    """

    def __init__(self, subject: ExportInputs, images: ReportedImages):
        self.subject, self.images = subject, images
        self._models: dict[tuple, Any] = {subject.model.output_shape[1:]: subject.model}
        self._scored: dict[tuple, Scored] = {}

    def outputs(self, pixels: np.ndarray, shape: Any = None) -> np.ndarray:
        """Return the outputs (N, ...) for pixels.

        Arguments:
            pixels: (N, H, W, C).
            shape: of the outputs of a file; None is the model's own.
        """
        model = self._model(shape)
        return references(model, pixels, self.subject.preprocessing)[UNNAMED]

    def scored(self, shape: Any = None, name: str = "an artefact") -> Scored:
        """Return the scores on the reported images.

        Arguments:
            shape: as for `outputs`.
            name: of the file that gives these, for the message.

        Raises:
            ValueError: the model has no outputs of this shape, or the metric is not a
                number on these images.
        """
        key = self._model(shape, name).output_shape[1:]
        if key not in self._scored:
            self._scored[key] = found = score_outputs(
                lambda pixels: self.outputs(pixels, shape),
                self.images,
                self.subject.outputs,
            )
            if not math.isfinite(found.value):
                metric = self.subject.outputs.kind.metric.replace("_", " ")
                raise ValueError(
                    f"`data` must tell the {metric} of a model: some label, class or "
                    f"depth must be there. Received: {len(self.images)} images, for "
                    f"which it is {found.value}"
                )
        return self._scored[key]

    def _model(self, shape, name="an artefact"):
        shape = self.subject.model.output_shape if shape is None else tuple(shape)
        key = shape[1:]
        if key not in self._models:
            inner = up_to_decoder(self.subject.model)
            if inner is None or inner.output_shape[1:] != key:
                raise ValueError(
                    f"outputs of {name} must have the shape of the model's, "
                    f"{self.subject.model.output_shape}. Received: shape={shape}"
                )
            self._models[key] = inner
        return self._models[key]
