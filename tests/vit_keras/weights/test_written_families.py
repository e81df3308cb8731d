"""What is written for timm of the families' options, and what is refused by name."""

import pytest

import vit_keras
from tests.models import run, tiny
from tests.vit_keras.weights.compared import SIZES, close, images, model_of, run_torch
from vit_keras import CheckpointError

WRITTEN = {
    "max": {"pooling": "max", "class_token": True},
    "no positions": {"positions": "none"},
    "inner norms": {"attention_norm": True, "mlp_norm": True},
    "inner norms, distilled": {
        "attention_norm": True,
        "mlp_norm": True,
        "distillation_token": True,
    },
    "pooling of all tokens": {
        "pooling": "map",
        "class_token": True,
        "num_register_tokens": 2,
        "pool_prefix": True,
    },
}


@pytest.mark.parametrize("name", WRITTEN)
def test_timm_loads_it(name, timm, tmp_path):
    model = model_of(tiny(**SIZES | WRITTEN[name]))
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "timm")
    module = timm.create_model(f"local-dir:{folder}", pretrained=True)  # strict
    close(run(model, images()), run_torch(module, images()))
    close(run(vit_keras.from_checkpoint(folder), images()), run(model, images()))


REFUSED = [
    ({"rotary": "dinov3"}, "rotary='dinov3' .must be None"),
    ({"mlp_gated": True}, "mlp_gated=True .must be False"),
    ({"post_norm": True}, "post_norm=True .must be False"),
    ({"key_bias": False}, "key_bias=False .must be True"),
    ({"unit_norm": True}, "unit_norm=True .must be False"),
    ({"pooling": "map", "pool_heads": 4}, "pool_heads=4 .must be None"),
    ({"positions": "sincos2d"}, "positions='sincos2d' .must be learned or none"),
    (
        {"positions": "none", "distillation_token": True},
        "positions='none' .must be learned",
    ),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=str)
def test_what_timm_cannot_say(options, words, tmp_path):
    model = model_of(tiny(**SIZES | options))
    for path in (tmp_path / "model", tmp_path / "model.safetensors"):
        with pytest.raises(CheckpointError, match=words):
            vit_keras.save_checkpoint(model, path, "timm")
    assert not list(tmp_path.iterdir())
