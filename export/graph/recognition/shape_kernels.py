"""Kernels of operators that move values and compute nothing.

With `call.batched` the first axis of what depends on the image is the batch, of any
size: shapes in the file, which are those of one image, leave it free. Whether a graph
keeps to that is tried out where it matters (`function.py`).
"""

import numpy as np
import tensorflow as tf


def _reshape(call, x, *_):
    return tf.reshape(x, call.shape)


def _broadcast(call, x, _):
    if call.batched and len(x.shape) == len(call.shape):
        return tf.broadcast_to(x, (tf.shape(x)[0], *call.shape[1:]))
    return tf.broadcast_to(x, call.shape)


def _concatenate(call, *values):
    axis = call.options.axis % len(call.shape)
    return tf.concat(_with_batch(call, values) if axis else values, axis)


def _stack(call, *values):
    axis = call.options.axis % len(call.shape)
    return tf.stack(_with_batch(call, values) if axis else values, axis)


def _with_batch(call, values):
    """Constants, such as a class token, repeated for each image."""
    if not call.batched:
        return values
    number = max((v for v in values if not isinstance(v, np.ndarray)), key=_rank)
    number = tf.shape(number)[0]
    return [
        tf.broadcast_to(v, (number, *v.shape[1:])) if isinstance(v, np.ndarray) else v
        for v in values
    ]


def _rank(value):
    return len(value.shape)


def _slice(call, x, begin, size):
    size = np.array(size)
    if call.batched and begin[0] == 0 and size[0] == call.input_shapes[0][0]:
        size[0] = -1
    return tf.slice(x, begin, size)


def _strided_slice(call, x, begin, end, step):
    o = call.options
    end_mask = o.endMask
    kept = not (o.newAxisMask | o.shrinkAxisMask | o.ellipsisMask) & 1
    if call.batched and kept and step[0] == 1 and (o.beginMask & 1 or begin[0] == 0):
        end_mask |= int(end[0] >= call.input_shapes[0][0])
    return tf.strided_slice(
        *(x, begin, end, step),
        begin_mask=o.beginMask,
        end_mask=end_mask,
        ellipsis_mask=o.ellipsisMask,
        new_axis_mask=o.newAxisMask,
        shrink_axis_mask=o.shrinkAxisMask,
    )


def _update_slice(call, x, part, start):
    """`x` with `part` written over it, moved inside where it would stick out."""
    full, inner = call.input_shapes[:2]
    begin = [
        int(min(max(b, 0), n - m))
        for b, n, m in zip(np.ravel(start), full, inner, strict=True)
    ]
    around = [(b, n - m - b) for b, n, m in zip(begin, full, inner, strict=True)]
    return tf.where(np.pad(np.ones(inner, bool), around), tf.pad(part, around), x)


def _gather(call, x, indices):
    return tf.gather(
        x, indices, axis=call.options.axis, batch_dims=call.options.batchDims
    )


def _split(call, axis, x):
    return tf.split(x, call.options.numSplits, int(np.ravel(axis)[0]))


def _split_by_sizes(call, x, sizes, axis):
    return tf.split(x, sizes, int(np.ravel(axis)[0]))


def _pad_with(call, x, paddings, value):
    return tf.pad(x, paddings, constant_values=value)


SHAPE_KERNELS = {
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "BROADCAST_TO": _broadcast,
    "CONCATENATION": _concatenate,
    "PACK": _stack,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "DYNAMIC_UPDATE_SLICE": _update_slice,
    "GATHER": _gather,
    "GATHER_ND": lambda call, x, indices: tf.gather_nd(x, indices),
    "EMBEDDING_LOOKUP": lambda call, indices, x: tf.gather(x, indices),
    "SPLIT": _split,
    "SPLIT_V": _split_by_sizes,
    "UNPACK": lambda call, x: tf.unstack(x, axis=call.options.axis),
    "TRANSPOSE": lambda call, x, axes: tf.transpose(x, axes),
    "TILE": lambda call, x, multiples: tf.tile(x, multiples),
    "PAD": lambda call, x, paddings: tf.pad(x, paddings),
    "PADV2": _pad_with,
    "REVERSE_V2": lambda call, x, axes: tf.reverse(x, axes),
    "SPACE_TO_DEPTH": lambda call, x: tf.nn.space_to_depth(x, call.options.blockSize),
    "DEPTH_TO_SPACE": lambda call, x: tf.nn.depth_to_space(x, call.options.blockSize),
    "SHAPE": lambda call, x: np.asarray(x.shape, "int32"),
    "RANGE": lambda call, start, end, step: tf.range(start, end, step),
    "FILL": lambda call, shape, value: tf.fill(shape, value),
    "IDENTITY": lambda call, x: x,
}
