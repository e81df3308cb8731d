"""The golden files, and what is made of them: models, variants, other settings."""

import contextlib
import json
import pathlib

import keras
import numpy as np
import pytest
import safetensors.numpy as safetensors

from tests.models import randomise
from vit_keras import CheckpointError, create_model
from vit_keras.weights.describe import describe
from vit_keras.weights.formats import open_checkpoint
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
CASES = {case["case"]: case for case in json.loads((GOLDEN / "cases.json").read_text())}
SIZES = ("image_size", "patch_size", "num_layers", "hidden_size", "num_heads")
SIZES += ("mlp_dim", "classes")

# float32 over two blocks and a head; outputs are of order 1
TOLERANCE = 2e-5


def file_of(name):
    return GOLDEN / name / CASES[name]["file"]


def arrays_of(name):
    """The arrays of a golden file, to write a variant of it."""
    return {n: e.read() for n, e in open_checkpoint(file_of(name)).entries.items()}


def config_of(name):
    return describe(recognise(find(file_of(name))), **CASES[name]["needs"])


def sizes_of(name):
    config = config_of(name)
    return {field: getattr(config, field) for field in SIZES}


def blank(name, **changes):
    """A model of a golden file's configuration with other weights."""
    return randomise(create_model(config_of(name).replace(**changes)), seed=7)


def golden(name):
    """Images, and what the package computed for them."""
    with np.load(GOLDEN / name / "expected.npz") as expected:
        shape, outputs = tuple(expected["images_shape"]), expected["outputs"]
    images = np.random.default_rng(0).standard_normal(shape).astype("float32")
    return images, outputs


def values(model):
    return {w.path: keras.ops.convert_to_numpy(w.value).copy() for w in model.weights}


def equal(a, b):
    assert a.keys() == b.keys()
    for path, value in a.items():
        np.testing.assert_array_equal(value, b[path], err_msg=path)


@contextlib.contextmanager
def refused(model, words, *, error=CheckpointError):
    """The block fails with these words, and the model is as before, bit by bit."""
    before = values(model)
    with pytest.raises(error) as caught:
        yield caught
    for word in [words] if isinstance(words, str) else words:
        assert word in str(caught.value), str(caught.value)
    equal(values(model), before)


def saved(folder, arrays, name="model.safetensors"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        safetensors.save_file(arrays, path)
    return path


def head_of(found):
    return {p: v for p, v in found.items() if p.startswith(("head", "pre_logits"))}


def hf_folder(folder, config=None, images=None, name="hf-vit"):
    """A copy of a golden folder with other settings."""
    saved(folder, arrays_of(name))
    data = json.loads((GOLDEN / name / "config.json").read_text()) | (config or {})
    (folder / "config.json").write_text(json.dumps(data))
    if images is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder


# Our path -> name in AugReg's files; every array there has our order of axes, so that
# `reshape` alone makes ours of theirs.
AUGREG = {
    "embedding/kernel": "embedding/kernel",
    "embedding/bias": "embedding/bias",
    "class_token/token": "cls",
    "posembed_input/embedding": "Transformer/posembed_input/pos_embedding",
    "encoder_norm/gamma": "Transformer/encoder_norm/scale",
    "encoder_norm/beta": "Transformer/encoder_norm/bias",
    "head/kernel": "head/kernel",
    "head/bias": "head/bias",
}
for _ours, _theirs in {
    "norm1/gamma": "LayerNorm_0/scale",
    "norm1/beta": "LayerNorm_0/bias",
    **{
        f"attention/{part}/{kind}": f"MultiHeadDotProductAttention_1/{part}/{kind}"
        for part in ("query", "key", "value", "out")
        for kind in ("kernel", "bias")
    },
    "norm2/gamma": "LayerNorm_2/scale",
    "norm2/beta": "LayerNorm_2/bias",
    **{
        f"mlp/dense{i + 1}/{kind}": f"MlpBlock_3/Dense_{i}/{kind}"
        for i in (0, 1)
        for kind in ("kernel", "bias")
    },
}.items():
    for _i in range(2):
        AUGREG[f"encoderblock_{_i}/{_ours}"] = (
            f"Transformer/encoderblock_{_i}/{_theirs}"
        )
