"""Golden checkpoints of keras-hub and of vit-keras, for Keras 3 and Keras 2.

Each runs in an environment of its own, and so imports its package by itself.
"""

import os
import sys
import types
from functools import partial

import h5py
import numpy as np
from common import SIZES, Maker, draw, images, version


def fill_keras(model):
    """Draws all weights of a Keras model."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
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
    return make.rows


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
