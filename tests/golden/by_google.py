"""Golden checkpoints of google-research, written with flax."""

import sys
import types

import jax
import ml_dtypes
import numpy as np
from common import SIZES, Maker, draw, images
from flax.training.checkpoints import convert_pre_linen
from flax.traverse_util import flatten_dict, unflatten_dict


def make_google(args):
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
            patches=types.SimpleNamespace(size=(4, 4)),
            transformer={"num_layers": 2, "mlp_dim": 12, "num_heads": 2},
            hidden_size=8,
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
        {"pooling": "token", "representation_size": 6},
        prefix="opt/target/",
        representation_size=6,
    )
    case("augreg-gap", {"pooling": "gap", "class_token": False}, classifier="gap")
    return make.rows


def _before_linen(flat):
    """The names of Google's released files, which vit_jax converts when it reads.

    They are those of the flax of 2020, which numbered all submodules together.
    """

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
            width=8,
            depth=2,
            mlp_dim=12,
            num_heads=2,
            patch_size=(4, 4),
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
        {"image_size": [16, 16]},
        posemb="sincos2d",
    )
    case("bv-map", {"pooling": "map", "class_token": False}, pool_type="map")
    case("bv-rep", gap | {"representation_size": 6}, rep_size=6)
    case("bv-scan", gap, scan=True)
    case("bv-bf16", gap, bfloat16=True)
    return make.rows
