"""A smaller residual stream, whose sums of squares fit into float16.

RMS norms and layer norms divide a factor of their input out again,
`norm(s x, s^2 eps) = norm(x, eps)`: with all writers of the stream multiplied by a
power of two, outputs in float32 stay the same to the last bit.
"""

import math

import numpy as np

from .rewrites import norms, stream_writers

LARGEST = float(np.finfo("float16").max)  # 65504
SPARE = 4.0  # for images that sums are not measured on; the next power of 4 adds to it


def scale_stream(layer, function, images) -> str | None:
    """Scale the stream of an `InferenceViT` if its sums of squares are near the end of
    float16 on images.

    Arguments:
        layer: with its source weights.
        function: that calls it.
        images: (N, H, W, C), inputs of the function.

    Returns:
        What was done or could not be, for the report, or None if they are small.
    """
    largest = _largest_sum(layer, function, images)
    if SPARE * largest <= LARGEST:
        return None
    said = f"sums of squares reach {largest:.2g} on {len(images)} images"
    writers = stream_writers(layer.source_weights)
    if writers is None or not math.isfinite(largest):
        return f"{said}, beyond float16: the stream cannot be scaled"
    factor = 2.0 ** -math.ceil(math.log2(SPARE * largest / LARGEST) / 2)
    for holder, name in writers:
        setattr(holder, name, getattr(holder, name) * factor)
    for norm in norms(layer.source_weights):
        norm.epsilon *= factor**2
    layer.update()
    return f"residual stream scaled by {factor:g} for float16: {said}"


def _largest_sum(layer, function, images) -> float:
    """The largest sum of squares of a token that a norm of the stream reads."""
    own = {id(norm) for norm in norms(layer.graph_weights())}
    layer.squares = []
    for image in images:
        function(image[None])
    sums = [float(total) for norm, total in layer.squares if id(norm) in own]
    layer.squares = None
    return max(sums, default=0.0)
