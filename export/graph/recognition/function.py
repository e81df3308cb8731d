"""The function of a recognised graph, with an `InferenceViT` for its ViT."""

import numpy as np

from .probes import equal, noise
from .recognise import RecognisedViT
from .traced_graph import TracedGraph, Unrecognised


def joined(function):
    """A function to {name: output} as one to all outputs in a row, (N, values).

    A function behind each keeps them apart: two linear layers are one otherwise.
    """
    import tensorflow as tf

    def flat(values):
        return tf.tanh(tf.reshape(values, (values.shape[0], -1)))

    return lambda images: tf.concat([*map(flat, function(images).values())], axis=1)


def ends_of(graph: TracedGraph, outputs) -> dict[str, tuple[int, tuple[int, ...]]]:
    """The tensors of a graph of `joined` that a model gives by name.

    Arguments:
        outputs: {name: what has the shape (N, ...)}.

    Returns:
        {name: (number of the tensor, shape of one image)}.

    Raises:
        Unrecognised: the converter has joined them in another way.
    """
    shapes = {name: tuple(end.shape[1:]) for name, end in outputs.items()}
    last = graph.maker[graph.output]
    apart = last.inputs if last.name == "CONCATENATION" else (graph.output,)
    makers = [_maker(graph, number) for number in apart]
    parts = [op.inputs[0] for op in makers if op is not None and op.name == "TANH"]
    sizes = [int(np.prod(graph.shapes[number])) for number in parts]
    if sizes != [int(np.prod(shape)) for shape in shapes.values()]:
        raise Unrecognised("several outputs that are not apart in the traced graph")
    return {name: (n, shapes[name]) for name, n in zip(shapes, parts, strict=True)}


def _maker(graph, number):
    op = graph.maker.get(number)
    while op is not None and op.name == "RESHAPE":
        op = graph.maker.get(op.inputs[0])
    return op


def function_of(graph: TracedGraph, recognised: RecognisedViT, layer, ends=None):
    """The graph with its ViT computed by a layer.

    Arguments:
        graph: the graph.
        recognised: what `recognise` found in it.
        layer: an `InferenceViT` of its weights, rewritten or not.
        ends: of `ends_of`; None for one output.

    Returns:
        Function from float32 images (N, ...), in the layout of the graph, to what the
        graph gives, or to {name: output}, in operations of TensorFlow.
    """
    import tensorflow as tf

    front = tail = None
    tails = {}
    if ends is not None:
        start = graph.output if recognised.tail is None else recognised.tail[0]
        tails = {name: batched(graph, start, end) for name, (end, _) in ends.items()}
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
        if ends is not None:
            return {
                name: tf.reshape(tails[name](x), (-1, *shape))
                for name, (_, shape) in ends.items()
            }
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
