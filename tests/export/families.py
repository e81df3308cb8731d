"""The families of Vision Transformers beside the plain one, small and random."""

from vit_keras import ViTConfig

SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "mlp_dim": 48,
    "classes": 5,
}
FAMILIES = {
    "dinov3": {
        "num_register_tokens": 3,
        "mlp_gated": True,
        "mlp_activation": "silu",
        "key_bias": False,
        "positions": "none",
        "rotary": "dinov3",
        "layer_scale_init_value": 1.0,
        "norm_epsilon": 1e-5,
    },
    "eva02": {
        "mlp_gated": True,
        "mlp_norm": True,
        "attention_norm": True,
        "mlp_activation": "silu",
        "key_bias": False,
        "rotary": "eva02",
        "rotary_grid": (16, 16),
        "pooling": "gap",
        "class_token": True,
        "fc_norm": True,
    },
    "pe": {
        "pre_norm": True,
        "rotary": "pe",
        "rotary_grid": (24, 24),
        "pooling": "map",
        "class_token": True,
        "pool_heads": 4,
        "pool_prefix": True,
    },
    "residual_post_norm": {"post_norm": True, "pooling": "gap", "class_token": True},
    "max": {"pooling": "max", "qk_norm": True, "rotary": "rope_vit"},
    "clip": {
        "pre_norm": True,
        "mlp_activation": "quick_gelu",
        "representation_size": 16,
        "representation_activation": "linear",
        "unit_norm": True,
    },
    "siglip": {
        "pooling": "map",
        "mlp_activation": "gelu_tanh",
        "unit_norm": True,
        "activation": "sigmoid",
        "head": "multi_label",
    },
    "embedding": {"pooling": "map", "unit_norm": True, "include_top": False},
    "unit_token": {"unit_norm": True},
}


def family(name: str, **changes) -> ViTConfig:
    """The configuration of a small model of a family."""
    return ViTConfig(**{**SIZES, **FAMILIES[name], **changes})
