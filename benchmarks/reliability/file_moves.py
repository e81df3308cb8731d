"""Operators of a `.tflite` file that move values and compute nothing, in NumPy.

Functions as in `file_operators`.
"""

import numpy as np


def _reshape(op, shapes, x, *_):
    return [x.reshape(shapes[0])]


def _slice(op, shapes, x, begin, size):
    ends = [
        slice(int(b), None if s < 0 else int(b + s))
        for b, s in zip(np.ravel(begin), np.ravel(size), strict=True)
    ]
    return [x[tuple(ends)]]


def _strided_slice(op, shapes, x, begin, end, step):
    o, ends = op.options, []
    for axis, (b, e, s) in enumerate(zip(begin, end, step, strict=True)):
        bit = 1 << axis
        if o.ellipsisMask & bit:
            ends.append(Ellipsis)
        elif o.newAxisMask & bit:
            ends.append(None)
        elif o.shrinkAxisMask & bit:
            ends.append(int(b))
        else:
            start = None if o.beginMask & bit else int(b)
            stop = None if o.endMask & bit else int(e)
            ends.append(slice(start, stop, int(s)))
    return [x[tuple(ends)]]


def _gather(op, shapes, x, indices):
    o = op.options
    if not o.batchDims:
        return [np.take(x, indices, o.axis)]
    parts = [np.take(a, i, o.axis - 1) for a, i in zip(x, indices, strict=True)]
    return [np.stack(parts)]


def _gather_nd(op, shapes, x, indices):
    return [x[tuple(np.moveaxis(indices, -1, 0))]]


def _split(op, shapes, axis, x):
    return np.split(x, op.options.numSplits, int(np.ravel(axis)[0]))


def _split_by_sizes(op, shapes, x, sizes, axis):
    return np.split(x, np.cumsum(sizes)[:-1], int(np.ravel(axis)[0]))


def _unpack(op, shapes, x):
    axis = op.options.axis
    return [np.take(x, i, axis) for i in range(x.shape[axis])]


def _pad(op, shapes, x, paddings, value=0.0):
    return [np.pad(x, paddings, constant_values=np.ravel(value)[0])]


def _space_to_depth(op, shapes, x):
    b, (n, h, w, c) = op.options.blockSize, x.shape
    x = x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5)
    return [x.reshape(shapes[0])]


def _depth_to_space(op, shapes, x):
    b, (n, h, w, c) = op.options.blockSize, x.shape
    x = x.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5)
    return [x.reshape(shapes[0])]


def _largest(op, shapes, x, number):
    """The largest values and their places; of equal ones the first."""
    order = np.argsort(-x.astype("float64"), axis=-1, kind="stable")
    order = order[..., : int(np.ravel(number)[0])]
    return [np.take_along_axis(x, order, -1), order]


def _one_hot(op, shapes, places, depth, on, off):
    axis = op.options.axis
    rows = np.arange(int(np.ravel(depth)[0]))
    shape = [1] * (places.ndim + 1)
    shape[axis] = -1
    hot = np.expand_dims(places, axis) == rows.reshape(shape)
    return [np.where(hot, np.ravel(on)[0], np.ravel(off)[0])]


def _update_slice(op, shapes, x, part, start):
    """`x` with `part` written over it, moved inside where it would stick out."""
    begin = [
        int(min(max(b, 0), n - m))
        for b, n, m in zip(np.ravel(start), x.shape, part.shape, strict=True)
    ]
    x = x.copy()
    ends = (slice(b, b + m) for b, m in zip(begin, part.shape, strict=True))
    x[tuple(ends)] = part
    return [x]


MOVES = {
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "BROADCAST_TO": lambda op, shapes, x, _: [np.broadcast_to(x, shapes[0])],
    "CONCATENATION": lambda op, shapes, *xs: [np.concatenate(xs, op.options.axis)],
    "PACK": lambda op, shapes, *xs: [np.stack(xs, op.options.axis)],
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "DYNAMIC_UPDATE_SLICE": _update_slice,
    "TOPK_V2": _largest,
    "ONE_HOT": _one_hot,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "SPLIT": _split,
    "SPLIT_V": _split_by_sizes,
    "UNPACK": _unpack,
    "TRANSPOSE": lambda op, shapes, x, axes: [np.transpose(x, axes)],
    "TILE": lambda op, shapes, x, times: [np.tile(x, times)],
    "PAD": _pad,
    "PADV2": _pad,
    "MIRROR_PAD": lambda op, shapes, x, paddings: [
        np.pad(x, paddings, "symmetric" if op.options.mode else "reflect")
    ],
    "REVERSE_V2": lambda op, shapes, x, axes: [np.flip(x, tuple(np.ravel(axes)))],
    "SPACE_TO_DEPTH": _space_to_depth,
    "DEPTH_TO_SPACE": _depth_to_space,
    "FILL": lambda op, shapes, shape, value: [np.full(shapes[0], value)],
}
