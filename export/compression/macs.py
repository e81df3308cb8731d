"""How many multiplications a configuration needs."""

from vit_keras import ViTConfig


def macs(config: ViTConfig) -> int:
    """Return the multiplications of one image, without norms and activations."""
    width, tokens = config.hidden_size, config.block_tokens[-1]
    inner = config.num_heads * (config.head_dim or width // config.num_heads)
    rows, columns = config.grid
    height, length = config.patch_size
    patches = rows * columns * height * length * config.channels * width
    merged = config.tome or (0,) * config.num_layers
    products = sum(
        count * (4 * width * inner + 2 * count * inner)
        + 2 * (count - fewer) * width * config.mlp_dim
        + (_matching(config, count, fewer) if fewer else 0)
        for count, fewer in zip(config.block_tokens, merged, strict=True)
    )
    grids = (config.block_grids[before] for before, _ in config.token_merging)
    merges = sum(
        h * w * (k * width) ** 2
        for (h, w), (_, k) in zip(grids, config.token_merging, strict=True)
    )
    pool = 0
    if config.pooling == "map":
        pool = 2 * tokens * (width + 1) * inner + 2 * width * (inner + config.mlp_dim)
    head = width * config.classes if config.include_top else 0
    return patches + products + merges + pool + head


def _matching(config, tokens, merged):
    """Of `match_tokens` and `merge_tokens`: similarities, and sums of what is moved."""
    odd = tokens // 2
    return odd * ((tokens - odd) * config.rotary_width + merged * config.hidden_size)
