"""Golden checkpoints of keras-hub and of vit-keras, for Keras 3 and Keras 2.

Each runs in an environment of its own, and so imports its package by itself.
"""

import os
import sys
import types
from functools import partial

import h5py
import numpy as np
from common import FEATURES, SIZES, Maker, draw, images, version


def fill_keras(model):
    """Draws all weights of a Keras model."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "int" in str(weight.dtype):  # numbers of positions
            continue
        kind = "scale" if "gamma" in weight.name else "weight"
        weight.assign(draw(rng, tuple(weight.shape), kind))
    return model


def dense_hdf5():
    """Lets Keras write the format of HDF5 1.10, which h5py reads like any other.

    The default one takes 1 KB for each of a hundred groups; the files of Keras 2 show
    that it is read, too.
    """

    class File(h5py.File):
        def __init__(self, *args, **options):
            super().__init__(*args, libver=("v110", "v110"), **options)

    h5py.File = File


def make_keras_hub(args):
    import keras_hub

    dense_hdf5()
    make = Maker("keras_hub", version("keras-hub"))

    def case(name, config, class_token=True, **options):
        backbone = keras_hub.models.ViTBackbone(
            image_shape=(16, 16, 3),
            patch_size=4,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=12,
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
    return make.rows + _keras_hub_families(keras_hub.models)


def _keras_hub_families(models):
    """The other image encoders, in all forms that keras-hub writes."""
    package, rows, x = version("keras-hub"), [], images()
    sizes = {
        "image_shape": (16, 16, 3),
        "patch_size": 4,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "intermediate_dim": 12,
    }

    def add(family, name, file, model, inputs, config, write=None, output=None):
        make = Maker(f"keras_hub_{family}", package)
        (write or model.save_to_preset)(make.folder(name) / file)
        (make.folder_of(name) / "metadata.json").unlink(missing_ok=True)
        outputs = (output or model)(inputs, training=False)
        make.add(name, file, x, outputs, config)
        rows.extend(make.rows)

    def dinov2(**options):
        options = {"position_embedding_shape": (16, 16, 3)} | sizes | options
        model = fill_keras(models.DINOV2Backbone(**options))
        embeddings = model.embeddings
        # Both as training leaves them: keras-hub resizes those it stores.
        resized = embeddings._interpolate_position_embeddings(
            embeddings.position_embeddings,
            patch_size=4,
            source_shape=options["position_embedding_shape"][:2],
            target_shape=(16, 16),
        )
        embeddings.interpolated_position_embeddings.assign(resized)
        return model

    tokens = FEATURES | {"class_token": True, "pooling": "token", "layer_scale": True}
    tokens |= {"mlp_activation": "gelu"}
    apart = {"position_prefix": False, "num_register_tokens": 3}
    model = dinov2(num_register_tokens=3, position_embedding_shape=(24, 24, 3))
    add(
        *("dinov2", "kh-dinov2", "model.weights.h5", model, {"images": x}),
        tokens | apart | {"norm_epsilon": 1e-6},
        model.save_weights,
    )
    model = dinov2(use_swiglu_ffn=True, use_mask_token=False)
    gated = {"mlp_gated": True, "mlp_activation": "silu", "mlp_dim": 8}
    add(
        *("dinov2", "kh-dinov2-gated", ".", model, {"images": x}),
        tokens | gated,
    )
    model = fill_keras(
        models.DINOV3Backbone(**sizes, use_key_bias=False, rope_theta=50.0)
    )
    add(
        *("dinov3", "kh-dinov3", ".", model, {"pixel_values": x}),
        tokens
        | {"positions": "none", "rotary": "dinov3", "rotary_temperature": 50.0}
        | {"norm_epsilon": 1e-5, "key_bias": False, "num_register_tokens": 4},
    )
    vision = models.SigLIPVisionEncoder(**sizes)
    text = models.SigLIPTextEncoder(
        vocabulary_size=5,
        embedding_dim=8,
        hidden_dim=8,
        num_layers=1,
        num_heads=2,
        intermediate_dim=12,
        max_sequence_length=4,
    )
    model = fill_keras(models.SigLIPBackbone(vision, text))
    add(
        *("siglip", "kh-siglip", "model.keras", model, {"images": x}),
        FEATURES
        | {"pooling": "map", "class_token": False, "mlp_activation": "gelu_tanh"},
        model.save,
        vision,
    )
    backbone = models.DeiTBackbone(**sizes, layer_norm_epsilon=1e-5)
    model = fill_keras(models.DeiTImageClassifier(backbone, num_classes=5))
    add(
        *("deit", "kh-deit", ".", model, x),
        SIZES
        | {"pooling": "token", "num_register_tokens": 1, "norm_epsilon": 1e-5}
        | {"mlp_activation": "gelu"},
    )
    return rows


def _vit_keras(args, *unused):
    """The `build_model` of the vit-keras at hand, in our sizes."""
    sys.path.insert(0, str(args.vit_keras))
    for name in unused:
        sys.modules[name] = types.ModuleType(name)
    from vit_keras import vit

    sizes = {k: v for k, v in SIZES.items() if k not in ("image_size", "patch_size")}
    return partial(
        vit.build_model, image_size=16, patch_size=4, name="vit", **sizes
    ), Maker("vit_keras_0_2", version("vit-keras"))


def make_vit_keras(args):
    dense_hdf5()
    build, make = _vit_keras(args, "cv2")
    x, needs = images(), {"num_heads": 2}

    model = fill_keras(build())
    model.save_weights(make.folder("vk-h5") / "model.weights.h5")
    outputs = model(x, training=False)
    config = SIZES | {"pooling": "token"}
    make.add("vk-h5", "model.weights.h5", x, outputs, config, needs)

    model = fill_keras(build(representation_size=6))
    model.save(make.folder("vk-legacy") / "model.h5")
    outputs = model(x, training=False)
    config = config | {"representation_size": 6}
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
