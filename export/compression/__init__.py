"""Smaller models by training: pruning, clustering, and removal of heads and channels.

    pruning = export.prune(model, sparsity=0.5)
    model.fit(images, labels, callbacks=[pruning])
    model = pruning.strip()

What is left is the plain Keras model, with zeros or with few different values. They
make a file small once it is compressed; no runtime is faster for them. `shrink` takes
whole heads and MLP channels out, which makes the file smaller and every runtime faster.
"""

from ..backend import require_tensorflow

EXCLUDED = ("embedding", "head", "head_dist")


def prune(model, *, sparsity=None, schedule=None, exclude=EXCLUDED):
    """A callback for `model.fit` that sets the smallest weights of kernels to zero.

    By magnitude (arXiv 1710.01878), with TensorFlow Model Optimization's pruning. The
    callback changes the kernels of `model`; what is fitted may be a model around it.

    Arguments:
        model: a Keras model on the TensorFlow backend.
        sparsity: share of zeros in each kernel, in (0, 1); or "M:N" such as "2:4", M
            zeros in each N weights that follow each other along a kernel's input. A
            share rises over the first half of `fit`; a pattern is set at its start.
        schedule: instead of it, a schedule of
            `tensorflow_model_optimization.sparsity.keras`.
        exclude: names of layers, on any level, whose kernels stay as they are.

    Returns:
        A `pruning.Pruning`; its `strip()` ends the pruning and returns `model`.

    Raises:
        ValueError: not exactly one of `sparsity` and `schedule`, or one that cannot
            be; an unknown name; another backend.
        MissingDependency: the extra "qat" is not installed.
    """
    require_tensorflow("prune")
    from .pruning import Pruning

    return Pruning(model, sparsity, schedule, exclude)


def cluster(model, clusters=16, *, keep_zeros=False, exclude=EXCLUDED):
    """A callback for `model.fit` that leaves few different values in each kernel.

    The kernels of `model` are clustered at once; training then moves the values and
    what has them, with TensorFlow Model Optimization's clustering.

    Arguments:
        model: a Keras model on the TensorFlow backend.
        clusters: how many different values a kernel may have, at least 2.
        keep_zeros: weights that are zero now stay zero, as in a pruned model; zero is
            one of the values.
        exclude: names of layers, on any level, whose kernels stay as they are.

    Returns:
        A `clustering.Clustering`; its `strip()` ends it and returns `model`.

    Raises:
        ValueError: `clusters` cannot be; an unknown name; another backend.
        MissingDependency: the extra "qat" is not installed.
    """
    require_tensorflow("cluster")
    from .clustering import Clustering

    return Clustering(model, clusters, keep_zeros, exclude)


def shrink(model, images, *, macs_ratio=None, heads=None, mlp_dim=None):
    """A smaller model: whole attention heads and MLP channels taken out.

    Every block loses as many, those that its output misses least on `images`; the
    weights that read the rest are refitted by least squares (optimal brain surgeon;
    ZipLM, arXiv 2302.04089, section 3.1). Train the result on: a few passes win back
    most of what was lost.

    Arguments:
        model: of `vit_keras.create_model`; it is not changed. Any backend.
        images: a folder of images, a `.npy` file or an array (N, H, W, C) of pixels
            0..255, like those that the model will see; no labels. 256 are used.
        macs_ratio: how many times fewer multiplications, above 1; the numbers of heads
            and channels that lose least are chosen.
        heads: instead of it, attention heads that each block keeps; None means all.
        mlp_dim: with `heads` or alone, MLP channels that each block keeps.

    Returns:
        A `vit_keras.VisionTransformer` with the same interface and the smaller
        `config`.

    Raises:
        ValueError: the model or a number cannot be.
        FileNotFoundError: `images` names no file or folder.
    """
    from .shrinking import shrunk

    return shrunk(model, images, macs_ratio, heads, mlp_dim)
