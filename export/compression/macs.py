"""How many multiplications a configuration needs."""

from vit_keras import ViTConfig


def macs(config: ViTConfig) -> int:
    """Return the multiplications of one image, without norms and activations."""
    width, tokens = config.hidden_size, config.block_tokens[-1]
    inner = config.num_heads * (config.head_dim or width // config.num_heads)
    rows, columns = config.grid
    height, length = config.patch_size
    patches = rows * columns * height * length * config.channels * width
    products = sum(
        count * (4 * width * inner + 2 * count * inner + 2 * width * config.mlp_dim)
        for count in config.block_tokens
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
