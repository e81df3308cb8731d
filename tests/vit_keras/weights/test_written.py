"""What `save_checkpoint` writes is what the real packages write, and what they load."""

import errno
import os
import pathlib
import warnings

import keras
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vit_keras
from tests import peers
from tests.models import randomise, run, tiny, weights_of
from tests.vit_keras.weights.test_golden import CASES, GOLDEN, file_of, images_of
from vit_keras import CheckpointError, ViTConfig, create_model
from vit_keras.weights import writer
from vit_keras.weights.loader import find

# float32 over two or three blocks, a head, and outputs of order 1: the two sides take
# the same sums in another order.
TOLERANCE = {"rtol": 0, "atol": 2e-5}

SIZES = {"image_size": 32, "num_heads": 2}


@pytest.fixture
def timm():
    pytest.importorskip("torch", reason="timm needs it")
    peers.without_torchvision()
    return pytest.importorskip("timm", reason="the package that reads this layout")


@pytest.fixture
def hf():
    pytest.importorskip("torch", reason="transformers needs it")
    peers.without_torchvision()
    return pytest.importorskip("transformers", reason="reads this layout")


def images(height=32, width=32, channels=3):
    """Standard normal, (N, H, W, C)."""
    shape = (2, height, width, channels)
    return np.random.default_rng(7).standard_normal(shape).astype("float32")


def run_torch(module, x, **options):
    import torch

    with torch.inference_mode():
        return module.eval()(
            torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), **options
        )


def fill(module, seed=3):
    """Every weight of a PyTorch model drawn, norms around 1."""
    import torch

    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for _, tensor in sorted(module.state_dict().items()):
            value = 0.2 * rng.standard_normal(tuple(tensor.shape))
            scale = tensor.ndim == 1 and bool((tensor == 1).all())  # fresh norms
            tensor.copy_(torch.from_numpy(value + scale))
    return module.eval()


def close(ours, theirs):
    theirs = np.asarray(theirs)
    assert np.isfinite(theirs).all() and np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, **TOLERANCE)


def model_of(config, **changes):
    return randomise(create_model(config.replace(**changes)))


def written(path):
    """The arrays of a file that we wrote, read without our own reader."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    return safetensors.numpy.load_file(path)


# --- golden file -> model -> file --------------------------------------------------

# case: layout
EXACT = {
    "augreg-token": "augreg",
    "augreg-gap": "augreg",
    "augreg-2020": "augreg",
    "timm-token": "timm",
    "timm-gap": "timm",
    "timm-gap-norm": "timm",
    "timm-map": "timm",
    "timm-distilled": "timm",
    "timm-registers": "timm",
    "timm-layerscale": "timm",
    "timm-dinov2": "timm",
    "timm-clip": "timm",
    "timm-qknorm": "timm",
    "timm-noqkvbias": "timm",
    "timm-rect": "timm",
    "timm-pth": "timm",
    "timm-folder": "timm",
    "hf-vit": "huggingface",
    "hf-vit-base": "huggingface",
    "hf-sharded": "huggingface",
    "hf-bf16": "huggingface",
    "hf-rect": "huggingface",
    "hf-deit": "huggingface",
    "hf-dinov2": "huggingface",
}
# What is in their files and belongs to no network of ours.
NOT_OURS = {"embeddings.mask_token"}


def golden_model(name, **options):
    case = CASES[name]
    return vit_keras.from_checkpoint(file_of(case), **case["needs"], **options)


def save_quietly(model, path, layout):
    """timm has no way to say the epsilon of CLIP; the warning is tested below."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*computes with norm_epsilon")
        return vit_keras.save_checkpoint(model, path, layout)


@pytest.mark.parametrize("name", EXACT)
def test_a_golden_file_is_written_again(name, tmp_path):
    layout = EXACT[name]
    suffix = ".npz" if layout == "augreg" else ".safetensors"
    path = save_quietly(golden_model(name), tmp_path / f"model{suffix}", layout)
    ours = written(path)
    entries = find(file_of(CASES[name])).entries
    theirs = {
        n.removeprefix("opt/target/"): e.read()
        for n, e in entries.items()
        if n not in NOT_OURS
    }
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key].dtype == "float32"
        np.testing.assert_array_equal(ours[key], value.astype("float32"), err_msg=key)


def test_golden_registers_of_dinov2_are_written_with_a_folded_position(tmp_path):
    """The position of the class token is part of the token then; the sum is theirs."""
    name = "hf-dinov2-registers"
    path = tmp_path / "model.safetensors"
    ours = written(vit_keras.save_checkpoint(golden_model(name), path, "huggingface"))
    entries = find(file_of(CASES[name])).entries
    theirs = {n: e.read() for n, e in entries.items() if n not in NOT_OURS}
    assert ours.keys() == theirs.keys()
    cls, places = "embeddings.cls_token", "embeddings.position_embeddings"
    for key, value in theirs.items():
        if key not in (cls, places):
            np.testing.assert_array_equal(ours[key], value, err_msg=key)
    np.testing.assert_array_equal(ours[places][:, 1:], theirs[places][:, 1:])
    np.testing.assert_array_equal(
        ours[cls] + ours[places][:, :1], theirs[cls] + theirs[places][:, :1]
    )


# From the layout of one library into that of another, and what that cannot tell.
CONVERTED = [
    ("augreg-token", "timm", "folder", {}),
    ("augreg-token", "huggingface", "folder", {}),
    ("bv-gap", "augreg", "model.npz", {}),
    ("bv-gap", "timm", "folder", {}),
    ("bv-rep", "augreg", "model.npz", {}),
    ("bv-map", "timm", "folder", {}),
    ("bv-tok", "augreg", "model.npz", {}),
    ("bv-tok", "huggingface", "folder", {}),
    ("hf-deit", "timm", "folder", {"norm_epsilon": 1e-12}),
    ("hf-dinov2", "timm", "folder", {}),
    ("hf-dinov2-registers", "timm", "folder", {}),
    ("kh-gap", "timm", "folder", {}),
    ("kh-token", "huggingface", "folder", {}),
    # Its MLP is no multiple of its width, which only the settings must be able to say.
    ("timm-dinov2", "huggingface_dinov2", "model.safetensors", {"num_heads": 2}),
    ("timm-distilled", "huggingface", "folder", {}),
    ("vk-h5", "huggingface", "folder", {}),
    ("vk-keras2", "timm", "folder", {}),
]


@pytest.mark.parametrize("name,layout,file,needs", CONVERTED)
def test_converted_files_compute_what_the_package_did(
    name, layout, file, needs, tmp_path
):
    with np.load(GOLDEN / name / "expected.npz") as expected:
        x, outputs = images_of(expected), expected["outputs"]
    task = "features" if outputs.ndim == 3 else "classify"
    path = save_quietly(golden_model(name), tmp_path / file, layout)
    close(run(vit_keras.from_checkpoint(path, task=task, **needs), x), outputs)


# A tanh layer with the exact GELU, layer norms around the patch projection.
@pytest.mark.parametrize("name", ["vk-legacy", "vp-cls", "vp-mean", "vp-headdim"])
@pytest.mark.parametrize("layout", ["timm", "huggingface", "augreg"])
def test_what_no_other_library_has_is_not_converted(name, layout, tmp_path):
    with pytest.raises(CheckpointError, match="cannot express"):
        vit_keras.save_checkpoint(golden_model(name), tmp_path / "model", layout)
    assert not list(tmp_path.iterdir())


# --- the real package loads what we write ------------------------------------------

GREY = {"channels": 1, "preprocessing": {"mean": [0.4], "std": [0.3]}}
HF_MODELS = {
    "vit": (tiny(**SIZES), "ViTForImageClassification"),
    "vit-base": (
        tiny(**SIZES, include_top=False, representation_size=16),
        "ViTModel",
    ),
    "vit-tanh": (
        tiny(**SIZES, mlp_activation="gelu_tanh", qkv_bias=False),
        "ViTForImageClassification",
    ),
    "vit-rectangle": (
        tiny(image_size=(32, 16), patch_size=(8, 4)),
        "ViTForImageClassification",
    ),
    "vit-grey": (tiny(**SIZES, **GREY), "ViTForImageClassification"),
    "vit-no-positions": (
        tiny(**SIZES, position_prefix=False, norm_epsilon=1e-3),
        "ViTForImageClassification",
    ),
    "deit": (
        tiny(**SIZES, distillation_token=True),
        "DeiTForImageClassificationWithTeacher",
    ),
    "deit-base": (
        tiny(
            **SIZES,
            distillation_token=True,
            include_top=False,
            representation_size=16,
            position_prefix=False,
        ),
        "DeiTModel",
    ),
    "dinov2": (
        tiny(**SIZES, mlp_dim=32, include_top=False, layer_scale_init_value=0.5),
        "Dinov2Model",
    ),
    "dinov2-registers": (
        tiny(
            **SIZES,
            mlp_dim=48,
            include_top=False,
            layer_scale_init_value=0.5,
            num_register_tokens=3,
        ),
        "Dinov2WithRegistersModel",
    ),
}


def from_pretrained(cls, folder):
    """Loads strictly: nothing may be missing, left over or of another shape."""
    module, info = cls.from_pretrained(folder, output_loading_info=True)
    wrong = ("missing_keys", "unexpected_keys", "mismatched_keys")
    found = {key: info[key] for key in wrong if info.get(key)}
    # Not of the network: masking in pre-training only.
    missing = set(found.get("missing_keys", ())) - NOT_OURS
    assert not missing and set(found) <= {"missing_keys"}, found
    return module


@pytest.mark.parametrize("name", HF_MODELS)
def test_transformers_loads_it(name, hf, tmp_path):
    config, cls = HF_MODELS[name]
    model = model_of(config)
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "huggingface")
    auto = hf.AutoModelForImageClassification if config.include_top else hf.AutoModel
    module = from_pretrained(auto, folder)
    assert type(module).__name__ == cls
    x = images(*config.image_size, config.channels)
    outputs = run_torch(module, x)
    if config.include_top:
        close(run(model, x), outputs.logits)
        return
    tokens = keras.Model(model.input, model.get_layer("encoder_norm").output)
    close(run(tokens, x), outputs.last_hidden_state)
    if config.representation_size:
        close(run(model, x), outputs.pooler_output)


def test_transformers_reads_our_preprocessing(hf, tmp_path):
    from PIL import Image

    prep = {
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.3, 0.25),
        "interpolation": "bicubic",
    }
    config = tiny(**SIZES, preprocessing=prep)
    folder = vit_keras.save_checkpoint(
        create_model(config), tmp_path / "m", "huggingface"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype("uint8")
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    theirs = np.asarray(processor(Image.fromarray(pixels))["pixel_values"][0])
    ours = (pixels / 255 - np.array(prep["mean"])) / np.array(prep["std"])
    np.testing.assert_allclose(theirs.transpose(1, 2, 0), ours, rtol=0, atol=1e-5)


TIMM_MODELS = {
    "token": {},
    "gap": {"pooling": "gap", "class_token": True},
    "gap-no-class": {"pooling": "gap"},
    "gap-fc-norm": {"pooling": "gap", "class_token": True, "fc_norm": True},
    "token-fc-norm": {"fc_norm": True},
    "map": {"pooling": "map"},
    "map-fc-norm": {"pooling": "map", "fc_norm": True},
    "registers": {"num_register_tokens": 3, "position_prefix": False},
    "registers-with-positions": {"num_register_tokens": 3},
    "layer-scale": {"layer_scale_init_value": 0.1},
    "distilled": {"distillation_token": True},
    "distilled-options": {
        "distillation_token": True,
        "layer_scale_init_value": 0.1,
        "qk_norm": True,
        "pre_norm": True,
        "qkv_bias": False,
    },
    "qk-norm": {"qk_norm": True},
    "pre-norm": {"pre_norm": True},
    "no-qkv-bias": {"qkv_bias": False},
    "rectangle": {"image_size": (32, 16), "patch_size": (8, 4)},
    "tanh": {"mlp_activation": "gelu_tanh"},
    "features": {"include_top": False},
    "grey": GREY,
    "odd-widths": {"hidden_size": 22, "mlp_dim": 15},  # int(22 * (15 / 22)) is 14
}


@pytest.mark.parametrize("name", TIMM_MODELS)
def test_timm_loads_it(name, timm, tmp_path):
    model = model_of(tiny(**SIZES | TIMM_MODELS[name]))
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "timm")
    module = timm.create_model(f"local-dir:{folder}", pretrained=True)  # strict
    x = images(*model.config.image_size, model.config.channels)
    close(run(model, x), run_torch(module, x))
    cfg = module.pretrained_cfg
    assert tuple(cfg["input_size"]) == (x.shape[-1], *x.shape[1:3])
    assert tuple(cfg["mean"]) == model.config.preprocessing.mean


def test_timm_returns_all_tokens(timm, tmp_path):
    config = tiny(**SIZES, pooling=None, include_top=False, class_token=True)
    model = model_of(config)
    folder = vit_keras.save_checkpoint(model, tmp_path / "model", "timm")
    module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    close(run(model, images()), run_torch(module, images()))


@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_timm_loads_our_augreg_file(pooling, timm, tmp_path):
    model = model_of(tiny(**SIZES, pooling=pooling, mlp_activation="gelu_tanh"))
    path = vit_keras.save_checkpoint(model, tmp_path / "model.npz", "augreg")
    module = timm.models.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        mlp_ratio=1.5,
        num_classes=5,
        act_layer="gelu_tanh",
        global_pool={"token": "token", "gap": "avg"}[pooling],
        class_token=pooling == "token",
        fc_norm=False,
    )
    fill(module)
    module.load_pretrained(str(path))
    close(run(model, images()), run_torch(module, images()))


# --- random models of the real packages, of other sizes than the golden ones ---------

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


@pytest.mark.parametrize("size", OTHER_SIZES, ids=str)
@pytest.mark.parametrize("name", ["vit", "vit-base", "deit", "dinov2", "registers"])
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


@pytest.mark.parametrize("size", OTHER_SIZES, ids=str)
@pytest.mark.parametrize("name", TIMM_RANDOM)
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


@pytest.mark.parametrize("layout", ["timm", "huggingface"])
def test_crop_and_interpolation_come_back(layout, tmp_path):
    prep = vit_keras.Preprocessing(crop=0.875, interpolation="bilinear")
    config = tiny(image_size=56, preprocessing=prep)  # 56 / 0.875 is a whole number
    folder = vit_keras.save_checkpoint(create_model(config), tmp_path / "m", layout)
    assert vit_keras.from_checkpoint(folder).config.preprocessing == prep


# --- refusals ------------------------------------------------------------------------

TANH = {"mlp_activation": "gelu_tanh"}
REFUSED = [
    ("huggingface", {"pooling": "map"}, "pooling="),
    ("huggingface", {"pooling": "gap"}, "pooling="),
    ("huggingface", {"num_register_tokens": 2}, "num_register_tokens="),
    ("huggingface", {"patch_norm": True}, "patch_norm="),
    ("huggingface", {"positions": "sincos2d"}, "positions="),
    ("huggingface", {"representation_size": 8}, "representation_size="),
    ("huggingface", {"head_dim": 5}, "head_dim="),
    ("huggingface", {"qk_norm": True}, "query_norm"),
    ("huggingface", {"pre_norm": True}, "pre_norm"),
    ("huggingface", {"fc_norm": True}, "fc_norm"),
    ("huggingface", {"layer_scale_init_value": 0.1}, "include_top="),
    ("huggingface_vit", {"layer_scale_init_value": 0.1}, "layer_scale1"),
    ("huggingface_vit", {"distillation_token": True}, "distillation_token="),
    ("huggingface_deit", {}, "distillation_token="),
    (
        "huggingface_deit",
        {"distillation_token": True, "representation_size": 8},
        "representation_size=",
    ),
    ("augreg", {}, "mlp_activation="),
    ("augreg", {"pooling": "map", **TANH}, "pooling="),
    ("augreg", {"pooling": "gap", "class_token": True, **TANH}, "pooling="),
    ("augreg", {"num_register_tokens": 2, **TANH}, "register_tokens"),
    ("augreg", {"distillation_token": True, **TANH}, "distillation_token"),
    ("augreg", {"positions": "sincos2d", **TANH}, "positions="),
    ("augreg", {"qkv_bias": False, **TANH}, "qkv_bias="),
    ("augreg", {"head_dim": 5, **TANH}, "head_dim="),
    ("augreg", {"patch_norm": True, **TANH}, "norm_before"),
    ("timm", {"patch_norm": True}, "patch_norm="),
    ("timm", {"head_dim": 5}, "head_dim="),
    ("timm", {"representation_size": 8}, "representation_size="),
    ("timm", {"positions": "sincos2d"}, "positions="),
    (
        "timm",
        {"distillation_token": True, "num_register_tokens": 2},
        "num_register_tokens=",
    ),
    (
        "timm",
        {"distillation_token": True, "position_prefix": False},
        "position_prefix=",
    ),
]


@pytest.mark.parametrize("layout,changes,field", REFUSED)
def test_what_a_layout_can_not_express(layout, changes, field, tmp_path):
    model = create_model(tiny(**changes))
    with pytest.raises(CheckpointError, match=field):
        vit_keras.save_checkpoint(model, tmp_path / "model", layout)
    assert not list(tmp_path.iterdir())


def test_mlp_of_dinov2_is_a_multiple(tmp_path):
    config = tiny(layer_scale_init_value=1.0, include_top=False, mlp_dim=24)
    with pytest.raises(CheckpointError, match="mlp_dim"):
        vit_keras.save_checkpoint(
            create_model(config), tmp_path / "model", "huggingface"
        )
    assert not list(tmp_path.iterdir())


def test_features_are_a_model_without_head(timm, tmp_path):
    """Their configuration still has the head that the model lacks."""
    model = randomise(create_model(tiny(**SIZES), task="features"))
    assert model.config.include_top
    folder = vit_keras.save_checkpoint(model, tmp_path / "timm", "timm")
    module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert module.num_classes == 0
    x = images()
    close(run(model, x)[:, 0], run_torch(module, x))
    folder = vit_keras.save_checkpoint(model, tmp_path / "hf", "huggingface")
    names = written(folder / "model.safetensors")
    assert "embeddings.cls_token" in names  # a bare ViTModel, without "vit."
    again = vit_keras.from_checkpoint(folder, task="features")
    np.testing.assert_array_equal(run(again, x), run(model, x))


def test_features_of_another_norm_are_refused(tmp_path):
    """Nobody else leaves both norms out."""
    model = create_model(tiny(pooling="gap", fc_norm=True), task="features")
    with pytest.raises(CheckpointError, match="lacks.*fc_norm"):
        vit_keras.save_checkpoint(model, tmp_path / "model", "timm")


def test_another_epsilon_is_said(tmp_path):
    model = create_model(tiny(norm_epsilon=1e-3))
    with pytest.warns(UserWarning, match="norm_epsilon=1e-06, the model with 0.001"):
        vit_keras.save_checkpoint(model, tmp_path / "model", "timm")


def test_unknown_layout_lists_the_known(tmp_path):
    model = create_model(tiny())
    for layout in ("tim", "big_vision", "keras_hub", "", None):  # some are only read
        with pytest.raises(ValueError) as error:
            vit_keras.save_checkpoint(model, tmp_path / "model", layout)
        assert f"{layout!r}" in str(error.value)
        for name in ("'huggingface'", "augreg", "timm", "huggingface_vit"):
            assert name in str(error.value)
    assert "augreg" in writer.WRITABLE and "big_vision" not in writer.WRITABLE


@pytest.mark.parametrize(
    "layout,file",
    [
        ("timm", "model.npz"),
        ("timm", "model.pth"),
        ("huggingface", "pytorch_model.bin"),
        ("augreg", "model.safetensors"),
        ("augreg", "model.h5"),
    ],
)
def test_wrong_suffix(layout, file, tmp_path):
    model = create_model(tiny(**TANH))
    with pytest.raises(ValueError, match="`path` must end in"):
        vit_keras.save_checkpoint(model, tmp_path / file, layout)
    assert not list(tmp_path.iterdir())


def test_wrong_model(tmp_path):
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    for wrong in (None, "vit_ti16", plain, tiny()):
        with pytest.raises(ValueError, match="`model` must come from"):
            vit_keras.save_checkpoint(wrong, tmp_path / "model", "timm")
    assert not list(tmp_path.iterdir())


def test_a_layer_of_the_user_has_no_place(tmp_path):
    model = create_model(tiny())
    extra = keras.layers.Dense(3, name="mine")(model.output)
    grown = vit_keras.VisionTransformer(
        model.inputs, extra, "grown", config=model.config, task="classify"
    )
    with pytest.raises(CheckpointError, match="no name for 2 weights.*mine/kernel"):
        vit_keras.save_checkpoint(grown, tmp_path / "model", "timm")


# --- all or nothing ------------------------------------------------------------------


def contents(folder):
    files = pathlib.Path(folder).rglob("*")
    return {p.name: p.read_bytes() for p in files if p.is_file()}


@pytest.mark.parametrize("failing", [".safetensors", ".json"])
def test_a_full_disk_leaves_the_earlier_files(failing, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    vit_keras.save_checkpoint(model_of(tiny()), folder, "timm")
    before = contents(folder)
    assert before.keys() == {"model.safetensors", "config.json"}
    write = writer._write

    def full(file, suffix, content):
        if suffix == failing:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, suffix, content)

    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        vit_keras.save_checkpoint(
            randomise(create_model(tiny(mlp_dim=32)), seed=9), folder, "timm"
        )
    assert contents(folder) == before


def test_a_full_disk_leaves_no_first_file(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        vit_keras.save_checkpoint(
            create_model(tiny(**TANH)), tmp_path / "model.npz", "augreg"
        )
    assert contents(tmp_path) == {}


def test_an_earlier_model_is_replaced(tmp_path):
    folder = tmp_path / "model"
    vit_keras.save_checkpoint(create_model(tiny()), folder, "timm")
    model = model_of(tiny(), mlp_dim=32)
    assert vit_keras.save_checkpoint(model, str(folder), "timm") == folder
    assert contents(folder).keys() == {"model.safetensors", "config.json"}
    again = vit_keras.from_checkpoint(folder)
    assert again.config.mlp_dim == 32


def test_a_path_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        vit_keras.save_checkpoint(
            create_model(tiny()), tmp_path / "file" / "model", "timm"
        )
    assert contents(tmp_path) == {"file": b"in the way"}


# --- any model that a layout can express ----------------------------------------------


@st.composite
def sizes(draw, **fixed):
    """Sizes that every layout can express."""
    return {
        "image_size": (8, draw(st.sampled_from([8, 12]))),
        "patch_size": (4, draw(st.sampled_from([2, 4]))),
        "num_layers": draw(st.integers(1, 2)),
        "hidden_size": 8,
        "num_heads": draw(st.sampled_from([1, 2, 4])),
        "mlp_dim": draw(st.integers(1, 13)),
        "classes": draw(st.integers(1, 4)),
        "include_top": draw(st.booleans()),
        **fixed,
    }


optional = st.sampled_from


@st.composite
def preprocessings(draw, crops):
    return vit_keras.Preprocessing(
        mean=draw(optional([(0.5, 0.5, 0.5), (0.1, 0.2, 0.3)])),
        std=draw(optional([(0.5, 0.5, 0.5), (0.4, 0.5, 0.6)])),
        interpolation=draw(optional(["nearest", "bilinear", "bicubic", "lanczos"])),
        crop=draw(optional(crops)),
    )


@st.composite
def augreg_configs(draw):
    options = draw(sizes(patch_size=(4, 4)))
    options["pooling"] = draw(optional(["token", "gap"]))
    options["position_prefix"] = draw(st.booleans())
    options["representation_size"] = draw(optional([None, 5]))
    return ViTConfig(**options, **TANH)


@st.composite
def timm_configs(draw):
    flag, options = st.booleans(), draw(sizes())
    pooling = draw(optional(["token", "gap", "map", None]))
    distilled = pooling == "token" and draw(flag)
    if pooling is None:
        options["include_top"] = False
    if pooling in ("gap", None):
        options["class_token"] = draw(flag)
    if not distilled:
        options["position_prefix"] = draw(flag)
        options["fc_norm"] = pooling is not None and draw(flag)
        if pooling != "map":
            options["num_register_tokens"] = draw(optional([0, 2]))
    return ViTConfig(
        **options,
        pooling=pooling,
        distillation_token=distilled,
        mlp_activation=draw(optional(["gelu", "gelu_tanh"])),
        qkv_bias=draw(flag),
        qk_norm=draw(flag),
        pre_norm=draw(flag),
        layer_scale_init_value=draw(optional([None, 0.1])),
        preprocessing=draw(preprocessings(crops=[1.0, 0.9])),
    )


@st.composite
def huggingface_configs(draw):
    flag, kind = st.booleans(), draw(optional(["vit", "deit", "dinov2"]))
    options = draw(sizes())
    if kind == "dinov2":
        options |= {"layer_scale_init_value": 0.1, "include_top": False}
        options["mlp_dim"] = 8 * draw(st.integers(1, 3))
        options["num_register_tokens"] = draw(optional([0, 2]))
    elif not options["include_top"]:
        options["representation_size"] = draw(optional([None, 5]))
    return ViTConfig(
        **options,
        distillation_token=kind == "deit",
        position_prefix=draw(flag),
        mlp_activation=draw(optional(["gelu", "gelu_tanh"])),
        norm_epsilon=draw(optional([1e-6, 1e-12])),
        qkv_bias=draw(flag),
        preprocessing=draw(preprocessings(crops=[1.0])),  # whole pixels there
    )


# No file tells these, or tells them only in another, equal form: the start value of
# LayerScale, who has a position, and the classes of a head that is not there.
UNTOLD = {"layer_scale_init_value", "position_prefix"}


def round_trip(config, path, layout, **needs):
    keras.backend.clear_session(free_memory=False)
    model = model_of(config)
    vit_keras.save_checkpoint(model, path, layout)
    again = vit_keras.from_checkpoint(path, **needs)
    expected, found = config.to_dict(), again.config.to_dict()
    untold = UNTOLD | ({"classes"} if not config.include_top else set())
    untold |= set(needs)
    for field in expected.keys() - untold:
        assert found[field] == expected[field], field
    scaled = config.layer_scale_init_value is not None
    assert (again.config.layer_scale_init_value is not None) == scaled
    return model, again


def assert_same_weights(model, again):
    """Bit for bit; positions and prefix tokens by their sums where they moved."""
    before, after = weights_of(model), weights_of(again)
    places = "posembed_input/embedding"
    moved = (places, "embedding/bias")
    moved += tuple(f"{t}/token" for t in ("class_token", "distillation_token"))
    moved += ("register_tokens/token",)
    assert before.keys() == after.keys()
    for path in before.keys() - set(moved):
        np.testing.assert_array_equal(after[path], before[path], err_msg=path)
    # What the first block reads: every token with its position, and the patches' bias.
    np.testing.assert_allclose(
        sequence_start(again, after),
        sequence_start(model, before),
        rtol=0,
        atol=1e-6,  # a sum or two in float32
    )
    if model.config.position_prefix == again.config.position_prefix:
        if not model.config.pre_norm:
            for path in before.keys() & set(moved):
                np.testing.assert_array_equal(after[path], before[path], err_msg=path)


def sequence_start(model, weights):
    """Prefix tokens and patches of an empty image, with their positions, (T, D)."""
    config, rows = model.config, []
    for token in ("class_token", "distillation_token", "register_tokens"):
        if f"{token}/token" in weights:
            rows.append(weights[f"{token}/token"][0])
    patches = config.grid[0] * config.grid[1]
    bias = np.tile(weights["embedding/bias"], (patches, 1))
    positions = weights["posembed_input/embedding"][0]
    if config.position_prefix:
        return np.concatenate([*rows, bias]) + positions
    return np.concatenate([*rows, bias + positions])


# Creating a file in the same folder again and again is what is wanted.
MANY = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@MANY
@given(config=augreg_configs())
def test_any_augreg_model_comes_back(config, tmp_path):
    path, needs = tmp_path / "model.npz", {"image_size": config.image_size}
    assert_same_weights(*round_trip(config, path, "augreg", **needs))


@MANY
@given(config=timm_configs())
def test_any_timm_model_comes_back(config, tmp_path):
    # timm's settings cannot tell it, and CLIP's is implied by the norm before.
    needs = {"norm_epsilon": config.norm_epsilon}
    assert_same_weights(*round_trip(config, tmp_path / "model", "timm", **needs))


@MANY
@given(config=huggingface_configs())
def test_any_huggingface_model_comes_back(config, tmp_path):
    models = round_trip(config, tmp_path / "model", "huggingface")
    assert_same_weights(*models)
