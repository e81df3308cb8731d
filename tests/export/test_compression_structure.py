"""Heads and channels that are taken out, against least squares done elsewhere."""

import keras
import numpy as np
import pytest

import export
from export.compression.macs import macs
from export.compression.shrinking import _order
from tests.models import exported, images_for
from vit_keras.preprocessing import normalize

# What decides which weights there are to cut.
VARIANTS = {
    "token": {},
    "map": {"pooling": "map"},
    "norms": {"qk_norm": True, "pre_norm": True, "fc_norm": True, "pooling": "gap"},
    "map, fc_norm": {"pooling": "map", "fc_norm": True},
    "no bias, narrow": {"qkv_bias": False, "head_dim": 8},
    "layer scale": {"layer_scale_init_value": 0.5, "distillation_token": True},
    "features": {"task": "features"},
}


class Dense:
    def __init__(self, kernel, bias):
        self.kernel, self.bias = kernel, bias


@pytest.mark.parametrize(("groups", "size"), [(12, 1), (4, 3)])
def test_errors_are_those_of_least_squares(groups, size):
    """The error that is told for each number of groups, by NumPy's own solver."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 100, 12)) @ rng.normal(size=(12, 12)) + 1.0
    dense = Dense(rng.normal(size=(12, 5)), rng.normal(size=5))
    order = _order(dense, iter(features), groups)
    assert sorted(np.concatenate(order.groups)) == list(range(12))
    rows = features.reshape(-1, 12)
    target = rows @ dense.kernel + dense.bias
    for kept in range(1, groups + 1):
        stay, kernel, bias = order.keep(kept)
        assert len(stay) == kept * size
        got = np.square(rows[:, stay] @ kernel + bias - target).sum(1).mean()
        inputs = np.concatenate([rows[:, stay], np.ones((200, 1))], 1)
        solution = np.linalg.lstsq(inputs, target, rcond=None)[0]
        best = np.square(inputs @ solution - target).sum(1).mean()
        # The ridge of 1e-6 of the features' power is all that they differ by.
        assert got == pytest.approx(best, rel=1e-3, abs=1e-3)
        assert order.errors[groups - kept] == pytest.approx(best, rel=1e-2, abs=1e-2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_does_nothing_goes_first_and_nothing_is_lost(variant, pixels):
    """Heads and channels that nothing reads are those that are taken out."""
    model = exported(**VARIANTS[variant])
    size = model.config.head_dim or 16
    layers = [model.get_layer(f"encoderblock_{i}") for i in range(2)]
    if model.config.pooling == "map":
        layers.append(model.get_layer("pooling"))
    for i, layer in enumerate(layers):
        dead = np.ones((2 * size, 1))
        dead[(i % 2) * size :][:size] = 0  # another head in each block
        layer.attention.out.kernel.assign(dead * np.asarray(layer.attention.out.kernel))
        alive = np.ones((64, 1))
        alive[i::3] = 0
        layer.mlp.dense2.kernel.assign(alive * np.asarray(layer.mlp.dense2.kernel))
    small = export.shrink(model, pixels, heads=1, mlp_dim=43)
    assert (small.config.num_heads, small.config.mlp_dim) == (1, 43)
    assert small.config.head_dim == size and small.task == model.task
    kernel = small.get_layer("encoderblock_0").attention.query.kernel
    assert tuple(kernel.shape) == (32, size)
    images = images_for(model.config, 4)
    expected, got = (np.asarray(m(images)) for m in (model, small))
    # Least squares of features that depend on each other, through two blocks.
    assert np.abs(expected - got).max() < 2e-3 * np.abs(expected).max()


def test_refitting_beats_cutting_alone(model, pixels):
    """The same channels without the refit are worse, on images it has not seen."""
    config = model.config
    small = export.shrink(model, pixels[:24], mlp_dim=32)
    cut = export.shrink(model, pixels[:24], mlp_dim=32)
    for i in range(config.num_layers):
        name = f"encoderblock_{i}"
        old, new = (
            np.asarray(m.get_layer(name).mlp.dense1.kernel) for m in (model, cut)
        )
        stay = [
            int(np.flatnonzero((old == column[:, None]).all(0))[0]) for column in new.T
        ]
        dense = model.get_layer(name).mlp.dense2
        weights = [np.asarray(dense.kernel)[stay], np.asarray(dense.bias)]
        cut.get_layer(name).mlp.dense2.set_weights(weights)
    images = normalize(pixels[24:], config.preprocessing)
    target, refitted, plain = (np.asarray(m(images)) for m in (model, small, cut))
    assert np.square(refitted - target).sum() < 0.7 * np.square(plain - target).sum()


def test_the_result_is_a_model_as_any(pixels, tmp_path):
    model = exported(num_layers=1)
    before = [w.copy() for w in model.get_weights()]
    small = export.shrink(model, pixels, macs_ratio=1.5)
    assert all(
        np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)
    )
    assert macs(model.config) / macs(small.config) >= 1.5
    images = normalize(pixels[:8], small.config.preprocessing)
    small.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    small.fit(images, np.eye(10)[:8], verbose=0)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert loaded.config == small.config
    assert np.array_equal(loaded(images), small(images))
    report = export.to_tflite(
        loaded, tmp_path / "s.tflite", scheme="int8", target="npu", calibration=pixels
    )
    assert report.parity.passed
    assert {"rotate_heads", "rotate_stream", "fold_norms"} <= set(report.rewrites)


def test_keeping_all_changes_nothing(model, pixels):
    same = export.shrink(model, pixels[:4], heads=2)
    for a, b in zip(model.weights, same.weights, strict=True):
        assert np.array_equal(a, b), a.path


def test_precision_is_kept(pixels):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = exported(num_layers=1)
    finally:
        keras.config.set_dtype_policy("float32")
    small = export.shrink(model, pixels[:4], heads=1)
    assert small.get_layer("encoderblock_0").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("pooling", ["token", "map"])
def test_macs_are_those_of_the_kernels(pooling):
    """Counted from the weights: each of a kernel is used once per token it sees."""
    model = exported(pooling=pooling, num_heads=4, head_dim=4)
    config, total = model.config, 0
    for weight in model.weights:
        if not weight.path.endswith("kernel"):
            continue
        one = (
            "head/",
            "pooling/attention/query",
            "pooling/attention/out",
            "pooling/mlp",
        )
        seen = 1 if weight.path.startswith(one) else config.num_tokens
        if weight.path.startswith("embedding"):
            seen = config.grid[0] * config.grid[1]
        total += seen * int(np.prod(weight.shape))
    products = 2 * config.num_tokens * 16  # q k^T and p v, of one query
    total += config.num_layers * config.num_tokens * products
    total += products if pooling == "map" else 0
    assert macs(config) == total


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "must be given, the last alone"),
        ({"macs_ratio": 2.0, "heads": 1}, "must be given, the last alone"),
        ({"tokens": 1.0}, r"`tokens` must be in \(0, 1\)"),
        ({"tokens": 0.05}, "`tokens` must be larger: no merge of this model"),
        ({"heads": 3}, "`heads` must be an integer from 1 to 2"),
        ({"mlp_dim": 0}, "`mlp_dim` must be an integer from 1 to 64"),
        ({"macs_ratio": 1.0}, "must be a number above 1"),
        ({"macs_ratio": 50.0}, "`macs_ratio` must be smaller"),
    ],
)
def test_shrink_refuses(options, words, model, pixels):
    with pytest.raises(ValueError, match=words):
        export.shrink(model, pixels[:2], **options)


def test_shrink_refuses_a_model_around(model, pixels):
    around = keras.Sequential([keras.Input((32, 32, 3)), model])
    with pytest.raises(ValueError, match="not one around it. Received: Sequential"):
        export.shrink(around, pixels, heads=1)
