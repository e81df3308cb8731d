"""A SavedModel in Triton's Python backend, which Triton runs as `model.py`.

The package of Triton that PyPI has carries this backend alone. The requests of a batch
come together, and are answered by one call.
"""

import pathlib

import numpy as np
import tensorflow as tf
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One version, in a process of its own."""

    def initialize(self, args):
        """Load the SavedModel beside this file."""
        folder = pathlib.Path(args["model_repository"], args["model_version"])
        self.loaded = tf.saved_model.load(str(folder / "saved_model"))
        self.predict = self.loaded.signatures["predict_bytes"]

    def execute(self, requests):
        """Answer the requests of a batch."""
        entries = [
            triton.get_input_tensor_by_name(request, "image_bytes").as_numpy()[:, 0]
            for request in requests
        ]
        items = [item for entry in entries for item in entry]
        found = self.predict(image_bytes=tf.constant(items))
        outputs = {name: found[name].numpy() for name in ("logits", "top_ids")}
        outputs["valid"] = found["valid"].numpy()[:, None]
        ends = np.cumsum([len(entry) for entry in entries])[:-1]
        parts = {name: np.split(value, ends) for name, value in outputs.items()}
        return [
            triton.InferenceResponse(
                [triton.Tensor(name, part[i]) for name, part in parts.items()]
            )
            for i in range(len(requests))
        ]
