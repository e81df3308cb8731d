"""Makes the golden checkpoints: small files written by the real packages.

Each case is a folder with the checkpoint as its package writes it and
`expected.npz`: `outputs`, what that package computes in inference mode, and
`images_shape`. The images are not stored: both sides draw them as `images` does.
`cases.json` lists the cases, and of each

    case, file    the folder, and the checkpoint in it ("." is the folder itself)
    layout        whose naming of the weights it has
    package       what wrote it
    config        the fields of our ViTConfig that it implies; `layer_scale` says
                  whether there is LayerScale, whose start value no file tells
    needs         those of them that can not be read from the file

No case is made by a test: the files are kept, and this script says where they come
from. Name the groups to make; the others stay as they are:

    python tests/golden/make.py timm huggingface vit-pytorch \\
        google --vision-transformer DIR --big-vision DIR
    python tests/golden/make.py keras-hub
    python tests/golden/make.py vit-keras --vit-keras DIR
    python tests/golden/make.py vit-keras-2 --vit-keras DIR     # see below

What they need, and the versions the files were made with:

    pip install torch==2.15.0 torchvision==0.29.2 timm==1.0.31 transformers==5.23.0 \\
        vit-pytorch==1.26.11 safetensors==0.8.0 jax==0.10.2 flax==0.12.8 scipy
    git clone https://github.com/google-research/vision_transformer
        (vit_jax/models_vit.py as of 06862cdaf01e68e19de60c1853b3437a107d9c2c)
    git clone https://github.com/google-research/big_vision
        (big_vision/models/vit.py as of 5f95305cdb93f8da81fb21178a5024cff5ad4f96)
    pip install keras==3.15.1 tensorflow==2.21 keras-hub==0.32.0
    pip install --no-deps --target DIR vit-keras==0.2.0 \\
        && pip install keras==3.15.1 tensorflow==2.21 scipy validators
    pip install --no-deps --target DIR vit-keras==0.1.2 \\
        && pip install tf_keras==2.21.0 tensorflow==2.21 scipy validators
        (the last one for Keras 2, which 0.2.0 does not run on; in an environment
        of its own, as the three of Keras are)

Weights are drawn, too, all of them: many start as 0 or 1, where a swapped or forgotten
one would not be seen.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases.json"

SIZES = {
    "image_size": [32, 32],
    "patch_size": [8, 8],
    "num_layers": 2,
    "hidden_size": 16,
    "num_heads": 2,
    "mlp_dim": 24,
    "classes": 5,
}
FEATURES = {k: v for k, v in SIZES.items() if k != "classes"} | {"include_top": False}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(height=32, width=32):
    """The input of every case, (N, H, W, C)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, height, width, 3)).astype("float32")


def draw(rng, shape, kind="weight"):
    """A random weight; "scale" is that of a norm, "layer_scale" the small one."""
    centre, spread = {
        "weight": (0.0, 0.2),
        "scale": (1.0, 0.2),
        "layer_scale": (0.5, 0.1),
    }[kind]
    value = centre + spread * rng.standard_normal(shape)
    # Few digits, so that the files compress well in the repository.
    return (np.round(value * 1024) / 1024).astype("float32")


class Maker:
    """Writes the cases of one package and collects their rows of the table."""

    def __init__(self, layout, package):
        self.layout, self.package, self.rows = layout, package, []

    def folder(self, case):
        """The empty folder of a case."""
        folder = HERE / case
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def add(self, case, file, x, outputs, config, needs=None, layout=None):
        """Stores what the package computed for the images `x`, and the row."""
        outputs = np.asarray(outputs, "float32")
        if not (np.isfinite(outputs).all() and 0.1 < outputs.std() < 10):
            raise ValueError(f"{case}: outputs of no use: {outputs}")
        np.savez(
            HERE / case / "expected.npz",
            outputs=outputs,
            images_shape=np.array(x.shape, "int64"),
        )
        self.rows.append(
            {
                "case": case,
                "file": file,
                "layout": layout or self.layout,
                "package": self.package,
                "config": config,
                "needs": needs or {},
            }
        )


def version(name):
    return f"{name} {importlib.metadata.version(name)}"


# --- google-research: flax --------------------------------------------------------


def make_google(args):
    import jax
    from flax.traverse_util import flatten_dict

    jax.config.update("jax_default_matmul_precision", "highest")

    def params_of(model):
        params = model.init(jax.random.key(0), images(), train=False)["params"]
        rng = np.random.default_rng(1)
        return {
            name: draw(
                rng, value.shape, "scale" if name.endswith("scale") else "weight"
            )
            for name, value in sorted(flatten_dict(params, sep="/").items())
        }

    return _make_augreg(args, params_of) + _make_big_vision(args, params_of)


def _make_augreg(args, params_of):
    from flax.traverse_util import unflatten_dict

    sys.path.insert(0, str(args.vision_transformer))
    sys.modules["vit_jax.models_resnet"] = types.ModuleType("models_resnet")  # unused
    from vit_jax.models_vit import VisionTransformer

    make = Maker(
        "augreg",
        "google-research/vision_transformer@06862cdaf01e68e19de60c1853b3437a107d9c2c",
    )

    def case(name, config=None, prefix="", **options):
        model = VisionTransformer(
            num_classes=5,
            patches=types.SimpleNamespace(size=(8, 8)),
            transformer={"num_layers": 2, "mlp_dim": 24, "num_heads": 2},
            hidden_size=16,
            **options,
        )
        flat = params_of(model)
        written = _before_linen(flat)
        np.savez(
            make.folder(name) / "model.npz",
            **{prefix + name: value for name, value in written.items()},
        )
        x = images()
        outputs = model.apply({"params": unflatten_dict(flat, sep="/")}, x, train=False)
        config = SIZES | {"mlp_activation": "gelu_tanh"} | (config or {})
        make.add(name, "model.npz", x, outputs, config)

    case("augreg-token", {"pooling": "token"})
    case(
        "augreg-2020",
        {"pooling": "token", "representation_size": 16},
        prefix="opt/target/",
        representation_size=16,
    )
    case("augreg-gap", {"pooling": "gap", "class_token": False}, classifier="gap")
    return make.rows


def _before_linen(flat):
    """The names of Google's released files, which vit_jax converts when it reads.

    They are those of the flax of 2020, which numbered all submodules together.
    """
    from flax.training.checkpoints import convert_pre_linen
    from flax.traverse_util import flatten_dict, unflatten_dict

    old = {
        "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1",
        "LayerNorm_1": "LayerNorm_2",
        "MlpBlock_0": "MlpBlock_3",
    }
    written = {
        "/".join(old.get(part, part) for part in name.split("/")): value
        for name, value in flat.items()
    }
    back = flatten_dict(convert_pre_linen(unflatten_dict(written, sep="/")), sep="/")
    if sorted(back) != sorted(flat) or any(back[k] is not flat[k] for k in flat):
        raise ValueError("flax does not read the old names back as the new ones")
    return written


def _make_big_vision(args, params_of):
    import ml_dtypes
    from flax.traverse_util import unflatten_dict

    sys.path.insert(0, str(args.big_vision))
    for unused in ("utils", "models.common"):
        name = f"big_vision.{unused}"
        package, _, attribute = name.rpartition(".")
        sys.modules[name] = types.ModuleType(name)
        setattr(__import__(package, fromlist=["_"]), attribute, sys.modules[name])
    from big_vision.models import vit

    make = Maker(
        "big_vision",
        "google-research/big_vision@5f95305cdb93f8da81fb21178a5024cff5ad4f96",
    )
    gap = {"pooling": "gap", "class_token": False}

    def case(name, config, needs=None, bfloat16=False, **options):
        model = vit.Model(
            5,
            width=16,
            depth=2,
            mlp_dim=24,
            num_heads=2,
            patch_size=(8, 8),
            **options,
        )
        flat = params_of(model)
        stored = flat
        if bfloat16:
            rounded = {k: v.astype(ml_dtypes.bfloat16) for k, v in flat.items()}
            flat = {k: v.astype("float32") for k, v in rounded.items()}
            # NumPy has no bfloat16: Google's files hold it as two raw bytes.
            stored = {k: v.view("V2") for k, v in rounded.items()}
        np.savez(
            make.folder(name) / "model.npz",
            **{f"params/{k}": v for k, v in stored.items()},
        )
        x = images()
        outputs, _ = model.apply({"params": unflatten_dict(flat, sep="/")}, x)
        config = SIZES | {"mlp_activation": "gelu_tanh"} | config
        make.add(name, "model.npz", x, outputs, config, needs)

    case("bv-tok", {"pooling": "token", "position_prefix": False}, pool_type="tok")
    case("bv-gap", gap)
    case(
        "bv-gap-sincos2d",
        gap | {"positions": "sincos2d"},
        {"image_size": [32, 32]},
        posemb="sincos2d",
    )
    case("bv-map", {"pooling": "map", "class_token": False}, pool_type="map")
    case("bv-rep", gap | {"representation_size": 16}, rep_size=16)
    case("bv-scan", gap, scan=True)
    case("bv-bf16", gap, bfloat16=True)
    return make.rows


# --- PyTorch ----------------------------------------------------------------------


def fill(module):
    """Draws all weights of a PyTorch model; returns it ready for inference."""
    import torch

    rng = np.random.default_rng(1)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if name.endswith(("gamma", "lambda1")):
                kind = "layer_scale"
            elif name.endswith("weight") and tensor.ndim == 1:
                kind = "scale"  # only norms have weights of one dimension
            else:
                kind = "weight"
            tensor.copy_(torch.from_numpy(draw(rng, tuple(tensor.shape), kind)))
    return module.eval()


def run(module, x):
    """The outputs of a PyTorch model for images (N, H, W, C)."""
    import torch

    with torch.inference_mode():
        return module(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))


def make_timm(args):
    import timm
    import torch
    from safetensors.torch import save_file
    from timm.layers import LayerNorm
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    make = Maker("timm", version("timm"))
    sizes = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 1.5,
        "num_classes": 5,
    }
    heads = {"num_heads": 2}  # a fused qkv kernel does not tell them

    def case(
        name,
        config,
        needs=None,
        cls=VisionTransformer,
        file="model.safetensors",
        save=save_file,
        size=(32, 32),
        base=SIZES,
        **options,
    ):
        model = fill(cls(**sizes | options))
        save(model.state_dict(), make.folder(name) / file)
        x = images(*size)
        make.add(name, file, x, run(model, x), base | config, heads | (needs or {}))

    def save_nested(state, path):
        torch.save({"model": state}, path)

    save_legacy = partial(torch.save, _use_new_zipfile_serialization=False)
    token, gap = {"pooling": "token"}, {"pooling": "gap", "class_token": True}

    case("timm-token", token)
    case("timm-pth", token, file="model.pth", save=save_nested)
    case("timm-legacy-pth", token, file="model.pth", save=save_legacy)
    case("timm-gap", gap | {"fc_norm": True}, global_pool="avg")
    case(
        "timm-gap-norm",
        gap,
        {"pooling": "gap"},
        global_pool="avg",
        fc_norm=False,
    )
    case(
        "timm-map",
        {"pooling": "map", "class_token": False},
        global_pool="map",
        class_token=False,
    )
    case(
        "timm-distilled",
        token | {"distillation_token": True},
        cls=VisionTransformerDistilled,
    )
    case(
        "timm-registers",
        token | {"num_register_tokens": 3, "position_prefix": False},
        reg_tokens=3,
        no_embed_class=True,
    )
    case("timm-layerscale", token | {"layer_scale": True}, init_values=0.5)
    case(
        "timm-dinov2",
        token
        | {"layer_scale": True, "num_register_tokens": 4, "position_prefix": False},
        base=FEATURES,
        num_classes=0,
        init_values=0.5,
        reg_tokens=4,
        no_embed_class=True,
        dynamic_img_size=True,
    )
    case(
        "timm-clip",
        token | {"pre_norm": True, "norm_epsilon": 1e-5},
        {"norm_epsilon": 1e-5},
        pre_norm=True,
        norm_layer=partial(LayerNorm, eps=1e-5),  # as timm's CLIP models have
    )
    case("timm-qknorm", token | {"qk_norm": True}, qk_norm=True)
    case(
        "timm-rect",
        token | {"image_size": [32, 16]},
        {"image_size": [32, 16]},
        size=(32, 16),
        img_size=(32, 16),
    )
    case("timm-noqkvbias", token | {"qkv_bias": False}, qkv_bias=False)

    name = "timm-folder"
    model = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained_cfg_overlay={
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "input_size": (3, 32, 32),
            "num_classes": 5,
        },
        **sizes,
    )
    timm.models.save_for_hf(
        fill(model),
        make.folder(name),
        model_args={k: v for k, v in sizes.items() if k != "num_classes"},
        safe_serialization=True,
    )
    make.add(name, ".", images(), run(model, images()), SIZES | token)
    return make.rows


def make_huggingface(args):
    import torch
    import transformers as hf

    make = Maker("huggingface_vit", version("transformers"))
    sizes = {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "attn_implementation": "eager",
    }
    # `mlp_ratio` is an integer there.
    dinov2 = sizes | {"mlp_ratio": 2, "layerscale_value": 0.5}
    sizes["intermediate_size"] = 24
    vit = {"pooling": "token", "norm_epsilon": 1e-12}

    def processor(kind, size, **more):
        return {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_processor_type": kind,
            "rescale_factor": 1 / 255,
            "size": size,
        } | more

    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    crop = {
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "resample": 3,
        "do_center_crop": True,
    }
    # As the published files of each family are; DeiT's are of the old form.
    square = processor("ViTImageProcessor", {"height": 32, "width": 32}, **half)
    old = {
        "crop_size": 32,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "DeiTFeatureExtractor",
        "size": 36,
    } | crop
    shortest = processor(
        "BitImageProcessor",
        {"shortest_edge": 36},
        crop_size={"height": 32, "width": 32},
        do_convert_rgb=True,
        **crop,
    )

    def case(
        name,
        model,
        config,
        preprocessing=square,
        output="logits",
        dtype=torch.float32,
        size=(32, 32),
        layout=None,
        **save,
    ):
        model = fill(model).to(dtype)
        folder = make.folder(name)
        model.save_pretrained(folder, **save)
        text = json.dumps(preprocessing, indent=2, sort_keys=True)
        (folder / "preprocessor_config.json").write_text(text + "\n")
        x = images(*size)
        outputs = getattr(run(model.float(), x), output)
        make.add(name, ".", x, outputs, config, layout=layout)

    def classifier(**options):
        return hf.ViTForImageClassification(
            hf.ViTConfig(num_labels=5, **sizes | options)
        )

    case("hf-vit", classifier(), SIZES | vit)
    case("hf-sharded", classifier(), SIZES | vit, max_shard_size="15KB")
    case("hf-bf16", classifier(), SIZES | vit, dtype=torch.bfloat16)
    case(
        "hf-rect",
        classifier(image_size=(32, 16)),
        SIZES | vit | {"image_size": [32, 16]},
        square | {"size": {"height": 32, "width": 16}},
        size=(32, 16),
    )
    case(
        "hf-vit-base",
        hf.ViTModel(hf.ViTConfig(**sizes)),
        FEATURES | vit | {"representation_size": 16},
        output="pooler_output",
    )
    case(
        "hf-deit",
        hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(num_labels=5, **sizes)),
        SIZES | vit | {"distillation_token": True},
        old,
        layout="huggingface_deit",
    )
    tokens = {
        "pooling": "token",
        "class_token": True,
        "layer_scale": True,
        "mlp_dim": 32,
    }
    case(
        "hf-dinov2",
        hf.Dinov2Model(hf.Dinov2Config(**dinov2)),
        FEATURES | tokens,
        shortest,
        output="last_hidden_state",
        layout="huggingface_dinov2",
    )
    case(
        "hf-dinov2-registers",
        hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(num_register_tokens=3, **dinov2)
        ),
        # The class token has a position, the registers have none: added to the class
        # token, it is a model without positions for the prefix.
        FEATURES | tokens | {"num_register_tokens": 3, "position_prefix": False},
        shortest,
        output="last_hidden_state",
        layout="huggingface_dinov2",
    )
    return make.rows


def make_vit_pytorch(args):
    import torch
    from vit_pytorch.vit import ViT

    make = Maker("vit_pytorch", version("vit-pytorch"))
    always = {"patch_norm": True, "qkv_bias": False, "norm_epsilon": 1e-5}

    def case(name, config, needs=None, dim_head=8, **options):
        model = ViT(
            image_size=32,
            patch_size=8,
            num_classes=5,
            dim=16,
            depth=2,
            heads=2,
            mlp_dim=24,
            dim_head=dim_head,
            **options,
        )
        torch.save(fill(model).state_dict(), make.folder(name) / "model.pth")
        x, needs = images(), {"num_heads": 2} | (needs or {})
        make.add(name, "model.pth", x, run(model, x), SIZES | always | config, needs)

    case("vp-cls", {"pooling": "token"})
    case("vp-mean", {"pooling": "gap", "class_token": False}, pool="mean")
    case("vp-headdim", {"pooling": "token", "head_dim": 12}, dim_head=12)
    return make.rows


# --- Keras ------------------------------------------------------------------------


def fill_keras(model):
    """Draws all weights of a Keras model."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        kind = "scale" if "gamma" in weight.name else "weight"
        weight.assign(draw(rng, tuple(weight.shape), kind))
    return model


def make_keras_hub(args):
    import keras_hub

    make = Maker("keras_hub", version("keras-hub"))

    def case(name, config, class_token=True, **options):
        backbone = keras_hub.models.ViTBackbone(
            image_shape=(32, 32, 3),
            patch_size=8,
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=24,
            use_class_token=class_token,
        )
        model = fill_keras(
            keras_hub.models.ViTImageClassifier(backbone, num_classes=5, **options)
        )
        model.save_weights(make.folder(name) / "model.weights.h5")
        x = images()
        make.add(name, "model.weights.h5", x, model(x, training=False), SIZES | config)

    case("kh-token", {"pooling": "token"})
    case(
        "kh-gap",
        {"pooling": "gap", "class_token": False},
        class_token=False,
        pooling="gap",
    )
    return make.rows


def _vit_keras(args, *unused):
    """The `build_model` of the vit-keras at hand, in our sizes."""
    sys.path.insert(0, str(args.vit_keras))
    for name in unused:
        sys.modules[name] = types.ModuleType(name)
    from vit_keras import vit

    sizes = {k: v for k, v in SIZES.items() if k not in ("image_size", "patch_size")}
    return partial(
        vit.build_model, image_size=32, patch_size=8, name="vit", **sizes
    ), Maker("vit_keras_0_2", version("vit-keras"))


def make_vit_keras(args):
    build, make = _vit_keras(args, "cv2")
    x, needs = images(), {"num_heads": 2}

    model = fill_keras(build())
    model.save_weights(make.folder("vk-h5") / "model.weights.h5")
    outputs = model(x, training=False)
    config = SIZES | {"pooling": "token"}
    make.add("vk-h5", "model.weights.h5", x, outputs, config, needs)

    model = fill_keras(build(representation_size=16))
    model.save(make.folder("vk-legacy") / "model.h5")
    outputs = model(x, training=False)
    config = config | {"representation_size": 16}
    make.add("vk-legacy", "model.h5", x, outputs, config, needs)
    return make.rows


def make_vit_keras_2(args):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    build, make = _vit_keras(args, "cv2", "pkg_resources", "tensorflow_addons")
    x, needs = images(), {"num_heads": 2}
    model = fill_keras(build())
    model.save_weights(make.folder("vk-keras2") / "model.h5")
    outputs = model(x, training=False)
    make.add("vk-keras2", "model.h5", x, outputs, SIZES | {"pooling": "token"}, needs)
    return make.rows


GROUPS = {
    "google": make_google,
    "timm": make_timm,
    "huggingface": make_huggingface,
    "vit-pytorch": make_vit_pytorch,
    "keras-hub": make_keras_hub,
    "vit-keras": make_vit_keras,
    "vit-keras-2": make_vit_keras_2,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("groups", nargs="+", choices=GROUPS, metavar="GROUP")
    for option in ("--vision-transformer", "--big-vision", "--vit-keras"):
        parser.add_argument(option, type=Path, metavar="DIR")
    args = parser.parse_args()
    known = (
        {c["case"]: c for c in json.loads(CASES.read_text())} if CASES.exists() else {}
    )
    for group in args.groups:
        rows = GROUPS[group](args)
        known |= {row["case"]: row for row in rows}
        print(group, *(row["case"] for row in rows))
    lines = ",\n".join(json.dumps(known[name]) for name in sorted(known))
    CASES.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
