"""Compression by training: pruning, clustering, and removal of heads and channels.

    pruning = export.prune(model, sparsity=0.5)
    model.fit(images, labels, callbacks=[pruning])
    model = pruning.strip()

The result is a plain Keras model with zeros, or few distinct values, in its kernels.
They shrink a compressed file; no runtime is faster. `shrink` removes whole heads and
MLP channels, or merges tokens, which makes every runtime faster.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..backend import require_tensorflow

if TYPE_CHECKING:
    import keras

    from vit_keras import VisionTransformer

    from .clustering import Clustering
    from .pruning import Pruning

EXCLUDED = ("embedding", "head", "head_dist", "decoder_head")


def prune(
    model: "keras.Model",
    *,
    sparsity: float | str | None = None,
    schedule: Any = None,
    exclude: Sequence[str] = EXCLUDED,
) -> "Pruning":
    """Return a callback for `model.fit` that sets the smallest weights to zero.

    Pruning is by magnitude (arXiv 1710.01878), with TensorFlow Model Optimization. The
    callback changes the kernels of `model`; a model around it may be fitted.

    Arguments:
        model: a Keras model on the TensorFlow backend.
        sparsity: fraction of zeros in each kernel, in (0, 1); or "M:N" such as "2:4", M
            zeros in every N consecutive weights along a kernel's input. A fraction
            rises over the first half of `fit`; a pattern is set at its start.
        schedule: a schedule of `tensorflow_model_optimization.sparsity.keras`, instead
            of `sparsity`.
        exclude: names of layers, at any depth, whose kernels are not pruned.

    Returns:
        A `pruning.Pruning`; its `strip()` ends the pruning and returns `model`.

    Raises:
        ValueError: not exactly one of `sparsity` and `schedule` is given, or one is
            invalid; an unknown name; another backend.
        MissingDependency: the extra "qat" is not installed.
    """
    require_tensorflow("prune")
    from .pruning import Pruning

    return Pruning(model, sparsity, schedule, exclude)


def cluster(
    model: "keras.Model",
    clusters: int = 16,
    *,
    keep_zeros: bool = False,
    exclude: Sequence[str] = EXCLUDED,
) -> "Clustering":
    """Return a callback for `model.fit` that leaves few distinct values per kernel.

    The kernels of `model` are clustered at once; training then moves the values and
    reassigns weights to them, with TensorFlow Model Optimization's clustering.

    Arguments:
        model: a Keras model on the TensorFlow backend.
        clusters: number of distinct values per kernel, at least 2.
        keep_zeros: whether weights that are zero now stay zero, as in a pruned model;
            zero is one of the values.
        exclude: names of layers, at any depth, whose kernels are not clustered.

    Returns:
        A `clustering.Clustering`; its `strip()` ends it and returns `model`.

    Raises:
        ValueError: `clusters` is invalid; an unknown name; another backend.
        MissingDependency: the extra "qat" is not installed.
    """
    require_tensorflow("cluster")
    from .clustering import Clustering

    return Clustering(model, clusters, keep_zeros, exclude)


def shrink(
    model: "VisionTransformer",
    images: Any,
    *,
    macs_ratio: float | None = None,
    heads: int | None = None,
    mlp_dim: int | None = None,
    tokens: float | str | None = None,
    max_drop: float | None = None,
    max_ms: float | None = None,
    labels: Any = None,
) -> "VisionTransformer":
    """Return a smaller model: fewer attention heads, MLP channels or tokens.

    Every block loses equally many heads and channels: those that matter least for its
    output on `images`. The weights that read the others are refitted by least squares
    (optimal brain surgeon; ZipLM, arXiv 2302.04089, section 3.1).

    Of tokens, 2 x 2 neighbours of the patch grid (3 x 3 or 4 x 4 where they divide it)
    become one between two blocks: their mean, until a linear layer has learnt more
    (`vit_keras.layers.TokenMerging`). Between which blocks, once or twice, is what
    changes the outputs on `images` least for each multiplication saved.

    Fine-tune the result: a few epochs regain most of the loss.

    With `tokens="merge"` nothing has to be trained: each block merges the tokens whose
    keys are most similar (ToMe, arXiv 2210.09461), as many as `max_drop` or `max_ms`
    allows. The result is for CPUs, GPUs and servers; it has no integer form.

    Arguments:
        model: from `vit_keras.create_model`; it is not changed. Any backend.
        images: a folder of images, a `.npy` file or an array (N, H, W, C) of pixels
            0..255, like those that the model will see; no labels. 256 are used.
        macs_ratio: factor by which to reduce the multiplications, above 1; the numbers
            of heads and channels with the least error are chosen.
        heads: attention heads kept in each block, instead of `macs_ratio`; None means
            all.
        mlp_dim: MLP channels kept in each block, with `heads` or alone.
        tokens: part of the patches that stays at most, averaged over the blocks, in
            (0, 1); alone or with the others. `macs_ratio` counts what that saves. Or
            "merge", alone, on the TensorFlow backend for `max_ms`.
        max_drop: with "merge", percentage points of accuracy that may be lost on
            `images`: the fewest multiplications are chosen.
        max_ms: with "merge", CPU time in milliseconds that an image may take in LiteRT,
            in float32 with one thread on this machine: the least loss is chosen.
        labels: with "merge", the class of each image of an array, integers (N,); all
            are used, and none should have trained the model. None counts the images
            whose class changes, which is more than the accuracy loses.

    Returns:
        A `vit_keras.VisionTransformer` with the same interface and the smaller
        `config`.

    Raises:
        ValueError: the model or a number is invalid.
        FileNotFoundError: `images` names no file or folder.
    """
    from .shrinking import shrunk

    merging = max_drop, max_ms, labels
    return shrunk(model, images, macs_ratio, heads, mlp_dim, tokens, merging)
