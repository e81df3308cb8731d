"""Refusal of checkpoints that are larger than any file that could come of them."""

import math

from ..config import ViTConfig
from .axes import shapes_of
from .entries import CheckpointError

# A .tflite file ends at 2 GB, which are 4e9 weights of 4 bits, its smallest ones. Of
# the published ViTs DINOv3-7B (arXiv 2508.10104, 6.7e9) is above it.
MOST_PARAMETERS = 4_000_000_000


def refuse_large(config: ViTConfig, path: object) -> None:
    """Refuse a model of more than `MOST_PARAMETERS`, before memory is asked for.

    Arguments:
        config: of the model.
        path: the checkpoint, for the message.

    Raises:
        CheckpointError: the message says how much memory it would need.
    """
    count = sum(math.prod(shape) for shape in shapes_of(config).values())
    if count > MOST_PARAMETERS:
        raise CheckpointError(
            f"'{path}' is a model of {count / 1e9:.1f}e9 parameters (hidden_size="
            f"{config.hidden_size}, num_layers={config.num_layers}): it needs "
            f"{4 * count / 1e9:.0f} GB in float32. At most {MOST_PARAMETERS / 1e9:.0f}"
            "e9 are loaded, as a .tflite file ends at 2 GB"
        )
