"""Training of a decoder on tokens of a frozen backbone, which are computed once."""

import math
import pathlib
import shutil

import keras
import numpy as np

from ..data import map_batch
from ..network import VisionTransformer
from .augment import draws_for
from .dense_augment import VIEW, is_mirrored
from .evaluation import batches_for
from .fitting import fit_resumable
from .objective import is_head
from .progress import new_bar
from .stream import Stream

# Tokens of more bytes are kept in files of the run's folder instead of in memory.
IN_MEMORY = 2**31
FOLDER = "tokens"


def keeps_tokens(recipe, devices) -> bool:
    """Return whether the backbone gives an image the same tokens at each step.

    It does if it is frozen, and images are mirrored at most. On several devices they
    are computed anew.
    """
    changed = recipe.scale or recipe.randaugment or recipe.three_augment
    return recipe.freeze == "backbone" and not changed and devices in (None, 1)


def split_at_decoder(model) -> tuple[keras.Model, VisionTransformer]:
    """Return a model in two parts that share its layers: (backbone, decoder).

    The decoder begins with its first layers that have weights. It takes a tensor, or a
    tuple of them.
    """
    known: dict[int, bool] = {}
    between = {}

    def origin(tensor):
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        return history.operation, node.input_tensors

    def decoded(tensor):
        """Whether a tensor depends on the decoder; finds where it begins."""
        if id(tensor) not in known:
            layer, inputs = origin(tensor)
            below = [decoded(t) for t in inputs]
            own = is_head(layer.name) and bool(layer.weights)
            known[id(tensor)] = own or any(below)
            if known[id(tensor)]:
                between.update(
                    {id(t): t for t, d in zip(inputs, below, strict=True) if not d}
                )
        return known[id(tensor)]

    decoded(model.output)
    tensors = tuple(between.values())
    tensors = tensors[0] if len(tensors) == 1 else tensors
    decoder = VisionTransformer(
        tensors, model.output, "decoder", config=model.config, task=model.task
    )
    return keras.Model(model.input, tensors), decoder


def compute_tokens(backbone, model, dataset, console, folder, flip=False):
    """Return the outputs of a backbone for each image, and for its mirror image.

    Arguments:
        backbone: from `split_at_decoder`.
        model: which it is a part of.
        dataset: images, from `data.prepare`.
        console: for progress, and what the tokens take.
        folder: of files for tokens that do not fit into memory.
        flip: whether to mirror, too.

    Returns:
        A list with an array (N, V, ...) for each tensor, V = 2 with `flip`: float16, or
        float32 if no norm bounds them.

    Raises:
        OSError: the disk has too little space.
    """
    views, batches = 1 + flip, batches_for(model, dataset, 16)
    dtype = (
        "float16" if model.config.tap_norm and not model.config.fc_norm else "float32"
    )
    shapes = [(len(dataset), views, *t.shape[1:]) for t in backbone.outputs]
    size = sum(math.prod(shape) for shape in shapes) * np.dtype(dtype).itemsize
    stored = size > IN_MEMORY
    if stored:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < size:
            raise OSError(
                f"`out` must have room for tokens: '{folder}' has {free / 1e9:,.1f} GB "
                f"free, {size / 1e9:,.1f} GB are needed; --set freeze=null needs none"
            )
    arrays = [
        np.lib.format.open_memmap(folder / f"{i}.npy", "w+", dtype, shape)
        if stored
        else np.empty(shape, dtype)
        for i, shape in enumerate(shapes)
    ]
    where = f"in '{folder}'" if stored else "in memory"
    number = f"{len(dataset)} images" + (" and their mirror images" if flip else "")
    console.print(f"tokens of {number}: {size / 1e6:,.1f} MB {where}", soft_wrap=True)
    with new_bar(console, transient=True) as bar:
        task = bar.add_task("tokens", total=len(batches), text="")
        for i in range(len(batches)):
            images = batches.inputs(i)
            rows = batches.rows(i)
            for view in range(views):
                seen = images[:, :, ::-1] if view else images
                found = keras.tree.flatten(backbone.predict_on_batch(seen))
                for array, values in zip(arrays, found, strict=True):
                    array[rows, view] = keras.ops.convert_to_numpy(values)
            bar.advance(task)
    return arrays


def picked(tokens, rows, views):
    """Return tokens of images as a decoder takes them, float32."""
    found = tuple(array[rows, views].astype("float32") for array in tokens)
    return found[0] if len(found) == 1 else found


class TokenStream(Stream):
    """A `Stream` of a decoder's inputs instead of images.

    Arguments:
        tokens: from `compute_tokens`.
        dataset, config, recipe: as for `Stream`.
    """

    def __init__(self, tokens, dataset, config, recipe):
        super().__init__(dataset, config, recipe)
        self.tokens = tokens

    def pairs(self, rows, step, positions, each):
        size, prep = self.config.image_size, self.config.preprocessing
        draws = (draws_for(self.recipe.seed, step, at, VIEW) for at in positions)
        views = np.array([is_mirrored(self.recipe, d) for d in draws], int)
        maps = map_batch(self.dataset, rows, size, prep, each)
        maps[views == 1] = maps[views == 1][:, :, ::-1]
        return picked(self.tokens, rows, views), maps


class TokenBatches:
    """Ordered batches of (tokens, maps), to validate on."""

    def __init__(self, tokens, batches):
        self.tokens, self.batches = tokens, batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        rows = self.batches.rows(index)
        return picked(self.tokens, rows, 0), self.batches.labels(index)


def fit_on_tokens(
    model, training, validation, recipe, out, last, console, more=()
) -> list[dict]:
    """Train a model's decoder with its backbone frozen; see `fit_resumable`."""
    folder = pathlib.Path(out) / FOLDER
    backbone, decoder = split_at_decoder(model)
    try:
        tokens = compute_tokens(
            backbone, model, training, console, folder / "training", recipe.flip
        )
        stream, held_out = TokenStream(tokens, training, model.config, recipe), None
        if validation is not None:
            kept = folder / "validation"
            tokens = compute_tokens(backbone, model, validation, console, kept)
            held_out = TokenBatches(tokens, batches_for(model, validation, 256))
        return fit_resumable(
            model, stream, held_out, out, last, None, console, more, decoder
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
