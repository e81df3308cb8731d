"""Tokens that are merged: which, what that saves, and the files that come of it."""

import keras
import numpy as np
import pytest

import export
from export.compression.macs import macs
from export.compression.token_choice import candidates
from tests.models import exported, images_for
from vit_keras import ViTConfig
from vit_keras.preprocessing import normalize

SMALL = {"image_size": 224, "patch_size": 16, "num_layers": 12, "hidden_size": 32}
SMALL |= {"num_heads": 2, "mlp_dim": 64}


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.75, {((8, 2),)}),  # 8 blocks of 196, 4 of 49
        (0.5, {((4, 2),), ((5, 2), (7, 2))}),  # 7 x 7 becomes 4 x 4
        (0.35, {((1, 2),), ((2, 2), (10, 2)), ((3, 2), (5, 2))}),
    ],
)
def test_merges_that_leave_few_enough(share, expected):
    config = ViTConfig(**SMALL)
    found = candidates(config, share)
    assert set(found) == expected
    for merging in found:
        grids = config.replace(token_merging=merging).block_grids
        assert sum(h * w for h, w in grids) <= share * 12 * 196


def test_factors_above_2_divide_the_grid():
    config = ViTConfig(**SMALL | {"image_size": (144, 192)})  # 9 x 12 patches
    assert ((1, 3),) in candidates(config, 0.25)
    assert not any(k == 4 for m in candidates(config, 0.25) for _, k in m)


def test_the_merge_that_costs_least_is_chosen():
    """The head reads the class token, which blocks behind the third leave as it is."""
    model = exported(num_layers=8, image_size=(32, 48))
    for index in range(3, 8):
        block = model.get_layer(f"encoderblock_{index}")
        for dense in (block.attention.out, block.mlp.dense2):
            dense.set_weights([np.zeros_like(w) for w in dense.get_weights()])
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 48, 3), "uint8")
    # 24 patches, 6 behind one merge, 2 behind two.
    expected = {((2, 2),), ((3, 2), (6, 2))}
    assert set(candidates(model.config, 0.5)) == expected
    small = export.shrink(model, images, tokens=0.5)
    assert small.config.token_merging == ((3, 2), (6, 2))
    x = images_for(model.config)
    # The last layers see the class token of the same sums.
    np.testing.assert_allclose(small(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"heads": 1}, {"macs_ratio": 3.0}])
def test_with_fewer_heads_and_channels(options, pixels):
    model = exported(num_layers=4)
    before = [w.copy() for w in model.get_weights()]
    small = export.shrink(model, pixels, tokens=0.5, **options)
    for a, b in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert small.config.token_merging
    assert macs(model.config) / macs(small.config) >= options.get("macs_ratio", 2.0)
    with pytest.raises(ValueError, match="`tokens` must be None for a model whose"):
        export.shrink(small, pixels, tokens=0.5)


def test_trained_on_and_exported_as_integers(pixels, tmp_path):
    model = exported(num_layers=3)
    small = export.shrink(model, pixels, tokens=0.7)
    images = normalize(pixels[:8], small.config.preprocessing)
    small.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    small.fit(images, np.eye(10)[:8], verbose=0)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert loaded.config.token_merging == small.config.token_merging
    assert np.array_equal(loaded(images), small(images))
    path = tmp_path / "s.tflite"
    report = export.to_tflite(
        loaded, path, scheme="int8", target="npu", calibration=pixels
    )
    assert report.parity.passed
    assert {"rotate_heads", "rotate_stream", "fold_norms"} <= set(report.rewrites)
    for target in ("ethos_u55", "qualcomm"):
        assert export.check(path, target).unsupported == ()


def test_features_keep_their_grid(pixels, tmp_path):
    model = exported(num_layers=3, task="features")
    small = export.shrink(model, pixels, tokens=0.7)
    assert small.output_shape == model.output_shape
    report = export.to_tflite(small, tmp_path / "f.tflite", calibration=pixels)
    # Two float32 programs: 24 bits of a sum of some thousand terms.
    assert report.parity.sqnr_db > 100


def test_a_grid_that_is_no_multiple(tmp_path):
    model = exported(num_layers=2, image_size=(40, 24), token_merging=((1, 2),))
    images = images_for(model.config, 4)
    report = export.to_tflite(model, tmp_path / "m.tflite")
    assert report.parity.sqnr_db > 100 and model(images).shape == (4, 10)
