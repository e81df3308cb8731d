"""Training from a checkpoint: the run has all that the checkpoint was trained with."""

import json
import pathlib

import numpy as np
import pytest

import vit_keras
from tests.models import images_for, run, slow_but, tiny
from tests.vit_keras.training.runs import SHORT, few, quiet
from vit_keras.training import train

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
CASES = {c["case"]: c for c in json.loads((GOLDEN / "cases.json").read_text())}
# Too short a step to change a float32, so that the weights are those of the file.
STILL = SHORT.replace(
    steps=1, learning_rate=1e-12, weight_decay=0.0, validation_split=0.0
)
SIZES = ("image_size", "patch_size", "num_layers", "hidden_size", "num_heads")
SIZES += ("mlp_dim", "channels")

# A file of each kind -> what an untold model would have got wrong, as the file has it.
KINDS = {
    "augreg-token": {"mlp_activation": "gelu_tanh"},
    "bv-map": {"pooling": "map"},
    "hf-deit": {"distillation_token": True, "norm_epsilon": 1e-12},
    "hf-dinov2": {"layer_scale_init_value": 1e-5},
    "timm-clip": {"pre_norm": True, "norm_epsilon": 1e-5},
    "vp-cls": {"patch_norm": True},
}


@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:.*left fresh")
@pytest.mark.parametrize("kind", slow_but(("bv-map", "hf-deit", "timm-clip"), KINDS))
def test_training_takes_all_that_the_checkpoint_tells(kind, tmp_path):
    file = GOLDEN / kind / CASES[kind]["file"]
    head = {"classes": 10, "activation": "linear", "include_top": True}
    labels = tuple("0123456789")
    expected = vit_keras.from_checkpoint(
        file, **head, **CASES[kind]["needs"], labels=labels
    )
    for field, value in KINDS[kind].items():
        assert getattr(expected.config, field) == value, field
    sizes = {name: getattr(expected.config, name) for name in SIZES}
    recipe = STILL.replace(preset="vit_ti16", model=sizes)
    trained = train(few(20), recipe, out=tmp_path, weights=file, console=quiet())

    assert trained.config == expected.config  # GELU, epsilon, preprocessing, ...
    for ours, theirs in zip(trained.layers, expected.layers, strict=True):
        assert ours.name == theirs.name
        if ours.name.startswith(("head", "pre_logits")):  # fresh in both
            theirs.set_weights(ours.get_weights())
    images = images_for(expected.config)
    np.testing.assert_allclose(
        run(trained, images), run(expected, images), rtol=0, atol=1e-6
    )  # one sum in another order
    saved = json.loads((tmp_path / "recipe.json").read_text())
    assert saved["weights"] == str(file)


def test_mean_and_std_come_from_the_checkpoint():
    """DeiT's weights were trained on images normalised with those of ImageNet, which
    the run above has, too."""
    deit = vit_keras.from_checkpoint(GOLDEN / "hf-deit" / CASES["hf-deit"]["file"])
    assert deit.config.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))


def test_a_load_that_disagrees_on_the_preprocessing_says_so(tmp_path):
    config = tiny(preprocessing=vit_keras.Preprocessing(mean=(0.1, 0.2, 0.3)))
    model = vit_keras.create_model(config)
    model.save(tmp_path / "m.keras")
    other = vit_keras.create_model(tiny())
    with pytest.warns(UserWarning, match="implies preprocessing=.*0.1, 0.2, 0.3"):
        vit_keras.load_weights(other, tmp_path / "m.keras")
    same = vit_keras.create_model(config)
    vit_keras.load_weights(same, tmp_path / "m.keras")  # warnings are errors here


def test_unknown_recipe_is_named(tmp_path):
    with pytest.raises(ValueError, match="`recipe` must be a Recipe or one of digits"):
        train("digits", "digit", out=tmp_path)
