"""Random models of the real packages, of other sizes than the golden ones."""

import keras
import numpy as np
import pytest

import vit_keras
from tests import peers
from tests.models import covering, randomise, run, tiny, weights_of
from tests.vit_keras.weights.compared import (
    SIZES,
    close,
    fill,
    images,
    model_of,
    run_torch,
    written,
)
from vit_keras import ViTConfig, create_model

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

HF_SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "attn_implementation": "eager",
}
# The file's own size, a larger one, and a rectangle with fewer rows and more columns.
OTHER_SIZES = [(32, 32), (56, 56), (16, 48)]


def hf_model(hf, name):
    sizes = HF_SIZES | {"intermediate_size": 40}
    dino = HF_SIZES | {"mlp_ratio": 3}
    if name == "vit":
        return hf.ViTForImageClassification(
            hf.ViTConfig(num_labels=7, hidden_act="gelu_pytorch_tanh", **sizes)
        )
    if name == "vit-base":
        return hf.ViTModel(hf.ViTConfig(layer_norm_eps=1e-3, **sizes))
    if name == "deit":
        return hf.DeiTForImageClassificationWithTeacher(
            hf.DeiTConfig(num_labels=7, **sizes)
        )
    if name == "dinov2":
        return hf.Dinov2Model(hf.Dinov2Config(**dino))
    return hf.Dinov2WithRegistersModel(
        hf.Dinov2WithRegistersConfig(num_register_tokens=2, **dino)
    )


KINDS = ("vit", "vit-base", "deit", "dinov2", "registers")


@pytest.mark.parametrize(("name", "size"), covering(KINDS, OTHER_SIZES))
def test_parity_with_transformers(name, size, hf, tmp_path):
    module = fill(hf_model(hf, name))
    module.save_pretrained(tmp_path)
    own_size = size == (32, 32)
    x = images(*size)
    options = {}
    if not own_size and name in ("vit", "vit-base", "deit"):
        options["interpolate_pos_encoding"] = True  # the others always do
    outputs = run_torch(module, x, **options)
    override = {} if own_size else {"image_size": size}
    if name in ("vit", "deit"):
        ours = vit_keras.from_checkpoint(tmp_path, **override)
        close(run(ours, x), outputs.logits)
        return
    ours = vit_keras.from_checkpoint(tmp_path, task="features", **override)
    close(run(ours, x), outputs.last_hidden_state)
    if name == "vit-base":
        ours = vit_keras.from_checkpoint(tmp_path, **override)
        close(run(ours, x), outputs.pooler_output)


TIMM_SIZES = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 3,
    "num_heads": 3,
    "mlp_ratio": 1.75,
    "num_classes": 7,
}
TIMM_RANDOM = {
    "token": ({}, {}),
    "gap": ({"global_pool": "avg"}, {}),
    "map": ({"global_pool": "map", "class_token": False}, {}),
    "map-registers": (
        {"global_pool": "map", "class_token": False, "reg_tokens": 2},
        {},
    ),
    "registers": ({"reg_tokens": 2, "no_embed_class": True}, {}),
    "placed-registers": ({"reg_tokens": 2, "init_values": 0.1}, {}),
    "tanh": ({"act_layer": "gelu_tanh"}, {"mlp_activation": "gelu_tanh"}),
    "clip": ({"pre_norm": True, "qk_norm": True}, {"norm_epsilon": 1e-6}),
    "distilled": ({}, {}),
}


def timm_model(timm, name, **sizes):
    architecture = "vit_tiny_patch16_224"
    if name == "distilled":
        architecture = "deit_tiny_distilled_patch16_224"
    options = TIMM_RANDOM[name][0]
    return timm.create_model(architecture, **TIMM_SIZES | options | sizes)


def test_a_wanted_grid_is_not_taken_for_that_of_the_file(timm, tmp_path):
    """16 positions are 4 x 4 patches of timm, not a class token and 3 x 5 of them."""
    parity_with_timm(timm, "registers", (24, 40), tmp_path / "model.safetensors")


@pytest.mark.parametrize(("name", "size"), covering(TIMM_RANDOM, OTHER_SIZES))
def test_parity_with_timm(name, size, timm, tmp_path):
    parity_with_timm(timm, name, size, tmp_path / "model.safetensors")


def parity_with_timm(timm, name, size, path):
    from safetensors.torch import save_file
    from timm.models._helpers import load_state_dict
    from timm.models.vision_transformer import checkpoint_filter_fn

    small = fill(timm_model(timm, name))
    save_file(small.state_dict(), path)
    # A model of the wanted size that loads the small one, as timm itself does it.
    module = timm_model(timm, name, img_size=size)
    state = checkpoint_filter_fn(load_state_dict(str(path)), module)
    module.load_state_dict(state)
    ours = vit_keras.from_checkpoint(
        path, image_size=size, num_heads=3, **TIMM_RANDOM[name][1]
    )
    x = images(*size)
    close(run(ours, x), run_torch(module, x))


@pytest.mark.parametrize("patch", [(4, 4), (16, 16), (8, 16)], ids=str)
def test_resized_patches_as_timm_has_them(patch, timm, tmp_path):
    from safetensors.torch import save_file
    from timm.models.vision_transformer import checkpoint_filter_fn

    small = fill(timm_model(timm, "token"))
    path = tmp_path / "model.safetensors"
    save_file(small.state_dict(), path)
    size = (4 * patch[0], 4 * patch[1])
    module = timm_model(timm, "token", img_size=size, patch_size=patch)
    module.load_state_dict(checkpoint_filter_fn(small.state_dict(), module))
    config = ViTConfig(
        image_size=size,
        patch_size=patch,
        hidden_size=24,
        num_layers=3,
        num_heads=3,
        mlp_dim=42,
        classes=7,
    )
    with pytest.warns(UserWarning, match="patches from"):
        ours = create_model(config, weights=path)
    x = images(*size)
    close(run(ours, x), run_torch(module, x))


def test_augreg_positions_are_zoomed(tmp_path):
    """vision_transformer resizes its positions with scipy.ndimage.zoom of order 1."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="its zoom is the definition")
    model = model_of(tiny(**SIZES, mlp_activation="gelu_tanh"))
    path = vit_keras.save_checkpoint(model, tmp_path / "model.npz", "augreg")
    file = written(path)
    old = file["Transformer/posembed_input/pos_embedding"][0]
    for grid in ((7, 7), (3, 3), (2, 5)):
        ours = vit_keras.from_checkpoint(path, image_size=(8 * grid[0], 8 * grid[1]))
        factors = (grid[0] / 4, grid[1] / 4, 1)
        new = ndimage.zoom(old[1:].reshape(4, 4, -1), factors, order=1)
        expected = np.concatenate([old[:1], new.reshape(-1, 16)])
        result = weights_of(ours)["posembed_input/embedding"][0]
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)  # float32


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("dim_head", [8, 10])
def test_parity_with_vit_pytorch(pool, dim_head, tmp_path):
    torch = pytest.importorskip("torch", reason="vit_pytorch needs it")
    peers.without_torchvision()
    vit = pytest.importorskip("vit_pytorch.vit", reason="writes this layout")
    module = fill(
        vit.ViT(
            image_size=(32, 48),
            patch_size=8,
            num_classes=7,
            dim=24,
            depth=3,
            heads=3,
            mlp_dim=40,
            dim_head=dim_head,
            pool=pool,
        )
    )
    torch.save(module.state_dict(), tmp_path / "model.pth")
    ours = vit_keras.from_checkpoint(
        tmp_path / "model.pth", num_heads=3, image_size=(32, 48)
    )
    assert ours.config.pooling == {"cls": "token", "mean": "gap"}[pool]
    close(run(ours, images(32, 48)), run_torch(module, images(32, 48)))


@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_parity_with_keras_hub(pooling, tmp_path):
    hub = pytest.importorskip("keras_hub", reason="writes this layout")
    backbone = hub.models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=8,
        num_layers=3,
        num_heads=3,
        hidden_dim=24,
        mlp_dim=40,
        use_class_token=pooling == "token",
        layer_norm_epsilon=1e-6,
    )
    classifier = hub.models.ViTImageClassifier(backbone, num_classes=7, pooling=pooling)
    module = randomise(classifier, seed=5)
    module.save_weights(tmp_path / "model.weights.h5")
    ours = vit_keras.from_checkpoint(tmp_path / "model.weights.h5")
    assert ours.config.num_heads == 3  # these kernels tell it
    close(run(ours, images()), keras.ops.convert_to_numpy(module(images())))
