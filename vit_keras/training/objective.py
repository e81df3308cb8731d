"""The training objective: trainable layers, losses, teacher."""

import threading

import keras
import numpy as np

from ..config import ViTConfig
from ..data import Dataset, one_hot
from ..heads import HEADS, log_probabilities
from ..layers import EncoderBlock
from ..model_file import open_model
from .dense_losses import DepthLoss, SegmentationLoss
from .devices import jit_compile
from .head_checks import check_objective
from .optimizers import make_optimizer
from .recipe import Recipe

HEAD_LAYERS = ("head", "head_dist")
# Standard deviations of a regression's values. AdamW moves a head's output by less than
# 0.1 a step at the learning rates of the recipes.
LEAST_SPREAD, MOST_SPREAD = 0.03, 30.0
SOME_MAPS = 64


def is_head(name: str) -> bool:
    """Return whether the layer of a name belongs to the head, or to a decoder."""
    return name in HEAD_LAYERS or name.startswith("decoder_")


def freeze(model, what: int | str | None) -> None:
    """Freeze the first blocks and all in front of them, or all but the head.

    Arguments:
        what: `Recipe.freeze`.

    Raises:
        ValueError: the model has fewer blocks.
    """
    if what is None:
        return
    if isinstance(what, str):  # "backbone"
        for layer in model.layers:
            layer.trainable = is_head(layer.name)
        return
    backbone = [layer for layer in model.layers if not is_head(layer.name)]
    blocks = [layer for layer in backbone if isinstance(layer, EncoderBlock)]
    if what > len(blocks):
        raise ValueError(
            f"`freeze` must be at most {len(blocks)}, the number of blocks, or "
            f"'backbone'. Received: freeze={what}"
        )
    # A norm that several taps pass stands between the blocks.
    in_front = backbone[: backbone.index(blocks[0])]
    for layer in (*in_front, *blocks[:what]):
        layer.trainable = False


def compiled(model, recipe: Recipe, total_steps: int, pixel_weights=None):
    """Compile the model to fit; with a teacher, it has two outputs and two losses.

    `pixel_weights` are those of the classes of a segmentation, or None.

    A distillation token's head learns the teacher, if there is one; otherwise the only
    head does (arXiv 2012.12877).
    """
    head = model.config.head
    loss, metrics = loss_of(recipe, head, pixel_weights), _metrics(head)
    optimizer = make_optimizer(recipe, total_steps, model)
    if recipe.teacher is None:
        model.compile(optimizer, loss, metrics=metrics, jit_compile=jit_compile())
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
            metrics={"label": metrics},
            jit_compile=jit_compile(),
        )
    fitted.optimizer.build(fitted.trainable_variables)
    return fitted


def loss_of(recipe: Recipe, head: str, pixel_weights=None):
    """Return the Keras loss of a recipe, for logits or values of a head."""
    if head == "segmentation":
        return SegmentationLoss(recipe.loss, pixel_weights)
    if head == "depth":
        return DepthLoss()
    name = HEADS[head].loss
    if name == "mean_squared_error":
        return keras.losses.MeanSquaredError()
    if name == "binary_crossentropy" or recipe.loss == "sigmoid":
        kind = keras.losses.BinaryCrossentropy
    else:
        kind = keras.losses.CategoricalCrossentropy
    return kind(from_logits=True, label_smoothing=recipe.label_smoothing)


def _metrics(head):
    """Metrics of single batches, to be seen during training."""
    if HEADS[head].dense:  # whose metrics are of a whole set
        return []
    if head == "softmax":
        return ["accuracy"]
    if head == "regression":
        return [keras.metrics.MeanAbsoluteError()]
    name = "accuracy" if head == "sigmoid" else "binary_accuracy"
    return [keras.metrics.BinaryAccuracy(name, threshold=0.0)]  # of logits


def start_at_mean(model, values: np.ndarray) -> str:
    """Let an untrained regression begin with the mean of its targets as its output.

    The kernel of the head becomes 0 and its bias the mean. A head with a bias that is
    not 0, of a checkpoint, is left as it is. Values are not scaled.

    Arguments:
        model: with the head "regression".
        values: float32 (N, K), the targets to train on.

    Returns:
        A warning if values are far from order 1, where the usual learning rates take
        too long, or do not settle; else "".
    """
    mean, spread = values.mean(0, dtype="float64"), values.std(0, dtype="float64")
    for layer in model.layers:
        if layer.name in HEAD_LAYERS:
            bias = keras.ops.convert_to_numpy(layer.bias.value)
            if not bias.any():
                layer.kernel.assign(np.zeros(layer.kernel.shape, "float32"))
                layer.bias.assign(mean.astype("float32"))
    if ((spread > 0) & ((spread < LEAST_SPREAD) | (spread > MOST_SPREAD))).any():
        found = ", ".join(f"{value:.3g}" for value in spread)
        return (
            "the values should have a standard deviation of about 1, as learning rates "
            f"are made for; scale them. Received: {found}"
        )
    return ""


def start_at_distance(model, dataset: Dataset) -> None:
    """Let an untrained decoder of depths begin with the geometric mean as its output.

    Arguments:
        model: with the head "depth", and softplus behind its last layer.
        dataset: with maps of distances, of which some are read.
    """
    layer = next((la for la in model.layers if la.name == "decoder_head"), None)
    bias = getattr(layer, "bias", None)
    if bias is None or keras.ops.convert_to_numpy(bias.value).any():
        return
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), SOME_MAPS)).astype(int)
    maps = (dataset.labels[row] for row in rows)
    logs = np.concatenate([np.log(depth[depth > 0]).ravel() for depth in maps])
    if len(logs):
        mean = np.exp(logs.mean(dtype="float64"))
        # The inverse of softplus; of a large value it is the value.
        value = mean + np.log(-np.expm1(-mean))
        bias.assign(np.full(bias.shape, value, "float32"))


def open_teacher(recipe: Recipe, config):
    """Return a function from images to the teacher's targets, or None.

    The teacher gets the student's images, renormalised if it is a model of this package
    with another normalisation.

    Arguments:
        recipe: gives `teacher`, `distillation`, `temperature`.
        config: `ViTConfig` of the student.

    Raises:
        ValueError: the teacher has another input shape or number of classes, or the
            student's head is not "softmax".
    """
    check_objective(recipe, config.head)
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
