"""The training objective: trainable layers, losses, teacher."""

import threading

import keras
import numpy as np

from ..config import ViTConfig
from ..data import one_hot
from ..layers import EncoderBlock
from ..model_file import open_model
from .devices import jit_compile
from .evaluation import log_probabilities
from .optimizers import make_optimizer
from .recipe import Recipe

HEADS = ("head", "head_dist")
# The first layer behind the blocks is one of these.
BEHIND_BLOCKS = ("encoder_norm", "pooling")


def freeze(model, what: int | str | None) -> None:
    """Freeze the first blocks and all in front of them, or all but the head.

    Arguments:
        what: `Recipe.freeze`.

    Raises:
        ValueError: the model has fewer blocks.
    """
    if what is None:
        return
    if what == "backbone":
        for layer in model.layers:
            layer.trainable = layer.name in HEADS
        return
    blocks = [layer for layer in model.layers if isinstance(layer, EncoderBlock)]
    if what > len(blocks):
        raise ValueError(
            f"`freeze` must be at most {len(blocks)}, the number of blocks, or "
            f"'backbone'. Received: freeze={what}"
        )
    kept = blocks[what:]
    for layer in model.layers:
        if layer in kept or layer.name in BEHIND_BLOCKS:
            break
        layer.trainable = False


def compiled(model, recipe: Recipe, total_steps: int):
    """Compile the model to fit; with a teacher, it has two outputs and two losses.

    A distillation token's head learns the teacher, if there is one; otherwise the only
    head does (arXiv 2012.12877).
    """
    if recipe.loss == "sigmoid":
        loss = keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
    else:
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
    optimizer = make_optimizer(recipe, total_steps, model)
    if recipe.teacher is None:
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile())
        fitted = model
    else:
        distilled = model.config.distillation_token
        head = model.get_layer("head").output
        other = model.get_layer("head_dist").output if distilled else head
        scaled = keras.layers.Rescaling(1 / recipe.temperature, dtype="float32")
        fitted = keras.Model(model.input, {"label": head, "teacher": scaled(other)})
        share = recipe.distillation_weight
        soft = keras.losses.CategoricalCrossentropy(from_logits=True)
        fitted.compile(
            optimizer,
            {"label": loss, "teacher": soft},
            loss_weights={
                "label": 1 - share,
                "teacher": share * recipe.temperature**2,
            },
            metrics={"label": ["accuracy"]},
            jit_compile=jit_compile(),
        )
    fitted.optimizer.build(fitted.trainable_variables)
    return fitted


def open_teacher(recipe: Recipe, config):
    """Return a function from images to the teacher's targets, or None.

    The teacher gets the student's images, renormalised if it is a model of this package
    with another normalisation.

    Arguments:
        recipe: gives `teacher`, `distillation`, `temperature`.
        config: `ViTConfig` of the student.

    Raises:
        ValueError: the teacher has another input shape or number of classes.
    """
    if recipe.teacher is None:
        return None
    teacher = open_model(recipe.teacher)
    shapes = (*config.image_size, len(config.preprocessing.mean)), (config.classes,)
    own = getattr(teacher, "input_shape", ()), getattr(teacher, "output_shape", ())
    if tuple(tuple(shape[1:]) for shape in own) != shapes:
        raise ValueError(
            f"`teacher` must take images {shapes[0]} and give {shapes[1][0]} classes. "
            f"Received: '{recipe.teacher}' of {own[0]} and {own[1]}"
        )
    softmax = (
        getattr(teacher.layers[-1], "activation", None) == keras.activations.softmax
    )
    adapt = _renormalise(config, getattr(teacher, "config", None))
    lock = threading.Lock()  # threads call it; on JAX a model runs one call at a time

    def answer(batch):
        with lock:
            outputs = teacher.predict_on_batch(adapt(batch))
        outputs = keras.ops.convert_to_numpy(outputs).astype("float32")
        if recipe.distillation == "hard":
            return one_hot(outputs.argmax(-1), config.classes)
        if softmax:
            outputs = log_probabilities(outputs, "softmax")
        shares = np.exp(log_probabilities(outputs / recipe.temperature, "linear"))
        return shares.astype("float32")

    return answer


def _renormalise(student, teacher):
    """Return a function from a student's images to its teacher's."""
    if not isinstance(teacher, ViTConfig):
        return lambda images: images
    scale, offset = student.preprocessing.scale_and_offset()
    other_scale, other_offset = teacher.preprocessing.scale_and_offset()
    if np.array_equal((scale, offset), (other_scale, other_offset)):
        return lambda images: images
    factor = other_scale / scale
    shift = (other_offset - factor * offset).astype("float32")
    return lambda images: images * factor.astype("float32") + shift
