"""AdamW with warm-up and cosine decay."""

import keras

# Vectors of norms and biases, and embeddings, are not matrices that weight decay
# should shrink (as in the AugReg and DeiT code).
NO_DECAY = ("bias", "gamma", "beta", "token", "embedding", "probe")


def make_optimizer(recipe, total_steps: int):
    """The optimizer of a recipe (arXiv 1711.05101, 1608.03983).

    Arguments:
        recipe: a `Recipe`.
        total_steps: number of batches in the whole run.

    Returns:
        A Keras AdamW whose rate rises to `learning_rate` and falls to 0.
    """
    warmup = round(total_steps * recipe.warmup)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else recipe.learning_rate,
        decay_steps=max(total_steps - warmup, 1),
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=[f"{name}$" for name in NO_DECAY])
    return optimizer
