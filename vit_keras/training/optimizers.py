"""Optimizers of recipes: warm-up, cosine, decay of kernels, layer-wise rates."""

import re

import keras

from .devices import summed_first

# Weight decay applies to matrices only, not to norms, biases and embeddings (as in the
# AugReg and DeiT code).
NO_DECAY = ("bias", "gamma", "beta", "token", "embedding", "probe")
FIRST = ("embedding/", "posembed_input/", "class_token/", "distillation_token/")
FIRST += ("register_tokens/", "pre_norm/")


@keras.saving.register_keras_serializable(package="vit_keras")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with layer-wise learning rates.

    Arguments:
        scales: {path of a variable: factor on its learning rate}; 1 if missing.
        *args, **kwargs: as in `keras.optimizers.AdamW`.
    """

    def __init__(self, *args, scales=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.scales = dict(scales or {})

    def _scale(self, variable):
        # TensorFlow passes its own variables, which have no path.
        keras_variable = self._trainable_variables[self._get_variable_index(variable)]
        return self.scales.get(keras_variable.path, 1.0)

    def update_step(self, gradient, variable, learning_rate):
        rate = learning_rate * self._scale(variable)
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables):
        # Decay is proportional to the learning rate, so the factor applies to it too.
        for variable in variables:
            if self._use_weight_decay(variable):
                factor = self.weight_decay * self._scale(variable)
                rate = keras.ops.cast(self.learning_rate, variable.dtype)
                variable.assign(variable - variable * factor * rate)

    def get_config(self):
        return {**super().get_config(), "scales": self.scales}


def layer_scales(paths, num_layers: int, decay: float) -> dict[str, float]:
    """Return the factor on each weight's rate: `decay` to the power of layers above it.

    Arguments:
        paths: of the weights.
        num_layers: L, number of encoder blocks.
        decay: factor from one layer to the one below (BEiT, arXiv 2106.08254).

    Returns:
        {path: factor}; 1 for layers after the last block, decay**(L + 1) for the
        patches, tokens and positions.
    """
    scales = {}
    for path in paths:
        block = re.match(r"encoderblock_(\d+)/", path)
        layer = num_layers + 1
        if block:
            layer = int(block[1]) + 1
        elif path.startswith(FIRST):
            layer = 0
        scales[path] = decay ** (num_layers + 1 - layer)
    return scales


def make_schedule(recipe, total_steps: int):
    """Return linear warm-up from 0, then a cosine to 0 (arXiv 1608.03983)."""
    warmup = round(total_steps * recipe.warmup)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else recipe.learning_rate,
        decay_steps=max(total_steps - warmup, 1),
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(recipe, total_steps: int, model=None):
    """Build the optimizer of a recipe.

    Arguments:
        recipe: a `Recipe`.
        total_steps: number of optimizer steps in the whole run.
        model: the model, needed for layer-wise rates.

    Returns:
        A Keras optimizer whose rate rises to `learning_rate` and falls to 0.
    """
    options = {
        "learning_rate": make_schedule(recipe, total_steps),
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.clip_norm,
    }
    if recipe.ema is not None:
        # Keras averages after each accumulation step; together they make one step.
        momentum = recipe.ema ** (1 / recipe.accumulate)
        options |= {"use_ema": True, "ema_momentum": momentum}
    if recipe.accumulate > 1:
        options["gradient_accumulation_steps"] = recipe.accumulate
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, **options)
    elif recipe.optimizer == "lamb":
        optimizer = keras.optimizers.Lamb(beta_2=recipe.beta2, **options)
    elif recipe.optimizer == "muon":  # its authors use AdamW for the output layer
        optimizer = keras.optimizers.Muon(
            adam_beta_2=recipe.beta2,
            adam_weight_decay=recipe.weight_decay,
            exclude_layers=["^head", "^decoder_head"],
            **options,
        )
    elif recipe.layer_decay == 1.0 or model is None:
        optimizer = keras.optimizers.AdamW(beta_2=recipe.beta2, **options)
    else:
        paths = [weight.path for weight in model.trainable_weights]
        layers = model.config.num_layers
        scales = layer_scales(paths, layers, recipe.layer_decay)
        optimizer = LayerwiseAdamW(beta_2=recipe.beta2, scales=scales, **options)
    # Keras matches TensorFlow's own variables, whose names end in ":0".
    names = [f"{name}(:0)?$" for name in NO_DECAY]
    optimizer.exclude_from_weight_decay(var_names=names)
    return summed_first(optimizer)
