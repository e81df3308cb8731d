"""A SavedModel as a runtime of MLServer, which has none of its own."""

import asyncio

import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from mlserver.utils import get_model_uri


class SavedModelRuntime(MLModel):
    """One version."""

    async def load(self) -> bool:
        """Load the SavedModel in its folder."""
        folder = await get_model_uri(self.settings)
        self.loaded = await asyncio.to_thread(tf.saved_model.load, folder)
        self.predict_bytes = self.loaded.signatures["predict_bytes"]
        return True

    async def predict(self, payload):
        """Answer a request, or several that MLServer joined."""
        data = payload.inputs[0].data
        items = tf.constant(list(getattr(data, "root", data)), tf.string)
        found = await asyncio.to_thread(self.predict_bytes, image_bytes=items)
        outputs = {name: found[name].numpy() for name in ("logits", "top_ids")}
        outputs["valid"] = found["valid"].numpy()[:, None]
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[
                NumpyCodec.encode_output(n, value) for n, value in outputs.items()
            ],
        )
