"""The Keras model around `QuantizedViT`, for compiling, fitting and saving."""

from typing import cast

import keras
import numpy as np
from keras import ops

from vit_keras import VisionTransformer, ViTConfig, data

from ...graph.build import inference_graph
from ...graph.find_vit import check_no_decoder, check_no_tome, find_vit
from ...graph.inference_layer import InferenceViT
from ...graph.read_vit import read_weights
from ...graph.sparsity import rewrites_that_break_sparsity
from ...graph.vit_weights import Weights
from ...graph.write_weights import build_vit
from ...resolve import resolve
from ...targets import get_target
from .layer import QuantizedViT
from .weight_paths import few_values, kernel_bits, mean_direction

BITS = (8, 4, 3, 2)
IMAGES = 128  # for initial ranges; more hardly widen them


@keras.saving.register_keras_serializable(package="vit_keras_export")
class QuantizedModel(keras.Model):
    """A functional model that computes as its integer file will.

    Inputs, outputs, `config` and `task` are those of the float model that it was made
    from.
    """

    @property
    def quantized(self) -> QuantizedViT:
        """The layer with the quantised network."""
        (found,) = [x for x in self.layers if isinstance(x, QuantizedViT)]
        return found

    @property
    def config(self) -> ViTConfig:
        """The `ViTConfig`."""
        return self.quantized.source_weights.config

    @property
    def task(self) -> str:
        """ "classify" or "features"."""
        return self.quantized.source_weights.task

    def ranges(self) -> np.ndarray:
        """Return the ranges (number of activations, 2), min and max of each, in order
        of computation."""
        layer = self.quantized
        return np.stack([np.asarray(layer.low), np.asarray(layer.high)], 1)

    def to_float(self) -> VisionTransformer:
        """Return a plain `VisionTransformer` with these weights, unquantised."""
        weights = self.quantized.arrays(snapped=False)
        return build_vit(weights, self.quantized.unfolded(weights.embedding))


@keras.saving.register_keras_serializable(package="vit_keras_export")
class Distillation(keras.layers.Layer):
    """A layer that adds the distance between outputs and a teacher's to the loss.

    Logits are compared as softmax, or sigmoids, with `temperature` (arXiv 1503.02531),
    other outputs by squared error over the teacher's variance.

    Arguments:
        teacher: the float model; it is not trained.
        weight: of this loss, beside the one given to `compile`.
        temperature: of both softmaxes, or sigmoids.

    Call arguments:
        images, outputs: of the student.

    Returns:
        `outputs`, unchanged.
    """

    def __init__(self, teacher, weight=1.0, temperature=2.0, **kwargs):
        super().__init__(**kwargs)
        self.teacher, self.weight, self.temperature = teacher, weight, temperature
        # Keras skips the layers of a loaded model whose flag is False already.
        teacher.trainable = True
        teacher.trainable = False

    def call(self, images, outputs, training=None):
        if training:
            expected = ops.stop_gradient(self.teacher(images, training=False))
            self.add_loss(self.weight * self._distance(expected, outputs))
        return outputs

    def _distance(self, expected, outputs):
        config, t = getattr(self.teacher, "config", None), self.temperature
        head = getattr(config, "head", "softmax")
        if len(outputs.shape) != 2 or head == "regression":
            return ops.mean((outputs - expected) ** 2) / ops.var(expected)
        if head == "softmax":
            logs = [ops.log_softmax(x / t) for x in (expected, outputs)]
        else:  # of yes and no, for each label
            logs = [
                ops.stack([ops.log_sigmoid(x / t), ops.log_sigmoid(-x / t)], -1)
                for x in (expected, outputs)
            ]
        gaps = ops.exp(logs[0]) * (logs[0] - logs[1])
        return t**2 * ops.mean(ops.sum(gaps, -1))

    def compute_output_shape(self, images_shape, outputs_shape):
        return outputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "weight": self.weight,
            "temperature": self.temperature,
        }

    @classmethod
    def from_config(cls, config):
        teacher = keras.saving.deserialize_keras_object(config.pop("teacher"))
        return cls(teacher, **config)


def build_aware(model, images, target, weight_bits, layer_norm, exclude, distillation):
    """Build the model of `quantize_aware`; the arguments are the same."""
    vit = find_vit(model)
    if vit is None or vit is not model:
        raise ValueError(
            "`model` must be a ViT of `vit_keras.create_model`, without layers around "
            f"it. Received: {getattr(model, 'name', type(model).__name__)}"
        )
    check_no_decoder("quantize_aware", model)
    check_no_tome("a model with `tome`", "`model.config.tome` must be ()", model)
    plan = _plan(target, layer_norm)
    preprocessing = model.config.preprocessing
    pixels = data.load_images(images, model.input_shape[1:3], preprocessing, IMAGES)
    graph = inference_graph(model, preprocessing, pixels, plan.graph)
    if not isinstance(graph.function, InferenceViT):
        raise ValueError(f"`model` cannot be trained as integers: {graph.notes[0]}")
    weights = cast(Weights, graph.function.source_weights)
    scale, offset = preprocessing.scale_and_offset()
    kept, _ = rewrites_that_break_sparsity(read_weights(model))
    layer = QuantizedViT(
        weights,
        plan.graph,
        kernel_bits(weights, weight_bits, exclude),
        plan.linear_only,
        scale.tolist(),
        offset.tolist(),
        keep_zeros=bool(kept),
        values=few_values(weights) if kept else {},
        name="vit",
    )
    layer.update()
    layer.direction.assign(mean_direction(weights))
    layer.calibrate(pixels)
    layer.fit_clips()
    inputs = keras.Input(model.input_shape[1:], name="images")
    outputs = layer(inputs)
    if distillation:
        outputs = Distillation(model, distillation, name="head")(inputs, outputs)
    return QuantizedModel(inputs, outputs, name=model.name)


def _plan(target, layer_norm):
    """Return the plan of the file to be written.

    Raises:
        ValueError: the target has no int8, or another precision of norms.
    """
    if target is None and layer_norm == "float":
        target = "cpu"
    if target is not None and "int8" not in get_target(target).schemes:
        raise ValueError(f"`target` must support scheme 'int8'. Received: {target!r}")
    plan = resolve("int8", target, trained=True)
    wanted = "float" if plan.linear_only else "int8"
    if layer_norm not in (None, wanted):
        raise ValueError(
            f"`layer_norm` must be {wanted!r} for target={target!r}. "
            f"Received: {layer_norm!r}"
        )
    return plan
