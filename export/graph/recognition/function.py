"""The function of a recognised graph, with an `InferenceViT` for its ViT."""

import numpy as np

from .probes import equal, noise
from .recognise import RecognisedViT
from .traced_graph import TracedGraph


def function_of(graph: TracedGraph, recognised: RecognisedViT, layer):
    """The graph with its ViT computed by a layer.

    Arguments:
        graph: the graph.
        recognised: what `recognise` found in it.
        layer: an `InferenceViT` of its weights, rewritten or not.

    Returns:
        Function from float32 images (N, ...), in the layout of the graph, to what the
        graph gives, in operations of TensorFlow.
    """
    import tensorflow as tf

    front = tail = None
    if recognised.front is not None:
        front = batched(graph, *recognised.front)
    if recognised.tail is not None:
        tail = batched(graph, *recognised.tail)
    height, width = recognised.weights.config.image_size
    channels = recognised.weights.config.channels

    def function(images):
        x = tf.cast(images, "float32") if front is None else front(images)
        if recognised.layout == "NCHW":
            x = tf.transpose(x, (0, 2, 3, 1))
        x = layer(tf.reshape(x, (-1, height, width, channels)))
        if tail is not None:
            return tail(x)
        return tf.reshape(x, (-1, *graph.shapes[graph.output][1:]))

    return function


def batched(graph: TracedGraph, start: int, end: int):
    """A part of a graph, of one image, as a function of several.

    All at once if that gives the same, else one after another.

    Returns:
        Function of a float32 tensor with the values of N images.
    """
    import tensorflow as tf

    shape = graph.shapes[start]
    if takes_batches(graph, start, end):
        whole = graph.function(start, end, "float32", batched=True)
        return lambda x: whole(tf.reshape(x, (-1, *shape[1:])))
    single = graph.function(start, end, "float32")

    def function(x):
        if x.shape[0] is None:
            size = tf.shape(x)[0]
            inner = tf.reshape(x, (size, *shape))
            y = tf.map_fn(single, inner)
            return tf.reshape(y, (-1, *graph.shapes[end][1:]))
        images = [tf.reshape(x[i], shape) for i in range(x.shape[0])]
        return tf.concat([single(image) for image in images], axis=0)

    return function


def takes_batches(graph: TracedGraph, start: int, end: int) -> bool:
    """Whether a part gives the same for three images at once as one by one."""
    shape, part = graph.shapes[start], graph.part(start, end)
    if not shape or not graph.shapes[end]:
        return False
    images = noise(3, *shape)
    try:
        together = graph.function(start, end, "float64", batched=True)(
            images.reshape(-1, *shape[1:])
        )
    except (ValueError, TypeError, *_tensorflow_errors()):
        return False
    apart = np.concatenate([part(image) for image in images])
    return equal(apart, np.asarray(together))


def _tensorflow_errors():
    import tensorflow as tf

    return (tf.errors.OpError,)
