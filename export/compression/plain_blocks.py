"""What `shrink` and the Keras 2 twin do not know of a Vision Transformer."""

from vit_keras import ViTConfig

# {field: values that they know}; others are layers that they do not compute.
PLAIN = {
    "mlp_gated": (False,),
    "mlp_norm": (False,),
    "attention_norm": (False,),
    "post_norm": (False,),
    "pool_heads": (None,),
    "pool_prefix": (False,),
    "tome": ((),),
}
PLAIN_TWIN = {
    **PLAIN,
    "token_merging": ((),),
    "rotary": (None,),
    "positions": ("learned", "sincos2d"),
    "key_bias": (True,),
    "pooling": ("token", "gap", "map", None),
    "representation_activation": ("tanh",),
    "unit_norm": (False,),
}


def check_plain_blocks(function: str, config: ViTConfig, plain=None) -> None:
    """Refuse a model with layers that a function does not know.

    Arguments:
        function: its name.
        config: of the model.
        plain: {field: values that it knows}; None for `PLAIN`.

    Raises:
        ValueError: the message names the fields.
    """
    wrong = [
        f"{name}={getattr(config, name)!r}"
        for name, values in (plain or PLAIN).items()
        if getattr(config, name) not in values
    ]
    if wrong:
        raise ValueError(
            f"`{function}` does not know a model with {', '.join(wrong)}; prune, "
            "quantize_aware and the exports do"
        )
